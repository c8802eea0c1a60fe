"""The standard deviation of a fitted law's stress: a Laplace approximation, calibrated on left-out training states.

At the minimum of the fit the parameters have the covariance A⁻¹ = (Σ JᵀJ + n diag(prior))⁻¹ up to a factor: the
Gauss–Newton form of Laplace's method (MacKay 1992, doi:10.1162/neco.1992.4.3.448; Immer, Korzepa and Bauer 2021). It knows
where data are few, but not that the law cannot take the material's exact form: for data without noise it is far too small.
Hence the covariance of a stress is taken as

    Σ(E) = s² [ρ G A⁻¹ Gᵀ + (1 − ρ) v r^(2q) 1],   G = ∂S/∂θ, r = |E| / largest |E|, v a mean variance,

which the group leaves alone, and s, ρ and q come from residuals of states that the law has not seen. Leaving out one
symmetry orbit changes the linearised fit by a low-rank update, so its residual is (1 − H)⁻¹ r with H = J A⁻¹ Jᵀ its block
of the hat matrix, without a refit (PRESS; Allen 1974, doi:10.1080/00401706.1974.10489157): exact for a polynomial, a first
order for a network. ρ and q maximise the likelihood of
these residuals under Laplace's double exponential, which a few large ones do not rule; s puts 90 (1 + 1/m) % of them within
1.645 standard deviations, for m orbits (the finite-sample correction of conformal prediction; Lei, G'Sell, Rinaldo, Tibshirani
and Wasserman 2018, doi:10.1080/01621459.2017.1307116).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..laws.uncertainty import CHUNK, Uncertainty, stress_jacobian
from .least_squares import Problem, Reference

#: Fewest orbits that a calibration, a network and held-out states need.
FEWEST_ORBITS = 8
#: Half-width of the 90 % interval of a normal distribution, in standard deviations.
NINETY = 1.6448536269514722
#: Shares ρ and exponents q that are tried.
SHARES = (0.0, 0.1, 0.3, 0.6, 0.8, 1.0)
EXPONENTS = (0.0, 0.5, 1.0, 2.0)
#: Smallest variance, as a share of the mean: no stress is certain.
FLOOR = 1e-4
#: Share of the training states' variance that the stored factor may lack, and the most numbers it may have.
LOST = 1e-4
LARGEST_FACTOR = 100_000


def laplace(problem: Problem, alpha: float, orbits: np.ndarray) -> Uncertainty:
    """Calibrate on the training states of a problem that has been minimised and stored.

    Parameters
    ----------
    problem : Problem
    alpha : float
        Weight decay of its last minimisation.
    orbits : int array (n,)
        Symmetry orbit of each of its states (`StrainData.orbits`); the states of one are left out together.
    """
    law, theta, n = problem.law, problem.theta, len(problem.points)
    if len(orbits) != n or len(np.unique(orbits)) < FEWEST_ORBITS:
        raise ValueError(
            f"laplace: expected the orbits of {n} states, at least {FEWEST_ORBITS} of them distinct, got "
            f"{len(orbits)} and {len(np.unique(orbits))}. Pass the training data's orbits(), and more states."
        )
    jacobian = torch.cat([
        problem.jacobian(theta, slice(start, start + CHUNK)) for start in range(0, n, CHUNK)
    ])  # fmt: skip
    rows = jacobian.reshape(-1, len(theta))
    values, vectors = torch.linalg.eigh(rows.T @ rows + torch.diag(n * problem._prior(alpha)))
    kept = values > 1e-12 * values[-1]
    root = vectors[:, kept] / values[kept].sqrt()  # A⁻¹ = root rootᵀ
    # the law sees its parameters without the stretch and offset of the reference cell, and unscaled
    unscaled = torch.stack([_law_part(problem, column) for column in root.T], dim=1)
    reference = problem.reference()
    strain = torch.from_numpy(reference.to_law((problem.points @ torch.from_numpy(problem.turn)).numpy()))
    derived = torch.cat([stress_jacobian(law, points) @ unscaled for points in strain.split(CHUNK)])
    sensitivity = jacobian @ root
    residual = problem._residual(theta)
    left_out, variance = _left_out(sensitivity, residual, derived, orbits)
    back = Reference(np.linalg.inv(reference.stretch), 0.0)
    error = back.from_law((left_out[:, :6] / problem.weights * problem.stress_unit).numpy() @ problem.turn)
    sizes = np.linalg.norm(strain.numpy(), axis=1)
    level = min(1.0, 0.9 * (1.0 + 1.0 / len(np.unique(orbits))))
    shape, constants = _calibrate(np.abs(error), variance.numpy(), sizes, level)
    _, singular, right = torch.linalg.svd(derived.reshape(-1, root.shape[1]), full_matrices=False)
    tail = 1.0 - torch.cumsum(singular**2, dim=0) / (singular**2).sum()
    rank = min(int((tail > LOST).sum()) + 1, max(1, LARGEST_FACTOR // len(unscaled)))
    return Uncertainty((shape * unscaled @ right[:rank].T).contiguous(), torch.from_numpy(constants))


def _left_out(sensitivity: Tensor, residual: Tensor, derived: Tensor, orbits: np.ndarray) -> tuple[Tensor, Tensor]:
    """Residuals (n, k) of each state, and variances (n, 6) of its stress, of the linearised fit without its orbit.

    `sensitivity` (n, k, r) and `derived` (n, 6, r) are the derivatives of the residuals and of the law's stress with respect
    to parameters whose covariance is the identity.
    """
    error, variance = torch.empty_like(residual), torch.empty_like(derived[:, :, 0])
    for orbit in np.unique(orbits):
        states = torch.from_numpy(np.flatnonzero(orbits == orbit))
        own, seen = sensitivity[states].flatten(0, 1), derived[states].flatten(0, 1)
        remainder = torch.eye(len(own), dtype=own.dtype) - own @ own.T
        error[states] = torch.linalg.solve(remainder, residual[states].flatten()).reshape(len(states), -1)
        crossed = seen @ own.T
        gained = (crossed * torch.linalg.solve(remainder, crossed.T).T).sum(dim=1)
        variance[states] = ((seen * seen).sum(dim=1) + gained).reshape(-1, 6)
    return error, variance


def _law_part(problem: Problem, theta: Tensor) -> Tensor:
    """The law's parameters (p,) in its own order and units, of unknowns of the problem; 0 for what is not fitted."""
    parts = problem._unpack(theta)
    return torch.cat([parts.get(name, torch.zeros_like(p)).reshape(-1) for name, p in problem.law.named_parameters()])


def _calibrate(error: np.ndarray, variance: np.ndarray, sizes: np.ndarray, level: float) -> tuple[float, np.ndarray]:
    """s √ρ and the constants of `Uncertainty.misfit`, from |left-out residuals| (n, 6) and left-out variances (n, 6)."""
    # components that symmetry makes zero whatever the parameters would pass for certainty
    free = variance > 1e-8 * variance.max()
    mean, largest = float(variance[free].mean()), float(sizes.max())
    ratio = np.broadcast_to((sizes / largest)[:, None], error.shape)[free]
    error, variance = error[free], variance[free]
    best, chosen = np.inf, (1.0, 0.0, 1.0)
    for share in SHARES:
        for exponent in EXPONENTS:
            deviation = np.sqrt(mean * FLOOR + share * variance + (1 - share) * mean * ratio ** (2 * exponent))
            scaled = error / deviation
            surprise = np.log(np.mean(scaled)) + np.mean(np.log(deviation))
            if surprise < best:
                best, chosen = surprise, (share, exponent, float(np.quantile(scaled, level)) / NINETY)
    share, exponent, scale = chosen
    constants = [scale**2 * mean * FLOOR, scale**2 * (1 - share) * mean, 2 * exponent, largest]
    return scale * np.sqrt(share), np.array(constants)
