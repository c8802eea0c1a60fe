"""Loss of strong ellipticity against closed forms at finite strain, the map, the penalty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from constitutive import NeoHookeanLaw, PolynomialLaw, SymmetricLaw, audit
from constitutive.laws.polynomial import higher_order_polynomials
from constitutive.stability import (
    acoustic_eigenvalue,
    box_strains,
    ellipticity_limit,
    ellipticity_penalty,
    stability_map,
)
from crystals import PointGroup, mandel
from crystals.moduli import acoustic_tensor, hemisphere, smallest_acoustic_eigenvalue
from crystals.rotations import random_rotations, rotate_vector

PULL = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def saint_venant_kirchhoff(lam: float, mu: float) -> PolynomialLaw:
    stiffness = lam * np.outer(mandel.IDENTITY, mandel.IDENTITY) + 2 * mu * np.eye(6)
    return PolynomialLaw(PointGroup("isotropic"), 2, stiffness)


def critical_compression(lam: float, mu: float) -> tuple[float, float]:
    """−E11 and N1² at which St. Venant–Kirchhoff loses strong ellipticity under uniaxial strain, by hand.

    Q = (λ+μ) FN⊗FN + μ FFᵀ + (N·SN) 1 with F = diag(s, 1, 1), s² = 1 + 2E, N·SN = E (λ + 2μ x), x = N1². The
    determinant of its block in the plane of e1 and N is c2 x² + c1 x + c0 with c2 = 4μ(λ+2μ) E² > 0, so it first
    vanishes inside 0 < x < 1, where its discriminant does: before either the pure mode E = −1/3 (P11 = (λ+2μ)(s³ − s)/2
    at its extremum) or the shear mode E = −μ/(λ+2μ) at x = 1.
    """
    l, m = lam, mu
    quadratic = [
        l**4 + 2 * l**3 * m - 3 * l**2 * m**2 - 4 * l * m**3 + 4 * m**4,
        -2 * l**3 * m - 16 * l**2 * m**2 - 34 * l * m**3 - 20 * m**4,
        -3 * l**2 * m**2 - 10 * l * m**3 - 7 * m**4,
    ]
    strain = max(root for root in np.real(np.roots(quadratic)) if root < 0)
    slope = 2 * strain * (strain * (l**2 + 3 * l * m + 2 * m**2) + l * m + 3 * m**2)
    return -strain, -slope / (8 * m * (l + 2 * m) * strain**2)


@pytest.mark.parametrize(("lam", "mu"), [(1.0, 1.0), (2.0, 1.0), (5.0, 1.0), (0.5, 1.0)])
def test_saint_venant_kirchhoff_in_uniaxial_compression(lam: float, mu: float) -> None:
    """The oblique band goes first; load and normal to 1e-6. For λ = μ it is s = 2/3 and N1² = 7/10 exactly."""
    expected, cosine = critical_compression(lam, mu)
    if lam == mu:
        assert (expected, cosine) == pytest.approx((5 / 18, 0.7), rel=1e-12)
    law = saint_venant_kirchhoff(lam, mu)
    found = ellipticity_limit(law, -PULL, (0.0, 0.45))
    assert found is not None and found.trained
    assert found.load == pytest.approx(expected, rel=1e-9)
    assert found.normal[0] ** 2 == pytest.approx(cosine, rel=1e-5)
    # the band is one: m · Q(N) m = 0 there, and not for another direction
    stress, tangent = law.stress_and_tangent(found.strain[None])
    stretch = mandel.right_stretch(found.strain)
    band, other = acoustic_tensor(tangent[0], stress[0], stretch, np.array([found.normal, [0.0, 1.0, 0.0]]))
    assert abs(found.polarisation @ band @ found.polarisation) < 1e-9
    assert np.linalg.eigvalsh(other)[0] > 1e-2
    # control: pure modes alone would be later
    assert expected < min(1 / 3, mu / (lam + 2 * mu)) - 1e-3


@pytest.mark.parametrize("ratio", [2.0, 5.0, 20.0])
def test_neo_hooke_in_uniaxial_extension(ratio: float) -> None:
    """Q = μ 1 + (μ + λ − λ ln J) g⊗g with g = F⁻ᵀN. For F = diag(s, 1, 1), s > 1, |g| ≤ 1 and ellipticity is lost where
    2μ + λ = λ ln s: at s = exp(1 + 2μ/λ), N perpendicular to the pull. Whatever rotation follows."""
    law = NeoHookeanLaw(1.0, ratio)
    frame = random_rotations(2, np.random.default_rng(0))
    critical = np.exp(1.0 + 2.0 / ratio)

    def pulled(stretch: float) -> np.ndarray:
        return frame[0] @ frame[1] @ np.diag([stretch, 1.0, 1.0]) @ frame[1].T

    found = ellipticity_limit(law, pulled, (1.0, 9.0))
    assert found is not None
    assert found.load == pytest.approx(critical, rel=1e-9)
    assert abs(found.normal @ frame[1][:, 0]) < 1e-5
    # the same as a strain direction, backwards through the load, and no loss short of it
    direction = rotate_vector(frame[1], PULL)
    again = ellipticity_limit(law, direction, (0.0, 0.5 * (9.0**2 - 1)))
    assert again is not None and again.load == pytest.approx(0.5 * (critical**2 - 1), rel=1e-9)
    assert ellipticity_limit(law, pulled, (1.0, critical - 1e-6)) is None
    assert ellipticity_limit(law, -direction, (0.0, -0.5 * (critical + 1e-3) ** 2 + 0.5)) is not None


def test_neo_hooke_in_dilation() -> None:
    """F = s 1: |g| = 1/s, so ellipticity is lost where μ + (μ + λ − 3 λ ln s)/s² = 0; the root by bisection here."""
    mu, lam = 1.0, 10.0
    low, high = 1.0, 2.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        lost = mu * middle**2 + mu + lam - 3 * lam * np.log(middle) <= 0
        low, high = (low, middle) if lost else (middle, high)
    stretch = low
    found = ellipticity_limit(NeoHookeanLaw(mu, lam), lambda s: s * np.eye(3), (1.0, 3.0))
    assert found is not None and found.load == pytest.approx(stretch, rel=1e-9)


def test_a_short_loss_between_two_samples_is_found() -> None:
    """In dilation λ = 4.2 μ is not elliptic from s = 2.3 to 2.8 only; three samples at 1, 2.9 and 4.8 all are."""
    law = NeoHookeanLaw(1.0, 4.2)

    def swollen(stretch: float) -> np.ndarray:
        return stretch * np.eye(3)

    values = acoustic_eigenvalue(law, mandel.green_lagrange(np.array([swollen(s) for s in (1.0, 2.9, 4.8)])))
    assert np.all(values > 0)
    fine = ellipticity_limit(law, swollen, (1.0, 4.8))
    coarse = ellipticity_limit(law, swollen, (1.0, 4.8), samples=3)
    assert fine is not None and coarse is not None
    assert coarse.load == pytest.approx(fine.load, rel=1e-9) and 2.2 < fine.load < 2.4


def test_limits_that_cannot_be_asked_for() -> None:
    law = saint_venant_kirchhoff(1.0, 1.0)
    with pytest.raises(ValueError, match=r"interval=\(0, 0.4"):
        ellipticity_limit(law, -PULL)
    with pytest.raises(
        ValueError, match="strongly elliptic at the first load, got a smallest acoustic eigenvalue of -"
    ):
        ellipticity_limit(law, -PULL, (0.4, 0.0))
    with pytest.raises(ValueError, match=r"Mandel direction \(6,\) or a function of the load, got shape \(3, 3\)"):
        ellipticity_limit(law, np.eye(3))
    with pytest.raises(ValueError, match="det F > 0 at load 0, got det F = 0"):
        ellipticity_limit(law, lambda s: s * np.eye(3), (1.0, -0.5), samples=4)
    values = acoustic_eigenvalue(law, np.array([0 * PULL, -0.6 * PULL, np.nan * PULL]))
    assert values[0] == pytest.approx(1.0, rel=1e-12) and np.all(np.isnan(values[1:]))
    small = PolynomialLaw(PointGroup("isotropic"), 2, law.stiffness(), strain_measure="small")
    # the linear theory: N·C·N, whatever the strain
    assert acoustic_eigenvalue(small, -0.6 * PULL[None])[0] == pytest.approx(1.0, rel=1e-12)


def test_map_shows_the_limit(tmp_path: Path) -> None:
    """Along the axis the map changes sign where `ellipticity_limit` says, and it names what it shows."""
    law = saint_venant_kirchhoff(1.0, 1.0)
    found = stability_map(law, PULL, [0, 0, 0, 1, 0, 0], extent=0.45, number=19)
    middle = found.values[9]
    assert found.x[9] == pytest.approx(0.0, abs=1e-15) and middle[9] == pytest.approx(1.0)
    lost = found.x[middle <= 0]
    assert lost.max() == pytest.approx(-0.3, abs=1e-9) and np.all(middle[found.x > -5 / 18] > 0)
    assert found.labels == ("E11", "√2 E23")
    assert found.strain_norm[0, 0] == pytest.approx(0.45 * np.sqrt(2))
    found.plot(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="parallel"):
        stability_map(law, PULL, -2 * PULL)


def softening_law() -> PolynomialLaw:
    """A cubic law, elliptic at rest, whose third-order constants end ellipticity at |E11| near 0.05."""
    group = PointGroup("m-3m")
    voigt = np.pad(np.full((3, 3), 115.0), (0, 3)) + np.diag([57.0] * 3 + [90.0] * 3)
    polynomials = higher_order_polynomials(group, 3)
    coefficients = np.random.default_rng(3).normal(size=len(polynomials)) * 150.0
    return PolynomialLaw(group, 3, mandel.stiffness_from_voigt(voigt), coefficients)


def test_audit_asks_in_the_whole_ball() -> None:
    law = softening_law()
    law.max_strain = 0.08
    lines = {check.name: check.value for check in audit(law, number=100).checks}
    assert lines["elliptic part of the trained range, %"] < 100.0
    assert lines["smallest acoustic eigenvalue there, GPa"] < 0.0


def test_penalty_is_the_acoustic_eigenvalue() -> None:
    """Its residuals are margin − λ_min of `acoustic_tensor` where that is positive, else zero."""
    law = softening_law()
    strain = box_strains(-0.05, 0.05, 16)
    normals = hemisphere(20)
    found = ellipticity_penalty(lambda point: law._evaluate(point[None], False)[1][0], strain, normals, 5.0)
    stress, tangent = law.stress_and_tangent(strain)
    tensors = acoustic_tensor(tangent, stress, mandel.right_stretch(strain), normals)
    expected = np.maximum(0.0, 5.0 - np.linalg.eigvalsh(tensors)[..., 0]).reshape(-1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
    assert np.any(expected > 0) and np.any(expected == 0)
    with pytest.raises(ValueError, match="expected lower < upper"):
        box_strains(0.0, 0.0, 8)


def test_penalty_makes_a_box_elliptic() -> None:
    """A law trained on a softening truth is not elliptic in the box |E_i| ≤ 0.05; with the penalty it is, at a cost.

    Asked at the 64 corners and 500 strains of the box that training never saw, over all directions.
    """
    truth = softening_law()
    data = box_strains(-0.05, 0.05, 128, seed=1)
    given = torch.from_numpy(truth.response(data).stress)
    asked, normals = box_strains(-0.05, 0.05, 64, seed=2), hemisphere(50)
    held_out = box_strains(-0.05, 0.05, 500, seed=3)
    size = float(given.pow(2).mean())

    def trained(weight: float) -> tuple[float, float]:
        """Smallest acoustic eigenvalue in the box, and relative stress error on data."""
        law = SymmetricLaw("m-3m", order=4, widths=(6,), stiffness=truth.stiffness(), energy_scale=100.0,
                           strain_scale=0.05, seed=0)  # fmt: skip
        optimiser = torch.optim.LBFGS(law.parameters(), max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            loss = (100.0 * law(torch.from_numpy(data))[1] - given).pow(2).mean() / size
            if weight:
                penalty = ellipticity_penalty(lambda p: 100.0 * law(p[None])[1][0], asked, normals, 2.0)
                loss = loss + weight * penalty.pow(2).sum() / len(asked)
            loss.backward()
            return loss

        optimiser.step(closure)
        law.requires_grad_(False)
        error = np.sqrt(float((torch.from_numpy(law.response(data).stress) - given).pow(2).mean()) / size)
        return float(acoustic_eigenvalue(law, held_out).min()), error

    free, free_error = trained(0.0)
    kept, kept_error = trained(1.0)
    print(
        f"smallest acoustic eigenvalue {free:.2f} -> {kept:.2f} GPa, stress error {free_error:.4f} -> {kept_error:.4f}"
    )
    assert free < -1.0 and kept > 0.0
    assert free_error < kept_error < 0.2


def test_eigenvalue_does_not_depend_on_the_frame() -> None:
    """F = R U gives the same as F = U, and a law turned with its strain the same as before."""
    law, generator = softening_law(), np.random.default_rng(5)
    strain = 0.04 * generator.normal(size=(10, 6))
    stress, tangent = law.stress_and_tangent(strain)
    turned = random_rotations(10, generator) @ mandel.right_stretch(strain)
    found = acoustic_eigenvalue(law, strain)
    np.testing.assert_allclose(found, smallest_acoustic_eigenvalue(tangent, stress, turned), rtol=1e-9)


def test_penalty_has_a_jacobian_for_least_squares() -> None:
    """jacrev through `functional_call`, as Levenberg–Marquardt needs it, against a central difference."""
    law = SymmetricLaw("m-3m", order=3, widths=(3,), stiffness=softening_law().stiffness(), energy_scale=100.0,
                       strain_scale=0.05)  # fmt: skip
    names, start = zip(*((name, p.detach()) for name, p in law.named_parameters()), strict=True)
    sizes = [p.numel() for p in start]
    theta = torch.cat([p.reshape(-1) for p in start])
    strain, normals = box_strains(-0.05, 0.05, 4)[::4], hemisphere(6)

    def residual(vector: torch.Tensor) -> torch.Tensor:
        parts = {n: v.reshape(p.shape) for n, v, p in zip(names, torch.split(vector, sizes), start, strict=True)}

        def stress(point: torch.Tensor) -> torch.Tensor:
            return 100.0 * torch.func.functional_call(law, parts, (point[None],))[1][0]

        return ellipticity_penalty(stress, strain, normals, 60.0)

    jacobian = torch.func.jacrev(residual)(theta)
    direction = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-6
    difference = (residual(theta + step * direction) - residual(theta - step * direction)) / (2 * step)
    assert jacobian.shape == (len(strain) * 6, len(theta))
    assert float(difference.abs().max()) > 1.0
    # a relu or two eigenvalues may change places between the two ends; they do not here
    assert float((jacobian @ direction - difference).abs().max()) < 1e-5 * float(difference.abs().max())
