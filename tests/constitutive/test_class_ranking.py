"""Unlabelled data of a class are given that class: in a stated frame, in a searched one, and no more than noise allows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from constitutive import PolynomialLaw, rank_classes
from constitutive.cli import main
from constitutive.fitting.class_ranking import _joined_orbits
from constitutive.fitting.frame_search import RIDGE, class_distance
from constitutive.fitting.least_squares import PolynomialFit
from constitutive.laws.polynomial import higher_order_polynomials
from crystals import LAUE_CLASSES, PointGroup, StrainData, invariant_tensors, mandel
from crystals.atomistic import plan_strains
from crystals.rotations import mandel_rotation, random_rotations, rotation_about

CUBIC = mandel.stiffness_from_voigt(
    np.block([[np.full((3, 3), 115.0) + 57.0 * np.eye(3), np.zeros((3, 3))], [np.zeros((3, 3)), 75.0 * np.eye(3)]])
)


def made(group: PointGroup, number: int = 60, noise: float = 3e-3, order: int = 4, seed: int = 0) -> StrainData:
    """Noisy states, without a label, of a law of a class with random constants of second to fourth order."""
    generator = np.random.default_rng(seed)
    degrees = higher_order_polynomials(group, order).degrees
    constants = generator.normal(size=len(degrees)) * np.where(degrees == 3, 200.0, 400.0)
    lower = generator.normal(size=(6, 6))
    turn = mandel_rotation(group.frame)
    law = PolynomialLaw(group, order, turn @ (CUBIC + 8.0 * (lower + lower.T)) @ turn.T, constants)
    strain = plan_strains(number, 0.05, seed)
    stress = law.response(strain, tangent=False).stress
    stress = stress + noise * np.sqrt(np.mean(stress**2)) * generator.normal(size=stress.shape)
    return record(strain, stress)


def record(strain: np.ndarray, stress: np.ndarray) -> StrainData:
    gradient = mandel.right_stretch(strain)
    cauchy = mandel.cauchy_stress(stress, gradient)
    return StrainData(
        strain=strain, stress=stress, energy=None, deformation_gradient=gradient, cauchy=cauchy, group=None
    )


def offset(first: PointGroup, second: PointGroup) -> float:
    """How far an operation of one group is from the nearest of the other."""
    return float(np.abs(first.rotations[:, None] - second.rotations[None]).max(axis=(2, 3)).min(axis=1).max())


@pytest.mark.parametrize("symbol", LAUE_CLASSES)
def test_the_class_is_found_in_a_stated_frame(symbol: str) -> None:
    frame = random_rotations(1, np.random.default_rng(1))[0]
    ranking = rank_classes(made(PointGroup(symbol, frame)), frame)
    assert ranking.best.group == PointGroup(symbol, frame)
    assert [row.group.symbol for row in ranking.rows] == list(LAUE_CLASSES[::-1])
    for row in ranking.rows:
        # 0.3 % noise and what degree 3 leaves; a class that the law does not have misses a multiple
        assert row.error > 0.003 and (row.error < 0.01 or not row.within_noise)
        assert not row.floor.determinable
    assert f"within noise: {symbol}" in str(ranking)


# all classes: tests/benchmarks/symmetry_floor.py
@pytest.mark.parametrize("symbol", ["m-3m", "mmm", "-3m"])
def test_class_and_frame_are_found(symbol: str) -> None:
    group = PointGroup(symbol, random_rotations(1, np.random.default_rng(3))[0])
    ranking = rank_classes(made(group))
    found = ranking.best.group
    assert found.symbol == symbol and ranking.searched
    # the data are fitted better than in the frame they were made in, whatever the noise
    data = made(group)
    here, there = (PolynomialFit(replace(data, group=g), 3, False, RIDGE).stress(data.strain) for g in (found, group))
    assert np.sum((here - data.stress) ** 2) < np.sum((there - data.stress) ** 2)
    if symbol == "6/mmm":  # its axes normal to c act on third order only: noise moves them by degrees
        assert abs(found.frame[:, 2] @ group.frame[:, 2]) > np.cos(0.01)
    else:
        assert offset(found, group) < 0.01
    assert offset(PointGroup(symbol), group) > 0.1  # it was turned


def test_in_a_wrong_frame_the_class_is_contradicted() -> None:
    """Negative control: the same cubic data in their own frame, and in one ten degrees away."""
    data = made(PointGroup("m-3m"))
    assert rank_classes(data, np.eye(3)).best.group.symbol == "m-3m"
    wrong = rank_classes(data, rotation_about(np.array([1.0, 2.0, 3.0]), np.radians(10.0)))
    assert wrong.best.group.symbol == "-1" and wrong.rows[0].chance == 0.0


def test_a_breaking_below_the_noise_passes_and_one_above_does_not() -> None:
    """Tetragonal part of a cubic law: a twentieth of the noise, then five times the noise."""
    group, generator = PointGroup("4/mmm"), np.random.default_rng(5)
    cubic = made(PointGroup("m-3m"), noise=0.0)
    size = np.sqrt(np.mean(cubic.stress**2))
    noise = 0.02 * size * generator.normal(size=cubic.stress.shape)
    part = cubic.strain @ np.diag([1.0, 1.0, -2.0, 0.0, 0.0, 0.0])
    part = 0.02 * size * part / np.sqrt(np.mean(part**2))
    small, large = (rank_classes(record(cubic.strain, cubic.stress + noise + f * part), np.eye(3)) for f in (0.05, 5.0))
    assert small.best.group.symbol == "m-3m" and large.best.group == group
    assert large.rows[0].error > 1.5 * large.best.error


def test_second_order_constants_alone_cannot_contradict_the_higher_class() -> None:
    """A law of m-3 or 6/m with no higher constants *is* one of m-3m or 6/mmm, in its frame or in one about the axis."""
    for symbol, higher in (("m-3", "m-3m"), ("6/m", "6/mmm")):
        assert rank_classes(made(PointGroup(symbol), order=2), np.eye(3)).best.group.symbol == higher
        assert rank_classes(made(PointGroup(symbol), order=4), np.eye(3)).best.group.symbol == symbol


def test_no_class_meets_a_twin_of_its_test_states() -> None:
    groups = [PointGroup(symbol, random_rotations(1, np.random.default_rng(1))[0]) for symbol in ("m-3m", "6/mmm")]
    data = made(groups[0], number=30)
    twins = np.concatenate([data.strain @ mandel_rotation(group.rotations[3]).T for group in groups])
    both = record(np.concatenate([data.strain, twins]), np.tile(data.stress, (3, 1)))
    labels = _joined_orbits(both, groups).reshape(3, 30)
    assert np.array_equal(labels[0], labels[1]) and np.array_equal(labels[0], labels[2])
    assert len(np.unique(labels)) == 30
    alone = _joined_orbits(both, groups[:1]).reshape(3, 30)
    assert np.array_equal(alone[0], alone[1]) and not np.any(alone[0] == alone[2])


def test_floors_stand_beside_the_errors() -> None:
    """Cubic twins carry noise: a floor for m-3m and its subgroups that joins them, none for the triclinic class."""
    group = PointGroup("m-3m")
    data = made(group, noise=0.0)
    turn = mandel_rotation(group.rotations[5])
    noise = np.random.default_rng(2).normal(size=(120, 6)) * 0.01 * np.sqrt(np.mean(data.stress**2))
    twice = record(
        np.concatenate([data.strain, data.strain @ turn.T]), np.concatenate([data.stress, data.stress @ turn.T]) + noise
    )
    ranking = rank_classes(twice, np.eye(3))
    assert ranking.best.group == group and ranking.distinct == 60 and ranking.states == 120
    assert ranking.best.floor.relative == pytest.approx(0.01, rel=0.1)
    assert ranking.best.floor.relative < 1.1 * ranking.best.error
    assert not ranking.rows[-1].floor.determinable


@pytest.mark.parametrize("symbol", LAUE_CLASSES)
def test_constants_of_a_class_are_at_no_distance_from_it(symbol: str) -> None:
    generator = np.random.default_rng(1)
    parts = []
    turn = random_rotations(1, generator)[0]
    for order in (1, 2, 3):
        tensors = invariant_tensors(symbol, order)
        part = np.tensordot(generator.normal(size=len(tensors)), tensors, axes=1)
        for _ in range(order):
            part = np.moveaxis(np.tensordot(mandel_rotation(turn), part, axes=(1, 0)), 0, -1)
        parts.append(part)
    frames = np.array([turn, rotation_about(np.ones(3), 0.3) @ turn])
    here, away = class_distance(parts, symbol, frames)
    assert abs(here) < 1e-13
    assert away > 1e-3 or symbol == "-1"


def test_mistakes_get_a_sentence() -> None:
    data = made(PointGroup("mmm"))
    with pytest.raises(ValueError, match="at least 28 states"):
        rank_classes(data.take(slice(0, 27)))
    with pytest.raises(ValueError, match="got zeros only"):
        rank_classes(replace(data, stress=np.zeros((60, 6))))
    with pytest.raises(ValueError, match="proper rotations"):
        rank_classes(data, -np.eye(3))
    same = record(np.tile(data.strain[:5], (8, 1)), np.tile(data.stress[:5], (8, 1)))
    with pytest.raises(ValueError, match="at least 10 states that no class maps"):
        rank_classes(same, np.eye(3))


def test_the_command_line(tmp_path: Path) -> None:
    frame = random_rotations(1, np.random.default_rng(6))[0]
    data = replace(made(PointGroup("4/mmm", frame)), group=PointGroup("1", frame))
    data.write(tmp_path / "a.h5")
    result = CliRunner().invoke(main, ["classes", str(tmp_path / "a.h5"), "--frame", "stated", "--json"])
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["best"] == "4/mmm" and len(answer["classes"]) == 11 and answer["frame"] == "stated"
    assert answer["classes"][0]["symbol"] == "m-3m" and answer["classes"][0]["floor"] is None
    assert np.allclose(answer["classes"][0]["frame"], frame)
    result = CliRunner().invoke(main, ["classes", str(tmp_path / "a.h5"), "--frame", "stated"])
    assert "highest class within noise: 4/mmm" in result.stdout and "not determinable" in result.stdout
    for arguments, message in (
        (["--units", "Pa"], "expected no --units"),
        (["--skip-frames", "3"], "no --skip-frames"),
    ):
        result = CliRunner().invoke(main, ["classes", str(tmp_path / "a.h5"), *arguments])
        assert result.exit_code == 2 and result.stderr.startswith("Error: classes: ") and message in result.stderr
    result = CliRunner().invoke(main, ["classes", str(tmp_path)])
    assert result.exit_code == 2 and "expected --units" in result.stderr
