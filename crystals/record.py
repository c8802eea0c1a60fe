"""HDF5 files that know when they are damaged: named arrays and texts, with a digest in the user block.

The first 512 bytes are HDF5's user block (ignored by every HDF5 reader). They hold a mark, and the SHA-256 of all that
follows: it is checked before the HDF5 library sees the file, which a damaged one might crash.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np

from .own_process import apart
from .stored_numbers import hdf5_numbers
from .whole_file import whole_file

# h5py has no types
h5py: Any = _h5py

#: Bytes of the user block.
BLOCK = 512
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

    def fill(file: Any) -> None:
        for name, value in attributes.items():
            file.attrs[name] = value
        # attributes hold at most 64 kB
        for name, text in texts.items():
            file.create_dataset(name, data=np.frombuffer(text.encode(), dtype=np.uint8))
        for name, array in arrays.items():
            file.create_dataset(name, data=array)

    content = hdf5_bytes(fill, BLOCK)
    with whole_file(path) as temporary:
        with open(temporary, "wb") as stream:
            stream.write(content)
        seal(temporary)


def seal(path: Path, mark: bytes = _MARK) -> None:
    """Write a mark and the digest of what follows into the user block of a finished file."""
    with open(path, "r+b") as stream:
        stream.seek(BLOCK)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        stream.write((mark + digest.encode()).ljust(BLOCK, b"\0"))


def seal_of(path: Path, mark: bytes = _MARK) -> str:
    """'whole' for the content that was sealed, 'damaged' for another, 'none' for HDF5 without a seal, 'foreign' for the rest.

    Raises
    ------
    OSError
        Where the file cannot be read.
    """
    with open(path, "rb") as stream:
        block = stream.read(BLOCK)
        if not block.startswith(mark):
            # the mark itself may be what is damaged: what follows is not trusted to the HDF5 library
            return "none" if block.startswith(_SIGNATURE) else "foreign"
        stated = (mark + hashlib.file_digest(stream, "sha256").hexdigest().encode()).ljust(BLOCK, b"\0")
    return "whole" if stated == block else "damaged"


def hdf5_bytes(fill: Callable[[Any], None], userblock_size: int = 0) -> memoryview:
    """An HDF5 file made in memory: on a full disk the HDF5 library crashes when it closes a file."""
    stream = io.BytesIO()
    with h5py.File(stream, "w", userblock_size=userblock_size) as file:
        fill(file)
    return stream.getbuffer()


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
    state = seal_of(path)
    if state == "damaged":
        raise ValueError(
            f"{where}: expected the content that was written, got a damaged file: its checksum differs. "
            "Copy or make it again."
        )
    if state == "foreign":
        raise ValueError(
            f"{where}: expected an HDF5 data set, got a damaged or foreign file: neither checksum nor signature at its "
            "start. Copy it again, or check which file this is."
        )

    def read() -> tuple[dict[str, str | int], dict[str, str], dict[str, np.ndarray]]:
        with h5py.File(path, "r") as file:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            found = {name: hdf5_numbers(file, name, size, axes) for name, axes in arrays.items() if name in file}
            written = {name: _text(file, name, size) for name in texts if name in file or name in file.attrs}
        return attributes, written, found

    try:
        # what has its checksum is as this package wrote it
        return read() if state == "whole" else apart(read, size)
    except Exception as error:  # a foreign file may fail anywhere in h5py
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{where}: expected an HDF5 data set, got a file that cannot be read as one: {reason}. Make it again, or "
            "check which file this is."
        ) from error


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
