"""Neo-Hooke at quadrature points equals Neo-Hooke as a UFL energy, on 1 to 4 ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
RANKS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What the script found on each number of ranks."""
    found = {}
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    # ranks that wait leave the cores to the others
    environment["OMPI_MCA_mpi_yield_when_idle"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    for ranks in RANKS:
        path = tmp_path_factory.mktemp("ranks") / f"{ranks}.json"
        # -m mpi4py: an exception on one rank ends all of them instead of leaving the others to wait
        command = ["mpirun", "-n", str(ranks), sys.executable, "-m", "mpi4py", str(HERE / "neo_hooke_ranks.py")]
        command.append(str(path))
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
        found[ranks] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", ["hexahedron", "tetrahedron", "two_cells"])
def test_equals_pure_ufl(reports, ranks, case):
    report = reports[ranks][case]
    assert report["difference"] < 1e-10
    pure, ours = report["iterations"]
    assert pure == ours and all(0 < n <= 8 for n in ours)
    assert report["balance"] < 1e-9
    np.testing.assert_allclose(report["reactions"][0], report["reactions"][1], rtol=1e-9, atol=1e-10)


def test_ranks_agree(reports):
    """Same size of the solution, iterations and reactions on any number of ranks; some ranks own no cell at all."""
    for case in ("hexahedron", "tetrahedron", "two_cells"):
        alone = reports[1][case]
        for ranks in RANKS[1:]:
            shared = reports[ranks][case]
            assert sum(shared["cells"]) == sum(alone["cells"])
            assert shared["iterations"] == alone["iterations"]
            assert shared["size"] == pytest.approx(alone["size"], rel=1e-10)
            np.testing.assert_allclose(shared["reactions"][1], alone["reactions"][1], rtol=1e-9, atol=1e-10)
    assert 0 in reports[4]["two_cells"]["cells"]


@pytest.mark.parametrize("case", ["hexahedron", "two_cells"])
def test_files_of_all_ranks_hold_the_same_points(reports, case):
    """The point file has every point once, whatever the number of ranks; order alone may differ."""
    tables = []
    for ranks in RANKS:
        points, fields = reports[ranks][case]["points"]
        assert Path(fields).exists()
        with h5py.File(points) as file:
            table = np.hstack([file["points"][:], file["cauchy"][:], file["strain"][:], file["volume"][:][:, None]])
        tables.append(table[np.lexsort(np.round(table[:, :3], 9).T)])
        assert tables[-1][:, -1].sum() == pytest.approx(2.0, rel=1e-12)
    for other in tables[1:]:
        np.testing.assert_allclose(other, tables[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ranks", RANKS)
def test_errors_agree(reports, ranks):
    """All ranks raise the same error, and all roll back to zero."""
    texts = reports[ranks]["errors"]
    assert len(texts) == ranks and all(other == texts[0] for other in texts)
    out_of_range, first, diverged, second = texts[0]
    assert "trained range |E| ≤ 0.050" in out_of_range and "cell" in out_of_range
    assert "EquilibriumProblem: expected Newton's method to converge" in diverged
    assert first == second == 0.0
