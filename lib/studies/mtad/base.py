"""What the MTAD studies share: quality and perplexity of every run side by side, cost by counting."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.analysis.forward_times import one_forward
from lib.analysis.interleaved import interleaved
from lib.analysis.perplexity import distinct, perplexity, perplexity_change, repeated, surprises
from lib.analysis.stats import Estimate
from lib.analysis.totals import ratio_of_totals
from lib.reporting import figures
from lib.reporting.claims import Ruling, more, with_room
from lib.reporting.tables import accuracy_cells, outcomes, percent, summary_row
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.studies.mtad.pair import PairStudy, drafts
from lib.tasks import get_task


@dataclass(frozen=True)
class DraftingStudy(PairStudy):
    """A study of one pair that shows how likely its texts are and what they cost by single forwards."""

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """What perplexities and times are made by; the drafts that can be trained anew among it."""
        return [name_of(surprises), name_of(one_forward), name_of(interleaved)], drafts()

    @cached_property
    def surprise(self) -> pd.DataFrame:
        """-log p a token under the unwarped target: a row a response, columns task, name, item, sample, surprise."""
        return self.measurement("likelihood", self._surprise)

    def _surprise(self) -> pd.DataFrame:
        model, found = model_of(self.model, self.device), []
        for (short, name), lines in self.lines.items():
            run = self.all_runs[short, name]
            prompts = {item.id: item.prompt for item in items_of(run.task, run.split, run.items)}
            limit = dict(run.options)["max_new_tokens"]
            pairs = [(prompts[line["item"]], line["text"], line["tokens_kept"] < limit) for line in lines]
            values = surprises(model, pairs, get_task(run.task).instruction)
            found.append(
                pd.DataFrame(lines, columns=["item", "sample"]).assign(task=short, name=name, surprise=values)
            )
        return pd.concat(found, ignore_index=True)

    @cached_property
    def _surprise_tables(self) -> dict[tuple, np.ndarray]:
        """[items, samples] by key."""
        return {
            key: part.pivot(index="item", columns="sample", values="surprise").to_numpy()
            for key, part in self.surprise.groupby(["task", "name"], sort=False)
        }

    @cached_property
    def forward_times(self) -> pd.DataFrame:
        """Seconds of single forwards in turns: a row a round and kind, see lib/analysis/forward_times.py."""
        return self.measurement("forwards", lambda: self._forward_times(20))

    def _forward_times(self, rounds: int) -> pd.DataFrame:
        models = {"target": model_of(self.model, self.device), "draft": model_of(self.draft, self.device)}
        kinds = {
            f"{name}, {n}": one_forward(m.network, n) for name, m in models.items() for n in self.timed_widths[name]
        }
        return interleaved(kinds, rounds, self.device)

    @property
    def timed_widths(self) -> dict[str, tuple[int, ...]]:
        """Tokens of the single forwards that are timed."""
        return {"target": (1, 5, 17, 33), "draft": (1, 4, 16)}

    @cached_property
    def prices(self) -> dict[str, tuple[float, float]]:
        """Of target and draft the seconds of a forward and of each position in it: a line through the medians of
        the single forwards, by least squares."""
        rows = self.forward_times
        medians = (rows.seconds / rows.work).groupby(rows.variant).median()
        found = {}
        for name, widths in self.timed_widths.items():
            position, forward = np.polyfit(widths, [medians[f"{name}, {n}"] for n in widths], 1)
            found[name] = max(forward, 0.0), max(position, 0.0)
        return found

    def units(self, line: dict) -> float:
        """What a response costs at batch 1, prompt included, in forwards of the target over one token."""
        (forward, position), (draft, its_position) = self.prices["target"], self.prices["draft"]
        seconds = forward * line["target_forwards"] + position * line["positions"]
        if line["draft_forwards"] is not None:
            seconds += draft * line["draft_forwards"] + its_position * line["draft_positions"]
        return seconds / (forward + position)

    @property
    def cost_ratio(self) -> float:
        """c: the time of a draft's forward over one token by that of the target's."""
        return sum(self.prices["draft"]) / sum(self.prices["target"])

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a run: accuracy, perplexity, repetition, and what it cost.

        units: see there, a token, the end of text counted. cut: responses that the length limit ended, in %. All
        others: see `counted`.
        """
        rows = []
        for (short, name), lines in self.lines.items():
            ppl = perplexity(self._surprise_tables[short, name])
            rows.append(
                summary_row(self.all_runs[short, name], lines, label=short, name=name)
                | {"perplexity": ppl.value, "ppl_low": ppl.low, "ppl_high": ppl.high}
                | {"repeated": 100 * np.mean([repeated(line["text"]) for line in lines])}
                | {"distinct": distinct([line["text"] for line in lines if not line["sample"]])}  # of as many texts
                | self._counts((short, name))
                | ({} if short in self.answered else dict.fromkeys(("accuracy", "low", "high"), np.nan))
            )
        return pd.DataFrame(rows)

    def _counts(self, key: tuple) -> dict:
        lines, made = self.lines[key], self.made(key)
        limit = dict(self.all_runs[key].options)["max_new_tokens"]
        return self.counted(key) | {
            "units": sum(map(self.units, lines)) / sum(made),
            "cut": 100 * np.mean([line["tokens_kept"] == limit for line in lines]),
        }

    def table(self, value: str = "accuracy") -> pd.DataFrame:
        """A line a way to decode, a column a task: `value` of the summary, accuracy and perplexity with interval."""
        rows = self.summary
        if value == "accuracy":
            rows = rows.assign(cell=accuracy_cells(rows))
        elif value == "perplexity":
            shown = zip(rows.perplexity, rows.ppl_low, rows.ppl_high, strict=True)
            rows = rows.assign(cell=[f"{a:.2f} [{b:.2f}, {c:.2f}]" for a, b, c in shown])
        else:
            rows = rows.assign(cell=rows[value].astype(float).round(3))
        table = rows.pivot(index="name", columns="label", values="cell")
        if value == "accuracy":
            table[[task for task in self.tasks if task not in self.answered]] = "not judged"
        return table.reindex(list(dict.fromkeys(rows.name)))[list(self.tasks)].rename_axis(index=None, columns=None)

    def costs(self) -> pd.DataFrame:
        """Means over tasks, a line a way to decode; see `summary`."""
        columns = ["target_forwards", "draft_forwards", "units", "block_efficiency", "acceptance", "shown"]
        columns += ["overshoot", "beyond", "tokens", "cut", "repeated", "distinct"]
        rows = self.summary.astype(dict.fromkeys(columns, float))
        found = rows.groupby("name", sort=False)[columns].mean().round(3)
        return found.rename_axis(None)

    # Differences over several tasks together: pairs of names.

    def likelier(self, name: str, against: str, tasks: tuple[str, ...] | None = None) -> Estimate:
        """Perplexity of one way over that of another minus 1, in %, over tasks together, paired on items."""
        sides = [[self._surprise_tables[task, way] for task in tasks or self.tasks] for way in (name, against)]
        widths = {table.shape[1] for side in sides for table in side}
        if len(widths) > 1:
            sides = [[np.nanmean(table, 1, keepdims=True) for table in side] for side in sides]
        return perplexity_change(*(np.concatenate(side) for side in sides))

    def relative(self, name: str, against: str, tasks: tuple[str, ...] | None = None) -> Estimate:
        """Accuracy of one way over that of another minus 1, in %, over tasks together: both sides are drawn anew
        with the same items. p is that of the difference."""
        a, b = (self._shares_right(way, tasks) for way in (name, against))
        e = ratio_of_totals(*(np.stack([side, np.ones(len(side))], 1) for side in (a, b)))
        p = None if np.isnan(e.value) else self.judged(name, against, tasks).p
        return percent(Estimate(e.value - 1, e.low - 1, e.high - 1, e.n, p))

    def _shares_right(self, way: str, tasks: tuple[str, ...] | None) -> np.ndarray:
        """Of each item of some tasks the share of its samples that is right."""
        return np.concatenate([outcomes(self.lines[task, way]).mean(1) for task in tasks or self.tasks])

    def room_above(self, against: str, tasks: tuple[str, ...] | None = None) -> float:
        """The largest `relative` that there is over it, in %: that of a way which is always right."""
        share = self._shares_right(against, tasks).mean()
        return 100 * (1 / share - 1) if share else np.inf

    def scores_higher(
        self, e: Estimate, claimed: float, against: str, tasks: tuple[str, ...] | None = None
    ) -> Ruling:
        """On a `relative` of more than 0 %, about `claimed`, where there is room for so much; a score falls by all of
        it at most."""
        ruling = with_room(more(e, claimed), self.room_above(against, tasks))
        return replace(ruling, low=max(ruling.low, -100.0))

    def room_below(self, against: str) -> float:
        """By how many % a perplexity can be lower than that of its texts, all tasks: down to 1, a text without any
        surprise."""
        each = np.concatenate([np.nanmean(self._surprise_tables[task, against], 1) for task in self.tasks])
        return 100 * (1 - float(np.exp(-np.nanmean(each))))

    def cheaper(self, name: str, against: str, tasks: tuple[str, ...] | None = None) -> Estimate:
        """Tokens a unit of cost of one way over those of another, over tasks together, bootstrap over items."""

        def totals(way: str) -> np.ndarray:
            found = []
            for task in tasks or self.tasks:
                for line, made in zip(self.lines[task, way], self.made((task, way)), strict=True):
                    found.append(((task, line["item"]), self.units(line), made))
            table = pd.DataFrame(found, columns=["item", "units", "tokens"]).groupby("item").mean()
            return table.sort_index()[["tokens", "units"]].to_numpy()

        return ratio_of_totals(totals(name), totals(against))

    def by_cost(self, rows: pd.DataFrame):
        """A row each way, the dearest at the bottom: tokens a unit of cost, then accuracy with interval by task.

        The line is token-by-token sampling. `rows`: the summary's, with `speed`.
        """
        speed = rows.groupby("name").speed.mean().sort_values()
        names = list(speed.index)
        size = (0.075 * max(map(len, names)) + 2.3 * (1 + len(self.tasks)), 0.3 * len(names) + 1.2)
        figure, axes = plt.subplots(1, 1 + len(self.tasks), figsize=size, sharey=True)
        height = range(len(names))
        looks = {name: figures.looks([name])[name] for name in names}
        for at, name in zip(height, names, strict=True):
            axes[0].plot(speed[name], at, ms=6, **looks[name])
        axes[0].set(title="all tasks", xlabel="tokens a unit of cost", xlim=(0, None))
        axes[0].set_yticks(height, names, fontsize="small")
        for axis, task in zip(axes[1:], self.tasks, strict=True):
            here = rows[rows.label == task].set_index("name")
            if "sampling" in here.index:
                axis.axvline(here.accuracy["sampling"], **figures.LINE | {"ls": ":"})
            for at, name in zip(height, names, strict=True):
                row = here.loc[[name]]
                error = [row.accuracy - row.low, row.high - row.accuracy]
                axis.errorbar(row.accuracy, [at], xerr=error, ms=6, elinewidth=1, ls="", **looks[name])
            axis.set(title=task, xlabel="accuracy, %\ndotted: sampling")
        sns.despine(figure)
        return figure
