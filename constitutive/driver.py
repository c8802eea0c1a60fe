"""One material point: some strains given, some stresses given. Many points at once, and paths of many steps.

plane_stress = np.array([0, 0, 1, 1, 1, 0], bool)                       # S33 = S23 = S13 = 0
point = constrained_response(law, strain, stress_given=plane_stress)    # point.stress, point.condensed
for step in uniaxial(copper, [1, 1, 0], to=0.05):                       # lateral faces free
    print(step.strain, step.stress, step.elliptic)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from crystals import mandel
from crystals.rotations import check_rotation, mandel_rotation

from .laws.law import INVALID, Law

#: Residual stress of a converged point, in units of |C| max(|E|, 1e-3).
TOLERANCE = 1e-11
#: Most evaluations of the law for one point, and how often its Newton step is halved before the point is given up.
EVALUATIONS, HALVINGS = 60, 20


class PointResponse(NamedTuple):
    """What n material points answer, in the sample frame. NaN where a point did not converge.

    Attributes
    ----------
    strain, stress : array (n, 6)
        All components, the given ones and those that were found, Mandel.
    energy : array (n,)
        Energy per reference volume.
    tangent : array (n, 6, 6)
        ∂S/∂E of the law.
    condensed : array (n, 6, 6)
        Derivative of the free stresses with respect to the given strains, the given stresses held:
        C_aa − C_ab C_bb⁻¹ C_ba, with a the components of given strain. Zero in the other rows and columns.
    state : array (n, state_width)
        Internal variables after the step, crystal frame.
    status : array (n,) of int
        As in `constitutive.laws.law.Response`.
    converged : array (n,) of bool
        Whether the given stresses are met.
    """

    strain: np.ndarray
    stress: np.ndarray
    energy: np.ndarray
    tangent: np.ndarray
    condensed: np.ndarray
    state: np.ndarray
    status: np.ndarray
    converged: np.ndarray


def constrained_response(
    law: Law,
    strain: np.ndarray,
    stress: np.ndarray | float = 0.0,
    *,
    stress_given: np.ndarray,
    state: np.ndarray | None = None,
    dt: float | None = None,
    orientation: np.ndarray | None = None,
    inputs: np.ndarray | None = None,
) -> PointResponse:
    """Respond to some components of strain and some of stress.

    Newton's method on the components of given stress, each point with its own step length (halved where the residual
    does not fall or the law is not defined); points that have converged are left alone, so no point hangs on another.

    Parameters
    ----------
    law : Law
        Any law; `state` and `dt` are handed to it.
    strain : array (n, 6)
        Mandel, sample frame. Where the stress is given instead, the value from which the search starts (0 will do).
    stress : array (6,), (n, 6) or float
        Second Piola–Kirchhoff (small strain: Cauchy) stress, Mandel, sample frame, in the law's units. Read only where
        the stress is given. S33 = S23 = S13 = 0 is the same statement for S, P and σ: the face with normal 3 is free.
    stress_given : array of bool (6,) or (n, 6)
        Components whose stress is given. Plane stress: the third, fourth and fifth.
    state : array (n, state_width), optional
        Committed internal variables; virgin by default.
    dt : float, optional
        Time step.
    orientation : array (3, 3) or (n, 3, 3), optional
        Q, crystal → sample; identity by default.
    inputs : array (n, k), optional
        Values of the law's `input_names`.

    Returns
    -------
    PointResponse

    Raises
    ------
    ValueError
        For wrong shapes, or values that are not finite. Points that do not converge do not raise: see `converged`.
    """
    where = "constrained_response"
    points = np.array(strain, dtype=float)
    if points.ndim != 2 or points.shape[1] != 6:
        raise ValueError(
            f"{where}: expected strain of shape (n, 6), Mandel, got {points.shape}. One strain is strain[None]."
        )
    given = np.asarray(stress_given)
    if given.dtype != bool:
        raise TypeError(
            f"{where}: expected stress_given of booleans, got dtype {given.dtype}. True where the stress is given."
        )
    if given.shape not in ((6,), points.shape):
        raise ValueError(
            f"{where}: expected stress_given of shape (6,) or {points.shape}, got {given.shape}. True where the stress "
            "is given."
        )
    given = np.broadcast_to(given, points.shape)
    target = np.asarray(stress, dtype=float)
    if target.shape not in ((), (6,), points.shape):
        raise ValueError(f"{where}: expected stress of shape (6,) or {points.shape}, got {target.shape}.")
    target = np.broadcast_to(target, points.shape)
    if not np.all(np.isfinite(target[given])):
        raise ValueError(f"{where}: expected finite stresses where they are given, got NaN or infinity.")
    turn = None if orientation is None else mandel_rotation(check_rotation(f"{where}(orientation)", orientation))
    if turn is not None and turn.shape not in ((6, 6), (len(points), 6, 6)):
        raise ValueError(
            f"{where}: expected orientation of shape (3, 3) or ({len(points)}, 3, 3), got {(*turn.shape[:-2], 3, 3)}."
        )

    found = _respond(law, points, state, dt, turn, inputs)
    residual = np.where(given, found.stress - target, 0.0)
    active = (found.status != INVALID) & ~_met(points, residual, found.tangent)
    length, direction = np.ones(len(points)), residual
    if np.any(active):
        direction, solved = _newton_step(found.tangent, residual, given)
        active &= solved
    for _ in range(EVALUATIONS):
        if not np.any(active):
            break
        # every point is evaluated again, so that the arithmetic of one does not hang on how many others still run
        trial = np.where(active[:, None], points + length[:, None] * direction, points)
        answer = _respond(law, trial, state, dt, turn, inputs)
        defect = np.where(given, answer.stress - target, 0.0)
        with np.errstate(invalid="ignore"):
            met = _met(trial, defect, answer.tangent)
            falls = np.linalg.norm(defect, axis=1) <= (1.0 - 1e-4 * length) * np.linalg.norm(residual, axis=1)
        accepted = active & (answer.status != INVALID) & (met | falls)
        points[accepted], residual[accepted] = trial[accepted], defect[accepted]
        for old, new in zip(found, answer, strict=True):
            old[accepted] = new[accepted]
        step, solved = _newton_step(found.tangent, residual, given)
        direction[accepted] = step[accepted]
        length = np.where(accepted, 1.0, 0.5 * length)
        active &= ~(accepted & (met | ~solved)) & (length > 0.5**HALVINGS)
    converged = (found.status != INVALID) & _met(points, residual, found.tangent)
    condensed, solved = _condense(found.tangent, given)
    converged &= solved
    for array in (points, *found[:4], condensed):
        array[~converged] = np.nan
    return PointResponse(
        points, found.stress, found.energy, found.tangent, condensed, found.state, found.status, converged
    )


class _Answer(NamedTuple):
    """The law's response in the sample frame, arrays that may be written to."""

    energy: np.ndarray
    stress: np.ndarray
    tangent: np.ndarray
    state: np.ndarray
    status: np.ndarray


def _respond(
    law: Law, strain: np.ndarray, state: np.ndarray | None, dt: float | None, turn: np.ndarray | None,
    inputs: np.ndarray | None,
) -> _Answer:  # fmt: skip
    if turn is not None:
        strain = (np.swapaxes(turn, -1, -2) @ strain[..., None])[..., 0]
    energy, stress, entries, new_state, status = law.response(strain, state, inputs, dt=dt)
    tangent = mandel.unpack_upper(entries) if law.tangent_entries == 21 else entries.reshape(-1, 6, 6)
    if turn is not None:
        stress = (turn @ stress[..., None])[..., 0]
        tangent = turn @ tangent @ np.swapaxes(turn, -1, -2)
    return _Answer(*(np.array(array) for array in (energy, stress, tangent, new_state, status)))


def _met(strain: np.ndarray, residual: np.ndarray, tangent: np.ndarray) -> np.ndarray:
    scale = np.linalg.norm(tangent, axis=(1, 2)) * np.maximum(np.linalg.norm(strain, axis=1), 1e-3)
    return np.linalg.norm(residual, axis=1) <= TOLERANCE * scale


def _solve(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solutions of n systems, and which of them were regular; singular ones do not stop the others."""
    solution, info = torch.linalg.solve_ex(torch.from_numpy(matrix), torch.from_numpy(right))
    answer = solution.numpy()
    return answer, (info.numpy() == 0) & np.isfinite(answer).all(axis=(1, 2))


def _among(tangent: np.ndarray, given: np.ndarray) -> np.ndarray:
    """C_bb of the components b of given stress, the identity elsewhere (n, 6, 6)."""
    both = given[:, :, None] & given[:, None, :]
    return np.where(both, tangent, np.where(np.eye(6, dtype=bool), 1.0, 0.0))


def _newton_step(tangent: np.ndarray, residual: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    step, solved = _solve(_among(tangent, given), -residual[:, :, None])
    return step[:, :, 0], solved


def _condense(tangent: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    free = ~given
    coupling = np.where(given[:, :, None] & free[:, None, :], tangent, 0.0)
    relaxed, solved = _solve(_among(tangent, given), coupling)
    both = free[:, :, None] & free[:, None, :]
    back = np.where(free[:, :, None] & given[:, None, :], tangent, 0.0)
    return np.where(both, tangent - back @ relaxed, 0.0), solved


def load_path(
    law: Law,
    strain: np.ndarray,
    stress: np.ndarray | float = 0.0,
    *,
    stress_given: np.ndarray,
    dt: np.ndarray | float | None = None,
    orientation: np.ndarray | None = None,
    start: PointResponse | None = None,
    cuts: int = 10,
) -> Iterator[PointResponse]:
    """Follow a path of given strains and stresses, step by step; each step starts from the state of the last.

    Nothing is kept but the last step, so memory does not grow with the path. A step that some point fails is cut in
    halves, strain, stress and time alike, for all points together, and goes on.

    Parameters
    ----------
    law, stress_given, orientation
        As in `constrained_response`.
    strain : array (m, 6) or (m, n, 6)
        Targets of m steps, for one or n points; read where the strain is given.
    stress : float or array that broadcasts to that shape
        Targets of stress; read where the stress is given.
    dt : float or array (m,), optional
        Time that each step takes.
    start : PointResponse, optional
        The point from which the path goes on, with its state; by default the virgin material, unstrained.
    cuts : int
        How often a step is halved before the path is given up.

    Yields
    ------
    PointResponse
        At each target.

    Raises
    ------
    RuntimeError
        Where a step fails and can be cut no more. The steps yielded before stand.
    """
    where = "load_path"
    targets = np.asarray(strain, dtype=float)
    targets = targets[:, None] if targets.ndim == 2 else targets
    if targets.ndim != 3 or targets.shape[2] != 6:
        raise ValueError(
            f"{where}: expected strain of shape (m, 6) or (m, n, 6), Mandel, got {np.shape(strain)}. One step is m = 1."
        )
    stresses = np.asarray(stress, dtype=float)
    stresses = stresses[:, None] if stresses.ndim == 2 else stresses
    try:
        stresses = np.broadcast_to(stresses, targets.shape)
    except ValueError:
        raise ValueError(
            f"{where}: expected stress that broadcasts to {targets.shape}, got {np.shape(stress)}. Give one per step."
        ) from None
    times = None if dt is None else np.broadcast_to(np.asarray(dt, dtype=float), len(targets))
    n = targets.shape[1]
    options: dict[str, Any] = {"stress_given": stress_given, "orientation": orientation}
    if start is None:
        rest = np.zeros((n, 6))
        none = np.zeros(6, dtype=bool)
        # where the law stands before the first step: all strains given, no time passes
        start = constrained_response(law, rest, stress_given=none, dt=0.0, orientation=orientation)
    elif start.strain.shape != (n, 6):
        raise ValueError(f"{where}: expected a start of {n} points like the path, got {len(start.strain)}.")
    return _follow(law, targets, stresses, times, start, cuts, options)


def _follow(
    law: Law, targets: np.ndarray, stresses: np.ndarray, times: np.ndarray | None, last: PointResponse, cuts: int,
    options: dict[str, Any],
) -> Iterator[PointResponse]:  # fmt: skip
    given = np.broadcast_to(options["stress_given"], targets.shape[1:])
    for number, (strain, stress) in enumerate(zip(targets, stresses, strict=True)):
        done, share = 0.0, 1.0
        first_strain, first_stress = last.strain, last.stress
        while done < 1.0:
            reached = min(done + share, 1.0)
            aim = first_strain + reached * (strain - first_strain)
            aim_stress = first_stress + reached * (stress - first_stress)
            change = np.where(given, 0.0, aim - last.strain)
            demand = aim_stress - last.stress - np.einsum("nij,nj->ni", last.tangent, change)
            step, solved = _newton_step(last.tangent, np.where(given, -demand, 0.0), given)
            guess = np.where(given, last.strain + np.where(solved[:, None], step, 0.0), aim)
            dt = None if times is None else (reached - done) * times[number]
            point = constrained_response(law, guess, aim_stress, state=last.state, dt=dt, **options)
            if np.all(point.converged):
                last, done, share = point, reached, min(2.0 * share, 1.0)
                continue
            share *= 0.5
            if share < 0.5**cuts:
                failed = np.flatnonzero(~point.converged)
                raise RuntimeError(
                    f"load_path: expected every point to converge, got {len(failed)} of {len(guess)} that do not (the "
                    f"first is point {failed[0]}), in step {number} after {cuts} cuts, last converged at strain "
                    f"{np.round(last.strain[failed[0]], 5).tolist()}. The material may not bear more there: look at "
                    "its tangent, or take smaller steps."
                )
        yield last
