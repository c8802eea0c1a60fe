"""Voxel images from legacy VTK (structured points) and VTI (XML image data), z slowest."""

from __future__ import annotations

import base64
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from .stored_numbers import LARGEST_RATIO, check_stated

_TYPES = {
    "unsigned_char": "u1", "char": "i1", "unsigned_short": "u2", "short": "i2", "unsigned_int": "u4", "int": "i4",
    "unsigned_long": "u8", "long": "i8", "vtkIdType": "i8", "float": "f4", "double": "f8", "Int8": "i1", "UInt8": "u1",
    "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8", "UInt64": "u8", "Float32": "f4",
    "Float64": "f8",
}  # fmt: skip


def _ascii_numbers(words: list[bytes] | list[str], kind: str) -> np.ndarray:
    """Numbers of a text, which the type that the file names can hold."""
    values = np.array([float(word) for word in words])
    if kind[0] == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    if not np.all((values >= limits.min) & (values <= limits.max) & (values == np.round(values))):
        raise ValueError(f"numbers that are no {np.dtype(kind)}")
    return values.astype(kind)


def read_vtk(where: str, path: Path, dataset: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Legacy VTK with scalars on cells (or points, taken as voxels): image (nz, ny, nx), spacing."""
    content = path.read_bytes()
    lines = content.split(b"\n", 3)
    if not content.startswith(b"# vtk DataFile") or b"STRUCTURED_POINTS" not in content[:2000]:
        raise ValueError(
            f"{where}: expected legacy VTK with DATASET STRUCTURED_POINTS, got another file. Write it as an image."
        )
    form = lines[2].strip().upper()
    if form not in (b"BINARY", b"ASCII"):
        raise ValueError("a third line that is neither ASCII nor BINARY")

    def numbers(key: bytes) -> list[str]:
        found = re.search(rb"\n\s*" + key + rb"[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]*\r?\n", content[:4000])
        if found is None:
            raise ValueError(
                f"{where}: expected a line {key.decode()} with three numbers, got none. Write it as an image (structured "
                "points)."
            )
        return [part.decode() for part in found.groups()]

    points = np.array([int(part) for part in numbers(b"DIMENSIONS")], dtype=np.int64)
    if np.any(points < 1):
        raise ValueError(f"DIMENSIONS {points.tolist()}")
    spacing = np.array(
        [float(part) for part in numbers(b"SPACING" if b"SPACING" in content[:4000] else b"ASPECT_RATIO")]
    )
    section, stated = b"POINT_DATA", 0
    for found in re.finditer(
        rb"\n(CELL_DATA|POINT_DATA)[ \t]+(\S+)|\nSCALARS[ \t]+(\S+)[ \t]+(\S+)([^\n]*)\nLOOKUP_TABLE[^\n]*\n", content
    ):
        if found.group(1):
            section, stated = found.group(1), int(found.group(2))
            continue
        name, kind = found.group(3).decode(), _TYPES[found.group(4).decode()]
        if dataset is not None and name != dataset:
            continue
        shape = [max(int(n) - 1, 1) if section == b"CELL_DATA" else int(n) for n in points]
        count, rest = shape[0] * shape[1] * shape[2], len(content) - found.end()
        if found.group(5).strip() not in (b"", b"1"):
            raise ValueError(f"{found.group(5).decode().strip()} components a voxel")
        if stated != count:
            raise ValueError(f"{section.decode()} {stated} and DIMENSIONS for {count}")
        width = np.dtype(kind).itemsize if form == b"BINARY" else 1
        if count * width > rest:
            raise ValueError(f"{count} numbers stated in {rest} bytes")
        if form == b"BINARY":
            array = np.frombuffer(content, dtype=">" + kind, count=count, offset=found.end())
            after = content[found.end() + count * width :].lstrip()
            if after and re.match(rb"[A-Z_]{4,}", after) is None:
                raise ValueError("bytes after the last voxel")
        else:
            words = content[found.end() :].split(None, count)
            if len(words) > count and re.match(rb"[A-Z_]{4,}", words[count]) is None:
                raise ValueError("numbers after the last voxel")
            array = _ascii_numbers(words[:count], kind)
        return array.astype(kind).reshape(shape[::-1]), spacing
    names = [name.decode("ascii", "replace") for name in re.findall(rb"\nSCALARS[ \t]+(\S+)", content)][:8]
    raise ValueError(
        f"{where}: expected SCALARS{' ' + dataset if dataset else ''} in the file, got {', '.join(names) or 'none'}. "
        f"{'Name one of them' if names else 'Write some'}."
    )


def read_vti(where: str, path: Path, dataset: str | None) -> tuple[np.ndarray, np.ndarray]:
    """VTK XML ImageData, ascii, inline or appended, raw or zlib: image (nz, ny, nx) and spacing."""
    content = path.read_bytes()
    appended = b""
    marker = re.search(rb"<AppendedData[^>]*encoding=\"(\w+)\"[^>]*>\s*_", content)
    text = content
    if marker is not None:
        end = content.rfind(b"</AppendedData>")
        if end < marker.end():
            raise ValueError("AppendedData without an end")
        appended, text = content[marker.end() : end], content[: marker.start()] + b"</VTKFile>"
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError("a document type, which images do not have")
    root = ElementTree.fromstring(text)
    image = root.find("ImageData")
    if image is None:
        raise ValueError(f"{where}: expected an ImageData file, got {root.get('type')!r}. Write it as an image.")
    pieces = image.findall("Piece")
    if len(pieces) != 1:
        raise ValueError(f"{where}: expected one piece, got {len(pieces)}. Write it serially.")
    extent = [int(part) for part in image.get("WholeExtent", "").split()]
    spacing = np.array([float(part) for part in image.get("Spacing", "1 1 1").split()])
    if len(extent) != 6 or [int(part) for part in pieces[0].get("Extent", "").split()] != extent or len(spacing) != 3:
        raise ValueError(f"WholeExtent {image.get('WholeExtent')}, Extent {pieces[0].get('Extent')}")
    lengths = [extent[2 * a + 1] - extent[2 * a] for a in range(3)]
    if min(lengths) < 0:
        raise ValueError(f"WholeExtent {extent}")
    for section, shape in (("CellData", [max(n, 1) for n in lengths]), ("PointData", [n + 1 for n in lengths])):
        for array in pieces[0].iterfind(f"{section}/DataArray"):
            if dataset is not None and array.get("Name") != dataset or array.get("NumberOfComponents", "1") != "1":
                continue
            kind = _TYPES[array.get("type", "")]
            values = _vti_values(root, array, kind, appended, b"" if marker is None else marker.group(1))
            check_stated("WholeExtent", shape, values.itemsize, values.nbytes)
            return values.reshape(shape[::-1]), spacing
    raise ValueError(f"{where}: expected a scalar array{' ' + dataset if dataset else ''}, got none. Write one.")


def _vti_values(
    root: ElementTree.Element, array: ElementTree.Element, kind: str, appended: bytes, encoding: bytes
) -> np.ndarray:
    form = array.get("format")
    if form == "ascii":
        return _ascii_numbers((array.text or "").split(), kind)
    if form not in ("appended", "binary") or (form == "appended" and encoding not in (b"raw", b"base64")):
        raise ValueError(f"format {form!r} and encoding {encoding.decode()!r}")
    order = {"LittleEndian": "<", "BigEndian": ">"}[root.get("byte_order", "LittleEndian")]
    header_type = root.get("header_type", "UInt32")
    if header_type not in ("UInt32", "UInt64"):
        raise ValueError(f"header_type {header_type!r}")
    header = order + _TYPES[header_type]
    width = np.dtype(header).itemsize
    if form == "appended":
        offset = int(array.get("offset", "0"))
        if not 0 <= offset < len(appended):
            raise ValueError(f"offset {offset} of {len(appended)} appended bytes")
        data, coded = appended[offset:], encoding == b"base64"
    else:
        data, coded = (array.text or "").strip().encode(), True

    def take(start: int, count: int) -> bytes:
        """Bytes from a stream that starts a new base64 block at `start` where it is coded."""
        part = data[start : start + coded_length(count)]
        found = (base64.b64decode(part, validate=True) if coded else part)[:count]
        if len(found) != count:
            raise ValueError(f"{len(found)} bytes instead of {count}")
        return found

    def coded_length(count: int) -> int:
        return 4 * ((count + 2) // 3) if coded else count

    if root.get("compressor") is None:
        size = int(np.frombuffer(take(0, width), header)[0])
        check_stated("a data array", [size], 1, max(size, 0) if size <= len(data) else len(data))
        # header and data share one base64 block
        return np.frombuffer(take(0, width + size)[width:], order + kind)
    if root.get("compressor") != "vtkZLibDataCompressor":
        raise ValueError(
            f"read_image: expected zlib or no compression, got {root.get('compressor')}. Write it uncompressed."
        )
    blocks = int(np.frombuffer(take(0, width), header)[0])
    if blocks * width > len(data):
        raise ValueError(f"{blocks} blocks stated in {len(data)} bytes")
    head = [int(value) for value in np.frombuffer(take(0, (3 + blocks) * width), header)]
    full, last, sizes = head[1], head[2], head[3:]
    if sum(sizes) > len(data) or full > LARGEST_RATIO * len(data):
        raise ValueError(f"blocks of {sum(sizes)} packed bytes in {len(data)}")
    packed = take(coded_length((3 + blocks) * width), sum(sizes))
    parts, start = [], 0
    for place, size in enumerate(sizes):
        parts.append(zlib.decompress(packed[start : start + size]))
        wanted = last if place == blocks - 1 and last else full
        if len(parts[-1]) != wanted:
            raise ValueError(f"a block of {len(parts[-1])} bytes instead of {wanted}")
        start += size
    return np.frombuffer(b"".join(parts), order + kind)
