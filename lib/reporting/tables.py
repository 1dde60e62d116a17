"""From the lines of runs to tables: quality and cost of a run in one row, differences between runs with verdicts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate, corrected, paired_difference, score_interval, step_of, verdict
from lib.running.run import Run
from lib.tasks.metrics import accuracy


def outcomes(lines: list[dict]) -> np.ndarray:
    """[items, samples] of 0 and 1, in the order of item ids, so that two runs on the same items pair."""
    return np.array([line["correct"] for line in lines]).reshape(-1, _samples(lines))


def _samples(lines: list[dict]) -> int:
    return 1 + max(line["sample"] for line in lines)


def summary_row(run: Run, lines: list[dict], **labels) -> dict:
    """Quality with its interval and cost, from the same responses."""
    table = outcomes(lines)
    estimate = score_interval(table)
    return {
        **labels,
        "model": run.model,
        "task": run.task,
        "accuracy": 100 * accuracy(table.ravel().tolist()),
        "low": 100 * estimate.low,
        "high": 100 * estimate.high,
        "items": table.shape[0],
        "samples": table.shape[1],
        "timeouts": sum(line["status"] == "timeout" for line in lines),
        "forwards": mean_over(lines, "target_forwards"),
        "positions": mean_over(lines, "positions"),
        "tokens": mean_over(lines, "tokens_kept"),
        "seconds": mean_over(lines, "seconds"),
        "joules": mean_over(lines, "joules"),
    }


def accuracy_cells(rows: pd.DataFrame) -> list[str]:
    """`accuracy [low, high]` of each row of a summary, as a table shows it."""
    return [
        f"{a:.1f} [{low:.1f}, {high:.1f}]" for a, low, high in zip(rows.accuracy, rows.low, rows.high, strict=True)
    ]


def mean_over(lines: list[dict], key: str) -> float | None:
    """Mean over the responses; None where it was not measured, never zero."""
    values = [line[key] for line in lines]
    return None if any(value is None for value in values) else float(np.mean(values))


def accuracy_difference(a: list[dict], b: list[dict]) -> Estimate:
    """Accuracy of `a` minus that of `b` in points, paired on the same items."""
    for x, y in zip(a[:: _samples(a)], b[:: _samples(b)], strict=True):
        if x["item"] != y["item"]:
            raise ValueError(f"not paired: {x['item']} meets {y['item']}")
    return percent(paired_difference(outcomes(a), outcomes(b)))


def percent(e: Estimate) -> Estimate:
    """A share in %, or a difference of shares in points."""
    return replace(e, value=100 * e.value, low=100 * e.low, high=100 * e.high)


def estimate_of(row) -> Estimate:
    """A row of a table of differences, as `itertuples` gives it; p is the one after Holm."""
    step = step_of(row.p, row.p_holm, row.tests)
    return Estimate(row.difference, row.low, row.high, row.items, row.p_holm, row.tests, step)


def difference_table(found: Sequence[tuple[dict, Estimate]], tested: Sequence[bool] | None = None) -> pd.DataFrame:
    """A row each (labels, difference): value, interval, items, p, p after Holm over the table's `tests`, verdict.

    `tested`: which rows are tested, all by default. The others take no part in the correction; they have no p and
    no verdict.
    """
    tested = [True] * len(found) if tested is None else tested
    counted = corrected([e if test else replace(e, p=None) for (_, e), test in zip(found, tested, strict=True)])
    return pd.DataFrame(
        {
            **labels,
            "difference": e.value,
            "low": e.low,
            "high": e.high,
            "items": e.n,
            "p": e.p if test else None,
            "p_holm": after.p,
            "tests": after.tests,
            "verdict": verdict(after) if test else "",
        }
        for (labels, e), after, test in zip(found, counted, tested, strict=True)
    )


def comparison_table(pairs: Sequence[tuple[dict, list[dict], list[dict]]]) -> pd.DataFrame:
    """`difference_table` of the accuracy of a minus that of b, in points: a row each (labels, lines of a, of b)."""
    return difference_table([(labels, accuracy_difference(a, b)) for labels, a, b in pairs])
