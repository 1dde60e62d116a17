"""What is advised: nothing that noise may be, the cheaper of what is as good, the truth where validation misled."""

import numpy as np
import pandas as pd
import pytest

from lib.errors import UserError
from lib.reporting.claims import HOLDS, OPEN, REFUTED
from lib.reporting.tables import comparison_table
from lib.studies.advice import (
    ANSWER,
    BETTER,
    CANVAS,
    CHEAPER,
    FAST,
    PLAIN,
    TEXT,
    Study,
    advised,
    lead,
    ruling_of,
    settings_of,
)
from lib.studies.costs import a_response, a_token


def lines(right: list[int], forwards: float, tokens: int = 9) -> list[dict]:
    own = {"sample": 0, "target_forwards": forwards, "tokens_kept": tokens, "status": "ok"}
    own["positions"] = 180 * forwards
    return [{"item": f"q/{i}", "correct": correct} | own for i, correct in enumerate(right)]


def study(**given) -> Study:
    return Study.of({"tasks": ("qa",), "canvases": ("qa",), "budgets": ("middle",)} | given)


CANVAS_CELL, TEXT_CELL = ("qa", "16 forwards in the mean"), ("qa", "one answer")
HALF = [1, 0] * 20
PRINTED = ("settings, plain", "settings, proposed")


def tried(cell, found: dict[str, list[dict]], ways) -> dict:
    """Lines of a cell; every way that is not in `found` is always wrong and dear."""
    n = len(next(iter(found.values())))
    return {(*cell, "validation", name): found.get(name, lines([0] * n, 99)) for name in ways}


def test_a_lead_and_its_error_are_paired():
    """By hand: of 100 items 5 won, none lost: 0.05 ahead; sd of 0 and 1 with that mean 0.219, by ten 0.0219."""
    plain = np.ones(100)
    plain[:5] = 0
    assert lead(np.ones(100), plain) == pytest.approx((0.05, 0.0219), abs=1e-4)
    assert lead(plain, plain) == (0, 0)


def test_noise_is_not_proposed():
    noisy = lines([0, 1, 1, 1, *HALF[4:]], 16)  # one lost, two won: 0.025 ahead, error 0.043
    found = {"vanilla, greedy": lines(HALF, 16), "TOLERATOR": noisy, "WINO": lines(HALF, 15.5)}
    assert study().proposed(tried(CANVAS_CELL, found, CANVAS), CANVAS_CELL) == ("vanilla, greedy", PLAIN)


def test_the_cheapest_of_those_that_are_as_good_is_proposed():
    found = {"vanilla, greedy": lines(HALF, 16), "WINO": lines(HALF, 9), "T2M": lines(HALF, 12)}
    found["Fast-dLLM"] = lines([0] * 40, 2)
    assert study().proposed(tried(CANVAS_CELL, found, CANVAS), CANVAS_CELL) == ("WINO", CHEAPER), (
        "2 forwards, but wrong"
    )


def test_the_largest_lead_is_proposed_though_it_is_dearer():
    found = {"greedy": lines(HALF, 10), "AutoDeco": lines([1] * 40, 30), "p-less": lines([1] * 30 + HALF[:10], 10)}
    assert study().proposed(tried(TEXT_CELL, found, ANSWER), TEXT_CELL) == ("AutoDeco", BETTER)


def test_a_shorter_text_is_not_a_cheaper_way():
    """A forward a token either way: 10 for 9 and the end, 5 for 4 and the end."""
    found = {"greedy": lines(HALF, 10, 9), "min-p, 0.1": lines(HALF, 5, 4)}
    assert study().proposed(tried(TEXT_CELL, found, ANSWER), TEXT_CELL) == ("greedy", PLAIN)
    assert a_token(found["greedy"]) == a_token(found["min-p, 0.1"]) == 1


def test_a_forward_that_computes_the_canvas_twice_costs_two():
    """Five forwards of 360 positions are ten of the plain way's, of 180; so it is no way for a budget of 8."""
    twice = [line | {"positions": 360 * 5} for line in lines([1] * 40, 5)]
    plain = lines(HALF, 8)
    assert a_response(twice, plain) == 10 and a_response(plain, plain) == 8
    (cell, ways), *_ = [c for c in study(canvases=("logic",)).cells().items() if c[0][0] == "logic"]
    assert cell == ("logic", "8 forwards in the mean")
    found = {"vanilla, greedy": plain, "WINO": twice}
    assert study(canvases=("logic",)).proposed(tried(cell, found, ways), cell) == ("vanilla, greedy", PLAIN)


def test_whoever_has_many_forwards_may_take_a_way_of_few_and_not_the_reverse():
    own = study(budgets=("eight", "middle"))
    few, many = [cell for cell in own.cells() if cell[1] not in TEXT]
    assert (few[1], many[1]) == ("4 forwards in the mean", "16 forwards in the mean")
    short, long = lines([1] * 40, 4), lines([1] * 40, 12)
    found = {"vanilla, greedy": lines(HALF, 16), "WINO": long, "T2M, given 4": short}
    assert own.proposed(tried(many, found, own.cells()[many]), many) == ("WINO", BETTER), "the first of equal leads"
    del found["WINO"]
    assert own.proposed(tried(many, found, own.cells()[many]), many) == ("T2M, given 4", BETTER)
    uneven = lines([1] * 40, 2)
    uneven[0] |= {"target_forwards": 16, "positions": 180 * 16}
    found = {"vanilla, greedy": lines(HALF, 4), "WINO, given 16": uneven}
    assert own.proposed(tried(few, found, own.cells()[few]), few) == ("WINO, given 16", BETTER), "the mean is asked"
    found = {"vanilla, greedy": lines(HALF, 4), "WINO, given 16": long}
    assert own.proposed(tried(few, found, own.cells()[few]), few) == ("vanilla, greedy", PLAIN)
    runs = {key: run for key, run in own.runs().items() if key[:2] == many}
    given = dict(runs[*many, "validation", "WINO, given 4"].options), dict(runs[*many, "validation", "WINO"].options)
    assert (given[0]["forwards"], given[1]["forwards"]) == (4, 16)


def test_test_items_are_answered_by_the_proposed_and_the_plain_way_alone():
    own = study(items=30, validation_items=10, samples=3)
    assert {run.split for run in own.runs().values()} == {"validation"}
    found = {}
    for cell, ways in own.cells().items():
        found |= tried(cell, {list(ways)[-1]: lines([1] * 10, 1), list(ways)[0]: lines([0] * 10, 1)}, ways)
    later = own.later_runs(found)
    assert {run.split for run in later.values()} == {"test"} and {run.items for run in later.values()} == {30}
    for cell, ways in own.cells().items():
        assert {key[3] for key in later if key[:2] == cell} == {list(ways)[0], list(ways)[-1]}
    assert {later[*TEXT_CELL, "test", name].samples for name in ("greedy", "AutoDeco")} == {1, 3}
    drafted = set(FAST) - {"greedy"}
    fast = [run for (_, asked, _, way), run in own.runs().items() if asked in TEXT and way in drafted]
    assert fast and all(run.draft == "study-draft" for run in fast)


def compared(won: int, lost: int, why: str, n: int = 200):
    """A row of comparisons: of n items so many won and lost by the proposed way."""
    a, b = [1] * won + [0] * (n - won), [0] * won + [1] * lost + [0] * (n - won - lost)
    table = comparison_table([({"why": why}, lines(a, 1), lines(b, 1))])
    return next(table.itertuples())


@pytest.mark.parametrize(
    ("won", "lost", "why", "verdict"),
    [
        (20, 0, BETTER, HOLDS),
        (2, 1, BETTER, OPEN),
        (0, 20, BETTER, REFUTED),
        (0, 0, CHEAPER, HOLDS),
        (2, 1, CHEAPER, HOLDS),
        (0, 6, CHEAPER, OPEN),
        (0, 30, CHEAPER, REFUTED),
    ],
)
def test_a_cheaper_way_must_lose_little_and_a_better_one_must_win(won, lost, why, verdict):
    assert ruling_of(compared(won, lost, why)).verdict == verdict


def test_two_budgets_that_are_one_are_asked_once():
    own = study(canvases=("math", "logic"), budgets=("eight", "middle"))
    cells = [cell for cell in own.cells() if cell[1] not in TEXT]
    assert [(task, own.cells()[task, asked].keys() >= CANVAS.keys(), asked) for task, asked in cells] == [
        ("math", True, "12 forwards in the mean"),
        ("math", True, "16 forwards in the mean"),
        ("logic", True, "8 forwards in the mean"),
    ]


@pytest.mark.parametrize(
    ("why", "better", "little", "saved", "taken", "words"),
    [
        (PLAIN, "", "", 0, False, "Nothing led by more than its error"),
        (BETTER, HOLDS, HOLDS, 40, True, "It is better and saves 40 %"),
        (BETTER, HOLDS, HOLDS, -200, True, "costs 200 % more"),
        (
            BETTER,
            OPEN,
            HOLDS,
            40,
            True,
            "It saves 40 % of the cost and loses at most 2 points; that it is better",
        ),
        (BETTER, OPEN, HOLDS, 4, False, "X saves 4 % of the cost; that it is better is undecided on test items"),
        (
            BETTER,
            REFUTED,
            OPEN,
            40,
            False,
            "better is refuted on test items, that it loses at most 2 points undecided",
        ),
        (CHEAPER, OPEN, HOLDS, 40, True, "It saves 40 % of the cost and loses at most 2 points"),
        (CHEAPER, OPEN, OPEN, 40, False, "that it loses at most 2 points undecided"),
    ],
)
def test_advice_follows_from_the_verdicts_on_test_items(why, better, little, saved, taken, words):
    found, told = advised(why, "X", better, little, saved)
    assert found == taken and words in told


@pytest.mark.parametrize(
    ("forwards", "taken", "verdicts"), [(0.3, "typical", [OPEN, HOLDS]), (0.96, "greedy", [OPEN])]
)
def test_what_led_by_chance_is_taken_where_it_saves_and_loses_little(forwards, taken, verdicts):
    """Two wins and one loss of 200: no lead, and no loss of two points."""
    own, labels = study(), {"task": "qa", "asked": "few passes", "why": BETTER}
    a, b = lines([1, 1] + [0] * 198, 1), lines([0, 0, 1] + [0] * 197, 1)
    choice = labels | {"plain": "greedy", "proposed": "typical"} | dict.fromkeys(PRINTED, "as published")
    choice |= {"test, plain": 0.5, "test, proposed": 1.0, "cost, plain": 1.0, "cost, proposed": forwards}
    table = comparison_table([(labels | {"way": "typical", "against": "greedy"}, a, b)])
    own.__dict__.update(choices=pd.DataFrame([choice]), comparisons=table)
    claims = own.claims()
    assert [claim.verdict for claim in claims] == verdicts and [c.here.value for c in claims] == [0.5, -0.5][
        : len(claims)
    ]
    (row,) = own.advice.to_dict("records")
    assert row["take"] == taken and "better is undecided" in row["so"]


def test_settings_are_those_that_differ_from_the_published_ones():
    assert settings_of({"min_p": 0.1, "tree": True}) == "min_p 0.1, tree True"
    assert settings_of({}) == "as published"


def test_one_validation_item_has_no_error():
    with pytest.raises(UserError, match="validation_items must be 2 or more"):
        study(validation_items=1)
