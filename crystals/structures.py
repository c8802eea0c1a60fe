"""Crystal structures: from pymatgen, ASE or a file to a point group and the standard frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib
from ase import Atoms
from ase.io import read as read_with_ase

if TYPE_CHECKING:
    from pymatgen.core import Structure


def as_atoms(structure: Atoms | Structure | str | Path) -> Atoms:
    """ASE `Atoms` of a pymatgen `Structure`, an ASE `Atoms`, or a file (CIF, POSCAR, extended XYZ …).

    Raises
    ------
    ValueError
        Where the object is none of these, or is not periodic in three directions.
    """
    if isinstance(structure, (str, Path)):
        path = Path(structure)
        if not path.is_file():
            raise OSError(f"as_atoms: expected a structure file, got {str(path)!r}, which does not exist. Check the path.")
        try:
            found = read_with_ase(path)
        except Exception as error:
            raise ValueError(
                f"as_atoms: expected a structure that ASE can read (CIF, POSCAR, extended XYZ), got {str(path)!r}: "
                f"{error}. Convert it with pymatgen or ASE."
            ) from error
        atoms = found[-1] if isinstance(found, list) else found
    elif isinstance(structure, Atoms):
        atoms = structure
    else:
        from pymatgen.core import Structure as PymatgenStructure  # slow to import
        from pymatgen.io.ase import AseAtomsAdaptor

        if not isinstance(structure, PymatgenStructure):
            raise TypeError(
                f"as_atoms: expected a pymatgen Structure, an ASE Atoms or a path, got {type(structure).__name__}."
            )
        atoms = Atoms(AseAtomsAdaptor.get_atoms(structure))
    if not np.all(atoms.pbc) or abs(np.linalg.det(atoms.cell.array)) < 1e-6:
        raise ValueError(
            f"as_atoms: expected a crystal periodic in three directions, got pbc = {atoms.pbc.tolist()}. "
            "Give the structure a cell."
        )
    return atoms


def _spglib_cell(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


def symmetry_operations(structure: Any, symprec: float = 0.01) -> np.ndarray:
    """Cartesian point operations (n, 3, 3) of a structure in the frame of its own lattice, found by spglib.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    symprec : float
        Distance (Å) within which atoms count as equivalent.
    """
    atoms = as_atoms(structure)
    found = spglib.get_symmetry(_spglib_cell(atoms), symprec=symprec)
    if found is None:
        raise ValueError(
            f"symmetry_operations: expected a structure that spglib can analyse, got {atoms.get_chemical_formula()} "
            f"with symprec {symprec} Å. Check for overlapping atoms, or change symprec."
        )
    # Columns of the lattice matrix are the cell vectors: x = Lᵀ s, so a fractional operation W acts as Lᵀ W L⁻ᵀ.
    lattice = atoms.cell.array.T
    return np.unique(np.round(lattice @ found["rotations"] @ np.linalg.inv(lattice), 10), axis=0)


def standard_primitive(structure: Any, symprec: float = 0.01) -> Atoms:
    """The primitive cell, turned into the standard frame: z ∥ c, and x ∥ a where a ⊥ c, of the conventional cell.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    symprec : float
        Tolerance (Å) for symmetry.

    Returns
    -------
    Atoms
        Primitive cell; its lattice need not look standard, its Cartesian axes are.
    """
    atoms = as_atoms(structure)
    conventional = spglib.standardize_cell(_spglib_cell(atoms), to_primitive=False, no_idealize=False, symprec=symprec)
    if conventional is None:
        raise ValueError(
            f"standard_primitive: expected a structure that spglib can standardise, got {atoms.get_chemical_formula()} "
            f"with symprec {symprec} Å. Check for overlapping atoms, or change symprec."
        )
    lattice, positions, numbers = conventional
    z = lattice[2] / np.linalg.norm(lattice[2])
    x = lattice[0] - (lattice[0] @ z) * z
    x /= np.linalg.norm(x)
    # rows of the rotation are the new axes in the old frame
    lattice = lattice @ np.array([x, np.cross(z, x), z]).T
    primitive = spglib.standardize_cell((lattice, positions, numbers), to_primitive=True, no_idealize=True)
    lattice, positions, numbers = primitive if primitive is not None else (lattice, positions, numbers)
    return Atoms(numbers=numbers, cell=lattice, scaled_positions=positions, pbc=True)
