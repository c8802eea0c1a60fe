"""Law files for `mutations.py`: how intact ones are made and read, and what is done to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from damage import Kind, Mutated, damaged, other_json
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
from crystals import PointGroup

STIFFNESS = np.diag([110.0, 110.0, 110.0, 90.0, 90.0, 90.0]) + 60.0 * np.pad(np.ones((3, 3)), (0, 3))


def some_laws() -> list[Any]:
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
    laws = some_laws()
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
        what, description = "json", other_json(description, rng)
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
        header = other_json(header, rng)
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


KINDS = (Kind("law", _law_files, _read_law, _mutate_law, _legal_law),)
