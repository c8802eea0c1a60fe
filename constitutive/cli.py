"""The command `constitutive`: atoms → data, data → law, law → audit and curves."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click


def _sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Expected mistakes end in one sentence on stderr and exit status 2, not in a traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)

    return wrapped


def _print(human: str, machine: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(_finite(machine), indent=2) if as_json else human)


def _finite(value: Any) -> Any:
    """JSON has no infinity: null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="constitutive")
def main() -> None:
    """Neural material laws for finite elements: exact symmetry, from atoms to a law.

    \b
    constitutive atoms Cu.cif --calculator emt --max-strain 0.08 -o copper.h5
    constitutive fit copper.h5 -o copper.law
    constitutive audit copper.law
    constitutive report copper.law copper.h5 -o copper.html
    constitutive drive copper.law --direction 110 --to 0.05
    """


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")


@main.command()
@click.argument("structure", type=click.Path(path_type=Path))
@click.option("--calculator", default="emt", show_default=True, help="'emt' or the import path of any ASE calculator.")
@click.option("--max-strain", default=0.08, show_default=True, help="Radius |E| of the ball of Green–Lagrange strains.")
@click.option("--states", type=click.IntRange(min=8), default=300, show_default=True, help="Number of strained cells.")
@click.option("--seed", default=0, show_default=True, help="Seed of the plan of strains.")
@click.option("--workers", default=0, help="Processes; by default one per core.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Data set to write (.h5).")
@_json
@_sentence
def atoms(
    structure: Path,
    calculator: str,
    max_strain: float,
    states: int,
    seed: int,
    workers: int,
    output: Path,
    as_json: bool,
) -> None:
    """Strain a crystal and record energy and stress of every state, atoms relaxed.

    STRUCTURE is a file that ASE reads: CIF, POSCAR, extended XYZ. The crystal is turned to its standard frame and
    relaxed first; its point group is found.

    \b
    constitutive atoms Cu.cif --calculator emt --max-strain 0.08 -o copper.h5
    """
    from crystals.atomistic import strained_states

    _check_output(output, (".h5", ".hdf5"), structure)
    data = strained_states(
        str(structure),
        calculator,
        number=states,
        max_strain=max_strain,
        seed=seed,
        workers=workers or os.cpu_count() or 1,
    )
    data.write(output)
    assert data.group is not None
    unstable = data.provenance["non_elliptic_states"]
    _print(
        f"{data}\npoint group {data.group.symbol}; {unstable} states are not elliptic\nwritten to {output}",
        {"states": len(data), "point_group": data.group.symbol, "non_elliptic_states": unstable, "output": str(output)},
        as_json,
    )


def _check_output(path: Path, suffixes: tuple[str, ...], source: Path, option: str = "--output") -> None:
    """Before any work: the name is right, is not the source, and can be written."""
    if path.suffix not in suffixes:
        raise ValueError(f"{option}: expected a name that ends in {' or '.join(suffixes)}, got {str(path)!r}.")
    if path.is_dir():
        raise OSError(f"{option}: expected a file name, got {str(path)!r}, which is a folder. Add a name.")
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"{option}: expected another file than the source, got {str(path)!r} for both. Choose a name.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OSError(f"{option}: expected an existing folder, got {str(folder)!r}. Create it first.")
    try:
        # asking the system whether one may write is no answer for root or a full disk
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"{option}: expected a folder to write to, got {str(folder)!r}: {reason}. Choose another."
        ) from error


def _refuse_unread(context: click.Context, names: tuple[str, ...], kind: str) -> None:
    """An option that the kind of source does not read would be silently without effect."""
    given = [name for name in names if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        options = ", ".join("--" + name.removesuffix("_glob").replace("_", "-") for name in given)
        raise ValueError(
            f"{context.info_name}: expected no {options} for {kind}, which does not read it. Leave it out."
        )


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Law to write (.law). Default: SOURCE with .law.")
@click.option("--format", "kind", type=click.Choice(["auto", "table"]), default="auto", show_default=True,
              help="'table': plain columns of F, P and W; otherwise by suffix (.h5, .extxyz).")  # fmt: skip
@click.option(
    "--reference-cell",
    help="Extended XYZ: the undeformed cell. Cube edge (Å), 3 or 9 numbers, frame:N, or a structure file.",
)
@click.option("--skip-frames", default="", help="Extended XYZ: frames to leave out, counted from 0, as in 3,54.")
@click.option("--stress-units", default="eV/A3", show_default=True, help="Extended XYZ: unit of the stress.")
@click.option(
    "--stress-sign", type=click.Choice(["1", "-1"]), default="1", help="Extended XYZ: -1 where compression is positive."
)
@click.option("--point-group", help="Symmetry to impose; found from the structure by default, needed for tables.")
@click.option("--units", help="Table: unit of P and W (Pa, kPa, bar, MPa, kbar, GPa, eV/A3).")
@click.option("--columns", help="Table: column names, comma-separated: F11 … F33, P11 … P33, W; others are ignored.")
@click.option("--fit", "fit_glob", default="*", show_default=True, help="Table: files of the folder SOURCE to fit on.")
@click.option("--test", "test_glob", help="Table: files to hold out. By default a fifth of the states.")
@click.option(
    "--folds",
    default=5,
    show_default=True,
    help="Cross-validation folds, by symmetry orbit; 0 for none. Off for tables.",
)
@click.option("--elliptic-box", type=float, help="Keep strains with all |E_i| up to this strongly elliptic.")
@click.option("--report", type=click.Path(path_type=Path), help="HTML report to write: parity, constants, curves.")
@click.option("--seed", default=0, show_default=True, help="Seed of splits and initial weights.")
@_json
@_sentence
def fit(source: Path, output: Path | None, kind: str, reference_cell: str | None, skip_frames: str, stress_units: str,
        stress_sign: str, point_group: str | None, units: str | None, columns: str | None, fit_glob: str,
        test_glob: str | None, folds: int, elliptic_box: float | None, report: Path | None, seed: int,
        as_json: bool) -> None:  # fmt: skip
    """Fit a symmetric law to strain, energy and stress.

    SOURCE is a data set (.h5), extended XYZ from your own DFT (.extxyz), or with --format table a folder of plain
    tables. The point group is found from the structure. Data are questioned first: do stresses and energies agree? A
    fit that was killed goes on where it stopped.

    \b
    constitutive fit copper.h5 -o copper.law
    constitutive fit silicon.extxyz --reference-cell 10.93746
    constitutive fit lattice/ --format table --units Pa --point-group m-3m --fit 'BCC_*al.txt' --test 'BCC_test*'
    """
    from crystals.dataset import StrainData

    from .fit import cross_validate
    from .fit import fit as fit_law

    target = output or Path(source.resolve().name).with_suffix(".law")
    _check_output(target, (".law",), source)
    if report is not None:
        _check_output(report, (".html", ".htm"), source, "--report")
    xyz, tables = (
        ("reference_cell", "skip_frames", "stress_units", "stress_sign"),
        ("units", "columns", "fit_glob", "test_glob"),
    )
    context = click.get_current_context()
    test = None
    if kind == "table":
        _refuse_unread(context, xyz, "tables")
        data, test = _tables(source, units, columns, point_group, fit_glob, test_glob)
        folds = 0
    else:
        options: dict[str, Any] = {}
        is_xyz = source.suffix in (".extxyz", ".xyz")
        _refuse_unread(context, tables if is_xyz else xyz + tables, f"{source.name!r}")
        if is_xyz:
            options = {"reference": reference_cell, "skip": _numbers(skip_frames), "stress_units": stress_units,
                       "stress_sign": float(stress_sign)}  # fmt: skip
        data = StrainData.read(source, **options)
        if point_group:
            data = _state_group(data, point_group)
    say = (lambda text: None) if as_json else click.echo
    say(f"{data}")
    if "largest_force" in data.provenance and data.provenance["largest_force"] is not None:
        say(f"largest force {data.provenance['largest_force']:.2g} eV/Å, so these are {data.kind} data")
    validation = None
    if folds:
        validation = cross_validate(data, folds=folds, seed=seed)
        say(str(validation))
    checkpoint = target.with_name(f".{target.name}.progress")
    law = fit_law(data, seed=seed, test=test, elliptic_box=elliptic_box, checkpoint=checkpoint)
    law.save(target)
    if report is not None:
        from .report import write_report

        write_report(law, data, report)
    figures = law.metadata["fit"]
    reference = law.metadata["reference"]
    lines = [f"{law!r}"]
    if figures["energies"]:
        lines.append(figures["energies"])
    if figures["suspects"]:
        lines.append(f"missed by a fifth of their stress or more, look at them: {', '.join(figures['suspects'])}")
    if "calculator_constants" in figures:
        pairs = [f"{name} {value:.1f}" for name, value in figures["calculator_constants"].items()]
        lines.append(f"elastic constants of the calculator by finite differences: {' '.join(pairs)} {law.units}")
    lines.append(
        f"pressure at the file's cell {reference['pressure_at_file_cell']:.3g} {law.units}; the law counts strain from its "
        f"stress-free cell, stretch {_diagonal(reference['stretch'])}"
    )
    lines.append(f"training error {100 * figures['training_stress_error']:.2f} %, polynomial degree {figures['order']}, "
                 f"{figures['parameters']} parameters")  # fmt: skip
    lines.append(figures["symmetry_floor"])
    if "elliptic_box" in figures:
        lines.append(f"elliptic for all |E_i| ≤ {figures['elliptic_box']:g}: smallest acoustic eigenvalue on unseen strains "
                     f"{figures['smallest_acoustic_eigenvalue']:.3g} {law.units}")  # fmt: skip
    if "held_out_rmse_P" in figures:
        lines.append(f"first Piola–Kirchhoff RMSE over nine components: fit {figures['training_rmse_P']:.4g}, "
                     f"test {figures['held_out_rmse_P']:.4g} {law.units}")  # fmt: skip
    lines.append(f"written to {target}")
    machine = {
        "law": str(target), "point_group": law.group.symbol, "kind": data.kind, "units": law.units,
        "elastic_constants": law.metadata["elastic_constants"], "fit": figures, "reference": reference,
        "cross_validation": None if validation is None else {
            "stress_error": validation.law, "polynomials": validation.polynomials, "folds": validation.folds,
            "states": validation.states, "orbits": validation.orbits,
        },
    }  # fmt: skip
    _print("\n".join(lines), machine, as_json)


def _diagonal(stretch: list[list[float]]) -> str:
    diagonal = [stretch[i][i] for i in range(3)]
    return f"{diagonal[0]:.6f}" if max(diagonal) - min(diagonal) < 1e-12 else ", ".join(f"{d:.6f}" for d in diagonal)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"--skip-frames: expected whole numbers such as 3,54, got {text!r}.") from None


def _state_group(data: Any, symbol: str) -> Any:
    from dataclasses import replace

    from crystals.groups import PointGroup, stated_group

    group = PointGroup(symbol) if data.group is None else stated_group(data.group, symbol)
    return replace(data, group=group)


def _tables(
    source: Path, units: str | None, columns: str | None, symbol: str | None, fit_glob: str, test_glob: str | None
) -> Any:
    from crystals.dataset import read_tables
    from crystals.groups import PointGroup

    if not source.is_dir():
        raise OSError(
            f"fit --format table: expected a folder, got {str(source)!r}. Name the folder, and files by --fit."
        )
    for name, value, example in (("--units", units, "--units Pa"), ("--point-group", symbol, "--point-group m-3m")):
        if value is None:
            raise ValueError(f"fit --format table: expected {name}, got none. Tables do not say it; pass {example}.")
    assert units is not None and symbol is not None
    group = PointGroup(symbol)
    found: list[Any] = []
    testing = sorted(path for path in source.glob(test_glob) if path.is_file()) if test_glob else []
    for option, pattern in (("--fit", fit_glob), ("--test", test_glob)):
        if pattern is None:
            found.append(None)
            continue
        paths = (
            testing
            if option == "--test"
            else sorted(p for p in source.glob(pattern) if p.is_file() and p not in testing)
        )
        if not paths:
            there = ", ".join(sorted(p.name for p in source.iterdir() if p.is_file())[:8])
            raise ValueError(
                f"{option}: expected files that match {pattern!r} in {source}, got none. There are: {there}."
            )
        found.append(read_tables(paths, group, units, columns))
    return found


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--frame", type=click.Choice(["searched", "stated"]), default="searched", show_default=True,
              help="'stated': the data's own axes, z along c, x along a, unique axis y.")  # fmt: skip
@click.option("--reference-cell", help="Extended XYZ: the undeformed cell, as in fit.")
@click.option("--skip-frames", default="", help="Extended XYZ: frames to leave out, counted from 0, as in 3,54.")
@click.option("--units", help="Folder of tables of F and P: their unit (Pa, kPa, bar, MPa, kbar, GPa, eV/A3).")
@click.option("--seed", default=0, show_default=True, help="Seed of the folds and of the search.")
@_json
@_sentence
def classes(source: Path, frame: str, reference_cell: str | None, skip_frames: str, units: str | None, seed: int,
            as_json: bool) -> None:  # fmt: skip
    """Which symmetry do data show? Ranks the Laue classes, and gives the stress that no law of a class can fit.

    SOURCE is a data set (.h5), extended XYZ (.extxyz), or a folder of plain tables of F and P (with --units).

    \b
    constitutive classes silicon.extxyz --reference-cell 10.93746
    """
    import numpy as np

    from crystals.dataset import StrainData

    from .class_ranking import rank_classes

    names, xyz = ("reference_cell", "skip_frames", "units"), source.suffix in (".extxyz", ".xyz")
    read = ("units",) if source.is_dir() else ("reference_cell", "skip_frames") if xyz else ()
    _refuse_unread(click.get_current_context(), tuple(n for n in names if n not in read), f"{source.name!r}")
    if source.is_dir():
        if units is None:
            raise ValueError(
                "classes: expected --units for a folder of tables, got none. They do not say it; pass --units Pa."
            )
        data = _tables(source, units, None, "-1", "*", None)[0]
    else:
        options = {"reference": reference_cell, "skip": _numbers(skip_frames)} if xyz else {}
        data = StrainData.read(source, **options)
    stated = np.eye(3) if data.group is None else data.group.frame
    ranking = rank_classes(data, stated if frame == "stated" else None, seed=seed)
    _print(f"{data}\n{ranking}\n{ranking.best.floor}", ranking.to_dict(), as_json)


@main.command()
@click.argument("law", type=click.Path(path_type=Path))
@click.option("--states", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of random states.")
@_json
@_sentence
def audit(law: Path, states: int, as_json: bool) -> None:
    """Measure what a law keeps: symmetry, objectivity, tangent, reference state, stability. Exit status 1 if it fails.

    \b
    constitutive audit copper.law
    """
    from .audit import audit as run_audit
    from .storage import load

    report = run_audit(load(law), number=states)
    _print(str(report), report.to_dict(), as_json)
    sys.exit(0 if report.passed else 1)


@main.command()
@click.argument("law", type=click.Path(path_type=Path))
@_json
@_sentence
def show(law: Path, as_json: bool) -> None:
    """Print what a law file says of itself, and its elastic constants of second and third order.

    Constants are ∂ⁿW/∂Eⁿ at the reference state (Brugger's), exact derivatives of the law.

    \b
    constitutive show copper.law
    """
    from .storage import load

    found = load(law)
    lines = [f"{found!r}"]
    fit_figures = found.metadata.get("fit", {})
    lines += [f"  {key}: {value}" for key, value in fit_figures.items()]
    constants = _constants(found)
    for order, values in constants.items():
        lines.append(f"  elastic constants of order {order}, {found.units}:")
        lines += _columns([f"{name} {value:.{1 if order == '2' else 0}f}" for name, value in values.items()])
    machine = {"law": type(found).__name__, **found.config(), "metadata": found.metadata, "constants": constants}
    _print("\n".join(lines), machine, as_json)


def _constants(law: Any) -> dict[str, dict[str, float]]:
    """Named constants of orders 2 and 3; of order 2 alone where there are internal variables."""
    return {str(order): law.elastic_constants(order) for order in ((2,) if law.state_width else (2, 3))}


def _columns(cells: list[str], width: int = 14, columns: int = 6) -> list[str]:
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    return ["    " + "".join(cell.ljust(width) for cell in row).rstrip() for row in rows]


@main.command()
@click.argument("law", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Report to write. Default: LAW with .html.")
@_json
@_sentence
def report(law: Path, data: Path | None, output: Path | None, as_json: bool) -> None:
    """Write one HTML page about a law: fit to DATA (.h5), constants, curves, stability, audit.

    \b
    constitutive report copper.law copper.h5 -o copper.html
    """
    from crystals.dataset import StrainData

    from .report import write_report
    from .storage import load

    target = output or Path(law.name).with_suffix(".html")
    _check_output(target, (".html", ".htm"), law)
    write_report(load(law), None if data is None else StrainData.read(data), target)
    _print(f"written to {target}", {"report": str(target)}, as_json)


@main.command()
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
@_json
@_sentence
def drive(law: Path, direction: str, to: str, steps: int, held: str, rate: float | None, table: Path | None,
          plot: Path | None, as_json: bool) -> None:  # fmt: skip
    """Pull a material point along a crystal direction, lateral faces free: strain, stress, energy, stability.

    \b
    constitutive drive copper.law --direction 110 --to 0.05 --plot curve.png
    """
    from .law import OUT_OF_RANGE
    from .storage import load
    from .uniaxial import uniaxial

    for path, suffixes, option in ((table, (".csv",), "--csv"), (plot, (".png", ".pdf", ".svg"), "--plot")):
        if path is not None:
            _check_output(path, suffixes, law, option)
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
        table.write_text("\n".join(lines) + "\n")
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
    machine = {"law": str(law), "direction": _direction(direction), "held": list(holding), "units": found.units,
               "steps": rows, "complete": failure is None}  # fmt: skip
    _print("\n".join(text), machine, as_json)
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
    figure.savefig(path, dpi=120)
    plt.close(figure)


@main.command()
@_json
@_sentence
def families(as_json: bool) -> None:
    """Print the families of laws: the symmetry classes each supports, and what it guarantees.

    \b
    constitutive families
    """
    from crystals.groups import STRAIN_CLASSES

    from .guarantees import FAMILIES, guarantee_table, guarantees

    def cell(family: str, symbol: str) -> dict[str, bool] | None:
        try:
            return guarantees(family, symbol)._asdict()
        except ValueError:
            return None

    machine = {family: {symbol: cell(family, symbol) for symbol in STRAIN_CLASSES} for family in FAMILIES}
    _print(guarantee_table(), machine, as_json)


if __name__ == "__main__":
    main()
