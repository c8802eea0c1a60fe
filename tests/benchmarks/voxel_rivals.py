"""Rivals of the learned gears on the same images: what needs no learning, a small network of fraction and contrast inside
the bounds, a plain convolutional network with augmentation; and the error against the number of training images.

    python -m constitutive.voxel_data DIR/solid.h5 --number 1072 --porous false
    python -m constitutive.voxel_data DIR/seen.h5 --first 90000 --number 160
    OMP_NUM_THREADS=1 python tests/benchmarks/voxel_rivals.py DIR [FIGURE.png]

Two isotropic phases, contrast 2–100, 8³ to 12³. Errors are ‖C − C*‖/‖C*‖ in per cent, median / 95th percentile, of three
seeds of training and of the choice of the training images. Each number of images is kept in DIR when it is done.
"""

from __future__ import annotations

import itertools
import json
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import h5py as _h5py
import numpy as np
import torch

from constitutive.bounds import hashin_shtrikman
from constitutive.voxel_data import sample
from constitutive.voxel_training import NAMES, choose, relative_error, train
from crystals import mandel
from crystals.rotations import mandel_rotation

h5py: Any = _h5py  # comes without types
torch.set_num_threads(1)
NUMBERS = (60, 240, 900)
SEEDS = (0, 1, 2)
#: Batches of 16 images of the convolutional network, whatever the number of images; its rates fall to zero over them.
BATCHES = 300


def read(path: Path) -> tuple[dict[str, np.ndarray], list[np.ndarray], np.ndarray]:
    """Records of two isotropic stiff phases, and of each image bulk and shear modulus of its voxels (2, n, n, n) and the
    descriptors (fraction of the stiffer phase, logarithm of the contrast, both Poisson ratios) (n, 4)."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    rows |= {"hs_lower": [], "hs_upper": [], "voigt": [], "reuss": []}
    images, described = [], []
    with h5py.File(path, "r") as file:
        for name, group in file.items():
            if "stiffness" not in group or group.attrs["porous"] or group.attrs["family"] == "polycrystal":
                continue
            # made from its number alone, given that all of its block are stiff
            one = sample(int(name), porous=False)
            for key in NAMES:
                rows[key].append(group[key][...])
            lower, upper = hashin_shtrikman(one.image.labels, one.table)
            bulk = one.table[:, :3, :3].sum(axis=(1, 2)) / 9.0
            shear = one.table[:, 5, 5] / 2.0
            share = np.bincount(one.image.labels.ravel(), minlength=2) / one.image.labels.size
            rows["hs_lower"].append(lower)
            rows["hs_upper"].append(upper)
            rows["voigt"].append(np.einsum("m,mij->ij", share, one.table))
            rows["reuss"].append(np.linalg.inv(np.einsum("m,mij->ij", share, np.linalg.inv(one.table))))
            assert np.allclose(rows["voigt"][-1], rows["upper"][-1][0]), "the image is not the one of the record"
            stiff = int(np.argmax(shear))
            poisson = (3.0 * bulk - 2.0 * shear) / (6.0 * bulk + 2.0 * shear)
            described.append([share[stiff], np.log(shear.max() / shear.min()), poisson[stiff], poisson[1 - stiff]])
            images.append(np.stack([bulk, shear])[:, one.image.labels])
    return {key: np.stack(values) for key, values in rows.items()}, images, np.array(described)


def show(errors: np.ndarray) -> str:
    return f"{100 * np.median(errors):6.2f} / {100 * np.percentile(errors, 95):6.2f}"


def middle(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    return 0.5 * (lower + upper)


class Descriptors(torch.nn.Module):
    """C = L + x (U − L) between the two-point Hashin–Shtrikman bounds, x in (0, 1) of fraction, contrast, Poisson ratios."""

    def __init__(self, described: np.ndarray) -> None:
        super().__init__()
        self.mean = torch.tensor(described.mean(axis=0))
        self.spread = torch.tensor(described.std(axis=0))
        self.body = torch.nn.Sequential(
            torch.nn.Linear(4, 32), torch.nn.SiLU(), torch.nn.Linear(32, 32), torch.nn.SiLU(), torch.nn.Linear(32, 1)
        ).to(torch.float64)  # fmt: skip

    def forward(self, described: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
        share = torch.sigmoid(self.body((described - self.mean) / self.spread))[:, :, None]
        return lower + share * (upper - lower)


def train_descriptors(records: dict[str, np.ndarray], described: np.ndarray, seed: int) -> Descriptors:
    torch.manual_seed(seed)
    model = Descriptors(described)
    inputs = [torch.tensor(part) for part in (described, records["hs_lower"], records["hs_upper"])]
    exact = torch.tensor(records["stiffness"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=500)
    for _ in range(500):
        loss = (torch.linalg.matrix_norm(model(*inputs) - exact) / torch.linalg.matrix_norm(exact)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


class Convolutional(torch.nn.Module):
    """Plain periodic convolutions on log moduli, mean over voxels, then C = M^½ exp(A) M^½ with M the geometric mean."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for into, out, dilation in ((2, 8, 1), (8, 16, 1), (16, 16, 2)):
            layers += [
                torch.nn.Conv3d(into, out, 3, padding=dilation, dilation=dilation, padding_mode="circular"),
                torch.nn.GELU(),
            ]
        self.convolutions = torch.nn.Sequential(*layers)
        self.head = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 21))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logs = torch.log(images)
        mean = logs.mean(dim=(2, 3, 4), keepdim=True)
        field = self.convolutions(logs - mean)
        pooled = torch.cat([field.mean(dim=(2, 3, 4)), field.square().mean(dim=(2, 3, 4))], dim=1)
        bulk, shear = mean[:, :, 0, 0, 0].exp().double().T
        # roots of an isotropic stiffness: K and G of the root are (3K)^½/3 and (2G)^½/2
        one = torch.zeros(6, dtype=torch.float64)
        one[:3] = 1.0
        volume = torch.outer(one, one) / 3.0
        root = (3.0 * bulk).sqrt()[:, None, None] * volume
        root = root + (2.0 * shear).sqrt()[:, None, None] * (torch.eye(6, dtype=torch.float64) - volume)
        return root @ torch.linalg.matrix_exp(mandel.unpack_upper(self.head(pooled).double())) @ root


OPERATIONS = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


def turned(image: torch.Tensor, operation: np.ndarray) -> torch.Tensor:
    """Fields (channels, n, n, n) under one of the 48 operations of the cube."""
    axes = np.argmax(np.abs(operation), axis=1)
    flips = [1 + axis for axis in range(3) if operation[axis, axes[axis]] < 0]
    return torch.flip(image.permute(0, *(1 + int(axis) for axis in axes)), flips)


def train_convolutional(images: list[np.ndarray], exact: np.ndarray, seed: int) -> Convolutional:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = Convolutional()
    fields = [torch.tensor(image, dtype=torch.float32) for image in images]
    by_size: dict[int, list[int]] = {}
    for i, image in enumerate(images):
        by_size.setdefault(image.shape[-1], []).append(i)
    shares = np.array([len(rows) for rows in by_size.values()]) / len(images)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=BATCHES)
    for _ in range(BATCHES):
        rows = generator.choice(list(by_size.values())[generator.choice(len(shares), p=shares)], 16)
        chosen = [OPERATIONS[i] for i in generator.integers(48, size=16)]
        batch = torch.stack([turned(fields[row], by) for row, by in zip(rows, chosen, strict=True)])
        turns = np.stack([mandel_rotation(by) for by in chosen])
        wanted = torch.tensor(turns @ exact[rows] @ np.swapaxes(turns, 1, 2))
        loss = (torch.linalg.matrix_norm(model(batch) - wanted) / torch.linalg.matrix_norm(wanted)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.requires_grad_(False)


def convolved(model: Convolutional, images: list[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([model(torch.tensor(image[None], dtype=torch.float32)).numpy() for image in images])


def main() -> None:
    folder = Path(sys.argv[1])
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"
    )
    known, images, described = read(folder / "solid.h5")
    assert len(images) >= max(NUMBERS), f"expected {max(NUMBERS)} images for training, got {len(images)}"
    test, test_images, test_described = read(folder / "seen.h5")
    exact = test["stiffness"]
    print(f"{len(exact)} test images, at most {len(images)} for training")
    print("without learning")
    print(f"  Hill mean                   {show(relative_error(middle(test['voigt'], test['reuss']), exact))}")
    print(f"  two-point HS mean           {show(relative_error(middle(test['hs_lower'], test['hs_upper']), exact))}")
    for steps in (2, 4):
        between = show(relative_error(middle(test["upper"][:, steps], test["lower"][:, steps]), exact))
        print(
            f"  {steps} CG steps, energy          {show(relative_error(test['upper'][:, steps], exact))}   "
            f"middle of the bracket {between}"
        )
    known_rows = {
        (number, seed): np.random.default_rng([3, seed]).permutation(len(images))[:number]
        for number in NUMBERS
        for seed in SEEDS
    }

    def learn(name: str, number: int, seed: int) -> np.ndarray:
        rows = known_rows[number, seed]
        part = choose(known, rows)
        if name in ("fast", "accurate"):
            # the first number of steps of each gear, for every image
            return train(part, {"fast": 1, "accurate": 3}[name], seed, 20).predict(test)
        if name == "MLP in HS bounds":
            return predict_descriptors(train_descriptors(part, described[rows], seed), test_described, test)
        return convolved(train_convolutional([images[row] for row in rows], part["stiffness"], seed), test_images)

    medians: dict[str, list[list[float]]] = {}
    for name in ("fast", "accurate", "MLP in HS bounds", "plain CNN"):
        for number in NUMBERS:
            stored = folder / f"rivals {name} {number}.json"
            if not stored.is_file():
                start = time.process_time()
                errors = [relative_error(learn(name, number, seed), exact) for seed in SEEDS]
                spent = (time.process_time() - start) / len(SEEDS)
                row = {"text": ", ".join(show(one) for one in errors), "seconds": spent}
                stored.write_text(json.dumps(row | {"median": [float(np.median(one)) for one in errors]}))
            row = json.loads(stored.read_text())
            print(f"  {name:17} {number:5} images: {row['text']}   {row['seconds']:.0f} s a seed", flush=True)
            medians.setdefault(name, []).append(row["median"])
    compare(medians, list(NUMBERS))
    if len(sys.argv) > 2:
        draw(medians, list(NUMBERS), Path(sys.argv[2]))


def predict_descriptors(model: Descriptors, described: np.ndarray, test: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return model(*(torch.tensor(part) for part in (described, test["hs_lower"], test["hs_upper"]))).numpy()


def compare(medians: dict[str, list[list[float]]], numbers: list[int]) -> None:
    """How many images the convolutional network would need for the error that each gear has with the fewest."""
    rival = np.log([np.mean(found) for found in medians["plain CNN"]])
    for gear in ("fast", "accurate"):
        goal = float(np.mean(medians[gear][0]))
        if goal >= np.exp(rival.min()):
            need = float(np.exp(np.interp(-np.log(goal), -rival, np.log(numbers))))
            print(f"{gear} with {numbers[0]} images has {100 * goal:.2f} %: the CNN needs {need:.0f}")
        else:
            print(
                f"{gear} with {numbers[0]} images has {100 * goal:.2f} %, which the CNN does not reach with {numbers[-1]} "
                f"({100 * np.exp(rival[-1]):.2f} %): more than {numbers[-1] / numbers[0]:.0f} times as many, as it was trained"
            )


def draw(medians: dict[str, list[list[float]]], numbers: list[int], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.0, 3.6), layout="constrained")
    for name, rows in medians.items():
        found = 100 * np.array(rows)
        line = axes.plot(numbers, found.mean(axis=1), marker="o", label=name)[0]
        axes.fill_between(numbers, found.min(axis=1), found.max(axis=1), color=line.get_color(), alpha=0.2)
    axes.set(xscale="log", yscale="log", xlabel="training images", ylabel="median error of C, %")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
