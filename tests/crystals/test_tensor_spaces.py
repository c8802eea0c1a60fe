"""Laws of the tensors that each of the 32 point groups, and each limit group, leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.piezo import PiezoTensor
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from crystals import CURIE_GROUPS, POINT_GROUPS, PointGroup, invariant_part, tensor_count, tensor_space
from crystals.invariants import invariant_tensors
from crystals.mandel import stiffness_to_tensor
from crystals.rotations import random_rotations, rotation_about

PROPERTIES = {
    "pyroelectric": ("i", False),
    "dielectric": ("(ij)", False),
    "gyration": ("(ij)", True),
    "piezoelectric": ("i(jk)", False),
    "Kleinman": ("(ijk)", False),
    "elastic": ("((ij)(kl))", False),
    "photoelastic": ("(ij)(kl)", False),
    "flexoelectric": ("i(jk)l", False),
}
# Numbers of constants, in the order of PROPERTIES. Nye 1957, chapters IV, VII, VIII, XIII, XIV, for the 32 groups in
# all columns but the Kleinman and flexoelectric ones.
COUNTS = {
    "1": (3, 6, 6, 18, 10, 21, 36, 54),
    "-1": (0, 6, 0, 0, 0, 21, 36, 54),
    "2": (1, 4, 4, 8, 4, 13, 20, 28),
    "m": (2, 4, 2, 10, 6, 13, 20, 28),
    "2/m": (0, 4, 0, 0, 0, 13, 20, 28),
    "222": (0, 3, 3, 3, 1, 9, 12, 15),
    "mm2": (1, 3, 1, 5, 3, 9, 12, 15),
    "mmm": (0, 3, 0, 0, 0, 9, 12, 15),
    "4": (1, 2, 2, 4, 2, 7, 10, 14),
    "-4": (0, 2, 2, 4, 2, 7, 10, 14),
    "4/m": (0, 2, 0, 0, 0, 7, 10, 14),
    "422": (0, 2, 2, 1, 0, 6, 7, 8),
    "4mm": (1, 2, 0, 3, 2, 6, 7, 8),
    "-42m": (0, 2, 1, 2, 1, 6, 7, 8),
    "4/mmm": (0, 2, 0, 0, 0, 6, 7, 8),
    "3": (1, 2, 2, 6, 4, 7, 12, 18),
    "-3": (0, 2, 0, 0, 0, 7, 12, 18),
    "32": (0, 2, 2, 2, 1, 6, 8, 10),
    "3m": (1, 2, 0, 4, 3, 6, 8, 10),
    "-3m": (0, 2, 0, 0, 0, 6, 8, 10),
    "6": (1, 2, 2, 4, 2, 5, 8, 12),
    "-6": (0, 2, 0, 2, 2, 5, 8, 12),
    "6/m": (0, 2, 0, 0, 0, 5, 8, 12),
    "622": (0, 2, 2, 1, 0, 5, 6, 7),
    "6mm": (1, 2, 0, 3, 2, 5, 6, 7),
    "-6m2": (0, 2, 0, 1, 1, 5, 6, 7),
    "6/mmm": (0, 2, 0, 0, 0, 5, 6, 7),
    "23": (0, 1, 1, 1, 1, 3, 4, 5),
    "m-3": (0, 1, 0, 0, 0, 3, 4, 5),
    "432": (0, 1, 1, 0, 0, 3, 3, 3),
    "-43m": (0, 1, 0, 1, 1, 3, 3, 3),
    "m-3m": (0, 1, 0, 0, 0, 3, 3, 3),
    "∞": (1, 2, 2, 4, 2, 5, 8, 12),
    "∞m": (1, 2, 0, 3, 2, 5, 6, 7),
    "∞2": (0, 2, 2, 1, 0, 5, 6, 7),
    "∞/m": (0, 2, 0, 0, 0, 5, 8, 12),
    "∞/mm": (0, 2, 0, 0, 0, 5, 6, 7),
    "∞∞": (0, 1, 1, 0, 0, 2, 2, 2),
    "∞∞m": (0, 1, 0, 0, 0, 2, 2, 2),
}
GROUPS = POINT_GROUPS + CURIE_GROUPS


def act(operation: np.ndarray, tensors: np.ndarray, axial: bool) -> np.ndarray:
    """g_ia g_jb … T_ab…, times det g for axial tensors, for tensors (k, 3, …, 3): written out, index by index."""
    rank = tensors.ndim - 1
    old, new = "abcdef"[:rank], "ijklmn"[:rank]
    pairs = ",".join(n + o for n, o in zip(new, old, strict=True))
    turned = np.einsum(f"{pairs},z{old}->z{new}", *[operation] * rank, tensors, optimize=True)
    return turned * (np.linalg.det(operation) if axial else 1.0)


@pytest.mark.parametrize("symbol", GROUPS)
def test_numbers_of_constants_are_the_textbook_s_by_two_ways(symbol: str) -> None:
    """Dimension of the null space, and mean of the character: two computations that share no step."""
    group = PointGroup(symbol)
    spaces = tuple(len(tensor_space(group, *kind)) for kind in PROPERTIES.values())
    characters = tuple(tensor_count(group, *kind) for kind in PROPERTIES.values())
    assert spaces == characters == COUNTS[symbol]


def test_piezoelectric_in_20_of_21_groups_without_inversion() -> None:
    without = [s for s in POINT_GROUPS if -np.eye(3) not in PointGroup(s)]
    have = [s for s in POINT_GROUPS if len(tensor_space(PointGroup(s), "i(jk)"))]
    assert len(without) == 21 and len(have) == 20
    assert set(without) - set(have) == {"432"}
    # the ten polar classes
    polar = {s for s in POINT_GROUPS if len(tensor_space(PointGroup(s), "i"))}
    assert polar == {"1", "2", "m", "mm2", "4", "4mm", "3", "3m", "6", "6mm"}


@pytest.mark.parametrize("symbol", GROUPS)
@pytest.mark.parametrize("kind", [*PROPERTIES.values(), ("[ij]k", True), ("ijk", True)], ids=str)
def test_every_operation_leaves_the_tensors_alone(symbol: str, kind: tuple[str, bool]) -> None:
    """All operations, improper ones too, of a turned group; the basis is orthonormal and keeps its index symmetry."""
    generator = np.random.default_rng(3)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    space = tensor_space(group, *kind)
    flat = space.reshape(len(space), 3 ** (space.ndim - 1))
    assert np.allclose(flat @ flat.T, np.eye(len(space)), atol=1e-13)
    for operation in group.sample(6, generator):
        assert np.allclose(act(operation, space, kind[1]), space, atol=1e-13)
    if "(jk)" in kind[0]:
        assert np.allclose(space, np.swapaxes(space, 2, 3), atol=1e-15)
    if "[ij]" in kind[0]:
        assert np.allclose(space, -np.swapaxes(space, 1, 2), atol=1e-15)
    # Negative control: a rotation that no crystal has moves them, unless rotations leave all of them alone.
    if len(space) > len(tensor_space(PointGroup("∞∞"), *kind)):
        assert np.abs(act(rotation_about([0.3, 0.5, 0.8], 0.61), space, kind[1]) - space).max() > 1e-2


@pytest.mark.parametrize(
    ("symbol", "outside"),
    [
        ("32", rotation_about([0, 0, 1], np.pi)), ("32", np.diag([-1.0, 1, 1])), ("-43m", rotation_about([0, 0, 1], np.pi / 2)),
        ("-6", rotation_about([0, 0, 1], np.pi)), ("-6m2", rotation_about([0, 0, 1], np.pi / 6)), ("6mm", np.diag([1.0, -1, -1])),
        ("4", np.diag([-1.0, 1, 1])), ("222", rotation_about([0, 0, 1], np.pi / 2)), ("∞m", np.diag([1.0, -1, -1])),
    ],
)  # fmt: skip
def test_piezoelectric_tensors_notice_the_next_larger_group(symbol: str, outside: np.ndarray) -> None:
    """Operations that the strain energy of the class may not notice (they can belong to its Laue class) move e."""
    space = tensor_space(PointGroup(symbol), "i(jk)")
    assert outside not in PointGroup(symbol)
    assert np.abs(act(outside, space, False) - space).max() > 0.1


@pytest.mark.parametrize("symbol", POINT_GROUPS)
@pytest.mark.parametrize("kind", [("i(jk)", False), ("(ij)", True), ("i(jk)l", False), ("ijk", True)], ids=str)
def test_the_invariant_part_is_the_group_average(symbol: str, kind: tuple[str, bool]) -> None:
    generator = np.random.default_rng(4)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    rank = sum(c.isalpha() for c in kind[0])
    tensors = generator.normal(size=(2,) + (3,) * rank)
    if kind[0] != "ijk":
        axes = (1, 2) if kind[0] == "(ij)" else (2, 3)
        tensors = tensors + np.swapaxes(tensors, *axes)
    average = np.mean([act(operation, tensors, kind[1]) for operation in group.operations], axis=0)
    assert np.allclose(invariant_part(tensors, group, *kind), average, atol=1e-13)


# Quartz, zincblende, wurtzite, like PbTiO3, LiNbO3: Cartesian operations from spglib by way of pymatgen.
STRUCTURES = {
    symbol: Structure.from_spacegroup(group, lattice, list(sites), list(sites.values()))
    for symbol, (group, lattice, sites) in {
        "32": ("P3_221", Lattice.hexagonal(4.913, 5.405), {"Si": [0.4697, 0, 0], "O": [0.4135, 0.2669, 0.7858]}),
        "-43m": ("F-43m", Lattice.cubic(5.41), {"Zn": [0, 0, 0], "S": [0.25, 0.25, 0.25]}),
        "6mm": ("P6_3mc", Lattice.hexagonal(3.25, 5.2), {"Zn": [1 / 3, 2 / 3, 0], "O": [1 / 3, 2 / 3, 0.382]}),
        "4mm": ("P4mm", Lattice.tetragonal(4.0, 4.1), {"Pb": [0, 0, 0], "Ti": [0.5, 0.5, 0.54], "O": [0.5, 0, 0.61]}),
        "3m": ("R3c", Lattice.hexagonal(5.148, 13.863), {"Nb": [0, 0, 0], "Li": [0, 0, 0.279], "O": [0.0476, 0.3433, 0.0633]}),
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("symbol", STRUCTURES)
def test_pymatgen_symmetrises_a_piezoelectric_tensor_alike(symbol: str) -> None:
    """Independent oracle: operations of the turned crystal found by spglib, averaged by pymatgen."""
    generator = np.random.default_rng(5)
    turn = random_rotations(1, generator)[0]
    structure = Structure(
        STRUCTURES[symbol].lattice.matrix @ turn.T, STRUCTURES[symbol].species, STRUCTURES[symbol].frac_coords
    )
    group = PointGroup.from_structure(structure)
    assert group.symbol == symbol == SpacegroupAnalyzer(structure).get_point_group_symbol()
    tensor = generator.normal(size=(3, 3, 3))
    tensor = tensor + np.swapaxes(tensor, 1, 2)
    theirs = np.asarray(PiezoTensor(tensor).fit_to_structure(structure, symprec=0.01))
    assert np.allclose(invariant_part(tensor, group, "i(jk)"), theirs, atol=1e-6)
    # the same class in another frame does not agree
    assert not np.allclose(invariant_part(tensor, PointGroup(symbol), "i(jk)"), theirs, atol=1e-2)


@pytest.mark.parametrize("symbol", GROUPS)
def test_elastic_tensors_are_those_of_the_strain_polynomials(symbol: str) -> None:
    """The span of "((ij)(kl))" is that of the elastic constants, found another way (symmetric powers of strain)."""
    known = stiffness_to_tensor(invariant_tensors(symbol, 2))
    assert len(known) == len(tensor_space(PointGroup(symbol), "((ij)(kl))"))
    assert np.allclose(invariant_part(known, PointGroup(symbol), "((ij)(kl))"), known, atol=1e-12)


def test_high_ranks_and_antisymmetry() -> None:
    isotropic, chiral = PointGroup("isotropic"), PointGroup("∞∞")
    # numbers of independent isotropic tensors of rank 2 … 6 (Kearsley and Fong 1975): 1, 1, 3, 6, 15
    assert [len(tensor_space(chiral, "ijklmn"[:rank])) for rank in (2, 3, 4, 5, 6)] == [1, 1, 3, 6, 15]
    assert [len(tensor_space(isotropic, "ijklmn"[:rank])) for rank in (2, 3, 4, 5, 6)] == [1, 0, 3, 0, 15]
    # third-order elastic constants (Brugger counts), and the Levi-Civita tensor as the one isotropic Hall tensor
    for symbol, number in (("1", 56), ("-3m", 14), ("m-3m", 6), ("m-3", 8)):
        assert len(tensor_space(PointGroup(symbol), "((ij)(kl)(mn))")) == number
    hall = tensor_space(isotropic, "[ij]k", axial=True)
    assert np.isclose(abs(hall[0, 0, 1, 2]), 1 / np.sqrt(6)) and len(tensor_space(isotropic, "[ij]k")) == 0
    assert len(tensor_space(PointGroup("1"), "[(ij)(kl)]")) == 15
    assert len(tensor_space(PointGroup("1"), "[ijk]")) == 1


def test_contains() -> None:
    group = PointGroup("32", rotation_about([1, 2, 3], 0.4))
    assert all(operation in group for operation in group.operations)
    assert -np.eye(3) not in group and -np.eye(3) in group.laue
    assert rotation_about([0, 0, 1], 0.123) in PointGroup("∞m")
    assert rotation_about([1, 0, 0], np.pi) not in PointGroup("∞m")


@pytest.mark.parametrize(
    "symmetry", ["", "ii", "i(j", "i(jk]", "ij)", "(i)", "(i(jk))", "((ij)[kl])", "ijklmno", "i+j", "1(23)"]
)
def test_an_index_symmetry_that_does_not_read(symmetry: str) -> None:
    for function in (tensor_space, tensor_count):
        with pytest.raises(ValueError, match="expected an index symmetry"):
            function(PointGroup("32"), symmetry)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="PointGroup\\('32'\\)"):
        tensor_space("32", "i(jk)")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a tensor of shape"):
        invariant_part(np.zeros((3, 6)), PointGroup("32"), "i(jk)")
