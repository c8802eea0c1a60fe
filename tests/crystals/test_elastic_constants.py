"""Names, number and frame of elastic constants of second to fourth order, for every class a strain can see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from crystals import STRAIN_CLASSES, PointGroup
from crystals.elastic_constants import constants_to_voigt, elastic_constants, independent_constants, rotate_constants
from crystals.invariants import invariant_tensors
from crystals.mandel import stiffness_to_voigt
from crystals.rotations import random_rotations, rotate_matrix

#: Independent constants of order 2, 3, 4: the Molien series, as ARCHITECTURE.md lists them.
COUNTS = {
    "-1": (21, 56, 126), "2/m": (13, 32, 70), "mmm": (9, 20, 42), "4/m": (7, 16, 36), "4/mmm": (6, 12, 25),
    "-3": (7, 20, 42), "-3m": (6, 14, 28), "6/m": (5, 12, 24), "6/mmm": (5, 10, 19), "m-3": (3, 8, 14),
    "m-3m": (3, 6, 11), "∞/m": (5, 10, 18), "∞/mm": (5, 9, 16), "∞∞m": (2, 3, 4),
}  # fmt: skip
#: Textbook sets (Hearmon 1953; Wang and Li 2009 for the fourth order).
TEXTBOOK = {
    ("m-3m", 3): "C111 C112 C123 C144 C155 C456",
    ("m-3", 3): "C111 C112 C113 C123 C144 C155 C166 C456",
    ("6/mmm", 3): "C111 C112 C113 C123 C133 C144 C155 C222 C333 C344",
    ("6/m", 3): "C111 C112 C113 C116 C123 C133 C144 C145 C155 C222 C333 C344",
    ("-3m", 3): "C111 C112 C113 C114 C123 C124 C133 C134 C144 C155 C222 C333 C344 C444",
    ("4/mmm", 3): "C111 C112 C113 C123 C133 C144 C155 C166 C333 C344 C366 C456",
    ("mmm", 3): "C111 C112 C113 C122 C123 C133 C144 C155 C166 C222 C223 C233 C244 C255 C266 C333 C344 C355 C366 C456",
    ("∞∞m", 3): "C111 C112 C123",
    ("m-3m", 4): "C1111 C1112 C1122 C1123 C1144 C1155 C1255 C1266 C1456 C4444 C4455",
}


def random_constants(symbol: str, order: int, seed: int = 0) -> np.ndarray:
    tensors = invariant_tensors(symbol, order)
    return np.tensordot(np.random.default_rng(seed).normal(size=len(tensors)), tensors, axes=1)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_names_are_as_many_as_the_molien_series_and_determine_the_tensor(symbol: str, order: int) -> None:
    names = independent_constants(PointGroup(symbol), order)
    assert len(names) == len(set(names)) == COUNTS[symbol][order - 2]
    tensors = invariant_tensors(symbol, order)
    rows = [list(elastic_constants(t, PointGroup(symbol), order=order).values()) for t in tensors]
    assert np.linalg.matrix_rank(np.array(rows), tol=1e-6) == len(tensors)


def test_textbook_names() -> None:
    for (symbol, order), names in TEXTBOOK.items():
        assert " ".join(independent_constants(PointGroup(symbol), order)) == names


@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("symbol", STRAIN_CLASSES)
def test_constants_in_any_frame(symbol: str, order: int) -> None:
    """The named value is the Voigt component in the standard frame; with the frame forgotten there is no symmetry."""
    constants = random_constants(symbol, order)
    frame = random_rotations(1, np.random.default_rng(1))[0]
    turned = rotate_constants(frame, constants, order)
    found = elastic_constants(turned, PointGroup(symbol, frame), order=order)
    voigt = constants_to_voigt(constants, order)
    size = np.abs(voigt).max()
    for name, value in found.items():
        assert abs(value - voigt[tuple(int(digit) - 1 for digit in name[1:])]) < 1e-11 * size
    if symbol not in ("-1", "∞∞m"):
        with pytest.raises(ValueError, match="expected a stiffness with the symmetry of"):
            elastic_constants(turned, PointGroup(symbol), order=order)


def test_hexagonal_relations_between_dependent_constants() -> None:
    """Hearmon 1953: C122 = C111 + C112 − C222, C456 = (C155 − C144)/2, C166 = (3 C222 − 2 C111 − C112)/4,
    C266 = (2 C111 − C112 − C222)/4, C366 = (C113 − C123)/2."""
    c = constants_to_voigt(random_constants("6/mmm", 3), 3)
    c122, c456, c166 = c[0, 1, 1], c[3, 4, 5], c[0, 5, 5]
    assert c122 == pytest.approx(c[0, 0, 0] + c[0, 0, 1] - c[1, 1, 1], abs=1e-12)
    assert c456 == pytest.approx((c[0, 4, 4] - c[0, 3, 3]) / 2, abs=1e-12)
    assert c166 == pytest.approx((3 * c[1, 1, 1] - 2 * c[0, 0, 0] - c[0, 0, 1]) / 4, abs=1e-12)
    assert c[1, 5, 5] == pytest.approx((2 * c[0, 0, 0] - c[0, 0, 1] - c[1, 1, 1]) / 4, abs=1e-12)
    assert c[2, 5, 5] == pytest.approx((c[0, 0, 2] - c[0, 1, 2]) / 2, abs=1e-12)


def test_order_two_agrees_with_the_matrix_functions_and_batches_pass() -> None:
    stiffness = random_constants("-3m", 2)
    frame = random_rotations(1, np.random.default_rng(2))[0]
    np.testing.assert_allclose(constants_to_voigt(stiffness, 2), stiffness_to_voigt(stiffness), rtol=1e-15)
    np.testing.assert_allclose(rotate_constants(frame, stiffness, 2), rotate_matrix(frame, stiffness), atol=1e-13)
    third = random_constants("m-3m", 3)
    batch = elastic_constants(np.array([third, 2.0 * third]), PointGroup("m-3m"), order=3)
    np.testing.assert_allclose(batch["C456"][1], 2.0 * batch["C456"][0])
    assert np.ndim(elastic_constants(third, PointGroup("432"), order=3)["C111"]) == 0


def test_errors() -> None:
    third = random_constants("m-3m", 3)
    with pytest.raises(ValueError, match="order of 2, 3 or 4, got 5"):
        elastic_constants(third, PointGroup("m-3m"), order=5)
    with pytest.raises(ValueError, match=r"\(..., 6, 6, 6\) of order 3, got shape \(6, 6\)"):
        elastic_constants(np.eye(6), PointGroup("m-3m"), order=3)
    spoiled = third.copy()
    spoiled[0, 1, 2] = np.nan
    with pytest.raises(ValueError, match="look for NaN"):
        elastic_constants(spoiled, PointGroup("m-3m"), order=3)
    for place in itertools.permutations((0, 1, 2)):
        crooked = third.copy()
        crooked[place] += 0.1
        with pytest.raises(ValueError, match="symmetric in all 3 indices"):
            elastic_constants(crooked, PointGroup("m-3m"), order=3)
