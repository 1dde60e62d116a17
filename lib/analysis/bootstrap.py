"""Every bootstrap of the study: what is drawn again with replacement, and the interval that the draws give.

The draws are the same at each call, so that a table made twice is the same table. What is resampled is the unit that
is independent of the others: an item with all its samples, a round of a benchmark, a response.
"""

from functools import lru_cache

import numpy as np

RESAMPLES = 4_000
SEED = 20_240_229
TAIL = 0.025  # the share of the draws on either side of a 95 % interval


def drawn_rows(n: int, draws: int | np.random.Generator = SEED) -> np.ndarray:
    """Row numbers [RESAMPLES, n]: each line draws n of n rows with replacement.

    `draws`: a seed; or a generator, where several groups of rows are drawn anew together and one call goes on where
    the other stopped.
    """
    return np.random.default_rng(draws).integers(n, size=(RESAMPLES, n))


@lru_cache(maxsize=2)  # the rows of a table have the same items; [4000, 1000] takes 32 MB
def drawn_weights(n: int) -> np.ndarray:
    """How often each line draws each of n rows, divided by n: [RESAMPLES, n], so that `weights @ values` is the mean
    of every resample. These are other draws than those of `drawn_rows`."""
    weights = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    weights.flags.writeable = False
    return weights


def drawn_means(values: np.ndarray) -> np.ndarray:
    """The mean of every resample of `values` [n]: [RESAMPLES]."""
    return values[drawn_rows(len(values))].mean(1)


def drawn_medians(values: np.ndarray, draws: int | np.random.Generator) -> np.ndarray:
    """The median of every resample of `values` [n]: [RESAMPLES]. `draws` as in `drawn_rows`."""
    return np.median(values[drawn_rows(len(values), draws)], axis=1)


def tail_of(level: float) -> float:
    """The share of the draws on either side of an interval. Raises ValueError for a level outside of (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    return (1 - level) / 2


def interval(drawn: np.ndarray, tail: float = TAIL) -> tuple[float, float]:
    """The percentile interval of a statistic from its resamples [RESAMPLES], which must be finite."""
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def ratio_interval(drawn: np.ndarray, tail: float = TAIL) -> tuple[float, float]:
    """The percentile interval of a ratio from its resamples [RESAMPLES]. Infinities count, where a resample has
    nothing to divide by; NaN, where it has nothing to be divided either, is left out."""
    low, high = np.quantile(drawn[~np.isnan(drawn)], (tail, 1 - tail), method="inverted_cdf")  # takes infinities
    return float(low), float(high)


def p_of_zero(drawn: np.ndarray) -> float:
    """Two-sided p of the value 0: twice the smaller share of the resamples [RESAMPLES] on one side of it."""
    shares = [(1 + side.sum()) / (RESAMPLES + 1) for side in (drawn <= 0, drawn >= 0)]
    return float(min(1, 2 * min(shares)))
