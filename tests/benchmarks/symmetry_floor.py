"""Prints symmetry floors and class rankings of real data, of EMT crystals and of random laws of every class.

PYTHONPATH=$PWD:tests/constitutive python tests/benchmarks/symmetry_floor.py > tests/benchmarks/results/symmetry_floor.txt

About a quarter of an hour on one core, once the EMT states are cached (`emt_crystals`). Real data from ../shared/data are left
out where they are absent.
"""

from __future__ import annotations

import datetime
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from emt_crystals import CRYSTALS, states
from test_class_ranking import made, offset

from constitutive import rank_classes
from crystals import LAUE_CLASSES, PointGroup, StrainData, read_tables, symmetry_floor
from crystals.rotations import random_rotations, rotate_vector

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def real() -> None:
    folder = SHARED / "cubic_lattice_bcc"
    fitted = [folder / f"BCC_{name}.txt" for name in ("uniaxial", "biaxial", "planar", "volumetric", "shear")]
    tests = [folder / f"BCC_test{i}.txt" for i in (1, 2, 3)]
    for name, paths, published in (("five fit paths", fitted, 12.5), ("test1–test3", tests, 15.6)):
        floor = symmetry_floor(read_tables(paths, PointGroup("m-3m"), "Pa"))
        print(f"bcc lattice, {name}: {floor} (published {published} Pa)")
    silicon = StrainData.read(SHARED / "silicon_dft_strained.extxyz", reference="10.93746")
    molybdenum = StrainData.read(SHARED / "molybdenum_dft_strained.extxyz", reference="9.50287", skip=(54,))
    for name, data in (("silicon, DFT", silicon), ("molybdenum, DFT", molybdenum)):
        assert data.group is not None
        floor = symmetry_floor(data)
        print(f"\n{name}: {data}\n{floor}; bound {100 * floor.bound:.3g} %")
        for frame in (data.group.frame, None):
            ranking = rank_classes(data, frame)
            print(ranking)
        print(f"found frame off by {offset(ranking.best.group, data.group):.2g} (largest entry of an operation)")


def emt() -> None:
    print("\nEMT crystals, narrow plan (300 states, |E| ≤ 0.05), turned at random, frame searched")
    for number, name in enumerate(CRYSTALS):
        data = states(name, "narrow")
        assert data.group is not None
        turn = random_rotations(1, np.random.default_rng(number))[0]
        turned = _turned(data, turn)
        start = time.process_time()
        ranking = rank_classes(turned)
        best = ranking.best
        seconds = time.process_time() - start
        mark = "right" if best.group.symbol == data.group.laue.symbol else "WRONG"
        print(f"\n{name}: is {data.group.laue.symbol}, found {best.group.symbol} ({mark}), {seconds:.0f} s of CPU")
        if mark == "right":
            true = PointGroup(best.group.symbol, turn @ data.group.frame)
            print(f"found frame off by {offset(best.group, true):.2g} (largest entry of an operation)")
        print(ranking)


def _turned(data: StrainData, turn: np.ndarray) -> StrainData:
    """The same states of the crystal turned: E → Q E Qᵀ, S → Q S Qᵀ, F → Q F Qᵀ, no label."""
    return replace(
        data, strain=rotate_vector(turn, data.strain), stress=rotate_vector(turn, data.stress), group=None,
        deformation_gradient=turn @ data.deformation_gradient @ turn.T, cauchy=rotate_vector(turn, data.cauchy),
    )  # fmt: skip


def random_laws() -> None:
    print("\nrandom laws of second to fourth order, |E| ≤ 0.05, random frame, searched: class found, of seeds 0, 1, 2")
    for number, noise in ((60, 3e-3), (60, 3e-2)):
        wrong, right = [], 0
        for symbol in LAUE_CLASSES:
            for seed in range(3):
                frame = random_rotations(1, np.random.default_rng(100 + seed))[0]
                found = rank_classes(made(PointGroup(symbol, frame), number, noise, seed=seed)).best.group.symbol
                right += found == symbol
                wrong += [] if found == symbol else [f"{symbol} (seed {seed}) called {found}"]
        print(f"{number} states, noise {100 * noise:g} %: {right} of {right + len(wrong)} right; {'; '.join(wrong)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    if SHARED.is_dir():
        real()
    emt()
    random_laws()
