"""Strained crystals of six systems from ASE's EMT, for the accuracy benchmarks; cached under out/benchmarks.

    python tests/benchmarks/emt_crystals.py

Each crystal gives two plans of relaxed-ion states: `wide` (420 states, |E| ≤ 0.08) and `narrow` (300 states,
|E| ≤ 0.05). They take about ten minutes on two cores, once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from crystals import mandel
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell, strained_states
from crystals.dataset import StrainData
from crystals.groups import PointGroup
from crystals.structures import standard_primitive

FOLDER = Path(__file__).resolve().parents[2] / "out" / "benchmarks"
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])


def stacked(symbols: tuple[str, ...], planes: tuple[int, int, int], basis: list[list[int]], edge: float) -> Atoms:
    """An fcc crystal whose lattice planes (indices on the primitive vectors) carry the given elements in turn."""
    primitive = edge * FCC
    step = next(s for s in ([0, 0, 1], [0, 1, 0], [1, 0, 0]) if np.dot(s, planes) % len(symbols) == 1)
    places = [np.array(step) * k for k in range(len(symbols))]
    return Atoms(symbols, positions=[place @ primitive for place in places], cell=np.array(basis) @ primitive, pbc=True)


#: name → (crystal, Laue class that must be found)
CRYSTALS: dict[str, tuple[Callable[[], Atoms], str]] = {
    "Cu fcc": (lambda: bulk("Cu", "fcc", a=3.6), "m-3m"),
    "Cu hcp": (lambda: bulk("Cu", "hcp", a=2.54, c=4.15), "6/mmm"),
    "CuAu L1_0": (lambda: stacked(("Cu", "Au"), (1, 1, 0), [[1, -1, 0], [0, 0, 1], [1, 1, 0]], 3.85), "4/mmm"),
    "CuPt L1_1": (lambda: stacked(("Cu", "Pt"), (1, 1, 1), [[1, -1, 0], [0, 1, -1], [0, 1, 1]], 3.77), "-3m"),
    "Ni2Pt": (lambda: stacked(("Pt", "Ni", "Ni"), (1, 1, 2), [[1, -1, 0], [1, 0, 1], [0, 0, 3]], 3.65), "mmm"),
    "Pd4Au (113)": (
        lambda: stacked(("Au", "Pd", "Pd", "Pd", "Pd"), (2, 2, 1), [[1, -1, 0], [1, 0, -2], [0, 0, 5]], 3.95),
        "2/m",
    ),
}


#: Number of states, largest |E| and seed of the plans.
PLANS = {"wide": (420, 0.08, 0), "narrow": (300, 0.05, 1)}


def states(crystal: str | Path, plan: str, workers: int | None = None) -> StrainData:
    """The `wide` or `narrow` states of a crystal of `CRYSTALS` or of a structure file, from the cache or computed.

    Of a dataset (.h5) the wide states are all, the narrow ones those up to five eighths of the largest |E|.
    """
    if isinstance(crystal, Path) and crystal.suffix in (".h5", ".hdf5"):
        data = StrainData.read(crystal)
        sizes = np.linalg.norm(data.strain, axis=1)
        return data if plan == "wide" else data.take(sizes <= 0.625 * sizes.max())
    number, radius, seed = PLANS[plan]
    if isinstance(crystal, Path):
        stem = f"{crystal.stem}-{hashlib.sha256(crystal.read_bytes()).hexdigest()[:8]}"
    else:
        stem = crystal.replace(" ", "_").replace("(", "").replace(")", "")
    path = FOLDER / f"{stem}-{plan}.h5"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        made = strained_states(
            crystal if isinstance(crystal, Path) else CRYSTALS[crystal][0](),
            "emt", number=number, max_strain=radius, seed=seed, workers=workers or os.cpu_count() or 1,
        )  # fmt: skip
        made.write(path)
    data = StrainData.read(path)
    assert data.group is not None
    if not isinstance(crystal, Path):
        assert data.group.laue.symbol == CRYSTALS[crystal][1], (crystal, data.group)
    return data


def copper() -> StrainedCrystal:
    """Stress-free EMT copper in its standard frame, to be asked for energy and stress at any strain."""
    factory = calculator_factory("emt")
    return StrainedCrystal(relax_cell(standard_primitive(bulk("Cu", "fcc", a=3.6)), factory), factory)


def copper_at(strain: np.ndarray, crystal: StrainedCrystal | None = None) -> StrainData:
    """Energy and stress of EMT copper at strains (n, 6), without the acoustic eigenvalues that `states` spends most of
    its time on."""
    crystal = copper() if crystal is None else crystal
    energy, cauchy = zip(*(crystal.evaluate(one)[:2] for one in strain), strict=True)
    gradient = mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=mandel.second_piola(np.array(cauchy), gradient), energy=np.array(energy),
        deformation_gradient=gradient, cauchy=np.array(cauchy), group=PointGroup.from_structure(crystal.reference),
        kind="relaxed-ion", provenance={"stiffness": crystal.tangent(np.zeros(6)).tolist()},
    )  # fmt: skip


def fresh_copper(number: int, seed: int, max_strain: float = 0.08) -> StrainData:
    """States of EMT copper on another plan than `states("Cu fcc", "wide")`, whose seed is 0; from the cache or computed."""
    path = FOLDER / f"Cu_fcc-{number}-seed{seed}-{max_strain:g}.h5"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        copper_at(plan_strains(number, max_strain, seed)).write(path)
    return StrainData.read(path)


if __name__ == "__main__":
    for crystal in CRYSTALS:
        for chosen in ("wide", "narrow"):
            data = states(crystal, chosen)
            print(
                f"{crystal:<12} {chosen:<7} {data}  {data.provenance['non_elliptic_states']} not elliptic", flush=True
            )
