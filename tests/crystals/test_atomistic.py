"""Strained, relaxed crystals: known constants, energy against stress, plans, processes."""

import numpy as np
import pytest
from ase.build import bulk

from crystals import mandel
from crystals.atomistic import (
    StrainedCrystal,
    calculator_factory,
    plan_strains,
    relax_cell,
    smallest_acoustic_eigenvalue,
    strained_states,
)
from crystals.groups import PointGroup
from crystals.structures import standard_primitive

EMT = calculator_factory("emt")


@pytest.fixture(scope="module")
def copper():
    return StrainedCrystal(relax_cell(standard_primitive(bulk("Cu")), EMT), EMT)


@pytest.fixture(scope="module")
def hexagonal():
    return StrainedCrystal(relax_cell(standard_primitive(bulk("Cu", "hcp", a=2.55, c=4.16)), EMT), EMT)


def test_constants_of_copper(copper):
    """C11, C12, C44 of EMT copper, GPa."""
    voigt = mandel.stiffness_to_voigt(copper.tangent(np.zeros(6)))
    np.testing.assert_allclose(voigt[[0, 0, 3], [0, 1, 3]], [172.6, 115.4, 89.9], atol=0.1)
    symmetric = mandel.stiffness_from_voigt(voigt)
    np.testing.assert_allclose(symmetric[:3, 3:], 0, atol=1e-3)
    assert copper.evaluate(np.zeros(6))[0] == 0.0
    assert np.abs(copper.stress(np.zeros(6))).max() < 1e-3


def test_relaxed_ions_matter(hexagonal):
    """hcp copper: C11, C33, C12, C13, C44 with relaxed atoms; clamped atoms are stiffer in the basal plane."""
    rows, columns = [0, 2, 0, 0, 3], [0, 2, 1, 2, 3]
    relaxed = mandel.stiffness_to_voigt(hexagonal.tangent(np.zeros(6)))
    np.testing.assert_allclose(relaxed[rows, columns], [216.3, 254.0, 112.0, 74.8, 49.3], atol=0.2)
    assert relaxed[5, 5] == pytest.approx((relaxed[0, 0] - relaxed[0, 1]) / 2, abs=0.1)

    reference, step = hexagonal.reference, 1e-4
    columns_clamped = []
    for unit in np.eye(6):
        stresses = []
        for sign in (1, -1):
            atoms = reference.copy()
            gradient = mandel.right_stretch(sign * step * unit)
            atoms.set_cell(reference.cell.array @ gradient.T, scale_atoms=True)
            atoms.calc = EMT()
            cauchy = mandel.stress_from_voigt(atoms.get_stress() * 160.2176634)
            stresses.append(mandel.second_piola(cauchy, gradient))
        columns_clamped.append((stresses[0] - stresses[1]) / (2 * step))
    clamped = mandel.stiffness_to_voigt(np.array(columns_clamped).T)
    assert clamped[0, 0] - relaxed[0, 0] > 2.0
    # relaxing never stiffens: the difference is positive semi-definite
    difference = mandel.stiffness_from_voigt(clamped - relaxed)
    assert np.linalg.eigvalsh(0.5 * (difference + difference.T)).min() > -0.05


@pytest.mark.parametrize("name", ["copper", "hexagonal"])
def test_stress_is_the_derivative_of_energy(name, request):
    """∂W/∂E = S at a general strain with det F ≠ 1, against central differences of the energy."""
    crystal = request.getfixturevalue(name)
    strain = np.array([0.04, -0.01, 0.03, 0.02, -0.03, 0.015])
    assert abs(np.linalg.det(mandel.right_stretch(strain)) - 1) > 0.05
    step = 2e-4
    slope = [
        (crystal.evaluate(strain + step * unit)[0] - crystal.evaluate(strain - step * unit)[0]) / (2 * step)
        for unit in np.eye(6)
    ]
    stress = crystal.stress(strain)
    assert np.linalg.norm(np.array(slope) - stress) < 1e-5 * np.linalg.norm(stress)
    # Negative control: Cauchy stress is not that derivative.
    cauchy = crystal.evaluate(strain)[1]
    assert np.linalg.norm(np.array(slope) - cauchy) > 0.02 * np.linalg.norm(stress)


def test_relax_cell_keeps_symmetry_and_axes():
    start = standard_primitive(bulk("Cu", "hcp", a=2.7, c=4.2))
    relaxed = relax_cell(start, EMT)
    assert relaxed.calc is None
    assert PointGroup.from_structure(relaxed) == PointGroup("6/mmm")
    stretch = np.linalg.solve(start.cell.array, relaxed.cell.array).T
    np.testing.assert_allclose(stretch, stretch.T, atol=1e-12)
    relaxed.calc = EMT()
    assert np.abs(relaxed.get_stress()).max() * 160.2 < 0.01


def test_plan_of_strains():
    plan = plan_strains(200, 0.08, seed=3)
    sizes = np.linalg.norm(plan, axis=1)
    assert plan.shape == (200, 6) and sizes.max() <= 0.08 and sizes.max() > 0.075
    # all six components, both signs, small strains too
    assert np.all(plan.max(axis=0) > 0.04) and np.all(plan.min(axis=0) < -0.04)
    assert np.linalg.cond(plan.T @ plan) < 2.0
    assert 10 < np.sum(sizes < 0.025) < 40
    np.testing.assert_array_equal(plan, plan_strains(200, 0.08, seed=3))
    assert not np.allclose(plan, plan_strains(200, 0.08, seed=4))
    assert plan_strains(1, 0.01).shape == (1, 6)
    for number, radius in ((0, 0.08), (5, 0.0), (5, 0.5), (5, -0.1), (5, np.nan)):
        with pytest.raises(ValueError, match="plan_strains: expected at least 1 state and 0 < max_strain < 0.5"):
            plan_strains(number, radius)


def test_states_do_not_depend_on_the_number_of_processes():
    arguments = {"number": 6, "max_strain": 0.06, "seed": 1, "progress": False}
    one = strained_states(bulk("Cu", "hcp", a=2.55, c=4.16), workers=1, **arguments)
    two = strained_states(bulk("Cu", "hcp", a=2.55, c=4.16), workers=2, **arguments)
    names = ("strain", "stress", "energy", "cauchy", "cell", "deformation_gradient", "max_force", "acoustic", "flags")
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.kind == "relaxed-ion" and one.units == "GPa" and one.group == PointGroup("6/mmm")
    assert one.max_force is not None and one.max_force.max() <= 1e-5
    np.testing.assert_allclose(one.strain, plan_strains(6, 0.06, 1, one.group))
    np.testing.assert_allclose(mandel.green_lagrange(one.deformation_gradient), one.strain, atol=1e-14)
    np.testing.assert_allclose(mandel.second_piola(one.cauchy, one.deformation_gradient), one.stress, atol=1e-12)
    assert one.provenance["calculator"] == "emt" and one.provenance["seed"] == 1


def test_calculators_that_do_not_exist():
    for name in ("nosuchpackage:Calculator", "ase.calculators.emt:NoSuch", "nonsense", ""):
        with pytest.raises(ValueError, match="calculator: expected 'emt' or the import path of an ASE calculator"):
            calculator_factory(name)
    with pytest.raises(ValueError, match="calculator: expected something to call"):
        calculator_factory("ase.calculators.emt:parameters")
    with pytest.raises(ValueError, match="calculator: expected arguments as 'module:Name"):
        calculator_factory("ase.calculators.lj:LennardJones(1.0)")
    with pytest.raises(ValueError, match="calculator: expected 'lammps:FILE' with a potential file that ends in"):
        calculator_factory("lammps:Si.wrong", ["Si"])
    with pytest.raises(ValueError, match=r"elements that EMT has \(Ag, Al, .*got Na\. Name another"):
        calculator_factory("emt", ["Na", "Cu"])
    assert calculator_factory("emt", ["Cu"]) is EMT
    assert calculator_factory("ase.calculators.emt.EMT") is EMT
    made = calculator_factory("ase.calculators.lj:LennardJones(sigma=2.5, epsilon=0.1)")()
    assert made.parameters.sigma == 2.5 and made.parameters.epsilon == 0.1


def test_smallest_acoustic_eigenvalue_of_copper(copper):
    """At zero strain: (C11 − C12)/2, of the shear wave along [110] polarised along [1 −1 0]."""
    voigt = mandel.stiffness_to_voigt(copper.tangent(np.zeros(6)))
    c11, c12, c44 = voigt[0, 0], voigt[0, 1], voigt[3, 3]
    along = {
        "100": [c11, c44],
        "110": [(c11 + c12 + 2 * c44) / 2, c44, (c11 - c12) / 2],
        "111": [(c11 + 2 * c12 + 4 * c44) / 3, (c11 - c12 + c44) / 3],
    }
    expected = min(value for values in along.values() for value in values)
    assert expected == (c11 - c12) / 2
    found = smallest_acoustic_eigenvalue(copper.tangent(np.zeros(6)), copper.stress(np.zeros(6)), np.eye(3))
    assert float(found) == pytest.approx(expected, abs=2e-3)
