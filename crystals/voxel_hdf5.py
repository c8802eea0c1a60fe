"""Voxel images from HDF5 and DREAM.3D (version 6 and NX)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np

from .rotations import rotation_from_bunge
from .stored_numbers import hdf5_members, hdf5_numbers

h5py: Any = _h5py  # comes without types
#: Largest number of a grain, where a table of grains has to be made from the voxels.
LARGEST_LABEL = 2_000_000


def read_hdf5(
    where: str, path: Path, dataset: str | None, choose: Callable[..., str]
) -> tuple[np.ndarray, str, Any, dict[str, Any]]:
    """Image, order of its axes ('xyz' or 'zyx'), spacing or None, and tables of grains."""
    size = path.stat().st_size
    with h5py.File(path, "r") as file:
        arrays, groups = hdf5_members(file)
        ids = [name for name in arrays if name.rsplit("/", 1)[-1] == "FeatureIds"]
        if ids and dataset is None:
            if len(ids) > 1:
                raise ValueError(f"{where}: expected one FeatureIds, got {', '.join(ids)}. Name it, as in dataset='…'.")
            return _read_dream3d(where, file, arrays, groups, ids[0], size)
        chosen = choose(where, {name: item.shape for name, item in arrays.items()}, dataset)
        # FANS and its tools name the order of axes in an attribute; without it they store x first
        order = arrays[chosen].attrs.get("permute_order", "xyz")
        order = order.decode() if isinstance(order, bytes) else str(order)
        if order not in ("xyz", "zyx"):
            raise ValueError(f"{where}: expected permute_order 'xyz' or 'zyx', got {order!r}. Pass order='xyz' or 'zyx'.")
        return hdf5_numbers(file, chosen, size), order, None, {}


def _read_dream3d(
    where: str, file: Any, arrays: dict[str, Any], groups: set[str], ids: str, size: int
) -> tuple[np.ndarray, str, Any, dict[str, Any]]:
    """Grain ids, spacing, phases and Bunge angles (radians) of a DREAM.3D file."""
    container = ids.rsplit("/", 2)[0]

    def sibling(*endings: str) -> Any:
        for ending in endings:
            for name in (*arrays, *groups):
                if name.startswith(container + "/") and re.fullmatch(ending, name[len(container) + 1 :]):
                    return hdf5_numbers(file, name, size)
        return None

    spacing = sibling("_SIMPL_GEOMETRY/SPACING")
    if spacing is None and container in groups:
        spacing = file[container].attrs.get("_SPACING")
    if spacing is not None and np.shape(spacing) != (3,):
        raise ValueError(f"a spacing of shape {np.shape(spacing)}, not (3,)")
    labels = hdf5_numbers(file, ids, size)
    labels = labels[..., 0] if labels.ndim == 4 else labels
    if labels.dtype.kind not in "iu" or not labels.size:
        raise ValueError(f"FeatureIds of {labels.dtype} and shape {labels.shape}")
    tables: dict[str, Any] = {}
    feature = r"(?!CellData|Cell Data)[^/]*[Ff]eature[^/]*/"
    phases, angles = sibling(feature + "Phases"), sibling(feature + "(AvgEulerAngles|EulerAngles)")
    cell_phases, cell_angles = sibling(r"Cell ?Data/Phases"), sibling(r"Cell ?Data/EulerAngles")
    known, first = np.unique(labels, return_index=True)
    if phases is None and cell_phases is not None:
        phases = _by_grain(known, first, cell_phases, labels.size, 1)[:, 0]
    if angles is None and cell_angles is not None:
        angles = _by_grain(known, first, cell_angles, labels.size, 3)
    if phases is not None:
        if phases.dtype.kind not in "iu":
            raise ValueError(f"Phases of {phases.dtype}, not whole numbers")
        tables["grain_phases"] = phases.reshape(-1).astype(int)
    if angles is not None:
        angles = np.asarray(angles, dtype=float)
        if angles.ndim != 2 or angles.shape[1] != 3:
            raise ValueError(f"EulerAngles of shape {angles.shape}, not three for each grain")
        if not np.abs(angles).max(initial=0.0) <= 4.0 * np.pi:
            worst = angles.reshape(-1)[np.argmax(np.nan_to_num(np.abs(angles), nan=np.inf).reshape(-1))]
            raise ValueError(
                f"{where}: expected Euler angles in radians, as DREAM.3D keeps them, got {worst:.4g}. Convert degrees first."
            )
        tables["orientations"] = rotation_from_bunge(angles)
    if 0 in known and (phases is not None or angles is not None):
        raise ValueError(
            f"{where}: expected every voxel in a grain, got {int(np.sum(labels == 0))} voxels of FeatureId 0 (unassigned). "
            "Fill them in DREAM.3D."
        )
    return labels, "zyx", None if spacing is None else np.asarray(spacing, dtype=float), tables


def _by_grain(known: np.ndarray, first: np.ndarray, values: np.ndarray, voxels: int, width: int) -> np.ndarray:
    """Values (m, width) of grains 0 … m − 1 from those of the first voxel of each."""
    if values.size != voxels * width:
        raise ValueError(f"{values.size} values for {voxels} voxels, not {width} for each")
    if known[0] < 0 or known[-1] > LARGEST_LABEL:
        raise ValueError(f"grain numbers from {known[0]} to {known[-1]}")
    table = np.zeros((int(known[-1]) + 1, width), dtype=values.dtype)
    table[known] = values.reshape(-1, width)[first]
    return table
