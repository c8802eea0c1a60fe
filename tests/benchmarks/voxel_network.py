"""Accuracy and speed of the learned gears on images they were not trained on, beside what needs no learning.

    python -m constitutive.voxel_data DIR/seen.h5 --first 50000 --number 160
    python -m constitutive.voxel_data DIR/unseen.h5 --first 60000 --number 96 --family cones
    python -m constitutive.voxel_data DIR/large.h5 --first 70000 --number 32 --size 16
    OMP_NUM_THREADS=1 python tests/benchmarks/voxel_network.py DIR

Errors are ‖C − C*‖/‖C*‖ in per cent against the converged solve of the same image (residual 2·10⁻³, about 10⁻⁴ in C), median /
95th percentile. The networks saw 8³ to 12³. Discretisation error is another matter: see test_homogenization.py.
"""

from __future__ import annotations

import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from constitutive.bounds import hashin_shtrikman
from constitutive.homogenization import homogenize
from constitutive.phases import phase_stiffness
from constitutive.voxel_data import Sample, record, sample
from constitutive.voxel_grid import VoxelGrid
from constitutive.voxel_network import expected_error, guess, load_network
from constitutive.voxel_solver import Solve, never
from constitutive.voxel_training import choose, read_records, relative_error
from crystals import generators
from crystals.rotations import rotate_matrix

torch.set_num_threads(1)


def show(errors: np.ndarray) -> str:
    return f"{100 * np.median(errors):6.2f} / {100 * np.percentile(errors, 95):6.2f}"


def rows_of(records: dict[str, np.ndarray], kind: str) -> None:
    """One table: what is known without learning, then each member of each gear (three seeds), then the ensemble."""
    exact = records["stiffness"]
    networks, description = load_network()
    for steps in (1, 2, 3, 4):
        upper = show(relative_error(records["upper"][:, steps], exact))
        middle = show(relative_error(0.5 * (records["upper"][:, steps] + records["lower"][:, steps]), exact))
        print(
            f"    {steps} CG steps: energy {upper}" + (f"   middle of the bracket {middle}" if kind == "solid" else "")
        )
    for gear in ("fast", "accurate"):
        members = networks[f"{gear} {kind}"]
        answers = np.stack([member.predict(records) for member in members])
        errors = relative_error(answers.mean(axis=0), exact)
        seeds = ", ".join(show(relative_error(answer, exact)) for answer in answers)
        promised = expected_error(answers, records, members[0].steps, description[f"{gear} {kind}"]["error"])
        print(
            f"    {gear:8} ({members[0].steps} steps): {show(errors)}   seeds {seeds}   "
            f"90 % error bar holds for {100 * np.mean(errors <= promised):.0f} %"
        )


def bounds_only(path: Path, kind: str, options: dict[str, Any]) -> None:
    """Hill mean and two-point Hashin–Shtrikman mean, from the images made again."""
    hill, hashin, exact = [], [], []
    with h5py.File(path, "r") as file:
        for name, group in file.items():
            one = sample(int(name), **options)
            porous = bool(group.attrs["porous"])
            if "stiffness" not in group or porous != (kind == "pores") or one.image.orientations is not None:
                continue
            lower, upper = hashin_shtrikman(one.image.labels, one.table)
            shares = np.bincount(one.image.labels.ravel(), minlength=2) / one.image.labels.size
            voigt = np.einsum("m,mij->ij", shares, one.table)
            reuss = (
                np.zeros((6, 6)) if porous else np.linalg.inv(np.einsum("m,mij->ij", shares, np.linalg.inv(one.table)))
            )
            hill.append(0.5 * (voigt + reuss))
            hashin.append(0.5 * (lower + upper))
            exact.append(group["stiffness"][...])
    found = np.array(exact)
    means = [show(relative_error(np.array(part), found)) for part in (hill, hashin)]
    print(f"    Hill mean {means[0]}   two-point HS mean {means[1]}")


def tables(folder: Path) -> None:
    for name, options in (("seen", {}), ("unseen", {"family": "cones"}), ("large", {"size": 16})):
        path = folder / f"{name}.h5"
        if not path.is_file():
            print(f"\n{name}: {path} is not there")
            continue
        records, families, porous = read_records([path])
        crystals = families == "polycrystal"
        for title, kind, rows in (
            ("two phases, contrast 2–100", "solid", ~porous & ~crystals), ("pores", "pores", porous),
            ("random anisotropic crystals", "solid", crystals),
        ):  # fmt: skip
            if rows.sum() < 5:
                continue
            print(f"\n{name}, {title}: {rows.sum()} images")
            if "crystals" not in title:
                bounds_only(path, kind, options)
            rows_of(choose(records, rows), kind)


def copper() -> None:
    stiffness = phase_stiffness("copper", "C11=168.4 C12=121.4 C44=75.4")
    assert stiffness is not None
    block = []
    for seed in range(16):
        image = generators.polycrystal(16, 30, seed=900 + seed)
        assert image.orientations is not None
        block.append(Sample("copper", image, rotate_matrix(image.orientations, stiffness)))
    found = [row for row in record(block, tolerance=1e-4) if row is not None]
    records = {name: np.stack([row[name] for row in found]) for name in found[0]}
    hill = []
    for one in block:
        shares = np.bincount(one.image.labels.ravel(), minlength=len(one.table)) / one.image.labels.size
        voigt = np.einsum("m,mij->ij", shares, one.table)
        hill.append(0.5 * (voigt + np.linalg.inv(np.einsum("m,mij->ij", shares, np.linalg.inv(one.table)))))
    mean = show(relative_error(np.array(hill), records["stiffness"]))
    print(f"\nuntextured copper, 30 grains, 16³: {len(found)} images\n    Hill mean {mean}")
    rows_of(records, "solid")


def speed(edges: tuple[int, ...] = (32,)) -> None:
    """Seconds of a gear against conjugate gradients stopped at the error the gear made, image by image."""
    print("\ntime at equal error: gear, and CG stopped as soon as its energy is as close (known in hindsight)")
    for edge in edges:
        for kind, porous in (("contrast 2–100", False), ("pores", True)):
            for gear in ("fast", "accurate"):
                ratios, steps_needed = [], []
                for index in range(80000, 80006):
                    one = sample(index, size=edge, porous=porous)
                    if one.image.orientations is not None:
                        continue
                    labels, kept = one.image.compact()
                    table = one.table[kept]
                    try:
                        exact = homogenize(labels, table, tolerance=1e-3).stiffness
                    except RuntimeError:
                        continue
                    start = time.process_time()
                    grid = VoxelGrid(one.image.shape, np.ones(3), "rotated", torch.device("cpu"))
                    with torch.no_grad():
                        solve = Solve(grid, torch.tensor(labels[None].astype(np.int32)), torch.tensor(table[None]))
                        found = guess(solve, gear)[0]
                    mine = time.process_time() - start
                    error = relative_error(found.stiffness[None], exact[None])[0]
                    with torch.no_grad():
                        start = time.process_time()
                        grid = VoxelGrid(one.image.shape, np.ones(3), "rotated", torch.device("cpu"))
                        solve = Solve(grid, torch.tensor(labels[None].astype(np.int32)), torch.tensor(table[None]))
                        solve.advance(never, 0)
                        first = solve.residual.clone()
                        steps = 0
                        while steps < 600:
                            solve.advance(never, 1)
                            steps += 1
                            if relative_error(solve.upper_bound(first), exact[None])[0] <= max(error, 1e-4):
                                break
                        ratios.append((time.process_time() - start) / mine)
                    steps_needed.append(steps)
                if ratios:
                    print(
                        f"  {edge}³ {kind}, {gear}: CG takes {np.median(ratios):.1f} times as long (median of {len(ratios)}, "
                        f"range {min(ratios):.1f}–{max(ratios):.1f}), {np.median(steps_needed):.0f} steps"
                    )


def main() -> None:
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"
    )
    _, description = load_network()
    for name in ("fast solid", "accurate solid", "fast pores", "accurate pores"):
        print(
            f"  {name}: trained on {description[name]['training_images']} images, members {len(load_network()[0][name])}"
        )
    tables(Path(sys.argv[1]))
    copper()
    speed()


if __name__ == "__main__":
    main()
