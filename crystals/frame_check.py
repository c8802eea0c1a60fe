"""Whether a data set's frame, cells and structure still agree: a file that was turned or edited is found on reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from .groups import PointGroup
from .mandel import green_lagrange, second_piola

if TYPE_CHECKING:
    from .states import StrainData

#: By how much a supercell matrix may miss whole numbers, and an operation its image: rounded cells pass, turns do not.
_WHOLE = 0.02
_SAME_OPERATION = 0.02
_TURN = 0.02
_LARGEST_STRETCH = 0.2
#: Largest difference between a strain and that of F, and share of a stress by which it may miss that of σ and F.
_SAME_STRAIN = 1e-7
_SAME_STRESS = 1e-6


def check_frame(data: StrainData) -> None:
    """Compare what a data set says of its axes.

    Raises
    ------
    ValueError
        Where strain or stress is not that of F and the Cauchy stress, where the cells are not F times the reference cell,
        where the structure lies otherwise than the reference cell, or where the structure is of the class that is named but
        its symmetry operations lie otherwise in space.
    """
    if data.cell_ref is not None and data.cell is not None:
        carried = data.cell_ref @ np.swapaxes(data.deformation_gradient, 1, 2)
        off = _off_whole(data.cell @ np.linalg.inv(carried))
        if off.max() > _WHOLE:
            place = int(np.argmax(off))
            raise ValueError(
                f"StrainData: expected cells that are F times the reference cell, got {data.names[place]} off by "
                f"{off[place]:.2g} of it. Cells or strains were turned or edited: make the data set again"
            )
    gradient = data.deformation_gradient
    off = np.abs(data.strain - green_lagrange(gradient)).max(axis=1)
    size = np.maximum(np.abs(data.stress).max(axis=1), 1e-3 * np.abs(data.stress).max())
    with np.errstate(all="ignore"):
        miss = np.abs(data.stress - second_piola(data.cauchy, gradient)).max(axis=1) / np.where(size > 0, size, 1.0)
    wrong = ~((off <= _SAME_STRAIN) & (miss <= _SAME_STRESS) & (np.linalg.det(gradient) > 0))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"StrainData: expected strain and stress to follow from F and the Cauchy stress, got {data.names[place]} off by "
            f"{off[place]:.2g} in strain and {miss[place]:.2g} of its stress. One of them was edited: make the data set again"
        )
    if data.structure is None:
        return
    sites = data.structure["sites"]
    atoms = Atoms(
        [site["species"][0]["element"] for site in sites], cell=data.structure["lattice"]["matrix"],
        scaled_positions=[site["abc"] for site in sites], pbc=True,
    )  # fmt: skip
    if data.cell_ref is not None:
        # the structure may have another lattice constant than the reference, but not other axes
        lattice = atoms.cell.array
        multiple = np.round(lattice @ np.linalg.inv(data.cell_ref))
        # no whole multiples at all: nothing of the reference cell is in it
        same = abs(np.linalg.det(multiple)) > 0.5
        left, sizes, right = np.linalg.svd(np.linalg.solve(multiple @ data.cell_ref, lattice) if same else -np.eye(3))
        turn = float(np.abs(left @ right - np.eye(3)).max())
        if turn > _TURN or np.abs(sizes - 1.0).max() > _LARGEST_STRETCH:
            raise ValueError(
                f"StrainData: expected a structure in the axes of the reference cell, got one turned by {turn:.2g} and "
                f"stretched by {np.abs(sizes - 1.0).max():.2g}. Structure or cells were turned: make the data set again"
            )
    if data.group is None or not data.group.is_finite:
        return
    # as exact as calculators' own structures are, or as means over strained cells
    found = [PointGroup.from_structure(atoms, symprec) for symprec in (0.01, 0.1)]
    same = [own for own in found if own.laue.symbol == data.group.laue.symbol]
    if not same:
        return  # a class chosen by hand, as for a random alloy
    own = same[0]
    apart = np.abs(data.group.laue.rotations[:, None] - own.laue.rotations[None]).max(axis=(2, 3)).min(axis=1)
    if apart.max() > _SAME_OPERATION:
        raise ValueError(
            f"StrainData: expected the frame in which the structure shows {own.symbol}, got one whose operations are off by "
            f"{apart.max():.2g}. The frame or the structure was turned: make the data set again"
        )


def _off_whole(matrix: np.ndarray) -> np.ndarray:
    return np.abs(matrix - np.round(matrix)).max(axis=(-1, -2))
