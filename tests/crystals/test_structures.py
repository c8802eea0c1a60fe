"""Structures: what is read, the standard frame, symmetry operations, and frames that turn with the crystal."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write
from ase.spacegroup import crystal

from crystals.groups import PointGroup
from crystals.invariants import invariant_tensors
from crystals.rotations import random_rotations, rotate_matrix, rotation_about
from crystals.structures import PRIMITIVE_BASES, as_atoms, conventional_axes, standard_primitive, symmetry_operations

Z = np.eye(3)[2]


def standing(atoms):
    """The same crystal with its Cartesian axes at z ∥ c, x ∥ a (for cells whose rows are a, b, c)."""
    z = atoms.cell[2] / np.linalg.norm(atoms.cell[2])
    x = atoms.cell[0] - (atoms.cell[0] @ z) * z
    x /= np.linalg.norm(x)
    return turned(atoms, np.array([x, np.cross(z, x), z]))


def turned(atoms, rotation):
    result = atoms.copy()
    result.set_cell(atoms.cell.array @ rotation.T)
    result.set_positions(atoms.positions @ rotation.T)
    return result


@pytest.fixture(scope="module")
def crystals():
    hexagonal = [4.916, 4.916, 5.4054, 90, 90, 120]
    sapphire = {"spacegroup": 167, "cellpar": [4.7589, 4.7589, 12.991, 90, 90, 120]}
    made = {
        "quartz": crystal(["Si", "O"], [(0.4697, 0, 1 / 3), (0.4135, 0.2669, 0.4524)], spacegroup=152, cellpar=hexagonal),
        "corundum": crystal(["Al", "O"], [(0, 0, 0.35228), (0.3064, 0, 0.25)], **sapphire),
        "rutile": crystal(["Ti", "O"], [(0, 0, 0), (0.305,) * 2 + (0,)], spacegroup=136, cellpar=[4.59, 4.59, 2.96] + [90] * 3),
        "chalcopyrite": crystal(
            ["Cu", "Fe", "S"], [(0, 0, 0), (0, 0, 0.5), (0.257, 0.25, 0.125)], spacegroup=122,
            cellpar=[5.29, 5.29, 10.42, 90, 90, 90],
        ),
        "zirconia": crystal(
            ["Zr", "O", "O"], [(0.2758, 0.0411, 0.2082), (0.0703, 0.3359, 0.3406), (0.4423, 0.7549, 0.4789)],
            spacegroup=14, cellpar=[5.1454, 5.2075, 5.3107, 90, 99.23, 90],
        ),
        "gallia": crystal(
            ["Ga", "Ga", "O", "O", "O"],
            [(0.0904, 0, 0.7948), (0.3414, 0, 0.6857), (0.1674, 0, 0.1011), (0.4957, 0, 0.2553), (0.8279, 0, 0.4365)],
            spacegroup=12, cellpar=[12.23, 3.04, 5.80, 90, 103.7, 90],
        ),
        "triclinic": Atoms(
            "SiO2", cell=[[4, 0, 0], [0.5, 4.6, 0], [0.3, 0.9, 5.5]], pbc=True,
            scaled_positions=[[0, 0, 0], [0.2, 0.3, 0.4], [0.55, 0.71, 0.13]],
        ),
        "pyrite": crystal(["Fe", "S"], [(0, 0, 0), (0.385,) * 3], spacegroup=205, cellpar=[5.41] * 3 + [90] * 3),
        "zincblende": bulk("GaAs", "zincblende", a=5.65),
        "magnesium": bulk("Mg", "hcp", a=3.2, c=5.2),
    }  # fmt: skip
    return {name: standing(atoms) if len(atoms) > 2 else atoms for name, atoms in made.items()}


GROUPS = {
    "quartz": "32", "corundum": "-3m", "rutile": "4/mmm", "chalcopyrite": "-42m", "zirconia": "2/m", "gallia": "2/m",
    "triclinic": "1", "pyrite": "m-3", "zincblende": "-43m", "magnesium": "6/mmm",
}  # fmt: skip


def same_up_to_the_group(symbol, first, second):
    operations = PointGroup(symbol).operations
    return np.abs(first.T @ second - operations).max(axis=(1, 2)).min() < 1e-8


@pytest.mark.parametrize("name", GROUPS)
def test_frame_turns_with_the_crystal(name, crystals):
    """Standard axes give the identity, exactly; a turned crystal gives the turned frame, up to the group's elements."""
    group = PointGroup.from_structure(crystals[name])
    assert group.symbol == GROUPS[name]
    np.testing.assert_array_equal(group.frame, np.eye(3))
    for rotation in random_rotations(3, np.random.default_rng(1)):
        found = PointGroup.from_structure(turned(crystals[name], rotation))
        assert found.symbol == group.symbol
        assert same_up_to_the_group(group.symbol, rotation, found.frame)
        assert found == PointGroup(group.symbol, rotation)


@pytest.mark.parametrize("name", ["quartz", "corundum"])
def test_sign_of_c14_turns_with_the_crystal(name, crystals):
    """The trigonal constant, written in the crystal's frame, is the same however the crystal lies in space."""
    stiffness = np.einsum("k,kij->ij", [1.0, 2.0, 3.0, 4.0, 0.5, 0.7], invariant_tensors("32", 2))
    assert abs(stiffness[0, 3]) > 0.1
    for rotation in [
        rotation_about(Z, np.pi),
        rotation_about(Z, np.pi / 3),
        *random_rotations(3, np.random.default_rng(2)),
    ]:
        in_space = rotate_matrix(rotation, stiffness)
        frame = PointGroup.from_structure(turned(crystals[name], rotation)).frame
        np.testing.assert_allclose(rotate_matrix(frame.T, in_space), stiffness, atol=1e-8)
    # Negative control: the frame nearest to the identity, all that operations alone can say, loses the sign.
    half = rotation_about(Z, np.pi)
    nearest = PointGroup.from_operations(symmetry_operations(turned(crystals[name], half))).frame
    lost = rotate_matrix(nearest.T, rotate_matrix(half, stiffness))
    assert lost[0, 3] == pytest.approx(-stiffness[0, 3])


def test_frame_does_not_hang_on_the_cell_given(crystals):
    """Supercells, an orthogonal cell of a hexagonal crystal, and primitive cells: the axes are those of the cell."""
    quartz, gallia = crystals["quartz"], crystals["gallia"]
    for cell in (quartz * (2, 1, 3), make_supercell(quartz, [[1, 0, 0], [1, 2, 0], [0, 0, 1]]), gallia * (1, 2, 1)):
        np.testing.assert_array_equal(PointGroup.from_structure(cell).frame, np.eye(3))
    for cubic in (bulk("Cu"), bulk("Cu", cubic=True) * (2, 1, 1), bulk("Fe"), bulk("Si")):
        assert PointGroup.from_structure(cubic) == PointGroup("m-3m")
        np.testing.assert_array_equal(PointGroup.from_structure(cubic).frame, np.eye(3))


def test_settings_whose_x_is_not_along_a():
    """P31m: mirror normals between the axes; its frame is the standard one of 3m, turned by +30°, wherever it lies."""
    atoms = crystal(["Si", "O"], [(0.1, 0, 0), (0.33, 0, 0.4)], spacegroup=157, cellpar=[5, 5, 4.1, 90, 90, 120])
    group = PointGroup.from_structure(atoms)
    assert group == PointGroup("31m") and group != PointGroup("3m")
    np.testing.assert_allclose(group.frame, rotation_about(Z, np.pi / 6), atol=1e-9)
    rotation = random_rotations(1, np.random.default_rng(3))[0]
    found = PointGroup.from_structure(turned(atoms, rotation)).frame
    assert same_up_to_the_group("3m", rotation @ group.frame, found)


def test_axes_follow_the_lattice(crystals):
    rotation = random_rotations(1, np.random.default_rng(4))[0]
    for name in ("triclinic", "gallia", "rutile", "quartz"):
        atoms = turned(crystals[name], rotation)
        x, y, z = conventional_axes(atoms).T
        np.testing.assert_allclose(np.cross(z, atoms.cell[2]), 0, atol=1e-12)
        assert x @ atoms.cell[0] > 0 and abs(y @ atoms.cell[0]) < 1e-9
        assert y @ atoms.cell[1] > 0


@pytest.mark.parametrize("name", GROUPS)
def test_standard_primitive(name, crystals):
    rotation = random_rotations(1, np.random.default_rng(5))[0]
    atoms = turned(crystals[name], rotation)
    primitive = standard_primitive(atoms * (1, 1, 2))
    group = PointGroup.from_structure(primitive)
    assert group.symbol == GROUPS[name]
    np.testing.assert_array_equal(group.frame, np.eye(3))
    assert primitive.get_volume() / len(primitive) == pytest.approx(atoms.get_volume() / len(atoms), rel=1e-6)
    assert len(atoms) % len(primitive) == 0
    expected = {"corundum": 10, "chalcopyrite": 8, "gallia": 10, "quartz": 9, "zincblende": 2, "zirconia": 12}
    assert len(primitive) == expected.get(name, len(atoms))
    # the same crystal: distances between atoms
    near = [np.sort(cell.get_all_distances(mic=True), axis=1) for cell in (atoms * (2, 2, 2), primitive * (3, 3, 3))]
    np.testing.assert_allclose(np.unique(near[0][:, 1].round(4)), np.unique(near[1][:, 1].round(4)), atol=2e-4)


def energy_per_atom(atoms, calculator):
    copy = atoms.copy()
    copy.calc = calculator
    return copy.get_potential_energy() / len(copy)


def test_standard_primitive_has_the_same_energy(crystals):
    rotation = random_rotations(1, np.random.default_rng(6))[0]
    for atoms in (bulk("Cu", cubic=True), bulk("Ni", "hcp", a=2.49, c=4.1) * (2, 1, 1)):
        given = turned(atoms, rotation)
        assert energy_per_atom(standard_primitive(given), EMT()) == pytest.approx(
            energy_per_atom(given, EMT()), abs=1e-8
        )
    for name in ("corundum", "gallia"):
        first, second = (
            energy_per_atom(atoms, LennardJones(sigma=1.8, rc=5.0))
            for atoms in (crystals[name], standard_primitive(crystals[name]))
        )
        assert first == pytest.approx(second, rel=1e-6)


def test_operations_of_supercells():
    """All of the crystal's operations, also from a cell that does not show them."""
    for atoms in (bulk("Cu"), bulk("Cu", cubic=True), bulk("Cu", cubic=True) * (3, 1, 1), bulk("Cu") * (2, 1, 1)):
        operations = symmetry_operations(atoms)
        assert len(operations) == 48
        np.testing.assert_allclose(
            operations @ np.swapaxes(operations, 1, 2), np.tile(np.eye(3), (48, 1, 1)), atol=1e-9
        )
        assert PointGroup.from_operations(operations) == PointGroup("m-3m")
    vacancy = bulk("Cu", cubic=True) * (2, 1, 1)
    del vacancy[0]
    assert PointGroup.from_structure(vacancy).symbol == "4/mmm"


def test_as_atoms_from_all_sources(tmp_path):
    core = pytest.importorskip("pymatgen.core")
    silicon = core.Structure.from_spacegroup("Fd-3m", core.Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
    atoms = as_atoms(silicon)
    assert isinstance(atoms, Atoms) and len(atoms) == 8 and atoms.cell[0, 0] == pytest.approx(5.43)
    assert as_atoms(atoms) is atoms
    for name in ("silicon.cif", "POSCAR", "silicon.extxyz"):
        write(tmp_path / name, atoms)
        read = as_atoms(tmp_path / name)
        np.testing.assert_allclose(read.cell.array, atoms.cell.array, atol=1e-6)
        assert PointGroup.from_structure(tmp_path / name).symbol == "m-3m"
    assert PointGroup.from_structure(silicon).symbol == "m-3m"


def test_what_is_refused(tmp_path):
    with pytest.raises(OSError, match="as_atoms: expected a structure file.*does not exist. Check the path"):
        as_atoms(tmp_path / "none.cif")
    (tmp_path / "bad.cif").write_text("this is no crystal")
    with pytest.raises(ValueError, match="as_atoms: expected a structure that ASE can read"):
        as_atoms(tmp_path / "bad.cif")
    with pytest.raises(TypeError, match="as_atoms: expected a pymatgen Structure, an ASE Atoms or a path, got int"):
        as_atoms(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="as_atoms: expected a crystal periodic in three directions"):
        as_atoms(Atoms("Cu"))
    with pytest.raises(ValueError, match="finite cell and positions"):
        as_atoms(Atoms("Cu", cell=np.eye(3), positions=[[np.nan, 0, 0]], pbc=True))
    with pytest.raises(ValueError, match="finite cell and positions"):
        as_atoms(Atoms(cell=np.eye(3), pbc=True))
    overlapping = Atoms("Cu2", cell=3 * np.eye(3), positions=np.zeros((2, 3)), pbc=True)
    for function in (symmetry_operations, standard_primitive, conventional_axes):
        with pytest.raises(ValueError, match=f"{function.__name__}: expected a structure whose symmetry moyo can find"):
            function(overlapping)


def test_primitive_bases_of_the_centrings():
    """One lattice point each, and their own vectors: halves of diagonals for C, A, I and F, the obverse rhombohedron for R."""
    points = {"P": 1, "C": 2, "A": 2, "I": 2, "R": 3, "F": 4}
    squares = {"P": [1, 1, 1], "C": [0.5, 0.5, 1], "A": [0.5, 0.5, 1], "I": [0.75] * 3, "F": [0.5] * 3}
    hexagonal = np.array([[1.0, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, 2.0]])
    for centring, basis in PRIMITIVE_BASES.items():
        assert np.linalg.det(basis) == pytest.approx(1.0 / points[centring], rel=1e-12)
        lengths = np.sum((basis @ hexagonal if centring == "R" else basis) ** 2, axis=1)
        np.testing.assert_allclose(np.sort(lengths), squares.get(centring, [7 / 9] * 3), rtol=1e-12)
        # the conventional vectors are whole sums of them
        whole = np.linalg.inv(basis)
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_axes_of_a_skew_cell_are_those_nearest_to_it(seed):
    """Of the 24 ways to name a cube's edges the one whose x lies nearest to the skew cell's first vector, z to its normal."""
    generator = np.random.default_rng(seed)
    rotation = random_rotations(1, generator)[0]
    cube = turned(bulk("Po", "sc", a=3.3), rotation)
    order = PointGroup("m-3m").rotations[generator.integers(24)]
    skew = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ order.T
    atoms = make_supercell(cube, skew)
    # the first vector is turned by 27 degrees from an edge of the cube, about the third
    np.testing.assert_allclose(conventional_axes(atoms), rotation @ order, atol=1e-9)
