"""From structure to law on EMT alloys: errors on compositions and on a prototype never seen, against rivals and size.

python tests/benchmarks/emt_structures.py            # the crystals, first
python tests/benchmarks/structure_law.py train 3     # members with seeds 0 … 2
python tests/benchmarks/structure_law.py sizes       # trained on a half, a quarter, an eighth
python tests/benchmarks/structure_law.py report
python tests/benchmarks/structure_law.py calibrate   # the intervals of what ships, from crystals never seen
python tests/benchmarks/structure_law.py ship        # → constitutive/models/emt_alloys.safetensors
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from emt_structures import FOLDER, METALS
from intervals import quantile_lines
from safetensors.torch import load_file, save_file

from constitutive.crystal_ensemble import CrystalEnsemble
from constitutive.crystal_graph import THIRD_ORDER_UNIT, CrystalBatch, CrystalNetwork, stiffness
from constitutive.fitting.crystal_fit import law_loss, train_network
from crystals.elements import element_properties
from crystals.moduli import hill_average
from crystals.pair_sums import pair_sums

MODEL = Path(__file__).resolve().parents[2] / "constitutive" / "models" / "emt_alloys.safetensors"
SETTINGS: dict[str, Any] = {
    "channels": 24, "products": 12, "layers": 2, "degree": 6, "reach": 2, "cutoff": 6.0, "dropout": 0.0,
}  # fmt: skip
TRAINING: dict[str, Any] = {"epochs": 120, "batch": 16, "rate": 3e-3, "decay": 0.05}
BATCH = partial(CrystalBatch.of, dtype=torch.float32)


def read_crystals() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (FOLDER / "crystals.jsonl").read_text().splitlines()]
    return [one for one in lines if "left_out" not in one]


def atoms_of(one: dict[str, Any]) -> Atoms:
    return Atoms(one["numbers"], cell=one["cell"], positions=one["positions"], pbc=True)


def arrays(crystals: list[dict[str, Any]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array([one[name] for one in crystals]) for name in ("stiffness", "strains", "stresses"))


def train(name: str, seed: int, share: float = 1.0) -> None:
    path = FOLDER / f"{name}.safetensors"
    if path.is_file():
        return
    crystals = [one for one in read_crystals() if one["split"] == "train"]
    order = np.random.default_rng(100 + seed).permutation(len(crystals))
    crystals = [crystals[i] for i in order[: max(8, round(share * len(crystals)))]]
    sums = [pair_sums(atoms_of(one), SETTINGS["cutoff"], degree=SETTINGS["degree"]) for one in crystals]
    torch.manual_seed(seed)
    network = CrystalNetwork(("stiffness", "third_order"), element_properties(), **SETTINGS)
    network.set_scales(sums)
    with torch.no_grad():
        # log C of a typical metal; third-order constants are about ten times the second, and negative
        network.scalar_offset.copy_(torch.tensor([6.0, 9.8, -2.0, -2.0, -1.0]))
    start = time.time()
    epochs = round(TRAINING["epochs"] / share**0.5)  # fewer crystals make fewer steps

    def report(epoch: int, loss: float) -> None:
        if epoch % 10 == 0:
            print(f"{name} epoch {epoch} loss {loss:.4f} {time.time() - start:.0f} s", flush=True)

    train_network(
        network, sums, law_loss(*arrays(crystals)), collate=BATCH, seed=seed, report=report,
        checkpoint=path.with_suffix(".checkpoint"), **{**TRAINING, "epochs": epochs},
    )  # fmt: skip
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    path.with_suffix(".checkpoint").unlink(missing_ok=True)


def load(names: list[str]) -> list[CrystalNetwork]:
    networks = []
    for name in names:
        network = CrystalNetwork(("stiffness", "third_order"), element_properties(), **SETTINGS)
        network.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
        networks.append(network.double().eval())
    return networks


def predicted(networks: list[CrystalNetwork], crystals: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """C (n, 6, 6) and C₃ (n, 6, 6, 6), GPa: means over the members of log C and of C₃."""
    batch = CrystalBatch.of([networks[0].sums(atoms_of(one)) for one in crystals])
    with torch.no_grad():
        found = [network(batch) for network in networks]
        second = stiffness(torch.stack([one["stiffness"] for one in found]).mean(dim=0))
        third = THIRD_ORDER_UNIT * torch.stack([one["third_order"] for one in found]).mean(dim=0)
    return second.numpy(), third.numpy()


def errors(
    crystals: list[dict[str, Any]], second: np.ndarray, third: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Relative Frobenius error of C, and of the stress at all strains, of each crystal."""
    constants, strains, stresses = arrays(crystals)
    stress = strains @ second
    if third is not None:
        stress = stress + 0.5 * np.einsum("kabc,knb,knc->kna", third, strains, strains)
    off = np.linalg.norm(second - constants, axis=(1, 2)) / np.linalg.norm(constants, axis=(1, 2))
    return off, np.linalg.norm(stress - stresses, axis=(1, 2)) / np.linalg.norm(stresses, axis=(1, 2))


def isotropic(bulk: float, shear: float) -> np.ndarray:
    volume = np.zeros((6, 6))
    volume[:3, :3] = 1 / 3
    return 3 * bulk * volume + 2 * shear * (np.eye(6) - volume)


def shares(one: dict[str, Any]) -> np.ndarray:
    symbols = atoms_of(one).get_chemical_symbols()
    return np.array([symbols.count(metal) / len(symbols) for metal in METALS])


def mixtures(crystals: list[dict[str, Any]], seen: list[dict[str, Any]]) -> np.ndarray:
    """Isotropic stiffness with the mean of the elements' bulk and shear moduli, by their shares."""
    pure = {one["name"]: hill_average(np.array(one["stiffness"])) for one in seen if one["prototype"] == "fcc"}
    table = np.array([pure[metal] for metal in METALS])
    return np.array([isotropic(*(shares(one) @ table)) for one in crystals])


def compositions(crystals: list[dict[str, Any]], seen: list[dict[str, Any]]) -> np.ndarray:
    """Isotropic stiffness with bulk and shear modulus by a small network of the shares of the elements."""
    torch.manual_seed(0)
    x = torch.tensor(np.array([shares(one) for one in seen]), dtype=torch.float32)
    y = torch.tensor(np.log([hill_average(np.array(one["stiffness"])) for one in seen]), dtype=torch.float32)
    network = torch.nn.Sequential(torch.nn.Linear(7, 32), torch.nn.SiLU(), torch.nn.Linear(32, 32), torch.nn.SiLU(),
                                  torch.nn.Linear(32, 2))  # fmt: skip
    middle, optimiser = y.mean(dim=0), torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.01)
    for _ in range(800):
        optimiser.zero_grad()
        (network(x) + middle - y).abs().mean().backward()
        optimiser.step()
    with torch.no_grad():
        found = torch.exp(
            network(torch.tensor(np.array([shares(one) for one in crystals]), dtype=torch.float32)) + middle
        )
    return np.array([isotropic(*row) for row in found.double().numpy()])


def neighbours(crystals: list[dict[str, Any]], seen: list[dict[str, Any]]) -> np.ndarray:
    """The stiffness of the training crystal of nearest composition with the same point group, else of any."""
    known = np.array([shares(one) for one in seen])
    found = []
    for one in crystals:
        distance = np.linalg.norm(known - shares(one), axis=1)
        distance = distance + np.array([0.0 if other["group"] == one["group"] else 10.0 for other in seen])
        found.append(seen[int(np.argmin(distance))]["stiffness"])
    return np.array(found)


def report() -> None:
    crystals = read_crystals()
    seen = [one for one in crystals if one["split"] == "train"]
    members = [path.stem for path in sorted(FOLDER.glob("member-*.safetensors"))]
    print(f"{len(crystals)} crystals, {len(seen)} for training; {len(members)} members; relative errors, median (mean)")
    for held, title in (
        ("composition", "pairs of metals never seen together"), ("prototype", "prototype never seen (MoPt2)"),
    ):  # fmt: skip
        test = [one for one in crystals if one["split"] == held]
        print(f"{title}: {len(test)} crystals{'':<12}   C            stress, |E| ≤ 0.045")
        rows: list[tuple[str, np.ndarray, np.ndarray | None]] = [
            ("network, all members", *predicted(load(members), test))
        ]
        rows += [(f"network, {name}", *predicted(load([name]), test)) for name in members]
        rows += [
            ("rule of mixtures", mixtures(test, seen), None), ("composition network", compositions(test, seen), None),
            ("nearest neighbour", neighbours(test, seen), None),
        ]  # fmt: skip
        for name, second, third in rows:
            c, s = errors(test, second, third)
            print(f"  {name:<38}{100 * np.median(c):>6.2f} ({100 * c.mean():.2f}) %"
                  f"{100 * np.median(s):>9.2f} ({100 * s.mean():.2f}) %")  # fmt: skip
    sizes = [(path.stem, float(path.stem.split("-")[1])) for path in FOLDER.glob("size-*.safetensors")]
    if sizes:
        test = [one for one in crystals if one["split"] != "train"]
        points = []
        for name, share in [*sorted(sizes, key=lambda item: item[1]), ("member-0", 1.0)]:
            c, s = errors(test, *predicted(load([name]), test))
            points.append((max(8, round(share * len(seen))), 100 * np.median(c), 100 * np.median(s)))
            print(
                f"trained on {points[-1][0]:>4} crystals: C {points[-1][1]:.2f} %, stress {points[-1][2]:.2f} % (median)"
            )
        plot(points)


def plot(points: list[tuple[int, float, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    number, second, stress = np.array(points).T
    figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    axes.loglog(number, second, "o-", label="stiffness")
    axes.loglog(number, stress, "s-", label="stress, |E| ≤ 0.045")
    axes.set(xlabel="training crystals", ylabel="median relative error, %")
    for axis, ticks in ((axes.xaxis, number.astype(int)), (axes.yaxis, np.array([2, 3, 4, 6, 10]))):
        axis.set_ticks(ticks, [str(tick) for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.legend(frameon=False)
    figure.savefig(Path(__file__).parent / "results" / "structure_law.png", dpi=130)


def missed(networks: list[CrystalNetwork], test: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """|error| of ln K and ln G, and the members' deviation in each, (n, 2)."""
    true = np.log([hill_average(np.array(one["stiffness"])) for one in test])
    found = np.log([hill_average(c) for c in predicted(networks, test)[0]])
    each = np.log([[hill_average(c) for c in predicted([one], test)[0]] for one in networks])
    return np.abs(found - true), each.std(axis=0, ddof=1)


def calibration(networks: list[CrystalNetwork]) -> dict[str, Any]:
    """Intervals from the crystals never seen, and how they hold across the two ways of never having been seen."""
    parts = [
        missed(networks, [one for one in read_crystals() if one["split"] == held])
        for held in ("composition", "prototype")
    ]
    for level in (0.68, 0.9):
        inside = []
        for here, there in (parts, parts[::-1]):
            a, b = quantile_lines(*here, level)
            inside.append(there[0] <= a + b * there[1])
        print(
            f"{level:.0%} interval of one set holds of the other (K, G): {np.concatenate(inside).mean(axis=0).round(3)}"
        )
    off, spread = (np.concatenate(values) for values in zip(*parts, strict=True))
    return {
        "log_error": np.quantile(off, 0.68, axis=0).tolist(),
        "calibration": {name: quantile_lines(off, spread, level).tolist() for name, level in (("68", 0.68), ("90", 0.9))},
    }  # fmt: skip


def calibrate() -> None:
    """State the intervals of the model that ships anew."""
    known = CrystalEnsemble.read(MODEL)
    CrystalEnsemble(known.networks, known.about | calibration(known.networks)).write(MODEL)


def ship() -> None:
    members = [path.stem for path in sorted(FOLDER.glob("member-*.safetensors"))]
    networks, crystals = load(members), read_crystals()
    about = {
        "elements": sorted({int(z) for one in crystals for z in one["numbers"]}), "species": [1, 2, 3],
        "directional": True, **calibration(networks),
        "data": "crystals of ASE's EMT, relaxed ions: tests/benchmarks/emt_structures.py", "max_strain": 0.045,
        "recipe": "python tests/benchmarks/structure_law.py train 3 && python tests/benchmarks/structure_law.py ship",
        "settings": SETTINGS, "training": TRAINING, "members": len(members), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    MODEL.parent.mkdir(exist_ok=True)
    CrystalEnsemble(networks, about).write(MODEL)
    print(f"{len(members)} networks, {MODEL.stat().st_size / 1e6:.2f} MB, log error {about['log_error']}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    task = sys.argv[1] if len(sys.argv) > 1 else "report"
    if task == "train":
        for seed in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
            train(f"member-{seed}", seed)
    elif task == "sizes":
        for part in (0.5, 0.25, 0.125):
            train(f"size-{part}", 0, part)
    elif task == "ship":
        ship()
    elif task == "calibrate":
        calibrate()
    else:
        report()
