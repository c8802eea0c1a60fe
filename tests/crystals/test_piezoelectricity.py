"""Named piezoelectric constants, and e ↔ d on published constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crystals import (
    CURIE_GROUPS,
    POINT_GROUPS,
    PointGroup,
    d_from_e,
    e_from_d,
    elastic_constants,
    piezoelectric_constants,
    piezoelectric_from_constants,
    stiffness_from_constants,
    tensor_space,
)
from crystals.mandel import WEIGHTS, from_mandel
from crystals.piezoelectricity import check_piezoelectric, rotate_piezoelectric, why_not_piezoelectric
from crystals.rotations import random_rotations, rotate_matrix, rotation_about

# Names of the independent constants in the standard settings (Nye 1957, chapter VII; m and 2 with y as axis).
NAMES = {
    "1": "11 12 13 14 15 16 21 22 23 24 25 26 31 32 33 34 35 36", "2": "14 16 21 22 23 25 34 36",
    "m": "11 12 13 15 24 26 31 32 33 35", "222": "14 25 36", "mm2": "15 24 31 32 33", "4": "14 15 31 33",
    "-4": "14 15 31 36", "422": "14", "4mm": "15 31 33", "-42m": "14 36", "3": "11 14 15 22 31 33", "32": "11 14",
    "3m": "15 22 31 33", "6": "14 15 31 33", "-6": "11 22", "622": "14", "6mm": "15 31 33", "-6m2": "22", "23": "14",
    "-43m": "14", "∞": "14 15 31 33", "∞m": "15 31 33", "∞2": "14",
}  # fmt: skip
# The others: column of e in Voigt notation = factor × named constant, and the same for d (Nye 1957, chapter VII).
RELATIONS = {
    "32": [("12", -1, -1, "11"), ("26", -1, -2, "11"), ("25", -1, -1, "14")],
    "3m": [("21", -1, -1, "22"), ("16", -1, -2, "22"), ("24", 1, 1, "15"), ("32", 1, 1, "31")],
    "-6m2": [("21", -1, -1, "22"), ("16", -1, -2, "22")],
    "-6": [("12", -1, -1, "11"), ("26", -1, -2, "11"), ("21", -1, -1, "22"), ("16", -1, -2, "22")],
    "6mm": [("24", 1, 1, "15"), ("32", 1, 1, "31")],
    "∞m": [("24", 1, 1, "15"), ("32", 1, 1, "31")],
    "422": [("25", -1, -1, "14")],
    "-4": [("24", -1, -1, "15"), ("25", 1, 1, "14"), ("32", -1, -1, "31")],
    "-43m": [("25", 1, 1, "14"), ("36", 1, 1, "14")],
}
#: Quartz, Bechmann 1958 (doi:10.1103/PhysRev.110.1060), signs after IRE 1949: C in GPa, e in C/m², d in pC/N.
QUARTZ = {
    "C11": "86.74", "C12": "6.99", "C13": "11.91", "C14": "-17.91", "C33": "107.2", "C44": "57.94", "e11": "0.171",
    "e14": "-0.0406", "d11": "2.31", "d14": "0.727",
}  # fmt: skip
#: PZT-5H, the maker's (Vernitron) data; d and κ at constant stress also in Erturk and Inman 2011, Piezoelectric Energy
#: Harvesting, table E.1.
PZT5H = {
    "C11": "126", "C12": "79.5", "C13": "84.1", "C33": "117", "C44": "23.0", "e31": "-6.5", "e33": "23.3",
    "e15": "17.0", "d31": "-274", "d33": "593", "d15": "741",
}  # fmt: skip
PUBLISHED = {"32": QUARTZ, "∞m": PZT5H, "6mm": PZT5H}


def half_digit(text: str) -> float:
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def picked(values: dict[str, float], letter: str) -> dict[str, float]:
    return {name: value for name, value in values.items() if name[0] == letter}


def converted(symbol: str, values: dict[str, float], form: str) -> dict[str, float]:
    group = PointGroup(symbol)
    stiffness = stiffness_from_constants(group, picked(values, "C"))
    other = {"d": "e", "e": "d"}[form]
    tensor = piezoelectric_from_constants(group, picked(values, other))
    return piezoelectric_constants({"d": d_from_e, "e": e_from_d}[form](tensor, stiffness), group, form)


def excess(published: dict[str, str], form: str, convert: Callable[[dict[str, float]], dict[str, float]]) -> float:
    """Largest deviation of converted constants over what half a digit in every published number explains (≤ 1: agrees)."""
    values = {name: float(text) for name, text in published.items()}
    result = convert(values)
    bound = {name: half_digit(published[name]) for name in result}
    for name, text in published.items():
        if name[0] != form:
            shifted = convert({**values, name: values[name] + half_digit(text)})
            for key in result:
                bound[key] += abs(shifted[key] - result[key])
    return max(abs(result[key] - values[key]) / bound[key] for key in result)


@pytest.mark.parametrize("symbol", PUBLISHED)
@pytest.mark.parametrize("form", ["e", "d"])
def test_published_constants_convert_both_ways_within_their_rounding(symbol: str, form: str) -> None:
    assert excess(PUBLISHED[symbol], form, lambda values: converted(symbol, values, form)) <= 1.0


def test_a_wrong_factor_two_or_sign_does_not_agree() -> None:
    """Negative controls of the test above: Voigt d taken for Voigt e, and the other setting's C14."""

    def as_if_e(values: dict[str, float]) -> dict[str, float]:
        group = PointGroup("32")
        stiffness = stiffness_from_constants(group, picked(values, "C"))
        d_voigt = piezoelectric_from_constants(group, {"e" + k[1:]: v for k, v in picked(values, "d").items()})
        return piezoelectric_constants(e_from_d(d_voigt, stiffness), group, "e")

    assert excess(QUARTZ, "e", as_if_e) > 10
    other = {**QUARTZ, "C14": "17.91"}
    assert excess(other, "e", lambda values: converted("32", values, "e")) > 10
    assert excess({**QUARTZ, "d11": "-2.31"}, "e", lambda values: converted("32", values, "e")) > 10
    assert excess({**PZT5H, "d15": "370.5"}, "e", lambda values: converted("∞m", values, "e")) > 10


def test_free_and_clamped_permittivity_of_pzt() -> None:
    """κᵀ − κˢ = e·d: 1700 → 3130 and 1470 → 3400 relative to vacuum, published with PZT-5H, to 1.5 % (their rounding)."""
    group = PointGroup("∞m")
    e = piezoelectric_from_constants(group, picked({k: float(v) for k, v in PZT5H.items()}, "e"))
    d = piezoelectric_from_constants(group, picked({k: float(v) for k, v in PZT5H.items()}, "d"))
    gain = e @ d.T / 8.8541878128  # pC/m² over V/m: pF/m
    assert np.allclose(np.diag([1700, 1700, 1470]) + gain, np.diag([3130, 3130, 3400]), rtol=0.015, atol=1e-9)


@pytest.mark.parametrize("symbol", POINT_GROUPS + CURIE_GROUPS)
def test_names_and_round_trip_in_a_turned_frame(symbol: str) -> None:
    generator = np.random.default_rng(1)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    if symbol not in NAMES:
        assert why_not_piezoelectric(group) is not None
        assert piezoelectric_constants(np.zeros((3, 6)), group) == {}
        with pytest.raises(ValueError, match="expected a piezoelectric group"):
            piezoelectric_from_constants(group, {"e14": 1.0})
        return
    for form in ("e", "d"):
        constants = {form + name: float(generator.normal()) for name in NAMES[symbol].split()}
        tensor = piezoelectric_from_constants(group, constants)
        assert piezoelectric_constants(tensor, group, form) == pytest.approx(constants, rel=1e-12)
        for operation in group.sample(6, generator):
            assert np.allclose(rotate_piezoelectric(operation, tensor), tensor, atol=1e-12)
        local = rotate_piezoelectric(group.frame.T, tensor)
        voigt = local / WEIGHTS if form == "e" else local * WEIGHTS
        for column, e_factor, d_factor, name in RELATIONS.get(symbol, []):
            factor = e_factor if form == "e" else d_factor
            value = voigt[int(column[0]) - 1, int(column[1]) - 1]
            assert value == pytest.approx(factor * constants[form + name], rel=1e-12)


def test_mandel_columns_are_the_full_tensor() -> None:
    generator = np.random.default_rng(2)
    e = piezoelectric_from_constants(PointGroup("3"), dict(e11=1.0, e14=2.0, e15=3.0, e22=4.0, e31=5.0, e33=6.0))
    full, strain = from_mandel(e), generator.normal(size=6)
    assert np.allclose(e @ strain, np.einsum("ijk,jk->i", full, from_mandel(strain)))
    assert full[0, 1, 2] == pytest.approx(2.0) and full[1, 1, 1] == pytest.approx(4.0)
    turn = random_rotations(1, generator)[0]
    turned = np.einsum("ia,jb,kc,abc->ijk", turn, turn, turn, full)
    assert np.allclose(from_mandel(rotate_piezoelectric(turn, e)), turned)


def test_left_and_right_quartz_and_the_two_standards() -> None:
    """Inversion or mirror: e and d change sign, C stays. Half a turn about c: C14, e11 change sign, e14 stays."""
    group = PointGroup("32")
    values = {name: float(text) for name, text in QUARTZ.items()}
    e, stiffness = (
        piezoelectric_from_constants(group, picked(values, "e")),
        stiffness_from_constants(group, picked(values, "C")),
    )
    for improper in (-np.eye(3), np.diag([-1.0, 1, 1])):
        mirrored, moduli = rotate_piezoelectric(improper, e), rotate_matrix(improper, stiffness)
        assert piezoelectric_constants(mirrored, group) == pytest.approx({"e11": -0.171, "e14": 0.0406})
        assert np.allclose(moduli, stiffness, atol=1e-12)
    half = rotation_about([0, 0, 1], np.pi)
    turned, moduli = rotate_piezoelectric(half, e), rotate_matrix(half, stiffness)
    assert piezoelectric_constants(turned, group) == pytest.approx({"e11": -0.171, "e14": -0.0406})
    assert elastic_constants(moduli, group)["C14"] == pytest.approx(17.91)


@pytest.mark.parametrize("symbol", POINT_GROUPS + CURIE_GROUPS)
def test_elastic_constants_round_trip(symbol: str) -> None:
    generator = np.random.default_rng(7)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    basis = tensor_space(PointGroup(symbol), "((ij)(kl))")
    names = elastic_constants(np.eye(6), PointGroup(symbol))
    assert len(names) == len(basis)
    constants = {name: float(generator.normal()) for name in names}
    assert elastic_constants(stiffness_from_constants(group, constants), group) == pytest.approx(constants, rel=1e-10)
    with pytest.raises(ValueError, match="stiffness_from_constants"):
        stiffness_from_constants(group, {**constants, "C77": 1.0})


def test_mistakes_are_named() -> None:
    group = PointGroup("32")
    with pytest.raises(ValueError, match="expected finite e11, e14 for 32, got e11=1.0"):
        piezoelectric_from_constants(group, {"e11": 1.0})
    with pytest.raises(ValueError, match="all e or all d"):
        piezoelectric_from_constants(group, {"e11": 1.0, "d14": 1.0})
    with pytest.raises(ValueError, match="432 leave no third-rank tensor"):
        piezoelectric_from_constants(PointGroup("432"), {"e14": 1.0})
    with pytest.raises(ValueError, match="of the groups with this Laue class 32, 3m have one"):
        piezoelectric_from_constants(PointGroup("-3m"), {"e11": 1.0})
    e = piezoelectric_from_constants(group, {"e11": 1.0, "e14": 0.5})
    with pytest.raises(ValueError, match="0.605 lacks it"):
        piezoelectric_constants(rotate_piezoelectric(rotation_about([1, 0, 0], 0.5), e), group)
    with pytest.raises(ValueError, match="stress_from_voigt"):
        d_from_e(np.zeros((3, 3, 3)), np.eye(6))
    with pytest.raises(ValueError, match="form 'e'"):
        piezoelectric_constants(e, group, "g")


@pytest.mark.parametrize("symbol", POINT_GROUPS)
def test_a_tensor_is_checked_against_its_group(symbol: str) -> None:
    """In any frame: rounding is removed, the tensor of a lower symmetry refused with its constants named, zero allowed."""
    generator = np.random.default_rng(3)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    np.testing.assert_array_equal(check_piezoelectric("here", np.zeros((3, 6)), group), np.zeros((3, 6)))
    with pytest.raises(ValueError, match=r"here: expected one piezoelectric tensor \(3, 6\), got \(2, 3, 6\)"):
        check_piezoelectric("here", np.zeros((2, 3, 6)), group)
    noise = generator.normal(size=(3, 6))
    if symbol not in NAMES:
        with pytest.raises(ValueError, match=f"here: expected piezoelectric = 0 for {symbol}"):
            check_piezoelectric("here", 1e-3 * noise, group)
        return
    tensor = piezoelectric_from_constants(
        group, {f"e{name}": float(generator.normal()) for name in NAMES[symbol].split()}
    )
    found = check_piezoelectric("here", tensor + 1e-11 * noise, group)
    np.testing.assert_allclose(found, tensor, atol=1e-10)
    for operation in group.operations:
        np.testing.assert_allclose(rotate_piezoelectric(operation, found), found, atol=2e-15)
    if symbol != "1":
        for size, tolerance in ((1e-7, 1e-9), (1e-3, 1e-5)):
            with pytest.raises(ValueError, match=f"symmetry of {symbol}, got e[123][1-6] = .* where the group needs"):
                check_piezoelectric("here", tensor + size * noise, group, tolerance)
        check_piezoelectric("here", tensor + 1e-7 * noise, group, 1e-5)
        if symbol in ("-43m", "32"):
            others = "e36 = .*" if symbol == "-43m" else ""
            named = f"got e25 = .*{others}where the group needs .*Shear columns of d, not of e, carry a factor 2"
            with pytest.raises(ValueError, match=named):
                check_piezoelectric("here", rotate_piezoelectric(group.frame, _doubled(tensor, group)), group)


def _doubled(tensor: np.ndarray, group: PointGroup) -> np.ndarray:
    local = rotate_piezoelectric(group.frame.T, tensor)
    local[0, 3:] *= 2.0
    return local
