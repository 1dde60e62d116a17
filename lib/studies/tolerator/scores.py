"""TOLERATOR's main table: task x method x forwards, every method at the same number of forwards."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate, corrected
from lib.reporting import figures
from lib.reporting.claims import REPEAT, Claim, above_floor, more
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import (
    accuracy_cells,
    accuracy_difference,
    comparison_table,
    estimate_of,
    outcomes,
    percent,
    summary_row,
)
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy, limit
from lib.studies.tolerator.base import budgets, canvas_of, mean_difference, middle, recipe_of, spending
from lib.studies.tolerator.contrasts import fewest_over_most, others_over_code, with_room_at_ends
from lib.tasks import get_task

# The mean gain that reviews quote, as a share of the score; over which baseline is not known. The study models fill
# as LLaDA does.
RELATIVE, RELATIVES = 0.153, {"dream-7b": (0.179, "Dream")}
DIFFUSION_METHODS = ("vanilla", "remdm", "rcr", "tolerator")
NAMES = {
    "vanilla": "vanilla",
    "remdm": "ReMDM",
    "rcr": "RCR",
    "tolerator": "TOLERATOR",
    "greedy": "AR greedy",
    "sampled": "AR sampled",
}


@dataclass(frozen=True)
class Study(BaseStudy):
    """Vanilla (LLaDA's rule), ReMDM (loop), RCR and TOLERATOR, each with its published defaults; see `settings`.

    `reference`: an autoregressive model beside them; an empty word for none. `tokens`: the length of the canvas; 0 is
    the task's own. `temperature` and `top_p`: as in `RecipeStudy`.
    """

    items: int = 60

    tasks: tuple[str, ...] = ("math", "logic", "qa", "graded_functions_1")
    model: str = "study-dlm"
    reference: str = "study-ar"
    tokens: int = 0
    temperature: float = 0.3
    top_p: float = 1.0

    notebook = "20_tolerator_scores"
    printed_in = "tolerator"

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method, forwards); forwards is 0 for the autoregressive references."""
        size = {"items": self.items, "samples": self.samples}
        runs = {}
        for short in self.tasks:
            task = SHORT.get(short, short)
            if self.reference:
                most = limit(self.tokens)
                runs[short, "greedy", 0] = Run.of(self.reference, task, "autoregressive", items=self.items, **most)
                runs[short, "sampled", 0] = Run.of(
                    self.reference, task, "autoregressive", temperature=1.0, **size, **most
                )
            for forwards in budgets(self.canvas(short)):
                for method in DIFFUSION_METHODS:
                    options = spending(method, forwards) | limit(self.tokens, "canvas")
                    options |= recipe_of(method, self.temperature, self.top_p)
                    runs[short, method, forwards] = Run.of(self.model, task, method, **size, **options)
        return runs

    def canvas(self, short: str) -> int:
        """Tokens of a task's canvas."""
        return self.tokens or canvas_of(short)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a run: accuracy with its interval, and what it cost."""
        return pd.DataFrame(
            summary_row(self.all_runs[key], lines, label=key[0], method=NAMES[key[1]], budget=key[2] or None)
            for key, lines in self.lines.items()
        )

    def table(self) -> pd.DataFrame:
        """Accuracy in %, with its 95 % interval: a line a task and budget, a column a method."""
        rows = self.summary.dropna(subset="budget")
        rows = rows.assign(
            budget=rows.budget.astype(int),
            cell=accuracy_cells(rows),
        )
        table = rows.pivot(index=["label", "budget"], columns="method", values="cell")
        table = table[[NAMES[m] for m in DIFFUSION_METHODS]].loc[list(self.tasks)]
        return table.rename_axis(index=["task", "forwards"], columns=None)

    def settings(self) -> pd.DataFrame:
        """What each method decodes with, a column a method, on the first task at its middle budget."""
        canvas = self.canvas(self.tasks[0])
        runs = self.runs()
        columns = {NAMES[m]: dict(runs[self.tasks[0], m, middle(canvas)].options) for m in DIFFUSION_METHODS}
        # As objects: in a column of numbers a step count of 16 would show as 16.0.
        columns = {name: pd.Series(options, dtype=object) for name, options in columns.items()}
        return pd.DataFrame(columns).fillna("").rename_axis("option")

    def references(self) -> pd.DataFrame:
        """The autoregressive model beside: the same prompts, one token a forward."""
        rows = self.summary
        rows = rows[rows.budget.isna()]
        columns = ["label", "method", "accuracy", "low", "high", "items", "samples", "forwards", "seconds"]
        return rows[columns].rename(columns={"label": "task"}).round(3).reset_index(drop=True)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """TOLERATOR minus each baseline at equal forwards, in points, paired on items; p after Holm."""
        return comparison_table(
            [
                (
                    {"task": task, "forwards": forwards, "against": NAMES[method]},
                    self.lines[task, "tolerator", forwards],
                    lines,
                )
                for (task, method, forwards), lines in self.lines.items()
                if method in DIFFUSION_METHODS[:-1]
            ]
        )

    def figure_quality(self):
        """Accuracy against forwards, a panel a task; bands are 95 % intervals."""
        figure, axes = figures.panels(self.tasks)
        looks = figures.looks([NAMES[method] for method in DIFFUSION_METHODS])
        for axis, task in zip(axes, self.tasks, strict=True):
            here = self.summary[self.summary.label == task]
            for name, look in looks.items():
                line = here[here.method == name].sort_values("budget")
                figures.curve(axis, name, line.budget, line.accuracy, line.low, line.high, **look)
            ticks = budgets(self.canvas(task))
            for greedy in here[here.method == NAMES["greedy"]].accuracy:
                look = {"color": figures.GREY, "ls": "--", "lw": 1}
                axis.plot([ticks[0], ticks[-1]], [greedy, greedy], label=NAMES["greedy"], **look)
            figures.ticks_at(axis, ticks)
            axis.set(xlabel="forwards", ylim=(0, None))
        axes[0].set_ylabel("accuracy, %")
        figures.name_ends(axes)
        return figure

    def figure_gain(self):
        """TOLERATOR minus vanilla in points against forwards, with paired 95 % intervals."""
        rows = self.comparisons
        rows = rows[rows.against == NAMES["vanilla"]]
        figure, (axis,) = figures.panels([""], width=5.2)
        axis.axhline(0, **figures.LINE)
        for i, (task, look) in enumerate(figures.looks(self.tasks).items()):
            line = rows[rows.task == task].sort_values("forwards")
            beside = 1 + 0.03 * (i - (len(self.tasks) - 1) / 2)
            figures.bars(axis, task, line.forwards * beside, line.difference, line.low, line.high, **look)
        axis.set(xlabel="forwards", ylabel="TOLERATOR - vanilla, points")
        figures.ticks_at(axis, sorted(set(rows.forwards)))
        figures.name_ends([axis])
        return figure

    def paper(self) -> pd.DataFrame:
        """The cells of the paper's Table 1 that could be recovered: theirs, with where each was read."""
        cells = printed("tolerator", "Table 1")
        wide = cells.pivot(index=["model", "task", "forwards", "source"], columns="method", values="value")
        return wide[["vanilla", "rcr", "tolerator"]].rename(columns=NAMES).rename_axis(columns=None).reset_index()

    def claims(self) -> list[Claim]:
        """A mean gain of 15 % over tasks and budgets; then cell by cell, of which the paper's own differ too."""
        e, theirs = self.mean_gain("vanilla")
        sides = self._right("tolerator"), self._right("vanilla")
        code = [task for task in self.tasks if get_task(SHORT.get(task, task)).kind == "code"]
        ends = ", ".join(with_room_at_ends(sides[1]))
        e, by_budget, by_task = corrected([e, fewest_over_most(*sides), others_over_code(*sides, code)])
        says = "TOLERATOR beats vanilla decoding at equal forwards, mean of all tasks and budgets"
        share, whose = RELATIVES.get(self.model, (RELATIVE, "LLaDA"))
        printed_gain = f"{100 * share:.1f} % of the score ({whose}; over which baseline is not known)"
        found = [Claim("mean gain, by reviews", says, printed_gain, e, "points", more(e, share * theirs))]
        for where, says, e in (
            (
                "results, by a review",
                f"its gain over vanilla is larger at the fewest forwards than at the most, on {ends}",
                by_budget,
            ),
            ("limitations, by reviews", "its gain over vanilla is smaller on code than on the other tasks", by_task),
        ):
            if not np.isnan(e.value):
                found.append(Claim(where, says, "no number recovered", e, "points of gain", more(e)))
        accuracy = self.summary.set_index(["label", "method", "budget"]).accuracy
        for row in self.comparisons.itertuples():
            e, pair = estimate_of(row), (row.against, NAMES["tolerator"])
            says = f"TOLERATOR beats {row.against} on {row.task} at {row.forwards} forwards"
            ruling = above_floor(more(e), *(accuracy[row.task, m, row.forwards] for m in pair))
            found.append(Claim("Table 1", says, "consistent improvements", e, "points", ruling, kind=REPEAT))
        return found

    def mean_gain(self, method: str) -> tuple[Estimate, float]:
        """TOLERATOR minus a method in points, mean of all tasks and budgets, paired on items; the method's mean."""
        means = {}
        for name in ("tolerator", method):
            keys = [[key for key in self.lines if key[:2] == (task, name)] for task in self.tasks]
            means[name] = [np.mean([outcomes(self.lines[k]).mean(1) for k in own], 0) for own in keys]
        theirs = np.mean([own.mean() for own in means[method]])
        return percent(mean_difference(means["tolerator"], means[method])), 100 * theirs

    def _right(self, method: str) -> dict[str, np.ndarray]:
        """By task the shares right of the items, [budgets, items], the fewest forwards first."""
        keys = {task: sorted(key for key in self.lines if key[:2] == (task, method)) for task in self.tasks}
        return {task: np.array([outcomes(self.lines[k]).mean(1) for k in own]) for task, own in keys.items()}

    def reading(self) -> str:
        """The answer in words, every number from the table."""
        rows = self.comparisons
        rows = rows[rows.against == NAMES["vanilla"]]
        lines = []
        for task in self.tasks:
            here = rows[rows.task == task].sort_values("forwards")
            parts = [
                f"{r.forwards} forwards: {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}], {r.verdict}"
                for r in here.itertuples()
            ]
            lines.append(f"- **{task}**, TOLERATOR minus vanilla in points: " + "; ".join(parts) + ".")
        counts = self.comparisons.verdict.value_counts()
        total = int(counts.sum())
        said = ", ".join(f"{word} in {int(counts.get(word, 0))}" for word in ("higher", "lower", "tied"))
        lines.append(
            f"- Against all three baselines at equal forwards, TOLERATOR is {said} of {total} cells "
            f"(p < 0.05 after Holm, {self.items} items, {self.samples} samples each)."
        )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        if "math" not in self.tasks:
            return {}
        forwards = middle(self.canvas("math"))
        e = accuracy_difference(self.lines["math", "tolerator", forwards], self.lines["math", "vanilla", forwards])
        entry = headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
        return {"tolerator_vs_vanilla_math": entry}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons}
        figures = {"quality": self.figure_quality(), "gain": self.figure_gain()}
        return self.write(tables, figures)
