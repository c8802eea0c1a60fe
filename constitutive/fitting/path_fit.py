"""Fit a law with internal variables to strain → stress paths, through its time steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, jacfwd

from crystals.rotations import mandel_rotation

from ..laws.internal_variables import InternalVariableLaw


def path_stress(law: Any, strain: np.ndarray, dt: float | np.ndarray | None = None) -> np.ndarray:
    """Stress (p, T, 6) of any law along p paths of T strains (p, T, 6), from the virgin state.

    Raises
    ------
    RuntimeError
        Where a point does not converge.
    """
    paths = _checked("path_stress", "strain", strain)
    times = [None] * paths.shape[1] if dt is None else np.broadcast_to(dt, paths.shape[1]).tolist()
    stress, state = np.empty_like(paths), None
    for step, time in enumerate(times):
        answer = law.response(paths[:, step], state, dt=time, tangent=False)
        stress[:, step], state = answer.stress, answer.state
        if not np.all(np.isfinite(answer.stress)):
            raise RuntimeError(
                f"path_stress: expected the law to converge, got {int(np.sum(answer.status == 2))} points that do not, "
                f"in step {step}. Take smaller steps."
            )
    return stress


def path_error(law: Any, strain: np.ndarray, stress: np.ndarray, dt: float | np.ndarray | None = None) -> float:
    """Relative stress error along paths: √(Σ |Δσ|² / Σ |σ|²), pooled."""
    target = np.asarray(stress, dtype=float)
    return float(np.linalg.norm(path_stress(law, strain, dt) - target) / np.linalg.norm(target))


def fit_paths(
    law: InternalVariableLaw,
    strain: np.ndarray,
    stress: np.ndarray,
    dt: float | np.ndarray | None = None,
    *,
    iterations: int = 60,
) -> InternalVariableLaw:
    """Least squares of all of a law's parameters on paths, by Levenberg–Marquardt (Marquardt 1963).

    Each step is solved to convergence, and differentiated by the implicit function theorem: with the residual r(x, θ,
    state) = 0 of a step, dx = −(∂r/∂x)⁻¹ (∂r/∂θ dθ + ∂r/∂state d state), forward along the path. Parameters that start at
    zero (viscosity, saturation) stay there.

    Parameters
    ----------
    law : InternalVariableLaw
        Where the search starts; not changed.
    strain, stress : array (p, T, 6)
        Paths from the virgin state, Mandel, frame and units of the law. The first entry is after the first step.
    dt : float or array (T,), optional
        Time of each step; needed where the law depends on the rate.
    iterations : int
        Most accepted steps of the search.

    Returns
    -------
    InternalVariableLaw
        The fitted law, `max_strain` the largest strain of the data, `metadata["fit"]` with the error and its course.
    """
    where = "fit_paths"
    paths, target = _checked(where, "strain", strain), _checked(where, "stress", stress)
    if target.shape != paths.shape:
        raise ValueError(f"{where}: expected stress of shape {paths.shape} like the strain, got {target.shape}.")
    if law.rate_dependent and dt is None:
        raise ValueError(f"{where}: expected dt, got none. This law depends on the rate; pass the time of each step.")
    times = np.broadcast_to(0.0 if dt is None else dt, paths.shape[1]).tolist()
    law = copy.deepcopy(law)
    turn = mandel_rotation(law.group.frame.T)
    points = torch.from_numpy(np.ascontiguousarray(np.swapaxes(paths @ turn.T, 0, 1)))
    wanted = torch.from_numpy(np.ascontiguousarray(np.swapaxes(target @ turn.T, 0, 1))) / law.stress_scale
    unit = float(torch.linalg.vector_norm(wanted))
    if not unit > 0:
        raise ValueError(f"{where}: expected stresses that are not all zero, got zeros.")
    slots = [(name, p.shape) for name, p in law.named_parameters()]
    theta = torch.cat([p.detach().reshape(-1) for _, p in law.named_parameters()])

    def unpack(vector: Tensor) -> dict[str, Tensor]:
        parts = torch.split(vector, [shape.numel() for _, shape in slots])
        return {name: part.reshape(shape) for (name, shape), part in zip(slots, parts, strict=True)}

    def store(vector: Tensor) -> None:
        with torch.no_grad():
            for name, parameter in law.named_parameters():
                parameter.copy_(unpack(vector)[name])

    def run(vector: Tensor) -> tuple[float, Any]:
        store(vector)
        found = law.record(points, times)
        if found is None:
            return float("inf"), None
        residual = (found[0] - wanted) / unit
        return float((residual**2).sum()), (residual.reshape(-1), found[1])

    cost, found = run(theta)
    if found is None:
        raise RuntimeError(
            f"{where}: expected a law that converges along the paths, got one that does not. Start closer."
        )
    course = [cost**0.5]
    # first von Mises with the other forms as they are, then everything: from far away the many forms of a random start
    # would soon find a poor minimum of their own
    first = torch.cat([_first_form(name, shape) for name, shape in slots])
    stages = [first, torch.ones_like(first)] if law.weights.shape[0] > 1 else [torch.ones_like(first)]
    for free in stages:
        damping, growth = 0.1, 2.0
        entered = len(course)
        for _ in range(iterations):
            residual, tape = found
            jacobian = jacfwd(lambda v, tape=tape: functional_call(law, unpack(v), (points, times, tape)))(theta)
            jacobian = jacobian.reshape(-1, len(theta)) * free / unit
            normal, slope = jacobian.T @ jacobian, jacobian.T @ residual
            best = cost
            for _ in range(20):
                damped = normal + torch.diag(damping * torch.diag(normal) + 1e-14)
                step = -torch.linalg.solve_ex(damped, slope)[0]
                trial, trial_found = run(theta + step)
                promised = float(-2.0 * slope @ step - step @ normal @ step)
                gain = (cost - trial) / promised
                if gain > 0.01:
                    # damping after Nielsen 1999: a step that falls short of its promise is no licence for a longer one
                    damping = max(damping * max(0.2, 1.0 - (2.0 * gain - 1.0) ** 3), 1e-12)
                    theta, cost, found, growth = theta + step, trial, trial_found, 2.0
                    break
                damping, growth = damping * growth, 2.0 * growth
            course.append(cost**0.5)
            slow = len(course) - entered > 8 and course[-1] > 0.99 * course[-7]
            if cost >= best or cost**0.5 < 1e-7 or slow:
                break
    store(theta)
    law.normalise()
    law.max_strain = float(np.linalg.norm(paths, axis=2).max())
    law.metadata["fit"] = {"training_stress_error": cost**0.5, "training_states": paths[..., 0].size,
                           "paths": len(paths), "course": course}  # fmt: skip
    return law


def _first_form(name: str, shape: torch.Size) -> Tensor:
    """1 for the parameters of the first stage, 0 for those of the second."""
    mask = torch.ones(shape, dtype=torch.float64)
    if name == "weights":
        mask[1:] = 0.0
    return mask.reshape(-1)


def _checked(where: str, what: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, dtype=float)
    if array.ndim != 3 or array.shape[2] != 6 or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{where}: expected finite {what} of shape (paths, steps, 6), Mandel, got {array.shape}. One path is a[None]."
        )
    return array
