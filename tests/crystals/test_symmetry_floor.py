"""The symmetry floor: nothing where the data obey the class, exactly the broken part where they do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crystals import (
    LAUE_CLASSES,
    STRAIN_CLASSES,
    PointGroup,
    StrainData,
    invariant_tensors,
    mandel,
    read_tables,
    symmetry_floor,
)
from crystals.rotations import mandel_rotation, random_rotations
from crystals.symmetry_floor import _closed

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cubic_lattice_bcc"
HIGH = [symbol for symbol in STRAIN_CLASSES if symbol != "-1"]


class Polynomial:
    """S = C E + ½ C₃ E E + 2500 |E|² E with random constants of a class: a law of that class and of no higher one."""

    def __init__(self, group: PointGroup, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.turn = mandel_rotation(group.frame.T)
        second, third = (invariant_tensors(group.laue.symbol, order) for order in (2, 3))
        self.second = np.tensordot(generator.normal(size=len(second)), second, axes=1) * 20.0 + 150.0 * np.eye(6)
        self.third = np.tensordot(generator.normal(size=len(third)), third, axes=1) * 300.0

    def __call__(self, strain: np.ndarray) -> np.ndarray:
        x = strain @ self.turn.T
        return (
            x @ self.second
            + 0.5 * np.einsum("ijk,nj,nk->ni", self.third, x, x)
            + 2.5e3 * np.sum(x**2, axis=1)[:, None] * x
        ) @ self.turn


def record(strain: np.ndarray, stress: np.ndarray, group: PointGroup | None) -> StrainData:
    gradient = mandel.right_stretch(strain)
    cauchy = mandel.cauchy_stress(stress, gradient)
    return StrainData(
        strain=strain, stress=stress, energy=None, deformation_gradient=gradient, cauchy=cauchy, group=group
    )


def operations(group: PointGroup, seed: int = 5) -> np.ndarray:
    """Some operations of a class other than the identity, as Mandel matrices (m, 6, 6)."""
    found = group.sample(6, np.random.default_rng(seed))
    found = found[np.abs(np.abs(np.trace(found, axis1=1, axis2=2)) - 3.0) > 1e-9]
    return mandel_rotation(found)


def balls(number: int, seed: int = 1) -> np.ndarray:
    strain = np.random.default_rng(seed).normal(size=(number, 6))
    return 0.05 * strain / np.linalg.norm(strain, axis=1)[:, None]


def twins(group: PointGroup, number: int = 12) -> np.ndarray:
    """Random strains, an image of each under the class, and strains that one operation leaves alone."""
    turns = operations(group)
    strain = balls(number)
    images = np.array([turns[i % len(turns)] @ e for i, e in enumerate(strain)])
    return np.concatenate([strain, images, balls(number, 2) @ kept(turns[0])])


def kept(turn: np.ndarray) -> np.ndarray:
    """Projector (6, 6) on the strains that an operation leaves alone."""
    _, sizes, directions = np.linalg.svd(turn - np.eye(6))
    null = directions[sizes < 1e-9]
    return null.T @ null


@pytest.mark.parametrize("symbol", HIGH)
def test_laws_of_the_class_have_no_floor_and_lower_laws_have_one(symbol: str) -> None:
    frame = random_rotations(1, np.random.default_rng(2))[0]
    group = PointGroup(symbol, frame)
    strain = twins(group)
    floor = symmetry_floor(record(strain, Polynomial(group)(strain), group))
    assert floor.determinable and floor.informative == 1.0
    assert floor.relative < 1e-12 and np.abs(floor.stress).max() < 1e-11 and floor.rmse_P < 1e-11
    # negative control: the same strains answered by a triclinic law
    lower = symmetry_floor(record(strain, Polynomial(PointGroup("-1"))(strain), group))
    assert lower.relative > 0.03 and lower.bound > 0.02


def test_a_class_asks_about_its_own_operations_only() -> None:
    """Data of 4/mmm: no floor for its subgroups, a floor for m-3m, in which it lies."""
    group = PointGroup("4/mmm")
    cubic = PointGroup("m-3m")
    strain = np.concatenate([twins(cubic), twins(group), twins(PointGroup("mmm"))])
    data = record(strain, Polynomial(group)(strain), None)
    for symbol in ("2/m", "mmm", "4/m", "4/mmm"):
        assert symmetry_floor(data, PointGroup(symbol)).relative < 1e-12
    for symbol in ("m-3", "m-3m", "∞∞m"):
        assert symmetry_floor(data, PointGroup(symbol)).relative > 0.02
    with pytest.raises(ValueError, match="expected a point group"):
        symmetry_floor(data)


def test_a_known_breaking_is_found_state_by_state() -> None:
    """What is added outside the reach of every law comes back unchanged, in S and in P."""
    group = PointGroup("m-3m", random_rotations(1, np.random.default_rng(4))[0])
    strain = balls(40) @ kept(operations(group)[0])
    stress = Polynomial(group)(strain)
    breaking = np.random.default_rng(6).normal(size=stress.shape)
    # the stabiliser of these strains may hold more than powers of this one: take the part that all of it averages out
    stabiliser = [t for t in mandel_rotation(group.rotations) if np.abs(strain @ t.T - strain).max() < 1e-12]
    assert len(stabiliser) >= 2
    breaking -= breaking @ np.mean(stabiliser, axis=0).T
    data = record(strain, stress + breaking, group)
    floor = symmetry_floor(data)
    assert np.abs(floor.stress - breaking).max() < 1e-10
    assert floor.relative == pytest.approx(np.sqrt(np.sum(breaking**2) / np.sum(data.stress**2)), rel=1e-12)
    assert floor.bound == pytest.approx(floor.relative, rel=1e-12)
    piola = data.deformation_gradient @ mandel.from_mandel(breaking)
    assert floor.rmse_P == pytest.approx(np.sqrt(np.mean(piola**2)), rel=1e-12)


@pytest.mark.parametrize("copies", [2, 4])
def test_noise_on_twins_is_recovered_without_bias(copies: int) -> None:
    """The mean of k states takes 1/k of their scatter; `relative` gives it back, `bound` does not."""
    group = PointGroup("m-3m")
    strain = balls(400)
    strain = np.concatenate([strain @ turn.T for turn in mandel_rotation(group.rotations)[:copies]])
    clean = Polynomial(group)(strain)
    sigma = 0.02 * np.sqrt(np.mean(clean**2))
    data = record(strain, clean + sigma * np.random.default_rng(0).normal(size=clean.shape), group)
    floor = symmetry_floor(data)
    given = np.sqrt(6.0 * len(data) * sigma**2 / np.sum(data.stress**2))
    # 6 (k − 1) 400 degrees of freedom: a relative spread of 1.4 % for k = 2
    assert floor.relative == pytest.approx(given, rel=0.04)
    assert floor.bound == pytest.approx(given * np.sqrt((copies - 1) / copies), rel=0.04)
    # no law of the class comes below the bound, not even the true one
    assert np.sqrt(np.sum((clean - data.stress) ** 2) / np.sum(data.stress**2)) > floor.bound


def test_noise_on_symmetric_strains_is_seen_in_part() -> None:
    """Uniaxial strains along [001] of a cubic crystal: four of six components of the noise are out of reach."""
    group = PointGroup("m-3m")
    strain = np.zeros((300, 6))
    strain[:, 2] = np.linspace(-0.06, 0.06, 300)
    clean = Polynomial(group)(strain)
    noise = np.random.default_rng(1).normal(size=clean.shape)
    floor = symmetry_floor(record(strain, clean + noise, group), tolerance=1e-9)
    assert floor.informative == 1.0
    assert np.mean(floor.stress**2) == pytest.approx(4 / 6, rel=0.05)


def test_states_without_stabiliser_or_twin_say_nothing() -> None:
    group = PointGroup("-1")
    data = record(balls(20), Polynomial(group)(balls(20)), group)
    floor = symmetry_floor(data)
    assert not floor.determinable and np.isnan(floor.relative) and np.isnan(floor.rmse_P)
    assert floor.informative == 0.0 and not floor.stress.any() and "not determinable" in str(floor)
    assert not symmetry_floor(data, PointGroup("m-3m")).determinable
    # half of the states repeated with another stress: now half of them tell, in every class
    again = record(np.tile(data.strain[:10], (2, 1)), np.tile(data.stress[:10], (2, 1)), group)
    again.stress[0] += 1.0
    both = record(
        np.concatenate([again.strain, data.strain[10:]]), np.concatenate([again.stress, data.stress[10:]]), group
    )
    floor = symmetry_floor(both)
    assert floor.determinable and floor.informative == pytest.approx(2 / 3)
    assert np.abs(floor.stress[[0, 10]]).max() == pytest.approx(np.sqrt(2) / 2)
    assert np.abs(floor.stress[1:10]).max() < 1e-12 and "67 % of states" in str(floor)
    with pytest.raises(ValueError, match="got zeros only"):
        symmetry_floor(replace(data, stress=np.zeros((20, 6))))


@pytest.mark.parametrize("symbol", ["m-3m", "-3m", "∞/mm", "∞∞m"])
def test_rounded_cells_are_no_broken_symmetry(symbol: str) -> None:
    group = PointGroup(symbol)
    law = Polynomial(group)
    strain = twins(group)
    strain = strain + 5e-6 * np.random.default_rng(3).normal(size=strain.shape)
    data = record(strain, law(strain), group)
    floor = symmetry_floor(data)
    assert floor.informative == 1.0
    # the stress that such a difference of strain makes, 12 µ in norm, would be taken for broken symmetry
    moved = law(strain + 5e-6 * np.ones(6)) - data.stress
    assert floor.relative < 0.05 * np.sqrt(np.sum(moved**2) / np.sum(data.stress**2))


def test_neighbours_on_a_path_are_no_orbit() -> None:
    """States closer than the tolerance, one after the other, must not be averaged along the whole path."""
    group = PointGroup("mmm")
    direction = balls(1)[0] / 0.05
    strain = np.linspace(0.04, 0.05, 300)[:, None] * direction
    floor = symmetry_floor(record(strain, Polynomial(group)(strain), group))
    assert np.linalg.norm(strain[1] - strain[0]) < 1e-4 and floor.informative == 1.0
    # along the whole path the stress changes by a fifth
    assert floor.relative < 1e-5


@pytest.mark.parametrize("symbol", LAUE_CLASSES)
def test_the_floor_turns_with_the_data(symbol: str) -> None:
    group = PointGroup(symbol)
    strain = twins(group) if symbol != "-1" else np.tile(balls(5), (2, 1))
    stress = Polynomial(group)(strain) + np.random.default_rng(0).normal(size=strain.shape)
    turn = random_rotations(1, np.random.default_rng(8))[0]
    matrix = mandel_rotation(turn)
    here = symmetry_floor(record(strain, stress, group))
    there = symmetry_floor(record(strain @ matrix.T, stress @ matrix.T, PointGroup(symbol, turn)))
    assert np.abs(there.stress - here.stress @ matrix.T).max() < 1e-10 and here.relative > 0.0


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not part of the project")
def test_the_published_floor_of_the_buckling_lattice() -> None:
    """No cubic law goes below 12.5 Pa on the five paths of the fit, and 15.6 Pa on the three test paths."""
    fitted = [SHARED / f"BCC_{name}.txt" for name in ("uniaxial", "biaxial", "planar", "volumetric", "shear")]
    tests = [SHARED / f"BCC_test{i}.txt" for i in (1, 2, 3)]
    for paths, published in ((fitted, 12.5), (tests, 15.6)):
        floor = symmetry_floor(read_tables(paths, PointGroup("m-3m"), "Pa"))
        assert round(floor.rmse_P, 1) == published and floor.units == "Pa" and floor.informative == 1.0


@pytest.mark.parametrize("symbol", LAUE_CLASSES)
def test_a_few_operations_are_closed_to_their_group(symbol: str) -> None:
    operations = PointGroup(symbol).rotations
    generator = np.random.default_rng(0)
    for _ in range(4):
        chosen = generator.choice(len(operations), size=min(2, len(operations)), replace=False)
        found = _closed(operations, chosen)
        part = operations[found]
        products = (part[:, None] @ part[None]).reshape(-1, 3, 3)
        inside = np.abs(products[:, None] - part[None]).max(axis=(2, 3)).min(axis=1)
        assert inside.max() < 1e-9 and set(chosen) <= set(found) and len(operations) % len(found) == 0
        by_hand = PointGroup.from_operations(operations[chosen])
        assert len(found) == len(by_hand.operations)
