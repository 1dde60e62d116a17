"""One response pass by pass: what each pass of the target took over from the draft, and the token that is its own."""

import json

import pandas as pd
from torch import Tensor

from lib.decoding.listening import Listener
from lib.models.registry import Model
from lib.reporting.inert import inert
from lib.running.respond import respond
from lib.running.run import Run
from lib.tasks import get_task
from lib.tasks.base import Item


class _Passes(Listener):
    """Keeps the tokens that every pass put behind a text."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[list[int]]] = {}

    def heard(self, rows: Tensor, tokens: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        for row, line, kept in zip(rows.tolist(), tokens, taken, strict=True):
            if kept.any():
                self.blocks.setdefault(row, []).append(line[kept].tolist())
        return super().heard(rows, tokens, taken)


def passes(target: Model, draft: Model, items: list[Item], run: Run) -> pd.DataFrame:
    """A row a pass and item: `pieces`, a JSON list of its tokens as text, of which the last is the target's own.

    The response is that of the run, for a draw depends on seed, item and step alone.
    """
    listener = _Passes()
    given = {"instruction": get_task(run.task).instruction, "seed": run.seed, "draft": draft.network}
    respond(target, items, run.resolved(), record=listener, **given)
    return pd.DataFrame(
        {"item": items[row].id, "pass": number, "pieces": json.dumps(_texts(target, block))}
        for row, blocks in sorted(listener.blocks.items())
        for number, block in enumerate(blocks, 1)
    )


def _texts(model: Model, tokens: list[int]) -> list[str]:
    ends = dict.fromkeys(model.family.eot_ids, "\u25a0")
    return [ends.get(token) or inert(model.tokenizer.decode([token])) for token in tokens]
