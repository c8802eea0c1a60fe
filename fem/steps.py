"""Load steps: go on where a step converges, roll back and halve it where it does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dolfinx import fem
from tqdm import tqdm

from .diagnosis import NotConverged, OutOfRange

if TYPE_CHECKING:
    from .problem import EquilibriumProblem, Solution


@dataclass(frozen=True)
class Step:
    """An equilibrium state on the way.

    Attributes
    ----------
    load : float
        Load at this state.
    iterations : int
        Newton iterations since the last target, those of failed attempts not counted.
    substeps : int
        Converged steps since the last target; 1 where nothing was cut.
    cuts : int
        Attempts that failed since the last target.
    residual : float
        Norm of the residual at the end.
    residuals : tuple of float
        Residual norms of the last substep, iteration by iteration.
    reaction : array (boundary conditions, dim)
        Force of each support on the body, in the order of `bcs`; see `EquilibriumProblem.reaction`.
    out_of_range : int
        Points beyond the trained range (only with out_of_range='flag').
    time : float
        Time at this state.
    negative_pivots : int or None
        As in `Solution`, of the last substep.
    """

    load: float
    iterations: int
    substeps: int
    cuts: int
    residual: float
    residuals: tuple[float, ...]
    reaction: np.ndarray
    out_of_range: int
    time: float = 0.0
    negative_pivots: int | None = None


def run_steps(
    problem: EquilibriumProblem,
    load: Any,
    targets: Sequence[float] | np.ndarray,
    start: float | None,
    max_cuts: int,
    progress: bool | None,
    times: Sequence[float] | np.ndarray | None = None,
) -> Iterator[Step]:
    """See `EquilibriumProblem.steps`."""
    if isinstance(targets, (int, float)):
        raise ValueError(
            f"EquilibriumProblem.steps: expected a sequence of targets, got {targets!r}. Write [{targets}]."
        )
    loads = [float(target) for target in targets]
    is_constant = isinstance(load, fem.Constant)
    if not is_constant and not callable(load):
        raise ValueError(
            f"EquilibriumProblem.steps: expected load to be a DOLFINx Constant or a function of one number, "
            f"got {type(load).__name__}. Pass load=lambda t: ... that updates your boundary values."
        )
    if is_constant and np.ndim(load.value) != 0:
        raise ValueError(
            f"EquilibriumProblem.steps: expected a scalar Constant, got shape {np.shape(load.value)}. "
            "Multiply a vector by a scalar Constant, or pass a function."
        )
    if start is None:
        start = float(load.value) if is_constant else 0.0

    def apply(value: float) -> None:
        problem.load = value
        if isinstance(load, fem.Constant):
            load.value = value
        else:
            load(value)

    durations: list[float] | None = None
    if times is not None:
        differences = np.diff(np.concatenate([[problem.time], np.asarray(times, dtype=float)]))
        durations = [float(difference) for difference in differences]
        if len(durations) != len(loads) or not np.all(differences >= 0):
            raise ValueError(
                f"EquilibriumProblem.steps: expected {len(loads)} times that do not fall, from {problem.time:g} on, got "
                f"{np.asarray(times).tolist()}. Give one for each target."
            )
    elif any(material.law.rate_dependent for material in problem.materials):
        raise ValueError(
            "EquilibriumProblem.steps: expected times for a law that depends on the rate, got None. Pass times=…, one for "
            "each target."
        )
    return _follow(problem, apply, loads, start, max_cuts, progress, durations)


def _follow(
    problem: EquilibriumProblem, apply: Any, loads: list[float], start: float, max_cuts: int, progress: bool | None,
    durations: list[float] | None,
) -> Iterator[Step]:  # fmt: skip
    shown = sys.stderr.isatty() if progress is None else progress
    reached = start
    with tqdm(total=len(loads), unit="step", disable=not (shown and problem.comm.rank == 0)) as bar:
        for number, target in enumerate(loads):
            iterations = substeps = cuts = 0
            origin = reached
            # a load that is held while time passes is cut in time alone: the share done counts, not the load
            done, share = 0.0, 1.0
            smallest = 0.5**max_cuts * (1.0 - 1e-9)
            failed_last = False
            while True:
                # the last piece ends on the target itself, not beside it by rounding
                last = share >= (1.0 - done) * (1.0 - 1e-12)
                aim = 1.0 if last else done + share
                trial = target if last else origin + aim * (target - origin)
                apply(trial)
                try:
                    solution = problem.solve(None if durations is None else (aim - done) * durations[number])
                except (NotConverged, OutOfRange) as error:
                    apply(reached)
                    cuts += 1
                    failed_last = True
                    share = 0.5 * (aim - done)
                    hopeless = isinstance(error, OutOfRange) and problem.out_of_range != "cut"
                    # compared with the way to the target: before a limit load, good steps would halve for ever
                    if hopeless or share < smallest:
                        raise
                    bar.set_postfix_str(f"load {reached:g}, cut to {share * (target - origin):.2g}")
                    continue
                reached, done = trial, aim
                iterations += solution.iterations
                substeps += 1
                bar.set_postfix_str(_shown(reached, solution))
                if last:
                    break
                if not failed_last:
                    share *= 2.0  # two good steps in a row: try a longer one again
                failed_last = False
            bar.update()
            reactions = [problem.reaction(bc) for bc in problem.bcs]
            yield Step(
                load=target,
                iterations=iterations,
                substeps=substeps,
                cuts=cuts,
                residual=solution.residuals[-1],
                residuals=solution.residuals,
                reaction=np.array(reactions).reshape(-1, problem.dim),
                out_of_range=solution.out_of_range,
                time=problem.time,
                negative_pivots=solution.negative_pivots,
            )


def _shown(load: float, solution: Solution) -> str:
    return f"load {load:.4g}, {solution.iterations} iterations, residual {solution.residuals[-1]:.1e}"
