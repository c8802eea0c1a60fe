"""Training of the voxel network on records made by `constitutive.voxel_data`.

python -m constitutive.voxel_training images.h5 more.h5 -o constitutive/models/voxel.safetensors
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import h5py as _h5py
import numpy as np
import torch

from .voxel_network import VoxelNetwork, features, save_network, spread_and_width

h5py: Any = _h5py  # comes without types
#: Conjugate-gradient steps of each gear.
GEARS = {"fast solid": 1, "accurate solid": 2, "fast pores": 2, "accurate pores": 4}
NAMES = ("upper", "gram", "squares", "forces", "lower", "stiffness")


def read_records(paths: list[Path]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Records of all files stacked, family (n,) and whether there are pores (n,)."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    families, porous = [], []
    for path in paths:
        with h5py.File(path, "r") as file:
            for group in file.values():
                if "stiffness" not in group:
                    continue
                for name in NAMES:
                    rows[name].append(group[name][...])
                families.append(str(group.attrs["family"]))
                porous.append(bool(group.attrs["porous"]))
    if not families:
        raise ValueError(
            f"read_records: expected samples in {', '.join(map(str, paths))}, got none. Run voxel_data first."
        )
    return {name: np.stack(values) for name, values in rows.items()}, np.array(families), np.array(porous)


def choose(records: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in records.items()}


def relative_error(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """‖C − C*‖ / ‖C*‖ (n,)."""
    return np.linalg.norm(found - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))


def train(
    records: dict[str, np.ndarray], steps: int, seed: int = 0, epochs: int = 60, hidden: int = 64, rate: float = 3e-3
) -> VoxelNetwork:
    """Least mean relative error by AdamW on one thread, reproducible from the seed."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    matrices, lower, root = features(records, steps)
    network = VoxelNetwork(steps, hidden)
    network.fit_scales(matrices)
    last: Any = network.body[-1]
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.zero_()
        scaled, inputs = network.prepare(torch.tensor(matrices))
    low, high, exact = torch.tensor(lower), torch.tensor(root), torch.tensor(records["stiffness"])
    size = torch.linalg.matrix_norm(exact)
    batches = max(1, len(exact) // 48)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * batches)
    for _ in range(epochs):
        for rows in np.array_split(generator.permutation(len(exact)), batches):
            found = network.finish(scaled[rows], inputs[rows], low[rows], high[rows])
            loss = (torch.linalg.matrix_norm(found - exact[rows]) / size[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.requires_grad_(False)


def fit_error(answers: np.ndarray, records: dict[str, np.ndarray], steps: int) -> dict[str, float]:
    """Coefficients of `expected_error`: least squares on logarithms, then shifted so that 90 % lie below."""
    spread, width = spread_and_width(answers, records, steps)
    error = np.log(relative_error(answers.mean(axis=0), records["stiffness"]) + 1e-12)
    columns = np.stack([np.ones_like(spread), np.log(spread + 1e-12), np.log(width + 1e-12)], axis=1)
    solved = np.linalg.lstsq(columns, error, rcond=None)[0]
    rest = error - columns @ solved
    count = len(rest)
    shift = float(np.sort(rest)[min(count - 1, int(np.ceil(0.9 * (count + 1))) - 1)])
    return {"a": float(solved[0]) + shift, "b": float(solved[1]), "c": float(solved[2])}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--members", default=3, show_default=True, help="Seeds of each ensemble.")
@click.option("--epochs", default=60, show_default=True)
def main(files: tuple[Path, ...], output: Path, members: int, epochs: int) -> None:
    """Train every gear; a fifth of the records is left out to calibrate the expected error."""
    torch.set_num_threads(1)
    records, _, porous = read_records(list(files))
    held = np.arange(len(porous)) % 5 == 4
    networks: dict[str, list[VoxelNetwork]] = {}
    description: dict[str, Any] = {"records": [path.name for path in files]}
    for name, steps in GEARS.items():
        kind = porous if "pores" in name else ~porous
        fitting, checking = choose(records, kind & ~held), choose(records, kind & held)
        networks[name] = [train(fitting, steps, seed, epochs) for seed in range(members)]
        answers = np.stack([member.predict(checking) for member in networks[name]])
        errors = relative_error(answers.mean(axis=0), checking["stiffness"])
        description[name] = {
            "training_images": len(fitting["stiffness"]), "error": fit_error(answers, checking, steps),
            "held_out_median": float(np.median(errors)), "held_out_95": float(np.percentile(errors, 95)),
        }  # fmt: skip
        click.echo(f"{name}: {description[name]}")
        save_network(networks, output, description)


if __name__ == "__main__":
    main()
