"""Reading apart: results and errors come back, crashes and endless readings become a reason."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from crystals import own_process
from crystals.own_process import apart


def test_results_and_errors_come_back() -> None:
    array = np.random.default_rng(0).random((300, 400))
    found, text, rest = apart(lambda: (array, "x", {"none": None, "list": [1, 2.5, np.float32(3)], "empty": {}}), 0)
    assert np.array_equal(found, array) and found.dtype == array.dtype and text == "x"
    assert rest == {"none": None, "list": [1, 2.5, 3.0], "empty": {}} and isinstance(rest["list"][2], np.float32)
    with pytest.raises(ValueError, match="crashed"):
        apart(lambda: np.array([object()]), 0)  # nothing that would have to be unpickled comes through

    def wrong() -> None:
        raise KeyError("name")

    with pytest.raises(ValueError, match="KeyError 'name'"):
        apart(wrong, 0)
    with pytest.raises(ValueError, match="^where: expected one, got two. Remedy.$"):
        apart(lambda: exec("raise ValueError('where: expected one, got two. Remedy.')"), 0)


def test_a_crash_is_a_reason_and_this_process_lives() -> None:
    with pytest.raises(ValueError, match="crashed"):
        apart(lambda: os.kill(os.getpid(), signal.SIGSEGV), 0)
    with pytest.raises(ValueError, match="crashed"):
        apart(lambda: os._exit(0), 0)


def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "PATIENCE", 1)
    start = time.monotonic()
    with pytest.raises(ValueError, match="did not come to an end"):
        apart(lambda: time.sleep(60), 0)
    assert time.monotonic() - start < 30
