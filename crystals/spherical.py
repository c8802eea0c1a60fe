"""Real spherical harmonics, their coupling, and symmetric Mandel tensors as sums of them. numpy only.

Component m = −l … l of degree l, without the Condon–Shortley sign, scaled so that Σ_m Y_lm² = 1 on the unit sphere
(Racah's normalisation): Y_1 = (y, z, x). A vector of degree l turns by an orthogonal matrix D^l(Q), and for an improper
operation changes its sign by (−1)^l where it comes from directions (natural parity).
"""

from __future__ import annotations

from functools import cache
from math import factorial, sqrt

import numpy as np

from .mandel import IDENTITY, to_mandel


def spherical_harmonics(directions: np.ndarray, degree: int) -> np.ndarray:
    """All Y_lm of unit vectors up to a degree, l = 0 first, m = −l … l.

    Parameters
    ----------
    directions : array (..., 3)
        Unit vectors.
    degree : int
        Highest l.

    Returns
    -------
    array (..., (degree + 1)²)

    Notes
    -----
    Recurrence of the associated Legendre functions divided by (sin θ)^m (Press et al. 2007, Numerical Recipes, 6.7),
    which has no singular point.
    """
    x, y, z = np.ascontiguousarray(np.moveaxis(np.asarray(directions, dtype=float), -1, 0))
    cosine, sine = [np.ones_like(x)], [np.zeros_like(x)]
    for _ in range(degree):
        cosine.append(x * cosine[-1] - y * sine[-1])
        sine.append(y * cosine[-2] + x * sine[-1])
    # each function in one run of memory
    found = np.empty(((degree + 1) ** 2, *x.shape))
    for m in range(degree + 1):
        previous, value = np.zeros_like(x), np.full_like(x, float(np.prod(np.arange(1, 2 * m, 2))))
        for l in range(m, degree + 1):
            if l > m:
                previous, value = value, ((2 * l - 1) * z * value - (l + m - 1) * previous) / (l - m)
            scale = sqrt((2.0 if m else 1.0) * factorial(l - m) / factorial(l + m))
            scaled = scale * value
            np.multiply(scaled, cosine[m], out=found[l * l + l + m])
            if m:
                np.multiply(scaled, sine[m], out=found[l * l + l - m])
    return np.moveaxis(found, 0, -1)


def rotation_of_degree(rotation: np.ndarray, degree: int) -> np.ndarray:
    """D^l(Q) with Y_l(Q n) = D^l Y_l(n), (2l+1, 2l+1), for a proper or improper Q (3, 3)."""
    points = np.random.default_rng(0).normal(size=(8 * degree + 8, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    block = slice(degree**2, (degree + 1) ** 2)
    before = spherical_harmonics(points, degree)[:, block]
    after = spherical_harmonics(points @ np.asarray(rotation, dtype=float).T, degree)[:, block]
    return np.linalg.lstsq(before, after, rcond=None)[0].T


@cache
def coupling(first: int, second: int, third: int) -> np.ndarray:
    """Real coupling coefficients (2l₁+1, 2l₂+1, 2l₃+1): u_a v_b C_abc is of degree l₃ where u, v are of l₁, l₂.

    Orthonormal in c, Σ_ab C_abc C_abd = δ_cd; the sign is arbitrary but fixed. Clebsch–Gordan coefficients by Racah's
    formula (Edmonds 1957, Angular Momentum in Quantum Mechanics, eq. 3.6.10) carried to real harmonics.

    Raises
    ------
    ValueError
        Where |l₁ − l₂| ≤ l₃ ≤ l₁ + l₂ does not hold.
    """
    if not abs(first - second) <= third <= first + second:
        raise ValueError(
            f"coupling: expected degrees with |l1 - l2| <= l3 <= l1 + l2, got {first}, {second}, {third}. No other "
            "triple couples."
        )
    table = np.zeros((2 * first + 1, 2 * second + 1, 2 * third + 1), dtype=complex)
    for m1 in range(-first, first + 1):
        for m2 in range(-second, second + 1):
            if abs(m1 + m2) <= third:
                table[m1 + first, m2 + second, m1 + m2 + third] = _clebsch_gordan(first, m1, second, m2, third)
    table = np.einsum("ai,bj,ck,ijk->abc", _real(first), _real(second), _real(third).conj(), table)
    # the phase is common: 1 or i
    real = table.real if np.abs(table.real).max() > np.abs(table.imag).max() else table.imag
    flat = real.reshape(-1)
    real = real * np.sign(flat[np.argmax(np.abs(flat) > 1e-9)])
    real.setflags(write=False)
    return real


def _real(degree: int) -> np.ndarray:
    """Rows: real harmonics in terms of the complex ones, m = −l … l."""
    change = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    change[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1.0) ** m
        change[degree + m, degree + m], change[degree + m, degree - m] = sign / sqrt(2), 1 / sqrt(2)
        change[degree - m, degree + m], change[degree - m, degree - m] = -1j * sign / sqrt(2), 1j / sqrt(2)
    return change


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j: int) -> float:
    m, f = m1 + m2, factorial
    norm = (2 * j + 1) * f(j + j1 - j2) * f(j - j1 + j2) * f(j1 + j2 - j) / f(j1 + j2 + j + 1)
    norm *= f(j + m) * f(j - m) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    total = 0.0
    for k in range(j1 + j2 - j + 1):
        parts = (k, j1 + j2 - j - k, j1 - m1 - k, j2 + m2 - k, j - j2 + m1 + k, j - j1 - m2 + k)
        if min(parts) >= 0:
            total += (-1.0) ** k / float(np.prod([float(f(part)) for part in parts]))
    return sqrt(norm) * total


@cache
def strain_harmonics() -> np.ndarray:
    """Orthogonal matrix (6, 6): column 0 is 1/√3, columns 1 … 5 carry degree 2, as Mandel vectors.

    Column 1 + m of a Mandel vector E is the m-th component of its deviator: E = U (s, v) turns as s → s, v → D² v.
    """
    points = np.random.default_rng(0).normal(size=(64, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    deviators = to_mandel(points[:, :, None] * points[:, None, :]) - IDENTITY / 3.0
    columns = np.linalg.lstsq(spherical_harmonics(points, 2)[:, 4:9], deviators, rcond=None)[0].T
    columns[np.abs(columns) < 1e-12] = 0.0
    return np.column_stack([IDENTITY / sqrt(3.0), columns / sqrt(2.0 / 3.0)])


@cache
def symmetric_tensor_harmonics(order: int) -> tuple[tuple[int, np.ndarray], ...]:
    """Fully symmetric Mandel tensors (6, …, 6) of an order 1, 2 or 3 as an orthogonal sum of degrees.

    Returns
    -------
    tuple of (degree, tensors (2l+1, 6, …, 6))
        Orthonormal in the Frobenius product. Order 2: degrees 0 0 2 2 4, 21 components; order 3: degrees 0 0 0 2 2 2 3
        4 4 6, 56 components.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"symmetric_tensor_harmonics: expected an order of 1, 2 or 3, got {order!r}.")
    basis = strain_harmonics()
    if order == 1:
        return (0, basis[:, :1].T.copy()), (2, basis[:, 1:].T.copy())
    found: list[tuple[int, np.ndarray]] = []
    for lower_degree, lower in symmetric_tensor_harmonics(order - 1):
        for degree, part in ((0, basis[:, :1].T), (2, basis[:, 1:].T)):
            for joint in range(abs(lower_degree - degree), lower_degree + degree + 1):
                tensors = np.einsum("abc,a...,bi->c...i", coupling(lower_degree, degree, joint), lower, part)
                tensors = np.mean([np.moveaxis(tensors, -1, axis) for axis in range(1, order + 1)], axis=0)
                # Gram–Schmidt against those of the same degree: equal components are in proportion (Schur)
                for _ in range(2):
                    for other_degree, other in found:
                        if other_degree == joint:
                            tensors = tensors - np.vdot(other[0], tensors[0]) * other
                size = float(np.linalg.norm(tensors[0]))
                if size > 1e-9:
                    found.append((joint, tensors / size))
    found.sort(key=lambda item: item[0])
    return tuple(found)


@cache
def piezoelectric_harmonics() -> tuple[tuple[int, np.ndarray], ...]:
    """Third-rank tensors e_iJ (3, 6), Mandel in J, as an orthogonal sum of degrees 1 1 2 3, each (2l+1, 3, 6).

    They change sign under inversion: degrees 1 and 3 are of natural parity, degree 2 is not.
    """
    vector = np.eye(3)[[1, 2, 0]]  # Y_1 = (y, z, x)
    basis, found = strain_harmonics(), []
    for degree, part in ((0, basis[:, :1].T), (2, basis[:, 1:].T)):
        for joint in range(abs(1 - degree), 1 + degree + 1):
            found.append((joint, np.einsum("abc,ai,bj->cij", coupling(1, degree, joint), vector, part)))
    return tuple(sorted(found, key=lambda item: item[0]))
