"""Ratios of totals, with their intervals: speed, cost, relative score and acceptance alike."""

import numpy as np

from lib.analysis.bootstrap import SEED, drawn_rows, interval, ratio_interval
from lib.analysis.stats import Estimate


def ratio_of_totals(a: np.ndarray, b: np.ndarray) -> Estimate:
    """(sum of a's gains / sum of its costs) / the same of b; both [n, 2] of (gain, cost), row i of the same unit.

    Percentile bootstrap over the n rows, both sides drawn together. The high end is infinite where many resamples
    have no gain of b; those that have none of either are left out. NaN where b has none at all.
    """
    a, b = (np.asarray(side, dtype=float) for side in (a, b))
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or not len(a):
        raise ValueError(f"totals must be [n, 2] of the same n, not {a.shape} and {b.shape}")
    if not b[:, 0].any():
        return Estimate(np.nan, np.nan, np.nan, len(a))

    def ratio(rows: np.ndarray) -> np.ndarray:
        x, y = a[rows].sum(-2), b[rows].sum(-2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (x[..., 0] / x[..., 1]) / (y[..., 0] / y[..., 1])

    return Estimate(float(ratio(np.arange(len(a)))), *ratio_interval(ratio(drawn_rows(len(a)))), len(a))


def difference_of_shares(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Sum of a's parts / sum of its wholes, minus the same of b; [n, 2] and [m, 2] of (part, whole), not paired.

    Percentile bootstrap: the rows of a are drawn anew, and apart from them those of b.
    """
    draws = np.random.default_rng(SEED)
    shares = [np.asarray(side)[drawn_rows(len(side), draws)].sum(1) for side in (a, b)]
    drawn = np.subtract(*(totals[:, 0] / totals[:, 1] for totals in shares))
    value = np.subtract(*(side[:, 0].sum() / side[:, 1].sum() for side in (a, b)))
    return Estimate(float(value), *interval(drawn), len(a) + len(b))
