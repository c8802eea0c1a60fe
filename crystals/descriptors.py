"""A crystal as a row of numbers that learn from few data: its elements, its bonds, its stiffness as a net of springs.

All are invariant under rotations and reflections, the choice of the cell, the origin and the order of atoms, and continuous as
atoms move. Bonds are all pairs within a cutoff, weighted smoothly.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from ase.data import covalent_radii

from .elements import ELEMENT_COLUMNS, imputed_properties
from .neighbours import Neighbours
from .spring_net import spring_moduli
from .structures import as_atoms

CUTOFF = 6.0
#: Decay of a spring with length over the sum of radii, stiffness across over along it, whether the elements' bulk
#: moduli scale it.
SPRINGS = ((4.0, 0.02, False), (4.0, 0.2, False), (8.0, 0.02, False), (8.0, 0.2, False), (8.0, 0.05, True))
_DEGREES = (2, 3, 4, 6)
#: Columns of the elements' table that are averaged over bonds.
_BONDED = tuple(
    ELEMENT_COLUMNS.index(name) for name in ("X", "bulk_modulus", "electron_affinity", "valence", "d_bonds", "p_bonds")
)


def crystal_descriptors(structure: Any) -> np.ndarray:
    """Descriptors (f,) of a crystal.

    Parameters
    ----------
    structure : pymatgen Structure, ASE Atoms or path

    Returns
    -------
    array (f,)
        Mean, deviation, largest and smallest of each property of the elements over the sites; volume per atom against that
        of the elements; shortest bonds, coordination, shares of like neighbours; bond-orientational order (Steinhardt,
        Nelson and Ronchetti 1983, doi:10.1103/PhysRevB.28.784); moduli of nets of springs with relaxed atoms (Born and
        Huang 1954, Dynamical Theory of Crystal Lattices, section 11).

    Raises
    ------
    ValueError
        Where atoms overlap, or an atom has no neighbour within 6 Å.
    """
    return descriptors_of(Neighbours.of([as_atoms(structure)], CUTOFF))[0]


def descriptors_of(bonds: Neighbours) -> np.ndarray:
    """Descriptors (k, f) of some crystals whose neighbours within 6 Å are known; as `crystal_descriptors`."""
    numbers, count, volume, crystal = bonds.numbers, bonds.counts, bonds.volumes, bonds.crystal
    first, second, distance = bonds.first, bonds.second, bonds.distance
    of_site = imputed_properties()[numbers]
    starts = np.searchsorted(first, np.arange(len(numbers)))
    sites = np.cumsum(count) - count
    radius = covalent_radii[numbers]
    length = distance / (radius[first] + radius[second])
    fade = (1.0 - (distance / bonds.cutoff) ** 2) ** 2

    def over_bonds(values: np.ndarray) -> np.ndarray:
        """Sum over the bonds of each site of values (…, p)."""
        return np.add.reduceat(values, starts, axis=-1)

    def over_crystals(values: np.ndarray) -> np.ndarray:
        """Sum (k,) over the bonds of each crystal of values (p,)."""
        return np.add.reduceat(np.add.reduceat(values, starts), sites)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, sites) / (count if values.ndim == 1 else count[:, None])

    def deviation(values: np.ndarray) -> np.ndarray:
        return np.sqrt(mean((values - mean(values)[crystal]) ** 2))

    def highest(values: np.ndarray) -> np.ndarray:
        return np.maximum.reduceat(values, sites)

    def lowest(values: np.ndarray) -> np.ndarray:
        return np.minimum.reduceat(values, sites)

    def mean_where(there: np.ndarray, values: np.ndarray) -> np.ndarray:
        return mean(values * there) / mean(there.astype(float))

    shortest, closest = np.minimum.reduceat(distance, starts), np.minimum.reduceat(length, starts)
    near = fade * np.exp(-8.0 * (length / closest[first] - 1.0))
    alike = numbers[first] == numbers[second]
    coordination = over_bonds(near)
    like = over_bonds(near * alike) / coordination
    strength = np.log(over_bonds(fade * np.exp(-6.0 * (length - 1.0))))
    polarity = np.abs(of_site[first, 0] - of_site[second, 0])
    metallic = of_site[:, 0] == lowest(of_site[:, 0])[crystal]
    other = of_site[:, 0] == highest(of_site[:, 0])[crystal]
    solid, bulk, shear = (_of_element(name)[numbers] for name in ("molar_volume", "bulk_modulus", "rigidity_modulus"))
    electrons = mean(_unscaled("valence")[numbers])
    parts = [
        mean(of_site), deviation(of_site), highest(of_site), lowest(of_site),
        np.log(volume / count), np.log(mean(4 / 3 * np.pi * radius**3) * count / volume),
        np.log(volume / count / (mean(solid) / 0.6022)), np.log((electrons + 0.1) * count / volume),
        np.log(mean(bulk)), np.log(mean(shear)), -np.log(mean(1.0 / shear)),
        *(part(values) for values in (shortest, closest) for part in (lowest, mean, highest)),
        *(part(values) for values in (coordination, like, strength) for part in (mean, deviation, lowest, highest)),
        mean(over_bonds(near * polarity) / coordination),
        *(mean_where(kind, values) for kind in (metallic, other) for values in (coordination, like, closest)),
        mean(metallic.astype(float)),
    ]  # fmt: skip
    harmonics = over_bonds(near * bonds.harmonics(max(_DEGREES))[4:]) / coordination
    for degree in _DEGREES:
        order = np.sqrt(np.sum(harmonics[degree**2 - 4 : (degree + 1) ** 2 - 4] ** 2, axis=0))
        parts += [mean(order), highest(order), lowest(order)]
    share = fade * np.exp(-8.0 * (length - 1.0))
    total = over_crystals(share)

    def over_shares(values: np.ndarray) -> np.ndarray:
        return over_crystals(share * values) / total

    for column in _BONDED:
        one, two = of_site[first, column], of_site[second, column]
        parts += [over_shares(one * two), over_shares(np.abs(one - two))]
    parts += [over_shares(length), over_shares(alike), np.log(total / count)]
    stiff = np.sqrt(bulk * radius)
    scale = stiff[first] * stiff[second]
    kinds = {(decay, scaled) for decay, _, scaled in SPRINGS}
    strengths = {
        (decay, scaled): fade * np.exp(-decay * (length - 1.0)) * (scale if scaled else 1.0) for decay, scaled in kinds
    }
    net = spring_moduli(bonds, strengths, [((decay, scaled), across) for decay, across, scaled in SPRINGS])
    parts.append(net.reshape(len(count), -1))
    return np.concatenate([part.reshape(len(count), -1) for part in parts], axis=1)


@cache
def _unscaled(name: str) -> np.ndarray:
    return imputed_properties(scaled=False)[:, ELEMENT_COLUMNS.index(name)]


@cache
def _of_element(name: str) -> np.ndarray:
    """Of a column that the table holds the logarithm of."""
    return np.exp(_unscaled(name))
