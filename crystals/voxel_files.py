"""Voxel images from files: npy and npz, TIFF, HDF5, DREAM.3D, VTK and VTI, raw bytes.

Axis 0 of the result is x. Files that store z slowest (TIFF pages, VTK, DREAM.3D, raw) are turned; npy, npz and HDF5 are
taken as they are, x first, unless an HDF5 attribute `permute_order` or the argument `order` says 'zyx'.
"""

from __future__ import annotations

import logging
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .microstructure import Microstructure
from .own_process import apart
from .stored_numbers import check_stated
from .voxel_hdf5 import read_hdf5
from .vtk_images import read_vti, read_vtk

#: Compressions of TIFF other than deflate pack more, where all voxels are alike.
_LARGEST_TIFF_RATIO = 10_000
SUFFIXES = (".npy", ".npz", ".tif", ".tiff", ".h5", ".hdf5", ".dream3d", ".vtk", ".vti", ".raw", ".dat", ".bin")


def read_image(
    path: str | Path,
    dataset: str | None = None,
    spacing: tuple[float, float, float] | None = None,
    shape: tuple[int, int, int] | None = None,
    dtype: str = "uint8",
    order: str | None = None,
) -> Microstructure:
    """Read a voxel image of phases or grains.

    Parameters
    ----------
    path : path
        .npy, .npz, .tif(f) (needs tifffile), .h5 or .hdf5, .dream3d, .vtk, .vti, or raw bytes (.raw, .dat, .bin).
    dataset : str, optional
        Name of the array inside npz, HDF5, VTK and VTI; needed where there are several that could be an image.
    spacing : (3,), optional
        Voxel edges along x, y, z; by default those that the file gives, or 1.
    shape : (3,), optional
        Voxels along x, y, z; raw files need it.
    dtype : str
        Of raw files, numpy's name: 'uint8', '>u2'.
    order : str, optional
        'xyz' or 'zyx': which axis the file's first one is.

    Returns
    -------
    Microstructure
        With orientations where the file has them (DREAM.3D, Bunge Euler angles in radians).

    Raises
    ------
    OSError
        Where the file is missing, or a package that reads it is.
    ValueError, TypeError
        For an unknown suffix, an image that is not three-dimensional or not of whole numbers, a damaged file.
    """
    path = Path(path)
    where = f"read_image({path.name})"
    if not path.is_file():
        raise OSError(f"{where}: expected an image, got {str(path)!r}, which is no file. Check the path.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{where}: expected a name that ends in {', '.join(SUFFIXES)}, got {suffix!r}. Convert it first."
        )
    if order not in (None, "xyz", "zyx"):
        raise ValueError(f"{where}: expected order 'xyz' or 'zyx', got {order!r}. Choose one.")
    found_spacing: Any = None
    tables: dict[str, Any] = {}
    try:
        if suffix == ".npy":
            with open(path, "rb") as stream:
                array, natural = _read_npy(stream, path.stat().st_size), "xyz"
        elif suffix == ".npz":
            array, natural = _read_npz(where, path, dataset), "xyz"
        elif suffix in (".tif", ".tiff"):
            array, natural = _read_tiff(where, path), "zyx"
        elif suffix in (".h5", ".hdf5", ".dream3d"):
            found = apart(lambda: read_hdf5(where, path, dataset, _choose), path.stat().st_size)
            array, natural, found_spacing, tables = found
        elif suffix == ".vtk":
            array, found_spacing = read_vtk(where, path, dataset)
            natural = "zyx"
        elif suffix == ".vti":
            array, found_spacing = read_vti(where, path, dataset)
            natural = "zyx"
        else:
            array, natural = _read_raw(where, path, shape, dtype), "zyx"
    except Exception as error:  # a damaged file may fail anywhere in the libraries that read it
        if isinstance(error, (ValueError, OSError)) and str(error).startswith(where):
            raise
        reason = (str(error).splitlines() or [""])[0].rstrip(".")[:300]
        raise ValueError(
            f"{where}: expected a whole {suffix} image, got a damaged or foreign file: "
            f"{reason if isinstance(error, ValueError) and reason else f'{type(error).__name__} {reason}'.strip()}. Copy or "
            "write it again."
        ) from error
    array = np.asarray(array)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        array = array[None] if natural == "zyx" else array[..., None]
    if array.ndim == 3 and (order or natural) == "zyx":
        array = array.transpose(2, 1, 0)
    if (
        array.dtype.kind == "f"
        and array.size
        and np.abs(array).max() < 2**53
        and np.array_equal(array, np.round(array))
    ):
        array = array.astype(np.int64)
    if shape is not None and array.shape != tuple(shape):
        raise ValueError(
            f"{where}: expected {tuple(shape)} voxels along x, y, z, got {array.shape}. Check shape and order."
        )
    edges = spacing if spacing is not None else found_spacing if found_spacing is not None else (1.0, 1.0, 1.0)
    return Microstructure(np.ascontiguousarray(array), np.asarray(edges, dtype=float), name=path.name, **tables)


def _choose(where: str, shapes: dict[str, Any], dataset: str | None) -> str:
    """Name of the image among arrays: the one asked for, or the only three-dimensional one."""
    if dataset is not None:
        if dataset not in shapes and dataset.strip("/") not in shapes:
            raise ValueError(
                f"{where}: expected dataset {dataset!r}, got only {', '.join(shapes) or 'none'}. Name one."
            )
        return dataset if dataset in shapes else dataset.strip("/")
    candidates = [n for n, s in shapes.items() if s is not None and (len(s) == 3 or (len(s) == 4 and s[-1] == 1))]
    if len(candidates) != 1:
        raise ValueError(
            f"{where}: expected one three-dimensional array, got {', '.join(candidates) or 'none'}. Name it, as in dataset='image'."
        )
    return candidates[0]


def _npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type that an npy file states."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(stream)
    if kind.kind not in "biuf":
        raise ValueError(f"npy of {kind.str[:20]}, not of numbers")
    return shape, fortran, kind


def _read_npy(stream: Any, size: int) -> np.ndarray:
    shape, fortran, kind = _npy_header(stream)
    stated = check_stated("its header", shape, kind.itemsize, size - stream.tell())
    array = np.frombuffer(stream.read(stated), dtype=kind)
    return array.reshape(shape, order="F" if fortran else "C")


def _read_npz(where: str, path: Path, dataset: str | None) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        shapes = {}
        for name, info in members.items():
            check_stated(repr(info.filename), [info.file_size], 1, info.compress_size + 100, packed=True)
            with archive.open(info) as stream:
                shapes[name] = _npy_header(stream)[0]
        chosen = members[_choose(where, shapes, dataset)]
        with archive.open(chosen) as stream:
            array = _read_npy(stream, chosen.file_size)
            stream.read()  # to its end, where zip compares the checksum
        return array


class _Doubts(logging.Handler):
    """What tifffile says of pages and segments, with which it would go on."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not text.startswith("<tifffile.TiffTag") and not text.startswith("<TiffTag"):
            self.said.append(text)


def _read_tiff(where: str, path: Path) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise OSError(
            f"{where}: expected the package tifffile, which is not installed. pip install tifffile, or pip install constitutive[images]."
        ) from error
    log, doubts = logging.getLogger("tifffile"), _Doubts()
    propagate, log.propagate = log.propagate, False
    log.addHandler(doubts)
    try:
        with tifffile.TiffFile(path) as file:
            size = path.stat().st_size
            if not file.series or len(file.series) != 1:
                raise ValueError(f"{len(file.series)} series of pages, not one")
            series: Any = file.series[0]
            pages = [page for page in series.pages if page is not None]
            first: Any = pages[0]
            offsets = [(o, c) for page in pages for o, c in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if any(o <= 0 or c <= 0 or o + c > size for o, c in offsets):
                raise ValueError("pages that lie outside the file")
            if len(pages) > 1 and len({o for o, _ in offsets}) < len(offsets):
                raise ValueError("pages that lie in the same place")
            if series.dtype is None or series.dtype.kind not in "biuf":
                raise ValueError(f"pages of {series.dtype}, not of numbers")
            if len(pages) != len(file.pages) and len(pages) != 1:
                raise ValueError(f"an image of {len(pages)} pages in a file of {len(file.pages)}")
            there = sum(c for _, c in offsets)
            stated = math.prod(series.shape) * series.dtype.itemsize
            plain = first.compression == 1
            if stated > there * (1 if plain else _LARGEST_TIFF_RATIO):
                raise ValueError(f"the shape {series.shape} of {series.dtype} in {there} bytes")
            if plain and not first.is_tiled and stated != there:
                raise ValueError(f"the shape {series.shape} of {series.dtype} and {there} bytes")
            array = series.asarray()
            if doubts.said:
                raise ValueError(doubts.said[0])
            return array
    finally:
        log.removeHandler(doubts)
        log.propagate = propagate


def _read_raw(where: str, path: Path, shape: tuple[int, int, int] | None, dtype: str) -> np.ndarray:
    if shape is None:
        raise ValueError(
            f"{where}: expected a shape for raw bytes, got none. Give shape=(nx, ny, nz) and dtype (--shape 256,256,100)."
        )
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"{where}: expected a numpy dtype such as 'uint8', got {dtype!r}. Name another.") from error
    expected, got = int(np.prod(shape)) * kind.itemsize, path.stat().st_size
    if expected != got:
        raise ValueError(
            f"{where}: expected {expected} bytes for {tuple(shape)} of {kind}, got {got}. Check shape and dtype."
        )
    if kind.kind not in "biuf":
        raise ValueError(f"{where}: expected a dtype of numbers such as 'uint8', got {dtype!r}. Name another.")
    return np.fromfile(path, dtype=kind).reshape(tuple(shape)[::-1])
