"""`constitutive audit`, `show`, `report` and `families`: what a law is worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .command import check_output, json_option, main, sentence, show_result, timed


@main.command(short_help="Measure what a law keeps; exit status 1 if it fails.")
@click.argument("law", type=click.Path(path_type=Path))
@click.option("--states", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of random states.")
@json_option
@sentence
@timed
def audit(law: Path, states: int, as_json: bool) -> None:
    """Measure what a law keeps: symmetry, objectivity, tangent, reference state, stability. Exit status 1 if it fails.

    \b
    constitutive audit copper.law
    """
    from ..audit import audit as run_audit
    from ..storage import load

    report = run_audit(load(law), number=states)
    show_result(str(report), report.to_dict(), as_json)
    sys.exit(0 if report.passed else 1)


@main.command(short_help="What a law file says of itself; elastic constants.")
@click.argument("law", type=click.Path(path_type=Path))
@json_option
@sentence
@timed
def show(law: Path, as_json: bool) -> None:
    """Print what a law file says of itself, and its elastic constants of second and third order.

    Constants are ∂ⁿW/∂Eⁿ at the reference state (Brugger's), exact derivatives of the law.

    \b
    constitutive show copper.law
    """
    from ..storage import load

    found = load(law)
    lines = [f"{found!r}", f"  {found.group.seen_by_strain}"]
    figures = {key: _short(value) for key, value in found.metadata.get("fit", {}).items() if value not in ([], None)}
    lines += [
        f"  {text}" if text.startswith(key.replace("_", " ")) else f"  {key}: {text}" for key, text in figures.items()
    ]
    constants = _constants(found)
    for order, values in constants.items():
        if order == "3" and not any(values.values()):
            lines.append("  no elastic constants of order 3: all are zero")
            continue
        lines.append(f"  elastic constants of order {order}, {found.units}:")
        lines += _columns([f"{name} {value:.{1 if order == '2' else 0}f}" for name, value in values.items()])
    machine = {"law": type(found).__name__, **found.config(), "metadata": found.metadata, "constants": constants}
    show_result("\n".join(lines), machine, as_json)


def _constants(law: Any) -> dict[str, dict[str, float]]:
    """Named constants of orders 2 and 3; of order 2 alone where there are internal variables."""
    return {str(order): law.elastic_constants(order) for order in ((2,) if law.state_width else (2, 3))}


def _short(value: Any) -> str:
    """A figure of the fit for reading; --json has every digit."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _columns(cells: list[str], width: int = 14, columns: int = 6) -> list[str]:
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    return ["    " + "".join(cell.ljust(width) for cell in row).rstrip() for row in rows]


@main.command(short_help="One HTML page about a law.")
@click.argument("law", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Report to write. Default: LAW with .html.")
@json_option
@sentence
@timed
def report(law: Path, data: Path | None, output: Path | None, as_json: bool) -> None:
    """Write one HTML page about a law: fit to DATA (.h5), constants, curves, stability, audit.

    \b
    constitutive report copper.law copper.h5 -o copper.html
    """
    from crystals.dataset import StrainData

    from ..report import write_report
    from ..storage import load

    target = output or Path(law.name).with_suffix(".html")
    check_output(target, (".html", ".htm"), law)
    write_report(load(law), None if data is None else StrainData.read(data), target)
    show_result(f"written to {target}", {"report": str(target)}, as_json)


@main.command(short_help="Families of laws and what each guarantees.")
@json_option
@sentence
def families(as_json: bool) -> None:
    """Print the families of laws: the symmetry classes each supports, and what it guarantees.

    \b
    constitutive families
    """
    from crystals.groups import STRAIN_CLASSES

    from ..guarantees import FAMILIES, guarantee_table, guarantees

    def cell(family: str, symbol: str) -> dict[str, bool] | None:
        try:
            return guarantees(family, symbol)._asdict()
        except ValueError:
            return None

    machine = {family: {symbol: cell(family, symbol) for symbol in STRAIN_CLASSES} for family in FAMILIES}
    show_result(guarantee_table(), machine, as_json)
