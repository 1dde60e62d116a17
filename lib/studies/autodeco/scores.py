"""AutoDeco's score tables with the controls they lack: is token-level control better than the right constant?"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lib.errors import UserError, require_known
from lib.reporting import figures
from lib.reporting.claims import (
    CLAIM,
    EQUIVALENT,
    HOLDS,
    OPEN,
    OWN,
    REFUTED,
    REPEAT,
    UNTESTABLE,
    Claim,
    above_floor,
    more,
    with_room,
)
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, accuracy_difference, comparison_table, estimate_of, summary_row
from lib.running.run import Run
from lib.studies.autodeco.printed_gains import PRINTED_ROWS, printed_gain
from lib.studies.base import SHORT, BaseStudy, limit

NAMES = {
    "greedy": "greedy",
    "default": "default (T = 1, P = 1)",
    "card": "recommended",
    "entropy": "entropy rule, untuned",
    "autodeco": "AutoDeco",
    "constant": "its mean as a constant",
    "shuffled": "its settings shuffled",
}
# Temperature and top-p that a model's card recommends; the study models have none and take R1-Distill's.
CARDS = {"smollm2-135m": (0.2, 0.9)}
# Headline name -> the method that AutoDeco is compared with.
HEADLINES = {
    f"autodeco_vs_{words}_{task}": (task, method)
    for task in ("math", "qa", "code")
    for words, method in (("default", "default"), ("mean_constant", "constant"), ("greedy", "greedy"))
}


@dataclass(frozen=True)
class Study(BaseStudy):
    """One model, its heads, and what can be had without heads; the constant follows from AutoDeco's responses.

    `tokens`: the length limit; 0 is the task's own.
    """

    items: int = 150

    samples: int = 8
    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    heads: str = "study-ar-autodeco"
    methods: tuple[str, ...] = tuple(NAMES)
    tokens: int = 0

    notebook = "10_autodeco_scores"
    printed_in = "autodeco"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("method", self.methods, NAMES)
        if not {"autodeco", "constant"} <= set(self.methods):
            raise UserError("methods must hold autodeco and constant: they are what the study compares")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method)."""
        most = limit(self.tokens)
        size = {"items": self.items, "samples": self.samples, **most}
        temperature, top_p = CARDS.get(self.model, (0.6, 0.95))
        runs = {}
        for short in self.tasks:
            task = SHORT.get(short, short)
            runs[short, "greedy"] = Run.of(self.model, task, "autoregressive", items=self.items, **most)
            runs[short, "default"] = Run.of(self.model, task, "autoregressive", temperature=1.0, **size)
            runs[short, "card"] = Run.of(
                self.model, task, "autoregressive", temperature=temperature, top_p=top_p, **size
            )
            runs[short, "entropy"] = Run.of(self.model, task, "entropy", **size)
            runs[short, "autodeco"] = Run.of(self.heads, task, "autodeco", **size)
            runs[short, "shuffled"] = Run.of(self.heads, task, "autodeco", shuffled=True, **size)
        return {key: run for key, run in runs.items() if key[1] in self.methods}

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """Ordinary sampling at the mean temperature and top-p that AutoDeco chose on this task."""
        runs = {}
        for short in self.tasks:
            mean = mean_setting(lines[short, "autodeco"])
            task, size = SHORT.get(short, short), {"items": self.items, "samples": self.samples}
            size |= limit(self.tokens)
            runs[short, "constant"] = Run.of(self.model, task, "autoregressive", **mean, **size)
        return runs

    @property
    def names(self) -> list[str]:
        """The methods as a table calls them, in its order."""
        return [words for name, words in NAMES.items() if name in self.methods]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a run: accuracy with its interval, the mean setting, and what it cost."""
        rows = []
        for (task, method), lines in self.lines.items():
            run = self.all_runs[task, method]
            options = dict(run.options)
            chosen = mean_setting(lines) if run.method == "autodeco" else {}
            setting = {name: chosen.get(name, options.get(name)) for name in ("temperature", "top_p")}
            setting = setting if run.method != "entropy" else {}
            rows.append(summary_row(run, lines, label=task, method=NAMES[method], **setting))
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval: a line a method, a column a task."""
        table = self.summary.assign(cell=accuracy_cells(self.summary)).pivot(
            index="method", columns="label", values="cell"
        )
        return table.loc[self.names, list(self.tasks)].rename_axis(index=None, columns=None)

    def settings(self) -> pd.DataFrame:
        """Mean temperature and top-p of the tokens, a column a task."""
        rows = self.summary[self.summary.method.isin([NAMES["autodeco"], NAMES["constant"]])]
        return self._wide(rows, ["temperature", "top_p"]).round(3)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """AutoDeco minus every other way to decode, in points, paired on items; p after Holm."""
        return comparison_table(
            [
                ({"task": task, "against": NAMES[method]}, self.lines[task, "autodeco"], lines)
                for (task, method), lines in self.lines.items()
                if method != "autodeco"
            ]
        )

    def costs(self) -> pd.DataFrame:
        """Forwards and seconds a response, and the share in % that the length limit cut; a column a task."""
        rows = self.summary.assign(
            cut=[
                100 * np.mean([line["tokens_kept"] == self._limit(key) for line in lines])
                for key, lines in self.lines.items()
            ]
        )
        return self._wide(rows, ["forwards", "seconds", "cut"]).round(4)

    def _wide(self, rows: pd.DataFrame, values: list[str]) -> pd.DataFrame:
        """A line a method, under each value a column a task."""
        table = rows.pivot(index="method", columns="label", values=values)
        lines = [name for name in self.names if name in table.index]
        columns = [(value, task) for value in values for task in self.tasks]
        return table.loc[lines, columns].rename_axis(index=None, columns=[None, None])

    def _limit(self, key: tuple) -> int:
        return dict(self.all_runs[key].options)["max_new_tokens"]

    def figure_differences(self):
        """AutoDeco minus each, in points with paired 95 % intervals, a panel a task; hollow where tied by Holm."""
        names = {name: f"AutoDeco - {name}" for name in self.names if name != NAMES["autodeco"]}
        rows = self.comparisons.set_index("against")
        return figures.forest({task: rows[rows.task == task] for task in self.tasks}, names)

    def paper(self) -> pd.DataFrame:
        """The paper's Tables 1 and 2 as printed; the last column is ours: AutoDeco minus default of their cells."""
        wide = printed("autodeco", "Table 1", "Table 2").pivot(
            index=["table", "model", "task"], columns="method", values="value"
        )
        wide = wide[["greedy", "default", "autodeco"]].rename_axis(columns=None)
        return wide.assign(gain=(wide.autodeco - wide.default).round(2)).reset_index()

    def claims(self) -> list[Claim]:
        """Against default sampling and greedy decoding as printed; against the constant, which is our control.

        Where the paper prints a loss, that is the claim. A task that it does not print is held against the mean of
        its general tasks, and repeats what `qa` says of these.
        """
        method_of, found = {name: method for method, name in NAMES.items()}, []
        for row in self.comparisons.itertuples():
            e, method, both = estimate_of(row), method_of[row.against], self._accuracies(row)
            says = f"AutoDeco beats {row.against} on {row.task}"
            if method in ("default", "greedy"):
                (where, gain), base = printed_gain(row.task, method, self.model), both[1]
                if gain < 0:
                    e, gain, base = e.mirrored(), -gain, both[0]
                    says = f"{row.against} beats AutoDeco on {row.task}"
                words = f"{gain:+.2f} points" + ("" if row.task in PRINTED_ROWS else ", mean of its general tasks")
                kind = CLAIM if row.task in PRINTED_ROWS or row.task == "qa" else REPEAT
                kind = REPEAT if row.task == "aime25" and "aime24" in self.tasks else kind  # one cell for both years
                ruling = with_room(above_floor(more(e, gain), *both), 100 - base)
                found.append(Claim(where, says, words, e, "points", ruling, kind=kind))
            elif method in ("constant", "shuffled"):
                found.append(Claim(OWN, says, "", e, "points", above_floor(more(e), *both)))
        return found

    def _accuracies(self, row) -> list[float]:
        """In % of the two that a row of `comparisons` is of."""
        return [self._accuracy[row.task, name] for name in (NAMES["autodeco"], row.against)]

    @cached_property
    def _accuracy(self) -> pd.Series:
        return self.summary.set_index(["label", "method"]).accuracy

    def reading(self) -> str:
        """The answer first: is token-level control better than the right constant?"""
        rows = self.comparisons.set_index(["against", "task"])
        lines = []
        for method, words in (
            ("constant", "the same mean temperature and top-p as a constant"),
            ("shuffled", "its own settings in random order"),
            ("default", "default sampling"),
            ("greedy", "greedy decoding"),
        ):
            if method not in self.methods:
                continue
            parts = [
                f"{task} {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}], {r.verdict}"
                for task, r in rows.loc[NAMES[method]].iterrows()
            ]
            lines.append(f"- AutoDeco minus **{words}**, in points: {'; '.join(parts)}.")
        return "\n".join(lines)

    def answer(self) -> str:
        """The first paragraph of the report, from the comparison with the constant."""
        rows = self.comparisons[self.comparisons.against == NAMES["constant"]]
        words = {HOLDS: "yes", REFUTED: "no, worse", EQUIVALENT: "no, equal within a point", OPEN: "undecided"}
        parts, most = [], []
        for row in rows.itertuples():
            ruling = above_floor(more(estimate_of(row)), *self._accuracies(row))
            told = f"{row.difference:+.1f} points [{ruling.low:.1f}, {ruling.high:.1f}], {row.items} items"
            parts.append(f"{words.get(ruling.verdict, ruling.verdict)} on {row.task} ({told})")
            most += [] if ruling.verdict == UNTESTABLE else [ruling.high]
        samples = f"{self.samples} sample{'s' if self.samples > 1 else ''} an item"
        text = (
            f"**Is token-level control better than the right constant?** {'; '.join(parts).capitalize()}. AutoDeco "
            f"against ordinary sampling at its own mean temperature and top-p, {samples}, paired on items; intervals "
            "are corrected for the table."
        )
        if most:
            text += (
                f" They leave room for a gain of at most {max(most):.1f} points on any task that is testable here."
            )
        return text

    def headlines(self) -> dict[str, dict]:
        found = {}
        for name, (task, method) in HEADLINES.items():
            if {(task, "autodeco"), (task, method)} <= self.lines.keys():
                e = accuracy_difference(self.lines[task, "autodeco"], self.lines[task, method])
                found[name] = headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons}
        return self.write(tables, {"differences": self.figure_differences()})


def mean_setting(lines: list[dict]) -> dict[str, float]:
    """Mean temperature and top-p over all drawn tokens, the EoT among them."""
    tokens = [line["drawn"] for line in lines]
    return {
        name: round(sum(line[name] * n for line, n in zip(lines, tokens, strict=True)) / sum(tokens), 3)
        for name in ("temperature", "top_p")
    }
