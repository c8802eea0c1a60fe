"""Cubic crystals like one seen before are not analysed again, and get what spglib would have found."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from crystals import space_group as room
from crystals.structures import symmetrised


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Formulas that spglib was asked about; nothing is known at the start."""
    seen = []
    original = room._found
    monkeypatch.setattr(room, "_PROTOTYPES", {})
    monkeypatch.setattr(room, "_found", lambda *given: seen.append(given[1].get_chemical_formula()) or original(*given))
    return seen


def ordered(names: tuple[str, str], a: float) -> Atoms:
    """L1₂."""
    cubic = bulk("Cu", "fcc", a=a, cubic=True)
    cubic.symbols = [names[0], *[names[1]] * 3]
    return cubic


def heusler(names: tuple[str, str], a: float) -> Atoms:
    """D0₃, Fm-3m, in its primitive cell."""
    cell = 0.5 * a * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    places = [[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5], [0.75, 0.75, 0.75]]
    return Atoms([names[0], *[names[1]] * 3], cell=cell, scaled_positions=places, pbc=True)


PROTOTYPES = {
    "L1_2": ordered, "D0_3": heusler, "rocksalt": lambda names, a: bulk("".join(names), "rocksalt", a=a),
    "zincblende": lambda names, a: bulk("".join(names), "zincblende", a=a),
    "supercell": lambda names, a: make_supercell(ordered(names, a), [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]),
}  # fmt: skip


def assert_same(found, expected):
    np.testing.assert_allclose(found.axes, expected.axes, atol=1e-9)
    sets = [sorted((crystal.operations.round(9) + 0.0).reshape(-1, 9).tolist()) for crystal in (found, expected)]
    assert sets[0] == sets[1]
    assert abs(found.displacement - expected.displacement) < 1e-9 and abs(found.strain - expected.strain) < 1e-9
    np.testing.assert_allclose(found.atoms.cell.array, expected.atoms.cell.array, atol=1e-8)
    # the same crystal but for where its origin lies: distances from an atom of the rare element
    shells = []
    for crystal in (found.atoms, expected.atoms):
        rare = min(set(crystal.numbers.tolist()), key=crystal.numbers.tolist().count)
        distance = crystal.get_all_distances(mic=True)[int(np.argmax(crystal.numbers == rare))].round(6)
        shells.append(sorted(zip(distance.tolist(), crystal.numbers.tolist(), strict=True)))
    assert shells[0] == shells[1]


@pytest.mark.parametrize("name", PROTOTYPES)
def test_like_one_seen_before(name, asked):
    """Other elements, another length, atoms in another order, another origin, another place of the rare element."""
    build = PROTOTYPES[name]
    for crystal in (build(("Na", "Cl"), 5.0), build(("Mg", "O"), 4.1)):
        symmetrised(crystal)
    asked.clear()
    for names, length in ((("Cu", "Au"), 3.7), (("Li", "F"), 7.3)):
        crystal = build(names, length)
        crystal = crystal[np.random.default_rng(2).permutation(len(crystal))]
        crystal.positions += [0.31, -0.2, 0.77]
        found = symmetrised(crystal)
        assert asked == []
        room._PROTOTYPES.clear()
        assert_same(found, symmetrised(crystal))
        asked.clear()
        for again in (build(("Na", "Cl"), 5.0), build(("Mg", "O"), 4.1)):
            symmetrised(again)
        asked.clear()


def test_what_is_analysed_again(asked):
    """A length of more than twice, another tolerance, atoms off their places, places that the group leaves free."""
    for _ in range(2):
        symmetrised(ordered(("Au", "Cu"), 3.75))
    asked.clear()
    symmetrised(ordered(("Au", "Cu"), 8.0))
    symmetrised(ordered(("Au", "Cu"), 3.75), symprec=0.02)
    off = ordered(("Au", "Cu"), 3.75)
    off.positions[1] += [0.004, 0.0, 0.0]
    assert symmetrised(off).displacement > 1e-3
    assert len(asked) == 3
    x = 0.385
    places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    sulphur = [[x, x, x], [0.5 - x, -x, 0.5 + x], [-x, 0.5 + x, 0.5 - x], [0.5 + x, 0.5 - x, -x]]
    pyrite = Atoms("Fe4S8", cell=[5.42] * 3, pbc=True,
                   scaled_positions=[*places, *sulphur, *(-np.array(sulphur) % 1.0)])  # fmt: skip
    asked.clear()
    for _ in range(3):
        assert len(symmetrised(pyrite).operations) == 24
    assert len(asked) == 3


def test_a_group_at_the_edge_of_the_tolerance_is_not_taken_over(asked):
    """Cubic within 0.01 Å, not within 0.005 Å: 1.9 times as large it is tetragonal, though in shape the same."""

    def stretched(length: float) -> Atoms:
        crystal = ordered(("Au", "Cu"), length)
        crystal.set_cell(np.diag([1.0, 1.0, 1.002]) * length, scale_atoms=True)
        return crystal

    for _ in range(3):
        assert len(symmetrised(stretched(3.75)).operations) == 48
    assert len(symmetrised(stretched(1.9 * 3.75)).operations) == 16
    assert len(room._PROTOTYPES) == 1 and not next(iter(room._PROTOTYPES.values())).steady


@pytest.mark.parametrize(("factor", "known"), [(0.45, False), (0.55, True), (1.9, True), (2.1, False)])
def test_how_much_larger_a_like_crystal_may_be(factor, known, asked):
    """Between half and twice the length, where half and twice the tolerance have given the same group."""
    for _ in range(2):
        symmetrised(ordered(("Au", "Cu"), 6.0))
    assert len(asked) == 3  # itself, and the two other tolerances
    found = symmetrised(ordered(("Au", "Cu"), factor * 6.0))
    assert len(asked) == (3 if known else 4) and len(found.operations) == 48


def test_a_left_handed_cell_is_analysed_as_it_is(asked):
    """Vectors in another order: the same crystal, its operations the same; it is not taken over from a right-handed one."""
    crystal = ordered(("Au", "Cu"), 3.75)
    crystal.rotate(40.0, (1, 2, 3), rotate_cell=True)
    swapped = crystal.copy()
    swapped.set_cell(crystal.cell.array[[1, 0, 2]])
    assert np.linalg.det(swapped.cell.array) < 0
    right, left = symmetrised(crystal), symmetrised(swapped)
    assert len(asked) == 2
    sets = [sorted((found.operations.round(9) + 0.0).reshape(-1, 9).tolist()) for found in (right, left)]
    assert sets[0] == sets[1]


def test_a_distorted_crystal_is_no_prototype(asked):
    """Cubic within the tolerance only, its cell off by more than rounding: each is analysed, and keeps its own distortion."""
    for stretch in (1.0008, 1.0004):
        crystal = ordered(("Au", "Cu"), 3.75)
        crystal.set_cell(np.diag([1.0, 1.0, stretch]) * 3.75, scale_atoms=True)
        found = symmetrised(crystal)
        assert len(found.operations) == 48 and found.strain > 1e-4
    assert len(asked) == 2
