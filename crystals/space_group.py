"""The space group of a crystal and its idealised conventional cell, by moyo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import moyopy
import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class SpaceGroup:
    """What moyo finds of a crystal.

    Attributes
    ----------
    hall_number : int
        1 to 530, as in spglib.
    centring : str
        P A C R I F.
    transformation : (3, 3)
        P with x_standard = P x + p for fractional coordinates x, x_standard.
    shift : (3,)
        p.
    lattice : (3, 3)
        Rows: vectors of the idealised conventional cell, Å, in Cartesian axes of their own.
    positions : (n, 3)
        Fractional coordinates of the atoms of that cell.
    numbers : (n,) int
        Their atomic numbers.
    """

    hall_number: int
    centring: str
    transformation: np.ndarray
    shift: np.ndarray
    lattice: np.ndarray
    positions: np.ndarray
    numbers: np.ndarray


def space_group(where: str, atoms: Atoms, symprec: float) -> SpaceGroup:
    """The space group and idealised cell of a crystal, atoms within `symprec` (Å) counting as equivalent.

    Raises
    ------
    ValueError
        Where moyo finds none.
    """
    lattice, coordinates, numbers = _cell(atoms)
    cell = moyopy.Cell(lattice.tolist(), coordinates.tolist(), numbers.tolist())
    try:
        # of several settings the one of the smallest Hall number
        found: Any = moyopy.MoyoDataset(cell, symprec=symprec, setting=moyopy.Setting.spglib())
    except ValueError as error:
        raise ValueError(
            f"{where}: expected a structure whose symmetry moyo can find, got {atoms.get_chemical_formula()} with symprec "
            f"{symprec} Å ({error}). Check for overlapping atoms, or change symprec."
        ) from error
    turn = np.linalg.inv(np.array(found.std_linear))
    return SpaceGroup(
        found.hall_number, _centring(found.hall_number), turn, -turn @ np.array(found.std_origin_shift),
        np.array(found.std_cell.basis), np.array(found.std_cell.positions), np.array(found.std_cell.numbers),
    )  # fmt: skip


@cache
def _centring(hall_number: int) -> str:
    return moyopy.HallSymbolEntry(hall_number).hm_short[0]


@cache
def point_operations(hall_number: int) -> tuple[np.ndarray, np.ndarray]:
    """Point operations (n, 3, 3) of a space group and translations (m, 3) of its lattice, in its conventional cell."""
    entry = moyopy.HallSymbolEntry(hall_number)
    found = moyopy.operations_from_number(entry.number, setting=moyopy.Setting.hall_number(hall_number))
    rotations, shifts = np.array(found.rotations), np.array(found.translations)
    return np.unique(rotations, axis=0), shifts[np.all(rotations == np.eye(3, dtype=int), axis=(1, 2))]


def coordinates_of(atoms: Atoms) -> np.ndarray:
    """Fractional coordinates (n, 3), not wrapped into the cell."""
    return np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T


def _cell(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # The lattice from its metric, rounded: choices among equal lengths then do not depend on how the crystal lies in
    # space.
    cell = atoms.cell.array
    lattice = np.linalg.cholesky(cell @ cell.T)
    lattice[2] *= np.sign(np.linalg.det(cell))
    return np.round(lattice, 10), coordinates_of(atoms) % 1.0, atoms.numbers
