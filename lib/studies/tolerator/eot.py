"""The penalty on the end of text: both published forms, how strong, and for all four methods."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.analysis.stats import Estimate, corrected
from lib.reporting import figures
from lib.reporting.claims import CLAIM, REPEAT, Claim, above_floor, more
from lib.reporting.tables import comparison_table, estimate_of
from lib.running.run import Run
from lib.studies.tolerator.base import FILL_UP, RecipeStudy, differences_in_words, forwards_at, over_tasks, spending
from lib.studies.tolerator.scores import DIFFUSION_METHODS
from lib.studies.tolerator.scores import NAMES as METHOD_NAMES

FORMS = ("prob_div", "logit_div")
OFF = "off"
DRAFT = "draft"  # what TOLERATOR's fill-up alone gives, with as many forwards as it has there
STRENGTH = FILL_UP["eot_lambda"]
NAMES = METHOD_NAMES | {DRAFT: "TOLERATOR's drafts"}
METHODS = (*DIFFUSION_METHODS, DRAFT)
JUDGED = (("tolerator", FILL_UP["eot_form"]), *((DRAFT, form) for form in FORMS))


@dataclass(frozen=True)
class Study(RecipeStudy):
    """Every method at the forwards of a `budget` of BUDGETS: no penalty, and either form of it at each lambda; and
    the drafts that TOLERATOR refines, without a penalty and at its own lambda."""

    items: int = 60

    samples: int = 1
    budget: str = "middle"
    lambdas: tuple[float, ...] = (1.2, 2.0, 8.0)

    notebook = "23_tolerator_eot"
    key_parts = ("method", "form", "strength")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method, form, lambda); without a penalty the form is `off` and lambda 1."""
        runs = {}
        for short in self.tasks:
            for method in DIFFUSION_METHODS:
                budget = spending(method, forwards_at(self.budget, self.canvas(short)))
                runs[short, method, OFF, 1.0] = self._run(short, method, **budget, eot_form=OFF)
                for form in FORMS:
                    for strength in self.lambdas:
                        options = {"eot_form": form, "eot_lambda": strength}
                        runs[short, method, form, strength] = self._run(short, method, **budget, **options)
            steps = runs[short, "tolerator", OFF, 1.0].resolved().fill_steps
            for form, strength in ((OFF, 1.0), *((form, STRENGTH) for form in FORMS)):
                options = FILL_UP | {"eot_form": form}
                runs[short, DRAFT, form, strength] = self._run(short, "vanilla", steps=steps, **options)
        return runs

    def table(self) -> pd.DataFrame:
        """Accuracy in %, a line a task and penalty, a column a method."""
        rows = self.summary.assign(method=self.summary.method.map(NAMES), penalty=self._penalties())
        return self.accuracies(rows, ["label", "penalty"], "method").rename_axis(index=["task", "penalty"])

    def lengths(self) -> pd.DataFrame:
        """Tokens a response before its end, a line a task and penalty, a column a method."""
        rows = self.summary.assign(method=self.summary.method.map(NAMES), penalty=self._penalties())
        table = rows.pivot(index=["label", "penalty"], columns="method", values="tokens").round(1)
        order = list(dict.fromkeys(zip(rows.label, rows.penalty, strict=True)))
        return table[[NAMES[m] for m in METHODS]].reindex(order).rename_axis(index=["task", "penalty"], columns=None)

    def _penalties(self) -> list[str]:
        return [OFF if r.form == OFF else f"{r.form}, {r.strength:g}" for r in self.summary.itertuples()]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """With the penalty minus without, a row a task, method, form and lambda, in points, paired; p after Holm."""
        return comparison_table(
            [
                (
                    {"task": task, "method": NAMES[method], "form": form, "lambda": strength},
                    lines,
                    self.lines[task, method, OFF, 1.0],
                )
                for (task, method, form, strength), lines in self.lines.items()
                if form != OFF
            ]
        )

    def _lines(self, form: str) -> pd.DataFrame:
        """One form and no penalty, which is both forms at lambda 1."""
        rows = self.summary[self.summary.form.isin([form, OFF])]
        return rows.assign(method=rows.method.map(NAMES))

    def figure_accuracy(self, form: str):
        """Accuracy against lambda, a line a method."""
        return self._against_lambda(self._lines(form), form, "accuracy")

    def figure_length(self, form: str):
        """Tokens a response against lambda, a line a method."""
        rows = self._lines(form).rename(columns={"tokens": "tokens before the end"})
        return self._against_lambda(rows, form, "tokens before the end")

    def _against_lambda(self, rows: pd.DataFrame, form: str, y: str):
        figure = self.panels(
            rows, "strength", "method", y=y, xlabel=f"lambda, {form}; 1 is off", xscale="log", ylim=(0, None)
        )
        for axis in figure.axes:
            figures.ticks_at(axis, sorted({1.0, *self.lambdas}))
        figures.name_ends(figure.axes)
        return figure

    def claims(self) -> list[Claim]:
        """The published penalty improves drafts, by the paper's formula and by its code, and the final answers: over
        all tasks together, then by task."""
        plain, found = (OFF, 1.0), []
        judged = [(method, form) for method, form in JUDGED if (self.tasks[0], method, form, STRENGTH) in self.lines]
        pairs = {
            key: [(self.lines[t, key[0], key[1], STRENGTH], self.lines[t, key[0], *plain]) for t in self.tasks]
            for key in judged
        }
        for (method, form), e in zip(judged, corrected([over_tasks(own) for own in pairs.values()]), strict=True):
            again = method == DRAFT and form != FORMS[0]  # the code's form is the formula's finding seen again
            found.append(self._claim(method, form, self.tasks, e, REPEAT if again else CLAIM))
        methods, rows = {name: method for method, name in NAMES.items()}, self.comparisons
        for row in rows[rows["lambda"] == STRENGTH].itertuples() if len(self.tasks) > 1 else ():
            if (methods[row.method], row.form) in judged:
                found.append(self._claim(methods[row.method], row.form, (row.task,), estimate_of(row), REPEAT))
        return found

    def _claim(self, method: str, form: str, tasks: tuple[str, ...], e: Estimate, kind: str) -> Claim:
        accuracy = self.summary.set_index(["label", "method", "form", "strength"]).accuracy
        both = [accuracy[task, method, *key] for task in tasks for key in ((OFF, 1.0), (form, STRENGTH))]
        on = f"on {tasks[0]}" if len(tasks) == 1 else "over all tasks"
        where, printed = "Table 3 (number inferred)", "substantial improvements (a review)"
        says = f"the EoT penalty improves TOLERATOR's answers {on}"
        if method == DRAFT:
            where, printed = "section 3.3", "better drafts"
            by = "formula" if form == "prob_div" else "code"
            says = f"the EoT penalty by the paper's {by} improves drafts {on}"
        return Claim(where, says, printed, e, "points", above_floor(more(e), *both), kind=kind)

    def reading(self) -> str:
        """What either form does to score and length, and whether one of the methods gains from it."""
        lines = []
        found = self.summary.set_index(["label", "method", "form", "strength"])
        for form in FORMS:
            most = max(self.lambdas)
            parts = []
            for task in self.tasks:
                before, after = (found.loc[(task, "vanilla", *key)].tokens for key in ((OFF, 1.0), (form, most)))
                # Rounded as the tables are, which a format alone does not do at a half.
                parts.append(f"{task} {round(before, 1):.1f} to {round(after, 1):.1f}")
            lines.append(f"- `{form}` at lambda {most:g}, tokens of vanilla's answers: {'; '.join(parts)}.")
        rows = self.comparisons
        for method in (NAMES[m] for m in METHODS):
            here = rows[rows.method == method]
            differs = [
                f"{r.task} {r.form} {r._4:g} ({r.difference:+.1f})" for r in here[here.verdict != "tied"].itertuples()
            ]
            told = "; ".join(differs) if differs else "none"
            lines.append(
                f"- **{method}**, penalties that change its score (p < 0.05 after Holm, of {len(here)}): {told}."
            )
        published = rows[(rows.method == NAMES["tolerator"]) & (rows.form == "logit_div") & (rows["lambda"] == 1.2)]
        if len(published):
            lines.append(
                f"- TOLERATOR with its published penalty minus without, in points: {differences_in_words(published)}."
            )
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        figures = {f"accuracy_{form}": self.figure_accuracy(form) for form in FORMS}
        figures |= {f"length_{form}": self.figure_length(form) for form in FORMS}
        return self.write({"summary": self.summary, "comparisons": self.comparisons}, figures)
