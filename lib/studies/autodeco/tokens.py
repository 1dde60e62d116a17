"""Where the heads are hot and where they are cold: responses coloured by temperature and top-p, token by token."""

import json
import re
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch

from lib.reporting import figures
from lib.reporting.inert import inert
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.respond import respond
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy, limit
from lib.tasks import get_task

SETTING_LABELS = {"temperature": "predicted temperature", "top_p": "predicted top-p"}
COLUMNS = 72  # characters a line of the picture


@dataclass(frozen=True)
class Study(BaseStudy):
    """AutoDeco's responses to the first items of each task, decoded once more with the events of every step kept.

    `tokens`: the length limit; 0 is the task's own.
    """

    items: int = 100
    samples: int = 1
    tasks: tuple[str, ...] = ("math", "qa", "code")
    heads: str = "study-ar-autodeco"
    tokens: int = 0

    notebook = "15_autodeco_tokens"

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task,)."""
        size = {"items": self.items, "samples": self.samples, **limit(self.tokens)}
        return {(short,): Run.of(self.heads, SHORT.get(short, short), "autodeco", **size) for short in self.tasks}

    @cached_property
    def drawn(self) -> pd.DataFrame:
        """A row a drawn token of each item's first response: task, item, step, text, kind, temperature, top_p.

        A draw depends on seed, item and step alone, so these are the responses of the runs.
        """
        rows = []
        for (short,), run in self.runs().items():
            found = _tokens(short, run, self.device)
            wanted = sum(line["drawn"] for line in self.lines[(short,)][:: self.samples])
            if len(found) != wanted:
                raise ValueError(f"{short}: {len(found)} tokens came back, the runs have {wanted}")
            rows += found
        return pd.DataFrame(rows)

    def figure_text(self, setting: str = "temperature", responses: int = 3):
        """The first responses of each task, every token on a ground of the colour of its setting."""
        here = self.drawn[self.drawn.item.isin(self._first(responses))]
        lines = _layout(here)
        low, high = self.drawn[setting].quantile([0.02, 0.98])
        norm, cmap = plt.Normalize(low, high), sns.color_palette("rocket_r", as_cmap=True)
        width = max(x + len(text) for line in lines for x, text, _ in line)
        figure, axis = plt.subplots(figsize=(0.09 * width + 1.5, 0.22 * len(lines) + 0.4))
        for y, line in enumerate(lines):
            for x, text, row in line:
                if row is None:
                    axis.text(x, -y, text, fontsize=8, color="0.4", va="center")
                    continue
                ground = cmap(norm(row[setting]))
                axis.add_patch(plt.Rectangle((x, -y - 0.45), len(text), 0.9, color=ground, ec="white", lw=0.5))
                ink = "white" if sum(ground[:3]) < 1.6 else "black"
                for i, letter in enumerate(text):  # one by one, so that each stands on its ground
                    axis.text(
                        x + i + 0.5, -y, letter, family="monospace", fontsize=8, color=ink, ha="center", va="center"
                    )
        axis.set(xlim=(0, width), ylim=(-len(lines), 1))
        axis.axis("off")
        figure.colorbar(plt.cm.ScalarMappable(norm, cmap), ax=axis, label=SETTING_LABELS[setting], shrink=0.7)
        return figure

    def _first(self, responses: int) -> set[str]:
        found = set()
        for short in self.tasks:
            found |= {item.id for item in items_of(SHORT.get(short, short), "test", self.items)[:responses]}
        return found

    @cached_property
    def kinds(self) -> pd.DataFrame:
        """Mean temperature and top-p by kind of token, their standard deviations, and how many there were."""
        return (
            self.drawn.groupby(["task", "kind"], sort=False)
            .agg(
                temperature=("temperature", "mean"),
                temperature_sd=("temperature", "std"),
                top_p=("top_p", "mean"),
                top_p_sd=("top_p", "std"),
                tokens=("step", "size"),
            )
            .round(3)
        )

    def figure_traces(self):
        """Temperature and top-p along the responses: the mean over items at each step, a panel a task."""
        figure, axes = figures.panels(self.tasks)
        for axis, task in zip(axes, self.tasks, strict=True):
            rows = self.drawn[self.drawn.task == task].groupby("step")[list(SETTING_LABELS)]
            mean, count = rows.mean(), rows.size()
            mean = mean[count >= 10]  # later steps are those of a few long responses
            for (setting, label), colour in zip(
                SETTING_LABELS.items(), (figures.VERMILION, figures.BLUE), strict=True
            ):
                figures.curve(axis, label, mean.index, mean[setting], color=colour)
            axis.set(xlabel="token of the response", ylim=(0, None))
        axes[0].set_ylabel("mean over items")
        figures.name_ends(axes)
        return figure

    def reading(self) -> str:
        """Where the heads are hottest and coldest, by kind of token."""
        lines = []
        for task in self.tasks:
            rows = self.drawn[self.drawn.task == task].groupby("kind").temperature.agg(["mean", "size"])
            rows = rows[rows["size"] >= 20]["mean"].sort_values()
            lines.append(
                f"- **{task}**: coldest at {rows.index[0]} (mean T {rows.iloc[0]:.2f}), hottest at {rows.index[-1]} "
                f"({rows.iloc[-1]:.2f})."
            )
        spread = self.drawn.groupby("task").temperature.std()
        said = ", ".join(f"{task} {spread[task]:.2f}" for task in self.tasks)
        lines.append(f"- Standard deviation of T over tokens: {said}.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        figures = {name: self.figure_text(name) for name in SETTING_LABELS} | {"traces": self.figure_traces()}
        shown = self.drawn[self.drawn.item.isin(self._first(3))].drop(columns="kind")
        shown = shown.assign(text=[json.dumps(inert(text)) for text in shown.text])
        return self.write({"kinds": self.kinds.reset_index(), "tokens": shown}, figures)


def kind_of(text: str) -> str:
    """What a token is: the end, a digit, an operator or sign, letters, space."""
    if text == "":
        return "end of text"
    stripped = text.strip()
    for pattern, name in ((r"", "space"), (r"\d+", "digit"), (r"\w+", "letters")):
        if re.fullmatch(pattern, stripped):
            return name
    return "sign"


@torch.inference_mode()
def _tokens(short: str, run: Run, device: str) -> list[dict]:
    """The drawn tokens of each item's first response."""
    model, items = model_of(run.model, device), items_of(run.task, run.split, run.items)
    instruction = get_task(run.task).instruction
    rows = []
    for start in range(0, len(items), 64):
        part = items[start : start + 64]
        given = {"instruction": instruction, "seed": run.seed, "record": True}
        events = respond(model, part, run.resolved(), **given).trace.events
        for event in events:
            values = zip(event["rows"], event["tokens"], event["temperature"], event["top_p"], strict=True)
            for row, token, temperature, top_p in values:
                text = model.tokenizer.decode([int(token)], skip_special_tokens=True)
                rows.append(
                    {
                        "task": short,
                        "item": part[int(row)].id,
                        "step": event["step"],
                        "text": text,
                        "kind": kind_of(text),
                        "temperature": float(temperature),
                        "top_p": float(top_p),
                    }
                )
    return sorted(rows, key=lambda row: (row["item"], row["step"]))


def _layout(tokens: pd.DataFrame) -> list[list[tuple]]:
    """Lines of (column, text, row of the token or None): a response wraps after COLUMNS characters."""
    lines = []
    for (task, item), rows in tokens.groupby(["task", "item"], sort=False):
        lines.append([(0, f"{task}, {item}", None)])
        line, x = [], 2
        for row in rows.to_dict("records"):
            text = inert(row["text"]).replace("\n", "\u21b5") or "\u25a0"
            if x + len(text) > COLUMNS:
                lines.append(line)
                line, x = [], 2
            line.append((x, text, row))
            x += len(text)
        lines.append(line)
    return lines
