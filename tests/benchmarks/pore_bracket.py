"""How far the estimates of what a porous cell's upper bound may still fall are from what it falls.

    python -m constitutive.voxel_data pores.h5 --number 1600 --porous true
    python tests/benchmarks/pore_bracket.py pores.h5

Images whose energy is still more than 0.1 % off after so many steps; Frobenius norms.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import numpy as np

from constitutive.voxel_network import ritz_values
from constitutive.voxel_training import read_records


def norm(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrices, axis=(1, 2))


def main() -> None:
    records, families = read_records([Path(sys.argv[1])], "pores")
    print(f"{date.today()}, {len(families)} porous images")
    for steps in (8, 16, 24, 32):
        left = records["upper"][:, steps] - records["stiffness"]
        hard = norm(left) > 1e-3 * norm(records["stiffness"])
        length, product = records["length"][hard, 1 : steps + 1], records["product"][hard, : steps + 1]
        smallest = ritz_values(length, product).min(axis=1)
        fall = 2.0 * norm(records["upper"][hard, steps // 2] - records["upper"][hard, steps])
        ritz = norm(records["gram"][hard, steps]) / (0.5 * smallest)
        true = norm(left[hard])
        print(
            f"{steps:3} steps, {hard.sum()} images; estimate / what is left, median, and share of images where it holds:"
        )
        for name, estimate in (
            ("twice the fall of the second half", fall), ("residual over half the Ritz value", ritz),
            ("the smaller", np.minimum(fall, ritz)),
        ):  # fmt: skip
            print(f"    {name:36}{np.median(estimate / true):7.1f}   {100 * np.mean(estimate >= true):6.1f} %")


if __name__ == "__main__":
    main()
