"""Gaussian processes on moduli of crystals: scales by marginal likelihood, robust against labels that are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..moduli_process import PARAMETERS, TARGETS, ModuliProcess, kernel

_START = {
    "signal": -0.5, "linear": -3.0, "shares": -1.0, "share_signal": -2.0, "share_linear": -2.0, "share_length": 0.0,
    "noise": -3.0,
}  # fmt: skip
#: Degrees of freedom of Student's t for the labels' errors.
_FREEDOM = 4.0


def fit_process(
    crystals: Sequence[tuple[np.ndarray, np.ndarray]],
    bulk: np.ndarray,
    shear: np.ndarray,
    *,
    steps: tuple[int, ...] = (30, 25),
    subset: int = 800,
    seed: int = 0,
) -> ModuliProcess:
    """Fit the processes to known moduli.

    Parameters
    ----------
    crystals : sequence of (descriptors, shares)
        From `crystal_row`.
    bulk, shear : (n,)
        GPa.
    steps : tuple of int
        Steps of Adam on the negative log marginal likelihood, each on another random subset of crystals; after each
        round the noise of every crystal is weighted anew.
    subset : int
        Crystals in a step.
    seed : int
        Of the subsets.

    Notes
    -----
    A crystal whose leave-one-out residual r is large has noise larger by (4 + (r/s)²)/5, s the residuals' median over
    0.67: the expectation–maximisation weights of Student's t with 4 degrees of freedom (Lange, Little and Taylor 1989,
    doi:10.2307/2290063). Leave-one-out residuals: Rasmussen and Williams 2006, eq. 5.12.
    """
    descriptors = np.stack([row for row, _ in crystals])
    width = descriptors.std(axis=0)
    # a column without any spread says nothing
    width[width < 1e-9] = np.inf
    # half precision is what a file holds: the weights are solved for what will be read
    shares = torch.from_numpy(np.stack([share for _, share in crystals])).half().double()
    logarithms = np.log(np.stack([bulk, shear, shear / bulk]))
    offset, unit = logarithms.mean(axis=1), logarithms.std(axis=1)
    none = torch.zeros(0)
    made = ModuliProcess(
        torch.from_numpy(descriptors.mean(axis=0)), torch.from_numpy(width), none, shares, none, none, none,
        torch.from_numpy(offset), torch.from_numpy(unit),
    )  # fmt: skip
    made.rows = made.scaled(descriptors).half().double()
    fits = [
        _fit(made.rows, shares, torch.from_numpy((logarithms[i] - offset[i]) / unit[i]), steps, subset, seed)
        for i in range(len(TARGETS))
    ]
    made.scales, made.parameters, made.weights = (torch.stack(parts) for parts in zip(*fits, strict=True))
    return made


def _fit(
    rows: Tensor, shares: Tensor, target: Tensor, steps: tuple[int, ...], subset: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales (f,), parameters and weights (n,) of one process."""
    random = np.random.default_rng(seed)
    n, f = rows.shape
    scales = torch.full((f,), -0.5 * float(np.log(f)) - 0.3, dtype=torch.float64, requires_grad=True)
    parameters = torch.tensor([_START[name] for name in PARAMETERS], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([scales, parameters], lr=0.08)
    noise = torch.ones(n, dtype=torch.float64)
    for count in steps:
        for _ in range(count):
            chosen = torch.from_numpy(random.permutation(n)[:subset])
            some = rows[chosen], shares[chosen]
            covariance = kernel(some, some, scales, parameters) + torch.diag(parameters[-1].exp() * noise[chosen])
            root = torch.linalg.cholesky(covariance)
            solved = torch.cholesky_solve(target[chosen, None], root)[:, 0]
            loss = (0.5 * target[chosen] @ solved + root.diagonal().log().sum()) / len(chosen)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            covariance = kernel((rows, shares), (rows, shares), scales, parameters)
            for _ in range(2):
                inverse = torch.cholesky_inverse(
                    torch.linalg.cholesky(covariance + torch.diag(parameters[-1].exp() * noise))
                )
                left_out = inverse @ target / inverse.diagonal()
                spread = 1.5 * left_out.abs().median()
                noise = (_FREEDOM + (left_out / spread) ** 2) / (_FREEDOM + 1.0)
    with torch.no_grad():
        weights = torch.linalg.solve(covariance + torch.diag(parameters[-1].exp() * noise), target)
    return scales.detach(), parameters.detach(), weights
