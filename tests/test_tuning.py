"""The constant of equal budget: what is spent, on what, and that it finds the best setting."""

from collections import Counter

import numpy as np
import pytest

from lib.errors import UserError
from lib.studies.autodeco.tuning import GRID, trial_of, tuned_constant


def chance(setting) -> float:
    """Best at (0.4, 0.8)."""
    return 0.6 - 0.35 * abs(setting[0] - 0.4) - 0.3 * abs(setting[1] - 0.8)


def drawing(seed: int, asked: list | None = None):
    def scored(setting, trials):
        if asked is not None:
            asked.extend((setting, trial) for trial in trials)
        drawn = np.random.default_rng([seed, *(int(10 * part) for part in setting)]).random(1000)
        return (drawn[trials.start : trials.stop] < chance(setting)).astype(int)

    return scored


def test_the_budget_is_spent_and_no_trial_twice():
    asked = []
    best, found = tuned_constant(drawing(0, asked), 6000)
    assert 5900 <= len(asked) <= 6000 and len(set(asked)) == len(asked)
    assert Counter(setting for setting, _ in asked) == {setting: tried for setting, (_, tried) in found.items()}
    assert set(found) == set(GRID) and len(GRID) == 151
    assert min(tried for _, tried in found.values()) >= 4
    for setting, (_, tried) in found.items():  # the trials of all begin with the same ones
        assert sorted(t for s, t in asked if s == setting) == list(range(tried))
    assert found[best][1] == max(tried for _, tried in found.values())


def test_it_finds_a_better_setting_than_equal_shares_do():
    """The mean shortfall of what is chosen, over 30 draws, against 6000 // 151 trials for each setting."""
    short, equal = [], []
    for seed in range(30):
        best, _ = tuned_constant(drawing(seed), 6000)
        short.append(0.6 - chance(best))
        each = range(6000 // len(GRID))
        equal.append(0.6 - chance(max(GRID, key=lambda setting: sum(drawing(seed)(setting, each)))))
    assert sum(short) / 30 < 0.06 and sum(short) < 0.8 * sum(equal)


def test_of_equals_plain_sampling_wins():
    assert tuned_constant(lambda setting, trials: [1] * len(trials), 2000)[0] == (1.0, 1.0)
    assert tuned_constant(lambda setting, trials: [0] * len(trials), 1000, [(0.2, 0.5), (0.9, 0.5)])[0] == (0.9, 0.5)


def test_a_late_bloomer_is_judged_by_all_its_trials():
    """The first trials of (1.0, 0.5) fail, yet not so many that it goes; earlier trials count at the end."""
    rates = {(1.0, 0.5): lambda n: n >= 10, (1.0, 0.6): lambda n: n % 2 == 0, (1.0, 0.7): lambda n: False}

    def scored(setting, trials):
        return [int(rates[setting](n)) for n in trials]

    best, found = tuned_constant(scored, 120, list(rates))
    assert found[(1.0, 0.7)] == (0, 20) and found[(1.0, 0.6)] == (25, 50) and found[(1.0, 0.5)] == (40, 50)
    assert best == (1.0, 0.5)


def test_trials_go_through_all_items_before_any_is_asked_again():
    assert [trial_of(n, 3) for n in range(7)] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]


def test_a_small_budget_is_refused():
    with pytest.raises(UserError, match="151 settings in 8 rounds: give 1208 or more"):
        tuned_constant(drawing(0), 1207)
    tuned_constant(drawing(0), 1208)
    with pytest.raises(UserError, match="the grid has no setting: give one or more"):
        tuned_constant(drawing(0), 10, grid=[])
    with pytest.raises(ValueError, match="3 scores came back for 4"):
        tuned_constant(lambda setting, trials: [1] * 3, 8, [(1.0, 1.0), (0.5, 1.0)])
