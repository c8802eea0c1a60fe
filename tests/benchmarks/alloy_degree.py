"""Which degree in the composition serves: chosen on left-out strains, or on left-out compositions?

Cu–Ni and Ag–Pd from EMT, five ordered cubic compositions fitted, x = 1/8 and 7/8 never. For each degree: stress error on
held-out strains, cross-validated by strain, cross-validated by leaving inner compositions out (what `fit_parametric`
does), and at the two compositions never fitted.

    PYTHONPATH=$PWD OMP_NUM_THREADS=1 python tests/benchmarks/alloy_degree.py > tests/benchmarks/results/alloy_degree.txt
"""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alloy_composition import crystals_of, edge, error, strained  # the example, not a package

from constitutive.fitting.parametric_fit import FOLDS, _cross_validated, _fitted, _input_folds, _strain_blocks
from constitutive.fitting.parametric_problem import ParametricChoice
from constitutive.fitting.selection import orbit_folds
from crystals import StrainData
from crystals.atomistic import calculator_factory, relax_cell

UNSEEN = (0.125, 0.875)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{date.today().isoformat()}, {platform.machine()}, torch {torch.__version__}, order 4, ridge 1e-6")
    print("stress errors, %: held-out strains | CV by strain | CV by inner composition | compositions never fitted")
    for elements in (("Cu", "Ni"), ("Ag", "Pd")):
        cells = {x: relax_cell(atoms, calculator_factory("emt")) for x, atoms in crystals_of(*elements).items()}
        common = edge(cells[0.0])
        parts = {x: strained(atoms, x, common, 80, seed) for seed, (x, atoms) in enumerate(cells.items())}
        data = StrainData.joined([part for x, part in parts.items() if x not in UNSEEN])
        unseen = StrainData.joined([replace(parts[x], structure=None) for x in UNSEEN])
        out = orbit_folds(_strain_blocks(data), 5, 0) == 0
        training, testing = data.take(~out), data.take(out)
        folds = orbit_folds(_strain_blocks(training), FOLDS, 0)
        by_strain = [folds == fold for fold in range(FOLDS)]
        ends = np.array([[0.0, 1.0]])
        for degree in (1, 2, 3, 4):
            choice = ParametricChoice(4, degree, 1e-6, False)
            law = _fitted(training, ends, choice)
            # four compositions are left where one is left out: they cannot tell degree 4
            inner = _cross_validated(training, ends, choice, _input_folds(training)) if degree < 4 else np.nan
            values = (
                error(law, testing),
                _cross_validated(training, ends, choice, by_strain),
                inner,
                error(law, unseen),
            )
            print(f"{'-'.join(elements)} degree {degree}: " + " | ".join(f"{100 * v:.2f}" for v in values), flush=True)


if __name__ == "__main__":
    main()
