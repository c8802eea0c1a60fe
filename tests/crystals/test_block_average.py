"""Standard errors of correlated series, against the error that an autoregressive series is known to have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from crystals import block_average


def series(phi: float, length: int, number: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """AR(1) x_t = φ x_{t−1} + noise, stationary, (length, number), and the exact standard error of its mean."""
    noise = np.random.default_rng(seed).normal(size=(length + 3000, number))
    values = lfilter([1.0], [1.0, -phi], noise, axis=0)[3000:]
    lag = np.arange(1, length)
    variance = 1.0 / (1.0 - phi**2) / length * (1.0 + 2.0 * np.sum((1.0 - lag / length) * phi**lag))
    return values, float(np.sqrt(variance))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
def test_error_of_an_autoregressive_series(phi: float) -> None:
    """Right within 10 % in the mean of 200 series, right for most single ones; the naive error is wrong by √((1+φ)/(1−φ))."""
    values, exact = series(phi, 2**14 + 3, 200)
    mean, error = block_average(values)
    np.testing.assert_array_equal(mean, values.mean(axis=0))
    assert np.sqrt(np.mean(error**2)) == pytest.approx(exact, rel=0.10)
    assert 0.58 < np.mean(np.abs(mean) < error) < 0.78  # 0.68 of normal errors
    naive = values.std(axis=0) / np.sqrt(len(values))
    if phi >= 0.5:
        assert np.mean(naive) < 0.62 * exact


def test_columns_are_their_own_series() -> None:
    slow, fast = series(0.95, 2**12, 1)[0], series(0.0, 2**12, 1, seed=1)[0]
    mean, error = block_average(np.concatenate([slow, fast], axis=1))
    for column, single in enumerate((slow[:, 0], fast[:, 0])):
        alone = block_average(single)
        assert alone == (pytest.approx(mean[column], rel=1e-12), pytest.approx(error[column], rel=1e-9))
        assert np.shape(alone[0]) == ()
    constant = block_average(np.ones(64))
    assert constant[0] == 1.0 and constant[1] == 0.0


def test_a_series_that_is_too_short_has_no_error() -> None:
    drift = np.linspace(0.0, 1.0, 512) + 0.01 * np.random.default_rng(0).normal(size=512)
    with pytest.raises(ValueError, match="correlated throughout in column 0"):
        block_average(drift)
    with pytest.raises(ValueError, match="t ≥ 32"):
        block_average(np.zeros(10))
    with pytest.raises(ValueError, match="finite"):
        block_average(np.full(100, np.nan))


def test_the_shortest_series_and_an_odd_one() -> None:
    """32 values are enough, 31 are not; a value without partner is left out of the blocks, not of the mean."""
    noise = np.random.default_rng(3).normal(size=33)
    for length in (32, 33):
        mean, error = block_average(noise[:length])
        assert mean == noise[:length].mean()
        assert 0.5 < error * np.sqrt(length) / noise[:length].std() < 2.0
    # of pairs, since half the correlation may be unseen: 16 of them, whose variance over their number less one is that wanted
    pairs = noise[:32].reshape(16, 2).mean(axis=1)
    assert block_average(noise[:32])[1] == pytest.approx(pairs.std(ddof=1) / 4.0, rel=1e-12)
    with pytest.raises(ValueError, match="t ≥ 32"):
        block_average(noise[:31])
    with pytest.raises(ValueError, match="Time comes first"):
        block_average(np.zeros((40, 2, 2)))
