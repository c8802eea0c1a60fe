"""Descriptors of crystals: the same for every description of one crystal; spring nets against least squares."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from crystals.descriptors import CUTOFF, SPRINGS, crystal_descriptors, descriptors_of
from crystals.elements import ELEMENT_COLUMNS, imputed_properties
from crystals.neighbours import Neighbours, neighbours
from crystals.pair_sums import lattice_sums, pair_sums

CRYSTALS = {
    "rutile": crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]),
    "quartz": crystal(["Si", "O"], [(0.4697, 0, 1 / 3), (0.4135, 0.2669, 0.2142)], spacegroup=152,
                      cellpar=[4.916, 4.916, 5.405, 90, 90, 120]),
    "wurtzite": bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382),
    "triclinic": Atoms("CuPdAuO", cell=[[3.1, 0, 0], [0.4, 3.6, 0], [0.7, -0.5, 4.8]], pbc=True,
                       scaled_positions=[[0, 0, 0], [0.5, 0.45, 0.3], [0.1, 0.6, 0.7], [0.7, 0.1, 0.55]]),
}  # fmt: skip


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_same_for_every_description(name):
    """Turned, mirrored, shifted, reordered, as a supercell of another shape; not when strained by a thousandth."""
    atoms = CRYSTALS[name]
    found = crystal_descriptors(atoms)
    assert found.shape == (206,) and np.all(np.isfinite(found))
    turn = -Rotation.random(random_state=3).as_matrix()
    other = atoms * (1, 2, 1)
    other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ other.cell.array, scale_atoms=False)
    other.positions += [0.3, -0.2, 0.9]
    other.set_cell(other.cell.array @ turn.T, scale_atoms=True)
    other = other[np.random.default_rng(1).permutation(len(other))]
    np.testing.assert_allclose(crystal_descriptors(other), found, atol=1e-9)
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ (np.eye(3) + 1e-3 * np.diag([1, -1, 0])), scale_atoms=True)
    assert 1e-6 < np.abs(crystal_descriptors(strained) - found).max() < 0.5


def test_many_crystals_at_once():
    """Descriptors and lattice sums in a batch are those one by one, whatever stands beside; not those of the neighbour."""
    crystals = [*CRYSTALS.values(), bulk("Cu"), *reversed(CRYSTALS.values())]
    bonds = Neighbours.of(crystals, CUTOFF)
    found, sums = descriptors_of(bonds), lattice_sums(bonds)
    for place, atoms in enumerate(crystals):
        np.testing.assert_allclose(found[place], crystal_descriptors(atoms), atol=1e-11)
        alone = pair_sums(atoms)
        for name in ("numbers", "first", "second"):
            np.testing.assert_array_equal(getattr(sums[place], name), getattr(alone, name))
        np.testing.assert_allclose(sums[place].sums, alone.sums, atol=1e-12)
        assert sums[place].volume == pytest.approx(alone.volume, rel=1e-14)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_neighbours_of_a_skew_cell():
    """A basis far from reduced gives the same bonds, also where many images are needed."""
    atoms = CRYSTALS["triclinic"]
    skew = atoms.copy()
    skew.set_cell(np.array([[1, 7, -5], [0, 1, 9], [0, 0, 1]]) @ atoms.cell.array, scale_atoms=False)
    found = [sorted(np.linalg.norm(neighbours(one, 6.0)[2], axis=1)) for one in (atoms, skew)]
    np.testing.assert_allclose(*found, atol=1e-9)
    with pytest.raises(ValueError, match="at least 0.4"):
        neighbours(atoms + atoms[:1], 6.0)


@pytest.mark.parametrize("name", ["quartz", "wurtzite", "triclinic"])
def test_moduli_of_spring_nets(name):
    """ln K and ln G/K of each net against the least energy over all displacements, found by least squares on bonds."""
    atoms = CRYSTALS[name]
    found = crystal_descriptors(atoms)[-6 * len(SPRINGS) :].reshape(6, len(SPRINGS))
    first, second, vector = neighbours(atoms, CUTOFF)
    distance = np.linalg.norm(vector, axis=1)
    radius = covalent_radii[atoms.numbers]
    length, fade = distance / (radius[first] + radius[second]), (1 - (distance / CUTOFF) ** 2) ** 2
    bulk_moduli = np.exp(imputed_properties(scaled=False)[atoms.numbers, ELEMENT_COLUMNS.index("bulk_modulus")])
    scale = np.sqrt((bulk_moduli * radius)[first] * (bulk_moduli * radius)[second])
    units = []
    for k in range(6):
        one = np.zeros((3, 3))
        i, j = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[k]
        one[i, j] = one[j, i] = 1.0 if i == j else 0.5**0.5
        units.append(one)
    for place, (decay, across, scaled) in enumerate(SPRINGS):
        strength = fade * np.exp(-decay * (length - 1)) * (scale if scaled else 1.0)
        rows, loads = [], []
        for k, (i, j) in enumerate(zip(first, second, strict=True)):
            n = vector[k] / distance[k]
            root = np.sqrt(strength[k]) * (np.outer(n, n) + np.sqrt(across) * (np.eye(3) - np.outer(n, n)))
            row = np.zeros((3, 3 * len(atoms)))
            row[:, 3 * j : 3 * j + 3] += root
            row[:, 3 * i : 3 * i + 3] -= root
            rows.append(row)
            loads.append(np.stack([root @ unit @ vector[k] for unit in units], axis=1))
        matrix, load = np.concatenate(rows), np.concatenate(loads)
        left = load - matrix @ np.linalg.lstsq(matrix, load, rcond=None)[0]
        stiffness = left.T @ left / (2 * atoms.get_volume())
        stiffness += 1e-6 * np.trace(stiffness) * np.eye(6)
        soft = np.linalg.inv(stiffness)
        k_voigt, k_reuss = stiffness[:3, :3].sum() / 9, 1 / soft[:3, :3].sum()
        g_voigt = (np.trace(stiffness) - 3 * k_voigt) / 10
        g_reuss = 2.5 / (np.trace(soft) - 1 / (3 * k_reuss))
        expected = [np.log(k_voigt + k_reuss), np.log((g_voigt + g_reuss) / (k_voigt + k_reuss))]
        np.testing.assert_allclose(found[:2, place], expected, atol=1e-6)
        clamped = load.T @ load / (2 * atoms.get_volume())
        # control: with atoms held the net is stiffer
        assert np.trace(clamped) > 1.01 * np.trace(stiffness)


def test_properties_of_the_elements_are_complete():
    table = imputed_properties()
    assert table.shape == (119, len(ELEMENT_COLUMNS)) and np.all(np.isfinite(table[1:104]))
    raw = imputed_properties(scaled=False)
    assert raw[29, ELEMENT_COLUMNS.index("X")] == pytest.approx(1.90) and np.exp(raw[74, 6]) == pytest.approx(310)
    assert raw[13, ELEMENT_COLUMNS.index("valence")] == 3 and raw[26, ELEMENT_COLUMNS.index("valence")] == 8
    assert raw[50, ELEMENT_COLUMNS.index("valence")] == 4  # the full d shell of tin is core
