"""Whether methods keep their order over frames: tau as scipy has it, and what is told from chance."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from lib.analysis.rankings import agreement, flipped, mean_tau

RATES = np.array([0.2, 0.35, 0.5, 0.65])


def drawn(rates, items: int = 300, seed: int = 0) -> np.ndarray:
    """[frames, methods, items] of 0 and 1 at rates [frames, methods]; an item's difficulty is that of all methods."""
    rng = np.random.default_rng(seed)
    rates = np.asarray(rates)[..., None]
    shared = rng.random((1, 1, items)) < 0.5
    return np.where(shared, rng.random(rates.shape[:2] + (items,)) < rates, 0).astype(float)


def test_tau_is_that_of_scipy_over_all_pairs():
    means = np.array([[0.1, 0.2, 0.3, 0.3], [0.4, 0.1, 0.5, 0.6], [0.2, 0.2, 0.1, 0.0]])
    pairs = [kendalltau(a, b).statistic for a, b in combinations(means, 2)]
    assert mean_tau(means) == pytest.approx(np.mean(pairs))
    assert mean_tau(np.stack([means, means[::-1]])) == pytest.approx([np.mean(pairs)] * 2)
    assert mean_tau(np.array([[0.1, 0.2], [0.3, 0.3]])) == 0


def test_a_frame_that_turns_the_order_is_told_from_chance():
    turned = agreement(drawn([RATES, RATES, RATES[::-1]]))
    assert turned.tau == pytest.approx(-1 / 3, abs=0.2) and turned.p < 0.01 and turned.expected > turned.high
    assert turned.low <= turned.tau <= turned.high and turned.n == 300


def test_one_order_in_all_frames_is_not_taken_for_another():
    """Also where a frame is harder for all: what it takes from all methods changes no order."""
    found = [agreement(drawn([RATES] * 3, seed=seed)).p for seed in range(12)]
    assert sum(p <= 0.1 for p in found) <= 4 and np.mean(found) > 0.35
    scores = drawn([RATES] * 3, seed=1)
    harder = scores - np.array([0.0, 0.3, 0.6])[:, None, None]
    assert agreement(harder) == agreement(scores)


def test_equal_methods_have_an_order_by_chance_alone():
    """Then tau is about 0, and so is what shuffling expects: no flip is proved by a low tau."""
    found = [agreement(drawn(np.full((3, 5), 0.5), seed=seed)) for seed in range(6)]
    assert abs(np.mean([one.tau for one in found])) < 0.3
    assert all(abs(one.expected) < 0.3 for one in found) and sum(one.p <= 0.05 for one in found) <= 1


def test_flips_are_counted_over_pairs_of_methods():
    told = {("a", "b"): {"x": "higher", "y": "lower"}, ("a", "c"): {"x": "higher", "y": "tied"}}
    assert flipped(told) == (1, 2)


def test_too_little_to_compare_is_refused():
    with pytest.raises(ValueError, match="two of either"):
        agreement(np.zeros((1, 3, 4)))
