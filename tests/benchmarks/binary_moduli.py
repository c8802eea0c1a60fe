"""Bulk and shear moduli of 3,161 binary compounds: training, rivals, and the model that ships.

    python tests/benchmarks/binary_moduli.py train       # five networks, each without a fifth of the chemical systems
    python tests/benchmarks/binary_moduli.py process     # five Gaussian processes on descriptors, the same splits
    python tests/benchmarks/binary_moduli.py rivals      # composition alone, scalar bonds: the same five splits
    python tests/benchmarks/binary_moduli.py report      # errors on what each had not seen
    python tests/benchmarks/binary_moduli.py whole       # one network that has seen all compounds
    python tests/benchmarks/binary_moduli.py strangers   # five processes, each without a fifth of the elements
    python tests/benchmarks/binary_moduli.py ship        # → constitutive/models/binary_moduli.safetensors

Chemical systems (pairs of elements) go into five parts by a seed; member k of each kind never sees part k. Weights go to
out/binary_moduli; a training that was killed goes on from its last epoch. What ships are the five networks and a process
fitted to all compounds. The kernel, the descriptors and the share of the process were chosen on inner folds of the systems
that are not in part 0 (fit on two or three parts, test on another).
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
from intervals import quantile_lines
from moduli_rivals import BondBatch, BondNetwork, Bonds, Composition
from safetensors.torch import load_file, save_file

from constitutive.crystal_ensemble import DEFAULT_MODEL, CrystalEnsemble
from constitutive.crystal_graph import CrystalBatch, CrystalNetwork, bulk_and_shear
from constitutive.fitting.crystal_fit import moduli_loss, train_network
from constitutive.fitting.process_fit import fit_process
from constitutive.moduli_process import crystal_row
from crystals.elements import element_properties
from crystals.pair_sums import PairSums, pair_sums
from crystals.structures import standard_primitive

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "binary_bulk_shear_moduli.json.gz"
FOLDER = ROOT / "out" / "binary_moduli"
FOLDS = 5
#: The part that no crystal is in: a member "without" it has seen all.
WHOLE = FOLDS
#: Weight of the process in the mean of ln K and ln G.
SHARE = 0.8
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
        save_file({name: value.contiguous() for name, value in made.state_dict().items()}, weights)
        weights.with_suffix(".checkpoint").unlink(missing_ok=True)
        if fold != WHOLE:
            found = predicted(made, [crystals[i] for i in held], collate)
            np.save(weights.with_suffix(".npy"), found)
            print(kind, fold, np.abs(found - moduli[held]).mean(axis=0), flush=True)


def process(folds: list[int]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells, moduli, part = read_data()
    crystals = [crystal_row(atoms) for atoms in cells]
    for fold in folds:
        path = FOLDER / f"binary_moduli-process-{fold}.npy"
        if not path.is_file():
            rows, held = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
            made = fit_process([crystals[i] for i in rows], *moduli[rows].T)
            np.save(path, np.exp(made.logarithms([crystals[i] for i in held])))
            print("process", fold, np.abs(np.load(path) - moduli[held]).mean(axis=0), flush=True)


def left_out(kind: str, fold: int) -> np.ndarray | None:
    """K and G (n, 2) of part `fold` as the member that never saw it has them."""
    if kind == "both":
        known, own = left_out("process", fold), left_out("crystal", fold)
        return None if known is None or own is None else known**SHARE * own ** (1.0 - SHARE)
    path = FOLDER / f"binary_moduli-{kind}-{fold}.npy"
    return np.load(path) if path.is_file() else None


def report() -> None:
    _, moduli, part = read_data()
    print(f"{len(moduli)} binary compounds; mean absolute deviation K "
          f"{np.abs(moduli - moduli.mean(axis=0)).mean(axis=0)[0]:.1f}, G "
          f"{np.abs(moduli - moduli.mean(axis=0)).mean(axis=0)[1]:.1f} GPa")  # fmt: skip
    print("mean absolute error on chemical systems not seen, mean ± deviation over the splits")
    print(f"{'':<14}{'splits':>7}{'K, GPa':>15}{'G, GPa':>15}{'log10 K':>18}{'log10 G':>18}  G of each split")
    for kind in ("both", "process", "crystal", "composition", "bonds"):
        rows = []
        for fold in range(FOLDS):
            found, true = left_out(kind, fold), moduli[part == fold]
            if found is not None:
                rows.append(np.r_[np.abs(found - true).mean(axis=0), np.abs(np.log10(found / true)).mean(axis=0)])
        if rows:
            m, s = np.mean(rows, axis=0), np.std(rows, axis=0)
            print(f"{kind:<14}{len(rows):>7}{m[0]:>9.2f} ± {s[0]:.2f}{m[1]:>9.2f} ± {s[1]:.2f}"
                  f"{m[2]:>11.4f} ± {s[2]:.4f}{m[3]:>9.4f} ± {s[3]:.4f}  "
                  + " ".join(f"{row[1]:.2f}" for row in rows))  # fmt: skip
    done = {fold: one for fold in range(FOLDS) if (one := left_out("both", fold)) is not None}
    if len(done) > 1:
        true = np.concatenate([moduli[part == fold] for fold in done])
        found = np.concatenate(list(done.values()))
        order = np.argsort(-np.abs(found - true)[:, 1])
        missed = np.abs(found - true)[order, 1]
        print(f"the worst hundredth makes up {missed[: len(order) // 100].sum() / missed.sum():.0%} of the error of G")
        odd = true[:, 1] > 1.5 * true[:, 0]
        print(f"{odd.sum()} compounds have G > 1.5 K in the data: without them G "
              f"{np.abs(found - true)[~odd, 1].mean():.2f} GPa")  # fmt: skip
        print("share of crystals never seen inside the stated interval, calibrated on the other splits: K, G")
        for level in (0.68, 0.9):
            inside = []
            for fold in done:
                others = [other for other in done if other != fold]
                a, b = calibration(others, moduli, part, level)
                missed, apart = errors(fold, moduli, part)
                inside.append(missed <= a + b * apart)
            print(f"  {level:.0%}: {np.concatenate(inside).mean(axis=0).round(3).tolist()}")
    if len(away := stranger_errors()) > 1:
        print(f"compounds with an element not in training ({sum(map(len, away))}): median error of K and G "
              f"{np.expm1(np.median(np.concatenate(away), axis=0)).round(3).tolist()}; share inside the interval of the "
              "other sets of elements")  # fmt: skip
        for level in (0.68, 0.9):
            inside = [
                one <= np.quantile(np.concatenate([other for other in away if other is not one]), level, axis=0)
                for one in away
            ]
            print(f"  {level:.0%}: {np.concatenate(inside).mean(axis=0).round(3).tolist()}")


def errors(fold: int, moduli: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|error| of ln K and ln G on a part, and what process and network disagree by, each (n, 2)."""
    both, known, own = (left_out(kind, fold) for kind in ("both", "process", "crystal"))
    assert both is not None and known is not None and own is not None
    return np.abs(np.log(both / moduli[part == fold])), np.abs(np.log(known / own))


def calibration(folds: list[int], moduli: np.ndarray, part: np.ndarray, level: float) -> np.ndarray:
    """a, b (2, 2) for ln K and ln G: |error| ≤ a + b |process − network| for a share `level` of the crystals of some parts."""
    missed, apart = (
        np.concatenate(values) for values in zip(*(errors(fold, moduli, part) for fold in folds), strict=True)
    )
    return quantile_lines(missed, apart, level)


def strangers() -> None:
    """Errors of a process on compounds with an element that none of its training had, a fifth of the elements at a time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells, moduli, _ = read_data()
    crystals = [crystal_row(atoms) for atoms in cells]
    elements = np.unique(np.concatenate([atoms.numbers for atoms in cells]))
    group = np.random.default_rng(1).permutation(len(elements)) % FOLDS
    for fold in range(FOLDS):
        path = FOLDER / f"strangers-{fold}.npz"
        if path.is_file():
            continue
        away = np.array([np.isin(elements[group == fold], atoms.numbers).sum() for atoms in cells])
        made = fit_process([crystals[i] for i in np.flatnonzero(away == 0)], *moduli[away == 0].T)
        found = made.logarithms([crystals[i] for i in np.flatnonzero(away)])
        np.savez(path, missed=np.abs(found - np.log(moduli[away > 0])), moduli=moduli[away > 0], found=np.exp(found))
        print("strangers", fold, np.abs(np.exp(found) - moduli[away > 0]).mean(axis=0), flush=True)


def stranger_errors() -> list[np.ndarray]:
    """|error| (n, 2) of ln K and ln G for each set of elements left out."""
    return [np.load(path)["missed"] for path in sorted(FOLDER.glob("strangers-*.npz"))]


def ship() -> None:
    """A network and a process that have seen all compounds, with what those that left a part out missed there."""
    cells, moduli, part = read_data()
    done = [fold for fold in range(FOLDS) if left_out("both", fold) is not None]
    made, _, _ = network("crystal", WHOLE)
    assert isinstance(made, CrystalNetwork)
    made.load_state_dict(load_file(FOLDER / f"binary_moduli-crystal-{WHOLE}.safetensors"))
    fitted = fit_process([crystal_row(atoms) for atoms in cells], *moduli.T)
    levels = {name: calibration(done, moduli, part, level) for name, level in (("68", 0.68), ("90", 0.9))}
    about = {
        "elements": sorted({int(z) for atoms in cells for z in atoms.numbers}), "species": [2], "directional": False,
        "log_error": levels["68"][0].tolist(), "process_share": SHARE,
        "calibration": {name: found.tolist() for name, found in levels.items()},
        "strangers": {
            name: np.quantile(np.concatenate(stranger_errors()), level, axis=0).tolist()
            for name, level in (("68", 0.68), ("90", 0.9))
        },
        "data": "binary_bulk_shear_moduli.json.gz: matcalc 2025.1 elasticity benchmark (Materials Project, PBE), BSD-3",
        "recipe": "python tests/benchmarks/binary_moduli.py train, process, whole, strangers, ship",
        "settings": SETTINGS, "training": TRAINING, "members": 1, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    DEFAULT_MODEL.parent.mkdir(exist_ok=True)
    CrystalEnsemble([made], about, fitted).write(DEFAULT_MODEL)
    print(f"{DEFAULT_MODEL.stat().st_size / 1e6:.2f} MB, {about['calibration']}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    task = sys.argv[1] if len(sys.argv) > 1 else "report"
    chosen = [int(word) for word in sys.argv[2:]] or list(range(FOLDS))
    if task == "train":
        train("crystal", chosen)
    elif task == "whole":
        train("crystal", [WHOLE])
    elif task == "strangers":
        strangers()
    elif task == "rivals":
        train("composition", chosen)
        train("bonds", chosen)
    elif task == "process":
        process(chosen)
    elif task == "ship":
        ship()
    else:
        report()
