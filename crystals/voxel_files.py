"""Voxel images from files: npy and npz, TIFF, HDF5, DREAM.3D, VTK and VTI, raw bytes.

Axis 0 of the result is x. Files that store z slowest (TIFF pages, VTK, DREAM.3D, raw) are turned; npy, npz and HDF5 are
taken as they are, x first, unless an HDF5 attribute `permute_order` or the argument `order` says 'zyx'.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py as _h5py
import numpy as np

from .microstructure import Microstructure
from .rotations import rotation_from_bunge

h5py: Any = _h5py  # comes without types
_VTK_TYPES = {
    "unsigned_char": "u1", "char": "i1", "unsigned_short": "u2", "short": "i2", "unsigned_int": "u4", "int": "i4",
    "unsigned_long": "u8", "long": "i8", "vtkIdType": "i8", "float": "f4", "double": "f8", "Int8": "i1", "UInt8": "u1",
    "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8", "UInt64": "u8", "Float32": "f4",
    "Float64": "f8",
}  # fmt: skip
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
        raise ValueError(f"{where}: expected order 'xyz' or 'zyx', got {order!r}.")
    found_spacing: Any = None
    tables: dict[str, Any] = {}
    try:
        if suffix == ".npy":
            array, natural = np.load(path, allow_pickle=False), "xyz"
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                array, natural = file[_choose(where, {name: file[name].shape for name in file.files}, dataset)], "xyz"
        elif suffix in (".tif", ".tiff"):
            array, natural = _read_tiff(where, path), "zyx"
        elif suffix in (".h5", ".hdf5", ".dream3d"):
            array, natural, found_spacing, tables = _read_hdf5(where, path, dataset)
        elif suffix == ".vtk":
            array, found_spacing = _read_vtk(where, path, dataset)
            natural = "zyx"
        elif suffix == ".vti":
            array, found_spacing = _read_vti(where, path, dataset)
            natural = "zyx"
        else:
            array, natural = _read_raw(where, path, shape, dtype), "zyx"
    except (KeyError, struct.error, zlib.error, ElementTree.ParseError, EOFError) as error:
        raise ValueError(
            f"{where}: expected a whole file, got a damaged or foreign one: {error}. Copy it again."
        ) from error
    array = np.asarray(array)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        array = array[None] if natural == "zyx" else array[..., None]
    if array.ndim == 3 and (order or natural) == "zyx":
        array = array.transpose(2, 1, 0)
    if array.dtype.kind == "f" and array.size and np.array_equal(array, np.round(array)):
        array = array.astype(np.int64)
    if shape is not None and array.shape != tuple(shape):
        raise ValueError(
            f"{where}: expected {tuple(shape)} voxels along x, y, z, got {array.shape}. Check shape and order."
        )
    edges = spacing if spacing is not None else found_spacing if found_spacing is not None else (1.0, 1.0, 1.0)
    return Microstructure(np.ascontiguousarray(array), np.asarray(edges, dtype=float), name=path.name, **tables)


def _choose(where: str, shapes: dict[str, tuple[int, ...]], dataset: str | None) -> str:
    """Name of the image among arrays: the one asked for, or the only three-dimensional one."""
    if dataset is not None:
        if dataset not in shapes and dataset.strip("/") not in shapes:
            raise ValueError(f"{where}: expected dataset {dataset!r}, got only {', '.join(shapes) or 'none'}.")
        return dataset if dataset in shapes else dataset.strip("/")
    candidates = [n for n, s in shapes.items() if len(s) == 3 or (len(s) == 4 and s[-1] == 1)]
    if len(candidates) != 1:
        raise ValueError(
            f"{where}: expected one three-dimensional array, got {', '.join(candidates) or 'none'}. Name it: dataset=…"
        )
    return candidates[0]


def _read_tiff(where: str, path: Path) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise OSError(
            f"{where}: expected the package tifffile, which is not installed. pip install tifffile, or pip install constitutive[images]."
        ) from error
    try:
        return tifffile.imread(path)
    except (tifffile.TiffFileError, ValueError) as error:
        raise ValueError(
            f"{where}: expected a TIFF stack, got a damaged or foreign file: {error}. Copy it again."
        ) from error


def _read_raw(where: str, path: Path, shape: tuple[int, int, int] | None, dtype: str) -> np.ndarray:
    if shape is None:
        raise ValueError(f"{where}: expected a shape for raw bytes, got none. Give shape=(nx, ny, nz) and dtype.")
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"{where}: expected a numpy dtype such as 'uint8', got {dtype!r}.") from error
    expected, got = int(np.prod(shape)) * kind.itemsize, path.stat().st_size
    if expected != got:
        raise ValueError(
            f"{where}: expected {expected} bytes for {tuple(shape)} of {kind}, got {got}. Check shape and dtype."
        )
    return np.fromfile(path, dtype=kind).reshape(tuple(shape)[::-1])


def _read_hdf5(where: str, path: Path, dataset: str | None) -> tuple[np.ndarray, str, Any, dict[str, Any]]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{where}: expected an HDF5 file, got a damaged or foreign one: {error}. Copy it again."
        ) from error
    with file:
        arrays: dict[str, Any] = {}
        groups: dict[str, Any] = {}

        def collect(name: str, item: Any) -> None:
            (arrays if isinstance(item, h5py.Dataset) else groups)[name] = item

        file.visititems(collect)
        ids = [name for name in arrays if name.rsplit("/", 1)[-1] == "FeatureIds"]
        if ids and dataset is None:
            if len(ids) > 1:
                raise ValueError(f"{where}: expected one FeatureIds, got {', '.join(ids)}. Name it: dataset=…")
            return _read_dream3d(where, arrays, groups, ids[0])
        chosen = arrays[_choose(where, {name: item.shape for name, item in arrays.items()}, dataset)]
        # FANS and its tools name the order of axes in an attribute; without it they store x first
        order = chosen.attrs.get("permute_order", "xyz")
        order = order.decode() if isinstance(order, bytes) else str(order)
        if order not in ("xyz", "zyx"):
            raise ValueError(f"{where}: expected permute_order 'xyz' or 'zyx', got {order!r}. Pass order=…")
        return chosen[...], order, None, {}


def _read_dream3d(
    where: str, arrays: dict[str, Any], groups: dict[str, Any], ids: str
) -> tuple[np.ndarray, str, Any, dict[str, Any]]:
    """Grain ids, spacing, phases and Bunge angles (radians) of a DREAM.3D file, version 6 or NX."""
    container = ids.rsplit("/", 2)[0]

    def sibling(*endings: str) -> Any:
        for ending in endings:
            for name, item in arrays.items():
                if name.startswith(container + "/") and re.fullmatch(ending, name[len(container) + 1 :]):
                    return item[...]
        return None

    spacing = sibling("_SIMPL_GEOMETRY/SPACING")
    if spacing is None and container in groups:
        spacing = groups[container].attrs.get("_SPACING")
    labels = arrays[ids][...]
    labels = labels[..., 0] if labels.ndim == 4 else labels
    tables: dict[str, Any] = {}
    feature = r"(?!CellData|Cell Data)[^/]*[Ff]eature[^/]*/"
    phases, angles = sibling(feature + "Phases"), sibling(feature + "(AvgEulerAngles|EulerAngles)")
    cell_phases, cell_angles = sibling(r"Cell ?Data/Phases"), sibling(r"Cell ?Data/EulerAngles")
    known, first = np.unique(labels, return_index=True)
    if phases is None and cell_phases is not None:
        phases = np.zeros(int(known.max()) + 1, dtype=int)
        phases[known] = cell_phases.reshape(-1)[first]
    if angles is None and cell_angles is not None:
        angles = np.zeros((int(known.max()) + 1, 3))
        angles[known] = cell_angles.reshape(-1, 3)[first]
    if phases is not None:
        tables["grain_phases"] = np.asarray(phases).reshape(-1).astype(int)
    if angles is not None:
        tables["orientations"] = rotation_from_bunge(np.asarray(angles, dtype=float).reshape(-1, 3))
    if 0 in known and (phases is not None or angles is not None):
        raise ValueError(
            f"{where}: expected every voxel in a grain, got {int(np.sum(labels == 0))} voxels of FeatureId 0 (unassigned). "
            "Fill them in DREAM.3D."
        )
    return labels, "zyx", None if spacing is None else np.asarray(spacing, dtype=float), tables


def _read_vtk(where: str, path: Path, dataset: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Legacy VTK, STRUCTURED_POINTS with scalars on cells (or points, taken as voxels): image (nz, ny, nx), spacing."""
    content = path.read_bytes()
    lines = content.split(b"\n", 3)
    binary = len(lines) > 2 and lines[2].strip().upper() == b"BINARY"
    if not content.startswith(b"# vtk DataFile") or b"STRUCTURED_POINTS" not in content[:2000]:
        raise ValueError(f"{where}: expected legacy VTK with DATASET STRUCTURED_POINTS, got another file.")

    def numbers(key: bytes) -> list[float]:
        found = re.search(rb"\n\s*" + key + rb"\s+(\S+)\s+(\S+)\s+(\S+)", content[:4000])
        if found is None:
            raise ValueError(
                f"{where}: expected a line {key.decode()}, got none. Write it as an image (structured points)."
            )
        return [float(part) for part in found.groups()]

    points = np.array(numbers(b"DIMENSIONS"), dtype=int)
    spacing = np.array(numbers(b"SPACING") if b"SPACING" in content[:4000] else numbers(b"ASPECT_RATIO"))
    section = b"POINT_DATA"
    for found in re.finditer(
        rb"\n(CELL_DATA|POINT_DATA)\s+\d+|\nSCALARS\s+(\S+)\s+(\S+)[^\n]*\nLOOKUP_TABLE[^\n]*\n", content
    ):
        if found.group(1):
            section = found.group(1)
            continue
        name, kind = found.group(2).decode(), _VTK_TYPES[found.group(3).decode()]
        if dataset is not None and name != dataset:
            continue
        shape = np.maximum(points - 1, 1) if section == b"CELL_DATA" else points
        count = int(np.prod(shape))
        if binary:
            array = np.frombuffer(content, dtype=">" + kind, count=count, offset=found.end())
        else:
            array = np.array(content[found.end() :].split(None, count)[:count], dtype=float)
        return array.astype(kind).reshape(tuple(shape)[::-1]), spacing
    raise ValueError(f"{where}: expected SCALARS{' ' + dataset if dataset else ''} in the file, got none.")


def _read_vti(where: str, path: Path, dataset: str | None) -> tuple[np.ndarray, np.ndarray]:
    """VTK XML ImageData, ascii, inline or appended, raw or zlib: image (nz, ny, nx) and spacing."""
    content = path.read_bytes()
    appended = b""
    marker = re.search(rb"<AppendedData[^>]*encoding=\"(\w+)\"[^>]*>\s*_", content)
    text = content
    if marker is not None:
        end = content.rfind(b"</AppendedData>")
        appended, text = content[marker.end() : end], content[: marker.start()] + b"</VTKFile>"
    root = ElementTree.fromstring(text)
    image = root.find("ImageData")
    if image is None:
        raise ValueError(f"{where}: expected an ImageData file, got {root.get('type')!r}. Write it as an image.")
    extent = [int(part) for part in image.get("WholeExtent", "").split()]
    cells = np.array([max(extent[2 * a + 1] - extent[2 * a], 1) for a in range(3)])
    spacing = np.array([float(part) for part in image.get("Spacing", "1 1 1").split()])
    pieces = image.findall("Piece")
    if len(pieces) != 1:
        raise ValueError(f"{where}: expected one piece, got {len(pieces)}. Write it serially.")
    for section, shape in (("CellData", cells), ("PointData", cells + 1)):
        for array in pieces[0].iterfind(f"{section}/DataArray"):
            if dataset is not None and array.get("Name") != dataset or array.get("NumberOfComponents", "1") != "1":
                continue
            kind = _VTK_TYPES[array.get("type", "")]
            values = _vti_values(root, array, kind, appended, b"" if marker is None else marker.group(1))
            return values.reshape(tuple(shape)[::-1]), spacing
    raise ValueError(f"{where}: expected a scalar array{' ' + dataset if dataset else ''}, got none.")


def _vti_values(
    root: ElementTree.Element, array: ElementTree.Element, kind: str, appended: bytes, encoding: bytes
) -> np.ndarray:
    if array.get("format") == "ascii":
        return np.array((array.text or "").split(), dtype=float).astype(kind)
    order = "<" if root.get("byte_order", "LittleEndian") == "LittleEndian" else ">"
    header = order + _VTK_TYPES[root.get("header_type", "UInt32")]
    width = np.dtype(header).itemsize
    if array.get("format") == "appended":
        data, coded = appended[int(array.get("offset", "0")) :], encoding == b"base64"
    else:
        data, coded = (array.text or "").strip().encode(), True

    def take(start: int, count: int) -> bytes:
        """Bytes from a stream that starts a new base64 block at `start` where it is coded."""
        return (
            base64.b64decode(data[start : start + 4 * ((count + 2) // 3)])[:count]
            if coded
            else data[start : start + count]
        )

    def coded_length(count: int) -> int:
        return 4 * ((count + 2) // 3) if coded else count

    if root.get("compressor") is None:
        size = int(np.frombuffer(take(0, width), header)[0])
        # header and data share one base64 block
        return np.frombuffer(take(0, width + size)[width:], order + kind)
    if root.get("compressor") != "vtkZLibDataCompressor":
        raise ValueError(
            f"read_image: expected zlib or no compression, got {root.get('compressor')}. Write it uncompressed."
        )
    blocks = int(np.frombuffer(take(0, width), header)[0])
    sizes = np.frombuffer(take(0, (3 + blocks) * width), header)[3:].astype(int)
    packed = take(coded_length((3 + blocks) * width), int(sizes.sum()))
    parts, start = [], 0
    for size in sizes:
        parts.append(zlib.decompress(packed[start : start + size]))
        start += int(size)
    return np.frombuffer(b"".join(parts), order + kind)
