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

from .evaluator import Evaluator, first_piola
from .laws.electromechanical import PiezoelectricLaw
from .laws.history import HistoryLaw
from .laws.law import Law
from .laws.parametric import ParametricLaw
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

    @property
    def shown(self) -> str:
        """The figure as text; a dash where there is none."""
        return "—" if self.passed is None and np.isnan(self.value) else f"{self.value:.3g}"


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
        checks = [{**asdict(c), "value": None if np.isnan(c.value) else c.value} for c in self.checks]
        return {"law": self.law, "passed": self.passed, "checks": checks}

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILED", None: ""}
        width = max(len(check.name) for check in self.checks)
        lines = [f"  {c.name:<{width}}  {c.shown:<10}  {c.rule:<34} {mark[c.passed]}".rstrip() for c in self.checks]
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


def outside_rotation(
    group: PointGroup, law: Law, strain: np.ndarray, inputs: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
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

    def stress(at: np.ndarray) -> np.ndarray:
        return law.response(at, inputs=inputs, dt=1.0, tangent=False).stress

    change = stress(strain @ turn.T) - stress(strain) @ turn.T
    return rotation, relative_errors(law, strain, change, np.zeros((len(strain), 1)))


def _orthonormal(rotation: np.ndarray) -> np.ndarray:
    """One Newton step to the nearest orthogonal matrix: a defect of 4e-16 in QᵀQ would count as strain."""
    return rotation @ (1.5 * np.eye(3) - 0.5 * np.swapaxes(rotation, -1, -2) @ rotation)


class _Subject:
    """A law at fixed random states, as one map x → (s, ∂s/∂x): F → P where it knows finite strain, ε → σ where not.

    A law with inputs has some of its range at each state; one with internal variables those of a step before.
    """

    def __init__(self, law: Law, domain: float, number: int, generator: np.random.Generator) -> None:
        self.law, self.finite = law, law.strain_measure == "green_lagrange"
        self.strain = sample_strains(1.5 * domain, number, generator)
        self.inputs: np.ndarray | None = None
        if isinstance(law, ParametricLaw):
            low, high = law.input_range.T
            self.inputs = low + (high - low) * generator.uniform(size=(number, len(low)))
            self.strain = _possible(law.free_strain(self.inputs) + self.strain)
        self.memory: np.ndarray | None = None
        if isinstance(law, HistoryLaw):
            self.before = 0.5 * sample_strains(domain, number, generator)
            self.memory = law.response(self.before, dt=1.0, tangent=False).state
        rotations = _orthonormal(random_rotations(number, generator))
        self.points = rotations @ mandel.right_stretch(self.strain) if self.finite else self.strain

    def ask(self, points: np.ndarray, memory: np.ndarray | None = None, tangent: bool = True) -> Any:
        """s and ∂s/∂x (n, …) at points (n, …) of the first n states."""
        n, law = len(points), self.law
        inputs = None if self.inputs is None else self.inputs[:n]
        memory = memory if memory is not None or self.memory is None else self.memory[:n]
        if self.finite:
            return first_piola(law, points, None, tangent, inputs, memory, 1.0)
        answer = law.response(points, memory, inputs, 1.0, tangent)
        return answer.stress, _matrices(law, answer.tangent) if tangent else None

    def acted(self, operation: np.ndarray, stress: np.ndarray, derivative: np.ndarray) -> tuple[Any, Any, Any, Any]:
        """Points and memory on which a symmetry operation acted, and s and ∂s/∂x that the symmetry then demands."""
        turn = mandel_rotation(operation)
        memory = self.memory
        if isinstance(self.law, HistoryLaw) and memory is not None:
            memory = memory @ self.law.state_rotation(operation).T
        if not self.finite:
            return self.points @ turn.T, memory, stress @ turn.T, turn @ derivative @ turn.T
        expected = np.einsum("niAkB,JA,LB->niJkL", derivative, operation, operation, optimize=True)
        return self.points @ operation.T, memory, stress @ operation.T, expected

    def difference(self, number: int, derivative: np.ndarray) -> float:
        """Relative error of ∂s/∂x against central differences at the first states, kinks of plasticity left out."""
        # of a step small against the strain at yield
        step = 1e-5 if self.memory is None else 1e-7
        points = self.points[:number]
        number = len(points)
        shape = points.shape[1:]
        numerical = np.empty((number, *derivative.shape[1 : 1 + len(shape)], *shape))
        middle, kink = self.ask(points, tangent=False)[0], np.zeros(number, dtype=bool)
        scale = float(np.linalg.norm(self.law.stiffness()))
        for place in np.ndindex(*shape):
            shift = np.zeros(shape)
            shift[place] = step
            plus, minus = (self.ask(points + sign * shift, tangent=False)[0] for sign in (1.0, -1.0))
            numerical[(..., *place)] = (plus - minus) / (2 * step)
            if self.memory is not None:
                bend = np.linalg.norm((plus - 2.0 * middle + minus).reshape(number, -1), axis=1)
                kink |= bend > 1e-2 * step * scale
        if np.mean(kink) > 0.5:
            return float("nan")
        difference = (numerical - derivative[:number])[~kink]
        none = np.zeros((len(difference), 1))
        return relative_errors(self.law, np.ones((len(difference), 6)), none, difference)


def _matrices(law: Law, entries: np.ndarray) -> np.ndarray:
    return mandel.unpack_upper(entries) if law.tangent_entries == 21 else entries.reshape(-1, 6, 6)


def audit(law: Law, number: int = 1000, seed: int = 0, parity: bool = True) -> Audit:
    """Measure what a law keeps, on random states to 1.5 times its trained range.

    Objectivity, symmetry and the tangent are taken on the path F → (P, ∂P/∂F) that a solver uses, or ε → (σ, ∂σ/∂ε) for
    laws of small strain, in the norms ‖ΔS‖ / (‖C(0)‖ max(|E|, 1e-3)) and ‖ΔC‖ / ‖C(0)‖. Laws with inputs are asked all
    over their range; laws with internal variables in a second step of time 1, after a random first one. What a family
    does not have is said in its line, without a verdict.

    Parameters
    ----------
    law : Law
    number : int
        Number of states.
    seed : int
        Seed of the states.
    parity : bool
        Whether to compare generated C with torch, for which the law is compiled once.
    """
    generator = np.random.default_rng(seed)
    domain = law.max_strain if np.isfinite(law.max_strain) else DEFAULT_RADIUS
    subject = _Subject(law, domain, number, generator)
    strain, finite, laue = subject.strain, subject.finite, law.group.laue
    stress, derivative = subject.ask(subject.points)
    checks: list[Check] = []
    none = np.zeros((number, 1))

    def limit(name: str, value: float, bound: float) -> None:
        checks.append(Check(name, value, f"≤ {bound:.0e}", bool(value <= bound)))

    def left_out(name: str, reason: str) -> None:
        checks.append(Check(name, float("nan"), reason, None))

    if finite:
        turns = _orthonormal(random_rotations(number, generator))
        turned_stress, turned = subject.ask(turns @ subject.points)
        expected = np.einsum("nia,nkb,naJbL->niJkL", turns, turns, derivative, optimize=True)
        error = relative_errors(law, strain, turned_stress - turns @ stress, turned - expected)
        limit("objectivity: P(RF) = R P(F)", error, 1e-12)
    else:
        left_out("objectivity", "small strain does not know rotations")
    worst = 0.0
    operations = _orthonormal(laue.sample(24, generator))
    for operation in operations:
        points, memory, wanted, expected = subject.acted(operation, stress, derivative)
        image, tangents = subject.ask(points, memory)
        worst = np.maximum(worst, relative_errors(law, strain, image - wanted, tangents - expected))
    kind = "all" if law.group.is_finite else "random"
    limit(f"symmetry: {kind} {len(operations)} operations of {laue.symbol}", float(worst), 1e-12)
    if laue.symbol not in ("-1", "∞∞m"):
        far = np.linalg.norm(strain, axis=1) > 0.1 * domain
        change = outside_rotation(law.group, law, strain[far], None if subject.inputs is None else subject.inputs[far])[
            1
        ]
        # a law may well be more symmetric than its class (isotropic constants, say): that is no defect
        checks.append(Check("rotation outside the class changes S by", change, "negative control, about 1", None))

    if law.state_width:
        left_out("stress = ∂W/∂E (automatic diff.)", "stress of internal variables has no potential")
        left_out("tangent = ∂S/∂E (automatic diff.)", "an implicit step: see central differences")
    else:
        stress_ad, tangent_ad = _automatic(subject)
        answer = law.response(strain, inputs=subject.inputs)
        full = _matrices(law, answer.tangent)
        limit("stress = ∂W/∂E (automatic diff.)", relative_errors(law, strain, answer.stress - stress_ad, none), 1e-12)
        limit("tangent = ∂S/∂E (automatic diff.)", relative_errors(law, strain, none, full - tangent_ad), 1e-12)
    limit(f"tangent = {'∂P/∂F' if finite else '∂σ/∂ε'} (central diff.)", subject.difference(50, derivative), 1e-6)
    if finite:
        flat = derivative.reshape(number, 9, 9)
        limit("major symmetry of ∂P/∂F", relative_errors(law, strain, none, flat - np.swapaxes(flat, 1, 2)), 1e-14)
    if isinstance(law, HistoryLaw) and not finite:
        checks.append(_dissipation(law, subject))

    scale = float(np.linalg.norm(law.stiffness()))
    free = law.free_strain(subject.inputs) if isinstance(law, ParametricLaw) else np.zeros((1, 6))
    rest = law.response(free, inputs=subject.inputs, dt=1.0, tangent=False).stress
    limit("stress-free reference: |S(0)| / |C(0)|", float(np.linalg.norm(rest, axis=1).max()) / scale, 1e-15)
    values = np.linalg.eigvalsh(law.stiffness())
    listed = " ".join(f"{value:.4g}" for value in values)
    checks.append(
        Check(f"smallest eigenvalue of C(0), {law.units}", float(values[0]), f"> 0; all: {listed}", bool(values[0] > 0))
    )
    if law.state_width:
        left_out("elliptic part of the trained range, %", "not supported: laws with internal variables")
    else:
        ball = ball_strains(domain, number, generator)
        if isinstance(law, ParametricLaw):
            ball = _possible(law.free_strain(subject.inputs) + ball)
        acoustic = acoustic_eigenvalue(law, ball, inputs=subject.inputs)
        share = 100.0 * float(np.mean(acoustic > 0))
        checks.append(Check("elliptic part of the trained range, %", share, "100 % is strongly elliptic", None))
        lowest = float(np.min(acoustic))
        checks.append(
            Check(f"smallest acoustic eigenvalue there, {law.units}", lowest, "> 0 is strongly elliptic", None)
        )
    if isinstance(law, PiezoelectricLaw):
        left_out("coupling with the electric field", "not measured: the law is asked at zero field")
    if parity:
        checks.append(_parity(law, strain))
    checks.append(Check("trained range |E|", law.max_strain, "beyond it: OutOfRange", None))
    if law.domain is not None:
        inside = law.domain.contains(torch.from_numpy(ball_strains(domain, 4000, generator))).double().mean()
        checks.append(
            Check("training domain's share of that ball, %", 100.0 * float(inside), "outside: OutOfRange", None)
        )
    figures, rule = law.metadata.get("fit", {}), "relative RMS, second Piola–Kirchhoff"
    if "held_out_stress_error" in figures:
        checks.append(Check("held-out stress error, %", 100 * float(figures["held_out_stress_error"]), rule, None))
    else:
        left_out("held-out stress error, %", "not in the file: no state was held out, or it was not fitted here")
    if "cross_validated_stress_error" in figures:
        error = 100 * float(figures["cross_validated_stress_error"])
        checks.append(Check("cross-validated stress error, %", error, rule, None))
    return Audit(f"{type(law).__name__} {law.group.symbol}", tuple(checks))


def _automatic(subject: _Subject) -> tuple[np.ndarray, np.ndarray]:
    """∂W/∂E (n, 6) and ∂²W/∂E² (n, 6, 6) of the law's energy, by automatic differentiation."""
    law = subject.law
    points = torch.from_numpy(subject.strain).to(law.device)
    law.response(
        subject.strain[:1], inputs=None if subject.inputs is None else subject.inputs[:1]
    )  # fills what it precomputes
    if isinstance(law, ParametricLaw):
        parametric, which = law, torch.zeros(1, dtype=torch.long, device=law.device)
        given = torch.from_numpy(np.asarray(subject.inputs)).to(law.device)

        def energy(point: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
            return parametric.forward(point[None], inputs[None], which)[0][0]
    else:
        given = torch.zeros(len(points), 0)

        def energy(point: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
            return law._evaluate(point[None], False)[0][0]

    with torch.enable_grad():
        first = vmap(grad(energy), chunk_size=512)(points, given)
        second = vmap(hessian(energy), chunk_size=256)(points, given)
    return first.detach().cpu().numpy(), second.detach().cpu().numpy()


def _dissipation(law: HistoryLaw, subject: _Subject) -> Check:
    """Smallest σₙ₊₁ : Δε − ΔW of the second step; where W is convex in strain and internal variables, an implicit step
    keeps it above zero (Halphen and Nguyen 1975)."""
    before = law.response(subject.before, subject.memory, dt=0.0, tangent=False)
    after = law.response(subject.strain, subject.memory, dt=1.0, tangent=False)
    spent = np.sum(after.stress * (subject.strain - subject.before), axis=1) - (after.energy - before.energy)
    size = np.linalg.norm(subject.strain, axis=1) + np.linalg.norm(subject.before, axis=1)
    lowest = float(np.min(spent / (np.linalg.norm(law.stiffness()) * np.maximum(size, 1e-3) ** 2)))
    return Check("dissipation of a step, / |C(0)| |E|²", lowest, "≥ -1e-12: the second law", bool(lowest >= -1e-12))


def _parity(law: Law, strain: np.ndarray) -> Check:
    """Largest difference of energy, stress and tangent between generated C and torch."""
    from .ckernel import NoCompiler, unsupported
    from .ckernel.library import compiler

    name = "generated C against torch"
    reason = unsupported(law)
    if reason:
        return Check(name, float("nan"), f"not supported: {type(law).__name__} in C", None)
    try:
        ours = Evaluator(law, "c").response(strain)
    except ValueError as error:
        try:
            compiler()
        except NoCompiler:
            return Check(name, float("nan"), "not measured: no C compiler here", None)
        return Check(name, float("inf"), str(error)[:200], False)
    theirs = Evaluator(law, "torch").response(strain)
    error = relative_errors(law, strain, ours.stress - theirs.stress, _matrices(law, ours.tangent - theirs.tangent))
    if np.any(ours.status != theirs.status):
        error = float("inf")
    return Check(name, error, "≤ 1e-12", bool(error <= 1e-12))
