"""Laws of the point groups, against the definitions, against spglib's database and against pymatgen."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from crystals.groups import CURIE_GROUPS, LAUE_CLASSES, POINT_GROUPS, STRAIN_CLASSES, PointGroup, stated_group
from crystals.rotations import random_rotations, rotation_about

# Order, Laue class and crystal system of the 32 groups (International Tables A, table 10.1.2.2).
TABLE = {
    "1": (1, "-1", "triclinic"),
    "-1": (2, "-1", "triclinic"),
    "2": (2, "2/m", "monoclinic"),
    "m": (2, "2/m", "monoclinic"),
    "2/m": (4, "2/m", "monoclinic"),
    "222": (4, "mmm", "orthorhombic"),
    "mm2": (4, "mmm", "orthorhombic"),
    "mmm": (8, "mmm", "orthorhombic"),
    "4": (4, "4/m", "tetragonal"),
    "-4": (4, "4/m", "tetragonal"),
    "4/m": (8, "4/m", "tetragonal"),
    "422": (8, "4/mmm", "tetragonal"),
    "4mm": (8, "4/mmm", "tetragonal"),
    "-42m": (8, "4/mmm", "tetragonal"),
    "4/mmm": (16, "4/mmm", "tetragonal"),
    "3": (3, "-3", "trigonal"),
    "-3": (6, "-3", "trigonal"),
    "32": (6, "-3m", "trigonal"),
    "3m": (6, "-3m", "trigonal"),
    "-3m": (12, "-3m", "trigonal"),
    "6": (6, "6/m", "hexagonal"),
    "-6": (6, "6/m", "hexagonal"),
    "6/m": (12, "6/m", "hexagonal"),
    "622": (12, "6/mmm", "hexagonal"),
    "6mm": (12, "6/mmm", "hexagonal"),
    "-6m2": (12, "6/mmm", "hexagonal"),
    "6/mmm": (24, "6/mmm", "hexagonal"),
    "23": (12, "m-3", "cubic"),
    "m-3": (24, "m-3", "cubic"),
    "432": (24, "m-3m", "cubic"),
    "-43m": (24, "m-3m", "cubic"),
    "m-3m": (48, "m-3m", "cubic"),
}
X, Y, Z = np.eye(3)


@pytest.fixture
def rng():
    return np.random.default_rng(20243)


def contains(operations, matrix, tolerance=1e-12):
    return bool(np.any(np.max(np.abs(operations - matrix), axis=(1, 2)) < tolerance))


def same_set(first, second, tolerance):
    return (
        len(first) == len(second)
        and all(contains(second, operation, tolerance) for operation in first)
        and all(contains(first, operation, tolerance) for operation in second)
    )


def mirror(normal):
    return np.eye(3) - 2 * np.outer(normal, normal)


def half(axis):
    return 2 * np.outer(axis, axis) - np.eye(3)


def test_lists():
    assert set(POINT_GROUPS) == set(TABLE) and len(POINT_GROUPS) == 32
    assert set(LAUE_CLASSES) == {laue for _, laue, _ in TABLE.values()} and len(LAUE_CLASSES) == 11
    assert len(CURIE_GROUPS) == 7 and len(STRAIN_CLASSES) == 14


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_group_axioms(symbol):
    group = PointGroup(symbol)
    operations = group.operations
    order, laue, system = TABLE[symbol]
    assert (len(operations), group.laue.symbol, group.system) == (order, laue, system)
    np.testing.assert_array_equal(operations[0], np.eye(3))
    distance = np.max(np.abs(operations[:, None] - operations[None]), axis=(2, 3)) + np.eye(order)
    assert distance.min() > 0.1
    for first in operations:
        np.testing.assert_allclose(first @ first.T, np.eye(3), atol=1e-15)
        assert contains(operations, first.T)
        for second in operations:
            assert contains(operations, first @ second)
    for generator in group.generators:
        assert contains(operations, generator)


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_laue_class_is_the_group_with_inversion(symbol):
    group = PointGroup(symbol)
    doubled = np.concatenate([group.operations, -group.operations])
    laue = group.laue.operations
    assert all(contains(laue, operation) for operation in doubled)
    assert all(contains(doubled, operation) for operation in laue)
    assert np.all(np.linalg.det(group.rotations) > 0) and len(group.rotations) == len(laue) // 2
    assert group.laue.laue == group.laue


def test_standard_settings():
    """Docstring of the module and International Tables A, 10.1.2: what lies along x, y and z."""
    has = {
        "2": [half(Y)],
        "m": [mirror(Y)],
        "222": [half(X), half(Y), half(Z)],
        "mm2": [mirror(X), mirror(Y), half(Z)],
        "-4": [-rotation_about(Z, np.pi / 2)],
        "422": [half(X), half([np.sqrt(0.5), np.sqrt(0.5), 0])],
        "4mm": [mirror(X), mirror(Y)],
        "-42m": [half(X), half(Y), mirror(np.array([1, 1, 0]) / np.sqrt(2))],
        "32": [half(X), rotation_about(Z, 2 * np.pi / 3)],
        "3m": [mirror(X)],
        "-3m": [half(X), mirror(X)],
        "622": [half(X), half(Y)],
        "6mm": [mirror(X), mirror(Y)],
        "-6m2": [mirror(X), half(Y), mirror(Z)],
        "23": [half(Z), rotation_about([1, 1, 1], 2 * np.pi / 3)],
        "-43m": [mirror(np.array([1, 1, 0]) / np.sqrt(2)), -rotation_about(Z, np.pi / 2)],
        "432": [rotation_about(X, np.pi / 2)],
    }
    has_not = {
        "2": [half(Z), half(X), mirror(Y)],
        "-42m": [mirror(X), half(np.array([1, 1, 0]) / np.sqrt(2))],
        "32": [half(Y), mirror(X)],
        "3m": [mirror(Y), half(X)],
        "-3m": [half(Y), mirror(Y)],
        "-6m2": [half(X), mirror(Y)],
        "23": [rotation_about(Z, np.pi / 2)],
        "-43m": [rotation_about(Z, np.pi / 2), mirror(X)],
        "432": [mirror(X)],
    }
    for symbol, operations in has.items():
        assert all(contains(PointGroup(symbol).operations, np.asarray(operation)) for operation in operations), symbol
    for symbol, operations in has_not.items():
        assert not any(contains(PointGroup(symbol).operations, np.asarray(op)) for op in operations), symbol


def test_frame_turns_everything(rng):
    frame = random_rotations(1, rng)[0]
    for symbol in ("mm2", "-6m2", "m-3", "∞2"):
        turned, standard = PointGroup(symbol, frame), PointGroup(symbol)
        np.testing.assert_allclose(turned.generators, frame @ standard.generators @ frame.T, atol=1e-15)
        np.testing.assert_allclose(
            turned.infinitesimal_generators, frame @ standard.infinitesimal_generators @ frame.T, atol=1e-15
        )
        np.testing.assert_array_equal(turned.laue.frame, frame)
        assert turned != standard and turned == PointGroup(symbol, frame.copy())
        if turned.is_finite:
            np.testing.assert_allclose(turned.operations, frame @ standard.operations @ frame.T, atol=1e-15)
    assert contains(PointGroup("2", frame).operations, half(frame @ Y))


def lattice_of(rotations, generator):
    """Columns of a generic lattice that has these symmetries (in the basis of the lattice): averaged random metric."""
    factor = np.eye(3) + 0.3 * generator.normal(size=(3, 3))
    metric = np.mean([r.T @ factor.T @ factor @ r for r in rotations], axis=0)
    return np.linalg.cholesky(metric).T


def database():
    """Distinct sets of rotation parts in spglib's 530 settings of the space groups, with their point group."""
    spglib = pytest.importorskip("spglib")
    sets = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for hall in range(1, 531):
            rotations = np.unique(spglib.get_symmetry_from_database(hall)["rotations"], axis=0)
            symbol = spglib.get_spacegroup_type(hall).pointgroup_international
            sets.setdefault((rotations.tobytes(), symbol), rotations)
    return [(symbol, rotations) for (_, symbol), rotations in sets.items()]


def test_every_setting_of_spglib_is_recognised(rng):
    """All 530 Hall settings: axes along a, b or c, rhombohedral and hexagonal, 3m1 and 31m, turned at random."""
    settings = database()
    assert {symbol for symbol, _ in settings} == set(POINT_GROUPS) and len(settings) >= 50
    for symbol, rotations in settings:
        lattice = random_rotations(1, rng)[0] @ lattice_of(rotations, rng)
        operations = lattice @ rotations @ np.linalg.inv(lattice)
        group = PointGroup.from_operations(operations)
        assert group.symbol == symbol
        assert same_set(group.operations, operations, 1e-9)


def test_same_operations_as_pymatgen():
    """pymatgen gives operations in the lattice basis. Its settings are ours, but for -3m, which it takes as -31m."""
    symmetry = pytest.importorskip("pymatgen.symmetry.groups")
    hexagonal = np.array([[1, -0.5, 0], [0, np.sqrt(0.75), 0], [0, 0, 1.3]])
    for symbol, (order, _, system) in TABLE.items():
        theirs = symmetry.PointGroup(symbol)
        assert theirs.order == order
        basis = hexagonal if system in ("trigonal", "hexagonal") else np.eye(3)
        operations = np.array([basis @ op.rotation_matrix @ np.linalg.inv(basis) for op in theirs.symmetry_ops])
        turn = rotation_about(Z, np.pi / 6) if symbol == "-3m" else np.eye(3)
        assert same_set(PointGroup(symbol, turn).operations, operations, 1e-12)
        found = PointGroup.from_operations(operations)
        assert found.symbol == symbol
        assert same_set(found.operations, operations, 1e-12)


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_recognised_under_noise_and_rotation(symbol, rng):
    frame = random_rotations(1, rng)[0]
    exact = PointGroup(symbol, frame).operations
    noisy = exact + 1e-3 * rng.uniform(-1, 1, size=exact.shape)
    group = PointGroup.from_operations(rng.permutation(noisy))
    assert group.symbol == symbol
    assert same_set(group.operations, exact, 2e-2)
    np.testing.assert_allclose(group.frame @ group.frame.T, np.eye(3), atol=1e-14)
    # The group returned is exact, whatever the noise: products stay inside to rounding.
    assert all(contains(group.operations, a @ b, 1e-12) for a in group.operations[:4] for b in group.operations)


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_generators_are_enough_and_the_standard_frame_is_kept(symbol):
    standard = PointGroup(symbol)
    found = PointGroup.from_operations([np.eye(3), *standard.generators])
    assert found.symbol == symbol and same_set(found.operations, standard.operations, 1e-12)
    np.testing.assert_array_equal(PointGroup.from_operations(standard.operations).frame, np.eye(3))


def test_frame_nearest_to_the_identity(rng):
    for symbol in POINT_GROUPS[2:]:
        frame = rotation_about(rng.normal(size=3), np.radians(5.0))
        found = PointGroup.from_operations(PointGroup(symbol, frame).operations).frame
        assert np.trace(found) >= np.trace(frame) - 1e-9
        assert same_set(PointGroup(symbol, found).operations, PointGroup(symbol, frame).operations, 1e-9)


@pytest.mark.parametrize("symbol", ["4/m", "4mm", "-4", "3", "-3m", "6/mmm", "mm2"])
def test_between_two_frames_as_near_the_turn_is_positive(symbol, rng):
    """An axis along x or y is as near by a quarter turn either way: neither rounding nor the order of the operations chooses."""
    for about in (X, Y):
        for angle in (np.pi / 2, -np.pi / 2):
            operations = PointGroup(symbol, rotation_about(about, angle)).operations
            for _ in range(4):
                noisy = rng.permutation(operations) + 1e-7 * rng.normal(size=operations.shape)
                found = PointGroup.from_operations(noisy).frame
                np.testing.assert_allclose(found, rotation_about(about, np.pi / 2), atol=1e-6)


def test_operations_that_are_refused():
    hexagonal = np.array([[1, -1, 0], [1, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="Use Cartesian, not fractional, matrices"):
        PointGroup.from_operations([hexagonal])
    with pytest.raises(ValueError, match="crystallographic operations.*got one of trace 1.618"):
        PointGroup.from_operations([rotation_about(Z, 2 * np.pi / 5)])
    with pytest.raises(ValueError, match="expected operations that close|crystallographic operations"):
        PointGroup.from_operations([rotation_about(Z, 1.0), rotation_about(X, 1.0)])
    with pytest.raises(ValueError, match="expected finite matrices"):
        PointGroup.from_operations(np.eye(3))
    with pytest.raises(ValueError, match="expected finite matrices"):
        PointGroup.from_operations([np.full((3, 3), np.nan)])


def test_symbols():
    assert PointGroup(" m3m ").symbol == "m-3m"
    assert PointGroup("inf/mm") == PointGroup("∞/mm") == PointGroup("transversely isotropic")
    assert PointGroup("isotropic").symbol == "∞∞m"
    for wrong in ("m-4m", "5", "", "Fm-3m"):
        with pytest.raises(ValueError, match="PointGroup: expected a Hermann–Mauguin symbol"):
            PointGroup(wrong)
    with pytest.raises(ValueError, match="PointGroup.*expected proper rotations"):
        PointGroup("m-3m", np.diag([1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match="expected one frame"):
        PointGroup("m-3m", np.eye(3)[None])
    assert "48 operations" in repr(PointGroup("m-3m")) and "infinite" in repr(PointGroup("∞"))
    assert len({PointGroup("2"), PointGroup("2"), PointGroup("2", rotation_about(Z, 1.0))}) == 2


@pytest.mark.parametrize("symbol", CURIE_GROUPS)
def test_infinitesimal_generators_make_rotations(symbol):
    group = PointGroup(symbol)
    spins = group.infinitesimal_generators
    assert len(spins) == (3 if symbol.startswith("∞∞") else 1)
    np.testing.assert_array_equal(spins, -np.swapaxes(spins, 1, 2))
    axes = np.eye(3) if symbol.startswith("∞∞") else [Z]
    for spin, axis in zip(spins, axes, strict=True):
        np.testing.assert_allclose(expm(0.7 * spin), rotation_about(axis, 0.7), atol=1e-14)
    with pytest.raises(ValueError, match="operations: expected a finite group"):
        _ = group.operations


@pytest.mark.parametrize(
    ("symbol", "laue", "axis_kept", "sense_kept", "proper"),
    [
        ("∞", "∞/m", True, True, True),
        ("∞m", "∞/mm", True, True, False),
        ("∞2", "∞/mm", True, False, True),
        ("∞/m", "∞/m", True, False, False),
        ("∞/mm", "∞/mm", True, False, False),
        ("∞∞", "∞∞m", False, False, True),
        ("∞∞m", "∞∞m", False, False, False),
    ],
)
def test_limit_groups(symbol, laue, axis_kept, sense_kept, proper, rng):
    """A rotating, a still, … cone, cylinder or sphere: what each limit group does to its axis (Curie 1894)."""
    group = PointGroup(symbol)
    assert group.laue.symbol == laue and not group.is_finite
    sample = group.sample(50, rng)
    np.testing.assert_allclose(sample @ np.swapaxes(sample, 1, 2), np.tile(np.eye(3), (len(sample), 1, 1)), atol=1e-14)
    along = sample[:, 2, 2]
    assert bool(np.all(np.abs(np.abs(along) - 1) < 1e-12)) == axis_kept
    assert bool(np.all(np.abs(along - 1) < 1e-12)) == sense_kept
    assert bool(np.all(np.linalg.det(sample) > 0)) == proper
    # The limits are continuous: some of the sample is no crystallographic rotation.
    traces = np.trace(sample, axis1=1, axis2=2)
    assert np.mean(np.min(np.abs(traces[:, None] - np.arange(-3, 4)), axis=1) > 0.05) > 0.5


def test_sample_of_a_finite_group_is_the_group(rng):
    group = PointGroup("-42m")
    np.testing.assert_array_equal(group.sample(3, rng), group.operations)


def test_other_settings_keep_their_turn():
    """-4m2 has mirrors normal to x and twofold axes along the diagonals; -62m and the 1m, 12 settings likewise."""
    diagonal = np.array([1, 1, 0]) / np.sqrt(2)
    has = {
        "-4m2": ("-42m", [mirror(X), mirror(Y), half(diagonal)], [half(X), mirror(diagonal)]),
        "-62m": ("-6m2", [half(X), mirror(Y), mirror(Z)], [mirror(X), half(Y)]),
        "312": ("32", [half(Y)], [half(X)]),
        "31m": ("3m", [mirror(Y)], [mirror(X)]),
        "-31m": ("-3m", [half(Y), mirror(Y)], [half(X), mirror(X)]),
        "321": ("32", [half(X)], [half(Y)]),
        "3m1": ("3m", [mirror(X)], [mirror(Y)]),
    }
    for name, (symbol, inside, outside) in has.items():
        group = PointGroup(name)
        assert group.symbol == symbol and len(group.operations) == TABLE[symbol][0]
        assert all(contains(group.operations, operation) for operation in inside), name
        assert not any(contains(group.operations, operation) for operation in outside), name
        frame = random_rotations(1, np.random.default_rng(1))[0]
        assert same_set(PointGroup(name, frame).operations, frame @ group.operations @ frame.T, 1e-12)
    assert PointGroup("-4m2") != PointGroup("-42m")
    # To strain they are the same Laue class, 4/mmm, whose frame may turn by 45°.
    assert PointGroup("-4m2").laue == PointGroup("-42m").laue


def test_equality_is_that_of_the_operations(rng):
    for symbol in POINT_GROUPS:
        group = PointGroup(symbol, random_rotations(1, rng)[0])
        for turn in PointGroup(symbol).rotations[:4]:
            other = PointGroup(symbol, group.frame @ turn)
            assert other == group and hash(other) == hash(group)
        tilted = PointGroup(symbol, group.frame @ rotation_about([0.3, 1.0, 0.2], 0.1))
        assert (tilted == group) == (symbol in ("1", "-1"))
    tilt, spin = rotation_about(X, 0.3), rotation_about(Z, 0.3)
    for symbol in CURIE_GROUPS:
        isotropic = symbol.startswith("∞∞")
        assert PointGroup(symbol, spin) == PointGroup(symbol) == PointGroup(symbol, rotation_about(X, np.pi))
        assert (PointGroup(symbol, tilt) == PointGroup(symbol)) == isotropic
    assert PointGroup("2") != PointGroup("m") and PointGroup("2") != "2"


def test_what_is_no_symbol_or_no_operation():
    for wrong in (None, 3, np.eye(3), ["m-3m"]):
        with pytest.raises(
            TypeError, match="PointGroup: expected a symbol such as 'm-3m', got .* use PointGroup.from_"
        ):
            PointGroup(wrong)  # type: ignore[arg-type]
    for nothing in (np.zeros((0, 3, 3)), []):
        with pytest.raises(ValueError, match="from_operations: expected"):
            PointGroup.from_operations(nothing)


# Symbols of all subgroups (International Tables A, figure 10.1.3.2).
SUBGROUPS = {
    "m-3m": "1 -1 2 m 2/m 222 mm2 mmm 4 -4 4/m 422 4mm -42m 4/mmm 3 -3 32 3m -3m 23 m-3 432 -43m m-3m",
    "6/mmm": "1 -1 2 m 2/m 222 mm2 mmm 3 -3 32 3m -3m 6 -6 6/m 622 6mm -6m2 6/mmm",
    "-43m": "1 2 m 222 mm2 -4 -42m 3 3m 23 -43m",
    "-42m": "1 2 m 222 mm2 -4 -42m",
    "-6m2": "1 2 m mm2 3 -6 32 3m -6m2",
    "32": "1 2 3 32",
    "4/m": "1 -1 2 m 2/m 4 -4 4/m",
    "mm2": "1 2 m mm2",
    "1": "1",
}


@pytest.mark.parametrize("symbol", SUBGROUPS)
def test_stated_group(symbol, rng):
    """What is stated must be a subgroup of what was found, all of them are taken, and lie where the crystal has them."""
    found = PointGroup(symbol, random_rotations(1, rng)[0])
    for stated in POINT_GROUPS:
        if stated in SUBGROUPS[symbol].split():
            group = stated_group(found, stated)
            assert group.symbol == stated
            assert all(contains(found.operations, operation, 1e-9) for operation in group.operations)
        else:
            with pytest.raises(ValueError, match=f"point group: expected {symbol}, which the structure shows"):
                stated_group(found, stated)
    assert stated_group(found, symbol) == found
    np.testing.assert_array_equal(stated_group(found, symbol).frame, found.frame)
    for stated in CURIE_GROUPS:
        with pytest.raises(ValueError, match="point group: expected"):
            stated_group(found, stated)


def test_stated_group_within_limits_and_laue_classes():
    assert stated_group(PointGroup("isotropic"), "∞/mm").symbol == "∞/mm"
    assert stated_group(PointGroup("∞/mm"), "6/mmm").symbol == "6/mmm"
    assert stated_group(PointGroup("∞∞"), "432").symbol == "432"
    for found, stated in (("∞/mm", "m-3m"), ("∞∞", "m-3m"), ("∞", "32"), ("∞m", "-3"), ("∞/m", "mmm")):
        with pytest.raises(ValueError, match="point group: expected"):
            stated_group(PointGroup(found), stated)
    with pytest.raises(
        ValueError, match="got m-3m, whose operations it does not have. It has the strain response of m-3m"
    ):
        stated_group(PointGroup("-43m"), "m-3m")
    assert stated_group(PointGroup("4/mmm"), "-4m2").symbol == "-42m"


FRAME = st.integers(0, 2**32 - 1).map(lambda seed: random_rotations(1, np.random.default_rng(seed))[0])
SYMBOL = st.sampled_from(POINT_GROUPS)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(SYMBOL, FRAME, st.data())
def test_any_group_in_any_frame_is_closed(symbol, frame, data):
    """Products and inverses of operations are operations; another turn of the frame takes them all along."""
    operations = PointGroup(symbol, frame).operations
    place = st.integers(0, len(operations) - 1)
    first, second = operations[data.draw(place)], operations[data.draw(place)]
    assert contains(operations, first @ second) and contains(operations, first.T)
    standard = PointGroup(symbol).operations
    assert same_set(operations, frame @ standard @ frame.T, 1e-12)
    assert (first @ second) in PointGroup(symbol, frame)
    # control: a small turn belongs to no finite group
    assert rotation_about(frame[:, 0], 0.01) not in PointGroup(symbol, frame)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(SYMBOL, FRAME, st.data())
def test_any_group_is_found_again_from_generators(symbol, frame, data):
    """From its generators in any frame and order, with errors of 1e-3: the same symbol, the same operations to such errors."""
    group = PointGroup(symbol, frame)
    given_ = np.array(data.draw(st.permutations(list(group.generators)))) if len(group.generators) else np.eye(3)[None]
    noise = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).uniform(-1e-3, 1e-3, size=given_.shape)
    exact, found = PointGroup.from_operations(given_), PointGroup.from_operations(given_ + noise)
    assert exact.symbol == found.symbol == symbol and exact == group
    assert same_set(found.operations, group.operations, 2e-2)


@pytest.mark.parametrize("symbol", ["2/m", "-3m", "m-3m", "∞/mm", "∞/m", "∞2", "∞m", "∞"])
def test_how_near_an_operation_and_a_frame_must_be(symbol, rng):
    """Belongs to 1e-6, equal to 1e-9: nearer is the same, farther is not."""
    frame = random_rotations(1, rng)[0]
    group = PointGroup(symbol, frame)
    half_turn = frame @ rotation_about(Z, np.pi) @ frame.T
    operation = group.operations[-1] if group.is_finite else group.generators[-1] if symbol == "∞2" else half_turn
    assert operation in group
    # an axis that leans by α has cos α = 1 − α²/2
    near, far = (1e-4, 3e-3) if "∞" in symbol else (1e-7, 1e-5)
    lean = np.cross(frame[:, 2], [0.3, 0.4, 0.5])
    for angle, same in ((near, True), (far, False)):
        assert (rotation_about(lean, angle) @ operation in group) == same
    for angle, same in ((1e-11, True), (1e-7, False)):
        assert (PointGroup(symbol, rotation_about(lean, angle) @ frame) == group) == same


@pytest.mark.parametrize("tolerance", [0.02, 0.05])
def test_the_tolerance_of_operations_is_kept(tolerance):
    """Stretches of the matrices within it are mended, beyond it refused; it is 0.05 where none is given."""
    stretched = [
        (1.0 + 0.9 * tolerance) * rotation_about(Z, np.pi / 2),
        (1.0 - 0.9 * tolerance) * rotation_about(X, np.pi),
    ]
    assert PointGroup.from_operations(stretched, tolerance) == PointGroup("422")
    with pytest.raises(ValueError, match=f"to within {tolerance:g}, got singular values from"):
        PointGroup.from_operations([(1.0 + 1.1 * tolerance) * rotation_about(Z, np.pi / 2)], tolerance)
    if tolerance == 0.05:
        assert PointGroup.from_operations(stretched) == PointGroup("422")
        with pytest.raises(ValueError, match="to within 0.05"):
            PointGroup.from_operations([1.055 * rotation_about(Z, np.pi / 2)])


def test_a_group_tells_what_strain_sees():
    assert PointGroup("m-3").seen_by_strain == "a law of strain has the symmetry m-3"
    assert PointGroup("432").seen_by_strain.startswith("a law of strain has the symmetry m-3m, the Laue class of 432")
