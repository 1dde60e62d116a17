"""Runs of a pair that are decoded once more by the clock: ways in turns, a round the same prompts for all of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from lib.analysis.interleaved import interleaved
from lib.analysis.stats import Estimate
from lib.analysis.totals import ratio_of_totals
from lib.decoders import DECODERS
from lib.paths import CHECKPOINTS
from lib.reporting import figures
from lib.reporting.claims import CLAIM, OPEN, Claim, Ruling
from lib.reporting.tables import accuracy_cells, difference_table, summary_row
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import responses
from lib.running.run import Run
from lib.studies.base import Timed
from lib.studies.mtad.pair import PairStudy, drafts

FEWEST = 6  # rounds: a bootstrap over fewer is narrower than its level
WEIGHTS = ("ar-2m/model.safetensors", "*-autodeco/autodeco_heads.safetensors")  # of drafts and heads, beside `drafts`
COUNTS = ("accepted", "target_forwards", "draft_forwards", "draft_positions", "acceptance", "overshoot", "beyond")


@dataclass(frozen=True)
class ClockedStudy(PairStudy):
    """Every run gives accuracy and counts; the ways of `named_by_clock` are decoded again, at batch 1, in rounds.

    A round decodes `prompts` test items of every task by every way, in an order of ways drawn anew; `rounds` of them.
    """

    rounds: int = 12
    prompts: int = 1

    methods_by_clock = ("autoregressive", "speculative")  # those that `measured_by` names

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The code that is timed, and what times it; the weights that can be trained anew."""
        timed = [name_of(DECODERS[name].decode) for name in cls.methods_by_clock]
        files = sorted(path for pattern in WEIGHTS for path in CHECKPOINTS.glob(pattern))
        return [*timed, *map(name_of, (interleaved, in_rounds))], drafts() + files

    @property
    def named_by_clock(self) -> tuple[str, ...]:
        """The ways that are timed, each with a run on every task."""
        return tuple(dict.fromkeys(name for _, name in self.all_runs))

    @cached_property
    def by_clock(self) -> pd.DataFrame:
        """A row a round and way: seconds, and tokens as `work`, ends of text among them."""
        return self.measurement("rounds", self._by_clock)

    def _by_clock(self) -> pd.DataFrame:
        runs = {name: [self.all_runs[task, name] for task in self.tasks] for name in self.named_by_clock}
        ways = {name: in_rounds(own, self.prompts, self.device) for name, own in runs.items()}
        return interleaved(ways, self.rounds, self.device).drop(columns="joules")

    def timed(self) -> list[Timed]:
        """Every way so often, with the round that is not counted."""
        return [self.timed_run(run) for run in self.runs().values()]

    def timed_run(self, run: Run) -> Timed:
        """The rounds of one run."""
        options = dict(run.options)
        often, most = (1 + self.rounds) * self.prompts, options["max_new_tokens"]
        return Timed(run.model, often, 1, most, run.draft, draft_steps=options.get("gamma", 0))

    def faster(self, name: str, against: str) -> Estimate:
        """Tokens a second of one way over another's: totals over rounds, bootstrap over rounds."""
        rows = self.by_clock
        sides = [rows[rows.variant == way].sort_values("round")[["work", "seconds"]] for way in (name, against)]
        return ratio_of_totals(*(side.to_numpy(dtype=float) for side in sides))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a run: accuracy with its interval and what `counted` counts."""
        rows = []
        for (task, name), lines in self.lines.items():
            row = summary_row(self.all_runs[task, name], lines, label=task, name=name)
            rows.append(row | self.counted((task, name)))
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its interval: a line a way, a column a task."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        table = rows.pivot(index="name", columns="label", values="cell")
        return table.reindex(list(dict.fromkeys(rows.name)))[list(self.tasks)].rename_axis(index=None, columns=None)

    def counts(self) -> pd.DataFrame:
        """Means over tasks, a line a way: accepted tokens a pass, forwards a token, acceptance in %, overshoot."""
        rows = self.summary.astype(dict.fromkeys(COUNTS, float))
        return rows.groupby("name", sort=False)[list(COUNTS)].mean().round(3).rename_axis(None)

    def speeds(self, against: str | dict[str, str]) -> pd.DataFrame:
        """A line a way: tokens a second, and their ratio, with 95 % interval, to those of `against` (by name)."""
        totals, found = self.by_clock.groupby("variant")[["work", "seconds"]].sum(), []
        for name in self.named_by_clock:
            other = against if isinstance(against, str) else against[name]
            e = self.faster(name, other)
            row = {"way": name, "tokens a second": totals.work[name] / totals.seconds[name], "over": other}
            found.append(row | {"ratio": e.value, "low": e.low, "high": e.high})
        return pd.DataFrame(found).set_index("way").rename_axis(None).round(3)

    def figure_loss(self, pairs: list[tuple[str, str]], words: str, judged: pd.DataFrame):
        """A row each way relative to the other of its pair: speed, then accuracy in points, 95 % intervals; hollow
        where speed's interval has 1, and where accuracy is not told apart after Holm, by the table `judged` of the
        page where it has the pair."""
        scores = difference_table([({"name": name}, self.judged(name, against)) for name, against in pairs])
        there = self.together(judged).set_index(["way", "against"]).verdict
        scores["verdict"] = [there.get(pair, own) for pair, own in zip(pairs, scores.verdict, strict=True)]
        speeds = {name: self.faster(name, against) for name, against in pairs}
        rows = [{"name": name, "difference": e.value, "low": e.low, "high": e.high} for name, e in speeds.items()]
        parts = {
            "speed, times": pd.DataFrame(rows).set_index("name"),
            "accuracy, points": scores.set_index("name"),
        }
        figure = figures.forest(parts, [name for name, _ in pairs], at=(1.0, 0.0), width=3.4, xlabel="")
        for axis, what in zip(figure.axes, ("over that of", "minus that of"), strict=True):
            axis.set_xlabel(f"{what} {words}", fontsize="small")
        return figure


def speed_claim(where: str, says: str, e: Estimate, ruling: Ruling, printed: str = "", kind: str = CLAIM) -> Claim:
    """A claim on a ratio of speeds, open where too few rounds were measured."""
    if e.n < FEWEST:
        ruling = replace(ruling, verdict=OPEN, size="")
    return Claim(where, says, printed, e, "times", ruling, kind=kind)


def told(e: Estimate, form: str = ".2f") -> str:
    """A value with its interval, as words have it."""
    return f"{e.value:{form}} [{e.low:{form.replace('+', '')}}, {e.high:{form.replace('+', '')}}]"


# What is timed is a function and no method: the class has figures and words as well, which time nothing.
def in_rounds(runs: list[Run], prompts: int, device: str) -> Callable[[], int]:
    """A call that decodes the next round's prompts, so many of each run, and returns its tokens."""
    numbers = iter(range(10**6))

    def decode() -> int:
        number = next(numbers)
        return sum(once(run, number, prompts, device) for run in runs)

    return decode


def once(run: Run, number: int, prompts: int, device: str) -> int:
    """Decode the items of a run whose turn it is in a round, one after another: tokens."""
    items, limit = items_of(run.task, run.split, run.items), dict(run.options)["max_new_tokens"]
    chosen = [items[place % len(items)] for place in range(number * prompts, (number + 1) * prompts)]
    lines = [responses(run, [item], [0], device)[0] for item in chosen]
    return sum(min(line["tokens_kept"] + 1, limit) for line in lines)
