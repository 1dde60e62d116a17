"""The claims ledger: what a paper says, and the verdict that our results give on it, computed and never written."""

import math
from dataclasses import asdict, dataclass

from lib.analysis.fitness import Fitness
from lib.analysis.stats import Estimate, verdict

HOLDS, DIRECTION, FAILS, OPEN = "holds", "holds in direction", "does not hold", "not decided"
UNTESTABLE = "not testable here"
OWN = "our control"  # no claim of the paper, but what it leaves unasked


@dataclass(frozen=True)
class Claim:
    """One claim. where: table, figure or section, or OWN. says: in our words. printed: its value, as printed.

    here: our value with its 95 % interval and n, in `unit`. verdict: one of the five above.
    """

    where: str
    says: str
    printed: str
    here: Estimate
    unit: str
    verdict: str


def more(e: Estimate, claimed: float = 0.0, p: float | None = None, zero: float = 0.0) -> str:
    """On «more than `zero`, by about `claimed` - `zero`»; `p`, an adjusted one, goes before the interval.

    Holds where our value is more and its interval reaches what is claimed; in direction where it does not reach it.
    Does not hold where our value is less, or where the two are tied and the interval lies below what is claimed.
    """
    found = verdict(Estimate(e.value - zero, e.low - zero, e.high - zero, e.n, e.p), p=p)
    if found == "higher":
        return HOLDS if e.high >= claimed else DIRECTION
    excluded = claimed > zero and e.high < claimed
    return FAILS if found == "lower" or excluded else OPEN


def above_floor(verdict: str, *accuracies: float, floor: float = 10.0) -> str:
    """The verdict, unless every method compared answers less than `floor` % right: then nothing could be told."""
    return verdict if max(accuracies) >= floor else UNTESTABLE


def where_fit(verdict: str, cell: Fitness) -> str:
    """The verdict, unless the cell that it is from is not fit for it; see lib/analysis/fitness.py."""
    return verdict if cell.fit else UNTESTABLE


def at_least(e: Estimate, bound: float) -> str:
    """On «`bound` or more»: the whole interval decides."""
    return HOLDS if e.low >= bound else FAILS if e.high < bound else OPEN


def at_most(e: Estimate, bound: float) -> str:
    """On «`bound` or less»: the whole interval decides."""
    return HOLDS if e.high <= bound else FAILS if e.low > bound else OPEN


def within(e: Estimate, low: float, high: float) -> str:
    """On «from `low` to `high`»: the whole interval decides."""
    if e.high < low or e.low > high:
        return FAILS
    return HOLDS if low <= e.low and e.high <= high else OPEN


def records(claims: list[Claim]) -> list[dict]:
    """Claims as they are stored beside a result, rounded."""
    found = []
    for claim in claims:
        row = asdict(claim)
        e = row.pop("here")
        found.append(row | {k: _number(e[k]) for k in ("value", "low", "high")} | {"n": e["n"]})
    return found


def as_text(record: dict) -> str:
    """Our value of a stored claim as a table shows it."""
    if not record["n"]:
        return "not measured"
    value, low, high = ("none" if record[k] is None else f"{record[k]:g}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}] {record['unit']}, n = {record['n']}"


def _number(value: float) -> float | None:
    """Rounded; None for what was not measured, which JSON has no number for."""
    return round(float(value), 3) if math.isfinite(value) else None
