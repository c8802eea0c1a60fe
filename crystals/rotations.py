"""Active rotations, and their action on Mandel vectors and matrices.

A rotation Q turns a vector v into Qv and a tensor A into Q A Qᵀ. An *orientation* Q maps crystal axes to sample axes:
its columns are the crystal axes in the sample. Bunge's matrix g is sample → crystal and passive, so Q = gᵀ
(Bunge 1982, Texture Analysis in Materials Science, eq. 2.50).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from .mandel import COLUMNS, ROWS, WEIGHTS


def _unit(where: str, direction: np.ndarray) -> np.ndarray:
    direction = np.asarray(direction, dtype=float)
    if direction.shape != (3,) or not np.all(np.isfinite(direction)) or not np.any(direction):
        raise ValueError(
            f"{where}: expected a nonzero axis of shape (3,), got {direction.tolist()}. Give three finite "
            "numbers, such as [1, 1, 0]."
        )
    direction = direction / np.max(np.abs(direction))
    return direction / np.linalg.norm(direction)


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Active rotation (3, 3) by `angle` (radians) about `axis` (3,), which need not have unit length."""
    return Rotation.from_rotvec(_unit("rotation_about", axis) * angle).as_matrix()


def rotation_from_bunge(angles: np.ndarray, degrees: bool = False) -> np.ndarray:
    """Orientation Q (..., 3, 3), crystal → sample, of Bunge Euler angles φ1, Φ, φ2 (..., 3), radians by default.

    Raises
    ------
    ValueError
        For another shape, angles that are not finite, and radians beyond ±4π, which are degrees.
    """
    angles = np.asarray(angles, dtype=float)
    if angles.shape[-1:] != (3,):
        raise ValueError(
            f"rotation_from_bunge: expected angles of shape (..., 3), got {angles.shape}. Put the three angles last."
        )
    if not np.all(np.isfinite(angles)):
        raise ValueError(
            f"rotation_from_bunge: expected finite angles, got NaN or infinity in {int(np.sum(~np.isfinite(angles)))} of "
            f"{angles.size}. Check the table."
        )
    # EBSD maps write 4π where a point was not indexed
    if not degrees and np.abs(angles).max(initial=0.0) > 4.0 * np.pi + 1e-3:
        raise ValueError(
            f"rotation_from_bunge: expected radians within ±4π, got {angles.flat[np.abs(angles).argmax()]:g}. Pass degrees=True "
            "for degrees."
        )
    flat = Rotation.from_euler("ZXZ", angles.reshape(-1, 3), degrees=degrees).as_matrix()
    return flat.reshape(angles.shape[:-1] + (3, 3))


def rotation_from_quaternion(quaternion: np.ndarray, scalar_first: bool = True) -> np.ndarray:
    """Active rotation (..., 3, 3) of unit quaternions (..., 4), by default ordered (w, x, y, z).

    Raises
    ------
    ValueError
        For another shape, or lengths that differ from 1 by more than 1e-6.
    """
    quaternion = np.asarray(quaternion, dtype=float)
    if quaternion.shape[-1:] != (4,):
        raise ValueError(
            f"rotation_from_quaternion: expected shape (..., 4), got {quaternion.shape}. Put the four components last."
        )
    lengths = np.sqrt(np.sum(quaternion**2, axis=-1))
    off = np.abs(lengths - 1.0)
    if not np.all(off <= 1e-6):
        worst = float(lengths.reshape(-1)[np.argmax(np.nan_to_num(off, nan=np.inf).reshape(-1))])
        raise ValueError(
            f"rotation_from_quaternion: expected unit quaternions to within 1e-6, got a length of {worst:.8g}. "
            "Divide them by their lengths, and check the order (scalar_first)."
        )
    flat = quaternion.reshape(-1, 4)
    if scalar_first:
        flat = flat[:, [1, 2, 3, 0]]
    return Rotation.from_quat(flat).as_matrix().reshape(quaternion.shape[:-1] + (3, 3))


def rotation_to_direction(crystal_direction: np.ndarray, sample_direction: np.ndarray) -> np.ndarray:
    """The orientation Q that turns a crystal direction (3,) onto a sample direction (3,) by the smallest angle.

    Raises
    ------
    ValueError
        For a direction of another shape, of length zero, or not finite.
    """
    start = _unit("rotation_to_direction(crystal_direction)", crystal_direction)
    end = _unit("rotation_to_direction(sample_direction)", sample_direction)
    axis, cosine = np.cross(start, end), float(start @ end)
    if np.linalg.norm(axis) < 1e-12:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(start, np.eye(3)[np.argmin(np.abs(start))])
        return rotation_about(axis, np.pi)
    return rotation_about(axis, float(np.arctan2(np.linalg.norm(axis), cosine)))


def random_rotations(number: int, generator: np.random.Generator) -> np.ndarray:
    """Uniformly distributed rotations (number, 3, 3)."""
    # by position: the argument is random_state in older scipy, rng in newer
    return Rotation.random(number, generator).as_matrix().reshape(number, 3, 3)


def check_rotation(where: str, rotation: np.ndarray, tolerance: float = 1e-8) -> np.ndarray:
    """Return `rotation` (..., 3, 3) as float64, or raise ValueError where QᵀQ ≠ 1 or det Q ≠ 1."""
    rotation = np.asarray(rotation, dtype=float)
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(
            f"{where}: expected rotations of shape (..., 3, 3), got {rotation.shape}. Put the batch first; angles go "
            "through rotation_from_bunge, quaternions through rotation_from_quaternion."
        )
    # before any product: infinities and huge numbers would make numpy warn
    if not np.all(np.abs(rotation) <= 2.0):
        worst = rotation.reshape(-1)[np.argmax(np.nan_to_num(np.abs(rotation), nan=np.inf).reshape(-1))]
        raise ValueError(
            f"{where}: expected proper rotations (QᵀQ = 1, det Q = +1), got an entry {worst:.3g}. Orthonormalise the "
            "matrix."
        )
    defect = np.max(np.abs(np.swapaxes(rotation, -1, -2) @ rotation - np.eye(3)), initial=0.0)
    if not defect <= tolerance or np.any(np.linalg.det(rotation) < 0):
        raise ValueError(
            f"{where}: expected proper rotations (QᵀQ = 1, det Q = +1), got a defect of {defect:.2g} and a determinant "
            f"of {np.min(np.linalg.det(rotation)):.3f}. Orthonormalise the matrix, or check rows against columns."
        )
    return rotation


def mandel_rotation(rotation: np.ndarray) -> np.ndarray:
    """Orthogonal 6×6 matrix R (..., 6, 6) with mandel(Q A Qᵀ) = R mandel(A) for Q (..., 3, 3), proper or improper."""
    q = np.asarray(rotation, dtype=float)
    i, j = ROWS[:, None], COLUMNS[:, None]
    k, l = ROWS[None, :], COLUMNS[None, :]
    mixed = 0.5 * (q[..., i, k] * q[..., j, l] + q[..., i, l] * q[..., j, k])
    return mixed * (WEIGHTS[:, None] * WEIGHTS[None, :])


def rotate_vector(rotation: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Mandel vectors (..., 6) turned actively by Q (..., 3, 3)."""
    return np.einsum("...ij,...j->...i", mandel_rotation(rotation), vector)


def rotate_matrix(rotation: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Mandel matrices (..., 6, 6) turned actively by Q (..., 3, 3)."""
    turn = mandel_rotation(rotation)
    return turn @ matrix @ np.swapaxes(turn, -1, -2)
