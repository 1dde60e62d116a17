"""Intervals and tests against published values, scipy and simulation."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from lib.analysis.stats import (
    Estimate,
    holm,
    mean_interval,
    paired_difference,
    paired_mean_difference,
    relative_reduction,
    score_interval,
    verdict,
    wilson,
)


@pytest.mark.parametrize(
    "successes, n, expected",
    [
        (0, 10, (0, 0.2775)),
        (5, 10, (0.2366, 0.7634)),
        (10, 10, (0.7225, 1)),
        (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, table I
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_published(successes, n, expected):
    assert wilson(successes, n) == pytest.approx(expected, abs=6e-5)


def test_wilson_rejects_what_is_no_proportion():
    for successes, n in [(0, 0), (3, 2), (-1, 2)]:
        with pytest.raises(ValueError):
            wilson(successes, n)
    with pytest.raises(ValueError):
        wilson(1, 2, level=1.0)


def test_one_sample_is_wilson():
    scores = np.array([[1], [0], [0], [1], [1]])
    assert score_interval(scores) == Estimate(0.6, *wilson(3, 5), 5)


@pytest.mark.parametrize("row, share", [([0, 0], 0), ([1, 1, 1], 1), ([0, 1], 0.5)])
def test_equal_items_fall_back_to_wilson_over_items(row, share):
    scores = np.array([row] * 12)
    assert score_interval(scores) == Estimate(share, *wilson(12 * share, 12), 12)


def test_cluster_bootstrap_covers():
    """950 of 1,000 intervals should cover; fewer than 900 has probability 1e-4 if the true share is 0.93.

    Intervals that took the 8 samples of an item as independent would cover in about 64 %.
    """
    rng = np.random.default_rng(3)
    data = rng.binomial(1, rng.beta(0.5, 0.5, (1000, 60, 1)), (1000, 60, 8))
    estimates = [score_interval(scores) for scores in data]
    hits = sum(e.low <= 0.5 <= e.high for e in estimates)
    assert binom.cdf(899, 1000, 0.93) < 2e-4
    assert 900 <= hits <= 985
    naive = [wilson(scores.sum(), scores.size) for scores in data]
    assert sum(low <= 0.5 <= high for low, high in naive) < 750


def test_paired_interval_covers():
    """The true difference is 0.2; the bar and its false-alarm rate are those of the test above."""
    rng = np.random.default_rng(4)
    ease = rng.uniform(0, 0.8, (1000, 60, 1))
    a, b = (rng.binomial(1, share, (1000, 60, 4)) for share in (ease + 0.2, ease))
    estimates = [paired_difference(*pair) for pair in zip(a[:300], b[:300], strict=True)]
    assert all(e.low <= e.value <= e.high for e in estimates)
    assert sum(e.low <= 0.2 <= e.high for e in estimates) >= 265  # binom.cdf(264, 300, 0.93) < 1e-3
    assert np.mean([e.value for e in estimates]) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("wins, losses", [(9, 2), (2, 9), (1, 0), (5, 5), (30, 12)])
def test_one_sample_is_mcnemar(wins, losses):
    a = np.array([[1]] * wins + [[0]] * losses + [[1]] * 7)
    b = np.array([[0]] * wins + [[1]] * losses + [[1]] * 7)
    estimate = paired_difference(a, b)
    assert estimate.p == binomtest(wins, wins + losses, 0.5).pvalue
    assert estimate.value == pytest.approx((wins - losses) / (wins + losses + 7))
    other = paired_difference(b, a)
    assert other.value == -estimate.value and other.p == pytest.approx(estimate.p)


def test_sign_flip_reduces_to_mcnemar():
    """Two equal samples an item give the differences of one sample, and the same p."""
    a = np.repeat([1] * 11 + [0] * 3 + [1] * 6, 2).reshape(-1, 2)
    b = np.repeat([0] * 11 + [1] * 3 + [1] * 6, 2).reshape(-1, 2)
    assert paired_difference(a, b).p == pytest.approx(paired_difference(a[:, :1], b[:, :1]).p, rel=1e-12)


def test_sign_flips_are_all_counted():
    """Against every sign in turn; shares of seven samples have a common unit, square roots none: these are drawn."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 8, 12) / 7, rng.integers(0, 8, 12) / 7
    signs = np.array(list(itertools.product((-1, 1), repeat=12)))
    every = (np.abs(signs @ (a - b)) >= abs((a - b).sum()) - 1e-9).mean()
    assert paired_mean_difference(a, b).p == pytest.approx(every, rel=1e-9)
    assert paired_mean_difference(b, a).p == paired_mean_difference(a, b).p
    assert paired_mean_difference(a, a).p == 1
    root = np.sqrt(a)
    every = (np.abs(signs @ (root - b)) >= abs((root - b).sum()) - 1e-9).mean()
    drawn = paired_mean_difference(root, b).p
    assert drawn != every and drawn == pytest.approx(every, abs=0.015)
    ones, none = np.ones((60, 2)), np.zeros((60, 2))
    assert paired_difference(ones, none).p == pytest.approx(2.0**-59), "smaller than draws could say"


def test_p_uniform_under_null():
    """No more small p than uniform: 3.5 deviations, a false alarm in about 1 of 1,400 seeds a level.

    The sum of the differences is a whole number of deviation 12.6, so p moves in steps of up to 0.065, and
    may be as much as that too large.
    """
    rng = np.random.default_rng(5)
    share = rng.beta(1, 1, (400, 60, 1))
    a, b = (rng.binomial(1, share, (400, 60, 8)) for _ in range(2))
    p = np.array([paired_difference(*pair).p for pair in zip(a, b, strict=True)])
    for alpha in (0.05, 0.2, 0.5, 0.8):
        bar = 3.5 * np.sqrt(alpha * (1 - alpha) / 400)
        assert alpha - bar - 0.065 < (p <= alpha).mean() < alpha + bar


def test_one_sample_against_many():
    """A greedy response beside eight draws: the item's means are compared, and p stays honest under the null."""
    a, b = np.array([[1], [0], [1]]), np.array([[1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 0]])
    assert paired_difference(a, b).value == pytest.approx((0.5 - 0.25 + 0.25) / 3)
    assert paired_difference(a, b).value == paired_difference(np.repeat(a, 4, 1), b).value
    rng = np.random.default_rng(8)
    share = rng.beta(1, 1, (400, 60, 1))
    data = zip(rng.binomial(1, share, (400, 60, 1)), rng.binomial(1, share, (400, 60, 8)), strict=True)
    p = np.array([paired_difference(*pair).p for pair in data])
    for alpha in (0.05, 0.2, 0.5):  # 3.5 deviations; p moves in steps of up to 0.02 here
        bar = 3.5 * np.sqrt(alpha * (1 - alpha) / 400)
        assert alpha - bar - 0.02 < (p <= alpha).mean() < alpha + bar


def test_mean_difference_agrees_with_that_of_scores():
    rng = np.random.default_rng(9)
    a, b = rng.integers(0, 2, (2, 40, 5))
    means, scores = paired_mean_difference(a.mean(1), b.mean(1)), paired_difference(a, b)
    assert means.p == scores.p
    assert (means.value, means.low, means.high) == pytest.approx((scores.value, scores.low, scores.high))


def test_relative_reduction_covers():
    """True errors 0.2 and 0.4, so one half is avoided; bar and false-alarm rate as for the paired interval."""
    rng = np.random.default_rng(10)
    hard = rng.uniform(0, 0.8, (300, 80))
    found = [relative_reduction(h * rng.uniform(0, 1, 80), h) for h in hard]
    assert sum(e.low <= 0.5 <= e.high for e in found) >= 265
    assert all(e.low <= e.value <= e.high for e in found)
    rare = np.zeros(50)
    rare[:2] = 1  # 13 % of resamples have neither of b's two errors, and most of those have one of a's
    assert relative_reduction(np.roll(rare, 2), rare).low == -np.inf
    assert relative_reduction(np.zeros(50), rare).low < 0 < relative_reduction(np.zeros(50), rare).value == 1
    e = relative_reduction(np.zeros(5), np.zeros(5))
    assert np.isnan([e.value, e.low, e.high]).all()
    assert relative_reduction(np.zeros(5), np.ones(5)).value == 1


def test_identical_arrays_are_tied():
    for samples in (1, 4):
        a = np.random.default_rng(0).integers(0, 2, (30, samples))
        estimate = paired_difference(a, a)
        assert estimate.value == 0 and estimate.p == 1 and verdict(estimate) == "tied"
        # No item of 30 differs: as much as 11 % of further items may.
        assert (estimate.low, estimate.high) == pytest.approx((-wilson(0, 30)[1], wilson(0, 30)[1]))


def test_all_items_differ():
    estimate = paired_difference(np.ones((20, 2)), np.zeros((20, 2)))
    assert estimate.value == estimate.high == 1
    assert estimate.low == pytest.approx(1 - 2 * wilson(0, 20)[1])
    assert estimate.p < 1e-3 and verdict(estimate) == "higher"


def test_same_at_each_call():
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 2, (2, 25, 3))
    assert paired_difference(a, b) == paired_difference(a, b)
    assert score_interval(a) == score_interval(a)


@pytest.mark.parametrize("shapes", [((3, 2), (2, 3)), ((3, 1), (4, 1)), ((3,), (3,)), ((0, 1), (0, 1))])
def test_shapes_must_agree(shapes):
    with pytest.raises(ValueError):
        paired_difference(*(np.zeros(shape) for shape in shapes))


def test_scores_must_be_right_or_wrong():
    for bad in (0.5, 2, np.nan):
        with pytest.raises(ValueError, match="0 or 1"):
            score_interval(np.array([[bad], [1]]))


def test_holm_worked_example():
    """Four tests: 4 x .005, 3 x .01, 2 x .03, then .04 raised to what came before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    mixed = holm([0.01, None, 0.6, 0.9])
    assert mixed[1] is None and mixed[0] == pytest.approx(0.03) and mixed[2:] == [1, 1]
    assert holm([]) == []


def test_verdict():
    assert verdict(Estimate(0.1, 0.02, 0.18, 50, 0.03)) == "higher"
    assert verdict(Estimate(-0.1, -0.18, -0.02, 50, 0.03)) == "lower"
    assert verdict(Estimate(0.1, 0.02, 0.18, 50, 0.03), p=0.2) == "tied"
    assert verdict(Estimate(0.1, 0.02, 0.18, 50)) == "higher"
    assert verdict(Estimate(0.1, -0.02, 0.22, 50)) == "tied"


def test_mean_interval_covers_the_mean_at_its_level():
    rng = np.random.default_rng(0)
    covered = [
        estimate.low <= 0.4 <= estimate.high
        for estimate in (mean_interval(rng.beta(2, 3, size=120)) for _ in range(300))  # mean 0.4
    ]
    assert 0.90 < np.mean(covered) < 0.985
    w = wilson(0, 30)[1]  # all equal: as much as that share of further items may differ
    for value in (0.0, 0.5, 1.0):
        e = mean_interval([value] * 30)
        assert (e.low, e.high) == pytest.approx(((1 - w) * value, (1 - w) * value + w))
    assert mean_interval([1.0] * 30).low == pytest.approx(wilson(30, 30)[0])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        mean_interval([1.5])
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="values must be"):
            mean_interval(wrong)
