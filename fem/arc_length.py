"""Arc length: equilibrium followed past limit points, where the load falls while the body goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dolfinx import fem

from .diagnosis import find_out_of_range

if TYPE_CHECKING:
    from .problem import EquilibriumProblem

_TOLERANCE = 1e-9
_ITERATIONS = 15


@dataclass(frozen=True)
class ArcStep:
    """An equilibrium state on the path.

    Attributes
    ----------
    load : float
    iterations : int
        Newton iterations of the step.
    cuts : int
        Attempts before it that failed, each with half the arc length.
    residual : float
        Norm of the residual at the end, over that of the load.
    """

    load: float
    iterations: int
    cuts: int
    residual: float


def arc_length_steps(
    problem: EquilibriumProblem,
    load: Any,
    first: float,
    number: int,
    max_cuts: int = 10,
    start: float | None = None,
) -> Iterator[ArcStep]:
    """Follow an equilibrium path from the present state, whichever way the load goes: past limit points of a force, and past
    those of a prescribed displacement.

    Each step has a given length ‖Δu‖ of nodal displacements; the load that belongs to it is found with it, by Newton's
    method in the plane normal to the present increment (Riks 1979, doi:10.1016/0020-7683(79)90081-7; Ramm 1981,
    doi:10.1007/978-3-642-81589-8_5). The length grows where a step takes few iterations, to four times the first.

    Parameters
    ----------
    problem : EquilibriumProblem
    load : Constant (scalar) or callable(float)
        What is set to each load, as in `EquilibriumProblem.steps`: the factor of a load in the residual (follower loads may
        depend on the displacement), a boundary value, or a function that updates whatever the load moves. Residual and
        boundary values must be linear in it.
    first : float
        Load of the first step as a straight line would have it; its sign gives the direction.
    number : int
        Steps to take.
    max_cuts : int
        The arc length is halved so many times at most in a step.
    start : float, optional
        Load of the present state: by default the Constant's value, or 0 for a callable.

    Yields
    ------
    ArcStep

    Raises
    ------
    ValueError
        For a load that acts neither in the residual nor on the boundary, or not linearly; a law that depends on the rate.
    RuntimeError
        When a step fails and can be cut no more; displacement, states and load are back at the last converged step.
    OutOfRange
        As `EquilibriumProblem.solve`, unless out_of_range is 'flag'; rolled back likewise.
    """
    where = "arc_length_steps"
    constant = load if isinstance(load, fem.Constant) and np.ndim(load.value) == 0 else None
    if constant is None and not callable(load):
        raise ValueError(
            f"{where}: expected load to be a scalar DOLFINx Constant or a function of one number, got {type(load).__name__}."
        )
    if any(material.law.rate_dependent for material in problem.materials):
        raise ValueError(f"{where}: not supported: laws that depend on the rate. Use steps(..., times=…).")
    if not (np.isfinite(first) and first != 0):
        raise ValueError(f"{where}: expected a first load increment that is not 0, got {first}.")
    begin = float(start) if start is not None else 0.0 if constant is None else float(constant.value)
    return _Path(problem, load, float(first), begin).steps(number, max_cuts)


class _Path:
    def __init__(self, problem: EquilibriumProblem, load: Any, first: float, begin: float) -> None:
        self.problem, self.load, self.first, self.value = problem, load, first, begin
        # one equilibrium solve checks the supports and chooses the linear solver
        problem.load = begin
        self._apply(begin)
        problem.solve()
        problem._norms = []  # those of that solve say nothing of what comes
        self.x = problem._x.duplicate()
        self.x.array_w[:] = problem.u.x.array[: problem._owned]
        self.b, self.shifted, self.q, self.tangent, self.du = (self.x.duplicate() for _ in range(5))
        self.length = self.longest = 0.0
        self.before: Any = None
        #: whether stresses follow the load at a given displacement, as those of a warmed body do
        self.load_in_law = True

    def _apply(self, value: float) -> None:
        if isinstance(self.load, fem.Constant):
            self.load.value = value
        else:
            self.load(value)

    def _residual(self, value: float, b: Any) -> float:
        self._apply(value)
        self.problem._trials = 0  # no line search: a tangent follows
        self.problem._function(None, self.x, b)
        return float(b.norm())

    def _change(self, value: float, by: float) -> None:
        """Load q = −∂b/∂λ at x, from another load; the residual b of this load is known, and the materials stand at it."""
        problem = self.problem
        if self.load_in_law:
            self._residual(value + by, self.shifted)
            self._residual(value, self.b)
        else:  # two assemblies, and no evaluation of the law
            problem._push(self.x)
            self._apply(value + by)
            misses = problem._boundary_defect(self.x)
            if misses and not (problem._tangent_is_current or problem._assembly.fused):
                problem._update(tangent=True)  # the tangent takes the boundary values' change to the other nodes
            problem._whole_at = None  # the tangent at this load is another than at that to which it goes back
            problem._assemble_residual(self.x, self.shifted, misses)
            problem._whole_at = None
            self._apply(value)
        self.shifted.copy(self.q)
        self.q.axpy(-1.0, self.b)
        self.q.scale(-1.0 / by)

    def _linearise(self, value: float) -> None:
        """Load q and K⁻¹ q at x and a load whose residual b is known."""
        self._change(value, self.first)
        problem = self.problem
        problem._jacobian(None, self.x, None, None)
        ksp = problem.snes.getKSP()
        ksp.setOperators(problem._matrix)
        ksp.solve(self.q, self.tangent)

    def _check_load(self, value: float) -> None:
        self._change(value, self.first)
        size, whole = self.q.norm(), self.q.copy()
        if not size > 0:
            raise ValueError(
                "arc_length_steps: expected a load that acts in the residual or on a boundary value, got one that changes "
                "nothing there. Put the Constant into the form or into a dirichletbc, or pass a function that updates both."
            )
        for by, in_law in ((-self.first, True), (self.first, False)):
            self.load_in_law = in_law
            self._change(value, by)
            self.q.axpy(-1.0, whole)
            differs = self.q.norm() > 1e-9 * size
            if in_law and differs:
                raise ValueError("arc_length_steps: not supported: a residual that is not linear in the load.")
            self.load_in_law = differs

    def steps(self, number: int, max_cuts: int) -> Iterator[ArcStep]:
        problem = self.problem
        for _ in range(number):
            value, start = self.value, self.x.copy()
            cuts, found = 0, self._from(start, value)
            while found is None and cuts < max_cuts:
                self.length *= 0.5
                cuts, found = cuts + 1, self._from(start, value)
            if found is None:
                self._back(start, value)
                raise RuntimeError(
                    f"arc_length_steps: expected Newton's method to converge from load {value:g}, got no step after "
                    f"{max_cuts} halvings of the arc length. Begin with a smaller load increment; displacement and state were "
                    "rolled back."
                )
            reached, iterations, residual = found
            if problem._assembly.fused:
                problem._update(tangent=False)
            error = find_out_of_range(problem.materials, reached)
            if error is not None and problem.out_of_range != "flag":
                self._back(start, value)
                raise error
            for material in problem.materials:
                material.commit()
            problem.load = self.value = reached
            self.before = self.x.copy()
            self.before.axpy(-1.0, start)
            self.length = min(self.longest, self.length * min(2.0, max(0.5, (4.0 / iterations) ** 0.5)))
            yield ArcStep(reached, iterations, cuts, residual)

    def _from(self, start: Any, value: float) -> tuple[float, int, float] | None:
        """One try of a step of the present length from a state in equilibrium."""
        start.copy(self.x)
        self._residual(value, self.b)
        if self.length == 0.0:
            self._check_load(value)
        self._linearise(value)
        if self.length == 0.0:
            self.length = abs(self.first) * self.tangent.norm()
            self.longest = 4.0 * self.length
        return self._one(value)

    def _back(self, start: Any, value: float) -> None:
        start.copy(self.x)
        self._apply(value)
        self.problem.u.x.array[: self.problem._owned] = start.array_r
        self.problem.u.x.scatter_forward()
        self.problem._roll_back(self.problem.u.x.array.copy())

    def _one(self, value: float) -> tuple[float, int, float] | None:
        """Load, iterations and relative residual of one step from x, or None."""
        # forward is where the last step went; at the beginning, where the load's sign says
        along = self.first if self.before is None else float(self.before.dot(self.tangent))
        change = float(np.copysign(self.length / self.tangent.norm(), along))
        increment = self.tangent.copy()
        increment.scale(change)
        self.x.axpy(1.0, increment)
        value += change
        scale = self.q.norm() * max(abs(value), abs(change))
        for iteration in range(1, _ITERATIONS + 1):
            size = self._residual(value, self.b)
            if not np.isfinite(size):
                return None
            # slender bodies carry loads that are small beside the rounding of their stiffness
            if size <= max(_TOLERANCE * scale, self.problem._absolute or 0.0):
                return value, iteration, size / scale
            self._linearise(value)
            self.problem.snes.getKSP().solve(self.b, self.du)
            # du = −K⁻¹ b + dλ K⁻¹ q, normal to the increment so far
            across = float(increment.dot(self.tangent))
            if across == 0.0 or not np.isfinite(across):
                return None
            change = float(increment.dot(self.du)) / across
            self.du.scale(-1.0)
            self.du.axpy(change, self.tangent)
            self.x.axpy(1.0, self.du)
            increment.axpy(1.0, self.du)
            value += change
        return None
