"""The audit: every family of laws has one, and each of its lines can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from click.testing import CliRunner
from mutated_laws import STIFFNESS, some_laws

from constitutive import (
    Audit,
    InternalVariableLaw,
    Law,
    LogarithmicStrainLaw,
    NeoHookeanLaw,
    PolynomialLaw,
    SymmetricLaw,
    VonMisesLaw,
    audit,
)
from constitutive.ckernel import library
from constitutive.cli import main
from constitutive.evaluator import Evaluator
from constitutive.storage import _LAWS
from crystals import PointGroup

SMALL = PolynomialLaw(PointGroup("m-3m"), 2, STIFFNESS, strain_measure="small")
VISCOUS = InternalVariableLaw("mmm", STIFFNESS, 0.1, kinematic=2.0, viscosity=1.0, isotropic=0.4)
FAMILIES: list[Law] = [*some_laws(), SMALL, VISCOUS, LogarithmicStrainLaw(SMALL)]


@pytest.mark.parametrize("law", FAMILIES, ids=lambda law: f"{type(law).__name__}-{law.group.symbol}")
def test_every_family_passes(law: Law) -> None:
    report = audit(law, number=40, parity=False)
    assert report.passed, str(report)
    names = " ".join(check.name for check in report.checks)
    for what in ("objectivity", "symmetry", "stress =", "automatic", "central", "stress-free", "eigenvalue of C(0)", "elliptic",
                 "trained range", "held-out"):  # fmt: skip
        assert what in names
    # what has no verdict says why, or is a figure
    assert all(check.rule for check in report.checks)


def test_no_family_is_forgotten() -> None:
    assert {type(law) for law in FAMILIES} == set(_LAWS.values())


def failed(report: Audit) -> set[str]:
    assert not report.passed and "FAILED" in str(report)
    return {check.name for check in report.checks if check.passed is False}


def broken(change: Any, base: Any = NeoHookeanLaw, *arguments: Any, **options: Any) -> Law:
    """A law whose energy, stress and tangent entries go through `change` first."""

    class Broken(base):
        def _evaluate(self, strain: torch.Tensor, tangent: bool) -> Any:
            return change(strain, *super()._evaluate(strain, tangent))

    return Broken(*(arguments or (40.0, 60.0)), **options)


def _noise(strain: Any, w: Any, s: Any, c: Any) -> Any:
    """What hangs on the last bits of the strain, and so on the frame."""
    return w, s + 1e-9 * torch.sin(1e18 * strain), c


STRESS, TANGENT = "stress = ∂W/∂E (automatic diff.)", "tangent = ∂S/∂E (automatic diff.)"


@pytest.mark.parametrize(
    ("line", "law"),
    [
        ("objectivity: P(RF) = R P(F)", broken(_noise)),
        (STRESS, broken(lambda e, w, s, c: (w, s * (1 + 1e-9), c))),
        (TANGENT, broken(lambda e, w, s, c: (w, s, None if c is None else c * (1 + 1e-9)))),
        ("tangent = ∂P/∂F (central diff.)", broken(lambda e, w, s, c: (w, s, None if c is None else c * (1 + 1e-4)))),
        ("stress-free reference: |S(0)| / |C(0)|", broken(lambda e, w, s, c: (w + 1e-9 * e[:, 0], s + 1e-9 * torch.eye(6).double()[0], c))),
        ("smallest eigenvalue of C(0), GPa", broken(lambda e, w, s, c: (-w, -s, None if c is None else -c))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_broken_law_fails_its_line(line: str, law: Law) -> None:
    assert line in failed(audit(law, number=30, parity=False))


def test_each_fault_of_a_tangent_or_a_class_is_seen() -> None:
    skew = torch.zeros(6, 6, dtype=torch.float64)
    skew[0, 1], skew[1, 0] = 1e-3, -1e-3

    class Skew(NeoHookeanLaw):
        tangent_entries = 36

        def _evaluate(self, strain: torch.Tensor, tangent: bool) -> Any:
            from crystals.mandel import unpack_upper

            w, s, c = super()._evaluate(strain, tangent)
            return w, s, None if c is None else (unpack_upper(c) + skew).reshape(-1, 36)

    assert "major symmetry of ∂P/∂F" in failed(audit(Skew(40.0, 60.0), number=20, parity=False))
    # a cubic class with one axis stiffer
    one = torch.eye(6, dtype=torch.float64)[0]

    def stiffer(e: Any, w: Any, s: Any, c: Any) -> Any:
        entries = None if c is None else c + torch.eye(21, dtype=torch.float64)[0]
        return w + 0.5 * e[:, 0] ** 2, s + e[:, :1] * one, entries

    law = broken(stiffer, PolynomialLaw, PointGroup("m-3m"), 2, STIFFNESS)
    assert failed(audit(law, number=20, parity=False)) == {"symmetry: all 48 operations of m-3m"}


def test_faults_of_laws_with_state_are_seen() -> None:
    class Sloppy(VonMisesLaw):
        def _step(self, strain: Any, state: Any, dt: float, tangent: bool) -> Any:
            w, s, c, after, failures = super()._step(strain, state, dt, tangent)
            return w, s, None if c is None else c * (1 + 1e-4), after, failures

    class Perpetual(VonMisesLaw):
        """Stores more than it was given."""

        def _step(self, strain: Any, state: Any, dt: float, tangent: bool) -> Any:
            w, s, c, after, failures = super()._step(strain, state, dt, tangent)
            return w + 10.0 * after[:, 6], s, c, after, failures

    class Turned(VonMisesLaw):
        """Whose plastic strain hardens one axis."""

        def _step(self, strain: Any, state: Any, dt: float, tangent: bool) -> Any:
            w, s, c, after, failures = super()._step(strain, state, dt, tangent)
            return w, s + 1e-6 * after[:, :1], c, after, failures

    for law, line in ((Sloppy, "tangent = ∂σ/∂ε (central diff.)"), (Perpetual, "dissipation of a step, / |C(0)| |E|²"),
                      (Turned, "symmetry: random 25 operations of ∞∞m")):  # fmt: skip
        assert line in failed(audit(law(70.0, 0.3, 0.1, kinematic=2.0, isotropic=1.0), number=30, parity=False))


def test_backends_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    law = SymmetricLaw("m-3m", 2, (3,), stiffness=STIFFNESS, energy_scale=100.0)
    line = {check.name: check for check in audit(law, number=30).checks}["generated C against torch"]
    assert line.passed and line.value <= 1e-12
    true = Evaluator._in_c

    def off(self: Evaluator, *arguments: Any) -> Any:
        answer = true(self, *arguments)
        return answer._replace(stress=answer.stress * (1 + 1e-9))

    monkeypatch.setattr(Evaluator, "_in_c", off)
    assert failed(audit(law, number=30)) == {"generated C against torch"}
    monkeypatch.undo()
    # without a compiler nothing is claimed
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    library.compiler.cache_clear()
    try:
        report = audit(law, number=10)
    finally:
        monkeypatch.undo()
        library.compiler.cache_clear()
    line = {check.name: check for check in report.checks}["generated C against torch"]
    assert report.passed and line.passed is None and "no C compiler" in line.rule


def test_the_command_says_it_by_its_exit_status(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.law"
    NeoHookeanLaw(40.0, 60.0).save(path)
    good = CliRunner().invoke(main, ["audit", str(path), "--states", "20"])
    assert good.exit_code == 0 and "passed" in good.output and len(good.output.splitlines()) < 40
    import constitutive.storage as storage

    true = storage.load
    monkeypatch.setattr(storage, "load", lambda p: broken(lambda e, w, s, c: (w, 1.1 * s, c)) if true(p) else None)
    assert CliRunner().invoke(main, ["audit", str(path), "--states", "20"]).exit_code == 1
    told = CliRunner().invoke(main, ["audit", str(path), "--states", "20", "--json"])
    import json

    assert json.loads(told.output)["passed"] is False and "NaN" not in told.output
