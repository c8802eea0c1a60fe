"""Compressible Neo-Hookean law: a closed formula, for comparison and for checking a solver."""

from __future__ import annotations

from typing import Any

import torch

from crystals.groups import PointGroup
from crystals.mandel import PAIRS, UPPER_COLUMNS, UPPER_ROWS

from .law import Law

_ROOT2 = 2.0**0.5


class NeoHookeanLaw(Law):
    """W = μ/2 (tr C − 3 − 2 ln J) + λ/2 (ln J)², C = 1 + 2E (Simo and Pister 1984; Holzapfel 2000, eq. 6.148).

    Parameters
    ----------
    mu, lam : float
        Lamé constants μ and λ in `units`.
    units : str
        Unit of both and of the stress.
    """

    def __init__(self, mu: float, lam: float, units: str = "GPa") -> None:
        super().__init__(PointGroup("isotropic"), units=units)
        if not (mu > 0 and 3 * lam + 2 * mu > 0):
            raise ValueError(f"NeoHookeanLaw: expected μ > 0 and λ > −2μ/3, got μ = {mu}, λ = {lam}.")
        self.mu, self.lam = float(mu), float(lam)

    def config(self) -> dict[str, Any]:
        return {"mu": self.mu, "lam": self.lam, "units": self.units}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NeoHookeanLaw:
        return cls(**config)

    def _evaluate(self, strain: torch.Tensor, tangent: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        a, b, c = (1.0 + 2.0 * strain[:, k] for k in range(3))
        d, e, f = (_ROOT2 * strain[:, k] for k in (3, 4, 5))
        cofactor = (b * c - d * d, a * c - e * e, a * b - f * f, e * f - a * d, d * f - b * e, d * e - c * f)
        determinant = a * cofactor[0] + f * cofactor[5] + e * cofactor[4]
        i11, i22, i33, i23, i13, i12 = (entry / determinant for entry in cofactor)
        log_jacobian = 0.5 * torch.log(determinant)
        energy = 0.5 * self.mu * (a + b + c - 3.0 - 2.0 * log_jacobian) + 0.5 * self.lam * log_jacobian**2
        inverse = torch.stack([i11, i22, i33, _ROOT2 * i23, _ROOT2 * i13, _ROOT2 * i12], dim=1)
        # S = μ (1 − C⁻¹) + λ ln J C⁻¹
        factor = (self.lam * log_jacobian - self.mu)[:, None]
        stress = factor * inverse
        stress[:, :3] += self.mu
        if not tangent:
            return energy, stress, None
        # ∂C⁻¹/∂E = −2 C⁻¹ ⊙ C⁻¹ with (A ⊙ A)_ijkl = ½ (A_ik A_jl + A_il A_jk)
        full = torch.stack([i11, i12, i13, i12, i22, i23, i13, i23, i33], dim=1).reshape(-1, 3, 3)
        entries = []
        pairs = PAIRS
        for row, column in zip(UPPER_ROWS, UPPER_COLUMNS, strict=True):
            (i, j), (k, l) = pairs[row], pairs[column]
            weight = (1.0 if row < 3 else _ROOT2) * (1.0 if column < 3 else _ROOT2)
            product = 0.5 * (full[:, i, k] * full[:, j, l] + full[:, i, l] * full[:, j, k]) * weight
            entries.append(self.lam * inverse[:, row] * inverse[:, column] - 2.0 * factor[:, 0] * product)
        return energy, stress, torch.stack(entries, dim=1)
