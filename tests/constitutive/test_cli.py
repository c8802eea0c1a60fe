"""The command line as a newcomer types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from click.testing import CliRunner

from constitutive import PolynomialLaw
from constitutive.cli import main
from crystals import PointGroup, StrainData, mandel
from crystals.elastic_constants import stiffness_from_constants

SHARED = Path(__file__).parents[3] / "shared" / "data"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_help_fits_a_screen_and_every_command_has_an_example() -> None:
    code, text, _ = run("--help")
    assert code == 0 and len(text.splitlines()) < 25
    for command in ("atoms", "fit", "classes", "audit", "drive", "export", "show", "report", "families"):
        assert command in text
        assert f"constitutive {command}" in run(command, "--help")[1]


def test_atoms_to_law_to_audit(tmp_path: Path) -> None:
    """EMT copper with few states: the whole path, JSON on standard output and nothing else."""
    from ase.build import bulk

    bulk("Cu", "fcc", a=3.6, cubic=True).write(tmp_path / "Cu.cif")
    data, law = str(tmp_path / "cu.h5"), str(tmp_path / "cu.law")
    code, text, error = run(
        "atoms", str(tmp_path / "Cu.cif"), "--states", "48", "--max-strain", "0.05", "-o", data, "--json"
    )
    assert code == 0, error
    assert json.loads(text)["point_group"] == "m-3m"
    assert StrainData.read(data).kind == "relaxed-ion"
    code, text, error = run("fit", data, "-o", law, "--folds", "0", "--json")
    assert code == 0, error
    fitted = json.loads(text)
    assert abs(fitted["elastic_constants"]["C44"] / 89.9 - 1) < 0.02
    code, text, _ = run("audit", law, "--states", "100")
    assert code == 0 and "objectivity" in text and "passed" in text
    code, text, _ = run("show", law)
    assert code == 0 and text.startswith("SymmetricLaw('m-3m', C11=")
    assert "order 3, GPa:" in text and "C456 " in text
    constants = json.loads(run("show", law, "--json")[1])["constants"]
    assert list(constants["3"]) == ["C111", "C112", "C123", "C144", "C155", "C456"]
    assert abs(constants["3"]["C155"] / -842.6 - 1) < 0.05  # finite differences of EMT, see test_brugger.py
    page = tmp_path / "cu.html"
    code, text, error = run("report", law, data, "-o", str(page), "--json")
    assert code == 0 and json.loads(text)["report"] == str(page), error
    assert "held out" in page.read_text()


def test_mistakes_end_in_one_sentence(tmp_path: Path) -> None:
    folder, source = tmp_path / "folder.h5", tmp_path / "data.h5"
    folder.mkdir()
    source.write_bytes(b"")
    cases = [
        (("fit", str(tmp_path / "none.h5")), "does not exist"),
        (("fit", str(tmp_path), "--format", "table"), "expected --units"),
        (("fit", str(tmp_path), "--format", "table", "--units", "Pa"), "expected --point-group"),
        (("fit", str(tmp_path), "--format", "table", "--units", "Pa", "--point-group", "m-3m", "--fit", "*.x"), "files that match"),
        (("audit", str(tmp_path / "none.law")), "does not exist"),
        (("atoms", str(tmp_path / "none.cif"), "-o", str(tmp_path / "a.h5")), "does not exist"),
        (("atoms", "Cu.cif", "-o", str(tmp_path / "nowhere" / "a.h5")), "existing folder"),
        (("atoms", "Cu.cif", "-o", str(tmp_path / "a.txt")), "ends in .h5"),
        (("atoms", "Cu.cif", "-o", str(folder)), "which is a folder"),
        (("fit", str(source), "-o", str(source)), "ends in .law"),
        (("report", str(tmp_path / "none.law"), "-o", str(tmp_path / "a.pdf")), "ends in .html"),
        (("report", str(tmp_path / "none.law"), "-o", str(tmp_path / "a.html")), "does not exist"),
        (("fit", str(source), "--skip-frames", "1"), "expected no --skip-frames"),
        (("fit", str(source), "--units", "Pa"), "expected no --units"),
        (("fit", str(tmp_path)), "pass --format table"),
        (("fit", str(tmp_path / "a.csv")), "pass --format table"),
        (("fit", str(tmp_path / "a.csv"), "--format", "table", "--units", "Pa", "--point-group", "m-3m"), "a table or a folder"),
        (("fit", str(source), "--format", "table", "--units", "Pa", "--point-group", "m-3m", "--fit", "*.x"), "expected a folder"),
        (("moduli", str(tmp_path / "a.npy"), "--spacing", "1,1"), "such as 1,1,2.5"),
        (("fitt",), "Did you mean 'fit'? `"),
    ]  # fmt: skip
    for arguments, expected in cases:
        code, _, error = run(*arguments)
        assert code == 2 and expected in error, (arguments, error)
        assert error.startswith("Error: ") and len(error.strip().splitlines()) == 1


def test_tables_of_F_P_W(tmp_path: Path) -> None:
    """Plain columns in Pa, fitted and tested on files named by globs."""
    generator = np.random.default_rng(0)
    stiffness = np.pad(np.full((3, 3), 115.0), (0, 3)) + np.diag([57.0] * 3 + [180.0] * 3)
    for name, number in (("fit_a", 40), ("fit_b", 20), ("test_a", 20)):
        gradient = np.eye(3) + 0.02 * generator.normal(size=(number, 3, 3))
        strain = mandel.green_lagrange(gradient)
        second = strain @ stiffness
        piola = gradient @ mandel.from_mandel(second)
        energy = 0.5 * np.sum(second * strain, axis=1)
        np.savetxt(tmp_path / f"{name}.txt", np.column_stack([gradient.reshape(-1, 9), piola.reshape(-1, 9), energy]))
    code, text, error = run(
        "fit", str(tmp_path), "--format", "table", "--units", "Pa", "--point-group", "m-3m", "--fit", "fit_*.txt",
        "--test", "test_*.txt", "--json", "-o", str(tmp_path / "a.law"),
    )  # fmt: skip
    assert code == 0, error
    figures = json.loads(text)
    assert figures["units"] == "Pa" and figures["fit"]["held_out_states"] == 20
    assert figures["fit"]["held_out_stress_error"] < 0.01
    assert abs(figures["elastic_constants"]["C11"] / 172.0 - 1) < 0.02
    one = str(tmp_path / "fit_a.txt")
    code, text, error = run(
        "fit", one, "--format", "table", "--units", "Pa", "--point-group", "m-3m", "-o", str(tmp_path / "b.law")
    )
    assert code == 0 and "StrainData(40 states" in text, error
    Path(one).write_text(Path(one).read_text().rstrip("\n"))
    code, _, error = run("classes", one, "--units", "Pa")
    assert code == 2 and "echo >> fit_a.txt" in error


def test_show_says_what_there_is(tmp_path: Path) -> None:
    """A law of second order has no constants of third; figures are for reading, files for everybody that the umask lets."""
    law = PolynomialLaw(
        PointGroup("m-3m"), 2, stiffness_from_constants(PointGroup("m-3m"), {"C11": 168.4, "C12": 121.4, "C44": 75.4})
    )
    law.metadata = {
        "fit": {"training_rmse_P": 0.123456789, "suspects": [], "constants": {"C11": 1.23456789}, "floor": "floor 1"}
    }
    law.save(tmp_path / "copper.law")
    (tmp_path / "plain").touch()
    assert (tmp_path / "copper.law").stat().st_mode == (tmp_path / "plain").stat().st_mode
    code, text, _ = run("show", str(tmp_path / "copper.law"))
    assert code == 0 and "C44 75.4" in text and "no elastic constants of order 3" in text and "C111" not in text
    assert "0.1235\n" in text and "constants: C11 1.235" in text and "suspects" not in text and "  floor 1" in text
    assert "C111" in run("show", str(Path(__file__).parent / "copper_first_version.law"))[1]


def test_drive_says_where_its_axes_are() -> None:
    law = str(Path(__file__).parent / "copper_first_version.law")
    asked = ("drive", law, "--direction", "110", "--to", "0.01", "--steps", "1")
    assert "2 along -0.7071, 0.7071, 0; 3 along 0, 0, 1" in run(*asked)[1]
    axes = np.array(json.loads(run(*asked, "--json")[1])["axes"])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(axes[0], [0.5**0.5, 0.5**0.5, 0.0], atol=1e-6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not part of the project")
class TestRealData:
    def test_the_two_atom_frame_of_molybdenum_is_named(self) -> None:
        path = str(SHARED / "molybdenum_dft_strained.extxyz")
        code, _, error = run("fit", path, "--reference-cell", "9.502866")
        assert code == 2 and "frame 54" in error and "2 atoms" in error and "--skip-frames 54" in error

    def test_silicon_to_a_law(self, tmp_path: Path) -> None:
        path, law = str(SHARED / "silicon_dft_strained.extxyz"), str(tmp_path / "si.law")
        code, text, error = run("fit", path, "--reference-cell", "10.937456", "--folds", "0", "-o", law)
        assert code == 0, error
        assert "clamped-ion" in text and "held-out error" in text and "mismatch" in text
        assert "cross-validated" not in run("audit", law, "--states", "20")[1]

    def test_the_error_of_few_states_stays_with_the_law(self, tmp_path: Path) -> None:
        """Four states hold none out; what their folds showed is all that is known of the law's error."""
        frames, law = str(tmp_path / "four.extxyz"), str(tmp_path / "four.law")
        write(frames, [read(SHARED / "silicon_dft_strained.extxyz", index=i) for i in (0, 14, 30, 50)])
        code, text, error = run("fit", frames, "--reference-cell", "10.937456", "-o", law, "--json")
        assert code == 0, error
        known = json.loads(text)["cross_validation"]["stress_error"]
        checks = {
            check["name"]: check["value"]
            for check in json.loads(run("audit", law, "--states", "20", "--json")[1])["checks"]
        }
        assert checks["cross-validated stress error, %"] == 100 * known
        assert f"cross_validated_stress_error: {known:.4g}" in run("show", law)[1]

    def test_wrong_units_of_silicon_are_named(self) -> None:
        path = str(SHARED / "silicon_dft_strained.extxyz")
        code, _, error = run("fit", path, "--reference-cell", "10.937456", "--folds", "0", "--stress-units", "GPa")
        assert code == 2 and "--stress-units eV/A3" in error
        code, _, error = run("fit", path, "--reference-cell", "10.937456", "--folds", "0", "--stress-sign", "-1")
        assert code == 2 and "compression positive" in error and "pass --stress-units eV/A3 --stress-sign 1." in error
