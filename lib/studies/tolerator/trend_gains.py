"""What TOLERATOR's forms add on models from weak to strong: runs, gains, strictness, survival and repair."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lib.decoders import DECODERS
from lib.models.trend import NAME as RECORD
from lib.paths import CHECKPOINTS
from lib.reporting.tables import comparison_table, outcomes, summary_row
from lib.running.code import Name, name_of
from lib.running.one_batch import model_of
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy
from lib.studies.tolerator.base import EOT, MILD, canvas_of, spending
from lib.studies.tolerator.trend_figures import by_capability, by_strictness, of_refining
from lib.studies.tolerator.trend_measured import judges, refined, strictness_of
from lib.tolerator import Tolerator

# Fill-up and refinement at one temperature, vanilla's, and all under one penalty: refinement alone differs.
FORMS = {"published rates": {}, "mild rates": MILD, "mild, least confident": MILD | {"subset": "confidence"}}
BY_CHANCE = ("published rates", "mild rates")  # whose refinement asks for no confidence
ALIKE = {"temperature": 0.3}
ALSO_REFINED = {"refine_eot_lambda": EOT["eot_lambda"]}  # as published, refinement has no penalty
FLOOR = 10.0  # % right one token a forward, below which a model is taken to be unable and is on no line
MEASURED = 100  # items whose right answers give the strictness, at most


@dataclass(frozen=True)
class Gains(BaseStudy):
    """Vanilla and three forms of TOLERATOR on models from weak to strong, at `shares` tokens a forward.

    Capability: % right of the greedy answer at one token a forward, which takes no part in any gain. `models`: of
    lib.models.registry; those of the trend are trained by `python -m lib.training.study`.
    """

    items: int = 20
    samples: int = 1
    tasks: tuple[str, ...] = ("math", "terse", "logic")
    models: tuple[str, ...] = ("study-dlm",)
    shares: tuple[int, ...] = (4, 8)

    notebook = "27_tolerator_trend"
    printed_in = "tolerator"

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """Strictness, survival and repair, what is refined and judged, and the weights that they are of."""
        names = [name_of(refined), name_of(strictness_of), name_of(DECODERS["vanilla"].decode)]
        names += [(__name__, setting) for setting in ("FORMS", "ALIKE", "ALSO_REFINED")]
        weights = [f"{name}/model.safetensors" for name in ("study-dlm", "study-corrector")]
        files = [file for pattern in (f"*/{RECORD}", *weights) for file in CHECKPOINTS.glob(pattern)]
        return names + judges(cls.tasks), files

    def forwards(self, short: str, share: int) -> int:
        """Forwards of a budget of `share` tokens each."""
        return max(2, -(-canvas_of(short) // share))

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, model, tokens a forward, method)."""
        runs = {}
        for short in self.tasks:
            for model in self.models:
                runs[short, model, 1, "greedy"] = self._run(
                    short, model, "vanilla", canvas_of(short), temperature=0.0
                )
                for share in self.shares:
                    budget = self.forwards(short, share)
                    same = ALIKE | EOT
                    runs[short, model, share, "vanilla"] = self._run(short, model, "vanilla", budget, **same)
                    cold = EOT | {"temperature": 0.0}
                    runs[short, model, share, "greedy"] = self._run(short, model, "vanilla", budget, **cold)
                    for form, options in FORMS.items():
                        options = ALSO_REFINED | options
                        runs[short, model, share, form] = self._run(
                            short, model, "tolerator", budget, **same, **options
                        )
        return runs

    def _run(self, short: str, model: str, method: str, forwards: int, **options) -> Run:
        size = {"items": self.items, "samples": self.samples}
        return Run.of(model, SHORT.get(short, short), method, **size, **spending(method, forwards), **options)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a run: accuracy with its interval, cost."""
        names = ("label", "of", "share", "method")
        return pd.DataFrame(
            summary_row(self.all_runs[key], lines, **dict(zip(names, key, strict=True)))
            for key, lines in self.lines.items()
        )

    @cached_property
    def capability(self) -> dict[tuple[str, str], float]:
        """% right by (task, model), greedy at one token a forward."""
        pairs = [(task, model) for task in self.tasks for model in self.models]
        return {pair: 100 * float(outcomes(self.lines[*pair, 1, "greedy"]).mean()) for pair in pairs}

    def vanilla(self, task: str, model: str, share: int) -> float:
        """% right of vanilla decoding at a budget."""
        return 100 * float(outcomes(self.lines[task, model, share, "vanilla"]).mean())

    @cached_property
    def strict(self) -> pd.DataFrame:
        """A row a task and model: strictness with its interval, and how large the model is."""
        return self.measurement("strictness", self._strictness)

    def _strictness(self) -> pd.DataFrame:
        self.require_device()
        rows = []
        for name in self.models:
            model = model_of(name, self.device)
            parameters = sum(p.numel() for p in model.network.parameters())
            for task in self.tasks:
                e = strictness_of(model, task, min(self.items, MEASURED))
                row = {"task": task, "model": name, "parameters": parameters, "strictness": e.value}
                rows.append(row | {"low": e.low, "high": e.high, "n": e.n})
        return pd.DataFrame(rows)

    @cached_property
    def refining(self) -> pd.DataFrame:
        """A row a task, model, budget and form whose refinement is by chance: % right after the fill-up, survival
        and repair of these answers in one refinement at the mean of its rates."""
        return self.measurement("refining", self._refining)

    def _refining(self) -> pd.DataFrame:
        self.require_device()
        parts = []
        for task in self.tasks:
            for name in self.models:
                for share in self.shares:
                    options = {form: self._options(task, share, form) for form in BY_CHANCE}
                    found = refined(model_of(name, self.device), task, self.items, options)
                    labels = {"task": task, "model": name, "share": share}
                    parts.append(pd.DataFrame([labels] * len(found)).join(found))
        return pd.concat(parts, ignore_index=True)

    def _options(self, task: str, share: int, form: str) -> Tolerator:
        return self.runs()[task, self.models[0], share, form].resolved()

    @cached_property
    def gains(self) -> pd.DataFrame:
        """Each form, and greedy vanilla decoding, minus vanilla: points, paired; p after Holm over all rows."""
        return comparison_table(
            [
                (
                    {"task": task, "model": model, "share": share, "form": form,
                     "capability": self.capability[task, model]},
                    lines, self.lines[task, model, share, "vanilla"],
                )
                for (task, model, share, form), lines in self.lines.items()
                if form in FORMS or (form == "greedy" and share > 1)
            ]
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """Capability and vanilla's accuracy in %, and what each form adds in points, with 95 % intervals."""
        vanilla = self.summary[self.summary.method == "vanilla"].set_index(["label", "of", "share"]).accuracy
        rows = self.gains.assign(
            cell=[f"{r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}]" for r in self.gains.itertuples()],
            vanilla=[round(vanilla[r.task, r.model, r.share], 1) for r in self.gains.itertuples()],
            capability=self.gains.capability.round(1),
        )
        index = ["task", "share", "model", "capability", "vanilla"]
        table = rows.pivot(index=index, columns="form", values="cell")[[*FORMS, "greedy"]]
        order = [self.tasks.index(task) for task in table.index.get_level_values("task")]
        return table.iloc[np.argsort(order, kind="stable")].sort_index(
            level=["task", "share", "capability"], sort_remaining=False
        ).rename_axis(columns=None)  # fmt: skip

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The gain that survival and repair foretell beside the one measured, in points.

        A share a of right answers becomes a survival + (1 - a) repair in each refinement: exact where all are at the
        mean rate and an answer's past says nothing of its future. Empty where none was right, or none wrong.
        """
        measured = self.gains.set_index(["task", "model", "share", "form"])
        rows = []
        for row in self.refining.itertuples():
            key = (row.task, row.model, row.share)
            steps = self._options(row.task, row.share, row.form).refine_steps
            end = after(row.before / 100, row.survival / 100, row.repair / 100, steps)
            vanilla = self.vanilla(*key)
            found = measured.loc[(*key, row.form)]
            labels = {"task": row.task, "model": row.model, "share": row.share, "form": row.form}
            told = {"refinements": steps, "foretold": 100 * end - vanilla, "measured": found.difference}
            rows.append(labels | told | {"low": found.low, "high": found.high})
        return pd.DataFrame(rows)

    def figure_gain(self):
        """Gain against capability, a line a task: solid at the larger budget, dashed at the smaller."""
        return by_capability(self.gains[self.gains.form != "greedy"], self.tasks, list(FORMS), FLOOR)

    def _refining_by_capability(self) -> pd.DataFrame:
        """`refining` after the fill-up of the larger budget, the weakest model first."""
        rows = self.refining[self.refining.share == self.shares[0]]
        able = [self.capability[row.task, row.model] for row in rows.itertuples()]
        return rows.assign(capability=able).sort_values("capability", kind="stable")

    def figure_refining(self):
        """Survival and repair against capability, at both rates, after the fill-up of the larger budget."""
        return of_refining(self._refining_by_capability(), self.tasks, BY_CHANCE)

    def refining_in_words(self) -> list[str]:
        """Survival and repair of the weakest and the ablest model of each task and form that has ten answers or more
        to judge them by."""
        said = []
        for form, part in self._refining_by_capability().groupby("form", sort=False):
            for what in ("survival", "repair"):
                cells = part[part[f"{what}_n"] >= 10]
                ends = [
                    f"{task} {own[what].iloc[0]:.0f} to {own[what].iloc[-1]:.0f}"
                    for task, own in cells.groupby("task", sort=False)
                    if len(own) > 1
                ]
                if ends:
                    said.append(f"**{form}**, {what} of one refinement in %, weakest to ablest: {', '.join(ends)}")
        return said

    def figure_strictness(self):
        """Gain against strictness at the larger budget: a point a task and model."""
        found = self.strict.set_index(["task", "model"]).strictness
        rows = self.gains[(self.gains.form != "greedy") & (self.gains.share == self.shares[0])]
        rows = rows.assign(strictness=[found[row.task, row.model] for row in rows.itertuples()])
        return by_strictness(rows, self.tasks, list(FORMS), FLOOR)


def after(before: float, survival: float, repair: float, refinements: int) -> float:
    """The share of right answers after some refinements, each with that survival and repair.

    NaN where one that it needs is NaN, for no answer was right, or none wrong.
    """
    share = before
    for _ in range(refinements):
        share = (share * survival if share else 0.0) + ((1 - share) * repair if share < 1 else 0.0)
    return share
