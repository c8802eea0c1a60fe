"""Restart files and meshes for `mutations.py`: how intact ones are made and read, and what is done to them."""

from __future__ import annotations

import functools
import json
import re
import struct
from pathlib import Path
from typing import Any

import h5py as _h5py
import meshio
import numpy as np
from damage import Kind, Mutated, damaged, mistyped, once, other_array
from plastic_bar import plastic_bar

from constitutive import VonMisesLaw
from crystals.record import BLOCK, seal
from fem import read_mesh
from fem.restart import _MARK

h5py: Any = _h5py

# --- restart files ---------------------------------------------------------------------------------------------------


@functools.cache
def _problem() -> tuple[Any, Any]:
    return plastic_bar(VonMisesLaw(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0), 1.0, (2, 1, 1))


def _save(path: Path) -> None:
    problem, moved = _problem()

    def apply(value: float) -> None:
        moved.value = (value, 0.5 * value, 0.0)

    list(problem.steps(apply, [0.004], start=0.0, progress=False, times=[2.0]))
    problem.save(path)


def _restart_files(folder: Path) -> list[Path]:
    return [once(folder / "state.h5", _save)]


def _read_restart(path: Path) -> dict[str, Any]:
    """What `restore` takes over, and that it takes over nothing of a file that it refuses."""
    problem, _ = _problem()
    (material,) = problem.materials
    blank = {name: np.zeros_like(values) for name, values in material.history().items()}
    problem.u.x.array[:] = 0.0
    material.set_history(blank)
    problem.load, problem.time = None, 0.0
    try:
        problem.restore(path)
    except (ValueError, OSError):
        untouched = not np.any(problem.u.x.array) and problem.load is None and problem.time == 0.0
        if not untouched or any(np.any(values) for values in material.history().values()):
            raise AssertionError("refused, and taken over in part") from None
        raise
    return {
        "u": problem.u.x.array.copy(),
        "load": np.array([problem.load, problem.time], dtype=float),
        **material.history(),
    }


def _mutate_restart(path: Path, rng: np.random.Generator) -> Mutated:
    """Damage; no seal, as an earlier version wrote; or another member or attribute under a seal made anew."""
    content = path.read_bytes()
    if rng.random() < 0.6:
        return damaged(content, rng)
    if rng.random() < 0.1:
        return "no seal", content[BLOCK:]
    target = path.with_name("made.h5")
    target.write_bytes(content)
    with h5py.File(target, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = names[int(rng.integers(len(names)))]
        what = str(rng.choice(["array", "array", "attribute", "member"]))
        if what == "attribute":
            which = str(rng.choice(["load", "time", "laws"]))
            values = [None, np.nan, np.inf, -1.0, 7, "x", np.zeros(3), b"\xff", "[1"]
            value = values[int(rng.integers(len(values)))]
            what = f"attribute {which}"
            del file.attrs[which]
            if value is not None:
                file.attrs[which] = value
        else:
            values = file[name][()]
            del file[name]
            if what == "array":
                how, changed = other_array(values, rng)
                what = f"array {how}"
                if changed is not None:
                    with np.errstate(invalid="ignore"):
                        file[name] = changed.astype(values.dtype) if how in ("other", "huge", "rows") else changed
            else:
                how = str(rng.choice(["group", "declared", "huge", "soft loop", "external", "null"]))
                what = f"member {how}"
                if how == "group":
                    file.create_group(name)
                elif how in ("declared", "huge"):
                    shape = (10**9, *values.shape[1:]) if how == "huge" else values.shape
                    file.create_dataset(name, shape, values.dtype, chunks=True)
                elif how == "soft loop":
                    file[name] = h5py.SoftLink(f"/{name}")
                elif how == "external":
                    file[name] = h5py.ExternalLink("/etc/passwd", "/x")
                else:
                    file[name] = h5py.Empty("f8")
    seal(target, _MARK)
    return what, target.read_bytes()


def _legal_restart(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    """Who makes the seal anew says what they want; the shapes are those of the problem, and all numbers are finite."""
    if not all(np.all(np.isfinite(found[name])) for name in good if name != "load"):
        return ""
    if label.startswith("attribute"):
        same = all(np.array_equal(found[name], good[name]) for name in good if name != "load")
        return "another load or time, under a seal made anew" if same else ""
    changed = [name for name in good if not np.array_equal(found[name], good[name])]
    return f"another {changed[0]}, under a seal made anew" if label in ("array other", "array huge") else ""


# --- meshes ----------------------------------------------------------------------------------------------------------


_POINTS = np.array([[i, j, k] for k in (0.0, 1.0) for j in (0.0, 1.0) for i in (0.0, 1.0)])
#: Of a cube of six tetrahedra, two volumes and a surface: name, dimension, gmsh's kind of cell, corners.
_PARTS = (
    ("left", 3, 4, np.array([[0, 1, 3, 7], [0, 1, 7, 5], [0, 5, 7, 4]])),
    ("right", 3, 4, np.array([[0, 3, 2, 7], [0, 6, 4, 7], [0, 2, 6, 7]])),
    ("floor", 2, 2, np.array([[0, 1, 3], [0, 3, 2]])),
)


def _gmsh22(path: Path, binary: bool) -> None:
    tags: list[Any] = [np.full(len(cells), tag) for tag, (*_, cells) in enumerate(_PARTS, 1)]
    mesh = meshio.Mesh(
        _POINTS, [("tetra" if dim == 3 else "triangle", cells) for _, dim, _, cells in _PARTS],
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data={name: np.array([tag, dim]) for tag, (name, dim, _, _) in enumerate(_PARTS, 1)},
    )  # fmt: skip
    meshio.write(path, mesh, file_format="gmsh22", binary=binary)


def _gmsh41(path: Path, binary: bool) -> None:
    """Format 4.1 by its description in gmsh's manual, one entity for each part; meshio writes no groups in it."""

    def packed(kinds: str, *values: float) -> bytes:
        return struct.pack("<" + kinds, *values) if binary else (" ".join(map(str, values)) + "\n").encode()

    def section(name: str, *pieces: bytes) -> bytes:
        return f"${name}\n".encode() + b"".join(pieces) + (b"\n" if binary else b"") + f"$End{name}\n".encode()

    n, number = len(_POINTS), sum(len(cells) for *_, cells in _PARTS)
    by_dimension = sorted(enumerate(_PARTS, 1), key=lambda part: part[1][1])
    names = "".join(f'{dim} {tag} "{name}"\n' for tag, (name, dim, _, _) in enumerate(_PARTS, 1))
    elements, count = [packed("4Q", len(_PARTS), number, 1, number)], 0
    for tag, (_, dim, kind, cells) in enumerate(_PARTS, 1):
        elements.append(packed("3iQ", dim, tag, kind, len(cells)))
        for row in cells.tolist():
            count += 1
            elements.append(packed(f"{1 + len(row)}Q", count, *(node + 1 for node in row)))
    path.write_bytes(
        (b"$MeshFormat\n4.1 1 8\n\x01\0\0\0\n$EndMeshFormat\n" if binary else b"$MeshFormat\n4.1 0 8\n$EndMeshFormat\n")
        + f"$PhysicalNames\n{len(_PARTS)}\n{names}$EndPhysicalNames\n".encode()
        + section("Entities", packed("4Q", 0, 0, 1, 2),
                  *(packed("i6dQiQ", tag, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1, tag, 0) for tag, _ in by_dimension))
        + section("Nodes", packed("4Q", 1, n, 1, n), packed("3iQ", 3, 1, 0, n), *(packed("Q", k + 1) for k in range(n)),
                  *(packed("3d", *point) for point in _POINTS.tolist()))
        + section("Elements", *elements)
    )  # fmt: skip


def _mesh_files(folder: Path) -> list[Path]:
    return [
        once(folder / f"{'binary' if binary else 'text'}{form}.msh", lambda path, w=write, b=binary: w(path, b))
        for form, write in (("22", _gmsh22), ("41", _gmsh41))
        for binary in (False, True)
    ]


def _read_mesh(path: Path) -> dict[str, Any]:
    found = read_mesh(path)
    domain = found.mesh
    cells = domain.topology.connectivity(3, 0)
    parts = {name: [dim, sorted(found.entities(name).tolist())] for name, (dim, _) in found.names.items()}
    return {
        "points": domain.geometry.x.copy(), "cells": np.asarray(cells.array).copy(), "parts": json.dumps(parts, sort_keys=True),
    }  # fmt: skip


def _mutate_mesh(path: Path, rng: np.random.Generator) -> Mutated:
    content = path.read_bytes()
    if rng.random() < 0.5:
        return damaged(content, rng)
    if rng.random() < 0.3:
        words = [b"$MeshFormat", b"$EndMeshFormat", b"$Nodes", b"$EndNodes", b"$Elements", b"$EndElements", b"$PhysicalNames",
                 b"$EndPhysicalNames", b"$Entities", b'"left"', b"4.1", b"2.2", b"\n", b" "]  # fmt: skip
        old = words[int(rng.integers(len(words)))]
        places = [found.start() for found in re.finditer(re.escape(old), content)] or [0]
        place = places[int(rng.integers(len(places)))]
        new = [*words, b"", b"$Periodic", b"\x00"][int(rng.integers(len(words) + 3))]
        return "word", content[:place] + new + content[place + len(old) :]
    return mistyped(content, rng, first=int(rng.choice([0, 12])))


def _legal_mesh(label: str, content: bytes, source: bytes, found: Any, good: Any) -> str:
    """gmsh's files have no checksum: other numbers are another mesh, as long as it is one."""
    cells, points = found["cells"], found["points"]
    if not np.all(np.isfinite(points)) or not len(cells) or len(cells) % 4 or label in ("cut", "other"):
        return ""
    if len(cells) == len(good["cells"]) and len(points) == len(good["points"]):
        return "other coordinates, cells, tags or names, with no checksum to tell"
    return "other cells, with no checksum to tell"


KINDS = (
    Kind("restart", _restart_files, _read_restart, _mutate_restart, _legal_restart),
    Kind("mesh", _mesh_files, _read_mesh, _mutate_mesh, _legal_mesh),
)
