"""A law of free energy from molecular dynamics: copper at 300 K, stress only, block-averaged errors as weights.

    python tests/benchmarks/isothermal_copper.py [--workers 2]

EMT copper, 2 × 2 × 2 cubic cells (32 atoms: a small crystal, and a material of its own), Langevin dynamics (ASE) in
strained cells of fixed shape: 2 ps of equilibration and 12 ps of sampling each, virial and kinetic parts of the stress.
24 states, |E| ≤ 0.03, counted from the cell of zero temperature. Two checks that the fit does not see: six more states,
and the stress-free cell, whose pressure is measured by one more run in the cell that the law predicts. Results are cached
under out/benchmarks; they take about ten minutes on one core.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tqdm import tqdm

from constitutive import fit, predicted_stress
from constitutive.fitting.selection import stress_error
from crystals import mandel
from crystals.atomistic import plan_strains
from crystals.block_average import block_average
from crystals.dataset import StrainData
from crystals.groups import PointGroup

FOLDER = Path(__file__).resolve().parents[2] / "out" / "benchmarks"
KELVIN, STEP, SETTLING, SAMPLING, EVERY, CELLS = 300.0, 4.0, 500, 3000, 3, 2
TRAINING, TESTING, RADIUS = 24, 6, 0.03


def lattice_constant() -> float:
    """Of EMT copper at zero temperature, Å, from the parabola through three pressures."""
    edges = np.array([3.58, 3.59, 3.60])
    pressures = []
    for edge in edges:
        atoms = bulk("Cu", cubic=True, a=edge)
        atoms.calc = EMT()
        pressures.append(atoms.get_stress(voigt=False)[0, 0])
    return float(np.polyval(np.polyfit(pressures, edges, 2), 0.0))


def stretched(strain: np.ndarray) -> np.ndarray:
    """The symmetric F (3, 3) of a strain (6,)."""
    values, vectors = np.linalg.eigh(np.eye(3) + 2.0 * mandel.from_mandel(strain))
    return vectors @ np.diag(np.sqrt(values)) @ vectors.T


def sampled(job: tuple[int, float, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Second Piola–Kirchhoff stress (6,), Mandel, GPa per area of the cell at rest, and its standard error (6,)."""
    seed, edge, strain = job
    stretch = stretched(strain)
    atoms = bulk("Cu", cubic=True, a=edge).repeat(CELLS)
    atoms.set_cell(atoms.cell @ stretch, scale_atoms=True)
    atoms.calc = EMT()
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2.0 * KELVIN, rng=rng)
    dynamics = Langevin(atoms, STEP * units.fs, temperature_K=KELVIN, friction=0.01 / units.fs, rng=rng)
    dynamics.run(SETTLING)
    inverse, series = np.linalg.inv(stretch), []
    for _ in range(SAMPLING // EVERY):
        dynamics.run(EVERY)
        cauchy = atoms.get_stress(voigt=False, include_ideal_gas=True) / units.GPa
        series.append(mandel.to_mandel(np.linalg.det(stretch) * inverse @ cauchy @ inverse))
    return block_average(np.array(series))


def samples(edge: float, strains: np.ndarray, name: str, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and errors (n, 6) of many states, from the cache or sampled."""
    path = FOLDER / f"isothermal_copper_{name}.npz"
    if path.exists():
        kept = np.load(path)
        if np.array_equal(kept["strain"], strains):
            return kept["mean"], kept["error"]
    jobs = [(number, edge, strain) for number, strain in enumerate(strains)]
    with ProcessPoolExecutor(workers) as pool:
        found = list(tqdm(pool.map(sampled, jobs), total=len(jobs), desc=f"dynamics, {name}"))
    mean, error = (np.array(part) for part in zip(*found, strict=True))
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez(path, strain=strains, mean=mean, error=error)
    return mean, error


def main(workers: int) -> None:
    group, edge = PointGroup("m-3m"), lattice_constant()
    strains = plan_strains(TRAINING + TESTING, RADIUS, 0, group)
    mean, error = samples(edge, strains, "states", workers)
    stretches = np.array([stretched(strain) for strain in strains])
    cauchy = stretches @ mandel.from_mandel(mean) @ stretches / np.linalg.det(stretches)[:, None, None]
    data = StrainData(
        strain=strains, stress=mean, energy=None, deformation_gradient=stretches, cauchy=mandel.to_mandel(cauchy),
        stress_error=np.sqrt(np.mean(error**2, axis=1)), kind="isothermal", group=group,
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(data))
    training, testing = data.take(np.sort(order[:TRAINING])), data.take(np.sort(order[TRAINING:]))
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}; EMT copper, {KELVIN:.0f} K, "
          f"{4 * CELLS**3} atoms, {SAMPLING * STEP / 1000:.0f} ps a state; {len(training)} training states, |E| ≤ {RADIUS}")  # fmt: skip
    print(f"standard error of a stress component: {np.median(data.stress_error):.3f} GPa (median)")
    law = fit(training, seed=0, held_out=0.0, progress=False)
    wrong = predicted_stress(law, testing.strain) - testing.stress
    print(f"held out: error {100 * stress_error(predicted_stress(law, testing.strain), testing.stress):.2f} % of the stress, "
          f"{np.sqrt(np.mean((wrong / testing.stress_error[:, None]) ** 2)):.2f} standard errors (RMS)")  # fmt: skip
    stretch = np.array(law.metadata["reference"]["stretch"])
    print(f"stress-free edge: {edge:.4f} Å at rest, {edge * stretch[0, 0]:.4f} Å at {KELVIN:.0f} K: linear expansion "
          f"{1e6 * (stretch[0, 0] - 1) / KELVIN:.1f} 1e-6/K on average")  # fmt: skip
    free = mandel.to_mandel(0.5 * (stretch @ stretch - np.eye(3)))[None]
    pressure, sure = samples(edge, free, "free", 1)
    print(f"pressure there, by one more run: {-pressure[0, :3].mean():.3f} ± {np.linalg.norm(sure[0, :3]) / 3:.3f} GPa")
    print("elastic constants, GPa: " + ", ".join(f"{k} {v:.1f}" for k, v in law.metadata["elastic_constants"].items()))


if __name__ == "__main__":
    main(int(sys.argv[2]) if sys.argv[1:2] == ["--workers"] else os.cpu_count() or 1)
