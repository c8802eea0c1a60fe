"""Numbers in files, whose stated size is compared with what the file holds before memory is asked for.

A header of a few bytes can state a petabyte, and a data set that was declared and never written reads as zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import h5py as _h5py
import numpy as np

h5py: Any = _h5py  # comes without types
#: Deflate packs at most 1032 to 1 (zlib's technical notes); filters before it change little.
LARGEST_RATIO = 1100


def check_stated(what: str, shape: Sequence[int], width: int, there: int, packed: bool = False) -> int:
    """Bytes that `shape` elements of `width` bytes take, where `there` bytes can hold them.

    Raises
    ------
    ValueError
        A reason, to be put into a sentence: negative sizes, more than there is, or fewer where nothing is packed.
    """
    if any(n < 0 for n in shape):
        raise ValueError(f"{what} states the shape {tuple(shape)}")
    stated = math.prod(int(n) for n in shape) * width
    if stated > there * (LARGEST_RATIO if packed else 1):
        raise ValueError(f"{what} states {stated:.4g} bytes, and the file holds {there}")
    if not packed and stated < there:
        raise ValueError(f"{what} states {stated} bytes, and the file holds {there}")
    return stated


def hdf5_numbers(group: Any, name: str, size: int, axes: int | None = None) -> np.ndarray:
    """A numeric data set of an HDF5 file of `size` bytes, all of it written.

    Raises
    ------
    ValueError
        A reason, to be put into a sentence: a link, another type, stored in other files, not written, or more than
        the file holds.
    """
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link to another place")
    item = group[name]
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"{name!r} is no data set")
    if item.dtype.kind not in "fiub":
        raise ValueError(f"{name!r} holds {item.dtype}, not numbers")
    if item.shape is None or (axes is not None and len(item.shape) != axes):
        raise ValueError(f"{name!r} has shape {item.shape}" + ("" if axes is None else f", not {axes} axes"))
    if item.is_virtual or item.external:
        raise ValueError(f"{name!r} is stored in other files")
    if item.size:
        stored = item.id.get_storage_size()
        packed = item.chunks is not None
        if not 0 < stored <= size:
            raise ValueError(f"{name!r} states {stored} stored bytes in a file of {size}")
        check_stated(repr(name), item.shape, item.dtype.itemsize, stored, packed)
        if packed:
            wanted = math.prod(-(-n // c) for n, c in zip(item.shape, item.chunks, strict=True))
            if item.id.get_num_chunks() != wanted:
                raise ValueError(f"{name!r} has {item.id.get_num_chunks()} chunks written of {wanted}")
    return np.asarray(item[()])


def hdf5_members(file: Any, most: int = 10_000) -> tuple[dict[str, Any], set[str]]:
    """Data sets and names of groups below a group, by path; links are refused, because they lead out of what is checked.

    Raises
    ------
    ValueError
        A reason, to be put into a sentence: a link, or more members than `most` (a group may hold itself).
    """
    arrays: dict[str, Any] = {}
    groups: set[str] = set()
    waiting = [("", file)]
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            path = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{path!r} is a link to another place")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                arrays[path] = item
            elif isinstance(item, h5py.Group):
                groups.add(path)
                waiting.append((f"{path}/", item))
            if len(arrays) + len(groups) > most:
                raise ValueError(f"it has more than {most} members")
    return arrays, groups
