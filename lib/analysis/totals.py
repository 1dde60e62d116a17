"""A ratio of two totals, with its interval: speed, cost and relative score alike."""

import numpy as np

from lib.analysis.stats import RESAMPLES, SEED, Estimate


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

    drawn = ratio(np.random.default_rng(SEED).integers(len(a), size=(RESAMPLES, len(a))))
    low, high = np.quantile(drawn[~np.isnan(drawn)], (0.025, 0.975), method="inverted_cdf")  # takes infinities
    return Estimate(float(ratio(np.arange(len(a)))), float(low), float(high), len(a))
