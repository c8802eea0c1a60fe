"""One implicit Euler step of `InternalVariableLaw` for many points: flow rule, yield function, Newton.

Everything is dimensionless and in the standard frame of the group: see `Material`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Residual of a converged point in units of its strain over the yield strain; evaluations and halvings before giving up.
TOLERANCE, EVALUATIONS, HALVINGS = 1e-12, 60, 30


class Material(NamedTuple):
    """The parameters' meaning, in the standard frame. Stress over σ₀, strain over σ₀/c, moduli over c."""

    stiffness: Tensor  # C (6, 6)
    compliance: Tensor  # C⁻¹
    forms: Tensor  # L_i (k, 6, 12), from forces (σ, β)
    strength: Tensor  # σ_y
    kinematic: Tensor  # ⅔ h
    isotropic: Tensor  # k
    saturation: Tensor  # Q
    saturation_rate: Tensor  # b
    viscosity: Tensor  # η, per unit of time


class Solution(NamedTuple):
    """A converged implicit step: forces and multiplier (n, 13), Jacobian (n, 13, 13), which points flow or failed."""

    unknowns: Tensor
    jacobian: Tensor
    flows: Tensor
    failed: Tensor


def equivalent(m: Material, forces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """g (n,), ∂g/∂y (n, 12), and what its curvature needs: |L_i y|² (n, k) and L_iᵀL_i y (n, k, 12)."""
    images = torch.einsum("kab,nb->nka", m.forms, forces)
    squares = (images**2).sum(dim=2)
    value = (squares**2).sum(dim=1) ** 0.25
    slopes = torch.einsum("kab,nka->nkb", m.forms, images)
    safe = torch.where(value > 0.0, value, 1.0)
    return value, (squares[:, :, None] * slopes).sum(dim=1) / safe[:, None] ** 3, squares, slopes


def curvature(m: Material, value: Tensor, gradient: Tensor, squares: Tensor, slopes: Tensor) -> Tensor:
    """∂²g/∂y² (n, 12, 12), from what `_equivalent` gave."""
    safe = torch.where(value > 0.0, value, 1.0)[:, None, None]
    quadratic = torch.einsum("kab,kac->kbc", m.forms, m.forms)
    bent = torch.einsum("nk,kbc->nbc", squares, quadratic) + 2.0 * torch.einsum("nkb,nkc->nbc", slopes, slopes)
    return bent / safe**3 - 3.0 * gradient[:, :, None] * gradient[:, None] / safe


def resistance(m: Material, r: Tensor) -> tuple[Tensor, Tensor]:
    """R and dR/dr (n,)."""
    decay = torch.exp(-m.saturation_rate * r)
    return m.isotropic * r + m.saturation * (1.0 - decay), m.isotropic + m.saturation * m.saturation_rate * decay


def trial_forces(m: Material, strain: Tensor, memory: Tensor) -> Tensor:
    """Forces (n, 12) of a step without flow."""
    return torch.cat([(strain - memory[:, :6]) @ m.stiffness, -m.kinematic * memory[:, 6:12]], dim=1)


def step_residual(m: Material, unknowns: Tensor, trial: Tensor, r: Tensor, dt: float) -> Tensor:
    """Residual (n, 13) of the implicit step: of the flow rules, and of the yield function."""
    forces, multiplier = unknowns[:, :12], unknowns[:, 12]
    value, gradient = equivalent(m, forces)[:2]
    change = forces - trial
    flow = torch.cat([change[:, :6] @ m.compliance, change[:, 6:] / m.kinematic], dim=1)
    yielding = value - m.strength - resistance(m, r + multiplier)[0] - _drag(m, dt) * multiplier
    return torch.cat([flow + multiplier[:, None] * gradient, yielding[:, None]], dim=1)


def _jacobian(m: Material, unknowns: Tensor, r: Tensor, dt: float) -> Tensor:
    """Derivative of `step_residual` (n, 13, 13), symmetric."""
    forces, multiplier = unknowns[:, :12], unknowns[:, 12]
    parts = equivalent(m, forces)
    gradient, slope = parts[1], resistance(m, r + multiplier)[1]
    one = torch.eye(6, dtype=forces.dtype, device=forces.device)
    block = multiplier[:, None, None] * curvature(m, *parts) + torch.block_diag(m.compliance, one / m.kinematic)
    last = torch.cat([gradient, -(slope + _drag(m, dt))[:, None]], dim=1)
    return torch.cat([torch.cat([block, gradient[:, :, None]], dim=2), last[:, None]], dim=1)


def _drag(m: Material, dt: float) -> Tensor:
    """η/Δt. Δt = 0 comes here only with η = 0, or where nothing flows."""
    return m.viscosity / dt if dt > 0.0 else torch.zeros_like(m.viscosity)


def _radial(m: Material, trial: Tensor, share: Tensor) -> Tensor:
    """Deviatoric forces scaled by `share` (n,) back to the yield surface, and the multiplier that fits best (n, 13).

    For von Mises without hardening that is the solution. From the trial state, far beyond yield, Newton would creep.
    """
    mean = trial[:, :3].mean(dim=1, keepdim=True)
    deviator = torch.cat([trial[:, :3] - mean, trial[:, 3:]], dim=1)
    change = (1.0 - share[:, None]) * deviator
    forces = trial - change
    flow = torch.cat([change[:, :6] @ m.compliance, change[:, 6:] / m.kinematic], dim=1)
    normal = equivalent(m, forces)[1]
    multiplier = ((flow * normal).sum(dim=1) / (normal**2).sum(dim=1)).clamp_min(0.0)
    return torch.cat([forces, multiplier[:, None]], dim=1)


def solve_step(m: Material, strain: Tensor, memory: Tensor, dt: float) -> Solution:
    """Implicit Euler for n points: Newton from the radial return, each point with its own step length.

    All points are evaluated in every iteration, those that are done without effect, so that the arithmetic of a point
    does not hang on its neighbours.
    """
    trial, r = trial_forces(m, strain, memory), memory[:, 12]
    elastic = torch.cat([trial, torch.zeros_like(trial[:, :1])], dim=1)
    strength = m.strength + resistance(m, r)[0]
    value = equivalent(m, trial)[0]
    bound = TOLERANCE * (1.0 + torch.linalg.vector_norm(trial, dim=1) + torch.linalg.vector_norm(memory, dim=1))
    # a committed state lies on the yield surface to the tolerance: elastic, so that rounding does not choose its tangent
    flows = value > strength + 10.0 * bound
    if dt == 0.0 and float(m.viscosity) > 0.0:
        flows = torch.zeros_like(flows)
    if not bool(flows.any()):
        return Solution(elastic, _jacobian(m, elastic, r, dt), flows, torch.zeros_like(flows))
    unknowns = torch.where(flows[:, None], _radial(m, trial, strength / torch.where(flows, value, 1.0)), elastic)
    residual, jacobian = step_residual(m, unknowns, trial, r, dt), _jacobian(m, unknowns, r, dt)
    size = torch.linalg.vector_norm(residual, dim=1)
    length = torch.ones_like(size)
    active = flows.clone()
    direction = -torch.linalg.solve_ex(jacobian, residual)[0]
    for _ in range(EVALUATIONS):
        moved = unknowns + torch.where(active, length, 0.0)[:, None] * direction
        moved = torch.where(active[:, None], moved, unknowns)
        # the multiplier stays positive: at least a tenth of what it was
        moved[:, 12] = torch.maximum(moved[:, 12], 0.1 * unknowns[:, 12])
        new_residual = step_residual(m, moved, trial, r, dt)
        new_size = torch.linalg.vector_norm(new_residual, dim=1)
        accepted = active & ((new_size <= (1.0 - 1e-4 * length) * size) | (new_size <= bound))
        unknowns = torch.where(accepted[:, None], moved, unknowns)
        jacobian = torch.where(accepted[:, None, None], _jacobian(m, moved, r, dt), jacobian)
        residual = torch.where(accepted[:, None], new_residual, residual)
        size = torch.where(accepted, new_size, size)
        direction = torch.where(accepted[:, None], -torch.linalg.solve_ex(jacobian, residual)[0], direction)
        length = torch.where(accepted, 1.0, 0.5 * length)
        active = active & ~(accepted & (size <= bound)) & (length > 0.5**HALVINGS)
        if not bool(active.any()):
            break
    converged = (size <= bound) & (unknowns[:, 12] >= 0.0)
    return Solution(unknowns, jacobian, flows, flows & ~converged)
