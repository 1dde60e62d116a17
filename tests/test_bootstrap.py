"""What is drawn again, and the intervals that follow: by hand on few rows, and the same at each call."""

import numpy as np
import pandas as pd
import pytest

from lib.analysis.bootstrap import (
    RESAMPLES,
    drawn_means,
    drawn_medians,
    drawn_rows,
    drawn_weights,
    interval,
    p_of_zero,
    ratio_interval,
    tail_of,
)
from lib.analysis.interleaved import mean_time_ratio, time_ratio
from lib.analysis.totals import difference_of_shares


def test_rows_are_drawn_with_replacement_and_the_same_at_each_call():
    rows = drawn_rows(5)
    assert rows.shape == (RESAMPLES, 5) and set(rows.ravel()) == set(range(5))
    assert (rows == drawn_rows(5)).all() and not (rows == drawn_rows(5, 1)).all()
    assert max(len(set(row)) for row in rows[:50]) <= 5 > min(len(set(row)) for row in rows[:50])


def test_a_generator_goes_on_where_it_stopped():
    draws = np.random.default_rng(3)
    first, second = drawn_rows(4, draws), drawn_rows(4, draws)
    assert (first == drawn_rows(4, 3)).all() and not (first == second).all()


def test_weights_are_counts_over_n():
    weights = drawn_weights(6)
    assert weights.shape == (RESAMPLES, 6) and weights.sum(1) == pytest.approx(1)
    assert (weights * 6 == (weights * 6).round()).all() and not weights.flags.writeable


def test_statistics_of_two_values_are_those_of_four_resamples():
    values = np.array([1.0, 3.0])
    assert set(drawn_means(values)) == {1.0, 2.0, 3.0} and set(drawn_medians(values, 0)) == {1.0, 2.0, 3.0}
    assert interval(drawn_means(values)) == (1.0, 3.0)


def test_an_interval_cuts_the_tails():
    drawn = np.arange(4001.0)
    assert interval(drawn) == pytest.approx((100, 3900)) and interval(drawn, 0.25) == pytest.approx((1000, 3000))
    assert tail_of(0.9) == pytest.approx(0.05)
    for level in (0, 1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            tail_of(level)


def test_ratios_may_be_infinite_and_what_is_no_ratio_is_left_out():
    drawn = np.array([*range(960), *[np.inf] * 40, *[np.nan] * 500])
    assert ratio_interval(drawn) == (24, np.inf), "2.5 % of a thousand below, and 4 % are infinite"


def test_p_is_twice_the_smaller_side_and_never_zero():
    above = np.ones(RESAMPLES)
    assert p_of_zero(above) == pytest.approx(2 / (RESAMPLES + 1)) == p_of_zero(-above)
    assert p_of_zero(above * 0) == 1, "both sides hold every resample"
    above[:100] = -1
    assert p_of_zero(above) == pytest.approx(2 * 101 / (RESAMPLES + 1))


def test_shares_that_are_not_paired_are_drawn_apart():
    """Of one row twice a's share is 0 or 1/2, apart from it b's is 1/4 or 1."""
    e = difference_of_shares(np.array([[0, 2], [2, 4]]), np.array([[1, 4], [6, 6]]))
    assert (e.value, e.n) == (pytest.approx(2 / 6 - 7 / 10), 4)
    assert (e.low, e.high) == pytest.approx((0 - 1, 1 / 2 - 1 / 4))


def test_a_mean_time_ratio_is_of_the_medians_of_its_parts():
    rows = [(size, i, name, seconds, 1) for size, ratios in ((1, (2.0, 2.0, 9.0)), (16, (4.0, 4.0, 4.0)))
            for i, ratio in enumerate(ratios) for name, seconds in (("a", ratio), ("b", 1.0))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["batch", "round", "variant", "seconds", "work"])
    parts = [part for _, part in table.groupby("batch")]
    e = mean_time_ratio(parts, "a", "b")
    assert (e.value, e.low, e.n) == (3.0, 3.0, 3) and e.high == pytest.approx((9 + 4) / 2)
    one = time_ratio(parts[0], "a", "b")
    assert (one.value, one.low, one.high, one.n) == (2.0, 2.0, 9.0, 3)
