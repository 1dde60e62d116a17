"""The figures of the study models: how they learned, and what one refinement leaves of their answers."""

from collections.abc import Sequence

import pandas as pd

from lib.analysis.fitness import SURVIVES
from lib.reporting import figures
from lib.training.study.recipe import RECIPES


def of_learning(curves: dict[str, pd.DataFrame]):
    """A panel a model: training loss (thin) and validation loss (dots) against training sequences."""
    titles = [f"{name}\n({RECIPES[name].objective.replace('_', ' ')})" for name in curves]
    figure, axes = figures.panels(titles, width=3.4)
    for axis, (name, rows) in zip(axes, curves.items(), strict=True):
        thousands = rows.step * RECIPES[name].batch_size / 1000
        axis.plot(thousands, rows.loss, lw=0.8, color="0.6", label="training")
        held = rows.validation_loss.notna()
        figures.curve(axis, "validation", thousands[held], rows.validation_loss[held],
                      color=figures.BLUE, marker="o", ms=3)  # fmt: skip
        axis.set(xlabel="thousand sequences", yscale="log")
    axes[0].set_ylabel("loss, nats a token")
    figures.name_ends(axes)
    return figure


def of_survival(rows: pd.DataFrame, tasks: Sequence[str]):
    """A panel a task, a colour each `which`: survival (full lines) and repair (dashed) with their 95 % bands."""
    figure, axes = figures.panels(tasks, sharey=True)
    looks = figures.looks(list(dict.fromkeys(rows.which)))
    for axis, task in zip(axes, tasks, strict=True):
        axis.axhline(SURVIVES, color="0.7", lw=0.8)
        for name, look in looks.items():
            line = rows[(rows.label == task) & (rows.which == name)]
            for share, dash in (("survival", "-"), ("repair", "--")):
                ends = line[f"{share}_low"], line[f"{share}_high"]
                once = name if share == "survival" else "_"  # a name with this mark is not shown
                figures.curve(axis, once, line.rate, line[share], *ends, **look | {"ls": dash})
        axis.set_xlabel("share of the canvas masked")
    axes[0].set_ylabel("right after it, %")
    figures.name_ends(axes)
    return figure
