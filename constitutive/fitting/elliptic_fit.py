"""Fit on with a penalty that keeps a box of strains strongly elliptic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from crystals.moduli import hemisphere
from crystals.rotations import mandel_rotation

from ..stability import acoustic_eigenvalue, box_strains, ellipticity_penalty
from .least_squares import Problem, Shown

#: Weight of the penalty beside the mean squared residual of the data, and its margin as a share of the smallest
#: stiffness eigenvalue.
WEIGHT = 0.1
MARGIN = 0.05
#: A finite set of strains is asked; after each round the worst of a fresh sample join it.
ROUNDS = 8
WORST = 48
DIRECTIONS = 100
UNSEEN = 1024


def keep_elliptic(problem: Problem, half_width: float, alpha: float, shown: Shown | None = None) -> dict[str, Any]:
    """Refit a fitted law such that strains with |E_i| ≤ half_width in all six Mandel components are elliptic.

    Parameters
    ----------
    problem : Problem
        After its last `minimise` and `store`; its law is changed.
    half_width : float
        Strain is counted from the stress-free cell.
    alpha : float
        Weight decay of the network.

    Returns
    -------
    dict
        elliptic_box, and on strains that were not asked: elliptic_share and smallest_acoustic_eigenvalue.

    Raises
    ------
    RuntimeError
        Where the box is still not elliptic after all rounds.
    """
    law, scale = problem.law, problem.law.energy_scale
    prior, n = problem._prior(alpha), len(problem.points)
    turn = mandel_rotation(law.group.frame.T)
    normals = hemisphere(DIRECTIONS)
    margin = MARGIN * float(np.linalg.eigvalsh(law.stiffness())[0]) / scale
    theta = problem.theta.clone().requires_grad_()
    asked = np.zeros((0, 6))
    share, smallest = 0.0, -np.inf
    for number in range(ROUNDS):
        fresh = box_strains(-half_width, half_width, UNSEEN, seed=number)
        values = acoustic_eigenvalue(law, fresh)
        share, smallest = float(np.mean(values > 0)), float(values.min())
        if smallest > 0 and number > 0:
            break
        asked = np.concatenate([asked, fresh[np.argsort(values)[:WORST]]])
        points = torch.from_numpy(asked @ turn.T)
        optimiser = torch.optim.LBFGS(
            [theta], max_iter=100, history_size=50, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def objective(optimiser: Any = optimiser, points: torch.Tensor = points) -> torch.Tensor:
            optimiser.zero_grad()
            parts = problem._unpack(theta)
            parts = {name: value for name, value in parts.items() if name not in ("offset", "stretch")}
            penalty = ellipticity_penalty(
                lambda point: functional_call(law, parts, (point[None],))[1][0], points, normals, margin
            )
            loss = (problem._residual(theta) ** 2).sum() / n + (prior * (theta - problem.centre) ** 2).sum()
            loss = loss + WEIGHT * ((penalty / margin) ** 2).sum() / len(points)
            loss.backward()
            if shown is not None:
                shown()
            return loss

        optimiser.step(objective)
        problem.theta = theta.detach().clone()
        problem.store()
    if not smallest > 0:
        raise RuntimeError(
            f"fit: expected a law elliptic for all |E_i| ≤ {half_width:g}, got {100 * share:.1f} % of unseen strains after "
            f"{ROUNDS} rounds. Ask for a smaller box; the data themselves may not be elliptic there."
        )
    return {"elliptic_box": half_width, "elliptic_share": share, "smallest_acoustic_eigenvalue": smallest}
