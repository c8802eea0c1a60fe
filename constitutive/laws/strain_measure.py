"""Strains in which an energy is expanded: between Green–Lagrange and its mirror image, without eigenvalues.

e = ½ (1 + m) E + ½ (1 − m) · ½ (1 − C⁻¹), C = 1 + 2E, for −1 ≤ m ≤ 1. m = 1 is Green–Lagrange strain. m = 0 is
¼ (C − C⁻¹), which agrees with the logarithmic strain to second order (Bažant 1998, doi:10.1115/1.2807001). m = −1 is
½ (1 − C⁻¹), the material form of the strain in which Birch expanded (Birch 1947, doi:10.1103/PhysRev.71.809): with it, few
constants describe a crystal from compression to tension. All are isotropic functions of E, so any polynomial or network
of e keeps the symmetry that it has as a function of E; e = E + O(E²), so constants of second order are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crystals import mandel

_WEIGHTS = torch.from_numpy(mandel.WEIGHTS)
_PAIRS = torch.from_numpy(mandel.WEIGHTS[:, None] * mandel.WEIGHTS[None, :])
_POSITION = torch.from_numpy(mandel.POSITION)
_ROWS, _COLUMNS = torch.from_numpy(mandel.ROWS), torch.from_numpy(mandel.COLUMNS)


def to_tensor(vector: Tensor) -> Tensor:
    """Symmetric tensors (..., 3, 3) of Mandel vectors (..., 6)."""
    return (vector / _WEIGHTS.to(vector.device))[..., _POSITION]


def to_vector(tensor: Tensor) -> Tensor:
    """Mandel vectors (..., 6) of symmetric tensors (..., 3, 3)."""
    return tensor[..., _ROWS, _COLUMNS] * _WEIGHTS.to(tensor.device)


def sandwich(a: Tensor, b: Tensor) -> Tensor:
    """Mandel matrix (..., 6, 6) of X ↦ ½ (a X b + b X a) for symmetric a, b (..., 3, 3)."""
    i, j = _ROWS[:, None], _COLUMNS[:, None]
    k, l = _ROWS[None, :], _COLUMNS[None, :]
    total = (
        a[..., i, k] * b[..., j, l]
        + a[..., i, l] * b[..., j, k]
        + b[..., i, k] * a[..., j, l]
        + b[..., i, l] * a[..., j, k]
    )
    return 0.25 * total * _PAIRS.to(a.device)


class StrainMeasure:
    """e(E) at some strains, and the way back for stress and tangent.

    Parameters
    ----------
    strain : (n, 6)
        Green–Lagrange, Mandel, 1 + 2E positive definite.
    m : float
    """

    def __init__(self, strain: Tensor, m: float) -> None:
        one = torch.eye(3, dtype=strain.dtype, device=strain.device)
        self.green, self.mirrored = 0.5 * (1.0 + m), 0.5 * (1.0 - m)
        self.inverse = torch.linalg.inv(one + 2.0 * to_tensor(strain))
        # ½ (1 − C⁻¹) = C⁻¹ E, which keeps full relative accuracy at small strain
        self.value = self.green * strain + self.mirrored * to_vector(self.inverse @ to_tensor(strain))

    def stress(self, conjugate: Tensor) -> Tensor:
        """S = ∂W/∂E (n, 6) from ∂W/∂e (n, 6), with δe = g δE + m C⁻¹ δE C⁻¹."""
        pulled = self.inverse @ to_tensor(conjugate) @ self.inverse
        return self.green * conjugate + self.mirrored * to_vector(pulled)

    def jacobian(self) -> Tensor:
        """∂e/∂E (n, 6, 6), symmetric."""
        one = torch.eye(6, dtype=self.inverse.dtype, device=self.inverse.device)
        return self.green * one + self.mirrored * sandwich(self.inverse, self.inverse)

    def tangent(self, conjugate: Tensor, entries: Tensor) -> Tensor:
        """21 entries of ∂S/∂E from ∂W/∂e (n, 6) and the 21 entries of ∂²W/∂e² (n, 21)."""
        jacobian = self.jacobian()
        pulled = self.inverse @ to_tensor(conjugate) @ self.inverse
        bent = jacobian @ mandel.unpack_upper(entries) @ jacobian
        return mandel.pack_upper(bent - 4.0 * self.mirrored * sandwich(pulled, self.inverse))
