"""Decoding by command: do words behind a prompt move temperature and top-p, and what does it cost?"""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from lib.autodeco.training.commands import HELD_OUT_HIGH, HELD_OUT_LOW, HELD_OUT_NEUTRAL, NO_RANDOMNESS
from lib.claims import FAILS, HOLDS, OWN, Claim, at_most, more
from lib.evaluation import Run, commanded, model_of
from lib.identity import items_of
from lib.models.registry import Model
from lib.papers import printed
from lib.report import comparison_table, scores
from lib.stats import Estimate, mean_interval, wilson
from lib.studies.base import SHORT, BaseStudy
from lib.tasks import get_task

# Sentences that no head was trained on, by the direction that they ask for; neutral ones ask for nothing.
NO_COMMAND = "no command"
COMMANDS = {
    NO_COMMAND: ("",),
    "neutral": HELD_OUT_NEUTRAL,
    "low diversity": HELD_OUT_LOW,
    "high diversity": HELD_OUT_HIGH,
    "no randomness": (NO_RANDOMNESS,),
}
NEAR_ZERO = 0.15  # a mean temperature at most this is called near zero: 0.1 rounded up, half of it to spare
DIRECTIONS = {"low diversity": -1, "high diversity": 1, "no randomness": -1}
SETTINGS = {"T": "temperature", "P": "top_p"}
# What heads were taught, by the end of their name.
TAUGHT = {
    "autodeco": "untaught",
    "control": "taught low/high",
    "no-randomness": "taught low/high/none",
    "adapter": "taught low/high/none, with an adapter",
}


def words(heads: str) -> str:
    """What these heads were taught."""
    return next((text for name, text in TAUGHT.items() if heads.endswith(f"-{name}")), heads)


@dataclass(frozen=True)
class Study(BaseStudy):
    """Heads before and after they learned from commands, on test questions with commands that are new to all.

    `heads`: the first are untaught, the second taught as in the paper; the last are one step beyond it.
    """

    items: int = 100
    samples: int = 1
    tasks: tuple[str, ...] = ("math", "qa", "code")
    heads: tuple[str, ...] = tuple(f"study-ar-{name}" for name in TAUGHT)

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
            for model in self.heads
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

    def _moved(self, task: str, model: str, direction: str, setting: str) -> np.ndarray:
        """[items] share of a direction's commands that move an item's mean setting the way that they ask for."""
        plain = self._means(task, model, NO_COMMAND, setting)
        return ((self._means(task, model, direction, setting) - plain) * DIRECTIONS[direction] > 0).mean(0)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a task, model and direction: mean settings, their shift, consistency with its interval, accuracy.

        Consistency: share of questions whose mean setting moves the way that the command asks for.
        """
        rows = []
        for task in self.tasks:
            for model in self.heads:
                plain = {name: self._means(task, model, NO_COMMAND, key)[0] for name, key in SETTINGS.items()}
                for direction, commands in COMMANDS.items():
                    row = {"task": task, "heads": words(model), "command": direction, "items": self.items}
                    for name, key in SETTINGS.items():
                        found = self._means(task, model, direction, key)
                        row[name] = found.mean()
                        if direction != NO_COMMAND:
                            row[f"shift_{name}"] = (found - plain[name]).mean()
                        if direction in DIRECTIONS:
                            row |= _share(f"consistency_{name}", self._moved(task, model, direction, key))
                    keys = [(task, model, direction, command) for command in commands]
                    row["accuracy"] = 100 * np.mean([scores(self.lines[key]).mean() for key in keys])
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

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Accuracy without a command, minus that of untaught heads, in points; p after Holm."""
        return comparison_table(
            [
                (
                    {"task": task, "heads": words(model)},
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
                    {"task": task, "heads": words(model), "command": direction, "sentence": sentence},
                    self.lines[task, model, direction, sentence],
                    self.lines[task, model, NO_COMMAND, ""],
                )
                for task in self.tasks
                for model in self.heads
                for direction, sentences in COMMANDS.items()
                if direction != NO_COMMAND
                for sentence in sentences
            ]
        )

    def by_sentence(self) -> pd.DataFrame:
        """Consistency in % of each sentence over the questions of all tasks, by the taught heads; chance is 50."""
        rows = []
        for direction, sign in DIRECTIONS.items():
            for i, sentence in enumerate(COMMANDS[direction]):
                row = {"command": direction, "sentence": sentence}
                for model in self.heads[1:]:
                    for short, setting in SETTINGS.items():
                        moved = [
                            (
                                self._means(t, model, direction, setting)[i]
                                - self._means(t, model, NO_COMMAND, setting)[0]
                            )
                            * sign
                            > 0
                            for t in self.tasks
                        ]
                        row[f"{short}, {words(model)}"] = round(100 * np.concatenate(moved).mean(), 1)
                rows.append(row)
        return pd.DataFrame(rows).set_index(["command", "sentence"])

    def figure_shift(self):
        """Mean temperature behind each kind of command, over questions with 95 % intervals; a panel a task."""
        figure, axes = plt.subplots(
            1, len(self.tasks), figsize=(4 * len(self.tasks), 3.4), squeeze=False, sharey=True
        )
        for axis, task in zip(axes[0], self.tasks, strict=True):
            for i, model in enumerate(self.heads):
                means = [
                    mean_interval(self._means(task, model, direction, "temperature").mean(0) / 2)
                    for direction in COMMANDS
                ]
                values = np.array([[2 * e.value, 2 * e.low, 2 * e.high] for e in means]).T
                error = [values[0] - values[1], values[2] - values[0]]
                x = np.arange(len(COMMANDS)) + 0.12 * (i - (len(self.heads) - 1) / 2)
                axis.errorbar(x, values[0], error, fmt="o", ms=4, capsize=2, label=words(model))
            names = [name.removesuffix(" diversity").replace(" ", "\n") for name in COMMANDS]
            axis.set_xticks(range(len(COMMANDS)), names, fontsize=8)
            axis.set(title=task, ylim=(0, None))
            sns.despine(ax=axis)
        axes[0][0].set_ylabel("mean T")
        axes[0][-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    def figure_traces(self, questions: int = 3):
        """Temperature and top-p token by token behind each sentence, by the heads taught as in the paper.

        Of the first questions of the first task; the response is that to the plain question for all, so that only
        the sentence differs.
        """
        task, model = self.tasks[0], model_of(self.heads[1], self.device)
        items = items_of(SHORT.get(task, task), "test", self.items)[:questions]
        said = {
            line["item"]: line["text"] for line in self.lines[task, self.heads[1], NO_COMMAND, ""][:: self.samples]
        }
        sentences = {NO_COMMAND: "", "low diversity": HELD_OUT_LOW[0], "high diversity": HELD_OUT_HIGH[0]}
        figure, axes = plt.subplots(questions, 2, figsize=(12, 2.4 * questions), squeeze=False, sharex="row")
        for line, item in zip(axes, items, strict=True):
            for name, sentence in sentences.items():
                asked = commanded(item.prompt, sentence)
                settings, tokens = _along(model, asked, get_task(SHORT.get(task, task)).instruction, said[item.id])
                for axis, values, label in zip(line, settings, ("T", "P"), strict=True):
                    axis.plot(values, "-" if name == NO_COMMAND else ":", lw=1.4, label=name)
                    axis.set(title=item.id, ylabel=label, ylim=(0, None))
                    if len(tokens) <= 20:  # more could not be read
                        axis.set_xticks(range(len(tokens)), tokens, fontsize=7)
                    sns.despine(ax=axis)
        axes[0][-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    def paper(self) -> pd.DataFrame:
        """The paper's Table 4 as printed."""
        wide = printed("autodeco", "Table 4").pivot(index="method", columns="task", values="value")
        order = ["mean T", "consistency T, %", "mean P", "consistency P, %"]
        return wide.loc[["none", "low diversity", "high diversity"], order].rename_axis(index="command", columns=None)

    def reading(self) -> str:
        """What commands do before and after teaching, whether «no randomness» means none, and what teaching costs."""
        rows = self.summary.set_index(["heads", "command", "task"])
        lines = []
        for model in self.heads:
            for short in SETTINGS:
                parts = []
                for task in self.tasks:
                    low, high = (rows.loc[(words(model), f"{kind} diversity", task)] for kind in ("low", "high"))
                    parts.append(
                        f"{task} {low[f'shift_{short}']:+.2f} at {low[f'consistency_{short}']:.0f} % and "
                        f"{high[f'shift_{short}']:+.2f} at {high[f'consistency_{short}']:.0f} %"
                    )
                lines.append(
                    f"- Heads **{words(model)}**, shift of mean {short} and consistency, for low and for high "
                    f"diversity: {'; '.join(parts)}."
                )
        for model in self.heads[1:]:
            parts = [
                f"{task} {rows.loc[(words(model), 'no randomness', task)]['T']:.2f} "
                f"(without {rows.loc[(words(model), NO_COMMAND, task)]['T']:.2f})"
                for task in self.tasks
            ]
            lines.append(
                f"- Told to have no randomness, heads **{words(model)}** choose a mean T of {'; '.join(parts)}."
            )
        for taught, part in self.costs.groupby("heads", sort=False):
            parts = [
                f"{r.task} {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}], {r.verdict}" for r in part.itertuples()
            ]
            lines.append(f"- Accuracy without a command, {taught} minus untaught, in points: {'; '.join(parts)}.")
        counts = self.behind.verdict.value_counts()
        said = ", ".join(f"{word} in {int(counts.get(word, 0))}" for word in ("higher", "lower", "tied"))
        least, largest = self.behind.difference.min(), self.behind.difference.max()
        lines.append(
            f"- Accuracy behind a sentence, against none: {said} of {len(self.behind)} cells (p < 0.05 after Holm); "
            f"the differences are from {least:+.1f} to {largest:+.1f} points."
        )
        return "\n".join(lines)

    def consistency(self, direction: str) -> Estimate:
        """Share of all questions of all tasks whose mean temperature follows, by the heads taught as in the paper."""
        moved = [self._moved(task, self.heads[1], direction, "temperature") for task in self.tasks]
        return mean_interval(np.concatenate(moved))

    def claims(self) -> list[Claim]:
        """Words move the settings before teaching (introduction) and after (Table 4); «no randomness» means none.

        Half the questions would move the right way by chance.
        """
        table, found = self.paper(), []
        for heads, taught in ((self.heads[0], "untaught"), (self.heads[1], "taught")):
            for direction in ("low diversity", "high diversity"):
                for short, setting in SETTINGS.items():
                    moved = [self._moved(task, heads, direction, setting) for task in self.tasks]
                    e = mean_interval(np.concatenate(moved))
                    e = Estimate(*(100 * x for x in (e.value, e.low, e.high)), e.n)
                    claimed = float(table.loc[direction, f"consistency {short}, %"]) if taught == "taught" else 50.0
                    printed = f"{claimed:g} %" if taught == "taught" else "they follow"
                    where = "Table 4" if taught == "taught" else "introduction"
                    says = f"behind a command for {direction} mean {short} follows, {taught} heads"
                    found.append(Claim(where, says, printed, e, "% of questions", more(e, claimed, zero=50)))
        for heads in self.heads[2:]:
            found_T = [self._means(task, heads, "no randomness", "temperature")[0] for task in self.tasks]
            e = mean_interval(np.concatenate(found_T) / 2)  # which takes values in [0, 1]
            e = Estimate(*(2 * x for x in (e.value, e.low, e.high)), e.n)
            where = OWN if heads.endswith("-adapter") else "section 3.3"
            says = f"«no randomness» brings T near zero, heads {words(heads)}"
            printed = "" if where == OWN else "heads alone do not"
            # The paper's claim is the negative one.
            near = at_most(e, NEAR_ZERO)
            verdict = near if where == OWN else {HOLDS: FAILS, FAILS: HOLDS}.get(near, near)
            if where != OWN:
                says = f"«no randomness» does not bring T near zero, heads {words(heads)}"
            found.append(Claim(where, says, printed, e, "T", verdict))
        return found

    def headlines(self) -> dict[str, dict]:
        """None: the headline is the model that was trained on language, see autodeco_control_real.py."""
        return {}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        written = self.write(
            {"summary": self.summary, "costs": self.costs, "behind": self.behind},
            {"shift": self.figure_shift(), "traces": self.figure_traces()},
            self.headlines(),
        )
        plt.close("all")
        return written


@torch.inference_mode()
def _along(model: Model, prompt: str, instruction: str, text: str) -> tuple[np.ndarray, list[str]]:
    """T-hat and P-hat [2, tokens] at each token of a response and its end, and the tokens as text."""
    ids, _ = model.encode([prompt], instruction)
    response = [*model.tokenizer.encode(text, add_special_tokens=False), model.family.eot_ids[0]]
    out = model.network(input_ids=torch.cat([ids, ids.new_tensor([response])], 1))
    settings = torch.stack([out.temperature[0], out.top_p[0]])[:, ids.shape[1] - 1 : -1]
    return settings.float().cpu().numpy(), [model.tokenizer.decode([i]) for i in response[:-1]] + ["\u25a0"]


def _share(name: str, moved: np.ndarray) -> dict[str, float]:
    """A share in % with its interval, of `moved` [items] in [0, 1]: a question with two commands may half move."""
    whole = np.isin(moved, (0, 1)).all()
    e = mean_interval(moved)
    low, high = wilson(moved.sum(), len(moved)) if whole else (e.low, e.high)
    return {name: 100 * e.value, f"{name}_low": 100 * low, f"{name}_high": 100 * high}
