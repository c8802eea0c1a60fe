"""Laws of invariant tensors and strain invariants of every class."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystals import mandel
from crystals.groups import POINT_GROUPS, STRAIN_CLASSES, PointGroup
from crystals.invariants import (
    invariant_count,
    invariant_polynomials,
    invariant_tensors,
    strain_invariants,
    strain_orbit,
)
from crystals.rotations import mandel_rotation, random_rotations, rotate_matrix, rotation_about

# Number of independent constants of order 2, 3, 4 (Molien series).
DIMENSIONS = {
    "-1": (21, 56, 126),
    "2/m": (13, 32, 70),
    "mmm": (9, 20, 42),
    "4/m": (7, 16, 36),
    "4/mmm": (6, 12, 25),
    "-3": (7, 20, 42),
    "-3m": (6, 14, 28),
    "6/m": (5, 12, 24),
    "6/mmm": (5, 10, 19),
    "m-3": (3, 8, 14),
    "m-3m": (3, 6, 11),
    "∞/m": (5, 10, 18),
    "∞/mm": (5, 9, 16),
    "∞∞m": (2, 3, 4),
}
# Size of the integrity basis (Smith 1962 for the Laue classes).
GENERATORS = {
    "-1": 6,
    "2/m": 7,
    "mmm": 7,
    "4/m": 12,
    "4/mmm": 8,
    "-3": 14,
    "-3m": 9,
    "6/m": 14,
    "6/mmm": 9,
    "m-3": 14,
    "m-3m": 9,
    "∞/m": 6,
    "∞/mm": 5,
    "∞∞m": 3,
}
X, Z, BODY = np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), np.ones(3)
# A rotation outside each class that leads to the next larger one, and the lowest order of constants that notices it.
OUTSIDE = {
    "-1": (rotation_about(Z, np.pi), 2),
    "2/m": (rotation_about(X, np.pi), 2),
    "mmm": (rotation_about(Z, np.pi / 2), 2),
    "4/m": (rotation_about(X, np.pi), 2),
    "4/mmm": (rotation_about(BODY, 2 * np.pi / 3), 2),
    "-3": (rotation_about(X, np.pi), 2),
    "-3m": (rotation_about(Z, np.pi), 2),
    "6/m": (rotation_about(X, np.pi), 3),
    "6/mmm": (rotation_about(Z, np.pi / 6), 3),
    "m-3": (rotation_about(Z, np.pi / 2), 3),
    "m-3m": (rotation_about(X, 0.3), 2),
    "∞/m": (rotation_about(X, np.pi), 3),
    "∞/mm": (rotation_about(X, 0.3), 2),
}


@pytest.fixture
def rng():
    return np.random.default_rng(20242)


def strains(generator, number):
    strain = generator.normal(size=(number, 6))
    return strain / np.linalg.norm(strain, axis=1, keepdims=True)


def magnitude(polynomials, strain):
    """Σ |coefficient · monomial|: the size rounding is measured against."""
    powers = np.prod(np.abs(strain)[:, None, :] ** polynomials.exponents[None], axis=-1)
    return powers @ np.abs(polynomials.coefficients).T


def change(polynomials, rotation, strain):
    """Largest change of each polynomial under a rotation of the strain, relative to `magnitude`."""
    turned = strain @ mandel_rotation(rotation).T
    size = np.maximum(magnitude(polynomials, strain), magnitude(polynomials, turned))
    return np.max(np.abs(polynomials(turned) - polynomials(strain)) / size, axis=0)


def quadrature(symbol, degree):
    """Rotations, with weights, whose average of polynomials up to `degree` is that of the group exactly.

    Finite groups: all of them. The limits: enough turns to integrate every harmonic, 2·degree at most.
    """
    group = PointGroup(symbol)
    if group.is_finite:
        turns = group.rotations
        return turns, np.full(len(turns), 1 / len(turns))
    count = 2 * degree + 1
    about = np.array([rotation_about(Z, 2 * np.pi * k / count) for k in range(count)])
    if symbol == "∞/m":
        return about, np.full(count, 1 / count)
    if symbol == "∞/mm":
        turns = np.concatenate([about, about @ rotation_about(X, np.pi)])
        return turns, np.full(2 * count, 0.5 / count)
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    tilts = np.array([rotation_about(X, np.arccos(node)) for node in nodes])
    turns = np.einsum("aij,bjk,ckl->abcil", about, tilts, about).reshape(-1, 3, 3)
    return turns, np.broadcast_to(weights[None, :, None] / 2 / count**2, (count, degree + 1, count)).reshape(-1)


def monomials(degree):
    rows = itertools.combinations_with_replacement(range(6), degree)
    return np.array([[row.count(i) for i in range(6)] for row in rows])


def evaluate(exponents, strain):
    """Monomials (n, m) at strains (n, 6)."""
    result = np.ones((len(strain), len(exponents)))
    for variable in range(6):
        powers = strain[:, variable, None] ** np.arange(exponents.max() + 1)
        result *= powers[:, exponents[:, variable]]
    return result


def averages(symbol, degree, strain):
    """Group averages (n, m) of all monomials of one degree, by evaluation only. They span all invariants."""
    turns, weights = quadrature(symbol, degree)
    exponents = monomials(degree)
    result = np.zeros((len(strain), len(exponents)))
    for turn, weight in zip(mandel_rotation(turns), weights, strict=True):
        result += weight * evaluate(exponents, strain @ turn.T)
    return result


def rank(columns):
    """Numerical rank with a demand that the gap in the singular values be clear."""
    if columns.shape[1] == 0:
        return 0
    sizes = np.linalg.norm(columns, axis=0)
    columns = columns[:, sizes > 1e-10 * sizes.max()]
    values = np.linalg.svd(columns / np.linalg.norm(columns, axis=0), compute_uv=False)
    found = int(np.sum(values > 1e-9 * values[0]))
    if found < len(values):
        assert values[found] < 1e-3 * values[found - 1], f"no clear gap: {values[found - 1]:.2g}, {values[found]:.2g}"
    return found


def products(degrees, degree):
    """Exponents of all products of generators that have one degree."""
    found = []

    def extend(place, left, chosen):
        if left == 0:
            found.append(chosen + [0] * (len(degrees) - len(chosen)))
        elif place < len(degrees):
            for power in range(left // degrees[place] + 1):
                extend(place + 1, left - power * degrees[place], [*chosen, power])

    extend(0, degree, [])
    return np.array(found)


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
@pytest.mark.parametrize("order", [2, 3, 4])
def test_number_of_independent_constants(symbol, order):
    expected = DIMENSIONS[symbol][order - 2]
    assert invariant_count(symbol, order) == expected
    polynomials = invariant_polynomials(symbol, order)
    assert len(polynomials) == expected and set(polynomials.degrees) == {order}
    tensors = invariant_tensors(symbol, order)
    assert tensors.shape == (expected,) + (6,) * order
    assert np.linalg.matrix_rank(tensors.reshape(expected, -1), tol=1e-8) == expected


@pytest.mark.parametrize("symbol", [symbol for symbol in POINT_GROUPS if symbol not in STRAIN_CLASSES])
def test_point_groups_have_the_invariants_of_their_laue_class(symbol):
    laue = PointGroup(symbol).laue.symbol
    assert [invariant_count(symbol, n) for n in (2, 3, 4)] == list(DIMENSIONS[laue])
    np.testing.assert_array_equal(invariant_tensors(symbol, 2), invariant_tensors(laue, 2))


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_polynomials_do_not_change_under_the_group(symbol, rng):
    operations = PointGroup(symbol).sample(20, rng)
    strain = strains(rng, 12)
    for polynomials in [invariant_polynomials(symbol, n) for n in (1, 2, 3, 4)] + [strain_invariants(symbol)]:
        worst = max(np.max(change(polynomials, operation, strain)) for operation in operations)
        assert worst < 1e-12


@pytest.mark.parametrize("symbol", OUTSIDE)
def test_a_rotation_outside_the_class_is_noticed(symbol, rng):
    """Negative control, with the order of constants at which the supergroup is told apart."""
    outside, noticed = OUTSIDE[symbol]
    strain = strains(rng, 12)
    for order in range(2, noticed):
        assert np.max(change(invariant_polynomials(symbol, order), outside, strain)) < 1e-12
    assert np.max(change(invariant_polynomials(symbol, noticed), outside, strain)) > 1e-2
    assert np.max(change(strain_invariants(symbol), outside, strain)) > 1e-2
    for turn in random_rotations(5, rng):
        assert np.max(change(strain_invariants(symbol), turn, strain)) > 1e-3


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_strain_invariants_generate_everything_and_none_is_idle(symbol, rng):
    """Products of the generators span, degree by degree, the group averages of all monomials; no generator is spare.

    By evaluation at random strains only: neither the Molien series nor the code's projectors enter the reference.
    """
    generators = strain_invariants(symbol)
    degrees = generators.degrees
    assert len(generators) == GENERATORS[symbol]
    assert np.all(np.diff(degrees) >= 0)
    for degree in range(1, 7):
        dimension = invariant_count(symbol, degree)
        strain = strains(rng, dimension + 15)
        invariants = averages(symbol, degree, strain)
        exponents = products(degrees, degree)
        values = generators(strain)
        made = np.prod(values[:, None, :] ** exponents[None], axis=-1)
        assert rank(invariants) == dimension
        assert rank(made) == dimension
        scaled = [block / np.linalg.norm(block, axis=0).max() for block in (made, invariants)]
        assert rank(np.concatenate(scaled, axis=1)) == dimension
        for place in np.flatnonzero(degrees == degree):
            assert rank(made[:, exponents[:, place] == 0]) == dimension - 1


def test_degrees_of_the_cubic_integrity_basis():
    """Smith 1962: m-3m has 9 generators of degrees 1 2 2 3 3 3 4 4 5."""
    assert strain_invariants("m-3m").degrees.tolist() == [1, 2, 2, 3, 3, 3, 4, 4, 5]
    assert strain_invariants("∞∞m").degrees.tolist() == [1, 2, 3]
    assert strain_invariants("∞/mm").degrees.tolist() == [1, 1, 2, 2, 3]
    assert strain_invariants("mmm").degrees.tolist() == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("symbol", ["4/mmm", "-3m", "6/mmm", "m-3m", "∞/mm", "∞∞m"])
def test_no_generator_of_degree_seven(symbol, rng):
    """Degree 6 is enough: products of the generators still fill degree 7."""
    generators = strain_invariants(symbol)
    exponents = products(generators.degrees, 7)
    dimension = invariant_count(symbol, 7)
    made = np.prod(generators(strains(rng, dimension + 15))[:, None, :] ** exponents[None], axis=-1)
    assert rank(made) == dimension


@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_tensors_are_symmetric_and_turn_into_themselves(symbol, rng):
    second, third = invariant_tensors(symbol, 2), invariant_tensors(symbol, 3)
    np.testing.assert_array_equal(second, np.swapaxes(second, 1, 2))
    for order in itertools.permutations((1, 2, 3)):
        np.testing.assert_array_equal(third, np.transpose(third, (0, *order)))
    for operation in PointGroup(symbol).sample(6, rng)[:8]:
        turn = mandel_rotation(operation)
        np.testing.assert_allclose(turn @ second @ turn.T, second, atol=1e-12)
        np.testing.assert_allclose(np.einsum("ia,jb,kc,nabc->nijk", turn, turn, turn, third), third, atol=1e-12)


@pytest.mark.parametrize("symbol", ["-1", "-3m", "m-3", "∞/mm"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_tensors_are_the_derivatives_of_the_polynomials(symbol, order, rng):
    """Brugger: p(x) = T x … x / n!."""
    strain = strains(rng, 7)
    contracted = invariant_tensors(symbol, order)
    contracted = np.einsum("k...i,ni->nk...", contracted, strain)
    for _ in range(order - 1):
        contracted = np.einsum("nk...i,ni->nk...", contracted, strain)
    factorial = float(np.prod(np.arange(1, order + 1)))
    np.testing.assert_allclose(contracted / factorial, invariant_polynomials(symbol, order)(strain), atol=1e-12)


def pattern(symbol, rng):
    """A random stiffness of a class, in Voigt notation."""
    tensors = invariant_tensors(symbol, 2)
    return mandel.stiffness_to_voigt(np.einsum("k,kij->ij", rng.uniform(1, 2, size=len(tensors)), tensors))


def test_trigonal_pattern_of_the_textbook(rng):
    """Nye 1957, table 9, classes 32, 3m, -3m: C14 = −C24 = C56, C66 = (C11 − C12)/2."""
    c = pattern("-3m", rng)
    zeros = [(0, 4), (0, 5), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5), (3, 4), (3, 5)]
    assert max(abs(c[place]) for place in zeros) < 1e-14
    equal = [(c[0, 0], c[1, 1]), (c[0, 2], c[1, 2]), (c[3, 3], c[4, 4]), (c[0, 3], -c[1, 3]), (c[0, 3], c[4, 5])]
    for first, second in [*equal, (c[5, 5], (c[0, 0] - c[0, 1]) / 2)]:
        assert first == pytest.approx(second, rel=1e-13)
    assert abs(c[0, 3]) > 1e-3
    # -3 adds C15 = −C25 = −C46.
    c = pattern("-3", rng)
    assert c[0, 4] == pytest.approx(-c[1, 4], rel=1e-12) and c[0, 4] == pytest.approx(-c[3, 5], rel=1e-12)
    assert abs(c[0, 4]) > 1e-3 and abs(c[0, 5]) < 1e-14


def test_other_patterns_of_the_textbook(rng):
    c = pattern("m-3m", rng)
    expected = np.zeros((6, 6))
    expected[:3, :3] = c[0, 1] + (c[0, 0] - c[0, 1]) * np.eye(3)
    expected[3:, 3:] = c[3, 3] * np.eye(3)
    np.testing.assert_allclose(c, expected, atol=1e-14)
    assert abs(c[3, 3] - (c[0, 0] - c[0, 1]) / 2) > 1e-3
    c = pattern("4/m", rng)
    assert c[0, 5] == pytest.approx(-c[1, 5], rel=1e-13) and abs(c[0, 5]) > 1e-3
    for symbol in ("6/m", "6/mmm", "∞/m", "∞/mm"):
        c = pattern(symbol, rng)
        assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2, rel=1e-12)
        assert np.max(np.abs(c[:3, 3:])) < 1e-14 and c[3, 3] == pytest.approx(c[4, 4], rel=1e-12)
    c = pattern("2/m", rng)  # unique axis b
    odd = [(i, j) for i in (0, 1, 2, 4) for j in (3, 5)]
    assert max(abs(c[place]) for place in odd) < 1e-14
    assert min(abs(c[place]) for place in [(0, 4), (1, 4), (2, 4), (3, 5)]) > 1e-3


@pytest.mark.parametrize(("smaller", "larger"), [("m-3", "m-3m"), ("6/m", "6/mmm"), ("6/mmm", "∞/mm"), ("6/m", "∞/m")])
def test_linear_elasticity_cannot_tell_these_apart(smaller, larger):
    def together(order):
        both = [invariant_tensors(symbol, order).reshape(-1, 6**order) for symbol in (smaller, larger)]
        return np.linalg.matrix_rank(np.concatenate(both), tol=1e-8)

    assert together(2) == DIMENSIONS[smaller][0] == DIMENSIONS[larger][0]
    assert together(3) == DIMENSIONS[smaller][1] > DIMENSIONS[larger][1]


def test_a_larger_class_has_fewer_invariants_all_of_them_in_the_smaller():
    chains = [("-1", "2/m"), ("mmm", "4/mmm"), ("4/m", "4/mmm"), ("-3", "-3m"), ("-3m", "6/mmm"), ("mmm", "m-3")]
    for smaller, larger in [*chains, ("4/mmm", "m-3m"), ("m-3m", "∞∞m"), ("∞/mm", "∞∞m"), ("-1", "m-3m")]:
        for order in (2, 3, 4):
            both = [invariant_polynomials(symbol, order).coefficients for symbol in (smaller, larger)]
            stacked = np.concatenate([block / np.linalg.norm(block, axis=1, keepdims=True) for block in both])
            assert np.linalg.matrix_rank(stacked, tol=1e-8) == len(both[0]) > len(both[1])


def test_strain_orbit(rng):
    frame = random_rotations(1, rng)[0]
    group = PointGroup("-43m", frame)
    strain = strains(rng, 4)
    orbit = strain_orbit(group, strain)
    assert orbit.shape == (24, 4, 6)
    invariants = strain_invariants("-43m")
    standard = np.einsum("ij,mnj->mni", mandel_rotation(frame.T), orbit)
    values = np.array([invariants(copy) for copy in standard])
    np.testing.assert_allclose(values, np.broadcast_to(values[:1], values.shape), atol=1e-13)
    assert np.max(np.abs(invariants(orbit[5]) - invariants(strain))) > 1e-3  # the frame forgotten
    with pytest.raises(ValueError, match="finite group"):
        strain_orbit(PointGroup("∞/mm"), strain)


def test_invariant_stiffness_commutes_with_functions(rng):
    """exp of a symmetric Mandel matrix in the invariant space is in it too, and positive definite."""
    tensors = invariant_tensors("-3m", 2)
    values, vectors = np.linalg.eigh(np.einsum("k,kij->ij", rng.normal(size=len(tensors)), tensors))
    stiffness = vectors * np.exp(values) @ vectors.T
    for operation in PointGroup("32").operations:
        np.testing.assert_allclose(rotate_matrix(operation, stiffness), stiffness, rtol=1e-10, atol=1e-10)
    assert np.max(np.abs(rotate_matrix(rotation_about(Z, np.pi), stiffness) - stiffness)) > 1e-2


def test_errors():
    with pytest.raises(ValueError, match="invariant_polynomials: expected a degree of at least 1, got 0"):
        invariant_polynomials("m-3m", 0)
    with pytest.raises(ValueError, match="PointGroup: expected a Hermann–Mauguin symbol"):
        strain_invariants("m-4m")


@pytest.mark.parametrize("basis", [lambda: invariant_polynomials("m-3m", 3), lambda: strain_invariants("m-3m"),
                                   lambda: strain_invariants("∞/mm", 3)])  # fmt: skip
def test_cached_bases_cannot_be_changed(basis):
    for array in (basis().exponents, basis().coefficients):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 7


def test_a_copy_of_a_basis_can_be_changed():
    mine = strain_invariants("m-3m").coefficients.copy()
    mine[0, 0] = 7
    assert strain_invariants("m-3m").coefficients[0, 0] != 7


SMALL = st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6).map(np.array)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.sampled_from(POINT_GROUPS), SMALL, st.integers(0, 10**6))
def test_invariants_of_any_strain_along_its_orbit(symbol, strain, place):
    """I(R E) = I(E) for each operation of each of the 32 groups, improper ones too; not for a turn outside the Laue class."""
    group, basis = PointGroup(symbol), strain_invariants(PointGroup(symbol).laue.symbol)
    operation = group.operations[place % len(group.operations)]
    size = np.maximum(np.linalg.norm(strain), 1e-3) ** basis.degrees
    orbit = strain_orbit(group, strain[None])[:, 0]
    turned = mandel_rotation(operation) @ strain
    assert np.any(np.all(np.abs(orbit - turned) < 1e-14, axis=1))
    assert (np.abs(basis(orbit) - basis(strain[None])) / size).max() < 1e-12
    # control
    deviator = strain - strain[:3].mean() * mandel.IDENTITY
    if np.linalg.norm(deviator) > 0.1:
        outside = mandel_rotation(rotation_about(np.array([0.3, -0.5, 0.8]), 0.7)) @ strain
        assert (np.abs(basis(outside[None]) - basis(strain[None])) / size).max() > 1e-6
