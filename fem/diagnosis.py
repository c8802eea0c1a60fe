"""Why a solve did not succeed, in words: errors of the boundary-value problem and the searches behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from mpi4py import MPI

from constitutive.laws.law import OUT_OF_RANGE

if TYPE_CHECKING:
    from .material import QuadratureMaterial

_NAMES = ("translation along x", "translation along y", "translation along z")
_NAMES += ("rotation about x", "rotation about y", "rotation about z")

#: PETSc's SNESConvergedReason in words, with what to do about it.
REASONS = {
    2: "residual below the absolute tolerance",
    3: "residual below the relative tolerance",
    4: "step below its tolerance",
    5: "iteration limit, taken as converged",
    -1: "the residual could not be evaluated",
    -2: "too many residual evaluations",
    -3: "the linear solver failed: the matrix is singular or the solver unsuited",
    -4: "the residual is not a number: a point has det F ≤ 0 or a strain outside the law",
    -5: "the iteration limit was reached",
    -6: "the line search found no smaller residual",
    -8: "the iteration sits in a local minimum of the residual",
    -9: "the residual grew beyond the divergence tolerance",
    -11: "the trust region shrank to nothing",
}
_REMEDIES = {
    -3: "Check that the boundary conditions hold every part of the mesh and that loads stay below instability",
    -4: "Apply the load in smaller steps: problem.steps(load, targets) cuts them by itself",
    -5: "Apply the load in smaller steps with problem.steps(load, targets), or raise snes_max_it",
    -6: "Apply the load in smaller steps with problem.steps(load, targets); a residual with a term that is not "
    "differentiable, or a law past its stability, stalls so too",
}


class NotConverged(RuntimeError):
    """Newton's method did not converge; the displacement is back at its value before the solve.

    Attributes
    ----------
    reason : int
        PETSc's SNESConvergedReason, negative.
    residuals : list of float
        Residual norm of each iteration.
    """

    def __init__(self, reason: int, residuals: Sequence[float], load: float | None, invalid: str) -> None:
        self.reason, self.residuals = reason, list(residuals)
        text = REASONS.get(reason, f"PETSc reason {reason}")
        norms = " → ".join(f"{r:.2e}" for r in self.residuals[-4:])
        at = "" if load is None else f" at load {load:g}"
        remedy = _REMEDIES.get(reason, _REMEDIES[-4])
        super().__init__(
            f"EquilibriumProblem: expected Newton's method to converge{at}, got: {text} (after "
            f"{max(len(self.residuals) - 1, 0)} iterations, residual {norms or 'none'}{invalid}). {remedy}. "
            "The displacement was rolled back."
        )


class OutOfRange(ValueError):
    """A converged state has strains or inputs beyond the range on which a law was trained; the displacement is rolled
    back.

    Attributes
    ----------
    strain_norm, max_strain : float
        Largest |E| found (from the stress-free cell of the inputs, if any), and the trained range.
    x : array (3,)
        Reference coordinates of the quadrature point.
    cell : int
        Global index of its cell.
    load : float or None
        Load of the step.
    count : int
        Number of points out of range on all ranks.
    """

    def __init__(
        self, strain_norm: float, max_strain: float, x: Any, cell: int, load: float | None, count: int, inputs: str = ""
    ) -> None:
        self.strain_norm, self.max_strain, self.x, self.cell = strain_norm, max_strain, np.asarray(x), cell
        self.load, self.count = load, count
        place = ", ".join(f"{c:.2f}" for c in self.x)
        at = "" if load is None else f", load {load:g}"
        if inputs:
            super().__init__(
                f"EquilibriumProblem: expected inputs within the trained range, got {inputs} at x = ({place}), cell {cell}"
                f'{at}.\nExtend the data to these inputs, or pass out_of_range="flag" or "cut".'
            )
            return
        got = f"got {strain_norm:.3f} at x = ({place}), cell {cell}{at}"
        remedy = f"Extend the data (constitutive atoms --max-strain {1.05 * strain_norm:.2g})"
        if strain_norm <= max_strain:
            got += ", in a direction in which the law was not trained so far"
            remedy = "Extend the data by such strains"
        super().__init__(
            f"EquilibriumProblem: expected converged strains within the trained range |E| ≤ {max_strain:.3f}, {got}.\n"
            f'{remedy}, or pass out_of_range="flag" or "cut".'
        )


def find_out_of_range(materials: Sequence[QuadratureMaterial], load: float | None) -> OutOfRange | None:
    """The error that names the worst point out of range over all materials and ranks, the same on every rank."""
    worst: OutOfRange | None = None
    for material in materials:
        comm = material.mesh.comm
        outside = material.status == OUT_OF_RANGE
        count = comm.allreduce(int(np.count_nonzero(outside)))
        if count == 0:
            continue
        # inputs out of range come before strains: whatever their strain is
        beyond = material.inputs.beyond(material.cells)
        sizes = np.linalg.norm(material.inputs.elastic_strain(material.strain, material.cells), axis=1)
        norms = np.where(outside, np.where(beyond > 0, 1e3 + beyond, sizes), -1.0)
        point = int(np.argmax(norms)) if len(norms) else -1
        _, rank = comm.allreduce((float(norms[point]) if len(norms) else -1.0, comm.rank), op=MPI.MAXLOC)
        found = None
        coordinates = material.points()
        if comm.rank == rank:
            cell = np.array([material.point_cells()[point]], dtype=np.int32)
            index = material.mesh.topology.index_map(3).local_to_global(cell)[0]
            where = material.inputs.described(material.cells, point) if beyond[point] > 0 else ""
            found = (coordinates[point], int(index), float(sizes[point]), where)
        x, cell_index, size, named = comm.bcast(found, root=rank)
        limit = material.law.max_strain
        if worst is None or named or size / limit > worst.strain_norm / worst.max_strain:
            worst = OutOfRange(size, limit, x, cell_index, load, count, named)
    return worst


def free_rigid_motions(matrix: Any, vector: Any, nodes: np.ndarray, held: np.ndarray, scale: float) -> list[str]:
    """Rigid motions that no boundary condition and no stiffness resists.

    Parameters
    ----------
    matrix, vector : PETSc Mat, Vec
        Stiffness with boundary conditions applied, and a vector of its layout to work in.
    nodes : array (n, 3)
        Present coordinates of the nodes of this rank.
    held : array (3 n,) of bool
        Which of their components carry boundary conditions.
    scale : float
        Typical diagonal entry of the stiffness.

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
    modes = np.zeros((6, len(nodes), 3))
    for k in range(3):
        modes[k, :, k] = 1.0
        modes[3 + k] = np.cross(np.eye(3)[k], arm / size)
    modes = modes.reshape(6, -1)
    whole = comm.allreduce(modes @ modes.T)
    fixed = comm.allreduce(modes[:, held] @ modes[:, held].T)
    # motions that vanish on every held component: the null space of `fixed`, measured against the whole body
    values, vectors = scipy.linalg.eigh(fixed, whole + 1e-14 * np.trace(whole) * np.eye(6))
    free = vectors[:, values < 1e-12]
    if free.shape[1] == 0:
        return []
    images = []
    for combination in free.T:
        vector.array_w[:] = combination @ modes
        images.append((matrix * vector).array.copy())
    stacked = np.array(images)
    gram = comm.allreduce(stacked @ stacked.T)
    null, turn = np.linalg.eigh(gram)
    loose = free @ turn[:, np.sqrt(np.abs(null)) < 1e-9 * scale]
    projector = loose @ np.linalg.pinv(loose)
    named = [_NAMES[k] for k in range(6) if projector[k, k] > 1.0 - 1e-8]
    return named + ["a rotation about a line that is held"] * (loose.shape[1] - len(named))
