"""`constitutive drive`: one material point along a path."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from crystals.whole_file import whole_file

from .command import check_output, json_option, main, sentence, show_result, timed


@main.command(short_help="Pull a material point along a crystal direction.")
@click.argument("law", type=click.Path(path_type=Path))
@click.option("--direction", default="100", show_default=True,
              help="Loaded direction, Cartesian in the crystal frame: 110, 1-10, or 1,0.5,0.")  # fmt: skip
@click.option("--to", required=True, help="Nominal strain (stretch − 1) to load to; several in turn: 0.05,0.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Steps to each of them.")
@click.option(
    "--held", default="", help="Components whose strain is held at zero instead, 1 being the loaded axis: 22."
)
@click.option("--rate", type=float, help="Strain per unit time, for a law that depends on it.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Table to write (.csv), full digits.")
@click.option("--plot", type=click.Path(path_type=Path), help="Picture to write (.png, .pdf, .svg).")
@json_option
@sentence
@timed
def drive(law: Path, direction: str, to: str, steps: int, held: str, rate: float | None, table: Path | None,
          plot: Path | None, as_json: bool) -> None:  # fmt: skip
    """Pull a material point along a crystal direction, lateral faces free: strain, stress, energy, stability.

    \b
    constitutive drive copper.law --direction 110 --to 0.05 --plot curve.png
    """
    from ..laws.law import OUT_OF_RANGE
    from ..storage import load
    from ..uniaxial import loaded_axes, uniaxial

    for path, suffixes, option in ((table, (".csv",), "--csv"), (plot, (".png", ".pdf", ".svg"), "--plot")):
        if path is not None:
            check_output(path, suffixes, law, option)
    found = load(law)
    if rate is not None and not found.rate_dependent:
        raise ValueError(
            f"--rate: expected none for {type(found).__name__}, got {rate:g}: it does not depend on the rate."
        )
    holding = tuple(held.replace(",", " ").split())
    rows: list[dict[str, Any]] = []
    failure = None
    try:
        for step in uniaxial(found, _direction(direction), _values(to), steps=steps, held=holding, rate=rate):
            lateral = step.point.strain[0, 1:3].tolist()
            rows.append({
                "strain": step.strain, "stress": step.stress, "true_stress": step.true_stress, "E22": lateral[0],
                "E33": lateral[1], "energy": step.energy, "acoustic": step.acoustic, "elliptic": step.elliptic,
                "in_range": bool(step.point.status[0] != OUT_OF_RANGE),
            })  # fmt: skip
    except RuntimeError as error:
        # what was reached is worth having; the exit status says that it is not all
        failure = str(error)
    if table is not None:
        lines = [",".join(rows[0])] if rows else []
        lines += [
            ",".join(repr(value) if isinstance(value, float) else str(value) for value in row.values()) for row in rows
        ]
        with whole_file(table) as temporary:
            temporary.write_text("\n".join(lines) + "\n")
    if plot is not None:
        _plot(plot, rows, f"{found.group.symbol}, along {direction}", found.units)
    text = [
        f"{found!r}",
        f"{'strain':>9} {'stress':>11} {'true stress':>11} {'E22':>9} {'E33':>9} {'energy':>11} {'acoustic':>9}",
    ]
    for row in rows:
        marks = ("" if row["elliptic"] else "  not elliptic") + (
            "" if row["in_range"] else "  beyond the trained range"
        )
        text.append(
            "{strain:9.5f} {stress:11.5g} {true_stress:11.5g} {E22:9.5f} {E33:9.5f} {energy:11.4g} {acoustic:9.4g}".format(
                **row
            )
            + marks
        )
    text.append(f"stress per reference area, energy and smallest acoustic eigenvalue in {found.units}")
    axes = loaded_axes(_direction(direction)).round(6) + 0.0
    across = [
        f"{number} along {', '.join(f'{part:.4g}' for part in axis)}"
        for number, axis in zip((2, 3), axes[1:], strict=True)
    ]
    text.append(f"axes across, in the crystal frame: {'; '.join(across)}")
    machine = {"law": str(law), "direction": _direction(direction), "held": list(holding), "axes": axes.tolist(), "units": found.units,
               "steps": rows, "complete": failure is None}  # fmt: skip
    show_result("\n".join(text), machine, as_json)
    if failure is not None:
        click.echo(f"Error: {failure}", err=True)
        sys.exit(1)


def _direction(text: str) -> list[float]:
    """'110', '1-10' digit by digit; '1,0.5,0' or '1 1 0' number by number."""
    if "," in text or " " in text.strip():
        found = _values(text, "--direction", "1,1,0")
    else:
        found = [float(part) for part in re.findall(r"-?\d", text)]
        if "".join(re.findall(r"-?\d", text)) != text.strip():
            found = []
    if len(found) != 3 or not any(found):
        raise ValueError(
            f"--direction: expected three numbers, not all zero, such as 110, 1-10 or 1,0.5,0, got {text!r}."
        )
    return found


def _values(text: str, option: str = "--to", example: str = "0.05,0") -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"{option}: expected numbers such as {example}, got {text!r}.") from None


def _plot(path: Path, rows: list[dict[str, Any]], title: str, units: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 4.0), layout="constrained")
    strain, stress = [0.0, *(row["strain"] for row in rows)], [0.0, *(row["stress"] for row in rows)]
    axes.plot(strain, stress, color="tab:blue", marker=".", label="stress per reference area")
    for key, mark, label in (("elliptic", "x", "not elliptic"), ("in_range", "o", "beyond the trained range")):
        bad = [row for row in rows if not row[key]]
        if bad:
            axes.plot(
                [row["strain"] for row in bad],
                [row["stress"] for row in bad],
                mark,
                color="tab:red",
                mfc="none",
                label=label,
            )
    axes.set(xlabel="nominal strain", ylabel=units, title=title)
    axes.locator_params(axis="x", nbins=6)
    axes.legend(frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
