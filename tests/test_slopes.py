"""A line through models' gains: its slope, and how often its interval holds the true one where that is known."""

import math

import numpy as np
import pytest

from lib.analysis.slopes import Cell, Line

ITEMS, SLOPE = 60, 2.0
TRAININGS = {"a": (1, 3, 5, 6), "b": (2, 4, 6, 7), "c": (3, 5, 7, 8), "d": (6,), "e": (5, 7), "f": (4,)}


def drawn(rng, training=4.0, item=0.0, cell=1.0, noise=30.0, trainings=tuple(TRAININGS)):
    """Two tasks; gains of SLOPE a unit of x, with parts by training, by item (both with x), by cell, and the rest."""
    suits = {task: rng.normal(0, item, ITEMS) for task in ("t", "u")}
    cells = []
    for name in trainings:
        places = TRAININGS[name]
        own, tilt = rng.normal(0, training), rng.normal(0, training / 6)
        for x in places:
            for task in ("t", "u"):
                mean = SLOPE * x + own + tilt * (x - 5) + rng.normal(0, cell) - 10 * (task == "t")
                gains = mean + suits[task] * (x - 5) + rng.normal(0, noise, ITEMS)
                cells.append(Cell((task == "t", task == "u", x), gains, name, task))
    return Line(cells, 15)


def holds(e, true=SLOPE):
    return e.low <= true <= e.high


@pytest.mark.parametrize("parts", [{}, {"training": 0.0}, {"training": 1.0, "item": 8.0, "noise": 5.0}])
def test_the_interval_of_a_slope_holds_the_true_one_as_often_as_it_says(parts):
    rng = np.random.default_rng(1)
    found = [drawn(rng, **parts).at((0, 0, 1)) for _ in range(400)]
    assert np.mean([e.value for e in found]) == pytest.approx(SLOPE, abs=0.15)
    assert 0.92 <= np.mean([holds(e) for e in found]) <= 0.985
    assert np.median([e.high - e.low for e in found]) < 5


def test_trainings_and_items_are_both_needed_for_that():
    """Without the one or the other the interval is far too narrow where that is what differs."""
    rng = np.random.default_rng(2)
    missed = {"trainings": 0, "items": 0}
    for _ in range(200):
        line = drawn(rng)
        by_item, _ = line._of_items(line.weights[-1])
        missed["trainings"] += abs(line.line[-1] - SLOPE) > 1.96 * math.sqrt(by_item)
        line = drawn(rng, training=0.0, item=8.0, noise=5.0)
        variance, _ = line._of_trainings(line.weights[-1])
        missed["items"] += abs(line.line[-1] - SLOPE) > 2.5 * math.sqrt(variance)
    assert missed["trainings"] > 30 and missed["items"] > 30


def test_a_further_model_lies_in_its_wider_interval():
    rng = np.random.default_rng(3)
    inside, wider = [], []
    for _ in range(300):
        line = drawn(rng, training=0.0, cell=5.0, noise=10.0)
        e, one = line.at((1, 0, 9)), line.at((1, 0, 9), further=True)
        inside.append(holds(one, SLOPE * 9 - 10 + rng.normal(0, 5)))
        wider.append(one.high - one.low > e.high - e.low)
    assert np.mean(wider) > 0.95 and 0.92 <= np.mean(inside) <= 0.995


def test_a_further_model_of_another_training_lies_in_it_too():
    """Three trainings that differ, as in the trend: cells of one are no news of another."""
    rng = np.random.default_rng(6)
    inside = []
    for _ in range(400):
        line = drawn(rng, cell=2.0, noise=10.0, trainings="abc")
        e, one = line.at((1, 0, 9)), line.at((1, 0, 9), further=True)
        assert one.high - one.low >= e.high - e.low - 1e-9, "no narrower than the line"
        own, tilt = rng.normal(0, 4), rng.normal(0, 4 / 6)
        inside.append(holds(one, SLOPE * 9 - 10 + own + tilt * 4 + rng.normal(0, 2)))
    assert np.mean(inside) >= 0.92


def test_without_differences_of_trainings_it_is_the_ordinary_line():
    """One cell a training: the slope of numpy, and the degrees of freedom near those of the cells."""
    rng = np.random.default_rng(4)
    x, y = np.arange(20.0), rng.normal(size=20)
    line = Line([Cell((1, a), np.full(5, b), str(a), "t") for a, b in zip(x, y, strict=True)], 20)
    e = line.at((0, 1))
    assert e.value == pytest.approx(np.polyfit(x, y, 1)[0]) and e.n == 20
    residuals = y - np.polyval(np.polyfit(x, y, 1), x)
    ordinary = math.sqrt((residuals**2).sum() / 18 / ((x - x.mean()) ** 2).sum())
    assert (e.high - e.low) / 2 == pytest.approx(2.1 * ordinary, rel=0.5)
    assert 0 < e.p < 1 and (e.low <= 0 <= e.high) == (e.p >= 0.05)


def test_what_decides_no_line_is_refused():
    cells = [Cell((1, x), np.array([x, x + 1.0]), name, "t") for x, name in enumerate("aabb")]
    with pytest.raises(ValueError, match="3 trainings or more, not 2"):
        Line(cells, 4)
    same = [Cell((1, 1), np.array([0.0, 1.0]), name, "t") for name in "abcd"]
    with pytest.raises(ValueError, match="do not decide"):
        Line(same, 4)
    exact = [Cell((1, x), np.array([2.0 * x, 2.0 * x]), name, "t") for x, name in enumerate("abcd")]
    assert Line(exact, 4).at((0, 1)).low == -math.inf, "a line without any rest says nothing of others"
