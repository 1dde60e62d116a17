"""Tables of differences: values by hand, Holm over the whole table, rows that are shown and not tested."""

import pytest

from lib.analysis.stats import Estimate, corrected
from lib.reporting.tables import comparison_table, difference_table, estimate_of

FOUND = [
    ({"task": "qa"}, Estimate(5.0, 1.0, 9.0, 40, 0.02)),
    ({"task": "math"}, Estimate(-8.0, -12.0, -4.0, 40, 0.001)),
    ({"task": "code"}, Estimate(4.0, 0.5, 8.0, 40, 0.03)),
]


def test_corrected_estimates_differ_in_p_alone():
    estimates = [e for _, e in FOUND]
    assert corrected(estimates) == [
        Estimate(5.0, 1.0, 9.0, 40, 0.04, 3, 2.0),
        Estimate(-8.0, -12.0, -4.0, 40, 0.003, 3, 3.0),
        Estimate(4.0, 0.5, 8.0, 40, 0.04, 3, pytest.approx(4 / 3)),  # no smaller than the one before it
    ]
    assert corrected([]) == []


def test_a_table_has_verdicts_by_p_after_holm():
    table = difference_table(FOUND)
    assert list(table) == ["task", "difference", "low", "high", "items", "p", "p_holm", "tests", "verdict"]
    assert table.p.tolist() == [0.02, 0.001, 0.03] and table.p_holm.tolist() == pytest.approx([0.04, 0.003, 0.04])
    assert table.verdict.tolist() == ["higher", "lower", "higher"]
    more = difference_table([*FOUND, ({"task": "ifeval"}, Estimate(1.0, -1.0, 3.0, 40, 0.5))])
    assert more.verdict.tolist() == ["tied", "lower", "tied", "tied"], "0.06 each, though no interval holds 0"
    (row,) = list(table.itertuples())[:1]
    assert estimate_of(row) == Estimate(5.0, 1.0, 9.0, 40, 0.04, 3, 2.0)


def test_a_row_that_is_not_tested_has_no_part_in_the_correction():
    table = difference_table(FOUND, tested=[True, True, False])
    assert table.p_holm[:2].tolist() == [0.02, 0.002] and table.p_holm.isna().tolist() == [False, False, True]
    assert table.verdict.tolist() == ["higher", "lower", ""] and table.p.isna().tolist() == [False, False, True]


def test_an_empty_table_is_no_error():
    assert difference_table([]).empty and comparison_table([]).empty


def test_a_comparison_is_paired_and_in_points():
    right = ((1, 1, 1, 0), (0, 0, 1, 0))
    a, b = ([{"item": str(i), "sample": 0, "correct": c} for i, c in enumerate(side)] for side in right)
    table = comparison_table([({"task": "qa"}, a, b)])
    assert (table.difference[0], table["items"][0], table.p[0]) == (50, 4, 0.5)
    with pytest.raises(ValueError, match="not paired"):
        comparison_table([({}, a, [line | {"item": "x"} for line in b])])
