"""Expert-guided tuning of a constant, as an oracle on test items and honestly on validation items."""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.errors import UserError, require_known
from lib.reporting import figures
from lib.reporting.claims import HOLDS, OPEN, OWN, REFUTED, Claim, at_least, more
from lib.reporting.tables import accuracy_cells, comparison_table, estimate_of, summary_row
from lib.running.run import Run
from lib.studies.autodeco.scores import mean_setting
from lib.studies.base import SHORT, BaseStudy, limit

TEMPERATURES = tuple(round(0.1 * i, 1) for i in range(16))  # 0 is greedy
TOP_PS = tuple(round(0.1 * i, 1) for i in range(1, 10))
SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Study(BaseStudy):
    """The paper's coordinate search: temperature in steps of 0.1 at top-p 1, then top-p at the best temperature.

    `validation_items`: how many held-out items the honest search may look at. `splits`: on which items constants are
    sought; the paper has `test` alone, and so have tasks without validation items. `tokens`: the length limit; 0 is
    the task's own.
    """

    samples: int = 4
    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    heads: str = "study-ar-autodeco"
    validation_items: int = 50
    splits: tuple[str, ...] = SPLITS
    tokens: int = 0

    notebook = "12_autodeco_sweep"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation_items < 1:
            raise UserError(f"validation_items must be 1 or more, not {self.validation_items}")
        require_known("split", self.splits, SPLITS)
        if "test" not in self.splits:
            raise UserError("splits must hold test: it is what the paper's search looks at")

    def _run(self, short: str, split: str, temperature: float, top_p: float = 1.0) -> Run:
        items = self.items if split == "test" else self.validation_items
        task, options = SHORT.get(short, short), {"temperature": temperature, "top_p": top_p, **limit(self.tokens)}
        samples = self.samples if temperature else 1  # greedy draws nothing
        return Run.of(self.model, task, "autoregressive", items=items, samples=samples, split=split, **options)

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, split, temperature, top_p), and (task, "test", "autodeco", None)."""
        runs = {}
        for short in self.tasks:
            task, size = SHORT.get(short, short), {"items": self.items, "samples": self.samples}
            size |= limit(self.tokens)
            runs[short, "test", "autodeco", None] = Run.of(self.heads, task, "autodeco", **size)
            for split in self.splits:
                for temperature in TEMPERATURES:
                    runs[short, split, temperature, 1.0] = self._run(short, split, temperature)
        return runs

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """The sweep of top-p at the temperature that each split found best; of validation's on the test items too."""
        runs = {}
        for short in self.tasks:
            best = {split: best_temperature(lines, short, split) for split in self.splits}
            for split, temperature in sorted({*best.items(), *(("test", value) for value in best.values())}):
                for top_p in TOP_PS if temperature else ():  # top-p changes nothing in greedy decoding
                    runs[short, split, temperature, top_p] = self._run(short, split, temperature, top_p)
        return runs

    def chosen(self, task: str, split: str) -> tuple[float, float]:
        """(temperature, top-p) that the search on a split ends with."""
        temperature = best_temperature(self.lines, task, split)
        grid = [key for key in self.lines if key[:3] == (task, split, temperature)]
        return temperature, _best(self.lines, grid)[3]

    def contenders(self, task: str) -> dict[str, tuple]:
        """Those that are compared on the test items, by name: their keys."""
        found = {"AutoDeco": (task, "test", "autodeco", None)}
        names = {"validation": "tuned on validation", "test": "oracle: tuned on test"}
        return found | {name: (task, "test", *self.chosen(task, s)) for s, name in names.items() if s in self.splits}

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a setting: accuracy with its interval and cost; AutoDeco's setting is its mean."""
        rows = []
        for (task, split, temperature, top_p), lines in self.lines.items():
            setting = {"temperature": temperature, "top_p": top_p}
            setting = mean_setting(lines) if temperature == "autodeco" else setting
            run = self.all_runs[task, split, temperature, top_p]
            method = "AutoDeco" if temperature == "autodeco" else "constant"
            rows.append(summary_row(run, lines, label=task, method=method, split=split, **setting))
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """Test accuracy in % of the contenders, and the constant that each search found."""
        rows = []
        for task in self.tasks:
            for name, key in self.contenders(task).items():
                row = summary_row(self.all_runs[key], self.lines[key])
                setting = (
                    mean_setting(self.lines[key]) if name == "AutoDeco" else {"temperature": key[2], "top_p": key[3]}
                )
                rows.append({"task": task, "": name, **setting, "accuracy": accuracy_cells(pd.DataFrame([row]))[0]})
        return pd.DataFrame(rows).set_index(["task", ""])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """AutoDeco minus the tuned constants in points, paired on test items; p after Holm."""
        pairs = []
        for task in self.tasks:
            (_, ours), *others = self.contenders(task).items()
            pairs += [({"task": task, "against": name}, self.lines[ours], self.lines[key]) for name, key in others]
        return comparison_table(pairs)

    def figure_sweep(self):
        """Test accuracy against temperature, and against top-p at the oracle's temperature; a row a task."""
        rows = self.summary[(self.summary.split == "test") & (self.summary.method == "constant")]
        figure, axes = plt.subplots(
            len(self.tasks), 2, figsize=(8, 2.8 * len(self.tasks)), squeeze=False, sharey="row", sharex="col"
        )
        looks = figures.looks(["constant", "AutoDeco"])
        for line, task in zip(axes, self.tasks, strict=True):
            here = rows[rows.label == task]
            temperature = best_temperature(self.lines, task, "test")
            ours = self.summary[(self.summary.label == task) & (self.summary.method == "AutoDeco")].iloc[0]
            for axis, part, x in (
                (line[0], here[here.top_p == 1.0], "temperature"),
                (line[1], here[here.temperature == temperature], "top_p"),
            ):
                part = part.sort_values(x)
                figures.curve(axis, "constant", part[x], part.accuracy, part.low, part.high, **looks["constant"])
                ends = [part[x].min(), part[x].max()]
                band = ([ours.accuracy] * 2, [ours.low] * 2, [ours.high] * 2)
                figures.curve(axis, "AutoDeco", ends, *band, **looks["AutoDeco"] | {"marker": ""})
                sns.despine(ax=axis)
            line[0].set(title=f"{task}: top-p 1", ylabel="accuracy, %")
            line[1].set(title=f"{task}: temperature {temperature}")
            if not temperature:
                line[1].text(0.5, 0.5, "greedy: top-p changes nothing", ha="center", transform=line[1].transAxes)
            figures.name_ends(line)
        axes[-1][0].set_xlabel("temperature")
        axes[-1][1].set_xlabel("top-p")
        return figure

    def claims(self) -> list[Claim]:
        """Less than a point short of the oracle; and, which the paper does not ask, better than honest tuning."""
        found = []
        for row in self.comparisons.itertuples():
            e = estimate_of(row)
            if row.against.startswith("oracle"):
                says = f"AutoDeco falls less than a point short of the oracle on {row.task}"
                found.append(Claim("Figure 3", says, "above -1 point", e, "points", at_least(e, -1)))
            else:
                says = f"AutoDeco beats a constant tuned on validation items on {row.task}"
                found.append(Claim(OWN, says, "", e, "points", more(e)))
        return found

    def reading(self) -> str:
        """How far AutoDeco is from either constant, and whether the claim of one point holds."""
        lines = []
        for against, rows in self.comparisons.groupby("against", sort=False):
            parts = [
                f"{r.task} {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}], {r.verdict}" for r in rows.itertuples()
            ]
            lines.append(f"- AutoDeco minus the constant **{against}**, in points: {'; '.join(parts)}.")
        oracle = self.comparisons[self.comparisons.against.str.startswith("oracle")]
        verdicts = {r.task: at_least(estimate_of(r), -1).verdict for r in oracle.itertuples()}
        words = {HOLDS: "within it", REFUTED: "more than it", OPEN: OPEN}
        tasks = {verdict: [task for task, own in verdicts.items() if own == verdict] for verdict in words}
        said = "; ".join(f"{words[verdict]} on {', '.join(own)}" for verdict, own in tasks.items() if own)
        lines.append(f"- The paper says that AutoDeco falls less than one point short of the oracle. Here: {said}.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons}
        return self.write(tables, {"sweep": self.figure_sweep()})


def best_temperature(lines: dict[tuple, list[dict]], task: str, split: str) -> float:
    """The temperature with the highest accuracy at top-p 1."""
    return _best(lines, [(task, split, temperature, 1.0) for temperature in TEMPERATURES])[2]


def _best(lines: dict[tuple, list[dict]], keys: list[tuple]) -> tuple:
    """The key with the highest accuracy; of equals the one nearest to plain sampling."""
    return max(keys, key=lambda key: (np.mean([line["correct"] for line in lines[key]]), -abs(key[2] - 1), key[3]))
