"""The thought experiment made real: what laws know of a crystal that was only ever stretched along x.

Stretches F = diag(λ, 1, 1) feel C11 and C12 of copper, not C44, and `fit` refuses them. The laws whose errors are
measured here are therefore fitted below that check: `PolynomialFit` takes the coefficients of least norm, and the
network's `Problem` starts from a C44 that is put there and that no state moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from emt_crystals import copper, copper_at
from rivals import Network

from constitutive import NeoHookeanLaw, SymmetricLaw, fit, predicted_stress
from constitutive.fitting.fit import stress_error, undetermined_constants
from constitutive.fitting.least_squares import PolynomialFit, Problem
from crystals import PointGroup, StrainData, mandel
from crystals.atomistic import StrainedCrystal
from crystals.rotations import mandel_rotation, random_rotations, rotation_to_direction

Stress = Callable[[np.ndarray], np.ndarray]
Train = Callable[[StrainData], Stress]
Copper = Callable[[np.ndarray], StrainData]

STRETCHES = np.concatenate([np.linspace(-0.06, -0.01, 6), np.linspace(0.01, 0.08, 8)])
X, Y, Z = np.eye(3)
FACE, BODY = np.array([0.0, 1.0, 1.0]), np.ones(3)
NEO_HOOKE = NeoHookeanLaw(45.0, 110.0)


def along(direction: np.ndarray) -> np.ndarray:
    """Strains (n, 6) of stretches along a direction, all else held."""
    unit = direction / np.linalg.norm(direction)
    return STRETCHES[:, None] * mandel.to_mandel(np.outer(unit, unit))


@pytest.fixture(scope="module")
def crystal() -> StrainedCrystal:
    return copper()


@pytest.fixture(scope="module")
def stretched(crystal: StrainedCrystal) -> Copper:
    """Copper stretched along a direction."""

    @cache
    def made(direction: tuple[float, ...]) -> StrainData:
        return copper_at(along(np.array(direction)), crystal)

    return lambda direction: made(tuple(direction))


@pytest.fixture(scope="module")
def size(crystal: StrainedCrystal) -> float:
    return float(np.linalg.norm(crystal.tangent(np.zeros(6))))


def together(first: StrainData, second: StrainData) -> StrainData:
    names = ("strain", "stress", "energy", "deformation_gradient", "cauchy")
    arrays = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return replace(first, names=[], **arrays)


def neo_hooke_stretched(direction: np.ndarray) -> StrainData:
    strain = along(direction)
    answer, gradient = NEO_HOOKE.response(strain, tangent=False), mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=answer.stress, energy=answer.energy, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(answer.stress, gradient), group=PointGroup("isotropic"),
    )  # fmt: skip


def polynomial(data: StrainData) -> Stress:
    return PolynomialFit(data, 4, prior=1e-7).stress


def network(data: StrainData) -> Stress:
    assert data.group is not None
    start = PolynomialFit(data, 4, prior=1e-7).stiffness()
    start[3:, 3:] += 2 * 40.0 * np.eye(3)
    law = SymmetricLaw(data.group, 4, (8, 8), stiffness=start, energy_scale=100.0, strain_scale=0.08)
    problem = Problem(law, data, use_energy=True, prior=1e-7)
    for alpha in (1e-4, 1e-6):
        problem.minimise(alpha, 15)
    problem.store()
    reference = problem.reference()
    return lambda strain: reference.from_law(law.response(reference.to_law(strain), tangent=False).stress)


def fitted(data: StrainData) -> Stress:
    law = fit(data, widths=(4,), held_out=0.0, progress=False)
    return lambda strain: predicted_stress(law, strain)


def plain(data: StrainData) -> Stress:
    rival = Network(data, (16,), seed=0)
    for _ in zip(range(40), rival.walk(), strict=False):
        pass
    return rival.stress


def difference(law: Stress, first: StrainData, second: StrainData, turn: np.ndarray, size: float) -> float:
    """Largest ‖R ΔS₁ − ΔS₂‖ / (‖C(0)‖ max(|E|, 1e-3)) of the errors ΔS along a direction and along its image."""
    turned = mandel_rotation(turn)
    assert np.allclose(first.strain @ turned.T, second.strain, atol=1e-14)
    wrong = (law(first.strain) - first.stress) @ turned.T - (law(second.strain) - second.stress)
    strain = np.maximum(np.linalg.norm(first.strain, axis=1), 1e-3)
    return float(np.max(np.linalg.norm(wrong, axis=1) / (size * strain)))


def error(law: Stress, data: StrainData) -> float:
    return stress_error(law(data.strain), data.stress)


def test_stretches_along_x_leave_c44_undetermined(stretched: Copper) -> None:
    along_x = stretched(X)
    assert undetermined_constants(along_x) == ["C44"]
    with pytest.raises(ValueError, match="none that feel C44"):
        fit(along_x, progress=False)
    # negative control: a diagonal of a face feels it
    assert undetermined_constants(together(along_x, stretched(FACE))) == []


@pytest.mark.parametrize("train", [polynomial, network])
def test_a_cubic_law_errs_along_y_and_z_as_along_x(train: Train, stretched: Copper, size: float) -> None:
    along_x = stretched(X)
    law = train(along_x)
    for axis in (Y, Z):
        assert difference(law, along_x, stretched(axis), rotation_to_direction(X, axis), size) <= 1e-12
    # the error that is equal is one: neither zero nor all of the stress
    assert 1e-6 < error(law, along_x) < 0.02


def test_a_tetragonal_law_knows_y_from_x_but_not_z(stretched: Copper, size: float) -> None:
    """Negative control: what the group lacks is not known."""
    along_x, along_y, along_z = stretched(X), stretched(Y), stretched(Z)
    law = polynomial(replace(along_x, group=PointGroup("4/mmm")))
    assert difference(law, along_x, along_y, rotation_to_direction(X, Y), size) <= 1e-12
    assert difference(law, along_x, along_z, rotation_to_direction(X, Z), size) > 0.1
    assert error(law, along_z) > 10 * error(law, along_x)


def test_an_isotropic_law_errs_in_every_direction_as_along_x() -> None:
    data = neo_hooke_stretched(X)
    law, size = fitted(data), float(np.linalg.norm(NEO_HOOKE.stiffness()))
    for turn in random_rotations(20, np.random.default_rng(0)):
        assert difference(law, data, neo_hooke_stretched(turn @ X), turn, size) <= 1e-12
    assert 1e-9 < error(law, data) < 0.01
    # negative control: fitted as cubic, the same states say nothing of [111]
    cubic = polynomial(replace(data, group=PointGroup("m-3m")))
    assert error(cubic, neo_hooke_stretched(BODY)) > 10 * error(cubic, data)


def test_a_plain_network_knows_only_x(stretched: Copper) -> None:
    law = plain(stretched(X))
    along_x = error(law, stretched(X))
    assert along_x < 0.02
    assert min(error(law, stretched(axis)) for axis in (Y, Z)) > 10 * along_x
    isotropic = plain(neo_hooke_stretched(X))
    along_x = error(isotropic, neo_hooke_stretched(X))
    turns = random_rotations(20, np.random.default_rng(0))
    elsewhere = [error(isotropic, neo_hooke_stretched(turn @ X)) for turn in turns if abs(turn[0, 0]) < 0.9]
    assert along_x < 0.02 and min(elsewhere) > 10 * along_x


@pytest.mark.parametrize("train", [polynomial, network])
def test_on_copper_an_isotropic_law_fails_off_the_axes(train: Train, stretched: Copper) -> None:
    isotropic = train(replace(stretched(X), group=PointGroup("isotropic")))
    assert error(isotropic, stretched(X)) < 0.02
    assert error(isotropic, stretched(FACE)) > 0.05 and error(isotropic, stretched(BODY)) > 0.05
    # negative control: a cubic law that has seen one direction more does not fail at the one it has not seen
    cubic = polynomial(together(stretched(X), stretched(FACE)))
    assert error(cubic, stretched(BODY)) < 0.05
