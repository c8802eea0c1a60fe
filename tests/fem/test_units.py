"""Units in words, and laws whose units differ."""

from __future__ import annotations

import numpy as np
import pytest
import ufl
from dolfinx import fem as dfem
from dolfinx import mesh

from fem import EquilibriumProblem, QuadratureMaterial
from fem.units import described_units

PASCAL = {"Pa": 1.0, "kPa": 1e3, "MPa": 1e6, "GPa": 1e9}
METRE = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10}
PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}


def worth(text, unit):
    """'100 mN' in newtons."""
    *number, name = text.split()
    return (float(number[0]) if number else 1.0) * PREFIX[name.removesuffix(unit)]


@pytest.mark.parametrize("stress", PASCAL)
@pytest.mark.parametrize("length", METRE)
def test_every_unit_is_worth_what_it_says(stress, length):
    text = described_units(stress, length)
    force = text.split("forces in ")[1].split(" (")[0]
    energy = text.split("energies in ")[1].split(", tractions")[0]
    assert worth(force, "N") == pytest.approx(PASCAL[stress] * METRE[length] ** 2, rel=1e-9)
    assert worth(energy, "J") == pytest.approx(PASCAL[stress] * METRE[length] ** 3, rel=1e-9)
    assert text.endswith(f"body forces in {force}/{length}³.")
    small, number = text.split("(1 ")[1].split(")")[0].split(" is ")
    assert float(number) * PASCAL[stress] == pytest.approx(PASCAL[small])


def test_problem_says_its_units(cube, cubic_law):
    u, left, _ = cube(shape=(2, 1, 1))
    domain, v = u.function_space.mesh, ufl.TestFunction(u.function_space)
    law = cubic_law()
    material = QuadratureMaterial(law, u)
    bcs = [dfem.dirichletbc(np.zeros(3), left, u.function_space)]
    problem = EquilibriumProblem(material.virtual_work(v), u, [material], bcs=bcs)
    assert problem.units("mm").startswith("Mesh in mm, law in GPa: forces in kN (GPa·mm²), energies in J, ")
    assert "(1 MPa is 0.001)" in problem.units("mm")
    with pytest.raises(ValueError, match="unit of length among m, cm, mm, .* got 'inch'"):
        problem.units("inch")
    tags = mesh.meshtags(domain, 3, np.arange(2, dtype=np.int32), np.array([1, 2], dtype=np.int32))
    other = cubic_law()
    other.units = "MPa"
    parts = [QuadratureMaterial(one, u, subdomain=(tags, k + 1)) for k, one in enumerate((law, other))]
    with pytest.raises(ValueError, match="laws in one unit, got GPa and MPa"):
        EquilibriumProblem(sum(part.virtual_work(v) for part in parts), u, parts, bcs=bcs)
