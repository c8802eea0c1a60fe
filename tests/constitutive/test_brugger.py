"""Elastic constants of third and fourth order: exact, symmetric, named, and those of EMT copper where fitted to it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from emt_crystals import copper, copper_at
from third_order_copper import third_by_differences
from torch.func import grad, jacfwd

from constitutive import Law, NeoHookeanLaw, PolynomialLaw, SymmetricLaw, fit
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import STRAIN_CLASSES, PointGroup, mandel
from crystals.atomistic import plan_strains
from crystals.elastic_constants import elastic_constants, independent_constants, rotate_constants
from crystals.invariants import invariant_tensors
from crystals.rotations import random_rotations


def random_law(symbol: str, frame: np.ndarray | None = None, seed: int = 0) -> SymmetricLaw:
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(6, 6))
    law = SymmetricLaw(
        PointGroup(symbol, frame), order=4, widths=(9, 7), stiffness=60.0 * np.eye(6) + 10.0 * root @ root.T,
        energy_scale=100.0, strain_scale=0.08, max_strain=0.08, seed=seed,
    )  # fmt: skip
    with torch.no_grad():
        law.coefficients.copy_(torch.from_numpy(generator.normal(size=law.higher.count)))
    law.refresh()
    return law


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_constants_are_derivatives_of_the_energy(symbol: str) -> None:
    """Against nested automatic differentiation of the energy, another path than the tangent; a turned frame included."""
    law = random_law(symbol, random_rotations(1, np.random.default_rng(1))[0])
    law.stiffness()
    function: Any = grad(lambda point: law._evaluate(point[None], False)[0][0])
    for order in (2, 3, 4):
        function = jacfwd(function)
        exact = function(torch.zeros(6, dtype=torch.float64)).detach().numpy()
        found = law.stiffness(order)
        size = np.abs(exact).max()
        assert np.abs(found - exact).max() < 1e-12 * size
        for axes in itertools.permutations(range(order)):
            assert np.abs(found - np.transpose(found, axes)).max() < 1e-14 * size
        named = law.elastic_constants(order)
        assert tuple(named) == independent_constants(law.group, order)
        # the class holds to rounding, so the projection of `elastic_constants` has nothing to hide
        elastic_constants(found, law.group, tolerance=1e-12, order=order)


def test_the_network_takes_part() -> None:
    """Control: with the network's last layer silent the constants are others."""
    law = random_law("m-3m")
    before = law.elastic_constants(3)
    with torch.no_grad():
        law.network.last.zero_()
    after = law.elastic_constants(3)
    assert max(abs(before[name] - after[name]) for name in before) > 1.0
    assert law.elastic_constants(2)["C11"] == pytest.approx(law.stiffness()[0, 0], rel=1e-12)


@pytest.mark.parametrize("symbol", ["-1", "-3m", "m-3m", "∞/mm"])
def test_polynomial_law_gives_back_the_constants_it_was_made_of(symbol: str) -> None:
    frame = random_rotations(1, np.random.default_rng(4))[0]
    polynomials = higher_order_polynomials(PointGroup(symbol), 4)
    coefficients = np.random.default_rng(0).normal(size=len(polynomials))
    law = PolynomialLaw(PointGroup(symbol, frame), 4, 100.0 * np.eye(6), coefficients)
    start = 0
    for order in (3, 4):
        tensors = invariant_tensors(symbol, order)
        expected = np.tensordot(coefficients[start : start + len(tensors)], tensors, axes=1)
        start += len(tensors)
        turned = rotate_constants(frame, expected, order)
        np.testing.assert_allclose(law.stiffness(order), turned, atol=1e-11 * np.abs(turned).max())
        np.testing.assert_allclose(law.stiffness_voigt(2), mandel.stiffness_to_voigt(law.stiffness()), rtol=1e-15)


def test_neo_hooke_by_hand() -> None:
    """ln J = ½ Σ ln(1 + 2E_i) on diagonal strains: C111 = −8μ − 6λ, C112 = −2λ, C1111 = 48μ + 44λ, C1112 = 8λ,
    C1122 = 4λ, and nothing that feels three directions."""
    mu, lam = 40.0, 60.0
    law = NeoHookeanLaw(mu, lam)
    third, fourth = law.elastic_constants(3), law.elastic_constants(4)
    assert third == pytest.approx({"C111": -8 * mu - 6 * lam, "C112": -2 * lam, "C123": 0.0}, abs=1e-11)
    expected = {"C1111": 48 * mu + 44 * lam, "C1112": 8 * lam, "C1122": 4 * lam, "C1123": 0.0}
    assert fourth == pytest.approx(expected, abs=1e-10)
    # shear components carry no factor 2: C155 = (C111 − C112)/4 for an isotropic solid (Toupin and Bernstein 1961)
    voigt = law.stiffness_voigt(3)
    assert voigt[0, 4, 4] == pytest.approx((third["C111"] - third["C112"]) / 4, rel=1e-12)


def test_next_to_nothing_is_no_hidden_part() -> None:
    """Third-order constants of 1 Pa beside a stiffness of 100 GPa: a difference of tangents sees rounding alone."""
    group = PointGroup("-1")
    coefficients = np.random.default_rng(0).normal(size=len(higher_order_polynomials(group, 3)))
    law = PolynomialLaw(group, 3, 1e11 * np.eye(6), coefficients, units="Pa")
    expected = np.tensordot(coefficients, invariant_tensors("-1", 3), axes=1)
    np.testing.assert_allclose(law.stiffness(3), expected, atol=1e-12)


class Hidden(NeoHookeanLaw):
    """A law whose tangent passes through numpy, as a compiled kernel would: automatic differentiation sees nothing."""

    def _evaluate(self, strain, tangent):
        energy, stress, entries = super()._evaluate(strain, tangent)
        with torch.no_grad():
            return energy, stress, None if entries is None else entries.detach() * 1.0 + 0.0 * strain[:, :1]


def test_laws_that_cannot_be_differentiated_are_refused() -> None:
    class Kinked(NeoHookeanLaw):
        def _evaluate(self, strain, tangent):
            energy, stress, entries = super()._evaluate(strain, tangent)
            return energy, stress, None if entries is None else entries + torch.sqrt(strain[:, :1] ** 2)

    class Remembering(NeoHookeanLaw):
        state_width = 1

    with pytest.raises(ValueError, match="0 internal variables and|expected a hyperelastic law"):
        Remembering(1.0, 1.0).elastic_constants(3)
    with pytest.raises(ValueError, match="has 3 derivatives|agree with differences"):
        Kinked(1.0, 1.0).elastic_constants(3)
    with pytest.raises(ValueError, match="hidden from automatic differentiation"):
        Hidden(1.0, 1.0).elastic_constants(3)
    with pytest.raises(ValueError, match="order of 2, 3 or 4, got 1"):
        NeoHookeanLaw(1.0, 1.0).elastic_constants(1)


@pytest.mark.long
def test_copper_fitted_to_EMT_has_the_third_order_constants_of_EMT() -> None:
    """128 states with |E| ≤ 0.02: every constant within 1 % of finite differences of ASE's stress (measured 0.5 %)."""
    crystal = copper()
    group = PointGroup.from_structure(crystal.reference)
    coarse, fine = third_by_differences(crystal, 2e-3), third_by_differences(crystal, 1e-3)
    differences = elastic_constants((4 * fine - coarse) / 3, group, order=3, tolerance=1e-3)

    law: Law = fit(copper_at(plan_strains(128, 0.02), crystal), progress=False)
    found = law.elastic_constants(3)
    for name, value in differences.items():
        print(
            f"{name}: law {found[name]:.1f}, differences of EMT {value:.1f} GPa, {100 * (found[name] / value - 1):+.2f} %"
        )
        assert abs(found[name] / value - 1.0) < 0.01, (name, found[name], value)
    # control: the second order alone, as the law at its smallest, says nothing of the third
    plain = PolynomialLaw(group, 2, law.stiffness())
    assert all(value == 0.0 for value in plain.elastic_constants(3).values())
