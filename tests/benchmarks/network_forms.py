"""The three symmetric networks on their own, without a polynomial: where does each of them win?

    python tests/benchmarks/network_forms.py [CRYSTAL …]

EMT crystals, 200 training states with |E| ≤ 0.05, fit(order=1, network=form), weight decay chosen inside the training
states. Pooled relative stress error on the other states of that range and, beyond it, on elliptic states with
0.05 < |E| ≤ 0.08; mean ± spread over three seeds.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from datetime import date

import numpy as np
from accuracy import SEEDS, spread
from emt_crystals import states

from constitutive import fit, predicted_stress
from constitutive.fitting.selection import stress_error

CRYSTALS = ("Cu fcc", "CuPt L1_1", "Ni2Pt")
FORMS = (("invariants", (8, 8)), ("average", (8, 8)), ("directions", (6, 6)))


def main() -> None:
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores (shared), Python {platform.python_version()}, "
          f"seeds {SEEDS}; stress error in %")  # fmt: skip
    for name in sys.argv[1:] or CRYSTALS:
        narrow, wide = states(name, "narrow"), states(name, "wide")
        beyond = wide.take((np.linalg.norm(wide.strain, axis=1) > 0.05) & (wide.acoustic > 0))
        for form, widths in FORMS:
            inside, outside, numbers, began = [], [], 0, time.perf_counter()
            for seed in SEEDS:
                order = np.random.default_rng(seed).permutation(len(narrow))
                training, testing = narrow.take(np.sort(order[:200])), narrow.take(np.sort(order[200:]))
                law = fit(training, seed=seed, order=1, network=form, widths=widths, held_out=0.0, progress=False)
                inside.append(100 * stress_error(predicted_stress(law, testing.strain), testing.stress))
                outside.append(100 * stress_error(predicted_stress(law, beyond.strain), beyond.stress))
                numbers = law.metadata["fit"]["parameters"]
            print(f"{name:<10} {narrow.group.laue.symbol:<6} {form:<10} ({numbers:3} numbers)  held out {spread(inside)}  "
                  f"beyond {spread(outside)}  {(time.perf_counter() - began) / len(SEEDS):.0f} s a fit", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
