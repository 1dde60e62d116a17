"""Fair controls of TOLERATOR: what of it is refinement, what penalty, what temperature; and a rule of ours."""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from lib.claims import OWN, Claim, more
from lib.evaluation import Run
from lib.report import cells, comparison_table, headline
from lib.stats import holm
from lib.studies.diffusion import FILL_UP, DiffusionStudy, canvas_of, compared, middle, over_tasks, said

EOT = {name: FILL_UP[name] for name in ("eot_form", "eot_lambda")}
# Variant -> method and its options; the budget is added.
VARIANTS = {
    "vanilla": ("vanilla", {}),
    "vanilla, temperature 0.5": ("vanilla", {"temperature": 0.5}),
    "vanilla, EoT penalty": ("vanilla", EOT),
    "vanilla, both": ("vanilla", FILL_UP),
    "TOLERATOR": ("tolerator", {}),
    "TOLERATOR, no penalty": ("tolerator", {"eot_form": "off"}),
    "TOLERATOR, greedy last pass": ("tolerator", {"greedy_last": True}),
    "TOLERATOR, fixed folds": ("tolerator", {"subset": "folds"}),
    "TOLERATOR, least confident": ("tolerator", {"subset": "confidence"}),
    "ReMDM": ("remdm", {}),
    "ReMDM, released port": ("remdm_port", {}),
    "sure at once, no checks": ("settle", {"rho": 1.0, "doubt": 0.0}),
    "Settle (ours)": ("settle", {}),
}
# (question, a, b): the accuracy of a minus that of b answers it.
QUESTIONS = (
    ("as published", "TOLERATOR", "vanilla"),
    ("at equal temperature", "TOLERATOR", "vanilla, temperature 0.5"),
    ("at equal EoT penalty", "TOLERATOR", "vanilla, EoT penalty"),
    ("at equal temperature and penalty", "TOLERATOR", "vanilla, both"),
    ("the penalty of TOLERATOR", "TOLERATOR", "TOLERATOR, no penalty"),
    ("the penalty of vanilla", "vanilla, EoT penalty", "vanilla"),
    ("a greedy last pass", "TOLERATOR, greedy last pass", "TOLERATOR"),
    ("fixed folds", "TOLERATOR, fixed folds", "TOLERATOR"),
    ("the least confident", "TOLERATOR, least confident", "TOLERATOR"),
    ("ReMDM's released port", "ReMDM, released port", "ReMDM"),
    ("our rule", "Settle (ours)", "TOLERATOR"),
    ("our rule against vanilla", "Settle (ours)", "vanilla"),
    ("our checks alone", "Settle (ours)", "sure at once, no checks"),
)
HEADLINES = {
    "tolerator_vs_vanilla": "as published",
    "tolerator_vs_vanilla_same_eot": "at equal EoT penalty",
    "tolerator_own_rule_vs_published": "our rule",
}
BUDGETS = ("middle", "full")


@dataclass(frozen=True)
class Study(DiffusionStudy):
    """Every variant at the middle budget and at one token a forward."""

    notebook = "25_tolerator_controls"
    parts = ("budget", "variant")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, budget, variant)."""
        runs = {}
        for short in self.tasks:
            canvas = canvas_of(short)
            for budget, forwards in zip(BUDGETS, (middle(canvas), canvas), strict=True):
                for variant, (method, options) in VARIANTS.items():
                    key = "forwards" if method in ("tolerator", "settle") else "steps"
                    runs[short, budget, variant] = self._run(short, method, **{key: forwards}, **options)
        return runs

    def table(self) -> pd.DataFrame:
        """Accuracy in %, a line a variant, columns a budget and task; the forwards that each spends at most."""
        rows = self.summary.assign(cell=cells(self.summary))
        table = rows.pivot(index="variant", columns=["budget", "label"], values="cell")
        columns = [(budget, task) for budget in BUDGETS for task in self.tasks]
        return table.loc[list(VARIANTS), columns].rename_axis(index=None, columns=[None, None])

    def spent(self) -> pd.DataFrame:
        """Mean forwards a response of the variants that stop early."""
        rows = self.summary[self.summary.variant.isin(["sure at once, no checks", "Settle (ours)", "vanilla"])]
        table = rows.pivot(index="variant", columns=["budget", "label"], values="forwards").round(1)
        columns = [(budget, task) for budget in BUDGETS for task in self.tasks]
        return table[columns].rename_axis(index=None, columns=[None, None])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """The questions, task by task and budget by budget, in points, paired; p after Holm."""
        return comparison_table(
            [
                (
                    {"budget": budget, "task": task, "question": question, "a": a, "b": b},
                    self.lines[task, budget, a],
                    self.lines[task, budget, b],
                )
                for question, a, b in QUESTIONS
                for budget in BUDGETS
                for task in self.tasks
            ]
        )

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """The questions over all tasks, in points with intervals; p after Holm."""
        rows = []
        for question, a, b in QUESTIONS:
            for budget in BUDGETS:
                e = over_tasks([(self.lines[t, budget, a], self.lines[t, budget, b]) for t in self.tasks])
                labels = {"question": question, "a": a, "b": b, "budget": budget}
                rows.append({**labels, "difference": e.value, "low": e.low, "high": e.high, "items": e.n, "p": e.p})
        return pd.DataFrame(rows).assign(p_holm=lambda table: holm(list(table.p)))

    def figure_questions(self):
        """Every question over all tasks, with paired 95 % intervals, a panel a budget."""
        names = [f"{a} - {b}" for _, a, b in QUESTIONS][::-1]
        figure, axes = plt.subplots(1, 2, figsize=(9.5, 0.36 * len(names) + 1.2), sharey=True)
        for axis, budget in zip(axes, BUDGETS, strict=True):
            rows = self.pooled[self.pooled.budget == budget][::-1]
            error = [rows.difference - rows.low, rows.high - rows.difference]
            axis.errorbar(rows.difference, range(len(rows)), xerr=error, fmt="o", ms=4, capsize=3)
            axis.axvline(0, color="0.4", lw=1)
            axis.set_yticks(range(len(names)), names, fontsize="small")
            axis.set(title={"middle": "middle budget", "full": "one token a forward"}[budget], xlabel="points")
            sns.despine(ax=axis)
        return figure

    def claims(self) -> list[Claim]:
        """Every question over all tasks at the middle budget; none of them is in the paper."""
        found = []
        for row in self.pooled[self.pooled.budget == "middle"].itertuples():
            e = compared(row)
            found.append(Claim(OWN, f"{row.question}: {row.a} beats {row.b}", "", e, "points", more(e, p=e.p)))
        return found

    def reading(self) -> str:
        """Every question in words: over all tasks, and where tasks differ."""
        lines = []
        for question, a, b in QUESTIONS:
            parts = []
            for budget in BUDGETS:
                row = self.pooled[(self.pooled.question == question) & (self.pooled.budget == budget)].iloc[0]
                parts.append(f"{budget} budget {row.difference:+.1f} [{row.low:.1f}, {row.high:.1f}]")
            tasks = self.comparisons[(self.comparisons.question == question) & (self.comparisons.budget == "full")]
            lines.append(
                f"- **{question}**: {a} minus {b}, in points over all tasks: {'; '.join(parts)}. "
                f"At the full budget: {said(tasks)}."
            )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        found = {}
        rows = self.pooled[self.pooled.budget == "middle"].set_index("question")
        for name, question in HEADLINES.items():
            r = rows.loc[question]
            found[name] = headline(
                r.difference, r.low, r.high, int(r["items"]), "points", self.profile, self.notebook
            )
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons, "pooled": self.pooled}
        written = self.write(tables, {"questions": self.figure_questions()}, self.headlines())
        plt.close("all")
        return written
