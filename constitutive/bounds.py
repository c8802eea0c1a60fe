"""Two-point Hashin–Shtrikman bounds of a voxel image, from its own correlations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from crystals.mandel import IDENTITY

from .homogenization import check_phases
from .phases import isotropic_stiffness
from .voxel_grid import VoxelGrid, transform

#: Phases beyond which the block system is not set up.
_MOST = 8


def hashin_shtrikman(
    labels: np.ndarray, stiffness: np.ndarray, spacing: Any = (1.0, 1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the effective stiffness from polarisations that are constant in each phase.

    Hashin and Shtrikman 1962 (doi:10.1016/0022-5096(62)90005-4) with the image's own two-point correlations, Willis 1977
    (doi:10.1016/0022-5096(77)90022-9), and the Green operator of the rotated scheme, so that they bound the answer of
    `homogenize` itself. The reference is the stiffest isotropic solid around all phases for the upper bound, the softest
    below all for the lower; with pores the lower bound is zero.

    Parameters
    ----------
    labels : (nx, ny, nz) int
    stiffness : (m, 6, 6)
        Of each label, Mandel, m ≤ 8.
    spacing : (3,)

    Returns
    -------
    lower, upper : (6, 6)

    Raises
    ------
    ValueError
        For more than eight phases, and what `homogenize` refuses.
    """
    labels = np.asarray(labels)
    table = check_phases("hashin_shtrikman", labels, stiffness)
    kept, compact = np.unique(labels, return_inverse=True)
    if len(kept) > _MOST:
        raise ValueError(
            f"hashin_shtrikman: expected at most {_MOST} phases, got {len(kept)}. Use homogenize(steps=1)."
        )
    labels, table = compact.reshape(labels.shape), table[kept]
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    grid = VoxelGrid(shape, np.broadcast_to(np.asarray(spacing, float), (3,)), "rotated", torch.device("cpu"))
    indicators = np.stack([(labels == phase).astype(float) for phase in range(len(table))])
    bulk = np.einsum("i,mij,j->m", IDENTITY, table, IDENTITY) / 9.0
    shear = (np.einsum("mii->m", table) - 3.0 * bulk) / 10.0
    isotropic = all(
        np.allclose(c, isotropic_stiffness(k, g), atol=1e-12 * np.abs(c).max())
        for c, k, g in zip(table, bulk, shear, strict=True)
    )
    answers = []
    for pick in (np.min, np.max):
        if isotropic:
            k0, g0 = float(pick(bulk)), float(pick(shear))
        else:
            # all eigenvalues of an isotropic solid alike: the tightest that encloses without a search
            value = float(pick(np.linalg.eigvalsh(table)))
            k0, g0 = value / 3.0, value / 2.0
        if min(k0, g0) <= 0:
            answers.append(np.zeros((6, 6)))
            continue
        answers.append(_bound(grid, indicators, table, k0, g0))
    return answers[0], answers[1]


def _bound(grid: VoxelGrid, indicators: np.ndarray, table: np.ndarray, bulk: float, shear: float) -> np.ndarray:
    """f_r e_r + Σ_s A_rs (C_s − C₀) e_s = f_r E, then C = C₀ + Σ_r f_r (C_r − C₀) e_r."""
    reference = isotropic_stiffness(bulk, shear)
    lame = torch.tensor([bulk - 2.0 * shear / 3.0], dtype=torch.float64)
    green = grid.green(lame, torch.tensor([shear], dtype=torch.float64))[0].numpy()
    operator = _strain_operator(grid, green)
    spectra = transform(torch.tensor(indicators)).numpy()
    nz = grid.shape[2]
    # real transforms hold one of each conjugate pair
    twice = np.full(spectra.shape[-1], 2.0)
    twice[0] = 1.0
    if nz % 2 == 0:
        twice[-1] = 1.0
    count = len(table)
    fractions = indicators.mean(axis=(1, 2, 3))
    system = np.zeros((count, 6, count, 6))
    for r in range(count):
        for s in range(r, count):
            weight = (spectra[r].conj() * spectra[s]).real * twice / grid.voxels**2
            correlation = operator @ weight.reshape(-1)
            block = correlation.reshape(6, 6)
            system[r, :, s, :] = block @ (table[s] - reference)
            system[s, :, r, :] = block @ (table[r] - reference)
        system[r, :, r, :] += fractions[r] * np.eye(6)
    right = (fractions[:, None, None] * np.eye(6)).reshape(6 * count, 6)
    strains = np.linalg.solve(system.reshape(6 * count, 6 * count), right).reshape(count, 6, 6)
    answer = reference + np.einsum("r,rij,rjk->ik", fractions, table - reference, strains)
    return 0.5 * (answer + answer.T)


def _strain_operator(grid: VoxelGrid, green: np.ndarray) -> np.ndarray:
    """Γ₀ = B K₀⁻¹ Bᵀ at every wave vector as (36, frequencies)."""
    k = np.stack([np.broadcast_to(part, green.shape[1:]) for part in grid.wave_vectors()]).reshape(3, -1)
    zero = np.zeros_like(k[0])
    r = 0.5**0.5
    strain = np.stack([
        np.stack([k[0], zero, zero]), np.stack([zero, k[1], zero]), np.stack([zero, zero, k[2]]),
        np.stack([zero, r * k[2], r * k[1]]), np.stack([r * k[2], zero, r * k[0]]), np.stack([r * k[1], r * k[0], zero]),
    ])  # fmt: skip
    inverse = green.reshape(6, -1)[np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])]
    return np.einsum("iaf,abf,jbf->ijf", strain, inverse, strain, optimize=True).reshape(36, -1)
