"""Choosing a lossy setting before it is used: the cheapest one that loses little on validation items."""

from collections.abc import Sequence
from dataclasses import dataclass

from lib.analysis.stats import Estimate
from lib.errors import UserError

RULES = ("observed", "sure")


@dataclass(frozen=True)
class Candidate:
    """A setting with what it loses in points of task score (paired, below 0 where it gains) and its tokens a unit
    of cost."""

    name: str
    loss: Estimate
    speed: float


def fastest_tolerated(candidates: Sequence[Candidate], tolerated: float, rule: str = "observed") -> Candidate | None:
    """The fastest candidate that loses at most `tolerated` points; None where there is none.

    `observed`: by the measured loss, which an unlucky draw of items may hide; `sure`: by the upper end of its 95 %
    interval, which with few items no lossy setting passes. Raises UserError for another rule or a negative loss.
    """
    if rule not in RULES:
        raise UserError(f"rule must be one of {', '.join(RULES)}, not {rule!r}")
    if tolerated < 0:
        raise UserError(f"the tolerated loss must be 0 points or more, not {tolerated}")
    # A share of items times 100 may lie a rounding above the whole number that it is.
    fit = [c for c in candidates if (c.loss.value if rule == "observed" else c.loss.high) <= tolerated + 1e-9]
    return max(fit, key=lambda c: c.speed, default=None)
