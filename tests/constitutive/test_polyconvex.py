"""The polyconvex law: convex in (F, cof F, det F), strongly elliptic, stress-free at rest, in every class it supports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev, vmap

from constitutive import NeoHookeanLaw, PolyconvexLaw, audit, load
from constitutive.audit import outside_rotation, sample_strains
from constitutive.laws.strain_measure import to_tensor
from constitutive.laws.structural_tensors import structural_tensors
from crystals import STRAIN_CLASSES, PointGroup, mandel
from crystals.moduli import smallest_acoustic_eigenvalue
from crystals.rotations import random_rotations

CLASSES = [symbol for symbol in STRAIN_CLASSES if symbol != "∞/m"]


def random_law(symbol: str, seed: int = 0, wild: float = 1.0, **options: object) -> PolyconvexLaw:
    """A law with every parameter moved by normal numbers of size `wild`, in a turned frame."""
    group = PointGroup(symbol, random_rotations(1, np.random.default_rng(seed))[0])
    law = PolyconvexLaw(group, (5, 5), **{"energy_scale": 100.0, "strain_scale": 0.2, "seed": seed, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in law.parameters():
            parameter += wild * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return law


def deformations(number: int, generator: np.random.Generator) -> np.ndarray:
    """F with principal stretches from 0.2 to 4 and any rotations."""
    stretches = np.exp(generator.uniform(np.log(0.2), np.log(4.0), size=(number, 3)))
    return np.einsum(
        "nij,nj,nkj->nik", *(random_rotations(number, generator), stretches), random_rotations(number, generator)
    )


def acoustic(law: PolyconvexLaw, gradient: np.ndarray) -> np.ndarray:
    stress, tangent = law.stress_and_tangent(mandel.green_lagrange(gradient))
    return smallest_acoustic_eigenvalue(tangent, stress, gradient, 60)


def bends(law: PolyconvexLaw, number: int, seed: int) -> np.ndarray:
    """Second differences of G along segments in (F, H, J), over the size of G at their ends."""
    generator = np.random.default_rng(seed)
    size = 10.0 ** generator.uniform(-3.0, 0.7, size=(number, 1, 1))
    ends = []
    middle_f, middle_h = (generator.normal(size=(number, 3, 3)) + np.eye(3) for _ in range(2))
    middle_j = np.exp(generator.normal(size=number))
    step_f, step_h = (size * generator.normal(size=(number, 3, 3)) for _ in range(2))
    step_j = middle_j * generator.uniform(-0.95, 0.95, size=number) * np.minimum(size[:, 0, 0], 1.0)
    for sign in (-1.0, 0.0, 1.0):
        arguments = (middle_f + sign * step_f, middle_h + sign * step_h, middle_j + sign * step_j)
        ends.append(law.extended_energy(*(torch.from_numpy(a) for a in arguments)).numpy())
    before, middle, after = ends
    return (before + after - 2.0 * middle) / (np.abs(before) + np.abs(after) + np.abs(middle) + law.energy_scale)


@pytest.mark.parametrize("symbol", CLASSES)
def test_audit_passes_and_a_rotation_outside_the_class_breaks_the_symmetry(symbol: str) -> None:
    law = random_law(symbol, max_strain=0.2)
    report = audit(law, number=60, seed=1)
    assert report.passed, str(report)
    if symbol not in ("-1", "∞∞m"):
        strain = sample_strains(0.4, 60, np.random.default_rng(0))
        assert outside_rotation(law.group, law, strain[np.linalg.norm(strain, axis=1) > 0.05])[1] > 1e-6


@pytest.mark.parametrize("symbol", CLASSES)
def test_convex_in_gradient_cofactor_and_jacobian(symbol: str) -> None:
    """W(F) = G(F, cof F, det F), and G is convex along segments of 19-dimensional space, whatever the parameters."""
    for seed, wild in ((0, 0.0), (1, 1.0), (2, 4.0)):
        law = random_law(symbol, seed, wild, strict=0.0)
        gradient = deformations(50, np.random.default_rng(seed))
        jacobian = np.linalg.det(gradient)
        cofactor = jacobian[:, None, None] * np.linalg.inv(gradient).transpose(0, 2, 1)
        energy = law.response(mandel.green_lagrange(gradient), tangent=False).energy
        extended = law.extended_energy(*(torch.from_numpy(a) for a in (gradient, cofactor, jacobian))).numpy()
        assert np.allclose(energy, extended, rtol=1e-11, atol=1e-11 * law.energy_scale)
        assert bends(law, 2000, seed).min() > -1e-14


def test_convexity_check_sees_a_negative_weight_a_cut_compensation_and_a_concave_pressure() -> None:
    """Negative controls: each of the three parts of the proof, broken in turn, bends G down."""
    law = random_law("mmm")
    inner = law.networks[0]
    inputs, hidden, last, linear = inner._weights()
    inner._weights = lambda: (inputs, hidden, -30.0 * last, linear)
    assert bends(law, 2000, 0).min() < -1e-6
    law = random_law("mmm", strict=0.0)
    rest = law._at_reference()
    law._at_reference = lambda: rest._replace(spread=rest.spread - 3.0)
    assert bends(law, 2000, 0).min() < -1e-6
    law = random_law("mmm")
    law._at_reference = lambda: rest._replace(growth=-rest.growth)
    assert bends(law, 2000, 0).min() < -1e-6


@pytest.mark.parametrize("symbol", CLASSES)
@pytest.mark.parametrize("strict", [0.0, 0.05])
def test_acoustic_tensor_is_bounded_below_at_any_strain(symbol: str, strict: float) -> None:
    gradient = deformations(25, np.random.default_rng(0))
    for wild in (1.0, 3.0):
        law = random_law(symbol, 1, wild, strict=strict)
        with torch.no_grad():
            law.margin.fill_(-60.0)  # the only other source of strictness
        scale = np.linalg.norm(law.response(mandel.green_lagrange(gradient)).tangent, axis=1) * 16.0
        assert np.all(acoustic(law, gradient) > strict * law.energy_scale - 1e-13 * scale)


@pytest.mark.parametrize("symbol", CLASSES)
def test_rest_is_free_of_energy_and_stress_and_stable(symbol: str) -> None:
    for seed in range(4):
        law = random_law(symbol, seed, float(seed))
        rest = law.response(np.zeros((1, 6)))
        assert rest.energy[0] == 0.0
        assert np.all(rest.stress == 0.0)
        assert np.linalg.eigvalsh(law.stiffness())[0] > 0.0
        with torch.no_grad():
            law.margin.fill_(-60.0)
        assert np.linalg.eigvalsh(law.stiffness())[0] >= 2.0 * law.strict * law.energy_scale


def test_growth_has_no_value_slope_or_curvature_at_rest() -> None:
    law = random_law("4/mmm")
    constants = law.stiffness()
    squeezed = mandel.green_lagrange(np.diag([0.5, 0.9, 1.0])[None])
    before = law.response(squeezed).energy[0]
    with torch.no_grad():
        law.growth += 5.0
    rest = law.response(np.zeros((1, 6)))
    assert rest.energy[0] == 0.0 and np.all(rest.stress == 0.0)
    assert np.allclose(law.stiffness(), constants, rtol=0, atol=1e-13 * np.abs(constants).max())
    assert law.response(squeezed).energy[0] > before + 1.0


@pytest.mark.parametrize("symbol", ["-1", "4/mmm", "∞/mm", "m-3m", "∞∞m"])
def test_what_networks_see_is_one_at_the_strain_scale(symbol: str) -> None:
    """All stretches λ = 1 + s: areas grow by 2s, the volume by 3s, to first order, and each is seen as 1."""
    for scale in (0.2, 1e-3):
        law = PolyconvexLaw(symbol, strain_scale=scale)
        for network in law._parts():  # some stretches, the areas across them, and the volume, each once
            stretches, areas, volume = np.split(network.places.numpy(), [network.places.shape[1] // 2, -1], axis=1)
            assert np.array_equal(areas, stretches + len(law.tensors)) and stretches.max() < len(law.tensors)
            assert volume.shape[1] == 1 and set(volume[:, 0]) == {2 * len(law.tensors)}
        if law.form == "directions":  # a network for each orbit of directions
            assert [len(network.places) for network in law._parts()] == [len(o) for o in structural_tensors(symbol)]
        along = torch.full((1, len(law.tensors)), 1.0 + scale, dtype=torch.float64)
        seen = law._seen(along, along**2, along[:, 0] ** 3)
        assert float((seen - 1.0).abs().max()) < 1.1 * scale
        at_rest = torch.ones_like(along)
        assert not law._seen(at_rest, at_rest, at_rest[:, 0]).any()


@pytest.mark.parametrize("symbol", ["-1", "mmm", "∞/mm", "m-3m"])
def test_what_strictness_and_growth_add_is_known(symbol: str) -> None:
    """q enters as q (tr E + f(J)), f(J) = 1 − J + s² (√(1 + (J − 1)²/s²) − 1), and g as g (J + 1/J − 2)²; both parameters by
    their softplus."""
    strain = sample_strains(0.3, 20, np.random.default_rng(0))
    volume = np.sqrt(np.linalg.det(np.eye(3) + 2.0 * mandel.from_mandel(strain)))
    of_q = strain[:, :3].sum(axis=1) + 1.0 - volume + 0.04 * (np.sqrt(1.0 + (volume - 1.0) ** 2 / 0.04) - 1.0)

    def energy(strict: float, margin: float, growth: float) -> np.ndarray:
        law = random_law(symbol, strict=strict)
        with torch.no_grad():
            law.margin.fill_(margin)
            law.growth.fill_(growth)
        return law.response(strain).energy / 100.0

    new = PolyconvexLaw(symbol)
    assert (new.margin.item(), new.growth.item()) == (-1.0, -5.0)  # where learning starts
    start = energy(0.1, -1.0, -2.0)
    softplus = np.logaddexp(0.0, [-2.0, -1.0, 0.5])
    np.testing.assert_allclose(energy(0.4, -1.0, -2.0) - start, 0.3 * of_q, atol=1e-13)
    np.testing.assert_allclose(energy(0.1, 0.5, -2.0) - start, (softplus[2] - softplus[1]) * of_q, atol=1e-13)
    of_g = (volume + 1.0 / volume - 2.0) ** 2
    np.testing.assert_allclose(energy(0.1, -1.0, 0.5) - start, (softplus[2] - softplus[0]) * of_g, atol=1e-13)


@pytest.mark.parametrize("symbol", ["∞/mm", "4/mmm", "m-3m", "mmm", "-1"])
def test_compensation_is_as_small_as_its_bound_allows(symbol: str) -> None:
    """q 1 − T has no eigenvalue below `strict` + softplus(margin), and one there where T is spherical, or stretched along one
    axis: the largest eigenvalue of such a deviator is √⅔ of its norm."""
    reached = 0
    for seed in range(12):
        law = random_law(symbol, seed, 1.0, strict=0.2)
        with torch.no_grad():
            law.margin.fill_(-1.0)
            rest = law._at_reference()
            values = torch.linalg.eigvalsh(to_tensor(law._tension(rest))).numpy()
            at_rest = torch.zeros(1, 2 * len(law.tensors) + 1, dtype=torch.float64)
            slope = sum(network.gradient(at_rest)[1][0] for network in law._parts()) / law.units_of_inputs
            tension = torch.linalg.eigvalsh(to_tensor(rest.stress - rest.pressure * law.identity))
        assert float(rest.pressure) == pytest.approx(0.04 * float(slope[-1]), rel=1e-12)  # γ = ∂N/∂J
        assert float(tension[0]) > 0.0  # T ≥ 0
        least = 0.2 + np.logaddexp(0.0, -1.0)
        assert values[0] > least - 1e-12
        if values[2] - values[1] < 1e-9:
            reached += 1
            assert values[0] < least + 1e-3
            continue
        deviator = values - values.mean()
        assert values.mean() == pytest.approx(least + ((2 / 3) * (deviator @ deviator + 1e-6)) ** 0.5, rel=1e-12)
    assert reached > 1 or symbol in ("mmm", "-1")


@pytest.mark.parametrize(("symbol", "supergroup"), [("4/m", "4/mmm"), ("6/m", "6/mmm"), ("m-3", "m-3m"), ("-3", "-3m")])
def test_a_class_is_told_from_its_supergroup(symbol: str, supergroup: str) -> None:
    law = PolyconvexLaw(symbol, (5, 5), strain_scale=0.2)
    strain = sample_strains(0.4, 40, np.random.default_rng(0))
    change = 0.0
    for q in PointGroup(supergroup).rotations:
        turned = mandel.to_mandel(q @ mandel.from_mandel(strain) @ q.T)
        change = max(change, np.abs(law.response(turned).energy / law.response(strain).energy - 1.0).max())
        same = np.allclose(law.response(turned).energy, law.response(strain).energy, rtol=1e-9)
        assert same or q not in PointGroup(symbol)
    assert change > 1e-5


@pytest.mark.parametrize(
    ("group", "options", "message"),
    [
        ("∞/m", {}, "not supported: ∞/m"),
        ("∞", {}, "not supported: ∞/m"),
        ("m-3", {"network": "directions"}, "not supported: network 'directions' for m-3"),
        ("∞/mm", {"network": "average"}, "not supported: network 'average' for ∞/mm"),
        ("m-3m", {"network": "invariants"}, "not supported: network 'invariants' for m-3m"),
        ("m-3m", {"network": "graph"}, "expected network in"),
        ("m-3m", {"strict": -1.0}, "expected strict ≥ 0"),
        ("m-3m", {"strain_scale": 0.0}, "expected positive scales"),
        ("m-3m", {"widths": ()}, "expected hidden widths"),
    ],
)
def test_what_is_refused(group: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolyconvexLaw(group, **options)


@pytest.mark.parametrize(("symbol", "network"), [("-3m", "directions"), ("m-3m", "average"), ("∞/mm", "invariants")])
def test_law_file(symbol: str, network: str, tmp_path: Path) -> None:
    law = random_law(symbol, network=network, max_strain=0.3, units="Pa")
    law.save(tmp_path / "a.law")
    again = load(tmp_path / "a.law")
    strain = sample_strains(0.3, 20, np.random.default_rng(0))
    assert isinstance(again, PolyconvexLaw) and again.config() == law.config()
    assert set(law.state_dict()) == {name for name, _ in law.named_parameters()}  # the rest is calculated again
    assert np.array_equal(again.response(strain).tangent, law.response(strain).tangent)


@pytest.mark.parametrize("symbol", ["mmm", "m-3"])
def test_forward_is_differentiable_in_every_parameter(symbol: str) -> None:
    """What Levenberg–Marquardt asks: forward through functional_call, vmap and jacrev, against differences."""
    law = random_law(symbol, 3, 0.3)
    turn = torch.from_numpy(sample_strains(0.3, 3, np.random.default_rng(1)))
    parameters = {name: parameter.detach() for name, parameter in law.named_parameters()}

    def stress(values: dict[str, torch.Tensor], point: torch.Tensor) -> torch.Tensor:
        return functional_call(law, values, (point[None],))[1][0]

    slopes = vmap(jacrev(stress), in_dims=(None, 0))(parameters, turn)
    for name, value in parameters.items():
        step = torch.zeros_like(value)
        step.reshape(-1)[0] = 1e-5
        plus, minus = ({**parameters, name: value + sign * step} for sign in (1.0, -1.0))
        change = (functional_call(law, plus, (turn,))[1] - functional_call(law, minus, (turn,))[1]) / 2e-5
        expected = slopes[name].reshape(3, 6, -1)[:, :, 0]
        assert torch.allclose(change, expected, rtol=1e-5, atol=1e-8)


def test_fit_of_a_known_polyconvex_material() -> None:
    """Neo-Hooke with λ = μ, polyconvex to J = e²: the isotropic law learns its stress, and predicts unseen states."""
    teacher = NeoHookeanLaw(40.0, 40.0)
    strains = sample_strains(0.3, 200, np.random.default_rng(0))
    target = torch.from_numpy(teacher.response(strains).stress)
    law = PolyconvexLaw("isotropic", (6, 6), energy_scale=100.0, strain_scale=0.3)
    inside, outside = torch.from_numpy(strains[:150]), strains[150:]
    optimiser = torch.optim.LBFGS(law.parameters(), max_iter=250, history_size=30, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        wrong = (law(inside)[1] * 100.0 - target[:150]).square().sum() / target[:150].square().sum()
        wrong.backward()
        return wrong

    start = loss().item()
    optimiser.step(loss)
    wrong = law.response(outside).stress - target[150:].numpy()
    error = np.sqrt(np.sum(wrong**2) / np.sum(target[150:].numpy() ** 2))
    assert start > 0.01 and error < 0.02
    assert np.linalg.norm(law.stiffness() - teacher.stiffness()) < 0.03 * np.linalg.norm(teacher.stiffness())
