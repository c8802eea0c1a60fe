"""Memory of long runs: a material point driven for 10,000 steps, and a finite-element run of 200 steps with cutbacks.

    python tests/benchmarks/long_run.py [--steps 10000] [--fe 200]

Prints resident memory after a fifth of the steps and at the end. Exit status 1 where it grew by more than 2 %, or where
a run without cutbacks passes for one with them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
from plastic_bar import plastic_bar

from constitutive import SymmetricLaw, VonMisesLaw
from constitutive.driver import constrained_response

STIFFNESS = np.diag([110.0, 110.0, 110.0, 90.0, 90.0, 90.0]) + 60.0 * np.pad(np.ones((3, 3)), (0, 3))
LARGEST_GROWTH = 0.02


def resident() -> float:
    """Resident memory in MB, after what Python and malloc can give back."""
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def drive(steps: int, leak: int = 0) -> tuple[float, float]:
    """Memory after a fifth of the steps and at the end: a law with state and a network turn about, ε11 to and fro, the
    other stresses zero. `leak` doubles a step are kept on purpose, for the negative control."""
    plastic = VonMisesLaw(200.0, 0.3, 0.4, kinematic=2.0, isotropic=0.5)
    network = SymmetricLaw("m-3m", 3, (8, 8), stiffness=STIFFNESS, energy_scale=100.0, max_strain=0.1)
    given = np.array([False, True, True, True, True, True])
    strain, state, before, kept = np.zeros((1, 6)), None, 0.0, []
    for step in range(steps):
        load = 0.01 * np.sin(2 * np.pi * step / 500)
        strain[0, 0] = load
        answer = constrained_response(plastic, strain, 0.0, stress_given=given, state=state, dt=1.0)
        assert np.all(answer.converged)
        strain, state = answer.strain.copy(), answer.state
        trial = np.zeros((1, 6))
        trial[0, 0] = load
        assert np.all(constrained_response(network, trial, 0.0, stress_given=given).converged)
        if leak:
            kept.append(np.ones(leak))
        if step == steps // 5:
            before = resident()
    return before, resident()


def solve(steps: int) -> tuple[float, float, int]:
    """The same of a bar that is bent to and fro beyond yield, and the number of cuts."""

    class Refuses(VonMisesLaw):
        """Von Mises that fails for long steps, as laws do whose local iteration does not converge."""

        def _step(self, strain, state, dt, tangent):
            *answer, failed = super()._step(strain, state, dt, tangent)
            if dt > 0.6 and len(failed):
                failed = failed.clone()
                failed[-1] = True
            return *answer, failed

    law = Refuses(200.0, 0.3, 0.4, isotropic=10.0, kinematic=5.0)
    problem, moved = plastic_bar(law, 4.0, (8, 3, 3))

    def apply(value: float) -> None:
        moved.value = (0.01 * value, 0.04 * value, 0.0)

    targets = [float(np.sin(2 * np.pi * (k + 1) / 40)) for k in range(steps)]
    # every tenth step takes a time that the law refuses as a whole
    times = np.cumsum([1.0 if k % 10 == 9 else 0.5 for k in range(steps)])
    before, cuts = 0.0, 0
    for number, step in enumerate(problem.steps(apply, targets, progress=False, times=times)):
        cuts += step.cuts
        if number == steps // 5:
            before = resident()
    return before, resident(), cuts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--fe", type=int, default=200)
    options = parser.parse_args()
    print(f"{date.today()}, {platform.node() or 'machine'} {platform.machine()}, Python {platform.python_version()}")
    failed = False
    start = time.perf_counter()
    before, after = drive(options.steps)
    failed |= not after <= (1 + LARGEST_GROWTH) * before
    print(f"material point, {options.steps} steps: {before:.1f} MB after a fifth, {after:.1f} MB at the end "
          f"({100 * (after / before - 1):+.2f} %), {time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
    if options.fe:
        start = time.perf_counter()
        before, after, cuts = solve(options.fe)
        failed |= not after <= (1 + LARGEST_GROWTH) * before or not cuts
        print(f"finite elements, {options.fe} steps, {cuts} cuts: {before:.1f} MB after a fifth, {after:.1f} MB at the end "
              f"({100 * (after / before - 1):+.2f} %), {time.perf_counter() - start:.0f} s")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
