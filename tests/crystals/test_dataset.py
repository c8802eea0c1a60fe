"""Data sets: conventions from atoms, readers that name what is wrong, files that know when they are damaged."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from crystals import mandel
from crystals.cells import match_cells
from crystals.dataset import EV_PER_A3, StrainData, convert, parse_reference_cell, read_extended_xyz, read_tables
from crystals.groups import PointGroup
from crystals.rotations import random_rotations, rotate_vector, rotation_about
from crystals.states import STRESS_UNITS
from crystals.structures import structure_to_dict

ROOT = Path(__file__).resolve().parents[2]
DATA = next(
    (folder for folder in (ROOT.parent / "shared" / "data", Path("/work/shared/data")) if folder.is_dir()), None
)
needs_data = pytest.mark.skipif(DATA is None, reason="the DFT data in ../shared/data are not on this machine")
EDGE = 3.59
STRAINS = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0.03, -0.01, 0.02, 0.01, 0.02, -0.015],
        [-0.05, 0.01, 0.04, 0.03, -0.02, 0.01],
        [0.06] * 3 + [0] * 3,
    ]
)


def frame_of(cell_ref, atoms_ref, strain, rotation=None, **results):
    """One strained copy with EMT's energy and stress, or the results given."""
    gradient = mandel.right_stretch(strain)
    if rotation is not None:
        gradient = rotation @ gradient
    atoms = atoms_ref.copy()
    atoms.set_cell(atoms_ref.cell.array @ gradient.T, scale_atoms=True)
    atoms.calc = EMT()
    found = {
        "energy": atoms.get_potential_energy(),
        "stress": atoms.get_stress(),
        "forces": atoms.get_forces(),
        **results,
    }
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in found.items() if value is not None})
    return atoms


def frames_of(atoms_ref, strains=STRAINS, rotation=None, **results):
    return [frame_of(atoms_ref.cell.array, atoms_ref, strain, rotation, **results) for strain in strains]


def conventional():
    return bulk("Cu", a=EDGE, cubic=True)


@pytest.fixture
def file(tmp_path):
    def written(frames, name="frames.extxyz"):
        write(tmp_path / name, frames, format="extxyz")
        return tmp_path / name

    return written


@pytest.fixture
def data(file):
    return StrainData.read(file(frames_of(conventional())), reference=conventional())


def test_the_edge_of_a_cube_and_the_last_newline(file):
    path = file(frames_of(conventional()))
    number, text = StrainData.read(path, reference=EDGE), StrainData.read(path, reference=str(EDGE))
    np.testing.assert_array_equal(number.strain, text.strain)
    with pytest.raises(ValueError, match="of positive volume"):
        StrainData.read(path, reference=-EDGE)
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip(b"\n"))
    with pytest.raises(ValueError, match="where it is whole add a newline: echo >> frames.extxyz"):
        StrainData.read(path, reference=EDGE)
    path.write_bytes(path.read_bytes() + b"\n")  # what that command does
    np.testing.assert_array_equal(StrainData.read(path, reference=EDGE).stress, number.stress)


def test_second_piola_kirchhoff_from_cauchy(data):
    """S = J F⁻¹ σ F⁻ᵀ, W = (U − U₀)/V₀, and 1 eV/Å³ = 160.21766 GPa, against the formulas written out."""
    assert EV_PER_A3 == pytest.approx(160.21766, abs=1e-5)
    atoms = frames_of(conventional())
    for i, frame in enumerate(atoms):
        gradient = data.deformation_gradient[i]
        np.testing.assert_allclose(gradient, np.linalg.solve(conventional().cell.array, frame.cell.array).T, atol=1e-7)
        cauchy = 160.2176634 * frame.get_stress(voigt=False)
        inverse = np.linalg.inv(gradient)
        second = np.linalg.det(gradient) * inverse @ cauchy @ inverse.T
        np.testing.assert_allclose(mandel.from_mandel(data.stress[i]), second, atol=1e-6)
        density = 160.2176634 * (frame.get_potential_energy() - atoms[0].get_potential_energy()) / EDGE**3
        assert data.energy[i] == pytest.approx(density, abs=1e-6)
    assert abs(np.linalg.det(data.deformation_gradient[3]) - 1) > 0.1
    np.testing.assert_allclose(data.strain, STRAINS, atol=1e-7)
    assert data.group == PointGroup("m-3m") and data.kind == "relaxed-ion" and data.units == "GPa"
    assert not np.allclose(data.stress[3], data.cauchy[3], rtol=0.05)


def test_turned_frames_are_the_same_states(data, file):
    """Cell, positions and stress turned rigidly leave E, S and W; the Cauchy stress turns."""
    for rotation in random_rotations(3, np.random.default_rng(0)):
        frames = []
        for frame in frames_of(conventional()):
            turned = frame.copy()
            turned.set_cell(frame.cell.array @ rotation.T)
            turned.set_positions(frame.positions @ rotation.T)
            stress = rotation @ frame.get_stress(voigt=False) @ rotation.T
            results = {"energy": frame.get_potential_energy(), "forces": frame.get_forces() @ rotation.T}
            turned.calc = SinglePointCalculator(turned, stress=stress[mandel.ROWS, mandel.COLUMNS], **results)
            frames.append(turned)
        found = in_memory(frames)
        straight = in_memory(frames_of(conventional()))
        np.testing.assert_allclose(found.strain, straight.strain, atol=1e-10)
        np.testing.assert_allclose(found.stress, straight.stress, atol=1e-10)
        np.testing.assert_allclose(found.energy, straight.energy, atol=1e-10)
        np.testing.assert_allclose(found.cauchy, rotate_vector(rotation, straight.cauchy), atol=1e-10)
        assert found.group == straight.group
        # Negative control: the stress left behind in the old axes is another state.
        for turned, frame in zip(frames, frames_of(conventional()), strict=True):
            turned.calc.results["stress"] = frame.get_stress()
        assert np.abs(in_memory(frames).stress - straight.stress).max() > 0.1


def in_memory(frames, reference=None, monkey=pytest.MonkeyPatch, **options):
    """What the reader makes of frames that never passed through text, so without rounding."""
    with monkey.context() as patch:
        patch.setattr("crystals.extended_xyz.read_frames", lambda *_: list(frames))
        return read_extended_xyz("memory.extxyz", conventional() if reference is None else reference, **options)


def test_supercells_and_primitive_cells_of_the_reference(file):
    """One crystal: conventional, primitive and large cells as frames and as reference give the same states."""
    primitive = bulk("Cu", a=EDGE)
    cells = [
        conventional(),
        primitive,
        make_supercell(primitive, [[1, 1, -1], [-1, 2, 1], [1, -1, 2]]),
        primitive * (2, 1, 3),
    ]
    references = [str(EDGE), f"{EDGE},{EDGE},{EDGE}", primitive, conventional(), conventional().cell.array]
    for atoms in cells:
        for reference in references:
            found = in_memory(frames_of(atoms), reference)
            np.testing.assert_allclose(found.strain, STRAINS, atol=1e-12)
            expected = in_memory(frames_of(conventional()))
            np.testing.assert_allclose(found.stress, expected.stress, atol=1e-9)
            np.testing.assert_allclose(found.energy, expected.energy, atol=1e-9)
            assert found.group == PointGroup("m-3m")


def test_large_supercells_are_not_rounded_to_the_wrong_multiple():
    """Ten reference cells strained by 6 % measure 10.6: it is the number of atoms that says ten."""
    reference = bulk("Po", "sc", a=3.0)
    strain = np.array([0.06, 0, -0.05, 0.03, 0, 0])
    frames = []
    for scale in (0.0, 1.0, -1.0):
        atoms = reference * (10, 3, 8)
        atoms.set_cell(atoms.cell.array @ mandel.right_stretch(scale * strain).T, scale_atoms=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, stress=np.zeros(6))
        frames.append(atoms)
    for known in (reference, "3.0"):
        np.testing.assert_allclose(in_memory(frames, known).strain, [0 * strain, strain, -strain], atol=1e-12)


@pytest.mark.parametrize("times", [(1, 1, 1), (2, 1, 3), (4, 3, 2)])
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_any_multiple_however_turned(times, angle):
    """The plain multiples of a triclinic cell, strained to |E| = 0.14 and turned, and F with the turn in it."""
    cell = np.array([[4.0, 0.3, -0.2], [0.5, 5.0, 0.4], [-0.6, 0.2, 6.0]])
    turn = rotation_about(np.array([0.2, 1.0, -0.5]), angle)
    strains = np.array([[0, 0, 0, 0, 0, 0], [0.1, -0.05, 0.03, 0.05, -0.04, 0.05], [-0.06, 0.1, -0.05, 0, 0.06, -0.02]])
    gradients = turn @ mandel.right_stretch(strains)
    multiple = np.diag(times).astype(float)
    cells = np.swapaxes(gradients @ (multiple @ cell).T, 1, 2)
    for known in (3, None):
        match = match_cells(cells, np.full(3, 3 * np.prod(times)), cell, known)
        assert not match.misfits
        np.testing.assert_allclose(match.gradients, gradients, atol=1e-12)
        np.testing.assert_array_equal(match.multiples, [multiple] * 3)
        assert match.atoms == 3
    # one frame of another number of atoms is a misfit among the others, and says so
    sizes = np.full(3, 3 * np.prod(times))
    sizes[1] += 1
    assert set(match_cells(cells, sizes, cell, 3).misfits) == {1}
    # beyond |E| = 0.3 a frame is none
    far = cells.copy()
    far[2] = cells[0] * 1.3
    found = match_cells(far, np.full(3, 3 * np.prod(times)), cell, 3).misfits
    assert set(found) == {2} and (max(times) > 1 or "implies |E| = 0.60" in found[2])
    # another basis is spoken of where there is one, and named; little turned it is a multiple of its own
    assert max(times) > 1 or "basis" not in found[2]
    if max(times) == 1:
        far[2] = np.array([[1.0, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cells[0]
        match = match_cells(far, np.full(3, 3), cell, 3)
        if angle < 0.45:
            assert not match.misfits
            np.testing.assert_allclose(match.gradients[2], gradients[0], atol=1e-12)
        else:
            named = "integer rows [[1, 0, 0], [-1, 1, 0], [-1, 1, 1]] times its vectors give |E| = 0.00"
            assert set(match.misfits) == {2} and named in match.misfits[2]


def test_a_large_cell_sheared_by_a_lattice_step():
    """Ten cells in a row, sheared by a tenth: also an unstrained cell of another shape, and not what was meant."""
    cell, multiple = 3.0 * np.eye(3), np.diag([10.0, 10.0, 1.0])
    gradient = np.eye(3)
    gradient[0, 1] = 0.1
    cells = np.array([multiple @ cell, (gradient @ (multiple @ cell).T).T])
    match = match_cells(cells, np.full(2, 100), cell, 1)
    np.testing.assert_allclose(match.gradients, [np.eye(3), gradient], atol=1e-12)


def test_a_multiple_of_another_shape_is_matched_where_it_is_hardly_turned():
    """A supercell that is no plain multiple may be turned by a quarter of a radian; by a whole one it cannot be told."""
    cell = 3.0 * np.eye(3) + np.array([[0, 0.2, 0], [0, 0, 0.3], [0.1, 0, 0]])
    multiple = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    gradient = mandel.right_stretch(np.array([[0.02, -0.03, 0.01, 0.02, 0.0, -0.01]]))[0]
    for angle, matched in ((0.0, True), (0.25, True), (1.0, False)):
        turned = rotation_about(np.array([1.0, 0.3, -0.4]), angle) @ gradient
        cells = np.array([multiple @ cell, multiple @ cell, (turned @ (multiple @ cell).T).T])
        match = match_cells(cells, np.full(3, 8), cell, 2)
        assert (match.misfits == {}) == matched
        if matched:
            np.testing.assert_allclose(match.gradients[2], turned, atol=1e-12)
            np.testing.assert_array_equal(match.multiples[2], multiple)


def test_another_lattice_basis_is_an_error_that_names_the_map():
    frames = frames_of(bulk("Cu", a=EDGE))
    change = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    rotation = random_rotations(1, np.random.default_rng(2))[0]
    cell = change @ frames[1].cell.array @ rotation.T
    frames[1].set_cell(cell)
    with pytest.raises(ValueError) as caught:
        in_memory(frames, bulk("Cu", a=EDGE))
    message = str(caught.value)
    assert "frame 1 (Cu): 1 atoms" in message and "its lattice basis is another one (integer rows [[" in message
    rows = np.array(eval(message.split("integer rows ")[1].split(" times")[0]))
    assert abs(round(np.linalg.det(rows))) == 1
    gradient = np.linalg.solve(bulk("Cu", a=EDGE).cell.array, rows @ cell).T
    assert np.linalg.norm(mandel.green_lagrange(gradient)) < 0.06
    assert message.endswith("Leave out with --skip-frames 1, or correct the reference cell.")


def test_frames_that_are_no_copies(file):
    frames = frames_of(conventional())
    frames.insert(2, frame_of(None, bulk("Cu", a=EDGE), np.zeros(6)))
    with pytest.raises(ValueError, match=r"frames.extxyz: expected strained copies.*got frame 2 \(Cu\): 1 atoms, where the "
                       r"others have 4.*--skip-frames 2"):  # fmt: skip
        read_extended_xyz(file(frames), conventional().cell.array)
    assert len(read_extended_xyz(file(frames), conventional().cell.array, skip=(2,))) == 4
    with pytest.raises(ValueError, match="frame 0 .*implies.*Correct the reference cell"):
        read_extended_xyz(file(frames_of(conventional())), "6.5")
    # cells of other crystals, none of which some lattice of the reference may happen to resemble
    for edge in ("2.2", "2.9", "4.6", "5.3", "9.1"):
        with pytest.raises(ValueError, match="expected strained copies.*Correct the reference cell"):
            in_memory(frames_of(conventional() * (2, 2, 2)), edge)
    with pytest.raises(ValueError, match="Cu4 does not have the composition of Ni"):
        read_extended_xyz(file(frames_of(conventional())), bulk("Ni"))
    frames = frames_of(conventional())
    frames[1].set_cell(frames[1].cell.array * np.nan)
    with pytest.raises(ValueError, match="frame 1 .*not finite.*--skip-frames 1,"):
        in_memory(frames)


def test_faults_are_named_by_the_frame_of_the_file(file):
    """Numbers count frames of the file, also where some are left out."""
    for fault in ({"energy": np.nan}, {"stress": np.full(6, np.inf)}, {"energy": None}, {"stress": None}):
        frames = frames_of(conventional()) + frames_of(conventional(), STRAINS[1:2], **fault)
        frames = [frames[0], frames[1], frames[4], *frames[2:4]]
        with pytest.raises(ValueError, match=r"expected a finite energy and stress.*got frame 2 .*--skip-frames 2, or"):
            in_memory(frames, skip=(0,))
        kept = in_memory(frames, skip=(2,))
        np.testing.assert_array_equal(kept.numbers, [0, 1, 3, 4])
        assert kept.names[2].startswith("frame 3 (")
        broken = kept.stress.copy()
        broken[2, 1] = np.nan
        with pytest.raises(
            ValueError, match=r"expected finite stress.*in 1 of 4 states, first in frame 3 .*--skip-frames 3\."
        ):
            replace(kept, stress=broken)
    frames = frames_of(conventional())
    frames[1].calc.results["stress"] = np.arange(9.0)
    with pytest.raises(ValueError, match="frame 1 .*its stress is not symmetric"):
        in_memory(frames)
    with pytest.raises(ValueError, match=r"frames to skip within 0 … 3, got \[7\]"):
        in_memory(frames_of(conventional()), skip=(7,))
    with pytest.raises(ValueError, match="expected at least one frame, got 4, all left out"):
        in_memory(frames_of(conventional()), skip=(0, 1, 2, 3))
    with pytest.raises(ValueError, match="expected a reference cell, got none"):
        read_extended_xyz(file(frames_of(conventional())))
    (file([conventional()]).parent / "bad.extxyz").write_text("4\nno lattice\nCu 0 0\n")
    with pytest.raises(ValueError, match="bad.extxyz: expected 4 atoms in its last frame, got 1: the file was cut"):
        read_extended_xyz(file([conventional()]).parent / "bad.extxyz", "3.59")


def test_units_signs_and_keys_of_stress_and_energy(data, file):
    """kbar with compression positive, a virial, free energies, nine components: the same states."""
    frames = frames_of(conventional())
    for frame in frames:
        frame.calc.results["stress"] = -frame.calc.results["stress"] * EV_PER_A3 * 10
    kbar = in_memory(frames, stress_units="kbar", stress_sign=-1)
    np.testing.assert_allclose(kbar.stress, data.stress, atol=1e-6)

    frames = frames_of(conventional())
    for frame in frames:
        virial = -frame.get_volume() * frame.get_stress(voigt=False)
        del frame.calc.results["stress"]
        frame.info["virial"] = virial
    # the virial has its own unit and sign, whatever is said of stresses
    for options in ({}, {"stress_units": "kbar", "stress_sign": -1}):
        np.testing.assert_allclose(in_memory(frames, **options).stress, data.stress, atol=1e-6)
    np.testing.assert_allclose(StrainData.read(file(frames), reference=conventional()).stress, data.stress, atol=1e-6)

    frames = frames_of(conventional())
    for frame in frames:
        frame.calc.results["free_energy"] = frame.calc.results["energy"]
        frame.calc.results["energy"] += 0.3 * np.linalg.norm(frame.cell.array)
    both = in_memory(frames)
    np.testing.assert_allclose(both.energy, data.energy, atol=1e-6)
    assert both.provenance["energy_key"] == "free_energy"
    del frames[0].calc.results["free_energy"]
    assert in_memory(frames).provenance["energy_key"] == "energy"

    with pytest.raises(ValueError, match="convert: expected a unit among"):
        in_memory(frames, stress_units="psi")
    with pytest.raises(ValueError, match="expected a stress sign of 1 or -1, got 2"):
        in_memory(frames, stress_sign=2)
    assert convert(1.0, "eV/A3", "GPa") == pytest.approx(160.21766, abs=1e-5)
    assert convert(10.0, "kbar", "MPa") == pytest.approx(1000.0)


def test_kind_of_data():
    assert in_memory(frames_of(conventional())).kind == "relaxed-ion"
    pushed = frames_of(conventional(), forces=np.full((4, 3), 0.1))
    assert in_memory(pushed).kind == "clamped-ion"
    silent = frames_of(conventional(), forces=None)
    assert in_memory(silent).kind == "clamped-ion"
    moved = frames_of(conventional(), forces=None)
    moved[1].positions[1] += 0.02
    assert in_memory(moved).kind == "unknown"


def test_atoms_in_another_order_do_not_spoil_the_group():
    atoms = Atoms("Cu4", cell=EDGE * np.eye(3), scaled_positions=conventional().get_scaled_positions(), pbc=True)
    frames = frames_of(atoms, np.concatenate([STRAINS, STRAINS]))
    for frame in frames[4:]:
        frame.positions[:] = frame.positions[[2, 3, 0, 1]]
    assert in_memory(frames, conventional().cell.array).group == PointGroup("m-3m")


def test_reference_cells(tmp_path):
    frames = frames_of(conventional())
    np.testing.assert_array_equal(parse_reference_cell("3.5", frames), 3.5 * np.eye(3))
    np.testing.assert_array_equal(parse_reference_cell("3, 4,5", frames), np.diag([3.0, 4, 5]))
    np.testing.assert_array_equal(parse_reference_cell("0 1 1 1 0 1 1 1 0", frames)[0], [0, 1, 1])
    np.testing.assert_array_equal(parse_reference_cell("frame:2", frames), frames[2].cell.array)
    write(tmp_path / "copper.cif", conventional())
    np.testing.assert_allclose(parse_reference_cell(str(tmp_path / "copper.cif"), frames), EDGE * np.eye(3), atol=1e-6)
    for text, fault in (
        ("frame:4", "expected frame:0 … frame:3, got 'frame:4'"),
        ("frame:²", "expected frame:0"),
        ("1 2", "expected 1, 3 or 9 numbers"),
        ("nan", "expected 1, 3 or 9 numbers"),
        ("-3", "right-handed cell"),
        ("none.cif", "which is none of these"),
    ):
        with pytest.raises(ValueError, match=f"--reference-cell: .*{fault}"):
            parse_reference_cell(text, frames)
    with pytest.raises(ValueError, match="right-handed cell"):
        in_memory(frames, np.zeros((2, 3)))


def assert_same(first, second):
    for name in ("strain", "stress", "energy", "deformation_gradient", "cauchy", "cell", "cell_ref", "max_force", "acoustic",
                 "flags", "numbers"):  # fmt: skip
        one, two = getattr(first, name), getattr(second, name)
        assert (one is None) == (two is None), name
        if one is not None:
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
    assert first.group == second.group
    np.testing.assert_array_equal(first.group.frame, second.group.frame)
    assert (first.units, first.kind, first.names) == (second.units, second.kind, second.names)
    assert (first.structure, first.provenance) == (second.structure, second.provenance)


def test_round_trip(data, tmp_path):
    turned = replace(data, group=PointGroup("4/mmm", random_rotations(1, np.random.default_rng(1))[0]))
    provenance = {"source": "memory", "seed": np.int64(3), "size": np.float64(0.1), "path": Path("a")}
    bare = replace(
        turned, energy=None, cell=None, max_force=None, flags=np.array([0, 1, 0, 0]), acoustic=np.arange(4.0)
    )
    long = replace(turned.take([0] * 3000), names=[f"a rather long name of state number {i}" for i in range(3000)])
    for made in (data, turned, bare, long, turned.take(slice(1, 3)), turned.take(np.array([True, False, False, True]))):
        made.write(tmp_path / "data.h5")
        assert_same(StrainData.read(tmp_path / "data.h5"), made)
    assert [path.name for path in tmp_path.glob("*.h5*")] == ["data.h5"] and not list(tmp_path.glob(".*"))
    replace(data, provenance=provenance).write(tmp_path / "data.h5")
    assert StrainData.read(tmp_path / "data.h5").provenance == {"source": "memory", "seed": 3, "size": 0.1, "path": "a"}
    with h5py.File(tmp_path / "data.h5") as file:
        assert file.attrs["schema"] == 1 and file.attrs["units"] == "GPa" and file["strain"].shape == (4, 6)
    with pytest.raises(OSError, match="write: expected a file that can be written"):
        data.write(tmp_path / "nowhere" / "data.h5")


def one_sentence(path, original=None):
    """Reads the same data, or raises an error of one line that names the file."""
    try:
        found = StrainData.read(path)
    except (ValueError, OSError) as error:
        assert type(error) in (ValueError, OSError) and "\n" not in str(error)
        assert path.name in str(error) and ": expected" in str(error) and str(error).rstrip().endswith(".")
        return str(error)
    assert original is not None
    assert_same(found, original)
    return ""


def test_units_are_those_of_the_international_system():
    """Pa, kPa, bar, MPa, kbar, GPa by their definitions, eV/Å³ by e = 1.602176634e-19 C and Å³ = 1e-30 m³ (CODATA 2018)."""
    pascal = {"Pa": 1.0, "kPa": 1e3, "bar": 1e5, "MPa": 1e6, "kbar": 1e8, "GPa": 1e9, "eV/A3": 1.602176634e-19 / 1e-30}
    assert set(pascal) == set(STRESS_UNITS)
    for source, size in pascal.items():
        for target, other in pascal.items():
            np.testing.assert_allclose(
                convert([1.0, -2.5], source, target), np.array([1.0, -2.5]) * size / other, rtol=1e-14
            )
    with pytest.raises(ValueError, match="expected a unit among .* got 'psi'"):
        convert(1.0, "psi", "GPa")


def test_turned_states_are_kept(tmp_path):
    """A file of states with F = RU and cells L = L₀Fᵀ is read; with the cells of Fᵀ, or turned alone, it is refused."""
    turn = rotation_about(np.array([0.3, -0.5, 0.8]), 0.4)
    data = in_memory(frames_of(conventional(), rotation=turn))
    assert np.abs(data.deformation_gradient - np.swapaxes(data.deformation_gradient, 1, 2)).max() > 0.1
    data.write(tmp_path / "turned.h5")
    np.testing.assert_array_equal(
        StrainData.read(tmp_path / "turned.h5").deformation_gradient, data.deformation_gradient
    )
    assert data.cell is not None and data.cell_ref is not None
    for cells in (data.cell_ref @ data.deformation_gradient, data.cell @ turn.T):
        replace(data, cell=cells).write(tmp_path / "wrong.h5")
        with pytest.raises(ValueError, match="expected cells that are F times the reference cell"):
            StrainData.read(tmp_path / "wrong.h5")


@pytest.mark.parametrize("size", [0.1, 0.3, 0.75, 1.0, 1.15, 2.0])
def test_a_structure_in_the_axes_of_the_reference(data, tmp_path, size):
    """Another lattice constant, up to a fifth, and whole multiples are none the worse; a part of the cell is another crystal."""
    crystal = conventional()
    crystal.set_cell(crystal.cell.array * size, scale_atoms=True)
    replace(data, structure=structure_to_dict(crystal)).write(tmp_path / "other.h5")
    if size in (1.0, 1.15, 2.0):
        assert len(StrainData.read(tmp_path / "other.h5")) == len(data)
        return
    with pytest.raises(ValueError, match="expected a structure in the axes of the reference cell"):
        StrainData.read(tmp_path / "other.h5")


def test_damaged_files(data, tmp_path):
    """Cut short, or one bit turned over: the same data or one sentence, never something else."""
    data.write(tmp_path / "data.h5")
    content = (tmp_path / "data.h5").read_bytes()
    path = tmp_path / "damaged.h5"
    for cut in np.linspace(0, len(content) - 1, 20).astype(int):
        path.write_bytes(content[:cut])
        assert one_sentence(path)
    generator = np.random.default_rng(7)
    refused = 0
    for place in generator.integers(len(content), size=50):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(flipped))
        refused += bool(one_sentence(path, data))
    # all but the padding of the first 512 bytes is under the checksum
    assert refused >= 45


def test_foreign_files(data, tmp_path):
    """Files without a checksum are read with care: shapes, types, sizes, units, groups and schema."""
    path = tmp_path / "foreign.h5"

    def made(**changes):
        attributes = {"schema": 1, "units": "GPa", "kind": "unknown", "point_group": "m-3m", "frame": "null"}
        arrays = {"strain": data.strain, "stress": data.stress, "cauchy": data.cauchy,
                  "deformation_gradient": data.deformation_gradient}  # fmt: skip
        with h5py.File(path, "w") as file:
            for name, value in {**attributes, **changes}.items():
                if name in attributes and value is not None:
                    file.attrs[name] = value
            for name, value in {**arrays, **{n: v for n, v in changes.items() if n not in attributes}}.items():
                if callable(value):
                    value(file, name)
                elif value is not None:
                    file[name] = value
        return path

    assert np.array_equal(StrainData.read(made()).strain, data.strain)
    assert (
        StrainData.read(made(names=b'["a", "b", "c", "d"]' and np.frombuffer(b'["a", "b", "c", "d"]', np.uint8))).names[
            1
        ]
        == "b"
    )

    def huge(file, name):
        file.create_dataset(name, shape=(10**12, 6), dtype=float, chunks=(1024, 6))

    wrong = {
        "strain": [None, np.zeros((4, 5)), np.zeros((3, 6)), np.zeros(6), np.float64(3), "text", np.zeros((4, 6), complex), huge,
                   np.zeros((0, 6)), np.full((4, 6), np.nan), lambda file, name: file.create_group(name)],
        "energy": [np.zeros(3), np.zeros((4, 1)), np.full(4, np.inf)],
        "cell_ref": [np.zeros((4, 3, 3)), np.full((3, 3), np.nan)],
        "units": [None, "psi", 3, np.arange(3)],
        "point_group": [None, "m-4m", "Fm-3m", 7],
        "frame": [None, "[[1, 0], [0, 1]]", "[[1,0,0],[0,1,0],[0,0,2]]", "not JSON", '"text"', "[[1],[1,2],[3]]"],
        "kind": ["guessed"],
        "schema": [None, 2, "one"],
        "names": [np.frombuffer(b"[", np.uint8), np.frombuffer(b'"text"', np.uint8), np.frombuffer(b'["a"]', np.uint8),
                  np.array([255, 254], np.uint8), np.zeros((2, 2))],
        "provenance": [np.frombuffer(b"[1]", np.uint8)],
        "structure": [np.frombuffer(b"[1]", np.uint8)],
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            assert one_sentence(made(**{name: value})), (name, value)
    for content in (b"", b"plain text\n" * 100, b"\x89HDF\r\n\x1a\n" + bytes(2000)):
        path.write_bytes(content)
        assert one_sentence(path)
    with pytest.raises(OSError, match="does not exist"):
        StrainData.read(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="expected .h5, .hdf5, .extxyz or .xyz, got 'a.csv'"):
        (tmp_path / "a.csv").write_text("")
        StrainData.read(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="expected no options for 'foreign.h5'"):
        StrainData.read(made(), reference="3.5")


def test_the_record_checks_itself(data):
    for changes, fault in (
        ({"stress": data.stress[:2]}, "stress of shape"),
        ({"names": ["a"]}, "expected 4 names"),
        ({"units": "psi"}, "expected units among"),
        ({"kind": "guess"}, "expected a kind among"),
        ({"cauchy": None}, "expected cauchy, got None"),
        ({"max_force": np.zeros(3)}, "max_force of shape"),
    ):
        with pytest.raises(ValueError, match=f"StrainData: .*{fault}"):
            replace(data, **changes)
    assert "4 states, m-3m" in repr(data)
    with pytest.raises(ValueError, match="at least one state"):
        data.take([])


def test_orbits(data):
    """Twins under the group share a label; distinct states do not; without a group each state is its own."""
    generator = np.random.default_rng(5)
    group = PointGroup("m-3m", random_rotations(1, generator)[0])
    base = 0.05 * generator.normal(size=(6, 6))
    turns = group.rotations[generator.integers(24, size=6)]
    strain = np.concatenate([base, rotate_vector(turns, base) + 2e-4 * generator.normal(size=(6, 6))])
    fields = {
        "strain": strain,
        "stress": strain,
        "cauchy": strain,
        "deformation_gradient": np.tile(np.eye(3), (12, 1, 1)),
    }
    made = StrainData(energy=None, group=group, **fields)
    labels = made.orbits()
    np.testing.assert_array_equal(labels[:6], labels[6:])
    assert len(set(labels)) == 6
    assert len(set(replace(made, group=None).orbits())) == 12
    assert len(set(replace(made, group=PointGroup("m-3m")).orbits())) == 12


def states(strain, group):
    n = len(strain)
    return StrainData(strain=strain, stress=strain, cauchy=strain, deformation_gradient=np.tile(np.eye(3), (n, 1, 1)),
                      energy=None, group=group)  # fmt: skip


@pytest.mark.parametrize("largest", [0.01, 0.2])
def test_how_near_twins_must_be(largest):
    """2e-3 by default, or 2 % of the largest strain where that is less; or what is asked for."""
    tolerance = min(2e-3, 0.02 * largest)
    one = np.array([1.0, 0, 0, 0, 0, 0])
    for share, number in ((0.99, 2), (1.01, 3)):
        near = np.array([largest * one, 0.5 * largest * one, 0.5 * largest * one + share * tolerance * one[::-1]])
        assert len(set(states(near, PointGroup("1")).orbits())) == number
        assert len(set(states(near, None).orbits(1e-9))) == 3
    assert len(set(states(np.zeros((3, 6)), None).orbits())) == 1
    made = states(np.zeros((3, 6)), None)
    np.testing.assert_array_equal(replace(made, series=np.array([4, 4, 5])).blocks(), [4, 4, 5])
    np.testing.assert_array_equal(made.blocks(), made.orbits())


@pytest.mark.parametrize("symbol", ["∞/m", "∞/mm", "∞∞m"])
def test_orbits_of_limit_groups(symbol):
    """Any turn about the axis makes twins, and half turns across it of ∞/mm; any turn at all of ∞∞m."""
    generator = np.random.default_rng(8)
    group = PointGroup(symbol, random_rotations(1, generator)[0])
    base = 0.03 * generator.normal(size=(5, 6))
    about = [rotation_about(group.frame[:, 2], angle) for angle in generator.uniform(0, 7, size=5)]
    across = rotation_about(group.frame[:, 0] + 0.3 * group.frame[:, 1], np.pi)
    for turns, same in (
        (np.array(about), True),
        (np.array(about) @ across, symbol != "∞/m"),
        (random_rotations(5, generator), symbol == "∞∞m"),
    ):
        labels = states(np.concatenate([base, rotate_vector(turns, base)]), group).orbits()
        assert len(set(labels[:5])) == 5 and (labels[:5] == labels[5:]).all() == same
        assert same or len(set(labels)) == 10


@needs_data
@pytest.mark.parametrize(
    ("name", "edge", "skip", "orbits"), [("silicon", "10.93746", (), 15), ("molybdenum", "9.50287", (54,), 16)]
)
def test_published_dft_data(name, edge, skip, orbits):
    assert DATA is not None
    path = DATA / f"{name}_dft_strained.extxyz"
    data = StrainData.read(path, reference=edge, skip=skip)
    assert len(data) == 55 and data.kind == "clamped-ion" and data.group == PointGroup("m-3m")
    assert len(set(data.orbits())) == orbits
    assert 0.1 < np.linalg.norm(data.strain, axis=1).max() < 0.15
    np.testing.assert_array_equal(data.group.frame, np.eye(3))
    if skip:
        with pytest.raises(
            ValueError, match=r"got frame 54 \(.*\): 2 atoms, where the others have 54.*--skip-frames 54, or"
        ):
            StrainData.read(path, reference=edge)


TITLES = [f"{letter}{i}{j}" for letter in "FP" for i in "123" for j in "123"] + ["W"]


def table(tmp_path, name="a.txt", number=5, change=None, titles=True, order=None):
    """F, P and W of a quadratic energy, as text."""
    generator = np.random.default_rng(11)
    gradient = np.eye(3) + 0.05 * generator.normal(size=(number, 3, 3))
    strain = mandel.green_lagrange(gradient)
    piola = gradient @ mandel.from_mandel(3.0 * strain)
    rows = np.concatenate(
        [gradient.reshape(-1, 9), piola.reshape(-1, 9), 1.5 * np.sum(strain**2, axis=1)[:, None]], axis=1
    )
    rows = rows if change is None else change(rows)
    order = list(range(19)) if order is None else order
    text = "# made for a test\n" + ("# " + " ".join(TITLES[i] for i in order) + "\n" if titles else "")
    text += "\n".join(" ".join(f"{value:.17g}" for value in row[order]) for row in rows) + "\n"
    (tmp_path / name).write_text(text)
    return tmp_path / name, strain


def test_tables(tmp_path):
    path, strain = table(tmp_path)
    read = read_tables([path], PointGroup("m-3m"), "Pa")
    np.testing.assert_allclose(read.strain, strain, atol=1e-15)
    np.testing.assert_allclose(read.stress, 3.0 * strain, atol=1e-14)
    np.testing.assert_allclose(read.energy, 1.5 * np.sum(strain**2, axis=1), atol=1e-15)
    np.testing.assert_allclose(mandel.second_piola(read.cauchy, read.deformation_gradient), read.stress, atol=1e-14)
    assert read.units == "Pa" and read.kind == "unknown" and read.names[0] == "a.txt line 3" and len(read) == 5
    # columns in another order, by title or by name, without titles, with commas, and several tables
    order = [18, *range(9, 18), *range(9)]
    shuffled, _ = table(tmp_path, "b.txt", order=order)
    untitled, _ = table(tmp_path, "c.txt", titles=False, order=order)
    commas = tmp_path / "d.csv"
    commas.write_text(",".join(TITLES) + "\n" + path.read_text().split("\n", 2)[2].replace(" ", ","))
    for source, columns in ((shuffled, None), (untitled, ",".join(TITLES[i] for i in order)), (commas, None)):
        np.testing.assert_array_equal(read_tables([source], PointGroup("1"), "Pa", columns).stress, read.stress)
    assert len(read_tables([path, shuffled], PointGroup("1"), "Pa")) == 10
    without, _ = table(tmp_path, "e.txt", order=list(range(18)))
    assert read_tables([without], PointGroup("1"), "Pa").energy is None


def test_tables_that_are_refused(tmp_path):
    group = PointGroup("m-3m")

    def flipped(rows):
        rows[3, :3] *= -1
        return rows

    def unsymmetric(rows):
        rows[:, 10] += 0.5
        return rows

    def hollow(rows):
        rows[2, 12] = np.nan
        return rows

    cases = [
        (
            table(tmp_path, "f.txt", change=flipped)[0],
            "expected finite F and P with det F > 0, got det F = -.* in f.txt line 6",
        ),
        (table(tmp_path, "g.txt", change=hollow)[0], "got NaN or infinity in g.txt line 5"),
        (table(tmp_path, "h.txt", change=unsymmetric)[0], "expected P with F⁻¹P symmetric, got a skew part of"),
        (table(tmp_path, "i.txt", order=[*range(8), *range(9, 19)])[0], "expected columns.* got no F33"),
    ]
    lines = table(tmp_path, "j.txt")[0].read_text().splitlines()
    for name, text, fault in (
        ("k.txt", "\n".join([*lines[:4], lines[4].replace(" ", " x ", 1)]), "got 'x' in k.txt line 5"),
        ("l.txt", "\n".join([*lines[:4], lines[4].rsplit(" ", 1)[0]]), "all of one length, got 18 in l.txt line 5"),
        ("m.txt", "1 2 3\n", "rows of at least 18 numbers, all of one length, got 3 in m.txt line 1"),
        ("n.txt", "", "expected rows of numbers, got none in n.txt"),
        ("semicolons.csv", ";".join(["0.5"] * 19) + "\n", "Part columns by commas or spaces"),
        # otherwise 38 columns, of which the first eighteen are read
        (
            "decimal.txt",
            " ".join(["1,5"] * 19) + "\n",
            "got both in decimal.txt line 1. Write numbers with a decimal point",
        ),
    ):
        (tmp_path / name).write_text(text)
        cases.append((tmp_path / name, fault))
    for path, fault in cases:
        with pytest.raises(ValueError, match=f"read_tables: .*{fault}"):
            read_tables([path], group, "Pa")
    path = table(tmp_path)[0]
    with pytest.raises(ValueError, match="expected columns.*got no F11"):
        read_tables([path], group, "Pa", "F12,P11")
    with pytest.raises(ValueError, match="expected a unit among"):
        read_tables([path], group, "psi")
    with pytest.raises(ValueError, match="at least one table"):
        read_tables([], group, "Pa")
    with pytest.raises(OSError, match="read_tables: expected a readable text file"):
        read_tables([tmp_path / "none.txt"], group, "Pa")
