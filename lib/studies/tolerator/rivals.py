"""Today's rivals at equal forwards; where masking again pays, by how an answer is written and what a model learnt.

Every method is compared with vanilla decoding at its own temperature, and with TOLERATOR.
"""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.analysis.stats import Estimate
from lib.reporting.claims import OWN, Claim, above_floor, more
from lib.reporting.result_folder import headline
from lib.reporting.tables import (
    accuracy_cells,
    accuracy_difference,
    comparison_table,
    difference_table,
    estimate_of,
    outcomes,
)
from lib.running.run import Run
from lib.studies.base import SHORT, limit
from lib.studies.tolerator.base import (
    DiffusionStudy,
    differences_in_words,
    forwards_at,
    mean_difference,
    over_tasks,
    shared,
    spending,
)

# Method -> decoder and options, as published but for ReMDM's scheme for LLaDA, which its authors draw at 1.
METHODS = {
    "vanilla": ("vanilla", {}),
    "vanilla, greedy": ("vanilla", {"temperature": 0.0}),
    "TOLERATOR": ("tolerator", {}),
    "TOLERATOR, greedy": ("tolerator", {"temperature": 0.0, "refine_temperature": 0.0}),
    "RCR": ("rcr", {}),
    "ReMDM": ("remdm", {}),
    "ReMDM for LLaDA": ("remdm_llada", {"temperature": 0.3}),
    "WINO": ("wino", {}),
    "Fast-dLLM": ("fast_dllm", {}),
    "T2M": ("t2m", {}),
    "CoRe": ("core", {}),
    "Settle (ours)": ("settle", {}),
}
DRAWN, GREEDY = (
    ("TOLERATOR", "RCR", "ReMDM", "ReMDM for LLaDA"),
    ("WINO", "Fast-dLLM", "T2M", "CoRe", "Settle (ours)"),
)
# Method -> vanilla decoding and TOLERATOR at its temperature: 0.3 (TOLERATOR's fill-up as published 0.5), or greedy.
EQUAL = dict.fromkeys(DRAWN, ("vanilla", "TOLERATOR"))
EQUAL |= dict.fromkeys(("TOLERATOR, greedy", *GREEDY), ("vanilla, greedy", "TOLERATOR, greedy"))
# Of the corrector: the rules that believe what it says of visible tokens, and what they are compared with.
CORRECTED = ("vanilla", "vanilla, greedy", "TOLERATOR", "T2M", "CoRe")
SEVERAL = ("vanilla", "TOLERATOR")  # have all samples: the headlines compare them
CONTRAST = ("terse",)  # no task of its own: the questions of `math`
PLAIN, CORRECTOR = "plain", "corrector"


@dataclass(frozen=True)
class Study(DiffusionStudy):
    """All of METHODS at the `budget`; `corrector`: a model that learnt to mend wrong tokens, "" for none."""

    tasks: tuple[str, ...] = ("math", "terse", "logic", "qa", "code")
    corrector: str = "study-corrector"
    budget: str = "middle"

    notebook = "28_tolerator_rivals"
    key_parts = ("network", "method")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, network, method)."""
        asked = [(PLAIN, self.model, name) for name in METHODS]
        asked += [(CORRECTOR, self.corrector, name) for name in CORRECTED if self.corrector]
        return {
            (short, network, name): self._at(short, model, name)
            for short in self.tasks
            for network, model, name in asked
        }

    def _at(self, short: str, model: str, name: str) -> Run:
        method, options = METHODS[name]
        forwards = forwards_at(self.budget, self.canvas(short))
        options = limit(self.tokens, "canvas") | spending(method, forwards) | options
        samples = self.samples if name in SEVERAL else 1
        return Run.of(model, SHORT.get(short, short), method, self.items, samples, **options)

    @property
    def own_tasks(self) -> list[str]:
        """The tasks that count in a mean: not the contrast, unless there is no other."""
        return [task for task in self.tasks if task not in CONTRAST] or list(self.tasks)

    @property
    def networks(self) -> dict[str, tuple[str, ...]]:
        """Which methods decode with which network."""
        return {PLAIN: tuple(METHODS)} | ({CORRECTOR: CORRECTED} if self.corrector else {})

    def pair(self, task: str, network: str, a: str, b: str) -> tuple[list[dict], list[dict]]:
        """Lines of two methods, on the samples that both have."""
        return shared(self.lines[task, network, a], self.lines[task, network, b])

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval, a line a network and method, a column a task."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        table = rows.pivot(index=["network", "method"], columns="label", values="cell")
        index = [(network, name) for network, names in self.networks.items() for name in names]
        return table.loc[index, list(self.tasks)].rename_axis(columns=None)

    def spent(self) -> pd.DataFrame:
        """Mean forwards that a response of the plain network took; rules with a threshold stop early."""
        rows = self.summary[self.summary.network == PLAIN]
        table = rows.pivot(index="method", columns="label", values="forwards").round(1)
        return table.loc[list(METHODS), list(self.tasks)].rename_axis(index=None, columns=None)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every method minus vanilla decoding at its temperature, task by task, in points, paired; p after Holm."""
        return comparison_table(
            [
                ({"network": network, "method": a, "task": task}, *self.pair(task, network, a, EQUAL[a][0]))
                for network, names in self.networks.items()
                for a in names
                if a in EQUAL
                for task in self.tasks
            ]
        )

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """Every method minus vanilla decoding and minus TOLERATOR at its temperature, mean of the tasks but terse."""
        found = [
            ({"network": network, "method": a, "against": b}, self._over_tasks(network, a, b))
            for network, names in self.networks.items()
            for a in names
            for b in EQUAL.get(a, ())
            if a != b and b in names
        ]
        return difference_table(found)

    def _over_tasks(self, network: str, a: str, b: str) -> Estimate:
        return over_tasks([self.pair(task, network, a, b) for task in self.own_tasks])

    def gains(self, tasks: list[str], network: str, a: str) -> list[np.ndarray]:
        """Of each task the gain of `a` over vanilla decoding at its temperature, [items] in [-1, 1]."""
        pairs = [self.pair(task, network, a, EQUAL[a][0]) for task in tasks]
        return [outcomes(x).mean(1) - outcomes(y).mean(1) for x, y in pairs]

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """By how many points a gain is more than another, on the same items; p by sign flips, after Holm.

        Worded against terse: the same questions. The corrector against the plain network, over the tasks but terse.
        """
        found = []
        for a in ("TOLERATOR", "WINO", "T2M", "CoRe"):
            if {"math", "terse"} <= set(self.tasks):
                more_of = difference_of_gains(*(self.gains([task], PLAIN, a) for task in ("math", "terse")))
                found.append(({"method": a, "contrast": "worded - terse"}, more_of))
            if self.corrector and a in CORRECTED:
                both = (self.gains(self.own_tasks, network, a) for network in (CORRECTOR, PLAIN))
                found.append(({"method": a, "contrast": "corrector - plain"}, difference_of_gains(*both)))
        return difference_table(found)

    def figure_gains(self):
        """Gain over vanilla decoding at the same temperature, with paired 95 % intervals, a panel a task."""
        rows = self.comparisons
        names = [(n, m) for n, m in dict.fromkeys(zip(rows.network, rows.method, strict=True))][::-1]
        labels = [m if n == PLAIN else f"{m}, corrector" for n, m in names]
        size = (2 + 2.2 * len(self.tasks), 0.34 * len(names) + 1.2)
        figure, axes = plt.subplots(1, len(self.tasks), figsize=size, sharey=True, squeeze=False)
        for axis, task in zip(axes[0], self.tasks, strict=True):
            here = rows[rows.task == task].set_index(["network", "method"]).loc[names]
            error = [here.difference - here.low, here.high - here.difference]
            axis.errorbar(here.difference, range(len(names)), xerr=error, fmt="o", ms=4, capsize=3)
            tied = here.verdict.to_numpy() == "tied"
            axis.plot(here.difference[tied], np.flatnonzero(tied), "o", ms=4, mfc="white", mec="C0", zorder=3)
            axis.axvline(0, color="0.4", lw=1)
            axis.set_yticks(range(len(names)), labels, fontsize="small")
            axis.set(title=task, xlabel="points")
            sns.despine(ax=axis)
        return figure

    def claims(self) -> list[Claim]:
        """Over the tasks: every method beats vanilla decoding, and TOLERATOR beats every other method."""
        accuracy, found = self.summary.set_index(["label", "network", "method"]).accuracy, []
        for row in self.pooled.itertuples():
            e, a, b = estimate_of(row), row.method, row.against
            highest = [accuracy[task, row.network, name] for task in self.own_tasks for name in (a, b)]
            who = "" if row.network == PLAIN else ", on the corrector"
            if b in EQUAL[a][:1]:
                says = f"{a} beats {b}, mean of the tasks{who}"
            else:
                e, says = Estimate(-e.value, -e.high, -e.low, e.n, e.p), f"{b} beats {a}, mean of the tasks{who}"
            found.append(Claim(OWN, says, "", e, "points", above_floor(more(e), *highest)))
        return found

    def reading(self) -> str:
        """Every method against vanilla decoding by task, against TOLERATOR over the tasks, and the contrasts."""
        lines = []
        for (network, method), rows in self.comparisons.groupby(["network", "method"], sort=False):
            where = "" if network == PLAIN else " on the corrector"
            lines.append(f"- **{method}**{where} minus {EQUAL[method][0]}, in points: {differences_in_words(rows)}.")
        rows = self.pooled[self.pooled.against.str.startswith("TOLERATOR") & (self.pooled.network == PLAIN)]
        lines.append(
            f"- Minus TOLERATOR at the same temperature, mean of the tasks: {differences_in_words(rows, 'method')}."
        )
        for contrast, rows in self.contrasts.groupby("contrast", sort=False):
            lines.append(f"- How much more is gained, {contrast}: {differences_in_words(rows, 'method')}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """TOLERATOR as published by how answers are written, on the corrector over the tasks, and WINO's gain."""
        pairs = {
            "tolerator_vs_vanilla_worded": ("math", "TOLERATOR"),
            "tolerator_vs_vanilla_terse": ("terse", "TOLERATOR"),
            "tolerator_vs_vanilla_logic": ("logic", "TOLERATOR"),
            "wino_vs_vanilla_worded": ("math", "WINO"),
        }
        found = {
            name: accuracy_difference(*self.pair(task, PLAIN, a, EQUAL[a][0]))
            for name, (task, a) in pairs.items()
            if task in self.tasks
        }
        if self.corrector:
            found["tolerator_vs_vanilla_corrector"] = self._over_tasks(CORRECTOR, "TOLERATOR", "vanilla")
        return {
            name: headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
            for name, e in found.items()
        }

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons, "pooled": self.pooled}
        tables["contrasts"] = self.contrasts
        return self.write(tables, {"gains": self.figure_gains()})


def difference_of_gains(a: list[np.ndarray], b: list[np.ndarray]) -> Estimate:
    """Mean over tasks of the gains a minus the gains b, in points, both [items] in [-1, 1] of the same items."""
    e = mean_difference(*([(1 + own) / 2 for own in gains] for gains in (a, b)))  # shares, as that asks for
    return Estimate(200 * e.value, 200 * e.low, 200 * e.high, e.n, e.p)
