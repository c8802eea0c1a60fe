"""What a law keeps, measured: symmetry, objectivity, tangent, reference state, stability, domain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.func import grad, hessian, vmap

from crystals import mandel
from crystals.groups import PointGroup
from crystals.rotations import mandel_rotation, random_rotations

from .evaluator import first_piola
from .laws.law import Law
from .stability import acoustic_eigenvalue

#: Radius of the audited ball of strains for a law without a trained range.
DEFAULT_RADIUS = 0.08


@dataclass(frozen=True)
class Check:
    """One line of an audit: what was measured, the figure, the rule, and whether it holds (None: information only)."""

    name: str
    value: float
    rule: str
    passed: bool | None


@dataclass(frozen=True)
class Audit:
    """Result of `audit`: checks, and the law they belong to."""

    law: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"law": self.law, "passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILED", None: ""}
        width = max(len(check.name) for check in self.checks)
        lines = [f"  {c.name:<{width}}  {c.value:<10.3g}  {c.rule:<34} {mark[c.passed]}".rstrip() for c in self.checks]
        return "\n".join([f"audit of {self.law}", *lines, f"  {'passed' if self.passed else 'FAILED'}"])


def sample_strains(radius: float, number: int, generator: np.random.Generator) -> np.ndarray:
    """Strains (number, 6) in random directions, |E| log-uniform from 1e-6 to `radius`, all of them possible."""
    strains = generator.normal(size=(number, 6))
    sizes = radius * (1e-6 / radius) ** generator.uniform(size=number)
    strains *= (sizes / np.linalg.norm(strains, axis=1))[:, None]
    return _possible(strains)


def ball_strains(radius: float, number: int, generator: np.random.Generator) -> np.ndarray:
    """Strains (number, 6) uniform in the volume of the ball |E| ≤ radius, all of them possible.

    Most of that volume lies near the surface (half of it beyond 0.89 of the radius), where a law fails first.
    """
    strains = generator.normal(size=(number, 6))
    sizes = radius * generator.uniform(size=number) ** (1.0 / 6.0)
    return _possible(strains * (sizes / np.linalg.norm(strains, axis=1))[:, None])


def _possible(strains: np.ndarray) -> np.ndarray:
    """The strains (n, 6), those that no deformation has halved until one does."""
    while True:
        values = np.linalg.eigvalsh(np.eye(3) + 2.0 * mandel.from_mandel(strains))
        if np.all(values[:, 0] > 0.05):
            return strains
        strains[values[:, 0] <= 0.05] *= 0.5


def relative_errors(
    law: Law, strain: np.ndarray, stress_error: np.ndarray, tangent_error: np.ndarray, scale: float | None = None
) -> float:
    """Largest of ‖ΔS‖ / (‖C(0)‖ max(|E|, 1e-3)) and ‖ΔC‖ / ‖C(0)‖ over n points; `scale` is ‖C(0)‖ where it is known."""
    scale = float(np.linalg.norm(law.stiffness())) if scale is None else scale
    n = len(strain)
    size = np.maximum(np.linalg.norm(strain, axis=1), 1e-3)
    stress = np.linalg.norm(stress_error.reshape(n, -1), axis=1) / (scale * size)
    tangent = np.linalg.norm(tangent_error.reshape(n, -1), axis=1) / scale
    # numpy's maximum keeps NaN, Python's may drop it
    return float(np.max(np.concatenate([stress, tangent]), initial=0.0))


def outside_rotation(group: PointGroup, law: Law, strain: np.ndarray) -> tuple[np.ndarray, float]:
    """A rotation that the Laue class lacks, and the relative change of stress that it makes.

    Supergroups that agree with the class at second order (4-fold for m-3, 2-fold along x for 6/m …) are tried too, so
    that a law that only knows linear elasticity fails here.
    """
    from crystals.rotations import rotation_about

    frame = group.frame
    candidates = {
        "m-3": rotation_about(frame[:, 2], np.pi / 2),
        "6/m": rotation_about(frame[:, 0], np.pi),
        "∞/m": rotation_about(frame[:, 0], np.pi),
        "6/mmm": rotation_about(frame[:, 2], np.pi / 6),
    }
    rotation = candidates.get(group.laue.symbol, rotation_about(np.array([0.3, 0.5, 0.8]), 0.61))
    turn = mandel_rotation(rotation)
    change = law.response(strain @ turn.T, tangent=False).stress - law.response(strain, tangent=False).stress @ turn.T
    return rotation, relative_errors(law, strain, change, np.zeros((len(strain), 1)))


def _orthonormal(rotation: np.ndarray) -> np.ndarray:
    """One Newton step to the nearest orthogonal matrix: a defect of 4e-16 in QᵀQ would count as strain."""
    return rotation @ (1.5 * np.eye(3) - 0.5 * np.swapaxes(rotation, -1, -2) @ rotation)


def audit(law: Law, number: int = 1000, seed: int = 0) -> Audit:
    """Measure what a law keeps, on random states to 1.5 times its trained range.

    Objectivity, symmetry and the tangent are taken on the path F → (P, ∂P/∂F) that a solver uses, in the norms
    ‖ΔS‖ / (‖C(0)‖ max(|E|, 1e-3)) and ‖ΔC‖ / ‖C(0)‖.

    Parameters
    ----------
    law : Law
        Law of Green–Lagrange strain.
    number : int
        Number of states.
    seed : int
        Seed of the states.
    """
    generator = np.random.default_rng(seed)
    domain = law.max_strain if np.isfinite(law.max_strain) else DEFAULT_RADIUS
    strain = sample_strains(1.5 * domain, number, generator)
    gradient = _orthonormal(random_rotations(number, generator)) @ mandel.right_stretch(strain)
    piola, derivative = first_piola(law, gradient)
    assert derivative is not None
    checks: list[Check] = []

    def limit(name: str, value: float, bound: float) -> None:
        checks.append(Check(name, value, f"≤ {bound:.0e}", bool(value <= bound)))

    turns = _orthonormal(random_rotations(number, generator))
    turned_piola, turned = first_piola(law, turns @ gradient)
    assert turned is not None
    expected = np.einsum("nia,nkb,naJbL->niJkL", turns, turns, derivative, optimize=True)
    limit(
        "objectivity: P(RF) = R P(F)",
        relative_errors(law, strain, turned_piola - turns @ piola, turned - expected),
        1e-12,
    )

    worst = 0.0
    for operation in _orthonormal(law.group.laue.sample(24, generator)):
        image_piola, image = first_piola(law, gradient @ operation.T)
        assert image is not None
        expected = np.einsum("niAkB,JA,LB->niJkL", derivative, operation, operation, optimize=True)
        worst = max(worst, relative_errors(law, strain, image_piola - piola @ operation.T, image - expected))
    limit(f"symmetry: all operations of {law.group.laue.symbol}", worst, 1e-12)
    if law.group.laue.symbol not in ("-1", "∞∞m"):
        probe = strain[np.linalg.norm(strain, axis=1) > 0.1 * domain]
        change = outside_rotation(law.group, law, probe)[1]
        # a law may well be more symmetric than its class (isotropic constants, say): that is no defect
        checks.append(Check("rotation outside the class changes S by", change, "negative control, about 1", None))

    answer = law.response(strain)
    device = law.device
    points = torch.from_numpy(strain).to(device)
    law.response(strain[:1])  # fills what the law precomputes before it is traced

    def energy(point: torch.Tensor) -> torch.Tensor:
        return law._evaluate(point[None], False)[0][0]

    with torch.enable_grad():
        stress_ad = vmap(grad(energy), chunk_size=512)(points).detach().cpu().numpy()
        tangent_ad = vmap(hessian(energy), chunk_size=256)(points).detach().cpu().numpy()
    zero = np.zeros((number, 1))
    limit("stress = ∂W/∂E (automatic diff.)", relative_errors(law, strain, answer.stress - stress_ad, zero), 1e-12)
    full = mandel.unpack_upper(answer.tangent)
    limit("tangent = ∂S/∂E (automatic diff.)", relative_errors(law, strain, zero, full - tangent_ad), 1e-12)
    limit("tangent = ∂P/∂F (central diff.)", _central_difference(law, gradient[:50], derivative[:50]), 1e-6)
    flat = derivative.reshape(number, 9, 9)
    limit("major symmetry of ∂P/∂F", relative_errors(law, strain, zero, flat - np.swapaxes(flat, 1, 2)), 1e-14)

    scale = float(np.linalg.norm(law.stiffness()))
    rest = law.response(np.zeros((1, 6)))
    limit("stress-free reference: |S(0)| / |C(0)|", float(np.linalg.norm(rest.stress)) / scale, 1e-15)
    smallest = float(np.linalg.eigvalsh(law.stiffness())[0])
    checks.append(Check(f"smallest eigenvalue of C(0), {law.units}", smallest, "> 0", smallest > 0))
    acoustic = acoustic_eigenvalue(law, ball_strains(domain, number, generator))
    share = 100.0 * float(np.mean(acoustic > 0))
    checks.append(Check("elliptic part of the trained range, %", share, "100 % is strongly elliptic", None))
    lowest = float(np.min(acoustic))
    checks.append(Check(f"smallest acoustic eigenvalue there, {law.units}", lowest, "> 0 is strongly elliptic", None))
    checks.append(Check("trained range |E|", law.max_strain, "beyond it: OutOfRange", None))
    held_out = law.metadata.get("fit", {}).get("held_out_stress_error")
    if held_out is not None:
        checks.append(
            Check("held-out stress error, %", 100 * float(held_out), "relative RMS, second Piola–Kirchhoff", None)
        )
    return Audit(f"{type(law).__name__} {law.group.symbol}", tuple(checks))


def _central_difference(law: Law, gradient: np.ndarray, derivative: np.ndarray, step: float = 1e-5) -> float:
    numerical = np.empty_like(derivative)
    for k in range(3):
        for j in range(3):
            shift = np.zeros((3, 3))
            shift[k, j] = step
            plus, minus = (
                first_piola(law, gradient + shift, tangent=False)[0],
                first_piola(law, gradient - shift, tangent=False)[0],
            )
            numerical[..., k, j] = (plus - minus) / (2 * step)
    return relative_errors(law, np.ones((len(gradient), 6)), np.zeros((len(gradient), 1)), numerical - derivative)
