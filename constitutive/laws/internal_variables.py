"""A law with internal variables in generalised-standard form: a free energy and a convex dissipation potential."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystals import mandel
from crystals.groups import PointGroup

from .history import HistoryLaw
from .implicit_step import Material, Solution, equivalent, resistance, solve_step, step_residual, trial_forces
from .polynomial import check_stiffness, frame_rotation, rotate_back, stiffness_basis


def deviatoric_basis(group: PointGroup) -> np.ndarray:
    """Orthonormal basis (k, 6, 6) of the symmetric matrices between deviators that the group leaves alone."""
    deviator = np.eye(6) - np.outer(mandel.IDENTITY, mandel.IDENTITY) / 3.0
    found = (deviator @ stiffness_basis(group) @ deviator).reshape(-1, 36)
    _, sizes, rows = np.linalg.svd(found, full_matrices=False)
    return rows[sizes > 1e-9].reshape(-1, 6, 6)


class InternalVariableLaw(HistoryLaw):
    """Viscoplasticity with learned anisotropy and hardening; free energy and dissipation potential share one symmetry.

    Internal variables ξ: plastic strain εp, kinematic variable α (both traceless, turned like the strain) and a scalar
    r. With the driving forces A = −∂ψ/∂ξ = (σ, β, −R) and x⁺ = max(x, 0),

        ψ = ½ (ε − εp)·C·(ε − εp) + ½ (⅔ h) α·α + ½ k r² + Q (r + (exp(−b r) − 1)/b)
        φ*(A) = ((g(σ, β) − R − σ_y)⁺)² / 2η,     g⁴ = Σ_i |L_i (σ, β)|⁴,     ξ̇ = ∂φ*/∂A

    (Halphen and Nguyen 1975; Lemaitre and Chaboche 1990, Mechanics of Solid Materials, chapter 5; hardening R after
    Voce 1948, linear viscosity after Perzyna 1966). L_i = (L_iσ, L_iβ) are learned matrices in the space that commutes
    with the group, so g is symmetric: a two-layer convex network, homogeneous of degree one, smooth but at zero. φ* is
    convex and least at A = 0, where it is 0; so the dissipation A·ξ̇ ≥ φ*(A) ≥ 0 whatever the parameters. One form with
    L_σ = L_β = √(3/2) dev is von Mises with Prager's hardening. More forms give anisotropy and, where they act on β,
    hardening that saturates. η = 0 is the rate-independent limit and is solved as such.

    Implicit Euler: forces y = (σ, β) and Δr = γ from C⁻¹(σ − σ_trial) + γ ∂g/∂σ = 0, (⅔h)⁻¹ (β − β_trial) + γ ∂g/∂β = 0
    and g − R(r + γ) − σ_y = η γ/Δt: the stationary point of a convex incremental potential (Ortiz and Stainier 1999,
    doi:10.1016/S0045-7825(98)00219-9), so the solution is unique and the consistent tangent, by the implicit function
    theorem, symmetric. Batched Newton, each point with its own step length; a point that does not converge is INVALID.

    Not this law: finite strain, crystal slip systems, pressure-sensitive yield, softening, damage, a third invariant in
    the yield function of an isotropic law (quadratic forms of deviators see none), rate exponents other than 1, cyclic
    hardening with memory surfaces.

    Parameters
    ----------
    group : PointGroup or str
        Symmetry of ψ and φ*, in the frame of the strains.
    stiffness : (6, 6)
        C, Mandel, in `units`. Only its invariant part is used.
    yield_stress : float
        σ_y in `units`: where the forms are at their start, yield in uniaxial tension.
    kinematic : float
        h > 0 in `units`.
    isotropic, saturation : float
        k and Q in `units`. What starts at 0 stays 0 in a fit.
    saturation_rate : float
        b.
    viscosity : float
        η in `units` × time; 0 for a rate-independent law, which it then stays.
    forms : int
        Number k of quadratic forms: the first starts as von Mises, the others random and a third of its size.
    seed : int
        Seed of the others.
    units, max_strain
        As in `Law`.

    Raises
    ------
    ValueError
        For constants without sense.
    """

    state_width = 13
    state_parts = (("plastic_strain", "strain"), ("kinematic", "strain"), ("hardening", "scalar"))
    basis: Tensor
    shapes: Tensor
    turn: Tensor | None

    def __init__(
        self,
        group: PointGroup | str,
        stiffness: np.ndarray,
        yield_stress: float,
        *,
        kinematic: float,
        isotropic: float = 0.0,
        saturation: float = 0.0,
        saturation_rate: float = 0.0,
        viscosity: float = 0.0,
        forms: int = 2,
        seed: int = 0,
        units: str = "GPa",
        max_strain: float = float("inf"),
    ) -> None:
        where = "InternalVariableLaw"
        group = PointGroup(group) if isinstance(group, str) else group
        super().__init__(group, units=units, strain_measure="small", max_strain=max_strain)
        if not (0 < yield_stress < float("inf") and 0 < kinematic < float("inf")):
            raise ValueError(
                f"{where}: expected yield_stress > 0 and kinematic > 0, got {yield_stress} and {kinematic}. For next to "
                "no kinematic hardening take 1e-3 of the stiffness."
            )
        rest = (isotropic, saturation, saturation_rate, viscosity)
        if not all(0 <= value < float("inf") for value in rest):
            raise ValueError(
                f"{where}: expected finite isotropic, saturation, saturation_rate and viscosity ≥ 0, got {rest}. "
                "Not supported: softening."
            )
        if forms < 1:
            raise ValueError(f"{where}: expected forms ≥ 1, got {forms}.")
        given = np.asarray(stiffness, dtype=float)
        if given.shape != (6, 6):
            raise ValueError(f"{where}: expected stiffness of shape (6, 6), Mandel, got {given.shape}.")
        constants = check_stiffness(where, group, given)
        self._config = {
            "stiffness": given.tolist(), "yield_stress": float(yield_stress), "kinematic": float(kinematic),
            "isotropic": float(isotropic), "saturation": float(saturation), "saturation_rate": float(saturation_rate),
            "viscosity": float(viscosity), "forms": forms, "seed": seed, "units": units, "max_strain": self.max_strain,
        }  # fmt: skip
        #: σ₀ and c: units of stress and stiffness inside the law, fixed when it is made.
        self.stress_scale = float(yield_stress)
        self.stiffness_scale = float(np.linalg.norm(constants, 2))
        self.strain_scale = self.stress_scale / self.stiffness_scale
        self.rate_dependent = viscosity > 0
        elastic, shapes = stiffness_basis(group), deviatoric_basis(group)
        self.register_buffer("basis", torch.from_numpy(elastic), persistent=False)
        self.register_buffer("shapes", torch.from_numpy(shapes), persistent=False)
        self.register_buffer("turn", frame_rotation(group), persistent=False)
        values, vectors = np.linalg.eigh(constants / self.stiffness_scale)
        logarithm = np.einsum("ia,a,ja->ij", vectors, np.log(values), vectors)
        self.log_stiffness = torch.nn.Parameter(torch.from_numpy(np.einsum("kij,ij->k", elastic, logarithm)))
        weights = 0.8 * np.random.default_rng(seed).normal(size=(forms, 2, len(shapes)))
        weights[0] = 1.5**0.5 * np.trace(shapes, axis1=1, axis2=2)  # coordinates of √(3/2) dev
        self.weights = torch.nn.Parameter(torch.from_numpy(weights))
        # squares of these: positive, and exactly zero where they start so
        c, s = self.stiffness_scale, self.stress_scale
        scalars = [1.0, 2 / 3 * kinematic / c, isotropic / c, saturation / s, saturation_rate * s / c, viscosity / c]
        self.roots = torch.nn.Parameter(torch.tensor(scalars, dtype=torch.float64).sqrt())

    def config(self) -> dict[str, Any]:
        frame = {"point_group": self.group.symbol, "frame": self.group.frame.tolist()}
        return {**frame, **self._config, "max_strain": self.max_strain}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InternalVariableLaw:
        rest = {key: value for key, value in config.items() if key not in ("point_group", "frame")}
        return cls(PointGroup(config["point_group"], np.array(config["frame"])), **rest)

    def material(self) -> Material:
        """What the parameters mean; differentiable."""
        stiffness = torch.linalg.matrix_exp(torch.einsum("k,kij->ij", self.log_stiffness, self.basis))
        blocks = torch.einsum("ijk,kab->iajb", self.weights, self.shapes)
        forms = blocks.reshape(len(self.weights), 6, 12)
        return Material(stiffness, torch.linalg.inv(stiffness), forms, *(self.roots**2).unbind())

    def constants(self) -> dict[str, float]:
        """σ_y, h, k, Q in the law's units, b, and η in units × time, as they are now."""
        with torch.no_grad():
            values = [float(value) for value in self.roots**2]
        c, s = self.stiffness_scale, self.stress_scale
        units = {"yield_stress": s, "kinematic": 1.5 * c, "isotropic": c, "saturation": s, "saturation_rate": c / s,
                 "viscosity": c}  # fmt: skip
        return {name: value * unit for value, (name, unit) in zip(values, units.items(), strict=True)}

    def normalise(self) -> None:
        """Choose among parameters that mean the same law those with g(uniaxial tension along axis 1) = σ.

        Scaling every L_i by s and σ_y, Q, b by s, k and η by s² changes nothing but r, to r/s; scaling L_β by t and h by
        1/t² nothing but α, to tα. t is chosen so that the L_β are as large as the L_σ, as in von Mises' law.
        """
        with torch.no_grad():
            one = torch.zeros(1, 12, dtype=torch.float64, device=self.roots.device)
            one[0, 0] = 1.0
            scale = 1.0 / float(equivalent(self.material(), one)[0])
            sizes = torch.linalg.vector_norm(self.weights, dim=(0, 2))
            ratio = float(sizes[0] / sizes[1])
            if not 0.0 < ratio * scale < float("inf"):
                return  # no yield along axis 1, or no back stress: nothing to measure by
            self.weights.mul_(scale)
            self.weights[:, 1].mul_(ratio)
            # roots: half the exponents
            powers = torch.tensor([scale**0.5, 1 / ratio, scale, scale**0.5, scale**0.5, scale], dtype=torch.float64)
            self.roots.mul_(powers.to(self.roots.device))

    def _step(
        self, strain: Tensor, state: Tensor, dt: float, tangent: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        m = self.material()
        strain, memory = strain / self.strain_scale, state / self.strain_scale
        if self.turn is not None:
            strain = strain @ self.turn.T
            memory = torch.cat([memory[:, :6] @ self.turn.T, memory[:, 6:12] @ self.turn.T, memory[:, 12:]], dim=1)
        solution = solve_step(m, strain, memory, dt)
        forces, multiplier = solution.unknowns[:, :12], solution.unknowns[:, 12]
        normal = equivalent(m, forces)[1]
        amount = torch.where(solution.flows, multiplier, 0.0)[:, None]
        memory = memory + torch.cat([amount * normal, amount], dim=1)
        # stress and energy from the state itself, so that they fit each other to rounding
        elastic, r = strain - memory[:, :6], memory[:, 12]
        stress = elastic @ m.stiffness
        b = m.saturation_rate.clamp_min(1e-300)
        energy = (
            0.5 * (elastic * stress).sum(dim=1)
            + 0.5 * m.kinematic * (memory[:, 6:12] ** 2).sum(dim=1)
            + 0.5 * m.isotropic * r**2
            + m.saturation * (r + torch.expm1(-b * r) / b)
        )
        entries = None
        if tangent:
            right = torch.zeros(13, 6, dtype=strain.dtype, device=strain.device)
            right[:6] = torch.eye(6, dtype=strain.dtype, device=strain.device)
            plastic = torch.linalg.solve_ex(solution.jacobian, right.expand(len(strain), 13, 6))[0][:, :6]
            matrix = torch.where(solution.flows[:, None, None], plastic, m.stiffness)
            entries = mandel.pack_upper(0.5 * (matrix + matrix.transpose(1, 2))) * self.stiffness_scale
        stress = stress * self.stress_scale
        if self.turn is not None:
            stress, entries = rotate_back(self.turn, stress, entries)
            memory = torch.cat([memory[:, :6] @ self.turn, memory[:, 6:12] @ self.turn, memory[:, 12:]], dim=1)
        energy = energy * (self.stress_scale * self.strain_scale)
        return energy, stress, entries, memory * self.strain_scale, solution.failed

    def dissipation(self, strain: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Energy per volume (n,) dissipated by a step: A·Δξ with the driving forces A at its end.

        Parameters
        ----------
        strain : array (n, 6)
            At the end of the step.
        before, after : array (n, 13)
            State before and after it, as `response` took and gave it.
        """
        with torch.no_grad():
            m = self.material()
        turn = np.eye(6) if self.turn is None else self.turn.cpu().numpy()
        end, change = (np.asarray(a, dtype=float) / self.strain_scale for a in (after, np.subtract(after, before)))
        stiffness = turn.T @ m.stiffness.cpu().numpy() @ turn
        stress = (np.asarray(strain, dtype=float) / self.strain_scale - end[:, :6]) @ stiffness
        strength = resistance(m, torch.from_numpy(end[:, 12]).to(self.device))[0].cpu().numpy()
        plastic = np.sum(stress * change[:, :6], axis=1)
        kinematic = -float(m.kinematic) * np.sum(end[:, 6:12] * change[:, 6:12], axis=1)
        return (plastic + kinematic - strength * change[:, 12]) * self.stress_scale * self.strain_scale

    def forward(self, strain: Tensor, dt: list[float], tape: list[Solution]) -> Tensor:
        """Stress (T, p, 6) along paths (T, p, 6), over σ₀ and differentiable in the parameters: what fitting needs.

        `tape` holds the solutions that `record` found for these parameters. Each step repeats one Newton step from
        the solution, with the Jacobian held: its value does not change, its derivative is that of the implicit function.
        """
        m = self.material()
        memory = torch.zeros(strain.shape[1], 13, dtype=strain.dtype, device=strain.device)
        stresses = []
        for here, step, solution in zip(strain / self.strain_scale, dt, tape, strict=True):
            trial = trial_forces(m, here, memory)
            defect = step_residual(m, solution.unknowns, trial, memory[:, 12], step)
            correction = (solution.jacobian @ defect[:, :, None])[:, :, 0]  # here the tape's Jacobians are inverted
            elastic = torch.cat([trial, torch.zeros_like(trial[:, :1])], dim=1)
            now = torch.where(solution.flows[:, None], solution.unknowns - correction, elastic)
            plastic = here - now[:, :6] @ m.compliance
            memory = torch.cat([plastic, -now[:, 6:12] / m.kinematic, memory[:, 12:] + now[:, 12:]], dim=1)
            stresses.append(now[:, :6])
        return torch.stack(stresses)

    def record(self, strain: Tensor, dt: list[float]) -> tuple[Tensor, list[Solution]] | None:
        """Stress (T, p, 6) over σ₀ along paths, standard frame, and the tape for `forward`; None where a point fails."""
        with torch.no_grad():
            m = self.material()
            memory = torch.zeros(strain.shape[1], 13, dtype=strain.dtype, device=strain.device)
            stresses, tape = [], []
            for here, step in zip(strain / self.strain_scale, dt, strict=True):
                solution = solve_step(m, here, memory, step)
                if bool(solution.failed.any()):
                    return None
                one = torch.eye(13, dtype=strain.dtype, device=strain.device)
                regular = torch.where(solution.flows[:, None, None], solution.jacobian, one)
                tape.append(solution._replace(jacobian=torch.linalg.inv(regular)))
                amount = torch.where(solution.flows, solution.unknowns[:, 12], 0.0)[:, None]
                normal = equivalent(m, solution.unknowns[:, :12])[1]
                memory = memory + torch.cat([amount * normal, amount], dim=1)
                stresses.append((here - memory[:, :6]) @ m.stiffness)
            return torch.stack(stresses), tape
