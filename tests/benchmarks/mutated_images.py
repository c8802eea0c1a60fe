"""Voxel images and tables of orientations for `mutations.py`: how intact ones are made and read, and what is done to them."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np
from damage import Kind, Mutated, damaged, mistyped, once, other_array

from crystals.microstructure import Microstructure
from crystals.rotations import random_rotations, rotation_from_bunge, rotation_from_quaternion
from crystals.voxel_files import read_image

h5py: Any = _h5py

#: Labels of the intact images, x first.
LABELS = np.random.default_rng(0).integers(0, 3, (7, 6, 5)).astype(np.uint8)


_RAW = LABELS.transpose(2, 1, 0).astype(">u2").tobytes()


def _read_voxels(path: Path) -> dict[str, Any]:
    options: dict[str, Any] = {"shape": LABELS.shape, "dtype": ">u2"} if path.suffix == ".raw" else {}
    image = read_image(path, **options)
    found = {"labels": image.labels.astype(np.int64), "spacing": image.spacing}
    if image.orientations is not None:
        found["orientations"] = image.orientations
    if image.grain_phases is not None:
        found["grain_phases"] = image.grain_phases
    return found


def _npy_files(folder: Path) -> list[Path]:
    grey = LABELS.astype(np.float64)
    return [
        once(folder / "byte.npy", lambda p: np.save(p, LABELS)),
        once(folder / "long.npy", lambda p: np.save(p, np.asfortranarray(LABELS.astype(">i8")))),
        once(folder / "float.npy", lambda p: np.save(p, grey)),
        once(folder / "plain.npz", lambda p: np.savez(p, image=LABELS, other=np.zeros(3))),
        once(folder / "packed.npz", lambda p: np.savez_compressed(p, image=LABELS.astype(np.int32))),
    ]


def _tiff_files(folder: Path) -> list[Path]:
    import tifffile

    pages = LABELS.transpose(2, 1, 0)
    return [
        once(folder / "plain.tif", lambda p: tifffile.imwrite(p, pages, photometric="minisblack")),
        once(folder / "packed.tif", lambda p: tifffile.imwrite(p, pages, compression="zlib", photometric="minisblack")),
        once(folder / "short.tif", lambda p: tifffile.imwrite(p, pages.astype(np.uint16), metadata=None, photometric="minisblack")),
        once(folder / "big.tif", lambda p: tifffile.imwrite(p, pages, bigtiff=True, tile=(16, 16), photometric="minisblack")),
        once(folder / "imagej.tif", lambda p: tifffile.imwrite(p, pages, imagej=True)),
    ]  # fmt: skip


def _vtk(path: Path, binary: bool) -> None:
    head = (
        f"# vtk DataFile Version 3.0\nimage\n{'BINARY' if binary else 'ASCII'}\nDATASET STRUCTURED_POINTS\n"
        "DIMENSIONS 8 7 6\nSPACING 1 1 2.5\nORIGIN 0 0 0\nCELL_DATA 210\nSCALARS phase short 1\nLOOKUP_TABLE default\n"
    )
    flat = LABELS.transpose(2, 1, 0).reshape(-1)
    data = flat.astype(">i2").tobytes() if binary else " ".join(map(str, flat)).encode()
    path.write_bytes(head.encode() + data + b"\n")


def _vti(path: Path, how: str) -> None:
    flat = LABELS.transpose(2, 1, 0).astype("<u2").tobytes()
    compressor = ' compressor="vtkZLibDataCompressor"' if how == "zlib" else ""
    place = 'format="appended" offset="0"' if how == "raw" else f'format="{"ascii" if how == "ascii" else "binary"}"'
    if how == "ascii":
        body = " ".join(map(str, LABELS.transpose(2, 1, 0).reshape(-1))).encode()
    elif how == "base64":
        body = base64.b64encode(struct.pack("<I", len(flat)) + flat)
    elif how == "zlib":
        packed = [zlib.compress(flat[:200]), zlib.compress(flat[200:])]
        head = struct.pack("<5I", 2, 200, len(flat) - 200, len(packed[0]), len(packed[1]))
        body = base64.b64encode(head) + base64.b64encode(b"".join(packed))
    else:
        body = b""
    text = (
        f'<?xml version="1.0"?>\n<VTKFile type="ImageData" version="0.1" byte_order="LittleEndian"{compressor}>\n'
        '<ImageData WholeExtent="0 7 0 6 0 5" Origin="0 0 0" Spacing="1 1 2.5">\n<Piece Extent="0 7 0 6 0 5">\n<CellData>\n'
        f'<DataArray type="UInt16" Name="phase" NumberOfComponents="1" {place}>'
    ).encode()
    text += body + b"</DataArray>\n</CellData>\n</Piece>\n</ImageData>\n"
    if how == "raw":
        text += b'<AppendedData encoding="raw">\n_' + struct.pack("<I", len(flat)) + flat + b"\n</AppendedData>\n"
    path.write_bytes(text + b"</VTKFile>\n")


def _vtk_files(folder: Path) -> list[Path]:
    return [once(folder / f"{binary}.vtk", lambda p, b=binary: _vtk(p, b)) for binary in (True, False)]


def _vti_files(folder: Path) -> list[Path]:
    return [once(folder / f"{how}.vti", lambda p, h=how: _vti(p, h)) for how in ("ascii", "base64", "zlib", "raw")]


def _raw_files(folder: Path) -> list[Path]:
    return [once(folder / "image.raw", lambda p: p.write_bytes(_RAW))]


def _voxel_hdf5(path: Path, how: str) -> None:
    with h5py.File(path, "w") as file:
        if how == "plain":
            file["group/image"] = LABELS
        else:
            file.create_dataset("image", data=LABELS.astype(np.int32), chunks=(4, 4, 4), compression="gzip")


def _hdf5_files(folder: Path) -> list[Path]:
    return [once(folder / f"{how}.h5", lambda p, h=how: _voxel_hdf5(p, h)) for how in ("plain", "packed")]


def _dream3d(path: Path, version: str) -> None:
    ids = (LABELS.astype(np.int32) + 1).transpose(2, 1, 0)[..., None]
    with h5py.File(path, "w") as file:
        if version == "6":
            root, cells, features = "DataContainers/Volume", "CellData", "CellFeatureData"
            file[f"{root}/_SIMPL_GEOMETRY/SPACING"] = np.array([1.0, 1.0, 2.5], dtype="f4")
        else:
            root, cells, features = "DataStructure/Image Geometry", "Cell Data", "Cell Feature Data"
            file.create_group(root).attrs["_SPACING"] = np.array([1.0, 1.0, 2.5])
        file[f"{root}/{cells}/FeatureIds"] = ids
        file[f"{root}/{features}/Phases"] = np.array([0, 1, 1, 2], dtype=np.int32)[:, None]
        file[f"{root}/{features}/EulerAngles"] = np.random.default_rng(1).random((4, 3))


def _dream3d_files(folder: Path) -> list[Path]:
    return [once(folder / f"v{version}.dream3d", lambda p, v=version: _dream3d(p, v)) for version in ("6", "NX")]


def _mutate_text_image(path: Path, rng: np.random.Generator) -> Mutated:
    content = path.read_bytes()
    return damaged(content, rng) if rng.random() < 0.6 else mistyped(content, rng, first=int(rng.choice([0, 12])))


def _mutate_npy(path: Path, rng: np.random.Generator) -> Mutated:
    """Damage, or a header that states another shape, type or order; in npz with the archive made anew."""
    if rng.random() < 0.5:
        return damaged(path.read_bytes(), rng)
    stored = np.load(path)
    array = stored["image"] if path.suffix == ".npz" else stored
    shape, kind = list(array.shape), array.dtype.str
    what = str(rng.choice(["shape", "type", "header", "order"]))
    if what == "shape":
        shape[int(rng.integers(3))] = int(rng.choice([-1, 0, 3, 10**6, 10**12, 2**62, 2**64]))
        if rng.random() < 0.3:
            shape = [int(array.size)] if rng.random() < 0.5 else [*shape, 1, 1]
    elif what == "type":
        kind = str(rng.choice(["|O", "<f2", "<c16", "|S3", "|V8", "<u8", ">i2", "<M8[s]", "|b1", "<U1000000", "<i1"]))
    fortran = what == "order" or not array.flags.c_contiguous
    text = f"{{'descr': {kind!r}, 'fortran_order': {fortran}, 'shape': ({', '.join(map(str, shape))},), }}"
    if what == "header":
        texts = ["(" * 3000, "{'descr': '<f8'}", "__import__('os').system('true')", "'" * 99, text[:-20], "9" * 9000,
                 "{" + "1:1," * 3000 + "}"]  # fmt: skip
        text = texts[int(rng.integers(len(texts)))]
    raw = text.encode() + b"\n"
    made = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + array.tobytes("A")
    if path.suffix == ".npz":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("image.npy", made)
        made = stream.getvalue()
    return f"header {what}", made


def _mutate_tiff(path: Path, rng: np.random.Generator) -> Mutated:
    """Damage, or one entry of an image file directory overwritten."""
    content = path.read_bytes()
    if rng.random() < 0.5:
        return damaged(content, rng)
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[int(rng.integers(len(file.pages)))]
        tags = list(page.tags.values())
        tag = tags[int(rng.integers(len(tags)))]
        place = tag.offset + int(rng.choice([0, 2, 4, 8, 8, 8]))
    value = int(rng.choice([0, 1, 2, 3, 255, 32946, 65535, 2**31 - 1, 2**32 - 1]))
    return f"tag {tag.name}", content[:place] + struct.pack("<I", value) + content[place + 4 :]


def _mutate_plain(path: Path, rng: np.random.Generator) -> Mutated:
    return damaged(path.read_bytes(), rng)


def _mutate_hdf5(path: Path, rng: np.random.Generator) -> Mutated:
    """Damage, or a member that is something else: another type, shape, link, or declared and never written."""
    content = path.read_bytes()
    if rng.random() < 0.5:
        return damaged(content, rng)
    target = path.with_name(f"made{path.suffix}")
    target.write_bytes(content)
    with h5py.File(target, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = names[int(rng.integers(len(names)))]
        values = file[name][()]
        del file[name]
        what = str(rng.choice(["nan", "huge", "other", "type", "shape", "rows", "empty", "absent", "declared", "group", "external",
                               "soft loop", "vlen", "null", "copy"]))  # fmt: skip
        if what == "declared":
            file.create_dataset(
                name, (10**5, 10**5, 10) if rng.random() < 0.5 else values.shape, values.dtype, chunks=True
            )
        elif what == "group":
            file.create_group(name)
        elif what == "external":
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif what == "soft loop":
            file[name] = h5py.SoftLink(f"/{name}")
        elif what == "vlen":
            file.create_dataset(name, values.shape, h5py.vlen_dtype(np.int32))
        elif what == "null":
            file[name] = h5py.Empty("i4")
        elif what == "copy":
            file[name] = values
            file["second/FeatureIds"] = np.zeros((2, 2, 2), dtype=np.int32)
        elif what == "type":
            kind = str(rng.choice(["S3", "f8", "i1", "u8", "c16", "bool"]))
            file[name] = values.astype(kind)
        elif what in ("nan", "huge", "other"):
            changed = values.astype(float)
            changed.reshape(-1)[int(rng.integers(changed.size))] = {"nan": np.nan, "huge": 1e15}.get(what, -3.0)
            file[name] = changed
        elif what == "shape":
            file[name] = values.reshape(-1)
        elif what == "rows":
            file[name] = values[:-1]
        elif what == "empty":
            file[name] = values[:0]
    return f"member {what}", target.read_bytes()


def _legal_voxels(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    """Labels have no checksum. A changed byte is another voxel; a header may say another shape, spacing or type."""
    if label in ("cut", "other"):
        # raw bytes of the right number are an image, whatever they are
        return "raw bytes of the right number" if source == _RAW and len(content) == len(source) else ""
    tables = [key for key in good if key not in ("labels", "spacing")]
    if not all(np.all(np.isfinite(value)) for value in found.values()):
        return ""
    if label.startswith(("member", "header")):
        if np.array_equal(found["labels"], good["labels"]) and np.array_equal(found["spacing"], good["spacing"]):
            return "the same image, its tables written otherwise or absent"
        if label.split()[1] in ("type", "other", "order", "copy", "rows", "absent", "huge", "shape"):
            return f"an image that was written so ({label})"
        return ""
    if found["labels"].shape == good["labels"].shape:
        voxels = int(np.sum(found["labels"] != good["labels"]))
        touched = sum(a != b for a, b in zip(content, source, strict=False)) + abs(len(content) - len(source))
        others = not np.array_equal(found["spacing"], good["spacing"]) or any(
            key not in found or not np.array_equal(found[key], good[key]) for key in tables
        )
        if voxels <= touched:
            return f"other {'spacing, tables or ' if others else ''}voxels, no more than changed bytes"
        return f"the header says another type, order or place ({label.split()[0]})"
    if found["labels"].size <= 2000 * len(content) and label not in ("huge",):
        return f"the header says another shape, and the file has the bytes for it ({label.split()[0]})"
    return ""


# --- orientation tables ----------------------------------------------------------------------------------------------


def _orientation_files(folder: Path) -> list[Path]:
    quaternions = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.6, 0.0, 0.8, 0.0]])
    tables = {
        "matrix": random_rotations(3, np.random.default_rng(2)), "bunge": np.random.default_rng(3).random((3, 3)),
        "quaternion": quaternions,
    }  # fmt: skip
    return [once(folder / f"table.{name}.npy", lambda p, t=table: np.save(p, t)) for name, table in tables.items()]


def _read_orientations(path: Path) -> dict[str, Any]:
    """A user's own table of matrices, Bunge angles or quaternions, given to an image."""
    table = np.load(path)
    how = path.suffixes[0]
    turns = table if how == ".matrix" else (rotation_from_bunge if how == ".bunge" else rotation_from_quaternion)(table)
    found = Microstructure(LABELS, orientations=turns).orientations
    assert found is not None
    return {"orientations": found}


def _mutate_orientations(path: Path, rng: np.random.Generator) -> Mutated:
    what, table = other_array(np.load(path), rng)
    stream = io.BytesIO()
    np.save(stream, np.zeros(0) if table is None else table)
    return what, stream.getvalue()


def _legal_orientations(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    turns = found["orientations"]
    defect = np.abs(np.swapaxes(turns, 1, 2) @ turns - np.eye(3)).max()
    return "other proper rotations, one or more for each label" if defect < 1e-8 and len(turns) >= 3 else ""


KINDS = (
    Kind("npy", _npy_files, _read_voxels, _mutate_npy, _legal_voxels),
    Kind("tiff", _tiff_files, _read_voxels, _mutate_tiff, _legal_voxels),
    Kind("vtk", _vtk_files, _read_voxels, _mutate_text_image, _legal_voxels),
    Kind("vti", _vti_files, _read_voxels, _mutate_text_image, _legal_voxels),
    Kind("raw", _raw_files, _read_voxels, _mutate_plain, _legal_voxels),
    Kind("hdf5", _hdf5_files, _read_voxels, _mutate_hdf5, _legal_voxels),
    Kind("orientations", _orientation_files, _read_orientations, _mutate_orientations, _legal_orientations),
    Kind("dream3d", _dream3d_files, _read_voxels, _mutate_hdf5, _legal_voxels),
)
