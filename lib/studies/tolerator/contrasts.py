"""Where TOLERATOR's gain over vanilla decoding is larger: at few forwards, and off code."""

from collections.abc import Collection

import numpy as np

from lib.analysis.bootstrap import SEED, drawn_rows, interval, p_of_zero
from lib.analysis.stats import Estimate, paired_mean_difference
from lib.reporting.tables import percent
from lib.studies.tolerator.base import mean_difference

# % that vanilla answers right. Beyond, gains or losses have no room, and a contrast of gains would be one of room.
ROOM = (10.0, 90.0)
NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def difference_of_gains(a: list[np.ndarray], b: list[np.ndarray]) -> Estimate:
    """Mean over tasks of the gains a minus the gains b, in points, both [items] in [-1, 1] of the same items."""
    e = mean_difference(*([(1 + own) / 2 for own in gains] for gains in (a, b)))  # shares, as that asks for
    return Estimate(200 * e.value, 200 * e.low, 200 * e.high, e.n, e.p)


def fewest_over_most(ours: dict[str, np.ndarray], plain: dict[str, np.ndarray]) -> Estimate:
    """The gain at the fewest forwards minus that at the most, in points, mean of the tasks, paired on items.

    ours, plain: by task [budgets, items] of shares right, the fewest forwards first. Tasks without ROOM at either
    end are left out; NaN where that is all, or there is one budget.
    """
    kept = with_room_at_ends(plain)
    gains = [ours[task] - plain[task] for task in kept]
    return difference_of_gains([own[0] for own in gains], [own[-1] for own in gains]) if kept else NOTHING


def with_room_at_ends(plain: dict[str, np.ndarray]) -> list[str]:
    """The tasks with ROOM at the fewest and at the most forwards."""
    return [task for task, own in plain.items() if len(own) > 1 and _has_room(own)[[0, -1]].all()]


def others_over_code(ours: dict[str, np.ndarray], plain: dict[str, np.ndarray], code: Collection[str]) -> Estimate:
    """The gain on other tasks, their mean, minus that on `code`, in points, over the budgets that have ROOM.

    Tasks do not share items: bootstrap over the items within each, p by its resamples. NaN where one side is empty.
    """
    gains = {task: (ours[task] - own)[_has_room(own)] for task, own in plain.items()}
    gains = {task: own.mean(0) for task, own in gains.items() if len(own)}
    others, on_code = ([own for task, own in gains.items() if (task in code) == wanted] for wanted in (False, True))
    return percent(_apart(others, on_code)) if others and on_code else NOTHING


def _apart(a: list[np.ndarray], b: list[np.ndarray]) -> Estimate:
    """Mean over tasks of a's means minus the same of b's, [items] in [-1, 1], each task with items of its own."""
    value = np.subtract(*(np.mean([own.mean() for own in side]) for side in (a, b)))
    n = sum(map(len, [*a, *b]))
    if any(np.ptp(own) for own in [*a, *b]):
        draws = np.random.default_rng(SEED)
        drawn = [np.mean([own[drawn_rows(len(own), draws)].mean(1) for own in side], 0) for side in (a, b)]
        return Estimate(float(value), *interval(drawn[0] - drawn[1]), n, p_of_zero(drawn[0] - drawn[1]))
    # Where no item differs from another, each task's own interval says how many others might.
    ends = [[paired_mean_difference(np.clip(x, 0, 1), np.clip(-x, 0, 1)) for x in side] for side in (a, b)]
    (low_a, high_a), (low_b, high_b) = (
        (np.mean([e.low for e in side]), np.mean([e.high for e in side])) for side in ends
    )
    return Estimate(float(value), float(low_a - high_b), float(high_a - low_b), n)


def _has_room(plain: np.ndarray) -> np.ndarray:
    """By budget, of [budgets, items]."""
    share = 100 * plain.mean(1)
    return (share >= ROOM[0]) & (share <= ROOM[1])
