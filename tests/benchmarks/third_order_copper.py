"""Third-order elastic constants of EMT copper: a law fitted to strained cells against finite differences of the stress.

python tests/benchmarks/third_order_copper.py        # about a minute
"""

from __future__ import annotations

import itertools
import platform
from datetime import date

import numpy as np
from emt_crystals import copper, copper_at

from constitutive import fit
from crystals import PointGroup
from crystals.atomistic import StrainedCrystal, plan_strains
from crystals.elastic_constants import elastic_constants


def third_by_differences(crystal: StrainedCrystal, step: float) -> np.ndarray:
    """∂²S/∂E∂E by central differences of the calculator's stress, symmetrised."""
    units, rest = step * np.eye(6), crystal.stress(np.zeros(6))
    third = np.zeros((6, 6, 6))
    for i in range(6):
        third[:, i, i] = (crystal.stress(units[i]) - 2 * rest + crystal.stress(-units[i])) / step**2
        for j in range(i):
            same = crystal.stress(units[i] + units[j]) + crystal.stress(-units[i] - units[j])
            other = crystal.stress(units[i] - units[j]) + crystal.stress(units[j] - units[i])
            third[:, i, j] = third[:, j, i] = (same - other) / (4 * step**2)
    return sum(np.transpose(third, axes) for axes in itertools.permutations(range(3))) / 6


def main() -> None:
    crystal = copper()
    group = PointGroup.from_structure(crystal.reference)
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, seed 0")
    names: list[str] = []
    for step in (4e-3, 2e-3, 1e-3):
        found = elastic_constants(third_by_differences(crystal, step), group, order=3)
        names = list(found)
        print(f"differences, step {step:.0e}   " + " ".join(f"{name} {found[name]:8.1f}" for name in names))
    coarse, fine = third_by_differences(crystal, 2e-3), third_by_differences(crystal, 1e-3)
    exact = elastic_constants((4 * fine - coarse) / 3, group, order=3)
    print("extrapolated, GPa          " + " ".join(f"{name} {exact[name]:8.1f}" for name in names))
    for number, radius in ((128, 0.02), (128, 0.03), (128, 0.04), (128, 0.05), (256, 0.08)):
        law = fit(copper_at(plan_strains(number, radius), crystal), progress=False)
        found = law.elastic_constants(3)
        error = 100 * law.metadata["fit"]["held_out_stress_error"]
        print(f"law, {number} states, |E| ≤ {radius:.2f} " + " ".join(
            f"{name} {100 * (found[name] / exact[name] - 1):+7.2f}%" for name in names
        ) + f"   held-out stress error {error:.3f} %")  # fmt: skip


if __name__ == "__main__":
    main()
