"""States of a long computation, written as they come: what is there after a kill, whatever the moment, is whole.

One JSON line a state, flushed to the disk before the next; a line that a kill cut short is dropped. JSON keeps doubles
exactly.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .whole_file import unwritten


class StateJournal:
    """Results of numbered states in a file beside the data set that will hold them.

    Parameters
    ----------
    path : Path
    identity : dict
        What the states depend on; JSON values. A journal of other work is refused.

    Raises
    ------
    ValueError
        Where the file belongs to other work.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.states: dict[int, dict[str, Any]] = {}
        identity = json.loads(json.dumps(identity))
        if path.is_file():
            self._read(identity)
        try:
            self._file = open(path, "a", encoding="utf-8")
        except OSError as error:
            raise unwritten(path, error) from error
        if not self.header:
            self._append({"identity": identity})
            self.header["identity"] = identity

    def _read(self, identity: dict[str, Any]) -> None:
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                entry = json.loads(line)
                if "state" in entry:
                    self.states[int(entry.pop("state"))] = entry
                else:
                    self.header.update(entry)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{self.path.name}: expected finished states, one in each line, got a damaged file: {error}. Remove "
                f"{str(self.path)!r} to begin anew."
            ) from error
        found = self.header.get("identity")
        if found is not None and found != identity:
            differs = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
            raise ValueError(
                f"{self.path.name}: expected an unfinished computation with the same {', '.join(differs)}, got "
                f"{', '.join(f'{key} {_short(found.get(key))}' for key in differs)}. Repeat that command to go on with "
                f"it, or remove {str(self.path)!r} to begin anew."
            )
        if len(whole) < len(raw):
            with open(self.path, "r+b") as file:
                file.truncate(len(whole))

    def note(self, **values: Any) -> None:
        """Keep something about the whole, such as the relaxed reference."""
        self.header.update(json.loads(json.dumps(values)))
        self._append(values)

    def add(self, state: int, result: dict[str, Any]) -> None:
        """Keep the result of a state; on the disk when this returns."""
        self.states[state] = result
        self._append({"state": state, **result})

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritten(self.path, error) from error

    def close(self) -> None:
        with suppress(OSError):  # a full disk has been told of
            self._file.close()
        if not self.states and set(self.header) == {"identity"}:
            self.path.unlink(missing_ok=True)  # nothing to go on with; other work may take the name

    def remove(self) -> None:
        """Close and delete: the data set holds everything now."""
        self.close()
        self.path.unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
