"""Ordered, random and defective alloys of seven metals with their EMT stiffness and stress: data for structure → law.

    python tests/benchmarks/emt_structures.py      # about 280 crystals → out/emt_structures/crystals.jsonl

Every crystal is relaxed, cell and atoms. It gets its relaxed-ion stiffness by differences of the stress, and the stress
at strains spread over the ball |E| ≤ 0.045. Left out: those whose stiffness has an eigenvalue below 5 GPa, and those
whose bonds changed on relaxing (they are another crystal).
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from emt_crystals import stacked

from crystals import mandel
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell
from crystals.groups import PointGroup
from crystals.structures import standard_primitive
from crystals.transformation import Bonds

FOLDER = Path(__file__).resolve().parents[2] / "out" / "emt_structures"
EDGE = {"Al": 4.00, "Ni": 3.49, "Cu": 3.59, "Pd": 3.88, "Ag": 4.06, "Pt": 3.92, "Au": 4.05}
METALS = tuple(EDGE)
#: Pairs of metals that training never sees together.
HELD_PAIRS = (("Cu", "Au"), ("Al", "Ni"), ("Pd", "Ag"), ("Cu", "Pt"))
STATES, RADIUS = 24, 0.045


def edge(symbols: list[str]) -> float:
    return float(np.mean([EDGE[symbol] for symbol in symbols]))


def crystals() -> Iterator[tuple[str, str, Atoms]]:
    """Prototype, name, structure."""
    for metal in METALS:
        yield "fcc", metal, bulk(metal, "fcc", a=EDGE[metal])
        yield "hcp", metal, bulk(metal, "hcp", a=EDGE[metal] / 2**0.5, c=EDGE[metal] / 2**0.5 * 1.633)
    for a, b in itertools.permutations(METALS, 2):
        if a < b:
            symbols = (a, b)
            yield "L1_0", a + b, stacked(symbols, (1, 1, 0), [[1, -1, 0], [0, 0, 1], [1, 1, 0]], edge([a, b]))
            yield "L1_1", a + b, stacked(symbols, (1, 1, 1), [[1, -1, 0], [0, 1, -1], [0, 1, 1]], edge([a, b]))
        cubic = bulk("Cu", "fcc", a=edge([a, b, b, b]), cubic=True)
        cubic.symbols = [a, b, b, b]
        yield "L1_2", f"{a}{b}3", cubic
        yield "MoPt_2", f"{a}{b}2", stacked((a, b, b), (1, 1, 2), [[1, -1, 0], [1, 0, 1], [0, 0, 3]], edge([a, b, b]))
    rng = np.random.default_rng(0)
    for place in range(90):
        count = int(rng.integers(3, 9))
        while True:
            matrix = rng.integers(-1, 3, size=(3, 3))
            if round(np.linalg.det(matrix)) == count:
                break
        chosen = list(rng.choice(METALS, size=int(rng.integers(2, 4)), replace=False))
        symbols = list(rng.choice(chosen, size=count))
        atoms = make_supercell(bulk("Cu", "fcc", a=edge(symbols)), matrix)
        atoms.symbols = symbols
        yield "random", f"random {place} {atoms.get_chemical_formula()}", atoms
    for metal in METALS:
        cell = bulk(metal, "fcc", a=EDGE[metal]) * (2, 2, 2)
        vacancy = cell.copy()
        del vacancy[0]
        yield "vacancy", f"{metal}7", vacancy
        for other in METALS:
            if other != metal:
                solute = cell.copy()
                solute.symbols[0] = other
                yield "solute", f"{metal}7{other}", solute


def split(prototype: str, atoms: Atoms) -> str:
    """'prototype' and 'composition' are held out; the rest is for training."""
    if prototype == "MoPt_2":
        return "prototype"
    symbols = set(atoms.get_chemical_symbols())
    return "composition" if any(set(pair) <= symbols for pair in HELD_PAIRS) else "train"


def computed(prototype: str, name: str, atoms: Atoms) -> dict:
    factory = calculator_factory("emt")
    start = standard_primitive(atoms)
    reference = relax_cell(start, factory)
    stretch = np.linalg.solve(start.cell.array, reference.cell.array).T
    bonds = Bonds(start)
    if bonds.changed(start.positions @ stretch.T, reference.positions, stretch):
        return {"left_out": "bonds changed on relaxing"}
    crystal = StrainedCrystal(reference, factory)
    stiffness = crystal.tangent(np.zeros(6))
    if np.linalg.eigvalsh(stiffness)[0] < 5.0:
        return {"left_out": "unstable"}
    group = PointGroup.from_structure(reference)
    seed = sum(map(ord, prototype + name))
    strains = plan_strains(STATES, RADIUS, seed, group)
    return {
        "prototype": prototype, "name": name, "split": split(prototype, atoms), "group": group.symbol,
        "cell": reference.cell.array.tolist(), "positions": reference.positions.tolist(),
        "numbers": reference.numbers.tolist(), "stiffness": stiffness.tolist(), "strains": strains.tolist(),
        "stresses": [crystal.stress(strain).tolist() for strain in strains],
        "rattled": float(np.linalg.norm(mandel.green_lagrange(stretch))),
    }  # fmt: skip


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "crystals.jsonl"
    done = {json.loads(line)["key"] for line in path.read_text().splitlines()} if path.is_file() else set()
    with open(path, "a") as file:
        for kind, title, structure in crystals():
            key = f"{kind} {title}"
            if key in done:
                continue
            try:
                found = computed(kind, title, structure)
            except Exception as error:
                found = {"left_out": f"{type(error).__name__}: {error}"}
            file.write(json.dumps({"key": key, **found}) + "\n")
            file.flush()
            print(key, found.get("group", found.get("left_out")), flush=True)
    sys.exit(0)
