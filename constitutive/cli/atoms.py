"""`constitutive atoms`: a crystal → strained states."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import click

from .command import check_output, json_option, main, refuse_unread, sentence, show_result


@main.command(short_help="Strain a crystal; energy and stress of every state.")
@click.argument("structure", type=click.Path(path_type=Path))
@click.option(
    "--calculator", default="emt", show_default=True,
    help="'emt', the import path of any ASE calculator ('package.module:Name(key=value)'), or 'lammps:FILE', a "
    "potential file such as Si.sw.",
)  # fmt: skip
@click.option("--max-strain", default=0.08, show_default=True, help="Radius |E| of the ball of Green–Lagrange strains.")
@click.option("--states", type=click.IntRange(min=8), default=300, show_default=True, help="Number of strained cells.")
@click.option("--seed", default=0, show_default=True, help="Seed of the plan of strains.")
@click.option("--workers", default=0, help="Processes; by default one per core.")
@click.option("--write-jobs", type=click.Path(path_type=Path), help="Write the strained cells to this folder instead.")
@click.option("--read-jobs", is_flag=True, help="STRUCTURE is such a folder after its calculations (VASP, QE …).")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Data set to write (.h5).")
@json_option
@click.pass_context
@sentence
def atoms(
    context: click.Context,
    structure: Path,
    calculator: str,
    max_strain: float,
    states: int,
    seed: int,
    workers: int,
    write_jobs: Path | None,
    read_jobs: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Strain a crystal and record energy and stress of every state, atoms relaxed.

    STRUCTURE is a file that ASE reads: CIF, POSCAR, extended XYZ. The crystal is turned to its standard frame and
    relaxed first; its point group is found. Finished states are kept in OUTPUT.states as they come: the same command
    goes on after a kill. States where the crystal transforms are left out.

    \b
    constitutive atoms Cu.cif --calculator emt --max-strain 0.08 -o copper.h5
    constitutive atoms Si.cif --calculator lammps:Si.sw -o silicon.h5
    constitutive atoms POSCAR --write-jobs jobs      # run DFT in jobs/*/, then
    constitutive atoms jobs --read-jobs -o crystal.h5
    """
    if write_jobs is not None:
        refuse_unread(context, ("calculator", "workers", "read_jobs", "output"), "--write-jobs")
        from crystals import job_folder

        made = job_folder.write_jobs(structure, write_jobs, number=states, max_strain=max_strain, seed=seed)
        show_result(
            f"{len(made) - 1} strained cells and the reference written to {write_jobs}\n"
            "Relax the atoms of each at fixed cell, stress printed (VASP: ISIF = 2; QE: calculation = 'relax', tstress), "
            f"then:\nconstitutive atoms {write_jobs} --read-jobs -o crystal.h5",
            {"states": len(made) - 1, "folder": str(write_jobs)},
            as_json,
        )
        return
    if output is None:
        raise ValueError("--output: expected a name that ends in .h5 or .hdf5, got none. Name the data set to write.")
    check_output(output, (".h5", ".hdf5"), structure)
    journal = output.with_name(f"{output.name}.states")
    if read_jobs:
        refuse_unread(context, ("calculator", "workers", "max_strain", "states", "seed"), "--read-jobs")
        from crystals import job_folder

        data = job_folder.read_jobs(structure)
    else:
        from crystals.atomistic import strained_states

        data = strained_states(
            str(structure),
            calculator,
            number=states,
            max_strain=max_strain,
            seed=seed,
            workers=workers or os.cpu_count() or 1,
            journal=journal,
        )
    data.write(output)
    if not read_jobs:
        journal.unlink(missing_ok=True)
    assert data.group is not None
    unstable = data.provenance.get("non_elliptic_states")
    left_out = data.provenance["left_out"]
    lines = [str(data), f"point group {data.group.symbol}"]
    if unstable is not None:
        lines[-1] += f"; {unstable} states are not elliptic"
    if left_out:
        kinds = Counter(str(one["reason"]).partition(":")[0] for one in left_out)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines.append(f"left out: {counted}; the first {left_out[0]['reason']}")
    show_result(
        "\n".join([*lines, f"written to {output}"]),
        {
            "states": len(data), "point_group": data.group.symbol, "non_elliptic_states": unstable,
            "left_out": left_out, "output": str(output),
        },
        as_json,
    )  # fmt: skip
