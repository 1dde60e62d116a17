"""The study models: how they learned, what they can do, and which cells are fit to show a gain."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from lib.analysis.fitness import RATES
from lib.analysis.stats import Estimate
from lib.paths import CHECKPOINTS
from lib.reporting.claims import HOLDS, OPEN, OWN, REFUTED, Claim, at_least, within
from lib.reporting.inert import inert
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, summary_row
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.run import Run
from lib.studies.agreement import agreement
from lib.studies.autodeco.printed_gains import printed_gain
from lib.studies.base import SHORT, BaseStudy
from lib.studies.checkpoints import learning_curve
from lib.studies.fitness import cells_of, refinements
from lib.studies.model_figures import of_learning, of_survival
from lib.studies.tolerator import rivals
from lib.studies.tolerator.base import middle
from lib.studies.tolerator.scores import RELATIVE
from lib.tasks import get_task
from lib.training.study.recipe import RECIPES

TARGET, DRAFTS, DIFFUSION = "study-ar", ("study-draft", "ar-2m"), "study-dlm"
# Tasks of each diffusion model: the corrector is compared where tokens check one another, and on the contrast.
REFINED = {DIFFUSION: tuple(SHORT), "study-corrector": ("math", "logic", "terse")}
# Besides the bed's tasks, for the reference models alone: templates that no training question has, other levels.
LEVELS = ("worded_math_new", "sudoku6", "graded_functions_1", "graded_functions_3")
FOUR, MIDDLE = ", 4 a forward", ", middle budget"
# What was wanted of the models before any of them was trained: model, task, least and most % right.
WANTED = (
    (TARGET, "math", 60, 100),
    (DIFFUSION, "math", 60, 100),
    (DIFFUSION, "logic", 80, 100),
    (TARGET, "qa", 60, 100),
    (DIFFUSION, "qa", 60, 100),
    *((model, level, 20, 80) for level in (LEVELS[2], "code", LEVELS[3]) for model in (TARGET, DIFFUSION)),
)
AT_FOUR = 30  # % right that two tasks should have above at four tokens a forward
AGREEMENT = (60, 90)
HEADLINES = {
    "worded_ar_math": ("math", TARGET),
    "worded_dlm_math": ("math", DIFFUSION),
    "worded_dlm_math_4_a_forward": ("math", DIFFUSION + FOUR),
    "logic_dlm": ("logic", DIFFUSION),
    "logic_dlm_4_a_forward": ("logic", DIFFUSION + FOUR),
    "study_ar_qa": ("qa", TARGET),
    "study_ar_code": ("code", TARGET),
    "study_dlm_qa": ("qa", DIFFUSION),
    "study_dlm_code": ("code", DIFFUSION),
}


@dataclass(frozen=True)
class Study(BaseStudy):
    """Greedy decoding by the autoregressive models; by the diffusion models, at temperature 0, one token a forward,
    four, and the budget that TOLERATOR's claims are judged at; then one refinement of what these answered."""

    items: int = 40

    samples: int = 1

    notebook = "00_study_models"

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, which): a model, at a smaller budget with FOUR or MIDDLE behind its name."""
        runs = {}
        for short in SHORT:
            for model in (TARGET, *DRAFTS):
                runs[short, model] = self._run(short, model)
        for model, tasks in REFINED.items():
            runs |= {(short, model + at): self._run(short, model, at) for short in tasks for at in ("", FOUR)}
        for task in LEVELS:
            runs[task, TARGET] = self._run(task, TARGET)
            runs |= {(task, DIFFUSION + at): self._run(task, DIFFUSION, at) for at in ("", FOUR)}
        return runs | {(task, DIFFUSION + MIDDLE): self._run(task, DIFFUSION, MIDDLE) for task in rivals.TASKS}

    def _run(self, short: str, model: str, at: str | None = None) -> Run:
        """Of a diffusion model one token a forward, or as FOUR and MIDDLE say."""
        task = SHORT.get(short, short)
        if at is None:
            return Run.of(model, task, "autoregressive", items=self.items)
        canvas = get_task(task).max_new_tokens
        steps = {"": canvas, FOUR: -(-canvas // 4), MIDDLE: middle(canvas)}[at]
        return Run.of(model, task, "vanilla", items=self.items, steps=steps, temperature=0.0)

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """What refines, on which weights, and judges it; the curves that the training left."""
        scorers = [record.score_many or record.score for record in map(get_task, (*SHORT.values(), *LEVELS))]
        curves = [CHECKPOINTS / name / "curve.jsonl" for name in RECIPES]
        weights = [CHECKPOINTS / name / "model.safetensors" for name in REFINED]
        return [name_of(refinements), *map(name_of, scorers)], curves + weights

    @cached_property
    def summary(self) -> pd.DataFrame:
        return pd.DataFrame(
            summary_row(self.all_runs[key], lines, label=key[0], which=key[1]) for key, lines in self.lines.items()
        )

    def table(self, tasks: tuple[str, ...] = tuple(SHORT)) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval, a line a model, a column a task."""
        rows = self.summary.assign(cell=accuracy_cells(self.summary))
        rows = rows[rows.label.isin(tasks)]
        table = rows.pivot(index="which", columns="label", values="cell")[list(tasks)]
        return table.loc[list(dict.fromkeys(rows.which))].fillna("").rename_axis(index="model", columns=None)

    def levels(self) -> pd.DataFrame:
        """The same of the reference models on the other levels, and on templates that no training question has."""
        return self.table(LEVELS)

    def examples(self) -> pd.DataFrame:
        """The first two questions of each task, what is right, and what the models said."""
        rows = []
        for short, task in SHORT.items():
            for item in items_of(task, "test", self.items)[:2]:
                said = {
                    which: inert(self._texts(short, which)[item.id])
                    for which in (TARGET, DIFFUSION, DIFFUSION + FOUR)
                }
                asked = {"prompt": inert(item.prompt.strip()), "target": inert(item.target.strip())}
                rows.append({"task": short, **asked, **said})
        return pd.DataFrame(rows)

    def _texts(self, short: str, which: str) -> dict[str, str]:
        return {line["item"]: line["text"] for line in self.lines[short, which]}

    def shapes(self) -> pd.DataFrame:
        """Parameters, training and the last validation loss of each model."""
        rows = []
        for name, recipe in RECIPES.items():
            parameters = sum(p.numel() for p in model_of(name, "cpu").network.parameters())
            learned = learning_curve(name)
            rows.append(
                {
                    "model": name,
                    "parameters, million": round(parameters / 1e6, 2),
                    "objective": recipe.objective,
                    "begins from": recipe.start or "",
                    "sequences": int(learned.step.iloc[-1]) * recipe.batch_size,
                    "validation loss": round(learned.validation_loss.dropna().iloc[-1], 3),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def survival(self) -> pd.DataFrame:
        """Survival and repair in one refinement of the answers of diffusion models: a row a task, which and rate."""
        return self.measurement("survival", self._survival)

    def _survival(self) -> pd.DataFrame:
        rows = []
        for (short, which), run in self._refined().items():
            items, texts = items_of(run.task, run.split, run.items), self._texts(short, which)
            model = model_of(run.model, self.device)
            found = refinements(model, run.task, items, [texts[item.id] for item in items], RATES)
            rows += [{"label": short, "which": which} | row for row in found]
        return pd.DataFrame(rows)

    def _refined(self) -> dict[tuple, Run]:
        """The runs whose answers are refined."""
        return {key: run for key, run in self.runs().items() if run.method == "vanilla"}

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a run: what it is fit for, and the power at a printed effect; see lib/studies/fitness.py.

        The effect: AutoDeco's over default sampling on what is autoregressive, TOLERATOR's over vanilla decoding on
        diffusion models.
        """
        rows = self.summary
        masks = [self.all_runs[row.label, row.which].method == "vanilla" for row in rows.itertuples()]
        effects = [
            RELATIVE * row.accuracy if mask else printed_gain(row.label, "default")[1]
            for row, mask in zip(rows.itertuples(), masks, strict=True)
        ]
        return cells_of(rows, self.survival, effects)

    def fitness(self) -> pd.DataFrame:
        """`cells` as a reader sees them."""
        names = {"compare": "to compare methods", "remask": "to mask again", "effect": "printed effect, points"}
        names |= {"power": f"least power with {self.items} items, %", "needed": "items for 80 %"}
        return self.cells.rename(columns=names).set_index(["task", "which"]).round(1)

    @cached_property
    def agreement(self) -> dict[str, Estimate]:
        """Share of positions, in %, where a draft's greedy token is the target's, along the target's own text."""
        pairs = [
            (item.prompt, self._texts(short, TARGET)[item.id])
            for short, task in SHORT.items()
            for item in items_of(task, "test", self.items)
        ]
        target = model_of(TARGET, "cpu")
        return {name: agreement(target, model_of(name, "cpu"), pairs) for name in DRAFTS}

    def figure_learning(self):
        """Training loss (thin) and validation loss (dots) against training sequences."""
        return of_learning({name: learning_curve(name) for name in RECIPES})

    def figure_survival(self):
        """Right answers that stay right (full lines) and wrong ones that become right (dashed) in one refinement."""
        rows = self.survival
        return of_survival(rows[rows.label.isin(SHORT) & ~rows.which.str.endswith(MIDDLE)], tuple(SHORT))

    def claims(self) -> list[Claim]:
        """What was wanted of the models before they were trained."""
        found = []
        for model, short, low, high in WANTED:
            e, ends = self._accuracy(short, model), f"at least {low} %" if high == 100 else f"{low} to {high} %"
            verdict = at_least(e, low) if high == 100 else within(e, low, high)
            found.append(Claim(OWN, f"{model} is right on {ends} of {short}", "", e, "%", verdict))
        says = f"the second best task of {DIFFUSION} at four tokens a forward is above {AT_FOUR} %"
        second = self._second_at_four()
        found.append(Claim(OWN, says, "", second, "%", at_least(second, AT_FOUR)))
        for name, e in self.agreement.items():
            says = f"{name} agrees with the target on {AGREEMENT[0]} to {AGREEMENT[1]} % of the tokens"
            found.append(Claim(OWN, says, "", e, "%", within(e, *AGREEMENT)))
        return found

    def _accuracy(self, short: str, which: str) -> Estimate:
        row = self.summary.set_index(["label", "which"]).loc[short, which]
        return Estimate(row.accuracy, row.low, row.high, int(row["items"]))

    def _second_at_four(self) -> Estimate:
        """The second best accuracy at four tokens a forward."""
        return sorted((self._accuracy(short, DIFFUSION + FOUR) for short in SHORT), key=lambda e: e.value)[-2]

    def reading(self) -> str:
        """What was wanted and whether it is met, by the verdicts of `claims`; what is fit, and for what."""
        words = {HOLDS: "met", REFUTED: "missed", OPEN: "undecided"}
        lines = [
            f"- {claim.says}: **{words[claim.verdict]}**, {claim.here.value:.1f} % [{claim.ruling.low:.1f}, "
            f"{claim.ruling.high:.1f}]."
            for claim in self.claims()
        ]
        drops = [
            f"{short} {self._accuracy(short, DIFFUSION + FOUR).value - self._accuracy(short, DIFFUSION).value:+.1f}"
            for short in SHORT
        ]
        lines.append(f"- Four tokens a forward instead of one, {DIFFUSION}, in points: {', '.join(drops)}.")
        for column, what in (("compare", "to compare methods"), ("remask", "to judge a method that masks again")):
            asked = self.cells[self.cells[column] != ""]
            unfit = [f"{row.task} by {row.which} ({row.why})" for row in asked[asked[column] != "fit"].itertuples()]
            said = f"; not: {'; '.join(unfit)}" if unfit else ""
            lines.append(f"- Fit {what}: {len(asked) - len(unfit)} of {len(asked)} cells{said}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        found = {name: self._accuracy(*key) for name, key in HEADLINES.items()}
        given, e = (self.profile, self.notebook), self.agreement[DRAFTS[0]]
        entries = {name: headline(e.value, e.low, e.high, e.n, "%", *given) for name, e in found.items()}
        return entries | {"draft_agreement": headline(e.value, e.low, e.high, e.n, "% of tokens", *given)}

    def save(self) -> dict:
        tables = {"summary": self.summary, "survival": self.survival, "fitness": self.cells}
        return self.write(tables, {"curves": self.figure_learning(), "survival": self.figure_survival()})
