"""Runs Python on several MPI ranks, for tests and benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_on_ranks(ranks: int, *arguments: str, timeout: float = 600, yielding: bool = True) -> str:
    """Output of `python -m mpi4py arguments…` on that many ranks; an assertion with their last words where one fails.

    Ranks that wait leave the cores to others, where `yielding`: better for tests, not for what is measured.
    """
    # what MPI left here when it started in this process or its parent: mpirun would take itself for one of its ranks
    left_over = ("OMPI_", "PMIX_", "ORTE_", "PRTE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_over)}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_mpi_yield_when_idle": str(int(yielding)),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]),
    }
    # -m mpi4py: an exception on one rank ends all of them instead of leaving the others to wait
    command = ["mpirun", "-n", str(ranks), sys.executable, "-m", "mpi4py", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout
