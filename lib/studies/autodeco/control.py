"""Decoding by command: do words behind a prompt move temperature and top-p, and what does it cost?"""

from dataclasses import dataclass, replace
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import corrected
from lib.models.registry import Model
from lib.reporting import figures
from lib.reporting.claims import OWN, REPEAT, UNTESTABLE, Claim, Ruling, at_least, at_most, more
from lib.reporting.inert import label_text
from lib.reporting.papers import printed
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.respond import commanded
from lib.studies.autodeco.commands import NO_COMMAND, SETTINGS, CommandStudy, teaching, untaught
from lib.studies.base import SHORT
from lib.tasks import get_task
from lib.training.autodeco.commands import HELD_OUT_HIGH, HELD_OUT_LOW, QUOTED

NEAR_ZERO = 0.15  # a mean temperature of at most this is called near zero
EQUAL = 5.0  # a share within so many points of 50 % is called chance
EQUAL_T = 0.05  # mean temperatures that differ by less are called equal
FARTHER = "% of wordings and questions, beyond a neutral sentence"


@dataclass(frozen=True)
class Study(CommandStudy):
    """The numbers of commands.py as tables, figures, words and verdicts."""

    notebook = "14_autodeco_control"
    printed_in = "autodeco"
    kind = REPEAT  # of notebook 18, on a model that cannot read commands

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
        return shown.set_index(["task", "heads", "command"]).astype(object).fillna("")

    def figure_shift(self):
        """Mean temperature behind each kind of command, over questions with 95 % intervals; a panel a task."""
        figure, axes = figures.panels(self.tasks, sharey=True)
        looks = figures.looks([teaching(model) for model in self.heads])
        for axis, task in zip(axes, self.tasks, strict=True):
            for i, (model, look) in enumerate(zip(self.heads, looks.values(), strict=True)):
                means = [self.mean_temperature(model, direction, (task,)) for direction in self.commands]
                values = np.array([[e.value, e.low, e.high] for e in means]).T
                x = np.arange(len(self.commands)) + 0.12 * (i - (len(self.heads) - 1) / 2)
                figures.bars(axis, teaching(model), x, *values, **look | {"ls": ""})
            names = [name.removesuffix(" diversity").replace(" ", "\n") for name in self.commands]
            axis.set_xticks(range(len(self.commands)), names, fontsize=8)
            axis.set_ylim(0, None)
        axes[0].set_ylabel("mean T")
        figures.name_ends(axes)
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
        figure, axes = plt.subplots(len(items), 2, figsize=(12, 2.4 * len(items)), squeeze=False, sharex="row")
        for line, item in zip(axes, items, strict=True):
            for name, sentence in sentences.items():
                asked = commanded(item.prompt, sentence)
                settings, tokens = _along(model, asked, get_task(SHORT.get(task, task)).instruction, said[item.id])
                for axis, values, label in zip(line, settings, ("T", "P"), strict=True):
                    axis.plot(values, "-" if name == NO_COMMAND else ":", lw=1.4, label=name)
                    axis.set(title=f"question {item.id}", ylabel=label)
                    if len(tokens) <= 20:  # more could not be read
                        axis.set_xticks(range(len(tokens)), tokens, fontsize=7)
                    sns.despine(ax=axis)
            for axis in line:  # when all lines are in it
                axis.set_ylim(0, 1.05 * axis.dataLim.y1)
        for axis in axes[-1]:
            axis.set_xlabel("token of the response")
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
            for symbol in SETTINGS:
                parts = []
                for task in self.tasks:
                    low, high = (rows.loc[(teaching(model), f"{kind} diversity", task)] for kind in ("low", "high"))
                    parts.append(
                        f"{task} {low[f'shift_{symbol}']:+.2f} at {low[f'consistency_{symbol}']:.0f} % and "
                        f"{high[f'shift_{symbol}']:+.2f} at {high[f'consistency_{symbol}']:.0f} %"
                    )
                lines.append(
                    f"- Heads **{teaching(model)}**, shift of mean {symbol} and consistency, for low and for high "
                    f"diversity: {'; '.join(parts)}."
                )
        for model in self.heads[1:]:
            parts = [
                f"{task} {rows.loc[(teaching(model), 'no randomness', task)]['T']:.2f} "
                f"(without {rows.loc[(teaching(model), NO_COMMAND, task)]['T']:.2f})"
                for task in self.tasks
            ]
            lines.append(
                f"- Told to have no randomness, heads **{teaching(model)}** choose a mean T of {'; '.join(parts)}."
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

    def claims(self) -> list[Claim]:
        """Words move the settings before teaching (introduction) and after (Table 4); «no randomness» means none.

        A command against a neutral sentence of as many words: half of the cells would move farther by chance. The two
        quoted commands, which have none, say nothing.
        """
        table, found, judged = self.paper(), [], self.wordings > QUOTED
        asked = list(product(self.heads[:2], ("low diversity", "high diversity"), SETTINGS.items()))
        unit, measure = FARTHER, self.follows
        if not judged:
            unit, measure = "% of questions, against no command", self.consistency
        shares = bonferroni([measure(heads, direction, setting) for heads, direction, (_, setting) in asked])
        for (heads, direction, (symbol, _)), e in zip(asked, shares, strict=True):
            taught = teaching(heads) if untaught(heads) else "taught"
            where = "introduction" if direction.startswith("low") else "Figure 5"
            says = "they follow (section 3.3: only occasionally)"
            if taught == "taught":  # the paper's share is against no command, and no size is compared with it
                where = "Table 4"
                says = f"{table.loc[direction, f'consistency {symbol}, %']:g} % follow, against no command"
            what = f"a command for {direction} moves mean {symbol} that way, {taught} heads"
            ruling = more(e, zero=50, margin=EQUAL)
            ruling = ruling if judged and not foreign(heads) else Ruling(UNTESTABLE, ruling.low, ruling.high)
            ruling = replace(ruling, low=max(ruling.low, 0.0), high=min(ruling.high, 100.0))  # of a share
            # It varies by wording more than by question, and there are no more wordings.
            found.append(Claim(where, what, says, e, unit, ruling, kind=self.kind, by_items=False))
        told = self.heads[1:]
        means = bonferroni([self.mean_temperature(heads, "no randomness", self.tasks) for heads in told])
        drops = corrected([self.drop(heads, "no randomness", self.tasks) for heads in told])
        for heads, e, drop in zip(told, means, drops, strict=True):
            if heads.endswith("-adapter"):
                says = (
                    f"«no randomness» brings T near zero ({NEAR_ZERO:g}), mean of the tasks, heads {teaching(heads)}"
                )
                found.append(Claim(OWN, says, "", e, "T", at_most(e, NEAR_ZERO)))
            else:
                says = f"«no randomness» does not bring T near zero ({NEAR_ZERO:g}), heads {teaching(heads)}"
                # The paper's are taught low and high; those that learned what none means are a step of ours.
                where = "section 3.3" if heads == self.heads[1] and not untaught(heads) else OWN
                modest = "" if where == OWN else "only a modest drop"
                stays, ruling = at_least(e, NEAR_ZERO), more(drop, margin=EQUAL_T)
                if foreign(heads):
                    stays, ruling = (Ruling(UNTESTABLE, r.low, r.high) for r in (stays, ruling))
                found.append(Claim(where, says, modest, e, "T", stays, kind=self.kind))
                says = f"«no randomness» lowers T, heads {teaching(heads)}"
                found.append(Claim(where, says, modest, drop, "T lower", ruling, kind=self.kind))
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        return self.write(
            {"summary": self.summary, "costs": self.costs, "behind": self.behind},
            {"shift": self.figure_shift(), "traces": self.figure_traces()},
        )


def foreign(heads: str) -> bool:
    """Whether these heads read hidden states in which no command has a meaning.

    A study model saw no prose but that of its tasks, and answers wrongly behind a sentence; an adapter learned from
    commands itself.
    """
    return heads.startswith("study-") and not heads.endswith("-adapter")


@torch.inference_mode()
def _along(model: Model, prompt: str, instruction: str, text: str) -> tuple[np.ndarray, list[str]]:
    """T-hat and P-hat [2, tokens] at each token of a response and its end, and the tokens as text."""
    ids, _ = model.encode([prompt], instruction)
    response = [*model.tokenizer.encode(text, add_special_tokens=False), model.family.eot_ids[0]]
    out = model.network(input_ids=torch.cat([ids, ids.new_tensor([response])], 1))
    settings = torch.stack([out.temperature[0], out.top_p[0]])[:, ids.shape[1] - 1 : -1]
    labels = [label_text(model.tokenizer.decode([i])) for i in response[:-1]]
    return settings.float().cpu().numpy(), [*labels, "\u25a0"]
