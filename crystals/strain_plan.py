"""Which strains to compute: a plan that fills the ball of strains once, counting symmetry-equivalent strains as one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from .groups import PointGroup
from .rotations import mandel_rotation

#: Directions among which each state takes the one furthest from all before it.
_CANDIDATES = 12


def plan_strains(number: int, max_strain: float, seed: int = 0, group: PointGroup | None = None) -> np.ndarray:
    """Strains (number, 6) that fill the ball |E| ≤ max_strain in all six Mandel components.

    Sobol points (Sobol' 1967) carried to directions by the normal quantile and to radii with a density that falls like
    1/r⁴ against the uniform ball, so that small strains, which fix the elastic constants, are not crowded out.

    With a group the ball is filled modulo its operations: of several directions each state takes the one whose images
    g·E lie furthest from all states before it (best candidate, Mitchell 1991, doi:10.1145/122718.122736), so no two
    states say the same.

    Parameters
    ----------
    number : int
    max_strain : float
        Radius |E|.
    seed : int
    group : PointGroup, optional
        Finite group in the frame of the strains.
    """
    if number < 1 or not 0 < max_strain < 0.5:
        raise ValueError(
            f"plan_strains: expected at least 1 state and 0 < max_strain < 0.5, got {number} and {max_strain}. "
            "Green–Lagrange strain reaches −0.5 where a cell has no volume."
        )
    if group is None or len(group.rotations) == 1:
        points = _sobol(7, number, seed)
        return max_strain * np.sqrt(points[:, 6:]) * _directions(points[:, :6])
    radii = np.sqrt(_sobol(1, number, seed)[:, 0])
    candidates = _directions(_sobol(6, number * _CANDIDATES, seed + 1)).reshape(number, _CANDIDATES, 6)
    turns = mandel_rotation(group.rotations)
    chosen = np.zeros((number, 6))
    for place, (radius, directions) in enumerate(zip(radii, candidates, strict=True)):
        images = radius * np.einsum("gij,cj->cgi", turns, directions)
        # |g·c − e|² = |c|² + |e|² − 2 g·c·e: the nearest image has the largest product
        nearest = np.max(images @ chosen[:place].T, axis=1, initial=-np.inf)
        distance = np.sum(chosen[:place] ** 2, axis=1) - 2.0 * nearest
        best = int(np.argmax(distance.min(axis=1))) if place else 0
        chosen[place] = radius * directions[best]
    return max_strain * chosen


def _sobol(dimension: int, number: int, seed: int) -> np.ndarray:
    from scipy.stats import qmc  # a third of a second, which most calls do without

    sobol: Any = qmc.Sobol  # the seed is rng in newer scipy, which still takes it
    power = int(np.ceil(np.log2(number))) if number > 1 else 0
    return np.clip(sobol(dimension, seed=seed).random_base2(power)[:number], 1e-9, 1 - 1e-9)


def _directions(points: np.ndarray) -> np.ndarray:
    directions = ndtri(points)
    return directions / np.linalg.norm(directions, axis=1)[:, None]
