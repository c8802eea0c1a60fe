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

from .voxel_network import (
    GEARS,
    GOAL,
    MATRICES,
    RESOLVED,
    VoxelNetwork,
    features,
    likely_error,
    load_network,
    save_network,
    signs,
)

h5py: Any = _h5py  # comes without types
KINDS = ("solid", "crystals", "pores")
NAMES = (*MATRICES, "product", "length", "stiffness")


def read_records(paths: list[Path], kind: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Records of one kind of image ('solid', 'crystals', 'pores') from all files, stacked, and the family of each (n,).

    Of files that recorded different numbers of steps, those that all have are kept.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    families = []
    for path in paths:
        with h5py.File(path, "r") as file:
            for group in file.values():
                family, porous = str(group.attrs["family"]), bool(group.attrs["porous"])
                found = "pores" if porous else "crystals" if family == "polycrystal" else "solid"
                if "stiffness" not in group or found != kind:
                    continue
                for name in NAMES:
                    rows[name].append(group[name][...])
                families.append(family)
    if not families:
        raise ValueError(
            f"read_records: expected samples of kind {kind!r} in {', '.join(map(str, paths))}, got none. Run voxel_data "
            "first."
        )
    common = min(len(values) for values in rows["upper"])
    return {
        name: np.stack([value if name == "stiffness" else value[:common] for value in values])
        for name, values in rows.items()
    }, np.array(families)


def choose(records: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in records.items()}


def relative_error(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """‖C − C*‖ / ‖C*‖ (n,)."""
    return np.linalg.norm(found - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))


def train(
    records: dict[str, np.ndarray], steps: int, seed: int = 0, epochs: int = 60, hidden: int = 64, rate: float = 3e-3
) -> VoxelNetwork:
    """Least mean logarithm of the relative error by AdamW on one thread, reproducible from the seed."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    matrices, lower, root = features(records, steps)
    network = VoxelNetwork(steps, hidden)
    network.fit_scales(matrices)
    last: Any = network.body[-1]
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.zero_()
        network.fit_linear(matrices, lower, root, records["stiffness"])
        scaled, inputs = network.prepare(torch.tensor(matrices))
    low, high, exact = torch.tensor(lower), torch.tensor(root), torch.tensor(records["stiffness"])
    size = torch.linalg.matrix_norm(exact)
    batches = max(1, len(exact) // 48)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * batches)
    for _ in range(epochs):
        for rows in np.array_split(generator.permutation(len(exact)), batches):
            found = network.finish(scaled[rows], inputs[rows], low[rows], high[rows])
            # the logarithm lets neither the few hard images rule nor the many easy ones
            loss = torch.log(torch.linalg.matrix_norm(found - exact[rows]) / size[rows] + 2e-3).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    # rounded to what the file keeps
    network.load_state_dict({name: value.float().double() for name, value in network.state_dict().items()})
    return network.requires_grad_(False)


def fit_likely(answers: np.ndarray, records: dict[str, np.ndarray], steps: int, kind: str) -> list[float]:
    """Coefficients of `likely_error`: least squares on the logarithm of the error of images left out."""
    error = np.log(np.maximum(relative_error(answers.mean(axis=0), records["stiffness"]), 0.1 * RESOLVED[kind]))
    columns = signs(answers, records, steps)
    return np.linalg.lstsq(columns, error, rcond=1e-6)[0].tolist()


def ladder(
    networks: dict[str, list[VoxelNetwork]],
    description: dict[str, Any],
    gear: str,
    kind: str,
    records: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `guess` does, on records: stiffness (n, 6, 6), likely error, steps and width of the bracket (n,)."""
    count = len(records["upper"])
    stiffness, steps_taken = np.zeros((count, 6, 6)), np.zeros(count, int)
    likely, widths = np.zeros(count), np.zeros(count)
    left = np.arange(count)
    for steps in GEARS[gear][kind]:
        part = choose(records, left)
        answers = np.stack([member.predict(part) for member in networks[f"{kind} {steps}"]])
        found = likely_error(answers, part, steps, description[f"{kind} {steps}"]["error"])
        stiffness[left], likely[left], steps_taken[left] = answers.mean(axis=0), found, steps
        size = np.linalg.norm(stiffness[left], axis=(1, 2))
        widths[left] = np.linalg.norm(part["upper"][:, steps] - part["lower"][:, steps], axis=(1, 2)) / size
        left = left[found > GOAL[gear]]
        if not len(left):
            break
    return stiffness, likely, steps_taken, widths


def conformal(error: np.ndarray, likely: np.ndarray, ranges: int = 3) -> dict[str, list[float]]:
    """Edges of ranges of the likely error, equally full, and in each the factor that nine in ten errors stay below,
    counted as for one more image."""
    edges = np.quantile(likely, np.arange(1, ranges) / ranges)
    place = np.searchsorted(edges, likely)
    factors = []
    for part in range(ranges):
        ratio = np.sort((error / likely)[place == part])
        factors.append(float(ratio[min(len(ratio) - 1, int(np.ceil(0.9 * (len(ratio) + 1))) - 1)]))
    return {"edges": edges.tolist(), "factors": factors}


def calibrate(
    networks: dict[str, list[VoxelNetwork]], description: dict[str, Any], kind: str, checking: dict[str, np.ndarray]
) -> None:
    """Write into the description what the gears may say of their errors, from images left out of training."""
    for steps in steps_of(kind):
        answers = np.stack([member.predict(checking) for member in networks[f"{kind} {steps}"]])
        description[f"{kind} {steps}"]["error"] = fit_likely(answers, checking, steps, kind)
    for gear in GEARS:
        found, likely, steps, _ = ladder(networks, description, gear, kind, checking)
        errors = relative_error(found, checking["stiffness"])
        description[f"{gear} {kind}"] = {
            **conformal(errors, likely), "held_out_median": float(np.median(errors)),
            "held_out_95": float(np.percentile(errors, 95)), "mean_steps": float(steps.mean()),
        }  # fmt: skip


def steps_of(kind: str) -> list[int]:
    """All numbers of steps that a gear may stop at."""
    return sorted({steps for gear in GEARS.values() for steps in gear[kind]})


def split(files: list[Path], kind: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Records of one kind to train on, and every fifth to calibrate on."""
    records, _ = read_records(files, kind)
    held = np.arange(len(records["upper"])) % 5 == 4
    return choose(records, ~held), choose(records, held)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--members", default=3, show_default=True, help="Seeds of each ensemble.")
@click.option("--epochs", default=12, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only this; OUTPUT keeps its others.")
def main(files: tuple[Path, ...], output: Path, members: int, epochs: int, kinds: tuple[str, ...]) -> None:
    """Train the networks of every gear; a fifth of the records is left out to calibrate the expected error."""
    torch.set_num_threads(1)
    networks: dict[str, list[VoxelNetwork]] = {}
    description: dict[str, Any] = {}
    if kinds and output.is_file():
        networks, description = load_network(output)
    for kind in kinds or KINDS:
        fitting, checking = split(list(files), kind)
        for steps in steps_of(kind):
            networks[f"{kind} {steps}"] = [train(fitting, steps, seed, epochs) for seed in range(members)]
            description[f"{kind} {steps}"] = {
                "training_images": len(fitting["upper"]), "records": [path.name for path in files],
            }  # fmt: skip
        calibrate(networks, description, kind, checking)
        for gear in GEARS:
            click.echo(f"{gear} {kind}: {description[f'{gear} {kind}']}")
        save_network(networks, output, description)


if __name__ == "__main__":
    main()
