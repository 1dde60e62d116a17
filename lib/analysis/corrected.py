"""Intervals that go with corrected tests, equivalence, power, and the items that would decide.

All from an estimate's own 95 % interval, whose half-widths are taken as 1.96 standard errors to either side, which
may differ. Holm's rule gives the test of rank r in a table of m the level alpha / (m - r): with `step` = m - r the
interval at that level is the half-widths times z(1 - alpha / (2 step)) / z(1 - alpha / 2). Tests of equivalence have
an order of their own, which nobody looked at: these are corrected by all m (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy.stats import norm

from lib.analysis.stats import Estimate

ALPHA = 0.05
ALONE = float(norm.ppf(1 - ALPHA / 2))


def simultaneous(e: Estimate, zero: float = 0.0) -> tuple[float, float]:
    """The interval of `e` at its corrected level, consistent with its test of `zero`.

    The level of Holm's step is that of a rejected test; of others, and of bounds, which have no rank among the
    tests, it is that of the whole table. Where the test, an exact one, does not reject, the values that it would not
    reject reach to `zero`, and so does the interval.
    """
    k = _quantile(ALPHA / 2, e.step if e.p is not None and e.p <= ALPHA else e.tests) / ALONE
    low, high = e.value - k * (e.value - e.low), e.value + k * (e.high - e.value)
    if e.p is not None and e.p > ALPHA:
        low, high = min(low, zero), max(high, zero)
    return low, high


def bonferroni(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The estimates of a table that is judged by intervals alone, such as ratios of totals, or bounds: each at 1 / m
    of the level, m being their count. NaN, which judges nothing, is not counted."""
    count = max(1, sum(not math.isnan(e.value) for e in estimates))
    return [replace(e, p=None, tests=count, step=float(count)) for e in estimates]


def equivalence(e: Estimate, zero: float, margin: float) -> bool:
    """Whether two one-sided tests at the corrected level say that `e` lies less than `margin` from `zero`."""
    k = _quantile(ALPHA, e.tests) / ALONE
    low, high = e.value - k * (e.value - e.low), e.value + k * (e.high - e.value)
    return zero - margin < low and high < zero + margin


def power(e: Estimate, effect: float) -> float | None:
    """The chance, in %, of telling an effect of that size from none by a test like this one, from as many items."""
    error = _error(e)
    if not error:
        return None
    return 100 * float(norm.cdf(effect / error - _quantile(ALPHA / 2, e.tests)))


def items_needed(e: Estimate, effect: float, margin: float, wanted: float = 0.8) -> int | None:
    """How many items like these would show `effect`, or, of 0, that what there is lies within `margin` of none, with
    the chance `wanted`. None where the estimate says nothing of errors."""
    error = _error(e)
    if not error or not e.n:
        return None
    reach = _quantile(ALPHA / 2, e.tests) + norm.ppf(wanted)
    if not effect:
        reach = _quantile(ALPHA, e.tests) + norm.ppf((1 + wanted) / 2)
    return math.ceil(e.n * float(reach * error / (effect or margin)) ** 2)


def _quantile(alpha: float, tests: float) -> float:
    """The normal quantile that an error of `alpha`, shared by so many tests, lies beyond."""
    return float(norm.ppf(1 - alpha / tests))


def _error(e: Estimate) -> float | None:
    """The standard error that the interval says; None without an interval."""
    error = (e.high - e.low) / (2 * ALONE)
    return error if math.isfinite(error) and error > 0 else None
