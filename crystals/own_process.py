"""Reading in a process of its own, for libraries that a damaged file may crash.

Of some thousand damaged HDF5 files one makes the HDF5 library (1.10.8) end with a segmentation fault
(tests/benchmarks/mutations.py), which no exception catches.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import signal
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

#: Seconds that a reading may take, and bytes for which there is one more.
PATIENCE = 60
BYTES_A_SECOND = 4 * 2**20


def apart(read: Callable[[], Any], size: int) -> Any:
    """What a function returns, called in a forked child; where a system has no fork, in this process.

    Parameters
    ----------
    read : function
        Its result: arrays, texts, numbers and None, in tuples, lists and dicts with texts as keys. It computes with nothing
        that has threads.
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
            kind, found = _receive(io.BytesIO(stream.read()))  # numpy reads no arrays from a pipe
    except (EOFError, ValueError):
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
    """In the child: send the result, and leave without what the parent had to do at its end."""
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
            sent = io.BytesIO()
            _send(sent, answer)
            stream.write(sent.getbuffer())
    finally:
        os._exit(0)


def _send(stream: BinaryIO, value: Any) -> None:
    """JSON in a line, in which arrays are numbered; then the arrays. Nothing that runs when it is read."""
    arrays: list[np.ndarray] = []

    def plain(part: Any) -> Any:
        if isinstance(part, np.ndarray | np.generic):
            arrays.append(np.asarray(part))
            return {"array": len(arrays) - 1, "scalar": isinstance(part, np.generic)}
        if isinstance(part, dict):
            return {"dict": {key: plain(entry) for key, entry in part.items()}}
        if isinstance(part, tuple | list):
            return {type(part).__name__: [plain(entry) for entry in part]}
        return part

    structure = plain(value)
    stream.write(json.dumps([len(arrays), structure]).encode() + b"\n")
    for array in arrays:
        np.lib.format.write_array(stream, array, allow_pickle=False)


def _receive(stream: BinaryIO) -> Any:
    line = stream.readline()
    if not line:
        raise EOFError
    number, structure = json.loads(line)
    arrays = [np.lib.format.read_array(stream, allow_pickle=False) for _ in range(number)]

    def whole(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        if "array" in part:
            array = arrays[part["array"]]
            return array[()] if part["scalar"] else array
        ((kind, entries),) = part.items()
        if kind == "dict":
            return {key: whole(entry) for key, entry in entries.items()}
        return (tuple if kind == "tuple" else list)(whole(entry) for entry in entries)

    return whole(structure)
