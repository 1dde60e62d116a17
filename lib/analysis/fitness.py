"""Whether a cell, a model on a task at a budget, can show what a claim says: the rule of notebook 00.

A cell is fit to compare methods where its reference is right on 20 to 80 % of the items: below there is nothing to
lose, above nothing to gain. To judge a method that masks again what stands there, a right answer must also survive
one refinement at the mildest rate in half of the cases or more: where nearly none does, every such method is at the
floor, and the page says of the model what it seems to say of the method. What is not fit cannot show a gain.

Power is no part of the rule, for it is of the number of items: too few leave a claim undecided. Of McNemar's test on
n items with an effect d and a share s of items on which the two differ (Connor 1987, Biometrics 43, 207),

    power = Phi((|d| sqrt(n) - z sqrt(s)) / sqrt(s - d^2)),    z = Phi^-1(1 - alpha / 2).

Nobody knows s beforehand. Two methods that know nothing of each other, right with p and q = p + d, differ on
s = p (1 - q) + q (1 - p), which makes s - d^2 the variance p (1 - p) + q (1 - q) of a difference of two answers.
Methods on one model agree more often than that, which gives more power: what is here is the least.
"""

import math
from dataclasses import dataclass

from scipy.stats import norm

from lib.analysis.stats import Estimate

LOWEST, HIGHEST = 20.0, 80.0  # % of answers right
SURVIVES = 50.0  # % of right answers that are right after one refinement at MILDEST
RATES = (0.1, 0.2, 0.4, 0.8)  # shares of the canvas that one refinement masks
MILDEST = RATES[0]


@dataclass(frozen=True)
class Fitness:
    """Whether a cell is fit, and why, in words."""

    fit: bool
    why: str


def to_compare(accuracy: float) -> Fitness:
    """Fitness for a comparison of methods, of a reference that is right on `accuracy` % of the items."""
    if accuracy < LOWEST:
        return Fitness(False, f"{accuracy:.1f} % right, below {LOWEST:.0f} %")
    if accuracy > HIGHEST:
        return Fitness(False, f"{accuracy:.1f} % right, above {HIGHEST:.0f} %")
    return Fitness(True, f"{accuracy:.1f} % right")


def to_remask(accuracy: float, survival: Estimate | None) -> Fitness:
    """Fitness for a method that masks again, of a diffusion model. `survival`: of right answers in one refinement at
    MILDEST, in %; None where there was none."""
    whole = to_compare(accuracy)
    if survival is None:
        return Fitness(False, f"{whole.why}; no right answer that could survive")
    lasting = survival.value >= SURVIVES
    said = f"{survival.value:.1f} % of {survival.n} right answers survive"
    return Fitness(whole.fit and lasting, f"{whole.why}; {said}" + ("" if lasting else f", below {SURVIVES:.0f} %"))


def least_power(reference: float, effect: float, items: int, alpha: float = 0.05) -> float:
    """The power of a paired test on `items` to see `effect` on a reference, both shares: the least, see above.

    Raises ValueError where there is no effect, or where no share is left that the other method could have.
    """
    differ, rest = _differing(reference, effect)
    reach = abs(effect) * math.sqrt(items) - norm.ppf(1 - alpha / 2) * math.sqrt(differ)
    return float(norm.cdf(reach / math.sqrt(rest)))


def items_for(reference: float, effect: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """The items that give `least_power` that power. Raises ValueError as it does."""
    differ, rest = _differing(reference, effect)
    root = norm.ppf(1 - alpha / 2) * math.sqrt(differ) + norm.ppf(power) * math.sqrt(rest)
    return math.ceil((root / effect) ** 2)


def _differing(reference: float, effect: float) -> tuple[float, float]:
    """s and s - d^2 of two methods that know nothing of each other."""
    other = reference + effect
    if not effect or not 0 < reference < 1 or not 0 < other < 1:
        raise ValueError(f"an effect of {effect} on {reference} cannot be had, or is none")
    return reference * (1 - other) + other * (1 - reference), reference * (1 - reference) + other * (1 - other)
