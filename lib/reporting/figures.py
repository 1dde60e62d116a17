"""The look of every figure: one colour and marker a method and a task in the whole study, names beside lines.

`panels` are drawn on; `curve` is a line with its band and `bars` one with its intervals, named at their ends by
`name_ends`; `forest` has a difference a row with its interval, hollow where it is not told apart.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# The palette of Okabe and Ito without its yellow, which is lost on white, with a wine and two greys.
INK, GREY, ORANGE, SKY, GREEN = "#222222", "#5F5F5F", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PINK, WINE = "#0072B2", "#D55E00", "#CC79A7", "#882255"
# A name as tables have it begins with one of these, or has it inside; the longest decides. A paper's own method is
# vermilion, what a user would decode with anyway is ink; what shares a colour has another marker and another panel.
METHODS: dict[str, tuple[str, str]] = {
    "default": (INK, "o"), "sampling": (INK, "o"), "vanilla": (INK, "o"), "greedy": (GREY, "s"),
    "AutoDeco": (VERMILION, "D"), "its mean as a constant": (BLUE, "v"), "constant": (BLUE, "v"),
    "its settings shuffled": (PINK, "P"), "recommended": (SKY, "^"), "entropy rule": (GREEN, "X"),
    "only temperature": (ORANGE, "<"), "only top-p": (WINE, ">"),
    "TOLERATOR": (VERMILION, "D"), "mild TOLERATOR": (ORANGE, "d"), "TOLERATOR's drafts": (GREY, "d"),
    "ReMDM": (BLUE, "s"), "RCR": (GREEN, "^"), "WINO": (SKY, "v"), "Fast-dLLM": (PINK, "P"), "T2M": (WINE, "X"),
    "CoRe": (GREY, "*"), "Settle": (ORANGE, "p"),
    "MTAD": (VERMILION, "D"), "MMTAD": (ORANGE, "d"), "speculative": (BLUE, "v"), "block verification": (SKY, "^"),
    "HSD": (WINE, "s"), "token tree": (GREEN, "P"), "threshold": (PINK, "X"), "typical": (SKY, "<"),
    "BiLD": (INK, "p"), "assisted": (GREY, "*"), "beam search": (GREY, "h"),
}  # fmt: skip
# Of Tol's muted palette, so that a task is never taken for a method.
TASKS: dict[str, tuple[str, str]] = {
    "math": ("#332288", "o"), "logic": ("#CC6677", "s"), "qa": ("#44AA99", "^"), "code": ("#999933", "D"),
    "terse": ("#AA4499", "v"), "graded_functions_1": ("#999933", "D"), "graded_functions_2": ("#999933", "d"),
    "graded_functions_3": ("#999933", "p"),
}  # fmt: skip
LINE = {"color": "0.4", "lw": 1}  # zero, and what a value is held against
AGAIN = (
    {},
    {"mfc": "white", "ls": "--"},
    {"mfc": "white", "ls": ":"},
    {"mfc": "0.8", "ls": "-."},
)  # of one method in one panel
APART = 0.075  # of an axis' height: two names nearer than this could not be read


def looks(names: Sequence[str]) -> dict[str, dict]:
    """A colour and marker each name; further settings of one method are hollow and dashed. Names of which one is
    no method or task lie on a scale: they are settings in their order."""
    found = {name: _look(name) for name in names}
    scaled = None in found.values()
    if scaled:
        scale = sns.color_palette("viridis", len(found) + 1)[:-1]  # its yellow is lost on white
        found = dict(zip(found, zip(scale, "osD^vP<>Xp*d" * 2, strict=False), strict=True))
    seen: list[tuple] = []
    result = {}
    for name, (colour, marker) in found.items():
        again = seen.count((colour, marker))
        seen.append((colour, marker))
        result[name] = {"color": colour, "marker": marker} | AGAIN[min(again, len(AGAIN) - 1)]
        if scaled and len(found) > 8 and len(result) % 2 == 0:  # neighbours on so fine a scale look the same
            result[name]["ls"] = "--"
    return result


def _look(name: str) -> tuple[str, str] | None:
    if name in TASKS:
        return TASKS[name]
    begins = [key for key in METHODS if name.startswith(key)] or [key for key in METHODS if key in name]
    return METHODS[max(begins, key=len)] if begins else None


def panels(titles: Sequence[str], width: float = 3.8, height: float = 3.5, **shared) -> tuple[Figure, list[Axes]]:
    """A row of titled panels; `shared`: such as sharey."""
    size = (width * len(titles), height)
    figure, axes = plt.subplots(1, len(titles), figsize=size, squeeze=False, **shared)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
        sns.despine(ax=axis)
    return figure, list(axes[0])


def curve(axis: Axes, name: str, x, y, low=None, high=None, **look) -> None:
    """Points on a line; with `low` and `high` the band between them."""
    look = {"ms": 4.5, "lw": 1.4} | look
    axis.plot(x, y, label=name, **look)
    if low is not None:
        axis.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)


def bars(axis: Axes, name: str, x, y, low, high, **look) -> None:
    """Points on a line, each with the bar of its interval, which reaches at least to the point."""
    error = [np.maximum(np.subtract(y, low), 0), np.maximum(np.subtract(high, y), 0)]
    axis.errorbar(x, y, error, label=name, **{"ms": 4.5, "lw": 1.2, "elinewidth": 0.9, "capsize": 2} | look)


def ticks_at(axis: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with ticks at these values alone; of the inner ones only those that leave room."""
    first, *inner, last = sorted(set(values)) if len(set(values)) > 1 else (values[0], values[0])
    kept = [first]
    for value in inner:
        if value > 1.4 * kept[-1] and last > 1.4 * value:
            kept.append(value)
    values = list(dict.fromkeys([*kept, last]))
    axis.set_xscale("log")
    axis.set_xticks(values, labels=[f"{value:g}" for value in values])
    axis.minorticks_off()


def name_ends(axes: Sequence[Axes]) -> None:
    """The name of every line at its right end, in its colour, beside the last panel that has it.

    Called when the limits are final, for names are moved apart in what the axis shows.
    """
    for axis in axes:
        axis.get_xlim(), axis.get_ylim()  # matplotlib puts off what a line does to them until they are asked for
    last = {line_name: axis for axis in axes for line_name in _ends(axis)}
    for axis in axes:
        ends = {name: end for name, end in _ends(axis).items() if last[name] is axis}
        if not ends:
            continue
        to_panel = axis.transData + axis.transAxes.inverted()
        heights = {name: to_panel.transform(point)[1] for name, (point, _) in ends.items()}
        for name, height in _apart(heights).items():
            point, colour = ends[name]
            axis.annotate(
                name, point, (1.04, height), textcoords="axes fraction",
                color=_ink(colour), fontsize="small", va="center",
                arrowprops={"arrowstyle": "-", "color": "0.55", "lw": 0.6, "ls": ":", "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip


def _ink(colour) -> tuple[float, ...]:
    """A colour so dark that a word in it can be read on white."""
    return tuple(0.65 * part for part in to_rgb(colour))


def _ends(axis: Axes) -> dict[str, tuple[tuple[float, float], str]]:
    """Name -> last point and colour of the lines in a panel that have a name."""
    found = {}
    for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
        line = handle if hasattr(handle, "get_xydata") else handle[0]  # of an errorbar, the points
        points = line.get_xydata()
        points = points[np.isfinite(points).all(1)]
        if len(points):
            found[name] = (tuple(points[np.argmax(points[:, 0])]), line.get_color())
    return found


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """The same in their order, each at least APART from the next and within the panel, as near as that goes to
    where they were."""
    names = sorted(heights, key=heights.get)
    # Least squares under an order: pool what crowds, as isotonic regression does.
    pools: list[list] = []
    for i, name in enumerate(names):
        pools.append([[heights[name] - APART * i], [name]])
        while len(pools) > 1 and np.mean(pools[-2][0]) > np.mean(pools[-1][0]):
            values, members = pools.pop()
            pools[-1][0] += values
            pools[-1][1] += members
    flat = [(name, np.mean(values)) for values, members in pools for name in members]
    most = max(0.0, 1 - APART * (len(flat) - 1))  # so that the last is still beside the panel
    return {name: float(np.clip(base, 0.0, most) + APART * i) for i, (name, base) in enumerate(flat)}


def forest(
    parts: Mapping[str, pd.DataFrame],
    names: Mapping | Sequence,
    *,
    value: str = "difference",
    at: float | Sequence[float] = 0.0,
    xlabel: str = "points",
    width: float = 2.3,
    told: str = "verdict",
) -> Figure:
    """A panel a part, a row a name from the top: `value` with `low` and `high`.

    `parts`: title -> a table with an index of `names`; names that it lacks stay empty. `names`: what to call each, or
    the names themselves. `at`: what is no difference, where a line stands; one for all panels or each its own. Hollow
    where the column `told` says «tied»; without that column where the interval has `at`.
    """
    words = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    longest = max(len(str(word)) for word in words.values())
    size = (0.075 * longest + width * len(parts), 0.32 * len(words) + 1.2)
    figure, axes = plt.subplots(1, len(parts), figsize=size, sharey=True, squeeze=False)
    height = np.arange(len(words))[::-1]
    lines = [at] * len(parts) if isinstance(at, int | float) else at
    for axis, at, (title, table) in zip(axes[0], lines, parts.items(), strict=True):
        rows = table.reindex(list(words))
        tied = rows[told] == "tied" if told in rows else (rows.low <= at) & (at <= rows.high)
        axis.axvline(at, **LINE)
        for which, face in ((~tied.to_numpy(bool), VERMILION), (tied.to_numpy(bool), "white")):
            here = rows[which]
            error = [(here[value] - here.low).clip(lower=0), (here.high - here[value]).clip(lower=0)]
            axis.errorbar(here[value], height[which], xerr=error, fmt="o", ms=5, capsize=2.5, elinewidth=1.1,
                          color=VERMILION, mfc=face)  # fmt: skip
        axis.set_yticks(height, list(words.values()), fontsize="small")
        axis.set(title=title, xlabel=xlabel, ylim=(-0.6, len(words) - 0.4))
        sns.despine(ax=axis)
    return figure
