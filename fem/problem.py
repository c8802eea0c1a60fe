"""Equilibrium: the user's residual, driven to zero by PETSc's SNES."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ufl
from dolfinx.fem import petsc
from mpi4py import MPI
from petsc4py import PETSc as _petsc

from . import dolfinx_versions as versions
from .assembly import Assembly
from .diagnosis import REASONS, NotConverged, describe_invalid, describe_weakest, find_out_of_range
from .linear_solver import LinearSolver, forget_options, passing_options
from .material import QuadratureMaterial
from .mean_dilatation import CondensedTangent
from .residual import check_residual
from .restart import read_state, write_state
from .rigid_motions import free_rigid_motions
from .steps import Step, run_steps
from .units import described_units

_DEFAULTS = {
    "snes_type": "newtonls",
    # 'bt' halves a step whose residual is not a number, so one mirrored cell in a trial state is survived. Its demand
    # that the residual falls is a bad one: where bodies bend, the full Newton step first raises it. Alpha < 0 accepts
    # a step up to √(1 − 2 alpha) = 100 times the residual: 6 iterations instead of 22 for a bent beam, and no cuts
    "snes_linesearch_type": "bt",
    "snes_linesearch_alpha": -5e3,
    "snes_rtol": 1e-10,
    # a short step is no proof of equilibrium
    "snes_stol": 0.0,
    "snes_max_it": 25,
}
_prefixes = itertools.count()
PETSc: Any = _petsc  # petsc4py comes without types


@dataclass(frozen=True)
class Solution:
    """What a solve did.

    Attributes
    ----------
    reason : int
        PETSc's SNESConvergedReason, positive.
    iterations : int
        Newton iterations.
    residuals : tuple of float
        Euclidean norm of the residual before each iteration and after the last.
    out_of_range : int
        Points beyond their law's trained range, on all ranks (only with out_of_range='flag').
    negative_pivots : int or None
        Negative eigenvalues of the tangent that was factorised last, that of the last but one iterate: more than 0 says
        that the equilibrium is unstable. None where the solver does not count them (iterative, or an unsymmetric tangent).
    """

    reason: int
    iterations: int
    residuals: tuple[float, ...]
    out_of_range: int = 0
    negative_pivots: int | None = None

    def __str__(self) -> str:
        return f"{self.iterations} iterations, {REASONS.get(self.reason, self.reason)}, {self.residuals[-1]:.2e}"


class EquilibriumProblem:
    """Find u with residual(u; v) = 0 for all v, and u given on a part of the boundary.

    Parameters
    ----------
    residual : ufl.Form
        Linear form in one test function: `material.virtual_work(v)` of each material and whatever else acts. It may
        scale, add and subtract virtual works: the tangent is its exact derivative, through u and through the stresses.
    u : Function
        Displacement: start of the iteration, and its result.
    materials : sequence of QuadratureMaterial
        All whose stress stands in `residual`. Empty for a residual in pure UFL.
    bcs : sequence of DirichletBC
        Boundary values. `u` need not satisfy them yet.
    petsc_options : dict, optional
        PETSc options without prefix, over the defaults: Newton that backtracks only from bad states, snes_rtol 1e-10,
        snes_atol 1e-14 × stiffness × node spacing (ten times the rounding of a body turned by 2 radians); MUMPS up to
        90 000 unknowns (400 000 in two dimensions), above it GAMG with the rigid motions as near-null space, under CG
        where the tangent is symmetric and GMRES elsewhere. `solver` says which.
    out_of_range : 'raise', 'flag' or 'cut'
        What to do where a *converged* state has points beyond the trained range of their law: raise `OutOfRange`,
        count them in the result, or (in `steps`) cut the load step and raise when it can be cut no more.
    petsc_options_prefix : str, optional
        Prefix for options on the command line; unique by default.
    assembly : 'auto', 'forms' or 'fused'
        Who makes element matrices. 'auto': kernels in C for each virtual work that stands in `residual` as `virtual_work`
        made it (three dimensions, Lagrange of degree 1 or 2), and from 20,000 points on for other forms of a stress that a
        user writes, see `fem.form_tangent`; DOLFINx for the rest, and where there is no compiler.
        'forms': DOLFINx for all. 'fused': the law is evaluated inside the kernels as well, so that stress and tangent are
        not stored while Newton iterates: less memory, about the same time; for laws that C knows. The attribute `assembly`
        says what was taken.

    Raises
    ------
    ValueError
        Where form, materials and quadrature rules do not fit each other.
    """

    load: float | None
    time: float

    def __init__(
        self,
        residual: ufl.Form,
        u: Any,
        materials: Sequence[QuadratureMaterial] = (),
        bcs: Sequence[Any] = (),
        petsc_options: dict[str, Any] | None = None,
        out_of_range: str = "raise",
        petsc_options_prefix: str | None = None,
        assembly: str = "auto",
    ) -> None:
        if out_of_range not in ("raise", "flag", "cut"):
            raise ValueError(
                f"EquilibriumProblem: expected out_of_range 'raise', 'flag' or 'cut', got {out_of_range!r}."
            )
        if isinstance(materials, QuadratureMaterial):
            raise TypeError("EquilibriumProblem: expected a list of materials, got one material. Write [material].")
        check_residual(residual, u, materials)
        kinds = sorted({material.law.units for material in materials})
        if len(kinds) > 1:
            raise ValueError(
                f"EquilibriumProblem: expected laws in one unit, got {' and '.join(kinds)}. Forces would add up to nothing; make "
                "or convert the laws in one unit."
            )
        self.u, self.materials, self.bcs, self.out_of_range = u, list(materials), list(bcs), out_of_range
        self.space = u.function_space
        self.comm = self.space.mesh.comm
        self.load, self.time = None, 0.0
        self.dim = self.space.dofmap.index_map_bs
        self._axisymmetric = any(material.section == "axisymmetric" for material in self.materials)
        self._assembly = Assembly(assembly, residual, u, self.materials)
        self._residual_form, self._jacobian_form = self._assembly.residual_form, self._assembly.tangent_form
        self._matrix = petsc.create_matrix(self._jacobian_form)
        # the diagonal of a held node that no cell of the form reaches has no entry yet
        self._matrix.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
        self._condensed = [
            CondensedTangent(residual, u, material, material.mean_dilatation)
            for material in self.materials if material.mean_dilatation is not None
        ]  # fmt: skip
        # rows and columns of held components are zeroed in place
        self._matrix.setOption(PETSc.Mat.Option.KEEP_NONZERO_PATTERN, True)
        # never u's own vector: PETSc locks x in the callbacks
        self._x, self._state, self._defect, self._b, self._raw = (versions.ghosted_vector(self.space) for _ in range(5))
        self._owned = self._x.getLocalSize()
        self._tangent_is_current = False
        #: residuals since the last tangent, and whether there was more than one between the two before
        self._trials, self._backtracked = 0, False
        self._evaluated: np.ndarray | None = None
        #: owned displacement at which `_matrix` is the whole tangent, boundary conditions yet to be applied
        self._whole_at: np.ndarray | None = None
        #: whether materials and matrix stand at the displacement that Newton's method starts from
        self._prepared = False
        #: whether something is held that has no diagonal, so that its row cannot be zeroed in place
        self._holds_loose = False
        self._norms: list[float] = []
        self._absolute: float | None = None
        self.snes = self._create_snes(petsc_options or {}, petsc_options_prefix)
        nodes = self.space.tabulate_dof_coordinates()[: self._owned // self.dim]
        self._linear = LinearSolver(self.snes, self._matrix, nodes, self.dim, self._axisymmetric)

    def __repr__(self) -> str:
        unknowns = self.space.dofmap.index_map.size_global * self.dim
        return f"EquilibriumProblem({unknowns} unknowns, {len(self.materials)} materials, {len(self.bcs)} bcs, load={self.load})"

    def _create_snes(self, given: dict[str, Any], prefix: str | None) -> Any:
        snes = PETSc.SNES().create(self.comm)
        prefix = prefix or f"equilibrium_{next(_prefixes)}_"
        snes.setOptionsPrefix(prefix)
        snes.setFunction(self._function, self._b)
        snes.setJacobian(self._jacobian, self._matrix)
        snes.setMonitor(lambda _snes, _iteration, norm: self._norms.append(float(norm)))
        options = PETSc.Options()
        # the command line wins over the defaults, the argument over both
        for key, value in given.items():
            options[prefix + key] = value
        defaults = {prefix + key: value for key, value in _DEFAULTS.items() if not options.hasName(prefix + key)}
        self._has_own_atol = options.hasName(prefix + "snes_atol")
        with passing_options(defaults):
            snes.setFromOptions()
        # preconditioners read theirs as late as the first solve
        weakref.finalize(self, forget_options, [prefix + key for key in given])
        return snes

    @property
    def solver(self) -> str:
        """The linear solver in words."""
        return self._linear.description

    @property
    def assembly(self) -> str:
        """Who assembles, in words."""
        return self._assembly.description

    def _push(self, x: Any) -> None:
        """Make `x` the displacement, ghosts included."""
        self.u.x.array[: self._owned] = x.array_r
        self.u.x.scatter_forward()
        with self._state.localForm() as local:
            local.array_w[:] = self.u.x.array

    def _update(self, tangent: bool) -> bool:
        """Evaluate the materials at u; whether all points of all ranks are valid."""
        # a list, not a generator: every material is evaluated
        good = all([material.update(tangent=tangent) for material in self.materials])
        self._tangent_is_current = tangent
        self._evaluated = self.u.x.array[: self._owned].copy()
        return not self.comm.allreduce(not good, op=MPI.LOR)

    def _boundary_defect(self, x: Any) -> bool:
        """Whether `x` misses its boundary values (on any rank), beyond rounding; the defect x − g is left behind."""
        self._defect.set(0.0)
        petsc.set_bc(self._defect, self.bcs, x, -1.0)
        return self._defect.norm(PETSc.NormType.NORM_INFINITY) > 1e-15 * x.norm(PETSc.NormType.NORM_INFINITY)

    def _function(self, _snes: Any, x: Any, b: Any) -> None:
        prepared, self._prepared = self._prepared and self._is_at(self._whole_at, x), False
        if not prepared:
            self._whole_at = None
        self._push(x)
        misses = self._boundary_defect(x)
        if self._assembly.fused:
            self._evaluated = None  # the kernels evaluate; where a point has no answer, what they add is not a number
        # lifting multiplies the tangent with the defect
        elif not prepared and not self._update(tangent=misses or self._tangent_follows()):
            b.set(np.nan)
            return
        self._trials += 1
        self._assemble_residual(x, b, misses)

    def _assemble_residual(self, x: Any, b: Any, misses: bool) -> None:
        """With stress and (where `x` misses its boundary values) tangent as the materials have them; see `_boundary_defect`."""
        by_form = not (self._condensed or self._assembly.fused)
        with b.localForm() as local:
            local.set(0.0)
        self._assembly.add_residual(b)
        if misses and by_form:
            petsc.apply_lifting(b, [self._jacobian_form], [self.bcs], [self._state], -1.0)
        b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        if misses and not by_form:
            # neither the products of the condensed tangent nor a tangent that is not stored is a form that could be lifted
            if self._whole_at is None:
                self._assemble_whole_matrix()
            lifted = self._matrix * self._defect
            b.axpy(-1.0, lifted)
        petsc.set_bc(b, self.bcs, x, -1.0)

    def _tangent_follows(self) -> bool:
        """Whether a tangent is likely to be asked for at the present trial: then it is computed with the stress.

        It is after the first residual of an iteration, unless a line search goes back from it or Newton's method is there.
        """
        if self._trials or self._backtracked:
            return False
        if len(self._norms) < 2:
            return True
        relative, absolute, *_ = self.snes.getTolerances()
        before, last = self._norms[-2:]
        # what a method of second order brings next
        return last * (last / before) ** 2 > max(relative * self._norms[0], absolute)

    def _jacobian(self, _snes: Any, x: Any, _matrix: Any, _preconditioner: Any) -> None:
        self._trials, self._backtracked = 0, self._trials > 1
        if self._is_at(self._whole_at, x) and not self._holds_loose:
            self._hold()
        else:
            if self._assembly.fused:
                self._push(x)
            elif not (self._is_at(self._evaluated, x) and self._tangent_is_current):
                self._push(x)
                self._update(tangent=True)
            self._assemble_matrix()
        self._linear.choose()

    def _is_at(self, place: np.ndarray | None, x: Any) -> bool:
        """Whether `place`, owned components or None, is x; on all ranks."""
        return self.comm.allreduce(place is not None and np.array_equal(place, x.array_r), op=MPI.LAND)

    def _assemble_matrix(self) -> None:
        if self._condensed:
            self._assemble_whole_matrix()
            self._hold()
            return
        self._whole_at = None
        self._assembly.set_matrix(self._matrix, self.bcs)

    def _assemble_whole_matrix(self) -> None:
        """With the condensed parts, without boundary conditions, at u."""
        self._assembly.set_matrix(self._matrix)
        for part in self._condensed:
            part.add_to(self._matrix)
        self._whole_at = self.u.x.array[: self._owned].copy()

    def _hold(self) -> None:
        """Boundary conditions for the whole matrix: zero rows and columns but for 1 on the diagonal."""
        self._whole_at = None
        first = self._matrix.getOwnershipRange()[0]
        rows = np.flatnonzero(self._held()).astype(PETSc.IntType) + first
        self._matrix.zeroRowsColumns(rows, diag=1.0)

    def _own_dofs(self, bc: Any) -> np.ndarray:
        # the second value that dof_indices returns counts nodes or components, by version: compare instead
        dofs = np.unique(np.asarray(bc.dof_indices()[0]))
        return dofs[dofs < self._owned]

    def _held(self) -> np.ndarray:
        held = np.zeros(self._owned, dtype=bool)
        for bc in self.bcs:
            held[self._own_dofs(bc)] = True
        return held

    def _prepare(self) -> None:
        """Once: what rounding leaves of a residual, and whether anything holds the body.

        Newton's method starts from the same displacement, and finds stress and tangent there.
        """
        with self._state.localForm() as local:
            local.array_w[:] = self.u.x.array
        if not self._assembly.fused and not self._update(tangent=True):
            return  # the solve itself will say so
        self._assemble_whole_matrix()
        diagonal, held = self._matrix.getDiagonal().array_r, self._held()
        loose = diagonal == 0.0
        self._holds_loose = bool(self.comm.allreduce(np.any(loose & held), op=MPI.LOR))
        diagonal = np.where(held, 0.0, diagonal)
        norm = np.sqrt(self.comm.allreduce(float(diagonal @ diagonal)))
        if not np.isfinite(norm):
            return
        nodes = self.space.tabulate_dof_coordinates()[: self._owned // self.dim].copy()
        nodes[:, : self.dim] += self.u.x.array[: self._owned].reshape(-1, self.dim)
        reach = np.concatenate([nodes.max(axis=0, initial=-np.inf), (-nodes).max(axis=0, initial=-np.inf)])
        self.comm.Allreduce(MPI.IN_PLACE, reach, op=MPI.MAX)
        spacing = float(np.max(reach[:3] + reach[3:])) / (self._x.getSize() / self.dim) ** (1 / self.dim)
        self._check_stiffness(loose & ~held, nodes)
        work = self._x.duplicate()
        scale = norm / np.sqrt(self._x.getSize())
        free = free_rigid_motions(self._matrix, work, nodes, held, loose, scale, self.dim, self._axisymmetric)
        if free:
            raise ValueError(
                f"EquilibriumProblem: expected boundary conditions (or springs) that hold the body, got {len(free)} "
                f"free rigid motion{'s' * (len(free) > 1)}: {', '.join(free)}. "
                "Pass bcs=[dirichletbc(...)] that stop each of them; without, the stiffness matrix is singular."
            )
        # stiffness × spacing is a nodal force at strains of order one; its rounding is no residual
        self._absolute = 1e-14 * norm * spacing
        self._prepared = True

    def _check_stiffness(self, loose: np.ndarray, nodes: np.ndarray) -> None:
        """Components (n,) without any stiffness are nodes of cells that no material has."""
        number = self.comm.allreduce(int(np.count_nonzero(loose)))
        if number:
            places = self.comm.allgather(nodes[np.flatnonzero(loose)[:1] // self.dim].tolist())
            first = next(place[0] for place in places if place)
            raise ValueError(
                f"EquilibriumProblem: expected stiffness at every free node, got {number} unknowns without, which belong to "
                f"no material (the first at x = {np.round(first[: self.dim], 4).tolist()}). Give every subdomain a material, "
                "or hold its nodes."
            )

    def solve(self, dt: float | None = None) -> Solution:
        """Bring `u` to equilibrium, and commit the internal variables of the materials when it is there.

        Parameters
        ----------
        dt : float, optional
            Time that the step takes, in the laws' unit of time; needed where a law depends on the rate.

        Returns
        -------
        Solution
            Reason, number of iterations and residual norms.

        Raises
        ------
        NotConverged
            On all ranks, with `u` rolled back and no state committed.
        OutOfRange
            Where a converged state leaves a law's trained range and `out_of_range` is not 'flag'; rolled back likewise.
        ValueError
            Where nothing holds the body, or a rate-dependent law is given no time.
        """
        if dt is None and any(material.law.rate_dependent for material in self.materials):
            raise ValueError(
                "EquilibriumProblem.solve: expected a time step dt for a law that depends on the rate, got None. Pass dt, or "
                "times= to steps(...)."
            )
        for material in self.materials:
            material.dt = dt
        self.u.x.scatter_forward()
        start = self.u.x.array.copy()
        self._whole_at, self._prepared = None, False
        if self._absolute is None:
            self._prepare()
        if not self._has_own_atol:
            self.snes.setTolerances(atol=self._absolute or None)
        self._norms = []
        self._trials, self._backtracked = 0, False
        self._x.array_w[:] = start[: self._owned]
        try:
            self.snes.solve(None, self._x)
        except BaseException:
            self._roll_back(start)
            raise
        reason = self.snes.getConvergedReason()
        if reason <= 0:
            if self._assembly.fused:
                self._update(tangent=False)  # the trial that failed, for the message
            invalid = describe_invalid(self.materials)
            self._linear.recover()
            self._roll_back(start)
            raise NotConverged(reason, self._norms, self.load, invalid, describe_weakest(self.materials))
        same = self._evaluated is not None and np.array_equal(self._evaluated, self._x.array_r)
        if not self.comm.allreduce(same, op=MPI.LAND):
            self._push(self._x)
            self._update(tangent=False)
        error = find_out_of_range(self.materials, self.load)
        if error is not None and self.out_of_range != "flag":
            self._roll_back(start)
            raise error
        count = 0 if error is None else error.count
        for material in self.materials:
            material.commit()
        self.time += dt or 0.0
        pivots = self._linear.negative_pivots()
        return Solution(reason, self.snes.getIterationNumber(), tuple(self._norms), count, pivots)

    def _roll_back(self, start: np.ndarray) -> None:
        self.u.x.array[:] = start
        for material in self.materials:
            material.dt = 0.0  # back to the committed state, without time to relax in
        self._update(tangent=False)

    def steps(
        self,
        load: Any,
        targets: Sequence[float] | np.ndarray,
        start: float | None = None,
        max_cuts: int = 10,
        progress: bool | None = None,
        times: Sequence[float] | np.ndarray | None = None,
    ) -> Iterator[Step]:
        """Follow a load through `targets`; a step that fails is rolled back, halved and tried again.

        Parameters
        ----------
        load : Constant (scalar) or callable(float)
            What is set to each load: a DOLFINx Constant in the form or a boundary value, or a function that updates
            whatever the load moves.
        targets : sequence of float
            Loads at which to stop; a Step is yielded at each.
        start : float, optional
            Load of the present `u`: by default the Constant's value, or 0 for a callable.
        max_cuts : int
            The shortest step is the way to the target halved so many times.
        progress : bool, optional
            Progress bar on rank 0; by default where stderr is a terminal.
        times : sequence of float, optional
            Time at which each target is reached, from the present `time` on; for laws that depend on the rate.

        Yields
        ------
        Step

        Raises
        ------
        NotConverged, OutOfRange
            When a step fails and can be cut no more; u, states and load are back at the last converged step.
        """
        return run_steps(self, load, targets, start, max_cuts, progress, times)

    def units(self, length: str) -> str:
        """Which units of force, energy and load a mesh in 'mm' (or m, cm, µm, nm, Å) and the laws' unit imply, in words."""
        if not self.materials:
            raise ValueError("EquilibriumProblem.units: expected a material, whose law has units, got none.")
        return described_units(self.materials[0].law.units, length)

    def reaction(self, where: Any) -> np.ndarray:
        """Force (dim,) with which a support acts on the body: sum of the raw residual over constrained components.

        Parameters
        ----------
        where : DirichletBC, or array of int
            A boundary condition: the components that it constrains are summed. Or nodes, as `locate_dofs_topological`
            finds them for the whole displacement space: all components.

        Returns
        -------
        array (dim,)
            In units of the law times area of the mesh (GPa and mm make kN; see `units`), times length where a plane section stands for a
            unit of thickness; the same on every rank. Tension pulls along the outer normal.
        """
        raw = self._assemble_raw()
        if isinstance(where, (np.ndarray, list, tuple)):
            nodes = np.unique(np.asarray(where, dtype=np.int64))
            nodes = nodes[nodes < self._owned // self.dim]
            dofs = (self.dim * nodes[:, None] + np.arange(self.dim)).reshape(-1)
        else:
            dofs = self._own_dofs(where)
        force = np.bincount(dofs % self.dim, weights=raw[dofs], minlength=self.dim)
        return self.comm.allreduce(force)

    def _assemble_raw(self) -> np.ndarray:
        """Residual without boundary conditions at the present state, owned components."""
        with self._raw.localForm() as local:
            local.set(0.0)
        petsc.assemble_vector(self._raw, self._residual_form)
        self._raw.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        return self._raw.array_r.copy()

    def save(self, path: Any) -> None:
        """Write displacement, load, time and internal variables, to go on from with `restore`; see `fem.restart`."""
        write_state(path, self)

    def restore(self, path: Any) -> float | None:
        """Go back to a state that `save` wrote, on any number of ranks. Returns the load, for `steps(start=…)`."""
        read_state(path, self)
        for material in self.materials:
            material.dt = 0.0
        self._update(tangent=False)
        return self.load
