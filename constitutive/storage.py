"""The law file, schema 1: one safetensors file with JSON in its metadata. Nothing is unpickled.

The JSON says schema, law class and its configuration (point group, frame, units, strain measure, training domain),
component order, kind of data, provenance and figures. Self-test vectors (strains with the energy, stress and tangent
that the law gave when it was written) and a content hash are checked when the file is read. The tensors of a law's
domain and uncertainty stand beside its own; earlier versions of this package pass over them.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as _packed

from crystals import mandel
from crystals.whole_file import whole_file

from .laws.domain import Domain
from .laws.electromechanical import PiezoelectricLaw
from .laws.internal_variables import InternalVariableLaw
from .laws.law import Law
from .laws.logarithmic import LogarithmicStrainLaw
from .laws.neo_hooke import NeoHookeanLaw
from .laws.parametric import ParametricLaw
from .laws.polyconvex import PolyconvexLaw
from .laws.polynomial import PolynomialLaw
from .laws.symmetric import SymmetricLaw
from .laws.uncertainty import Uncertainty
from .laws.von_mises import VonMisesLaw

SCHEMA = 1
COMPONENT_ORDER = "11 22 33 23 13 12, Mandel; tangent: 21 entries of the upper triangle, row by row"
_LAWS: dict[str, type[Law]] = {
    law.__name__: law
    for law in (
        SymmetricLaw,
        PolyconvexLaw,
        PolynomialLaw,
        NeoHookeanLaw,
        PiezoelectricLaw,
        VonMisesLaw,
        InternalVariableLaw,
        LogarithmicStrainLaw,
        ParametricLaw,
    )
}
#: Attributes that a law may have, kept as tensors of their own.
_PARTS: dict[str, type[Domain] | type[Uncertainty]] = {"domain": Domain, "uncertainty": Uncertainty}
#: A law file is small: bytes of it and of its header, tensors, and states of its self-test, at most.
LARGEST_FILE = 64 * 2**20
LARGEST_HEADER = 4 * 2**20
LARGEST_COUNT = 4096
LARGEST_TEST = 64


def _self_test_strains(law: Law) -> np.ndarray:
    radius = min(law.max_strain, 0.1)
    strains = np.random.default_rng(0).normal(size=(8, 6))
    strains *= (radius * np.linspace(0.0, 1.0, 8) / np.linalg.norm(strains, axis=1))[:, None]
    return strains


def _self_test_inputs(law: Law) -> np.ndarray | None:
    """Inputs (8, k) over the range of a law that has some, each in another order."""
    if not isinstance(law, ParametricLaw):
        return None
    low, high = law.input_range.T
    share = np.linspace(0.0, 1.0, 8)
    return np.stack([low[j] + (high[j] - low[j]) * np.roll(share, 3 * j) for j in range(len(low))], axis=1)


def _digest(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().cpu().numpy())
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save(law: Law, path: str | Path) -> None:
    """Write a law to a file, under a temporary name first.

    Raises
    ------
    TypeError
        Where the law's class is none that a file can name.
    """
    if type(law).__name__ not in _LAWS or _LAWS[type(law).__name__] is not type(law):
        raise TypeError(f"save: expected a law among {', '.join(_LAWS)}, got {type(law).__name__}.")
    path = Path(path)
    tensors = {f"law.{name}": tensor.detach().cpu().contiguous() for name, tensor in law.state_dict().items()}
    for part, kind in _PARTS.items():
        if (value := getattr(law, part)) is not None:
            for field in fields(kind):
                tensors[f"{part}.{field.name}"] = getattr(value, field.name).detach().cpu().contiguous()
    strains = _self_test_strains(law)
    inputs = _self_test_inputs(law)
    answer = law.response(strains, inputs=inputs, dt=1.0)  # time matters only to laws that depend on the rate
    if inputs is not None:
        tensors["self_test.inputs"] = torch.from_numpy(inputs)
    for name, array in (("strain", strains), *answer._asdict().items()):
        if name not in ("state", "status"):
            tensors[f"self_test.{name}"] = torch.from_numpy(np.array(array))
    description = {
        "schema": SCHEMA,
        "content": "constitutive law",
        "law": type(law).__name__,
        "config": law.config(),
        "component_order": COMPONENT_ORDER,
        "metadata": law.metadata,
    }
    description["sha256"] = _digest(description, tensors)
    with whole_file(path) as temporary:
        # save_file would keep the file from everybody but its owner
        temporary.write_bytes(_packed(tensors, {"constitutive": json.dumps(description, sort_keys=True)}))


def load(path: str | Path) -> Law:
    """Read a law file and check its hash and self-test.

    Raises
    ------
    OSError
        Where the file is missing or unreadable.
    ValueError
        Where it is no law file of schema 1, was altered, or does not reproduce its own self-test to 1e-12.
    """
    path = Path(path)
    where = f"load({path.name})"
    if not path.is_file():
        raise OSError(f"{where}: expected a law file, got {str(path)!r}, which does not exist. Check the path.")
    description, tensors = _read(where, path)
    name = description.get("law")
    if not isinstance(name, str) or name not in _LAWS:
        raise ValueError(f"{where}: expected a law among {', '.join(_LAWS)}, got {_short(name)}. Update constitutive.")
    try:
        _check_size(description["config"], sum(t.numel() for key, t in tensors.items() if key.startswith("law.")))
        law = _LAWS[name].from_config(description["config"])
        law.load_state_dict({key[4:]: value for key, value in tensors.items() if key.startswith("law.")})
        for part, kind in _PARTS.items():
            if any(key.startswith(f"{part}.") for key in tensors):
                setattr(law, part, kind(**{field.name: tensors[f"{part}.{field.name}"] for field in fields(kind)}))
        law.metadata = _checked_metadata(description["metadata"])
        _check_self_test(where, law, {key[10:]: value for key, value in tensors.items() if key[:10] == "self_test."})
    except _SelfTestError:
        raise
    except Exception as error:  # a forged configuration may fail anywhere in a law
        reason = " ".join(str(error).split()).rstrip(".")
        reason = f"no {reason}" if isinstance(error, KeyError) else reason
        raise ValueError(
            f"{where}: expected the parts of a {name}, got a file that lacks or mistypes some: {reason}. Save the law again."
        ) from error
    law.requires_grad_(False)
    return law


class _SelfTestError(ValueError):
    """The law does not answer as it did when it was written."""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _read(where: str, path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Description and tensors of a law file, whose hash is right; sizes are looked at before memory is asked for."""
    try:
        with open(path, "rb") as stream:
            stated = int.from_bytes(stream.read(8), "little")
            size = path.stat().st_size
    except OSError as error:
        raise OSError(
            f"{where}: expected a law file that can be read, got {error.strerror or error}. Check the permissions."
        ) from error
    if size > LARGEST_FILE or LARGEST_HEADER < stated < size:
        raise ValueError(
            f"{where}: expected a law file below {LARGEST_FILE >> 20} MiB with a header below {LARGEST_HEADER >> 20} MiB, got "
            f"{size} and {stated} bytes. This is no law: check which file it is."
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("constitutive")
            if text is None:
                raise ValueError(
                    f"{where}: expected a law written by constitutive, got a safetensors file without its description. "
                    "Fit or save a law with this package."
                )
            description = json.loads(text)
            schema = description.get("schema") if isinstance(description, dict) else None
            if schema != SCHEMA or isinstance(schema, bool):
                raise ValueError(
                    f"{where}: expected schema {SCHEMA}, got {_short(schema)}. Update constitutive, or save the law with "
                    "this version."
                )
            if len(names := list(file.keys())) > LARGEST_COUNT:
                raise ValueError(
                    f"{where}: expected a law of at most {LARGEST_COUNT} tensors, got {len(names)}. Check which file it is."
                )
            tensors = {name: file.get_tensor(name) for name in names}
            expected = description.pop("sha256", None)
            found = _digest(description, tensors)
    except (SafetensorError, json.JSONDecodeError, UnicodeError, RecursionError, TypeError, AttributeError) as error:
        # tensors of a type that this version of torch or numpy does not know end in the last two
        raise ValueError(
            f"{where}: expected a law file (safetensors), got a damaged or foreign file: {error}. Copy it again."
        ) from error
    if found != expected:
        raise ValueError(
            f"{where}: expected the content hash {_short(expected)[:14]}…, got another: the file was altered. Copy it again."
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"{where}: expected finite numbers, got NaN or infinity in {_short(name)}. Fit the law again."
            )
    return description, tensors


def _check_size(config: Any, numbers: int) -> None:
    """Refuse a configuration that asks for more parameters than the file holds, before they are made."""
    if isinstance(config, list):
        for value in config:
            _check_size(value, numbers)
    elif isinstance(config, dict):
        for key, value in config.items():
            if key == "widths" and isinstance(value, list):
                wanted = sum(abs(a * b) for a, b in zip(value, value[1:], strict=False)) + sum(map(abs, value))
            elif key in ("forms", "members"):
                wanted = value
            elif key == "input_names":
                wanted = math.comb(len(value) + min(config.get("degree", 1), 8), len(value))
            else:
                _check_size(value, numbers)
                continue
            if not 0 <= wanted <= numbers:
                raise ValueError(f"{key} {_short(value)} for {numbers} parameters")


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    """Metadata of which the law itself reads some."""
    fit = metadata.get("fit", {}) if isinstance(metadata, dict) else None
    if not isinstance(fit, dict):
        raise TypeError(f"metadata {_short(metadata)}")
    for key in ("training_states", "held_out_stress_error", "cross_validated_stress_error"):
        if isinstance(fit.get(key, 0), bool) or not isinstance(fit.get(key, 0), (int, float)):
            raise TypeError(f"{key} {_short(fit[key])}")
    return metadata


def _check_self_test(where: str, law: Law, stored: dict[str, torch.Tensor]) -> None:
    strain, inputs = stored["strain"].numpy(), stored.get("inputs")
    if strain.dtype != np.float64 or strain.ndim != 2 or not 8 <= len(strain) <= LARGEST_TEST:
        raise ValueError(f"self-test strains {strain.shape} of {strain.dtype}")
    answer = law.response(strain, inputs=None if inputs is None else inputs.numpy(), dt=1.0)
    # of the stored stiffness: a damaged law may be stiff beyond measure
    first = stored["tangent"].numpy()[0]
    scale = float(np.linalg.norm(mandel.unpack_upper(first) if len(first) == 21 else first))
    if not 0 < scale < 1e100 or np.any(strain[0]):
        raise ValueError(f"a self-test whose first state has a stiffness of {scale:.3g}")
    for key, unit in (("energy", scale * 1e-2), ("stress", scale * 1e-1), ("tangent", scale)):
        given, found = stored[key].numpy(), getattr(answer, key)
        if given.shape != found.shape or given.dtype != np.float64:
            raise ValueError(f"self-test {key} {given.shape} of {given.dtype}")
        with np.errstate(all="ignore"):
            error = float(np.max(np.abs(found - given))) / unit
        if not error <= 1e-12:
            raise _SelfTestError(
                f"{where}: expected the stored self-test {key} to 1e-12, got a deviation of {error:.1e}. This machine "
                "or version evaluates the law differently; do not use it, and report it."
            )
