"""Intervals and paired comparisons of right-or-wrong scores; the item is the unit that is resampled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, norm

from lib.analysis.bootstrap import SEED, drawn_weights, interval, ratio_interval, tail_of

FLIPS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, from `n` items; `p` is two-sided, of the value 0, None if not tested.

    tests: how many tests its table has, over which `p` is corrected, and `step` what Holm multiplied it by. The
    interval is always that of this one comparison alone.
    """

    value: float
    low: float
    high: float
    n: int
    p: float | None = None
    tests: int = 1
    step: float = 1.0

    def mirrored(self) -> "Estimate":
        """Of b - a where this is of a - b."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion, without continuity correction.

    Raises ValueError unless n > 0, 0 <= successes <= n and 0 < level < 1.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a proportion")
    z = _normal_quantile(level)
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
    return Estimate(value, *_mean_interval(items, level), n)


def mean_interval(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of `values` [items] in [0, 1], such as shares, with the percentile bootstrap over items.

    Where all are equal the bootstrap would have no width: then a share of at most w of further items differs.
    Raises ValueError for another shape, other values or none.
    """
    values = _shares(values)
    if np.ptp(values) == 0:
        c, w = values[0], wilson(0, len(values), level)[1]
        return Estimate(float(c), float((1 - w) * c), float((1 - w) * c + w), len(values))
    return Estimate(float(values.mean()), *_mean_interval(values, level), len(values))


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of a - b, both [items, samples] in {0, 1}: row i of either is the same item; samples may differ.

    Interval: percentile bootstrap over the per-item differences. p: the exact McNemar test with one sample
    an item, else the sign-flip test over items, exact too.
    Raises ValueError for different items, another shape or other values.
    """
    a, b = _checked(a), _checked(b)
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same items, not {len(a)} and {len(b)}")
    n, samples = len(a), a.shape[1] * b.shape[1]
    # Whole numbers, of which the sign-flip test is exact.
    counts = a.sum(axis=1) * b.shape[1] - b.sum(axis=1) * a.shape[1]
    p = _mcnemar(counts) if samples == 1 else _sign_flip(counts)
    differences = counts / samples
    return Estimate(float(differences.mean()), *_difference_interval(differences, level), n, p)


def paired_mean_difference(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of a - b, both [items] in [0, 1], such as pass@k; bootstrap over items, p by sign flips: exact, or,
    where their common unit is finer than 1 / 128, by FLIPS draws, and then never below 1 / (FLIPS + 1).

    Raises ValueError for different items, another shape, other values or none.
    """
    a, b = _shares(a), _shares(b)
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same items, not {len(a)} and {len(b)}")
    interval = _difference_interval(a - b, level)
    return Estimate(float((a - b).mean()), *interval, len(a), _sign_flip(a - b))


def _difference_interval(differences: np.ndarray, level: float) -> tuple[float, float]:
    """Interval of the mean of `differences` [items] in [-1, 1]."""
    if np.ptp(differences) > 0:
        return _mean_interval(differences, level)
    # All differences equal c says only that others have a share of at most w.
    c, w = differences[0], wilson(0, len(differences), level)[1]
    return float((1 - w) * c - w), float((1 - w) * c + w)


def relative_reduction(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """1 - mean(a) / mean(b) of errors [items] in [0, 1], the same items: how much of b's error a avoids.

    Percentile bootstrap over items; the low end is minus infinity where b errs so seldom that many resamples have
    none of its errors. NaN where b has no error. Without an error of a, a share of at most w of further items has
    one. Raises ValueError for different items, another shape, other values or none.
    """
    a, b = _shares(a), _shares(b)
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same items, not {len(a)} and {len(b)}")
    if not b.any():
        return Estimate(math.nan, math.nan, math.nan, len(a))
    if not a.any():
        return Estimate(1.0, 1 - wilson(0, len(a), level)[1] / float(b.mean()), 1.0, len(a))
    weights = drawn_weights(len(a))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = 1 - (weights @ a) / (weights @ b)
    return Estimate(float(1 - a.mean() / b.mean()), *ratio_interval(drawn, tail_of(level)), len(a))


def holm(pvalues: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the order given; None is no test: it stays None and is not counted."""
    tested = sorted((p, i) for i, p in enumerate(pvalues) if p is not None)
    adjusted: list[float | None] = [None] * len(pvalues)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return adjusted


def corrected(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The same estimates with p after Holm's correction over all of them; the intervals stay as they are."""
    adjusted = holm([e.p for e in estimates])
    count = sum(p is not None for p in adjusted)
    return [
        e if p is None else replace(e, p=p, tests=count, step=step_of(e.p, p, count))
        for e, p in zip(estimates, adjusted, strict=True)
    ]


def step_of(p: float, adjusted: float, tests: int) -> float:
    """What Holm multiplied a p by, of so many tests; of one that was cut at 1 no less than that shows."""
    return min(max(1.0, adjusted / p), float(tests)) if p > 0 else float(tests)


def verdict(estimate: Estimate, alpha: float = 0.05, p: float | None = None) -> str:
    """'higher', 'lower' or 'tied' for a difference.

    `p` (an adjusted one) goes before `estimate.p`; without either, the interval decides.
    """
    p = estimate.p if p is None else p
    differs = not estimate.low <= 0 <= estimate.high if p is None else p <= alpha
    if not differs or estimate.value == 0:
        return "tied"
    return "higher" if estimate.value > 0 else "lower"


def _normal_quantile(level: float) -> float:
    """How many standard deviations a normal interval at `level` reaches to either side."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    return float(norm.ppf(0.5 + level / 2))


def _shares(values: np.ndarray) -> np.ndarray:
    """`values` as floats [items] in [0, 1]."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values must be [items] and not empty, not {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("values must be in [0, 1]")
    return values


def _checked(scores: np.ndarray) -> np.ndarray:
    """`scores` as floats [items, samples]."""
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores must be [items, samples] and not empty, not {scores.shape}")
    if not np.isin(scores, (0, 1)).all():
        raise ValueError("scores must be 0 or 1")
    return scores


def _mean_interval(items: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval of the mean of `items` [n], drawn anew."""
    return interval(drawn_weights(len(items)) @ items, tail_of(level))


def _mcnemar(counts: np.ndarray) -> float:
    """Exact two-sided McNemar test of `counts` [items] in {-1, 0, 1}; 1 if no item differs."""
    wins, losses = int((counts > 0).sum()), int((counts < 0).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _sign_flip(differences: np.ndarray) -> float:
    """Two-sided p of the sum of `differences` [items] when the sign of each is a coin flip.

    Exact where they are whole multiples of 1 / 128 or a larger share, such as of k right of n; else by FLIPS draws.
    """
    differences = differences[differences != 0]  # a flip leaves a zero alone
    sizes = _whole_multiples(differences)
    if sizes is not None:
        return _exact_flips(sizes)
    signs = np.random.default_rng(SEED).integers(0, 2, (FLIPS, len(differences)), dtype=np.int8)
    total, reached = abs(differences.sum()), 0
    for part in np.array_split(signs, 10):  # as float64 at once they would take much memory
        flipped = 2 * (part.astype(float) @ differences) - differences.sum()
        reached += int((np.abs(flipped) >= total - 1e-9).sum())
    return (1 + reached) / (FLIPS + 1)


def _whole_multiples(differences: np.ndarray) -> np.ndarray | None:
    """The same in the largest unit of which all are whole multiples; None where no unit of 1 / 128 or more is one."""
    for parts in range(1, 129):
        sizes = np.rint(differences * parts)
        if np.abs(differences * parts - sizes).max(initial=0) < 1e-9:
            sizes = sizes.astype(np.int64)
            return sizes // max(1, np.gcd.reduce(sizes))
    return None


def _exact_flips(sizes: np.ndarray) -> float:
    """The chance of a sum at least as far from 0 as that of `sizes`, whole numbers, over all their signs."""
    chances = np.ones(1)  # of the sum of those whose sign is +, from 0 on
    for size in np.sort(np.abs(sizes)):
        halves = chances / 2
        chances = np.zeros(len(halves) + size)
        chances[: len(halves)] += halves
        chances[size:] += halves
    sums = 2 * np.arange(len(chances)) - np.abs(sizes).sum()
    return min(1.0, float(chances[np.abs(sums) >= abs(sizes.sum())].sum()))
