"""What befalls files: bytes cut, flipped and overwritten, numbers mistyped, JSON and arrays with something else in a place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Mutated = tuple[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    `originals` writes the intact files, `read` gives what a user gets as named arrays, `mutate` damages one, and `legal`
    says why content that differs is nevertheless what the file now holds; '' where it is wrong.
    """

    name: str
    originals: Callable[[Path], list[Path]]
    read: Callable[[Path], dict[str, Any]]
    mutate: Callable[[Path, np.random.Generator], Mutated]
    legal: Callable[[str, bytes, bytes, Any, Any], str]


def damaged(content: bytes, rng: np.random.Generator) -> Mutated:
    """One of the accidents that befall files: cut, flipped, overwritten, shifted, or replaced by another file."""
    changed = bytearray(content)
    n = len(content)
    place, width = int(rng.integers(n)), int(2 ** rng.uniform(0, 9))
    # headers stand at the start and at the end, and are short
    if rng.random() < 0.4:
        place = int(rng.integers(min(n, 400)))
    elif rng.random() < 0.2:
        place = n - 1 - int(rng.integers(min(n, 200)))
    what = str(
        rng.choice(["cut", "flip", "flip", "flips", "zeros", "huge", "insert", "remove", "double", "swap", "other"])
    )
    if what == "cut":
        return what, bytes(changed[: int(rng.integers(n))])
    if what in ("flip", "flips"):
        for _ in range(1 if what == "flip" else 8):
            changed[place] ^= 1 << int(rng.integers(8))
            place = int(rng.integers(n))
    elif what == "zeros":
        changed[place : place + width] = bytes(len(changed[place : place + width]))
    elif what == "huge":
        size = int(rng.choice([2, 4, 8]))
        value = int(rng.choice([2**8 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1]))
        number = (value % 2 ** (8 * size)).to_bytes(size, ("little", "big")[int(rng.integers(2))])
        changed[place : place + size] = number[: len(changed[place : place + size])]
    elif what == "insert":
        changed[place:place] = rng.bytes(width)
    elif what == "remove":
        del changed[place : place + width]
    elif what == "double":
        changed[place:place] = changed[place : place + width]
    elif what == "swap":
        second = int(rng.integers(n))
        a, b = bytes(changed[place : place + width]), bytes(changed[second : second + width])
        if len(a) == len(b) and abs(place - second) >= width:
            changed[place : place + width], changed[second : second + width] = b, a
    else:
        foreign = [b"", rng.bytes(n), b"\x80\x04cos\nsystem\n", b"PK\x03\x04" + rng.bytes(n), b"\x89HDF\r\n\x1a\n" + rng.bytes(n),
                   b"\x93NUMPY\x01\x00" + rng.bytes(n), b"II*\x00" + rng.bytes(n), b"<?xml version='1.0'?>" * 40,
                   b"# vtk DataFile Version 3.0\n" * 20, bytes(n), b"\xff" * n, content[::-1]]  # fmt: skip
        return what, foreign[int(rng.integers(len(foreign)))]
    return what, bytes(changed)


#: What stands where a number should.
_HOSTILE = ("nan", "inf", "-inf", "1e999", "1e300", "-1", "0", "99999999999", "9223372036854775808", "1e-300", "abc", "",
            "0x10", "1_000", "1,2", "\u0661", "None", "[]", "{}", "1j", "-0.0", "00012", "1e5", "65536", "4294967296")  # fmt: skip
_NUMBER = re.compile(rb"(?<![\w.])[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?(?![\w.])")


def mistyped(content: bytes, rng: np.random.Generator, first: int = 0) -> Mutated:
    """A text in which one number, one of the first `first` where that is given, is replaced."""
    numbers = list(_NUMBER.finditer(content))
    found = numbers[int(rng.integers(min(len(numbers), first) if first else len(numbers)))]
    word = _HOSTILE[int(rng.integers(len(_HOSTILE)))]
    return f"number {word!r}", content[: found.start()] + word.encode() + content[found.end() :]


def _other_value(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value of another type or of absurd size."""
    choices = [None, True, -1, 0, 10**9, 10**30, 1.5, float("nan"), float("inf"), "", "x" * 3000, "m-3m", [], [[]], {}, {"a": 1},
               [10**9, 10**9], [value], {"law": value}, [1.0, 2.0, 3.0], "$(touch /tmp/owned)", [value] * 3]  # fmt: skip
    return choices[int(rng.integers(len(choices)))]


def other_json(value: Any, rng: np.random.Generator) -> Any:
    """A copy in which one entry, at any depth, is another value, is absent or stands under another name."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[int(rng.integers(len(value)))]
        changed = dict(value)
        if rng.random() < 0.15:
            del changed[key]
        elif rng.random() < 0.1:
            changed[key + "x"] = changed.pop(key)
        else:
            changed[key] = other_json(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = int(rng.integers(len(value)))
        return [*value[:place], other_json(value[place], rng), *value[place + 1 :]]
    return _other_value(value, rng)


def other_array(array: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray | None]:
    what = str(rng.choice(["nan", "inf", "huge", "other", "type", "text", "shape", "rows", "axis", "empty", "absent"]))
    changed = np.array(array, dtype=float)
    if what in ("nan", "inf", "huge", "other"):
        place = int(rng.integers(changed.size))
        changed.reshape(-1)[place] = {"nan": np.nan, "inf": -np.inf, "huge": 1e300}.get(
            what, changed.reshape(-1)[place] + 0.3
        )
        return what, changed
    if what == "type":
        kind = str(rng.choice(["f4", "f2", "i1", "u8", "c16", "bool", ">f8", "i8"]))
        with np.errstate(invalid="ignore"):
            return f"type {kind}", changed.astype(kind)
    if what == "text":
        return what, np.full(changed.shape, b"1.0")
    if what == "shape":
        return what, changed.reshape(-1)
    if what == "rows":
        return what, changed[:-1] if rng.random() < 0.5 else np.concatenate([changed, changed])
    if what == "axis":
        return what, changed[None]
    return what, None if what == "absent" else changed[:0]


def once(path: Path, write: Callable[[Path], Any]) -> Path:
    if not path.exists():
        write(path)
    return path
