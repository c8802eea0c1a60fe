"""How a crystal lies in the sample: strains turned into the crystal frame, stresses and tangents turned back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ufl.core.expr import Expr

from crystals import mandel
from crystals.rotations import check_rotation


def orientation_from_voxels(
    grains: np.ndarray, table: Any, spacing: float | Sequence[float], origin: Sequence[float] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Orientation field of a voxel image, for `QuadratureMaterial(orientation=…)`.

    Parameters
    ----------
    grains : int array (nx, ny, nz) or (nx, ny)
        Grain of each voxel; axis 0 runs along x.
    table : dict of int to (3, 3), or array (grains, 3, 3)
        Q crystal → sample of each grain.
    spacing : float or one for each axis
        Edge of a voxel, in units of the mesh.
    origin : sequence of float, optional
        Corner of the image; zero by default.

    Returns
    -------
    callable
        Rotations (n, 3, 3) at points (n, 3).

    Raises
    ------
    ValueError
        For labels without a rotation, and (when called) points outside the image.
    """
    where = "orientation_from_voxels"
    labels = np.asarray(grains)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: expected integer grains of shape (nx, ny, nz) or (nx, ny), got {labels.dtype} {labels.shape}."
        )
    found, inverse = np.unique(labels, return_inverse=True)
    rotations, number = _looked_up(where, table, found), inverse.reshape(labels.shape)
    edge = np.broadcast_to(np.asarray(spacing, dtype=float), (labels.ndim,))
    corner = np.zeros(labels.ndim) if origin is None else np.asarray(origin, dtype=float)

    def at(points: np.ndarray) -> np.ndarray:
        place = (np.asarray(points)[:, : labels.ndim] - corner) / edge
        # a point on the image's face belongs to the voxel inside
        inside = np.all((place >= -1e-9) & (place <= np.array(labels.shape) + 1e-9), axis=1)
        if not np.all(inside):
            first = np.asarray(points)[np.argmin(inside)].tolist()
            raise ValueError(
                f"{where}: expected points inside the image of {labels.shape} voxels of {edge.tolist()} from "
                f"{corner.tolist()}, got {first}. Give spacing and origin in the units of the mesh."
            )
        index = np.clip(place.astype(int), 0, np.array(labels.shape) - 1)
        return rotations[number[tuple(index.T)]]

    return at


def _looked_up(where: str, table: Any, labels: np.ndarray) -> np.ndarray:
    """Rotations (m, 3, 3) of labels (m,) out of a dict or an array."""
    if isinstance(table, dict):
        missing = [int(label) for label in labels if int(label) not in table]
        rows = [] if missing else [np.asarray(table[int(label)], dtype=float) for label in labels]
        found = np.array(rows).reshape(-1, 3, 3) if rows else np.zeros((0, 3, 3))
    else:
        array = np.asarray(table, dtype=float)
        missing = [int(label) for label in labels if not 0 <= label < len(array)]
        found = array if missing else array[labels.astype(int)]
    if missing:
        raise ValueError(
            f"{where}: expected a rotation for every grain, got none for {missing[:5]}. Add them to the table "
            "(rotation_from_bunge makes rotations of Euler angles)."
        )
    return check_rotation(where, found)


def _by_tag(where: str, tags: Any, table: Any, cells: np.ndarray) -> np.ndarray:
    """Rotations (cells, 3, 3) out of cell tags and a table."""
    place = np.searchsorted(tags.indices, cells)
    place = np.minimum(place, max(len(tags.indices) - 1, 0))
    known = tags.indices[place] == cells if len(tags.indices) else np.zeros(len(cells), dtype=bool)
    if not np.all(known):
        raise ValueError(
            f"{where}: expected a tag on every cell of the material, got {int(np.sum(~known))} without (the first is local "
            f"cell {int(cells[np.argmin(known)])}). Tag them, or pass subdomain=…."
        )
    labels, inverse = np.unique(tags.values[place], return_inverse=True)
    return _looked_up(where, table, labels)[inverse]


class Orientation:
    """Rotation Q crystal → sample (its columns are the crystal axes in the sample), one or one per point.

    Parameters
    ----------
    rotation : array, (MeshTags, table), callable or UFL tensor
        An array (3, 3), or (cells, 3, 3) or (points, 3, 3) which count the cells of this rank on which the material
        lives, in their local order. Cell tags and a dict (or array) from tag to (3, 3). A function of points (n, 3) that
        gives (n, 3, 3), see `orientation_from_voxels`. A Function or UFL expression of shape (3, 3).
    cells : int array
        Those cells.
    points_per_cell : int
        Number of quadrature points in each.
    points : callable
        Gives the coordinates (n, 3) of the quadrature points.
    evaluate : callable
        Gives the values (n, 9) of a UFL expression at the quadrature points.

    Raises
    ------
    ValueError
        Where a matrix is no proper rotation, a grain has none, or the number fits neither cells nor points.
    """

    def __init__(
        self,
        rotation: Any,
        cells: np.ndarray,
        points_per_cell: int,
        points: Callable[[], np.ndarray],
        evaluate: Callable[[Any], np.ndarray],
    ) -> None:
        where = "QuadratureMaterial orientation"
        count = len(cells)
        if isinstance(rotation, tuple) and len(rotation) == 2 and hasattr(rotation[0], "indices"):
            array = _by_tag(where, *rotation, cells)
        elif isinstance(rotation, Expr):
            field: Any = rotation
            if tuple(field.ufl_shape) != (3, 3):
                raise ValueError(
                    f"{where}: expected a field of shape (3, 3), got {tuple(field.ufl_shape)}. Put Q in it."
                )
            array = evaluate(rotation).reshape(-1, 3, 3)
        elif callable(rotation):
            array = np.asarray(rotation(points()), dtype=float).reshape(-1, 3, 3)
        else:
            array = np.asarray(rotation, dtype=float)
        array = check_rotation(where, array)
        number = count * points_per_cell
        if array.ndim == 3 and len(array) == count:
            array = np.repeat(array, points_per_cell, axis=0)
        elif array.ndim != 2 and not (array.ndim == 3 and len(array) == number):
            raise ValueError(
                f"{where}: expected shape (3, 3), ({count}, 3, 3) for the cells of this rank or ({number}, 3, 3) for "
                f"their quadrature points, got {array.shape}. Give Q = gᵀ per local cell."
            )
        self.rotation = array

    def to_crystal(self, vectors: np.ndarray) -> np.ndarray:
        """Mandel vectors (n, 6) of the sample frame, in the crystal frame."""
        return mandel.to_mandel(np.swapaxes(self.rotation, -1, -2) @ mandel.from_mandel(vectors) @ self.rotation)

    def to_sample(self, vectors: np.ndarray) -> np.ndarray:
        """Mandel vectors (n, 6) of the crystal frame, in the sample frame."""
        return mandel.to_mandel(self.rotation @ mandel.from_mandel(vectors) @ np.swapaxes(self.rotation, -1, -2))
