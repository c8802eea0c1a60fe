"""The standard deviation of a law's stress, from the covariance of its parameters.

    Σ(E) = G B Bᵀ Gᵀ + v(|E|) 1,   G = ∂S/∂θ,

with a calibrated factor B of the covariance and a misfit v that depends on |E| alone, so that the group leaves Σ alone.
`constitutive.fitting.laplace` finds both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from .law import Law
from .polyconvex import PolyconvexLaw
from .symmetric import SymmetricLaw

#: Points whose derivatives are formed at once.
CHUNK = 256


def stress_jacobian(law: SymmetricLaw | PolyconvexLaw, strain: Tensor) -> Tensor:
    """∂S/∂θ (n, 6, p) at strains (n, 6), in the law's units and frame; θ are all parameters in the law's own order."""
    parameters = {name: p.detach() for name, p in law.named_parameters()}

    def stress(theta: dict[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(law, theta, (point[None],))[1][0] * law.energy_scale

    points = strain if law.turn is None else strain @ law.turn.T
    parts = vmap(jacrev(stress), in_dims=(None, 0))(parameters, points)
    joined = torch.cat([parts[name].reshape(len(strain), 6, p.numel()) for name, p in parameters.items()], dim=2)
    return joined if law.turn is None else law.turn.T @ joined


@dataclass
class Uncertainty:
    """Covariance of a law's stress.

    Attributes
    ----------
    factor : tensor (p, r)
        Calibrated factor of the covariance of all parameters, in the order of `law.named_parameters()`.
    misfit : tensor (4,)
        Variance c₀ + c₁ (|E| / c₃)^c₂ of each stress component, in the law's units squared.
    """

    factor: Tensor
    misfit: Tensor

    def __post_init__(self) -> None:
        if self.factor.ndim != 2 or self.misfit.shape != (4,):
            raise ValueError(
                f"Uncertainty: expected factor (p, r) and misfit (4,), got {tuple(self.factor.shape)} and "
                f"{tuple(self.misfit.shape)}. Fit makes it: constitutive.fitting.laplace."
            )

    def stress_std(self, law: Law, strain: Tensor) -> Tensor:
        """Standard deviation (n, 6) at strains (n, 6) of the law that this belongs to: see `Law.stress_std`."""
        if not isinstance(law, SymmetricLaw | PolyconvexLaw):
            raise TypeError(
                f"stress_std: not supported: {type(law).__name__}. Laws that `fit` makes have a covariance."
            )
        parameters = sum(p.numel() for p in law.parameters())
        if len(self.factor) != parameters:
            raise ValueError(
                f"stress_std: expected the covariance of {parameters} parameters, got {len(self.factor)}. It belongs to "
                "another law; fit again."
            )
        factor, (floor, size, exponent, largest) = self.factor.to(strain.device), self.misfit.tolist()
        parts = [((stress_jacobian(law, part) @ factor) ** 2).sum(dim=2) for part in strain.split(CHUNK)]
        ratio = torch.linalg.vector_norm(strain, dim=1) / largest
        return torch.sqrt(torch.cat(parts) + (floor + size * ratio**exponent)[:, None])
