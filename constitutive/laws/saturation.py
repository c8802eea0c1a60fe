"""Strain that stops growing beyond the trained range: what a network sees, so that far away the polynomial rules.

y = x / (1 + |x|⁴/s⁴)^¼ keeps the direction of x and its length up to about s, and never exceeds s. It is an isotropic
function, so a symmetric function of y is one of x; and y = x + O(|x|⁵), so all derivatives at zero up to the fourth stay. What
a network learned inside the range is then held outside it, where a free network's growth is accidental.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crystals import mandel


class Saturation:
    """y(x), and the way back for slope and Hessian.

    With q = |x|²/s² and g = (1 + q²)^(−¼): y = g x, ∂y/∂x = g 1 + h x xᵀ, h = 2 g′/s², and, for a constant r, the Hessian of
    r·y is h (r xᵀ + x rᵀ + (r·x) 1) + (2h′/s²) (r·x) x xᵀ.

    Parameters
    ----------
    strain : (n, 6)
        x, Mandel.
    scale : float
        s.
    """

    def __init__(self, strain: Tensor, scale: float) -> None:
        self.strain = strain
        q = (strain * strain).sum(dim=1) / scale**2
        over = 1.0 / (1.0 + q * q)
        self.g = over**0.25
        self.h = -q * over * self.g / scale**2
        # 2 h′ / s²
        self.bend = -2.0 * over * self.g * (1.0 - 2.5 * q * q * over) / scale**4
        self.value = self.g[:, None] * strain

    def slope(self, slope: Tensor) -> Tensor:
        """∂N/∂x (n, 6) from ∂N/∂y."""
        along = self.h * (slope * self.strain).sum(dim=1)
        return self.g[:, None] * slope + along[:, None] * self.strain

    def hessian(self, slope: Tensor, entries: Tensor) -> Tensor:
        """21 entries of ∂²N/∂x² from ∂N/∂y and those of ∂²N/∂y²."""
        x, g, h = self.strain, self.g, self.h
        hessian = mandel.unpack_upper(entries)
        pulled = (hessian @ x[:, :, None])[:, :, 0]
        along = (slope * x).sum(dim=1)
        # what meets x once, x twice, and x not at all
        once = (g * h)[:, None] * pulled + h[:, None] * slope
        twice = h * h * (pulled * x).sum(dim=1) + self.bend * along
        mixed = once + 0.5 * twice[:, None] * x
        one = torch.eye(6, dtype=x.dtype, device=x.device)
        full = (g * g)[:, None, None] * hessian + (h * along)[:, None, None] * one
        full = full + mixed[:, :, None] * x[:, None, :] + x[:, :, None] * mixed[:, None, :]
        return mandel.pack_upper(full)
