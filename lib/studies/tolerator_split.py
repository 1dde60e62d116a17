"""How TOLERATOR's forwards are best split: rho at a fixed total, and more refinement after a fixed fill-up."""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import pandas as pd

from lib.claims import Claim, more
from lib.evaluation import Run
from lib.papers import printed
from lib.report import comparison_table
from lib.studies.diffusion import FILL_UP, DiffusionStudy, canvas_of, compared, middle, said

PUBLISHED = 0.5


@dataclass(frozen=True)
class Study(DiffusionStudy):
    """`rhos`: shares of the fill-up, at the middle budget and at one token a forward. `added`: refinements after a
    fill-up of half the canvas; 0 is vanilla decoding with the fill-up's temperature and penalty.
    """

    samples: int = 1
    rhos: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    added: tuple[int, ...] = (0, 2, 4, 8, 16, 32)

    notebook = "21_tolerator_split"
    parts = ("what", "forwards", "value")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, "rho", forwards, rho), (task, "added", forwards, refinements), (task, "vanilla", ...)."""
        runs = {}
        for short in self.tasks:
            canvas = canvas_of(short)
            for forwards in (middle(canvas), canvas):
                runs[short, "vanilla", forwards, 1.0] = self._run(short, "vanilla", steps=forwards)
                for rho in sorted({*self.rhos, PUBLISHED}):
                    runs[short, "rho", forwards, rho] = self._run(short, "tolerator", forwards=forwards, rho=rho)
            fill = canvas // 2
            for added in sorted({0, *self.added}):
                options = {"forwards": fill + added, "rho": fill / (fill + added)}
                runs[short, "added", fill + added, added] = (
                    self._run(short, "tolerator", **options)
                    if added
                    else self._run(short, "vanilla", steps=fill, **FILL_UP)
                )
        return runs

    def _rows(self, what: str) -> pd.DataFrame:
        return self.summary[self.summary.what == what]

    def table(self) -> pd.DataFrame:
        """Accuracy in % by rho; vanilla at as many forwards in the last column."""
        rows = self.summary[self.summary.what != "added"]
        rows = rows.assign(rho=["vanilla" if r.what == "vanilla" else f"{r.value:g}" for r in rows.itertuples()])
        table = self.accuracies(rows, ["label", "forwards"], "rho").rename_axis(index=["task", "forwards"])
        return table[[c for c in table.columns if c != "vanilla"] + ["vanilla"]]

    def table_added(self) -> pd.DataFrame:
        """Accuracy in % by the number of refinements after the same fill-up."""
        rows = self._rows("added").assign(refinements=lambda t: t.value.astype(int))
        return self.accuracies(rows, ["label"], "refinements").rename_axis(index="task")

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every rho minus the published one, and every number of refinements minus none; p after Holm."""
        pairs = []
        for (task, what, forwards, value), lines in self.lines.items():
            if what == "rho" and value != PUBLISHED:
                other = self.lines[task, "rho", forwards, PUBLISHED]
                pairs.append(({"task": task, "forwards": forwards, "what": f"rho {value:g} - 0.5"}, lines, other))
            if what == "added" and value:
                other = self.lines[task, "added", canvas_of(task) // 2, 0]
                pairs.append(({"task": task, "forwards": forwards, "what": f"{value} refinements - 0"}, lines, other))
        return comparison_table(pairs)

    def figure_rho(self):
        """Accuracy against rho, a line a budget."""
        rows = self._rows("rho").assign(line=lambda t: [self._budget(r.label, r.forwards) for r in t.itertuples()])
        figure = self.panels(rows, "value", "line", xlabel="rho", ylim=(0, None))
        vanilla = self._rows("vanilla").assign(
            line=lambda t: [self._budget(r.label, r.forwards) for r in t.itertuples()]
        )
        for axis, task in zip(figure.axes, self.tasks, strict=True):
            colours = {line.get_label(): line.get_color() for line in axis.get_lines()}
            for r in vanilla[vanilla.label == task].itertuples():
                axis.axhline(r.accuracy, color=colours[r.line], ls=":", lw=1.2)
        return figure

    def _budget(self, task: str, forwards: int) -> str:
        return "one token a forward" if forwards == canvas_of(task) else "middle budget"

    def figure_added(self):
        """Accuracy against the number of refinements after the same fill-up."""
        rows = self._rows("added").assign(line="fill-up of half the canvas")
        return self.panels(rows, "value", "line", xlabel="refinements", ylim=(0, None))

    def paper(self) -> pd.DataFrame:
        """The cells of the paper's Table 2 that could be recovered: refinements at a fixed fill-up."""
        return printed("tolerator", "Table 2").drop(columns="table").rename(columns={"forwards": "fill-up"})

    def claims(self) -> list[Claim]:
        """More refinement after the same fill-up helps, by the most that was tried."""
        most, found = max(self.added), []
        for row in self.comparisons[self.comparisons.what == f"{most} refinements - 0"].itertuples():
            e, says = compared(row), f"{most} refinements after the same fill-up help on {row.task}"
            found.append(Claim("Table 2", says, "an increasing trend", e, "points", more(e, p=e.p)))
        return found

    def reading(self) -> str:
        """Which rho is best, how far from the published one, and whether more refinement helps."""
        lines = []
        for task in self.tasks:
            parts = []
            for forwards, rows in self._rows("rho").query("label == @task").groupby("forwards"):
                best = rows.loc[rows.accuracy.idxmax()]
                vanilla = self._rows("vanilla").query("label == @task and forwards == @forwards").accuracy.item()
                parts.append(
                    f"{forwards} forwards: {best.value:g} with {best.accuracy:.1f} %, vanilla {vanilla:.1f} %"
                )
            lines.append(f"- **{task}**, the best rho of the grid: {'; '.join(parts)}.")
        tested = self.comparisons[self.comparisons.what.str.startswith("rho")]
        counts = tested.verdict.value_counts()
        lines.append(
            f"- Against rho = 0.5 the other shares are higher in {counts.get('higher', 0)}, lower in "
            f"{counts.get('lower', 0)}, tied in {counts.get('tied', 0)} of {len(tested)} cells (p < 0.05 after Holm)."
        )
        most = max(self.added)
        rows = self.comparisons[self.comparisons.what == f"{most} refinements - 0"]
        lines.append(f"- {most} refinements minus none, after the same fill-up, in points: {said(rows)}.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        written = self.write(
            {"summary": self.summary, "comparisons": self.comparisons},
            {"rho": self.figure_rho(), "refinements": self.figure_added()},
            {},
        )
        plt.close("all")
        return written
