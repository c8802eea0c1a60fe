"""Small-strain laws at finite strain: the law is asked in logarithmic strain, stress and tangent are pulled back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crystals import mandel

from .history import HistoryLaw
from .internal_variables import InternalVariableLaw
from .law import Law
from .polynomial import PolynomialLaw
from .strain_measure import to_tensor, to_vector
from .von_mises import VonMisesLaw

_INSIDE: dict[str, type[Law]] = {law.__name__: law for law in (VonMisesLaw, InternalVariableLaw, PolynomialLaw)}
#: The six Mandel unit vectors as tensors.
_BASIS = to_tensor(torch.eye(6, dtype=torch.float64))
#: Spread of three numbers over their mean from which a difference quotient of quotients is as good as the series.
_APART = 0.25


class LogarithmicStrainLaw(HistoryLaw):
    """A small-strain law at finite strain, in the Lagrangian logarithmic strain ε = ½ ln C = ½ ln (1 + 2E).

    With T, 𝔼 the inner law's stress and tangent at ε, S = T : ∂ε/∂E and ∂S/∂E = (∂ε/∂E)ᵀ 𝔼 ∂ε/∂E + T : ∂²ε/∂E² (Miehe,
    Apel and Lambrecht 2002, doi:10.1016/S0045-7825(02)00438-3); the derivatives by divided differences of the logarithm
    over the principal strains (Daleckii and Krein 1965), which hold where these meet. Plasticity inside is additive,
    ε = εe + εp, and tr ε = ln J, so plastic flow that keeps tr εp = 0 keeps the volume. The internal variables are those of
    the inner law, its strains logarithmic. Isotropic functions of E keep the inner law's symmetry.

    Additive and multiplicative plasticity agree where principal directions stay, and drift apart in large shear.

    Parameters
    ----------
    law : VonMisesLaw, InternalVariableLaw or PolynomialLaw
        With strain_measure='small'.
    max_strain : float
        Trained range of |E|.

    Raises
    ------
    TypeError, ValueError
        For another law, or one of another strain measure.
    """

    def __init__(self, law: Law, *, max_strain: float = float("inf")) -> None:
        if type(law).__name__ not in _INSIDE or type(law) is not _INSIDE[type(law).__name__]:
            raise TypeError(
                f"LogarithmicStrainLaw: expected {', '.join(_INSIDE)}, got {type(law).__name__}. Not supported: others."
            )
        if law.strain_measure != "small":
            raise ValueError(
                f"LogarithmicStrainLaw: expected a law of strain measure 'small', got {law.strain_measure!r}. Make it with "
                "strain_measure='small': its stress answers to the logarithmic strain."
            )
        super().__init__(law.group, units=law.units, max_strain=max_strain)
        self.inner = law
        self.state_width, self.rate_dependent = law.state_width, law.rate_dependent
        self.state_parts = law.state_parts if isinstance(law, HistoryLaw) else ()

    def config(self) -> dict[str, Any]:
        return {"law": type(self.inner).__name__, "inner": self.inner.config(), "max_strain": self.max_strain}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LogarithmicStrainLaw:
        return cls(_INSIDE[config["law"]].from_config(config["inner"]), max_strain=config["max_strain"])

    def _step(
        self, strain: Tensor, state: Tensor, dt: float, tangent: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
        measure = LogarithmicStrain(strain)
        energy, conjugate, entries, after, failed = self.inner._step(measure.value, state, dt, tangent)
        stress = measure.stress(conjugate)
        entries = None if entries is None else measure.tangent(conjugate, entries)
        return energy, stress, entries, after, measure.failed if failed is None else failed | measure.failed


class LogarithmicStrain:
    """ε(E) at some Green–Lagrange strains, and the way back for stress and tangent.

    Attributes
    ----------
    value : (n, 6)
    failed : (n,)
        Where 1 + 2E is not positive definite; those points are evaluated at E = 0.
    """

    def __init__(self, strain: Tensor) -> None:
        principal, axes = torch.linalg.eigh(to_tensor(strain))
        self.failed = ~(1.0 + 2.0 * principal > 1e-12).all(dim=1)
        principal = torch.where(self.failed[:, None], 0.0, principal)
        self._axes, self._stretch = axes, 1.0 + 2.0 * principal
        self._slope = _first(self._stretch[:, :, None], self._stretch[:, None, :])
        basis = _BASIS.to(strain.device)
        # rows: Mandel components in the given frame, columns: in the principal one
        self._turn = to_vector(torch.einsum("nia,kab,njb->nkij", axes, basis, axes)).mT
        # ε = E f[E, 0] keeps full relative accuracy at small strain
        self.value = to_vector(torch.einsum("nia,na,nja->nij", axes, 0.5 * torch.log1p(2.0 * principal), axes))

    def stress(self, conjugate: Tensor) -> Tensor:
        """S (n, 6) from T (n, 6)."""
        inside = torch.einsum("nia,nij,njb->nab", self._axes, to_tensor(conjugate), self._axes)
        return to_vector(self._axes @ (self._slope * inside) @ self._axes.mT)

    def tangent(self, conjugate: Tensor, entries: Tensor) -> Tensor:
        """21 entries of ∂S/∂E from T (n, 6) and the 21 entries of 𝔼 (n, 21)."""
        inside = torch.einsum("nia,nij,njb->nab", self._axes, to_tensor(conjugate), self._axes)
        stiffness = self._turn.mT @ mandel.unpack_upper(entries) @ self._turn
        slope = to_vector(self._slope) / to_vector(torch.ones_like(self._slope))
        stiffness = slope[:, :, None] * stiffness * slope[:, None, :]
        # T : D²ε[H, K] = Σ T_ab f[a, c, b] (H_ac K_cb + K_ac H_cb)
        a, c, b = self._stretch[:, :, None, None], self._stretch[:, None, :, None], self._stretch[:, None, None, :]
        weight = inside[:, :, None, :] * _second(*torch.broadcast_tensors(a, c, b))
        basis = _BASIS.to(entries.device)
        bent = torch.einsum("nacb,iac,jcb->nij", weight, basis, basis)
        stiffness = stiffness + bent + bent.mT
        return mandel.pack_upper(self._turn @ stiffness @ self._turn.mT)


def _first(x: Tensor, y: Tensor) -> Tensor:
    """(ln x − ln y)/(x − y), which is ∂ε/∂E at principal stretches² x and y: f = ½ ln C, C = 1 + 2E."""
    ratio = (x - y) / y
    small = ratio.abs() < 1e-8
    return torch.where(small, 1.0 - 0.5 * ratio, torch.log1p(ratio) / torch.where(small, 1.0, ratio)) / y


def _second(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Second divided difference of f over principal strains: 2 ln[x, y, z]."""
    ordered = torch.stack([x, y, z]).sort(dim=0).values
    low, middle, high = ordered
    mean = ordered.mean(dim=0)
    spread = (high - low) / mean
    apart = spread > _APART
    quotient = (_first(high, middle) - _first(middle, low)) / torch.where(apart, high - low, 1.0)
    # ln[x, y, z] = Σ (−1)^(k+1)/k h_(k−2)(u) / mean², u = x/mean − 1, h the complete homogeneous symmetric polynomials
    u = ordered / mean - 1.0
    e2, e3 = u[0] * u[1] + u[0] * u[2] + u[1] * u[2], u[0] * u[1] * u[2]
    e2, e3 = torch.where(apart, 0.0, e2), torch.where(apart, 0.0, e3)
    one, zero = torch.ones_like(mean), torch.zeros_like(mean)
    before = [zero, zero, one]  # e1 = Σ u = 0
    series = -0.5 * one
    for k in range(3, 26):
        before = [before[1], before[2], e3 * before[0] - e2 * before[1]]
        series = series + (-1.0) ** (k + 1) / k * before[2]
    return 2.0 * torch.where(apart, quotient, series / mean**2)
