"""Does TOLERATOR's gain grow with the capability of the model and with the strictness of the answers?"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log10, nan
from pathlib import Path

import numpy as np
import pandas as pd

from lib.analysis.slopes import Cell, Line
from lib.analysis.stats import Estimate
from lib.models.trend import NAME as RECORD
from lib.models.trend import run_of
from lib.paths import CHECKPOINTS
from lib.reporting.claims import OWN, UNTESTABLE, Claim, more
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import comparison_table, difference_table, outcomes, summary_row
from lib.running.code import Name
from lib.running.one_batch import model_of
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy
from lib.studies.tolerator.base import EOT, MILD, canvas_of, spending
from lib.studies.tolerator.trend_figures import by_capability, by_strictness, of_refining
from lib.studies.tolerator.trend_measured import refined, strictness_of
from lib.tolerator import Tolerator

# Fill-up and refinement at one temperature, vanilla's, and all under one penalty: refinement alone differs.
FORMS = {"published rates": {}, "mild rates": MILD, "mild, least confident": MILD | {"subset": "confidence"}}
BY_CHANCE = ("published rates", "mild rates")  # whose refinement asks for no confidence
ALIKE = {"temperature": 0.3}
PUBLISHED = "published rates"
MEASURED = 100  # items whose right answers give the strictness, at most
FLOOR = 10.0  # % right one token a forward, below which a model is taken to be unable
SAME_TRAINING = {"study-dlm-on": "study-dlm", "study-corrector": "study-dlm"}  # trained on from it
SAME_QUESTIONS = {"terse": "math"}
CAPABILITY, STRICTNESS, SIZE = "10 points of capability", "0.1 of strictness", "ten times the size"
BOTH = "both"
LARGE = 8e9  # parameters of the papers' models


@dataclass(frozen=True)
class Study(BaseStudy):
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
        """Strictness, survival and repair, and the weights that they are of."""
        names = [(function.__module__, function.__name__) for function in (refined, strictness_of)]
        files = [*CHECKPOINTS.glob(f"*/{RECORD}"), *CHECKPOINTS.glob("study-dlm/model.safetensors")]
        return names, files

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

        A share a of right answers becomes a survival + (1 - a) repair in each refinement: exact for one, and for
        several where an answer's past says nothing of its future. Empty where none was right, or none wrong.
        """
        measured = self.gains.set_index(["task", "model", "share", "form"])
        rows = []
        for row in self.refining.itertuples():
            key = (row.task, row.model, row.share)
            steps = self._options(row.task, row.share, row.form).refine_steps
            end = after(row.before / 100, row.survival / 100, row.repair / 100, steps)
            vanilla = 100 * float(outcomes(self.lines[*key, "vanilla"]).mean())
            found = measured.loc[(*key, row.form)]
            labels = {"task": row.task, "model": row.model, "share": row.share, "form": row.form}
            told = {"refinements": steps, "foretold": 100 * end - vanilla, "measured": found.difference}
            rows.append(labels | told | {"low": found.low, "high": found.high})
        return pd.DataFrame(rows)

    def line(self, form: str, share: int | str, by: str, keep: Callable | None = None) -> Line | None:
        """The line of a form's gains, in points, at one budget or `both`; None where too few trainings are able.

        by: CAPABILITY, STRICTNESS or SIZE, of which its last number is the slope. An intercept of each task and
        budget stands first; on STRICTNESS, which differs by task, one of each budget, and capability beside it.
        keep (model): which ones, all by default.
        """
        shares = self.shares if share == BOTH else (share,)
        pairs, cells = self._able(keep), []
        kinds = [(task, one) for task in dict.fromkeys(task for task, _ in pairs) for one in shares]
        for task, model in pairs:
            for one in shares:
                ours, plain = (outcomes(self.lines[task, model, one, name]).mean(1) for name in (form, "vanilla"))
                if by == STRICTNESS:
                    start = [float(one == other) for other in shares]
                else:
                    start = [float((task, one) == other) for other in kinds]
                x = (*start, *self._columns(by, task, model))
                cells.append(Cell(x, 100 * (ours - plain), training_of(model), SAME_QUESTIONS.get(task, task)))
        try:
            return Line(cells, len({model for _, model in pairs}))
        except ValueError:
            return None

    def _columns(self, by: str, task: str, model: str) -> tuple[float, ...]:
        able = self.capability[task, model] / 10
        if by == CAPABILITY:
            return (able,)
        row = self.strict.set_index(["task", "model"]).loc[(task, model)]
        return (able, row.strictness / 0.1) if by == STRICTNESS else (log10(row.parameters),)

    def _able(self, keep=None) -> list[tuple[str, str]]:
        """The tasks and models that are on the lines."""
        return [pair for pair, c in self.capability.items() if c >= FLOOR and (keep is None or keep(pair[1]))]

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """Points of gain for 10 points of capability at each budget and both, and for 0.1 of strictness; p after
        Holm. Empty where less than three trainings are able."""
        found = []
        for form in FORMS:
            for by in (CAPABILITY, STRICTNESS):
                for share in (*self.shares, BOTH) if by == CAPABILITY and len(self.shares) > 1 else (BOTH,):
                    line = self.line(form, share, by)
                    if line is not None:
                        own = np.eye(line.x.shape[1])[-1]
                        found.append(({"form": form, "for": by, "share": str(share)}, line.at(own)))
        columns = ["form", "for", "share", "difference", "low", "high", "items", "p", "p_holm", "verdict"]
        return pd.DataFrame(difference_table(found), columns=columns).rename(
            columns={"difference": "slope", "items": "models"}
        )

    def extrapolated(self) -> pd.DataFrame:
        """What the lines say of a model of eight billion parameters in math, mean of the budgets: an extrapolation.

        By capability, at the most that the paper prints for LLaDA-8B on GSM8K, and by the logarithm of the size, of
        models at the end of their training; intervals of one further model. Beside it what the paper prints.
        """
        cells = printed("tolerator").query("model == 'LLaDA-8B' and task == 'GSM8K'")
        means = cells[cells.forwards == "mean"].set_index("method").value
        reached = float(cells.value.max())
        rows = []
        for form in FORMS:
            for what, by, at, keep in (
                (f"capability {reached:.1f} %", CAPABILITY, reached / 10, None),
                ("8 billion parameters", SIZE, log10(LARGE), lambda model: "@" not in model),
            ):
                line = self.line(form, BOTH, by, keep)
                tasks = list(dict.fromkeys(task for task, _ in self._able(keep)))
                if line is None or "math" not in tasks:
                    continue
                height, first = np.zeros(line.x.shape[1]), len(self.shares) * tasks.index("math")
                height[first : first + len(self.shares)] = 1 / len(self.shares)
                height[-1] = at
                e = line.at(height, further=True)
                row = {"form": form, "at": what, "gain": e.value, "low": e.low, "high": e.high, "models": e.n}
                rows.append(row | {"printed, GSM8K": means["tolerator"] - means["vanilla"]})
        columns = ["form", "at", "gain", "low", "high", "models", "printed, GSM8K"]
        return pd.DataFrame(rows, columns=columns).round(1)

    def figure_gain(self):
        """Gain against capability, a line a task: solid at the larger budget, dashed at the smaller."""
        return by_capability(self.gains[self.gains.form != "greedy"], self.tasks, list(FORMS))

    def figure_refining(self):
        """Survival and repair against capability, at both rates."""
        rows = self.refining.assign(
            capability=[self.capability[row.task, row.model] for row in self.refining.itertuples()]
        )
        return of_refining(rows[rows.share == self.shares[0]], self.tasks, BY_CHANCE)

    def figure_strictness(self):
        """Gain against strictness at the larger budget: a point a task and model, the larger the more able."""
        found = self.strict.set_index(["task", "model"]).strictness
        rows = self.gains[(self.gains.form != "greedy") & (self.gains.share == self.shares[0])]
        rows = rows.assign(strictness=[found[row.task, row.model] for row in rows.itertuples()])
        return by_strictness(rows, self.tasks, list(FORMS))

    def slope(self, form: str, by: str) -> Estimate | None:
        """A slope over both budgets, its p after Holm; None where there is none."""
        rows = self.slopes[(self.slopes.form == form) & (self.slopes["for"] == by) & (self.slopes.share == BOTH)]
        for row in rows.itertuples():
            return Estimate(row.slope, row.low, row.high, row.models, row.p_holm)
        return None

    def claims(self) -> list[Claim]:
        """That gains grow with capability and with strictness, which the papers do not say: ours to test."""
        found = []
        for form in FORMS:
            for by, says in (
                (CAPABILITY, "the gain grows with the capability of the model"),
                (STRICTNESS, "of equally able models the gain grows with the strictness of the answers"),
            ):
                e = self.slope(form, by)
                verdict = more(e) if e else UNTESTABLE
                e = e or Estimate(nan, nan, nan, 0)
                found.append(Claim(OWN, f"{says}, TOLERATOR, {form}", "", e, f"points for {by}", verdict))
        return found

    def headlines(self) -> dict[str, dict]:
        """The slope on capability at the published rates, of as many models as there are; none of too few."""
        e = self.slope(PUBLISHED, CAPABILITY)
        if e is None:
            return {}
        unit = f"points for {CAPABILITY}"
        found = headline(e.value, e.low, e.high, int(e.n), unit, self.profile, self.notebook)
        return {"tolerator_gain_per_capability": found}

    def reading(self) -> str:
        """The slopes in words, how well survival and repair foretell the gains, and what of it is extrapolated."""
        lines = []
        for form in FORMS:
            for by in (CAPABILITY, STRICTNESS):
                e = self.slope(form, by)
                said = (
                    f"{e.value:+.1f} points [{e.low:.1f}, {e.high:.1f}] of gain, {e.n} models, p {e.p:.2g} after Holm"
                    if e
                    else f"no line, for less than three trainings reach {FLOOR:.0f} % on a task"
                )
                lines.append(f"- **{form}**, for {by}: {said}.")
        told = self.predictions.dropna(subset="foretold")
        for form, rows in told.groupby("form", sort=False):
            inside = ((rows.low <= rows.foretold) & (rows.foretold <= rows.high)).sum()
            off = (rows.foretold - rows.measured).abs().mean()
            lines.append(
                f"- **{form}**, foretold by survival and repair: {off:.1f} points off in the mean, within the "
                f"measured gain's interval in {inside} of {len(rows)} cells."
            )
        for row in self.extrapolated().itertuples():
            lines.append(
                f"- **{row.form}**, extrapolated to {row.at} in math: {row.gain:+.1f} points [{row.low:.1f}, "
                f"{row.high:.1f}] for one further model. No model of that size was measured here."
            )
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "gains": self.gains, "slopes": self.slopes, "strictness": self.strict}
        tables |= {"refining": self.refining, "predictions": self.predictions, "extrapolated": self.extrapolated()}
        figures = {"gain": self.figure_gain(), "refining": self.figure_refining()}
        return self.write(tables, figures | {"strictness": self.figure_strictness()})


def training_of(model: str) -> str:
    """The training that a model's errors are alike by."""
    run = run_of(model)
    return SAME_TRAINING.get(run, run)


def after(before: float, survival: float, repair: float, refinements: int) -> float:
    """The share of right answers after some refinements, each with that survival and repair.

    NaN where one that it needs is NaN, for no answer was right, or none wrong.
    """
    share = before
    for _ in range(refinements):
        share = (share * survival if share else 0.0) + ((1 - share) * repair if share < 1 else 0.0)
    return share
