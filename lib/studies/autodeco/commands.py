"""What commands do, by numbers: mean settings behind each sentence, how consistently they follow, at what cost."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.crossed import components, crossed_mean
from lib.analysis.stats import Estimate, mean_interval, paired_mean_difference, wilson
from lib.errors import UserError
from lib.reporting.tables import comparison_table, outcomes, percent
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy, limit
from lib.training.autodeco.commands import (
    HELD_OUT_HIGH,
    HELD_OUT_LOW,
    NEUTRAL_FOR_HIGH,
    NEUTRAL_FOR_LOW,
    NEUTRAL_FOR_QUOTED,
    NO_RANDOMNESS,
    QUOTED,
)

NO_COMMAND = "no command"
DIRECTIONS = {"low diversity": -1, "high diversity": 1, "no randomness": -1}
SETTINGS = {"T": "temperature", "P": "top_p"}
# What heads were taught, by the end of their name.
TEACHINGS = {
    "autodeco": "untaught",
    "control": "taught low/high",
    "no-randomness": "taught low/high/none",
    "adapter": "taught low/high/none, with an adapter",
}

AUTHORS = "-authors"  # how the heads end that the paper's authors published


def commands(wordings: int) -> dict[str, tuple[str, ...]]:
    """Sentences that no head was trained on, by the direction that they ask for: so many of low and of high.

    Neutral ones ask for nothing. Beside the two that the paper quotes there are two of them; beside more, one for
    each of low and then one for each of high, of as many words.
    """
    neutral = NEUTRAL_FOR_LOW[:wordings] + NEUTRAL_FOR_HIGH[:wordings]
    return {
        NO_COMMAND: ("",),
        "neutral": NEUTRAL_FOR_QUOTED if wordings == QUOTED else neutral,
        "low diversity": HELD_OUT_LOW[:wordings],
        "high diversity": HELD_OUT_HIGH[:wordings],
        "no randomness": (NO_RANDOMNESS,),
    }


def untaught(heads: str) -> bool:
    """Whether these heads never learned from a command."""
    return heads.endswith(("-autodeco", AUTHORS))


def teaching(heads: str) -> str:
    """What these heads were taught."""
    if heads.endswith(AUTHORS):
        return "untaught, the authors'"
    return next((text for name, text in TEACHINGS.items() if heads.endswith(f"-{name}")), heads)


@dataclass(frozen=True)
class CommandStudy(BaseStudy):
    """Heads before and after they learned from commands, on test questions with commands that are new to all.

    `heads`: the first are untaught, the second taught as in the paper; the last are one step beyond it. `tokens`: the
    length limit; 0 is the task's own. `wordings`: of each direction; with more than the two that the paper quotes,
    each has a neutral sentence of its length (see `beyond_neutral`).
    """

    items: int = 100
    samples: int = 1
    tasks: tuple[str, ...] = ("math", "qa", "code")
    heads: tuple[str, ...] = tuple(f"study-ar-{name}" for name in TEACHINGS)
    tokens: int = 0
    wordings: int = len(HELD_OUT_LOW)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not QUOTED <= self.wordings <= len(HELD_OUT_LOW):
            raise UserError(f"wordings must be {QUOTED} to {len(HELD_OUT_LOW)}, not {self.wordings}")

    @cached_property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """The sentences that are tried."""
        return commands(self.wordings)

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, model, direction, command)."""
        size = {"items": self.items, "samples": self.samples, **limit(self.tokens)}
        return {
            (short, model, direction, command): Run.of(
                model, SHORT.get(short, short), "autodeco", command=command, **size
            )
            for short in self.tasks
            for model in self.heads
            for direction, sentences in self.commands.items()
            for command in sentences
        }

    def _means(self, task: str, model: str, direction: str, setting: str) -> np.ndarray:
        """[commands, items] mean setting of an item's responses."""
        return np.array(
            [
                np.array([line[setting] for line in self.lines[task, model, direction, command]])
                .reshape(-1, self.samples)
                .mean(1)
                for command in self.commands[direction]
            ]
        )

    def _follows(self, task: str, model: str, direction: str, setting: str) -> np.ndarray:
        """[commands, items]: 1 where a command moves an item's mean setting the way that it asks for, 0.5 where it
        leaves it, so that chance is a half even of a setting that stands at its end."""
        plain = self._means(task, model, NO_COMMAND, setting)
        return (np.sign(self._means(task, model, direction, setting) - plain) * DIRECTIONS[direction] + 1) / 2

    def consistency(self, model: str, direction: str, setting: str) -> Estimate:
        """How many % of the questions of all tasks follow, each with the share of its commands that it follows."""
        followed = [self._follows(task, model, direction, setting).mean(0) for task in self.tasks]
        return percent(mean_interval(np.concatenate(followed)))

    def _beyond_neutral(self, model: str, direction: str, setting: str) -> np.ndarray:
        """[wordings, questions of all tasks]: how much farther a command moves the mean setting the way that it asks
        for than its neutral sentence does."""
        twins = slice(self.wordings) if direction == "low diversity" else slice(self.wordings, None)
        moved = [
            self._means(task, model, direction, setting) - self._means(task, model, "neutral", setting)[twins]
            for task in self.tasks
        ]
        return np.concatenate(moved, axis=1) * DIRECTIONS[direction]

    @cached_property
    def beyond_neutral(self) -> pd.DataFrame:
        """Commands against neutral sentences of as many words, by heads, direction and setting: how much farther they
        move the mean setting, for wordings and questions like these; in how many % of the cells, a wording and a
        question each, it moves farther, and the standard deviation between wordings. Nothing of the two quoted
        commands, which have no neutral sentence each."""
        rows = []
        for model in self.heads if self.wordings > QUOTED else ():
            for direction in ("low diversity", "high diversity"):
                for name, setting in SETTINGS.items():
                    values = self._beyond_neutral(model, direction, setting)
                    e = crossed_mean(values)
                    row = {"heads": teaching(model), "command": direction, "setting": name, "shift": e.value}
                    row |= {"low": e.low, "high": e.high, "p": e.p, "wordings": len(values), "items": e.n}
                    share = self.follows(model, direction, setting)
                    row |= {"follows": share.value, "follows_low": share.low, "follows_high": share.high}
                    rows.append(row | {"sd_wordings": components(values)["rows"] ** 0.5})
        columns = ["heads", "command", "setting", "shift", "low", "high", "p", "wordings", "items", "follows",
                   "follows_low", "follows_high", "sd_wordings"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def follows(self, model: str, direction: str, setting: str) -> Estimate:
        """In how many % of the cells a command moves the mean setting farther the way that it asks for than its
        neutral sentence does, ties counting half; for wordings and questions like these."""
        values = self._beyond_neutral(model, direction, setting)
        e = crossed_mean(100 * ((values > 0) + (values == 0) / 2))
        return replace(e, low=max(e.low, 0.0), high=min(e.high, 100.0), p=None)  # which would be of 0

    def mean_temperature(self, model: str, direction: str, tasks: tuple[str, ...]) -> Estimate:
        """Behind a direction's commands, over the questions of some tasks."""
        means = [self._means(task, model, direction, "temperature").mean(0) for task in tasks]
        e = mean_interval(np.concatenate(means) / 2)  # which takes values in [0, 1]
        return Estimate(2 * e.value, 2 * e.low, 2 * e.high, e.n)

    def drop(self, model: str, direction: str, tasks: tuple[str, ...]) -> Estimate:
        """How much lower the mean temperature is behind a direction's commands than without one, paired on the
        questions of some tasks."""
        sides = [
            np.concatenate([self._means(task, model, way, "temperature").mean(0) for task in tasks]) / 2
            for way in (NO_COMMAND, direction)
        ]
        e = paired_mean_difference(*sides)  # which takes values in [0, 1]
        return Estimate(2 * e.value, 2 * e.low, 2 * e.high, e.n, e.p)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a task, model and direction: mean settings, their shift, consistency with its interval, accuracy.

        Consistency: share of questions whose mean setting moves the way that the command asks for; one that stays
        counts half.
        """
        rows = []
        for task in self.tasks:
            for model in self.heads:
                plain = {name: self._means(task, model, NO_COMMAND, key)[0] for name, key in SETTINGS.items()}
                for direction in self.commands:
                    row = {"task": task, "heads": teaching(model), "command": direction, "items": self.items}
                    for name, key in SETTINGS.items():
                        found = self._means(task, model, direction, key)
                        row[name] = found.mean()
                        if direction != NO_COMMAND:
                            row[f"shift_{name}"] = (found - plain[name]).mean()
                        if direction in DIRECTIONS:
                            row |= _share(f"consistency_{name}", self._follows(task, model, direction, key).mean(0))
                    keys = [(task, model, direction, command) for command in self.commands[direction]]
                    row["accuracy"] = 100 * np.mean([outcomes(self.lines[key]).mean() for key in keys])
                    rows.append(row)
        return pd.DataFrame(rows)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Accuracy without a command, minus that of untaught heads, in points; p after Holm."""
        return comparison_table(
            [
                (
                    {"task": task, "heads": teaching(model)},
                    self.lines[task, model, NO_COMMAND, ""],
                    self.lines[task, self.heads[0], NO_COMMAND, ""],
                )
                for task in self.tasks
                for model in self.heads[1:]
            ]
        )

    @cached_property
    def behind(self) -> pd.DataFrame:
        """Accuracy behind each sentence, minus without one, in points by task and heads; p after Holm."""
        return comparison_table(
            [
                (
                    {"task": task, "heads": teaching(model), "command": direction, "sentence": sentence},
                    self.lines[task, model, direction, sentence],
                    self.lines[task, model, NO_COMMAND, ""],
                )
                for task in self.tasks
                for model in self.heads
                for direction, sentences in self.commands.items()
                if direction != NO_COMMAND
                for sentence in sentences
            ]
        )


def _share(name: str, moved: np.ndarray) -> dict[str, float]:
    """A share in % with its interval, of `moved` [items] in [0, 1]: by one of two commands, or a mean that stays, a
    question moves by half."""
    whole = np.isin(moved, (0, 1)).all()
    e = mean_interval(moved)
    low, high = wilson(moved.sum(), len(moved)) if whole else (e.low, e.high)
    return {name: 100 * e.value, f"{name}_low": 100 * low, f"{name}_high": 100 * high}
