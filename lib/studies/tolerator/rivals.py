"""Today's rivals at equal forwards; where masking again pays, by how an answer is written and what a model learnt.

Every method is compared with vanilla decoding at its own temperature, and with TOLERATOR.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate
from lib.reporting import figures
from lib.reporting.claims import CLAIM, OWN, REPEAT, Claim, above_floor, more
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
    BUDGETS,
    DiffusionStudy,
    differences_in_words,
    forwards_at,
    over_tasks,
    shared,
    spending,
)
from lib.studies.tolerator.contrasts import difference_of_gains

# Method -> decoder and options, as published but for ReMDM's scheme for LLaDA, which its authors draw at 1.
METHODS = {
    "vanilla": ("vanilla", {}),
    "vanilla, greedy": ("vanilla", {"temperature": 0.0}),
    "TOLERATOR": ("tolerator", {}),
    "TOLERATOR, no penalty, 0.3": ("tolerator", {"temperature": 0.3, "eot_form": "off"}),
    "TOLERATOR, greedy": ("tolerator", {"temperature": 0.0, "refine_temperature": 0.0, "eot_form": "off"}),
    "RCR": ("rcr", {}),
    "ReMDM": ("remdm", {}),
    "ReMDM for LLaDA": ("remdm_llada", {"temperature": 0.3}),
    "WINO": ("wino", {}),
    "Fast-dLLM": ("fast_dllm", {}),
    "T2M": ("t2m", {}),
    "CoRe": ("core", {}),
    "Settle (ours)": ("settle", {}),
}
BARE = "TOLERATOR, no penalty, 0.3"
DRAWN, GREEDY = (
    ("TOLERATOR", "TOLERATOR, no penalty, 0.3", "RCR", "ReMDM", "ReMDM for LLaDA"),
    ("WINO", "Fast-dLLM", "T2M", "CoRe", "Settle (ours)"),
)
# Method -> vanilla decoding and TOLERATOR at its temperature, 0.3 or greedy, and like it without a penalty on the end
# of text. As published TOLERATOR fills at 0.5 with a penalty.
EQUAL = dict.fromkeys(DRAWN, ("vanilla", BARE))
EQUAL |= dict.fromkeys(("TOLERATOR, greedy", *GREEDY), ("vanilla, greedy", "TOLERATOR, greedy"))
# Of the corrector: the rules that believe what it says of visible tokens, and what they are compared with.
CORRECTED = ("vanilla", "vanilla, greedy", "TOLERATOR", "T2M", "CoRe")
SEVERAL = ("vanilla", "TOLERATOR")  # have all samples, on the plain network: the headlines compare them
CONTRAST = ("terse",)  # no task of its own: the questions of `math`
TASKS = ("math", "terse", "logic", "qa", "graded_functions_1")
PLAIN, CORRECTOR = "plain", "corrector"
TWICE = "a forward of WINO computing the canvas twice"


@dataclass(frozen=True)
class Study(DiffusionStudy):
    """METHODS at the `budgets`, the middle one always; `corrector`: a model that learnt to mend, "" for none."""

    items: int = 60

    tasks: tuple[str, ...] = TASKS
    corrector: str = "study-corrector"
    budgets: tuple[str, ...] = ("middle", "eight")

    notebook = "28_tolerator_rivals"
    key_parts = ("budget", "network", "method")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, budget, network, method)."""
        models = {PLAIN: self.model, CORRECTOR: self.corrector}
        return {
            (short, budget, network, name): self._at(short, budget, models[network], name)
            for budget in self.all_budgets
            for network, names in self.networks.items()
            for short in self.tasks_of(network)
            for name in names
        }

    def _at(self, short: str, budget: str, model: str, name: str) -> Run:
        method, options = METHODS[name]
        forwards = forwards_at(budget, self.canvas(short))
        options = limit(self.tokens, "canvas") | spending(method, forwards) | options
        samples = self.samples if name in SEVERAL and model == self.model else 1
        return Run.of(model, SHORT.get(short, short), method, self.items, samples, **options)

    @property
    def all_budgets(self) -> list[str]:
        """The budgets in their order; what the headlines are about is always there."""
        return list(dict.fromkeys(("middle", *self.budgets)))

    @property
    def own_tasks(self) -> list[str]:
        """The tasks that count in a mean: not the contrast, unless there is no other."""
        return [task for task in self.tasks if task not in CONTRAST] or list(self.tasks)

    def tasks_of(self, network: str) -> list[str]:
        """The tasks that a network answers: of the corrector those that count."""
        return list(self.tasks) if network == PLAIN else self.own_tasks

    @property
    def networks(self) -> dict[str, tuple[str, ...]]:
        """Which methods decode with which network."""
        return {PLAIN: tuple(METHODS)} | ({CORRECTOR: CORRECTED} if self.corrector else {})

    def pair(self, task: str, budget: str, network: str, a: str, b: str) -> tuple[list[dict], list[dict]]:
        """Lines of two methods, on the samples that both have."""
        return shared(*(self.lines[task, budget, network, name] for name in (a, b)))

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval, a line a budget, network and method, a column a task."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        table = rows.pivot(index=["budget", "network", "method"], columns="label", values="cell")
        index = [(b, network, name) for b in self.all_budgets for network, ms in self.networks.items() for name in ms]
        return table.loc[index, list(self.tasks)].fillna("").rename_axis(columns=None)

    def spent(self) -> pd.DataFrame:
        """Mean forwards that a response of the plain network took, and the positions that they computed in brackets:
        rules with a threshold stop early, and WINO's forwards compute the canvas twice."""
        rows = self.summary[self.summary.network == PLAIN]
        rows = rows.assign(cell=[f"{r.forwards:.1f} ({r.positions:,.0f})" for r in rows.itertuples()])
        table = rows.pivot(index="method", columns=["budget", "label"], values="cell")
        columns = [(budget, task) for budget in self.all_budgets for task in self.tasks]
        return table.loc[list(METHODS), columns].rename_axis(index=None, columns=[None, None])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every method minus vanilla decoding at its temperature, task by task, in points, paired; p after Holm."""
        return comparison_table(
            [
                (
                    {"budget": budget, "network": network, "method": a, "task": task},
                    *self.pair(task, budget, network, a, EQUAL[a][0]),
                )
                for budget in self.all_budgets
                for network, names in self.networks.items()
                for a in names
                if a in EQUAL
                for task in self.tasks_of(network)
            ]
        )

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """Every method minus vanilla decoding and minus TOLERATOR at its temperature, mean of the tasks but terse."""
        found = [
            (
                {"budget": budget, "network": network, "method": a, "against": b},
                self._over_tasks(budget, network, a, b),
            )
            for budget in self.all_budgets
            for network, names in self.networks.items()
            for a in names
            for b in EQUAL.get(a, ())
            if a != b and b in names
        ]
        return difference_table(found)

    def _over_tasks(self, budget: str, network: str, a: str, b: str, tasks: Sequence[str] = ()) -> Estimate:
        """`a` minus `b`, mean of `tasks`, by default of those that count."""
        return over_tasks([self.pair(task, budget, network, a, b) for task in tasks or self.own_tasks])

    def gains(self, tasks: list[str], budget: str, network: str, a: str) -> list[np.ndarray]:
        """Of each task the gain of `a` over vanilla decoding at its temperature, [items] in [-1, 1]."""
        pairs = [self.pair(task, budget, network, a, EQUAL[a][0]) for task in tasks]
        return [outcomes(x).mean(1) - outcomes(y).mean(1) for x, y in pairs]

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """By how many points a gain is more than another, on the same items; p by sign flips, after Holm.

        Worded against terse: the same questions. The corrector against the plain network, over the tasks but terse.
        """
        found = []
        for budget, a in product(self.all_budgets, ("TOLERATOR", "WINO", "T2M", "CoRe")):
            if {"math", "terse"} <= set(self.tasks):
                both = (self.gains([task], budget, PLAIN, a) for task in ("math", "terse"))
                labels = {"budget": budget, "contrast": "worded - terse", "method": a}
                found.append((labels, difference_of_gains(*both)))
            if self.corrector and a in CORRECTED:
                both = (self.gains(self.own_tasks, budget, network, a) for network in (CORRECTOR, PLAIN))
                labels = {"budget": budget, "contrast": "corrector - plain", "method": a}
                found.append((labels, difference_of_gains(*both)))
        return difference_table(found)

    def figure_gains(self, budget: str = "middle"):
        """Gain over vanilla decoding at the same temperature, with paired 95 % intervals, a panel a task."""
        rows = self.comparisons[self.comparisons.budget == budget].set_index(["network", "method"])
        names = {key: key[1] if key[0] == PLAIN else f"{key[1]}, corrector" for key in rows.index}
        return figures.forest({task: rows[rows.task == task] for task in self.tasks}, names)

    def claims(self) -> list[Claim]:
        """Over the tasks, by budget: every method beats vanilla decoding, and TOLERATOR beats every other method."""
        accuracy, found = self.summary.set_index(["label", "budget", "network", "method"]).accuracy, []
        for row in self.pooled.itertuples():
            e, (a, b) = estimate_of(row), (row.method, row.against)
            highest = [accuracy[task, row.budget, row.network, m] for task in self.own_tasks for m in (a, b)]
            if b != EQUAL[a][0]:
                e, (a, b) = e.mirrored(), (b, a)
            who = "" if row.network == PLAIN else ", on the corrector"
            says = f"{a} beats {b}, mean of the tasks, {BUDGETS[row.budget]}{who}"
            where, printed, kind = OWN, "", CLAIM
            if (a, b) == SEVERAL[::-1] and row.network == PLAIN:
                where, printed, kind = "Table 1", "consistent improvements", REPEAT  # of notebook 20's first row
            unit = f"points, {TWICE}" if "WINO" in (a, b) else "points"
            found.append(Claim(where, says, printed, e, unit, above_floor(more(e), *highest), kind=kind))
        return found

    def reading(self) -> str:
        """Every method against vanilla decoding by task, against TOLERATOR over the tasks, and the contrasts."""
        lines = []
        for (budget, network, method), rows in self.comparisons.groupby(["budget", "network", "method"], sort=False):
            where = "" if network == PLAIN else " on the corrector"
            told = differences_in_words(rows)
            lines.append(f"- {BUDGETS[budget]}, **{method}**{where} minus {EQUAL[method][0]}, in points: {told}.")
        peers = self.pooled[self.pooled.against.str.startswith("TOLERATOR") & (self.pooled.network == PLAIN)]
        for budget, rows in peers.groupby("budget", sort=False):
            told = differences_in_words(rows, "method")
            lines.append(f"- {BUDGETS[budget]}, minus TOLERATOR at equal settings, in the mean: {told}.")
        if len(self.contrasts):
            for (budget, contrast), rows in self.contrasts.groupby(["budget", "contrast"], sort=False):
                told = differences_in_words(rows, "method")
                lines.append(f"- {BUDGETS[budget]}, by how much the gain is more, {contrast}: {told}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """At the middle budget: TOLERATOR as published by how answers are written, and on the corrector; WINO."""
        pairs = {
            "tolerator_vs_vanilla_worded": ("math", "TOLERATOR"),
            "tolerator_vs_vanilla_terse": ("terse", "TOLERATOR"),
            "tolerator_vs_vanilla_logic": ("logic", "TOLERATOR"),
            "wino_vs_vanilla_worded": ("math", "WINO"),
        }
        found = {
            name: accuracy_difference(*self.pair(task, "middle", PLAIN, a, EQUAL[a][0]))
            for name, (task, a) in pairs.items()
            if task in self.tasks
        }
        found["tolerator_vs_vanilla_mean"] = self._over_tasks("middle", PLAIN, "TOLERATOR", EQUAL["TOLERATOR"][0])
        rest = [task for task in self.own_tasks if task != "logic"]
        if 0 < len(rest) < len(self.own_tasks):
            found["tolerator_vs_vanilla_but_logic"] = self._over_tasks("middle", PLAIN, *SEVERAL[::-1], rest)
        found["tolerator_without_penalty_vs_published"] = self._over_tasks("middle", PLAIN, BARE, "TOLERATOR")
        if self.corrector:
            found["tolerator_vs_vanilla_corrector"] = self._over_tasks("middle", CORRECTOR, "TOLERATOR", "vanilla")
        return {
            name: headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
            for name, e in found.items()
        }

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons, "pooled": self.pooled}
        tables["contrasts"] = self.contrasts
        return self.write(tables, {f"gains_{budget}": self.figure_gains(budget) for budget in self.all_budgets})
