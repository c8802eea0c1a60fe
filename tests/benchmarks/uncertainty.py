"""Coverage of the 90 % interval of the stress, S ± 1.645 std, on held-out states: six EMT crystals and silicon from DFT.

python tests/benchmarks/uncertainty.py [crystal …]   # minutes; the crystals' states are made by emt_crystals.py

Crystals: `fit` on 200 random states of the wide plan, the other 220 held out, three seeds. Silicon: five folds by symmetry
orbit, three seeds. 'by |E|' is the coverage in four equal quarters of held-out states, from small to large; 'rms z' the
root mean square of error over standard deviation (1 if it is one); 'halved' the coverage of half the standard deviation,
which has to fall outside 85–95 %.
"""

from __future__ import annotations

import platform
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from emt_crystals import CRYSTALS, states

from constitutive import SymmetricLaw, fit
from constitutive.fitting.laplace import NINETY
from constitutive.fitting.least_squares import Reference
from constitutive.fitting.selection import orbit_folds
from crystals.dataset import StrainData

SILICON = Path(__file__).resolve().parents[3] / "shared" / "data" / "silicon_dft_strained.extxyz"


def scaled_errors(law: SymmetricLaw, held_out: StrainData) -> np.ndarray:
    """|S − given S| / std (n, 6), in the law's frame and counted from its stress-free cell.

    NaN for components that are zero by the symmetry of the state (many in silicon): no error is no merit there.
    """
    stretch = np.array(law.metadata["reference"]["stretch"])
    strain = Reference(stretch, 0.0).to_law(held_out.strain)
    given = Reference(np.linalg.inv(stretch), 0.0).from_law(held_out.stress)
    error = np.abs(law.response(strain, tangent=False).stress - given) / law.stress_std(strain)
    return np.where(np.abs(given) > 1e-3 * np.sqrt(np.mean(given**2)), error, np.nan)


def line(label: str, errors: np.ndarray, sizes: np.ndarray, rest: str) -> str:
    def covered(part: np.ndarray, factor: float = NINETY) -> float:
        return 100 * float(np.mean(part[np.isfinite(part)] < factor))

    by_size = " ".join(f"{covered(errors[part]):3.0f}" for part in np.array_split(np.argsort(sizes), 4))
    return (
        f"{label:<20} covered {covered(errors):5.1f} %   by |E| {by_size} %   rms z {np.sqrt(np.nanmean(errors**2)):4.2f}   "
        f"halved {covered(errors, 0.5 * NINETY):4.1f} %   {rest}"
    )


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, 1 thread"
    )
    for name in sys.argv[1:] or [*CRYSTALS, "Si"]:
        for seed in range(3):
            start = time.process_time()
            if name == "Si":
                data = StrainData.read(SILICON, reference="10.937456")
                folds = orbit_folds(data.orbits(), 5, seed)
                errors = np.empty((len(data), 6))
                for fold in range(5):
                    law = fit(data.take(folds != fold), seed=seed, held_out=0.0, progress=False)
                    errors[folds == fold] = scaled_errors(law, data.take(folds == fold))
                sizes, rest = np.linalg.norm(data.strain, axis=1), f"{len(data)} states"
            else:
                data = states(name, "wide")
                order = np.random.default_rng(seed).permutation(len(data))
                training, held_out = data.take(order[:200]), data.take(order[200:])
                law = fit(training, test=held_out, seed=seed, progress=False)
                errors, sizes = scaled_errors(law, held_out), np.linalg.norm(held_out.strain, axis=1)
                figures = law.metadata["fit"]
                rest = (
                    f"stress error {100 * figures['held_out_stress_error']:.2f} %, decay {figures['weight_decay']:.0e}"
                )
            label = f"{name}, seed {seed}"
            print(line(label, errors, sizes, f"{rest}, {time.process_time() - start:.0f} s"), flush=True)


if __name__ == "__main__":
    main()
