"""The figures of the trend: gain, survival and repair against capability, gain against strictness."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

STYLES = ("-", "--", ":", "-.")
MARKS = ("o", "s")


def _panels(names: Sequence[str], sharey: bool = True):
    figure, axes = plt.subplots(1, len(names), figsize=(4.1 * len(names), 3.5), squeeze=False, sharey=sharey)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize="medium")
        sns.despine(ax=axis)
    return figure, dict(zip(names, axes[0], strict=True))


def _colours(tasks: Sequence[str]) -> dict[str, tuple]:
    return dict(zip(tasks, sns.color_palette("colorblind", len(tasks)), strict=True))


def _legend(axes: dict) -> None:
    place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    list(axes.values())[-1].legend(frameon=False, fontsize="small", **place)


def _bars(axis, rows: pd.DataFrame, x: str, y: str, low: str, high: str, **look) -> None:
    """Points with their intervals, which reach at least to the point."""
    error = [(rows[y] - rows[low]).clip(lower=0), (rows[high] - rows[y]).clip(lower=0)]
    axis.errorbar(rows[x], rows[y], yerr=error, ms=4, lw=1.2, elinewidth=0.8, capsize=2, **look)


def by_capability(gains: pd.DataFrame, tasks: Sequence[str], forms: Sequence[str]):
    """A panel a form, a line a task and budget."""
    figure, axes = _panels(forms)
    shares = list(dict.fromkeys(gains.share))
    for form, axis in axes.items():
        axis.axhline(0, color="0.4", lw=1)
        for task, colour in _colours(tasks).items():
            for share, style in zip(shares, STYLES, strict=False):
                rows = gains[(gains.form == form) & (gains.task == task) & (gains.share == share)]
                rows = rows.sort_values("capability")
                look = {"color": colour, "ls": style, "marker": "o", "label": f"{task}, {share} a forward"}
                _bars(axis, rows, "capability", "difference", "low", "high", **look)
        axis.set_xlabel("capability: % right, greedy, one a forward")
    axes[forms[0]].set_ylabel("TOLERATOR minus vanilla, points")
    _legend(axes)
    return figure


def of_refining(rows: pd.DataFrame, tasks: Sequence[str], forms: Sequence[str]):
    """A panel of survival and one of repair; a line a task and form."""
    figure, axes = _panels(("survival", "repair"), sharey=False)
    for what, axis in axes.items():
        for task, colour in _colours(tasks).items():
            for form, style, mark in zip(forms, STYLES, MARKS, strict=False):
                own = rows[(rows.task == task) & (rows.form == form)].sort_values("capability").dropna(subset=what)
                look = {"color": colour, "ls": style, "marker": mark, "label": f"{task}, {form}"}
                _bars(axis, own, "capability", what, f"{what}_low", f"{what}_high", **look)
        axis.set_xlabel("capability: % right, greedy, one a forward")
        axis.set_ylim(0, None)
    axes["survival"].set_ylabel("right after one refinement, %")
    _legend(axes)
    return figure


def by_strictness(gains: pd.DataFrame, tasks: Sequence[str], forms: Sequence[str]):
    """A panel a form, a point a task and model."""
    figure, axes = _panels(forms)
    for form, axis in axes.items():
        axis.axhline(0, color="0.4", lw=1)
        for task, colour in _colours(tasks).items():
            rows = gains[(gains.form == form) & (gains.task == task)]
            _bars(axis, rows, "strictness", "difference", "low", "high", color=colour, fmt="none")
            axis.scatter(rows.strictness, rows.difference, s=10 + rows.capability, color=colour, label=task)
        axis.set_xlabel("strictness")
    axes[forms[0]].set_ylabel("TOLERATOR minus vanilla, points")
    _legend(axes)
    return figure
