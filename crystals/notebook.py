"""What a notebook shows of a stiffness or a point group: tables, and pictures that are drawn when they are asked for.

Pictures are PNGs inside the HTML, drawn without pyplot: neither the backend of the notebook nor its open figures change.
Every text from outside is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from . import moduli
from .mandel import stiffness_to_voigt

if TYPE_CHECKING:
    from .groups import PointGroup

_CELL = "text-align:right;padding:1px 8px;font-variant-numeric:tabular-nums"


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _inline(figure: Any, alternative: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'


def _page(title: str, facts: Iterable[tuple[str, str]], table: str, picture: str) -> str:
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts
    )
    return (
        f"<div><b>{escape(title)}</b>"
        f'<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:center"><div><table>{rows}</table>{table}</div>'
        f"<div>{picture}</div></div></div>"
    )


def _table(rows: list[list[str]], caption: str) -> str:
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(entry)}</td>' for entry in row) + "</tr>" for row in rows
    )
    return f'<table><caption style="text-align:left">{escape(caption)}</caption>{body}</table>'


def young_surface(stiffness: np.ndarray, polar: int = 49, around: int = 97) -> tuple[np.ndarray, np.ndarray]:
    """Directions n and Young's modulus along them: the surface E(n) n.

    Parameters
    ----------
    stiffness : array (6, 6)
        Mandel, any unit, positive definite.
    polar, around : int
        Directions from pole to pole and around.

    Returns
    -------
    directions : (polar, around, 3)
    young : (polar, around)
        In the unit of the stiffness.
    """
    theta, phi = np.meshgrid(np.linspace(0, np.pi, polar), np.linspace(0, 2 * np.pi, around), indexing="ij")
    directions = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    return directions, moduli.young(stiffness, directions)


def stiffness_html(title: str, facts: Iterable[tuple[str, str]], stiffness: np.ndarray, units: str) -> str:
    """HTML of a stiffness: facts, the Voigt matrix, averages, and the surface of Young's modulus.

    Parameters
    ----------
    title : str
    facts : sequence of (name, value)
    stiffness : array (6, 6)
        Mandel, in `units`.
    units : str
    """
    facts = list(facts)
    voigt = stiffness_to_voigt(stiffness)
    voigt = np.where(np.abs(voigt) < 1e-9 * np.abs(voigt).max(), 0.0, voigt)
    table = _table([[f"{entry:.4g}" for entry in row] for row in voigt], f"stiffness, {units}, Voigt 11 22 33 23 13 12")
    smallest = float(np.linalg.eigvalsh(stiffness)[0])
    if not smallest > 1e-9 * float(np.abs(stiffness).max()):
        facts.append(("smallest eigenvalue", f"{smallest:.3g} {units}: no modulus in some direction"))
        return _page(title, facts, table, "")
    bulk, shear = (float(value) for value in moduli.hill_average(stiffness))
    directions, young = young_surface(stiffness)
    low, high = float(young.min()), float(young.max())
    facts += [
        ("bulk, shear (Hill)", f"{bulk:.4g}, {shear:.4g} {units}"),
        ("Young's modulus", f"{low:.4g} … {high:.4g} {units}"),
        ("universal anisotropy", f"{float(moduli.universal_anisotropy(stiffness)):.3g}"),
    ]
    return _page(title, facts, table, _surface_picture(directions, young, units))


def _surface_picture(directions: np.ndarray, young: np.ndarray, units: str) -> str:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = _figure(4.2, 3.2)
    axes = figure.add_subplot(projection="3d")
    low, high = float(young.min()), float(young.max())
    # a nearly isotropic surface is one colour, not rounding blown up
    spread = max(high - low, 0.02 * high)
    norm = Normalize(0.5 * (low + high - spread), 0.5 * (low + high + spread))
    colours = colormaps["viridis"](norm(0.25 * (young[1:, 1:] + young[:-1, 1:] + young[1:, :-1] + young[:-1, :-1])))
    axes.plot_surface(*np.moveaxis(directions * young[..., None], -1, 0), facecolors=colours, rstride=1, cstride=1,
                      shade=False, linewidth=0)  # fmt: skip
    for limit in (axes.set_xlim, axes.set_ylim, axes.set_zlim):
        limit(-high, high)
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(elev=28, azim=-55)
    axes.set(xticklabels=[], yticklabels=[], zticklabels=[])
    for name, label in (("x", axes.set_xlabel), ("y", axes.set_ylabel), ("z", axes.set_zlabel)):
        label(name, labelpad=-14)  # without numbers the names may stand near
    shade = ScalarMappable(norm=norm, cmap="viridis")
    figure.colorbar(shade, ax=axes, shrink=0.7, pad=0.12, label=f"Young's modulus, {units}")
    return _inline(figure, f"Young's modulus over directions, {low:.4g} to {high:.4g} {units}")


def stiffness_pattern(group: PointGroup) -> list[list[str]]:
    """Voigt entries (6, 6) of a stiffness of the class in its standard frame, in terms of the independent constants."""
    from .elastic_constants import independent_constants, stiffness_from_constants

    names = independent_constants(group)
    standard = type(group)(group.symbol)
    parts = np.stack([
        stiffness_to_voigt(stiffness_from_constants(standard, {other: float(other == name) for other in names})) for name in names
    ])  # fmt: skip

    def entry(row: int, column: int) -> str:
        text = ""
        for name, factor in zip(names, parts[:, row, column], strict=True):
            if abs(factor) > 1e-9:
                size = (
                    "" if abs(abs(factor) - 1) < 1e-9 else "½" if abs(abs(factor) - 0.5) < 1e-9 else f"{abs(factor):g} "
                )
                text += ((" − " if text else "−") if factor < 0 else " + " if text else "") + size + name
        return text or "·"

    return [[entry(row, column) for column in range(6)] for row in range(6)]


def group_html(group: PointGroup) -> str:
    """HTML of a point group: its kind, the pattern of a stiffness, and a stereogram of a general direction's images."""
    from .elastic_constants import independent_constants

    facts = [
        ("system", group.system), ("operations", str(len(group.operations)) if group.is_finite else "infinitely many"),
        ("Laue class", group.laue.symbol), ("elastic constants of order 2, 3, 4",
        ", ".join(str(len(independent_constants(group, order))) for order in (2, 3, 4))),
    ]  # fmt: skip
    turned = "" if np.allclose(group.frame, np.eye(3)) else ", frame turned"
    table = _table(stiffness_pattern(group), "stiffness, Voigt 11 22 33 23 13 12, standard frame")
    return _page(f"point group {group.symbol}{turned}", facts, table, _stereogram(group) if group.is_finite else "")


def _stereogram(group: PointGroup) -> str:
    figure = _figure(2.6, 2.7)
    axes = figure.add_subplot()
    general = np.array([0.42, 0.17, 0.55])
    images = type(group)(group.symbol).operations @ (general / np.linalg.norm(general))
    # seen from +z, equal angles: a direction below is shown by its opposite through the equator, as a circle
    places = images[:, :2] / (1.0 + np.abs(images[:, 2:]))
    above = images[:, 2] > 0
    circle = np.linspace(0, 2 * np.pi, 181)
    axes.plot(np.cos(circle), np.sin(circle), "k-", lw=0.8)
    axes.plot(*places[above].T, "o", color="C0", ms=5, label="above")
    axes.plot(*places[~above].T, "o", color="C3", ms=9, mfc="none", label="below")
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("images of a direction, z towards you\n• above   ○ below", fontsize=8)
    return _inline(figure, f"stereogram of {group.symbol}")
