"""Lines through quantiles of errors: what a stated interval is made of."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, identity


def quantile_lines(missed: np.ndarray, apart: np.ndarray, level: float) -> np.ndarray:
    """a, b (2, 2) with |error| ≤ a + b `apart` for a share `level` of crystals; columns of all are ln K and ln G.

    Koenker and Bassett 1978 (doi:10.2307/1913643): the least of Σ level r⁺ + (1 − level) r⁻ over a, b ≥ 0, a linear programme.
    """
    found = np.zeros((2, 2))
    for which in range(2):
        n = len(missed)
        design = np.column_stack([np.ones(n), apart[:, which]])
        cost = np.r_[0.0, 0.0, np.full(n, level), np.full(n, 1.0 - level)]
        solved = linprog(cost, A_eq=hstack([csr_matrix(design), identity(n), -identity(n)]), b_eq=missed[:, which])
        found[:, which] = solved.x[:2]
    return found
