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
    problem: EquilibriumProblem, load: Any, first: float, number: int, max_cuts: int = 10
) -> Iterator[ArcStep]:
    """Follow an equilibrium path from the present state, whichever way the load goes.

    Each step has a given length ‖Δu‖ of nodal displacements; the load that belongs to it is found with it, by Newton's
    method in the plane normal to the present increment (Riks 1979, doi:10.1016/0020-7683(79)90081-7; Ramm 1981,
    doi:10.1007/978-3-642-81589-8_5). The length grows where a step takes few iterations, to four times the first.

    Parameters
    ----------
    problem : EquilibriumProblem
        Its boundary values stay as they are.
    load : Constant (scalar)
        Factor of a load in the residual, which must be linear in it; follower loads may depend on the displacement.
    first : float
        Load of the first step as a straight line would have it; its sign gives the direction.
    number : int
        Steps to take.
    max_cuts : int
        The arc length is halved so many times at most in a step.

    Yields
    ------
    ArcStep

    Raises
    ------
    ValueError
        For a load that does not act in the residual, or not linearly; a law that depends on the rate.
    RuntimeError
        When a step fails and can be cut no more; displacement, states and load are back at the last converged step.
    OutOfRange
        As `EquilibriumProblem.solve`, unless out_of_range is 'flag'; rolled back likewise.
    """
    where = "arc_length_steps"
    if not isinstance(load, fem.Constant) or np.ndim(load.value) != 0:
        raise ValueError(
            f"{where}: expected load to be a scalar DOLFINx Constant in the residual, got {type(load).__name__}."
        )
    if any(material.law.rate_dependent for material in problem.materials):
        raise ValueError(f"{where}: not supported: laws that depend on the rate. Use steps(..., times=…).")
    if not (np.isfinite(first) and first != 0):
        raise ValueError(f"{where}: expected a first load increment that is not 0, got {first}.")
    return _Path(problem, load, float(first)).steps(number, max_cuts)


class _Path:
    def __init__(self, problem: EquilibriumProblem, load: Any, first: float) -> None:
        self.problem, self.load, self.first = problem, load, first
        # one equilibrium solve checks the supports and chooses the linear solver
        problem.load = float(load.value)
        problem.solve()
        self.x = problem._x.duplicate()
        self.x.array_w[:] = problem.u.x.array[: problem._owned]
        self.b, self.shifted, self.q, self.tangent, self.du = (self.x.duplicate() for _ in range(5))
        self.length = self.longest = 0.0
        self.before: Any = None

    def _residual(self, value: float, b: Any) -> float:
        self.load.value = value
        self.problem._function(None, self.x, b)
        return float(b.norm())

    def _linearise(self, value: float) -> None:
        """Residual b, load q = −∂b/∂λ and K⁻¹ q at x and a load."""
        self._residual(value + self.first, self.shifted)
        self._residual(value, self.b)
        self.shifted.copy(self.q)
        self.q.axpy(-1.0, self.b)
        self.q.scale(-1.0 / self.first)
        problem = self.problem
        problem._jacobian(None, self.x, None, None)
        ksp = problem.snes.getKSP()
        ksp.setOperators(problem._matrix)
        ksp.solve(self.q, self.tangent)

    def _check_load(self, value: float) -> None:
        size = self.q.norm()
        if not size > 0:
            raise ValueError(
                "arc_length_steps: expected a load that acts in the residual, got one that changes nothing there. Not "
                "supported: prescribed displacements; follow those with steps(...)."
            )
        self._residual(value - self.first, self.shifted)
        self.shifted.axpy(-1.0, self.b)
        self.shifted.axpy(-self.first, self.q)
        if self.shifted.norm() > 1e-9 * abs(self.first) * size:
            raise ValueError("arc_length_steps: not supported: a residual that is not linear in the load.")

    def steps(self, number: int, max_cuts: int) -> Iterator[ArcStep]:
        problem = self.problem
        for _ in range(number):
            value, start = float(self.load.value), self.x.copy()
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
            error = find_out_of_range(problem.materials, reached)
            if error is not None and problem.out_of_range != "flag":
                self._back(start, value)
                raise error
            for material in problem.materials:
                material.commit()
            problem.load = reached
            self.before = self.x.copy()
            self.before.axpy(-1.0, start)
            self.length = min(self.longest, self.length * min(2.0, max(0.5, (4.0 / iterations) ** 0.5)))
            yield ArcStep(reached, iterations, cuts, residual)

    def _from(self, start: Any, value: float) -> tuple[float, int, float] | None:
        """One try of a step of the present length from a state in equilibrium."""
        start.copy(self.x)
        self._linearise(value)
        if self.length == 0.0:
            self._check_load(value)
            self._residual(value, self.b)
            self.length = abs(self.first) * self.tangent.norm()
            self.longest = 4.0 * self.length
        return self._one(value)

    def _back(self, start: Any, value: float) -> None:
        start.copy(self.x)
        self.load.value = value
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
