"""Decoding by command: do words behind a prompt move temperature and top-p, and what does it cost?"""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.autodeco.training.control import HELD_OUT_HIGH, HELD_OUT_LOW, NO_RANDOMNESS
from lib.evaluation import Run
from lib.papers import printed
from lib.report import difference, headline, scores
from lib.stats import mean_interval, wilson
from lib.studies.base import SHORT, BaseStudy

# Commands that no head was trained on, by the direction that they ask for.
COMMANDS = {
    "none": ("",),
    "low diversity": HELD_OUT_LOW,
    "high diversity": HELD_OUT_HIGH,
    "no randomness": (NO_RANDOMNESS,),
}
DIRECTIONS = {"low diversity": -1, "high diversity": 1, "no randomness": -1}
SETTINGS = {"T": "temperature", "P": "top_p"}


@dataclass(frozen=True)
class Study(BaseStudy):
    """Heads before and after they learned from commands, on test questions with commands that are new to both."""

    items: int = 100
    samples: int = 1
    tasks: tuple[str, ...] = ("math", "qa", "code")
    heads: str = "study-ar-autodeco"
    taught: str = "study-ar-control"

    notebook = "14_autodeco_control"
    printed = "autodeco"

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, model, direction, command)."""
        size = {"items": self.items, "samples": self.samples}
        return {
            (short, model, direction, command): Run.of(
                model, SHORT.get(short, short), "autodeco", command=command, **size
            )
            for short in self.tasks
            for model in (self.heads, self.taught)
            for direction, commands in COMMANDS.items()
            for command in commands
        }

    def _means(self, task: str, model: str, direction: str, setting: str) -> np.ndarray:
        """[commands, items] mean setting of an item's responses."""
        return np.array(
            [
                np.array([line[setting] for line in self.lines[task, model, direction, command]])
                .reshape(-1, self.samples)
                .mean(1)
                for command in COMMANDS[direction]
            ]
        )

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a task, model and direction: mean settings, their shift, consistency with its interval, accuracy.

        Consistency: share of questions whose mean setting moves the way that the command asks for.
        """
        rows = []
        for task in self.tasks:
            for model in (self.heads, self.taught):
                plain = {name: self._means(task, model, "none", key)[0] for name, key in SETTINGS.items()}
                for direction, commands in COMMANDS.items():
                    row = {"task": task, "heads": model, "command": direction, "items": self.items}
                    for name, key in SETTINGS.items():
                        found = self._means(task, model, direction, key)
                        row[name] = found.mean()
                        if direction in DIRECTIONS:
                            row[f"shift_{name}"] = (found - plain[name]).mean()
                            moved = ((found - plain[name]) * DIRECTIONS[direction] > 0).mean(0)
                            row |= _share(f"consistency_{name}", moved)
                    keys = [(task, model, direction, command) for command in commands]
                    row["accuracy"] = 100 * np.mean([scores(self.lines[key]).mean() for key in keys])
                    if direction in DIRECTIONS:
                        changes = [difference(self.lines[key], self.lines[task, model, "none", ""]) for key in keys]
                        row["change"] = np.mean([e.value for e in changes])
                    rows.append(row)
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """Mean T and P, their shift, and consistency in % with its 95 % interval; accuracy beside."""
        rows = self.summary
        shown = rows[["task", "heads", "command"]].copy()
        for name in SETTINGS:
            shown[f"mean {name}"] = rows[name].round(3)
            shown[f"shift {name}"] = rows[f"shift_{name}"].round(3)
            shown[f"consistency {name}"] = [
                "" if np.isnan(v) else f"{v:.0f} [{low:.0f}, {high:.0f}]"
                for v, low, high in zip(
                    rows[f"consistency_{name}"],
                    rows[f"consistency_{name}_low"],
                    rows[f"consistency_{name}_high"],
                    strict=True,
                )
            ]
        shown["accuracy, %"] = rows.accuracy.round(1)
        return shown.set_index(["task", "heads", "command"]).fillna("")

    def figure_shift(self):
        """Mean temperature of each question with a command against without, a panel a task and direction."""
        directions = list(DIRECTIONS)
        figure, axes = plt.subplots(
            len(self.tasks),
            len(directions),
            figsize=(3 * len(directions), 2.8 * len(self.tasks)),
            squeeze=False,
            sharex="row",
            sharey="row",
        )
        for line, task in zip(axes, self.tasks, strict=True):
            for axis, direction in zip(line, directions, strict=True):
                for model, color, label in ((self.heads, "0.6", "not taught"), (self.taught, "C0", "taught")):
                    plain = self._means(task, model, "none", "temperature")[0]
                    found = self._means(task, model, direction, "temperature").mean(0)
                    axis.plot(plain, found, "o", ms=3, color=color, label=label)
                low, high = axis.get_xlim()
                axis.plot([low, high], [low, high], color="0.4", lw=1)
                axis.set(title=f"{task}: {direction}")
                sns.despine(ax=axis)
            line[0].set_ylabel("mean T, with command")
        for axis in axes[-1]:
            axis.set_xlabel("mean T, without")
        axes[0][-1].legend(frameon=False, fontsize="small")
        return figure

    def traces(self, command: str = HELD_OUT_HIGH[0]) -> pd.DataFrame:
        """Mean settings of the first ten questions without and with one command, by the taught heads."""
        task = self.tasks[0]
        direction = next(name for name, commands in COMMANDS.items() if command in commands)
        plain, found = self.lines[task, self.taught, "none", ""], self.lines[task, self.taught, direction, command]
        rows = [
            {
                "item": a["item"],
                "T": a["temperature"],
                "T with": b["temperature"],
                "P": a["top_p"],
                "P with": b["top_p"],
            }
            for a, b in zip(plain, found, strict=True)
        ]
        return pd.DataFrame(rows[:10])

    def paper(self) -> pd.DataFrame:
        """The paper's Table 4 as printed."""
        wide = printed("autodeco", "Table 4").pivot(index="method", columns="task", values="value")
        order = ["mean T", "consistency T, %", "mean P", "consistency P, %"]
        return wide.loc[["none", "low diversity", "high diversity"], order].rename_axis(index="command", columns=None)

    def reading(self) -> str:
        """What commands do before and after teaching, and whether «no randomness» means none."""
        lines = []
        for model, words in ((self.heads, "Heads that were never taught"), (self.taught, "Taught heads")):
            rows = self.summary[self.summary.heads == model].set_index(["task", "command"])
            parts = []
            for task in self.tasks:
                low, high = rows.loc[(task, "low diversity")], rows.loc[(task, "high diversity")]
                parts.append(
                    f"{task} T {low.shift_T:+.2f} at {low.consistency_T:.0f} % and {high.shift_T:+.2f} at "
                    f"{high.consistency_T:.0f} %"
                )
            lines.append(f"- **{words}**, shift and consistency for low and for high diversity: {'; '.join(parts)}.")
        rows = self.summary[(self.summary.heads == self.taught) & (self.summary.command == "no randomness")]
        parts = [f"{r.task} {r.T:.2f} (shift {r.shift_T:+.2f})" for r in rows.itertuples()]
        lines.append(f"- Told to have no randomness, taught heads choose a mean temperature of {'; '.join(parts)}.")
        rows = self.summary[(self.summary.heads == self.taught) & self.summary.change.notna()]
        costs = [f"{r.task} {r.command} {r.change:+.1f}" for r in rows.itertuples()]
        lines.append(f"- Accuracy behind a command minus without, in points: {'; '.join(costs)}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """Consistency of the temperature over all questions of all tasks, by the taught heads."""
        found = {}
        for name, direction in (
            ("control_low_consistency", "low diversity"),
            ("control_high_consistency", "high diversity"),
        ):
            moved = []
            for task in self.tasks:
                plain = self._means(task, self.taught, "none", "temperature")[0]
                means = self._means(task, self.taught, direction, "temperature")
                moved.append(((means - plain) * DIRECTIONS[direction] > 0).mean(0))
            e = mean_interval(np.concatenate(moved))
            shares = [100 * x for x in (e.value, e.low, e.high)]
            found[name] = headline(*shares, e.n, "%", self.profile, self.notebook)
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        written = self.write({"summary": self.summary}, {"shift": self.figure_shift()}, self.headlines())
        plt.close("all")
        return written


def _share(name: str, moved: np.ndarray) -> dict[str, float]:
    """A share in % with its interval, of `moved` [items] in [0, 1]: a question with two commands may half move."""
    whole = np.isin(moved, (0, 1)).all()
    e = mean_interval(moved)
    low, high = wilson(moved.sum(), len(moved)) if whole else (e.low, e.high)
    return {name: 100 * e.value, f"{name}_low": 100 * low, f"{name}_high": 100 * high}
