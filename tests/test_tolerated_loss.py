"""Choosing: the fastest of the settings that lose little enough, by what was measured or by what is sure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.analysis.stats import Estimate
from lib.analysis.tolerated_loss import RULES, Candidate, fastest_tolerated
from lib.errors import UserError
from lib.reporting.tables import accuracy_difference as difference
from lib.studies.mtad.pair import reduction

POINTS = st.integers(-20, 20).map(float)


@st.composite
def settings_tried(draw):
    """Up to six candidates with intervals around their losses."""
    found = []
    for i in range(draw(st.integers(0, 6))):
        value, below, above = draw(POINTS), draw(st.integers(0, 9)), draw(st.integers(0, 9))
        found.append(Candidate(str(i), Estimate(value, value - below, value + above, 50), draw(st.integers(1, 5))))
    return found


TOLERATED = st.integers(0, 20).map(float)


@settings(max_examples=100, deadline=None)
@given(settings_tried(), TOLERATED, st.sampled_from(RULES))
def test_the_fastest_that_fits_is_chosen_and_none_where_none_fits(candidates, tolerated, rule):
    lost = {"observed": lambda c: c.loss.value, "sure": lambda c: c.loss.high}[rule]
    best = fastest_tolerated(candidates, tolerated, rule)
    speeds = [c.speed for c in candidates if lost(c) <= tolerated]
    if best is None:
        assert not speeds
    else:
        assert best in candidates and lost(best) <= tolerated and best.speed == max(speeds)


@settings(max_examples=100, deadline=None)
@given(settings_tried(), TOLERATED)
def test_the_sure_choice_is_never_faster_than_the_observed_one(candidates, tolerated):
    sure, observed = (
        fastest_tolerated(candidates, tolerated, "sure"),
        fastest_tolerated(candidates, tolerated, "observed"),
    )
    assert sure is None or observed.speed >= sure.speed


@settings(max_examples=100, deadline=None)
@given(settings_tried(), TOLERATED, TOLERATED, st.sampled_from(RULES))
def test_more_tolerance_is_never_slower(candidates, a, b, rule):
    little, much = (fastest_tolerated(candidates, t, rule) for t in sorted((a, b)))
    assert little is None or much.speed >= little.speed


def test_the_order_of_candidates_decides_only_among_equally_fast_ones():
    e = Estimate(1.0, 0.0, 3.0, 50)
    a, b, c = Candidate("a", e, 2.0), Candidate("b", e, 3.0), Candidate("c", Estimate(9.0, 8.0, 10.0, 50), 4.0)
    assert {fastest_tolerated(order, 2.0) for order in ((a, b, c), (c, b, a), (b, a, c))} == {b}
    assert fastest_tolerated((a, b, c), 2.0, "sure") is None and fastest_tolerated((a, b, c), 10.0, "sure") == c


@pytest.mark.parametrize(("tolerated", "rule", "words"), [(2.0, "hopeful", "observed, sure"), (-0.5, "sure", "-0.5")])
def test_another_rule_and_a_negative_tolerance_are_refused(tolerated, rule, words):
    with pytest.raises(UserError, match=words):
        fastest_tolerated([], tolerated, rule)


@pytest.mark.parametrize("lost", [1, 2, 5, 7, 14, 28])
def test_a_loss_of_just_what_is_tolerated_fits(lost):
    """As the study measures it: `lost` of 100 answers are lost, `lost` points are tolerated."""
    base = [{"item": f"{i:03d}", "sample": 0, "correct": 1} for i in range(100)]
    own = [line | {"correct": int(i >= lost)} for i, line in enumerate(base)]
    candidate = Candidate("own", reduction(difference(own, base)), 1.0)
    assert (
        fastest_tolerated([candidate], float(lost)) == candidate
        and fastest_tolerated([candidate], lost - 0.5) is None
    )
