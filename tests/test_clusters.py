"""The scripts of docs/clusters.md on two processes: mpirun, a Slurm job whose srun is mpirun, torchrun."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from constitutive import PolynomialLaw
from crystals import PointGroup

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "clusters.md").read_text()
BLOCKS = re.findall(r"<!-- not run: tests/test_clusters.py [^\n]+ -->\n```bash\n(.*?)```", PAGE, re.S)
SCRIPTS = dict(re.findall(r'```python title="(\w+\.py)"\n(.*?)```', PAGE, re.S))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's scripts, and commands that stand for a cluster's: as many processes as this machine may have, two."""
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
    commands = {
        "python": f'exec {sys.executable} "$@"',
        "mpirun": f'[[ $1 == -n && $2 == 16 ]] && exec {shutil.which("mpirun")} -n 2 "${{@:3}}"',
        "srun": f'exec {shutil.which("mpirun")} -n 2 "$@"',
        "torchrun": f"[[ $1 == --nproc-per-node ]] && exec {sys.executable} -m torch.distributed.run --nproc-per-node 2 "
        f'--master-addr 127.0.0.1 --master-port {free_port()} "${{@:3}}"',
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run(block: str, folder: Path) -> list[str]:
    # what MPI left here when it started in this process or its parent
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "PRTE_"))
    }
    environment |= {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo",
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_mpi_yield_when_idle": "1",
    }  # fmt: skip
    script = folder / "job.sh"
    script.write_text(block)
    done = subprocess.run(
        ["bash", "-e", str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [line for line in done.stdout.splitlines() if line.startswith(("load", "epoch"))]


def test_the_page_has_them() -> None:
    assert len(BLOCKS) == 3 and [
        command for block in BLOCKS for command in ("mpirun", "srun", "torchrun") if command in block
    ]
    assert "#SBATCH" in BLOCKS[1] and set(SCRIPTS) == {"part.py", "train.py"}


@pytest.mark.long
def test_part_on_two_ranks(folder: Path) -> None:
    """mpirun and a Slurm script give the forces of one process; a job that ended goes on where it was."""
    pytest.importorskip("dolfinx", reason="needs DOLFINx")
    stiffness = np.diag([60.0, 60.0, 60.0, 150.0, 150.0, 150.0])
    stiffness[:3, :3] += 120.0
    PolynomialLaw(PointGroup("m-3m"), 2, stiffness, max_strain=0.1).save(folder / "copper.law")
    runs = []
    for block in ("python part.py", *BLOCKS[:2]):
        (folder / "part.h5").unlink(missing_ok=True)
        runs.append(run(block, folder))
    assert len(runs[0]) == 4 and runs[0] == runs[1] == runs[2]
    assert run("sed 's/0, 1, 5/0, 1.5, 7/' part.py > longer.py; srun python longer.py", folder)[0].startswith(
        "load 1.25"
    )


@pytest.mark.long
def test_training_under_torchrun(folder: Path) -> None:
    alone = run("python train.py", folder)
    assert len(alone) == 5
    assert run(BLOCKS[2], folder) == []  # the checkpoint is at its end
    (folder / "train.safetensors").unlink()
    together = run(BLOCKS[2], folder)
    losses = [[float(line.split()[-1]) for line in lines] for lines in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[0][-1] < losses[0][0]
