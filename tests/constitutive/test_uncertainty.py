"""The standard deviation of the stress covers held-out states as it says, turns with the crystal, and is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import jacrev, vmap

from constitutive import NeoHookeanLaw, PolyconvexLaw, SymmetricLaw, load
from constitutive.audit import sample_strains
from constitutive.fitting.laplace import NINETY, _left_out, laplace
from constitutive.fitting.least_squares import PolynomialFit, Problem, Reference
from constitutive.laws import uncertainty
from constitutive.laws.uncertainty import Uncertainty
from crystals import PointGroup, StrainData, mandel
from crystals.atomistic import plan_strains
from crystals.rotations import mandel_rotation, random_rotations

FRAME = random_rotations(1, np.random.default_rng(3))[0]
STRETCH = 1.005
ALPHA = 1e-6


def springs(group: PointGroup, number: int, seed: int) -> StrainData:
    """Morse bonds along the ⟨110⟩ directions of a cube: smooth, cubic, no polynomial; the file's cell is strained."""
    bonds = np.array([[0, 1, s] for s in (1, -1)] + [[1, 0, s] for s in (1, -1)] + [[1, s, 0] for s in (1, -1)])
    strain = plan_strains(number, 0.08, seed)
    reference = Reference(STRETCH * np.eye(3), 0.0)
    bonds = bonds / np.sqrt(2.0) @ group.frame.T
    dyads = mandel.to_mandel(np.einsum("bi,bj->bij", bonds, bonds))
    length = np.sqrt(1 + 2 * reference.to_law(strain) @ dyads.T)
    decay = np.exp(-8.0 * (length - 1))
    stress = reference.from_law((400.0 * (decay - decay**2) / length) @ dyads)
    energy = STRETCH**3 * np.sum(25.0 * (1 - decay) ** 2, axis=1)
    gradient = mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=stress, energy=energy, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(stress, gradient), group=group,
    )  # fmt: skip


def fitted(data: StrainData) -> tuple[SymmetricLaw, Problem]:
    assert data.group is not None
    stiffness = PolynomialFit(data, 4, True, 1e-8).stiffness()
    scale = float(np.linalg.norm(stiffness) / np.sqrt(6.0))
    law = SymmetricLaw(data.group, 4, (6,), stiffness=stiffness, energy_scale=scale, strain_scale=0.08, seed=0)
    problem = Problem(law, data, True, 1e-8)
    for alpha in (1e-4, ALPHA):
        problem.minimise(alpha, 10)
    problem.store()
    law.uncertainty = laplace(problem, ALPHA, data.orbits())
    return law, problem


def in_law(problem: Problem, data: StrainData) -> tuple[np.ndarray, np.ndarray]:
    """Strain and stress (n, 6) counted from the law's stress-free cell."""
    reference = problem.reference()
    back = Reference(np.linalg.inv(reference.stretch), 0.0)
    return reference.to_law(data.strain), back.from_law(data.stress)


@pytest.fixture(scope="module")
def case() -> tuple[SymmetricLaw, Problem, np.ndarray, np.ndarray]:
    group = PointGroup("m-3m", FRAME)
    law, problem = fitted(springs(group, 128, 1))
    return law, problem, *in_law(problem, springs(group, 512, 2))


def test_ninety_per_cent_of_held_out_stresses_lie_within_the_interval(case) -> None:
    law, problem, strain, stress = case
    error, deviation = np.abs(law.response(strain).stress - stress), law.stress_std(strain)
    covered = np.mean(error < NINETY * deviation)
    assert 0.85 <= covered <= 0.95, covered
    assert 0.7 < np.sqrt(np.mean((error / deviation) ** 2)) < 1.4
    assert np.corrcoef(error.ravel(), deviation.ravel())[0, 1] > 0.2  # it says where the law is wrong
    for factor in (0.5, 2.0):
        assert not 0.85 <= np.mean(error < factor * NINETY * deviation) <= 0.95

    # Laplace's method as it stands does not know that the law misses the material
    jacobian = vmap(jacrev(problem._predict), in_dims=(None, 0))(problem.theta, problem.points)
    rows, noise = jacobian.reshape(-1, len(problem.theta)), problem._residual(problem.theta).square().mean()
    covariance = noise * torch.linalg.inv(rows.T @ rows + torch.diag(len(jacobian) * problem._prior(ALPHA)))
    points = torch.from_numpy(problem.reference().from_law(strain))  # a few per mille off: of no matter here
    sensitivity = vmap(jacrev(problem._predict), in_dims=(None, 0))(problem.theta, points)[:, :6]
    plain = torch.einsum("nap,pq,naq->na", sensitivity, covariance, sensitivity).sqrt().mean() * problem.stress_unit
    assert np.mean(error < NINETY * float(plain)) < 0.8


def test_the_left_out_residual_is_that_of_a_fit_without_the_orbit() -> None:
    """States of one orbit are left out together. Weight decay silences the network, so that the problem is all but linear."""
    data, alpha = springs(PointGroup("m-3m"), 40, 1), 1e3
    law = SymmetricLaw("m-3m", 4, (2,), stiffness=PolynomialFit(data, 4).stiffness(), strain_scale=0.08)
    problem = Problem(law, data, True, 1e-8)
    problem.minimise(alpha, 40)
    orbit = [3, 20, 33]

    def refitted(states: list[int]) -> torch.Tensor:
        again = Problem(law, data.take(np.setdiff1d(np.arange(40), states)), True, 1e-8)
        ratio = again.stress_unit / problem.stress_unit
        again.theta = problem.theta.clone()
        again.minimise(alpha, 40)
        predicted = vmap(again._predict, in_dims=(None, 0))(again.theta, problem.points[orbit])[:, :6]
        return predicted * ratio - problem.target[orbit, :6]

    jacobian = vmap(jacrev(problem._predict), in_dims=(None, 0))(problem.theta, problem.points)
    rows = jacobian.reshape(-1, len(problem.theta))
    root = torch.linalg.cholesky(torch.linalg.inv(rows.T @ rows + torch.diag(40 * problem._prior(alpha))))
    orbits = np.arange(40)
    orbits[orbit] = 3
    residual = problem._residual(problem.theta)
    left_out = [
        _left_out(jacobian @ root, residual, jacobian[:, :6] @ root, o)[0][orbit, :6] for o in (orbits, np.arange(40))
    ]
    truth = refitted(orbit)
    change = (truth - residual[orbit, :6]).norm()
    assert (left_out[0] - truth).norm() < 0.01 * change
    assert (left_out[1] - truth).norm() > 0.1 * change  # one by one the twins would tell on each other


def test_the_covariance_turns_with_the_crystal(case) -> None:
    """The trace over the components is a scalar: the same at strains that the group maps onto each other."""
    law, _, strain, _ = case

    def total(turn: np.ndarray) -> np.ndarray:
        return np.sqrt(np.sum(law.stress_std(strain[:20] @ turn.T) ** 2, axis=1))

    start = total(np.eye(6))
    for turn in mandel_rotation(law.group.rotations)[::5]:
        assert np.abs(total(turn) / start - 1).max() < 1e-9
    assert np.abs(total(mandel_rotation(FRAME)) / start - 1).max() > 1e-3


def test_a_law_file_keeps_it_and_stays_small(case, tmp_path: Path) -> None:
    law, _, strain, _ = case
    law.save(tmp_path / "a.law")
    back = load(tmp_path / "a.law")
    assert (tmp_path / "a.law").stat().st_size < 1_000_000
    expected = law.stress_std(strain)
    np.testing.assert_allclose(back.stress_std(strain), expected, rtol=1e-12)
    torch.testing.assert_close(
        back.stress_std(torch.from_numpy(strain)), torch.from_numpy(expected), rtol=1e-12, atol=0
    )
    assert not any("uncertainty" in name for name in law.state_dict())


@pytest.mark.parametrize("law", [
    SymmetricLaw(PointGroup("m-3m", FRAME), 3, (2,), stiffness=100.0 * np.eye(6), energy_scale=50.0, max_strain=0.1),
    PolyconvexLaw("m-3m", (2,), energy_scale=50.0, strain_scale=0.1, max_strain=0.1),
], ids=["symmetric", "polyconvex"])  # fmt: skip
def test_it_is_the_covariance_of_the_parameters_seen_through_the_stress(law, monkeypatch: pytest.MonkeyPatch) -> None:
    """Σ = G B Bᵀ Gᵀ + c₀ + c₁ (|E| / c₃)^c₂, with G by central differences in each parameter; in chunks as at once."""
    strain = sample_strains(0.1, 5, np.random.default_rng(0))
    parameters = torch.nn.utils.parameters_to_vector(law.parameters()).detach().clone()
    factor = 0.1 * np.random.default_rng(1).normal(size=(len(parameters), 3))
    c = np.array([0.3, 0.7, 1.5, 0.05])
    columns = []
    for k in range(len(parameters)):
        ends = []
        for sign in (1.0, -1.0):
            moved = parameters.clone()
            moved[k] += sign * 1e-5
            torch.nn.utils.vector_to_parameters(moved, law.parameters())
            law.refresh()
            ends.append(law.response(strain).stress)
        columns.append((ends[0] - ends[1]) / 2e-5)
    torch.nn.utils.vector_to_parameters(parameters, law.parameters())
    law.refresh()
    seen = np.einsum("pna,pr->nar", columns, factor)
    factor, seen = factor / np.abs(seen).max(), seen / np.abs(seen).max()  # both parts count
    misfit = c[0] + c[1] * (np.linalg.norm(strain, axis=1) / c[3]) ** c[2]
    expected = np.sqrt((seen**2).sum(axis=2) + misfit[:, None])
    law.uncertainty = Uncertainty(torch.from_numpy(factor), torch.from_numpy(c))
    for chunk in (256, 3):
        monkeypatch.setattr(uncertainty, "CHUNK", chunk)
        np.testing.assert_allclose(law.stress_std(strain), expected, rtol=1e-6)
    spoilt = np.array([strain[0], np.full(6, np.nan), [-0.6, 0, 0, 0, 0, 0], strain[3]])
    answer = law.stress_std(torch.from_numpy(spoilt).float())
    assert answer.dtype == torch.float32 and torch.isnan(answer[1:3]).all()
    np.testing.assert_allclose(answer[[0, 3]], expected[[0, 3]], rtol=1e-5)
    for wrong in (np.zeros(6), np.zeros((2, 5)), np.zeros((2, 1, 6)), np.zeros((1, 2, 6))):
        with pytest.raises(ValueError, match=r"expected strain of shape \(n, 6\)"):
            law.stress_std(wrong)


def test_parts_of_another_shape_are_refused() -> None:
    good, four = torch.zeros(3, 2), torch.zeros(4)
    Uncertainty(good, four)
    for factor, misfit in ((good[0], four), (good[None], four), (good, four[:3]), (good, four[None])):
        with pytest.raises(ValueError, match=r"expected factor \(p, r\) and misfit \(4,\)"):
            Uncertainty(factor, misfit)
    with pytest.raises(TypeError, match="not supported: NeoHookeanLaw"):
        Uncertainty(good, four).stress_std(NeoHookeanLaw(1.0, 1.0), torch.zeros(1, 6))


def test_what_it_cannot_answer(case) -> None:
    law, problem, strain, _ = case
    deviation = law.stress_std(np.array([np.zeros(6), np.full(6, np.nan), [-0.6, 0, 0, 0, 0, 0]]))
    assert np.all(deviation[0] > 0) and np.all(np.isnan(deviation[1:]))
    assert law.stress_std(np.zeros((0, 6))).shape == (0, 6)
    with pytest.raises(ValueError, match="expected a law with an uncertainty, got one without"):
        NeoHookeanLaw(1.0, 1.0).stress_std(strain)
    with pytest.raises(ValueError, match=r"expected strain of shape \(n, 6\), got \(6,\)"):
        law.stress_std(np.zeros(6))
    other = SymmetricLaw("m-3m", 4, (3,), stiffness=100 * np.eye(6))
    other.uncertainty = law.uncertainty
    with pytest.raises(ValueError, match="belongs to another law"):
        other.stress_std(strain)
    with pytest.raises(ValueError, match="expected the orbits of 128 states"):
        laplace(problem, ALPHA, np.arange(5))
