"""The rule of the verdicts: what intervals decide, that none is contradicted, and how many items would decide it."""

import json
import math

import numpy as np
import pytest
from scipy.stats import norm

from lib.analysis.corrected import bonferroni, equivalence, items_needed, power, simultaneous
from lib.analysis.stats import Estimate, corrected
from lib.paths import RESULTS
from lib.reporting.claims import (
    CLAIM,
    CONTROL,
    EQUIVALENT,
    HOLDS,
    LESS,
    OPEN,
    OWN,
    REFUTED,
    REPEAT,
    UNMEASURED,
    UNTESTABLE,
    VERDICTS,
    Claim,
    Ruling,
    above_floor,
    as_text,
    at_least,
    at_most,
    more,
    multiple,
    records,
    said,
    with_room,
    within,
)
from lib.reporting.ledger import NAMES, counts, ledger, page, unjudged

EXCLUDED_OR_NOT = Estimate(0.5, -1.5, 2.5, 100), Estimate(2, -1, 5, 100)


@pytest.mark.parametrize(
    ("value", "low", "high", "claimed", "verdict", "size"),
    [
        (3, 1, 5, 4, HOLDS, ""),
        (3, 1, 5, 0, HOLDS, ""),
        (3, 1, 5, 6, HOLDS, LESS),
        (-3, -5, -1, 2, REFUTED, ""),
        (0, -0.6, 0.6, 2, EQUIVALENT, LESS),
        (0, -1.1, 1.1, 0, EQUIVALENT, ""),  # the ends of two one-sided tests are nearer
        (0, -1.3, 1.3, 2, OPEN, LESS),
        (1, -1.3, 3.3, 2, OPEN, ""),
        (-2, -4, 0.1, 2, OPEN, LESS),  # what is printed is excluded, and yet the direction is not known
        (0, -3, 3, 0, OPEN, ""),
        (math.nan, math.nan, math.nan, 2, UNMEASURED, ""),
    ],
)
def test_a_verdict_follows_from_interval_and_claim(value, low, high, claimed, verdict, size):
    found = more(Estimate(value, low, high, 9), claimed)
    assert (found.verdict, found.size) == (verdict, size)
    shifted = more(Estimate(value + 50, low + 50, high + 50, 9), claimed and claimed + 50, zero=50)
    assert (shifted.verdict, shifted.size) == (verdict, size)


def test_times_have_a_margin_of_their_own():
    assert multiple(Estimate(1.0, 0.97, 1.03, 9)).verdict == EQUIVALENT
    assert multiple(Estimate(1.0, 0.9, 1.1, 9)).verdict == OPEN
    found = multiple(Estimate(1.2, 1.1, 1.3, 9), 1.42)
    assert (found.verdict, found.size) == (HOLDS, LESS) and found.claimed == pytest.approx(0.42)


def test_bounds_are_decided_by_the_whole_interval():
    cases = {at_least: (-1, ((-0.5, 1), (-3, 1), (-3, -2))), at_most: (1, ((-1, 0.5), (-1, 3), (2, 3)))}
    for rule, (bound, ends) in cases.items():
        assert [rule(Estimate(0, *e, 9), bound).verdict for e in ends] == [HOLDS, OPEN, REFUTED]
    assert within(Estimate(50, 30, 70, 9), 20, 80).verdict == HOLDS


def test_what_is_near_zero_or_unfit_decides_nothing():
    refuted = more(Estimate(-3, -5, -1, 9))
    assert above_floor(refuted, 3.0, 19.9).verdict == UNTESTABLE and above_floor(refuted, 3.0, 20.0) == refuted


def test_a_printed_effect_that_has_no_room_says_nothing_of_the_size():
    """A score of 76 % can rise by 31 % and no more: that is no evidence against a printed gain of 130 %."""
    rose, unsure = more(Estimate(20, 10, 30, 9), 130), more(Estimate(1, -4, 6, 9), 130)
    assert (rose.size, unsure.size) == (LESS, LESS)
    assert [(r.verdict, r.size) for r in (with_room(rose, 31), with_room(unsure, 31))] == [
        (HOLDS, ""), (UNTESTABLE, "")
    ]  # fmt: skip
    equal = more(Estimate(0, -0.5, 0.5, 9), 130)
    assert with_room(equal, 31).verdict == EQUIVALENT and with_room(equal, 31).size == "", "that asks for no room"
    assert with_room(unsure, 130) == unsure and with_room(more(Estimate(1, -4, 6, 9)), 0).verdict == OPEN
    lost = more(Estimate(-5, -8, -2, 9), 130)
    assert with_room(lost, 31).verdict == REFUTED, "a loss shows all the same"


def test_no_row_asks_for_items_that_there_were_or_that_would_not_help():
    row = ("Table 1", "a beats b", "", Estimate(1.4, -0.1, 2.9, 300, 0.06), "points")
    (short,) = records([Claim(*row, more(row[3]))])
    assert short["needed"] > 300
    (enough,) = records([Claim(*row, more(row[3], 2.8))])
    assert enough["verdict"] == OPEN and enough["needed"] is None
    (wordings,) = records([Claim(*row, more(row[3]), by_items=False)])
    assert wordings["needed"] is None


def test_a_row_has_no_negative_zero():
    (row,) = records([Claim("Table 1", "a beats b", "", e := Estimate(-0.0, -0.0, 0.0, 9, 1.0), "points", more(e))])
    assert [str(row[key]) for key in ("value", "low", "alone_low")] == ["0.0"] * 3


def normal(value, error, n=100):
    half = norm.ppf(0.975) * error
    return Estimate(value, value - half, value + half, n, float(2 * norm.sf(abs(value) / error)))


def test_the_corrected_interval_says_what_holms_test_says():
    """For normal estimates the two are the same, row by row, in tables of any size."""
    rng, told = np.random.default_rng(0), set()
    for count in (1, 2, 7, 40):
        for _ in range(50):
            table = corrected([normal(v, 1.0) for v in rng.normal(0, 2, count)])
            for e in table:
                low, high = simultaneous(e)
                assert (low > 0 or high < 0) == (e.p <= 0.05)
                told.add(e.p <= 0.05)
                assert low <= e.low and e.high <= high, "narrower than for one comparison"
                assert more(e).verdict == (OPEN if e.p > 0.05 else HOLDS if e.value > 0 else REFUTED)
    assert told == {True, False}


def test_an_exact_test_that_does_not_reject_takes_its_interval_along():
    assert simultaneous(Estimate(3, 1, 5, 9, 0.2)) == (0, 5) and simultaneous(Estimate(3, 1, 5, 9, 0.02))[0] > 0
    assert simultaneous(Estimate(53, 51, 55, 9, 0.2), zero=50)[0] == 50
    assert more(Estimate(3, 1, 5, 9, 0.2)).verdict == OPEN


def test_intervals_without_a_test_err_in_one_table_of_twenty():
    """Of tables of five ratios in which nothing is, all intervals of 95 % in a hundred contain it; uncorrected 77."""
    rng, wrong = np.random.default_rng(0), {True: 0, False: 0}
    for values in rng.normal(0, 1, (4000, 5)):
        table = [Estimate(v, v - 1.96, v + 1.96, 9) for v in values]
        for mended in wrong:
            ends = map(simultaneous, bonferroni(table) if mended else table)
            wrong[mended] += any(low > 0 or high < 0 for low, high in ends)
    assert 0.04 < wrong[True] / 4000 < 0.06 and wrong[False] / 4000 > 0.2
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    assert [e.step for e in bonferroni([normal(1, 1), nothing, normal(2, 1)])] == [2, 2, 2], "of what was measured"


def test_bounds_and_rows_that_are_not_told_apart_have_the_level_of_the_whole_table():
    """Holm's step ranks tests of zero: it says nothing of a bound."""
    one, other = corrected([normal(0.0, 1.0), normal(0.1, 1.0)])
    assert one.p > 0.9 and one.step < 2 == one.tests, "the step of the largest p is one"
    wide = float(norm.ppf(1 - 0.05 / 4))
    for e in (one, other):
        assert simultaneous(e) == pytest.approx((e.value - wide, e.value + wide), abs=1e-3)
    assert at_most(other, 0.1 + 0.99 * wide).verdict == OPEN and at_most(other, 0.1 + 1.01 * wide).verdict == HOLDS


def test_equivalence_is_two_one_sided_tests_corrected_by_the_whole_table():
    for tests, widest in ((1, 1 / norm.ppf(0.95)), (20, 1 / norm.ppf(1 - 0.05 / 20))):
        for error, expected in ((0.99 * widest, True), (1.01 * widest, False)):
            e = normal(0.0, error)
            e = Estimate(e.value, e.low, e.high, e.n, 1.0, tests, 1.0)
            assert bool(equivalence(e, 0.0, 1.0)) == expected
            assert (more(e).verdict == EQUIVALENT) == expected


@pytest.mark.parametrize("effect", [2.0, 0.0])
def test_so_many_items_as_are_needed_decide_four_times_in_five(effect):
    """By drawing estimates of that many items: with the effect it is told from none, without one it is equivalent."""
    rng, margin, spread = np.random.default_rng(0), 1.0, 9.0
    n = items_needed(normal(0.0, spread / math.sqrt(50), 50), effect, margin)
    error = spread / math.sqrt(n)
    found = [more(normal(v, error, n)).verdict for v in rng.normal(effect, error, 4000)]
    assert found.count(HOLDS if effect else EQUIVALENT) / 4000 == pytest.approx(0.8, abs=0.03)
    if effect:
        assert power(normal(0.0, error, n), effect) == pytest.approx(80, abs=0.5)


def test_nothing_is_said_of_power_where_nothing_is_known_of_errors():
    for e in (Estimate(1, -math.inf, math.inf, 9), Estimate(1, 1, 1, 9), Estimate(*[math.nan] * 3, 0)):
        assert power(e, 1.0) is None and items_needed(e, 1.0, 1.0) is None


def test_a_record_has_what_the_ledger_shows():
    e = Estimate(3.0, 1.0, 5.0, 1200, 0.03, 4, 2.0)
    claims = [
        Claim("Table 1", "it is better", "+6 points", e, "points", more(e, 6)),
        Claim(OWN, "so is this", "", e, "points", more(e)),
        Claim("Table 2", "again", "", e, "points", more(e), kind=REPEAT),
        Claim("Table 3", "flips", "", e, "tau", Ruling(OPEN, 1.0, 5.0)),
    ]
    rows = records(claims)
    assert [row["kind"] for row in rows] == [CLAIM, CONTROL, REPEAT, CLAIM]
    first = rows[0]
    assert {key: first[key] for key in ("tests", "p", "n", "value", "margin")} == {
        "tests": 4, "p": 0.03, "n": 1200, "value": 3.0, "margin": 1.0,
    }  # fmt: skip
    assert first["low"] < first["alone_low"] == 1.0 and first["alone_high"] == 5.0 < first["high"]
    assert said(first) == "holds, less than printed" and first["needed"] is None and 99 < first["power"] <= 100
    assert as_text(first) == "3.00 [0.71, 5.29] points, n = 1,200"
    assert rows[3]["needed"] is None and rows[1]["power"] is None
    excluded, open_ = (records([Claim("Table 1", "x", "", e, "points", more(e, 4))])[0] for e in EXCLUDED_OR_NOT)
    assert said(excluded) == "undecided, less than printed" and said(open_) == "undecided"
    assert open_["needed"] == items_needed(EXCLUDED_OR_NOT[1], 4, 1.0), "items for what is printed"
    assert excluded["needed"] == items_needed(EXCLUDED_OR_NOT[0], 0, 1.0) > 100, "what is printed is excluded already"
    json.dumps(rows, allow_nan=False)
    assert (
        as_text(records([Claim(OWN, "x", "", Estimate(*[math.nan] * 3, 0), "", Ruling(UNTESTABLE))])[0]) == UNMEASURED
    )


def test_what_nothing_here_decides_says_what_would():
    rows = unjudged()
    assert len(rows) >= 20 and {row["paper"] for row in rows} == set(NAMES.values())
    for row in rows:
        assert row["says"] and row["where"] and row["why"] and row["verdict"] == UNMEASURED, row
    assert len({(row["paper"], row["says"]) for row in rows}) == len(rows)


def test_no_row_of_the_committed_ledger_contradicts_its_interval():
    rows = ledger(RESULTS)
    assert rows == json.loads((RESULTS / "claims.json").read_text()), "run `make report`"
    assert sum(sum(count.values()) for count in counts(rows).values()) >= 40
    for row in rows:
        low, high, margin = row["low"], row["high"], row["margin"]
        assert row["verdict"] in VERDICTS and row["kind"] in (CLAIM, CONTROL, REPEAT)
        if margin is None or row["verdict"] in (UNTESTABLE, UNMEASURED) or low is None or high is None:
            continue
        zero = 1 if row["unit"].startswith("times") else 50 if "wordings" in row["unit"] else 0
        # Corrected intervals are rounded to four decimals.
        assert (row["verdict"] == HOLDS) == (low > zero), row
        assert (row["verdict"] == REFUTED) == (high < zero), row
        assert not row["size"] or row["verdict"] in (HOLDS, EQUIVALENT, OPEN)
        if row["verdict"] == EQUIVALENT:
            assert zero - margin < row["value"] < zero + margin
    assert page(rows) == (RESULTS / "claims.md").read_text()
