"""A rank that dies takes the others with it, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys
import numpy as np, ufl
from dolfinx import fem as dfem, mesh
from mpi4py import MPI
from constitutive import NeoHookeanLaw
from fem import EquilibriumProblem, QuadratureMaterial
from fem.dolfinx_versions import lagrange_space

comm = MPI.COMM_WORLD
domain = mesh.create_unit_cube(comm, 2, 2, 2)
u = dfem.Function(lagrange_space(domain, "CG", 1, (3,)))
ends = dfem.locate_dofs_geometrical(u.function_space, lambda x: np.isclose(x[0], 0.0))
material = QuadratureMaterial(NeoHookeanLaw(40.0, 60.0), u)
bcs = [dfem.dirichletbc(np.zeros(3), ends, u.function_space)]
problem = EquilibriumProblem(material.virtual_work(ufl.TestFunction(u.function_space)), u, [material], bcs=bcs)

def load(value):
    if value > 0.5 and comm.rank == 1:
        if sys.argv[1] == "raise":
            raise ValueError("table: expected a load below 0.5, got another. Extend the table.")
        os.kill(os.getpid(), signal.SIGKILL)

for step in problem.steps(load, [0.2, 0.4, 0.6, 0.8], progress=False):
    print(f"rank {comm.rank} load {step.load}", flush=True)
"""


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_all_ranks_end_when_one_dies(how: str, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    left_over = ("OMPI_", "PMIX_", "ORTE_", "PRTE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_over)}
    environment |= {
        "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    start = time.monotonic()
    result = subprocess.run(["mpirun", "-n", "2", sys.executable, str(script), how], env=environment, capture_output=True,
                            text=True, timeout=300)  # fmt: skip
    assert result.returncode != 0
    assert "rank 0 load 0.4" in result.stdout and "load 0.6" not in result.stdout
    if how == "raise":
        assert "rank 1 of 2 ended by the error above, and all ranks with it." in result.stderr
        assert "expected a load below 0.5" in result.stderr
    else:
        # mpirun's own sentence
        assert "signal 9" in result.stderr or "KILLED BY SIGNAL: 9" in result.stderr or "Killed" in result.stderr
    assert time.monotonic() - start < 280
    script_name = str(script)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert script_name not in running, "a rank outlived the others"
