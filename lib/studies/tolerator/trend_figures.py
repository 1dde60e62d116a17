"""The figures of the trend: gain, survival and repair against capability, gain against strictness."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from lib.reporting import figures

STYLES = ("-", "--", ":", "-.")


WEAK = {"ls": "", "mfc": "white"}  # models that are on no line


def by_capability(gains: pd.DataFrame, tasks: Sequence[str], forms: Sequence[str], floor: float):
    """A panel a form, a line a task and budget; hollow below a capability of `floor`."""
    figure, axes = figures.panels(forms, sharey=True)
    shares = list(dict.fromkeys(gains.share))
    for form, axis in zip(forms, axes, strict=True):
        axis.axhline(0, **figures.LINE)
        for task, look in figures.looks(tasks).items():
            for share, style in zip(shares, STYLES, strict=False):
                rows = gains[(gains.form == form) & (gains.task == task) & (gains.share == share)]
                rows = rows.sort_values("capability")
                name = f"{task}, {share} a forward"
                for own, label, drawn in _split(rows, floor, name, look | {"ls": style}):
                    figures.bars(axis, label, own.capability, own.difference, own.low, own.high, **drawn)
        axis.set_xlabel("capability, % right")
    axes[0].set_ylabel("TOLERATOR minus vanilla, points")
    figures.name_ends(axes)
    return figure


def of_refining(rows: pd.DataFrame, tasks: Sequence[str], forms: Sequence[str]):
    """A row of survival and one of repair, a panel a form; a line a task."""
    figure, axes = plt.subplots(2, len(forms), figsize=(3.8 * len(forms), 6.4), sharex=True, sharey="row")
    for line, what in zip(axes, ("survival", "repair"), strict=True):
        for axis, form in zip(line, forms, strict=True):
            for task, look in figures.looks(tasks).items():
                own = rows[(rows.task == task) & (rows.form == form)].sort_values("capability").dropna(subset=what)
                ends = own[what], own[f"{what}_low"], own[f"{what}_high"]
                figures.bars(axis, task, own.capability, *ends, **look)
            axis.set_ylim(0, None)
        line[0].set_ylabel(f"{what}, %")
        figures.name_ends(line)
    for axis, form in zip(axes[0], forms, strict=True):
        axis.set_title(form)
    for axis in axes[1]:
        axis.set_xlabel("capability, % right")
    sns.despine(figure)
    return figure


def _split(rows: pd.DataFrame, floor: float, name: str, look: dict) -> tuple:
    """Rows, name and look of what is on a line, and of what is below it: hollow, without a name."""
    weak = rows.capability < floor
    return (rows[~weak], name, look), (rows[weak], "_weak", look | WEAK)


def by_strictness(gains: pd.DataFrame, tasks: Sequence[str], forms: Sequence[str], floor: float):
    """A panel a form, a point a task and model; hollow below a capability of `floor`."""
    figure, axes = figures.panels(forms, sharey=True)
    for form, axis in zip(forms, axes, strict=True):
        axis.axhline(0, **figures.LINE)
        for task, look in figures.looks(tasks).items():
            rows = gains[(gains.form == form) & (gains.task == task)].sort_values("strictness")
            for own, label, drawn in _split(rows, floor, task, look | {"ls": ""}):
                figures.bars(axis, label, own.strictness, own.difference, own.low, own.high, **drawn)
        axis.set_xlabel("strictness")
    axes[0].set_ylabel("TOLERATOR minus vanilla, points")
    figures.name_ends(axes)
    return figure
