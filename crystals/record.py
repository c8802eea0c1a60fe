"""HDF5 files that know when they are damaged: named arrays and texts, with a digest in the user block.

The first 512 bytes are HDF5's user block (ignored by every HDF5 reader). They hold a mark, and the SHA-256 of all that
follows: it is checked before the HDF5 library sees the file, which a damaged one might crash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np

from .stored_numbers import hdf5_numbers

# h5py has no types
h5py: Any = _h5py

_BLOCK = 512
_MARK = b"constitutive data, SHA-256 of what follows: "
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def write_record(
    path: Path, attributes: Mapping[str, str | int], texts: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write attributes, long texts and arrays: to a temporary name beside the target, then renamed.

    Raises
    ------
    OSError
        Where the folder does not exist or cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(temporary, "w", userblock_size=_BLOCK) as file:
            for name, value in attributes.items():
                file.attrs[name] = value
            # attributes hold at most 64 kB
            for name, text in texts.items():
                file.create_dataset(name, data=np.frombuffer(text.encode(), dtype=np.uint8))
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
        with open(temporary, "r+b") as stream:
            stream.seek(_BLOCK)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            stream.write((_MARK + digest.encode()).ljust(_BLOCK, b"\0"))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise OSError(
            f"write: expected a file that can be written, got {str(path)!r}: {reason}. Check the folder and "
            "the space left."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_record(
    path: Path, texts: tuple[str, ...], arrays: Mapping[str, int]
) -> tuple[dict[str, str | int], dict[str, str], dict[str, np.ndarray]]:
    """Attributes, texts and numeric arrays of an HDF5 file.

    Parameters
    ----------
    path : Path
    texts : tuple of str
        Names of the texts to read, each a data set of bytes, or an attribute.
    arrays : mapping
        Names of the arrays to read, and the number of axes of each. Absent ones are left out.

    Raises
    ------
    ValueError
        For a file that is damaged, no HDF5, or holds something else under these names.
    """
    where = path.name
    size = path.stat().st_size
    with open(path, "rb") as stream:
        block = stream.read(_BLOCK)
        if block.startswith(_MARK):
            stated = block[len(_MARK) : len(_MARK) + 64]
            if hashlib.file_digest(stream, "sha256").hexdigest().encode() != stated:
                raise ValueError(
                    f"{where}: expected the content that was written, got a damaged file: its checksum differs. "
                    "Copy or make it again."
                )
        elif not block.startswith(_SIGNATURE):
            # the mark itself may be what is damaged: what follows is not trusted to the HDF5 library
            raise ValueError(
                f"{where}: expected an HDF5 data set, got a damaged or foreign file: neither checksum nor signature at its "
                "start. Copy it again, or check which file this is."
            )
    try:
        with h5py.File(path, "r") as file:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            found = {name: hdf5_numbers(file, name, size, axes) for name, axes in arrays.items() if name in file}
            written = {name: _text(file, name, size) for name in texts if name in file or name in file.attrs}
    except Exception as error:  # a foreign file may fail anywhere in h5py
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{where}: expected an HDF5 data set, got a file that cannot be read as one: {reason}. Make it again, or "
            "check which file this is."
        ) from error
    return attributes, written, found


def _plain(value: object) -> str | int:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (int, np.integer)):
        return int(value)
    return str(value)


def _text(file: Any, name: str, size: int) -> str:
    if name in file.attrs:
        return str(_plain(file.attrs[name]))
    return hdf5_numbers(file, name, size, 1).astype(np.uint8).tobytes().decode()
