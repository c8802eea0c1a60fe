"""1 to 4 ranks: Neo-Hooke at quadrature points equals Neo-Hooke as a UFL energy; internal variables on all of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import dolfinx
import h5py
import numpy as np
import pytest
from mpi_ranks import run_on_ranks

HERE = Path(__file__).resolve().parent
#: Three ranks where CI has the time for them: on DOLFINx 0.9 and 0.11.
RANKS = (1, 2, 4) if dolfinx.__version__.startswith("0.5") else (1, 2, 3, 4)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What the script found on each number of ranks. Workers of pytest-xdist share one run: it uses all cores itself."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks"
    try:
        folder.mkdir()
    except FileExistsError:
        while not (folder / "ended").exists():
            time.sleep(0.5)
    else:
        try:
            run_ranks(folder)
        finally:
            (folder / "ended").touch()
    return {ranks: json.loads((folder / str(ranks) / "report.json").read_text()) for ranks in RANKS}


def run_ranks(folder):
    for ranks in RANKS:
        (folder / str(ranks)).mkdir()
        run_on_ranks(ranks, str(HERE / "neo_hooke_ranks.py"), str(folder))


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


@pytest.mark.parametrize("ranks", RANKS)
def test_named_parts_on_ranks(reports, ranks):
    exact = {"soft": 1.0, "stiff": 2.0, "left": 1.0, "right": 1.0, "corners": 1}
    assert reports[ranks]["named_parts"] == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", ["plastic", "plastic_two_cells"])
def test_internal_variables_on_ranks(reports, ranks, case):
    """Same iterations, state, stress and reactions on any number of ranks; a failure at one point of one rank loses
    nothing, and a restart from the file of a run on one rank ends where that run ended."""
    alone, shared = reports[1][case], reports[ranks][case]
    assert alone["first"] == shared["first"]
    runs = [alone["restarted"], shared["uninterrupted"], shared["restarted"]]
    reference = np.array(runs[0]["table"])
    assert np.abs(reference[:, 3:9]).max() > 1e-3  # plastic strain
    scale = np.abs(reference).max(axis=0)
    assert shared["uninterrupted"]["cuts"][0] > 0 and not any(runs[0]["cuts"]) and not any(runs[2]["cuts"])
    assert runs[2]["iterations"] == runs[0]["iterations"]
    # the cut step ends on the same path, by other steps; all else is the same step
    for run, tolerance in ((runs[2], 1e-11), (runs[1], 2e-3)):
        table = np.array(run["table"])
        np.testing.assert_allclose(table, reference, atol=tolerance * np.maximum(scale, scale[9]).max())
        np.testing.assert_allclose(run["reaction"], runs[0]["reaction"], rtol=100 * tolerance, atol=1e-9)
    # cut alike on every number of ranks
    np.testing.assert_allclose(
        shared["uninterrupted"]["table"], alone["uninterrupted"]["table"], atol=1e-11 * scale.max()
    )
    if ranks == 4 and case == "plastic_two_cells":
        assert 0 in shared["cells"]
