"""Kills, full disks, folders that may not be written to, devices that are not there: a sentence each, and nothing half."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from faults import JOBS, Job, run
from mutated_data import strain_data
from mutated_images import LABELS
from mutated_laws import STIFFNESS
from mutations import FORM

from constitutive import Evaluator, NeoHookeanLaw, SymmetricLaw, load, moduli
from constitutive.cli import main
from constitutive.fitting.checkpoint import Checkpoint
from constitutive.homogenization import homogenize
from crystals import StrainData
from crystals.job_folder import write_jobs
from crystals.state_journal import StateJournal
from crystals.whole_file import whole_file


@pytest.mark.parametrize(("name", "kills"), [("atoms", 2), ("writers", 3)])
def test_kills_lose_nothing(name: str, kills: int) -> None:
    assert run(JOBS[name], kills, seed=1)["kills"] == kills


def test_a_loss_would_be_seen() -> None:
    """Jobs that forget what they reported, that leave half a file, or that end otherwise after a kill."""

    def work(folder: Path, report: Callable[[str], None]) -> None:
        begun = (folder / "log").exists()
        for place in range(20):
            with open(folder / "log", "a") as stream:
                stream.write(f"{place}{' again' if begun else ''}\n")
            report(str(place))
            time.sleep(0.01)

    def none(folder: Path, told: list[str]) -> None:
        pass

    def lost(folder: Path, told: list[str]) -> None:
        assert len(told) in (0, 20) or len((folder / "log").read_text().splitlines()) > len(told), "lost"

    def result(folder: Path) -> dict[str, np.ndarray]:
        return {"log": np.array([len((folder / "log").read_text())])}

    with pytest.raises(AssertionError, match="lost"):
        run(Job("forgetful", work, lost, result), 5, seed=0)
    with pytest.raises(AssertionError, match="another log after kills"):
        run(Job("careless", work, none, result), 5, seed=0)


def _moduli_file(path: Path) -> None:
    table = [STIFFNESS, 2.0 * STIFFNESS, 3.0 * STIFFNESS]
    moduli(LABELS, dict(enumerate(table)), error=0.5).save(path)


def _stage(path: Path) -> None:
    Checkpoint(path, "x").stage("one", lambda: {"a": torch.zeros(20_000)})


def _journal(path: Path) -> None:
    journal = StateJournal(path, {"a": 1})
    try:
        for place in range(200):
            journal.add(place, {"stress": [0.1] * 6})
    finally:
        journal.close()


def _text(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("x" * 50_000)


def _large_law(path: Path) -> None:
    SymmetricLaw("m-3m", 2, (40, 40), stiffness=STIFFNESS, energy_scale=100.0).save(path)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.law": _large_law, "data.h5": lambda path: strain_data().write(path), "moduli.json": _moduli_file,
    "moduli.h5": _moduli_file, "fit.progress": _stage, "cu.states": _journal, "curve.csv": _text,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_and_what_was_there_stays(name: str, tmp_path: Path) -> None:
    """The limit of file sizes stands for the disk: writing ends with an error of the system after some bytes."""
    path = tmp_path / name
    reading, writing = os.pipe()
    if name != "cu.states":
        path.write_bytes(b"before")
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
            WRITERS[name](path)
            os.write(writing, b"no error")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}|{error}".encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        kind, _, text = stream.read().decode().partition("|")
    assert os.waitpid(pid, 0)[1] == 0
    assert kind == "OSError" and FORM.fullmatch(text) and "space left" in text, (kind, text)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    if name == "cu.states":
        kept = StateJournal(path, {"a": 1})  # the states that were reported are there
        assert len(kept.states) > 3
        kept.close()
    else:
        assert path.read_bytes() == b"before"


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_takes_no_files_is_said(name: str) -> None:
    # root may write wherever modes forbid it, but not here
    for folder in ("/proc/self/net", "/nowhere/at/all"):
        with pytest.raises(OSError) as caught:
            WRITERS[name](Path(folder) / name)
        assert FORM.fullmatch(str(caught.value)), str(caught.value)


def test_commands_say_it_before_any_work(tmp_path: Path) -> None:
    NeoHookeanLaw(1.0, 1.0).save(tmp_path / "a.law")
    strain_data().write(tmp_path / "a.h5")
    law, data = str(tmp_path / "a.law"), str(tmp_path / "a.h5")
    for command in (("atoms", "Cu.cif", "-o", "/proc/self/net/a.h5"), ("fit", data, "-o", "/proc/self/net/a.law"),
                    ("report", law, "-o", "/proc/self/net/a.html"), ("export", law, "-o", "/proc/self/net/a.c")):  # fmt: skip
        start = time.process_time()
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2 and "expected a folder to write to" in result.output
        assert time.process_time() - start < 2.0
    with pytest.raises(OSError, match="job"):
        write_jobs("/nowhere/Cu.cif", tmp_path)
    with pytest.raises(OSError, match=r"cannot|can be read|permission|does not exist"):
        load(tmp_path / "none.law")
    with pytest.raises(OSError, match="does not exist"):
        StrainData.read(tmp_path / "none.h5")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    law = SymmetricLaw("m-3m", 2, (3,))
    for asked in (
        lambda: law.to("cuda"),
        lambda: moduli(LABELS, {0: STIFFNESS, 1: STIFFNESS, 2: STIFFNESS}, device="cuda"),
        lambda: homogenize(LABELS, np.array([STIFFNESS] * 3), device="cuda"),
        lambda: homogenize(LABELS, np.array([STIFFNESS] * 3), device="abacus"),
    ):
        with pytest.raises(ValueError, match="expected a device that is there") as caught:
            asked()
        assert FORM.fullmatch(str(caught.value))
    assert Evaluator(law).backend == "torch"


def test_a_journal_without_a_state_blocks_no_other_work(tmp_path: Path) -> None:
    for identity in ({"a": 1}, {"a": 2}):
        StateJournal(tmp_path / "a.states", identity).close()
    kept = StateJournal(tmp_path / "a.states", {"a": 3})
    kept.add(0, {"stress": [0.1] * 6})
    kept.close()
    with pytest.raises(ValueError, match="expected an unfinished computation with the same a"):
        StateJournal(tmp_path / "a.states", {"a": 4})


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.states").write_bytes(b'{"identity": 1}\nrubbish\n')
    with pytest.raises(ValueError, match=r"Remove .* to begin anew") as caught:
        StateJournal(tmp_path / "a.states", {})
    assert FORM.fullmatch(str(caught.value))
