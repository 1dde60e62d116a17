"""What refinement does: canvases step by step, answers it fixes and breaks, the kinds of error that are left."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.analysis.stats import Estimate, corrected, paired_difference
from lib.decoders import DECODERS
from lib.paths import CHECKPOINTS
from lib.reporting import figures
from lib.reporting.claims import CLAIM, OWN, REPEAT, Claim, above_floor, more
from lib.reporting.result_folder import headline
from lib.reporting.tables import percent
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.run import Run
from lib.studies.base import SHORT
from lib.studies.tolerator.answer_errors import ERRORS, FALSE_WORKING
from lib.studies.tolerator.base import BUDGETS, MILD, DiffusionStudy, forwards_at
from lib.studies.tolerator.frames import frames_of, rows_of, scrolled, spread, strip
from lib.studies.tolerator.refinements import RIGHT, recorded, refinements
from lib.studies.tolerator.trend_measured import judges

NAMES = {"vanilla": "vanilla", "tolerator": "TOLERATOR", "mild": "mild TOLERATOR, fill-up at 0.3"}
REFINED = ("tolerator", "mild")
KEY = ["task", "method", "budget"]
SPENT = ("middle", "full")  # budgets; what is shown step by step is the last


@dataclass(frozen=True)
class Study(DiffusionStudy):
    """TOLERATOR at the middle budget and one token a forward, decoded once more with every step kept.

    As published, and at a mild rate with the fill-up at the refinement's temperature, so that what refinement changes
    is not the temperature. Vanilla decoding stands beside them.
    """

    items: int = 50
    samples: int = 1

    notebook = "26_tolerator_steps"
    key_parts = ("method", "budget")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method, budget)."""
        runs = {}
        for short in self.tasks:
            for budget in SPENT:
                at = forwards_at(budget, self.canvas(short))
                runs[short, "vanilla", budget] = self._run(short, "vanilla", steps=at)
                runs[short, "tolerator", budget] = self._run(short, "tolerator", forwards=at)
                runs[short, "mild", budget] = self._run(short, "tolerator", forwards=at, temperature=0.3, **MILD)
        return runs

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """What decodes and scores every step, and the weights that it is of."""
        names = [name_of(refinements), name_of(DECODERS["tolerator"].decode), name_of(forwards_at)]
        names += [(DiffusionStudy.__module__, "MILD"), (cls.__module__, "SPENT")]
        return names + judges(cls.tasks), [*CHECKPOINTS.glob("study-dlm/model.safetensors")]

    @cached_property
    def refinements(self) -> pd.DataFrame:
        """A row a task, method, budget and refinement: which answers are right then; see refinements.py."""
        return self.measurement("refinements", self._refinements)

    def _refinements(self) -> pd.DataFrame:
        self.require_device()
        model, parts = model_of(self.model, self.device), []
        for (short, method, budget), run in self.runs().items():
            if method in REFINED:
                found, labels = refinements(model, run, self._items(short)), (short, method, budget)
                parts.append(pd.DataFrame([dict(zip(KEY, labels, strict=True))] * len(found)).join(found))
        return pd.concat(parts, ignore_index=True)

    def _items(self, short: str) -> list:
        return items_of(SHORT.get(short, short), "test", self.items)

    @cached_property
    def right(self) -> dict[tuple, np.ndarray]:
        """1 for right or 0 for wrong [refinements + 1, items] by (task, method, budget): after the fill-up, then
        each refinement."""
        parts = self.refinements.groupby(KEY, sort=False)
        return {key: np.array([[int(one == RIGHT) for one in row] for row in part.answers]) for key, part in parts}

    @cached_property
    def stages(self) -> pd.DataFrame:
        """A row a task, method, budget and refinement k (0: after the fill-up): % right, fixed and broken since the
        last.

        changed: tokens that it changed, % of the canvas.
        """
        rows = []
        for (short, method, budget), part in self.refinements.groupby(KEY, sort=False):
            right = self.right[short, method, budget]
            labels = {"task": short, "method": NAMES[method], "budget": BUDGETS[budget]}
            for k, changed in enumerate(part.changed):
                row = labels | {"refinement": k, "right": 100 * right[k].mean()}
                if k:
                    fixed, broken = ((right[k] > right[k - 1]).sum(), (right[k] < right[k - 1]).sum())
                    row |= {"fixed": int(fixed), "broken": int(broken), "changed": changed}
                rows.append(row)
        return pd.DataFrame(rows)

    @property
    def _shown(self) -> pd.DataFrame:
        """`stages` at the budget that is shown step by step."""
        return self.stages[self.stages.budget == BUDGETS[SPENT[-1]]]

    def stages_in_short(self, every: int = 8) -> pd.DataFrame:
        """`stages` at one token a forward, every so many refinements and the last: fixed, broken and changed are sums
        over the refinements since the row above."""
        rows = []
        for _, part in self._shown.groupby(["task", "method"], sort=False):
            row_of = -(-part.refinement // every)  # 0, then 1 for the first so many
            sums = part.groupby(row_of)[["fixed", "broken", "changed"]].sum(min_count=1)
            last = part.groupby(row_of)[["task", "method", "refinement", "right"]].last()
            rows.append(last.join(sums))
        return pd.concat(rows, ignore_index=True).round(1)

    def other_than_in_the_runs(self) -> pd.DataFrame:
        """Answers whose last canvas is right where the run's is wrong, or the reverse, a row a task, method, budget.

        None in float32 on a CPU, where a batch changes no draw; a sandbox that runs out of time may add one.
        """
        rows = []
        for (short, method, budget), right in self.right.items():
            last = dict(zip((item.id for item in self._items(short)), right[-1], strict=True))
            lines = [line for line in self.lines[short, method, budget] if line["sample"] == 0]
            other = sum(line["correct"] != last[line["item"]] for line in lines)
            row = {"task": short, "method": NAMES[method], "budget": BUDGETS[budget]}
            rows.append(row | {"answers": other, "of": len(lines)})
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """% right after the fill-up and at the end, and how often a refinement turned an answer right or wrong."""
        rows = []
        for key, part in self.stages.groupby(KEY, sort=False):
            rows.append(
                dict(zip(KEY, key, strict=True))
                | {
                    "after the fill-up, %": part.right.iloc[0],
                    "at the end, %": part.right.iloc[-1],
                    "turned right": int(part.fixed.sum()),
                    "turned wrong": int(part.broken.sum()),
                    "answers": len(self._items(key[0])),
                }
            )
        return pd.DataFrame(rows).set_index(KEY).round(1)

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Kinds of answers at one token a forward, in % of the responses, by method; see answer_errors.py."""
        rows = []
        for (short, method, budget), lines in self.lines.items():
            kind_of = ERRORS.get(SHORT.get(short, short))
            if kind_of is None or budget != SPENT[-1]:  # other tasks are answered in other forms
                continue
            items = {item.id: item for item in self._items(short)}
            kinds = [_kind(r["correct"], kind_of(r["text"], items[r["item"]])) for r in lines]
            shares = 100 * pd.Series(kinds).value_counts(normalize=True)
            rows += [
                {"task": short, "kind": kind, "method": NAMES[method], "share": share}
                for kind, share in shares.items()
            ]
        columns = ["task", "kind", "method", "share"]
        table = pd.DataFrame(rows, columns=columns).pivot(index=["task", "kind"], columns="method", values="share")
        return table.fillna(0.0).round(1)

    def figure_stages(self):
        """At one token a forward: % right along the refinement, and answers that each one fixed and broke; a column
        a task."""
        shown = self._shown
        figure, axes = plt.subplots(
            2, len(self.tasks), figsize=(4 * len(self.tasks), 5.6), squeeze=False, sharex="col"
        )
        looks = figures.looks(list(dict.fromkeys(shown.method)))
        looks[NAMES["mild"]] |= {"marker": "o"}
        for (top, bottom), task in zip(axes.T, self.tasks, strict=True):
            bottom.axhline(0, **figures.LINE)
            for name, rows in shown[shown.task == task].groupby("method", sort=False):
                figures.curve(top, name, rows.refinement, rows.right, **looks[name] | {"ms": 3})
                thin = looks[name] | {"marker": "", "lw": 1.2}
                figures.curve(bottom, f"{name}: turned right", rows.refinement, rows.fixed, **thin)
                figures.curve(bottom, f"{name}: turned wrong", rows.refinement, -rows.broken, **thin | {"ls": ":"})
            top.set(title=task, ylim=(0, 1.05 * shown.right[shown.task == task].max() or 1))
            bottom.set_xlabel("refinement; 0 is the fill-up")
        sns.despine(figure)
        axes[0][0].set_ylabel("right, %")
        axes[1][0].set_ylabel(f"answers of {self.items}")
        for line in axes:
            figures.name_ends(line)
        return figure

    def figure_strip(self, task: str, method: str = "tolerator", item: int = 0, rows: int = 16):
        """A film strip: the canvas of one response at up to `rows` of its steps; masks grey, changed tokens red."""
        return strip(spread(self._frames(task, method, item), rows))

    def slider(self, task: str, method: str = "tolerator", item: int = 0) -> str:
        """HTML without a script: every step of one response, a line a step, in a box that scrolls."""
        return scrolled(self._frames(task, method, item))

    def frames(self, rows: int = 16) -> pd.DataFrame:
        """The frames of the strips by task and method; see frames.py."""
        found = [
            {"task": task, "method": NAMES[method]} | row
            for task in self.tasks
            for method in REFINED
            for row in rows_of(spread(self._frames(task, method, 0), rows))
        ]
        return pd.DataFrame(found)

    def _frames(self, task: str, method: str, item: int) -> list[dict]:
        key, model = (task, method, item), model_of(self.model, self.device)
        if key not in self._events:
            self._events[key] = recorded(model, self.runs()[task, method, SPENT[-1]], [self._items(task)[item]])
        return frames_of(model, self._events[key], 0)

    @cached_property
    def _events(self) -> dict[tuple, list[dict]]:
        """The events of single responses that were shown, by (task, method, item)."""
        return {}

    def _since_the_fill_up(self, key: tuple, refinement: int) -> Estimate:
        """Right answers after that refinement minus after the fill-up, in points, paired."""
        right = self.right[key]
        return percent(paired_difference(right[refinement][:, None], right[0][:, None]))

    def claims(self) -> list[Claim]:
        """Refinement mends the fill-up: right answers at the end minus after the fill-up, paired; p after Holm."""
        found = corrected([self._since_the_fill_up(key, -1) for key in self.right])
        claims = []
        for (short, method, budget), e in zip(self.right, found, strict=True):
            ends = [100 * self.right[short, method, budget][k].mean() for k in (0, -1)]
            says = f"refinement mends more answers than it breaks on {short}, {NAMES[method]}, {BUDGETS[budget]}"
            ruling = above_floor(more(e), *ends)
            where, claimed = ("abstract", "tokens check one another") if method == "tolerator" else (OWN, "")
            kind = CLAIM if budget == "middle" else REPEAT
            claims.append(Claim(where, says, claimed, e, "points", ruling, kind=kind))
        return claims

    def reading(self) -> str:
        """What the refinement does to the answers that the fill-up has, and which errors are left."""
        lines = []
        for (task, method, budget), row in self.table().iterrows():
            lines.append(
                f"- **{task}**, {method}, {budget}: {row['after the fill-up, %']:.1f} % right after the fill-up, "
                f"{row['at the end, %']:.1f} % at the end; of {row['answers']:.0f} answers some were turned right "
                f"{row['turned right']:.0f} times and wrong {row['turned wrong']:.0f} times."
            )
        for task, part in self.errors.groupby(level="task", sort=False):
            wrong = part[~part.index.get_level_values("kind").str.startswith("right")]
            for method in NAMES.values() if len(wrong) else ():
                (_, kind), share = wrong[method].idxmax(), wrong[method].max()
                if share:
                    lines.append(
                        f"- **{task}**, the commonest error of {method}: {kind}, {share:.0f} % of the answers."
                    )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """What the first refinement as published does to Sudokus at one token a forward, and what all do; and at the
        middle budget."""
        found = {}
        asked = {"first_refinement": ("full", 1), "refinements": ("full", -1), "refinements_middle": ("middle", -1)}
        for name, (budget, refinement) in asked.items() if "logic" in self.tasks else ():
            e = self._since_the_fill_up(("logic", "tolerator", budget), refinement)
            entry = headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
            found[f"tolerator_{name}_logic"] = entry
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        figures = {"stages": self.figure_stages()}
        figures |= {
            f"strip_{task}_{method}": self.figure_strip(task, method) for task in self.tasks for method in REFINED
        }
        tables = {"summary": self.summary, "stages": self.stages, "errors": self.errors.reset_index()}
        tables |= {"refinements": self.refinements, "frames": self.frames()}
        return self.write(tables, figures)


def _kind(correct: int, error: str) -> str:
    """How an answer is counted: a right one may have come by false working."""
    if not correct:
        return error
    return "right by false working" if error in FALSE_WORKING else "right"
