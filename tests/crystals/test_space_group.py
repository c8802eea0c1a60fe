"""Space groups: every one is found in a crystal that is built to have it, by whatever cell, and as spglib finds it."""

import warnings
from typing import Any

import numpy as np
import pytest
import spglib as _spglib
from ase import Atoms
from ase.build import bulk, make_supercell

from crystals.rotations import rotation_about
from crystals.space_group import point_operations, space_group
from crystals.structures import symmetrised, symmetry_operations

spglib: Any = _spglib  # its types know no arrays


def database(hall: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Rotations, translations and centring of a setting, of spglib."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found, kind = spglib.get_symmetry_from_database(hall), spglib.get_spacegroup_type(hall)
    assert found is not None and kind is not None
    return found["rotations"], found["translations"], kind.international_short[0]


#: The smallest Hall number of each space group.
FIRST = np.unique([spglib.get_spacegroup_type(hall).number for hall in range(1, 531)], return_index=True)[1] + 1


def generic(hall: int) -> Atoms:
    """A crystal of that space group and no more: two elements, orbits of general positions."""
    rotations, translations, _ = database(hall)
    rng = np.random.default_rng(hall)
    metric = np.diag([30.0, 40.0, 55.0]) + rng.uniform(-4.0, 4.0, size=(3, 3))
    metric = np.mean([turn.T @ (metric + metric.T) @ turn for turn in np.unique(rotations, axis=0)], axis=0)
    metric *= len(rotations) ** (2.0 / 3.0) / 2.0
    kinds = [14, 14, 8, 8, 8] if len(rotations) < 96 else [14, 8]
    numbers, cell = np.repeat(kinds, len(rotations)), np.linalg.cholesky(metric)
    while True:
        places = np.concatenate([(rotations @ x + translations) % 1.0 for x in rng.random((len(kinds), 3))])
        apart = places[:, None] - places
        distance = np.linalg.norm((apart - np.round(apart)) @ cell, axis=2)
        if np.min(distance + 9.0 * np.eye(len(places))) > 0.3:
            return Atoms(numbers=numbers, cell=cell, scaled_positions=places, pbc=True)


def test_every_setting_as_in_the_database():
    """Operations of the conventional cell and translations of the lattice, all 530."""
    for hall in range(1, 531):
        rotations, translations, _ = database(hall)
        found, shifts = point_operations(hall)
        np.testing.assert_array_equal(found, np.unique(rotations, axis=0))
        pure = translations[np.all(rotations == np.eye(3), axis=(1, 2))]
        assert sorted((shifts % 1.0).round(6).tolist()) == sorted((pure % 1.0).round(6).tolist())


@pytest.mark.parametrize("part", range(5))
def test_every_space_group_is_found(part):
    """As it is built, and turned, from another origin, atoms in another order and off by 1e-4 Å."""
    for hall in FIRST[part::5].tolist():
        crystal, (rotations, _, centring) = generic(hall), database(hall)
        found = space_group("test", crystal, 0.01)
        assert (found.hall_number, found.centring) == (hall, centring)
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(found.lattice @ found.lattice.T)),
                                   np.sort(np.linalg.eigvalsh(crystal.cell.array @ crystal.cell.array.T)), rtol=1e-6)  # fmt: skip
        rng = np.random.default_rng(hall)
        other = crystal[rng.permutation(len(crystal))]
        other.set_cell(other.cell.array @ rotation_about(rng.normal(size=3), 1.0).T, scale_atoms=True)
        other.positions += [0.3, -1.2, 0.4] + 1e-4 * rng.uniform(-1.0, 1.0, size=other.positions.shape)
        again = symmetrised(other)
        assert len(again.operations) == len(np.unique(rotations, axis=0))
        assert again.displacement < 3e-4
        assert len(again.atoms) * len(rotations) == len(crystal) * len(np.unique(rotations, axis=0))
        # negative control: one atom moved by far more than the tolerance
        if hall > 2:
            other.positions[0] += 0.1
            assert len(symmetry_operations(other)) < len(again.operations)


def stretched(ratio: float) -> Atoms:
    crystal = bulk("Cu", "fcc", a=3.75, cubic=True)
    crystal.symbols[0] = "Au"
    crystal.set_cell(np.diag([1.0, 1.0, ratio]) * 3.75, scale_atoms=True)
    return crystal


def test_tolerance():
    """Cubic within 0.01 Å, not within 0.001 Å; what is taken for cubic is made cubic."""
    crystal = stretched(1.002)
    assert len(symmetrised(crystal).operations) == 48
    assert len(symmetrised(crystal, symprec=1e-3).operations) == 16
    lengths = symmetrised(crystal).atoms.cell.lengths()
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-12)
    assert symmetrised(crystal).strain > 1e-3


def test_supercells_and_prototypes_as_spglib_has_them():
    zincblende = bulk("ZnS", "zincblende", a=5.4)
    for crystal in (
        stretched(1.0), stretched(1.2), zincblende, make_supercell(zincblende, [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]),
        bulk("Mg", "hcp", a=3.2, c=5.2), bulk("CsCl", "cesiumchloride", a=4.1), bulk("Bi", "rhombohedral", a=4.7, alpha=57),
    ):  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            theirs = spglib.get_symmetry_dataset(
                (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers), symprec=0.01
            )
        ours = space_group("test", crystal, 0.01)
        assert theirs is not None and ours.hall_number == theirs.hall_number
        assert len(ours.numbers) == len(theirs.std_types)
        np.testing.assert_allclose(np.sort(np.linalg.norm(ours.lattice, axis=1)),
                                   np.sort(np.linalg.norm(theirs.std_lattice, axis=1)), atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_equally_good_axes_do_not_depend_on_the_description(seed):
    """Rutile with c along x: four bases lie as near to the cell. Atoms in another order, another origin: the same axes."""
    places = [
        [0, 0, 0],
        [0.5, 0.5, 0.5],
        [0, 0.305, 0.305],
        [0, 0.695, 0.695],
        [0.5, 0.195, 0.805],
        [0.5, 0.805, 0.195],
    ]
    crystal = Atoms("Ti2O4", cell=[2.96, 4.59, 4.59], scaled_positions=places, pbc=True)
    reference = symmetrised(crystal).axes
    rng = np.random.default_rng(seed)
    other = crystal[rng.permutation(6)]
    other.positions += rng.normal(size=3)
    np.testing.assert_allclose(symmetrised(other).axes, reference, atol=1e-6)
    # negative control: they turn with the crystal
    turn = rotation_about(np.array([1.0, 2.0, 3.0]), 0.7)
    other.set_cell(other.cell.array @ turn.T, scale_atoms=True)
    np.testing.assert_allclose(symmetrised(other).axes, turn @ reference, atol=1e-6)


def ordered(a: float, stretch: float = 1.0) -> Atoms:
    """AuCu3, L1₂, its cell longer along z."""
    crystal = bulk("Cu", "fcc", a=a, cubic=True)
    crystal.symbols = ["Au", "Cu", "Cu", "Cu"]
    crystal.set_cell(np.diag([1.0, 1.0, stretch]) * a, scale_atoms=True)
    return crystal


def test_a_left_handed_cell_is_the_same_crystal() -> None:
    crystal = ordered(3.75)
    crystal.rotate(40.0, (1, 2, 3), rotate_cell=True)
    swapped = crystal.copy()
    swapped.set_cell(crystal.cell.array[[1, 0, 2]])
    assert np.linalg.det(swapped.cell.array) < 0
    sets = [sorted((symmetrised(c).operations.round(9) + 0.0).reshape(-1, 9).tolist()) for c in (crystal, swapped)]
    assert sets[0] == sets[1]


@pytest.mark.parametrize("stretch", [1.0008, 1.0004])
def test_a_distorted_crystal_keeps_its_own_distortion(stretch: float) -> None:
    """Cubic within the tolerance only, its cell off by more than rounding."""
    found = symmetrised(ordered(3.75, stretch))
    assert len(found.operations) == 48 and abs(found.strain / (stretch - 1.0) - (2 / 3) ** 0.5) < 1e-2
