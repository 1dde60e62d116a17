"""Which cells of the study are fit to show a gain, and what one refinement does to answers, which that asks for.

The rule itself is in lib/analysis/fitness.py.
"""

from collections.abc import Sequence
from math import nan

import pandas as pd
import torch

from lib.analysis.fitness import MILDEST, items_for, least_power, to_compare, to_remask
from lib.analysis.stats import Estimate
from lib.analysis.survival import canvases_of, survival_and_repair
from lib.decoding.randomness import RowGenerator
from lib.decoding.trace import Decoded, Trace
from lib.models.registry import Model
from lib.reporting.tables import percent
from lib.tasks import get_task
from lib.tasks.base import Item
from lib.tasks.sandbox import require_consent

FIT, UNFIT = "fit", "not fit"


def refinements(model: Model, task: str, items: list[Item], texts: list[str], rates: Sequence[float]) -> list[dict]:
    """Survival and repair of answers `texts` to `items` in one refinement as TOLERATOR publishes it, a row a rate.

    Each share in % with its 95 % interval; `right` and `wrong` count the answers that it is of; NaN without any.
    """
    record = get_task(task)
    if record.kind == "code":
        require_consent()

    def judge(canvases: torch.Tensor) -> list[bool]:
        out = Decoded.close(canvases, model.family.eot_ids, Trace.start(len(canvases)))
        said = [model.text(ids, int(n)) for ids, n in zip(out.responses, out.lengths, strict=True)]
        return [bool(score.correct) for score in record.score_all(list(zip(items, said, strict=True)))]

    ids, mask = model.encode([item.prompt for item in items], record.instruction)
    canvases = canvases_of(model, texts, record.max_new_tokens, cut=True)
    draws = RowGenerator.of(0, [item.id for item in items])
    rows = []
    for rate in rates:
        found = survival_and_repair(model.network, model.family, ids, mask, canvases, judge, rate, generator=draws)
        row = {"rate": rate}
        for name, counted, share in (("survival", "right", found.survival), ("repair", "wrong", found.repair)):
            e = percent(share or Estimate(nan, nan, nan, 0))
            row |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high, counted: e.n}
        rows.append(row)
    return rows


def cells_of(summary: pd.DataFrame, survival: pd.DataFrame, effects: Sequence[float]) -> pd.DataFrame:
    """A row a row of `summary`: what it is fit for, and why.

    summary: label, which, accuracy (%) and items. survival: rows of `refinements` by label and which. effects: in
    points, what a paper prints over such a reference. compare, remask: «fit» or «not fit», nothing where
    no answers were refined. power: to see the effect with these items, in %, the least; needed: items that give 80 %.
    Neither is there where the reference is at an end, or the effect leads beyond it.
    """
    mild = survival[survival.rate == MILDEST].set_index(["label", "which"])
    rows = []
    for row, effect in zip(summary.itertuples(), effects, strict=True):
        key, found = (row.label, row.which), to_compare(row.accuracy)
        cell = {"task": row.label, "which": row.which, "compare": FIT if found.fit else UNFIT, "remask": ""}
        if key in mild.index:
            share = mild.loc[key]
            whole = Estimate(share.survival, share.survival_low, share.survival_high, int(share.right))
            found = to_remask(row.accuracy, whole if share.right else None)
            cell["remask"] = FIT if found.fit else UNFIT
        rows.append(cell | {"why": found.why, "effect": effect, **_power(row.accuracy, effect, row.items)})
    return pd.DataFrame(rows).astype({"power": float, "needed": "Int64"})


def _power(accuracy: float, effect: float, items: int) -> dict[str, float | int | None]:
    """`power` in % and `needed` of an effect in points on an accuracy in %."""
    try:
        power = least_power(accuracy / 100, effect / 100, items)
        return {"power": 100 * power, "needed": items_for(accuracy / 100, effect / 100)}
    except ValueError:
        return {"power": None, "needed": None}
