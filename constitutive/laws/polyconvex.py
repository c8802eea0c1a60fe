"""The polyconvex law: a convex function of F, cof F and det F, hence elliptic at every strain."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crystals import mandel
from crystals.groups import PointGroup

from .convex_network import ConvexNetwork
from .network import softplus
from .polynomial import frame_rotation, rotate_back
from .precomputed import PrecomputedLaw
from .strain_measure import to_vector
from .structural_tensors import selections, structural_tensors

_LEVI_CIVITA = np.array(
    [[[float(np.linalg.det(np.eye(3)[[i, j, k]])) for k in range(3)] for j in range(3)] for i in range(3)]
)


def _polarisation() -> np.ndarray:
    """K (6, 6, 6), symmetric in all three, with cof C = ½ K C C and det C = ⅙ K C C C in Mandel components."""
    basis = mandel.from_mandel(np.eye(6))
    return np.einsum("ijk,lmn,ail,bjm,ckn->abc", _LEVI_CIVITA, _LEVI_CIVITA, basis, basis, basis, optimize=True)


class Reference(NamedTuple):
    """What the network gives at the reference state, and what keeps that state free of energy and stress."""

    value: Tensor  # N(0)
    stress: Tensor  # ∂N/∂E (6,)
    pressure: Tensor  # γ = ∂N/∂J
    spread: Tensor  # q
    growth: Tensor  # g


class PolyconvexLaw(PrecomputedLaw[Reference]):
    """W = G(F, cof F, det F), G convex: polyconvex (Ball 1976), hence Legendre–Hadamard elliptic at every strain.

    With λ_a = ‖F M_a^½‖, μ_a = ‖cof F M_a^½‖ for the structural tensors M_a of the class (stretches of the lattice
    directions, and of the areas across them), w = `energy_scale` and s = `strain_scale`,

        W / w = N(λ, μ, J) − N(1, 1, 1) + (q 1 − T):E − γ (J − 1) + q f(J) + g (J + 1/J − 2)².

    N is convex, and non-decreasing in λ_a and μ_a, which are convex in F and cof F (group averages as in Klein et al.
    2022, doi:10.1016/j.jmps.2021.104703, but of objective arguments). Its reference stress is T + γ 1 with γ = ∂N/∂J and
    T ≥ 0. With q ≥ λ_max(T) + `strict` the term (q 1 − T):E, which is ½ tr(C (q 1 − T)) but for a constant, is convex in
    F, and f(J) = 1 − J + s² (√(1 + (J − 1)²/s²) − 1) is convex with f′(1) = −1: the stresses T + γ 1, q 1 − T, −γ 1 and
    −q 1 cancel. Where T is spherical (cubic, isotropic) this is the −p (J − 1) of Linden et al. 2023
    (doi:10.1016/j.jmps.2023.105363), but for f″(1) = 1, which keeps C(0) positive; elsewhere q 1 − T adds what no
    pressure can.

    Kept for any parameters: W(0) = 0 and S(0) = 0; polyconvexity; acoustic tensor ≥ w `strict` at every F; C(0) ≥ 2 w
    `strict`; W → ∞ as J → 0, by a term of zero value, slope and curvature at J = 1.

    Parameters
    ----------
    group : PointGroup or str
        Any group but ∞ and ∞/m; the law uses its Laue class.
    widths : tuple of int
        Hidden layers of each network.
    network : str, optional
        'directions': N = Σ_k mean_a φ_k(λ_a, μ_a, J) over the orbits k of lattice directions. 'average': the mean over
        the rotations of the class of one network of all λ, μ and J. 'invariants': one network of ‖F M^½‖, ‖cof F M^½‖
        along and across the axis (∞/mm) or of ‖F‖, ‖cof F‖ (∞∞m), and J. By default the last for limit groups, 'average'
        for 4/m, 6/m and m-3, which directions one by one cannot tell from 4/mmm, 6/mmm and m-3m, else 'directions'.
    strict : float
        Lower bound of the smallest eigenvalue of the acoustic tensor, over `energy_scale`; ≥ 0.
    energy_scale : float
        w: unit of energy density inside the law, in `units`.
    strain_scale : float
        s: strain at which what the network sees is of order one; the largest of the data.
    seed : int
        Seed of the initial weights.
    units, max_strain
        As in `Law`. The strain is Green–Lagrange.

    Raises
    ------
    ValueError
        For ∞ and ∞/m (not supported), and for widths, scales or `strict` out of range.

    Notes
    -----
    C(0): let e be the deviator of E, t its trace, A and H the sums of M_a weighted by ∂N/∂λ_a and ∂N/∂μ_a, so that
    T = A + (tr H) 1 − H. Beside the positive part of the network's own curvature, E·C(0)·E / w is at least
    2 (q 1 − T):e² + H:e² + [A:e² − ⅔ t A:e + t² tr A / 9] + t² (q f″(1) − q/3 − 2 tr A / 9), from (M:e)² ≤ M:e² for unit
    trace. The bracket is ≥ 0 by Cauchy–Schwarz, and tr A ≤ 3 (q − `strict`); what remains is ≥ 2 `strict` E·E.
    """

    tensors: Tensor
    polarisation: Tensor
    identity: Tensor
    units_of_inputs: Tensor
    turn: Tensor | None

    def __init__(
        self,
        group: PointGroup | str,
        widths: tuple[int, ...] = (8, 8),
        *,
        network: str | None = None,
        strict: float = 1e-3,
        energy_scale: float = 1.0,
        strain_scale: float = 0.05,
        seed: int = 0,
        units: str = "GPa",
        max_strain: float = float("inf"),
    ) -> None:
        group = PointGroup(group) if isinstance(group, str) else group
        super().__init__(group, units=units, max_strain=max_strain)
        if not widths or min(widths) < 1:
            raise ValueError(f"PolyconvexLaw: expected hidden widths of at least 1, got {widths}.")
        if not (energy_scale > 0 and strain_scale > 0):
            raise ValueError(f"PolyconvexLaw: expected positive scales, got {energy_scale} and {strain_scale}.")
        if not 0 <= strict < float("inf"):
            raise ValueError(f"PolyconvexLaw: expected strict ≥ 0, got {strict}.")
        self.strict, self.energy_scale, self.strain_scale = float(strict), float(energy_scale), float(strain_scale)
        self.form, seen = selections(network, group.laue.symbol)
        tensors = np.concatenate(structural_tensors(group.laue.symbol))
        k, self.widths = len(tensors), tuple(widths)
        self.networks = torch.nn.ModuleList(
            ConvexNetwork(np.concatenate([c, c + k, np.full((len(c), 1), 2 * k)], axis=1), self.widths, seed + 1000 * i)
            for i, c in enumerate(seen)
        )
        self.margin = torch.nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))
        self.growth = torch.nn.Parameter(torch.tensor(-5.0, dtype=torch.float64))
        self._spherical = group.laue.system in ("cubic", "isotropic")
        self.register_buffer("tensors", torch.from_numpy(mandel.to_mandel(tensors)), persistent=False)
        self.register_buffer("polarisation", torch.from_numpy(_polarisation()), persistent=False)
        self.register_buffer("identity", torch.from_numpy(mandel.IDENTITY), persistent=False)
        # an area changes by two strains, a volume by three
        units_of_inputs = self.strain_scale * torch.tensor([1.0] * k + [2.0] * k + [3.0], dtype=torch.float64)
        self.register_buffer("units_of_inputs", units_of_inputs, persistent=False)
        self.register_buffer("turn", frame_rotation(group), persistent=False)

    def config(self) -> dict[str, Any]:
        return {
            "point_group": self.group.symbol, "frame": self.group.frame.tolist(), "widths": list(self.widths), "network": self.form,
            "strict": self.strict, "energy_scale": self.energy_scale, "strain_scale": self.strain_scale,
            "units": self.units, "max_strain": self.max_strain,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PolyconvexLaw:
        rest = {key: value for key, value in config.items() if key not in ("point_group", "frame", "widths")}
        return cls(PointGroup(config["point_group"], np.array(config["frame"])), tuple(config["widths"]), **rest)

    def _parts(self) -> list[ConvexNetwork]:
        return [network for network in self.networks if isinstance(network, ConvexNetwork)]

    def _seen(self, along: Tensor, across: Tensor, jacobian: Tensor) -> Tensor:
        """What the network sees (n, 2k + 1)."""
        return (torch.cat([along, across, jacobian[:, None]], dim=1) - 1.0) / self.units_of_inputs

    def _pressure(self, jacobian: Tensor, rest: Reference) -> tuple[Tensor, Tensor, Tensor]:
        """R = −γ (J − 1) + q f(J) + g (J + 1/J − 2)² with its first two derivatives, each (n,)."""
        r = self.strain_scale
        root = torch.sqrt(1.0 + ((jacobian - 1.0) / r) ** 2)
        apart, slope, bend = (jacobian - 1.0) ** 2 / jacobian, 1.0 - jacobian**-2, 2.0 * jacobian**-3
        value = (rest.spread + rest.pressure) * (1.0 - jacobian) + rest.spread * r**2 * (root - 1.0)
        first = rest.spread * (jacobian - 1.0) / root - (rest.spread + rest.pressure)
        second = rest.spread * root**-3 + 2.0 * rest.growth * (slope**2 + apart * bend)
        return value + rest.growth * apart**2, first + 2.0 * rest.growth * apart * slope, second

    def _precompute(self) -> Reference:
        return self._at_reference()

    def _terms(
        self, strain: Tensor, tangent: bool, rest: Reference | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """W / w, or s² N where no reference is given: value (n,), ∂/∂E (n, 6), 21 entries of ∂²/∂E², ∂/∂J (n,)."""
        s, k = self.strain_scale, len(self.tensors)
        right_cauchy_green = self.identity + 2.0 * strain
        bilinear = (right_cauchy_green @ self.polarisation.reshape(6, 36)).reshape(-1, 6, 6)
        cofactor = 0.5 * (bilinear @ right_cauchy_green[:, :, None])[:, :, 0]
        jacobian = torch.sqrt((cofactor * right_cauchy_green).sum(dim=1) / 3.0)
        along = torch.sqrt(right_cauchy_green @ self.tensors.T)
        across = torch.sqrt(cofactor @ self.tensors.T)
        # half the derivatives of λ², μ² and J²; over the root they are those of λ, μ and J
        halves = torch.cat([self.tensors.expand(len(strain), k, 6), self.tensors @ bilinear, cofactor[:, None]], dim=1)
        roots = torch.cat([along, across, jacobian[:, None]], dim=1)
        directions = halves / roots[:, :, None]
        z = self._seen(along, across, jacobian)
        scaled = directions / self.units_of_inputs[:, None]
        value, slope = torch.zeros_like(jacobian), torch.zeros_like(z)
        bent = torch.zeros(len(z), 6, 6, dtype=z.dtype, device=z.device) if tangent else None
        for network in self._parts():
            if bent is not None:
                local, weight, hessian = network.curvature(z, scaled)
                bent = bent + s**2 * hessian
            else:
                local, weight = network.gradient(z)
            value, slope = value + s**2 * local, slope + s**2 * weight / self.units_of_inputs
        stress = (slope[:, None] @ directions)[:, 0]
        if rest is not None:
            added, first, second = self._pressure(jacobian, rest)
            volume = directions[:, -1]
            # summed in this order, what cancels at E = 0 cancels to the last bit
            value = (value - rest.value) + (added + strain @ self._tension(rest))
            stress = (stress - rest.stress) + ((rest.spread + rest.pressure) * self.identity + first[:, None] * volume)
            slope = torch.cat([slope[:, :-1], slope[:, -1:] + first[:, None]], dim=1)
            if bent is not None:
                bent = bent + second[:, None, None] * volume[:, :, None] * volume[:, None, :]
        if bent is None:
            return value, stress, None, slope[:, -1]
        # ∂²√u = ½ ∂²u / √u − ∂√u ∂√u / √u
        share = slope / roots
        bent = bent - directions.transpose(1, 2) @ (share[:, :, None] * directions)
        along_cofactor = share[:, k : 2 * k] @ self.tensors + share[:, -1:] * right_cauchy_green
        bent = bent + 2.0 * (along_cofactor @ self.polarisation.reshape(6, 36)).reshape(-1, 6, 6)
        return value, stress, mandel.pack_upper(bent), slope[:, -1]

    def _at_reference(self) -> Reference:
        """Exact at E = 0, where every λ, μ and J is 1."""
        zero = torch.zeros(1, 6, dtype=torch.float64, device=self.margin.device)
        value, stress, _, pressure = self._terms(zero, False, None)
        tension = stress[0] - pressure[0] * self.identity
        mean = (tension * self.identity).sum() / 3.0
        spread = mean + self.strict + softplus(self.margin)
        if not self._spherical:
            # λ_max of a deviator is at most √⅔ of its norm; the norm is rounded off at 0, where it has no derivative
            deviator = tension - mean * self.identity
            spread = spread + torch.sqrt((2.0 / 3.0) * ((deviator**2).sum() + 1e-6))
        return Reference(value[0], stress[0], pressure[0], spread, 1e-6 + softplus(self.growth))

    def _tension(self, rest: Reference) -> Tensor:
        """q 1 − T (6,), positive semidefinite."""
        return (rest.spread + rest.pressure) * self.identity - rest.stress

    def forward(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (n,) and stress (n, 6) in units of `energy_scale` and the standard frame, differentiable in all
        parameters: what fitting needs."""
        return self._terms(strain, False, self._at_reference())[:2]

    def extended_energy(self, gradient: Tensor, cofactor: Tensor, jacobian: Tensor) -> Tensor:
        """G(F, H, J) (n,), in `units`: jointly convex in its arguments, and W(F) = G(F, cof F, det F).

        Parameters
        ----------
        gradient, cofactor : (n, 3, 3)
            Any matrices F and H, in the frame of the law.
        jacobian : (n,)
            J > 0.
        """
        with torch.no_grad():
            rest = self._at_reference()
            frame = torch.from_numpy(self.group.frame).to(gradient.device)
            first, second = (m.transpose(1, 2) @ m for m in (gradient @ frame, cofactor @ frame))
            squares, areas = to_vector(first), to_vector(second)
            z = self._seen(torch.sqrt(squares @ self.tensors.T), torch.sqrt(areas @ self.tensors.T), jacobian)
            value = (
                self.strain_scale**2 * sum(network(z) for network in self._parts())
                - rest.value
                + self._pressure(jacobian, rest)[0]
            )
            return self.energy_scale * (value + 0.5 * (squares - self.identity) @ self._tension(rest))

    def _evaluate(self, strain: Tensor, tangent: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.turn is not None:
            strain = strain @ self.turn.T
        energy, stress, entries, _ = self._terms(strain, tangent, self.fixed)
        energy, stress = energy * self.energy_scale, stress * self.energy_scale
        entries = None if entries is None else entries * self.energy_scale
        if self.turn is not None:
            stress, entries = rotate_back(self.turn, stress, entries)
        return energy, stress, entries
