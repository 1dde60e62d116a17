"""Does TOLERATOR's gain grow with the capability of the model and with the strictness of the answers?"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log10, nan

import numpy as np
import pandas as pd
from scipy.stats import norm

from lib.analysis.corrected import ALONE, ALPHA
from lib.analysis.fitness import to_compare
from lib.analysis.slopes import Cell, Line
from lib.analysis.stats import Estimate
from lib.models.trend import run_of
from lib.reporting.claims import OWN, UNTESTABLE, Claim, Ruling, more
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import difference_table, estimate_of, outcomes
from lib.studies.tolerator.trend_gains import FLOOR, FORMS, Gains

PUBLISHED = "published rates"
EQUAL = 0.2  # a slope of at most this is called none: two points of gain from none right to all right
SAME_TRAINING = {"study-dlm-on": "study-dlm", "study-corrector": "study-dlm"}  # trained on from it
SAME_QUESTIONS = {"terse": "math"}
CAPABILITY, STRICTNESS, SIZE = "10 points of capability", "0.1 of strictness", "ten times the size"
# All budgets together; the same of the cells that are fit to compare. Of a weak model there is little to lose, of a
# strong one little to gain, so that a part of a slope over all cells is arithmetic.
BOTH, FIT = "both", "both, where vanilla is right on 20 to 80 %"
LARGE = 8e9  # parameters of the papers' models
MOST = 100.0  # points that a gain can be


@dataclass(frozen=True)
class Study(Gains):
    """Lines through the gains; see Gains for what was decoded."""

    def line(self, form: str, share: int | str, by: str, keep: Callable | None = None) -> Line | None:
        """The line of a form's gains, in points, at one budget, BOTH or FIT; None where too few trainings are able.

        by: CAPABILITY, STRICTNESS or SIZE, of which its last number is the slope. An intercept of each task and
        budget stands first; on STRICTNESS, which differs by task, one of each budget, and capability beside it.
        keep (model): which ones, all by default.
        """
        found, cells = [(_kind(by, cell), cell) for cell in self._able(share, keep)], []
        trainings = {kind: {training_of(model) for own, (_, model, _) in found if own == kind} for kind, _ in found}
        # Cells of a training that has a task and budget for itself decide its intercept and nothing of the slope.
        found = [(kind, cell) for kind, cell in found if len(trainings[kind]) > 1]
        kinds = list(dict.fromkeys(kind for kind, _ in found))
        for own, (task, model, at) in found:
            ours, plain = (outcomes(self.lines[task, model, at, name]).mean(1) for name in (form, "vanilla"))
            start = [float(own == kind) for kind in kinds]
            x = (*start, *self._columns(by, task, model))
            cells.append(Cell(x, 100 * (ours - plain), training_of(model), SAME_QUESTIONS.get(task, task)))
        try:
            return Line(cells, len({model for _, (_, model, _) in found}))
        except ValueError:
            return None

    def _columns(self, by: str, task: str, model: str) -> tuple[float, ...]:
        able = self.capability[task, model] / 10
        if by == CAPABILITY:
            return (able,)
        row = self.strict.set_index(["task", "model"]).loc[(task, model)]
        return (able, row.strictness / 0.1) if by == STRICTNESS else (log10(row.parameters),)

    def _able(self, share: int | str, keep: Callable | None = None) -> list[tuple[str, str, int]]:
        """The tasks, models and budgets that are on a line, those of one task together."""
        shares = (share,) if isinstance(share, int) else self.shares
        found = [
            (task, model, at)
            for (task, model), able in self.capability.items()
            for at in shares
            if able >= FLOOR and (keep is None or keep(model))
        ]
        return [cell for cell in found if to_compare(self.vanilla(*cell)).fit] if share == FIT else found

    @property
    def slopes(self) -> pd.DataFrame:
        """Points of gain for 10 points of capability at each budget, at both, and at both where vanilla decoding is
        right on 20 to 80 %; for 0.1 of strictness. The slopes over both budgets are tested, p after Holm; the others
        have their intervals alone. Empty where less than three trainings are able."""
        return self._slopes.rename(columns={"difference": "slope", "items": "models"})

    @cached_property
    def _slopes(self) -> pd.DataFrame:
        """`slopes` as a table of differences."""
        found = []
        for form in FORMS:
            for by in (CAPABILITY, STRICTNESS):
                each = self.shares if by == CAPABILITY and len(self.shares) > 1 else ()
                for share in (*each, BOTH, FIT):
                    line = self.line(form, share, by)
                    if line is not None:
                        found.append(({"form": form, "for": by, "share": str(share)}, line.slope()))
        columns = ["form", "for", "share", "difference", "low", "high", "items", "p", "p_holm", "tests", "verdict"]
        table = difference_table(found, [labels["share"] == BOTH for labels, _ in found])
        return pd.DataFrame(table, columns=columns)

    def extrapolated(self) -> pd.DataFrame:
        """What the lines say of one further model in math, mean of the budgets.

        By capability, at the most that the paper prints for LLaDA-8B on GSM8K, and, an extrapolation, by the
        logarithm of the size, at eight billion parameters, of models at the end of their training. Beside it
        what the paper prints. A line whose interval is wider than any gain can be is left out.
        """
        cells = printed("tolerator").query("model == 'LLaDA-8B' and task == 'GSM8K'")
        means = cells[cells.forwards == "mean"].set_index("method").value
        reached = float(cells.value.max())
        rows = []
        for form in FORMS:
            for what, by, at, keep in (
                (f"{reached:.1f} % right, the most printed", CAPABILITY, reached / 10, None),
                ("8 billion parameters", SIZE, log10(LARGE), lambda model: "@" not in model),
            ):
                line = self.line(form, BOTH, by, keep)
                tasks = list(dict.fromkeys(task for task, _, _ in self._able(BOTH, keep)))
                if line is None or "math" not in tasks:
                    continue
                height, first = np.zeros(line.x.shape[1]), len(self.shares) * tasks.index("math")
                height[first : first + len(self.shares)] = 1 / len(self.shares)
                height[-1] = at
                e = line.at(height, further=True)
                if max(-e.low, e.high) > MOST:
                    continue  # which says nothing
                row = {"form": form, "at": what, "gain": e.value, "low": e.low, "high": e.high, "models": e.n}
                rows.append(row | {"printed, GSM8K": means["tolerator"] - means["vanilla"]})
        columns = ["form", "at", "gain", "low", "high", "models", "printed, GSM8K"]
        return pd.DataFrame(rows, columns=columns).round(1)

    def slope(self, form: str, by: str, share: str = BOTH) -> Estimate | None:
        """A slope, its p after Holm where it is tested; None where there is none."""
        table = self._slopes
        rows = table[(table.form == form) & (table["for"] == by) & (table.share == share)]
        for row in rows.itertuples():
            return estimate_of(row) if row.verdict else Estimate(row.difference, row.low, row.high, row.items)
        return None

    def _judged(self, form: str, by: str) -> Estimate:
        """The tested slope with the interval that, once widened by normal quantiles as all claims are, is the t
        interval at the level of its table: at two degrees of freedom that is twice as wide."""
        e, line = self.slope(form, by), self.line(form, BOTH, by)
        share = ALPHA / (e.step if e.p <= ALPHA else e.tests)
        wide = line.slope(level=1 - share)
        half = (wide.high - wide.value) * ALONE / float(norm.ppf(1 - share / 2))
        return replace(e, low=e.value - half, high=e.value + half)

    def claims(self) -> list[Claim]:
        """That gains grow with capability and with strictness, which the papers do not say: ours to test."""
        found, tasks = [], ", ".join(self.tasks)
        for form in FORMS:
            for by, says in (
                (CAPABILITY, "the gain grows with the capability of the model"),
                (STRICTNESS, f"of equally able models the gain is larger where answers are stricter, of {tasks}"),
            ):
                e = self.slope(form, by)
                ruling = more(self._judged(form, by), margin=EQUAL) if e else Ruling(UNTESTABLE)
                e = e or Estimate(nan, nan, nan, 0)
                says = f"{says}, TOLERATOR, {form}"
                found.append(Claim(OWN, says, "", e, f"points for {by}", ruling, by_items=False))
        return found

    def headlines(self) -> dict[str, dict]:
        """The slope on capability at the published rates, of as many models as there are; none of too few."""
        e = self.slope(PUBLISHED, CAPABILITY)
        if e is None:
            return {}
        unit = f"points for {CAPABILITY}"
        found = headline(e.value, e.low, e.high, int(e.n), unit, self.profile, self.notebook)
        return {"tolerator_gain_per_capability": found}

    def reading(self) -> str:
        """The slopes in words, how well survival and repair foretell the gains, and what of it is extrapolated."""
        lines = []
        for form in FORMS:
            for by in (CAPABILITY, STRICTNESS):
                e = self.slope(form, by)
                said = (
                    f"{e.value:+.1f} points [{e.low:.1f}, {e.high:.1f}] of gain, {e.n} models, p {e.p:.2g} after Holm"
                    if e
                    else f"no line, for less than three trainings reach {FLOOR:.0f} % on a task"
                )
                fit = self.slope(form, by, FIT)
                if fit:
                    said += (
                        f"; where vanilla is right on 20 to 80 %: {fit.value:+.1f} [{fit.low:.1f}, {fit.high:.1f}]"
                    )
                elif e:
                    said += "; vanilla is right on 20 to 80 % for less than three trainings, so there is no line"
                lines.append(f"- **{form}**, for {by}: {said}.")
        lines += [f"- {words}." for words in self.refining_in_words()]
        told = self.predictions.dropna(subset="foretold")
        for form, rows in told.groupby("form", sort=False):
            inside = ((rows.low <= rows.foretold) & (rows.foretold <= rows.high)).sum()
            off = (rows.foretold - rows.measured).abs().mean()
            lines.append(
                f"- **{form}**, foretold by survival and repair: {off:.1f} points off in the mean, within the "
                f"measured gain's interval in {inside} of {len(rows)} cells."
            )
        for row in self.extrapolated().itertuples():
            lines.append(
                f"- **{row.form}**, the line at {row.at}, in math: {row.gain:+.1f} points [{row.low:.1f}, "
                f"{row.high:.1f}] for one further model. No model of eight billion was measured here."
            )
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "gains": self.gains, "slopes": self.slopes, "strictness": self.strict}
        tables |= {"refining": self.refining, "predictions": self.predictions, "extrapolated": self.extrapolated()}
        figures = {"gain": self.figure_gain(), "refining": self.figure_refining()}
        return self.write(tables, figures | {"strictness": self.figure_strictness()})


def _kind(by: str, cell: tuple[str, str, int]) -> int | tuple[str, int]:
    """What of a task, model and budget has an intercept of its own."""
    task, _, at = cell
    return at if by == STRICTNESS else (task, at)


def training_of(model: str) -> str:
    """The training that a model's errors are alike by."""
    run = run_of(model)
    return SAME_TRAINING.get(run, run)
