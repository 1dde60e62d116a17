"""Runs of one pair by name: what is decoded, how often it is right, and what is counted of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate
from lib.analysis.totals import ratio_of_totals
from lib.paths import CHECKPOINTS
from lib.reporting.tables import accuracy_difference, difference_table
from lib.running.run import Run, run_of
from lib.studies.base import SHORT, BaseStudy, limit
from lib.studies.mtad.ways import PLAIN, WAYS
from lib.tasks import get_task

LOST = "points lost (below 0: gained)"
NO_ANSWER = ("chat", "summary")  # kinds of task of which no response is right or wrong


@dataclass(frozen=True)
class PairStudy(BaseStudy):
    """A study of one pair; the keys of its runs are (task, name), the name telling method and setting.

    `tokens`: the length limit; 0 is the task's own.
    """

    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    draft: str = "study-draft"
    tokens: int = 0

    printed_in = "mtad"

    def _run(self, short: str, method: str, split: str = "test", **options) -> Run:
        draft = {} if method in PLAIN else {"draft": self.draft}
        samples = 1 if repeats_itself(method, options) else self.samples
        size = {"items": self.items, "samples": samples, "split": split}
        options = limit(self.tokens) | options
        return Run.of(self.model, SHORT.get(short, short), method, **size, **draft, **options)

    def named(self, short: str, name: str, **more) -> Run:
        """A run of WAYS by its name, with other options where `more` gives them."""
        method, options = WAYS[name]
        return self._run(short, method, **(options | more))

    def measurement(self, name: str, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """As of any study, and only where the committed table is of these very responses."""
        path = self.place / "manifest.json"
        if path.exists():
            stored = json.loads(path.read_text())["runs"].values()
            if {run_of(entry["run"]) for entry in stored} != set(self.all_runs.values()):
                return measure().round(4)
        return super().measurement(name, measure)

    def made(self, key: tuple) -> list[int]:
        """Tokens of each response of a run, its end of text among them."""
        limit = dict(self.all_runs[key].options)["max_new_tokens"]
        return [min(line["tokens_kept"] + 1, limit) for line in self.lines[key]]

    @property
    def answered(self) -> tuple[str, ...]:
        """The tasks whose responses are right or wrong; of the others accuracy is nothing, and no claim is on it."""
        return tuple(short for short in self.tasks if get_task(SHORT.get(short, short)).kind not in NO_ANSWER)

    def counted(self, key: tuple) -> dict[str, float | None]:
        """Counts of a run, the end of text a token; of a method that has no such count None.

        target_forwards, draft_forwards, draft_positions: a token. block_efficiency: tokens a pass of the target, the
        one that it adds among them. acceptance: accepted over drafted layers, in %. shown: drafted tokens a pass that
        the target verifies. accepted: drafted tokens a pass that are taken. overshoot, beyond: of a lossy rule a
        pass, see `lib.mtad.loop.excess`.
        """
        lines, made = self.lines[key], self.made(key)

        def total(name: str) -> float:
            return float(sum(line[name] for line in lines))

        drafts, counts = lines[0]["draft_forwards"] is not None, lines[0].get("accepted") is not None
        lossy = lines[0].get("overshoot") is not None
        return {
            "target_forwards": total("target_forwards") / sum(made),
            "draft_forwards": total("draft_forwards") / sum(made) if drafts else None,
            "draft_positions": total("draft_positions") / sum(made) if drafts else None,
            "block_efficiency": (total("accepted") + total("bonus")) / total("blocks") if counts else None,
            "acceptance": 100 * total("accepted") / total("reached") if counts and total("reached") else None,
            "shown": total("drafted") / total("blocks") if counts else None,
            "accepted": total("accepted") / total("blocks") if counts else None,
            "overshoot": total("overshoot") / total("blocks") if lossy else None,
            "beyond": total("beyond") / total("blocks") if lossy else None,
        }

    def same_texts(self, name: str, against: str) -> tuple[int, int]:
        """Responses of one way whose text is the other's, and all of them, over all tasks."""
        pairs = [
            (a["text"], b["text"])
            for task in self.tasks
            for a, b in zip(self.lines[task, name], self.lines[task, against], strict=True)
        ]
        return sum(a == b for a, b in pairs), len(pairs)

    # Differences over several tasks together: pairs of names.

    def judged(self, name: str, against: str, tasks: tuple[str, ...] | None = None) -> Estimate:
        """Accuracy of one way minus that of another in points, over tasks together, paired on items."""
        return accuracy_difference(
            *([line for task in tasks or self.tasks for line in self.lines[task, way]] for way in (name, against))
        )

    def longer(self, name: str, against: str) -> Estimate:
        """Accepted tokens a pass of one way over those of another, over tasks together, bootstrap over items."""

        def totals(way: str) -> np.ndarray:
            found = [
                ((task, line["item"]), line["accepted"], line["blocks"])
                for task in self.tasks
                for line in self.lines[task, way]
            ]
            table = pd.DataFrame(found, columns=["item", "accepted", "blocks"]).groupby("item").mean()
            return table.sort_index().to_numpy()

        return ratio_of_totals(totals(name), totals(against))

    def differences(
        self, pairs: list[tuple[str, str]], measure: str = "judged", tasks: tuple[str, ...] | None = None
    ) -> pd.DataFrame:
        """A row a pair of ways and task, and one for all of `tasks`; p after Holm over the whole table."""
        tasks = tasks or self.tasks
        groups = [(task, (task,)) for task in tasks] + ([("all", tasks)] if len(tasks) > 1 else [])
        found = [
            ({"way": a, "against": b, "task": label}, getattr(self, measure)(a, b, group))
            for a, b in pairs
            for label, group in groups
        ]
        return difference_table(found).drop(columns="p", errors="ignore")  # an empty table has no column

    def together(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Of a table of `differences` the rows over all tasks, which of one task are its own."""
        return rows[rows.task == ("all" if len(self.tasks) > 1 else self.tasks[0])]


def drafts() -> list[Path]:
    """The weights of the drafts that can be trained anew."""
    return sorted(CHECKPOINTS.glob("*-draft/model.safetensors"))


def repeats_itself(method: str, options: dict) -> bool:
    """Whether a second sample would be the first again."""
    if method == "mtjd":
        return not options.get("joint_temperature")
    return method == "beam" or not options.get("temperature")


def reduction(e: Estimate) -> Estimate:
    """A change as how much less it is."""
    return replace(e, value=0.0 - e.value, low=0.0 - e.high, high=0.0 - e.low)  # never -0.0
