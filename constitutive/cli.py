"""The command `constitutive`: atoms → data, data → law, law → audit."""

from __future__ import annotations

import json
import math
import os
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


def _check_output(path: Path, suffixes: tuple[str, ...], source: Path) -> None:
    """Before any work: the name is right, is not the source, and can be written."""
    if path.suffix not in suffixes:
        raise ValueError(f"--output: expected a name that ends in {' or '.join(suffixes)}, got {str(path)!r}.")
    if path.is_dir():
        raise OSError(f"--output: expected a file name, got {str(path)!r}, which is a folder. Add a name.")
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"--output: expected another file than the source, got {str(path)!r} for both. Choose a name.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OSError(f"--output: expected an existing folder, got {str(folder)!r}. Create it first.")
    try:
        # asking the system whether one may write is no answer for root or a full disk
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"--output: expected a folder to write to, got {str(folder)!r}: {reason}. Choose another."
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
@click.option("--seed", default=0, show_default=True, help="Seed of splits and initial weights.")
@_json
@_sentence
def fit(source: Path, output: Path | None, kind: str, reference_cell: str | None, skip_frames: str, stress_units: str,
        stress_sign: str, point_group: str | None, units: str | None, columns: str | None, fit_glob: str,
        test_glob: str | None, folds: int, seed: int, as_json: bool) -> None:  # fmt: skip
    """Fit a symmetric law to strain, energy and stress.

    SOURCE is a data set (.h5), extended XYZ from your own DFT (.extxyz), or with --format table a folder of plain
    tables. The point group is found from the structure. Data are questioned first: do stresses and energies agree?

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
    law = fit_law(data, seed=seed, test=test)
    law.save(target)
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
    """Print what a law file says of itself.

    \b
    constitutive show copper.law
    """
    from .storage import load

    found = load(law)
    lines = [f"{found!r}"]
    fit_figures = found.metadata.get("fit", {})
    lines += [f"  {key}: {value}" for key, value in fit_figures.items()]
    _print("\n".join(lines), {"law": type(found).__name__, **found.config(), "metadata": found.metadata}, as_json)


if __name__ == "__main__":
    main()
