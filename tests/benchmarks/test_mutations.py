"""The short form of `mutations.py`, and that it finds what it looks for."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from damage import Kind
from mutated_files import KINDS
from mutations import run


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_or_read_unchanged(name: str) -> None:
    number = 500 if name == "law" else 60
    found = run(KINDS[name], number, seed=2)
    assert found["tally"].total() == number
    assert not found["faults"], found["faults"]
    assert found["tally"]["refused"] > 10 and found["tally"]["unchanged"] + found["legal"].total() > 0


def _careless(path: Path) -> dict[str, np.ndarray]:
    """A reader with every fault that there is to find."""
    content = path.read_bytes()
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == b"slow":
        start = time.process_time()
        while time.process_time() < start + 1.2:
            pass
    if content == b"large":
        np.ones(2**25)[:] = 2.0
    if content == b"raise":
        raise KeyError("x")
    if content == b"foreign":
        raise ValueError("bad magic number")
    if content == b"good":
        raise ValueError("reader(x): expected a whole file, got a part. Copy it again.")
    return {"array": np.frombuffer(content, dtype=np.uint8)}


def test_faults_are_found() -> None:
    words = [b"whole", b"crash", b"slow", b"large", b"raise", b"foreign", b"good", b"wrong"]

    def originals(folder: Path) -> list[Path]:
        paths = [folder / f"{place}.txt" for place in range(len(words))]
        for path in paths:
            path.write_bytes(b"whole")
        return paths

    kind = Kind("careless", originals, _careless, lambda path, rng: ("word", words[int(path.stem)]), lambda *_: "")
    found = run(kind, len(words))
    said = "\n".join(found["faults"])
    # 256 MB were asked for: what the process freed before is not asked for again
    for what in (
        "crash by signal 11",
        r"1\.2",
        "2[0-9]{2} MB",
        "KeyError",
        "not our sentence: 'bad magic number'",
        "differs",
    ):
        assert re.search(what, said), what
    assert found["tally"] == {"unchanged": 1, "refused": 1, "fault": 6}
