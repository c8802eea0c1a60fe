"""What a stiffness says: wave speeds and ellipticity, averages and bounds, anisotropy.

Stiffness matrices are Mandel (..., 6, 6) in GPa (any unit goes through); leading axes are batch axes everywhere.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .mandel import IDENTITY, from_mandel, stiffness_to_tensor, to_mandel

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


def hemisphere(number: int) -> np.ndarray:
    """Unit vectors (number, 3) spread evenly over a hemisphere: a Fibonacci lattice (González 2010,
    doi:10.1007/s11004-009-9257-x)."""
    return _hemisphere(number)[0].copy()


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


def _descend(
    elasticity: np.ndarray, normal: np.ndarray, scale: np.ndarray, rounds: int = 100
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local minima (n,) over N of the smallest eigenvalue of the acoustic tensor, started at unit normals (n, 3).

    Their normals (n, 3) and polarisations (n, 3) come along.

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
    return value, normal, polarisation


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
    return softest_wave(tangent, stress, deformation_gradient, directions)[0]


def softest_wave(
    tangent: np.ndarray, stress: np.ndarray, deformation_gradient: np.ndarray, directions: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smallest acoustic eigenvalue with its normal N and polarisation m: where it is zero, a band can localise.

    Arguments are those of `smallest_acoustic_eigenvalue`.

    Returns
    -------
    value : array (...,)
        GPa; NaN at points where an argument is not finite, as are the vectors there.
    normal, polarisation : array (..., 3)
        Unit vectors, N in the reference configuration; each is determined but for its sign, and for symmetry.
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
    # columns: value, normal, polarisation
    result = np.full((len(flat), 7), np.nan)
    usable = np.flatnonzero(np.all(np.isfinite(flat), axis=(1, 2, 3, 4)))
    grid, neighbours = _hemisphere(directions)
    for start in range(0, len(usable), _CHUNK):
        chosen = usable[start : start + _CHUNK]
        chunk = flat[chosen]
        scale = np.max(np.abs(chunk), axis=(1, 2, 3, 4)) + np.finfo(float).tiny
        lowest = np.full((len(chunk), 7), np.inf)
        # f is also quadratic in N for a fixed polarisation m, and the minimum over m of the smallest eigenvalue of that
        # form is the same number. A narrow minimum that slips through one grid is rarely narrow on the other.
        for swapped in (False, True):
            form = np.transpose(chunk, (0, 2, 1, 4, 3)) if swapped else chunk
            values = np.linalg.eigvalsh(_contract_normals(form, grid))[:, :, 0]
            minimal = np.all(values[:, :, None] <= values[:, neighbours], axis=2)
            order = np.argsort(np.where(minimal, values, np.inf), axis=1, kind="stable")[:, :_STARTS]
            place, column = np.nonzero(minimal[np.arange(len(chunk))[:, None], order])
            value, first, second = _descend(form[place], grid[order[place, column]], scale[place])
            found = np.concatenate([value[:, None], *((second, first) if swapped else (first, second))], axis=1)
            # the lowest of each place is written last
            descending = np.argsort(-value, kind="stable")
            best = np.full_like(lowest, np.inf)
            best[place[descending]] = found[descending]
            lowest = np.where(best[:, :1] < lowest[:, :1], best, lowest)
        result[chosen] = lowest
    return result[:, 0].reshape(batch), result[:, 1:4].reshape(*batch, 3), result[:, 4:].reshape(*batch, 3)


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
