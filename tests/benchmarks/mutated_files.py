"""The kinds of files that `mutations.py` damages: how an intact one is made, how it is read, and what is done to it."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as write_with_ase
from safetensors import safe_open
from safetensors.torch import save

from constitutive import (
    InternalVariableLaw,
    LogarithmicStrainLaw,
    NeoHookeanLaw,
    ParametricLaw,
    PiezoelectricLaw,
    PolyconvexLaw,
    PolynomialLaw,
    SymmetricLaw,
    VonMisesLaw,
    load,
)
from constitutive.laws.domain import Domain
from constitutive.storage import _digest
from crystals import PointGroup, StrainData, mandel
from crystals.dataset import read_tables
from crystals.microstructure import Microstructure
from crystals.record import write_record
from crystals.rotations import random_rotations, rotation_from_bunge, rotation_from_quaternion
from crystals.structures import structure_to_dict
from crystals.voxel_files import read_image

h5py: Any = _h5py
STIFFNESS = np.diag([110.0, 110.0, 110.0, 90.0, 90.0, 90.0]) + 60.0 * np.pad(np.ones((3, 3)), (0, 3))
Mutated = tuple[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    `originals` writes the intact files, `read` gives what a user gets as named arrays, `mutate` damages one, and `legal`
    says why content that differs is nevertheless what the file now holds; '' where it is wrong.
    """

    name: str
    originals: Callable[[Path], list[Path]]
    read: Callable[[Path], dict[str, Any]]
    mutate: Callable[[Path, np.random.Generator], Mutated]
    legal: Callable[[str, bytes, bytes, Any, Any], str]


# --- damage to bytes -------------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: np.random.Generator) -> Mutated:
    """One of the accidents that befall files: cut, flipped, overwritten, shifted, or replaced by another file."""
    changed = bytearray(content)
    n = len(content)
    place, width = int(rng.integers(n)), int(2 ** rng.uniform(0, 9))
    # headers stand at the start and at the end, and are short
    if rng.random() < 0.4:
        place = int(rng.integers(min(n, 400)))
    elif rng.random() < 0.2:
        place = n - 1 - int(rng.integers(min(n, 200)))
    what = str(
        rng.choice(["cut", "flip", "flip", "flips", "zeros", "huge", "insert", "remove", "double", "swap", "other"])
    )
    if what == "cut":
        return what, bytes(changed[: int(rng.integers(n))])
    if what in ("flip", "flips"):
        for _ in range(1 if what == "flip" else 8):
            changed[place] ^= 1 << int(rng.integers(8))
            place = int(rng.integers(n))
    elif what == "zeros":
        changed[place : place + width] = bytes(len(changed[place : place + width]))
    elif what == "huge":
        size = int(rng.choice([2, 4, 8]))
        value = int(rng.choice([2**8 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1]))
        number = (value % 2 ** (8 * size)).to_bytes(size, ("little", "big")[int(rng.integers(2))])
        changed[place : place + size] = number[: len(changed[place : place + size])]
    elif what == "insert":
        changed[place:place] = rng.bytes(width)
    elif what == "remove":
        del changed[place : place + width]
    elif what == "double":
        changed[place:place] = changed[place : place + width]
    elif what == "swap":
        second = int(rng.integers(n))
        a, b = bytes(changed[place : place + width]), bytes(changed[second : second + width])
        if len(a) == len(b) and abs(place - second) >= width:
            changed[place : place + width], changed[second : second + width] = b, a
    else:
        foreign = [b"", rng.bytes(n), b"\x80\x04cos\nsystem\n", b"PK\x03\x04" + rng.bytes(n), b"\x89HDF\r\n\x1a\n" + rng.bytes(n),
                   b"\x93NUMPY\x01\x00" + rng.bytes(n), b"II*\x00" + rng.bytes(n), b"<?xml version='1.0'?>" * 40,
                   b"# vtk DataFile Version 3.0\n" * 20, bytes(n), b"\xff" * n, content[::-1]]  # fmt: skip
        return what, foreign[int(rng.integers(len(foreign)))]
    return what, bytes(changed)


#: What stands where a number should.
_HOSTILE = ("nan", "inf", "-inf", "1e999", "1e300", "-1", "0", "99999999999", "9223372036854775808", "1e-300", "abc", "",
            "0x10", "1_000", "1,2", "\u0661", "None", "[]", "{}", "1j", "-0.0", "00012", "1e5", "65536", "4294967296")  # fmt: skip
_NUMBER = re.compile(rb"(?<![\w.])[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?(?![\w.])")


def mistyped(content: bytes, rng: np.random.Generator, first: int = 0) -> Mutated:
    """A text in which one number, one of the first `first` where that is given, is replaced."""
    numbers = list(_NUMBER.finditer(content))
    found = numbers[int(rng.integers(min(len(numbers), first) if first else len(numbers)))]
    word = _HOSTILE[int(rng.integers(len(_HOSTILE)))]
    return f"number {word!r}", content[: found.start()] + word.encode() + content[found.end() :]


# --- laws ------------------------------------------------------------------------------------------------------------


def _laws() -> list[Any]:
    cubic = PointGroup("m-3m")
    fitted = SymmetricLaw(cubic, 3, (6, 6), stiffness=STIFFNESS, energy_scale=100.0, max_strain=0.08, seed=1)
    strains = np.random.default_rng(0).normal(size=(60, 6))
    strains *= 0.08 / np.linalg.norm(strains, axis=1).max()
    fitted.domain = Domain.from_strains(cubic, strains)
    fitted.metadata = {"kind": "relaxed-ion", "fit": {"training_states": 60, "held_out_stress_error": 0.01}}
    trigonal = PolynomialLaw(PointGroup("-3m"), 3, 100.0 * np.eye(6), np.linspace(-9, 9, 14), max_strain=0.1)
    thermal = ParametricLaw.thermoelastic(cubic, STIFFNESS, 1e-5, reference=300.0, input_range=(200.0, 400.0))
    plastic = VonMisesLaw(70.0, 0.3, 0.1, kinematic=2.0, isotropic=1.0)
    return [
        fitted, trigonal, NeoHookeanLaw(40.0, 60.0), PolyconvexLaw("4/mmm", (4, 4), energy_scale=100.0, strain_scale=0.2),
        PiezoelectricLaw(PolynomialLaw(PointGroup("32"), 2, 100.0 * np.eye(6)), piezoelectric=np.zeros((3, 6)),
                         permittivity=np.eye(3)),
        plastic, InternalVariableLaw("m-3m", STIFFNESS, 0.1, kinematic=2.0), LogarithmicStrainLaw(plastic), thermal,
    ]  # fmt: skip


def _law_files(folder: Path) -> list[Path]:
    laws = _laws()
    paths = [folder / f"{type(law).__name__}.law" for law in laws]
    for law, path in zip(laws, paths, strict=True):
        if not path.exists():
            law.save(path)
    return paths


def _read_law(path: Path) -> dict[str, Any]:
    law = load(path)
    repr(law)
    strain = np.random.default_rng(5).normal(size=(6, 6)) * 0.01
    inputs = law.input_range.mean(axis=1) if law.input_names else None
    answer = law.response(strain, inputs=inputs, dt=1.0)
    about = [type(law).__name__, law.config(), law.metadata]
    return {"law": json.dumps(about, sort_keys=True), "energy": answer.energy, "stress": answer.stress,
            "tangent": answer.tangent, "status": answer.status}  # fmt: skip


def _other_value(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value of another type or of absurd size."""
    choices = [None, True, -1, 0, 10**9, 10**30, 1.5, float("nan"), float("inf"), "", "x" * 3000, "m-3m", [], [[]], {}, {"a": 1},
               [10**9, 10**9], [value], {"law": value}, [1.0, 2.0, 3.0], "$(touch /tmp/owned)", [value] * 3]  # fmt: skip
    return choices[int(rng.integers(len(choices)))]


def _mutate_json(value: Any, rng: np.random.Generator) -> Any:
    """A copy in which one entry, at any depth, is another value, is absent or stands under another name."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[int(rng.integers(len(value)))]
        changed = dict(value)
        if rng.random() < 0.15:
            del changed[key]
        elif rng.random() < 0.1:
            changed[key + "x"] = changed.pop(key)
        else:
            changed[key] = _mutate_json(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = int(rng.integers(len(value)))
        return [*value[:place], _mutate_json(value[place], rng), *value[place + 1 :]]
    return _other_value(value, rng)


def _mutate_tensor(tensor: torch.Tensor, rng: np.random.Generator) -> tuple[str, torch.Tensor | None]:
    what = str(rng.choice(["nan", "inf", "shape", "axis", "rows", "type", "number", "absent", "empty", "large"]))
    flat = tensor.clone().reshape(-1)
    if what in ("nan", "inf", "number", "large") and tensor.is_floating_point() and len(flat):
        place = int(rng.integers(len(flat)))
        flat[place] = {"nan": float("nan"), "inf": float("inf"), "large": 1e200}.get(
            what, float(flat[place]) * 1.5 + 0.1
        )
        return what, flat.reshape(tensor.shape)
    if what == "shape":
        return what, flat
    if what == "axis":
        return what, tensor[None]
    if what == "rows":
        return what, torch.cat([tensor, tensor]) if tensor.ndim else flat
    if what == "empty":
        return what, tensor.new_zeros((0, 6))
    if what == "absent":
        return what, None
    kinds = [torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool, torch.bfloat16]
    return "type", tensor.nan_to_num().to(kinds[int(rng.integers(len(kinds)))])


def _mutate_law(path: Path, rng: np.random.Generator) -> Mutated:
    content = path.read_bytes()
    if rng.random() < 0.45:
        return damaged(content, rng)
    if rng.random() < 0.2:
        return _mutate_header(content, rng)
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        description = json.loads(file.metadata()["constitutive"])
    rehash = rng.random() < 0.8
    if rng.random() < 0.1:
        extra = (
            {"note": "x"}
            if rng.random() < 0.5
            else {"constitutive": str(rng.choice(["", "[]", "null", "{", "1", "[" * 3000]))}
        )
        return "foreign safetensors", save(tensors, metadata=extra)
    if rng.random() < 0.5:
        what, description = "json", _mutate_json(description, rng)
    else:
        names = list(tensors)
        name = names[int(rng.integers(len(names)))]
        what, tensor = _mutate_tensor(tensors.pop(name), rng)
        what = f"tensor {what}"
        if tensor is not None:
            tensors[name if rng.random() < 0.95 else "law.unknown"] = tensor.contiguous()
    if rehash and isinstance(description, dict) and all(t.dtype != torch.bfloat16 for t in tensors.values()):
        description = {key: value for key, value in description.items() if key != "sha256"}
        description["sha256"] = _digest(description, tensors)
        what += ", hash made anew"
    text = json.dumps(description, sort_keys=True)
    return what, save(tensors, metadata={"constitutive": text})


def _mutate_header(content: bytes, rng: np.random.Generator) -> Mutated:
    """The JSON header of safetensors changed: sizes, types and places of tensors, or its own length."""
    length = int.from_bytes(content[:8], "little")
    if rng.random() < 0.2:
        wrong = int(rng.choice([0, 1, 7, length - 1, length + 1, 10**6, 10**9, 2**40, 2**63 - 1]))
        return "header length", wrong.to_bytes(8, "little") + content[8:]
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[names[int(rng.integers(len(names)))]]
    what = str(rng.choice(["shape", "dtype", "data_offsets", "any"]))
    if what == "shape":
        entry["shape"] = [int(v) for v in rng.choice([0, 1, 6, 36, 10**6, 10**12, 2**63 - 1], int(rng.integers(0, 4)))]
    elif what == "dtype":
        entry["dtype"] = str(rng.choice(["F64", "F32", "I64", "U8", "BOOL", "BF16", "F8_E4M3", "X", "F128"]))
    elif what == "data_offsets":
        entry["data_offsets"] = [int(v) for v in rng.choice([0, 8, 48, 10**4, 10**12, 2**63 - 1], 2)]
    else:
        header = _mutate_json(header, rng)
    text = json.dumps(header).encode()
    return f"header {what}", len(text).to_bytes(8, "little") + text + content[8 + length :]


def _legal_law(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    """A law file whose author made the hash anew says what its author wants. Its stresses are those of its self-test."""
    if "hash made anew" not in label or not np.all(np.isfinite(found["stress"])):
        return ""
    close = all(
        np.asarray(found[key]).shape == np.asarray(good[key]).shape
        and np.allclose(found[key], good[key], rtol=1e-9, atol=1e-11 * max(1.0, np.abs(good[key]).max()))
        for key in ("energy", "stress", "tangent")
    )
    return "the same stresses, another description, and the hash made anew for it" if close else ""


# --- data sets -------------------------------------------------------------------------------------------------------


def strain_data() -> StrainData:
    """States of a cubic crystal by a polynomial law."""
    atoms = bulk("Cu", cubic=True, a=3.6)
    strain = np.random.default_rng(0).normal(size=(12, 6)) * 0.015
    gradient = mandel.right_stretch(strain)
    answer = PolynomialLaw(PointGroup("m-3m"), 2, STIFFNESS).response(strain)
    return StrainData(
        strain=strain, stress=answer.stress, energy=answer.energy, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(answer.stress, gradient), group=PointGroup("m-3m"), kind="relaxed-ion",
        cell=atoms.cell.array @ np.swapaxes(gradient, 1, 2), cell_ref=atoms.cell.array, max_force=np.zeros(12),
        structure=structure_to_dict(atoms), provenance={"source": "mutations"},
    )  # fmt: skip


def _data_files(folder: Path) -> list[Path]:
    path = folder / "data.h5"
    if not path.exists():
        strain_data().write(path)
    return [path]


_ARRAYS = ("strain", "stress", "energy", "deformation_gradient", "cauchy", "cell", "cell_ref", "max_force")


def _read_data(path: Path) -> dict[str, Any]:
    return _content(StrainData.read(path))


def _content(data: StrainData) -> dict[str, Any]:
    found = {name: value for name in _ARRAYS if (value := getattr(data, name)) is not None}
    about = [data.units, data.kind, data.names, data.structure, data.provenance, data.input_names]
    group = None if data.group is None else [data.group.symbol, data.group.frame.round(9).tolist()]
    return {**found, "about": json.dumps([*about, group], sort_keys=True, default=str)}


def _mutate_data(path: Path, rng: np.random.Generator) -> Mutated:
    if rng.random() < 0.45:
        return damaged(path.read_bytes(), rng)
    with h5py.File(path, "r") as file:
        attributes = dict(file.attrs.items())
        members = {name: item[()] for name, item in file.items()}
    texts = {name: members.pop(name).tobytes().decode() for name in ("structure", "provenance", "names")}
    names = list(members)
    name = names[int(rng.integers(len(names)))]
    what = str(rng.choice(["array", "array", "text", "attribute", "member"]))
    if what == "array":
        how, changed = _mutate_array(members[name], rng)
        members[name] = changed
        what = f"array {how}"
        if changed is None:
            del members[name]
    elif what == "text":
        which = str(rng.choice(list(texts)))
        texts[which] = json.dumps(_mutate_json(json.loads(texts[which]), rng)) if rng.random() < 0.8 else "[" * 2000
    elif what == "attribute":
        which = str(rng.choice(list(attributes)))
        values = [
            None,
            7,
            2**62,
            1.5,
            np.zeros(3),
            "psi",
            "",
            b"\xff\xfe",
            "m-4m",
            "null",
            "[1",
            np.nan,
            "[[1,0],[0,1]]",
        ]
        value = values[int(rng.integers(len(values)))]
        attributes.pop(which) if value is None else attributes.update({which: value})
    target = path.with_name("made.h5")
    kept = {key: value for key, value in members.items() if value is not None}
    if what == "member":
        what = _mutate_member(target, attributes, texts, kept, name, rng)
    else:
        write_record(target, attributes, texts, kept)
    return what, target.read_bytes()


def _mutate_array(array: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray | None]:
    what = str(rng.choice(["nan", "inf", "huge", "other", "type", "text", "shape", "rows", "axis", "empty", "absent"]))
    changed = np.array(array, dtype=float)
    if what in ("nan", "inf", "huge", "other"):
        place = int(rng.integers(changed.size))
        changed.reshape(-1)[place] = {"nan": np.nan, "inf": -np.inf, "huge": 1e300}.get(
            what, changed.reshape(-1)[place] + 0.3
        )
        return what, changed
    if what == "type":
        kind = str(rng.choice(["f4", "f2", "i1", "u8", "c16", "bool", ">f8", "i8"]))
        with np.errstate(invalid="ignore"):
            return f"type {kind}", changed.astype(kind)
    if what == "text":
        return what, np.full(changed.shape, b"1.0")
    if what == "shape":
        return what, changed.reshape(-1)
    if what == "rows":
        return what, changed[:-1] if rng.random() < 0.5 else np.concatenate([changed, changed])
    if what == "axis":
        return what, changed[None]
    return what, None if what == "absent" else changed[:0]


def _mutate_member(target: Path, attributes: Any, texts: Any, members: Any, name: str, rng: np.random.Generator) -> str:
    """Plain HDF5 without a checksum, in which one member is something else altogether."""
    what = str(
        rng.choice(["group", "declared", "soft loop", "external", "vlen", "compound", "null", "virtual", "none"])
    )
    target.unlink(missing_ok=True)
    with h5py.File(target, "w") as file:
        for key, value in attributes.items():
            file.attrs[key] = value
        for key, value in {**members, **{k: np.frombuffer(v.encode(), np.uint8) for k, v in texts.items()}}.items():
            if key != name or what == "none":
                file[key] = value
        shape = np.shape(members[name])
        if what == "group":
            file.create_group(name)
        elif what == "declared":
            huge = (10**9, *shape[1:]) if rng.random() < 0.5 else shape
            file.create_dataset(name, huge, "f8", chunks=True)  # nothing is ever written
        elif what == "soft loop":
            file[name] = h5py.SoftLink(f"/{name}")
        elif what == "external":
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif what == "vlen":
            file.create_dataset(name, shape, h5py.vlen_dtype(np.float64))
        elif what == "compound":
            file.create_dataset(name, shape, np.dtype([("a", "f8"), ("b", "f8")]))
        elif what == "null":
            file[name] = h5py.Empty("f8")
        elif what == "virtual":
            layout = h5py.VirtualLayout(shape=shape, dtype="f8")
            layout[...] = h5py.VirtualSource("none.h5", "x", shape=shape)
            file.create_virtual_dataset(name, layout, fillvalue=0.0)
    return f"member {what}"


def _legal_data(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    for name in ("strain", "stress", "deformation_gradient", "cauchy"):
        if found[name].shape != good[name].shape or not np.allclose(found[name], good[name], rtol=1e-6, atol=1e-7):
            return ""
    absent = [name for name in good if name not in found]
    if absent:
        return "an optional array is absent, and none is given" if label.split()[0] in ("array", "member") else ""
    if label.split()[0] in ("text", "attribute"):
        return "text or attribute written so, under a right checksum"
    changed = [name for name in found if name in _ARRAYS and not np.array_equal(found[name], good[name])]
    return f"another {changed[0]}, written so under a right checksum" if label.startswith("array") and changed else ""


# --- extended XYZ, tables --------------------------------------------------------------------------------------------


def _xyz_files(folder: Path) -> list[Path]:
    path = folder / "data.extxyz"
    if not path.exists():
        data = strain_data()
        assert data.cell is not None and data.energy is not None
        reference, frames = bulk("Cu", cubic=True, a=3.6), []
        for cell, energy, stress in zip(data.cell, data.energy, data.cauchy, strict=True):
            atoms: Any = reference.copy()
            atoms.set_cell(cell, scale_atoms=True)
            voigt = mandel.from_mandel(stress)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / 160.2176634
            atoms.calc = SinglePointCalculator(atoms, energy=float(energy), stress=voigt, forces=np.zeros((4, 3)))
            frames.append(atoms)
        write_with_ase(path, frames, format="extxyz")
    return [path]


_REFERENCE: Atoms = bulk("Cu", cubic=True, a=3.6)


def _read_xyz(path: Path) -> dict[str, Any]:
    found = _content(StrainData.read(path, reference=_REFERENCE))
    return {**found, "about": found["about"].replace(path.name, "data.extxyz")}


def _mutate_xyz(path: Path, rng: np.random.Generator) -> Mutated:
    content = path.read_bytes()
    if rng.random() < 0.4:
        return damaged(content, rng)
    if rng.random() < 0.3:
        words = [
            "Lattice",
            "Properties",
            "species",
            "pos",
            "energy",
            "stress",
            "pbc",
            '"',
            "=",
            ":R:3",
            ":S:1",
            "Cu",
            "\n",
            "T",
        ]
        old = str(rng.choice(words)).encode()
        places = [found.start() for found in re.finditer(re.escape(old), content)] or [0]
        place = places[int(rng.integers(len(places)))]
        new = str(
            rng.choice([*words, "", ":R:99999999", ":R:-1", "Xx", "Zr", "_JSON", "move_mask", "\x00", "'"])
        ).encode()
        return "word", content[:place] + new + content[place + len(old) :]
    return mistyped(content, rng, first=int(rng.choice([0, 1, 20])))


def _legal_xyz(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    """Extended XYZ has no checksum: a changed digit is data, and so is a file that ends with a whole frame."""
    if not all(np.all(np.isfinite(found[name])) for name in _ARRAYS if name in found):
        return ""
    if len(found["strain"]) == len(good["strain"]):
        return "" if label in ("cut", "other") else "another number or name in the text, with no checksum to tell"
    lines = content.decode(errors="replace").splitlines()
    whole = len(lines) == 6 * len(found["strain"]) and content.endswith(b"\n")
    return "whole frames were cut off or doubled" if whole else ""


def _table_files(folder: Path) -> list[Path]:
    path = folder / "table.txt"
    if not path.exists():
        data = strain_data()
        piola = data.deformation_gradient @ mandel.from_mandel(data.stress)
        assert data.energy is not None
        rows = np.concatenate(
            [data.deformation_gradient.reshape(-1, 9), piola.reshape(-1, 9), data.energy[:, None]], axis=1
        )
        names = [f"{letter}{i}{j}" for letter in "FP" for i in "123" for j in "123"]
        path.write_text(
            "# " + " ".join([*names, "W"]) + "\n" + "\n".join(" ".join(map(repr, row)) for row in rows.tolist()) + "\n"
        )
    return [path]


def _read_table(path: Path) -> dict[str, Any]:
    found = _content(read_tables([path], PointGroup("m-3m"), "GPa"))
    return {**found, "about": found["about"].replace(path.name, "table.txt")}


def _mutate_table(path: Path, rng: np.random.Generator) -> Mutated:
    content = path.read_bytes()
    return damaged(content, rng) if rng.random() < 0.5 else mistyped(content, rng)


def _legal_table(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    if not all(np.all(np.isfinite(found[name])) for name in _ARRAYS if name in found) or label == "other":
        return ""
    if len(found["strain"]) == len(good["strain"]):
        return "another number or name in the text, with no checksum to tell" if label != "cut" else ""
    return "whole rows were cut off or doubled" if content.endswith(b"\n") else ""


# --- voxel images ----------------------------------------------------------------------------------------------------

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


def _once(path: Path, write: Callable[[Path], Any]) -> Path:
    if not path.exists():
        write(path)
    return path


def _npy_files(folder: Path) -> list[Path]:
    grey = LABELS.astype(np.float64)
    return [
        _once(folder / "byte.npy", lambda p: np.save(p, LABELS)),
        _once(folder / "long.npy", lambda p: np.save(p, np.asfortranarray(LABELS.astype(">i8")))),
        _once(folder / "float.npy", lambda p: np.save(p, grey)),
        _once(folder / "plain.npz", lambda p: np.savez(p, image=LABELS, other=np.zeros(3))),
        _once(folder / "packed.npz", lambda p: np.savez_compressed(p, image=LABELS.astype(np.int32))),
    ]


def _tiff_files(folder: Path) -> list[Path]:
    import tifffile

    pages = LABELS.transpose(2, 1, 0)
    return [
        _once(folder / "plain.tif", lambda p: tifffile.imwrite(p, pages, photometric="minisblack")),
        _once(folder / "packed.tif", lambda p: tifffile.imwrite(p, pages, compression="zlib", photometric="minisblack")),
        _once(folder / "short.tif", lambda p: tifffile.imwrite(p, pages.astype(np.uint16), metadata=None, photometric="minisblack")),
        _once(folder / "big.tif", lambda p: tifffile.imwrite(p, pages, bigtiff=True, tile=(16, 16), photometric="minisblack")),
        _once(folder / "imagej.tif", lambda p: tifffile.imwrite(p, pages, imagej=True)),
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
    return [_once(folder / f"{binary}.vtk", lambda p, b=binary: _vtk(p, b)) for binary in (True, False)]


def _vti_files(folder: Path) -> list[Path]:
    return [_once(folder / f"{how}.vti", lambda p, h=how: _vti(p, h)) for how in ("ascii", "base64", "zlib", "raw")]


def _raw_files(folder: Path) -> list[Path]:
    return [_once(folder / "image.raw", lambda p: p.write_bytes(_RAW))]


def _voxel_hdf5(path: Path, how: str) -> None:
    with h5py.File(path, "w") as file:
        if how == "plain":
            file["group/image"] = LABELS
        else:
            file.create_dataset("image", data=LABELS.astype(np.int32), chunks=(4, 4, 4), compression="gzip")


def _hdf5_files(folder: Path) -> list[Path]:
    return [_once(folder / f"{how}.h5", lambda p, h=how: _voxel_hdf5(p, h)) for how in ("plain", "packed")]


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
    return [_once(folder / f"v{version}.dream3d", lambda p, v=version: _dream3d(p, v)) for version in ("6", "NX")]


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
    return [_once(folder / f"table.{name}.npy", lambda p, t=table: np.save(p, t)) for name, table in tables.items()]


def _read_orientations(path: Path) -> dict[str, Any]:
    """A user's own table of matrices, Bunge angles or quaternions, given to an image."""
    table = np.load(path)
    how = path.suffixes[0]
    turns = table if how == ".matrix" else (rotation_from_bunge if how == ".bunge" else rotation_from_quaternion)(table)
    found = Microstructure(LABELS, orientations=turns).orientations
    assert found is not None
    return {"orientations": found}


def _mutate_orientations(path: Path, rng: np.random.Generator) -> Mutated:
    what, table = _mutate_array(np.load(path), rng)
    stream = io.BytesIO()
    np.save(stream, np.zeros(0) if table is None else table)
    return what, stream.getvalue()


def _legal_orientations(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    turns = found["orientations"]
    defect = np.abs(np.swapaxes(turns, 1, 2) @ turns - np.eye(3)).max()
    return "other proper rotations, one or more for each label" if defect < 1e-8 and len(turns) >= 3 else ""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("law", _law_files, _read_law, _mutate_law, _legal_law),
        Kind("data", _data_files, _read_data, _mutate_data, _legal_data),
        Kind("extxyz", _xyz_files, _read_xyz, _mutate_xyz, _legal_xyz),
        Kind("table", _table_files, _read_table, _mutate_table, _legal_table),
        Kind("npy", _npy_files, _read_voxels, _mutate_npy, _legal_voxels),
        Kind("tiff", _tiff_files, _read_voxels, _mutate_tiff, _legal_voxels),
        Kind("vtk", _vtk_files, _read_voxels, _mutate_text_image, _legal_voxels),
        Kind("vti", _vti_files, _read_voxels, _mutate_text_image, _legal_voxels),
        Kind("raw", _raw_files, _read_voxels, _mutate_plain, _legal_voxels),
        Kind("hdf5", _hdf5_files, _read_voxels, _mutate_hdf5, _legal_voxels),
        Kind("orientations", _orientation_files, _read_orientations, _mutate_orientations, _legal_orientations),
        Kind("dream3d", _dream3d_files, _read_voxels, _mutate_hdf5, _legal_voxels),
    )
}
