"""Accuracy and speed of the learned gears on images they were not trained on, beside what needs no learning.

    make="python -m constitutive.voxel_data"
    for seed in 0 1 2; do
      $make DIR/seen$seed.h5 --first $((90000 + 1600 * seed)) --number 160
      $make DIR/crystals$seed.h5 --first $((260000 + 1600 * seed)) --number 64 --porous false --family polycrystal
      $make DIR/cubic$seed.h5 --first $((270000 + 1600 * seed)) --number 64 --porous false --family polycrystal --crystal
    done
    $make DIR/unseen.h5 --first 60000 --number 96 --family cones
    $make DIR/large.h5 --first 70000 --number 32 --size 16
    $make DIR/gold.h5 --first 240000 --number 64 --porous true --crystal
    OMP_NUM_THREADS=1 python tests/benchmarks/voxel_network.py tables DIR
    OMP_NUM_THREADS=1 python tests/benchmarks/voxel_network.py speed 32 6            # edge and number of images a case
    OMP_NUM_THREADS=1 python tests/benchmarks/voxel_network.py speed 40 3 "spongy crystals"

Errors are ‖C − C*‖/‖C*‖ in per cent against the converged solve of the same image (about 10⁻⁴ in C), median /
95th percentile. The networks saw 8³ to 12³. Discretisation error is another matter: see test_homogenization.py.
"""

from __future__ import annotations

import contextlib
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
from constitutive.homogenization import homogenize
from constitutive.phases import phase_stiffness
from constitutive.voxel_data import Sample, record, sample
from constitutive.voxel_grid import VoxelGrid
from constitutive.voxel_network import GEARS, guess, load_network, promise
from constitutive.voxel_solver import Solve, never
from constitutive.voxel_training import choose, ladder, read_records, relative_error
from crystals import generators
from crystals.rotations import rotate_matrix

h5py: Any = _h5py  # comes without types
torch.set_num_threads(1)


def show(errors: np.ndarray) -> str:
    return f"{100 * np.median(errors):6.2f} / {100 * np.percentile(errors, 95):6.2f}"


def rows_of(records: dict[str, np.ndarray], kind: str, seeds: np.ndarray) -> None:
    """One table: what is known without learning, then each gear, its members alone (three seeds), and how often its
    interval holds, for each seed of the images."""
    exact = records["stiffness"]
    networks, description = load_network()
    for steps in (1, 2, 3, 4) if kind != "pores" else (2, 4, 8, 16, 32):
        upper = show(relative_error(records["upper"][:, steps], exact))
        middle = show(relative_error(0.5 * (records["upper"][:, steps] + records["lower"][:, steps]), exact))
        print(
            f"    {steps:2} CG steps: energy {upper}"
            + (f"   middle of the bracket {middle}" if kind != "pores" else "")
        )
    for gear in ("fast", "accurate"):
        found, likely, steps, width = ladder(networks, description, gear, kind, records)
        errors = relative_error(found, exact)
        promised = promise(likely, width, kind, description[f"{gear} {kind}"])
        alone = []
        for member in range(len(networks[f"{kind} {GEARS[gear][kind][0]}"])):
            answer = np.empty_like(found)
            for k in np.unique(steps):
                rows = steps == k
                answer[rows] = networks[f"{kind} {k}"][member].predict(choose(records, rows))
            alone.append(show(relative_error(answer, exact)))
        held = ", ".join(f"{100 * np.mean((errors <= promised)[seeds == seed]):.0f}" for seed in np.unique(seeds))
        print(
            f"    {gear:8} ({steps.mean():.1f} steps): {show(errors)}   members {', '.join(alone)}   "
            f"90 % interval holds for {held} %, all {100 * np.mean(errors <= promised):.0f} %"
        )


def bounds_only(paths: list[Path], porous: bool, options: dict[str, Any]) -> None:
    """Hill mean and two-point Hashin–Shtrikman mean of two-phase images, made again."""
    hill, hashin, exact = [], [], []
    for path in paths:
        with h5py.File(path, "r") as file:
            for name, group in file.items():
                if "stiffness" not in group or bool(group.attrs["porous"]) != porous:
                    continue
                one = sample(int(name), **options)
                if one.image.orientations is not None:
                    continue
                lower, upper = hashin_shtrikman(one.image.labels, one.table)
                shares = np.bincount(one.image.labels.ravel(), minlength=2) / one.image.labels.size
                hill.append(0.5 * (np.einsum("m,mij->ij", shares, one.table) + reuss(shares, one.table)))
                hashin.append(0.5 * (lower + upper))
                exact.append(group["stiffness"][...])
    means = [show(relative_error(np.array(part), np.array(exact))) for part in (hill, hashin)]
    print(f"    Hill mean {means[0]}   two-point HS mean {means[1]}")


def reuss(shares: np.ndarray, table: np.ndarray) -> np.ndarray:
    if (table == 0).all(axis=(1, 2)).any():
        return np.zeros((6, 6))
    return np.linalg.inv(np.einsum("m,mij->ij", shares, np.linalg.inv(table)))


def tables(folder: Path) -> None:
    _, description = load_network()
    for name in description:
        print(f"  {name}: {json.dumps(description[name])}")
    for name, options in (
        ("seen", {}), ("unseen", {"family": "cones"}), ("large", {"size": 16}),
        ("gold", {"porous": True, "crystal": True}), ("crystals", {}), ("cubic", {}),
    ):  # fmt: skip
        paths = sorted(folder.glob(f"{name}*.h5"))
        if not paths:
            print(f"\n{name}: nothing in {folder}")
        for title, kind in (
            ("two phases, contrast 2–100", "solid"), ("pores", "pores"), ("anisotropic crystals", "crystals"),
        ):  # fmt: skip
            parts = []
            for path in paths:
                with contextlib.suppress(ValueError):
                    parts.append(read_records([path], kind)[0])
            seeds = np.repeat(np.arange(len(parts)), [len(part["upper"]) for part in parts])
            if len(seeds) < 5:
                continue
            print(f"\n{name}, {title}: {len(seeds)} images")
            if kind != "crystals":
                bounds_only(paths, kind == "pores", options)
            rows_of({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, kind, seeds)


def copper() -> None:
    stiffness = phase_stiffness("copper", "C11=168.4 C12=121.4 C44=75.4")
    assert stiffness is not None
    found, hill = [], []
    for seed in range(3):
        block = []
        for number in range(16):
            image = generators.polycrystal(16, 30, seed=900 + 100 * seed + number)
            assert image.orientations is not None
            block.append(Sample("copper", image, rotate_matrix(image.orientations, stiffness)))
            shares = np.bincount(image.labels.ravel(), minlength=30) / image.labels.size
            table = block[-1].table
            hill.append(0.5 * (np.einsum("m,mij->ij", shares, table) + reuss(shares, table)))
        found += [row for row in record(block, tolerance=1e-4) if row is not None]
    records = {name: np.stack([row[name] for row in found]) for name in found[0]}
    mean = show(relative_error(np.array(hill), records["stiffness"]))
    print(f"\nuntextured copper, 30 grains, 16³: {len(found)} images\n    Hill mean {mean}")
    rows_of(records, "crystals", np.arange(len(found)) // 16)


#: Of the speed table: name, which samples, and what to do to their tables.
CASES: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("contrast 2–100", {"porous": False}, 1.0), ("contrast 1000", {"porous": False}, 1000.0), ("pores", {"porous": True}, 1.0),
    ("spongy crystals", {"porous": True, "crystal": True, "family": "spinodoid"}, 1.0),
)  # fmt: skip


def speed(edge: int, images: int, chosen: list[str]) -> None:
    """Seconds of a gear against conjugate gradients stopped at the error the gear made, image by image."""
    for title, options, contrast in (case for case in CASES if not chosen or case[0] in chosen):
        rows: dict[str, list[tuple[float, float, float, float, int, int]]] = {"fast": [], "accurate": []}
        index = 80000
        while len(rows["fast"]) < images and index < 80100:
            one = sample(index, size=edge, **options)
            index += 1
            if one.image.orientations is not None:
                continue
            labels, kept = one.image.compact()
            table = one.table[kept]
            if contrast > 1.0:
                # the stiffer phase, whichever it is, made a thousand times the softer in Young's modulus
                size = np.linalg.norm(table, axis=(1, 2))
                table[size.argmax()] *= contrast * size.min() / size.max()
            try:
                exact = homogenize(labels, table, tolerance=1e-3, maximum=1500).stiffness
            except RuntimeError:
                print(f"    image {index - 1}: not converged in 1500 steps, left out")
                continue

            def fresh(labels: np.ndarray = labels, table: np.ndarray = table) -> Solve:
                grid = VoxelGrid((edge, edge, edge), np.ones(3), "rotated", torch.device("cpu"))
                return Solve(grid, torch.tensor(labels[None].astype(np.int32)), torch.tensor(table[None]))

            for gear in rows:
                with torch.no_grad():
                    start = time.process_time()
                    found = guess(fresh(), gear)[0]
                    mine = time.process_time() - start
                    error = float(relative_error(found.stiffness[None], exact[None])[0])
                    start = time.process_time()
                    solve = fresh()
                    solve.advance(never, 0)
                    first, steps = solve.residual.clone(), 0
                    while steps < 1500:
                        solve.advance(never, 1)
                        steps += 1
                        if relative_error(solve.upper_bound(first), exact[None])[0] <= max(error, 1e-4):
                            break
                    theirs = time.process_time() - start
                rows[gear].append((theirs / mine, mine, theirs, error, found.steps, steps))
        for gear, found_rows in rows.items():
            part = np.array(found_rows)
            if len(part):
                ratio, mine, theirs, error, steps, more = np.median(part, axis=0)
                print(
                    f"  {edge}³ {title}, {gear}: {mine:.2f} s, {steps:.0f} steps, error {100 * error:.2f} %; CG {theirs:.2f} s, "
                    f"{more:.0f} steps: {ratio:.2f} times as long (median of {len(part)}, range {part[:, 0].min():.2f}–"
                    f"{part[:, 0].max():.2f})",
                    flush=True,
                )


def main() -> None:
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"
    )
    if sys.argv[1] == "tables":
        tables(Path(sys.argv[2]))
        copper()
    else:
        print("time at equal error: gear, and CG stopped as soon as its energy is as close (known in hindsight)")
        speed(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])


if __name__ == "__main__":
    main()
