"""The rivals are what they say: potentials, fitted with exact slopes, symmetric or not, tuned without looking outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rivals
import torch
from rivals import Network
from sample_efficiency import ratio, states_needed
from torch.func import jacrev, vmap

from constitutive import NeoHookeanLaw
from constitutive.fitting.selection import stress_error
from crystals import PointGroup, StrainData, mandel
from crystals.atomistic import plan_strains
from crystals.rotations import mandel_rotation

ONE = np.eye(6)[None]
TURNS = mandel_rotation(PointGroup("m-3m").rotations)


def made(number: int, seed: int) -> StrainData:
    """States of a Neo-Hookean solid, declared cubic: whatever learns that is no straw man."""
    strain = plan_strains(number, 0.08, seed)
    answer, gradient = NeoHookeanLaw(45.0, 110.0).response(strain, tangent=False), mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=answer.stress, energy=answer.energy + 3.0, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(answer.stress, gradient), group=PointGroup("m-3m"),
    )  # fmt: skip


@pytest.mark.parametrize("turns", [ONE, TURNS])
def test_stress_is_the_slope_of_the_energy_and_the_jacobian_that_of_the_residual(turns: np.ndarray) -> None:
    network = Network(made(12, 0), (6, 5), 0, turns)
    for _ in range(3):
        network.step(1e-4)
    point = network.points[4]
    slope = jacrev(lambda x: network._answer(network.theta, x)[6] / network.energy_weight)(point)
    assert torch.allclose(slope, network._answer(network.theta, point)[:6], atol=1e-13)
    jacobian = vmap(jacrev(network._answer), in_dims=(None, 0))(network.theta, network.points)
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(len(network.theta), dtype=torch.float64, generator=generator)
    step = 1e-5 * along
    change = (network._residual(network.theta + step) - network._residual(network.theta - step)) / 2e-5
    assert torch.allclose(jacobian @ along, change, atol=1e-7)


def asymmetry(predict: rivals.Predict, strain: np.ndarray) -> float:
    still = predict(strain)
    return max(float(np.abs(predict(strain @ r.T) - still @ r.T).max()) for r in TURNS) / float(np.abs(still).max())


def walked(network: Network, steps: int = 40) -> Network:
    for _ in zip(range(steps), network.walk(), strict=False):
        pass
    return network


def test_the_average_is_symmetric_and_nothing_else_is() -> None:
    data, strain = made(12, 0), plan_strains(16, 0.08, 5)
    plain = asymmetry(walked(Network(data, (24,), 0)).stress, strain)
    augmented = asymmetry(walked(Network(data, (24,), 0, copies=TURNS)).stress, strain)
    averaged = asymmetry(walked(Network(data, (8,), 0, TURNS), 8).stress, strain)
    assert averaged < 1e-13
    assert plain > 5 * augmented > 1e-4


def test_a_plain_network_learns_what_it_has_seen_enough_of() -> None:
    test = made(64, 9)
    few, many = (stress_error(walked(Network(made(n, 0), (16,), 0)).stress(test.strain), test.stress) for n in (12, 96))
    assert many < 0.03 and few > 3 * many


def test_width_and_steps_are_those_of_the_least_inner_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stresses that are noise: the fewer steps the better, and the narrower."""
    data = made(16, 0)
    noise = np.random.default_rng(0).normal(size=data.stress.shape)
    chosen = rivals._choose(replace(data, stress=noise, energy=None), 0, ONE, ONE, ((2,), (16,)))
    assert chosen[0] == (2,) and chosen[1] < 16
    chosen = rivals._choose(made(40, 0), 0, ONE, ONE, ((1,), (8,)))
    assert chosen[0] == (8,) and chosen[1] > 16


def test_inner_folds_hold_back_whole_orbits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation state whose twin is trained on would choose the network that memorises."""
    data = made(10, 0)
    twins = replace(
        data, strain=np.concatenate([data.strain, data.strain @ TURNS[5].T]), energy=np.tile(np.asarray(data.energy), 2),
        stress=np.concatenate([data.stress, data.stress @ TURNS[5].T]), names=[],
        deformation_gradient=np.tile(data.deformation_gradient, (2, 1, 1)), cauchy=np.tile(data.cauchy, (2, 1)),
    )  # fmt: skip
    trained: list[np.ndarray] = []

    class Watched(Network):
        def __init__(self, data: StrainData, *rest: Any) -> None:
            trained.append(np.asarray(data.energy))
            super().__init__(data, *rest)

        def step(self, alpha: float) -> bool:
            return False

    monkeypatch.setattr(rivals, "Network", Watched)
    rivals.plain(twins)
    inner, last = trained[:-1], trained[-1]
    assert len(inner) == rivals.FOLDS * len(rivals.WIDTHS) and len(last) == 20
    for energies in inner:
        assert len(energies) < 20 and np.all(np.unique(energies, return_counts=True)[1] == 2)


def test_states_needed_is_read_off_the_log_log_curve_with_bounds() -> None:
    numbers = (8, 32, 128)
    assert states_needed(numbers, np.array([0.08, 0.02, 0.005]), 0.04)[0] == pytest.approx(16.0)
    assert states_needed(numbers, np.array([0.01, 0.005, 0.002]), 0.02) == (8.0, "≤")
    assert states_needed(numbers, np.array([0.9, 0.5, 0.3]), 0.02) == (128.0, ">")
    assert ratio([(128.0, ">")], [(8.0, "≤")]) == "≥ 16.0"
    assert (
        ratio(
            [(64.0, "")],
            [
                (16.0, ""),
            ],
        )
        == "4.0"
    )
    assert ratio([(8.0, "≤")], [(8.0, "≤")]) == "unknown"
