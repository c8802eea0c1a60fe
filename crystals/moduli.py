"""What a stiffness says: wave speeds and ellipticity, averages and bounds, anisotropy, named constants.

Stiffness matrices are Mandel (..., 6, 6) in GPa (any unit goes through); leading axes are batch axes everywhere.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from .groups import PointGroup
from .invariants import invariant_tensors
from .mandel import IDENTITY, from_mandel, stiffness_to_tensor, stiffness_to_voigt, to_mandel
from .rotations import rotate_matrix

#: Order in which independent constants are looked for: the textbooks keep C12 rather than C66, C14 rather than C56.
_PREFERRED = tuple("11 22 33 12 13 23 44 55 66 14 15 16 24 25 26 34 35 36 45 46 56".split())
#: Points whose acoustic tensors are held at once: 200 directions of 1000 points take 15 MB.
_CHUNK = 1000
#: Local minima on the grid that are followed down at every point.
_STARTS = 6


def _elasticity(tangent: np.ndarray, stress: np.ndarray, deformation_gradient: np.ndarray) -> np.ndarray:
    """∂P_iJ/∂F_kL = F_iM F_kK C_MJKL + δ_ik S_JL as (..., 3, 3, 3, 3), indices i J k L."""
    gradient = np.asarray(deformation_gradient, dtype=float)
    if gradient.shape[-2:] != (3, 3):
        raise ValueError(f"acoustic_tensor: expected deformation gradients (..., 3, 3), got shape {gradient.shape}.")
    material = stiffness_to_tensor(np.asarray(tangent, dtype=float))
    pushed = np.einsum("...iM,...MJKL->...iJKL", gradient, material)
    pushed = np.einsum("...kK,...iJKL->...iJkL", gradient, pushed)
    return pushed + np.einsum("ik,...JL->...iJkL", np.eye(3), from_mandel(stress))


def _contract_normals(elasticity: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """N_J N_L A_iJkL for m directions common to all points, (..., m, 3, 3)."""
    batch = elasticity.shape[:-4]
    paired = np.moveaxis(elasticity, -3, -2).reshape(batch + (9, 9))
    dyads = (directions[:, :, None] * directions[:, None, :]).reshape(-1, 9)
    return np.swapaxes(paired @ dyads.T, -1, -2).reshape(batch + (len(directions), 3, 3))


def acoustic_tensor(
    tangent: np.ndarray, stress: np.ndarray, deformation_gradient: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Acoustic tensor Q_ik(N) = N_J N_L ∂P_iJ/∂F_kL, with ∂P_iJ/∂F_kL = F_iM F_kK C_MJKL + δ_ik S_JL.

    N is a direction in the reference configuration. The eigenvalues of Q are ρ₀ c² of the plane waves that travel along
    N; the law is strongly elliptic where all of them are positive for every N (Ogden 1984, Non-Linear Elastic
    Deformations, section 6.4).

    Parameters
    ----------
    tangent : array (..., 6, 6)
        ∂S/∂E, Mandel, GPa.
    stress : array (..., 6)
        Second Piola–Kirchhoff stress S, Mandel, GPa.
    deformation_gradient : array (..., 3, 3)
        F. The batch axes of tangent, stress and F broadcast.
    directions : array (m, 3)
        Directions N; scaled to unit length.

    Returns
    -------
    array (..., m, 3, 3)
        GPa. Symmetric where the tangent is.
    """
    normals = np.asarray(directions, dtype=float)
    if normals.ndim != 2 or normals.shape[1] != 3 or not np.all(np.linalg.norm(normals, axis=1) > 0.0):
        raise ValueError(f"acoustic_tensor: expected nonzero directions of shape (m, 3), got shape {normals.shape}.")
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return _contract_normals(_elasticity(tangent, stress, deformation_gradient), normals)


@lru_cache(maxsize=8)
def _hemisphere(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Fibonacci points (m, 3) of a hemisphere, and the 5 nearest neighbours (m, 5) of each, up to sign."""
    place = np.arange(number) + 0.5
    height = place / number
    angle = np.pi * (1.0 + np.sqrt(5.0)) * place
    radius = np.sqrt(1.0 - height**2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    nearness = np.abs(points @ points.T)
    return points, np.argsort(-nearness, axis=1)[:, 1:6]


def _tangent_plane(vectors: np.ndarray) -> np.ndarray:
    """Two orthonormal vectors (n, 3, 2) perpendicular to each unit vector (n, 3)."""
    helper = np.eye(3)[np.argmin(np.abs(vectors), axis=1)]
    first = np.cross(vectors, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(vectors, first)], axis=2)


def _lowest(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(matrices)
    return values[:, 0], vectors[:, :, 0]


def _newton_normal(
    elasticity: np.ndarray, acoustic: np.ndarray, dual: np.ndarray, value: np.ndarray, m: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """Normal after one Newton step on the product of two spheres for f(m, N) = A_iJkL m_i N_J m_k N_L."""
    mixed = np.einsum("niJkL,nk,nL->niJ", elasticity, m, normal) + np.einsum("niLkJ,nk,nL->niJ", elasticity, m, normal)
    plane_m, plane_n = _tangent_plane(m), _tangent_plane(normal)
    hessian = np.zeros((len(m), 4, 4))
    shift = value[:, None, None] * np.eye(3)
    hessian[:, :2, :2] = np.swapaxes(plane_m, 1, 2) @ (acoustic - shift) @ plane_m
    hessian[:, 2:, 2:] = np.swapaxes(plane_n, 1, 2) @ (dual - shift) @ plane_n
    hessian[:, :2, 2:] = np.swapaxes(plane_m, 1, 2) @ mixed @ plane_n
    hessian[:, 2:, :2] = np.swapaxes(hessian[:, :2, 2:], 1, 2)
    slope = np.concatenate(
        [np.einsum("nia,nik,nk->na", plane_m, acoustic, m), np.einsum("nia,nik,nk->na", plane_n, dual, normal)], axis=1
    )
    curvatures, axes = np.linalg.eigh(hessian)
    # |curvature| keeps the step downhill, the floor keeps it finite where f is flat.
    floor = 1e-6 * np.max(np.abs(acoustic), axis=(1, 2))[:, None] + np.finfo(float).tiny
    step = -np.einsum("nab,nb->na", axes, np.einsum("nab,na->nb", axes, slope) / np.maximum(np.abs(curvatures), floor))
    moved = normal + np.einsum("nia,na->ni", plane_n, step[:, 2:])
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def _descend(elasticity: np.ndarray, normal: np.ndarray, scale: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Local minima (n,) over N of the smallest eigenvalue of the acoustic tensor, started at unit normals (n, 3).

    f(m, N) = A_iJkL m_i N_J m_k N_L is quadratic in m and in N, so minimising over one with the other held is a 3×3
    eigenvalue problem and never raises f. Each round takes that step or a Newton step, whichever goes lower.
    """

    def acoustic_at(place: np.ndarray, normals: np.ndarray) -> np.ndarray:
        return np.einsum("niJkL,nJ,nL->nik", elasticity[place], normals, normals)

    normal = normal.copy()
    value, polarisation = _lowest(acoustic_at(np.arange(len(normal)), normal))
    active = np.arange(len(normal))
    for _ in range(rounds):
        here, m = elasticity[active], polarisation[active]
        dual = np.einsum("niJkL,ni,nk->nJL", here, m, m)
        acoustic = acoustic_at(active, normal[active])
        _, alternating = _lowest(dual)
        newton = _newton_normal(here, acoustic, dual, value[active], m, normal[active])
        first, first_m = _lowest(acoustic_at(active, alternating))
        second, second_m = _lowest(acoustic_at(active, newton))
        better = second < first
        reached = np.where(better, second, first)
        drop = value[active] - reached
        down = drop > 0.0
        moved = active[down]
        value[moved] = reached[down]
        normal[moved] = np.where(better[:, None], newton, alternating)[down]
        polarisation[moved] = np.where(better[:, None], second_m, first_m)[down]
        active = active[drop > 1e-13 * scale[active]]
        if len(active) == 0:
            break
    return value


def smallest_acoustic_eigenvalue(
    tangent: np.ndarray, stress: np.ndarray, deformation_gradient: np.ndarray, directions: int = 200
) -> np.ndarray:
    """Smallest eigenvalue of the acoustic tensor over all directions: positive where the law is strongly elliptic.

    The lowest local minima on Fibonacci hemispheres of normals and of polarisations are followed down to convergence by
    alternating eigenvalue and Newton steps. A tangent without major symmetry enters with its symmetric part, which is
    what strong ellipticity, m_i N_J A_iJkL m_k N_L > 0, asks about.

    Parameters
    ----------
    tangent : array (..., 6, 6)
        ∂S/∂E, Mandel, GPa.
    stress : array (..., 6)
        Second Piola–Kirchhoff stress S, Mandel, GPa.
    deformation_gradient : array (..., 3, 3)
        F. The batch axes of tangent, stress and F broadcast.
    directions : int
        Number of directions on the hemisphere, at least 50.

    Returns
    -------
    array (...,)
        GPa; NaN at points where an argument is not finite.
    """
    if directions < 50:
        raise ValueError(
            f"smallest_acoustic_eigenvalue: expected at least 50 directions, got {directions}. "
            "A coarser grid can miss the minimum."
        )
    elasticity = _elasticity(tangent, stress, deformation_gradient)
    batch = elasticity.shape[:-4]
    flat = elasticity.reshape(-1, 3, 3, 3, 3)
    flat = 0.5 * (flat + np.transpose(flat, (0, 3, 4, 1, 2)))
    result = np.full(len(flat), np.nan)
    usable = np.flatnonzero(np.all(np.isfinite(flat), axis=(1, 2, 3, 4)))
    grid, neighbours = _hemisphere(directions)
    for start in range(0, len(usable), _CHUNK):
        chosen = usable[start : start + _CHUNK]
        chunk = flat[chosen]
        scale = np.max(np.abs(chunk), axis=(1, 2, 3, 4)) + np.finfo(float).tiny
        lowest = np.full(len(chunk), np.inf)
        # f is also quadratic in N for a fixed polarisation m, and the minimum over m of the smallest eigenvalue of that
        # form is the same number. A narrow minimum that slips through one grid is rarely narrow on the other.
        for swapped in (False, True):
            form = np.transpose(chunk, (0, 2, 1, 4, 3)) if swapped else chunk
            values = np.linalg.eigvalsh(_contract_normals(form, grid))[:, :, 0]
            minimal = np.all(values[:, :, None] <= values[:, neighbours], axis=2)
            order = np.argsort(np.where(minimal, values, np.inf), axis=1, kind="stable")[:, :_STARTS]
            place, column = np.nonzero(minimal[np.arange(len(chunk))[:, None], order])
            np.minimum.at(lowest, place, _descend(form[place], grid[order[place, column]], scale[place]))
        result[chosen] = lowest
    return result.reshape(batch)


def _checked(where: str, stiffness: np.ndarray) -> np.ndarray:
    stiffness = np.asarray(stiffness, dtype=float)
    if stiffness.shape[-2:] != (6, 6) or not np.all(np.isfinite(stiffness)):
        raise ValueError(f"{where}: expected finite Mandel stiffness (..., 6, 6), got shape {stiffness.shape}.")
    defect = np.max(np.abs(stiffness - np.swapaxes(stiffness, -1, -2)), axis=(-1, -2))
    largest = np.max(np.abs(stiffness), axis=(-1, -2))
    if np.any(defect > 1e-6 * largest):
        raise ValueError(
            f"{where}: expected a symmetric stiffness, got a largest difference of {np.max(defect):.3g} across the "
            "diagonal. Symmetrise it, or use stiffness_from_voigt where it came in Voigt notation."
        )
    return stiffness


def _compliance(where: str, stiffness: np.ndarray) -> np.ndarray:
    stiffness = _checked(where, stiffness)
    values = np.abs(np.linalg.eigvalsh(stiffness))
    if np.any(values.min(axis=-1) <= 1e-14 * values.max(axis=-1)):
        raise ValueError(f"{where}: expected an invertible stiffness, got a singular one. It has no compliance.")
    return np.linalg.inv(stiffness)


def voigt_average(stiffness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk and shear modulus (...,), (...,) of the isotropic average of the stiffness: upper bounds for a polycrystal.

    In Mandel form 9 K = 1·C·1 and tr C = 3 K + 10 G (Voigt 1928; Hill 1952, doi:10.1088/0370-1298/65/5/307).

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, GPa.
    """
    stiffness = _checked("voigt_average", stiffness)
    bulk = IDENTITY @ stiffness @ IDENTITY / 9.0
    return bulk, (np.trace(stiffness, axis1=-2, axis2=-1) - 3.0 * bulk) / 10.0


def reuss_average(stiffness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk and shear modulus (...,), (...,) of the isotropic average of the compliance: lower bounds for a polycrystal.

    In Mandel form 1/K = 1·S·1 and tr S = 1/(3 K) + 5/(2 G) (Reuss 1929; Hill 1952, doi:10.1088/0370-1298/65/5/307).

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, GPa.
    """
    compliance = _compliance("reuss_average", stiffness)
    softness = IDENTITY @ compliance @ IDENTITY
    return 1.0 / softness, 2.5 / (np.trace(compliance, axis1=-2, axis2=-1) - softness / 3.0)


def hill_average(stiffness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk and shear modulus (...,), (...,): mean of the Voigt and Reuss averages (Hill 1952).

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, GPa.
    """
    upper, lower = voigt_average(stiffness), reuss_average(stiffness)
    return 0.5 * (upper[0] + lower[0]), 0.5 * (upper[1] + lower[1])


def young(stiffness: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Young's modulus along a direction n: 1/E(n) = S_ijkl n_i n_j n_k n_l (Nye 1957, chapter VIII).

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, GPa.
    direction : array (..., 3)
        Scaled to unit length. Its batch axes broadcast against those of the stiffness.

    Returns
    -------
    array (...,)
        GPa.
    """
    compliance = _compliance("young", stiffness)
    direction = np.asarray(direction, dtype=float)
    if direction.shape[-1:] != (3,) or not np.all(np.linalg.norm(direction, axis=-1) > 0.0):
        raise ValueError(f"young: expected nonzero directions (..., 3), got shape {direction.shape}.")
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    dyad = to_mandel(unit[..., :, None] * unit[..., None, :])
    return 1.0 / np.einsum("...i,...ij,...j->...", dyad, compliance, dyad)


def universal_anisotropy(stiffness: np.ndarray) -> np.ndarray:
    """Universal anisotropy index A = 5 G_V/G_R + K_V/K_R − 6 (...,): 0 for isotropic, larger for anisotropic.

    Ranganathan and Ostoja-Starzewski 2008, doi:10.1103/PhysRevLett.101.055504, eq. 9.

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, GPa.
    """
    upper, lower = voigt_average(stiffness), reuss_average(stiffness)
    return 5.0 * upper[1] / lower[1] + upper[0] / lower[0] - 6.0


def is_stable(stiffness: np.ndarray) -> np.ndarray:
    """Born stability (...,) bool: all eigenvalues positive, so that every strain costs energy.

    Positive means above 1e-12 of the largest, so a zero mode that rounding lifts does not pass. Born and Huang 1954;
    Mouhat and Coudert 2014, doi:10.1103/PhysRevB.90.224104.

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, of an unstressed crystal.
    """
    values = np.linalg.eigvalsh(_checked("is_stable", stiffness))
    return values[..., 0] > 1e-12 * np.abs(values).max(axis=-1)


@cache
def _independent_constants(symbol: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the independent Voigt constants of a class, and an orthonormal basis (36, k) of its stiffnesses."""
    tensors = invariant_tensors(symbol, 2)
    voigt = stiffness_to_voigt(tensors)
    names: list[str] = []
    rows: list[np.ndarray] = []
    for name in _PREFERRED:
        row = voigt[:, int(name[0]) - 1, int(name[1]) - 1]
        if np.linalg.matrix_rank(np.array([*rows, row]), tol=1e-9) > len(rows):
            names.append("C" + name)
            rows.append(row)
    assert len(names) == len(tensors)
    basis, _ = np.linalg.qr(tensors.reshape(len(tensors), 36).T)
    return tuple(names), basis


def elastic_constants(stiffness: np.ndarray, group: PointGroup, tolerance: float = 0.05) -> dict[str, Any]:
    """The independent second-order constants of a class by their Voigt names, in the group's standard frame.

    The stiffness is turned back from the group's frame to the standard one and projected on the stiffnesses that have
    the symmetry, so constants that should be equal (C11 and C22 of a cubic crystal) enter with their mean.

    Parameters
    ----------
    stiffness : array (..., 6, 6)
        Mandel, GPa, in the frame of `group` (whose `frame` turns the standard frame into it).
    group : PointGroup
    tolerance : float
        Largest part of the stiffness, relative in the Frobenius norm, that may lack the symmetry.

    Returns
    -------
    dict of str to float, or to array (...,) for a batch
        For example C11, C12, C44 for m-3m, and C11, C33, C12, C13, C44, C14 for -3m, GPa.

    Raises
    ------
    ValueError
        Where the stiffness lacks the symmetry by more than `tolerance`.
    """
    turned = rotate_matrix(group.frame.T, _checked("elastic_constants", stiffness))
    names, basis = _independent_constants(group.symbol)
    flat = turned.reshape(turned.shape[:-2] + (36,))
    projected = flat @ basis @ basis.T
    size = np.linalg.norm(flat, axis=-1)
    missing = np.max(np.linalg.norm(flat - projected, axis=-1) / np.where(size > 0.0, size, 1.0), initial=0.0)
    if missing > tolerance:
        raise ValueError(
            f"elastic_constants: expected a stiffness with the symmetry of {group.symbol} to within {tolerance:g}, got "
            f"one of which {missing:.3g} lacks it. Check that the group's frame is the frame of the stiffness."
        )
    voigt = stiffness_to_voigt(projected.reshape(turned.shape))
    values = {name: voigt[..., int(name[1]) - 1, int(name[2]) - 1] for name in names}
    return values if turned.ndim > 2 else {name: float(value) for name, value in values.items()}


def stiffness_from_constants(group: PointGroup, constants: dict[str, float]) -> np.ndarray:
    """Stiffness (6, 6), Mandel, from the independent constants of a class: the inverse of `elastic_constants`.

    Parameters
    ----------
    group : PointGroup
        Its frame is the frame of the stiffness.
    constants : dict of str to float
        By their Voigt names, as published in the group's standard frame, for example C11, C12, C44 for m-3m. Exactly
        the names that `elastic_constants` returns for the class.

    Raises
    ------
    ValueError
        For other names than those, or values that are not finite.
    """
    names, basis = _independent_constants(group.symbol)
    if set(constants) != set(names) or not all(np.isfinite(value) for value in constants.values()):
        raise ValueError(
            f"stiffness_from_constants: expected finite {', '.join(names)} for {group.symbol}, got "
            f"{', '.join(f'{name}={value}' for name, value in constants.items())}. Name each of them once; the class "
            "gives the others."
        )
    voigt = stiffness_to_voigt(basis.T.reshape(-1, 6, 6))
    rows = np.array([voigt[:, int(name[1]) - 1, int(name[2]) - 1] for name in names])
    weights = np.linalg.solve(rows, np.array([float(constants[name]) for name in names]))
    return rotate_matrix(group.frame, (basis @ weights).reshape(6, 6))
