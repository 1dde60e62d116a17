"""One response pass by pass: what each pass of the target took over from the draft and refused, and its own token."""

import json

import pandas as pd

from lib.models.registry import Model
from lib.reporting.inert import inert
from lib.running.respond import respond
from lib.running.run import Run
from lib.tasks import get_task
from lib.tasks.base import Item


def passes(target: Model, draft: Model, items: list[Item], run: Run) -> pd.DataFrame:
    """A row a pass and item; `taken`, `refused` and `own` are JSON lists of tokens as text.

    taken: of the draft, up to an end of text, behind which nothing is kept. refused: the rest of a chain; of a tree
    what was refused is on other branches, and is not listed. own: the token that the target added, none behind an
    end. The response is that of the run, for a draw depends on seed, item and step alone.
    """
    given = {"instruction": get_task(run.task).instruction, "seed": run.seed, "draft": draft.network}
    events = respond(target, items, run.resolved(), record=True, **given).trace.events
    rows = []
    for event in events:
        for i, row in enumerate(event["rows"].tolist()):
            path = [at for at in event["path"][i].tolist() if at >= 0]
            drafted = event["drafted"][i].tolist()
            taken, refused = [drafted[at] for at in path], drafted[len(path) :] if _chain(event["parents"][i]) else []
            end = next((n for n, token in enumerate(taken, 1) if token in target.family.eot_ids), None)
            parts = {
                "taken": taken[:end],
                "refused": [] if end else refused,
                "own": [] if end else [int(event["bonus"][i])],
            }
            texts = {name: json.dumps([_text(target, token) for token in part]) for name, part in parts.items()}
            rows.append({"item": items[row].id, "pass": event["step"] + 1} | texts)
    found = pd.DataFrame(rows)
    return found.sort_values(["item", "pass"], ignore_index=True) if len(found) else found


def _chain(parents) -> bool:
    """Whether each drafted token stands behind the one before it."""
    return parents.tolist() == list(range(-1, len(parents) - 1))


def _text(model: Model, token: int) -> str:
    return "\u25a0" if token in model.family.eot_ids else inert(model.tokenizer.decode([token]))
