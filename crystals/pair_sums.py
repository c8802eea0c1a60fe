"""What a network reads of a crystal: for each pair of sites, its neighbour shells summed over the lattice.

Between site i and all images of site j within a cutoff, G_ij[b, lm] = Σ_images φ_b(r) Y_lm(n). The sums hold the whole
structure within the cutoff, do not depend on a network's weights, and are made once per material: a network then runs
over pairs of sites, not over bonds. Every shell is complete (all images), and φ_b fades smoothly to zero at the cutoff.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.geometry import minkowski_reduce

from .spherical import spherical_harmonics
from .structures import as_atoms


@dataclass(frozen=True)
class PairSums:
    """Lattice sums of one crystal.

    Attributes
    ----------
    numbers : (n,) int
        Atomic numbers of the sites.
    first, second : (p,) int
        Sites i and j of each pair that has images within the cutoff, i = j included.
    sums : (p, radial, (degree + 1)²)
        G_ij.
    volume : float
        Å³ per atom.
    cutoff : float
        Å.
    """

    numbers: np.ndarray
    first: np.ndarray
    second: np.ndarray
    sums: np.ndarray
    volume: float
    cutoff: float


def radial_functions(distance: np.ndarray, cutoff: float, number: int) -> np.ndarray:
    """φ_b(r) (..., number): √(2/c) sin(bπr/c)/r with an envelope that vanishes at c with two derivatives.

    Gasteiger, Groß and Günnemann 2020 (arXiv:2003.03123), eqs. 7 and 8 with p = 6.
    """
    x = distance / cutoff
    envelope = np.where(x < 1.0, 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8, 0.0)
    waves = np.sin(np.pi * np.arange(1, number + 1) * x[..., None])
    return np.sqrt(2.0 / cutoff) * (envelope / distance)[..., None] * waves


def pair_sums(structure: Any, cutoff: float = 6.0, radial: int = 10, degree: int = 4) -> PairSums:
    """The lattice sums of a crystal as it lies: cell, origin and order of atoms change nothing but names of sites.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path
    cutoff : float
        Å.
    radial : int
        Number of radial functions.
    degree : int
        Highest degree of the harmonics.

    Raises
    ------
    ValueError
        Where two atoms lie within 0.4 Å of each other, or an atom has no neighbour within the cutoff.
    """
    atoms = as_atoms(structure)
    count = len(atoms)
    first, second, vector = neighbours(atoms, cutoff)
    row = first * count + second
    distance = np.linalg.norm(vector, axis=1)
    values = radial_functions(distance, cutoff, radial)
    harmonics = spherical_harmonics(vector / distance[:, None], degree)
    pairs, starts = np.unique(row, return_index=True)
    ends = np.append(starts[1:], len(row))
    sums = np.array([values[a:b].T @ harmonics[a:b] for a, b in zip(starts, ends, strict=True)])
    return PairSums(
        atoms.numbers.copy(), pairs // count, pairs % count, sums, float(atoms.get_volume()) / count, float(cutoff)
    )


def neighbours(atoms: Any, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sites i (p,) and j (p,) of all pairs within a cutoff (Å), images included, and vectors i → j (p, 3).

    In order of i, then of j.

    Raises
    ------
    ValueError
        Where two atoms lie within 0.4 Å of each other, or an atom has no neighbour within the cutoff.
    """
    # a reduced basis of the same lattice needs the fewest images
    cell = minkowski_reduce(atoms.cell.array)[0]
    inverse = np.linalg.inv(cell)
    fractional = atoms.positions @ inverse
    between = fractional[None] - fractional[:, None]
    between -= np.round(between)
    reach = np.floor(cutoff * np.linalg.norm(inverse, axis=0) + 0.5).astype(int)
    steps = np.array(list(itertools.product(*(range(-k, k + 1) for k in reach))), dtype=float)
    count = len(atoms)
    # (n, n, images): in blocks of sites, so that large cells do not fill the memory
    block = max(1, int(2e6 // (count * len(steps))))
    rows, vectors = [], []
    for start in range(0, count, block):
        offset = between[start : start + block] @ cell
        found = offset[:, :, None] + steps @ cell
        squared = np.einsum("ijkx,ijkx->ijk", found, found)
        first, second, image = np.nonzero((squared < cutoff**2) & (squared > 1e-12))
        rows.append((first + start) * count + second)
        vectors.append(found[first, second, image])
        if np.count_nonzero(squared <= 1e-12) > len(offset):
            raise _overlap(atoms, 0.0)
    row, vector = np.concatenate(rows), np.concatenate(vectors)
    distance = np.linalg.norm(vector, axis=1)
    if len(distance) and distance.min() < 0.4:
        raise _overlap(atoms, float(distance.min()))
    lonely = np.setdiff1d(np.arange(count), row // count)
    if len(lonely):
        raise ValueError(
            f"pair_sums: expected neighbours of every atom within {cutoff} Å, got none of atom {lonely[0]} "
            f"({atoms.symbols[lonely[0]]}). A gas is no crystal; check the cell."
        )
    return row // count, row % count, vector


def _overlap(atoms: Any, distance: float) -> ValueError:
    return ValueError(
        f"pair_sums: expected atoms at least 0.4 Å apart, got {distance:.2g} Å in {atoms.get_chemical_formula()}. "
        "Remove the copy, or correct the cell."
    )
