"""Fits of every class, limit groups included, to noisy states of a reference law: what EMT has no crystal for.

    python tests/benchmarks/reference_laws.py [CLASS …]

The reference of each class is a polynomial law of degree 4 with random constants of the size that metals have
(constants grow tenfold with each order). 150 states, |E| ≤ 0.05, stress and energy with 1 % of noise, three seeds; the
error is against the law without noise, on 200 other states.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from datetime import date

import numpy as np

from constitutive import PolynomialLaw, fit, predicted_stress
from constitutive.fitting.selection import stress_error
from constitutive.laws.polynomial import higher_order_polynomials, project_stiffness
from crystals import STRAIN_CLASSES, PointGroup, mandel
from crystals.atomistic import plan_strains
from crystals.dataset import StrainData

SEEDS = (1, 2, 3)
NOISE = 0.01


def reference(symbol: str, seed: int) -> PolynomialLaw:
    generator = np.random.default_rng(seed)
    group = PointGroup(symbol)
    root = generator.normal(size=(6, 6))
    stiffness = 100.0 * (np.eye(6) + 0.5 * np.outer(mandel.IDENTITY, mandel.IDENTITY) + 0.05 * root @ root.T)
    basis = higher_order_polynomials(group, 4)
    # a basis polynomial of degree d is of order one on the unit sphere: its constants are d! times larger
    sizes = np.where(basis.degrees == 3, 1000.0 / 6.0, 10_000.0 / 24.0)
    law = PolynomialLaw(group, 4, project_stiffness(group, stiffness), generator.normal(size=len(sizes)) * sizes)
    law.max_strain = 0.05
    return law


def noisy(law: PolynomialLaw, number: int, seed: int) -> StrainData:
    generator = np.random.default_rng(1000 + seed)
    strain = plan_strains(number, 0.05, seed)
    answer = law.response(strain, tangent=False)
    stress = answer.stress + NOISE * np.sqrt(np.mean(answer.stress**2)) * generator.normal(size=answer.stress.shape)
    energy = answer.energy + NOISE * np.sqrt(np.mean(answer.energy**2)) * generator.normal(size=number)
    gradient = mandel.right_stretch(strain)
    return StrainData(
        strain=strain, stress=stress, energy=energy, deformation_gradient=gradient,
        cauchy=mandel.cauchy_stress(stress, gradient), group=law.group, kind="unknown",
    )  # fmt: skip


def main() -> None:
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores (shared), Python {platform.python_version()}, "
          f"seeds {SEEDS}, noise {100 * NOISE:g} %")  # fmt: skip
    for symbol in sys.argv[1:] or STRAIN_CLASSES:
        errors, stiffness, noise, began = [], [], [], time.perf_counter()
        for seed in SEEDS:
            truth, test = reference(symbol, seed), plan_strains(200, 0.05, 100 + seed)
            data = noisy(truth, 150, seed)
            law = fit(data, seed=seed, held_out=0.0, progress=False)
            exact = truth.response(test, tangent=False).stress
            errors.append(100 * stress_error(predicted_stress(law, test), exact))
            noise.append(100 * stress_error(data.stress, truth.response(data.strain, tangent=False).stress))
            stiffness.append(
                100 * np.linalg.norm(law.stiffness() - truth.stiffness()) / np.linalg.norm(truth.stiffness())
            )
        print(f"{symbol:<6} stress error {np.mean(errors):.2f} ± {np.std(errors):.2f} %, noise of the data {np.mean(noise):.2f} %, "
              f"C(0) off by {np.mean(stiffness):.2f} ± {np.std(stiffness):.2f} %, {(time.perf_counter() - began) / len(SEEDS):.0f} s "
              "a fit", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
