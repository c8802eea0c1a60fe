"""Laws of Mandel notation, stress and strain measures."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystals import mandel
from crystals.rotations import random_rotations


@pytest.fixture
def rng():
    return np.random.default_rng(20240)


def symmetric(generator, *shape):
    tensor = generator.normal(size=shape + (3, 3))
    return tensor + np.swapaxes(tensor, -1, -2)


def gradients(generator, number):
    """Deformation gradients with det F ≠ 1, every second one turned by a large rotation."""
    gradient = np.eye(3) + 0.2 * generator.uniform(-1, 1, size=(number, 3, 3))
    gradient[::2] = random_rotations(len(gradient[::2]), generator) @ gradient[::2]
    assert np.all(np.linalg.det(gradient) > 0.2) and np.all(np.abs(np.linalg.det(gradient) - 1) > 1e-4)
    return gradient


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_round_trip_of_vectors(rng, shape):
    tensor = symmetric(rng, *shape)
    vector = mandel.to_mandel(tensor)
    assert vector.shape == shape + (6,)
    np.testing.assert_allclose(mandel.from_mandel(vector), tensor, rtol=1e-15)


def test_components_by_hand():
    tensor = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    root = 1.4142135623730951
    np.testing.assert_allclose(mandel.to_mandel(tensor), [1, 2, 3, 4 * root, 5 * root, 6 * root], rtol=1e-15)
    # The antisymmetric part does not enter.
    spin = np.array([[0.0, 1.0, -2.0], [-1.0, 0.0, 3.0], [2.0, -3.0, 0.0]])
    np.testing.assert_allclose(mandel.to_mandel(tensor + spin), mandel.to_mandel(tensor), rtol=1e-15)


def test_inner_product_is_the_double_contraction(rng):
    first, second = symmetric(rng, 20), symmetric(rng, 20)
    contraction = np.einsum("nij,nij->n", first, second)
    dot = np.einsum("ni,ni->n", mandel.to_mandel(first), mandel.to_mandel(second))
    np.testing.assert_allclose(dot, contraction, rtol=1e-13, atol=1e-13)
    # Control: the Voigt stress vector does not have this property.
    voigt = [mandel.stress_to_voigt(mandel.to_mandel(a)) for a in (first, second)]
    assert np.max(np.abs(np.einsum("ni,ni->n", *voigt) - contraction)) > 0.1


def test_voigt_conventions_by_hand():
    tensor = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    vector = mandel.to_mandel(tensor)
    np.testing.assert_allclose(mandel.stress_to_voigt(vector), [1, 2, 3, 4, 5, 6], rtol=1e-15)
    np.testing.assert_allclose(mandel.strain_to_voigt(vector), [1, 2, 3, 8, 10, 12], rtol=1e-15)
    np.testing.assert_allclose(mandel.stress_from_voigt([1, 2, 3, 4, 5, 6]), vector, rtol=1e-15)
    np.testing.assert_allclose(mandel.strain_from_voigt([1, 2, 3, 8, 10, 12]), vector, rtol=1e-15)


def test_voigt_stiffness_by_hand():
    voigt = np.arange(36.0).reshape(6, 6)
    stiffness = mandel.stiffness_from_voigt(voigt)
    assert stiffness[0, 1] == voigt[0, 1]
    assert stiffness[0, 3] == pytest.approx(np.sqrt(2) * voigt[0, 3], rel=1e-15)
    assert stiffness[4, 5] == pytest.approx(2 * voigt[4, 5], rel=1e-15)
    np.testing.assert_allclose(mandel.stiffness_to_voigt(stiffness), voigt, rtol=1e-15)


def test_voigt_and_mandel_give_the_same_stress_and_energy(rng):
    voigt = rng.normal(size=(6, 6))
    voigt = voigt + voigt.T
    strain = mandel.to_mandel(symmetric(rng, 8))
    stress = strain @ mandel.stiffness_from_voigt(voigt)
    engineering = mandel.strain_to_voigt(strain)
    np.testing.assert_allclose(mandel.stress_to_voigt(stress), engineering @ voigt, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        np.sum(strain * stress, axis=1), np.sum(engineering * (engineering @ voigt), axis=1), rtol=1e-11, atol=1e-11
    )


def test_stiffness_tensor_contracts_like_the_matrix(rng):
    matrix = rng.normal(size=(4, 6, 6))
    tensor = mandel.stiffness_to_tensor(matrix)
    strain = symmetric(rng, 4)
    by_tensor = np.einsum("nijkl,nkl->nij", tensor, strain)
    by_matrix = np.einsum("nij,nj->ni", matrix, mandel.to_mandel(strain))
    np.testing.assert_allclose(mandel.to_mandel(by_tensor), by_matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mandel.stiffness_from_tensor(tensor), matrix, rtol=1e-14)
    np.testing.assert_array_equal(tensor, np.swapaxes(tensor, -1, -2))


def test_order_of_the_21_entries():
    names = [f"{i}{j}" for i in range(1, 7) for j in range(i, 7)]
    assert names[:7] == ["11", "12", "13", "14", "15", "16", "22"] and names[-1] == "66" and len(names) == 21
    matrix = np.array([[10.0 * min(i, j) + max(i, j) for j in range(1, 7)] for i in range(1, 7)])
    expected = [11, 12, 13, 14, 15, 16, 22, 23, 24, 25, 26, 33, 34, 35, 36, 44, 45, 46, 55, 56, 66]
    np.testing.assert_array_equal(mandel.pack_upper(matrix), expected)
    np.testing.assert_array_equal(mandel.unpack_upper(np.array(expected, dtype=float)), matrix)


def test_packing_works_on_torch(rng):
    torch = pytest.importorskip("torch")
    entries = rng.normal(size=(5, 21))
    matrix = mandel.unpack_upper(torch.as_tensor(entries))
    assert isinstance(matrix, torch.Tensor)
    np.testing.assert_array_equal(matrix.numpy(), mandel.unpack_upper(entries))
    np.testing.assert_array_equal(mandel.pack_upper(matrix).numpy(), entries)


def test_piola_and_cauchy_round_trip(rng):
    gradient, cauchy = gradients(rng, 30), mandel.to_mandel(symmetric(rng, 30))
    piola = mandel.second_piola(cauchy, gradient)
    np.testing.assert_allclose(mandel.cauchy_stress(piola, gradient), cauchy, rtol=1e-11, atol=1e-11)
    assert np.max(np.abs(piola - cauchy)) > 0.5


def test_piola_uniaxial_by_hand():
    # F = diag(1.2, 0.9, 0.9), σ11 = 3: S11 = J σ11 / F11² = 0.9² · 3 / 1.2 = 2.025.
    stretch = np.diag([1.2, 0.9, 0.9])
    cauchy = np.diag([3.0, 0.0, 0.0])
    expected = [2.025, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(mandel.second_piola(mandel.to_mandel(cauchy), stretch), expected, atol=1e-14)
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = mandel.to_mandel(quarter @ cauchy @ quarter.T)
    assert turned[1] == 3.0
    np.testing.assert_allclose(mandel.second_piola(turned, quarter @ stretch), expected, atol=1e-14)
    # Control: the turn on the other side of F is another deformation.
    assert abs(mandel.second_piola(turned, stretch @ quarter)[0] - 2.025) > 0.1


def test_piola_and_cauchy_do_the_same_work(rng):
    """S : Ė = J σ : d for every velocity, whatever the formulas say."""
    gradient, cauchy = gradients(rng, 30), symmetric(rng, 30)
    rate = rng.normal(size=(30, 3, 3))
    step = 1e-6
    strain_rate = mandel.green_lagrange(gradient + step * rate) - mandel.green_lagrange(gradient - step * rate)
    work = np.sum(mandel.second_piola(mandel.to_mandel(cauchy), gradient) * strain_rate / (2 * step), axis=1)
    velocity_gradient = rate @ np.linalg.inv(gradient)
    expected = np.linalg.det(gradient) * np.einsum("nij,nij->n", cauchy, velocity_gradient)
    np.testing.assert_allclose(work, expected, rtol=1e-8, atol=1e-8)


def test_green_lagrange_by_hand_and_under_rotation(rng):
    gradient = np.array([[1.1, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.9]])
    # ½(FᵀF − 1) with FᵀF = [[1.21, 0.22, 0], [0.22, 1.04, 0], [0, 0, 0.81]]
    expected = [0.105, 0.02, -0.095, 0, 0, 0.11 * np.sqrt(2)]
    np.testing.assert_allclose(mandel.green_lagrange(gradient), expected, atol=1e-15)
    turn = random_rotations(1, rng)[0]
    np.testing.assert_allclose(mandel.green_lagrange(turn @ gradient), expected, atol=1e-14)
    assert np.max(np.abs(mandel.green_lagrange(gradient @ turn) - expected)) > 1e-3


def test_green_lagrange_keeps_its_accuracy_at_small_strain(rng):
    gradient = np.eye(3) + 1e-9 * rng.normal(size=(3, 3))
    exact_f = [[Fraction(float(x)) for x in row] for row in gradient]
    exact = np.array(
        [
            [float((sum(exact_f[k][i] * exact_f[k][j] for k in range(3)) - (i == j)) / 2) for j in range(3)]
            for i in range(3)
        ]
    )
    error = np.max(np.abs(mandel.from_mandel(mandel.green_lagrange(gradient)) - exact)) / np.max(np.abs(exact))
    naive = np.max(np.abs(0.5 * (gradient.T @ gradient - np.eye(3)) - exact)) / np.max(np.abs(exact))
    assert error < 1e-15
    assert naive > 1e-9


def test_right_stretch_is_the_polar_factor(rng):
    gradient = gradients(rng, 20)
    stretch = mandel.right_stretch(mandel.green_lagrange(gradient))
    rotation = gradient @ np.linalg.inv(stretch)
    np.testing.assert_allclose(np.swapaxes(rotation, 1, 2) @ rotation, np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)
    assert np.all(np.linalg.eigvalsh(stretch) > 0)
    with pytest.raises(ValueError, match="right_stretch: expected 1 \\+ 2E positive definite.*-0.2"):
        mandel.right_stretch(np.array([-0.6, 0, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (mandel.to_mandel, (6,)),
        (mandel.from_mandel, (3, 3)),
        (mandel.pack_upper, (21,)),
        (mandel.unpack_upper, (6, 6)),
        (mandel.stiffness_to_tensor, (6,)),
        (mandel.stiffness_from_tensor, (6, 6)),
        (mandel.green_lagrange, (4, 3)),
        (mandel.green_lagrange, (3,)),
    ],
)
def test_wrong_shapes_are_named(function, shape):
    with pytest.raises(ValueError, match=f"{function.__name__}: expected an array of shape"):
        function(np.zeros(shape))


@pytest.mark.parametrize("name", ["stress_to_voigt", "stress_from_voigt", "strain_to_voigt", "strain_from_voigt"])
def test_voigt_converters_check_shapes(name):
    for wrong in (np.zeros((6, 5)), np.zeros((6, 1)), np.zeros((3, 3)), np.float64(1.0)):
        with pytest.raises(
            ValueError, match=rf"{name}: expected an array of shape \(..., 6\), got .*\. Put the batch first"
        ):
            getattr(mandel, name)(wrong)
    assert getattr(mandel, name)(np.zeros((2, 3, 6))).shape == (2, 3, 6)
    for name in ("stiffness_to_voigt", "stiffness_from_voigt"):
        with pytest.raises(
            ValueError, match=rf"{name}: expected an array of shape \(..., 6, 6\), got \(6,\)\. Put the batch"
        ):
            getattr(mandel, name)(np.zeros(6))


NUMBER = st.floats(-1e6, 1e6)
VECTOR = st.lists(NUMBER, min_size=6, max_size=6).map(np.array)
MATRIX = st.lists(NUMBER, min_size=21, max_size=21).map(lambda entries: mandel.unpack_upper(np.array(entries)))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(VECTOR, VECTOR)
def test_round_trips_of_any_vector(first, second):
    """Each pair of converters undoes the other to rounding; Voigt stress times Voigt strain is the same work."""
    for there, back in (
        (mandel.from_mandel, mandel.to_mandel),
        (mandel.stress_to_voigt, mandel.stress_from_voigt),
        (mandel.strain_to_voigt, mandel.strain_from_voigt),
    ):
        np.testing.assert_allclose(back(there(first)), first, rtol=4e-16)
    work = mandel.stress_to_voigt(first) @ mandel.strain_to_voigt(second)
    contraction = np.sum(mandel.from_mandel(first) * mandel.from_mandel(second))
    size = np.linalg.norm(first) * np.linalg.norm(second)
    assert abs(work - first @ second) <= 1e-15 * size and abs(contraction - first @ second) <= 2e-15 * size


@settings(derandomize=True, max_examples=40, deadline=None)
@given(MATRIX, VECTOR)
def test_round_trips_of_any_matrix(matrix, vector):
    assert np.array_equal(mandel.unpack_upper(mandel.pack_upper(matrix)), matrix)
    np.testing.assert_allclose(mandel.stiffness_from_voigt(mandel.stiffness_to_voigt(matrix)), matrix, rtol=4e-16)
    tensor = mandel.stiffness_to_tensor(matrix)
    np.testing.assert_allclose(mandel.stiffness_from_tensor(tensor), matrix, rtol=4e-16)
    stress = np.einsum("ijkl,kl->ij", tensor, mandel.from_mandel(vector))
    size = np.linalg.norm(matrix) * np.linalg.norm(vector)
    np.testing.assert_allclose(mandel.to_mandel(stress), matrix @ vector, rtol=0, atol=2e-15 * size)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6).map(np.array), st.integers(0, 2**32 - 1))
def test_strain_and_stretch_of_any_deformation(strain, seed):
    """E(U) = E, E(RU) = E, and σ → S → σ through RU, for any E with 1 + 2E > 0."""
    if np.linalg.eigvalsh(np.eye(3) + 2 * mandel.from_mandel(strain))[0] < 0.05:
        return
    stretch, generator = mandel.right_stretch(strain), np.random.default_rng(seed)
    turned = random_rotations(1, generator)[0] @ stretch
    for gradient in (stretch, turned):
        np.testing.assert_allclose(mandel.green_lagrange(gradient), strain, rtol=0, atol=1e-14)
    stress = generator.normal(size=6)
    back = mandel.cauchy_stress(mandel.second_piola(stress, turned), turned)
    np.testing.assert_allclose(back, stress, rtol=0, atol=1e-12)
