"""AutoDeco's heads on a mask model: does choosing temperature and top-p of a fill-up by the token pay?"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, above_floor, more
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, comparison_table, difference_table, estimate_of
from lib.running.run import Run
from lib.studies.base import SHORT, limit
from lib.studies.tolerator.base import DiffusionStudy, differences_in_words, forwards_at, over_tasks, spending

# Alike but for the draws of the fill-up: no penalty on the end of text, refinement at 0.3.
METHODS = {"vanilla": {}, "tolerator": {"eot_form": "off"}}
NAMES = {"vanilla": "vanilla", "tolerator": "TOLERATOR"}
PUBLISHED = {"vanilla": 0.3, "tolerator": 0.5}
HEADS, CONSTANT = "heads", "constant"
# Setting -> the options of its fill-up; the published temperature and the constant are added.
SETTINGS = {
    "published": {},
    "greedy": {"temperature": 0.0},
    HEADS: {"temperature": 1.0, "top_p": 1.0, "heads": True},
    CONSTANT: {},
}


@dataclass(frozen=True)
class Study(DiffusionStudy):
    """Vanilla decoding and TOLERATOR at `budget` forwards. Their fill-up draws as published, greedily, as the
    heads say, or at the heads' mean setting on the task. `heads`: a mask model with heads."""

    samples: int = 1
    heads: str = "study-dlm-autodeco"
    budget: str = "middle"

    notebook = "40_fill_up_heads"
    key_parts = ("method", "setting")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method, setting); the constants follow from the heads."""
        return {
            (short, method, setting): self._at(short, method, setting, options)
            for short in self.tasks
            for method in METHODS
            for setting, options in SETTINGS.items()
            if setting != CONSTANT
        }

    def _at(self, short: str, method: str, setting: str, options: dict) -> Run:
        forwards = forwards_at(self.budget, self.canvas(short))
        given = {"temperature": PUBLISHED[method]} | METHODS[method] | options
        given |= limit(self.tokens, "canvas") | spending(method, forwards)
        model = self.heads if setting == HEADS else self.model
        return Run.of(model, SHORT.get(short, short), method, self.items, self.samples, **given)

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """The fill-up at the mean temperature and top-p that the heads chose on the task in vanilla decoding."""
        means = {short: mean_setting(lines[short, "vanilla", HEADS]) for short in self.tasks}
        return {
            (short, method, CONSTANT): self._at(short, method, CONSTANT, mean)
            for short, mean in means.items()
            for method in METHODS
        }

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval, a line a method and setting, a column a task."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        table = rows.pivot(index=["method", "setting"], columns="label", values="cell")
        index = [(method, setting) for method in METHODS for setting in SETTINGS]
        return table.loc[index, list(self.tasks)].rename(index=NAMES).rename_axis(columns=None)

    def settings(self) -> pd.DataFrame:
        """What the heads chose on each task in vanilla decoding: means over all tokens that were kept."""
        rows = {short: mean_setting(self.lines[short, "vanilla", HEADS]) for short in self.tasks}
        return pd.DataFrame(rows).T

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Heads minus every other setting, task by task, in points, paired; p after Holm."""
        return comparison_table(
            [
                ({"method": NAMES[method], "against": other, "task": task},
                 self.lines[task, method, HEADS], self.lines[task, method, other])
                for method in METHODS
                for other in SETTINGS
                if other != HEADS
                for task in self.tasks
            ]
        )  # fmt: skip

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """The same over all tasks, which weigh the same."""
        return difference_table(
            [
                ({"method": NAMES[method], "against": other}, self._over_tasks(method, other))
                for method in METHODS
                for other in SETTINGS
                if other != HEADS
            ]
        )

    def _over_tasks(self, method: str, other: str):
        return over_tasks([(self.lines[t, method, HEADS], self.lines[t, method, other]) for t in self.tasks])

    def figure(self):
        """Heads minus every other setting with paired 95 % intervals, a panel a task and one for their mean; hollow
        where not told apart."""
        panels = [*self.tasks, "mean of the tasks"]
        rows = pd.concat([self.comparisons, self.pooled.assign(task=panels[-1])]).set_index(["method", "against"])
        names = {key: f"{key[0]}: heads - {key[1]}" for key in rows.index}
        return figures.forest({task: rows[rows.task == task] for task in panels}, names)

    def claims(self) -> list[Claim]:
        """Nobody prints such a claim: what a user of a mask model asks of AutoDeco."""
        accuracy, found = self.summary.set_index(["label", "method", "setting"]).accuracy, []
        methods = {name: method for method, name in NAMES.items()}
        for row in self.pooled.itertuples():
            e, method = estimate_of(row), methods[row.method]
            highest = [accuracy[task, method, setting] for task in self.tasks for setting in (HEADS, row.against)]
            says = f"heads on the fill-up of {row.method} beat {WORDS[row.against]}, mean of the tasks"
            found.append(Claim(OWN, says, "", e, "points", above_floor(more(e), *highest)))
        return found

    def reading(self) -> str:
        """What the heads chose, and heads against every other setting, over the tasks and by task."""
        means = [f"{task} {row.temperature:.2f} and {row.top_p:.2f}" for task, row in self.settings().iterrows()]
        lines = [f"- Mean temperature and top-p that the heads chose: {', '.join(means)}."]
        for row in self.pooled.itertuples():
            rows = self.comparisons[
                (self.comparisons.method == row.method) & (self.comparisons.against == row.against)
            ]
            lines.append(
                f"- **{row.method}**, heads minus {WORDS[row.against]}, in points: mean of the tasks "
                f"{row.difference:+.1f} [{row.low:.1f}, {row.high:.1f}], {row.verdict}; {differences_in_words(rows)}."
            )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """Heads against their own mean, in vanilla decoding."""
        e = self._over_tasks("vanilla", CONSTANT)
        found = headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
        return {"fill_up_heads_vs_constant": found}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "comparisons": self.comparisons,
            "pooled": self.pooled,
            "settings": self.settings().reset_index(names="task"),
        }
        return self.write(tables, {"heads": self.figure()})


WORDS = {
    "published": "the published temperature",
    "greedy": "a greedy fill-up",
    CONSTANT: "a constant at their own mean",
}


def mean_setting(lines: list[dict]) -> dict[str, float]:
    """Mean temperature and top-p of the tokens when they were kept; every canvas has as many."""
    return {name: round(sum(line[name] for line in lines) / len(lines), 3) for name in ("temperature", "top_p")}
