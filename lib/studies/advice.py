"""What to decode with, for a kind of task and a budget: validation items propose, test items decide.

In a cell every way is tried on validation items and held against the plain one, paired. On a canvas the ways of all
budgets stand in each cell that they do not exceed in the mean: whoever has many forwards may take a way of few.
Proposed is the way with the largest lead, if that is more than its standard error; else the cheapest of those that
save SAVES and are not more than one standard error behind; else the plain way itself. A proposal is no proof, for the
best of many leads by chance as well. So it answers test items beside the plain way, and is taken only if it is better
there, or if it saves SAVES there and loses at most TOLERATED points: both by intervals that are corrected for all
cells.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.corrected import simultaneous
from lib.decoding.registry import decoder_of
from lib.errors import UserError
from lib.reporting import figures
from lib.reporting.claims import HOLDS, OWN, Claim, Ruling, at_most, more
from lib.reporting.tables import comparison_table, estimate_of, outcomes
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy
from lib.studies.costs import a_response, a_token
from lib.studies.mtad.lossless import TOLERATED
from lib.studies.mtad.pair import LOST, repeats_itself
from lib.studies.mtad.ways import WAYS
from lib.studies.tolerator.base import EOT, canvas_of, forwards_at, spending

Way = tuple[str, dict]  # a decoder and its options
Cell = tuple[str, str]  # a task, and what is asked for: of TEXT, or a canvas with so many forwards in the mean
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
BETTER, CHEAPER, PLAIN = "better", "cheaper", "plain"  # why a way is proposed
SAVES = 0.05  # of the cost: less is not cheaper
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
        found = {(short, asked): ways for short in self.tasks for asked, ways in TEXT.items()}
        for short in self.canvases:
            sizes = list(dict.fromkeys(forwards_at(budget, canvas_of(short)) for budget in self.budgets))
            for own in sizes:
                found[short, f"{own} forwards in the mean"] = {
                    name if given == own else f"{name}, given {given}": (method, spending(method, given) | options)
                    for given in sorted(sizes, key=lambda n: n != own)
                    for name, (method, options) in CANVAS.items()
                }
        return found

    def _run(self, cell: Cell, name: str) -> Run:
        """On test items."""
        (short, asked), (method, options) = cell, self.cells()[cell][name]
        if asked not in TEXT:
            model = self.diffusion
        else:
            model = self.heads if method == "autodeco" else self.model
            options = options | ({"draft": self.draft} if decoder_of(method).drafts else {})
        run = Run.of(model, SHORT.get(short, short), method, self.items, self.samples, **options)
        return replace(run, samples=1) if asked in TEXT and repeats_itself(method, dict(run.options)) else run

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
        """The proposed and the plain way on test items; keys are (task, asked, "test", way)."""
        found = {}
        for cell, ways in self.cells().items():
            for name in dict.fromkeys((next(iter(ways)), self.proposed(lines, cell)[0])):
                found[*cell, "test", name] = self._run(cell, name)
        return found

    def proposed(self, lines: dict[tuple, list[dict]], cell: Cell) -> tuple[str, str]:
        """The way that validation items propose for a cell, and why: BETTER, CHEAPER, or PLAIN for the plain way."""
        tried = {name: lines[*cell, "validation", name] for name in self.cells()[cell]}
        plain, *others = tried
        right = {name: outcomes(own).mean(1) for name, own in tried.items()}
        cost = {name: self._cost(cell, own, tried[plain]) for name, own in tried.items()}
        leads = {
            name: lead(right[name], right[plain]) for name in others if cell[1] in TEXT or cost[name] <= cost[plain]
        }
        better = [name for name, (mean, error) in leads.items() if mean > error]
        if better:
            return max(better, key=lambda name: leads[name][0]), BETTER
        cheaper = [n for n, (mean, error) in leads.items() if mean >= -error and cost[n] <= (1 - SAVES) * cost[plain]]
        return (min(cheaper, key=cost.get), CHEAPER) if cheaper else (plain, PLAIN)

    def _cost(self, cell: Cell, lines: list[dict], plain: list[dict]) -> float:
        return a_token(lines) if cell[1] in TEXT else a_response(lines, plain)

    @cached_property
    def choices(self) -> pd.DataFrame:
        """A row a cell: the plain way and the proposed one, on validation and on test items, and what they cost.

        Accuracy in %; cost on test items, see `a_token` and `a_response`.
        """
        rows = []
        for cell, ways in self.cells().items():
            plain, (name, why) = next(iter(ways)), self.proposed(self.lines, cell)
            row = {
                "task": cell[0],
                "asked": cell[1],
                "plain": plain,
                "proposed": name,
                "why": why,
            }
            for who, way in (("plain", plain), ("proposed", name)):
                for split in ("validation", "test"):
                    row[f"{split}, {who}"] = 100 * outcomes(self.lines[*cell, split, way]).mean()
                row[f"cost, {who}"] = self._cost(
                    cell, self.lines[*cell, "test", way], self.lines[*cell, "test", plain]
                )
                row[f"settings, {who}"] = settings_of(ways[way][1])
            rows.append(row)
        return pd.DataFrame(rows)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Proposed minus plain on test items in points, paired; p after Holm. Only cells where they are two."""
        return comparison_table(
            [
                ({"task": row.task, "asked": row.asked, "why": row.why, "way": row.proposed, "against": row.plain},
                 *(self.lines[row.task, row.asked, "test", way] for way in (row.proposed, row.plain)))
                for row in self.choices.itertuples()
                if row.why != PLAIN
            ]
        )  # fmt: skip

    @cached_property
    def advice(self) -> pd.DataFrame:
        """A line a cell: what to take, with which settings, what it gave on test items, and why.

        points, low, high: proposed minus plain, corrected for all cells.
        """
        judged, rows = {(r.task, r.asked): r for r in self.comparisons.itertuples()}, []
        for row in self.choices.to_dict("records"):
            found = judged.get((row["task"], row["asked"]))
            saved = saved_by(row)
            e = None if found is None else estimate_of(found)
            low, high = simultaneous(e) if e else (np.nan, np.nan)
            better, little = (ruling_of(found._replace(why=why)).verdict if e else "" for why in (BETTER, CHEAPER))
            taken, so = advised(row["why"], row["proposed"], better, little, saved)
            rows.append(
                {
                    "task": row["task"],
                    "asked": row["asked"],
                    "take": row["proposed"] if taken else row["plain"],
                    "settings": row["settings, proposed" if taken else "settings, plain"],
                    "right, %": round(row["test, proposed" if taken else "test, plain"], 1),
                    "proposed": row["proposed"],
                    "points": round(e.value, 1) if e else np.nan,
                    "low": round(low, 1),
                    "high": round(high, 1),
                    "cost saved, %": round(saved, 1) + 0.0,
                    "so": so,
                }
            )
        return pd.DataFrame(rows)

    def claims(self) -> list[Claim]:
        """What validation items propose is better on test items; where it was proposed as cheaper, or saves, loses
        little."""
        found, saved = [], {(row["task"], row["asked"]): saved_by(row) for row in self.choices.to_dict("records")}
        for r in self.comparisons.itertuples():
            saves = r.why == BETTER and saved[r.task, r.asked] >= 100 * SAVES
            for why in (r.why, CHEAPER) if saves else (r.why,):
                e, what, unit = estimate_of(r), "beats", "points"
                if why == CHEAPER:
                    e, what, unit = e.mirrored(), f"loses at most {TOLERATED:g} points to", LOST
                says = f"{r.way}, proposed by validation items, {what} {r.against} on {r.task}: {r.asked}"
                found.append(Claim(OWN, says, "", e, unit, ruling_of(r._replace(why=why))))
        return found

    def figure_advice(self):
        """Proposed minus plain on test items, in points with paired 95 % intervals; hollow where tied by Holm.

        None where the plain way was proposed everywhere.
        """
        if not len(self.comparisons):
            return None
        rows = self.comparisons.set_index(["task", "asked"])
        names = {key: f"{key[0]}, {key[1]}: {row.way} (proposed as {row.why})" for key, row in rows.iterrows()}
        return figures.forest({"minus the plain way": rows}, names, width=4.5)

    def reading(self) -> str:
        """A sentence a cell."""
        lines = []
        for row in self.advice.to_dict("records"):
            proof = "" if np.isnan(row["points"]) else " {points:+g} points [{low:g}, {high:g}].".format(**row)
            what = (
                f"- **{row['task']}**, {row['asked']}: **{row['take']}** ({row['settings']}), {row['right, %']:g} %"
            )
            lines.append(f"{what} right on test items. {row['so']}.{proof}")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"choices": self.choices, "comparisons": self.comparisons, "advice": self.advice}
        figure = self.figure_advice()
        return self.write(tables, {"advice": figure} if figure else {})


def lead(a: np.ndarray, plain: np.ndarray) -> tuple[float, float]:
    """How far a way is ahead of the plain one, and the standard error of that; both [items] in [0, 1], paired."""
    ahead = a - plain
    return float(ahead.mean()), float(ahead.std(ddof=1) / np.sqrt(len(ahead)))


def saved_by(choice: dict) -> float:
    """Cost that the proposed way of a row of `choices` saves on test items, in %."""
    return 100 * (1 - choice["cost, proposed"] / choice["cost, plain"])


def ruling_of(row) -> Ruling:
    """On test items, of a row of `comparisons`: more for what was proposed as better, else little lost."""
    e = estimate_of(row)
    return more(e) if row.why == BETTER else at_most(e.mirrored(), TOLERATED)


def advised(why: str, way: str, better: str, little: str, saved: float) -> tuple[bool, str]:
    """Whether to take a proposed way, and why in words: by the verdicts on test items that it is better and that it
    loses little, and by the cost that it saves there, in %."""
    if why == PLAIN:
        return False, "Nothing led by more than its error, and nothing as good was cheaper"
    costs = f"saves {saved:.0f} % of the cost" if saved >= 0 else f"costs {-saved:.0f} % more"
    if better == HOLDS:
        return True, f"It is better and {costs}"
    if little == HOLDS and saved >= 100 * SAVES:
        return True, f"It {costs} and loses at most {TOLERATED:g} points; that it is better is {better}"
    told = f"that it is better is {better} on test items, that it loses at most {TOLERATED:g} points {little}"
    told += f", but less than {100 * SAVES:.0f} % saved is not cheaper" if little == HOLDS else ""
    return False, f"{way} {costs}; {told}"


def settings_of(options: dict) -> str:
    """The options of a way, in words; those that it leaves out are the published ones."""
    parts = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in options.items()
    ]
    return ", ".join(parts) or "as published"
