"""Moduli of a crystal as a net of springs between its sites, whose sites relax: for many crystals at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .mandel import PAIRS, POSITION, WEIGHTS
from .neighbours import Neighbours

#: ε n = R(n)·ε for a Mandel vector ε: R (3, 6) = Σ_c n_c _TURN[c].
_TURN = np.zeros((3, 3, 6))
for _place, (_i, _j) in enumerate(PAIRS):
    _TURN[_j, _i, _place] = _TURN[_i, _j, _place] = 1.0 / WEIGHTS[_place]


def spring_moduli(
    bonds: Neighbours, strengths: Mapping[Any, np.ndarray], springs: Sequence[tuple[Any, float]]
) -> np.ndarray:
    """What nets of springs say of the moduli of k crystals.

    Parameters
    ----------
    bonds : Neighbours
    strengths : mapping to (p,)
        Stiffness of every bond, under a name.
    springs : sequence of (name, across)
        Nets: name of the stiffness along a bond, and stiffness across over along it.

    Returns
    -------
    array (k, 6, nets)
        ln K, ln G/K, G_R/G_V, K_R/K_V, softest over stiffest, relaxed over clamped ions.

    Notes
    -----
    A bond r = r n that changes by Δ = ε r + u_j − u_i holds ½ Δ·M·Δ with M = k [(1 − b) n n + b 1]. All that is needed are
    sums of k r^d times products of the components of n, which are made once for each k.
    """
    known = {name: _moments(bonds, strength) for name, strength in strengths.items()}
    found = [_stiffness(bonds, known[name], across) for name, across in springs]
    relaxed, clamped = np.stack([one for one, _ in found], axis=1), np.stack([one for _, one in found], axis=1)
    return _measures(relaxed, clamped)


def _moments(bonds: Neighbours, strength: np.ndarray) -> list[np.ndarray]:
    """Sums of k and k n n over pairs, of k r n and k r n (n n) over sites, of k r² and k r² (n n)(n n) over crystals.

    n n as a Mandel vector: (p,), (p, 6), (n, 3), (n, 3, 6), (k, 6), (k, 6, 6).
    """
    n, distance, pairs = bonds.direction, bonds.distance, bonds.pair_starts
    x, y, z = n
    root = np.sqrt(2.0)
    square = np.stack([x * x, y * y, z * z, root * y * z, root * x * z, root * x * y])
    sites = np.searchsorted(bonds.first[pairs], np.arange(len(bonds.numbers)))
    crystals = np.cumsum(bonds.counts) - bonds.counts
    starts = pairs[sites]
    once, twice = strength * distance, strength * distance**2
    of_pairs = np.add.reduceat(np.concatenate([strength[None], strength * square]), pairs, axis=1).T
    pulled = once * n
    of_sites = np.add.reduceat(pulled, starts, axis=1)
    cubic = np.add.reduceat(pulled[:, None] * square, starts, axis=2)
    weighted = twice * square
    first = starts[crystals].tolist()
    quartic = np.stack(
        [weighted[:, a:b] @ square[:, a:b].T for a, b in zip(first, [*first[1:], len(strength)], strict=True)]
    )
    quadratic = np.add.reduceat(weighted, starts[crystals], axis=1)
    return [of_pairs[:, 0], of_pairs[:, 1:], of_sites.T, cubic.transpose(2, 0, 1), quadratic.T, quartic]


def _stiffness(bonds: Neighbours, moments: list[np.ndarray], across: float) -> tuple[np.ndarray, np.ndarray]:
    """Stiffness of a net with relaxed and with held sites, each (k, 6, 6)."""
    total, outer, pulled, cubic, quadratic, quartic = moments
    counts, volumes, pairs = bonds.counts, bonds.volumes, bonds.pair_starts
    first, second = bonds.first[pairs], bonds.second[pairs]
    sites = np.searchsorted(first, np.arange(len(bonds.numbers)))
    before = np.cumsum(counts) - counts
    factor = 1.0 / WEIGHTS
    matrix = (1.0 - across) * (outer * factor)[:, POSITION] + across * total[:, None, None] * np.eye(3)
    # R·ε summed over bonds is linear in Σ k r n, RᵀR in Σ k r² n n
    force = (1.0 - across) * cubic + across * np.tensordot(pulled, _TURN, axes=1)
    squares = np.einsum("xai,yaj->xyij", _TURN, _TURN)
    around = np.tensordot((quadratic * factor)[:, POSITION], squares, axes=2)
    clamped = 0.5 * ((1.0 - across) * quartic + across * around) / volumes[:, None, None]
    own = np.add.reduceat(matrix, sites, axis=0)
    strength = np.add.reduceat(np.add.reduceat(total, sites), before)
    relaxed = np.empty_like(clamped)
    crystal = bonds.crystal[first]
    for count in np.unique(counts):
        chosen = np.flatnonzero(counts == count)
        place = np.full(len(counts), -1)
        place[chosen] = np.arange(len(chosen))
        inside = np.flatnonzero(place[crystal] >= 0)
        which = crystal[inside]
        hessian = np.zeros((len(chosen), count, count, 3, 3))
        hessian[place[which], first[inside] - before[which], second[inside] - before[which]] = -matrix[inside]
        rows = before[chosen][:, None] + np.arange(count)
        hessian[:, np.arange(count), np.arange(count)] += own[rows]
        hessian = hessian.transpose(0, 1, 3, 2, 4).reshape(len(chosen), 3 * count, 3 * count)
        # moving all atoms together costs nothing
        together = np.kron(np.full((count, count), 1.0 / count), np.eye(3))
        hessian = hessian + (strength[chosen] / count)[:, None, None] * together
        moved = -force[rows].reshape(len(chosen), 3 * count, 6)
        eased = moved.transpose(0, 2, 1) @ np.linalg.solve(hessian, moved)
        relaxed[chosen] = clamped[chosen] - eased / volumes[chosen][:, None, None]
    return relaxed, clamped


def _measures(found: np.ndarray, born: np.ndarray) -> np.ndarray:
    """Logarithms of moduli (k, 6, nets) of relaxed and clamped stiffnesses (k, nets, 6, 6)."""
    found = 0.5 * (found + np.swapaxes(found, -1, -2))
    trace = np.einsum("...ii", found)
    # a net without stiffness against some strain has a finite logarithm still
    found = found + 1e-6 * trace[..., None, None] * np.eye(6)
    values = np.linalg.eigvalsh(found)
    soft = np.linalg.inv(found)
    bulk, ease = found[..., :3, :3].sum(axis=(-2, -1)) / 9.0, soft[..., :3, :3].sum(axis=(-2, -1))
    shear = (np.einsum("...ii", found) - 3.0 * bulk) / 10.0
    lower = 2.5 / (np.einsum("...ii", soft) - ease / 3.0)
    return np.stack(
        [
            np.log(bulk + 1.0 / ease), np.log((shear + lower) / (bulk + 1.0 / ease)), np.log(lower / shear),
            -np.log(ease * bulk), np.log(values[..., 0] / values[..., 5]), np.log(trace / np.einsum("...ii", born)),
        ],
        axis=1,
    )  # fmt: skip
