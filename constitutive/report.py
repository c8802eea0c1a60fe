"""What a law is and how well it fits, on one page: a single HTML file with its pictures inside."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from scipy.optimize import minimize

from crystals import mandel, moduli
from crystals.dataset import StrainData
from crystals.groups import PointGroup
from crystals.rotations import rotate_vector
from crystals.whole_file import whole_file

from .audit import audit
from .fitting.least_squares import predicted_stress
from .fitting.selection import orbit_folds, stress_error
from .laws.law import Law
from .stability import acoustic_eigenvalue, stability_map

#: Half-width of curves and maps for a law without a trained range.
DEFAULT_RANGE = 0.1
#: Okabe and Ito's colours, told apart by every kind of sight (https://jfly.uni-koeln.de/color/).
_COLORS = ("#0072B2", "#D55E00", "#009E73")
#: Directions in the standard frame along which curves are drawn, by crystal system.
_DIRECTIONS: dict[str, dict[str, tuple[float, float, float]]] = {
    "cubic": {"[100]": (1, 0, 0), "[110]": (1, 1, 0), "[111]": (1, 1, 1)},
    "tetragonal": {"[100]": (1, 0, 0), "[110]": (1, 1, 0), "[001]": (0, 0, 1)},
    "trigonal": {"a (x)": (1, 0, 0), "y": (0, 1, 0), "c (z)": (0, 0, 1)},
    "hexagonal": {"a (x)": (1, 0, 0), "y": (0, 1, 0), "c (z)": (0, 0, 1)},
    "transversely isotropic": {"across the axis": (1, 0, 0), "along the axis": (0, 0, 1)},
    "isotropic": {"any direction": (1, 0, 0)},
}
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #999; }
table { border-collapse: collapse; margin: 0.8rem 0; } th, td { padding: 0.15rem 0.9rem 0.15rem 0; text-align: left; }
th { border-bottom: 1px solid #999; font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { color: #444; font-size: 0.9rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: 0.8rem; font-size: 0.8rem; }
.failed { color: #B00020; font-weight: 600; }
"""


def write_report(
    law: Law,
    data: StrainData | None,
    path: str | Path,
    *,
    predicted: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    states: int = 300,
) -> None:
    """Write a report of a law, and of its fit to data, to one HTML file.

    Parity plots, elastic constants of second and third order, polycrystal averages, Young's modulus over directions,
    stress–strain curves, maps of strong ellipticity, the audit, and where law and data come from.

    Parameters
    ----------
    law : Law
        Hyperelastic, of Green–Lagrange strain.
    data : StrainData or None
        What the law was fitted to, counted from the file's own cell; without it there are no parity plots.
    path : str or Path
        File to write, '.html' or '.htm'. It appears under its name only when it is complete.
    predicted : array (n, 6), optional
        The law's second Piola–Kirchhoff stress at the data's states, Mandel, as the data count it. By default from the
        stress-free cell that the law's metadata state.
    held_out : bool array (n,), optional
        States that were kept from the fit. By default the split of `fit` is drawn again from the law's seed, and used
        only if it gives the law's own held-out error.
    states : int
        Random states of the audit.

    Raises
    ------
    ValueError
        For a law of another kind, data of another unit or shape, or a path of another suffix.
    OSError
        Where the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"write_report: expected a path that ends in .html, got {str(path)!r}. Change the name.")
    if not path.absolute().parent.is_dir():
        raise OSError(
            f"write_report: expected an existing folder, got {str(path.absolute().parent)!r}. Create it first."
        )
    if law.strain_measure != "green_lagrange" or law.state_width or law.tangent_entries != 21:
        raise ValueError(
            f"write_report: expected a hyperelastic law of Green–Lagrange strain, got {type(law).__name__}. Not "
            "supported: reports of small-strain and history-dependent laws."
        )
    parts = [f"<h1>{html.escape(_title(law))}</h1>", f"<p>{html.escape(_headline(law))}</p>"]
    if data is not None:
        parts += _fit_section(law, data, predicted, held_out)
    parts += _constants_section(law) + _curves_section(law) + _stability_section(law, states) + _provenance(law, data)
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(_title(law))}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _title(law: Law) -> str:
    return f"{type(law).__name__}, Laue class {law.group.laue.symbol}"


def _headline(law: Law) -> str:
    figures = law.metadata.get("fit", {})
    kind = law.metadata.get("kind", "unknown")
    text = f"Point group {law.group.symbol} ({law.group.system}), energies and stresses in {law.units}."
    if kind != "unknown":
        text += f" Fitted to {kind} data."
    if np.isfinite(law.max_strain):
        text += f" Valid to |E| ≤ {law.max_strain:.3g}."
    if "held_out_stress_error" in figures:
        text += (
            f" Held-out stress error {100 * figures['held_out_stress_error']:.2g} % on {figures['held_out_states']} "
            "states"
        )
        text += f", training error {100 * figures['training_stress_error']:.2g} % on {figures['training_states']}."
    return text


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """An HTML table, everything escaped; numbers in cells are given as text and stand to the right."""

    def cell(value: Any) -> str:
        text = html.escape(str(value))
        number = text.lstrip("−-+").replace(".", "", 1).replace("e", "", 1).replace("-", "").isdigit()
        failed = ' class="failed"' if text == "FAILED" else ""
        return f'<td class="n">{text}</td>' if number else f"<td{failed}>{text}</td>"

    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(cell(value) for value in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _picture(figure: Figure, alt: str, caption: str) -> str:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    coded = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{coded}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _split(law: Law, data: StrainData, predicted: np.ndarray) -> np.ndarray | None:
    """The held-out states (n,) of `fit`, drawn again from the seed; None unless they give the law's own figure."""
    figures = law.metadata.get("fit", {})
    held_out, training = figures.get("held_out_states"), figures.get("training_states")
    if not held_out or not training or held_out + training != len(data) or "seed" not in figures:
        return None
    # `fit` draws one of 1/share folds; the share of states is near the share of orbits
    near = round(len(data) / held_out)
    orbits = data.orbits()
    for folds in (near, near + 1, near - 1):
        if not 2 <= folds <= len(np.unique(orbits)):
            continue
        out = orbit_folds(orbits, folds, int(figures["seed"])) == 0
        if int(out.sum()) != held_out:
            continue
        error = stress_error(predicted[out], data.stress[out])
        if abs(error - figures["held_out_stress_error"]) <= 1e-6 * error + 1e-12:
            return out
    return None


def _fit_section(law: Law, data: StrainData, predicted: np.ndarray | None, held_out: np.ndarray | None) -> list[str]:
    if data.units != law.units:
        raise ValueError(f"write_report: expected data in {law.units}, the unit of the law, got {data.units}.")
    stress = predicted_stress(law, data.strain) if predicted is None else np.asarray(predicted, dtype=float)
    if stress.shape != data.stress.shape:
        raise ValueError(f"write_report: expected predicted of shape {data.stress.shape}, got {stress.shape}.")
    if held_out is None:
        held_out = _split(law, data, stress)
    elif np.asarray(held_out).shape != (len(data),) or np.asarray(held_out).dtype != bool:
        raise ValueError(f"write_report: expected held_out as {len(data)} booleans, got {np.shape(held_out)}.")
    known = held_out is not None
    out = np.asarray(held_out) if known else np.zeros(len(data), dtype=bool)
    groups = [("training" if known else "all states", ~out, "o", _COLORS[0])]
    if np.any(out):
        groups.append(("held out", out, "^", _COLORS[1]))

    figure = Figure(figsize=(11.5, 3.7), layout="constrained")
    panels = figure.subplots(1, 3)
    given, found = data.stress / mandel.WEIGHTS, stress / mandel.WEIGHTS
    for axes, part, title in (
        (panels[0], slice(0, 3), "normal: S11 S22 S33"),
        (panels[1], slice(3, 6), "shear: S23 S13 S12"),
    ):
        for label, rows, marker, color in groups:
            axes.plot(given[rows, part].ravel(), found[rows, part].ravel(), marker, ms=4, mfc="none", color=color,
                      label=label)  # fmt: skip
        ends = [min(given[:, part].min(), found[:, part].min()), max(given[:, part].max(), found[:, part].max())]
        axes.plot(ends, ends, "k-", lw=0.8)
        axes.set(xlabel=f"data, {law.units}", ylabel=f"law, {law.units}", title=title)
    size = float(np.sqrt(np.mean(np.sum(data.stress**2, axis=1))))
    norms = np.linalg.norm(data.strain, axis=1)
    for label, rows, marker, color in groups:
        wrong = np.linalg.norm(stress[rows] - data.stress[rows], axis=1) / size
        panels[2].semilogy(
            norms[rows], 100 * np.maximum(wrong, 1e-10), marker, ms=4, mfc="none", color=color, label=label
        )
    panels[2].set(xlabel="strain of the state, |E|", ylabel="‖ΔS‖ over RMS ‖S‖, %", title="error of each state")
    panels[0].legend()

    rows_ = []
    for label, rows, _, _ in groups:
        total = stress_error(stress[rows], data.stress[rows])
        parts = [float(np.sqrt(np.mean((found - given)[rows, part] ** 2))) for part in (slice(0, 3), slice(3, 6))]
        rows_.append((label, int(rows.sum()), f"{100 * total:.3g}", f"{parts[0]:.3g}", f"{parts[1]:.3g}"))
    units = law.units
    note = "" if known else (
        " The split of the fit could not be drawn again from these data, so all states are shown alike."
    )  # fmt: skip
    return [
        "<h2>Fit</h2>",
        _table(("states", "number", "relative stress error, %", f"RMSE normal, {units}", f"RMSE shear, {units}"), rows_),
        _picture(figure, "Parity plots of stress and error of each state",
                 f"Second Piola–Kirchhoff stress, from the file's own cell.{note}"),
    ]  # fmt: skip


def _constants_section(law: Law) -> list[str]:
    stiffness, units = law.stiffness(), law.units
    second, third = law.elastic_constants(2), law.elastic_constants(3)
    calculator = law.metadata.get("fit", {}).get("calculator_constants", {})
    head, rows = ["constant", f"law, {units}"], [[name, f"{value:.2f}"] for name, value in second.items()]
    if set(calculator) == set(second):
        head.append(f"calculator, {units}")
        for row in rows:
            row.append(f"{calculator[row[0]]:.2f}")
    voigt, reuss, hill = (
        average(stiffness) for average in (moduli.voigt_average, moduli.reuss_average, moduli.hill_average)
    )

    def four(bulk: float, shear: float) -> list[str]:
        young = 9 * bulk * shear / (3 * bulk + shear)
        return [f"{bulk:.1f}", f"{shear:.1f}", f"{young:.1f}", f"{young / (2 * shear) - 1:.3f}"]

    averages = [[name, *four(*map(float, pair))] for name, pair in (("Voigt", voigt), ("Reuss", reuss), ("Hill", hill))]
    directions, surface = _young_surface(law)
    (low, softest), (high, stiffest) = (_extreme_young(law, directions, surface, sign) for sign in (1, -1))
    facts = [
        ("universal anisotropy (0: isotropic)", f"{abs(float(moduli.universal_anisotropy(stiffness))):.3f}"),
        (f"smallest Young's modulus, {units}", f"{low:.1f} along {softest}"),
        (f"largest Young's modulus, {units}", f"{high:.1f} along {stiffest}"),
        ("Born stability of C(0)", "stable" if moduli.is_stable(stiffness) else "FAILED"),
    ]
    if law.group.system == "cubic":
        zener = 2 * second["C44"] / (second["C11"] - second["C12"])
        facts.insert(0, ("Zener anisotropy 2 C44/(C11 − C12)", f"{zener:.3f}"))
    columns = 4
    cells = [(name, f"{value:.0f}") for name, value in third.items()]
    third_rows = [sum(cells[start : start + columns], ()) for start in range(0, len(cells), columns)]
    return [
        "<h2>Elastic constants</h2>",
        _table(head, rows),
        _table(("polycrystal", f"K, {units}", f"G, {units}", f"E, {units}", "ν"), averages),
        _table(("property", "value"), facts),
        f"<h2>Third-order constants, {html.escape(units)}</h2>",
        _table(("constant", "value") * min(columns, len(cells)), third_rows),
        "<p>Brugger's constants ∂³W/∂E³ at the stress-free state, exact derivatives of the law, in the crystal's standard "
        "frame. They are only as good as the data near the reference state determine them.</p>",
        "<h2>Young's modulus over directions</h2>",
        _young_picture(directions, surface, units),
    ]


def _extreme_young(law: Law, directions: np.ndarray, surface: np.ndarray, sign: int) -> tuple[float, str]:
    """Smallest (sign 1) or largest (−1) Young's modulus, and where in the standard frame, from the best of a grid."""
    stiffness, frame = law.stiffness(), law.group.frame
    if np.ptp(surface) < 1e-6 * surface.max():
        return float(surface.flat[0]), "every direction"
    best = minimize(
        lambda way: sign * float(moduli.young(stiffness, frame @ way)), directions[np.unravel_index(
            np.argmin(sign * surface), surface.shape)], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10}
    )  # fmt: skip
    way = best.x / np.linalg.norm(best.x)
    way = way * np.sign(way[np.flatnonzero(np.abs(way) > 1e-3)[0]])
    text = ", ".join(f"{value:.3f}" for value in np.round(way, 3) + 0.0)
    return sign * float(best.fun), f"({text})"


def _young_surface(law: Law, around: int = 73, down: int = 37) -> tuple[np.ndarray, np.ndarray]:
    """Directions (down, around, 3) of the standard frame, and Young's modulus along each."""
    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, down), np.linspace(0, 2 * np.pi, around), indexing="ij")
    directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
    return directions, moduli.young(law.stiffness(), directions @ law.group.frame.T)


def _young_picture(directions: np.ndarray, surface: np.ndarray, units: str) -> str:
    figure = Figure(figsize=(6.6, 5.4))
    axes = figure.add_subplot(projection="3d")
    assert isinstance(axes, Axes3D)
    norm = Normalize(0.0 if np.ptp(surface) < 1e-6 * surface.max() else float(surface.min()), float(surface.max()))
    colors = ScalarMappable(norm, "viridis")
    x, y, z = np.moveaxis(directions * surface[..., None], -1, 0)
    axes.plot_surface(x, y, z, facecolors=colors.to_rgba(surface), rstride=1, cstride=1, linewidth=0.1,
                      edgecolor=(0, 0, 0, 0.15), shade=False)  # fmt: skip
    reach = float(surface.max())
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach), xlabel=f"x, {units}", ylabel=f"y, {units}",
             zlabel=f"z, {units}")  # fmt: skip
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(elev=22, azim=35)
    axes.locator_params(nbins=5)
    figure.colorbar(colors, ax=axes, label=f"Young's modulus, {units}", shrink=0.75, pad=0.14)
    return _picture(figure, "Surface of Young's modulus over directions",
                    "Distance from the centre is Young's modulus 1/S_ijkl n_i n_j n_k n_l along that direction of the "
                    "standard frame (z ∥ c, x ∥ a).")  # fmt: skip


def main_directions(group: PointGroup) -> dict[str, np.ndarray]:
    """Names and unit vectors, in the frame of the group, along which a class is usually tested."""
    found = _DIRECTIONS.get(group.system, _AXES)
    return {name: group.frame @ (np.array(way) / np.linalg.norm(way)) for name, way in found.items()}


def _curves_section(law: Law, number: int = 41) -> list[str]:
    radius = law.max_strain if np.isfinite(law.max_strain) else DEFAULT_RANGE
    stretch = np.linspace(np.sqrt(1.0 - 2.0 * min(radius, 0.45)), np.sqrt(1.0 + 2.0 * radius), number)
    strain = 0.5 * (stretch**2 - 1.0)
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    lost = False
    for (name, way), color, marker in zip(main_directions(law.group).items(), _COLORS, "os^", strict=False):
        dyad = mandel.to_mandel(np.outer(way, way))
        points = strain[:, None] * dyad
        nominal = stretch * (law.response(points, tangent=False).stress @ dyad)
        axes.plot(100 * (stretch - 1), nominal, "-", color=color, marker=marker, markevery=5, ms=5, label=name)
        soft = acoustic_eigenvalue(law, points) <= 0
        axes.plot(100 * (stretch - 1)[soft], nominal[soft], "x", color="k", ms=7)
        lost = lost or bool(np.any(soft))
    if lost:
        axes.plot([], [], "xk", ms=7, label="strong ellipticity lost")
    axes.axhline(0, color="0.6", lw=0.8)
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set(xlabel="nominal strain, %", ylabel=f"nominal stress P, {law.units}")
    axes.legend()
    return [
        "<h2>Stress–strain curves</h2>",
        _picture(figure, "Stress–strain curves along main directions",
                 "Uniaxial strain: stretched along the direction, held fixed across it, over the trained range "
                 f"|E| ≤ {radius:.3g}. First Piola–Kirchhoff stress along the direction."),
    ]  # fmt: skip


def _stability_section(law: Law, states: int) -> list[str]:
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    unit = np.eye(6)
    extent = None if np.isfinite(law.max_strain) else DEFAULT_RANGE
    for axes, other, label in zip(figure.subplots(1, 2), (1, 5), ("E22", "√2 E12"), strict=True):
        turned = rotate_vector(law.group.frame, unit[[0, other]])
        found = replace(stability_map(law, turned[0], turned[1], extent, number=33), labels=("E11", label))
        found.draw(axes)
    report = audit(law, number=states)
    word = {True: "ok", False: "FAILED", None: ""}
    rows = [(c.name, c.shown, c.rule, word[c.passed]) for c in report.checks]
    return [
        "<h2>Stability</h2>",
        _picture(figure, "Smallest acoustic eigenvalue over two planes of strain",
                 "Smallest eigenvalue of the acoustic tensor over all directions, standard frame. Hatched: strong "
                 "ellipticity is lost; dashed: the trained range; white: no deformation has such a strain."),
        "<h2>Audit</h2>",
        f"<p>On {states} random states to 1.5 times the trained range: {'passed' if report.passed else 'FAILED'}.</p>",
        _table(("check", "value", "rule", ""), rows),
    ]  # fmt: skip


def _provenance(law: Law, data: StrainData | None) -> list[str]:
    kept = {key: value for key, value in law.metadata.items() if key not in ("structure", "audit")}
    text = json.dumps(kept, indent=1, ensure_ascii=False, default=str)
    lines = ["<h2>Where it comes from</h2>"]
    if data is not None:
        lines.append(f"<p>{html.escape(repr(data))}</p>")
    lines.append(f"<p>{html.escape(repr(law))}. Report of {date.today().isoformat()}.</p>")
    return [*lines, f"<details><summary>All metadata of the law</summary><pre>{html.escape(text)}</pre></details>"]
