"""What the TOLERATOR studies share: budgets, accuracies as tables and lines, differences over all tasks."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.bootstrap import SEED, drawn_rows, interval
from lib.analysis.stats import Estimate, paired_difference, paired_mean_difference
from lib.errors import UserError
from lib.reporting import figures
from lib.reporting.tables import accuracy_cells, accuracy_difference, outcomes, percent, summary_row
from lib.running.run import Run
from lib.studies.base import SHORT, BaseStudy, limit
from lib.tasks import get_task

# Of the fill-up, as published; a vanilla run with these is TOLERATOR without refinement.
FILL_UP = {"temperature": 0.5, "eot_form": "logit_div", "eot_lambda": 1.2}
EOT = {name: FILL_UP[name] for name in ("eot_form", "eot_lambda")}

# A rate at which a refinement leaves most of an answer as it was, beside the published 0.8 to 0.4; see `tried` in
# controls.py.
MILD = {"gamma_max": 0.2, "gamma_min": 0.1}
BUDGETS = {
    "middle": "middle budget",
    "full": "one token a forward",
    "four": "4 tokens a forward",
    "eight": "8 tokens a forward",
}
FEWEST = 4  # forwards of any budget
COUNTS_STEPS = ("vanilla", "rcr", "remdm", "remdm_port")  # a step of theirs is a forward
RATES = {"published": {}, "mild": MILD}


def canvas_of(short: str) -> int:
    """The canvas of a task: its longest response."""
    return get_task(SHORT.get(short, short)).max_new_tokens


def budgets(canvas: int) -> tuple[int, ...]:
    """Forward budgets: 4 and its doublings up to half the canvas, then one token a forward."""
    doublings = [4 * 2**i for i in range(8) if 4 * 2**i <= canvas // 2]
    return (*doublings, canvas)


def middle(canvas: int) -> int:
    """The budget in the middle of the grid, the higher of two: the one that the headlines name. Of logic the one
    before: on validation items vanilla decoding is right in 71 % there, and above 80 %, which shows little, later."""
    grid = budgets(canvas)
    return grid[1] if canvas == canvas_of("logic") else grid[len(grid) // 2]


def forwards_at(budget: str, canvas: int) -> int:
    """Forwards of a budget: `middle` of the grid, `full`, one token a forward, or `four` or `eight` tokens a forward.

    Four forwards at the least, and `eight` is no more than `middle`. Raises UserError on another name.
    """
    if budget not in BUDGETS:
        raise UserError(f"{budget!r} is no budget: take {' or '.join(BUDGETS)}")
    shared_out = {"four": 4, "eight": 8}.get(budget)
    if shared_out:
        shared = max(-(-canvas // shared_out), FEWEST)
        return min(shared, middle(canvas)) if budget == "eight" else shared
    return {"middle": middle(canvas), "full": canvas}[budget]


def spending(method: str, forwards: int) -> dict[str, int]:
    """The options by which a method is given so many forwards.

    CoRe revises every 8th step, which of few steps is none: then so often that one revision comes.
    """
    if method == "core" and forwards < 16:
        return {"forwards": forwards, "every": max(forwards // 2, 1)}
    return {"steps" if method in COUNTS_STEPS else "forwards": forwards}


def recipe_of(method: str, temperature: float, top_p: float) -> dict[str, float]:
    """The options that a model's published scripts set: vanilla's, and of TOLERATOR those of the fill-up."""
    return {"vanilla": {"temperature": temperature, "top_p": top_p}, "tolerator": {"top_p": top_p}}.get(method, {})


def over_tasks(pairs: list[tuple[list[dict], list[dict]]]) -> Estimate:
    """Mean over tasks of each one's accuracy of `a` minus that of `b`, in points; tasks weigh the same."""
    for a, b in pairs:
        accuracy_difference(a, b)  # raises where they are not the same items
    if len({len(outcomes(a)) for a, _ in pairs}) == 1:
        return percent(
            paired_difference(*(np.concatenate([outcomes(pair[side]) for pair in pairs]) for side in (0, 1)))
        )
    return percent(mean_difference(*([outcomes(pair[side]).mean(1) for pair in pairs] for side in (0, 1))))


def mean_difference(a: list[np.ndarray], b: list[np.ndarray]) -> Estimate:
    """Mean over tasks of each one's mean of a - b, both [items] in [0, 1] a task; the sizes of tasks may differ.

    Bootstrap over the items, of tasks of different sizes within each; p by sign flips of the items, each weighing
    what it has in the mean.
    Where no task's items differ among each other, the ends are the means of the tasks' own.
    """
    if len({len(own) for own in a}) == 1:
        return paired_mean_difference(np.concatenate(a), np.concatenate(b))
    weights = [min(map(len, a)) / len(own) for own in a]
    p = paired_mean_difference(
        *(np.concatenate([w * own for w, own in zip(weights, x, strict=True)]) for x in (a, b))
    ).p
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if any(np.ptp(own) for own in differences):
        draws = np.random.default_rng(SEED)
        ends = interval(np.mean([own[drawn_rows(len(own), draws)].mean(1) for own in differences], 0))
    else:
        alone = [paired_mean_difference(x, y) for x, y in zip(a, b, strict=True)]
        ends = tuple(float(np.mean([getattr(e, end) for e in alone])) for end in ("low", "high"))
    return Estimate(float(np.mean([own.mean() for own in differences])), *ends, sum(map(len, a)), p)


def shared(a: list[dict], b: list[dict]) -> tuple[list[dict], list[dict]]:
    """Two runs on the same items cut to the samples that both have, so that pairs share their draws."""
    last = min(max(line["sample"] for line in lines) for lines in (a, b))
    return tuple([line for line in lines if line["sample"] <= last] for lines in (a, b))


def differences_in_words(rows: pd.DataFrame, label: str = "task") -> str:
    """`math +1.0 [0.2, 1.8], higher; ...` of rows of a comparison table."""
    return "; ".join(
        f"{row[label]} {row.difference:+.1f} [{row.low:.1f}, {row.high:.1f}], {row.verdict}"
        for _, row in rows.iterrows()
    )


@dataclass(frozen=True)
class DiffusionStudy(BaseStudy):
    """A study of one diffusion model; the keys of its runs begin with the task, `key_parts` names the rest.

    `tokens`: the length of the canvas; 0 is the task's own.
    """

    tasks: tuple[str, ...] = ("math", "logic", "qa", "graded_functions_1")
    model: str = "study-dlm"
    tokens: int = 0

    key_parts = ()
    printed_in = "tolerator"

    def _run(self, short: str, method: str, **options) -> Run:
        size = {"items": self.items, "samples": self.samples}
        options = limit(self.tokens, "canvas") | options
        return Run.of(self.model, SHORT.get(short, short), method, **size, **options)

    def canvas(self, short: str) -> int:
        """Tokens of a task's canvas."""
        return self.tokens or canvas_of(short)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a run: what its key says, accuracy with its interval, cost."""
        return pd.DataFrame(
            summary_row(self.all_runs[key], lines, **dict(zip(("label", *self.key_parts), key, strict=True)))
            for key, lines in self.lines.items()
        )

    def accuracies(self, rows: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
        """`accuracy [low, high]` in %, a line by `index` and a column by `columns`, in the order of the runs."""
        table = rows.assign(cell=accuracy_cells(rows)).pivot(index=index, columns=columns, values="cell")
        return table[list(dict.fromkeys(rows[columns]))].reindex(list(dict.fromkeys(_keys(rows, index)))).fillna("")

    def panels(self, rows: pd.DataFrame, x: str, lines: str, *, y: str = "accuracy", **axes):
        """A panel a task: `y` against `x`, a line each of `lines`; accuracy with its 95 % band."""
        figure, panels = figures.panels(self.tasks)
        looks = figures.looks(list(dict.fromkeys(rows[lines])))
        for axis, task in zip(panels, self.tasks, strict=True):
            for name, look in looks.items():
                line = rows[(rows.label == task) & (rows[lines] == name)].sort_values(x)
                band = (line.low, line.high) if y == "accuracy" else ()
                figures.curve(axis, name, line[x], line[y], *band, **look)
            axis.set(**{"xlabel": x, **axes})
        panels[0].set_ylabel("accuracy, %" if y == "accuracy" else y)
        return figure


@dataclass(frozen=True)
class RecipeStudy(DiffusionStudy):
    """A study of methods with the settings of a model's published scripts, whose defaults are those of LLaDA.

    `temperature`: of vanilla decoding. `top_p`: of vanilla decoding and of TOLERATOR's fill-up. The order in which
    either keeps tokens is that of the model's family: LLaDA's by confidence, Dream's by entropy.
    """

    temperature: float = 0.3
    top_p: float = 1.0

    def _run(self, short: str, method: str, **options) -> Run:
        return super()._run(short, method, **recipe_of(method, self.temperature, self.top_p) | options)


def _keys(rows: pd.DataFrame, index: list[str]) -> list:
    return list(rows[index[0]]) if len(index) == 1 else list(rows[index].itertuples(index=False, name=None))
