"""Laws with inputs: exact symmetry and a stress-free cell at every θ, tangents, ranges, the handbook's formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from constitutive import (
    INVALID,
    OK,
    OUT_OF_RANGE,
    NeoHookeanLaw,
    ParametricLaw,
    PiezoelectricLaw,
    audit,
    first_piola,
    load,
)
from constitutive.audit import _orthonormal, relative_errors, sample_strains
from constitutive.laws.exponential import symmetric_exponential
from constitutive.laws.parametric import input_powers
from crystals import STRAIN_CLASSES, PointGroup, mandel
from crystals.rotations import mandel_rotation, random_rotations, rotation_about


def random_parametric(
    symbol: str, seed: int = 0, inputs: int = 2, turned: bool = True, order: int = 3
) -> ParametricLaw:
    """Every part switched on, strong in all inputs."""
    generator = np.random.default_rng(seed)
    group = PointGroup(symbol, random_rotations(1, generator)[0] if turned else None)
    names = ("temperature", "composition")[:inputs]
    law = ParametricLaw(group, names, [(200.0, 800.0), (0.0, 1.0)][:inputs], order, 2, max_strain=0.08)
    root = generator.normal(size=(6, 6))
    values, vectors = np.linalg.eigh(60.0 * np.eye(6) + 10.0 * root @ root.T)
    logarithm = torch.from_numpy((vectors * np.log(values)) @ vectors.T)
    law.log_stiffness.copy_(0.2 * torch.from_numpy(generator.normal(size=law.log_stiffness.shape)))
    law.log_stiffness[0] = torch.einsum("kij,ij->k", law.basis, logarithm)
    law.stretch.copy_(0.02 * torch.from_numpy(generator.normal(size=law.stretch.shape)))
    law.coefficients.copy_(100.0 * torch.from_numpy(generator.normal(size=law.coefficients.shape)))
    return law


def random_inputs(law: ParametricLaw, number: int, seed: int = 1) -> np.ndarray:
    low, high = law.input_range.T
    return low + (high - low) * np.random.default_rng(seed).uniform(size=(number, len(low)))


def states(law: ParametricLaw, number: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Strains about the stress-free cell of random inputs, |E| from 1e-6 to 0.12."""
    inputs = random_inputs(law, number)
    strain = law.free_strain(inputs) + sample_strains(0.1, number, np.random.default_rng(seed))
    keep = np.linalg.eigvalsh(np.eye(3) + 2.0 * mandel.from_mandel(strain))[:, 0] > 0.3
    return strain[keep], inputs[keep]


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_symmetry_and_objectivity_at_every_input(symbol: str) -> None:
    """P(F Qᵀ) = P(F) Qᵀ for the class, P(R F) = R P(F), with ∂P/∂F, to rounding; not for a rotation outside."""
    law = random_parametric(symbol)
    strain, inputs = states(law, 60)
    generator = np.random.default_rng(3)
    gradient = random_rotations(len(strain), generator) @ mandel.right_stretch(strain)
    piola, derivative = first_piola(law, gradient, inputs=inputs)
    assert derivative is not None
    for operation in _orthonormal(law.group.laue.sample(6, generator)):
        image_piola, image = first_piola(law, gradient @ operation.T, inputs=inputs)
        expected = np.einsum("niAkB,JA,LB->niJkL", derivative, operation, operation, optimize=True)
        assert relative_errors(law, strain, image_piola - piola @ operation.T, image - expected) < 1e-12
    turn = random_rotations(1, generator)[0]
    turned_piola, turned = first_piola(law, turn @ gradient, inputs=inputs)
    expected = np.einsum("ia,kb,naJbL->niJkL", turn, turn, derivative, optimize=True)
    assert relative_errors(law, strain, turned_piola - turn @ piola, turned - expected) < 1e-12
    if symbol not in ("-1", "∞∞m"):
        outside = rotation_about(np.array([0.3, 0.5, 0.8]), 0.61)
        change = first_piola(law, gradient @ outside.T, inputs=inputs)[0] - piola @ outside.T
        assert relative_errors(law, strain, change, np.zeros((len(strain), 1))) > 1e-3


@pytest.mark.parametrize("symbol", ["m-3m", "-3m", "2/m", "-1", "∞/mm"])
@pytest.mark.parametrize("referred", [False, True])
def test_stress_is_zero_at_the_stress_free_cell(symbol: str, referred: bool) -> None:
    """Exactly, at every θ, from whatever cell strain is counted; and the stiffness there is positive definite."""
    law = random_parametric(symbol)
    if referred:
        law = law.referred_to([300.0, 0.2])
        assert np.all(law.free_strain([300.0, 0.2]) == 0.0)
    inputs = random_inputs(law, 50)
    rest = law.response(law.free_strain(inputs), inputs=inputs)
    assert np.all(rest.stress == 0.0) and np.all(rest.energy == 0.0)
    scale = np.linalg.norm(law.stiffness())
    assert np.linalg.norm(law.response(np.zeros((50, 6)), inputs=inputs).stress, axis=1).max() > 1e-3 * scale
    for value in inputs[:5]:
        assert np.linalg.eigvalsh(law.stiffness(inputs=value))[0] > 0


@pytest.mark.parametrize("symbol", ["m-3m", "-3m", "-1"])
def test_derivatives(symbol: str) -> None:
    """S = ∂W/∂E and C = ∂S/∂E by automatic differentiation, ∂S/∂θ by central differences."""
    law = random_parametric(symbol, order=4)
    strain, inputs = states(law, 40)
    answer = law.response(strain, inputs=inputs)
    points, at = torch.from_numpy(strain), torch.from_numpy(inputs)
    which = torch.arange(len(points))

    def energy(free: torch.Tensor) -> torch.Tensor:
        return law.forward(free, at, which)[0].sum()

    def stress(free: torch.Tensor) -> torch.Tensor:
        return law.forward(free, at, which)[1].sum(dim=0)

    zero = np.zeros((len(strain), 1))
    gradient = torch.func.grad(energy)(points).numpy()
    assert relative_errors(law, strain, answer.stress - gradient, zero) < 1e-12
    tangent = torch.func.jacrev(stress)(points).permute(1, 0, 2).numpy()
    assert relative_errors(law, strain, zero, mandel.unpack_upper(answer.tangent) - tangent) < 1e-12
    assert law.forward(points, at, which)[2] is None
    slopes = law.input_tangent(strain, inputs)
    for place, step in enumerate((1e-2, 1e-5)):
        shift = step * np.eye(2)[place]
        above, below = (law.response(strain, inputs=inputs + sign * shift).stress for sign in (1, -1))
        numerical = (above - below) / (2 * step)
        assert np.abs(slopes[..., place] - numerical).max() < 1e-6 * np.abs(numerical).max()
    assert np.abs(slopes[..., 0]).max() * 600 > 1e-2 * np.linalg.norm(law.stiffness())


def test_the_law_at_one_input_counts_from_its_own_cell() -> None:
    """S = J U⁻¹ S_at U⁻¹ at E_at = U⁻¹ (E − E_θ) U⁻¹, and `at` passes the audit."""
    law = random_parametric("-3m", turned=True)
    value = np.array([650.0, 0.3])
    at = law.at(value)
    strain = sample_strains(0.05, 20, np.random.default_rng(0))
    free = law.free_strain(value)
    stretch = mandel.right_stretch(free)
    inverse = np.linalg.inv(stretch)
    inside = mandel.to_mandel(inverse @ mandel.from_mandel(strain - free) @ inverse)
    np.testing.assert_allclose(inside, law.elastic_strain(strain, np.tile(value, (20, 1))), atol=1e-14)
    expected = at.response(inside)
    answer = law.response(strain, inputs=value)
    volume, scale = np.linalg.det(stretch), np.linalg.norm(law.stiffness())
    pushed = mandel.to_mandel(volume * inverse @ mandel.from_mandel(expected.stress) @ inverse)
    np.testing.assert_allclose(answer.stress, pushed, atol=1e-13 * scale)
    np.testing.assert_allclose(answer.energy, volume * expected.energy, atol=1e-14 * scale)
    np.testing.assert_allclose(law.stiffness(inputs=value), at.stiffness(), rtol=1e-12)
    assert audit(at, number=50).passed and at.metadata["inputs"] == {"temperature": 650.0, "composition": 0.3}


def test_referred_law_is_the_same_material() -> None:
    """The Cauchy stress of a cell does not ask from where strain is counted; monoclinic stretches do not commute."""
    law = random_parametric("2/m")
    value, other = np.array([250.0, 0.9]), np.array([700.0, 0.1])
    referred = law.referred_to(value)
    start = mandel.right_stretch(law.free_strain(value))
    gradient = np.eye(3) + 0.02 * np.random.default_rng(0).normal(size=(10, 3, 3))
    old = law.response(mandel.green_lagrange(gradient @ start), inputs=other)
    new = referred.response(mandel.green_lagrange(gradient), inputs=other)
    scale = np.linalg.norm(law.stiffness())
    cauchy = mandel.cauchy_stress(old.stress, gradient @ start)
    np.testing.assert_allclose(mandel.cauchy_stress(new.stress, gradient), cauchy, atol=1e-12 * scale)
    np.testing.assert_allclose(new.energy * np.linalg.det(start), old.energy, atol=1e-12 * scale)
    assert np.all(old.status == new.status)


def test_handbook_law() -> None:
    """Constant expansion and stiffness: S = −C:α Δθ to first order at E = 0, U = exp(α Δθ), α back from `expansion`."""
    group = PointGroup("4/mmm", rotation_about(np.ones(3), 0.4))
    alpha = group.frame @ np.diag([1e-5, 1e-5, 3e-5]) @ group.frame.T
    turn = mandel_rotation(group.frame)
    stiffness = turn @ np.diag([200.0, 200, 150, 90, 90, 70]) @ turn.T
    law = ParametricLaw.thermoelastic(group, stiffness, alpha, reference=293.0, input_range=(200.0, 900.0))
    assert (law.order, law.degree, law.input_names) == (2, 1, ("temperature",))
    np.testing.assert_allclose(law.expansion(500.0)[0], alpha, atol=1e-17)
    np.testing.assert_allclose(law.stiffness(), stiffness, rtol=1e-12, atol=1e-11)
    assert np.all(law.response(np.zeros((1, 6)), inputs=293.0).stress == 0.0)
    step = 1e-3
    stress = law.response(np.zeros((1, 6)), inputs=293.0 + step).stress[0]
    np.testing.assert_allclose(stress, -stiffness @ mandel.to_mandel(alpha) * step, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        law.input_tangent(np.zeros((1, 6)), 293.0)[0, :, 0],
        -stiffness @ mandel.to_mandel(alpha),
        rtol=1e-10,
        atol=1e-14,
    )
    hot = law.free_strain(893.0)
    expected = group.frame @ np.diag(0.5 * (np.exp(1200 * np.array([1e-5, 1e-5, 3e-5])) - 1)) @ group.frame.T
    np.testing.assert_allclose(mandel.from_mandel(hot), expected, atol=1e-15)
    with pytest.raises(ValueError, match="expansion that 4/mmm leaves alone"):
        ParametricLaw.thermoelastic(group, stiffness, np.diag([1e-5, 2e-5, 3e-5]), reference=0, input_range=(-1, 1))


class TestResponse:
    law = random_parametric("m-3m", turned=False)
    one = random_parametric("m-3m", inputs=1, turned=False)

    def test_shapes_of_inputs(self) -> None:
        strain = sample_strains(0.05, 7, np.random.default_rng(0))
        rows = np.tile([300.0, 0.5], (7, 1))
        expected = self.law.response(strain, inputs=rows).stress
        assert np.array_equal(self.law.response(strain, inputs=[300, 0.5]).stress, expected)
        tensor = self.law.response(torch.from_numpy(strain), inputs=torch.from_numpy(rows)).stress
        assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), expected)
        same = [
            self.one.response(strain, inputs=given).stress for given in (300, [300.0], np.full(7, 300), rows[:, :1])
        ]
        assert all(np.array_equal(same[0], other) for other in same[1:])
        assert np.abs(self.one.response(strain, inputs=400).stress - same[0]).max() > 1e-3
        assert self.one.response(np.zeros((0, 6)), inputs=300.0).stress.shape == (0, 6)

    def test_points_do_not_see_each_other(self) -> None:
        strain, inputs = states(self.law, 3000)
        whole = self.law.response(strain, inputs=inputs)
        scale = np.linalg.norm(self.law.stiffness())
        for i in (0, 17, len(strain) - 1):
            alone = self.law.response(strain[i : i + 1], inputs=inputs[i])
            assert np.abs(alone.stress - whole.stress[i]).max() < 1e-13 * scale
            assert np.abs(alone.tangent - whole.tangent[i]).max() < 1e-13 * scale

    def test_range_and_bad_inputs_are_flagged_point_by_point(self) -> None:
        inputs = np.tile([500.0, 0.5], (7, 1))
        inputs[1, 0], inputs[2, 1], inputs[3, 1], inputs[4, 0], inputs[6, 1] = 801.0, np.nan, -0.01, np.inf, 1e30
        strain = np.tile(self.law.free_strain([500.0, 0.5]), (7, 1)) + 0.001
        strain[5] += 0.06 * mandel.IDENTITY
        clean = self.law.response(strain, inputs=[500.0, 0.5])
        answer = self.law.response(strain, inputs=inputs)
        assert answer.status[:6].tolist() == [OK, OUT_OF_RANGE, INVALID, OUT_OF_RANGE, INVALID, OUT_OF_RANGE]
        assert answer.status[6] == INVALID  # the exponential overflows
        assert np.isnan(answer.stress[[2, 4, 6]]).all() and np.isfinite(answer.stress[[0, 1, 3, 5]]).all()
        assert np.abs(answer.stress[[0, 5]] - clean.stress[[0, 5]]).max() < 1e-13 * np.linalg.norm(self.law.stiffness())
        assert np.isnan(self.law.input_tangent(strain, inputs)[[2, 4]]).all()
        collapsed = self.law.response(np.array([[-0.6, 0, 0, 0, 0, 0]]), inputs=[500.0, 0.5])
        assert collapsed.status[0] == INVALID

    def test_wrong_arguments_get_a_sentence(self) -> None:
        strain = np.zeros((3, 6))
        with pytest.raises(ValueError, match=r"expected inputs \(temperature, composition\), got None"):
            self.law.response(strain)
        with pytest.raises(ValueError, match=r"of shape \(3, 2\) or \(2,\), got \(3,\)"):
            self.law.response(strain, inputs=np.zeros(3))
        with pytest.raises(TypeError, match="real inputs"):
            self.law.response(strain, inputs=["a", "b"])
        with pytest.raises(ValueError, match="takes no inputs"):
            NeoHookeanLaw(40.0, 60.0).response(strain, inputs=300.0)
        with pytest.raises(ValueError, match="Use law.at"):
            self.law._evaluate(torch.zeros(1, 6), True)
        with pytest.raises(ValueError, match="expected a law of strain alone"):
            PiezoelectricLaw(self.law, piezoelectric=np.zeros((3, 6)), permittivity=np.eye(3))
        assert audit(self.law, number=20, parity=False).passed
        with pytest.raises(ValueError, match="A constant input is no input"):
            ParametricLaw("m-3m", ("temperature",), [(300, 300)])
        with pytest.raises(ValueError, match="different names"):
            ParametricLaw("m-3m", "temperature", [(200, 300)])
        with pytest.raises(ValueError, match="one value of temperature, composition"):
            self.law.at(np.zeros((4, 2)))


@pytest.mark.parametrize("referred", [False, True])
def test_law_file(tmp_path, referred: bool) -> None:
    law = random_parametric("-3m")
    law = law.referred_to([400.0, 0.4]) if referred else law
    law.metadata = {"kind": "isothermal"}
    # what the group decides is calculated again
    assert set(law.state_dict()) == {"stretch", "log_stiffness", "coefficients", "reference"}
    law.save(tmp_path / "a.law")
    back = load(tmp_path / "a.law")
    strain, inputs = states(law, 30)
    ours, theirs = law.response(strain, inputs=inputs), back.response(strain, inputs=inputs)
    assert np.array_equal(ours.stress, theirs.stress) and np.array_equal(ours.status, theirs.status)
    assert repr(back) == repr(law) and "temperature 200 … 800, composition 0 … 1" in repr(law)


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.3, 5.0, 19.0])
@pytest.mark.parametrize("dimension", [3, 6])
def test_exponential_of_symmetric_matrices(size: float, dimension: int) -> None:
    """Against eigenvectors, each alone; positive definite; NaN where stiffnesses would differ by exp(20) and more."""
    root = np.random.default_rng(dimension).normal(size=(8, dimension, dimension))
    matrix = root + root.swapaxes(1, 2)
    mean = np.trace(matrix, axis1=1, axis2=2)[:, None, None] / dimension * np.eye(dimension)
    rest = matrix - mean
    matrix = size * rest / np.linalg.norm(rest, axis=(1, 2))[:, None, None] + mean
    values, vectors = np.linalg.eigh(matrix)
    expected = np.einsum("nia,na,nja->nij", vectors, np.exp(values), vectors)
    wild = matrix.copy()
    wild[0, 0, 1] = wild[0, 1, 0] = 30.0
    found = symmetric_exponential(torch.from_numpy(matrix)).numpy()
    largest = np.abs(expected).max(axis=(1, 2))[:, None, None]
    assert np.max(np.abs(found - expected) / largest) < 1e-13
    assert np.array_equal(found, found.swapaxes(1, 2))
    beside = symmetric_exponential(torch.from_numpy(wild)).numpy()
    assert np.isnan(beside[0]).all() and np.array_equal(beside[1:], found[1:])


def test_monomials_are_counted() -> None:
    assert input_powers(1, 3).tolist() == [[0], [1], [2], [3]]
    assert len(input_powers(2, 2)) == 6 and input_powers(2, 2)[0].tolist() == [0, 0]


def test_orders_degrees_and_ranges_at_their_borders() -> None:
    one, span = ("temperature",), [(200.0, 800.0)]
    for order in (1, 7):
        with pytest.raises(ValueError, match=f"expected an order from 2 to 6, got {order}"):
            ParametricLaw("m-3m", one, span, order)
    for degree in (-1, 9):
        with pytest.raises(ValueError, match=f"from 0 to 8, got {degree}"):
            ParametricLaw("m-3m", one, span, 2, degree)
    assert ParametricLaw("m-3m", one, span, 2, 8).monomials(torch.tensor([[800.0]])).tolist() == [[1.0] * 9]
    assert ParametricLaw("m-3m", one, span, 6, 0).coefficients.shape[0] == 1
    law = ParametricLaw("m-3m", one, span)
    assert (law.order, law.degree, law.units, law.max_strain) == (3, 1, "GPa", float("inf"))
    for names, ends in (((), []), (("a", "a"), [(0, 1), (0, 1)])):
        with pytest.raises(ValueError, match="expected different names"):
            ParametricLaw("m-3m", names, ends)
    for ends in ((200.0, 800.0), [(800.0, 200.0)], [(200.0, float("inf"))], [(200.0, 800.0), (0.0, 1.0)], [(5.0, 5.0)]):
        with pytest.raises(ValueError, match="expected input_range with a smallest and a larger largest"):
            ParametricLaw("m-3m", one, ends)
    # the scaled input runs from −1 to 1, and a rounding beyond its ends is still inside
    assert law.monomials(torch.tensor([[200.0], [500.0], [800.0]])).tolist() == [[1, -1], [1, 0], [1, 1]]
    at = 500.0 + 300.0 * np.array([-1 - 1e-7, -1 - 1e-10, -1.0, 1.0, 1 + 1e-10, 1 + 1e-7])
    status = law.response(np.zeros((6, 6)), inputs=at).status
    assert status.tolist() == [OUT_OF_RANGE, OK, OK, OK, OK, OUT_OF_RANGE]


def test_one_value_or_several() -> None:
    law = random_parametric("-3m")
    rows = random_inputs(law, 3)
    strain = states(law, 3)[0][:3]
    assert law.free_strain(rows).shape == (3, 6) and law.free_strain(rows[0]).shape == (6,)
    assert np.array_equal(law.free_strain(rows)[1], law.free_strain(rows[1]))
    assert law.expansion(rows).shape == (3, 2, 3, 3) and law.expansion(rows[0]).shape == (2, 3, 3)
    for place, step in enumerate((1e-2, 1e-5)):
        # sym(∂U/∂θ U⁻¹), U from E_θ = ½ (U² − 1)
        above, below, here = (
            mandel.right_stretch(law.free_strain(rows + sign * step * np.eye(2)[place])) for sign in (1, -1, 0)
        )
        rate = (above - below) / (2 * step) @ np.linalg.inv(here)
        expected = 0.5 * (rate + np.swapaxes(rate, 1, 2))
        assert np.abs(law.expansion(rows)[:, place] - expected).max() < 1e-6 * np.abs(expected).max()
    turn = mandel_rotation(law.group.frame)
    inside = law.elastic_strain(strain, rows)
    # lists keep their digits
    assert np.array_equal(law.elastic_strain(strain.tolist(), rows.tolist()), inside)
    assert np.array_equal(law.input_tangent(strain.tolist(), rows.tolist()), law.input_tangent(strain, rows))
    for k in range(3):
        assert np.allclose(law.elastic_strain(strain[k : k + 1], rows[k])[0], inside[k], atol=1e-15)
    assert np.abs(inside @ turn - inside).max() > 1e-3  # the frame of the law is not the standard one
    middle = law.input_range.mean(axis=1)
    assert np.array_equal(law.stiffness(), law.stiffness(inputs=middle))
    assert np.abs(law.stiffness() - law.stiffness(inputs=rows[0])).max() > 1e-3
    for several in (law.at, law.referred_to):
        with pytest.raises(ValueError, match="expected one value of"):
            several(rows)
