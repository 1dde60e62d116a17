"""Intervals and paired comparisons of right-or-wrong scores; the item is the unit that is resampled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.stats import binomtest, norm

RESAMPLES = 4_000
FLIPS = 10_000
SEED = 20_240_229


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, from `n` items; `p` is two-sided, of the value 0, None if not tested."""

    value: float
    low: float
    high: float
    n: int
    p: float | None = None


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion, without continuity correction.

    Raises ValueError unless n > 0, 0 <= successes <= n and 0 < level < 1.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a proportion")
    z = _quantile(level)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # The ends are 0 and 1 exactly there; rounding would leave 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def score_interval(scores: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of `scores` [items, samples] in {0, 1} with its interval.

    Wilson with one sample an item; else the percentile bootstrap over items, whose samples stay together.
    Where all items have the same mean the bootstrap would have no width, and Wilson over items stands in.
    Raises ValueError for another shape or other values.
    """
    items = _checked(scores).mean(axis=1)
    n, value = len(items), float(items.mean())
    if np.shape(scores)[1] == 1 or np.ptp(items) == 0:
        return Estimate(value, *wilson(min(items.sum(), n), n, level), n)
    return Estimate(value, *_bootstrap(items, level), n)


def mean_interval(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of `values` [items], any real numbers, with the percentile bootstrap over items.

    Raises ValueError for another shape or no values.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values must be [items] and not empty, not {values.shape}")
    return Estimate(float(values.mean()), *_bootstrap(values, level), len(values))


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of a - b, both [items, samples] in {0, 1}: row i of either is the same item; samples may differ.

    Interval: percentile bootstrap over the per-item differences. p: the exact McNemar test with one sample
    an item, else the sign-flip test over items (Monte Carlo, so never below 1 / (FLIPS + 1)).
    Raises ValueError for different items, another shape or other values.
    """
    a, b = _checked(a), _checked(b)
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same items, not {len(a)} and {len(b)}")
    n, samples = len(a), a.shape[1] * b.shape[1]
    # Whole numbers, so that ties in the sign-flip test are exact.
    counts = a.sum(axis=1) * b.shape[1] - b.sum(axis=1) * a.shape[1]
    differences = counts / samples
    if np.ptp(counts) == 0:
        # All differences equal c says only that others have a share of at most w, and they lie in [-1, 1].
        c, w = differences[0], wilson(0, n, level)[1]
        low, high = (1 - w) * c - w, (1 - w) * c + w
    else:
        low, high = _bootstrap(differences, level)
    p = _mcnemar(counts) if samples == 1 else _sign_flip(counts)
    return Estimate(float(differences.mean()), float(low), float(high), n, p)


def paired_mean_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of a - b, both [items], any real numbers an item; bootstrap over items, p by sign flips.

    Raises ValueError for different shapes or no values.
    """
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    estimate = mean_interval(differences, level)
    return replace(estimate, p=_sign_flip(differences))


def relative_reduction(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """1 - mean(a) / mean(b) of errors [items], the same items: how much of b's error a avoids; bootstrap over items.

    Both means of a resample are of the same items. Raises ValueError for different shapes or no values; the value
    is NaN where b has no error.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"errors must be [items] of the same items, not {a.shape} and {b.shape}")
    weights = _resamples(len(a))
    with np.errstate(invalid="ignore", divide="ignore"):
        value, drawn = 1 - a.mean() / b.mean(), 1 - (weights @ a) / (weights @ b)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn[np.isfinite(drawn)], (tail, 1 - tail)) if b.any() else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high), len(a))


def holm(pvalues: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the order given; None is no test: it stays None and is not counted."""
    tested = sorted((p, i) for i, p in enumerate(pvalues) if p is not None)
    adjusted: list[float | None] = [None] * len(pvalues)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return adjusted


def verdict(estimate: Estimate, alpha: float = 0.05, p: float | None = None) -> str:
    """'higher', 'lower' or 'tied' for a difference.

    `p` (an adjusted one) goes before `estimate.p`; without either, the interval decides.
    """
    p = estimate.p if p is None else p
    differs = not estimate.low <= 0 <= estimate.high if p is None else p <= alpha
    if not differs or estimate.value == 0:
        return "tied"
    return "higher" if estimate.value > 0 else "lower"


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    return float(norm.ppf(0.5 + level / 2))


def _checked(scores: np.ndarray) -> np.ndarray:
    """`scores` as floats [items, samples]."""
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores must be [items, samples] and not empty, not {scores.shape}")
    if not np.isin(scores, (0, 1)).all():
        raise ValueError("scores must be 0 or 1")
    return scores


@lru_cache(maxsize=2)  # the rows of a table have the same items; [4000, 1000] takes 32 MB
def _resamples(n: int) -> np.ndarray:
    """How often each of n items is drawn, divided by n: [RESAMPLES, n]. The same at each call."""
    weights = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    weights.flags.writeable = False
    return weights


def _bootstrap(items: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval of the mean of `items` [n]."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    tail = (1 - level) / 2
    low, high = np.quantile(_resamples(len(items)) @ items, (tail, 1 - tail))
    return float(low), float(high)


def _mcnemar(counts: np.ndarray) -> float:
    """Exact two-sided McNemar test of `counts` [items] in {-1, 0, 1}; 1 if no item differs."""
    wins, losses = int((counts > 0).sum()), int((counts < 0).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _sign_flip(counts: np.ndarray) -> float:
    """Two-sided p of sum(counts) when the sign of each item's difference is a coin flip."""
    counts = counts[counts != 0]  # a flip leaves a zero alone
    signs = np.random.default_rng(SEED).integers(0, 2, (FLIPS, len(counts)), dtype=np.int8)
    total, reached = abs(counts.sum()), 0
    for part in np.array_split(signs, 10):  # as float64 at once they would take much memory
        flipped = 2 * (part.astype(float) @ counts) - counts.sum()
        reached += int((np.abs(flipped) >= total - 1e-9).sum())
    return (1 + reached) / (FLIPS + 1)
