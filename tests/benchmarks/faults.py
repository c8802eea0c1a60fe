"""kill -9 at random moments: what was reported done is there, no half file is read as whole, and the end is the same.

    python tests/benchmarks/faults.py 100 [--jobs atoms fit steps writers library] [--seed 0]

Each job is begun in a forked child, killed after a random part of the time that it takes undisturbed, looked at, and
begun again in the same folder, until so many kills have struck; whenever it ends by itself, its result is compared with that
of the undisturbed run, bit for bit, and the folder is emptied.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import h5py as _h5py
import numpy as np
from ase.build import bulk
from mutated_data import strain_data
from plastic_bar import plastic_bar
from safetensors import safe_open

import crystals.atomistic as atomistic
from constitutive import NeoHookeanLaw, SymmetricLaw, VonMisesLaw, fit, load
from constitutive.ckernel import library
from constitutive.fitting import fit as fitting
from constitutive.fitting import selection
from constitutive.fitting.checkpoint import Checkpoint
from crystals import StrainData
from crystals.job_folder import read_jobs, write_jobs
from crystals.state_journal import StateJournal
from crystals.whole_file import whole_file

h5py: Any = _h5py
Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Work that goes on where it stopped.

    `work` does it, and tells what is done; `check` looks at the folder after a kill, knowing what was told; `result` reads
    what the finished work left.
    """

    name: str
    work: Callable[[Path, Report], None]
    check: Callable[[Path, list[str]], None]
    result: Callable[[Path], dict[str, np.ndarray]]


# --- generation of data ----------------------------------------------------------------------------------------------


def _atoms(folder: Path, report: Report) -> None:
    class Told(StateJournal):
        def add(self, state: int, result: dict[str, Any]) -> None:
            super().add(state, result)
            report(f"state {state}")

    mock.patch.object(atomistic, "StateJournal", Told).start()
    output = folder / "cu.h5"
    journal = output.with_name("cu.h5.states")
    data = atomistic.strained_states(bulk("Cu"), number=8, max_strain=0.05, progress=False, journal=journal)
    data.write(output)
    report("data set")
    journal.unlink(missing_ok=True)


def _check_atoms(folder: Path, told: list[str]) -> None:
    output, journal = folder / "cu.h5", folder / "cu.h5.states"
    if output.exists():
        assert len(StrainData.read(output)) == 8
    if "data set" in told:
        assert output.exists()
    elif told:
        identity = json.loads(journal.read_text().splitlines()[0])["identity"]
        kept = StateJournal(journal, identity)
        kept.close()
        missing = {word for word in told if word.startswith("state")} - {f"state {place}" for place in kept.states}
        assert not missing, f"reported done and lost: {missing}"


def _read_atoms(folder: Path) -> dict[str, np.ndarray]:
    data = StrainData.read(folder / "cu.h5")
    assert data.energy is not None
    return {"strain": data.strain, "stress": data.stress, "energy": data.energy}


# --- training --------------------------------------------------------------------------------------------------------


def _fit(folder: Path, report: Report) -> None:
    class Told(Checkpoint):
        def stage(self, name: str, compute: Any) -> Any:
            found = super().stage(name, compute)
            report(f"stage {name}")
            return found

    mock.patch.object(fitting, "Checkpoint", Told).start()
    # as many stages as ever, each of a few steps: kills that strike between stages and within each, in minutes
    mock.patch.object(selection, "STEPS", 3).start()
    data = strain_data()
    law = fit(data, order=2, network="invariants", widths=(2,), measure=1.0, held_out=0.0, checkpoint=folder / "progress",
              progress=False)  # fmt: skip
    law.save(folder / "fitted.law")
    report("law")


def _check_fit(folder: Path, told: list[str]) -> None:
    path, law = folder / "progress", folder / "fitted.law"
    if law.exists():
        load(law)
    if "law" in told:
        assert law.exists()
    elif path.exists():
        with safe_open(str(path), framework="pt") as file:
            kept = {name.rpartition("/")[0] for name in file.keys()}
        # once a fit is done it takes its checkpoint away, before the law is written: it can be made again
        missing = {word.removeprefix("stage ") for word in told if word.startswith("stage")} - kept
        assert not missing, f"reported done and lost: {missing}"


def _read_law(folder: Path) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in load(folder / "fitted.law").state_dict().items()}


# --- load steps ------------------------------------------------------------------------------------------------------

_TARGETS = [0.002, 0.004, 0.006, 0.008, 0.006, 0.004, 0.002, 0.0]


def _steps(folder: Path, report: Report) -> None:
    problem, moved = plastic_bar(VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0), 1.0, (2, 2, 2))

    def apply(value: float) -> None:
        moved.value = (value, 0.5 * value, 0.0)

    path, start, done = folder / "state.h5", 0.0, 0
    if path.exists():
        start = problem.restore(path)
        # two targets are alike: time tells them apart
        done = round(problem.time)
    for step in problem.steps(
        apply, _TARGETS[done:], start=start, progress=False, times=range(done + 1, len(_TARGETS) + 1)
    ):
        problem.save(path)
        report(f"step {round(step.time)}")


def _check_steps(folder: Path, told: list[str]) -> None:
    path = folder / "state.h5"
    if told:
        with h5py.File(path, "r") as file:
            assert file.attrs["time"] >= max(int(word.split()[1]) for word in told), "a step that was reported is lost"


def _read_steps(folder: Path) -> dict[str, np.ndarray]:
    with h5py.File(folder / "state.h5", "r") as file:
        found: dict[str, np.ndarray] = {}
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


# --- writers of files ------------------------------------------------------------------------------------------------


def _pictures(folder: Path, which: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3))
    FigureCanvasAgg(figure)
    figure.add_subplot().plot([0, which + 1])
    with whole_file(folder / "picture.png") as temporary:
        figure.savefig(temporary)


def _writers(folder: Path, report: Report) -> None:
    """One file after the other, again and again: two contents take turns under each name."""
    data = strain_data()
    laws = [NeoHookeanLaw(1.0, 1.0), NeoHookeanLaw(2.0, 2.0)]
    for turn in range(4):
        which = turn % 2
        laws[which].save(folder / "a.law")
        data.take(slice(0, 12 - which)).write(folder / "a.h5")
        with whole_file(folder / "a.csv") as temporary:
            temporary.write_text(f"{which}\n" * 50_000)
        _pictures(folder, which)
        jobs = folder / f"jobs{turn}"
        if not jobs.exists():
            write_jobs(bulk("Cu"), jobs, number=8, max_strain=0.05)
        report(str(turn))
    (folder / "done").write_text("done")


def _check_writers(folder: Path, told: list[str]) -> None:
    found = folder / "a.law"
    if told or found.exists():
        assert load(found).config()["mu"] in (1.0, 2.0)
    found = folder / "a.h5"
    if told or found.exists():
        assert len(StrainData.read(found)) in (11, 12)
    found = folder / "a.csv"
    if told or found.exists():
        assert found.read_text() in ("0\n" * 50_000, "1\n" * 50_000)
    found = folder / "picture.png"
    if told or found.exists():
        from matplotlib.image import imread

        assert imread(found).shape == (300, 400, 4)
    for jobs in folder.glob("jobs*"):
        try:
            read_jobs(jobs)
        except OSError as error:  # no plan: the cells are not all there, and the folder says so
            assert "expected a folder with plan.json" in str(error)
            shutil.rmtree(jobs)
        except RuntimeError as error:  # a plan: all cells are there, and none was calculated
            assert "left out" in str(error) and len(list(jobs.glob("*/POSCAR"))) == 9


def _read_writers(folder: Path) -> dict[str, np.ndarray]:
    data = StrainData.read(folder / "a.h5")
    return {"stress": data.stress, "law": load(folder / "a.law").stiffness()}


def _library(folder: Path, report: Report) -> None:
    """C compiled into a cache of its own, loaded and asked."""
    os.environ["XDG_CACHE_HOME"] = str(folder)
    library.cache_folder.cache_clear()
    for number in range(3):
        law = SymmetricLaw("m-3m", 2, (2 + number,), stiffness=100 * np.eye(6), energy_scale=100.0, seed=number)
        from constitutive import Evaluator

        answer = Evaluator(law, "c").response(np.full((4, 6), 1e-3))
        np.save(folder / f"{number}.npy", answer.stress)
        report(str(number))


def _check_library(folder: Path, told: list[str]) -> None:
    cache = folder / "constitutive"
    for path in cache.glob("*.so"):
        record = path.with_suffix(".sha256")
        # a library without its record, or with another, is not loaded: it is built again
        assert not library._is_intact(path, record) or library.CLibrary(path)


def _read_library(folder: Path) -> dict[str, np.ndarray]:
    return {str(number): np.load(folder / f"{number}.npy") for number in range(3)}


JOBS = {
    job.name: job
    for job in (
        Job("atoms", _atoms, _check_atoms, _read_atoms),
        Job("fit", _fit, _check_fit, _read_law),
        Job("steps", _steps, _check_steps, _read_steps),
        Job("writers", _writers, _check_writers, _read_writers),
        Job("library", _library, _check_library, _read_library),
    )
}


def _begin(job: Job, folder: Path, patience: float) -> tuple[bool, list[str], float]:
    """Run a job in a child and kill it after so many seconds: whether it ended before, what it told, how long it took."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            job.work(folder, lambda text: (os.write(writing, f"{text}\n".encode()), None)[1])
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    os.close(writing)
    while (
        time.perf_counter() - start < patience
        and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    state = os.waitpid(pid, 0)[1]
    took = time.perf_counter() - start
    with os.fdopen(reading, "rb") as stream:
        raw = stream.read()
    told = raw[: raw.rfind(b"\n") + 1].decode().splitlines()
    if os.WIFEXITED(state) and os.WEXITSTATUS(state):
        raise AssertionError(f"{job.name}: the job failed by itself, after {told[-1:]}")
    return os.WIFEXITED(state), told, took


def run(job: Job, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill a job so many times.

    Raises
    ------
    AssertionError
        Where something that was reported is lost, a half file reads as whole, or the end is another.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        whole, folder = Path(name) / "whole", Path(name) / "killed"
        whole.mkdir()
        for _ in range(2):  # the first may compile what the second finds
            shutil.rmtree(whole)
            whole.mkdir()
            ended, _, duration = _begin(job, whole, 600.0)
            assert ended, f"{job.name}: the undisturbed run did not end"
        expected = job.result(whole)
        struck = ends = reports = 0
        while struck < kills or not ends:
            fresh = not folder.exists()
            folder.mkdir(exist_ok=True)
            patience = duration * rng.uniform(0.0, 1.0) if struck < kills else 600.0
            ended, told, took = _begin(job, folder, patience)
            if fresh and ended:
                duration = min(duration, took)  # on a machine that has become quieter most kills would come too late
            job.check(folder, told)
            reports += len(told)
            struck += not ended
            if ended:
                ends += 1
                found = job.result(folder)
                assert found.keys() == expected.keys()
                for key in expected:
                    assert np.array_equal(found[key], expected[key]), f"{job.name}: another {key} after kills"
                shutil.rmtree(folder)
    return {"kills": struck, "ends": ends, "reports": reports, "seconds": duration}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{date.today()}, {platform.node() or 'machine'} {platform.machine()}, seed {options.seed}")
    print(f"{'job':<10}{'kills':>7}{'ends':>7}{'reports':>9}{'seconds undisturbed':>21}")
    for name in options.jobs:
        found = run(JOBS[name], options.kills, options.seed)
        print(
            f"{name:<10}{found['kills']:>7}{found['ends']:>7}{found['reports']:>9}{found['seconds']:>21.1f}", flush=True
        )
    print("nothing that was reported is lost, no half file reads as whole, every end is that of the undisturbed run")


if __name__ == "__main__":
    main()
