"""What to decode with: chosen on validation items for a kind of task and a budget, proved on test items.

In a cell every way is tried on validation items. Chosen is the cheapest, in forwards of the model that answers, of
those within one standard error of the best, paired on items; of equally cheap ones the first, and the plain way comes
first: so nothing is advised for what noise may be. Then the chosen and the plain way answer test items.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lib.decoding.registry import decoder_of
from lib.errors import UserError
from lib.reporting import figures
from lib.reporting.claims import EQUIVALENT, HOLDS, OWN, REFUTED, Claim, more
from lib.reporting.tables import comparison_table, estimate_of, mean_over, outcomes
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy
from lib.studies.mtad.ways import WAYS
from lib.studies.tolerator.base import BUDGETS, EOT, canvas_of, forwards_at, spending

Way = tuple[str, dict]  # a decoder and its options
Cell = tuple[str, str]  # a task, and what is asked for: of TEXT, or a budget of a canvas
# What is asked for -> the ways that are tried, the plain one first. Options left out are the published ones.
ANSWER: dict[str, Way] = {
    "greedy": ("autoregressive", {}),
    "sampling": ("autoregressive", {"temperature": 1.0}),
    "min-p, 0.1": ("min_p", {"min_p": 0.1}),
    "p-less": ("p_less", {}),
    "AutoDeco": ("autodeco", {}),
}
GREEDY_WAYS = ("greedy", "speculative, greedy", "MTAD", "MMTAD", "MMTAD, greedy", "BiLD, greedy", "typical")
FAST: dict[str, Way] = {name: WAYS[name] for name in GREEDY_WAYS}
CANVAS: dict[str, Way] = {
    "vanilla, greedy": ("vanilla", {"temperature": 0.0}),
    "vanilla, greedy, EoT penalty": ("vanilla", {"temperature": 0.0} | EOT),
    "TOLERATOR": ("tolerator", {}),
    "WINO": ("wino", {}),
    "Fast-dLLM": ("fast_dllm", {}),
    "T2M": ("t2m", {}),
    "Settle (ours)": ("settle", {}),
}
TEXT = {"one answer": ANSWER, "few passes of the model": FAST}  # what may be asked of a model of text


@dataclass(frozen=True)
class Study(BaseStudy):
    """`model`, with `heads` and `draft`, on `tasks`; `diffusion` on `canvases` at `budgets`."""

    items: int = 100
    samples: int = 1
    validation_items: int = 100
    tasks: tuple[str, ...] = ("math", "qa", "code")
    canvases: tuple[str, ...] = ("math", "logic", "qa", "graded_functions_1")
    budgets: tuple[str, ...] = ("eight", "middle")
    model: str = "study-ar"
    heads: str = "study-ar-autodeco"
    draft: str = "study-draft"
    diffusion: str = "study-dlm"

    notebook = "50_advice"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation_items < 2:
            raise UserError(f"validation_items must be 2 or more, not {self.validation_items}")

    def cells(self) -> dict[Cell, dict[str, Way]]:
        """(task, what is asked for) -> the ways that are tried; the plain one first."""
        text = {(short, asked): ways for short in self.tasks for asked, ways in TEXT.items()}
        return text | {(short, budget): CANVAS for short in self.canvases for budget in self.budgets}

    def _run(self, cell: Cell, name: str) -> Run:
        """On test items."""
        (short, asked), (method, options) = cell, self.cells()[cell][name]
        if asked not in TEXT:
            model, options = self.diffusion, spending(method, forwards_at(asked, canvas_of(short))) | options
        else:
            model = self.heads if method == "autodeco" else self.model
            options = options | ({"draft": self.draft} if decoder_of(method).drafts else {})
        return Run.of(model, SHORT.get(short, short), method, self.items, self.samples, **options)

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, asked, "validation", way)."""
        return {
            (*cell, "validation", name): replace(
                self._run(cell, name), split="validation", items=self.validation_items, samples=1
            )
            for cell, ways in self.cells().items()
            for name in ways
        }

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """The chosen and the plain way on test items; keys are (task, asked, "test", way)."""
        found = {}
        for cell, ways in self.cells().items():
            for name in dict.fromkeys((next(iter(ways)), self.chosen(lines, cell))):
                found[*cell, "test", name] = self._run(cell, name)
        return found

    def chosen(self, lines: dict[tuple, list[dict]], cell: Cell) -> str:
        """The way that validation items choose for a cell; see the top of this file."""
        tried = {name: lines[*cell, "validation", name] for name in self.cells()[cell]}
        right = {name: outcomes(own).mean(1) for name, own in tried.items()}
        best = max(right, key=lambda name: right[name].mean())
        near = [name for name in right if within_an_error(right[name], right[best])]
        return min(near, key=lambda name: mean_over(tried[name], "target_forwards"))

    @cached_property
    def choices(self) -> pd.DataFrame:
        """A row a cell: the plain way and the chosen one, on validation and on test items, and what they cost.

        Accuracy in %; forwards a response, on test items, of the model that answers.
        """
        rows = []
        for cell, ways in self.cells().items():
            plain, name = next(iter(ways)), self.chosen(self.lines, cell)
            row = {"task": cell[0], "asked": BUDGETS.get(cell[1], cell[1]), "plain": plain, "chosen": name}
            for who, way in (("plain", plain), ("chosen", name)):
                for split in ("validation", "test"):
                    row[f"{split}, {who}"] = 100 * outcomes(self.lines[*cell, split, way]).mean()
                row[f"forwards, {who}"] = mean_over(self.lines[*cell, "test", way], "target_forwards")
            rows.append(row | {"settings": settings_of(ways[name][1]), "budget": cell[1]})
        return pd.DataFrame(rows)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Chosen minus plain on test items in points, paired; p after Holm. Only cells where they are two."""
        return comparison_table(
            [
                ({"task": row.task, "asked": row.asked, "way": row.chosen, "against": row.plain},
                 *(self.lines[row.task, row.budget, "test", way] for way in (row.chosen, row.plain)))
                for row in self.choices.itertuples()
                if row.chosen != row.plain
            ]
        )  # fmt: skip

    @cached_property
    def advice(self) -> pd.DataFrame:
        """A line a cell: what to take, with which settings, what it gave on test items and cost, and what to do."""
        rulings = {(r.task, r.asked): (estimate_of(r), more(estimate_of(r))) for r in self.comparisons.itertuples()}
        rows = []
        for row in self.choices.to_dict("records"):
            e, ruling = rulings.get((row["task"], row["asked"]), (None, None))
            saved = 100 * (1 - row["forwards, chosen"] / row["forwards, plain"])
            points = (np.nan,) * 3 if e is None else (e.value, ruling.low, ruling.high)
            rows.append(
                {
                    "task": row["task"],
                    "asked": row["asked"],
                    "take": row["chosen"],
                    "settings": row["settings"],
                    "right, %": round(row["test, chosen"], 1),
                    "plain way, %": round(row["test, plain"], 1),
                    **dict(zip(("points", "low", "high"), np.round(points, 1), strict=True)),
                    "forwards saved, %": round(saved, 1) + 0.0,
                    "so": advised(None if ruling is None else ruling.verdict, saved),
                }
            )
        return pd.DataFrame(rows)

    def claims(self) -> list[Claim]:
        """What validation chose beats the plain way on test items, where it is another."""
        return [
            Claim(OWN, f"{r.way}, chosen on validation items, beats {r.against} on {r.task}: {r.asked}", "",
                  estimate_of(r), "points", more(estimate_of(r)))
            for r in self.comparisons.itertuples()
        ]  # fmt: skip

    def figure_advice(self):
        """Chosen minus plain on test items, in points with paired 95 % intervals; hollow where tied by Holm.

        None where the plain way was chosen everywhere.
        """
        if not len(self.comparisons):
            return None
        rows = self.comparisons.set_index(["task", "asked"])
        names = {key: f"{key[0]}, {key[1]}: {row.way}" for key, row in rows.iterrows()}
        return figures.forest({"minus the plain way": rows}, names, width=4.5)

    def reading(self) -> str:
        """A sentence a cell."""
        lines = []
        for row in self.advice.to_dict("records"):
            proof = "" if np.isnan(row["points"]) else " ({points:+g} points [{low:g}, {high:g}])".format(**row)
            what = f"- **{row['task']}**, {row['asked']}: {row['take']} ({row['settings']})"
            lines.append(f"{what}, {row['right, %']:g} % right on test items{proof}; {row['so']}.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"choices": self.choices, "comparisons": self.comparisons, "advice": self.advice}
        figure = self.figure_advice()
        return self.write(tables, {"advice": figure} if figure else {})


def within_an_error(a: np.ndarray, best: np.ndarray) -> bool:
    """Whether a way is less than one standard error behind the best; both [items] in [0, 1], paired."""
    behind = best - a
    return behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind))


def advised(verdict: str | None, saved: float) -> str:
    """What to do, of the verdict on test items and the forwards saved in %; None where the plain way was chosen."""
    cheaper = saved >= 5
    if verdict is None:
        return "stay with the plain way: nothing that was tried is better by more than noise, or cheaper"
    if verdict == HOLDS:
        return f"take it{f', and save {saved:.0f} % of the forwards' if cheaper else ''}"
    if verdict == REFUTED:
        return "do not: validation items misled"
    if verdict == EQUIVALENT:
        return f"take it for the {saved:.0f} % of the forwards that it saves" if cheaper else "do not bother"
    return f"it saves {saved:.0f} % of the forwards; whether it loses is not decided" if cheaper else "not decided"


def settings_of(options: dict) -> str:
    """The options of a way, in words; those that it leaves out are the published ones."""
    parts = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in options.items()
    ]
    return ", ".join(parts) or "as published"
