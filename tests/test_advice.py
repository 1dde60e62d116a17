"""What is advised: nothing that noise may be, the cheaper of what is as good, the truth where validation misled."""

import numpy as np
import pytest

from lib.errors import UserError
from lib.reporting.claims import EQUIVALENT, HOLDS, OPEN, REFUTED
from lib.studies.advice import ANSWER, CANVAS, FAST, TEXT, Study, advised, settings_of, within_an_error


def lines(right: list[int], forwards: float) -> list[dict]:
    return [
        {"item": f"q/{i}", "sample": 0, "correct": c, "target_forwards": forwards, "status": "ok"}
        for i, c in enumerate(right)
    ]


def study(**given) -> Study:
    return Study.of({"tasks": ("qa",), "canvases": ("qa",), "budgets": ("middle",)} | given)


def tried(cell, found: dict[str, list[dict]], ways) -> dict:
    """Lines of a cell; every way that is not in `found` is always wrong and dear."""
    n = len(next(iter(found.values())))
    return {(*cell, "validation", name): found.get(name, lines([0] * n, 99)) for name in ways}


def test_a_lead_within_one_standard_error_is_no_lead():
    """By hand, of 100 items: 3 lost and 2 won are 0.01 behind with an error of 0.022; 5 lost and none won 0.05."""
    a, best = np.ones(100), np.ones(100)
    a[:3], best[3:5] = 0, 0
    assert within_an_error(a, best) and within_an_error(best, best)
    a[:5], best[:] = 0, 1
    assert not within_an_error(a, best)


def test_the_plain_way_is_kept_where_the_others_are_not_better_or_cheaper():
    cell = ("qa", "middle")
    half = [1, 0] * 20
    found = {
        "vanilla, greedy": lines(half, 16),
        "TOLERATOR": lines([0, 1, 1, 1, *half[4:]], 16),
        "WINO": lines(half, 16),
    }
    assert study().chosen(tried(cell, found, CANVAS), cell) == "vanilla, greedy"


def test_the_cheapest_of_those_that_are_as_good_is_chosen():
    cell = ("qa", "middle")
    half = [1, 0] * 20
    found = {"vanilla, greedy": lines(half, 16), "WINO": lines(half, 9), "Fast-dLLM": lines([0] * 40, 2)}
    assert study().chosen(tried(cell, found, CANVAS), cell) == "WINO", "the one with 2 forwards is wrong"


def test_a_better_way_is_chosen_though_it_is_dearer():
    cell = ("qa", "one answer")
    found = {"greedy": lines([1, 0] * 20, 10), "AutoDeco": lines([1] * 40, 30)}
    assert study().chosen(tried(cell, found, ANSWER), cell) == "AutoDeco"


def test_test_items_are_answered_by_the_chosen_and_the_plain_way_alone():
    own = study(items=30, validation_items=10)
    assert {run.split for run in own.runs().values()} == {"validation"}
    found = {}
    for cell, ways in own.cells().items():
        found |= tried(cell, {list(ways)[-1]: lines([1] * 10, 1)}, ways)
    later = own.later_runs(found)
    assert {run.split for run in later.values()} == {"test"} and {run.items for run in later.values()} == {30}
    for cell, ways in own.cells().items():
        assert {key[3] for key in later if key[:2] == cell} == {list(ways)[0], list(ways)[-1]}
    fast = [
        run for (_, asked, _, way), run in own.runs().items() if asked in TEXT and way in FAST and way != "greedy"
    ]
    assert fast and all(run.draft == "study-draft" for run in fast)


@pytest.mark.parametrize(
    ("verdict", "saved", "words"),
    [
        (None, 0, "stay with the plain way"),
        (HOLDS, 0, "take it"),
        (HOLDS, 40, "save 40 %"),
        (REFUTED, 40, "do not"),
        (EQUIVALENT, 40, "take it for the 40 %"),
        (EQUIVALENT, 1, "do not bother"),
        (OPEN, 40, "not decided"),
        (OPEN, 0, "not decided"),
    ],
)
def test_advice_follows_from_the_verdict_on_test_items(verdict, saved, words):
    assert words in advised(verdict, saved)


def test_settings_are_those_that_differ_from_the_published_ones():
    assert settings_of({"min_p": 0.1, "tree": True}) == "min_p 0.1, tree True"
    assert settings_of({}) == "as published"


def test_one_validation_item_has_no_error():
    with pytest.raises(UserError, match="validation_items must be 2 or more"):
        study(validation_items=1)
