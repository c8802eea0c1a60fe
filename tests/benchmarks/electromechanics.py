"""Prints the table of constants of all groups, and the figures of the piezoelectric law.

PYTHONPATH=$PWD python tests/benchmarks/electromechanics.py > tests/benchmarks/results/electromechanics.txt
"""

from __future__ import annotations

import datetime
import platform

import numpy as np

from constitutive import PiezoelectricLaw, PolynomialLaw, first_piola_electromechanical
from crystals import (
    CURIE_GROUPS,
    POINT_GROUPS,
    PointGroup,
    d_from_e,
    e_from_d,
    invariant_part,
    mandel,
    piezoelectric_constants,
    piezoelectric_from_constants,
    stiffness_from_constants,
    tensor_count,
    tensor_space,
)
from crystals.rotations import mandel_rotation, random_rotations

COLUMNS = {
    "pyroelectric i": ("i", False), "dielectric (ij)": ("(ij)", False), "gyration (ij) axial": ("(ij)", True),
    "piezoelectric i(jk)": ("i(jk)", False), "Kleinman (ijk)": ("(ijk)", False), "elastic": ("((ij)(kl))", False),
    "photoelastic": ("(ij)(kl)", False), "flexoelectric i(jk)l": ("i(jk)l", False),
}  # fmt: skip


def table() -> None:
    print("numbers of constants: null space, = mean character in every entry")
    print(f"{'':6}" + "  ".join(COLUMNS))
    for symbol in POINT_GROUPS + CURIE_GROUPS:
        group = PointGroup(symbol)
        counts = [len(tensor_space(group, *kind)) for kind in COLUMNS.values()]
        assert counts == [tensor_count(group, *kind) for kind in COLUMNS.values()]
        print(f"{symbol:6}" + "  ".join(f"{n:>{len(name)}}" for n, name in zip(counts, COLUMNS, strict=True)))


def conversions() -> None:
    quartz, poled = PointGroup("32"), PointGroup("∞m")
    published = [
        ("quartz (Bechmann 1958)", quartz, dict(C11=86.74, C12=6.99, C13=11.91, C14=-17.91, C33=107.2, C44=57.94),
         dict(e11=0.171, e14=-0.0406), dict(d11=2.31, d14=0.727)),
        ("PZT-5H", poled, dict(C11=126, C12=79.5, C13=84.1, C33=117, C44=23.0), dict(e31=-6.5, e33=23.3, e15=17.0),
         dict(d31=-274, d33=593, d15=741)),
    ]  # fmt: skip
    for name, group, elastic, e, d in published:
        stiffness = stiffness_from_constants(group, elastic)
        to_e = piezoelectric_constants(e_from_d(piezoelectric_from_constants(group, d), stiffness), group)
        to_d = piezoelectric_constants(d_from_e(piezoelectric_from_constants(group, e), stiffness), group, "d")
        for given, found, unit in ((e, to_e, "C/m²"), (d, to_d, "pC/N")):
            row = ", ".join(f"{key} {found[key]:.5g} (published {given[key]})" for key in given)
            print(f"{name}: {row} {unit}")


def law(symbol: str, generator: np.random.Generator) -> PiezoelectricLaw:
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    root, space = generator.normal(size=(6, 6)), tensor_space(group, "i(jk)")
    e = mandel.to_mandel(np.tensordot(generator.normal(size=len(space)), space, axes=1))
    kappa = invariant_part(np.eye(3) + np.diag([0.3, 0.5, 0.9]), group, "(ij)")
    elastic = PolynomialLaw(group, 2, 60.0 * np.eye(6) + 10.0 * root @ root.T)
    return PiezoelectricLaw(elastic, piezoelectric=e, permittivity=kappa)


def figures() -> None:
    generator = np.random.default_rng(0)
    symmetry = stress = objectivity = 0.0
    control = np.inf
    for symbol in POINT_GROUPS + CURIE_GROUPS:
        if not tensor_count(PointGroup(symbol), "i(jk)"):
            continue
        one = law(symbol, generator)
        strain, field = 0.03 * generator.normal(size=(200, 6)), generator.normal(size=(200, 3))
        before = one.electromechanical(strain, field)
        coupled = np.max(np.abs(np.einsum("ni,ij,nj->n", field, one.piezoelectric.numpy(), strain)))
        for g in one.group.sample(12, generator):
            turn = mandel_rotation(g)
            after = one.electromechanical(strain @ turn.T, field @ g.T)
            symmetry = max(symmetry, np.max(np.abs(after.enthalpy - before.enthalpy)) / np.max(np.abs(before.enthalpy)))
            change = np.max(np.abs(after.stress - before.stress @ turn.T)) / np.max(np.abs(before.stress))
            stress = max(stress, change)
        inverted = one.electromechanical(strain, -field)
        control = min(control, np.max(np.abs(inverted.enthalpy - before.enthalpy)) / coupled)
        deformation = random_rotations(200, generator) @ (np.eye(3) + 0.05 * generator.normal(size=(200, 3, 3)))
        turns = random_rotations(200, generator)
        still = first_piola_electromechanical(one, deformation, field, tangent=False)
        moved = first_piola_electromechanical(
            one, turns @ deformation, np.einsum("nij,nj->ni", turns, field), tangent=False
        )
        change = np.max(np.abs(moved.stress - turns @ still.stress)) / np.max(np.abs(still.stress))
        objectivity = max(objectivity, change)
        change = np.max(np.abs(moved.displacement - still.displacement)) / np.max(np.abs(still.displacement))
        objectivity = max(objectivity, change)
    print(f"full group, 20 + 3 groups, 200 states: H {symmetry:.1e}, S {stress:.1e} (relative)")
    print(f"inversion, which no such group has, changes H by {control:.2f} of the coupling energy or more")
    print(f"objectivity: P(RF, Rf) = R P, D the same: {objectivity:.1e}")


if __name__ == "__main__":
    print(f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    table()
    conversions()
    figures()
