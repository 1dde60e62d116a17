"""What is measured of one model on one task for the trend: strictness of right answers, survival and repair."""

from math import nan

import pandas as pd
import torch
from torch import Tensor

from lib.analysis.stats import Estimate
from lib.analysis.strictness import strictness, uncertainties
from lib.analysis.survival import canvases_of, survival_and_repair
from lib.decoding.randomness import RowGenerator
from lib.decoding.trace import cut
from lib.models.registry import Model
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.respond import encoded, respond
from lib.studies.base import SHORT
from lib.tasks import get_task
from lib.tasks.base import Item
from lib.tolerator import Tolerator

BATCH = 64
REDRAWN = 1  # the seed of the refinement, whose draws are not those of the fill-up
AGAIN = 2  # refinements of an answer


def strictness_of(model: Model, short: str, items: int) -> Estimate:
    """Strictness of the tasks' own right answers as the model sees them; see lib/analysis/strictness.py."""
    task, chosen = get_task(SHORT.get(short, short)), items_of(SHORT.get(short, short), "test", items)
    ids, mask = encoded(model, chosen, task.instruction)
    canvases = canvases_of(model, [item.target for item in chosen], task.max_new_tokens)
    alone, given, _ = uncertainties(model.network, model.family, ids, mask, canvases, batch=BATCH)
    return strictness(alone, given)


def refined(model: Model, short: str, items: int, options: dict[str, Tolerator]) -> pd.DataFrame:
    """Survival and repair of the fill-up's answers in one refinement at the mean of a form's rates, a row a form.

    options: form -> TOLERATOR's; all have the same fill-up. before: % right after it, from which it may be that none
    survive or none can be repaired: such a cell is empty.
    """
    task, chosen = get_task(SHORT.get(short, short)), items_of(SHORT.get(short, short), "test", items)
    ids, mask = encoded(model, chosen, task.instruction)
    (fill_up,) = {one.fill_up for one in options.values()}
    canvases = torch.cat([_filled(model, part, task.instruction, fill_up) for part in batches(chosen)])

    def judge(canvases: Tensor) -> list[bool]:
        return judged(model, task, chosen, canvases)

    rows, before = [], judge(canvases)
    for form, one in options.items():
        rate = (one.gamma_max + one.gamma_min) / 2  # the mean of the cosine between them
        generator = RowGenerator.of(REDRAWN, [item.id for item in chosen])
        given = (model.network, model.family, ids, mask, canvases, judge, rate, one, generator, AGAIN)
        found = survival_and_repair(*given, batch=BATCH)
        row = {"form": form, "rate": rate, "before": 100 * sum(before) / len(before)}
        for name in ("survival", "repair"):
            e = getattr(found, name) or Estimate(nan, nan, nan, 0)
            row |= {name: 100 * e.value, f"{name}_low": 100 * e.low, f"{name}_high": 100 * e.high, f"{name}_n": e.n}
        rows.append(row)
    return pd.DataFrame(rows)


def judges(shorts: tuple[str, ...]) -> list[Name]:
    """What decides whether an answer to these tasks is right."""
    tasks = [get_task(SHORT.get(short, short)) for short in shorts]
    return [name_of(task.score_many or task.score) for task in tasks]


def judged(model: Model, task, items: list[Item], canvases: Tensor) -> list[bool]:
    """Which canvases [N, G] are right answers, cut at their first EoT."""
    closed, lengths = cut(canvases, model.family.eot_ids)
    texts = [model.text(row, int(n)) for row, n in zip(closed.cpu(), lengths, strict=True)]
    return [bool(score.correct) for score in task.score_all(list(zip(items, texts, strict=True)))]


def batches(items: list[Item]) -> list[list[Item]]:
    """What is decoded at once."""
    return [items[i : i + BATCH] for i in range(0, len(items), BATCH)]


def _filled(model: Model, items: list[Item], instruction: str, fill_up) -> Tensor:
    """Canvases [B, G] after the fill-up, what stands behind an EoT among them, with the draws of the runs."""
    out = respond(model, items, fill_up, instruction=instruction, record=True)
    return out.trace.events[-1]["tokens"].to(next(model.network.parameters()).device)
