"""How TOLERATOR's forwards are best split: rho at a fixed total, and more refinement after a fixed fill-up."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate, corrected
from lib.reporting import figures
from lib.reporting.claims import CLAIM, OWN, REPEAT, Claim, above_floor, more
from lib.reporting.papers import printed
from lib.reporting.tables import comparison_table, outcomes
from lib.running.run import Run
from lib.studies.tolerator.base import FILL_UP, RATES, RecipeStudy, differences_in_words, mean_difference

PUBLISHED_RHO = 0.5


@dataclass(frozen=True)
class Study(RecipeStudy):
    """At the published refinement rate and at a mild one, see `RATES`.

    `rhos`: shares of the fill-up at one token a forward. `added`: refinements after a fill-up of `fill` forwards, by
    default (0) half the canvas; no refinement is vanilla decoding with the fill-up's temperature and penalty.
    """

    items: int = 60

    samples: int = 1
    rhos: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    added: tuple[int, ...] = (0, 2, 4, 8, 16, 32)
    fill: int = 0

    notebook = "21_tolerator_split"
    key_parts = ("what", "point", "budget", "value")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, what, point, forwards, value): `rho` with its value, `added` with how many refinements.

        `vanilla` and no refinement belong to both points.
        """
        runs = {}
        for short in self.tasks:
            canvas = self.canvas(short)
            fill = self.filled(short)
            runs[short, "vanilla", "", canvas, 1.0] = self._run(short, "vanilla", steps=canvas)
            runs[short, "added", "", fill, 0] = self._run(short, "vanilla", steps=fill, **FILL_UP)
            for point, rates in RATES.items():
                for rho in sorted({*self.rhos, PUBLISHED_RHO}):
                    runs[short, "rho", point, canvas, rho] = self._run(
                        short, "tolerator", forwards=canvas, rho=rho, **rates
                    )
                for added in sorted({*self.added} - {0}):
                    options = {"forwards": fill + added, "rho": fill / (fill + added)} | rates
                    runs[short, "added", point, fill + added, added] = self._run(short, "tolerator", **options)
        return runs

    def filled(self, short: str) -> int:
        """Forwards of the fill-up that refinements are added to."""
        return self.fill or self.canvas(short) // 2

    def _rows(self, what: str) -> pd.DataFrame:
        return self.summary[self.summary.what == what]

    def table(self) -> pd.DataFrame:
        """Accuracy in % by rho, a line a task and rate; vanilla at as many forwards in the last column."""
        rows = self._rows("rho").assign(rho=lambda t: [f"{v:g}" for v in t.value])
        table = self.accuracies(rows, ["label", "point"], "rho")
        vanilla = self._rows("vanilla")
        cell = {r.label: f"{r.accuracy:.1f} [{r.low:.1f}, {r.high:.1f}]" for r in vanilla.itertuples()}
        return table.assign(vanilla=[cell[task] for task, _ in table.index]).rename_axis(index=["task", "rate"])

    def _added(self) -> pd.DataFrame:
        """The rows of `added`, those without refinement once a point."""
        rows = self._rows("added")
        none = [rows[rows.point == ""].assign(point=point) for point in RATES]
        return pd.concat([*none, rows[rows.point != ""]]).assign(refinements=lambda t: t.value.astype(int))

    def table_added(self) -> pd.DataFrame:
        """Accuracy in % by the number of refinements after the same fill-up, a line a task and rate."""
        rows = self._added().sort_values(["refinements"], kind="stable")
        return self.accuracies(rows, ["label", "point"], "refinements").rename_axis(index=["task", "rate"])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every rho minus the published one, and every number of refinements minus none; p after Holm."""
        pairs = []
        for (task, what, point, budget, value), lines in self.lines.items():
            labels = {"task": task, "rate": point, "forwards": budget}
            if what == "rho" and value != PUBLISHED_RHO:
                other = self.lines[task, "rho", point, budget, PUBLISHED_RHO]
                pairs.append((labels | {"what": f"rho {value:g} - 0.5"}, lines, other))
            if what == "added" and value:
                other = self.lines[task, "added", "", self.filled(task), 0]
                pairs.append((labels | {"what": f"{value} refinements - 0"}, lines, other))
        return comparison_table(pairs)

    def slope(self, tasks: tuple[str, ...], point: str) -> Estimate:
        """Points a doubling of the refinements, among those above 0: mean of each item's slope, p by sign flips.

        Tasks weigh the same.
        """
        counts = sorted({*self.added} - {0})
        x = np.log2(counts)
        x = x - x.mean()
        widest = np.abs(x).sum() / (x @ x)  # no item's slope is steeper, and shares are in [0, 1]
        shares = []
        for task in tasks:
            keys = [(task, "added", point, self.filled(task) + n, n) for n in counts]
            slopes = x @ np.array([outcomes(self.lines[key]).mean(1) for key in keys]) / (x @ x)
            shares.append((slopes + widest) / (2 * widest))
        e = mean_difference(shares, [np.full(len(own), 0.5) for own in shares])
        return replace(e, **{end: 200 * widest * getattr(e, end) for end in ("value", "low", "high")})

    def figure_rho(self):
        """Accuracy against rho, a line a rate; dotted: vanilla with all forwards."""
        figure = self.panels(self._rows("rho"), "value", "point", xlabel="rho", ylim=(0, None))
        vanilla = self._rows("vanilla").set_index("label").accuracy
        for axis, task in zip(figure.axes, self.tasks, strict=True):
            axis.axhline(vanilla[task], color=figures.INK, ls=":", lw=1.2)
            axis.set_ylim(0, max(axis.get_ylim()[1], 1.05 * vanilla[task]))
        figures.name_ends(figure.axes)
        return figure

    def figure_added(self):
        """Accuracy against the refinements that follow the same fill-up, a line a rate."""
        figure = self.panels(self._added(), "refinements", "point", ylim=(0, None))
        figures.name_ends(figure.axes)
        return figure

    def paper(self) -> pd.DataFrame:
        """The cells of the paper's Table 2 that could be recovered: refinements at a fixed fill-up."""
        return printed("tolerator", "Table 2").drop(columns="table").rename(columns={"forwards": "fill-up"})

    def claims(self) -> list[Claim]:
        """Among refined answers more refinement is better, at the published rate and the mild one: over all tasks
        together, then by task; p after Holm."""
        found, highest = [], self._rows("added").groupby(["label", "point"]).accuracy.max()
        if len({*self.added} - {0}) < 2:
            return found
        by_task = [(task,) for task in self.tasks] if len(self.tasks) > 1 else []
        for kind, groups in ((CLAIM, [self.tasks]), (REPEAT, by_task)):
            asked = [(point, tasks) for point in RATES for tasks in groups]
            for (point, tasks), e in zip(asked, corrected([self.slope(t, p) for p, t in asked]), strict=True):
                on = "over all tasks" if tasks == self.tasks else tasks[0]
                says = f"accuracy rises with the number of refinements, {point} rate, {on}"
                ruling = above_floor(more(e), *(highest[task, point] for task in tasks))
                where, claimed = OWN, ""
                if point == "published":
                    where, claimed = "Table 2", "an increasing trend, but for GPQA"
                found.append(Claim(where, says, claimed, e, "points a doubling", ruling, kind=kind))
        return found

    def reading(self) -> str:
        """Which rho is best, how far from the published one, and whether more refinement helps."""
        lines = []
        vanilla = self._rows("vanilla").set_index("label").accuracy
        for (task, point), rows in self._rows("rho").groupby(["label", "point"], sort=False):
            best = rows.loc[rows.accuracy.idxmax()]
            lines.append(
                f"- **{task}**, {point} rate: the highest observed is {best.accuracy:.1f} % at rho = {best.value:g}; "
                f"vanilla has {vanilla[task]:.1f} %."
            )
        tested = self.comparisons[self.comparisons.what.str.startswith("rho")]
        counts = tested.verdict.value_counts()
        lines.append(
            f"- Against rho = 0.5 the other shares are higher in {counts.get('higher', 0)}, lower in "
            f"{counts.get('lower', 0)}, tied in {counts.get('tied', 0)} of {len(tested)} cells (p < 0.05 after Holm)."
        )
        most = max(self.added)
        for point in RATES:
            rows = self.comparisons
            rows = rows[(rows.what == f"{most} refinements - 0") & (rows.rate == point)]
            lines.append(f"- {most} refinements minus none, {point} rate, in points: {differences_in_words(rows)}.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons}
        return self.write(tables, {"rho": self.figure_rho(), "added": self.figure_added()})
