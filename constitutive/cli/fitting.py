"""`constitutive fit` and `constitutive classes`: data → law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import check_output, json_option, main, refuse_unread, sentence, show_result, timed


@main.command(short_help="Fit a symmetric law to data.")
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
@click.option("--polyconvex", is_flag=True, help="Fit a law that is elliptic at every strain; mostly less accurate.")
@click.option("--report", type=click.Path(path_type=Path), help="HTML report to write: parity, constants, curves.")
@click.option("--seed", default=0, show_default=True, help="Seed of splits and initial weights.")
@json_option
@sentence
def fit(source: Path, output: Path | None, kind: str, reference_cell: str | None, skip_frames: str, stress_units: str,
        stress_sign: str, point_group: str | None, units: str | None, columns: str | None, fit_glob: str,
        test_glob: str | None, folds: int, elliptic_box: float | None, polyconvex: bool, report: Path | None, seed: int,
        as_json: bool) -> None:  # fmt: skip
    """Fit a symmetric law to strain, energy and stress.

    SOURCE is a data set (.h5), extended XYZ from your own DFT (.extxyz), or with --format table a plain table, or a
    folder of them. The point group is found from the structure. Data are questioned first: do stresses and energies agree? A
    fit that was killed goes on where it stopped.

    \b
    constitutive fit copper.h5 -o copper.law
    constitutive fit silicon.extxyz --reference-cell 10.93746
    constitutive fit lattice/ --format table --units Pa --point-group m-3m
    """
    from crystals.dataset import StrainData

    from ..fitting.fit import cross_validate
    from ..fitting.fit import fit as fit_law

    target = output or Path(source.resolve().name).with_suffix(".law")
    check_output(target, (".law",), source)
    if report is not None:
        check_output(report, (".html", ".htm"), source, "--report")
    xyz, tables = (
        ("reference_cell", "skip_frames", "stress_units", "stress_sign"),
        ("units", "columns", "fit_glob", "test_glob"),
    )
    context = click.get_current_context()
    test = None
    if kind == "table":
        refuse_unread(context, xyz, "tables")
        data, test = _tables(source, units, columns, point_group, fit_glob, test_glob)
        folds = 0
    else:
        options: dict[str, Any] = {}
        is_xyz = source.suffix in (".extxyz", ".xyz")
        if _is_tables(source):
            raise ValueError(
                f"fit: expected .h5 or .extxyz, got {str(source)!r}. For tables of F and P pass --format table."
            )
        refuse_unread(context, tables if is_xyz else xyz + tables, f"{source.name!r}")
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
    if data.group is not None:
        say(data.group.seen_by_strain)
    validation = None
    if folds:
        validation = cross_validate(data, folds=folds, seed=seed, polyconvex=polyconvex)
        say(str(validation))
    checkpoint = target.with_name(f".{target.name}.progress")
    law = fit_law(data, seed=seed, test=test, elliptic_box=elliptic_box, polyconvex=polyconvex, checkpoint=checkpoint)
    if validation is not None:
        law.metadata["fit"]["cross_validated_stress_error"] = validation.law
    law.save(target)
    if report is not None:
        from ..report import write_report

        write_report(law, data, report)
    figures = law.metadata["fit"]
    reference = law.metadata["reference"]
    lines = [f"{law!r}"]
    if figures["energies"]:
        lines.append(figures["energies"])
    if figures["suspects"]:
        lines.append(
            f"missed by a fifth of their stress or more, look at them: {', '.join(figures['suspects'])}"
            + (" (--skip-frames leaves frames out)" if source.suffix in (".extxyz", ".xyz") else "")
        )
    if "calculator_constants" in figures:
        pairs = [f"{name} {value:.1f}" for name, value in figures["calculator_constants"].items()]
        lines.append(f"elastic constants of the calculator by finite differences: {' '.join(pairs)} {law.units}")
    lines.append(
        f"pressure at the file's cell {reference['pressure_at_file_cell']:.3g} {law.units}; the law counts strain from its "
        f"stress-free cell, stretch {_diagonal(reference['stretch'])}"
    )
    form = "no network" if figures["network"] == "none" else f"network of {figures['network']}"
    if figures["order"] != 1:
        form = f"polynomial of degree {figures['order']}, {form}" if figures["order"] else f"polyconvex, {form}"
    lines.append(
        f"training error {100 * figures['training_stress_error']:.2f} %, {form}, {figures['parameters']} parameters"
    )
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
    show_result("\n".join(lines), machine, as_json)


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


def _is_tables(source: Path) -> bool:
    """Whether this looks like a plain table of F and P, or a folder of them."""
    return source.is_dir() or source.suffix in (".txt", ".csv", ".dat")


def _tables(
    source: Path, units: str | None, columns: str | None, symbol: str | None, fit_glob: str, test_glob: str | None
) -> Any:
    from crystals.dataset import read_tables
    from crystals.groups import PointGroup

    if not source.exists():
        raise OSError(f"fit --format table: expected a table or a folder, got {str(source)!r}. Check the path.")
    for name, value, example in (("--units", units, "--units Pa"), ("--point-group", symbol, "--point-group m-3m")):
        if value is None:
            raise ValueError(f"fit --format table: expected {name}, got none. Tables do not say it; pass {example}.")
    assert units is not None and symbol is not None
    group = PointGroup(symbol)
    if source.is_file():
        if fit_glob != "*" or test_glob:
            raise ValueError(
                f"fit --format table: expected a folder for --fit and --test, got {str(source)!r}. Name it."
            )
        return [read_tables([source], group, units, columns), None]
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


@main.command(short_help="Which symmetry do data show?")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--frame", type=click.Choice(["searched", "stated"]), default="searched", show_default=True,
              help="'stated': the data's own axes, z along c, x along a, unique axis y.")  # fmt: skip
@click.option("--reference-cell", help="Extended XYZ: the undeformed cell, as in fit.")
@click.option("--skip-frames", default="", help="Extended XYZ: frames to leave out, counted from 0, as in 3,54.")
@click.option("--units", help="Folder of tables of F and P: their unit (Pa, kPa, bar, MPa, kbar, GPa, eV/A3).")
@click.option("--seed", default=0, show_default=True, help="Seed of the folds and of the search.")
@json_option
@sentence
@timed
def classes(source: Path, frame: str, reference_cell: str | None, skip_frames: str, units: str | None, seed: int,
            as_json: bool) -> None:  # fmt: skip
    """Which symmetry do data show? Ranks the Laue classes, and gives the stress that no law of a class can fit.

    SOURCE is a data set (.h5), extended XYZ (.extxyz), or a plain table of F and P, or a folder of them (with --units).

    \b
    constitutive classes silicon.extxyz --reference-cell 10.93746
    """
    import numpy as np

    from crystals.dataset import StrainData

    from ..fitting.class_ranking import rank_classes

    names, xyz = ("reference_cell", "skip_frames", "units"), source.suffix in (".extxyz", ".xyz")
    tables = _is_tables(source)
    read = ("units",) if tables else ("reference_cell", "skip_frames") if xyz else ()
    refuse_unread(click.get_current_context(), tuple(n for n in names if n not in read), f"{source.name!r}")
    if tables:
        if units is None:
            raise ValueError("classes: expected --units for tables, got none. They do not say it; pass --units Pa.")
        data = _tables(source, units, None, "-1", "*", None)[0]
    else:
        options = {"reference": reference_cell, "skip": _numbers(skip_frames)} if xyz else {}
        data = StrainData.read(source, **options)
    stated = np.eye(3) if data.group is None else data.group.frame
    ranking = rank_classes(data, stated if frame == "stated" else None, seed=seed)
    show_result(f"{data}\n{ranking}\n{ranking.best.floor}", ranking.to_dict(), as_json)
