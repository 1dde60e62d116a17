"""The study models: how they learned, what they can do, and whether they are fit for the study."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from lib.analysis.stats import Estimate, mean_interval
from lib.decoding.bidirectional import position_ids
from lib.paths import CHECKPOINTS
from lib.reporting.inert import inert
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, percent, summary_row
from lib.running.code import Name
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy
from lib.studies.checkpoints import learning_curve
from lib.tasks import get_task
from lib.training.study.recipe import RECIPES

TARGETS = {"math": (40, 80), "qa": (40, 80), "code": (30, 80)}
AGREEMENT = (60, 90)


@dataclass(frozen=True)
class Study(BaseStudy):
    """Greedy decoding by `study-ar`; one token a forward, and eight, by `study-dlm`, temperature 0."""

    samples: int = 1

    notebook = "00_study_models"

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, which)."""
        runs = {}
        for short, task in SHORT.items():
            canvas = get_task(task).max_new_tokens
            runs[short, "study-ar"] = Run.of("study-ar", task, "autoregressive", items=self.items)
            runs[short, "study-draft"] = Run.of("study-draft", task, "autoregressive", items=self.items)
            for name, steps in (("study-dlm", canvas), ("study-dlm, 8 a forward", canvas // 8)):
                runs[short, name] = Run.of(
                    "study-dlm", task, "vanilla", items=self.items, steps=steps, temperature=0.0
                )
        return runs

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The curves that the training left."""
        return [], [CHECKPOINTS / name / "curve.jsonl" for name in RECIPES]

    @cached_property
    def summary(self) -> pd.DataFrame:
        return pd.DataFrame(
            summary_row(self.all_runs[key], lines, label=key[0], which=key[1]) for key, lines in self.lines.items()
        )

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval, a line a model, a column a task."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        table = rows.pivot(index="which", columns="label", values="cell")[list(TARGETS)]
        return table.rename_axis(index="model", columns=None)

    def examples(self) -> pd.DataFrame:
        """The first two questions of each task, what is right, and what the models said."""
        rows = []
        for short, task in SHORT.items():
            for item in items_of(task, "test", self.items)[:2]:
                said = {
                    which: next(inert(line["text"]) for line in self.lines[short, which] if line["item"] == item.id)
                    for which in ("study-ar", "study-dlm", "study-dlm, 8 a forward")
                }
                asked = {"prompt": inert(item.prompt.strip()), "target": inert(item.target.strip())}
                rows.append({"task": short, **asked, **said})
        return pd.DataFrame(rows)

    def shapes(self) -> pd.DataFrame:
        """Parameters, training and the last validation loss of each model."""
        rows = []
        for name, recipe in RECIPES.items():
            parameters = sum(p.numel() for p in model_of(name, "cpu").network.parameters())
            learned = learning_curve(name)
            rows.append(
                {
                    "model": name,
                    "parameters, million": round(parameters / 1e6, 2),
                    "objective": recipe.objective,
                    "sequences": int(learned.step.iloc[-1]) * recipe.batch_size,
                    "validation loss": round(learned.validation_loss.dropna().iloc[-1], 3),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def agreement(self) -> Estimate:
        """Share of positions, in %, where the draft's greedy token is the target's, along the target's own text."""
        shares = []
        for short, task in SHORT.items():
            items = items_of(task, "test", self.items)
            texts = {line["item"]: line["text"] for line in self.lines[short, "study-ar"]}
            shares += [_agreement(item.prompt, texts[item.id]) for item in items]
        return percent(mean_interval(np.array(shares)))

    def figure_learning(self):
        """Training loss (thin) and validation loss (dots) against training sequences."""
        figure, axes = plt.subplots(1, len(RECIPES), figsize=(4 * len(RECIPES), 3.2))
        for axis, (name, recipe) in zip(axes, RECIPES.items(), strict=True):
            rows = learning_curve(name)
            thousands = rows.step * recipe.batch_size / 1000
            axis.plot(thousands, rows.loss, lw=0.8, color="0.6", label="training")
            held = rows.validation_loss.notna()
            axis.plot(thousands[held], rows.validation_loss[held], "o-", ms=3, label="validation")
            axis.set(
                title=f"{name} ({recipe.objective.replace('_', ' ')})", xlabel="thousand sequences", yscale="log"
            )
            sns.despine(ax=axis)
        axes[0].set_ylabel("loss, nats a token")
        axes[0].legend(frameon=False)
        return figure

    def reading(self) -> str:
        """Whether each target for the models is met."""
        rows = self.summary.set_index(["label", "which"]).accuracy
        lines = []
        for which in ("study-ar", "study-dlm"):
            parts = []
            for task, (low, high) in TARGETS.items():
                place = "within" if low <= rows[task, which] <= high else "outside"
                parts.append(f"{task} {rows[task, which]:.1f} % ({place} {low}-{high})")
            lines.append(f"- **{which}**: {', '.join(parts)}.")
        drops = [f"{task} {rows[task, 'study-dlm, 8 a forward'] - rows[task, 'study-dlm']:+.1f}" for task in TARGETS]
        lines.append(f"- Eight tokens a forward instead of one, in points: {', '.join(drops)}.")
        e = self.agreement
        lines.append(
            f"- The draft's greedy token is the target's at {e.value:.1f} % [{e.low:.1f}, {e.high:.1f}] of positions "
            f"(wanted: {AGREEMENT[0]}-{AGREEMENT[1]} %; mean over {e.n} items)."
        )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        entries = {}
        for row in self.summary.itertuples():
            if row.which in ("study-ar", "study-dlm"):
                name = f"{row.which.replace('-', '_')}_{row.label}"
                entries[name] = headline(row.accuracy, row.low, row.high, row.items, "%", self.profile, self.notebook)
        e = self.agreement
        entries["draft_agreement"] = headline(e.value, e.low, e.high, e.n, "%", self.profile, self.notebook)
        return entries

    def save(self) -> dict:
        return self.write({"summary": self.summary}, {"curves": self.figure_learning()})


@torch.inference_mode()
def _agreement(prompt: str, text: str) -> float:
    """Share of response positions, EoT included, where both models' greedy tokens agree."""
    target, draft = model_of("study-ar", "cpu"), model_of("study-draft", "cpu")
    before = target.tokenizer.encode(prompt, add_special_tokens=False)
    response = target.tokenizer.encode(text, add_special_tokens=False)
    ids = torch.tensor([before + response])
    mask = torch.ones_like(ids)
    choices = [
        m.network(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))
        .logits[0, len(before) - 1 :]
        .argmax(-1)
        for m in (target, draft)
    ]
    return (choices[0] == choices[1]).double().mean().item()
