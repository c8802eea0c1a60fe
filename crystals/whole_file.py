"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to, with its suffix; renamed to `path` at the end, removed where writing fails.

    with whole_file("curve.csv") as temporary:
        temporary.write_text(table)

    Raises
    ------
    OSError
        Where the file cannot be written: a full disk, a folder that is missing or may only be read.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "r+b") as stream:
            os.fsync(stream.fileno())  # a rename may reach the disk before what it names
        os.replace(temporary, path)
    except Exception as error:
        # libraries tell of a full disk in exceptions of their own
        if ": expected " in str(error):
            raise
        if isinstance(error, OSError) or "os error" in str(error) or "No space left" in str(error):
            raise unwritten(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritten(path: str | Path, error: Exception) -> OSError:
    """The sentence about a file that could not be written."""
    text = " ".join(str(error).split()) or type(error).__name__
    reason = error.strerror if isinstance(error, OSError) and error.strerror else text
    return OSError(
        f"write: expected a file that can be written, got {str(path)!r}: {reason[:200]}. Check the folder and the space left."
    )
