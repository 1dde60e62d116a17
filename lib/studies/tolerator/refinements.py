"""TOLERATOR decoded once more with every step kept, each canvas scored as if decoding had ended there."""

from math import nan

import pandas as pd
import torch

from lib.models.registry import Model
from lib.running.respond import respond
from lib.running.run import Run
from lib.studies.tolerator.trend_measured import batches, judged
from lib.tasks import get_task
from lib.tasks.base import Item

RIGHT, WRONG = "R", "W"


def recorded(model: Model, run: Run, items: list[Item]) -> list[dict]:
    """The events of every step of a run's first sample, over all these items; the same draws as in the run."""
    given = {"instruction": get_task(run.task).instruction, "seed": run.seed, "record": True}
    parts = [respond(model, part, run.resolved(), **given).trace.events for part in batches(items)]
    return [
        {
            "stage": together[0]["stage"],
            **{key: torch.cat([event[key] for event in together]) for key in ("tokens", "changed")},
        }
        for together in zip(*parts, strict=True)
    ]


def refinements(model: Model, run: Run, items: list[Item]) -> pd.DataFrame:
    """A row a refinement, 0 after the fill-up. changed: tokens that it changed, % of the canvas; answers: a letter an
    item, R right or W wrong."""
    events = recorded(model, run, items)
    events = events[_filled(events) :]
    rows = []
    for k, event in enumerate(events):
        right = judged(model, get_task(run.task), items, event["tokens"])
        moved = (event["tokens"] != events[k - 1]["tokens"]).double().mean().item() if k else nan
        answers = "".join(RIGHT if one else WRONG for one in right)
        rows.append({"refinement": k, "changed": 100 * moved, "answers": answers})
    return pd.DataFrame(rows)


def _filled(events: list[dict]) -> int:
    """Index of the last event of the fill-up."""
    return max(i for i, event in enumerate(events) if event["stage"] == "fill")
