"""Spaces of invariant tensors, and polynomial strain invariants of every class.

Everything acts on polynomials of the Mandel strain vector x ∈ R⁶. A rotation Q acts on x by an orthogonal 6×6 matrix,
hence on homogeneous polynomials of degree n by its symmetric power. For finite groups the invariant subspace is the
image of the group average (Reynolds operator); for the limit groups it is the null space of the infinitesimal
generators and the discrete ones. Polynomials of degree n stand for elastic constants of order n.

The number of invariants of each degree follows, independently of all that, from the Molien series (Molien 1897;
Sturmfels 2008, Algorithms in Invariant Theory, theorem 2.2.1). Generating sets agree in number with Smith 1962
(doi:10.1007/BF00281182).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from math import factorial

import numpy as np

from .groups import PointGroup
from .rotations import mandel_rotation


@dataclass(frozen=True)
class Polynomials:
    """Polynomials of the Mandel strain in the group's standard frame.

    Attributes
    ----------
    exponents : int array (m, 6)
        Exponents of each monomial. Both arrays are copied and read-only.
    coefficients : array (k, m)
        Polynomial k is Σ_m coefficients[k, m] · Π_i x_i^exponents[m, i].
    """

    exponents: np.ndarray
    coefficients: np.ndarray

    def __post_init__(self) -> None:
        # Bases are cached and shared: nobody may change them.
        for name in ("exponents", "coefficients"):
            array = np.array(getattr(self, name))
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.coefficients)

    @property
    def degrees(self) -> np.ndarray:
        """Degree of each polynomial (k,)."""
        used = self.coefficients != 0
        return np.array([int(self.exponents[row].sum(axis=1).max(initial=0)) for row in used], dtype=int)

    def __call__(self, strain: np.ndarray) -> np.ndarray:
        """Values (n, k) at Mandel strains (n, 6)."""
        powers = np.prod(np.asarray(strain)[:, None, :] ** self.exponents[None], axis=-1)
        return powers @ self.coefficients.T


def _frozen(array: np.ndarray) -> np.ndarray:
    """The same array, read-only: what is cached is shared."""
    array.setflags(write=False)
    return array


@cache
def _monomials(degree: int) -> tuple[np.ndarray, dict[tuple[int, ...], int]]:
    """Exponents (m, 6) of all monomials of one degree, and the place of each."""
    rows = []
    for chosen in itertools.combinations_with_replacement(range(6), degree):
        rows.append([chosen.count(i) for i in range(6)])
    exponents = _frozen(np.array(rows, dtype=int).reshape(-1, 6))
    return exponents, {tuple(row): place for place, row in enumerate(exponents.tolist())}


@cache
def _raise(degree: int) -> np.ndarray:
    """Place (6, m) of x_j times monomial m of `degree` among the monomials of degree + 1."""
    exponents, _ = _monomials(degree)
    _, places = _monomials(degree + 1)
    unit = np.eye(6, dtype=int)
    return _frozen(np.array([[places[tuple(row)] for row in (exponents + unit[j]).tolist()] for j in range(6)]))


@cache
def _parents(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """For each monomial of `degree`: one of its variables, and the place of the quotient in degree − 1."""
    exponents, _ = _monomials(degree)
    _, places = _monomials(degree - 1)
    variable = np.argmax(exponents > 0, axis=1)
    quotient = exponents - np.eye(6, dtype=int)[variable]
    return _frozen(variable), _frozen(np.array([places[tuple(row)] for row in quotient.tolist()]))


def symmetric_power(matrix: np.ndarray, degree: int) -> np.ndarray:
    """Matrix of f(x) → f(matrix · x) on the coefficients of homogeneous polynomials of one degree."""
    power = np.ones((1, 1))
    for d in range(1, degree + 1):
        variable, parent = _parents(d)
        up = _raise(d - 1)
        following = np.zeros((len(variable), len(variable)))
        for j in range(6):
            following[up[j]] += matrix[variable, j] * power[:, parent]
        power = following
    return power


def _derivation(matrix: np.ndarray, degree: int) -> np.ndarray:
    """Matrix of f → ∇f · (matrix · x), the derivative of `symmetric_power` at the identity."""
    result = np.zeros((1, 1))
    for d in range(1, degree + 1):
        variable, parent = _parents(d)
        up = _raise(d - 1)
        following = np.zeros((len(variable), len(variable)))
        columns = np.arange(len(variable))
        for j in range(6):
            following[up[j][parent], columns] += matrix[variable, j]
            chosen = variable == j
            following[np.ix_(up[j], columns[chosen])] += result[:, parent[chosen]]
        result = following
    return result


@cache
def _projector(symbol: str, degree: int) -> np.ndarray:
    """Projector on the invariant polynomials of one degree, in the standard frame."""
    group = PointGroup(symbol).laue
    if group.is_finite:
        turns = mandel_rotation(group.rotations)
        return _frozen(sum((symmetric_power(turn, degree) for turn in turns), np.zeros(())) / len(turns))
    # Orthonormal coordinates: the group acts by orthogonal matrices where x^α carries the weight √(α!/n!).
    exponents, _ = _monomials(degree)
    weights = np.sqrt([np.prod([factorial(a) for a in row]) / factorial(degree) for row in exponents.tolist()])
    conditions = [_derivation(_mandel_spin(spin), degree) for spin in group.infinitesimal_generators]
    conditions += [
        symmetric_power(mandel_rotation(operation), degree) - np.eye(len(exponents)) for operation in group.generators
    ]
    stacked = np.concatenate(conditions) * (1.0 / weights)[None, :]
    stacked = stacked * np.tile(weights, len(conditions))[:, None]
    _, values, vectors = np.linalg.svd(stacked, full_matrices=True)
    rank = int(np.sum(values > 1e-9 * max(1.0, values[0])))
    basis = vectors[rank:].T
    return _frozen((basis @ basis.T) * weights[None, :] / weights[:, None])


def _mandel_spin(spin: np.ndarray) -> np.ndarray:
    """d/dθ of the Mandel rotation matrix of exp(θ spin): exact, since that matrix is quadratic in the rotation."""
    plus, minus = mandel_rotation(np.eye(3) + spin), mandel_rotation(np.eye(3) - spin)
    return 0.5 * (plus - minus)


@cache
def invariant_count(symbol: str, degree: int) -> int:
    """Number of independent invariant polynomials of one degree, from the Molien series.

    The invariants are counted by averaging the character of the symmetric power, the degree-n coefficient of
    1/det(1 − t R), over the group: a sum for finite groups, an exact trapezoidal rule over the Haar measure for the
    limits (weight (1 − cos θ)/π on the rotation angle for the full rotation group).
    """
    group = PointGroup(symbol).laue

    def character(turn: np.ndarray) -> float:
        # Newton: n h_n = Σ_k p_k h_{n−k} with power sums p_k = tr R^k.
        sums, power = [], np.eye(6)
        for _ in range(degree):
            power = power @ turn
            sums.append(float(np.trace(power)))
        complete = [1.0]
        for n in range(1, degree + 1):
            complete.append(sum(sums[k - 1] * complete[n - k] for k in range(1, n + 1)) / n)
        return complete[degree]

    if group.is_finite:
        return round(float(np.mean([character(turn) for turn in mandel_rotation(group.rotations)])))
    angles = 2.0 * np.pi * np.arange(4 * degree + 8) / (4 * degree + 8)
    cosine, sine, one = np.cos(angles), np.sin(angles), np.ones_like(angles)
    zero = 0.0 * one
    spins = np.moveaxis(np.array([[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]]), -1, 0)
    about = np.array([character(turn) for turn in mandel_rotation(spins)])
    if group.symbol == "∞∞m":
        return round(float(np.mean(about * (1.0 - cosine))))
    if group.symbol == "∞/m":
        return round(float(np.mean(about)))
    flip = np.diag([1.0, -1.0, -1.0])
    flipped = np.array([character(turn) for turn in mandel_rotation(spins @ flip)])
    return round(float(0.5 * (np.mean(about) + np.mean(flipped))))


def _independent(rows: list[np.ndarray], wanted: int, candidates: np.ndarray) -> list[int]:
    """Greedy choice of candidates that extend `rows` to `wanted` independent vectors (Gram–Schmidt)."""
    basis: list[np.ndarray] = []

    def reduced(vector: np.ndarray) -> np.ndarray:
        for _ in range(2):
            for known in basis:
                vector = vector - (known @ vector) * known
        return vector

    for row in rows:
        rest = reduced(row / np.linalg.norm(row))
        if np.linalg.norm(rest) > 1e-8:
            basis.append(rest / np.linalg.norm(rest))
    chosen = []
    for place, candidate in enumerate(candidates):
        if len(basis) == wanted:
            break
        rest = reduced(candidate / np.linalg.norm(candidate))
        if np.linalg.norm(rest) > 1e-6:
            basis.append(rest / np.linalg.norm(rest))
            chosen.append(place)
    if len(basis) != wanted:
        raise AssertionError(f"found {len(basis)} independent invariants, the Molien series says {wanted}")
    return chosen


def _candidates(symbol: str, degree: int) -> np.ndarray:
    """Group averages of single monomials, scaled to largest coefficient 1, shortest first."""
    projector = _projector(symbol, degree).copy()
    columns = projector.T
    size = np.max(np.abs(columns), axis=1)
    columns = columns[size > 1e-9] / size[size > 1e-9, None]
    columns[np.abs(columns) < 1e-12] = 0.0
    return columns[np.argsort(np.count_nonzero(columns, axis=1), kind="stable")]


@cache
def invariant_polynomials(symbol: str, degree: int) -> Polynomials:
    """A basis of all invariant homogeneous polynomials of one degree, in the group's standard frame.

    Parameters
    ----------
    symbol : str
        Group symbol, as in `PointGroup`.
    degree : int
        At least 1. Degree n belongs to elastic constants of order n.
    """
    if degree < 1:
        raise ValueError(f"invariant_polynomials: expected a degree of at least 1, got {degree}. Ask for 2 or more.")
    candidates = _candidates(symbol, degree)
    chosen = _independent([], invariant_count(symbol, degree), candidates)
    return Polynomials(_monomials(degree)[0], candidates[chosen])


def _multiply(first: np.ndarray, degree: int, second: np.ndarray, second_degree: int) -> np.ndarray:
    """Coefficients of the product of two homogeneous polynomials."""
    left, _ = _monomials(degree)
    right, _ = _monomials(second_degree)
    _, places = _monomials(degree + second_degree)
    result = np.zeros(len(places))
    for i in np.flatnonzero(first):
        for j in np.flatnonzero(second):
            result[places[tuple((left[i] + right[j]).tolist())]] += first[i] * second[j]
    return result


@cache
def _generated(symbol: str, max_degree: int) -> tuple[tuple[int, np.ndarray], ...]:
    generators: list[tuple[int, np.ndarray]] = []
    # products[d]: (coefficients, place of the largest generator used), so that each product is made once
    products: dict[int, list[tuple[np.ndarray, int]]] = {0: [(np.ones(1), 0)]}
    for degree in range(1, max_degree + 1):
        made = [
            (_multiply(lower, degree - size, generator, size), place)
            for place, (size, generator) in enumerate(generators)
            for lower, largest in products[degree - size]
            if largest <= place
        ]
        candidates = _candidates(symbol, degree)
        for chosen in _independent([row for row, _ in made], invariant_count(symbol, degree), candidates):
            made.append((candidates[chosen], len(generators)))
            generators.append((degree, _frozen(candidates[chosen].copy())))
        products[degree] = made
    return tuple(generators)


@cache
def strain_invariants(symbol: str, max_degree: int = 6) -> Polynomials:
    """Generators of all polynomial strain invariants of a group up to `max_degree`, in its standard frame.

    Every invariant polynomial of degree ≤ `max_degree` is a polynomial of these; the count of what they generate is
    checked against the Molien series while they are built. Degree 6 holds the complete integrity basis of every Laue
    class (Smith 1962): 6 invariants for -1, 7 for 2/m and mmm, 12 for 4/m, 8 for 4/mmm, 14 for -3, 9 for -3m, 14 for
    6/m, 9 for 6/mmm, 14 for m-3, 9 for m-3m, 5 for ∞/mm, 3 for ∞∞m.
    """
    generators = _generated(symbol, max_degree)
    exponents = np.concatenate([_monomials(degree)[0] for degree in range(1, max_degree + 1)])
    starts = {degree: sum(len(_monomials(d)[0]) for d in range(1, degree)) for degree in range(1, max_degree + 1)}
    coefficients = np.zeros((len(generators), len(exponents)))
    for place, (degree, generator) in enumerate(generators):
        coefficients[place, starts[degree] : starts[degree] + len(generator)] = generator
    used = np.any(coefficients != 0, axis=0)
    return Polynomials(exponents[used], coefficients[:, used])


def invariant_tensors(symbol: str, order: int) -> np.ndarray:
    """Basis of the elastic-constant tensors of one order, fully symmetric in `order` Mandel indices.

    Parameters
    ----------
    symbol : str
        Group symbol, as in `PointGroup`.
    order : int
        1 (stress-like) to 4 (fourth-order elastic constants), or more.

    Returns
    -------
    array (k, 6, …, 6)
        Tensor T of each invariant polynomial p: p(x) = T x … x / order!, so T = ∂ⁿp/∂xⁿ, the Brugger convention
        (Brugger 1964, doi:10.1103/PhysRev.133.A1611). Mandel components, standard frame.
    """
    basis = invariant_polynomials(symbol, order)
    factorials = np.array([np.prod([factorial(a) for a in row]) for row in basis.exponents.tolist()], dtype=float)
    _, places = _monomials(order)
    tensors = np.zeros((len(basis),) + (6,) * order)
    for index in itertools.product(range(6), repeat=order):
        place = places[tuple(index.count(i) for i in range(6))]
        tensors[(slice(None), *index)] = basis.coefficients[:, place] * factorials[place]
    return tensors


def strain_orbit(group: PointGroup, strain: np.ndarray) -> np.ndarray:
    """All strains (m, n, 6) equivalent to `strain` (n, 6) under the m proper Laue rotations of a finite group."""
    return np.einsum("mij,nj->mni", mandel_rotation(group.rotations), np.asarray(strain, dtype=float))
