"""Laws of active rotations: conventions pinned by textbook matrices and by worked crystals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystals import mandel
from crystals.rotations import (
    check_rotation,
    mandel_rotation,
    random_rotations,
    rotate_matrix,
    rotate_vector,
    rotation_about,
    rotation_from_bunge,
    rotation_from_quaternion,
    rotation_to_direction,
)

# A triclinic stiffness (Voigt, GPa), all 21 entries different.
TRICLINIC = np.array(
    [
        [130.0, 61.0, 52.0, 5.0, -7.0, 11.0],
        [61.0, 149.0, 43.0, -3.0, 13.0, 2.0],
        [52.0, 43.0, 172.0, 8.0, 6.0, -4.0],
        [5.0, -3.0, 8.0, 34.0, 1.0, -9.0],
        [-7.0, 13.0, 6.0, 1.0, 47.0, 3.5],
        [11.0, 2.0, -4.0, -9.0, 3.5, 55.0],
    ]
)
# α-quartz (Voigt, GPa), x ∥ a, in the convention with negative C14.
QUARTZ = np.array(
    [
        [86.8, 7.0, 11.9, -18.0, 0.0, 0.0],
        [7.0, 86.8, 11.9, 18.0, 0.0, 0.0],
        [11.9, 11.9, 105.8, 0.0, 0.0, 0.0],
        [-18.0, 18.0, 0.0, 58.2, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 58.2, -18.0],
        [0.0, 0.0, 0.0, 0.0, -18.0, 39.9],
    ]
)


@pytest.fixture
def rng():
    return np.random.default_rng(20240)


def bunge_matrix(phi1, phi, phi2):
    """Bunge 1982, eq. 2.50: g from the sample to the crystal frame, entry by entry."""
    c1, s1, c, s, c2, s2 = np.cos(phi1), np.sin(phi1), np.cos(phi), np.sin(phi), np.cos(phi2), np.sin(phi2)
    return np.array(
        [
            [c1 * c2 - s1 * s2 * c, s1 * c2 + c1 * s2 * c, s2 * s],
            [-c1 * s2 - s1 * c2 * c, -s1 * s2 + c1 * c2 * c, c2 * s],
            [s1 * s, -c1 * s, c],
        ]
    )


def rotate_tensor(turn, voigt):
    """C'_ijkl = Q_ia Q_jb Q_kc Q_ld C_abcd on the full tensor, Voigt in and out, without the code under test."""
    place = {(0, 0): 0, (1, 1): 1, (2, 2): 2, (1, 2): 3, (0, 2): 4, (0, 1): 5}
    position = [[place[(min(i, j), max(i, j))] for j in range(3)] for i in range(3)]
    tensor = np.zeros((3, 3, 3, 3))
    for i, j, k, l in np.ndindex(3, 3, 3, 3):
        tensor[i, j, k, l] = voigt[position[i][j], position[k][l]]
    turned = np.einsum("ia,jb,kc,ld,abcd->ijkl", turn, turn, turn, turn, tensor)
    result = np.zeros((6, 6))
    for (i, j), row in place.items():
        for (k, l), column in place.items():
            result[row, column] = turned[i, j, k, l]
    return result


def rotate_voigt(turn, voigt):
    return mandel.stiffness_to_voigt(rotate_matrix(turn, mandel.stiffness_from_voigt(voigt)))


def test_rotations_are_active():
    quarter = rotation_about([0, 0, 5], np.pi / 2)
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(quarter, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)
    # A uniaxial strain along x becomes one along y, and a shear 12 changes sign.
    np.testing.assert_allclose(rotate_vector(quarter, np.array([1.0, 0, 0, 0, 0, 0])), [0, 1, 0, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(rotate_vector(quarter, np.array([0, 0, 0, 0, 0, 1.0])), [0, 0, 0, 0, 0, -1], atol=1e-15)


def test_bunge_is_the_transpose_of_the_textbook_matrix(rng):
    angles = rng.uniform(0, [2 * np.pi, np.pi, 2 * np.pi], size=(4, 5, 3))
    orientation = rotation_from_bunge(angles)
    assert orientation.shape == (4, 5, 3, 3)
    for place in np.ndindex(4, 5):
        g = bunge_matrix(*angles[place])
        np.testing.assert_allclose(orientation[place], g.T, atol=1e-14)
        assert np.max(np.abs(orientation[place] - g)) > 1e-3
    np.testing.assert_allclose(rotation_from_bunge(np.degrees(angles), degrees=True), orientation, atol=1e-13)


def test_bunge_columns_are_the_crystal_axes_in_the_sample():
    # Φ = 90° about the x axis, after φ1 = 90° about z: c lies along sample x.
    orientation = rotation_from_bunge([90.0, 90.0, 0.0], degrees=True)
    np.testing.assert_allclose(orientation @ [0, 0, 1], [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(orientation @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_worked_triclinic_example():
    """A triclinic stiffness at Bunge angles (30°, 40°, 50°): through the full tensor and through Mandel."""
    g = bunge_matrix(*np.radians([30.0, 40.0, 50.0]))
    expected = rotate_tensor(g.T, TRICLINIC)
    turned = rotate_voigt(rotation_from_bunge([30.0, 40.0, 50.0], degrees=True), TRICLINIC)
    np.testing.assert_allclose(turned, expected, atol=1e-11)
    # Numbers of the same example, so that a common mistake of both routes shows.
    np.testing.assert_allclose(turned[0], [142.630728, 39.700697, 63.295022, 4.092668, -8.274645, 3.944199], atol=1e-6)
    # Controls: the inverse orientation and the passive matrix give another stiffness.
    assert np.max(np.abs(rotate_tensor(g, TRICLINIC) - expected)) > 5.0


def test_sign_of_quartz_c14():
    about_z = {angle: rotate_voigt(rotation_about([0, 0, 1], np.radians(angle)), QUARTZ) for angle in (60, 120, 180)}
    np.testing.assert_allclose(about_z[120], QUARTZ, atol=1e-12)
    for angle in (60, 180):
        assert about_z[angle][0, 3] == pytest.approx(18.0, abs=1e-12)
        np.testing.assert_allclose(np.abs(about_z[angle]), np.abs(QUARTZ), atol=1e-12)
    np.testing.assert_allclose(rotate_voigt(rotation_about([1, 0, 0], np.pi), QUARTZ), QUARTZ, atol=1e-12)
    assert rotate_voigt(rotation_about([0, 1, 0], np.pi), QUARTZ)[0, 3] == pytest.approx(18.0, abs=1e-12)
    # With x along the mirror instead of a, the constant is C15.
    aside = rotate_voigt(rotation_about([0, 0, 1], np.pi / 2), QUARTZ)
    assert abs(aside[0, 3]) < 1e-12 and abs(aside[0, 4]) == pytest.approx(18.0, abs=1e-12)


def test_quaternion_order():
    half = np.sqrt(0.5)
    quarter_z = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(rotation_from_quaternion([half, 0, 0, half]), quarter_z, atol=1e-15)
    np.testing.assert_allclose(rotation_from_quaternion([0, 0, half, half], scalar_first=False), quarter_z, atol=1e-15)
    # The same four numbers, read in the other order, are a quarter turn about x.
    other = rotation_from_quaternion([half, 0, 0, half], scalar_first=False)
    np.testing.assert_allclose(other, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-15)
    assert rotation_from_quaternion(np.tile([1.0, 0, 0, 0], (2, 3, 1))).shape == (2, 3, 3, 3)


def test_mandel_rotation_is_an_orthogonal_homomorphism(rng):
    first, second = random_rotations(10, rng), -random_rotations(10, rng)
    turns = mandel_rotation(first)
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.tile(np.eye(6), (10, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(mandel_rotation(first @ second), turns @ mandel_rotation(second), atol=1e-14)
    np.testing.assert_allclose(mandel_rotation(-first), turns, atol=1e-15)
    # Control: the reverse order is another rotation.
    assert np.max(np.abs(mandel_rotation(first @ second) - mandel_rotation(second) @ turns)) > 0.1


def test_mandel_rotation_turns_tensors(rng):
    turn = random_rotations(6, rng)
    tensor = rng.normal(size=(6, 3, 3))
    tensor = tensor + np.swapaxes(tensor, 1, 2)
    expected = mandel.to_mandel(turn @ tensor @ np.swapaxes(turn, 1, 2))
    np.testing.assert_allclose(rotate_vector(turn, mandel.to_mandel(tensor)), expected, atol=1e-13)


def test_rotated_stiffness_answers_rotated_strain(rng):
    turn = random_rotations(1, rng)[0]
    stiffness = mandel.stiffness_from_voigt(TRICLINIC)
    strain = rng.normal(size=6)
    np.testing.assert_allclose(
        rotate_matrix(turn, stiffness) @ rotate_vector(turn, strain),
        rotate_vector(turn, stiffness @ strain),
        atol=1e-10,
    )


def test_rotation_to_direction(rng):
    pairs = rng.normal(size=(20, 2, 3))
    special = np.array([[[0, 0, 1], [0, 0, -2.0]], [[1, 1, 1], [1, 1, 1.0]], [[1, 0, 0], [-1, 0, 0]]])
    for start, end in np.concatenate([pairs, special]):
        turn = check_rotation("test", rotation_to_direction(start, end))
        np.testing.assert_allclose(turn @ start / np.linalg.norm(start), end / np.linalg.norm(end), atol=1e-12)
        between = start @ end / np.linalg.norm(start) / np.linalg.norm(end)
        assert (np.trace(turn) - 1) / 2 == pytest.approx(between, abs=1e-12)


def test_random_rotations_are_uniform(rng):
    turns = random_rotations(4000, rng)
    check_rotation("test", turns)
    assert np.max(np.abs(turns.mean(axis=0))) < 5 / np.sqrt(3 * 4000)
    # Haar measure: the angle has density (1 − cos θ)/π, whose mean cosine is −½.
    cosine = (np.trace(turns, axis1=1, axis2=2) - 1) / 2
    assert np.mean(cosine) == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1.0, 1.0, -1.0]), "det Q = \\+1"),
        (1.001 * np.eye(3), "a defect of 0.002"),
        pytest.param(
            np.full((3, 3), np.nan),
            "expected proper rotations",
            marks=pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),
        ),
        (np.eye(4), "expected rotations of shape"),
    ],
)
def test_check_rotation_refuses(matrix, message):
    with pytest.raises(ValueError, match=f"somewhere: .*{message}"):
        check_rotation("somewhere", matrix)


def test_check_rotation_finds_one_bad_matrix_in_a_batch(rng):
    turns = random_rotations(5, rng)
    np.testing.assert_array_equal(check_rotation("somewhere", turns), turns)
    turns[3] *= -1
    with pytest.raises(ValueError, match="somewhere"):
        check_rotation("somewhere", turns)


def test_shape_errors():
    with pytest.raises(ValueError, match="rotation_about: expected a nonzero axis"):
        rotation_about([0, 0, 0], 1.0)
    with pytest.raises(ValueError, match="rotation_from_bunge"):
        rotation_from_bunge([0.0, 1.0])
    with pytest.raises(ValueError, match="got 50. Pass degrees=True"):
        rotation_from_bunge([30.0, 40.0, 50.0])
    assert rotation_from_bunge([4 * np.pi, 4 * np.pi, 4 * np.pi]).shape == (3, 3)  # a point that was not indexed
    with pytest.raises(ValueError, match="rotation_from_quaternion"):
        rotation_from_quaternion([1.0, 0, 0])


def test_quaternions_have_unit_length():
    for wrong in (
        [2.0, 0, 0, 0],
        [0.0, 0, 0, 0],
        [1.0 + 1e-5, 0, 0, 0],
        [np.nan, 0, 0, 0],
        [[1.0, 0, 0, 0], [0.5, 0, 0, 0]],
    ):
        with pytest.raises(
            ValueError, match="rotation_from_quaternion: expected unit quaternions to within 1e-6, got a length"
        ):
            rotation_from_quaternion(wrong)
    np.testing.assert_allclose(rotation_from_quaternion([1.0 + 1e-8, 0, 0, 0]), np.eye(3), atol=1e-15)


def test_directions_have_a_direction():
    for wrong in ([0.0, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0], [1.0, 0]):
        with pytest.raises(ValueError, match=r"rotation_to_direction\(crystal_direction\): expected a nonzero axis"):
            rotation_to_direction(wrong, [0, 0, 1])
        with pytest.raises(ValueError, match=r"rotation_to_direction\(sample_direction\): expected a nonzero axis"):
            rotation_to_direction([0, 0, 1], wrong)
    np.testing.assert_allclose(rotation_to_direction([1e-200, 0, 0], [0, 1e200, 0]) @ [1, 0, 0], [0, 1, 0], atol=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_no_warning_before_the_error(value):
    matrix = np.eye(3)
    matrix[1, 2] = value
    with pytest.raises(ValueError, match="test: expected proper rotations.*got an entry"):
        check_rotation("test", matrix)


ANGLE = st.floats(-10.0, 10.0)
DIRECTION = st.tuples(*3 * [st.floats(-1.0, 1.0)]).map(np.array).filter(lambda v: np.linalg.norm(v) > 1e-3)
TURN = st.builds(rotation_about, DIRECTION, ANGLE)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(TURN, TURN)
def test_mandel_rotation_is_a_homomorphism(first, second):
    """R(Q₁) R(Q₂) = R(Q₁ Q₂), R(Qᵀ) = R(Q)ᵀ = R(Q)⁻¹, and R acts as Q A Qᵀ."""
    one, two = mandel_rotation(first), mandel_rotation(second)
    np.testing.assert_allclose(one @ two, mandel_rotation(first @ second), rtol=0, atol=4e-15)
    np.testing.assert_allclose(mandel_rotation(first.T), one.T, rtol=0, atol=1e-15)
    np.testing.assert_allclose(one.T @ one, np.eye(6), rtol=0, atol=4e-15)
    np.testing.assert_allclose(mandel_rotation(-first), one, rtol=0, atol=0)
    vector = mandel.to_mandel(second + second.T)
    by_hand = mandel.to_mandel(first @ (second + second.T) @ first.T)
    np.testing.assert_allclose(rotate_vector(first, vector), by_hand, rtol=0, atol=1e-14)
    # control: a matrix that is no rotation keeps no lengths
    assert (
        np.abs(np.linalg.norm(mandel_rotation(1.01 * first) @ vector) - np.linalg.norm(vector))
        > 0.01 * np.abs(vector).max()
    )


@settings(derandomize=True, max_examples=60, deadline=None)
@given(DIRECTION, ANGLE, ANGLE)
def test_turns_about_one_axis_add(axis, first, second):
    together = rotation_about(axis, first) @ rotation_about(axis, second)
    np.testing.assert_allclose(together, rotation_about(axis, first + second), rtol=0, atol=2e-14)
    np.testing.assert_allclose(together @ axis, axis, rtol=0, atol=1e-14)
    assert abs(np.trace(rotation_about(axis, first)) - 1 - 2 * np.cos(first)) < 1e-14
    check_rotation("test", together)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(DIRECTION, DIRECTION)
def test_the_turn_to_a_direction_is_the_smallest(start, end):
    turn = rotation_to_direction(start, end)
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    np.testing.assert_allclose(turn @ start, end, rtol=0, atol=1e-11)
    assert abs(np.trace(turn) - 1 - 2 * start @ end) < 1e-9


@settings(derandomize=True, max_examples=60, deadline=None)
@given(ANGLE, ANGLE, ANGLE)
def test_any_bunge_angles_and_their_quaternion(phi1, phi, phi2):
    """Bunge's matrix, transposed; and the quaternion of the same turn, whose sign does not matter."""
    turn = rotation_from_bunge([phi1, phi, phi2])
    np.testing.assert_allclose(turn, bunge_matrix(phi1, phi, phi2).T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        rotation_from_bunge(np.degrees([phi1, phi, phi2]), degrees=True), turn, rtol=0, atol=1e-14
    )
    c, s = np.cos(phi / 2), np.sin(phi / 2)
    plus, minus = (phi1 + phi2) / 2, (phi1 - phi2) / 2
    quaternion = np.array([c * np.cos(plus), s * np.cos(minus), s * np.sin(minus), c * np.sin(plus)])
    for sign in (1.0, -1.0):
        np.testing.assert_allclose(rotation_from_quaternion(sign * quaternion), turn, rtol=0, atol=1e-14)


def test_how_near_a_rotation_must_be(rng):
    """QᵀQ = 1 to 1e-8 unless another tolerance is asked for; quaternions to 1e-6; directions that are all but parallel."""
    turn = random_rotations(1, rng)[0]
    check_rotation("test", turn * (1.0 + 4e-9))
    for wrong in (turn * (1.0 + 6e-9), turn * (1.0 - 6e-9)):
        with pytest.raises(ValueError, match="test: expected proper rotations"):
            check_rotation("test", wrong)
        check_rotation("test", wrong, 2e-8)
    with pytest.raises(ValueError, match="got an entry 2.1"):
        check_rotation("test", np.diag([2.1, 1.0, 1.0]))
    with pytest.raises(ValueError, match="a defect of 3 "):
        check_rotation("test", np.diag([2.0, 1.0, 1.0]))
    assert check_rotation("test", np.zeros((0, 3, 3))).shape == (0, 3, 3)
    quaternion = np.array([0.6, 0.0, 0.8, 0.0])
    rotation_from_quaternion((1.0 + 0.9e-6) * quaternion)
    with pytest.raises(ValueError, match="unit quaternions to within 1e-6"):
        rotation_from_quaternion((1.0 - 1.1e-6) * quaternion)
    for start in (np.eye(3)[0], np.array([1.0, 2.0, -3.0])):
        side = np.cross(start, [0.3, -0.1, 0.7])
        for angle in (1e-3, 1e-9):
            end = rotation_about(side, angle) @ start
            np.testing.assert_allclose(rotation_to_direction(start, end), rotation_about(side, angle), atol=1e-15)
            opposite = rotation_to_direction(start, -end)
            np.testing.assert_allclose(opposite @ start, -end, atol=1e-14)
            assert abs(np.trace(opposite) - 1 - 2 * np.cos(np.pi - angle)) < 1e-14
        np.testing.assert_array_equal(rotation_to_direction(start, 2.0 * start), np.eye(3))
