"""CIF files as programs write them are read as ASE reads them, and what is unusual is left to ASE."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from ase.spacegroup import crystal
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from crystals.plain_cif import read_plain_cif
from crystals.structures import as_atoms, symmetrised

CRYSTALS = {
    "triclinic": ("CuS", [[0.1, 0.2, 0.3], [0.6, 0.55, 0.9]], 2, [3.1, 4.2, 5.3, 81.0, 97.0, 104.0]),
    "baddeleyite": ("ZrO2", [[0.2754, 0.0395, 0.2083], [0.07, 0.3317, 0.3447], [0.4496, 0.7569, 0.4792]], 14,
                    [5.15, 5.21, 5.32, 90.0, 99.2, 90.0]),
    "rutile": ("TiO", [[0, 0, 0], [0.3053, 0.3053, 0]], 136, [4.594, 4.594, 2.959, 90.0, 90.0, 90.0]),
    "quartz": ("SiO", [[0.4697, 0, 0], [0.4133, 0.2672, 0.1188]], 152, [4.916, 4.916, 5.405, 90.0, 90.0, 120.0]),
    "corundum": ("AlO", [[0, 0, 0.3522], [0.3064, 0, 0.25]], 167, [4.759, 4.759, 12.99, 90.0, 90.0, 120.0]),
    "magnesium": ("Mg", [[1 / 3, 2 / 3, 0.25]], 194, [3.21, 3.21, 5.21, 90.0, 90.0, 120.0]),
    "pyrite": ("FeS", [[0, 0, 0], [0.385, 0.385, 0.385]], 205, [5.42, 5.42, 5.42, 90.0, 90.0, 90.0]),
    "spinel": ("MgAlO", [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.2624, 0.2624, 0.2624]], 227,
               [8.08, 8.08, 8.08, 90.0, 90.0, 90.0]),
}  # fmt: skip


def build(name: str) -> Atoms:
    symbols, places, group, cell = CRYSTALS[name]
    kinds = ["Zr", "O", "O"] if name == "baddeleyite" else symbols
    return crystal(kinds, places, spacegroup=group, setting=2 if group == 227 else 1, cellpar=cell)


def by_ase(path: Path) -> Atoms:
    atoms = read(path, format="cif")
    assert isinstance(atoms, Atoms)
    return atoms


def assert_same(found: Atoms | None, expected: Atoms) -> None:
    assert found is not None and found.numbers.tolist() == expected.numbers.tolist() and found.pbc.all()
    np.testing.assert_allclose(found.cell.array, expected.cell.array, atol=1e-12)
    apart = np.linalg.solve(expected.cell.array.T, (found.positions - expected.positions).T)
    assert np.abs(apart - np.rint(apart)).max() < 1e-12


@pytest.mark.parametrize("how", ["every atom", "space group", "ase"])
@pytest.mark.parametrize("name", CRYSTALS)
def test_as_ase_reads_it(name, how, tmp_path):
    path, atoms = tmp_path / "crystal.cif", build(name)
    if how == "ase":
        write(path, atoms)
    else:
        structure = AseAtomsAdaptor.get_structure(atoms)  # type: ignore[arg-type]
        CifWriter(structure, symprec=0.01 if how == "space group" else None).write_file(path)
    found = read_plain_cif(path)
    assert_same(found, by_ase(path))
    assert found is not None and len(found) == len(atoms)


FILE = """# a comment
data_test
_cell_length_a   3.554(2)
_cell_length_b   3.554
_cell_length_c   8.781E0
_cell_angle_alpha   90
_cell_angle_beta   90.0
_cell_angle_gamma   90.
_symmetry_space_group_name_H-M   'P 1'
_symmetry_Int_Tables_number   1
loop_
_symmetry_equiv_pos_as_xyz
 'x, y, z'
 '1/2+X, y+.5, -z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
 Mo1 Mo6+ 0 0.5000(3) 0.25 1
# between
 "H1'" H 0.1 -0.2 0.4 1.0
"""


def read_text(text: str, path):
    path.write_text(text)
    return read_plain_cif(path)


def test_ways_of_writing(tmp_path):
    path = tmp_path / "a.cif"
    found = read_text(FILE, path)
    assert_same(found, by_ase(path))
    assert found is not None and found.get_chemical_formula() == "H2Mo2" and found.cell.lengths()[0] == 3.554
    # an operation that is another: another crystal
    other = read_text(FILE.replace("y+.5", "y"), path)
    assert other is not None and np.abs(other.positions - found.positions).max() > 1.0


UNUSUAL = {
    "two blocks": FILE + FILE.replace("data_test", "data_more"), "text field": FILE + "_note\n;\nwords\n;\n",
    "no operations": FILE.replace("_symmetry_equiv_pos_as_xyz", "_something_else"),
    "half-filled site": FILE.replace("0.25 1\n", "0.25 0.5\n"), "unknown value": FILE.replace("90.0", "?"),
    "deuterium": FILE.replace(" H 0.1", " D 0.1"), "no element": FILE.replace(" H 0.1", " Xx 0.1"),
    "one orbit twice": FILE.replace("0.1 -0.2 0.4", "0.5 0 -0.25"), "two elements on a site": FILE.replace("0.1 -0.2 0.4", "0 0.5 0.25"),
    "an operation of four parts": FILE.replace("'x, y, z'", "'x, y, z, +1'"), "a wrong letter": FILE.replace("'x, y, z'", "'x, y, w'"),
    "a row too short": FILE.replace("0.25 1\n", "0.25\n"), "a tag twice": FILE + "_cell_length_a 3.0\n",
    "value on its own line": FILE.replace("_cell_length_b   3.554", "_cell_length_b\n3.554"), "nothing": "this is no crystal",
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_left_to_ase(name, tmp_path):
    assert UNUSUAL[name] != FILE
    assert read_text(UNUSUAL[name], tmp_path / "a.cif") is None


def test_sites_that_elements_share_are_refused(tmp_path):
    """ASE takes the element that fills most of a site: another crystal than the file's."""
    path = tmp_path / "alloy.cif"
    shared = FILE.replace(" H 0.1 -0.2 0.4 1.0", " W 0 0.5 0.25 0.3").replace("0.25 1\n", "0.25 0.7\n")
    for text in (UNUSUAL["half-filled site"], shared):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"as_atoms: expected sites that one element fills, got \{'Mo': 0"):
            as_atoms(path)
    structure = AseAtomsAdaptor.get_structure(build("magnesium"))  # type: ignore[arg-type]
    structure.replace_species({"Mg": {"Mg": 0.9, "Al": 0.1}})
    with pytest.raises(ValueError, match="as_atoms: expected sites that one element fills"):
        as_atoms(structure)
    path.write_text(FILE)
    assert symmetrised(path).displacement < 1e-9
