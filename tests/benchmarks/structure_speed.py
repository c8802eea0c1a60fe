"""Crystals a second that `constitutive moduli STRUCTURE…` answers on one core, and what the time goes to.

    OMP_NUM_THREADS=1 python tests/benchmarks/structure_speed.py

The 256 first of the binary compounds that have four atoms in the cell, in the cells the data come with. Processor time of this
process, not time on the wall, so that other jobs on the machine count little; of passes over all of them, the first (which
meets every prototype anew) and the fastest of five. Structures are pymatgen's in memory; CIF is read from disk, as pymatgen
writes it (every atom listed) and with its space group (atoms listed up to symmetry).
"""

from __future__ import annotations

import gzip
import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from constitutive.crystal_ensemble import DEFAULT_MODEL, CrystalEnsemble
from constitutive.crystal_graph import CrystalBatch
from constitutive.crystal_moduli import crystal_moduli, moduli_of_crystals
from constitutive.moduli_process import crystal_rows
from crystals.neighbours import Neighbours
from crystals.pair_sums import lattice_sums
from crystals.structures import as_atoms, symmetrised

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "binary_bulk_shear_moduli.json.gz"
ATOMS, COUNT, BATCH = 4, 256, 64


def structures() -> list[Structure]:
    entries = json.loads(gzip.decompress(DATA.read_bytes()))
    chosen = [entry["structure"] for entry in entries if len(entry["structure"]["sites"]) == ATOMS]
    return [Structure.from_dict(one) for one in chosen[:COUNT]]


def seconds(work: Callable[[], Any], passes: int = 5) -> tuple[float, float]:
    """Processor time of the first pass and of the fastest."""
    found = []
    for _ in range(passes):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found[0], min(found)


def row(name: str, work: Callable[[], Any], count: int, passes: int = 5) -> None:
    first, best = seconds(work, passes)
    print(f"{name:<58}{count / first:>8.0f}{count / best:>9.0f}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"
    )
    crystals = structures()
    ensemble = CrystalEnsemble.read(DEFAULT_MODEL)
    print(
        f"{len(crystals)} crystals of {ATOMS} atoms; {len(ensemble.networks)} network(s) and three Gaussian processes"
    )
    print(f"{'crystals a second':<58}{'first':>8}{'fastest':>9}")
    # what is computed once in a process, such as the table of the elements, is not a crystal's time
    warm = Structure([[3.0, 0.2, 0.0], [0.0, 4.0, 0.3], [0.1, 0.0, 5.0]], ["Na", "Cl"], [[0, 0, 0], [0.4, 0.5, 0.6]])
    crystal_moduli(warm, model=ensemble)
    row(
        "all, from pymatgen Structures, in batches of 64",
        lambda: list(moduli_of_crystals(crystals, model=ensemble)),
        COUNT,
    )
    row("all, from pymatgen Structures, one at a time",
        lambda: [crystal_moduli(one, model=ensemble) for one in crystals[:64]], 64)  # fmt: skip
    with TemporaryDirectory() as folder:
        for name, options in (("every atom listed", {}), ("with space group", {"symprec": 0.01})):
            paths = []
            for i, one in enumerate(crystals):
                paths.append(Path(folder) / f"{len(options)}_{i}.cif")
                CifWriter(one, **options).write_file(paths[-1])
            row(f"all, from CIF files ({name}), in batches of 64",
                lambda paths=paths: list(moduli_of_crystals(paths, model=ensemble)), COUNT)  # fmt: skip
            row(f"  of it reading ({name})", lambda paths=paths: [as_atoms(path) for path in paths], COUNT)
    print("parts, in batches of 64")
    row(
        "  symmetry",
        lambda: [symmetrised(one) for one in crystals],
        COUNT,
    )
    cells = [symmetrised(one).atoms for one in crystals]
    parts = [cells[i : i + BATCH] for i in range(0, COUNT, BATCH)]
    row("  neighbours", lambda: [Neighbours.of(part, 6.0) for part in parts], COUNT)
    row("  neighbours and lattice sums", lambda: [lattice_sums(Neighbours.of(part, 6.0)) for part in parts], COUNT)
    row("  neighbours and descriptors", lambda: [crystal_rows(Neighbours.of(part, 6.0)) for part in parts], COUNT)
    process = ensemble.process
    if process is not None:
        rows = [crystal_rows(Neighbours.of(part, 6.0)) for part in parts]
        row("  Gaussian processes", lambda: [process.of_rows(*one) for one in rows], COUNT)
    batches = [CrystalBatch.of(lattice_sums(Neighbours.of(part, 6.0))) for part in parts]

    def networks() -> None:
        with torch.no_grad():
            for batch in batches:
                for member in ensemble.networks:
                    member(batch)

    row(f"  {len(ensemble.networks)} network(s)", networks, COUNT)


if __name__ == "__main__":
    main()
