"""`constitutive atoms`: a crystal → strained states."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .command import check_output, json_option, main, sentence, show_result


@main.command()
@click.argument("structure", type=click.Path(path_type=Path))
@click.option("--calculator", default="emt", show_default=True, help="'emt' or the import path of any ASE calculator.")
@click.option("--max-strain", default=0.08, show_default=True, help="Radius |E| of the ball of Green–Lagrange strains.")
@click.option("--states", type=click.IntRange(min=8), default=300, show_default=True, help="Number of strained cells.")
@click.option("--seed", default=0, show_default=True, help="Seed of the plan of strains.")
@click.option("--workers", default=0, help="Processes; by default one per core.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Data set to write (.h5).")
@json_option
@sentence
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

    check_output(output, (".h5", ".hdf5"), structure)
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
    show_result(
        f"{data}\npoint group {data.group.symbol}; {unstable} states are not elliptic\nwritten to {output}",
        {"states": len(data), "point_group": data.group.symbol, "non_elliptic_states": unstable, "output": str(output)},
        as_json,
    )
