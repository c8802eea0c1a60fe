"""A periodic voxel cell of any laws under a path of mean deformation: Newton steps, each solved by conjugate gradients.

    path = homogenize_path(labels, [copper], mean_gradients, orientations=turns)
    path.stress[-1]                              # mean first Piola–Kirchhoff stress

The elements and the Green operator are those of `constitutive.homogenize`; the law is evaluated as in any finite-strain
solver (`constitutive.first_piola`). Newton–Krylov on voxels: Gélébart and Mondon-Cancel 2013
(doi:10.1016/j.commatsci.2013.02.046).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals.mandel import IDENTITY
from crystals.rotations import rotate_matrix

from .evaluator import first_piola
from .laws.law import Law
from .voxel_grid import VoxelGrid


@dataclass(frozen=True, eq=False)
class CellPath:
    """Answer of a cell along a path.

    Attributes
    ----------
    stress : (s, 3, 3)
        Mean first Piola–Kirchhoff stress at each step, in the laws' unit.
    newton, iterations : (s,) int
        Newton steps and conjugate-gradient steps each took.
    displacement : (3, nx, ny, nz)
        Periodic part of the displacement of the nodes at the end, for cells of voxels of mean edge 1.
    """

    stress: np.ndarray
    newton: np.ndarray
    iterations: np.ndarray
    displacement: np.ndarray


class _Cell:
    def __init__(self, grid: VoxelGrid, labels: np.ndarray, laws: list[Law], turns: np.ndarray | None) -> None:
        self.grid, self.laws = grid, laws
        flat = labels.reshape(-1)
        self.turns = None if turns is None else turns[flat]
        which = np.zeros(len(flat), dtype=int) if len(laws) == 1 else flat
        self.groups = [np.flatnonzero(which == i) for i in range(len(laws))]
        stiffness = np.zeros((6, 6))
        for law, group in zip(laws, self.groups, strict=True):
            turned = (
                law.stiffness()
                if self.turns is None
                else rotate_matrix(self.turns[group[:64]], law.stiffness()).mean(axis=0)
            )
            stiffness += turned * len(group) / len(flat)
        bulk = IDENTITY @ stiffness @ IDENTITY / 9.0
        shear = (np.trace(stiffness) - 3.0 * bulk) / 10.0
        #: On whose scale a stress is a strain energy.
        self.modulus = 2.0 * shear
        self.green = grid.green(torch.tensor([bulk - 2.0 * shear / 3.0]), torch.tensor([shear]))

    def respond(
        self, displacement: Tensor, mean: np.ndarray, tangent: bool
    ) -> tuple[list[Tensor], list[Tensor], np.ndarray]:
        """First Piola–Kirchhoff stress (3, 3, …) and its tangent at every point, and the mean stress."""
        stresses, tangents, total = [], [], np.zeros((3, 3))
        for point in self.grid.points:
            gradient = self.grid.gradient(displacement, point).reshape(3, 3, -1).permute(2, 0, 1).numpy() + mean
            stress = np.empty_like(gradient)
            slope = np.empty((len(gradient), 3, 3, 3, 3)) if tangent else None
            for law, group in zip(self.laws, self.groups, strict=True):
                turn = None if self.turns is None else self.turns[group]
                found, derivative = first_piola(law, gradient[group], turn, tangent=tangent)
                stress[group] = found
                if slope is not None:
                    slope[group] = derivative
            total += stress.mean(axis=0) * self.grid.weight
            shape = self.grid.shape
            stresses.append(torch.from_numpy(np.ascontiguousarray(stress.transpose(1, 2, 0)).reshape(3, 3, *shape)))
            if slope is not None:
                tangents.append(
                    torch.from_numpy(np.ascontiguousarray(slope.transpose(1, 2, 3, 4, 0)).reshape(9, 9, *shape))
                )
        return stresses, tangents, total

    def force(self, stresses: list[Tensor]) -> Tensor:
        parts = [self.grid.gradient_force(s, p) for s, p in zip(stresses, self.grid.points, strict=True)]
        return torch.stack(parts).sum(dim=0) * self.grid.weight

    def stiffness(self, tangents: list[Tensor], displacement: Tensor) -> Tensor:
        stresses = []
        for tangent, point in zip(tangents, self.grid.points, strict=True):
            gradient = self.grid.gradient(displacement, point).reshape(9, *self.grid.shape)
            stresses.append(torch.einsum("ab...,b...->a...", tangent, gradient).reshape(3, 3, *self.grid.shape))
        return self.force(stresses)

    def precondition(self, force: Tensor) -> Tensor:
        return self.grid.apply_green(self.green, force[None, None])[0, 0]


def homogenize_path(
    labels: np.ndarray,
    laws: list[Law],
    mean_gradients: np.ndarray,
    *,
    orientations: np.ndarray | None = None,
    spacing: Any = (1.0, 1.0, 1.0),
    scheme: str = "rotated",
    tolerance: float = 1e-8,
    newton: int = 20,
    maximum: int = 1000,
) -> CellPath:
    """Mean stress of a periodic cell along mean deformation gradients.

    Parameters
    ----------
    labels : (nx, ny, nz) int
        Phase of each voxel, its place in `laws`, or grain where one law has `orientations`.
    laws : list of Law
        Of Green–Lagrange strain, hyperelastic; one for each label, or one for all.
    mean_gradients : (s, 3, 3)
        Mean F of each step, reached one after the other.
    orientations : (m, 3, 3), optional
        Q, crystal → sample, of each label.
    spacing, scheme
        As in `constitutive.homogenize`.
    tolerance : float
        A step is solved where the norm of the out-of-balance forces, in the reference, falls below this part of the
        mean stress.
    newton, maximum : int
        Newton steps of one step of the path, and conjugate-gradient steps of one Newton step, allowed.

    Raises
    ------
    ValueError
        For labels without a law, a law with state or of small strain.
    RuntimeError
        Where a step does not converge, or a voxel leaves what its law can answer.
    """
    where = "homogenize_path"
    labels = np.asarray(labels)
    gradients = np.asarray(mean_gradients, dtype=float)
    if labels.ndim != 3 or gradients.ndim != 3 or gradients.shape[1:] != (3, 3):
        raise ValueError(
            f"{where}: expected labels (nx, ny, nz) and mean gradients (s, 3, 3), got {labels.shape} and {gradients.shape}."
        )
    known = len(laws) if orientations is None or len(laws) > 1 else len(orientations)
    if labels.min() < 0 or (labels.max() >= known and not (len(laws) == 1 and orientations is None)):
        raise ValueError(
            f"{where}: expected labels from 0 to {known - 1}, got {labels.min()} to {labels.max()}. Add laws."
        )
    if any(law.state_width or law.strain_measure != "green_lagrange" for law in laws):
        raise ValueError(
            f"{where}: expected hyperelastic laws of Green–Lagrange strain. Not supported: internal variables."
        )
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    grid = VoxelGrid(shape, np.broadcast_to(np.asarray(spacing, float), (3,)), scheme, torch.device("cpu"))
    cell = _Cell(grid, labels, laws, None if orientations is None else np.asarray(orientations, float))
    u = torch.zeros(3, *shape, dtype=torch.float64)
    answers, counts, total = [], [], []
    with torch.no_grad():
        for number, mean in enumerate(gradients):
            inner = 0
            for outer in range(newton + 1):
                stresses, tangents, average = cell.respond(u, mean, True)
                force = cell.force(stresses)
                if not bool(torch.isfinite(force).all()):
                    raise RuntimeError(
                        f"{where}: expected every voxel within what its law can answer, got none at step {number}. "
                        "Take smaller steps."
                    )
                z = cell.precondition(force)
                scale = float(np.linalg.norm(average)) ** 2 / cell.modulus + 1e-300
                size = float((force * z).sum()) / grid.voxels
                if size <= tolerance**2 * scale:
                    break
                if outer == newton:
                    raise RuntimeError(
                        f"{where}: expected equilibrium within {newton} Newton steps, got a residual of "
                        f"{np.sqrt(size / scale):.2g} at step {number}. Take smaller steps."
                    )
                change, steps = _conjugate_gradients(
                    cell, tangents, -force, -z, min(1e-2, np.sqrt(size / scale)), maximum
                )
                u += change
                inner += steps
            answers.append(average)
            counts.append(outer)
            total.append(inner)
    return CellPath(np.array(answers), np.array(counts), np.array(total), u.numpy())


def _conjugate_gradients(
    cell: _Cell, tangents: list[Tensor], r: Tensor, z: Tensor, tolerance: float, maximum: int
) -> tuple[Tensor, int]:
    """Displacement that the tangent balances against forces r, with z = K₀⁻¹ r."""
    x, p = torch.zeros_like(r), z.clone()
    r = r.clone()
    product = first = float((r * z).sum())
    for step in range(maximum):
        if product <= tolerance**2 * first:
            return x, step
        force = cell.stiffness(tangents, p)
        curvature = float((p * force).sum())
        if not curvature > 0:
            raise RuntimeError(
                "homogenize_path: expected a stable cell, got a direction without stiffness. The laws soften here; "
                "smaller steps will not help."
            )
        alpha = product / curvature
        x += alpha * p
        r -= alpha * force
        z = cell.precondition(r)
        new = float((r * z).sum())
        p = z + (new / product) * p
        product = new
    raise RuntimeError(f"homogenize_path: expected convergence within {maximum} iterations. Raise maximum.")
