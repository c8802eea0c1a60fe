"""Bulk and shear moduli of 3,161 binary compounds: training, rivals, and the model that ships.

    python tests/benchmarks/binary_moduli.py train       # five networks, each without a fifth of the chemical systems
    python tests/benchmarks/binary_moduli.py rivals      # composition alone, scalar bonds: the same five splits
    python tests/benchmarks/binary_moduli.py report      # errors on what each had not seen
    python tests/benchmarks/binary_moduli.py ship        # → constitutive/models/binary_moduli.safetensors
    python tests/benchmarks/binary_moduli.py speed       # structures a second

Chemical systems (pairs of elements) go into five parts by a seed; member k of each kind never sees part k. Weights go to
out/binary_moduli; a training that was killed goes on from its last epoch.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from moduli_rivals import BondBatch, BondNetwork, Bonds, Composition
from safetensors.torch import load_file, save_file

from constitutive.crystal_graph import CrystalBatch, CrystalNetwork, bulk_and_shear
from constitutive.crystal_moduli import DEFAULT_MODEL, CrystalEnsemble, crystal_moduli
from constitutive.fitting.crystal_fit import moduli_loss, train_network
from crystals.elements import element_properties
from crystals.pair_sums import PairSums, pair_sums
from crystals.structures import standard_primitive

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "binary_bulk_shear_moduli.json.gz"
FOLDER = ROOT / "out" / "binary_moduli"
FOLDS = 5
SETTINGS: dict[str, Any] = {"channels": 40, "products": 16, "layers": 2, "dropout": 0.1}
TRAINING: dict[str, Any] = {"epochs": 20, "batch": 32, "rate": 2e-3, "decay": 0.3}


def read_data() -> tuple[list[Atoms], np.ndarray, np.ndarray]:
    """Primitive cells in the standard frame, moduli (n, 2) in GPa, and the part (n,) that each chemical system is in."""
    cells, moduli, systems = [], [], []
    for entry in json.loads(gzip.decompress(DATA.read_bytes())):
        sites = entry["structure"]["sites"]
        atoms = Atoms(
            [site["species"][0]["element"] for site in sites], cell=entry["structure"]["lattice"]["matrix"],
            scaled_positions=[site["abc"] for site in sites], pbc=True,
        )  # fmt: skip
        cells.append(standard_primitive(atoms))
        moduli.append([entry["bulk_modulus_vrh"], entry["shear_modulus_vrh"]])
        systems.append("-".join(sorted(set(atoms.get_chemical_symbols()))))
    names = np.array(sorted(set(systems)))
    part = dict(zip(names.tolist(), (np.random.default_rng(0).permutation(len(names)) % FOLDS).tolist(), strict=True))
    return cells, np.array(moduli), np.array([part[system] for system in systems])


def single(one: PairSums) -> PairSums:
    return replace(one, sums=one.sums.astype(np.float32))


BATCH = partial(CrystalBatch.of, dtype=torch.float32)


def network(kind: str, seed: int) -> tuple[torch.nn.Module, Any, Any]:
    """A new network, what it reads of a cell, and how it makes batches."""
    torch.manual_seed(seed)
    features = element_properties()
    if kind == "bonds":
        return BondNetwork(features), Bonds.of, BondBatch.of

    def reads(atoms: Any) -> Any:
        return single(pair_sums(atoms))

    if kind == "composition":
        return Composition(features), reads, BATCH
    made = CrystalNetwork(("stiffness",), features, **SETTINGS)
    with torch.no_grad():
        made.scalar_offset.copy_(torch.tensor([np.log(3 * 94.0), np.sqrt(5.0) * np.log(2 * 40.0)]))
    return made, reads, BATCH


def predicted(made: torch.nn.Module, crystals: list[Any], collate: Any) -> np.ndarray:
    made.eval()
    with torch.no_grad():
        parts = [
            torch.stack(bulk_and_shear(made(collate(crystals[start : start + 64]))["stiffness"]), dim=1)
            for start in range(0, len(crystals), 64)
        ]
    return torch.cat(parts).double().numpy()


def train(kind: str, folds: list[int]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells, moduli, part = read_data()
    _, reads, collate = network(kind, 0)
    crystals = [reads(atoms) for atoms in cells]
    for fold in folds:
        weights = FOLDER / f"binary_moduli-{kind}-{fold}.safetensors"
        if weights.is_file():
            continue
        made, _, _ = network(kind, fold)
        rows, held = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
        if isinstance(made, CrystalNetwork):
            made.set_scales([crystals[i] for i in rows])
        start = time.time()

        def report(epoch: int, loss: float, start: float = start, fold: int = fold) -> None:
            print(f"{kind} {fold} epoch {epoch} loss {loss:.4f} {time.time() - start:.0f} s", flush=True)

        made.train()
        train_network(
            made, [crystals[i] for i in rows], moduli_loss(*moduli[rows].T), collate=collate, seed=fold,
            checkpoint=weights.with_suffix(".checkpoint"), report=report, **TRAINING,
        )  # fmt: skip
        found = predicted(made, [crystals[i] for i in held], collate)
        np.save(weights.with_suffix(".npy"), found)
        save_file({name: value.contiguous() for name, value in made.state_dict().items()}, weights)
        weights.with_suffix(".checkpoint").unlink(missing_ok=True)
        print(kind, fold, np.abs(found - moduli[held]).mean(axis=0), flush=True)


def report() -> None:
    _, moduli, part = read_data()
    print(f"{len(moduli)} binary compounds; mean absolute deviation K "
          f"{np.abs(moduli - moduli.mean(axis=0)).mean(axis=0)[0]:.1f}, G "
          f"{np.abs(moduli - moduli.mean(axis=0)).mean(axis=0)[1]:.1f} GPa")  # fmt: skip
    print("mean absolute error on chemical systems not seen, mean ± deviation over the splits")
    print(f"{'':<14}{'splits':>7}{'K, GPa':>15}{'G, GPa':>15}{'log10 K':>18}{'log10 G':>18}")
    for kind in ("crystal", "composition", "bonds"):
        rows = []
        for fold in range(FOLDS):
            path = FOLDER / f"binary_moduli-{kind}-{fold}.npy"
            if path.is_file():
                found, true = np.load(path), moduli[part == fold]
                rows.append(np.r_[np.abs(found - true).mean(axis=0), np.abs(np.log10(found / true)).mean(axis=0)])
        if rows:
            m, s = np.mean(rows, axis=0), np.std(rows, axis=0)
            print(f"{kind:<14}{len(rows):>7}{m[0]:>9.2f} ± {s[0]:.2f}{m[1]:>9.2f} ± {s[1]:.2f}"
                  f"{m[2]:>11.4f} ± {s[2]:.4f}{m[3]:>9.4f} ± {s[3]:.4f}")  # fmt: skip


def ship() -> None:
    """The ensemble of the members that are there, with what they missed on crystals that they had not seen."""
    cells, moduli, part = read_data()
    networks, missed = [], []
    for fold in range(FOLDS):
        path = FOLDER / f"binary_moduli-crystal-{fold}.safetensors"
        if not path.is_file():
            continue
        made, _, _ = network("crystal", fold)
        assert isinstance(made, CrystalNetwork)
        made.load_state_dict({name: value for name, value in load_file(path).items() if ".mix.0." not in name})
        networks.append(made)
        missed.append(np.log(np.load(path.with_suffix(".npy")) / moduli[part == fold]))
    errors = np.abs(np.concatenate(missed))
    about = {
        "elements": sorted({int(z) for atoms in cells for z in atoms.numbers}), "species": [2], "directional": False,
        "log_error": np.quantile(errors, 0.68, axis=0).tolist(),
        "data": "binary_bulk_shear_moduli.json.gz: matcalc 2025.1 elasticity benchmark (Materials Project, PBE), BSD-3",
        "recipe": "python tests/benchmarks/binary_moduli.py train && python tests/benchmarks/binary_moduli.py ship",
        "settings": SETTINGS, "training": TRAINING, "members": len(networks), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    DEFAULT_MODEL.parent.mkdir(exist_ok=True)
    CrystalEnsemble(networks, about).write(DEFAULT_MODEL)
    print(f"{len(networks)} networks, {DEFAULT_MODEL.stat().st_size / 1e6:.2f} MB, log error {about['log_error']}")


def speed() -> None:
    """Structures a second of processor time of one core, at 4 atoms per cell."""
    cells = [atoms for atoms in read_data()[0] if len(atoms) == 4][:256]
    ensemble = CrystalEnsemble.read(DEFAULT_MODEL)
    member = ensemble.networks[0]
    start = time.process_time()
    crystals = [member.sums(atoms) for atoms in cells]
    sums = time.process_time() - start
    figures = [("lattice sums", sums)]
    for dtype, name in ((torch.float64, "one network, float64"), (torch.float32, "one network, float32")):
        made = member.to(dtype)
        with torch.no_grad():
            bulk_and_shear(made(CrystalBatch.of(crystals[:32], dtype))["stiffness"])
            start = time.process_time()
            for first in range(0, len(crystals), 64):
                bulk_and_shear(made(CrystalBatch.of(crystals[first : first + 64], dtype))["stiffness"])
            figures.append((name, time.process_time() - start))
    start = time.process_time()
    for atoms in cells[:64]:
        crystal_moduli(atoms, model=CrystalEnsemble([member], ensemble.about))
    figures.append(("crystal_moduli, one at a time", (time.process_time() - start) * len(cells) / 64))
    for name, seconds in figures:
        print(f"{name:<34}{len(cells) / seconds:>8.0f} structures/s")
    print(f"{'lattice sums and network, float64':<34}{len(cells) / (figures[0][1] + figures[1][1]):>8.0f} structures/s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    task = sys.argv[1] if len(sys.argv) > 1 else "report"
    chosen = [int(word) for word in sys.argv[2:]] or list(range(FOLDS))
    if task == "train":
        train("crystal", chosen)
    elif task == "rivals":
        train("composition", chosen)
        train("bonds", chosen)
    elif task == "ship":
        ship()
    elif task == "speed":
        speed()
    else:
        report()
