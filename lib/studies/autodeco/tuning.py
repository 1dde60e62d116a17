"""A constant tuned with as many scored responses as the heads' training had: the rival of equal budget.

AutoDeco's heads come from draws that a scorer has judged. Whoever compares them with an untuned constant, or with one
that was tuned on a handful of items, compares budgets.
"""

import math
from collections.abc import Callable, Sequence

from lib.errors import UserError

Setting = tuple[float, float]  # temperature, top-p
# The paper's steps of 0.1 in both at once; top-p changes nothing in greedy decoding.
GRID: tuple[Setting, ...] = (
    (0.0, 1.0),
    *((t / 10, p / 10) for t in range(1, 16) for p in range(1, 11)),
)


def tuned_constant(
    scored: Callable[[Setting, range], Sequence[int]], budget: int, grid: Sequence[Setting] = GRID
) -> tuple[Setting, dict[Setting, tuple[int, int]]]:
    """The setting of `grid` that scores best, and of every setting (right, tried), by at most `budget` responses.

    Sequential halving (Karnin, Koren and Somekh 2013): rounds with an equal share of the budget each, in which the
    settings that are left get equally many trials; the better half goes on, and earlier trials count. What
    `scored(setting, trials)` gives is 0 or 1 for trials by number; by `trial_of` all settings meet the same items of
    validation in the same order. Of equals the one nearest to plain sampling wins. The budget of rivals that were
    trained is `Source.evaluations` or `Reward.evaluations` (lib/training/autodeco), for each task: tune a constant
    for each. Raises UserError for an empty grid, and for a budget that does not give every setting a trial in every
    round.
    """
    if not grid:
        raise UserError("the grid has no setting: give one or more pairs (temperature, top-p), or leave grid out")
    left, rounds = list(dict.fromkeys(grid)), max(1, math.ceil(math.log2(len(set(grid)))))
    if budget < len(left) * rounds:
        raise UserError(
            f"a budget of {budget} responses is too small for {len(left)} settings in {rounds} rounds: give "
            f"{len(left) * rounds} or more, or a coarser grid"
        )
    found = dict.fromkeys(left, (0, 0))
    spent = 0
    for number in range(rounds):
        each = (budget - spent) // (rounds - number) // len(left)
        for setting in left:
            right, tried = found[setting]
            scores = scored(setting, range(tried, tried + each))
            if len(scores) != each:
                raise ValueError(f"{setting}: {len(scores)} scores came back for {each} trials")
            found[setting] = right + int(sum(scores)), tried + each
        spent += each * len(left)
        left.sort(key=lambda setting: _rank(setting, *found[setting]), reverse=True)
        left = left[: max(1, math.ceil(len(left) / 2))]
    return left[0], found


def best_of(found: dict[Setting, tuple[int, int]]) -> Setting:
    """Of settings with (right, tried) the one that scores best; of equals the one nearest to plain sampling."""
    return max(found, key=lambda setting: _rank(setting, *found[setting]))


def trial_of(number: int, items: int) -> tuple[int, int]:
    """Item and sample of a trial: all items once, then all again."""
    return number % items, number // items


def _rank(setting: Setting, right: int, tried: int) -> tuple[float, float, float]:
    """As sweep.py ranks: accuracy, then nearness to temperature 1, then the larger top-p."""
    return right / tried, -abs(setting[0] - 1), setting[1]
