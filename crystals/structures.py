"""Crystal structures: from pymatgen, ASE or a file to a point group and the standard frame."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.io import read as read_with_ase

from .space_group import SpaceGroup, coordinates_of, point_operations, space_group

if TYPE_CHECKING:
    from pymatgen.core import Structure


def as_atoms(structure: Atoms | Structure | str | Path) -> Atoms:
    """ASE `Atoms` of a pymatgen `Structure`, an ASE `Atoms`, or a file (CIF, POSCAR, extended XYZ …).

    Raises
    ------
    ValueError
        Where the object is none of these, is not periodic in three directions, or has sites that elements share or leave empty.
    """
    if isinstance(structure, (str, Path)):
        path = Path(structure)
        if not path.is_file():
            raise OSError(
                f"as_atoms: expected a structure file, got {str(path)!r}, which does not exist. Check the path."
            )
        try:
            # where the name says it, ASE need not look for itself
            found = read_with_ase(path, format="cif" if path.suffix.lower() == ".cif" else None)
        except Exception as error:
            raise ValueError(
                f"as_atoms: expected a structure that ASE can read (CIF, POSCAR, extended XYZ), got {str(path)!r}: "
                f"{str(error).strip() or type(error).__name__}. Convert it with pymatgen or ASE."
            ) from error
        atoms = found[-1] if isinstance(found, list) else found
        # ASE keeps the element that fills most of a site
        shared = [site for site in atoms.info.get("occupancy", {}).values() if list(site.values()) != [1.0]]
        if shared:
            raise ValueError(
                f"as_atoms: expected sites that one element fills, got {shared[0]} in {path.name}. Give an ordered cell."
            )
    elif isinstance(structure, Atoms):
        atoms = structure
    else:
        from pymatgen.core import Structure as PymatgenStructure  # slow to import

        if not isinstance(structure, PymatgenStructure):
            raise TypeError(
                f"as_atoms: expected a pymatgen Structure, an ASE Atoms or a path, got {type(structure).__name__}. "
                "Convert it with pymatgen or ASE."
            )
        if not structure.is_ordered:
            raise ValueError(
                f"as_atoms: expected sites that one element fills, got {structure.formula}. Give an ordered cell."
            )
        atoms = _of_pymatgen(structure)
    if not np.all(np.isfinite(atoms.cell.array)) or not np.all(np.isfinite(atoms.positions)) or len(atoms) == 0:
        raise ValueError(
            f"as_atoms: expected atoms with finite cell and positions, got {len(atoms)} atoms, or numbers that are "
            "NaN or infinite. Correct the structure."
        )
    if not np.all(atoms.pbc) or abs(np.linalg.det(atoms.cell.array)) < 1e-6:
        raise ValueError(
            f"as_atoms: expected a crystal periodic in three directions, got pbc = {atoms.pbc.tolist()}. "
            "Give the structure a cell."
        )
    return atoms


def _of_pymatgen(structure: Structure) -> Atoms:
    from pymatgen.core import Element
    from pymatgen.io.ase import AseAtomsAdaptor

    sites = structure.sites
    if structure.properties or any(site.properties or len(site.species) > 1 for site in sites):
        return Atoms(AseAtomsAdaptor.get_atoms(structure))
    kinds = [next(iter(site.species)) for site in sites]
    if not all(isinstance(kind, Element) and site.species[kind] == 1 for kind, site in zip(kinds, sites, strict=True)):
        return Atoms(AseAtomsAdaptor.get_atoms(structure))
    # the common case, without what ASE would look for in charges, moments and constraints
    return Atoms(
        numbers=[kind.Z for kind in kinds], cell=structure.lattice.matrix, positions=[site.coords for site in sites],
        pbc=structure.pbc,
    )  # fmt: skip


#: Rows: primitive vectors in units of the conventional ones, for each centring, as moyo chooses them.
PRIMITIVE_BASES = {
    "P": np.eye(3),
    "A": np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, -0.5, 0.5]]),
    "C": np.array([[0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]),
    "R": np.array([[2.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [-1.0, -2.0, 1.0]]) / 3.0,
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]),
}


@dataclass(frozen=True)
class _Conventional:
    """The conventional cell of a crystal: the structure's own where that qualifies, else moyo's."""

    cell: np.ndarray  # rows a, b, c (Å) in the Cartesian axes of the structure
    basis: np.ndarray  # integer rows: a, b, c in units of moyo's conventional cell
    rotations: np.ndarray  # point operations in units of moyo's conventional cell, columns
    found: SpaceGroup


def _axes(cell: np.ndarray) -> np.ndarray:
    """Columns x, y, z: z ∥ c, x ∥ the part of a normal to c."""
    z = cell[2] / np.linalg.norm(cell[2])
    x = cell[0] - (cell[0] @ z) * z
    x = x / np.linalg.norm(x)
    (a, b, c), (d, e, f) = z, x
    return np.array([x, [b * f - c * e, c * d - a * f, a * e - b * d], z]).T


def _coded(rotations: np.ndarray) -> np.ndarray:
    """Sorted whole numbers that say which matrices of small whole numbers there are."""
    return np.sort(np.rint(rotations).astype(np.int64).reshape(len(rotations), 9) @ 101 ** np.arange(9))


def _conventional(where: str, atoms: Atoms, symprec: float) -> _Conventional:
    found = space_group(where, atoms, symprec)
    own = atoms.cell.array
    # x_standard = P x: the own vectors are the rows of Pᵀ times the standard ones
    rows = found.transformation.T
    standard = np.linalg.solve(rows, own)
    rotations, shifts = point_operations(found.hall_number)

    def qualifies(basis: np.ndarray) -> bool:
        """Whether a basis shows the same operations and centring as the standard one, and is right-handed."""
        whole = np.round(basis)
        if np.max(np.abs(basis - whole)) > 1e-3 or round(float(np.linalg.det(whole))) != 1:
            return False
        if np.array_equal(whole, np.eye(3)):
            return True
        # columns: new coordinates = (basisᵀ)⁻¹ · standard ones
        to_new, to_old = np.linalg.inv(whole.T), whole.T
        turned = to_new @ rotations @ to_old
        moved = shifts @ to_new.T
        return np.array_equal(_coded(turned), _coded(rotations)) and _same_rows(moved, shifts, period=1.0)

    # The own cell, or the cell whose standard primitive cell it is, or a supercell along its own vectors.
    divisors = [np.gcd.reduce(np.round(row).astype(int)) for row in rows]
    for basis in (rows / np.maximum(divisors, 1)[:, None], np.linalg.solve(PRIMITIVE_BASES[found.centring], rows)):
        if qualifies(basis):
            basis = np.round(basis)
            return _Conventional(basis @ standard, basis, rotations, found)
    # Else the one of the equally good bases of moyo's lattice whose axes lie nearest to those of the own cell.
    metric = standard @ standard.T
    bases = _signed_bases()
    change = np.max(np.abs(bases @ metric @ np.swapaxes(bases, 1, 2) - metric), axis=(1, 2))
    equal = [basis for basis in bases[change < 1e-3 * np.max(metric)] if qualifies(basis)]
    turns = [np.round(_axes(basis @ standard).T @ _axes(own), 5) + 0.0 for basis in equal]
    # where several lie as near, one that does not depend on how the lattice came to be described
    best = max(range(len(equal)), key=lambda i: (round(float(np.trace(turns[i])), 5), *turns[i].ravel()))
    return _Conventional(equal[best] @ standard, equal[best], rotations, found)


@cache
def _signed_bases() -> np.ndarray:
    """Unimodular matrices of entries −1, 0, 1 that can be rotations of a conventional cell, the identity first."""
    rows = np.array([row for row in itertools.product((0, 1, -1), repeat=3) if 0 < np.count_nonzero(row) <= 2], float)
    places = np.array(list(itertools.product(range(len(rows)), repeat=3)))
    bases = rows[places]
    bases = bases[np.abs(np.linalg.det(bases) - 1.0) < 0.5]
    return np.concatenate([np.eye(3)[None], bases])


def _same_rows(first: np.ndarray, second: np.ndarray, period: float = 0.0) -> bool:
    difference = first[:, None] - second[None]
    if period:
        difference = difference - period * np.round(difference / period)
    distance = np.max(np.abs(difference), axis=2)
    return len(first) == len(second) and bool(
        np.all(distance.min(axis=0) < 1e-3) and np.all(distance.min(axis=1) < 1e-3)
    )


def conventional_axes(structure: Any, symprec: float = 0.01) -> np.ndarray:
    """The crystal's axes as columns x, y, z (3, 3): z ∥ c, x ∥ a's part normal to c, of the conventional cell.

    The structure's own a, b, c are taken where they are a conventional cell in the standard setting (or a supercell
    along its vectors, or its standard primitive cell), so that the axes are those of the file and turn with the
    structure. Otherwise it is moyo's conventional cell, of its equivalent choices the one that lies nearest.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    symprec : float
        Distance (Å) within which atoms count as equivalent.
    """
    return _axes(_conventional("conventional_axes", as_atoms(structure), symprec).cell)


def symmetry_operations(structure: Any, symprec: float = 0.01) -> np.ndarray:
    """Cartesian point operations (n, 3, 3) of a crystal in the frame of its own lattice, found by moyo.

    All of the crystal's, also where the cell given is a supercell that does not show them.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    symprec : float
        Distance (Å) within which atoms count as equivalent.
    """
    cell = _conventional("symmetry_operations", as_atoms(structure), symprec)
    # Columns of the lattice matrix are the cell vectors: x = Lᵀ s, so a fractional operation W acts as Lᵀ W L⁻ᵀ.
    lattice = np.linalg.solve(cell.basis, cell.cell).T
    return lattice @ cell.rotations @ np.linalg.inv(lattice)


def standard_primitive(structure: Any, symprec: float = 0.01) -> Atoms:
    """The primitive cell, symmetrised, turned into the standard frame: z ∥ c and x ∥ a of the conventional cell.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    symprec : float
        Tolerance (Å) for symmetry.

    Returns
    -------
    Atoms
        Primitive cell; its lattice need not look standard, its Cartesian axes are. The conventional cell is that of
        `conventional_axes`, so `PointGroup.from_structure` of the result has the identity as its frame (but for the
        settings whose x is not along a).
    """
    return _primitive(_conventional("standard_primitive", as_atoms(structure), symprec))


def _primitive(conventional: _Conventional) -> Atoms:
    found = conventional.found
    # moyo's idealised cell in the chosen basis: cell' = basis · cell, coordinates' = (basisᵀ)⁻¹ coordinates
    cell = conventional.basis @ found.lattice
    cell = cell @ _axes(cell)
    primitive = PRIMITIVE_BASES[found.centring]
    lattice = primitive @ cell
    coordinates = found.positions @ np.linalg.inv(conventional.basis) @ np.linalg.inv(primitive)
    kept = np.arange(len(coordinates))
    if found.centring != "P":
        difference = coordinates[:, None] - coordinates
        difference -= np.round(difference)
        # the first of each set of translated copies
        kept = np.flatnonzero(np.argmax(np.sum((difference @ lattice) ** 2, axis=2) < 0.1**2, axis=1) == kept)
    numbers = found.numbers[kept]
    return Atoms(numbers=numbers, cell=lattice, scaled_positions=coordinates[kept] % 1.0, pbc=True)


@dataclass(frozen=True)
class Symmetrised:
    """A crystal made exactly symmetric.

    Attributes
    ----------
    atoms : Atoms
        Primitive cell in the standard frame.
    axes : (3, 3)
        Rotation from the standard frame to that of the structure given: columns are the crystal's x, y, z.
    displacement : float
        Largest distance (Å) by which an atom was moved within its cell.
    strain : float
        Frobenius norm of the strain that made the cell symmetric.
    operations : (n, 3, 3)
        Point operations in the standard frame.
    """

    atoms: Atoms
    axes: np.ndarray
    displacement: float
    strain: float
    operations: np.ndarray


def symmetrised(structure: Any, symprec: float = 0.01) -> Symmetrised:
    """The crystal with the symmetry it has to within a tolerance, and how far it was from it.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    symprec : float
        Distance (Å) within which atoms count as equivalent.
    """
    atoms = as_atoms(structure)
    conventional = _conventional("symmetrised", atoms, symprec)
    found = conventional.found
    standard = found.lattice
    # x_standard = P x + p, for atoms as they lie and as they should
    places = coordinates_of(atoms) @ found.transformation.T + found.shift
    difference = places[:, None] - found.positions
    difference = (difference - np.round(difference)) @ standard
    distance = np.sum(difference**2, axis=2)
    distance[atoms.numbers[:, None] != found.numbers] = np.inf
    moved = difference[np.arange(len(atoms)), np.argmin(distance, axis=1)]
    # the origin is free
    moved -= moved.mean(axis=0)
    lattice = np.linalg.solve(conventional.basis, conventional.cell)
    gradient = np.linalg.solve(standard, lattice)
    strain = 0.5 * (gradient @ gradient.T - np.eye(3))
    axes = _axes(conventional.cell)
    # of the idealised lattice: columns are its vectors
    columns = (standard @ _axes(conventional.basis @ standard)).T
    operations = columns @ conventional.rotations @ np.linalg.inv(columns)
    return Symmetrised(
        _primitive(conventional), axes, float(np.linalg.norm(moved, axis=1).max()), float(np.linalg.norm(strain)),
        operations,
    )  # fmt: skip


def structure_to_dict(atoms: Atoms) -> dict[str, Any]:
    """pymatgen dictionary of a structure."""
    from pymatgen.core import Structure  # slow to import

    structure = Structure(atoms.cell.array, atoms.numbers.tolist(), atoms.get_scaled_positions())
    # through JSON, so that it is the same after a round trip
    return json.loads(json.dumps(structure.as_dict(), default=str))
