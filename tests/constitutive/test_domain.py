"""The training domain: symmetric, quiet on states like the training states, loud on others."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from constitutive import INVALID, OK, OUT_OF_RANGE, NeoHookeanLaw, PolynomialLaw, load
from constitutive.laws.domain import Domain, _features
from crystals import PointGroup
from crystals.atomistic import plan_strains
from crystals.groups import LAUE_CLASSES
from crystals.invariants import invariant_count
from crystals.rotations import mandel_rotation, random_rotations

GENERATOR = np.random.default_rng(0)
FRAME = random_rotations(1, np.random.default_rng(3))[0]
GROUPS = [*LAUE_CLASSES, "∞/mm", "∞∞m"]


def split(seed: int, number: int = 200) -> tuple[np.ndarray, np.ndarray]:
    strain = np.random.default_rng(seed).permutation(plan_strains(1024, 0.08, seed))
    return strain[:number], strain[number:]


def stretches(axes: list[int], seed: int = 0) -> np.ndarray:
    """Strains (400, 6) of |E| ≤ 0.08 with the given components only."""
    generator = np.random.default_rng(seed)
    strain = np.zeros((400, 6))
    strain[:, axes] = generator.normal(size=(400, len(axes)))
    return strain * (0.08 * np.sqrt(generator.random(400)) / np.linalg.norm(strain, axis=1))[:, None]


@pytest.mark.parametrize("symbol", GROUPS)
def test_held_out_states_pass_and_states_at_twice_the_range_are_caught(symbol: str) -> None:
    false, caught = [], []
    for seed in range(4):
        training, held_out = split(seed)
        domain = Domain.from_strains(PointGroup(symbol), training)
        false.append(np.mean(~domain.contains(held_out)))
        caught.append(np.mean(~domain.contains(0.16 * held_out / np.linalg.norm(held_out, axis=1)[:, None])))
        assert np.all(domain.contains(training)) and domain.contains(np.zeros((1, 6)))[0]
    assert np.mean(false) <= 0.01 and min(caught) >= 0.99


@pytest.mark.parametrize("symbol", LAUE_CLASSES)
def test_equivalent_strains_have_one_score(symbol: str) -> None:
    group = PointGroup(symbol, FRAME)
    domain = Domain.from_strains(group, split(1)[0] * np.array([1, 0.3, 0.6, 0.2, 0.5, 1]))
    strain = 1.5 * split(2)[0]
    score = domain.score(strain)
    assert 0.05 < np.mean(score < 1) < 0.95  # both sides of the border are tried
    for turn in mandel_rotation(group.rotations):
        assert np.abs(domain.score(strain @ turn.T) / score - 1).max() < 1e-10
    if symbol != "-1":
        foreign = mandel_rotation(random_rotations(1, np.random.default_rng(5))[0])
        assert np.abs(domain.score(strain @ foreign.T) / score - 1).max() > 0.1


@pytest.mark.parametrize("symbol", ["m-3m", "mmm", "-1", "∞∞m"])
def test_a_law_trained_on_stretches_flags_shear_of_the_same_size(symbol: str) -> None:
    """Except where shear is a stretch in other axes: an isotropic law has seen it."""
    stretched, shear = stretches([0, 1, 2]), stretches([3, 4, 5], seed=1)
    shear = shear[np.linalg.norm(shear, axis=1) > 0.02]
    domain = Domain.from_strains(PointGroup(symbol), stretched[:200])
    assert np.mean(~domain.contains(stretched[200:])) <= 0.01
    assert np.linalg.norm(shear, axis=1).max() < np.linalg.norm(stretched, axis=1).max()  # the ball lets all pass
    assert np.mean(~domain.contains(shear)) == (0.0 if symbol == "∞∞m" else 1.0)
    # strains of rounding size in a direction that was never taken are not worth a flag
    assert np.all(domain.contains(0.9 * stretched + 1e-6 * GENERATOR.normal(size=(400, 6))))


def test_twins_and_a_stray_state_do_not_widen_the_domain() -> None:
    group = PointGroup("4/mmm", FRAME)
    training, held_out = split(4)
    plain = Domain.from_strains(group, training)
    turns = mandel_rotation(group.rotations)
    twins = Domain.from_strains(group, np.concatenate([training @ turn.T for turn in turns]))
    assert np.abs(twins.score(held_out) / plain.score(held_out) - 1).max() < 1e-6
    stray = Domain.from_strains(group, np.concatenate([training, [[0, 0, 0, 0.1, 0.1, 0.1]]]))
    twice = 0.16 * held_out / np.linalg.norm(held_out, axis=1)[:, None]
    assert np.mean(~stray.contains(twice)) > 0.95
    # but every training state is inside, however far it lies from the others: just so
    many = np.concatenate([split(4, 1000)[0], [[0.3, 0.0, 0.0, 0.0, 0.2, 0.0]]])
    assert 1.0 - 1e-8 < Domain.from_strains(group, many).score(many).max() < 1.0


def test_a_law_answers_from_its_domain_and_keeps_it(tmp_path: Path) -> None:
    group = PointGroup("mmm", FRAME)
    turn = mandel_rotation(FRAME)
    stretched, shear = stretches([0, 1, 2]) @ turn.T, stretches([3, 4, 5], seed=1) @ turn.T
    law = PolynomialLaw(group, 2, 100 * np.eye(6), max_strain=0.08)
    assert np.all(law.response(shear).status == OK)  # a ball
    law.domain = Domain.from_strains(group, stretched)
    keys = set(law.state_dict())
    law.save(tmp_path / "a.law")
    back = load(tmp_path / "a.law")
    large = np.linalg.norm(shear, axis=1) > 0.02
    for one in (law, back):
        assert np.all(one.response(stretched).status == OK) and np.all(
            one.response(shear[large]).status == OUT_OF_RANGE
        )
        status = one.response(torch.tensor([[np.nan] * 6, [1e200] * 6, [0.0] * 6])).status
        assert status.tolist() == [INVALID, OUT_OF_RANGE, OK] or status.tolist() == [INVALID, INVALID, OK]
    assert back.domain is not None and torch.equal(back.domain.whitening, law.domain.whitening)
    assert set(law.state_dict()) == keys  # the tensors of the law are its own: earlier versions read the file
    plain = NeoHookeanLaw(1.0, 1.0)
    plain.save(tmp_path / "b.law")
    assert load(tmp_path / "b.law").domain is None


@pytest.mark.parametrize(
    ("symbol", "features", "degree"), [("m-3m", 11, 3), ("4/m", 26, 3), ("mmm", 33, 2), ("-1", 84, 2)]
)
def test_degree_of_the_features_follows_the_number_of_states(symbol: str, features: int, degree: int) -> None:
    """Degree 3 where there are at most 32 features and four distinct states for each, else 2."""
    strain = np.random.default_rng(2).normal(size=(4 * features, 6))
    group = PointGroup(symbol)
    assert sum(invariant_count(symbol, d) for d in (1, 2, 3)) + 1 == features
    for number, expected in ((4 * features, degree), (4 * features - 1, 2)):
        domain = Domain.from_strains(group, strain[:number])
        assert int(domain.exponents.sum(dim=1).max()) == expected
    # no fewer than the second, of however few states
    assert int(Domain.from_strains(group, strain[:8]).exponents.sum(dim=1).max()) == 2
    # a twin is no further state
    twins = np.concatenate([strain[:-1], strain[:1] * (1 + 1e-9)])
    assert int(Domain.from_strains(group, twins).exponents.sum(dim=1).max()) == 2


@pytest.mark.parametrize("symbol", ["m-3m", "-3", "-1"])
def test_the_limit_is_what_states_left_out_one_by_one_reach(symbol: str) -> None:
    """Three times the score that one of a hundred has by the moment of all the others; and no strain reaches 1.01 times the
    largest."""
    group = PointGroup(symbol, FRAME)
    strain = split(5)[0]
    domain = Domain.from_strains(group, strain)
    largest = np.linalg.norm(strain, axis=1).max()
    degree = int(domain.exponents.sum(dim=1).max())
    values = _features(group, degree)(strain @ mandel_rotation(group.frame.T).T / largest)
    outer = values[:, :, None] * values[:, None, :]
    ball = np.random.default_rng(7).normal(size=(20000, 6))
    ball *= (np.random.default_rng(8).random(20000) ** (1 / 6) / np.linalg.norm(ball, axis=1))[:, None]
    filled = _features(group, degree)(ball)
    floor = 1e-5 * filled.T @ filled / len(filled)
    left_out = [row @ np.linalg.solve((outer.sum(axis=0) - own) / len(values) + floor, row)
                for row, own in zip(values, outer, strict=True)]  # fmt: skip
    assert float(domain.limit) == pytest.approx(3.0 * np.quantile(left_out, 0.99), rel=1e-3)
    for factor, share in ((1.0, 0.8), (10.0, 0.2)):  # size decides inside, the features far outside
        far = _features(group, degree)(factor * strain @ mandel_rotation(group.frame.T).T / largest)
        within = [row @ np.linalg.solve(outer.mean(axis=0) + floor, row) / float(domain.limit) for row in far]
        size = (factor * np.linalg.norm(strain, axis=1) / largest / 1.01) ** 2
        np.testing.assert_allclose(domain.score(factor * strain), np.maximum(within, size), rtol=1e-3)
        assert (np.mean(size > within) > share) == (factor == 1.0)
    around = np.concatenate([strain * factor for factor in (0.9, 1.1, 1.3)])
    assert np.array_equal(domain.contains(around), domain.score(around) <= 1.0)
    assert domain.score(strain).max() < 1.0
    torch.testing.assert_close(domain.score(torch.from_numpy(strain)), torch.from_numpy(domain.score(strain)))


_FEATURES = {
    "constant and size": ({(): 0.4, **{(i, i): 0.7 for i in range(6)}}, lambda r: (0.4 + 0.7 * r**2) ** 2),
    "linear": ({(2,): 1.3}, lambda r: (1.3 * r) ** 2),
    "linear and its like": (
        {(4,): 0.5, **{(i, i, 4): 0.8 for i in range(6)}}, lambda r: (0.5 * r + 0.8 * r**3) ** 2,
    ),
    "quadratic": ({(0, 1): 2.0}, lambda r: 4.0 / 2.0 * 5.0 / 6.0 * r**4),
    "cubic": ({(0, 1, 2): 3.0}, lambda r: 9.0 / 6.0 * 5.0 / 8.0 * r**6),
    "linear and quadratic": (
        {(5,): 1.0, (0, 1): 1.0}, lambda r: (r + (5.0 / 12.0) ** 0.5 * r**2) ** 2,
    ),
}  # fmt: skip


#: The same where |x|² and |x|² x are not there in whole, and cannot be taken apart.
_FEATURES_OF_FEWER = {
    "quadratic, of fewer": ({(0, 1): 2.0}, lambda r: 4.0 / 2.0 * r**4),
    "cubic, of fewer": ({(0, 1, 2): 3.0}, lambda r: 9.0 / 6.0 * r**6),
}  # fmt: skip


@pytest.mark.parametrize("name", [*_FEATURES, *_FEATURES_OF_FEWER])
@pytest.mark.parametrize("end", [0.3, 0.6, 0.95])
def test_bound_of_one_feature_in_closed_form(name: str, end: float) -> None:
    """Of what depends on |x| alone, or is linear, the bound is the largest value; of a harmonic polynomial of degree 2 or 3 its
    share 5/6 or 5/8 of Bombieri's norm. The radius ends where it reaches 95 % of the limit."""
    terms, bound = {**_FEATURES, **_FEATURES_OF_FEWER}[name]
    highest = 1 if name in _FEATURES_OF_FEWER else 3  # power of the last component
    every = (places for degree in range(4) for places in itertools.product(range(6), repeat=degree))
    powers = {tuple(places.count(i) for i in range(6)) for places in every}
    rows = sorted((row for row in powers if row[5] <= highest), key=lambda row: (sum(row), row))
    whitening = np.zeros((1, len(rows)))
    for places, factor in terms.items():
        whitening[0, rows.index(tuple(places.count(i) for i in range(6)))] = factor
    parts = torch.eye(6).double(), torch.from_numpy(whitening)
    for share, expected in ((1.001, end), (0.999, end - 0.005)):
        domain = Domain(*parts, torch.tensor(share * bound(end) / 0.95).double(), torch.tensor(rows))
        assert domain.safe_radius() == pytest.approx(expected, abs=1e-9)


def test_parts_that_do_not_fit_are_refused() -> None:
    good = Domain.from_strains(PointGroup("m-3m"), split(1)[0])
    parts = {name: getattr(good, name) for name in ("turn", "whitening", "limit", "exponents")}
    Domain(**parts)
    rows = parts["exponents"]
    far = rows.clone()
    far[-1, 0] += 1
    negative = rows.clone()
    negative[-1, 0] -= 4
    for wrong, message in (
        ({"turn": torch.eye(5)}, "expected turn"), ({"whitening": parts["whitening"][:, 1:]}, "expected turn"),
        ({"whitening": parts["whitening"][0]}, "expected turn"), ({"limit": torch.ones(1)}, "expected turn"),
        ({"exponents": rows[:, :5]}, "expected turn"), ({"exponents": rows.double()}, "up to degree 3, got torch.float64"),
        ({"exponents": far}, "up to degree 3, got torch.int64 up to 4"), ({"exponents": negative}, "up to degree 3"),
        ({"exponents": rows.flip(0)}, "sorted by degree from 0"), ({"exponents": rows.flip(1).flip(0)}, "sorted by degree"),
        ({"exponents": rows[[0, *range(2, len(rows)), 1]]}, "sorted by degree"),
        ({"exponents": rows[:6], "whitening": parts["whitening"][:, :6]}, "sorted by degree from 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Domain(**{**parts, **wrong})


@pytest.mark.parametrize("strain", [np.zeros((20, 6)), np.zeros((3, 6)), np.full((20, 6), np.nan), np.ones((20, 3))])
def test_strains_that_tell_nothing_are_refused(strain: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Domain.from_strains: expected"):
        Domain.from_strains(PointGroup("m-3m"), strain)


@pytest.mark.parametrize("symbol", ["-1", "mmm", "4/m", "-3", "m-3m", "∞∞m"])
@pytest.mark.parametrize("scattered", [False, True])
def test_no_strain_within_the_safe_radius_is_outside(symbol: str, scattered: bool) -> None:
    """Random directions, then the worst of them improved; and the radius is no empty promise."""
    generator = np.random.default_rng(8)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    strain = plan_strains(1024, 0.08, 1)[generator.permutation(1024)[:200]]
    if scattered:  # few directions, unequal sizes
        strain = strain * [1.0, 0.2, 0.4, 1.0, 0.1, 1.5]
    domain = Domain.from_strains(group, strain)
    radius = domain.safe_radius()
    assert radius > (0.1 if scattered else 0.5)
    size = radius * np.linalg.norm(strain, axis=1).max()
    at = generator.normal(size=(20000, 6))
    far = 1.0 if scattered else 1.0 / radius  # nearer, all strains of one size have one score
    for spread in (0.3, 0.1, 0.03, 0.01):
        at *= size / np.linalg.norm(at, axis=1)[:, None]
        best = at[np.argsort(domain.score(at * far))[-100:]]
        at = np.concatenate([best, np.repeat(best, 100, axis=0) + spread * size * generator.normal(size=(10000, 6))])
    at *= size / np.linalg.norm(at, axis=1)[:, None]
    for scale in (0.2, 0.5, 0.8, 0.95, 1.0):
        assert domain.score(scale * at).max() <= 1.0
    # nor is it timid: in the worst of these directions the domain ends not far beyond
    larger = radius * np.arange(1.0, 1.2, 0.01)
    ends = [domain.score(at * factor / radius).max() > 1.0 for factor in larger]
    assert radius > 0.86 * larger[np.argmax(ends)] and any(ends)
