"""The claims ledger: what a paper says, and the verdict that our results give on it, computed and never written.

One rule for all rows. A row has one interval, corrected for the tests of its table (lib/analysis/corrected.py), and
that alone decides, so that no row can contradict its interval; only «equivalent» is decided by a narrower one, of
two one-sided tests, and the interval shown may reach a little beyond the margin. Of «more than zero, by about c»:

- **holds**: the interval lies above zero.
- **refuted**: it lies below zero.
- **equivalent**: neither, and the interval of two one-sided tests lies within the margin, which is stated beforehand:
  MARGIN for what is in points or percent, RATIO for what is in times. Whoever is told so need not choose.
- **undecided**: none of these; then the row says with how many items the printed effect would be seen in four of
  five cases; the margin, where none is printed or the interval excludes it. Not where there were as many, of a bound,
  or where more items would not help.
- *less than printed*, of the first, third and fourth: the interval ends below c.
- **not testable here**: every method compared is right on less than FLOOR % of every task (`above_floor`); or the
  printed effect is more than there is room for (`with_room`) and nothing else is decided; or a study has nothing to
  judge the claim by. **not measured**: nothing was.
"""

import math
from dataclasses import asdict, dataclass, field, replace

from lib.analysis.corrected import equivalence, items_needed, power, simultaneous
from lib.analysis.fitness import LOWEST
from lib.analysis.stats import Estimate

HOLDS, REFUTED, EQUIVALENT, OPEN = "holds", "refuted", "equivalent", "undecided"
UNTESTABLE, UNMEASURED = "not testable here", "not measured"
VERDICTS = (HOLDS, REFUTED, EQUIVALENT, OPEN, UNTESTABLE, UNMEASURED)
LESS = "less than printed"
OWN = "our control"  # no claim of the paper, but what it leaves unasked
CLAIM, CONTROL, REPEAT = "claim", "control", "repeat"  # the last: a finding that another row has, seen again
MARGIN, RATIO = 1.0, 0.05
FLOOR = LOWEST  # the rule of notebook 00 has a ceiling too; here `with_room` says what a high score can still show


@dataclass(frozen=True)
class Ruling:
    """A verdict and what it is from. low, high: the corrected interval. claimed: the effect over zero that is
    printed, 0 without one. margin: within which two are taken as equal, if any. size: `LESS` or nothing.
    """

    verdict: str
    low: float = math.nan
    high: float = math.nan
    claimed: float = 0.0
    margin: float | None = None
    size: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim. where: table, figure or section, or OWN. says: in our words. printed: its value, as printed.

    here: our value with its interval alone and n, in `unit`; its p and tests are of its table. kind: CLAIM or
    REPEAT; a row of OWN is a CONTROL. by_items: whether more of what n counts would narrow the interval.
    """

    where: str
    says: str
    printed: str
    here: Estimate
    unit: str
    ruling: Ruling
    kind: str = field(default=CLAIM, kw_only=True)
    by_items: bool = field(default=True, kw_only=True)

    @property
    def verdict(self) -> str:
        return self.ruling.verdict


def more(e: Estimate, claimed: float = 0.0, zero: float = 0.0, margin: float = MARGIN) -> Ruling:
    """On «more than `zero`, by about `claimed` - `zero`»; see the rule above."""
    low, high = simultaneous(e, zero)
    effect = claimed - zero if claimed else 0.0
    found = Ruling(OPEN, low, high, effect, margin, LESS if effect > 0 and high < claimed else "")
    if math.isnan(e.value):
        return replace(found, verdict=UNMEASURED)
    if low > zero:
        return replace(found, verdict=HOLDS)
    if high < zero:
        return replace(found, verdict=REFUTED, size="")
    return replace(found, verdict=EQUIVALENT) if equivalence(e, zero, margin) else found


def multiple(e: Estimate, claimed: float = 0.0) -> Ruling:
    """On «more than once, about `claimed` times», of a ratio."""
    return more(e, claimed, zero=1.0, margin=RATIO)


def at_least(e: Estimate, bound: float) -> Ruling:
    """On «`bound` or more»: the whole interval decides."""
    return within(e, bound, math.inf)


def at_most(e: Estimate, bound: float) -> Ruling:
    """On «`bound` or less»: the whole interval decides."""
    return within(e, -math.inf, bound)


def within(e: Estimate, least: float, most: float) -> Ruling:
    """On «from `least` to `most`»: the whole interval decides."""
    low, high = simultaneous(replace(e, p=None))  # p is of another question
    if math.isnan(e.value):
        verdict = UNMEASURED
    elif high < least or low > most:
        verdict = REFUTED
    else:
        verdict = HOLDS if least <= low and high <= most else OPEN
    return Ruling(verdict, low, high)


def above_floor(ruling: Ruling, *accuracies: float) -> Ruling:
    """The ruling, unless every method compared answers less than FLOOR % right: then nothing is told, not even a
    direction, for what is found there is of the model."""
    return ruling if max(accuracies) >= FLOOR else replace(ruling, verdict=UNTESTABLE, size="")


def with_room(ruling: Ruling, room: float) -> Ruling:
    """The ruling, unless the printed effect is more than `room`, the largest that any method could have here: then
    it says nothing of the size, and what is not decided is not testable."""
    if not ruling.claimed > room:
        return ruling
    return replace(ruling, verdict=UNTESTABLE if ruling.verdict == OPEN else ruling.verdict, size="")


def records(claims: list[Claim]) -> list[dict]:
    """Claims as they are stored beside a result, rounded."""
    return [_record(claim) for claim in claims]


def _record(claim: Claim) -> dict:
    e, ruling = claim.here, claim.ruling
    shown = asdict(claim)
    row = {key: shown[key] for key in ("where", "says", "printed", "unit")}
    row["kind"] = CONTROL if claim.where == OWN else claim.kind
    row |= {"verdict": ruling.verdict, "size": ruling.size, "n": e.n, "tests": e.tests, "p": _p(e.p)}
    row |= {"value": _number(e.value), "low": _number(ruling.low), "high": _number(ruling.high)}
    row |= {"alone_low": _number(e.low), "alone_high": _number(e.high), "margin": ruling.margin}
    effect = abs(ruling.claimed)
    row["power"] = _number(power(e, effect)) if effect else None
    asked = ruling.verdict == OPEN and ruling.margin is not None and claim.by_items
    needed = items_needed(e, 0 if ruling.size else effect, ruling.margin) if asked else None
    row["needed"] = needed if needed and needed > e.n else None  # as many had their chance
    return row


def as_text(record: dict) -> str:
    """Our value of a stored claim as a table shows it."""
    if not record["n"]:
        return UNMEASURED
    value, low, high = (_shown(record[k]) for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}] {record['unit']}, n = {record['n']:,}"


def said(record: dict) -> str:
    """The verdict of a stored claim as a table shows it."""
    return f"{record['verdict']}, {record['size']}" if record["size"] else record["verdict"]


def _shown(value: float | None) -> str:
    """A number with the decimals that it deserves: two below ten, one below a hundred."""
    if value is None:
        return "none"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def _number(value: float | None) -> float | None:
    """Rounded; None for what was not measured, which JSON has no number for."""
    return round(float(value), 4) + 0.0 if value is not None and math.isfinite(value) else None  # and no -0.0


def _p(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")
