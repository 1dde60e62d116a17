"""What is rated where no response is right or wrong: summaries by ROUGE, open answers by a judge of the user's."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate, mean_interval, paired_mean_difference
from lib.running.identity import items_of
from lib.running.one_batch import responses
from lib.running.run import Run
from lib.studies.mtad.base import DraftingStudy
from lib.tasks import details, judge
from lib.tasks.mt_bench import rate, second_turns

ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
TALK = "mt_bench"
# Task -> its measures, of which the first is what ways are compared by, and their lowest and highest value.
MEASURES = {
    "cnn_dailymail": (("ROUGE-L", "ROUGE-1", "ROUGE-2"), 0.0, 100.0),
    TALK: (("rating", "turn 1", "turn 2"), judge.LOWEST, judge.HIGHEST),
}
COLUMNS = ["task", "name", "item", "sample", "measure", "value"]
AT_ONCE = 16  # second turns


@dataclass(frozen=True)
class RatedStudy(DraftingStudy):
    """A study whose tasks may be rated. MT-Bench is where JUDGE_URL and JUDGE_MODEL are set: then the second turns
    are decoded too, each after the answer to its first, with the draws of its own id."""

    @cached_property
    def rated(self) -> pd.DataFrame:
        """A row a response and measure: task, name, item, sample, measure, value; ROUGE as F-measures in %."""
        found = [self._rouge(), self.judged_by_model]
        return pd.concat([part for part in found if len(part)] or found[:1], ignore_index=True)

    def _rouge(self) -> pd.DataFrame:
        rows = []
        if not set(self.tasks) & MEASURES.keys() - {TALK}:
            return pd.DataFrame(columns=COLUMNS)  # nothing is decoded for it
        for (task, name), lines in self.lines.items():
            if task in MEASURES and task != TALK:
                run = self.all_runs[task, name]
                items = {item.id: item for item in items_of(run.task, run.split, run.items)}
                found = details(run.task, [(items[line["item"]], line["text"]) for line in lines])
                for line, detail in zip(lines, found, strict=True):
                    own = [task, name, line["item"], line["sample"]]
                    # A thought without an end has no measure, and is no summary.
                    rows += [[*own, words, 100 * detail.get(key, 0.0)] for key, words in ROUGE.items()]
        return pd.DataFrame(rows, columns=COLUMNS)

    @cached_property
    def judged_by_model(self) -> pd.DataFrame:
        """The judge's part of `rated`, which is taken from a committed result where that is current."""
        if TALK not in self.tasks:
            return pd.DataFrame(columns=COLUMNS)
        return self.measurement("judged", self._judged_by_model)

    def _judged_by_model(self) -> pd.DataFrame:
        rows = []
        for (task, name), lines in self.lines.items() if judge.wanted() else ():
            if task == TALK:
                for turn, pairs in enumerate(self._turns(self.all_runs[task, name], lines), 1):
                    for (sample, item, _), score in zip(pairs, rate([pair[1:] for pair in pairs]), strict=True):
                        if score.status == "rated":
                            own = [task, name, item.id.removesuffix("/2"), sample]
                            rows += [[*own, measure, float(score.answer)] for measure in ("rating", f"turn {turn}")]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _turns(self, run: Run, lines: list[dict]) -> tuple[list[tuple], list[tuple]]:
        """(sample, item, text) of the first turns, and of the second ones, which are decoded."""
        items = {item.id: item for item in items_of(run.task, run.split, run.items)}
        first = [(line["sample"], items[line["item"]], line["text"]) for line in lines]
        asked = [(sample, turn) for sample, item, text in first for turn in second_turns([(item, text)])]
        second = []
        for start in range(0, len(asked), AT_ONCE):
            samples, turns = zip(*asked[start : start + AT_ONCE], strict=True)
            said = responses(run, list(turns), list(samples), self.device)
            second += [(*pair, out["text"]) for *pair, out in zip(samples, turns, said, strict=True)]
        return first, second

    @property
    def rated_tasks(self) -> tuple[str, ...]:
        """Those of the tasks that have ratings."""
        return tuple(task for task in self.tasks if task in MEASURES and (self.rated.task == task).any())

    def _shares(self, task: str, name: str, measure: str) -> pd.Series:
        """By item the mean of a measure over samples and turns, from its lowest value, 0, to its highest, 1."""
        _, lowest, highest = MEASURES[task]
        rows = self.rated[(self.rated.task == task) & (self.rated.name == name) & (self.rated.measure == measure)]
        return ((rows.groupby("item").value.mean() - lowest) / (highest - lowest)).clip(0, 1)

    def rating(self, task: str, name: str, measure: str) -> Estimate:
        """The mean of a measure over items, with the bootstrap over these."""
        _, lowest, highest = MEASURES[task]
        shares = self._shares(task, name, measure)
        if shares.empty:
            return Estimate(np.nan, np.nan, np.nan, 0)
        e = mean_interval(shares.to_numpy())
        return Estimate(*(lowest + (highest - lowest) * x for x in (e.value, e.low, e.high)), e.n)

    def rated_difference(self, task: str, name: str, against: str) -> Estimate:
        """The first measure of one way minus that of another, paired on the items that both have a rating of."""
        measures, lowest, highest = MEASURES[task]
        a, b = (self._shares(task, way, measures[0]) for way in (name, against))
        both = a.index.intersection(b.index)
        if both.empty:
            return Estimate(np.nan, np.nan, np.nan, 0)
        e = paired_mean_difference(a[both].to_numpy(), b[both].to_numpy())
        return replace(e, **{end: (highest - lowest) * getattr(e, end) for end in ("value", "low", "high")})

    def rated_columns(self, task: str) -> dict[str, list[str]]:
        """Columns of a table with a line a way: each measure with its interval."""
        names = list(dict.fromkeys(name for _, name in self.lines))
        found = {}
        for measure in MEASURES[task][0]:
            cells = [self.rating(task, name, measure) for name in names]
            found[f"{task}, {measure}"] = [f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" if e.n else "" for e in cells]
        return found
