"""Motions without strain: which of them nothing holds, and all of them for multigrid."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg


def rigid_motions(nodes: np.ndarray, dim: int, axisymmetric: bool = False) -> tuple[np.ndarray, list[str]]:
    """Displacements without strain at nodes, and their names.

    Parameters
    ----------
    nodes : array (n, 3)
        Coordinates, counted from a common centre in units of the body's size.
    dim : int
        Components of the displacement.
    axisymmetric : bool
        In a body of revolution the axial translation alone has no strain.

    Returns
    -------
    array (m, dim n), list of str
    """
    axes = "xyz"
    modes, names = [], []
    for k in range(dim):
        mode = np.zeros((len(nodes), dim))
        mode[:, k] = 1.0
        modes.append(mode)
        names.append(f"translation along {axes[k]}")
    if axisymmetric:
        return np.array(modes[1:]).reshape(1, -1), names[1:]
    for k in range(3) if dim == 3 else (2,):
        modes.append(np.cross(np.eye(3)[k], nodes)[:, :dim])
        names.append(f"rotation about {axes[k]}")
    return np.array(modes).reshape(len(modes), -1), names


def free_rigid_motions(
    matrix: Any, vector: Any, nodes: np.ndarray, held: np.ndarray, loose: np.ndarray, scale: float, dim: int,
    axisymmetric: bool,
) -> list[str]:  # fmt: skip
    """Rigid motions that no boundary condition and no stiffness resists.

    Parameters
    ----------
    matrix, vector : PETSc Mat, Vec
        Stiffness, with or without boundary conditions, and a vector of its layout to work in.
    nodes : array (n, 3)
        Present coordinates of the nodes of this rank.
    held : array (dim n,) of bool
        Which of their components carry boundary conditions.
    loose : array (dim n,) of bool
        Which of them no stiffness reaches: holding these holds nothing.
    scale : float
        Typical diagonal entry of the stiffness.
    dim, axisymmetric
        As in `rigid_motions`.

    Returns
    -------
    list of str
        One description for each free motion; empty for a body that is held.
    """
    comm = vector.comm.tompi4py()
    count = max(comm.allreduce(len(nodes)), 1)
    centre = comm.allreduce(nodes.sum(axis=0)) / count
    arm = nodes - centre
    size = np.sqrt(comm.allreduce(float(np.sum(arm**2))) / count) or 1.0
    modes, names = rigid_motions(arm / size, dim, axisymmetric)
    whole = comm.allreduce(modes @ modes.T)
    holding = held & ~loose
    fixed = comm.allreduce(modes[:, holding] @ modes[:, holding].T)
    # motions that vanish on every held component: the null space of `fixed`, measured against the whole body
    values, vectors = scipy.linalg.eigh(fixed, whole + 1e-14 * np.trace(whole) * np.eye(len(whole)))
    free = vectors[:, values < 1e-12]
    if free.shape[1] == 0:
        return []
    images = []
    for combination in free.T:
        vector.array_w[:] = np.where(held, 0.0, combination @ modes)
        images.append(np.where(held, 0.0, (matrix * vector).array))
    stacked = np.array(images)
    gram = comm.allreduce(stacked @ stacked.T)
    null, turn = np.linalg.eigh(gram)
    loose = free @ turn[:, np.sqrt(np.abs(null)) < 1e-9 * scale]
    projector = loose @ np.linalg.pinv(loose)
    named = [names[k] for k in range(len(names)) if projector[k, k] > 1.0 - 1e-8]
    return named + ["a rotation about a line that is held"] * (loose.shape[1] - len(named))
