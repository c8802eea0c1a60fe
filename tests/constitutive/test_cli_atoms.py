"""`constitutive atoms` and `constitutive constants`: from a file to states to a table, jobs out, mistakes in a sentence."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from click.testing import CliRunner

from constitutive.cli import main
from crystals.dataset import StrainData


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("Cu.cif", bulk("Cu", "fcc", a=3.6))
    return tmp_path


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_atoms_to_constants(folder):
    """A crystal's constants in two commands; what was finished before a kill is taken from the file beside the output."""
    arguments = ("atoms", "Cu.cif", "--states", "24", "--max-strain", "0.02", "--workers", "1", "-o", "copper.h5")
    shown = run(*arguments)
    assert "StrainData(24 states, m-3m" in shown and "0 states are not elliptic" in shown
    assert not (folder / "copper.h5.states").exists()
    table = json.loads(run("constants", "copper.h5", "--order", "3", "--json"))
    assert table["point_group"] == "m-3m" and table["born_stable"] is True
    for name, value in {"C11": 172.6, "C12": 115.4, "C44": 89.9}.items():
        assert table["constants"]["2"][name]["value"] == pytest.approx(value, abs=0.3)
        assert table["differences"][name] == pytest.approx(value, abs=0.2)
    assert len(table["constants"]["3"]) == 6
    assert table["averages"]["bulk_hill"] == pytest.approx(134.5, abs=0.3)
    assert "differences" in run("constants", "copper.h5")


def test_other_work_is_not_gone_on_with(folder):
    (folder / "copper.h5.states").write_text(json.dumps({"identity": {"seed": 5}}) + "\n")
    shown = run("atoms", "Cu.cif", "--states", "8", "-o", "copper.h5", status=2)
    assert "expected an unfinished computation with the same" in shown and "seed" in shown


def test_jobs_out(folder):
    shown = run("atoms", "Cu.cif", "--states", "8", "--write-jobs", "jobs")
    assert "8 strained cells and the reference written to jobs" in shown
    assert len(list((folder / "jobs").glob("*/POSCAR"))) == 9
    assert "expected most of 8 states to count, got 8 left out, the first: failed: no output" in run(
        "atoms", "jobs", "--read-jobs", "-o", "x.h5", status=2
    )
    assert "expected no --states for --read-jobs" in run(
        "atoms", "jobs", "--read-jobs", "--states", "9", "-o", "x.h5", status=2
    )
    assert "expected no --calculator for --write-jobs" in run(
        "atoms", "Cu.cif", "--write-jobs", "other", "--calculator", "emt", status=2
    )
    assert "expected a name that ends in .h5" in run("atoms", "Cu.cif", status=2)


def test_constants_without_a_group(folder):
    data = StrainData(
        strain=np.zeros((3, 6)), stress=np.zeros((3, 6)), energy=None, cauchy=np.zeros((3, 6)), group=None,
        deformation_gradient=np.broadcast_to(np.eye(3), (3, 3, 3)),
    )  # fmt: skip
    data.write("plain.h5")
    assert "elastic_table: expected data with a point group, got none" in run("constants", "plain.h5", status=2)
