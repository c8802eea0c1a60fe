"""What a network reads of a crystal: for each pair of sites, its neighbour shells summed over the lattice.

Between site i and all images of site j within a cutoff, G_ij[b, lm] = Σ_images φ_b(r) Y_lm(n). The sums hold the whole
structure within the cutoff, do not depend on a network's weights, and are made once per material: a network then runs
over pairs of sites, not over bonds. Every shell is complete (all images), and φ_b fades smoothly to zero at the cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .neighbours import Neighbours
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
    return lattice_sums(Neighbours.of([as_atoms(structure)], cutoff), radial, degree)[0]


def lattice_sums(bonds: Neighbours, radial: int = 10, degree: int = 4) -> list[PairSums]:
    """The lattice sums of some crystals whose neighbours are known; as `pair_sums`."""
    values = radial_functions(bonds.distance, bonds.cutoff, radial).T
    harmonics = bonds.harmonics(degree).T
    starts = bonds.pair_starts
    ends = np.append(starts[1:], len(bonds.first))
    sums = np.empty((len(starts), radial, harmonics.shape[1]))
    for place, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        np.matmul(values[:, a:b], harmonics[a:b], out=sums[place])
    first, second = bonds.first[starts], bonds.second[starts]
    after = np.cumsum(bonds.counts)
    # pairs are in order of crystals
    cuts = np.searchsorted(first, after)
    made, site, pair = [], 0, 0
    for crystal, (end, cut) in enumerate(zip(after.tolist(), cuts.tolist(), strict=True)):
        made.append(
            PairSums(
                bonds.numbers[site:end], first[pair:cut] - site, second[pair:cut] - site, sums[pair:cut],
                float(bonds.volumes[crystal]) / (end - site), float(bonds.cutoff),
            )
        )  # fmt: skip
        site, pair = end, cut
    return made
