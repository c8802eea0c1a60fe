"""Small-strain laws in logarithmic strain: closed forms, derivatives, symmetry, and one plastic bar by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from constitutive import (
    INVALID,
    OK,
    LogarithmicStrainLaw,
    NeoHookeanLaw,
    PolynomialLaw,
    VonMisesLaw,
    constrained_response,
    load,
    save,
)
from constitutive.laws.logarithmic import LogarithmicStrain, _first, _second
from crystals import PointGroup, mandel
from crystals.rotations import mandel_rotation, rotation_about

STIFFNESS = np.diag([57.0] * 3 + [180.0] * 3)
STIFFNESS[:3, :3] += 115.0
COPPER = PolynomialLaw(PointGroup("m-3m"), 2, STIFFNESS, strain_measure="small")
PLASTIC = VonMisesLaw(200.0, 0.3, 0.4, isotropic=2.0, kinematic=1.0)


def stretches(kind, size=0.3):
    """Green–Lagrange strains (12, 6) with three, two or one different principal values, or nearly so."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(12):
        values = size * rng.uniform(-1, 1, 3)
        if kind != "different":
            values[1] = values[0] * (1 + (1e-7 if kind == "nearly equal" else 0.0)) + (0.05 if kind == "close" else 0.0)
        if kind == "all equal":
            values[:] = values[0]
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        found.append(mandel.to_mandel(axes @ np.diag(values) @ axes.T))
    return np.array(found)


KINDS = ["different", "close", "nearly equal", "two equal", "all equal"]


@pytest.mark.parametrize("kind", KINDS)
def test_strain_is_the_logarithm(kind):
    strain = stretches(kind)
    ours = mandel.from_mandel(LogarithmicStrain(torch.from_numpy(strain)).value.numpy())
    exact = [0.5 * scipy.linalg.logm(np.eye(3) + 2 * e) for e in mandel.from_mandel(strain)]
    np.testing.assert_allclose(ours, exact, atol=1e-13)
    # full relative accuracy where the strain is small
    small = mandel.from_mandel(LogarithmicStrain(torch.from_numpy(1e-9 * strain)).value.numpy())
    np.testing.assert_allclose(small, 1e-9 * mandel.from_mandel(strain), rtol=1e-8, atol=1e-18)


def test_divided_differences_where_numbers_meet():
    """Against the quotients in 50 digits, and the Taylor values where all meet; the naive quotient loses them."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    rng = np.random.default_rng(0)
    worst = naive = 0.0
    for spread in 10.0 ** np.arange(-9.0, 0.0):
        x, y, z = (1.7 + spread * rng.uniform(-1, 1, 3)).tolist()
        first = (mpmath.log(x) - mpmath.log(y)) / (mpmath.mpf(x) - y)
        second = 2 * (first - (mpmath.log(y) - mpmath.log(z)) / (mpmath.mpf(y) - z)) / (mpmath.mpf(x) - z)
        one = [torch.tensor(value, dtype=torch.float64) for value in (x, y, z)]
        assert abs(float(_first(*one[:2])) / float(first) - 1) < 4e-16
        worst = max(worst, abs(float(_second(*one)) / float(second) - 1))
        rough = 2 * ((np.log(x) - np.log(y)) / (x - y) - (np.log(y) - np.log(z)) / (y - z)) / (x - z)
        naive = max(naive, abs(rough / float(second) - 1))
    assert worst < 2e-14 and naive > 1e-3
    at = torch.tensor(1.7, dtype=torch.float64)
    assert float(_second(at, at, at)) == pytest.approx(-1 / 1.7**2, rel=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_hencky_by_hand(kind):
    """W = ½ ε·C ε, S and ∂S/∂E against automatic differentiation of a Taylor series of the logarithm."""
    law = LogarithmicStrainLaw(COPPER)
    strain = stretches(kind, 0.12)[::3]
    answer = law.response(strain)
    assert np.all(answer.status == OK)
    stiffness = torch.from_numpy(STIFFNESS)
    weights = torch.from_numpy(mandel.WEIGHTS)
    position = torch.from_numpy(mandel.POSITION)

    def energy(e):
        tensor = (e / weights)[position]
        series, power = torch.zeros(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
        for k in range(1, 60):
            power = power @ (2.0 * tensor)
            series = series + 0.5 * (-1.0) ** (k + 1) / k * power
        vector = series[torch.from_numpy(mandel.ROWS), torch.from_numpy(mandel.COLUMNS)] * weights
        return 0.5 * vector @ stiffness @ vector

    for k, e in enumerate(torch.from_numpy(strain)):
        assert answer.energy[k] == pytest.approx(float(energy(e)), rel=1e-12)
        gradient = torch.func.grad(energy)(e).numpy()
        np.testing.assert_allclose(answer.stress[k], gradient, atol=1e-12 * STIFFNESS.max())
        hessian = torch.func.hessian(energy)(e).numpy()
        np.testing.assert_allclose(mandel.unpack_upper(answer.tangent[k]), hessian, atol=1e-11 * STIFFNESS.max())
    # it is not the law without the logarithm
    assert np.abs(answer.stress - strain @ STIFFNESS).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_plastic_tangent_is_the_derivative(kind):
    law = LogarithmicStrainLaw(PLASTIC)
    state = law.response(0.5 * stretches("different")).state
    strain = stretches(kind)
    answer = law.response(strain, state=state)
    assert np.mean(answer.state[:, 6] > state[:, 6] + 1e-3) > 0.7
    step, difference = 1e-6, np.zeros((len(strain), 6, 6))
    for j in range(6):
        plus, minus = (law.response(strain + s * step * np.eye(6)[j], state=state).stress for s in (1, -1))
        difference[:, :, j] = (plus - minus) / (2 * step)
    matrix = mandel.unpack_upper(answer.tangent)
    assert np.abs(matrix - difference).max() < 1e-7 * 200.0
    inner = PLASTIC.response(LogarithmicStrain(torch.from_numpy(strain)).value.numpy(), state=state)
    assert np.abs(matrix - mandel.unpack_upper(inner.tangent)).max() > 1.0


def test_symmetry_of_the_crystal_is_kept():
    law, strain = LogarithmicStrainLaw(COPPER), stretches("different")
    plain = law.response(strain)

    def defect(rotation):
        turn = mandel_rotation(rotation)
        image = law.response(strain @ turn.T)
        return np.abs(image.stress - plain.stress @ turn.T).max() / STIFFNESS.max()

    assert max(defect(operation) for operation in PointGroup("m-3m").laue.operations) < 1e-13
    assert defect(rotation_about([0.3, 0.5, 0.8], 0.61)) > 1e-3


def test_bar_pulled_to_twice_its_length():
    """Uniaxial stress: true stress follows the small-strain curve over logarithmic strain, on the thinning section.

    τ = J σ = T holds where axes stay, so σ J = σ_y + k (ln λ − τ/E) at any stretch λ; the volume changes elastically.
    """
    young, poisson, sigma, k = 200.0, 0.3, 0.4, 2.0
    law = LogarithmicStrainLaw(VonMisesLaw(young, poisson, sigma, isotropic=k))
    given = np.array([False] + [True] * 5)
    state = None
    for stretch in np.linspace(1.05, 2.0, 20):
        target = np.zeros((1, 6))
        target[0, 0] = 0.5 * (stretch**2 - 1)
        point = constrained_response(law, target, 0.0, stress_given=given, state=state)
        assert np.all(point.converged)
        state = point.state
        stretched = np.sqrt(1 + 2 * point.strain[0, :3])
        kirchhoff = point.stress[0, 0] * stretched[0] ** 2
        flow = sigma + k * point.state[0, 6]
        # the driver leaves stresses of 1e-11 of stiffness times strain across
        assert kirchhoff == pytest.approx(flow, rel=1e-8)
        assert kirchhoff == pytest.approx(sigma + k * (np.log(stretch) - kirchhoff / young), rel=1e-8)
        assert np.log(np.prod(stretched)) == pytest.approx((1 - 2 * poisson) * kirchhoff / young, rel=1e-7)


def test_files_and_mistakes(tmp_path):
    for inner in (PLASTIC, COPPER):
        law = LogarithmicStrainLaw(inner, max_strain=0.2)
        save(law, tmp_path / "one.law")
        again = load(tmp_path / "one.law")
        strain = stretches("two equal")
        for ours, theirs in zip(law.response(strain), again.response(strain), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    flat = np.zeros((2, 6))
    flat[0, 0] = -0.5  # 1 + 2E singular
    assert law.response(flat).status.tolist() == [INVALID, OK]
    with pytest.raises(TypeError, match="got NeoHookeanLaw. Not supported"):
        LogarithmicStrainLaw(NeoHookeanLaw(1.0, 1.0))
    with pytest.raises(ValueError, match="got 'green_lagrange'"):
        LogarithmicStrainLaw(PolynomialLaw(PointGroup("m-3m"), 2, STIFFNESS))
