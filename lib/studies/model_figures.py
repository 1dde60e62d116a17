"""The figures of the study models: how they learned, and what one refinement leaves of their answers."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from lib.analysis.fitness import SURVIVES
from lib.training.study.recipe import RECIPES


def of_learning(curves: dict[str, pd.DataFrame]):
    """A panel a model: training loss (thin) and validation loss (dots) against training sequences."""
    figure, axes = plt.subplots(1, len(curves), figsize=(3.4 * len(curves), 3.2))
    for axis, (name, rows) in zip(axes, curves.items(), strict=True):
        recipe = RECIPES[name]
        thousands = rows.step * recipe.batch_size / 1000
        axis.plot(thousands, rows.loss, lw=0.8, color="0.6", label="training")
        held = rows.validation_loss.notna()
        axis.plot(thousands[held], rows.validation_loss[held], "o-", ms=3, label="validation")
        axis.set(title=f"{name}\n({recipe.objective.replace('_', ' ')})", xlabel="thousand sequences", yscale="log")
        sns.despine(ax=axis)
    axes[0].set_ylabel("loss, nats a token")
    axes[0].legend(frameon=False)
    return figure


def of_survival(rows: pd.DataFrame, tasks: Sequence[str]):
    """A panel a task, a colour each `which`: survival (full lines) and repair (dashed) with their 95 % bands."""
    figure, axes = plt.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3.4), sharey=True)
    names = list(dict.fromkeys(rows.which))
    for axis, task in zip(axes, tasks, strict=True):
        for name, colour in zip(names, sns.color_palette("colorblind"), strict=False):
            line = rows[(rows.label == task) & (rows.which == name)]
            for share, dash in (("survival", "-"), ("repair", "--")):
                axis.plot(line.rate, line[share], dash, marker="o", ms=4, color=colour,
                          label=name if share == "survival" else None)  # fmt: skip
                ends = line[f"{share}_low"], line[f"{share}_high"]
                axis.fill_between(line.rate, *ends, color=colour, alpha=0.15, lw=0)
        axis.axhline(SURVIVES, color="0.7", lw=0.8)
        axis.set(title=task, xlabel="share of the canvas masked")
        sns.despine(ax=axis)
    axes[0].set_ylabel("right after it, %")
    axes[0].legend(frameon=False, fontsize="small")
    return figure
