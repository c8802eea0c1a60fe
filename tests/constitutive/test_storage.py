"""The law file: tensors read back bit for bit, refused where altered, never unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from constitutive import Law, NeoHookeanLaw, PolynomialLaw, SymmetricLaw, load, save
from constitutive.storage import SCHEMA
from crystals import PointGroup
from crystals.rotations import rotation_about

LAWS: list[Law] = [
    SymmetricLaw(
        PointGroup("-3m", rotation_about(np.ones(3), 0.4)), stiffness=100 * np.eye(6), max_strain=0.08, seed=3
    ),
    SymmetricLaw("6/m", order=3, stiffness=100 * np.eye(6), pinned=True, energy_scale=90.0),
    PolynomialLaw(PointGroup("mmm"), 3, np.eye(6), np.linspace(-1, 1, 20), units="Pa", max_strain=0.2),
    NeoHookeanLaw(2.0, 3.0),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{type(law).__name__}-{law.group.symbol}")
def test_round_trip(law: Law, tmp_path: Path) -> None:
    law.metadata = {"kind": "relaxed-ion", "fit": {"seed": 1}}
    law.save(tmp_path / "a.law")
    back = load(tmp_path / "a.law")
    strain = 0.02 * np.random.default_rng(0).normal(size=(50, 6))
    scale = np.linalg.norm(law.stiffness())
    for ours, theirs in zip(law.response(strain), back.response(strain), strict=True):
        assert np.abs(ours - theirs).max(initial=0) / scale < 1e-14  # sums may run in another order, nothing else
    for ours, theirs in zip(law.state_dict().values(), back.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert back.metadata == law.metadata and back.group == law.group
    assert (back.units, back.max_strain, back.strain_measure) == (law.units, law.max_strain, law.strain_measure)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.law"]


def _parts(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["constitutive"])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    LAWS[0].save(tmp_path / "good.law")
    return tmp_path / "good.law"


def test_an_altered_weight_an_unknown_schema_and_foreign_files_are_refused(stored: Path) -> None:
    tensors, description = _parts(stored)
    bad = stored.with_name("bad.law")

    def write(changed: dict[str, torch.Tensor], text: dict | None) -> None:
        save_file(changed, bad, metadata=None if text is None else {"constitutive": json.dumps(text)})

    write({**tensors, "law.network.last": tensors["law.network.last"] * (1 + 1e-15) + 1e-12}, description)
    with pytest.raises(ValueError, match="altered"):
        load(bad)
    write(tensors, {**description, "schema": SCHEMA + 1})
    with pytest.raises(ValueError, match=r"expected schema 1, got 2\. Update"):
        load(bad)
    write(tensors, {**description, "law": "os.system"})
    with pytest.raises(ValueError, match="altered"):
        load(bad)
    write(tensors, None)
    with pytest.raises(ValueError, match="without its description"):
        load(bad)
    bad.write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(ValueError, match="damaged or foreign"):
        load(bad)
    with pytest.raises(OSError, match="does not exist"):
        load(stored.with_name("missing.law"))


def test_a_failed_self_test_is_refused(stored: Path) -> None:
    """A file whose hash is right and whose stored answers are not what the law gives."""
    from constitutive.storage import _digest

    tensors, description = _parts(stored)
    tensors["self_test.stress"] = tensors["self_test.stress"] + 1e-9
    description.pop("sha256")
    description["sha256"] = _digest(description, tensors)
    save_file(tensors, stored, metadata={"constitutive": json.dumps(description)})
    with pytest.raises(ValueError, match="self-test stress"):
        load(stored)


@pytest.mark.parametrize("cut", [0, 7, 100, 1500, 5000])
def test_truncated_files_are_refused(stored: Path, cut: int) -> None:
    stored.write_bytes(stored.read_bytes()[:cut])
    with pytest.raises(ValueError, match="damaged or foreign"):
        load(stored)


def test_flipped_bits_never_give_a_wrong_law(stored: Path) -> None:
    content = stored.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(content), 60):
        changed = bytearray(content)
        changed[place] ^= 1 << int(generator.integers(8))
        stored.write_bytes(bytes(changed))
        try:
            law = load(stored)
        except (ValueError, OSError):
            continue
        strain = 0.02 * np.ones((1, 6))
        assert np.abs(law.response(strain).stress - LAWS[0].response(strain).stress).max() < 1e-12


def test_a_class_of_ones_own_is_not_written(tmp_path: Path) -> None:
    class Mine(NeoHookeanLaw):
        pass

    with pytest.raises(TypeError, match="expected a law among"):
        save(Mine(1.0, 1.0), tmp_path / "mine.law")
