"""Strained cells matched to a reference cell: which supercell of it each one is, and its deformation gradient.

Cells hold their vectors in rows. A frame's cell L is a strained copy of the supercell M L₀, M integer, so that
F = ((M L₀)⁻¹ L)ᵀ. M is fixed by the number of atoms, not by rounding alone: a cell of ten reference cells strained by
6 % looks like eleven.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from . import mandel
from .structures import PRIMITIVE_BASES

#: Beyond this |E| a cell is taken for a wrong frame or cell, not for a strained reference.
IMPLAUSIBLE_STRAIN = 0.3
# Cells of another shape than the reference's are matched only where they are turned by less than this (radians): further
# off, a symmetry of the lattice that the crystal lacks might be mistaken for the turn.
_LARGEST_TURN = 0.45
# Beyond this |E| another basis of the same lattice is looked for.
_DOUBTFUL_STRAIN = 0.15


@dataclass(frozen=True)
class CellMatch:
    """Frames matched to a reference.

    Attributes
    ----------
    gradients : (n, 3, 3)
        Deformation gradients F.
    multiples : (n, 3, 3)
        Supercell matrices M: integers, or fractions where the frames are primitive cells of a centred reference.
    atoms : int
        Atoms in the reference cell.
    misfits : dict
        Place of each frame that is no strained copy, and the reason.
    """

    gradients: np.ndarray
    multiples: np.ndarray
    atoms: int
    misfits: dict[int, str]


def match_cells(cells: np.ndarray, sizes: np.ndarray, cell_ref: np.ndarray, atoms: int | None = None) -> CellMatch:
    """Deformation gradients and supercell matrices of strained cells.

    Parameters
    ----------
    cells : (n, 3, 3)
        Cells (Å).
    sizes : (n,)
        Number of atoms in each.
    cell_ref : (3, 3)
        Reference cell (Å).
    atoms : int, optional
        Number of atoms in the reference cell, where it is known.
    """
    density = float(np.median(sizes / np.abs(np.linalg.det(cells)))) * abs(float(np.linalg.det(cell_ref)))
    candidates = [atoms] if atoms else range(max(1, int(0.6 * density)), int(np.ceil(1.6 * density)) + 1)
    best: tuple[float, CellMatch] | None = None
    # The reference as it is; only where that does not fit most of the frames well, as a centred cell of its primitive
    # ones.
    for centring, basis in PRIMITIVE_BASES.items():
        for number in candidates:
            counts = sizes / (number * np.linalg.det(basis))
            if np.mean(np.abs(counts - np.round(counts)) < 1e-9) <= 0.5:
                continue
            match = _match(cells, sizes, cell_ref, number, basis)
            # of most frames, whatever the misfits
            score = float(np.median(np.linalg.norm(mandel.green_lagrange(match.gradients), axis=1)))
            # Among many cells some lattice of the reference comes near anything: far off, only plain multiples count.
            plain = centring == "P" and np.array_equal(match.multiples, match.multiples * np.eye(3))
            if score > _DOUBTFUL_STRAIN and not plain:
                continue
            if 2 * len(match.misfits) < len(cells) and (best is None or score < best[0]):
                best = score, match
        if centring == "P" and best is not None and best[0] < _DOUBTFUL_STRAIN:
            break
    if best is not None:
        return best[1]
    # Nothing fits: every frame is a misfit, and the plain comparison says how far off.
    match = _match(cells, sizes, cell_ref, max(1, round(density)) if atoms is None else atoms, np.eye(3))
    strains = np.linalg.norm(mandel.green_lagrange(match.gradients), axis=1)
    reasons = {
        place: match.misfits.get(place, f"{size} atoms, implies |E| = {strain:.2f} from the nearest multiple")
        for place, (size, strain) in enumerate(zip(sizes, strains, strict=True))
    }
    return replace(match, misfits=reasons)


def _match(cells: np.ndarray, sizes: np.ndarray, cell_ref: np.ndarray, atoms: int, basis: np.ndarray) -> CellMatch:
    usual = int(np.median(sizes))
    unit = basis @ cell_ref
    gradients, multiples, misfits = [], [], {}
    for place, (cell, size) in enumerate(zip(cells, sizes, strict=True)):
        count = size / (atoms * np.linalg.det(basis))
        whole = abs(count - round(count)) < 1e-9
        multiple = _supercell(cell, unit, round(count)) if whole else None
        if multiple is None:
            multiple = np.eye(3)
        gradient = np.linalg.solve(multiple @ unit, cell).T
        strain = float(np.linalg.norm(mandel.green_lagrange(gradient)))
        misfit = not whole or strain > IMPLAUSIBLE_STRAIN or np.linalg.det(gradient) <= 0
        other = None
        if whole and (misfit or strain > _DOUBTFUL_STRAIN):
            other = _other_basis(cell, unit if round(count) == 1 else multiple @ unit, strain)
        if misfit or other is not None:
            misfits[place] = f"{size} atoms, where the others have {usual}, implies |E| = {strain:.2f}"
            if other is not None:
                rows, smaller = other
                misfits[place] += (
                    f"; its lattice basis is another one (integer rows {rows.tolist()} times its vectors give "
                    f"|E| = {smaller:.2f})"
                )
        gradients.append(gradient)
        multiples.append(multiple @ basis)
    return CellMatch(np.array(gradients), np.array(multiples), atoms, misfits)


def _supercell(cell: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray | None:
    """The integer matrix of determinant `count` with the smallest |E| of `cell` from its multiple of `unit`, diagonal first."""
    if count < 1:
        return None
    # |E| does not see rotations: the plain multiples of the vectors come first, so that turned frames are themselves.
    lengths = np.linalg.norm(cell, axis=1) / np.linalg.norm(unit, axis=1)
    plain = np.array([np.diag(np.floor(lengths) + np.array(up)) for up in itertools.product((0, 1), repeat=3)])
    real = cell @ np.linalg.inv(unit)
    near = np.floor(real + 1e-9) + _steps()
    candidates = np.concatenate([plain, near])
    is_plain = np.arange(len(candidates)) < len(plain)
    right = np.abs(np.linalg.det(candidates) - count) < 0.5
    candidates, is_plain = candidates[right], is_plain[right]
    if not len(candidates):
        return None
    gradients = np.swapaxes(np.linalg.solve(candidates @ unit, np.broadcast_to(cell, candidates.shape)), 1, 2)
    strains = np.linalg.norm(mandel.green_lagrange(gradients), axis=1)
    left, _, right_handed = np.linalg.svd(gradients)
    cosine = 0.5 * (np.trace(left @ right_handed, axis1=1, axis2=2) - 1.0)
    strains[~is_plain & (cosine < np.cos(_LARGEST_TURN))] = np.inf
    # Ten cells in a row, sheared by a tenth, are also another lattice of ten, unstrained: the plain multiple is what was meant.
    if np.any(strains[is_plain] <= _DOUBTFUL_STRAIN):
        strains[~is_plain] = np.inf
    if not np.any(np.isfinite(strains)):
        return None
    return candidates[int(np.argmax(strains <= strains.min() + 1e-6))]


@cache
def _steps() -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=9))).reshape(-1, 3, 3)


@cache
def _unimodular() -> np.ndarray:
    integers = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=9))).reshape(-1, 3, 3)
    return integers[np.abs(np.linalg.det(integers) - 1.0) < 0.5]


def _other_basis(cell: np.ndarray, reference: np.ndarray, strain: float) -> tuple[np.ndarray, float] | None:
    """The unimodular matrix that carries a re-reduced lattice basis to the reference's, and the |E| then, or None."""
    integers = _unimodular()
    gradients = np.swapaxes(np.linalg.inv(reference) @ (integers @ cell), 1, 2)
    sizes = np.linalg.norm(mandel.green_lagrange(gradients), axis=1)
    best = int(np.argmin(sizes))
    if sizes[best] > min(_DOUBTFUL_STRAIN, 0.5 * strain):
        return None
    return integers[best].astype(int), float(sizes[best])
