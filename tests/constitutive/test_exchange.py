"""pymatgen and ASE in and out, and the package of PyPI that has the name of one of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.core import Structure

import constitutive
from crystals import (
    PointGroup,
    as_stiffness,
    as_structure,
    elastic_tensor,
    mandel,
    stiffness_from_constants,
    structure_atoms,
)
from crystals.rotations import random_rotations, rotate_matrix

ROOT = Path(__file__).parents[2]
QUARTZ = stiffness_from_constants(
    PointGroup("32"), {"C11": 86.8, "C33": 105.8, "C12": 7.0, "C13": 19.1, "C44": 58.2, "C14": -18.0}
)


def turned(seed: int) -> np.ndarray:
    """Quartz in general axes: all 21 constants."""
    return rotate_matrix(random_rotations(1, np.random.default_rng(seed))[0], QUARTZ)


def test_elastic_tensor_there_and_back():
    stiffness = turned(0)
    tensor = elastic_tensor(stiffness)
    assert isinstance(tensor, ElasticTensor)
    assert np.allclose(as_stiffness("test", tensor), stiffness, rtol=0, atol=1e-12)
    # pymatgen's own figures agree with ours
    law = constitutive.PolynomialLaw(PointGroup("-1"), 2, stiffness)
    assert np.allclose(tensor.voigt, law.stiffness_voigt(), atol=1e-10)
    assert tensor.k_vrh == pytest.approx(constitutive.elastic_table.__globals__["hill_average"](stiffness)[0])
    made = ElasticTensor.from_voigt(law.stiffness_voigt())
    assert np.allclose(constitutive.PolynomialLaw(PointGroup("-1"), 2, made).stiffness(), stiffness, atol=1e-10)


def test_units_are_gpa_for_pymatgen():
    law = constitutive.NeoHookeanLaw(400.0, 600.0, units="MPa")
    assert law.elastic_tensor().voigt[0, 0] == pytest.approx(1.4)
    assert law.elastic_tensor().g_vrh == pytest.approx(0.4)


def test_results_return_and_phases_accept_an_elastic_tensor():
    cubic = stiffness_from_constants(PointGroup("m-3m"), {"C11": 168.4, "C12": 121.4, "C44": 75.4})
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[:2] = 1
    from_tensor = constitutive.moduli(labels, {0: elastic_tensor(cubic), 1: "E=70 nu=0.2"}, gear="exact")
    from_matrix = constitutive.moduli(labels, {0: cubic, 1: "E=70 nu=0.2"}, gear="exact")
    assert np.allclose(from_tensor.stiffness, from_matrix.stiffness, atol=1e-12)
    assert np.allclose(from_tensor.elastic_tensor().voigt, from_tensor.stiffness_voigt)
    salt = constitutive.moduli(bulk("NaCl", "rocksalt", a=5.64))
    assert isinstance(salt, constitutive.CrystalModuli)
    assert salt.elastic_tensor().k_vrh == pytest.approx(salt.bulk)


def test_what_is_no_stiffness_is_refused():
    tensor = np.array(elastic_tensor(turned(1)))
    tensor[0, 1, 2, 2] += 1.0  # not symmetric in its first pair
    with pytest.raises(ValueError, match="symmetries ijkl"):
        as_stiffness("test", tensor)
    with pytest.raises(ValueError, match=r"\(6, 6\), Mandel"):
        as_stiffness("test", np.eye(3))
    # Voigt is no Mandel: taken for one it is another material
    voigt = mandel.stiffness_to_voigt(turned(1))
    assert not np.allclose(as_stiffness("test", voigt), turned(1))


def test_structures_there_and_back(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    structure = as_structure(atoms)
    assert isinstance(structure, Structure) and structure.composition.reduced_formula == "NaCl"
    again = structure_atoms(structure)
    assert isinstance(again, Atoms) and np.allclose(again.cell.array, atoms.cell.array)
    assert structure_atoms(structure.as_dict()).get_chemical_symbols() == atoms.get_chemical_symbols()
    structure.to(filename=str(tmp_path / "NaCl.cif"))
    assert as_structure(tmp_path / "NaCl.cif").matches(structure)
    groups = {PointGroup.from_structure(kind).symbol for kind in (atoms, structure, tmp_path / "NaCl.cif")}
    assert groups == {"m-3m"}


@pytest.mark.parametrize(
    "content", ["__version__ = '1.6.2'\nclass Crystal: pass\n", "import something_that_is_not_there\n"]
)
@pytest.mark.parametrize("package", ["constitutive", "fem"])
def test_the_other_crystals_is_named_in_a_sentence(package, content, tmp_path):
    """PyPI's crystals first on the path: whether it imports or fails, one sentence says what to do."""
    if package == "fem":
        pytest.importorskip("dolfinx", reason="needs DOLFINx")
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "__init__.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    code = f"try:\n    import {package}\nexcept ImportError as error:\n    print(error)\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert run.stdout.count("\n") == 1 and "unrelated package" in run.stdout and "pip uninstall crystals" in run.stdout
    assert not run.stderr


def test_a_package_that_our_crystals_lacks_is_named(tmp_path):
    (tmp_path / "moyopy.py").write_text("raise ModuleNotFoundError(\"No module named 'moyopy'\", name='moyopy')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    run = subprocess.run([sys.executable, "-c", "import constitutive"], capture_output=True, text=True, env=environment)
    assert run.returncode == 1 and "No module named 'moyopy'" in run.stderr and "unrelated" not in run.stderr
