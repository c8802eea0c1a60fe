"""The frame in which data show a symmetry class best: where its axes lie, for data that do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import factorial

import numpy as np
from scipy.optimize import least_squares, minimize

from crystals.dataset import StrainData
from crystals.groups import PointGroup
from crystals.invariants import invariant_tensors
from crystals.rotations import mandel_rotation, random_rotations, rotation_about

from .least_squares import PolynomialFit

#: Random rotations from which the search starts, and how many of the best are followed down.
STARTS = 600
FOLLOWED = 6
#: Most frames kept of a class, and the largest ratio of their sums of squares to the least.
KEPT = 3
SIMILAR = 2.0
#: Ridge parameter of the polynomials.
RIDGE = 1e-9


def constants(fitted: PolynomialFit) -> list[np.ndarray]:
    """Stress at the file's cell (6,), stiffness (6, 6) and third-order constants (6, 6, 6) of a triclinic polynomial.

    Each is given as the stress that it adds at the largest strain: T_d |E|^(d−1) / (d−1)!.
    """
    assert fitted.group.laue.symbol == "-1"
    parts, place = [], 0
    for degree in (1, 2, 3):
        tensors = invariant_tensors("-1", degree)
        weights = fitted.coefficients[place : place + len(tensors)] / factorial(degree - 1)
        parts.append(np.tensordot(weights, tensors, axes=1))
        place += len(tensors)
    return parts


@cache
def _bases(symbol: str) -> list[np.ndarray]:
    """Orthonormal bases (k, 6^d) of the invariant tensors of degree 1, 2, 3, standard frame."""
    found = []
    for degree in (1, 2, 3):
        tensors = invariant_tensors(symbol, degree)
        found.append(np.linalg.svd(tensors.reshape(len(tensors), -1), full_matrices=False)[2])
    return found


def class_distance(parts: list[np.ndarray], symbol: str, frames: np.ndarray) -> np.ndarray:
    """Relative squared distance (m,) of elastic constants to those of a class, in each of several frames (m, 3, 3).

    The distance of a stiffness to its projection on the class (Gazis, Tadjbakhsh and Toupin 1963,
    doi:10.1107/S0365110X63002449), here summed over stress, stiffness and third-order constants: the stiffness alone
    leaves the axes of some classes open.
    """
    back = np.swapaxes(mandel_rotation(frames), 1, 2)
    total = np.zeros(len(frames))
    for part, basis in zip(parts, _bases(symbol), strict=True):
        turned = np.broadcast_to(part, (len(frames), *part.shape))
        for _ in range(part.ndim):
            # turns the leading index and puts it last: after one round every index is turned and in place
            turned = np.einsum("mij,mj...->m...i", back, turned)
        kept = turned.reshape(len(frames), -1) @ basis.T
        total += np.sum(part**2) - np.sum(kept**2, axis=1)
    return total / sum(float(np.sum(part**2)) for part in parts)


def _turn(vector: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(vector))
    return np.eye(3) if angle < 1e-300 else rotation_about(vector, angle)


def find_frames(data: StrainData, symbols: Sequence[str], seed: int = 0) -> list[list[PointGroup]]:
    """For each class the frames in which data fit it best: a few, best first, where they cannot be told apart.

    The elastic constants of a polynomial fitted without symmetry are compared with those of the class in many frames;
    the best are followed to their minima, and from the best of these the invariant polynomial is fitted to the stresses
    with the frame as three more unknowns. Kept are those that miss at most `SIMILAR` times the least sum of squares.

    Parameters
    ----------
    data : StrainData
        Their group is not used.
    symbols : sequence of str
        Finite Laue classes.
    seed : int
        Seed of the starts.

    Notes
    -----
    The polynomials are of degree 3, from 209 states on of degree 4. Second order leaves the axes of 6/mmm open.
    """
    # six stresses for each coefficient of the triclinic polynomial of degree 4
    order = 4 if len(data) >= 209 else 3
    parts = constants(PolynomialFit(replace(data, group=PointGroup("-1")), order, False, RIDGE))
    starts = random_rotations(STARTS, np.random.default_rng(seed))
    return [_candidates(data, symbol, order, parts, starts) for symbol in symbols]


def _candidates(
    data: StrainData, symbol: str, order: int, parts: list[np.ndarray], starts: np.ndarray
) -> list[PointGroup]:
    if len(PointGroup(symbol).rotations) == 1:
        return [PointGroup(symbol)]
    distance = class_distance(parts, symbol, starts)
    minima: list[tuple[float, np.ndarray]] = []
    for start in _apart(symbol, starts[np.argsort(distance)], 0.4, FOLLOWED):

        def objective(vector: np.ndarray, start: np.ndarray = start) -> float:
            return float(class_distance(parts, symbol, (_turn(vector) @ start)[None])[0])

        # to a hundredth of a radian or so: the last step is a fit
        found = minimize(objective, np.zeros(3), method="BFGS", options={"gtol": 1e-4})
        minima.append((float(found.fun), _turn(found.x) @ start))
    minima.sort(key=lambda pair: pair[0])
    distinct = _apart(symbol, np.array([frame for _, frame in minima]), 0.1, KEPT)
    refined = sorted((refine_frame(data, PointGroup(symbol, frame), order) for frame in distinct), key=lambda r: r[0])
    return [_nearest(group) for cost, group in refined if cost <= SIMILAR * refined[0][0]]


def _nearest(group: PointGroup) -> PointGroup:
    """The same group in that of its equivalent frames which is nearest to the axes of the data."""
    frames = group.frame @ PointGroup(group.symbol).rotations
    return PointGroup(group.symbol, frames[int(np.argmax(np.round(np.trace(frames, axis1=1, axis2=2), 9)))])


def _apart(symbol: str, frames: np.ndarray, least: float, number: int) -> list[np.ndarray]:
    """The first few frames (m, 3, 3) in which some operation of the class differs by `least` in an entry."""
    own = PointGroup(symbol).rotations
    chosen: list[np.ndarray] = []
    sets: list[np.ndarray] = []
    for frame in frames:
        turned = frame @ own @ frame.T
        differences = [np.abs(turned[:, None] - known[None]).max(axis=(2, 3)).min(axis=1).max() for known in sets]
        if all(difference > least for difference in differences):
            chosen.append(frame)
            sets.append(turned)
        if len(chosen) == number:
            break
    return chosen


def refine_frame(data: StrainData, group: PointGroup, order: int) -> tuple[float, PointGroup]:
    """The group in the frame nearby in which its polynomial misses the stresses least, and that sum of squares.

    The polynomial is fitted anew in each frame (variable projection: Golub and Pereyra 1973, doi:10.1137/0710036).

    Parameters
    ----------
    data : StrainData
    group : PointGroup
        The class in the frame to start from.
    order : int
        Degree of the polynomial.
    """

    def moved(vector: np.ndarray) -> PointGroup:
        left, _, right = np.linalg.svd(_turn(vector) @ group.frame)
        return PointGroup(group.symbol, left @ right)

    def residual(vector: np.ndarray) -> np.ndarray:
        fitted = PolynomialFit(replace(data, group=moved(vector)), order, False, RIDGE)
        return ((fitted.stress(data.strain) - data.stress) / fitted.unit).reshape(-1)

    if len(group.rotations) == 1:
        return 0.0, group
    # where nothing fits, nothing is worth a long search: fifteen steps of four fits
    found = least_squares(residual, np.zeros(3), method="lm", diff_step=1e-5, x_scale=0.01, ftol=1e-6, max_nfev=60)
    return float(found.cost), moved(found.x)
