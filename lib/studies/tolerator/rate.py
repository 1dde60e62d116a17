"""How much TOLERATOR masks again: refinement rates, their schedule, locking, update rate; does it converge?"""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from lib.analysis.stats import Estimate, mean_interval
from lib.reporting import figures
from lib.reporting.claims import UNTESTABLE, Claim, Ruling, above_floor, more
from lib.reporting.papers import printed
from lib.reporting.tables import accuracy_cells, comparison_table, percent
from lib.running.run import Run
from lib.studies.tolerator.base import RecipeStudy, differences_in_words, over_tasks

PUBLISHED_RATE, SAME_AMOUNT = "0.8 to 0.4, cosine", "0.6 throughout"


@dataclass(frozen=True)
class Study(RecipeStudy):
    """TOLERATOR at `forwards`, by default (0) one token a forward, half of it fill-up. `gammas`: both ends of the
    rate, gamma_min at most gamma_max. `updates`: share of the masked that is replaced. `locks`: equal draws after
    which a position is locked.
    """

    items: int = 60

    samples: int = 1
    gammas: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8)
    locks: tuple[int, ...] = (3, 10)
    updates: tuple[float, ...] = (0.25, 0.5)
    forwards: int = 0

    notebook = "22_tolerator_rate"
    key_parts = ("variant",)

    def variants(self) -> dict[str, dict]:
        """Options by name: the published first, then the grid of rates, then one change each."""
        found = {PUBLISHED_RATE: {}}
        for high in sorted(self.gammas, reverse=True):
            for low in sorted((g for g in self.gammas if g <= high), reverse=True):
                found.setdefault(rate_name(high, low), {"gamma_max": high, "gamma_min": low})
        found.setdefault(SAME_AMOUNT, {"gamma_max": 0.6, "gamma_min": 0.6})
        found["0.8 to 0.4, exponential"] = {"rate": "exponential"}
        found |= {f"update rate {share:g}": {"update_rate": share} for share in self.updates}
        return found | {f"locked after {n}": {"lock_after": n} for n in self.locks}

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, variant)."""
        return {
            (short, name): self._run(short, "tolerator", forwards=self.forwards or self.canvas(short), **options)
            for short in self.tasks
            for name, options in self.variants().items()
        }

    @cached_property
    def behaviour(self) -> pd.DataFrame:
        """A row a task and variant, means over responses.

        visits: how often a position was masked. changed_first, changed_last: share of the canvas whose token the
        first and the last iteration changed. still: share of responses whose last iteration changed nothing, in %.
        forwards: fewer than the budget where everything was locked.
        """
        rows = []
        for (task, name), lines in self.lines.items():
            masked, changed = (np.array([line[key] for line in lines]) for key in ("masked", "changed"))
            canvas = self.canvas(task)
            rows.append(
                {
                    "task": task,
                    "variant": name,
                    "visits": masked.sum(-1).mean() / canvas,
                    "changed_first": 100 * changed[:, 0].mean() / canvas,
                    "changed_last": 100 * changed[:, -1].mean() / canvas,
                    "still": 100 * (changed[:, -1] == 0).mean(),
                    "forwards": np.mean([line["target_forwards"] for line in lines]),
                }
            )
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """Accuracy in % by variant, a column a task; how often a position was masked, and what still changed."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        accuracy = rows.pivot(index="variant", columns="label", values="cell")[list(self.tasks)]
        means = (
            self.behaviour.groupby("variant")[["visits", "changed_first", "changed_last", "still"]].mean().round(1)
        )
        return accuracy.join(means).loc[list(self.variants())]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every variant minus the published one, in points, paired; p after Holm."""
        return comparison_table(
            [
                ({"task": task, "variant": name}, lines, self.lines[task, PUBLISHED_RATE])
                for (task, name), lines in self.lines.items()
                if name != PUBLISHED_RATE
            ]
        )

    def figure_grid(self):
        """Accuracy by gamma_max and gamma_min, a panel a task."""
        gammas = sorted(self.gammas)
        figure, axes = plt.subplots(1, len(self.tasks), figsize=(3.6 * len(self.tasks), 3.2), squeeze=False)
        found = self.summary.set_index(["label", "variant"]).accuracy
        for axis, task in zip(axes[0], self.tasks, strict=True):
            table = pd.DataFrame(index=gammas[::-1], columns=gammas, dtype=float)
            for high in gammas:
                for low in (g for g in gammas if g <= high):
                    table.loc[low, high] = found[task, rate_name(high, low)]
            sns.heatmap(table, ax=axis, vmin=0, vmax=100, annot=True, fmt=".1f", cmap="viridis", cbar=False,
                        annot_kws={"size": 8})  # fmt: skip
            axis.set(title=f"{task}: accuracy, %", xlabel="gamma_max", ylabel="gamma_min")
        return figure

    def figure_changes(self):
        """Share of the canvas that an iteration changes, along the refinement, for rates from high to low."""
        figure, axes = figures.panels(self.tasks)
        shown = [
            PUBLISHED_RATE,
            *(rate_name(g, g) for g in sorted(self.gammas, reverse=True)),
            *(name for name in self.variants() if name.startswith(("update", "locked"))),
        ]
        for axis, task in zip(axes, self.tasks, strict=True):
            for name, look in figures.looks(shown).items():
                changed = np.array([line["changed"] for line in self.lines[task, name]])
                steps = np.arange(1, changed.shape[1] + 1)
                figures.curve(axis, name, steps, 100 * changed.mean(0) / self.canvas(task), **look,
                              markevery=max(1, len(steps) // 8))  # fmt: skip
            axis.set(xlabel="iteration", ylim=(0, None))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0].set_ylabel("tokens changed, % of the canvas")
        figures.name_ends(axes)
        return figure

    def paper(self) -> pd.DataFrame:
        """The cells of the paper's Table 4 that could be recovered: annealed against constant rate."""
        return printed("tolerator", "Table 4").drop(columns="table")

    def claims(self) -> list[Claim]:
        """The annealed rate beats a constant one that masks as much; which constant the paper used is not known.
        And how much refinement goes on changing, by which nothing is judged: no number is printed."""
        accuracy = self.summary.set_index(["label", "variant"]).accuracy
        e = over_tasks([(self.lines[task, PUBLISHED_RATE], self.lines[task, SAME_AMOUNT]) for task in self.tasks])
        highest = [accuracy[task, name] for task in self.tasks for name in (PUBLISHED_RATE, SAME_AMOUNT)]
        says, gain = (
            f"annealing beats a constant rate of the same mean, {SAME_AMOUNT}",
            "helps in most cases (GSM8K: +4.95 LLaDA at 128 forwards, -2.08 Dream at 64)",
        )
        annealed = Claim("Table 4", says, gain, e, "points", above_floor(more(e), *highest))
        e = self.unrest()
        says = "refinement does not come to rest: responses that its last iteration still changes"
        none = Ruling(UNTESTABLE, e.low, e.high)
        rest = Claim("section 5.2, by reviews", says, "no natural convergence, no number", e, "%", none)
        return [annealed, rest]

    def unrest(self) -> Estimate:
        """Responses, in %, that the last iteration at the published rate still changes, all tasks together."""
        moved = [
            np.array([line["changed"][-1] > 0 for line in self.lines[task, PUBLISHED_RATE]], dtype=float)
            for task in self.tasks
        ]
        return percent(mean_interval(np.concatenate([own.reshape(-1, self.samples).mean(1) for own in moved])))

    def reading(self) -> str:
        """Which rate is best, what annealing does, and whether refinement comes to rest."""
        lines = []
        found = self.summary.set_index(["label", "variant"])
        for task in self.tasks:
            best = found.loc[task].accuracy.idxmax()
            lines.append(
                f"- **{task}**: the highest observed is {best} with {found.loc[task, best].accuracy:.1f} %; the "
                f"published rate has {found.loc[task, PUBLISHED_RATE].accuracy:.1f} %."
            )
        constant = rate_name(max(self.gammas), max(self.gammas))
        rows = self.comparisons[self.comparisons.variant == constant]
        lines.append(f"- {constant} minus the published annealing, in points: {differences_in_words(rows)}.")
        low = rate_name(min(self.gammas), min(self.gammas))
        rows = self.comparisons[self.comparisons.variant == low]
        lines.append(f"- {low} minus the published rate, in points: {differences_in_words(rows)}.")
        behaviour = self.behaviour[self.behaviour.variant == PUBLISHED_RATE]
        parts = [
            f"{r.task} {r.changed_last:.1f} % ({r.still:.1f} % of responses at rest)" for r in behaviour.itertuples()
        ]
        said = "; ".join(parts)
        lines.append(f"- At the published rate the last iteration still changes this share of the canvas: {said}.")
        texts = {key: [line["text"] for line in own] for key, own in self.lines.items()}
        same = [
            name
            for name in self.variants()
            if name != PUBLISHED_RATE and all(texts[t, name] == texts[t, PUBLISHED_RATE] for t in self.tasks)
        ]
        if same:
            lines.append(f"- Every text is that of the published setting: {', '.join(same)}.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        return self.write(
            {"summary": self.summary, "comparisons": self.comparisons, "behaviour": self.behaviour},
            {"grid": self.figure_grid(), "changes": self.figure_changes()},
        )


def rate_name(high: float, low: float) -> str:
    """A rate in words; equal ends are a constant rate."""
    return f"{high:g} to {low:g}, cosine" if high != low else f"{high:g} throughout"
