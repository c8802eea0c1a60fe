"""The symmetry floor of data: the part of their stress that no law of a symmetry class can fit.

A law of a class answers S(g·E) = g·S(E) for every operation g. Two things in data contradict it, whatever the law:

- *Breaking.* Where operations leave the strain alone, its stabiliser G_E = {g : g·E = E}, the law's stress is unchanged
  by them too: S(E) = mean of g·S(E) over G_E. The rest of a state's stress is out of reach.
- *Scatter.* Where states lie on one orbit, g·E₁ = E₂, their stresses turned back are one stress to the law.

Projection on the stabiliser and the mean over the orbit are orthogonal in every inner product that the group leaves
alone, so the same law is the best one in S and in P = F S.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import KDTree

from .groups import PointGroup
from .invariants import invariant_polynomials
from .mandel import from_mandel
from .rotations import mandel_rotation, rotation_about
from .states import StrainData


@dataclass(frozen=True)
class Floor:
    """What no law of `group` can fit in the stresses of some data.

    Attributes
    ----------
    group : PointGroup
        Laue class or limit class that is asked about, in the frame of the strains.
    stress : (n, 6)
        Stress, Mandel, in `units`, by which each state differs from any law of the class: breaking, and scatter
        about the mean of the state's orbit times √(k/(k−1)). Zero for states that carry no information.
    relative : float
        √(Σ‖ΔS‖² / Σ‖S‖²) of `stress` over all states: what a law of the class is expected to miss on other states of
        the same orbits. NaN where nothing is determinable.
    bound : float
        The same without the factor √(k/(k−1)): the mean of an orbit of k states absorbs 1/k of their scatter, so a law
        fitted to these very states may come down to here, and no lower.
    rmse_P : float
        RMS over the nine components of the first Piola–Kirchhoff stress F ΔS, in `units`, of `stress`.
    informative : float
        Share of states with a stabiliser or with a twin. The others count as fitted without error, so the floor of all
        of the data lies at or above `relative`.
    determinable : bool
        Whether any state carries information.
    units : str
        Unit of `stress` and `rmse_P`.
    """

    group: PointGroup
    stress: np.ndarray = field(repr=False)
    relative: float
    bound: float
    rmse_P: float
    informative: float
    determinable: bool
    units: str

    def __str__(self) -> str:
        name = f"symmetry floor of {self.group.symbol}"
        if not self.determinable:
            return f"{name}: not determinable (no state has a stabiliser or a twin)"
        return (
            f"{name}: {100 * self.relative:.3g} % of the stress, {self.rmse_P:.4g} {self.units} over nine components "
            f"of P; {100 * self.informative:.0f} % of states carry information"
        )


def symmetry_floor(data: StrainData, group: PointGroup | None = None, tolerance: float | None = None) -> Floor:
    """The part of the stresses that no law of a class can fit, from the states that can tell.

    Parameters
    ----------
    data : StrainData
    group : PointGroup, optional
        Class to ask about, in the frame of the strains; by default the group of the data. Infinite classes too.
    tolerance : float, optional
        Largest distance |g·E₁ − E₂| of twins, and of a strain from its own image: by default 1e-4, because data from
        input files carry rounded cells, and at most 0.2 % of the largest strain.

    Returns
    -------
    Floor

    Raises
    ------
    ValueError
        For data without a group where none is given, or stresses that are all zero.

    Notes
    -----
    Differences of strain within the tolerance are corrected to first order, S − C(E) ΔE, with the tangent of a
    third-order invariant polynomial fitted to all states: rounded cells are no broken symmetry.
    """
    group = data.group if group is None else group
    if group is None:
        raise ValueError("symmetry_floor: expected a point group, got none in the data. Pass the class to ask about.")
    if not np.any(data.stress):
        raise ValueError("symmetry_floor: expected stresses, got zeros only. Check the columns of the data.")
    if tolerance is None:
        tolerance = min(1e-4, 2e-3 * float(np.linalg.norm(data.strain, axis=1).max()))
    group = group.laue
    turns, operations = _canonical(group, from_mandel(data.strain))
    turns = mandel_rotation(turns)
    strain, stress = np.einsum("nij,nj->ni", turns, data.strain), np.einsum("nij,nj->ni", turns, data.stress)
    breaking, scatter, informative = _split(group.symbol, strain, stress, operations, tolerance)
    missed, least = (np.einsum("nji,nj->ni", turns, breaking + part) for part in scatter)
    given = float(np.sum(data.stress**2))
    determinable = bool(informative.any())
    piola = data.deformation_gradient @ from_mandel(missed)
    figures = np.sqrt([np.sum(missed**2) / given, np.sum(least**2) / given, np.mean(piola**2)])
    relative, bound, rmse = (figures if determinable else np.full(3, np.nan)).tolist()
    return Floor(group, missed, relative, bound, rmse, float(informative.mean()), determinable, data.units)


def _canonical(group: PointGroup, strain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns (n, 3, 3) to the standard frame in which a finite group (m, 3, 3) acts as `group` does on these strains.

    Infinite groups hold a turn that brings each strain to a form of its own: to its eigenframe, or about the axis. What
    they can still do there is done by a finite group. Averaging a tensor of second rank over six turns about an axis is
    averaging over all, and so over the signed permutations of the eigenframe where eigenvalues are equal.
    """
    if group.is_finite:
        return np.broadcast_to(group.frame.T, strain.shape), PointGroup(group.symbol).rotations
    if group.symbol == "∞∞m":
        vectors = np.linalg.eigh(strain)[1]
        vectors[np.linalg.det(vectors) < 0, :, 0] *= -1.0
        return np.swapaxes(vectors, 1, 2), PointGroup("m-3m").rotations
    local = group.frame.T @ strain @ group.frame
    # a turn by θ about the axis turns (E13, E23) by θ and ((E11 − E22)/2, E12) by 2θ
    out_of_plane = local[:, 0, 2] + 1j * local[:, 1, 2]
    in_plane = 0.5 * (local[:, 0, 0] - local[:, 1, 1]) + 1j * local[:, 0, 1]
    # by the larger of the two, so that rounding does not turn a strain; no round ratio, so that equal ones do not tip
    angles = np.where(
        np.abs(out_of_plane) > 0.77 * np.abs(in_plane), -np.angle(out_of_plane), -0.5 * np.angle(in_plane)
    )
    about = np.array([rotation_about(np.eye(3)[2], float(angle)) for angle in angles])
    return about @ group.frame.T, PointGroup("6/m" if group.symbol == "∞/m" else "6/mmm").rotations


def _split(
    symbol: str, strain: np.ndarray, stress: np.ndarray, operations: np.ndarray, tolerance: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Breaking (n, 6); scatter (n, 6), unbiased and as it stands; whether a state carries information (n,)."""
    n, acts = len(strain), mandel_rotation(operations)
    images = np.einsum("gij,nj->gni", acts, strain)
    tree = KDTree(images.reshape(-1, 6))
    tangent = _fitted_tangent(symbol, strain, stress)
    breaking, unbiased, plain = np.zeros((3, n, 6))
    informative, free = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    # twins lie within the tolerance of one chosen state: chains of near states, as along a path, are no orbit
    for chosen in range(n):
        if not free[chosen]:
            continue
        which, whose = np.divmod(np.array(tree.query_ball_point(strain[chosen], tolerance)), n)
        stabiliser = acts[_closed(operations, which[whose == chosen])]
        members = np.unique(whose[free[whose]])
        free[members] = False
        k = len(members)
        if k == 1 and len(stabiliser) == 1:
            continue
        informative[members] = True
        away = np.linalg.norm(images[:, members] - strain[chosen], axis=2)
        maps = acts[np.argmin(away, axis=0)]
        projector = stabiliser.mean(axis=0)
        points = np.einsum("nij,nj->ni", maps, strain[members])
        centre = projector @ points.mean(axis=0)
        answers, shift = np.einsum("nij,nj->ni", maps, stress[members]), points - centre
        if np.abs(shift).max() > 1e-12:
            answers = answers - shift @ tangent(centre)
        kept = answers @ projector
        deviation = kept - kept.mean(axis=0)
        breaking[members] = np.einsum("nji,nj->ni", maps, answers - kept)
        plain[members] = np.einsum("nji,nj->ni", maps, deviation)
        unbiased[members] = plain[members] * np.sqrt(k / max(k - 1, 1))
    return breaking, (unbiased, plain), informative


def _closed(operations: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Indices of the group generated by some operations of a group: at the tolerance's edge some may be missing."""
    inside = np.zeros(len(operations), dtype=bool)
    inside[found] = True
    while True:
        part = operations[inside]
        products = (part[:, None] @ part[None]).reshape(-1, 9)
        distance = np.abs(products[:, None] - operations.reshape(1, -1, 9)).max(axis=2)
        grown = inside.copy()
        grown[np.argmin(distance, axis=1)] = True
        if np.array_equal(grown, inside):
            return np.flatnonzero(inside)
        inside = grown


def _fitted_tangent(symbol: str, strain: np.ndarray, stress: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Tangent (6, 6) at a strain (6,) of the invariant polynomial of degree 3 fitted to the stresses, standard frame."""
    bases = [invariant_polynomials(symbol, degree) for degree in (1, 2, 3)]
    exponents = np.concatenate([basis.exponents for basis in bases])
    coefficients = np.zeros((sum(map(len, bases)), len(exponents)))
    row = column = 0
    for basis in bases:
        coefficients[row : row + len(basis), column : column + len(basis.exponents)] = basis.coefficients
        row, column = row + len(basis), column + len(basis.exponents)
    scale = float(np.linalg.norm(strain, axis=1).max())
    unit = np.eye(6, dtype=int)

    def slopes(points: np.ndarray, lowered: np.ndarray, factor: np.ndarray) -> np.ndarray:
        # where a power would be negative its factor is zero
        return np.prod(points[:, None] ** np.maximum(lowered, 0), axis=2) * factor

    columns = [
        slopes(strain / scale, exponents - unit[i], exponents[:, i].astype(float)) @ coefficients.T for i in range(6)
    ]
    features = np.stack(columns, axis=1).reshape(6 * len(strain), -1)
    weights = np.linalg.lstsq(features, stress.reshape(-1), rcond=1e-9)[0] @ coefficients

    def tangent(point: np.ndarray) -> np.ndarray:
        found = np.empty((6, 6))
        for i in range(6):
            for j in range(i, 6):
                factor = (exponents[:, i] * (exponents - unit[i])[:, j]).astype(float)
                found[i, j] = found[j, i] = (
                    slopes(point[None] / scale, exponents - unit[i] - unit[j], factor)[0] @ weights / scale
                )
        return found

    return tangent
