"""Fitting recovers laws it can represent, finds the stress-free cell, keeps orbits together and questions its data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from constitutive import PolynomialLaw, cross_validate, fit
from constitutive.fitting.consistency import question
from constitutive.fitting.least_squares import Choice, Reference
from constitutive.fitting.selection import orbit_folds, undetermined_constants
from constitutive.laws.law import OUT_OF_RANGE
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import PointGroup, StrainData, mandel
from crystals.atomistic import plan_strains
from crystals.elastic_constants import elastic_constants
from crystals.rotations import mandel_rotation, random_rotations

CUBIC = mandel.stiffness_from_voigt(
    np.block([[np.full((3, 3), 115.0) + 57.0 * np.eye(3), np.zeros((3, 3))], [np.zeros((3, 3)), 90.0 * np.eye(3)]])
)


def cubic_law(frame: np.ndarray | None = None) -> PolynomialLaw:
    """A cubic law with third- and fourth-order constants of the size that metals have."""
    group = PointGroup("m-3m", frame)
    generator = np.random.default_rng(7)
    degrees = higher_order_polynomials(group, 4).degrees
    coefficients = generator.normal(size=len(degrees)) * np.where(degrees == 3, 200.0, 400.0)
    turn = np.eye(6) if frame is None else mandel_rotation(frame)
    return PolynomialLaw(group, 4, turn @ CUBIC @ turn.T, coefficients)


def made(law: PolynomialLaw, number: int = 80, stretch: float = 1.0, noise: float = 0.0, seed: int = 1) -> StrainData:
    """States of a law whose file's cell is `stretch` times smaller than its stress-free cell in each direction."""
    generator = np.random.default_rng(seed)
    reference = Reference(stretch * np.eye(3), 0.0)
    strain = plan_strains(number, 0.06, seed)
    answer = law.response(reference.to_law(strain), tangent=False)
    stress = reference.from_law(answer.stress)
    stress = stress + noise * np.sqrt(np.mean(stress**2)) * generator.normal(size=stress.shape)
    gradient = mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=stress, energy=stretch**3 * answer.energy, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(stress, gradient), group=law.group, kind="relaxed-ion",
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    return fit(made(cubic_law(), noise=1e-3), progress=False)


def test_a_law_of_fourth_order_is_recovered(fitted) -> None:
    law = cubic_law()
    assert fitted.metadata["fit"]["held_out_stress_error"] < 4e-3  # four times the noise
    for name, value in elastic_constants(fitted.stiffness(), fitted.group).items():
        assert abs(value / elastic_constants(law.stiffness(), law.group)[name] - 1) < 0.01
    assert fitted.metadata["kind"] == "relaxed-ion" and fitted.max_strain <= 0.0601


def test_same_seed_same_law_and_the_frame_of_the_data_is_kept() -> None:
    frame = random_rotations(1, np.random.default_rng(3))[0]
    data = made(cubic_law(frame), number=60)
    first, second = fit(data, order=4, progress=False), fit(data, order=4, progress=False)
    strain = plan_strains(20, 0.05, 9)
    assert np.array_equal(first.response(strain).stress, second.response(strain).stress)
    truth = cubic_law(frame).response(strain).stress
    assert np.linalg.norm(first.response(strain).stress - truth) / np.linalg.norm(truth) < 2e-3


@pytest.mark.parametrize("stretch", [0.99, 1.01])
def test_the_stress_free_cell_is_found(stretch: float) -> None:
    """The file's cell is under pressure; the law is counted from the cell that is not."""
    truth = cubic_law()
    data = made(truth, stretch=stretch)
    assert np.abs(truth.response(np.zeros((1, 6))).stress).max() == 0.0
    law = fit(data, order=4, progress=False)
    found = np.array(law.metadata["reference"]["stretch"])
    assert np.abs(found - stretch * np.eye(3)).max() < 2e-4
    assert np.sign(law.metadata["reference"]["pressure_at_file_cell"]) == np.sign(stretch - 1)
    assert np.all(law.response(np.zeros((1, 6))).stress == 0.0)
    strain = plan_strains(30, 0.04, 5)
    exact = truth.response(strain).stress
    assert np.linalg.norm(law.response(strain).stress - exact) / np.linalg.norm(exact) < 5e-3


def test_folds_keep_orbits_together() -> None:
    data = made(cubic_law(), number=30)
    turns = mandel_rotation(data.group.rotations[1:3])
    twins = replace(
        data, strain=np.concatenate([data.strain, *(data.strain @ t.T for t in turns)]),
        stress=np.tile(data.stress, (3, 1)), energy=np.tile(data.energy, 3),
        deformation_gradient=np.tile(data.deformation_gradient, (3, 1, 1)), cauchy=np.tile(data.cauchy, (3, 1)), names=[],
    )  # fmt: skip
    orbits = twins.orbits()
    assert len(np.unique(orbits)) == 30 and np.array_equal(orbits[:30], orbits[30:60])
    folds = orbit_folds(orbits, 5, seed=0)
    for orbit in np.unique(orbits):
        assert len(np.unique(folds[orbits == orbit])) == 1
    with pytest.raises(ValueError, match="symmetry-distinct states as folds"):
        orbit_folds(orbits[:3], 5, seed=0)


@pytest.mark.long
def test_cross_validation_prints_the_rivals_on_the_same_folds() -> None:
    result = cross_validate(made(cubic_law(), number=40, noise=1e-3), folds=4, progress=False)
    assert set(result.polynomials) == {2, 3, 4, 5, 6}
    assert result.polynomials[4] < 0.02 < result.polynomials[2]
    assert result.law < 2.0 * result.polynomials[4]
    assert "4-fold" in str(result) and "order 4" in str(result)


class TestQuestions:
    """Energies and stresses have to belong together."""

    data = made(cubic_law(), noise=1e-3)

    def test_consistent_data_use_both(self) -> None:
        answer = question(self.data, Choice(4, 1e-8))
        assert answer is not None and answer.use_energy and answer.relative < 0.01
        assert "mismatch" in str(answer) and "GPa" in str(answer) and "%" in str(answer)

    def test_shifted_energies_do_not_matter(self) -> None:
        answer = question(replace(self.data, energy=self.data.energy + 40.0), Choice(4, 1e-8))
        assert answer is not None and answer.use_energy

    def test_inconsistent_energies_are_left_out_and_it_is_said(self) -> None:
        spoilt = replace(self.data, energy=1.15 * self.data.energy)
        answer = question(spoilt, Choice(4, 1e-8))
        assert answer is not None and not answer.use_energy and "stress only" in str(answer)
        assert "check their unit" not in str(answer)
        law = fit(spoilt, order=4, network="none", progress=False)
        assert abs(elastic_constants(law.stiffness(), law.group)["C11"] / 172.0 - 1) < 0.01

    def test_energies_of_another_unit_are_said_to_be(self) -> None:
        answer = question(replace(self.data, energy=self.data.energy / 27.2114), Choice(4, 1e-8))
        assert answer is not None and not answer.use_energy
        assert "they are 0.0368 times what the stresses say: check their unit" in str(answer)

    @pytest.mark.parametrize(
        ("factor", "unit", "remedy"),
        [(-1.0, "GPa", "change the sign of the stress."), (10.0, "kbar", "pass --units kbar"),
         (-1e4, "bar", "change the sign of the stress and convert it from bar"), (1 / 160.2176634, "eV/A3", "--units eV/A3")],
    )  # fmt: skip
    def test_wrong_units_and_signs_are_named(self, factor: float, unit: str, remedy: str) -> None:
        wrong = replace(self.data, stress=factor * self.data.stress, cauchy=factor * self.data.cauchy)
        with pytest.raises(ValueError, match="belong to the energies") as caught:
            fit(wrong, progress=False)
        assert unit in str(caught.value) and remedy in str(caught.value)

    def test_data_without_energies_are_fitted_to_stress(self) -> None:
        law = fit(replace(self.data, energy=None), order=4, network="none", progress=False)
        assert law.metadata["fit"]["energies"] is None
        assert law.metadata["fit"]["held_out_stress_error"] < 4e-3


def test_four_states_of_a_cubic_crystal_are_enough() -> None:
    """Without what needs more: a network, a spread, a domain other than the largest strain."""
    data = made(cubic_law(), number=60)
    law = fit(data.take(slice(0, 4)), held_out=0.0, test=data.take(slice(4, None)), progress=False)
    assert law.metadata["fit"]["network"] == "none" and law.metadata["fit"]["order"] == 4
    assert law.metadata["fit"]["held_out_stress_error"] < 0.02
    assert "held_out_states" not in fit(data.take(slice(0, 4)), progress=False).metadata["fit"]  # all are needed
    assert law.domain is None and np.all(law.response(1.02 * law.max_strain * np.eye(6)).status == OUT_OF_RANGE)
    with pytest.raises(ValueError, match="8 symmetry-distinct states or more"):
        law.stress_std(data.strain)


def test_a_state_that_does_not_belong_is_named() -> None:
    """One state whose stress stands in another frame than its strain."""
    data = made(cubic_law(), number=60, noise=1e-3)
    stress = data.stress.copy()
    turn = mandel_rotation(random_rotations(1, np.random.default_rng(1))[0])
    stress[11] = turn @ stress[11]
    law = fit(replace(data, stress=stress), network="none", progress=False)
    assert law.metadata["fit"]["suspects"] == ["state 11"]
    assert fit(data, network="none", progress=False).metadata["fit"]["suspects"] == []


def test_states_of_mixed_units_are_refused() -> None:
    """Every second state in kbar, called GPa, without energies that would tell."""
    data = made(cubic_law(), number=40)
    mixed = replace(data, stress=data.stress * np.where(np.arange(40) % 2, 10.0, 1.0)[:, None], energy=None)
    with pytest.raises(ValueError, match=r"expected states that one law can follow.*units, signs and frames of single"):
        fit(mixed, network="none", progress=False)


def test_bad_data_get_a_sentence() -> None:
    data = made(cubic_law(), number=40)
    with pytest.raises(ValueError, match="expected data with a point group"):
        fit(replace(data, group=None), progress=False)
    with pytest.raises(ValueError, match="at least 4 symmetry-distinct states for m-3m, got 3"):
        fit(data.take(slice(0, 3)), progress=False)
    with pytest.raises(ValueError, match="at least 8 symmetry-distinct states for mmm"):
        fit(replace(data, group=PointGroup("mmm")).take(slice(0, 7)), progress=False)
    stretched = data.strain * np.array([1, 1, 1, 0, 0, 0])
    normal_only = replace(data, strain=stretched, deformation_gradient=mandel.right_stretch(stretched))
    assert undetermined_constants(normal_only) == ["C44"] and undetermined_constants(data) == []
    with pytest.raises(ValueError, match="none that feel C44"):
        fit(normal_only, progress=False)
    strain = data.stress.copy()
    strain[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 40 states"):
        replace(data, stress=strain)
