"""Why a solve did not succeed, in words: errors of the boundary-value problem and the searches behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mpi4py import MPI

from constitutive.laws.law import INVALID, OUT_OF_RANGE
from constitutive.stability import acoustic_eigenvalue

if TYPE_CHECKING:
    from .material import QuadratureMaterial

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
    -3: "Check that the boundary conditions hold every part of the mesh and that loads stay below instability; an "
    "iterative solver that stalls may need petsc_options of its own, or a direct one (ksp_type preonly, pc_type lu)",
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

    def __init__(
        self, reason: int, residuals: Sequence[float], load: float | None, invalid: str, weakest: str = ""
    ) -> None:
        self.reason, self.residuals = reason, list(residuals)
        text = REASONS.get(reason, f"PETSc reason {reason}")
        norms = " → ".join(f"{r:.2e}" for r in self.residuals[-4:])
        at = "" if load is None else f" at load {load:g}"
        remedy = _REMEDIES.get(reason, _REMEDIES[-4])
        super().__init__(
            f"EquilibriumProblem: expected Newton's method to converge{at}, got: {text} (after "
            f"{max(len(self.residuals) - 1, 0)} iterations, residual {norms or 'none'}{invalid}). {remedy}. "
            f"Displacement and state were rolled back.{weakest}"
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
            index = material.mesh.topology.index_map(material.mesh.topology.dim).local_to_global(cell)[0]
            where = material.inputs.described(material.cells, point) if beyond[point] > 0 else ""
            found = (coordinates[point], int(index), float(sizes[point]), where)
        x, cell_index, size, named = comm.bcast(found, root=rank)
        limit = material.law.max_strain
        if worst is None or named or size / limit > worst.strain_norm / worst.max_strain:
            worst = OutOfRange(size, limit, x, cell_index, load, count, named)
    return worst


class _Place(NamedTuple):
    """A quadrature point, the same on every rank."""

    x: np.ndarray
    cell: int
    strain: np.ndarray
    local: int | None
    count: int


def _find_place(material: QuadratureMaterial, score: np.ndarray) -> _Place | None:
    """The point of the largest score over all ranks, and how many have a score above zero; None where none has."""
    comm = material.mesh.comm
    count = comm.allreduce(int(np.count_nonzero(score > 0)))
    if count == 0:
        return None
    point = int(np.argmax(score)) if len(score) else -1
    _, rank = comm.allreduce((float(score[point]) if len(score) else -1.0, comm.rank), op=MPI.MAXLOC)
    points = material.points()
    found = None
    if comm.rank == rank:
        cell = np.array([material.point_cells()[point]], dtype=np.int32)
        index = material.mesh.topology.index_map(material.mesh.topology.dim).local_to_global(cell)[0]
        found = (points[point], int(index), material.strain[point])
    x, cell_index, strain = comm.bcast(found, root=rank)
    return _Place(x, cell_index, strain, point if comm.rank == rank else None, count)


def _located(x: np.ndarray, cell: int) -> str:
    return f"x = ({', '.join(f'{c:.3g}' for c in x)}), cell {cell}"


def describe_invalid(materials: Sequence[QuadratureMaterial]) -> str:
    """Where a trial state could not be evaluated, in words; empty where it could."""
    for material in materials:
        score = np.where(material.status == INVALID, 1.0, 0.0)
        place = _find_place(material, score)
        if place is not None:
            strain = ", ".join(f"{e:.3g}" for e in place.strain)
            return (
                f"; {place.count} points with det F ≤ 0, NaN or a local iteration that failed in the last trial state, the "
                f"first at {_located(place.x, place.cell)}, strain ({strain})"
            )
    return ""


def describe_weakest(materials: Sequence[QuadratureMaterial]) -> str:
    """The most strained point of a state in words: where, how far beyond the training, whether elliptic."""
    text = ""
    for material in materials:
        sizes = np.linalg.norm(material.strain, axis=1)
        place = _find_place(material, np.where(np.isfinite(sizes), sizes, 0.0))
        if place is None:
            continue
        size, limit = float(np.linalg.norm(place.strain)), material.law.max_strain
        text += f" The last converged state is strained most at {_located(place.x, place.cell)}: |E| = {size:.3g}"
        if np.isfinite(limit):
            text += f", trained to {limit:.3g}" + (" (outside)" if size > limit else "")
        smallest = None
        if place.local is not None and not material.law.state_width:
            inputs = material.inputs.values(material.cells)
            at = None if inputs is None else inputs[[place.local]]
            smallest = float(acoustic_eigenvalue(material.law, place.strain[None], inputs=at)[0])
        values = [value for value in material.mesh.comm.allgather(smallest) if value is not None]
        if values:
            lost = "positive: stable there" if values[0] > 0 else "not positive: the law is unstable there"
            text += f", smallest acoustic eigenvalue {values[0]:.3g} {material.law.units} ({lost})"
        text += "."
    return text
