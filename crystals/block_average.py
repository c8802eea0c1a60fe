"""Mean and standard error of a correlated series, such as the stress along molecular dynamics."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import chdtri

#: Fewest blocks that an error is taken from: fewer know it to worse than a third.
FEWEST_BLOCKS = 16
#: Level at which neighbouring blocks count as uncorrelated.
_CONFIDENCE = 0.95


def block_average(series: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a stationary series and the standard error of that mean, its correlation accounted for.

    Neighbours are averaged in pairs again and again (Flyvbjerg and Petersen 1989, doi:10.1063/1.457480); once blocks are
    longer than the correlation, their variance over their number less one is that of the mean. Where that is so is
    decided by a χ² test on the correlation of neighbouring blocks at this and all later levels (Jonsson 2018,
    doi:10.1103/PhysRevE.98.043304).

    Parameters
    ----------
    series : array (t,) or (t, c)
        Values in the order of time, at equal intervals, equilibration left out.

    Returns
    -------
    mean, error : arrays () or (c,)
        In the unit of the series. For `StrainData.stress_error` take the root mean square of the error over the six
        Mandel components, after both went to second Piola–Kirchhoff stress by the cell's fixed F.

    Raises
    ------
    ValueError
        For a series that is not finite, or so short that fewer than 16 uncorrelated blocks are left: its error is not
        known.
    """
    values = np.asarray(series, dtype=float)
    if values.ndim not in (1, 2) or len(values) < 2 * FEWEST_BLOCKS or not np.all(np.isfinite(values)):
        raise ValueError(
            f"block_average: expected a finite series of shape (t,) or (t, c) with t ≥ {2 * FEWEST_BLOCKS}, got shape "
            f"{values.shape}. Time comes first."
        )
    if values.ndim == 1:
        mean, error = block_average(values[:, None])
        return mean[0], error[0]
    mean = values.mean(axis=0)
    variances, correlations, counts, blocks = [], [], [], values - mean
    while len(blocks) >= 2:
        counts.append(len(blocks))
        variances.append(np.mean(blocks**2, axis=0))
        correlations.append(np.sum(blocks[1:] * blocks[:-1], axis=0) / len(blocks))
        blocks = blocks[: len(blocks) // 2 * 2]  # an odd block has no partner
        blocks = 0.5 * (blocks[0::2] + blocks[1::2])
    variance, correlation, count = np.array(variances), np.array(correlations), np.array(counts)[:, None]
    # n (γ₁/σ²)² of independent blocks is χ² with one degree of freedom; the sum from a level on, with one for each
    with np.errstate(invalid="ignore", divide="ignore"):
        single = np.where(variance > 0, count * (correlation / variance) ** 2, 0.0)
    statistic = np.cumsum(single[::-1], axis=0)[::-1]
    limit = chdtri(np.arange(len(count), 0, -1), 1.0 - _CONFIDENCE)[:, None]
    level = np.argmax(statistic < limit, axis=0)
    passed = np.any(statistic < limit, axis=0) & (count[level, 0] >= FEWEST_BLOCKS)
    if not np.all(passed):
        raise ValueError(
            f"block_average: expected a series of more than {FEWEST_BLOCKS} times its correlation time, got {len(values)} "
            f"values that are correlated throughout in column {int(np.argmin(passed))}. Run longer, or leave out the "
            "equilibration."
        )
    # what correlation the test could not see still shortens the error (17 % at 80 correlation times): one level more
    level = np.where(count[np.minimum(level + 1, len(count) - 1), 0] >= FEWEST_BLOCKS, level + 1, level)
    columns = np.arange(values.shape[1])
    return mean, np.sqrt(variance[level, columns] / (count[level, 0] - 1))
