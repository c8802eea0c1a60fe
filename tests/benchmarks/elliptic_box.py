"""A strain box kept elliptic by the penalty: copper from EMT, whose law loses strong ellipticity in corners of a box.

python tests/benchmarks/elliptic_box.py        # about a minute
"""

from __future__ import annotations

import platform
import time
from datetime import date

import numpy as np
import torch
from ase.build import bulk

from constitutive import SymmetricLaw
from constitutive.stability import acoustic_eigenvalue, box_strains, ellipticity_penalty
from crystals import PointGroup
from crystals.atomistic import StrainedCrystal, calculator_factory, plan_strains, relax_cell
from crystals.moduli import hemisphere
from crystals.structures import standard_primitive

HALF_WIDTH, MARGIN, WEIGHT = 0.04, 3.0, 0.1


def main() -> None:
    torch.set_num_threads(1)
    factory = calculator_factory("emt")
    reference = relax_cell(standard_primitive(bulk("Cu", "fcc", a=3.6)), factory)
    crystal, group = StrainedCrystal(reference, factory), PointGroup.from_structure(reference)
    strain = plan_strains(320, 0.08)
    stress = np.array([crystal.stress(point) for point in strain])
    training = np.arange(320) % 5 != 0
    points, given = torch.from_numpy(strain[training]), torch.from_numpy(stress[training])
    size = float(given.pow(2).mean())
    normals = hemisphere(100)
    held_out = box_strains(-HALF_WIDTH, HALF_WIDTH, 2048, seed=3)
    stiffness = crystal.tangent(np.zeros(6))
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}; EMT copper, |E| ≤ 0.08, box "
          f"|E_i| ≤ {HALF_WIDTH}, margin {MARGIN} GPa, {len(normals)} directions")  # fmt: skip
    law = SymmetricLaw(group, order=5, widths=(8,), stiffness=stiffness, energy_scale=100.0, strain_scale=0.08, seed=0)
    asked = np.zeros((0, 6))
    # a finite set is asked, so the worst strains of a fresh sample of the box join it after each round
    for turn in range(4):
        optimiser = torch.optim.LBFGS(
            law.parameters(), max_iter=200, history_size=50, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure(optimiser=optimiser, asked=asked) -> torch.Tensor:
            optimiser.zero_grad()
            loss = (100.0 * law(points)[1] - given).pow(2).mean() / size
            if len(asked):
                penalty = ellipticity_penalty(lambda p: 100.0 * law(p[None])[1][0], asked, normals, MARGIN)
                loss = loss + WEIGHT * (penalty / MARGIN).pow(2).sum() / len(asked)
            loss.backward()
            return loss

        began = time.perf_counter()
        optimiser.step(closure)
        seconds = time.perf_counter() - began
        wrong = (law.response(strain, tangent=False).stress - stress) ** 2
        error = [float(np.sqrt(wrong[rows].sum() / (stress[rows] ** 2).sum())) for rows in (training, ~training)]
        values = acoustic_eigenvalue(law, held_out)
        print(f"round {turn}, {len(asked):3d} strains asked: elliptic {100 * np.mean(values > 0):6.2f} % of {len(values)} others, "
              f"smallest eigenvalue {values.min():7.2f} GPa; stress error {100 * error[0]:.2f} % training, "
              f"{100 * error[1]:.2f} % held out; {seconds:.0f} s", flush=True)  # fmt: skip
        fresh = box_strains(-HALF_WIDTH, HALF_WIDTH, 1024, seed=10 + turn)
        asked = np.concatenate([asked, fresh[np.argsort(acoustic_eigenvalue(law, fresh))[:48]]])


if __name__ == "__main__":
    main()
