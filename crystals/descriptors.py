"""A crystal as a row of numbers that learn from few data: its elements, its bonds, its stiffness as a net of springs.

All are invariant under rotations and reflections, the choice of the cell, the origin and the order of atoms, and continuous as
atoms move. Bonds are all pairs within a cutoff, weighted smoothly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import covalent_radii

from .elements import ELEMENT_COLUMNS, imputed_properties
from .pair_sums import neighbours
from .spherical import spherical_harmonics
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
    atoms = as_atoms(structure)
    numbers, count, volume = atoms.numbers, len(atoms), float(atoms.get_volume())
    first, second, vector = neighbours(atoms, CUTOFF)
    table = imputed_properties()
    of_site = table[numbers]
    distance = np.linalg.norm(vector, axis=1)
    direction = vector / distance[:, None]
    starts = np.searchsorted(first, np.arange(count))
    radius = covalent_radii[numbers]
    length = distance / (radius[first] + radius[second])
    fade = (1.0 - (distance / CUTOFF) ** 2) ** 2

    def over_bonds(values: np.ndarray) -> np.ndarray:
        """Sum over the bonds of each site."""
        return np.add.reduceat(values, starts, axis=0)

    shortest, closest = np.minimum.reduceat(distance, starts), np.minimum.reduceat(length, starts)
    near = fade * np.exp(-8.0 * (length / closest[first] - 1.0))
    coordination = over_bonds(near)
    like = over_bonds(near * (numbers[first] == numbers[second])) / coordination
    strength = np.log(over_bonds(fade * np.exp(-6.0 * (length - 1.0))))
    polarity = np.abs(of_site[first, 0] - of_site[second, 0])
    metallic = of_site[:, 0] == of_site[:, 0].min()
    other = of_site[:, 0] == of_site[:, 0].max()
    solid, bulk, shear = (
        np.exp(_unscaled(name)[numbers]) for name in ("molar_volume", "bulk_modulus", "rigidity_modulus")
    )
    electrons = _unscaled("valence")[numbers].mean()
    parts = [
        of_site.mean(axis=0), of_site.std(axis=0), of_site.max(axis=0), of_site.min(axis=0),
        [
            np.log(volume / count), np.log(np.mean(4 / 3 * np.pi * radius**3) * count / volume),
            np.log(volume / count / (solid.mean() / 0.6022)), np.log((electrons + 0.1) * count / volume),
            np.log(bulk.mean()), np.log(shear.mean()), -np.log(np.mean(1.0 / shear)),
        ],
        [part(values) for values in (shortest, closest) for part in (np.min, np.mean, np.max)],
        [part(values) for values in (coordination, like, strength) for part in (np.mean, np.std, np.min, np.max)],
        [np.mean(over_bonds(near * polarity) / coordination)],
        [np.mean(values[kind]) for kind in (metallic, other) for values in (coordination, like, closest)],
        [metallic.mean()],
    ]  # fmt: skip
    harmonics = over_bonds(near[:, None] * spherical_harmonics(direction, max(_DEGREES))) / coordination[:, None]
    for degree in _DEGREES:
        order = np.linalg.norm(harmonics[:, degree**2 : (degree + 1) ** 2], axis=1)
        parts.append([order.mean(), order.max(), order.min()])
    share = fade * np.exp(-8.0 * (length - 1.0))
    total = share.sum()
    share = share / total
    for column in _BONDED:
        one, two = of_site[first, column], of_site[second, column]
        parts.append([share @ (one * two), share @ np.abs(one - two)])
    parts.append([share @ length, share @ (numbers[first] == numbers[second]), np.log(total / count)])
    stiff = np.sqrt(bulk * radius)
    scale = stiff[first] * stiff[second]
    springs = [
        (fade * np.exp(-decay * (length - 1.0)) * (scale if scaled else 1.0), across)
        for decay, across, scaled in SPRINGS
    ]
    parts.append(_spring_moduli(count, volume, first, second, distance, direction, springs))
    return np.concatenate([np.ravel(part) for part in parts])


def _spring_moduli(
    count: int, volume: float, first: np.ndarray, second: np.ndarray, distance: np.ndarray, direction: np.ndarray,
    springs: list[tuple[np.ndarray, float]],
) -> np.ndarray:  # fmt: skip
    """For each kind of spring: ln K, ln G/K, G_R/G_V, K_R/K_V, softest over stiffest, relaxed over clamped ions.

    A bond r that changes by Δ = ε r + u_j − u_i holds ½ Δ·M·Δ with M = k [(1 − b) n n + b 1].
    """
    x, y, z = direction.T
    half, none = 1.0 / np.sqrt(2.0), np.zeros_like(x)
    # ε n = R(n) · ε as a Mandel vector
    turn = np.stack(
        [
            np.stack([x, none, none, none, z * half, y * half], axis=1),
            np.stack([none, y, none, z * half, none, x * half], axis=1),
            np.stack([none, none, z, y * half, x * half, none], axis=1),
        ],
        axis=1,
    )  # fmt: skip
    along = np.einsum("px,pxi->pi", direction, turn)
    force = direction[:, :, None] * along[:, None]
    outer = direction[:, :, None] * direction[:, None]
    pairs, starts = np.unique(first * count + second, return_index=True)
    sites = np.searchsorted(first, np.arange(count))
    diagonal = np.arange(count)
    stiffness, clamped = [], []
    for strength, across in springs:
        matrix = strength[:, None, None] * ((1.0 - across) * outer + across * np.eye(3))
        pull = (strength * distance)[:, None, None] * ((1.0 - across) * force + across * turn)
        hessian = np.zeros((count * count, 3, 3))
        hessian[pairs] = -np.add.reduceat(matrix, starts, axis=0)
        hessian = hessian.reshape(count, count, 3, 3)
        hessian[diagonal, diagonal] += np.add.reduceat(matrix, sites, axis=0)
        hessian = hessian.transpose(0, 2, 1, 3).reshape(3 * count, 3 * count)
        # moving all atoms together costs nothing
        hessian += strength.sum() / count * np.kron(np.ones((count, count)) / count, np.eye(3))
        moved = -np.add.reduceat(pull, sites, axis=0).reshape(3 * count, 6)
        born = 0.5 * np.tensordot(distance[:, None, None] * turn, pull, axes=((0, 1), (0, 1))) / volume
        clamped.append(born)
        stiffness.append(born - moved.T @ np.linalg.solve(hessian, moved) / volume)
    found, born = np.array(stiffness), np.array(clamped)
    found = 0.5 * (found + np.swapaxes(found, 1, 2))
    trace = np.trace(found, axis1=1, axis2=2)
    # a net without stiffness against some strain has a finite logarithm still
    found = found + 1e-6 * trace[:, None, None] * np.eye(6)
    values = np.linalg.eigvalsh(found)
    soft = np.linalg.inv(found)
    bulk, ease = found[:, :3, :3].sum(axis=(1, 2)) / 9.0, soft[:, :3, :3].sum(axis=(1, 2))
    shear = (np.trace(found, axis1=1, axis2=2) - 3.0 * bulk) / 10.0
    lower = 2.5 / (np.trace(soft, axis1=1, axis2=2) - ease / 3.0)
    return np.stack(
        [
            np.log(bulk + 1.0 / ease), np.log((shear + lower) / (bulk + 1.0 / ease)), np.log(lower / shear),
            -np.log(ease * bulk), np.log(values[:, 0] / values[:, 5]), np.log(trace / np.trace(born, axis1=1, axis2=2)),
        ]
    )  # fmt: skip


def _unscaled(name: str) -> np.ndarray:
    return imputed_properties(scaled=False)[:, ELEMENT_COLUMNS.index(name)]
