"""pass@k of diffusion models: does masking again lose what drawing many times finds, and are its texts more alike?"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.analysis.stats import mean_interval, paired_mean_difference
from lib.reporting.claims import OWN, Claim, above_floor, more
from lib.reporting.result_folder import headline
from lib.reporting.tables import difference_table, estimate_of, percent
from lib.running.run import Run
from lib.studies.pass_at_k import PassAtK
from lib.studies.tolerator.base import BUDGETS, RecipeStudy, forwards_at, spending
from lib.studies.tolerator.scores import NAMES

COMPARED = ("vanilla", "remdm", "tolerator")


@dataclass(frozen=True)
class Study(PassAtK, RecipeStudy):
    """Vanilla decoding, ReMDM and TOLERATOR, each as published, at `budget` forwards; `samples` is the largest k."""

    items: int = 30

    samples: int = 16
    budget: str = "middle"

    notebook = "29_tolerator_pass_at_k"
    names, compared = NAMES, COMPARED

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method)."""
        return {
            (short, method): self._run(
                short, method, **spending(method, forwards_at(self.budget, self.canvas(short)))
            )
            for short in self.tasks
            for method in COMPARED
        }

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """A method minus vanilla decoding at each k, in points, paired on items; p by sign flips.

        Tested are k = 1 and the largest k, p after Holm over all of them.
        """
        found = [
            ({"task": task, "method": NAMES[method], "k": k}, self.difference(task, method, "vanilla", k))
            for task in self.tasks
            for method in COMPARED[1:]
            for k in self.ks
        ]
        return difference_table(found, tested=[labels["k"] in (1, self.ks[-1]) for labels, _ in found])

    @cached_property
    def diversity(self) -> pd.DataFrame:
        """How many of a question's texts differ, in % of its samples: all of them, and the right ones among these.

        Right texts of a task with one right text are 1 at most. A row a task and method, with the interval (bootstrap
        over items), and the method minus vanilla, p after Holm.
        """
        shares = {key: different(lines) for key, lines in self.lines.items()}
        kinds = ("texts", "right texts")
        found = [
            ({"task": task, "method": NAMES[method], "of": kind}, percent(paired_mean_difference(ours, theirs)))
            for task in self.tasks
            for method in COMPARED[1:]
            for kind, ours, theirs in zip(kinds, shares[task, method], shares[task, "vanilla"], strict=True)
        ]
        against = difference_table(found).set_index(["task", "method", "of"])
        rows = []
        for task, method in self.lines:
            for kind, values in zip(kinds, shares[task, method], strict=True):
                e, label = percent(mean_interval(values)), (task, NAMES[method], kind)
                row = dict(zip(("task", "method", "of"), label, strict=True))
                row |= {"differ": e.value, "differ_low": e.low, "differ_high": e.high}
                rows.append(row | (against.loc[label].to_dict() if label in against.index else {}))
        return pd.DataFrame(rows)

    def claims(self) -> list[Claim]:
        """Whether either method finds more or less than vanilla decoding in one draw, and in the largest k."""
        found, at = self.summary.set_index(["task", "method", "k"]).value, BUDGETS[self.budget]
        claims = []
        for row in self.comparisons[self.comparisons.k.isin([1, self.ks[-1]])].itertuples():
            says = f"{row.method} finds more than vanilla decoding at pass@{row.k} on {row.task}, {at}"
            both = [found[row.task, name, row.k] for name in (row.method, NAMES["vanilla"])]
            e = estimate_of(row)
            claims.append(Claim(OWN, says, "", e, "points", above_floor(more(e), *both)))
        return claims

    def reading(self) -> str:
        """pass@1 and the largest k against vanilla decoding, and how many texts differ."""
        lines = []
        for (task, method), rows in self.comparisons.groupby(["task", "method"], sort=False):
            parts = [
                f"pass@{r.k} {r.difference:+.1f} points [{r.low:.1f}, {r.high:.1f}], {r.verdict}"
                for r in rows[rows.k.isin([1, self.ks[-1]])].itertuples()
            ]
            lines.append(f"- **{task}**, {method} against vanilla decoding: {'; '.join(parts)}.")
        for task in self.tasks:
            rows = self.diversity[(self.diversity.task == task) & (self.diversity.of == "texts")]
            parts = [
                f"{r.method} {r.differ:.0f} [{r.differ_low:.0f}, {r.differ_high:.0f}]" for r in rows.itertuples()
            ]
            lines.append(f"- **{task}**, different texts in % of {self.samples} draws: {', '.join(parts)}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        found, asked = {}, {"pass1_gain": ("math", 1), "passk_gain": ("math", self.ks[-1])}
        for name, (task, k) in (asked | {"pass1_gain_logic": ("logic", 1)}).items():
            for method in ("remdm", "tolerator") if task in self.tasks else ():
                e = self.difference(task, method, "vanilla", k)
                entry = headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
                found[f"{method}_{name}"] = entry
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons, "diversity": self.diversity}
        return self.write(tables, {"pass_at_k": self.figure_pass()})


def different(lines: list[dict]) -> tuple:
    """Of each item, in the order of ids, how many of its texts differ, and how many right ones, as shares of its
    samples: two arrays [items]. Spaces at the ends make no difference."""
    rows = pd.DataFrame(lines)[["item", "sample", "correct", "text"]].assign(text=lambda r: r.text.str.strip())
    each = rows.groupby("item")
    count = each["sample"].count()
    right = rows[rows.correct == 1].groupby("item").text.nunique().reindex(count.index, fill_value=0)
    return (each.text.nunique() / count).to_numpy(), (right / count).to_numpy()
