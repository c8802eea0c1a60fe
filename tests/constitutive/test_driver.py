"""A material point with some strains and some stresses given, against closed forms and finite differences."""

from __future__ import annotations

import itertools
import json
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.optimize import brentq

from constitutive import (
    INVALID,
    NeoHookeanLaw,
    PolynomialLaw,
    SymmetricLaw,
    constrained_response,
    load_path,
    uniaxial,
)
from constitutive.cli import main
from constitutive.laws.history import HistoryLaw
from crystals import PointGroup, mandel
from crystals.rotations import mandel_rotation, random_rotations, rotation_to_direction

#: Every choice of given stresses: 64 points, each with its own.
MASKS = np.array(list(itertools.product([False, True], repeat=6)))
PLANE_STRESS = np.array([False, False, True, True, True, False])


def random_stiffness(seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(6, 6))
    return 60.0 * np.eye(6) + 10.0 * root @ root.T


def cubic(frame: np.ndarray | None = None, order: int = 3) -> PolynomialLaw:
    stiffness = mandel.stiffness_from_voigt(
        np.diag([57.0, 57, 57, 90, 90, 90]) + np.pad(np.full((3, 3), 115.0), (0, 3))
    )
    coefficients = np.zeros({2: 0, 3: 6}[order])
    coefficients[:] = -50.0 * np.arange(1, len(coefficients) + 1)
    turn = mandel_rotation(np.eye(3) if frame is None else frame)
    return PolynomialLaw(PointGroup("m-3m", frame), order, turn @ stiffness @ turn.T, coefficients)


def network(symbol: str = "-3m") -> SymmetricLaw:
    return SymmetricLaw(
        symbol, widths=(8, 8), stiffness=random_stiffness(1), energy_scale=100.0, strain_scale=0.08, seed=3
    )


def test_linear_elasticity_for_every_choice_of_components() -> None:
    """Against the partial inversion of the stiffness, and the condensed tangent against the inverted compliance."""
    stiffness = random_stiffness(0)
    law = PolynomialLaw(PointGroup("-1"), 2, stiffness, strain_measure="small")
    generator = np.random.default_rng(1)
    strain, stress = 0.01 * generator.normal(size=(64, 6)), generator.normal(size=(64, 6))
    point = constrained_response(law, strain, stress, stress_given=MASKS)
    assert point.converged.all()
    compliance = np.linalg.inv(stiffness)
    for k, b in enumerate(MASKS):
        a = ~b
        expected = strain[k].copy()
        right = stress[k, b] - stiffness[np.ix_(b, a)] @ strain[k, a]
        expected[b] = np.linalg.solve(stiffness[np.ix_(b, b)], right)
        assert np.allclose(point.strain[k], expected, rtol=0, atol=1e-13)
        assert np.allclose(point.stress[k], stiffness @ expected, rtol=0, atol=1e-11)
        assert np.array_equal(point.strain[k, a], strain[k, a])
        assert np.allclose(point.condensed[k][np.ix_(a, a)], np.linalg.inv(compliance[np.ix_(a, a)]), rtol=1e-12)
        assert not point.condensed[k][b].any() and not point.condensed[k][:, b].any()


@pytest.mark.parametrize("law", [network(), cubic(), NeoHookeanLaw(40.0, 60.0)], ids=["network", "cubic", "neo-hooke"])
def test_condensed_tangent_is_the_derivative(law: SymmetricLaw) -> None:
    """Central differences through the whole search, for every choice of components and a turned crystal."""
    generator = np.random.default_rng(2)
    strain, turn = 0.02 * generator.normal(size=(64, 6)), random_rotations(64, generator)
    point = constrained_response(law, strain, stress_given=MASKS, orientation=turn)
    assert point.converged.all() and np.abs(np.where(MASKS, point.stress, 0.0)).max() < 1e-9
    numerical, step = np.zeros((64, 6, 6)), 1e-5
    for j in range(6):
        shift = np.where(MASKS[:, j : j + 1], 0.0, step) * np.eye(6)[j]
        plus, minus = (
            constrained_response(law, point.strain + sign * shift, stress_given=MASKS, orientation=turn)
            for sign in (1, -1)
        )
        numerical[:, :, j] = np.where(MASKS, 0.0, (plus.stress - minus.stress) / (2 * step))
    scale = np.linalg.norm(law.stiffness())
    assert np.abs(numerical - point.condensed).max() / scale < 1e-6
    # negative control: the tangent that forgets to condense is another
    both = ~MASKS[:, :, None] & ~MASKS[:, None, :]
    assert np.abs(numerical - np.where(both, point.tangent, 0.0)).max() / scale > 1e-2


def test_neo_hooke_in_tension_against_its_scalar_equation() -> None:
    """λ_lateral from μ (λ_l² − 1) + λ ln J = 0 by bisection; stresses from the principal form."""
    mu, lam = 40.0, 60.0
    for step in uniaxial(NeoHookeanLaw(mu, lam), [1, 2, 3], [1.0, -0.6], steps=4):
        stretch = 1.0 + step.strain

        def free(lateral: float, stretch: float = stretch) -> float:
            return mu * (lateral**2 - 1.0) + lam * np.log(stretch * lateral**2)

        lateral = brentq(free, 0.1, 3.0, xtol=1e-15, rtol=1e-14)
        volume = stretch * lateral**2
        kirchhoff = mu * (stretch**2 - 1.0) + lam * np.log(volume)
        assert np.isclose(step.stress, kirchhoff / stretch, rtol=1e-10, atol=1e-9)
        assert np.isclose(step.true_stress, kirchhoff / volume, rtol=1e-10, atol=1e-9)
        energy = 0.5 * mu * (stretch**2 + 2 * lateral**2 - 3 - 2 * np.log(volume)) + 0.5 * lam * np.log(volume) ** 2
        assert np.isclose(step.energy, energy, rtol=1e-10, atol=1e-12)


def test_plane_stress_of_an_isotropic_body() -> None:
    """The condensed stiffness is E/(1 − ν²) [[1, ν], [ν, 1]], shear 2G (any textbook)."""
    young, poisson = 70.0, 0.3
    lam, mu = young * poisson / ((1 + poisson) * (1 - 2 * poisson)), young / (2 * (1 + poisson))
    stiffness = lam * np.outer(mandel.IDENTITY, mandel.IDENTITY) + 2 * mu * np.eye(6)
    law = PolynomialLaw(PointGroup("isotropic"), 2, stiffness, strain_measure="small")
    point = constrained_response(law, np.array([[0.01, -0.002, 0, 0, 0, 0.003]]), stress_given=PLANE_STRESS)
    plane = young / (1 - poisson**2) * np.array([[1, poisson, 0], [poisson, 1, 0], [0, 0, 1 - poisson]])
    assert np.allclose(point.condensed[0][np.ix_([0, 1, 5], [0, 1, 5])], plane, rtol=1e-13)
    assert np.isclose(point.strain[0, 2], -poisson / (1 - poisson) * 0.008, rtol=1e-12)


def test_a_point_that_fails_is_flagged_and_the_others_do_not_notice() -> None:
    """A stress that Neo-Hooke never reaches, a NaN, a mirrored cell: flagged; other points agree in every bit."""
    law = NeoHookeanLaw(40.0, 60.0)
    strain = 0.05 * np.random.default_rng(0).normal(size=(7, 6))
    given = np.tile(PLANE_STRESS, (7, 1))
    stress = np.zeros((7, 6))
    clean = constrained_response(law, strain, stress, stress_given=given)
    assert clean.converged.all()
    given[2], stress[2, 0] = True, 1e6
    strain[4, 0], strain[5, 0] = np.nan, -0.8
    spoilt = constrained_response(law, strain, stress, stress_given=given)
    assert spoilt.converged.tolist() == [True, True, False, True, False, False, True]
    assert spoilt.status[4] == INVALID and spoilt.status[5] == INVALID
    good = spoilt.converged
    for name in ("strain", "stress", "energy", "tangent", "condensed", "state", "status"):
        assert np.array_equal(getattr(clean, name)[good], getattr(spoilt, name)[good]), name
    assert np.isnan(spoilt.stress[~good]).all() and np.isnan(spoilt.condensed[~good]).all()


def test_a_direction_is_the_turned_crystal() -> None:
    """Driving along [110] is driving the law of the turned crystal along its first axis; along [100] it is not."""
    turn = rotation_to_direction(np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    along, turned, other = (
        list(uniaxial(law, direction, [0.04, -0.03], steps=3))
        for law, direction in ((cubic(), [1, 1, 0]), (cubic(turn), [1, 0, 0]), (cubic(), [1, 0, 0]))
    )
    for a, b, c in zip(along, turned, other, strict=True):
        assert np.allclose(a[:5], b[:5], rtol=1e-10, atol=1e-12)
        assert np.allclose(a.point.strain, b.point.strain, atol=1e-13)
        assert abs(a.stress / c.stress - 1.0) > 0.05
        gradient = mandel.right_stretch(a.point.strain)
        fibre = gradient[0, :, 0] / np.linalg.norm(gradient[0, :, 0])
        cauchy = mandel.from_mandel(mandel.cauchy_stress(a.point.stress, gradient))[0]
        assert np.isclose(fibre @ cauchy @ fibre, a.true_stress, rtol=1e-12)
        assert np.allclose(cauchy, a.true_stress * np.outer(fibre, fibre), atol=1e-9)


def test_held_components_keep_their_strain() -> None:
    plane = list(uniaxial(cubic(), [1, 1, 1], 0.02, steps=2, held=("22",)))[-1].point
    assert plane.strain[0, 1] == 0.0 and abs(plane.stress[0, 1]) > 0.1 and abs(plane.stress[0, 2]) < 1e-8
    held = ("22", "33", "23", "13", "12")
    strain = list(uniaxial(cubic(), [0, 0, 1], 0.02, steps=2, held=held))[-1].point.strain
    assert np.allclose(strain, [[0.02 + 0.5 * 0.02**2, 0, 0, 0, 0, 0]], atol=1e-16)


class Shy(HistoryLaw):
    """Linear elastic, and fails where the strain jumps by more than 0.004 from the state, which is the last strain."""

    state_width = 7
    state_parts = (("last", "strain"), ("time", "scalar"))
    rate_dependent = True

    def __init__(self) -> None:
        super().__init__(PointGroup("-1"), units="GPa", strain_measure="small")
        self.register_buffer("constants", torch.from_numpy(random_stiffness(0)))

    def config(self) -> dict[str, object]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> Shy:
        return cls()

    def _step(
        self, strain: torch.Tensor, state: torch.Tensor, dt: float, tangent: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        stress = strain @ self.constants
        failed = torch.linalg.vector_norm(strain - state[:, :6], dim=1) > 0.004
        entries = mandel.pack_upper(self.constants.expand(len(strain), 6, 6)) if tangent else None
        after = torch.cat([strain, state[:, 6:] + dt], dim=1)
        return 0.5 * (stress * strain).sum(dim=1), stress, entries, after, failed


class TestPath:
    def test_steps_are_cut_and_the_state_goes_along(self) -> None:
        """A law that bears only small steps: one target of 0.03, eleven times too far, is reached; time adds up."""
        law, given = Shy(), np.array([False] + [True] * 5)
        steps = list(
            load_path(law, np.array([[0.03, 0, 0, 0, 0, 0], [0.01, 0, 0, 0, 0, 0]]), stress_given=given, dt=2.0)
        )
        young = 1.0 / np.linalg.inv(random_stiffness(0))[0, 0]
        assert np.allclose([s.stress[0, 0] for s in steps], [0.03 * young, 0.01 * young], rtol=1e-10)
        assert np.allclose([s.state[0, 6] for s in steps], [2.0, 4.0], rtol=1e-14)
        assert np.allclose(steps[0].state[0, :6], steps[0].strain[0])
        with pytest.raises(RuntimeError, match="in step 0 after 2 cuts"):
            list(load_path(law, np.array([[0.03, 0, 0, 0, 0, 0]]), stress_given=given, dt=2.0, cuts=2))

    def test_stress_driven_and_strain_driven_paths_meet(self) -> None:
        law, given = cubic(), np.ones(6, dtype=bool)
        pulled = list(
            load_path(law, np.zeros((5, 6)), np.linspace(0.2, 1.0, 5)[:, None] * np.eye(6)[0], stress_given=given)
        )
        back = [law.response(step.strain).stress[0] for step in pulled]
        assert np.allclose(back, np.linspace(0.2, 1.0, 5)[:, None] * np.eye(6)[0], atol=1e-9)
        again = next(load_path(law, np.zeros((1, 6)), 0.0, stress_given=given, start=pulled[-1]))
        assert np.abs(again.strain).max() < 1e-12

    def test_a_softening_crystal_stops_with_a_sentence(self) -> None:
        with pytest.raises(RuntimeError, match=r"load_path: expected every point to converge, got 1 of 1"):
            list(uniaxial(cubic(), [1, 0, 0], -0.6, steps=10))

    def test_many_steps_keep_memory_flat(self) -> None:
        """Ten thousand are driven by tests/benchmarks/long_run.py."""
        law = PolynomialLaw(PointGroup("-1"), 2, random_stiffness(0), strain_measure="small")
        targets = 0.01 * np.sin(np.linspace(0.0, 60.0, 3_000))[:, None] * np.eye(6)[0]
        path = load_path(law, targets, stress_given=np.array([False] + [True] * 5))
        alive: list[weakref.ref[np.ndarray]] = []
        for number, step in enumerate(path):
            alive.append(weakref.ref(step.tangent))
            if number == 2000:
                tracemalloc.start()
        # what this package's lines hold: a test runner's own threads allocate too
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*constitutive*", all_frames=True)])
        tracemalloc.stop()
        grown = sum(trace.size for trace in kept.traces)
        assert len(alive) == 3_000 and sum(reference() is not None for reference in alive) <= 1
        # the last thousand steps, whose arrays take 2 MB
        assert grown < 300_000, grown


def test_wrong_arguments_get_a_sentence() -> None:
    law, rest, one = cubic(), np.zeros((2, 6)), np.eye(3)[None]
    for call, expected in (
        (lambda: constrained_response(law, np.zeros(6), stress_given=PLANE_STRESS), "strain of shape"),
        (lambda: constrained_response(law, np.zeros((2, 6)), stress_given=PLANE_STRESS[:3]), "stress_given of shape"),
        (lambda: constrained_response(law, np.zeros((2, 6)), np.nan, stress_given=PLANE_STRESS), "finite stresses"),
        (lambda: constrained_response(law, rest, stress_given=PLANE_STRESS, orientation=one), "orientation of shape"),
        (lambda: uniaxial(law, [0, 0, 0], 0.1), "nonzero axis"),
        (lambda: uniaxial(law, [1, 0, 0], -1.5), "above −1"),
        (lambda: uniaxial(law, [1, 0, 0], 0.1, held=("11",)), "held components"),
        (lambda: uniaxial(Shy(), [1, 0, 0], 0.1), "expected a rate"),
        (lambda: load_path(law, np.zeros(6), stress_given=PLANE_STRESS), "strain of shape"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=expected):
            call()
    with pytest.raises(TypeError, match="booleans"):
        constrained_response(law, np.zeros((2, 6)), stress_given=np.zeros(6))
    with pytest.raises(ValueError, match="expected a time step"):
        Shy().response(np.zeros((1, 6)))


class TestCommand:
    @staticmethod
    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, ["drive", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    def test_table_files_and_json(self, tmp_path: Path) -> None:
        law, csv, png = (str(tmp_path / name) for name in ("cu.law", "curve.csv", "curve.png"))
        cubic().save(law)
        arguments = (law, "--direction", "1-10", "--to", "0.02,-0.01", "--steps", "4")
        code, text, error = self.run(*arguments, "--csv", csv, "--plot", png)
        assert code == 0, error
        assert "true stress" in text and len(text.splitlines()) == 12
        assert (tmp_path / "curve.png").stat().st_size > 5000
        rows = json.loads(self.run(*arguments, "--json")[1])
        expected = list(uniaxial(cubic(), [1, -1, 0], [0.02, -0.01], steps=4))
        assert rows["complete"] and [row["stress"] for row in rows["steps"]] == [step.stress for step in expected]
        written = np.genfromtxt(csv, delimiter=",", names=True, dtype=None, encoding=None)
        assert written["stress"].tolist() == [step.stress for step in expected] and written["elliptic"].all()

    def test_what_was_reached_is_kept_where_the_path_ends(self, tmp_path: Path) -> None:
        law = str(tmp_path / "cu.law")
        cubic().save(law)
        code, text, error = self.run(law, "--to", "-0.6", "--steps", "30", "--json")
        reached = json.loads(text)
        assert code == 1 and "expected every point to converge" in error
        assert not reached["complete"] and 1 < len(reached["steps"]) < 30
        assert not reached["steps"][-1]["elliptic"] and reached["steps"][0]["elliptic"]

    def test_mistakes_end_in_one_sentence(self, tmp_path: Path) -> None:
        law = str(tmp_path / "cu.law")
        cubic().save(law)
        for arguments, expected in (
            (("--to", "x"), "--to: expected numbers"),
            (("--to", "0.1", "--direction", "11"), "three numbers"),
            (("--to", "0.1", "--direction", "1a0"), "three numbers"),
            (("--to", "0.1", "--held", "44"), "held components"),
            (("--to", "0.1", "--rate", "1"), "--rate: expected none"),
            (("--to", "0.1", "--plot", str(tmp_path / "a.txt")), "--plot: expected a name"),
        ):
            code, _, error = self.run(law, *arguments)
            assert code == 2 and expected in error and error.startswith("Error: "), error
