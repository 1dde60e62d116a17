"""What accuracy costs: forwards, positions and seconds of every method; blocks, canvas lengths, batches."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.ticker import LogLocator

from lib.analysis.interleaved import interleaved, time_ratio
from lib.analysis.stats import Estimate
from lib.decoders import DECODERS, options_of
from lib.models.registry import Model
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, at_least
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, comparison_table
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.respond import respond
from lib.running.run import Run
from lib.studies.base import SHORT
from lib.studies.tolerator.base import RecipeStudy, budgets, middle, spending
from lib.studies.tolerator.scores import DIFFUSION_METHODS, NAMES
from lib.tasks import get_task
from lib.tasks.base import Item
from lib.tolerator import Tolerator

COSTS = {"forwards": "forwards", "positions": "positions computed"}  # seconds are timed in turns
SHAPES = {"": "one block", "blocks": "up to four blocks", "longer": "canvas half as long again"}
OURS = "settle"
METHOD_NAMES = {method: NAMES[method] for method in DIFFUSION_METHODS} | {OURS: "Settle (ours)"}
SHAPED = ("vanilla", "rcr", "tolerator")  # what can decode in blocks


@dataclass(frozen=True)
class Study(RecipeStudy):
    """All methods over the budgets; where they can, at the middle budget in blocks and on a longer canvas.

    `rounds` of the two benchmarks, each over `batch` responses.
    """

    items: int = 60

    samples: int = 1
    rounds: int = 5
    batch: int = 32

    notebook = "24_tolerator_cost"
    key_parts = ("method", "shape", "budget")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method, shape, forwards)."""
        runs = {}
        for short in self.tasks:
            canvas = self.canvas(short)
            for forwards in budgets(canvas):
                for method in METHOD_NAMES:
                    runs[short, method, "", forwards] = self._at(short, method, forwards)
            forwards = middle(canvas)
            for method in SHAPED:
                blocks, longer = {"block": quarter(canvas)}, {"canvas": canvas * 3 // 2}
                runs[short, method, "blocks", forwards] = self._at(short, method, forwards, **blocks)
                runs[short, method, "longer", forwards] = self._at(short, method, forwards, **longer)
        return runs

    def _at(self, short: str, method: str, forwards: int, **options) -> Run:
        return self._run(short, method, **spending(method, forwards), **options)

    @cached_property
    def summary_in_words(self) -> pd.DataFrame:
        """`summary` with methods and shapes in words."""
        return self.summary.assign(
            method=self.summary.method.map(METHOD_NAMES), shape=self.summary["shape"].map(SHAPES)
        )

    @cached_property
    def against_full(self) -> pd.DataFrame:
        """Every method and budget minus vanilla at one token a forward, in points, paired; p after Holm."""
        pairs = []
        for (task, method, shape, forwards), lines in self.lines.items():
            if not shape and (method, forwards) != ("vanilla", self.canvas(task)):
                labels = {"task": task, "method": method, "forwards": forwards}
                pairs.append((labels, lines, self.lines[task, "vanilla", "", self.canvas(task)]))
        return comparison_table(pairs)

    def reach(self) -> pd.DataFrame:
        """The fewest forwards (mean spent) from which on a method is as good as vanilla at one token a forward.

        As good: the interval of the difference lies above -5 points, at this and every larger budget. `undecided`
        where no budget is, but for some the interval holds -5; `no` where all lie below it.
        """
        spent = self.summary.set_index(["label", "method", "shape", "budget"]).forwards
        rows = []
        for task in self.tasks:
            row = {"task": task}
            for method in METHOD_NAMES:
                here = self.against_full.query("task == @task and method == @method").sort_values("forwards")
                good = (here.low > -5)[::-1].cumprod()[::-1].astype(bool)
                name = METHOD_NAMES[method]
                if good.any():
                    row[name] = f"{spent[task, method, '', here[good].forwards.iloc[0]]:.1f}"
                elif method == "vanilla":
                    row[name] = f"{self.canvas(task)}"
                else:
                    row[name] = "undecided" if (here.high > -5).any() else "no"
            rows.append(row)
        return pd.DataFrame(rows).set_index("task")

    def table_shapes(self) -> pd.DataFrame:
        """Accuracy in % at the middle budget in one block, in up to four, and on a longer canvas."""
        rows = self.summary_in_words.assign(cell=accuracy_cells(self.summary_in_words))
        keep = rows.method.isin([NAMES[method] for method in SHAPED])
        at = np.array([r.budget == middle(self.canvas(r.label)) for r in rows.itertuples()])
        rows = rows[keep & at]
        table = rows.pivot(index=["label", "budget", "method"], columns="shape", values="cell")
        return table[list(SHAPES.values())].rename_axis(index=["task", "forwards", "method"], columns=None)

    def figure_cost(self):
        """Accuracy against forwards and positions, a row a cost and a column a task."""
        rows = self.summary_in_words[self.summary_in_words["shape"] == SHAPES[""]]
        looks = figures.looks(list(dict.fromkeys(rows.method)))
        size = (4.1 * len(self.tasks), 3.1 * len(COSTS))
        figure, axes = plt.subplots(len(COSTS), len(self.tasks), figsize=size, squeeze=False, sharey="col")
        for line, (cost, words) in zip(axes, COSTS.items(), strict=True):
            for axis, task in zip(line, self.tasks, strict=True):
                for name, look in looks.items():
                    part = rows[(rows.label == task) & (rows.method == name)].sort_values(cost)
                    figures.curve(axis, name, part[cost], part.accuracy, part.low, part.high, **look)
                axis.set(xscale="log", xlabel=words, ylim=(0, None))
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter("{x:g}")
                axis.minorticks_off()
                sns.despine(ax=axis)
            line[0].set_ylabel("accuracy, %")
            figures.name_ends(line)
        for axis, task in zip(axes[0], self.tasks, strict=True):
            axis.set_title(task)
        return figure

    def head_savings(self) -> pd.DataFrame:
        """How many positions a response needed the language-model head at, of those computed, and the saving in %."""
        rows = []
        for (task, method, shape, forwards), lines in self.lines.items():
            if not shape and forwards == self.canvas(task):
                needed, computed = (np.mean([line[key] for line in lines]) for key in ("head_positions", "positions"))
                row = {"task": task, "method": METHOD_NAMES[method], "positions": computed}
                rows.append(row | {"with the head": needed, "saved": 100 * (1 - needed / computed)})
        return pd.DataFrame(rows).round(1)

    @cached_property
    def rounds_of_batches(self) -> pd.DataFrame:
        """A row a round and variant: TOLERATOR at the middle budget, `batch` prompts one at a time and at once.

        `same`: share of responses that came out equal; 1 in float32 on a CPU.
        """
        return self.measurement("batches", self._rounds_of_batches)

    def _rounds_of_batches(self) -> pd.DataFrame:
        model, items, instruction = self._timed()
        canvas = self.canvas(self.tasks[-1])
        options = options_of("tolerator", {"canvas": canvas, "forwards": middle(canvas)})
        return time_batches(model, items, options, instruction, self.rounds, self.device)

    def _timed(self) -> tuple[Model, list[Item], str]:
        """The model, the prompts that are timed, `batch` of the last task, and their instruction."""
        task = get_task(SHORT.get(self.tasks[-1], self.tasks[-1]))
        return model_of(self.model, self.device), items_of(task.name, "test", self.batch), task.instruction

    @cached_property
    def speedup(self) -> Estimate:
        """Responses a second batched over one at a time."""
        return time_ratio(self.rounds_of_batches, "one at a time", "batched")

    @cached_property
    def rounds_of_methods(self) -> pd.DataFrame:
        """A row a round and method: the same `batch` prompts at the middle budget, all at once."""
        return self.measurement("methods", self._rounds_of_methods)

    def _rounds_of_methods(self) -> pd.DataFrame:
        model, items, instruction = self._timed()
        short, runs = self.tasks[-1], self.runs()
        at = middle(self.canvas(short))
        options = {name: runs[short, method, "", at].resolved() for method, name in METHOD_NAMES.items()}
        return time_methods(model, items, options, instruction, self.rounds, self.device)

    @cached_property
    def speeds(self) -> dict[str, Estimate]:
        """Seconds of a method over those of vanilla, by its name; intervals hold together with 95 %."""
        others = [name for name in METHOD_NAMES.values() if name != NAMES["vanilla"]]
        level = 1 - 0.05 / len(others)
        return {name: time_ratio(self.rounds_of_methods, name, NAMES["vanilla"], level) for name in others}

    def table_speeds(self) -> pd.DataFrame:
        """Forwards spent at the middle budget, seconds a response (median over rounds), and `speeds` beside it."""
        rows, short = self.rounds_of_methods, self.tasks[-1]
        at = self.summary_in_words.query("label == @short and shape == @SHAPES['']")
        at = at[at.budget == middle(self.canvas(short))].set_index("method")
        seconds = (rows.seconds / rows.work).groupby(rows.variant).median()
        table = pd.DataFrame({"forwards": at.forwards.round(1), "seconds a response": seconds.round(4)})
        ratios = {name: f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for name, e in self.speeds.items()}
        table["times vanilla's"] = pd.Series(ratios)
        return table.loc[list(METHOD_NAMES.values())].fillna("").rename_axis(index="method")

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The code that is timed, and what times it."""
        timed = [name_of(DECODERS[method].decode) for method in METHOD_NAMES]
        return [*timed, name_of(time_batches), name_of(time_methods)], []

    def claims(self) -> list[Claim]:
        """What this library set itself: a batch decodes five times as fast as one prompt at a time."""
        e = self.speedup
        says = f"{self.batch} prompts in one batch decode at least 5 times as fast as one at a time, {self.tasks[-1]}"
        return [Claim(OWN, says, "", e, "times", at_least(e, 5))]

    def reading(self) -> str:
        """What it takes to reach vanilla's full-length score, and what a batch saves."""
        lines = []
        for task, row in self.reach().iterrows():
            parts = [f"{name} {value}" for name, value in row.items()]
            lines.append(
                f"- **{task}**, forwards from which on the interval against vanilla at full length lies above -5: "
                f"{', '.join(parts)}."
            )
        saved = self.head_savings().groupby("method", sort=False).saved.mean()
        parts = [f"{name} {value:.0f} %" for name, value in saved.items()]
        lines.append(
            f"- Positions at which the language-model head was not needed, mean over tasks: {', '.join(parts)}."
        )
        parts = [f"{name} {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for name, e in self.speeds.items()]
        spent = self.table_speeds().forwards[METHOD_NAMES[OURS]]
        lines.append(
            f"- Seconds at the same budget, times vanilla's: {', '.join(parts)}; Settle spent {spent} of "
            f"{middle(self.canvas(self.tasks[-1]))} forwards."
        )
        e = self.speedup
        lines.append(
            f"- A batch of {self.batch} decodes {e.value:.2f} [{e.low:.2f}, {e.high:.2f}] times as many responses a "
            f"second as one prompt at a time; {100 * self.rounds_of_batches.same.min():.0f} % of them are the same."
        )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        e = self.speedup
        return {
            "tolerator_batch_speedup": headline(e.value, e.low, e.high, e.n, "times", self.profile, self.notebook)
        }

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "against_full": self.against_full}
        tables |= {"batches": self.rounds_of_batches, "methods": self.rounds_of_methods}
        return self.write(tables, {"cost": self.figure_cost()})


def quarter(canvas: int) -> int:
    """The shortest block that divides a canvas into four at most: each needs a forward of a small budget."""
    return next(n for n in range(-(-canvas // 4), canvas + 1) if canvas % n == 0)


def time_batches(
    model: Model, items: list[Item], options: Tolerator, instruction: str, rounds: int, device: str
) -> pd.DataFrame:
    """A row a round and variant: these items of a task, one at a time and all at once."""
    alone, together = (_responses(model, items, options, size, instruction) for size in (1, len(items)))

    def variant(size: int):
        def work() -> int:
            return len(_responses(model, items, options, size, instruction))

        return work

    variants = {"one at a time": variant(1), "batched": variant(len(items))}
    same = (alone == together).all(-1).double().mean().item()
    return interleaved(variants, rounds, device).assign(same=same)


def time_methods(
    model: Model, items: list[Item], options: dict[str, object], instruction: str, rounds: int, device: str
) -> pd.DataFrame:
    """A row a round and method: these items of a task, all at once, by each of `options`."""

    def variant(method):
        def work() -> int:
            return len(_responses(model, items, method, len(items), instruction))

        return work

    return interleaved({name: variant(method) for name, method in options.items()}, rounds, device)


def _responses(model, items, options, size: int, instruction: str = "") -> torch.Tensor:
    """Responses [items, canvas], decoded `size` at a time."""
    parts = [items[i : i + size] for i in range(0, len(items), size)]
    return torch.cat([respond(model, part, options, instruction=instruction).responses for part in parts])
