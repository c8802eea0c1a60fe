"""The point-group-symmetric energy law: elastic constants, plus a symmetric network."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crystals import mandel
from crystals.groups import PointGroup

from .polynomial import (
    PolynomialMap,
    check_stiffness,
    frame_rotation,
    higher_order_polynomials,
    rotate_back,
    stiffness_basis,
    summed,
)
from .precomputed import PrecomputedLaw
from .saturation import Saturation
from .strain_measure import StrainMeasure
from .symmetric_network import symmetric_network


class Fixed(NamedTuple):
    """Parts of a law that do not depend on the strain, in units of its energy scale."""

    value: Tensor  # N(0)
    slope: Tensor  # ∇N(0), (6,)
    constants: Tensor  # C₀, (6, 6)
    hessian: Tensor  # ∇²N(0), (6, 6); 0 at order 1
    polynomial: PolynomialMap  # P as a single polynomial


class SymmetricLaw(PrecomputedLaw[Fixed]):
    """W(E) = ½ e·C₀·e + w P(e) + w R(y(e)), R(y) = N(y) − N(0) − ∇N(0)·y − ½ y·∇²N(0)·y.

    w is `energy_scale`, P an invariant polynomial of degree 3 to `order`, N a network that the group leaves alone
    (`constitutive.laws.symmetric_network`) of e over `strain_scale`, e = e(E) a measure of strain that begins as E
    (`constitutive.laws.strain_measure`), y = y(e) the same inside the trained range and saturating beyond it
    (`constitutive.laws.saturation`). Whatever the weights, W is invariant under the group,
    W(0) = 0, S(0) = 0 and C(0) = C₀. C₀ = w exp(A) with A in the space of invariant matrices: symmetric under the group
    and positive definite, because exp commutes with the group action in Mandel form. At `order` 1 the law is the network
    less its value and slope, and y = e: C(0) = w ∇²N(0), not positive definite by construction.

    Parameters
    ----------
    group : PointGroup or str
        Any of the 32 groups or Curie limits; the law uses its Laue class, which is all that W(E) can see.
    order : int
        Degree of the polynomial part: 2 (none but C₀) to 6, or 1 (not even that).
    widths : tuple of int
        Hidden layers of the network, or of each of its parts.
    network : str
        Form of the network: 'invariants', 'average', 'directions' (these two need a finite group), or 'none'.
    members : int
        Networks of the form 'directions' whose mean is taken.
    measure : float
        m of the strain measure, from 1 (Green–Lagrange) to −1.
    stiffness : (6, 6), optional
        C₀, Mandel, in `units`, frame of the strains. Kept exactly where `pinned`, else where learning starts.
    pinned : bool
        Whether fitting leaves C₀ alone.
    saturated : bool
        Whether the network's part saturates beyond `strain_scale`; at order 1 it never does.
    energy_scale : float
        w: unit of energy density inside the law, in `units`.
    strain_scale : float
        s: strain at which what the network sees is of order one and saturates; the largest of the data.
    seed : int
        Seed of the initial weights.
    units, max_strain, strain_measure
        As in `Law`.
    """

    network: Any  # a `SymmetricNetwork`; torch's stubs know no modules of one's own
    basis: Tensor
    turn: Tensor | None
    pinned_stiffness: Tensor | None

    def __init__(
        self,
        group: PointGroup | str,
        order: int = 4,
        widths: tuple[int, ...] = (16, 16),
        *,
        network: str = "invariants",
        members: int = 1,
        measure: float = 1.0,
        stiffness: np.ndarray | None = None,
        pinned: bool = False,
        saturated: bool = True,
        energy_scale: float = 1.0,
        strain_scale: float = 0.05,
        seed: int = 0,
        units: str = "GPa",
        max_strain: float = float("inf"),
        strain_measure: str = "green_lagrange",
    ) -> None:
        group = PointGroup(group) if isinstance(group, str) else group
        super().__init__(group, units=units, max_strain=max_strain, strain_measure=strain_measure)
        if not 1 <= order <= 6:
            raise ValueError(f"SymmetricLaw: expected an order from 1 to 6, got {order}.")
        if order == 1 and network == "none":
            raise ValueError(
                "SymmetricLaw: expected a network at order 1, got 'none'. Nothing would be left of the law."
            )
        if order == 1 and pinned:
            raise ValueError(
                "SymmetricLaw: expected order ≥ 2 for a pinned stiffness, got 1. At 1 the network gives C(0)."
            )
        if network != "none" and (not widths or min(widths) < 1):
            raise ValueError(
                f"SymmetricLaw: expected hidden widths of at least 1, got {widths}. Without a network: network='none'."
            )
        if not (energy_scale > 0 and strain_scale > 0):
            raise ValueError(f"SymmetricLaw: expected positive scales, got {energy_scale} and {strain_scale}.")
        if not -1.0 <= measure <= 1.0 or (measure != 1.0 and strain_measure == "small"):
            raise ValueError(
                f"SymmetricLaw: expected measure between −1 and 1, and 1 for small strain, got {measure} for "
                f"{strain_measure}. 1 is the strain itself."
            )
        self.order, self.pinned, self.measure = order, pinned, float(measure)
        self.energy_scale, self.strain_scale = float(energy_scale), float(strain_scale)
        self.form, self.members = network, members
        self.saturated = saturated and order > 1 and network != "none"
        self._polynomials = higher_order_polynomials(group, order)
        self.higher = PolynomialMap(self._polynomials)
        self.network = symmetric_network(network, group.laue.symbol, tuple(widths), self.strain_scale, seed, members)
        self.coefficients = torch.nn.Parameter(torch.zeros(self.higher.count, dtype=torch.float64))
        self.register_buffer("basis", torch.from_numpy(stiffness_basis(group)), persistent=False)
        self.register_buffer("turn", frame_rotation(group), persistent=False)
        start = np.eye(6) * self.energy_scale if stiffness is None else np.asarray(stiffness, dtype=float)
        if start.shape != (6, 6):
            raise ValueError(f"SymmetricLaw: expected stiffness of shape (6, 6), Mandel, got {start.shape}.")
        constants = check_stiffness("SymmetricLaw", group, start)
        values, vectors = np.linalg.eigh(constants / self.energy_scale)
        logarithm = np.einsum("ia,a,ja->ij", vectors, np.log(values), vectors)
        coordinates = torch.from_numpy(np.einsum("kij,ij->k", stiffness_basis(group), logarithm))
        self.log_stiffness = torch.nn.Parameter(coordinates, requires_grad=not pinned and order > 1)
        # exp(log C) is C only to rounding: a pinned stiffness is kept as given.
        self.register_buffer("pinned_stiffness", torch.from_numpy(constants) if pinned else None)

    def config(self) -> dict[str, Any]:
        return {
            "point_group": self.group.symbol, "frame": self.group.frame.tolist(), "order": self.order,
            "widths": list(self.network.widths), "network": self.form, "members": self.members,
            "measure": self.measure, "pinned": self.pinned, "saturated": self.saturated,
            "energy_scale": self.energy_scale,
            "strain_scale": self.strain_scale, "units": self.units, "max_strain": self.max_strain,
            "strain_measure": self.strain_measure,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SymmetricLaw:
        rest = {key: value for key, value in config.items() if key not in ("point_group", "frame", "widths")}
        group = PointGroup(config["point_group"], np.array(config["frame"]))
        # the networks of the first law files do not saturate
        return cls(group, widths=tuple(config["widths"]), **{"saturated": False, **rest})

    @property
    def degrees(self) -> np.ndarray:
        """Degree (b,) of the polynomial that each of `coefficients` belongs to."""
        return self._polynomials.degrees if self.higher.count else np.zeros(0)

    def constants(self) -> Tensor:
        """C₀ (6, 6) of orders above 1, Mandel, in the group's standard frame and in units of `energy_scale`."""
        if self.pinned_stiffness is not None:
            return self.pinned_stiffness / self.energy_scale
        return torch.linalg.matrix_exp(torch.einsum("k,kij->ij", self.log_stiffness, self.basis))

    def _at_reference(self) -> Fixed:
        """C₀, and what the law subtracts: the network's value, slope and Hessian at E = 0."""
        zero = torch.zeros(1, 6, dtype=torch.float64, device=self.coefficients.device)
        value, slope, entries = self.network.at(zero, True)
        assert entries is not None
        hessian = mandel.unpack_upper(entries)[0]
        if self.order == 1:
            return Fixed(value[0], slope[0], torch.zeros_like(hessian), torch.zeros_like(hessian), self.higher)
        return Fixed(value[0], slope[0], self.constants(), hessian, self.higher)

    def _terms(
        self, strain: Tensor, fixed: Fixed, coefficients: Tensor, tangent: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Energy, stress and 21 tangent entries in the standard frame, in units of `energy_scale`."""
        measured = None if self.measure == 1.0 else StrainMeasure(strain, self.measure)
        strain = strain if measured is None else measured.value
        seen = Saturation(strain, self.strain_scale) if self.saturated else None
        inside = strain if seen is None else seen.value
        value, slope, entries = self.network.at(inside, tangent)
        curved = inside @ fixed.hessian
        slope = slope - fixed.slope
        linear = strain @ fixed.constants
        energy = 0.5 * (linear * strain).sum(dim=1) + value - fixed.value - inside @ fixed.slope
        energy = energy - 0.5 * (curved * inside).sum(dim=1)
        slope = slope - curved
        if entries is not None:
            entries = entries - mandel.pack_upper(fixed.hessian)
        if seen is not None:
            entries = None if entries is None else seen.hessian(slope, entries)
            slope = seen.slope(slope)
        stress = linear + slope
        if entries is not None:
            entries = entries + mandel.pack_upper(fixed.constants)
        if self.higher.count:
            table = fixed.polynomial.table(strain)
            energy = energy + fixed.polynomial.value(table) @ coefficients
            stress = stress + coefficients @ fixed.polynomial.gradient(table)
            if entries is not None:
                entries = entries + fixed.polynomial.hessian(table, coefficients)
        if measured is not None:
            entries = None if entries is None else measured.tangent(stress, entries)
            stress = measured.stress(stress)
        return energy, stress, entries

    def forward(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (n,) and stress (n, 6) in units of `energy_scale` and the standard frame, differentiable in all
        parameters: what fitting needs."""
        return self._terms(strain, self._at_reference(), self.coefficients, False)[:2]

    def _precompute(self) -> Fixed:
        return self._at_reference()._replace(polynomial=summed(self._polynomials, self.coefficients))

    def _evaluate(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.turn is not None:
            strain = strain @ self.turn.T
        one = torch.ones(1, dtype=strain.dtype, device=strain.device)
        energy, stress, entries = self._terms(strain, self.fixed, one, tangent)
        energy, stress = energy * self.energy_scale, stress * self.energy_scale
        if entries is not None:
            entries = entries * self.energy_scale
        if self.turn is not None:
            stress, entries = rotate_back(self.turn, stress, entries)
        return energy, stress, entries

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # the first law files kept this buffer with the law
        if f"{prefix}sizes" in state_dict:
            state_dict[f"{prefix}network.sizes"] = state_dict.pop(f"{prefix}sizes")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
