"""Von Mises plasticity with isotropic and kinematic hardening by radial return: the reference for laws with state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crystals import mandel
from crystals.groups import PointGroup

from .history import HistoryLaw

_VOLUME = torch.from_numpy(mandel.IDENTITY)
_DEVIATOR = torch.eye(6, dtype=torch.float64) - torch.outer(_VOLUME, _VOLUME) / 3.0


class VonMisesLaw(HistoryLaw):
    """Rate-independent J₂ plasticity at small strain, implicit Euler, consistent tangent.

    f = √(3/2) |dev σ − X| − σ_y − R(r) ≤ 0, X = ⅔ h εp (Prager 1956), R = k r + Q (1 − exp(−b r)) (Voce 1948);
    ε̇p = ṙ ∂f/∂σ. Return map and tangent: Simo and Hughes 1998, Computational Inelasticity, boxes 3.1 and 3.2. With
    Q = 0 the return is closed; else its one scalar equation is convex and Newton from zero climbs to the root.

    State: plastic strain εp (6, traceless) and accumulated plastic strain r (1). `energy` is the free energy
    ½ (ε − εp)·C·(ε − εp) + ⅓ h |εp|² + ∫ R dr, without what has been dissipated.

    Not this law: rate dependence (`dt` is ignored), anisotropy, crystal slip; `InternalVariableLaw` has rate and
    anisotropy. Wrapped in `LogarithmicStrainLaw` it serves at finite strain.

    Parameters
    ----------
    young, poisson : float
        Elastic constants; Young's modulus in `units`.
    yield_stress : float
        σ_y in `units`.
    kinematic : float
        h in `units`: slope of the uniaxial back stress over plastic strain.
    isotropic : float
        k in `units`.
    saturation, saturation_rate : float
        Q in `units`, and b.
    units : str
        Unit of all moduli and of the stress.
    max_strain : float
        Range in which the small-strain formula is trusted.

    Raises
    ------
    ValueError
        For constants without sense, or hardening below zero (the answer would hang on the mesh).
    """

    state_width = 7
    state_parts = (("plastic_strain", "strain"), ("accumulated", "scalar"))

    def __init__(
        self,
        young: float,
        poisson: float,
        yield_stress: float,
        *,
        kinematic: float = 0.0,
        isotropic: float = 0.0,
        saturation: float = 0.0,
        saturation_rate: float = 0.0,
        units: str = "GPa",
        max_strain: float = float("inf"),
    ) -> None:
        super().__init__(PointGroup("isotropic"), units=units, strain_measure="small", max_strain=max_strain)
        if not (young > 0 and -1 < poisson < 0.5 and yield_stress > 0):
            raise ValueError(
                f"VonMisesLaw: expected young > 0, −1 < poisson < ½ and yield_stress > 0, got {young}, {poisson} and "
                f"{yield_stress}."
            )
        hardening = (kinematic, isotropic, saturation, saturation_rate)
        if not all(0 <= value < float("inf") for value in hardening):
            raise ValueError(
                f"VonMisesLaw: expected finite hardening constants ≥ 0, got {hardening}. Not supported: softening."
            )
        self.young, self.poisson, self.yield_stress = float(young), float(poisson), float(yield_stress)
        self.kinematic, self.isotropic, self.saturation, self.saturation_rate = (float(value) for value in hardening)
        self.bulk, self.shear = young / (3 * (1 - 2 * poisson)), young / (2 * (1 + poisson))

    def config(self) -> dict[str, Any]:
        names = ("young", "poisson", "yield_stress", "kinematic", "isotropic", "saturation", "saturation_rate", "units")
        return {name: getattr(self, name) for name in (*names, "max_strain")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VonMisesLaw:
        return cls(**config)

    def _hardening(self, accumulated: Tensor) -> tuple[Tensor, Tensor]:
        """R and dR/dr (n,)."""
        decay = torch.exp(-self.saturation_rate * accumulated)
        resistance = self.isotropic * accumulated + self.saturation * (1.0 - decay)
        return resistance, self.isotropic + self.saturation * self.saturation_rate * decay

    def _step(
        self, strain: Tensor, state: Tensor, dt: float, tangent: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        volume, deviator = _VOLUME.to(strain.device), _DEVIATOR.to(strain.device)
        twice = 2.0 * self.shear
        plastic, before = state[:, :6], state[:, 6]
        elastic = strain @ deviator - plastic
        relative = twice * elastic - (2.0 / 3.0) * self.kinematic * plastic
        size = torch.linalg.vector_norm(relative, dim=1)
        overstress = 1.5**0.5 * size - self.yield_stress - self._hardening(before)[0]
        # a committed state lies on the yield surface to rounding, which must not choose its tangent: it is elastic
        flows = overstress > 1e-10 * self.yield_stress
        normal = relative / torch.where(flows, size, 1.0)[:, None]
        linear = 3.0 * self.shear + self.kinematic
        multiplier = torch.zeros_like(size)
        start = self._hardening(before)[0]
        failed = flows
        for _ in range(60):
            resistance, slope = self._hardening(before + multiplier)
            defect = torch.where(flows, overstress - linear * multiplier - (resistance - start), 0.0)
            failed = defect.abs() > 1e-14 * (1.5**0.5 * size + self.yield_stress)
            if not bool(failed.any()):
                break
            multiplier = multiplier + torch.where(failed, defect / (linear + slope), 0.0)
        flow = 1.5**0.5 * multiplier[:, None] * normal
        plastic, accumulated = plastic + flow, before + multiplier
        elastic = elastic - flow
        trace = strain @ volume
        stress = self.bulk * trace[:, None] * volume + twice * elastic
        # r + (exp(−br) − 1)/b, which is 0 for b = 0
        rate = max(self.saturation_rate, 1e-300)
        stored = accumulated + torch.expm1(-rate * accumulated) / rate
        energy = (
            0.5 * self.bulk * trace**2
            + self.shear * (elastic**2).sum(dim=1)
            + self.kinematic / 3.0 * (plastic**2).sum(dim=1)
            + 0.5 * self.isotropic * accumulated**2
            + self.saturation * stored
        )
        entries = None
        if tangent:
            slope = self._hardening(accumulated)[1]
            dyad = normal[:, :, None] * normal[:, None, :]
            radial = torch.where(flows, 1.5 * twice**2 / (linear + slope), 0.0)[:, None, None]
            turning = (1.5**0.5 * twice**2 * multiplier / torch.where(flows, size, 1.0))[:, None, None]
            matrix = self.bulk * torch.outer(volume, volume) + twice * deviator
            entries = mandel.pack_upper(matrix - radial * dyad - turning * (deviator - dyad))
        return energy, stress, entries, torch.cat([plastic, accumulated[:, None]], dim=1), failed
