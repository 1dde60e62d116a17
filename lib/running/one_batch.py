"""One batch of a run: decoded, measured and scored, a line a response."""

from dataclasses import replace
from functools import cache

from lib.models.registry import Model, load
from lib.models.vocabulary import paired
from lib.running.cost import Cost, measured
from lib.running.identity import items_of, row_hashes
from lib.running.memory import in_halves
from lib.running.respond import respond
from lib.running.run import Run
from lib.tasks import get_task
from lib.tasks.base import Item
from lib.tasks.sandbox import require_consent


@cache
def model_of(name: str, device: str) -> Model:
    """The model of that name, loaded once a process."""
    return load(name, device)


def decode_rows(run: Run, rows: list[tuple[int, int]], device: str = "cpu") -> list[dict]:
    """Decode and score (item index, sample index) rows as one batch: a line each."""

    def decoded(part: list[tuple[int, int]]) -> list[dict]:
        items = items_of(run.task, run.split, run.items)
        with measured(device) as cost:
            found = responses(run, [items[index] for index, _ in part], [sample for _, sample in part], device)
        return lines_at(run, part, found, cost)

    return in_halves(decoded, rows, kind_of(run, device))


def kind_of(run: Run, device: str) -> tuple:
    """What is decoded, of which as many rows fit at once."""
    return run.model, run.method, run.options, run.task, device


def lines_at(run: Run, rows: list[tuple[int, int]], found: list[dict], cost: Cost) -> list[dict]:
    """The lines of rows whose texts and counters were found at that cost."""
    everything = items_of(run.task, run.split, run.items)
    items = [everything[index] for index, _ in rows]
    row_of = row_hashes(run.task, run.split, run.items)
    judged = scored(run.task, [(item, line["text"]) for item, line in zip(items, found, strict=True)])
    return [
        {
            "item": item.id,
            "row": row_of[item.id],
            "sample": sample,
            **score,
            **line,
            "seconds": round(cost.seconds / len(rows), 6),
            "joules": None if cost.joules is None else round(cost.joules / len(rows), 6),
        }
        for item, (_, sample), line, score in zip(items, rows, found, judged, strict=True)
    ]


def responses(run, items: list[Item], samples: list[int], device: str = "cpu") -> list[dict]:
    """Texts and counters of one batch of a run's responses, as a line has them.

    It is hashed (see identity.SHARED), so that Run is not named here: a run may get new fields.
    """
    model = model_of(run.model, device)
    draft = {}
    if run.draft:  # of a padded vocabulary of another size, both laws are cut to the common part
        network, small = paired(model.network, model_of(run.draft, device).network, model.tokenizer)
        model, draft = replace(model, network=network), {"draft": small}
    given = {"instruction": get_task(run.task).instruction, "command": run.command, "seed": run.seed}
    out = respond(model, items, run.resolved(), samples=samples, **given, **draft)
    return [
        {"text": model.text(out.responses[i], int(out.lengths[i])), **out.trace.row(i)} for i in range(len(items))
    ]


def scored(task: str, pairs: list[tuple[Item, str]]) -> list[dict]:
    """What a line keeps of the score of each (item, text)."""
    return [
        {"correct": score.correct, "status": score.status, "answer": score.answer}
        for score in get_task(task).score_all(pairs)
    ]


def scored_again(run: Run, lines: list[dict]) -> list[dict]:
    """Stored lines of a run with the scores that today's scorer gives their texts."""
    if get_task(run.task).kind == "code":
        require_consent()
    items = {item.id: item for item in items_of(run.task, run.split, run.items)}
    judged = scored(run.task, [(items[line["item"]], line["text"]) for line in lines])
    return [line | score for line, score in zip(lines, judged, strict=True)]
