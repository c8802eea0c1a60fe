"""Reading in a process of its own, for libraries that a damaged file may crash.

Of some thousand damaged HDF5 files one makes the HDF5 library (1.10.8) end with a segmentation fault
(tests/benchmarks/mutations.py), which no exception catches.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import warnings
from collections.abc import Callable
from typing import Any

#: Seconds that a reading may take, and bytes for which there is one more.
PATIENCE = 60
BYTES_A_SECOND = 4 * 2**20


def apart(read: Callable[[], Any], size: int) -> Any:
    """What a function returns, called in a forked child; where a system has no fork, in this process.

    Parameters
    ----------
    read : function
        Its result is pickled. It computes with nothing that has threads.
    size : int
        Bytes of the file that it reads.

    Raises
    ------
    ValueError
        A reason, to be put into a sentence: where the child crashed or took too long, and with the text of whatever it
        raised.
    """
    if not hasattr(os, "fork"):
        return read()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which the child does not use
        child = os.fork()
    if child == 0:
        _answer(read, reading, writing, size)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as stream:
            kind, found = pickle.load(stream)
    except (EOFError, pickle.UnpicklingError):
        kind, found = "", None
    state = os.waitpid(child, 0)[1]
    if kind == "":
        if os.WIFSIGNALED(state) and os.WTERMSIG(state) == signal.SIGALRM:
            raise ValueError("the library that reads it did not come to an end")
        raise ValueError("the library that reads it crashed")
    if kind == "error":
        raise ValueError(found)
    return found


def _answer(read: Callable[[], Any], reading: int, writing: int, size: int) -> None:
    """In the child: pickle the result, and leave without what the parent had to do at its end."""
    try:
        faulthandler.disable()
        os.close(reading)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE + size // BYTES_A_SECOND)
        with os.fdopen(writing, "wb") as stream:
            try:
                answer = ("found", read())
            except Exception as error:
                text = str(error) or type(error).__name__
                answer = (
                    "error",
                    text if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__} {text}",
                )
            pickle.dump(answer, stream, protocol=5)
    finally:
        os._exit(0)
