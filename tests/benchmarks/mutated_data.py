"""Data sets, extended XYZ and tables for `mutations.py`: how intact ones are made and read, and what is done to them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as write_with_ase
from damage import Kind, Mutated, damaged, mistyped, other_array, other_json
from mutated_laws import STIFFNESS

from constitutive import PolynomialLaw
from crystals import PointGroup, StrainData, mandel
from crystals.dataset import read_tables
from crystals.record import write_record
from crystals.structures import structure_to_dict

h5py: Any = _h5py


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
        how, changed = other_array(members[name], rng)
        members[name] = changed
        what = f"array {how}"
        if changed is None:
            del members[name]
    elif what == "text":
        which = str(rng.choice(list(texts)))
        texts[which] = json.dumps(other_json(json.loads(texts[which]), rng)) if rng.random() < 0.8 else "[" * 2000
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


KINDS = (
    Kind("data", _data_files, _read_data, _mutate_data, _legal_data),
    Kind("extxyz", _xyz_files, _read_xyz, _mutate_xyz, _legal_xyz),
    Kind("table", _table_files, _read_table, _mutate_table, _legal_table),
)
