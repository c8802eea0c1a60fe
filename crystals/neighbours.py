"""All pairs of sites of some crystals within a cutoff, images included: what descriptors and networks start from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from .spherical import spherical_harmonics


@dataclass(frozen=True)
class Neighbours:
    """Bonds of k crystals in a row: n sites, p bonds in order of their first site, then of their second.

    Attributes
    ----------
    numbers : (n,) int
        Atomic numbers of all sites.
    counts : (k,) int
        Sites of each crystal.
    volumes : (k,)
        Å³, of each cell.
    first, second : (p,) int
        Places i and j of each bond among all n sites.
    vector : (p, 3)
        From i to j, Å.
    cutoff : float
        Å.
    """

    numbers: np.ndarray
    counts: np.ndarray
    volumes: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vector: np.ndarray
    cutoff: float

    @classmethod
    def of(cls, crystals: Sequence[Atoms], cutoff: float) -> Neighbours:
        """Neighbours in some crystals.

        Raises
        ------
        ValueError
            Where two atoms lie within 0.4 Å of each other, or an atom has no neighbour within the cutoff.
        """
        first, second, vectors = zip(*(neighbours(atoms, cutoff) for atoms in crystals), strict=True)
        counts = np.array([len(atoms) for atoms in crystals])
        before = np.repeat(np.cumsum(counts) - counts, [len(places) for places in first])
        return cls(
            np.concatenate([atoms.numbers for atoms in crystals]), counts,
            np.array([abs(np.linalg.det(atoms.cell.array)) for atoms in crystals]), np.concatenate(first) + before,
            np.concatenate(second) + before, np.concatenate(vectors), cutoff,
        )  # fmt: skip

    @cached_property
    def distance(self) -> np.ndarray:
        """Å, (p,)."""
        return np.sqrt(np.einsum("px,px->p", self.vector, self.vector))

    @cached_property
    def direction(self) -> np.ndarray:
        """Unit vectors, by component: (3, p)."""
        return np.ascontiguousarray(self.vector.T) / self.distance

    @cached_property
    def crystal(self) -> np.ndarray:
        """Which crystal a site belongs to, (n,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def pair_starts(self) -> np.ndarray:
        """Where among the bonds each pair (i, j) of sites begins."""
        new = (np.diff(self.first) != 0) | (np.diff(self.second) != 0)
        return np.concatenate([[0], np.flatnonzero(new) + 1])

    def harmonics(self, degree: int) -> np.ndarray:
        """Real spherical harmonics of all bonds up to a degree, ((degree + 1)², p)."""
        known = self.__dict__.get("_harmonics")
        if known is None or len(known) < (degree + 1) ** 2:
            known = spherical_harmonics(self.direction.T, degree).T
            self.__dict__["_harmonics"] = known
        return known[: (degree + 1) ** 2]


@cache
def _images(reach: tuple[int, int, int]) -> np.ndarray:
    return np.array(list(itertools.product(*(range(-k, k + 1) for k in reach))), dtype=float)


def neighbours(atoms: Any, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sites i (p,) and j (p,) of all pairs of one crystal within a cutoff (Å), images included, and vectors i → j (p, 3).

    In order of i, then of j.

    Raises
    ------
    ValueError
        Where two atoms lie within 0.4 Å of each other, or an atom has no neighbour within the cutoff.
    """
    cell, positions, count = atoms.cell.array, atoms.positions, len(atoms)
    inverse = np.linalg.inv(cell)
    reach = np.floor(cutoff * np.sqrt(np.sum(inverse**2, axis=0)) + 0.5).astype(int)
    sphere = 4.2 * cutoff**3 * abs(np.linalg.det(inverse))
    if np.prod(2.0 * reach + 1.0) > 4.0 * sphere + 100.0:
        # a skew cell: a reduced basis of the same lattice needs the fewest images
        cell = minkowski_reduce(cell)[0]
        inverse = np.linalg.inv(cell)
        reach = np.floor(cutoff * np.sqrt(np.sum(inverse**2, axis=0)) + 0.5).astype(int)
    steps = _images(tuple(reach.tolist())) @ cell
    fractional = positions @ inverse
    between = fractional[None] - fractional[:, None]
    between -= np.round(between)
    offset = (between @ cell).reshape(-1, 3)
    far = np.sum(steps**2, axis=1)
    # (pairs, images): in blocks of pairs, so that large cells do not fill the memory
    block = max(1, int(2e6 // len(steps)))
    rows, vectors, coincident = [], [], 0
    for start in range(0, count * count, block):
        some = offset[start : start + block]
        squared = np.sum(some**2, axis=1)[:, None] + far + 2.0 * some @ steps.T
        pair, image = np.nonzero(squared < cutoff**2)
        vector = some[pair] + steps[image]
        apart = np.einsum("px,px->p", vector, vector)
        kept = apart > 1e-12
        coincident += len(kept) - np.count_nonzero(kept)
        rows.append(pair[kept] + start)
        vectors.append(vector[kept])
    row, vector = np.concatenate(rows), np.concatenate(vectors)
    closest = np.sqrt(np.min(np.einsum("px,px->p", vector, vector))) if len(row) else np.inf
    # every site coincides with itself
    if coincident > count or closest < 0.4:
        raise ValueError(
            f"neighbours: expected atoms at least 0.4 Å apart, got {0.0 if coincident > count else closest:.2g} Å in "
            f"{atoms.get_chemical_formula()}. Remove the copy, or correct the cell."
        )
    lonely = np.flatnonzero(np.bincount(row // count, minlength=count) == 0)
    if len(lonely):
        raise ValueError(
            f"neighbours: expected neighbours of every atom within {cutoff} Å, got none of atom {lonely[0]} "
            f"({atoms.symbols[lonely[0]]}). A gas is no crystal; check the cell."
        )
    return row // count, row % count, vector
