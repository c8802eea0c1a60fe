"""Elastic constants from strained states: ten EMT crystals of seven systems against finite differences of the stress."""

from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from emt_crystals import CRYSTALS
from third_order_copper import third_by_differences

from constitutive.fitting.elastic_table import _constants, elastic_table
from constitutive.fitting.least_squares import PolynomialFit
from constitutive.laws.polynomial import PolynomialLaw
from constitutive.laws.symmetric import SymmetricLaw
from crystals import mandel
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell
from crystals.dataset import StrainData
from crystals.elastic_constants import elastic_constants
from crystals.groups import PointGroup
from crystals.invariants import invariant_count
from crystals.structures import standard_primitive

EMT = calculator_factory("emt")
TRICLINIC = bulk("Cu", "fcc", a=3.8) * (2, 2, 2)
TRICLINIC.symbols = ["Pd", "Au", "Pd", "Cu", "Au", "Au", "Au", "Cu"]
AUCU3 = Atoms(
    "AuCu3", scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], cell=[3.75] * 3, pbc=True
)
#: crystal, system, number of states, known constants (GPa)
TEN = {
    "Cu fcc": (CRYSTALS["Cu fcc"][0], "cubic", 40, {"C11": 172.6, "C12": 115.4, "C44": 89.9}),
    "Ni fcc": (lambda: bulk("Ni"), "cubic", 40, {}),
    "AuCu3": (lambda: AUCU3, "cubic", 40, {}),
    "Cu hcp": (
        CRYSTALS["Cu hcp"][0], "hexagonal", 60,
        {"C11": 216.3, "C33": 254.0, "C12": 112.0, "C13": 74.8, "C44": 49.3},
    ),
    "Ag hcp": (lambda: bulk("Ag", "hcp", a=2.9, c=4.7), "hexagonal", 60, {}),
    "CuPt L1_1": (CRYSTALS["CuPt L1_1"][0], "trigonal", 60, {}),
    "CuAu L1_0": (
        CRYSTALS["CuAu L1_0"][0], "tetragonal", 60,
        {"C11": 216.2, "C33": 153.4, "C12": 121.1, "C13": 142.4, "C44": 76.3, "C66": 38.8},
    ),
    "Ni2Pt": (CRYSTALS["Ni2Pt"][0], "orthorhombic", 60, {"C11": 350.1, "C22": 217.3, "C33": 326.0}),
    "Pd4Au (113)": (CRYSTALS["Pd4Au (113)"][0], "monoclinic", 60, {}),
    "Cu2Pd2Au4": (lambda: TRICLINIC, "triclinic", 80, {}),
}  # fmt: skip


@cache
def crystal_of(name: str) -> StrainedCrystal:
    return StrainedCrystal(relax_cell(standard_primitive(TEN[name][0]()), EMT), EMT)


def states_of(name: str, number: int, radius: float = 0.02) -> StrainData:
    crystal = crystal_of(name)
    group = PointGroup.from_structure(crystal.reference)
    strain = plan_strains(number, radius, 0, group)
    energy, cauchy = (np.array(part) for part in list(zip(*(crystal.evaluate(one) for one in strain), strict=True))[:2])
    gradient = mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=mandel.second_piola(cauchy, gradient), energy=energy, deformation_gradient=gradient,
        cauchy=cauchy, group=group, kind="relaxed-ion",
        provenance={"stiffness": crystal.tangent(np.zeros(6)).tolist()},
    )  # fmt: skip


@pytest.mark.parametrize("name", TEN)
def test_second_order_of_ten_crystals(name):
    """Fit and differences agree within 0.05 GPa and three standard errors, which are below 0.5 %; all are Born stable."""
    _, system, number, known = TEN[name]
    data = states_of(name, number)
    assert data.group is not None and data.group.system == system
    table = elastic_table(data, order=2)
    given = np.array(data.provenance["stiffness"])
    assert table.differences is not None
    assert len(table.constants[2]) == invariant_count(data.group.laue.symbol, 2)
    for constant, (value, error) in table.constants[2].items():
        # differences with a step of 1e-4 carry 0.02 GPa of their own
        assert abs(value - table.differences[constant]) < 0.05 + 3 * error
        assert error < 0.005 * given.max()
    for constant, value in known.items():
        assert table.constants[2][constant][0] == pytest.approx(value, abs=0.2)
    assert table.stable and table.averages["bulk_reuss"] <= table.averages["bulk_voigt"] + 1e-9
    assert np.linalg.norm(table.stiffness - given) < 0.003 * np.linalg.norm(given)
    assert abs(table.residual) < 0.02


def test_ten_crystals_of_seven_systems():
    assert len(TEN) == 10 and len({system for _, system, _, _ in TEN.values()}) == 7


@pytest.mark.parametrize("name", ["Cu fcc", "CuAu L1_0"])
def test_third_order_against_differences(name):
    """Each constant lies within three standard errors, and these are a few per cent of the largest constant."""
    crystal = crystal_of(name)
    group = PointGroup.from_structure(crystal.reference)
    coarse, fine = third_by_differences(crystal, 4e-3), third_by_differences(crystal, 2e-3)
    expected = elastic_constants((4 * fine - coarse) / 3, group, order=3)
    found = elastic_table(states_of(name, 80), order=3).constants[3]
    largest = max(abs(value) for value in expected.values())
    for constant, value in expected.items():
        assert abs(found[constant][0] - value) < 3 * found[constant][1] + 0.005 * largest, constant
        assert found[constant][1] < 0.05 * largest


def law_and_data(noise: float = 0.0, shift: float = 0.0) -> tuple[PolynomialLaw, StrainData]:
    """A known cubic law of fourth order, and its states counted from a cell stretched by `shift`."""
    group = PointGroup("m-3m")
    stiffness = mandel.stiffness_from_voigt(
        np.array([[170.0, 120, 120, 0, 0, 0], [120, 170, 120, 0, 0, 0], [120, 120, 170, 0, 0, 0],
                  [0, 0, 0, 75, 0, 0], [0, 0, 0, 0, 75, 0], [0, 0, 0, 0, 0, 75]])
    )  # fmt: skip
    count = len(PolynomialLaw(group, 4, stiffness).coefficients)
    coefficients = np.random.default_rng(1).normal(size=count) * np.array([300.0] * 6 + [2000.0] * (count - 6))
    law = PolynomialLaw(group, 4, stiffness, coefficients)
    strain = plan_strains(150, 0.05, 0, group)
    energy, stress = law.response(strain, tangent=False)[:2]
    stress = np.asarray(stress) + noise * np.random.default_rng(2).normal(size=(150, 6))
    gradient = mandel.right_stretch(strain)
    cauchy = mandel.to_mandel(
        gradient @ mandel.from_mandel(stress) @ np.swapaxes(gradient, 1, 2) / np.linalg.det(gradient)[:, None, None]
    )
    data = StrainData(
        strain=strain,
        stress=stress,
        energy=np.asarray(energy),
        deformation_gradient=gradient,
        cauchy=cauchy,
        group=group,
    )
    return law, data.referred_to((1 + shift) * np.eye(3)) if shift else data


def test_all_orders_of_a_known_law():
    """Orders 2 to 4 exactly from data without noise; counted from the stress-free cell where the file's is another."""
    law, data = law_and_data()
    table = elastic_table(data, order=4)
    for order in (2, 3, 4):
        exact = law.elastic_constants(order)
        for name, (value, error) in table.constants[order].items():
            assert value == pytest.approx(exact[name], rel=1e-6, abs=1e-4) and error < 1e-3 * max(abs(value), 1.0)
    moved = elastic_table(law_and_data(shift=0.01)[1], order=3)
    squeezed = np.array([[1, 1, 1, 0, 0, 0]]) * 0.5 * (1.01**-2 - 1)
    pressure = -1.01 * np.asarray(law.stress_and_tangent(squeezed)[0])[0, 0]
    assert pressure > 3.0 and moved.residual == pytest.approx(pressure, rel=1e-4)
    for name, (value, _) in moved.constants[2].items():
        assert value == pytest.approx(law.elastic_constants(2)[name], rel=1e-5)
    # control: without the way back to the stress-free cell C11 would be off by several per cent
    raw = np.asarray(law.stress_and_tangent(np.array([[0.01, 0.01, 0.01, 0, 0, 0]]))[1])[0, 0, 0]
    assert abs(raw / law.elastic_constants(2)["C11"] - 1) > 0.005


def test_claimed_errors_hold_with_noise():
    """With noise of known size about two of three constants lie within one standard error, nearly all within three."""
    law, data = law_and_data(noise=0.05)
    table = elastic_table(data, order=3)
    exact = law.elastic_constants(2) | law.elastic_constants(3)
    off = [
        abs(value - exact[name]) / error for order in (2, 3) for name, (value, error) in table.constants[order].items()
    ]
    assert max(off) < 3.5 and 0.3 < float(np.median(off)) + 0.3 and np.mean(np.array(off) < 1.0) > 0.4
    assert table.constants[2]["C11"][1] > 0.01


def test_constants_of_a_law_that_is_no_polynomial():
    """Over a wide range the errors are those of a series cut off: stated, and less than half of what they are without weights."""
    group = PointGroup("m-3m")
    known = law_and_data()[0]
    law = SymmetricLaw("m-3m", 3, network="none", measure=-1.0, stiffness=known.stiffness(), energy_scale=100.0)
    law.coefficients.data.copy_(torch.linspace(-3.0, 3.0, len(law.coefficients), dtype=torch.float64))
    law.refresh()
    strain = plan_strains(200, 0.15, 0, group)
    answer, gradient = law.response(strain), mandel.right_stretch(strain)
    data = StrainData(
        strain, answer.stress, answer.energy, gradient, mandel.cauchy_stress(answer.stress, gradient), group
    )
    exact, table = law.elastic_constants(3), elastic_table(data)
    largest = max(map(abs, exact.values()))
    plain = _constants(PolynomialFit(data, table.degree), "m-3m", 3)
    missed = [abs(value - exact[name]) for name, (value, _) in table.constants[3].items()]
    for name, (value, error) in table.constants[3].items():
        assert abs(value - exact[name]) < 3 * error < 0.1 * largest, name
    assert max(missed) < max(abs(plain - np.array(list(exact.values())))) / 2


def test_what_is_refused():
    law, data = law_and_data()
    with pytest.raises(ValueError, match="elastic_table: expected an order of 2, 3 or 4, got 5"):
        elastic_table(data, 5)
    with pytest.raises(ValueError, match="elastic_table: expected at least .* states for order 4 of m-3m, got 4"):
        elastic_table(data.take(range(4)), 4)


def test_unstable_crystals_are_said_to_be():
    """bcc copper (EMT): C11 < C12, so no averages are given."""
    crystal = StrainedCrystal(relax_cell(standard_primitive(bulk("Cu", "bcc", a=2.86)), EMT), EMT)
    group = PointGroup.from_structure(crystal.reference)
    strain = plan_strains(40, 0.01, 0, group)
    states = [crystal.evaluate(one) for one in strain]
    gradient, cauchy = mandel.right_stretch(strain), np.array([one[1] for one in states])
    table = elastic_table(
        StrainData(
            strain=strain, stress=mandel.second_piola(cauchy, gradient), energy=np.array([one[0] for one in states]),
            deformation_gradient=gradient, cauchy=cauchy, group=group,
        ),
        2,
    )  # fmt: skip
    assert not table.stable and np.isnan(table.averages["bulk_hill"])
    assert table.constants[2]["C11"][0] < table.constants[2]["C12"][0] and "Born stability: NO" in str(table)
