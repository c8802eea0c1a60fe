"""Which symmetry class do unlabelled data support? Laue classes ranked by cross-validated polynomials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import comb
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from crystals.dataset import StrainData
from crystals.groups import LAUE_CLASSES, PointGroup
from crystals.rotations import check_rotation
from crystals.symmetry_floor import Floor, symmetry_floor

from .frame_search import find_frames, refine_frame
from .least_squares import PolynomialFit
from .selection import orbit_folds

#: Degrees of the polynomials: the third is the first that tells all classes apart.
ORDERS = (3, 4, 5)
#: Ridge parameters tried for each class.
RIDGES = (1e-11, 1e-9, 1e-7, 1e-5)
#: Cross-validation folds.
FOLDS = 5
#: Bootstrap samples of the orbits; a class is within noise where it does no worse than the best in this share of them.
SAMPLES = 4000
WITHIN = 0.025


@dataclass(frozen=True)
class ClassRow:
    """One Laue class on some data.

    Attributes
    ----------
    group : PointGroup
        The class in its frame, stated or found.
    error : float
        Cross-validated pooled relative stress error of its polynomial.
    chance : float
        Share of bootstrap samples of the orbits (Efron 1979, doi:10.1214/aos/1176344552) in which the class misses no
        more than the class of least error does.
    floor : Floor
        What no law of the class can fit.
    within_noise : bool
        Whether `chance` is at least `WITHIN`.
    """

    group: PointGroup
    error: float
    chance: float
    floor: Floor
    within_noise: bool


@dataclass(frozen=True)
class ClassRanking:
    """The eleven Laue classes on some data, highest first, and how they were compared."""

    rows: tuple[ClassRow, ...]
    order: int
    states: int
    distinct: int
    searched: bool

    @property
    def best(self) -> ClassRow:
        """The highest class within noise; among several of as many operations, the one of least error."""
        return max(
            (row for row in self.rows if row.within_noise), key=lambda row: (len(row.group.rotations), -row.error)
        )

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return {
            "best": self.best.group.symbol, "order": self.order, "states": self.states, "distinct": self.distinct,
            "frame": "searched" if self.searched else "stated",
            "classes": [
                {
                    "symbol": row.group.symbol, "frame": row.group.frame.tolist(), "error": row.error,
                    "chance": row.chance, "within_noise": row.within_noise, "floor": row.floor.relative,
                    "floor_bound": row.floor.bound, "floor_rmse_P": row.floor.rmse_P,
                    "informative": row.floor.informative,
                }
                for row in self.rows
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"cross-validated stress error of polynomials of degree {self.order}, {FOLDS} folds by symmetry orbit "
            f"({self.states} states, {self.distinct} distinct), {'each frame searched' if self.searched else 'frame stated'}",
            f"{'class':<7}{'error %':>9}{'chance %':>10}{'floor %':>11}{'informative %':>15}",
        ]
        for row in self.rows:
            floor = f"{100 * row.floor.relative:.3g}" if row.floor.determinable else "—"
            mark = "  within noise" if row.within_noise else ""
            lines.append(
                f"{row.group.symbol:<7}{100 * row.error:>9.3g}{100 * row.chance:>10.1f}{floor:>11}"
                f"{100 * row.floor.informative:>15.0f}{mark}"
            )
        lines.append(f"highest class within noise: {self.best.group.symbol}")
        return "\n".join(lines)


def rank_classes(data: StrainData, frame: np.ndarray | None = None, *, seed: int = 0) -> ClassRanking:
    """Rank the eleven Laue classes by how well their polynomials predict stresses they have not seen.

    The same folds serve all classes: states that *any* of the classes maps onto each other stay together, so that no
    class meets a twin of its test states. The squared errors of each class are compared orbit by orbit with those of
    the class of least error. (The triclinic polynomial contains all others, but its many coefficients cost it accuracy
    on few states; to compare with it alone would call classes allowed that a better one contradicts.)

    Parameters
    ----------
    data : StrainData
        Their group is not used.
    frame : (3, 3), optional
        Rotation from the classes' standard frame (z ∥ c, x ∥ a, unique axis y for 2/m) to that of the strains. By
        default each class's frame is searched (`find_frames`, `refine_frame`), on all states: three unknowns that the
        folds share. Where a few frames serve a class alike, that of least cross-validated error is taken.
    seed : int
        Seed of folds and search.

    Returns
    -------
    ClassRanking

    Raises
    ------
    ValueError
        For stresses that are all zero, or too few states to tell the classes apart, which takes third-order constants.

    Notes
    -----
    The degree is the one among 3, 4 (from 70 states) and 5 (from 154) at which the triclinic polynomial errs least.
    Second order would not do: it cannot tell m-3 from m-3m, nor 6/m from 6/mmm. A class is contradicted only by what
    exceeds the error of the polynomials: a pseudo-symmetry within it passes. States along loading paths are neighbours
    without being twins; the folds do not part them, which favours low classes and makes `chance` overconfident.
    """
    if frame is not None:
        frame = check_rotation("rank_classes(frame)", frame)
    if not np.any(data.stress):
        raise ValueError("rank_classes: expected stresses, got zeros only. Check the columns of the data.")
    orders = _orders(len(data))
    symbols = LAUE_CLASSES[::-1]
    if frame is None:
        candidates = find_frames(data, symbols, seed)
    else:
        candidates = [[PointGroup(symbol, frame)] for symbol in symbols]
    orbits = _joined_orbits(data, [group for groups in candidates for group in groups])
    distinct = len(np.unique(orbits))
    if distinct < 2 * FOLDS:
        raise ValueError(
            f"rank_classes: expected at least {2 * FOLDS} states that no class maps onto each other, got {distinct} of "
            f"{len(data)}. Add strained cells in other directions."
        )
    folds = orbit_folds(orbits, FOLDS, seed)
    triclinic = {order: _cross_validated(data, PointGroup("-1"), order, folds) for order in orders}
    order = min(orders, key=lambda order: float(triclinic[order].sum()))
    compared = []
    for groups in candidates:
        if frame is None:
            # what a higher degree resolves, it may resolve in the frame too
            groups = [refine_frame(data, group, order)[1] for group in groups]
        tried = [(_cross_validated(data, group, order, folds), group) for group in groups]
        compared.append(min(tried, key=lambda pair: float(pair[0].sum())))
    missed, groups = zip(*compared, strict=True)
    sums = np.array([np.bincount(orbits, weights=squares) for squares in missed])
    worse = (sums - sums[int(np.argmin(sums.sum(axis=1)))]).T
    drawn = np.random.default_rng(seed).multinomial(distinct, np.full(distinct, 1.0 / distinct), size=SAMPLES)
    chances = np.mean(drawn @ worse <= 0.0, axis=0)
    given = float(np.sum(data.stress**2))
    rows = [
        ClassRow(
            group, float(np.sqrt(own.sum() / given)), float(chance), symmetry_floor(data, group), bool(chance >= WITHIN)
        )
        for group, own, chance in zip(groups, sums, chances, strict=True)
    ]
    return ClassRanking(tuple(rows), order, len(data), distinct, frame is None)


def _orders(states: int) -> list[int]:
    """Degrees whose triclinic coefficients number at most half the stresses."""
    needed = {order: -(-2 * (comb(6 + order, order) - 1) // 6) for order in ORDERS}
    if states < needed[ORDERS[0]]:
        raise ValueError(
            f"rank_classes: expected at least {needed[ORDERS[0]]} states, which determine third-order constants, got "
            f"{states}. Add states, or state the class."
        )
    return [order for order in ORDERS if states >= needed[order]]


def _joined_orbits(data: StrainData, groups: list[PointGroup]) -> np.ndarray:
    """Labels (n,) of sets of states that the operations of any of the groups, one after the other, join."""
    n = len(data)
    rows, columns = [], []
    for group in groups:
        labels = replace(data, group=group).orbits()
        first = np.unique(labels, return_index=True)[1]
        rows.append(np.arange(n))
        columns.append(first[labels])
    place = (np.concatenate(rows), np.concatenate(columns))
    return connected_components(coo_matrix((np.ones(len(place[0])), place), shape=(n, n)), directed=False)[1]


def _cross_validated(data: StrainData, group: PointGroup, order: int, folds: np.ndarray) -> np.ndarray:
    """Squared stress error (n,) of each state, left out with its fold, with the ridge of least total error."""
    labelled = replace(data, group=group)
    found = []
    for ridge in RIDGES:
        squares = np.empty(len(data))
        for fold in np.unique(folds):
            out = folds == fold
            fitted = PolynomialFit(labelled.take(~out), order, False, ridge)
            squares[out] = np.sum((fitted.stress(data.strain[out]) - data.stress[out]) ** 2, axis=1)
        found.append(squares)
    return min(found, key=lambda squares: float(squares.sum()))
