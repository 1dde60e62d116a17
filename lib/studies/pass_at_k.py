"""What the studies of pass@k share: the estimate of every item, its tables, differences and figure."""

from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate, mean_interval, paired_mean_difference
from lib.reporting import figures
from lib.reporting.tables import outcomes, percent
from lib.tasks.metrics import pass_at_k


class PassAtK:
    """For a study whose runs have the keys (task, method); `samples` is the largest k.

    `names`: a method in words, by its key. `compared`: the methods in the order of tables and figures.
    """

    names: dict[str, str] = {}
    compared: tuple[str, ...] = ()

    @property
    def ks(self) -> list[int]:
        """1, 2, 4, ... and the number of samples."""
        return [*(2**i for i in range(self.samples.bit_length()) if 2**i < self.samples), self.samples]

    @cached_property
    def values(self) -> dict[tuple, np.ndarray]:
        """pass@k of every item, [items], by (task, method, k)."""
        found = {}
        for (task, method), lines in self.lines.items():
            right = outcomes(lines).sum(1)
            for k in self.ks:
                found[task, method, k] = np.array([pass_at_k(self.samples, int(c), k) for c in right])
        return found

    def difference(self, task: str, method: str, other: str, k: int) -> Estimate:
        """pass@k of a method minus that of another, in points, paired on items; p by sign flips."""
        return percent(paired_mean_difference(self.values[task, method, k], self.values[task, other, k]))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """pass@k in % with its 95 % interval (bootstrap over items), a row a task, method and k."""
        rows = []
        for task, method in self.lines:
            for k in self.ks:
                values = self.values[task, method, k]
                e = mean_interval(values)
                value = 100 * sum(values.tolist()) / len(values)
                rows.append((task, self.names[method], k, value, 100 * e.low, 100 * e.high, e.n))
        return pd.DataFrame(rows, columns=["task", "method", "k", "value", "low", "high", "items"])

    def table(self) -> pd.DataFrame:
        """pass@k in %: a line a task and k, a column a method."""
        cell = [f"{r.value:.1f} [{r.low:.1f}, {r.high:.1f}]" for r in self.summary.itertuples()]
        table = self.summary.assign(cell=cell).pivot(index=["task", "k"], columns="method", values="cell")
        return table.loc[list(self.tasks), [self.names[m] for m in self.compared]].rename_axis(columns=None)

    def figure_pass(self):
        """pass@k against k, a panel a task; bands are 95 % intervals."""
        figure, axes = figures.panels(self.tasks)
        looks = figures.looks([self.names[method] for method in self.compared])
        for axis, task in zip(axes, self.tasks, strict=True):
            for name, look in looks.items():
                rows = self.summary[(self.summary.task == task) & (self.summary.method == name)]
                figures.curve(axis, name, rows.k, rows.value, rows.low, rows.high, **look)
            axis.set_xlabel("k")
            figures.ticks_at(axis, self.ks)
        axes[0].set_ylabel("pass@k, %")
        figures.name_ends(axes)
        return figure
