"""pass@k for k up to 64 and the relative error reduction: does token-level control keep what sampling finds?"""

import math
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.analysis.stats import Estimate, mean_interval, paired_mean_difference, relative_reduction
from lib.reporting.claims import OWN, Claim, more
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import difference_table, outcomes, percent
from lib.running.run import Run
from lib.studies.autodeco.scores import NAMES, mean_setting
from lib.studies.base import SHORT, BaseStudy, limit
from lib.tasks.metrics import pass_at_k

COMPARED = ("default", "autodeco", "constant")


@dataclass(frozen=True)
class Study(BaseStudy):
    """Default sampling, AutoDeco, and the constant that equals AutoDeco's mean; `samples` is the largest k.

    `tokens`: the length limit; 0 is the task's own.
    """

    samples: int = 64
    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    heads: str = "study-ar-autodeco"
    tokens: int = 0

    notebook = "11_autodeco_pass_at_k"
    printed_in = "autodeco"

    @property
    def ks(self) -> list[int]:
        """1, 2, 4, ... and the number of samples."""
        return [*(2**i for i in range(self.samples.bit_length()) if 2**i < self.samples), self.samples]

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method)."""
        size, runs = {"items": self.items, "samples": self.samples, **limit(self.tokens)}, {}
        for short in self.tasks:
            task = SHORT.get(short, short)
            runs[short, "default"] = Run.of(self.model, task, "autoregressive", temperature=1.0, **size)
            runs[short, "autodeco"] = Run.of(self.heads, task, "autodeco", **size)
        return runs

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """Ordinary sampling at AutoDeco's mean temperature and top-p on the task."""
        return {
            (short, "constant"): Run.of(
                self.model,
                SHORT.get(short, short),
                "autoregressive",
                items=self.items,
                samples=self.samples,
                **mean_setting(lines[short, "autodeco"]),
                **limit(self.tokens),
            )
            for short in self.tasks
        }

    @cached_property
    def values(self) -> dict[tuple, np.ndarray]:
        """pass@k of every item, [items], by (task, method, k)."""
        found = {}
        for (task, method), lines in self.lines.items():
            right = outcomes(lines).sum(1)
            for k in self.ks:
                found[task, method, k] = np.array([pass_at_k(self.samples, int(c), k) for c in right])
        return found

    @cached_property
    def summary(self) -> pd.DataFrame:
        """pass@k in % with its 95 % interval (bootstrap over items), a row a task, method and k."""
        rows = []
        for task, method in self.lines:
            for k in self.ks:
                values = self.values[task, method, k]
                e = mean_interval(values)
                value = 100 * sum(values.tolist()) / len(values)
                rows.append((task, NAMES[method], k, value, 100 * e.low, 100 * e.high, e.n))
        return pd.DataFrame(rows, columns=["task", "method", "k", "value", "low", "high", "items"])

    def table(self) -> pd.DataFrame:
        """pass@k in %: a line a task and k, a column a method."""
        cell = [f"{r.value:.1f} [{r.low:.1f}, {r.high:.1f}]" for r in self.summary.itertuples()]
        table = self.summary.assign(cell=cell).pivot(index=["task", "k"], columns="method", values="cell")
        return table.loc[list(self.tasks), [NAMES[m] for m in COMPARED]].rename_axis(columns=None)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """AutoDeco minus the others in points, paired on items, and by how much it cuts the error, in %.

        p by sign flips over items. The claim is about k = 1 and the largest k: those are tested, p after Holm over
        all of them, and the k between are shown with their intervals alone.
        """
        found = []
        for task in self.tasks:
            for method in ("default", "constant"):
                for k in self.ks:
                    ours, theirs = self.values[task, "autodeco", k], self.values[task, method, k]
                    cut = percent(relative_reduction(1 - ours, 1 - theirs))
                    labels = {"task": task, "against": NAMES[method], "k": k}
                    labels |= {"error_cut": cut.value, "cut_low": cut.low, "cut_high": cut.high}
                    found.append((labels, percent(paired_mean_difference(ours, theirs))))
        table = difference_table(found, tested=[labels["k"] in (1, self.ks[-1]) for labels, _ in found])
        columns = ["task", "against", "k", "difference", "low", "high", "error_cut", "cut_low", "cut_high"]
        return table[[*columns, "p", "p_holm", "verdict"]]

    def figure_pass(self):
        """pass@k against k, a panel a task; bands are 95 % intervals."""
        figure, axes = plt.subplots(1, len(self.tasks), figsize=(4 * len(self.tasks), 3.4), squeeze=False)
        for axis, task in zip(axes[0], self.tasks, strict=True):
            for method, color in zip(COMPARED, sns.color_palette("colorblind"), strict=False):
                rows = self.summary[(self.summary.task == task) & (self.summary.method == NAMES[method])]
                axis.plot(rows.k, rows.value, "o-", ms=4, color=color, label=NAMES[method])
                axis.fill_between(rows.k, rows.low, rows.high, color=color, alpha=0.15, lw=0)
            axis.set(xscale="log", title=task, xlabel="k")
            axis.set_xticks(self.ks, labels=map(str, self.ks))
            axis.minorticks_off()
            sns.despine(ax=axis)
        axes[0][0].set_ylabel("pass@k, %")
        axes[0][-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    def paper(self) -> pd.DataFrame:
        """The paper's Tables 5 to 7 as printed; the last column is ours: the error that AutoDeco cuts, in %."""
        wide = printed("autodeco", "Tables 5-7").pivot(index=["model", "task", "k"], columns="method", values="value")
        wide = wide[["default", "autodeco"]].rename_axis(columns=None)
        cut = 100 * (wide.autodeco - wide.default) / (100 - wide.default)
        return wide.assign(error_cut=cut.round(2)).reset_index()

    def claims(self) -> list[Claim]:
        """The gain over default sampling at the largest k, and the same against the constant."""
        cells, k, found = self.paper(), self.ks[-1], []
        cells = cells[cells.k == 64]
        gain = float((cells.autodeco - cells.default).mean())
        for row in self.comparisons[self.comparisons.k == k].itertuples():
            e = Estimate(row.difference, row.low, row.high, self.items, row.p_holm)
            says = f"AutoDeco beats {row.against} at pass@{k} on {row.task}"
            if row.against == NAMES["default"]:
                printed_gain = f"{gain:+.2f} points at k = 64"
                found.append(Claim("Tables 5-7", says, printed_gain, e, "points", more(e, gain)))
            else:
                found.append(Claim(OWN, says, "", e, "points", more(e)))
        return found

    def reading(self) -> str:
        """pass@1 and pass@k at the largest k, against both."""
        lines = []
        for (task, against), rows in self.comparisons.groupby(["task", "against"], sort=False):
            parts = [
                f"pass@{r.k} {r.difference:+.1f} points [{r.low:.1f}, {r.high:.1f}], {r.verdict}"
                + ("" if math.isnan(r.error_cut) else f", error cut by {r.error_cut:.0f} %")
                for r in rows[rows.k.isin([1, self.ks[-1]])].itertuples()
            ]
            lines.append(f"- **{task}**, AutoDeco against {against}: {'; '.join(parts)}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        if "math" not in self.tasks:
            return {}
        k = self.ks[-1]
        e = percent(paired_mean_difference(self.values["math", "autodeco", k], self.values["math", "default", k]))
        return {"autodeco_passk_gain": headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons}
        return self.write(tables, {"pass_at_k": self.figure_pass()})
