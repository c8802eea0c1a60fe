"""The internal-variable law fitted to von Mises plasticity: known material, then kinematic hardening it does not have.

    PYTHONPATH=$PWD OMP_NUM_THREADS=1 python tests/benchmarks/internal_variable_law.py

The data are made by radial return codes that share nothing with the law: `VonMisesLaw` (Prager), and the
Armstrong–Frederick return map below, checked against the first where the two laws are one. Paths are piecewise linear
in strain space through random knots (|ε| about 1 % each), so they load, turn and unload; held-out paths are other draws,
half of them twice as long. Three seeds draw paths and starting weights anew. A law of one form is von Mises with
Prager's hardening: the best of those is the baseline.
"""

from __future__ import annotations

import os
import platform
import time

import numpy as np
import torch

from constitutive import InternalVariableLaw, VonMisesLaw, fit_paths, path_error, path_stress
from crystals import mandel

YOUNG, POISSON, STRENGTH = 70.0, 0.3, 0.1
ISOTROPIC = {"isotropic": 1.0, "saturation": 0.05, "saturation_rate": 100.0}
PATHS, STEPS, KNOTS = 16, 40, 5
#: Not those on which the search was tuned (0, 1, 2).
SEEDS = (3, 4, 5)


def random_paths(number: int, steps: int, knots: int, generator: np.random.Generator) -> np.ndarray:
    """Strain paths (number, steps, 6) through `knots` random strains, linear between them."""
    points = np.zeros((number, knots + 1, 6))
    points[:, 1:] = 0.01 / 6**0.5 * generator.normal(size=(number, knots, 6))
    place = np.linspace(0.0, knots, steps + 1)[1:]
    left = np.minimum(place.astype(int), knots - 1)
    share = (place - left)[None, :, None]
    return points[:, left] * (1.0 - share) + points[:, left + 1] * share


def armstrong_frederick(strain: np.ndarray, modulus: float, recovery: float) -> np.ndarray:
    """Stress (p, T, 6): von Mises, R(r) as above, Ẋ = ⅔ h ε̇p − c X ṙ, implicit Euler, by bisection on Δr.

    Armstrong and Frederick 1966 (reprinted 2007, doi:10.1179/096034007X207589).
    """
    shear, bulk = YOUNG / (2 + 2 * POISSON), YOUNG / (3 - 6 * POISSON)
    volume = mandel.IDENTITY
    plastic, back, r = np.zeros_like(strain[:, 0]), np.zeros_like(strain[:, 0]), np.zeros(len(strain))

    def strength(accumulated: np.ndarray) -> np.ndarray:
        decay = 1.0 - np.exp(-ISOTROPIC["saturation_rate"] * accumulated)
        return STRENGTH + ISOTROPIC["isotropic"] * accumulated + ISOTROPIC["saturation"] * decay

    stress = np.empty_like(strain)
    for step in range(strain.shape[1]):
        trace = strain[:, step, :3].sum(axis=1)
        trial = 2 * shear * (strain[:, step] - trace[:, None] / 3 * volume - plastic)

        def defect(
            amount: np.ndarray, trial: np.ndarray = trial, back: np.ndarray = back, r: np.ndarray = r
        ) -> np.ndarray:
            fade = 1.0 + recovery * amount
            size = np.linalg.norm(trial - back / fade[:, None], axis=1)
            return 1.5**0.5 * size - (3 * shear + modulus / fade) * amount - strength(r + amount)

        low, high = np.zeros(len(r)), np.full(len(r), 0.2)
        flows = defect(low) > 0
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = defect(middle) > 0
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        amount = np.where(flows, 0.5 * (low + high), 0.0)
        fade = (1.0 + recovery * amount)[:, None]
        relative = trial - back / fade
        flow = 1.5**0.5 * amount[:, None] * relative / np.linalg.norm(relative, axis=1, keepdims=True).clip(1e-300)
        plastic, r = plastic + flow, r + amount
        back = np.where(flows[:, None], (back + 2 / 3 * modulus * flow) / fade, back)
        stress[:, step] = trial - 2 * shear * flow + bulk * trace[:, None] * volume
    return stress


def start(forms: int, seed: int) -> InternalVariableLaw:
    """Every constant wrong by 30 % to a factor of 4; two elastic constants, moduli, forms and viscosity to be found."""
    stiffness = 1.3 * VonMisesLaw(YOUNG, POISSON, STRENGTH).stiffness() + 5.0 * np.eye(6)
    return InternalVariableLaw(
        "isotropic", stiffness, 0.06, kinematic=6.0, isotropic=0.3, saturation=0.02, saturation_rate=30.0,
        viscosity=0.01, forms=forms, seed=seed,
    )  # fmt: skip


def convergence() -> None:
    """Δt → 0 on a viscous path, and η → 0 towards the radial return."""
    stiffness = VonMisesLaw(YOUNG, POISSON, STRENGTH).stiffness()

    def law(viscosity: float) -> InternalVariableLaw:
        return InternalVariableLaw(
            "isotropic", stiffness, STRENGTH, kinematic=3.0, viscosity=viscosity, forms=1, **ISOTROPIC
        )

    knots = 0.003 * np.random.default_rng(1).normal(size=(2, 8, 1, 6))

    def end(steps: int) -> np.ndarray:
        time = np.linspace(0.0, 1.0, steps + 1)[1:, None]
        return path_stress(law(0.5), knots[0] * time + knots[1] * np.sin(4.0 * time), dt=1.0 / steps)[:, -1]

    ends = {steps: end(steps) for steps in (10, 20, 40, 80, 160, 320)}
    print(
        "steps of a viscous path (η = 0.5 GPa s, 1 s): relative change of the last stress when they are doubled, order"
    )
    changes = [np.linalg.norm(ends[2 * n] - ends[n]) / np.linalg.norm(ends[320]) for n in (10, 20, 40, 80, 160)]
    for k, change in enumerate(changes):
        print(f"    {10 * 2**k:>4} {change:.2e}" + (f"  {np.log2(changes[k - 1] / change):.2f}" if k else ""))
    paths = random_paths(16, 40, 5, np.random.default_rng(2))
    reference = path_stress(VonMisesLaw(YOUNG, POISSON, STRENGTH, kinematic=3.0, **ISOTROPIC), paths)
    print("viscosity (GPa s) at 0.1 s a step: relative difference from the rate-independent radial return")
    for viscosity in (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 0.0):
        print(f"    {viscosity:<7g} {path_error(law(viscosity), paths, reference, dt=0.1):.2e}")
    print()


def main() -> None:
    torch.set_num_threads(1)
    prager = VonMisesLaw(YOUNG, POISSON, STRENGTH, kinematic=3.0, **ISOTROPIC)
    probe = random_paths(20, 50, 5, np.random.default_rng(99))
    same = np.abs(armstrong_frederick(probe, 3.0, 0.0) - path_stress(prager, probe)).max()
    machine = f"{os.cpu_count()} shared cores {platform.machine()}, {platform.system()} {platform.release()}"
    print(f"{time.strftime('%Y-%m-%d')}; {machine}; torch {torch.__version__}, one thread")
    convergence()
    print(f"the two reference codes, Armstrong–Frederick without recovery against Prager: {same:.1e} GPa")
    print(f"{PATHS} training paths of {STEPS} steps; 16 held-out paths of {STEPS} and 16 of {2 * STEPS} steps\n")
    references = {
        "Prager, in the class": lambda strain: path_stress(prager, strain),
        "Armstrong–Frederick, not in it": lambda strain: armstrong_frederick(strain, 20.0, 200.0),
    }
    print(
        f"{'reference':<32}{'forms':>6}{'seed':>6}{'training':>11}{'held out':>11}{'twice as long':>15}{'start':>9}{'s':>6}"
    )
    for name, reference in references.items():
        for forms in (1, 3):
            errors = []
            for seed in SEEDS:
                generator = np.random.default_rng(seed)
                training = random_paths(PATHS, STEPS, KNOTS, generator)
                others = random_paths(16, STEPS, KNOTS, generator), random_paths(16, 2 * STEPS, 2 * KNOTS, generator)
                begin, clock = start(forms, seed), time.perf_counter()
                law = fit_paths(begin, training, reference(training), dt=1.0, iterations=60)
                seconds = time.perf_counter() - clock
                held = [path_error(law, strain, reference(strain), dt=1.0) for strain in others]
                first = path_error(begin, others[0], reference(others[0]), dt=1.0)
                errors.append(held[0])
                figures = law.metadata["fit"]["training_stress_error"]
                print(
                    f"{name:<32}{forms:>6}{seed:>6}{figures:>11.2e}{held[0]:>11.2e}{held[1]:>15.2e}{first:>9.3f}"
                    f"{seconds:>6.0f}",
                    flush=True,
                )
                if seed == SEEDS[0]:
                    constants = {key: float(f"{value:.6g}") for key, value in law.constants().items()}
                    print(f"    {constants}")
            print(f"    held out over seeds: {min(errors):.2e} … {max(errors):.2e}")


if __name__ == "__main__":
    main()
