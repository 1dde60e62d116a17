"""AutoDeco against what can be had without heads today, a constant of equal tuning budget, and heads by reward."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.stats import Estimate, paired_mean_difference
from lib.errors import UserError
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, above_floor, more
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, comparison_table, estimate_of, outcomes, percent, summary_row
from lib.running.run import Run
from lib.studies.autodeco import frames
from lib.studies.autodeco.scores import mean_setting
from lib.studies.autodeco.tuning import Setting, best_of
from lib.studies.base import SHORT, BaseStudy, limit
from lib.training.autodeco.recipe import SOURCES
from lib.training.autodeco.reward import REWARDS

# Rival -> its name in tables, decoder and options: what its paper recommends; of eta between its values by model.
RIVALS = {
    "greedy": ("greedy", "autoregressive", {}),
    "min_p": ("min-p, 0.1", "min_p", {"min_p": 0.1}),
    "p_less": ("p-less", "p_less", {}),
    "top_h": ("top-H, alpha 0.4", "top_h", {"alpha": 0.4}),
    "eta": ("eta, 0.002", "eta", {"epsilon": 2e-3}),
    "typical": ("typical, 0.95", "typical_p", {"mass": 0.95}),
    "entropy": ("entropy rule, N 0.8, theta 0.1", "entropy", {}),
}
OURS = {
    "autodeco": "AutoDeco",
    "reward": "heads by reward",
    "constant": "its mean as a constant",
    "shuffled": "its settings shuffled",
    "tuned": "constant, tuned as much",
    "tuned_reward": "constant, tuned as much as by reward",
}
NAMES = {name: words for name, (words, *_) in RIVALS.items()} | OURS
NOT_RIVALS = ("autodeco", "reward", "tuned_reward")
# What a tuned constant is chosen from: temperature and top-p. The finer GRID of tuning.py would leave each setting
# 40 responses of AutoDeco's budget, this one 240.
GRID: tuple[Setting, ...] = (
    (0.0, 1.0),
    *((t, p) for t in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2) for p in (0.8, 0.9, 0.95, 1.0)),
)


@dataclass(frozen=True)
class Study(BaseStudy):
    """One model with heads by likelihood and by reward. `budget`: scored validation responses a task by which a
    constant is tuned; 0: as many as the training of the heads drew, for either kind its own number.

    `framed_model` with `framed_heads` answers `framed_items` items of `framed_task` in every prompt template.
    `tokens`: the length limit; 0 is the task's own.
    """

    samples: int = 4
    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    heads: str = "study-ar-autodeco"
    reward: str = "study-ar-reward"
    budget: int = 0
    framed_items: int = 50
    framed_task: str = "country_sentences"
    framed_model: str = "smollm2-135m"
    framed_heads: str = "smollm2-135m-autodeco"
    tokens: int = 0

    notebook = "19_autodeco_rivals"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.framed_items < 1:
            raise UserError(f"framed_items must be 1 or more, not {self.framed_items}")
        if self.budget and self.budget < len(GRID):
            raise UserError(f"budget must be 0 or {len(GRID)} or more, a response for each setting of the grid")
        if not self.budget and (self.model not in SOURCES or self.reward not in REWARDS):
            raise UserError(
                f"how many responses trained the heads of {self.model} is not known: give budget a number"
            )

    @property
    def budgets(self) -> dict[str, int]:
        """Validation responses a task, by the tuned constant that they are spent on."""
        if self.budget:
            return {"tuned": self.budget, "tuned_reward": self.budget}
        source = SOURCES[self.model]
        by_reward = REWARDS[self.reward].evaluations(len(source.tasks))
        return {"tuned": source.evaluations, "tuned_reward": by_reward}

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method), (task, "tuning", temperature, top-p) and ("frame", task in its frame, method)."""
        most, runs = limit(self.tokens), {}
        size = {"items": self.items, "samples": self.samples, **most}
        each = max(self.budgets.values()) // len(GRID)
        for short in self.tasks:
            task = SHORT.get(short, short)
            for name, (_, decoder, options) in RIVALS.items():
                drawn = size if name != "greedy" else size | {"samples": 1}
                runs[short, name] = Run.of(self.model, task, decoder, **drawn, **options)
            runs[short, "autodeco"] = Run.of(self.heads, task, "autodeco", **size)
            runs[short, "shuffled"] = Run.of(self.heads, task, "autodeco", shuffled=True, **size)
            runs[short, "reward"] = Run.of(self.reward, task, "autodeco", **size)
            for setting in GRID:
                options = dict(zip(("temperature", "top_p"), setting, strict=True))
                runs[short, "tuning", *setting] = Run.of(
                    self.model, task, "autoregressive", items=each, split="validation", **options, **most
                )
        return runs | frames.framed_runs(
            self.framed_model, self.framed_heads, self.framed_task, {"items": self.framed_items, **most}
        )

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """Ordinary sampling at AutoDeco's mean setting, in frames too, and at the two that tuning chose."""
        runs = {}
        for short in self.tasks:
            settings = {"constant": mean_setting(lines[short, "autodeco"])}
            for name in self.budgets:
                temperature, top_p = self.chosen(lines, short, name)
                settings[name] = {"temperature": temperature, "top_p": top_p}
            for name, setting in settings.items():
                samples = self.samples if setting["temperature"] else 1  # greedy draws nothing
                task = SHORT.get(short, short)
                runs[short, name] = Run.of(
                    self.model, task, "autoregressive", self.items, samples, **setting, **limit(self.tokens)
                )
        framed = {"items": self.framed_items, **limit(self.tokens)}
        return runs | frames.framed_constants(self.framed_model, self.framed_task, framed, lines)

    def tried(self, lines: dict[tuple, list[dict]], short: str, name: str) -> dict[Setting, tuple[int, int]]:
        """Of every setting (right, tried) on validation items, as many as the budget of `name` allows."""
        each = self.budgets[name] // len(GRID)
        found = {}
        for setting in GRID:
            scores = [line["correct"] for line in lines[short, "tuning", *setting][:each]]  # by id: the same for all
            found[setting] = sum(scores), len(scores)
        return found

    def chosen(self, lines: dict[tuple, list[dict]], short: str, name: str) -> Setting:
        """The setting that is best on validation items."""
        return best_of(self.tried(lines, short, name))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a run on test items: accuracy with its interval, the mean setting, and what it cost."""
        rows = []
        for short in self.tasks:
            for method in NAMES:
                run, lines = self.all_runs[short, method], self.lines[short, method]
                options = mean_setting(lines) if run.method == "autodeco" else dict(run.options)
                setting = {name: options.get(name) for name in ("temperature", "top_p")}
                rows.append(summary_row(run, lines, label=short, method=NAMES[method], **setting))
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval: a line a method, a column a task."""
        table = self.summary.assign(cell=accuracy_cells(self.summary)).pivot(
            index="method", columns="label", values="cell"
        )
        return table.loc[list(NAMES.values()), list(self.tasks)].rename_axis(index=None, columns=None)

    def settings(self) -> pd.DataFrame:
        """The mean temperature and top-p of heads, and those of constants; of tuned ones what they were tuned by."""
        rows = self.summary[self.summary.method.isin(OURS.values())][["label", "method", "temperature", "top_p"]]
        tried = {
            (short, NAMES[name]): self.tried(self.lines, short, name) for short in self.tasks for name in self.budgets
        }
        spent = [sum(n for _, n in tried.get((r.label, r.method), {}).values()) for r in rows.itertuples()]
        rows = rows.assign(validation_responses=[n or "" for n in spent])
        return rows.rename(columns={"label": "task"}).set_index(["task", "method"]).round(3)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """AutoDeco minus each rival, heads by reward minus their constant and AutoDeco, and min-p, which chooses by
        the token without heads, minus the tuned constant; paired, p after Holm."""
        pairs = []
        for short in self.tasks:
            against = [("autodeco", name) for name in NAMES if name not in NOT_RIVALS]
            more = [("reward", "tuned_reward"), ("reward", "autodeco"), ("min_p", "tuned")]
            for ours, other in [*against, *more]:
                labels = {"task": short, "method": NAMES[ours], "against": NAMES[other]}
                pairs.append((labels, self.lines[short, ours], self.lines[short, other]))
        return comparison_table(pairs)

    def figure_differences(self):
        """The comparisons in points with paired 95 % intervals, a panel a task; hollow where tied by Holm."""
        rows = self.comparisons.set_index(["method", "against"])
        names = {key: f"{key[0]} - {key[1]}" for key in rows.index}
        return figures.forest({task: rows[rows.task == task] for task in self.tasks}, names)

    @cached_property
    def by_reward(self) -> Estimate:
        """Heads by reward minus the constant tuned as much, in points, over the items of all tasks together."""
        ours, theirs = (
            np.concatenate([outcomes(self.lines[short, name]).mean(1) for short in self.tasks])
            for name in ("reward", "tuned_reward")
        )
        return percent(paired_mean_difference(ours, theirs))

    def frames(self) -> pd.DataFrame:
        """Accuracy in % by method and frame, on the model that is asked in templates."""
        return frames.framed_table(self.all_runs, self.lines)

    def claims(self) -> list[Claim]:
        """Against every rival that notebook 10 has not; heads by reward; and the order of decoders over frames."""
        shown = {*RIVALS, "tuned"} - {"greedy"}
        accuracy, found = self.summary.set_index(["label", "method"]).accuracy, []
        for row in self.comparisons.itertuples():
            if row.against in {NAMES[name] for name in shown} or row.method == NAMES["reward"]:
                verb = "beat" if row.method == NAMES["reward"] else "beats"
                e, says = estimate_of(row), f"{row.method} {verb} {row.against}, on {row.task}"
                both = accuracy[row.task, row.method], accuracy[row.task, row.against]
                found.append(Claim(OWN, says, "", e, "points", above_floor(more(e), *both)))
        return [*found, frames.framed_claim(self.framed_task, self.lines)]

    def reading(self) -> str:
        """Who is better than AutoDeco and than whom it is, task by task; then reward, then frames."""
        lines, rows = [], self.comparisons
        for task in self.tasks:
            here = rows[(rows.task == task) & (rows.method == NAMES["autodeco"])]
            parts = []
            for verdict, words in (("higher", "better than"), ("lower", "worse than"), ("tied", "not told from")):
                some = [f"{r.against} ({r.difference:+.1f})" for r in here[here.verdict == verdict].itertuples()]
                parts += [f"{words} {', '.join(some)}"] if some else []
            lines.append(f"- **{task}**: AutoDeco is {'; '.join(parts)}; points, after Holm.")
        e, share = self.by_reward, rows[rows.method == NAMES["reward"]]
        parts = [
            f"{r.task} {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}] against {r.against}, {r.verdict}"
            for r in share.itertuples()
        ]
        lines.append(
            f"- **Heads by reward** minus the constant tuned as much, all tasks together: {e.value:+.1f} points "
            f"[{e.low:.1f}, {e.high:.1f}], {e.n} items; {'; '.join(parts)}."
        )
        return "\n".join([*lines, frames.framed_reading(self.framed_task, self.lines)])

    def headlines(self) -> dict[str, dict]:
        """Heads by reward against the constant of equal budget, over the items of all tasks together; none where
        the constant was tuned on less (`budget`)."""
        if self.budget:
            return {}
        e = self.by_reward
        entry = headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)
        return {"autodeco_reward_heads_vs_constant": entry}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "comparisons": self.comparisons,
            "frames": frames.framed_differences(self.framed_task, self.lines),
        }
        return self.write(tables, {"differences": self.figure_differences()})
