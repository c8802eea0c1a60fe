"""How a crystal lies in the sample: strains turned into the crystal frame, stresses and tangents turned back."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystals import mandel
from crystals.rotations import check_rotation, mandel_rotation

#: Tangents turned at once, so that the 6×6 work arrays stay small.
_CHUNK = 8192


def _unpack(entries: np.ndarray) -> np.ndarray:
    return mandel.unpack_upper(entries) if entries.shape[-1] == 21 else entries.reshape(-1, 6, 6)


def _pack(matrix: np.ndarray, number: int) -> np.ndarray:
    return mandel.pack_upper(matrix) if number == 21 else matrix.reshape(-1, 36)


class Orientation:
    """Rotation Q crystal → sample (its columns are the crystal axes in the sample), one or one per point.

    Parameters
    ----------
    rotation : array (3, 3), (cells, 3, 3) or (points, 3, 3)
        Proper rotations. Per cell or per point counts the cells of this rank on which the material lives, in their
        local order.
    cells, points_per_cell : int
        Number of those cells, and of quadrature points in each.
    entries : int
        Tangent entries of the law, 21 or 36.

    Raises
    ------
    ValueError
        Where a matrix is no proper rotation, or the number fits neither cells nor points.
    """

    def __init__(self, rotation: Any, cells: int, points_per_cell: int, entries: int) -> None:
        where = "QuadratureMaterial orientation"
        array = check_rotation(where, np.asarray(rotation, dtype=float))
        points = cells * points_per_cell
        if array.ndim == 3 and len(array) == cells:
            array = np.repeat(array, points_per_cell, axis=0)
        elif array.ndim != 2 and not (array.ndim == 3 and len(array) == points):
            raise ValueError(
                f"{where}: expected shape (3, 3), ({cells}, 3, 3) for the cells of this rank or ({points}, 3, 3) for "
                f"their quadrature points, got {array.shape}. Give Q = gᵀ per local cell."
            )
        self.rotation = array
        self._turn = mandel_rotation(array)
        self._entries = entries
        self._constant = array.ndim == 2
        if self._constant:
            # turning is linear in the entries: one matrix serves every point
            turned = self._turn @ _unpack(np.eye(entries)) @ self._turn.T
            self._tangent_turn = _pack(turned, entries)

    def to_crystal(self, vectors: np.ndarray) -> np.ndarray:
        """Mandel vectors (n, 6) of the sample frame, in the crystal frame."""
        if self._constant:
            return vectors @ self._turn
        return np.einsum("nji,nj->ni", self._turn, vectors)

    def to_sample(self, vectors: np.ndarray) -> np.ndarray:
        """Mandel vectors (n, 6) of the crystal frame, in the sample frame."""
        if self._constant:
            return vectors @ self._turn.T
        return np.einsum("nij,nj->ni", self._turn, vectors)

    def tangent_to_sample(self, entries: np.ndarray) -> np.ndarray:
        """Packed tangents (n, 21) or (n, 36) of the crystal frame, in the sample frame."""
        if self._constant:
            return entries @ self._tangent_turn
        turned = np.empty_like(entries)
        for start in range(0, len(entries), _CHUNK):
            part = slice(start, start + _CHUNK)
            turn = self._turn[part]
            turned[part] = _pack(turn @ _unpack(entries[part]) @ np.swapaxes(turn, 1, 2), self._entries)
        return turned
