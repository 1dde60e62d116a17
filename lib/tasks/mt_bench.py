"""Open questions: MT-Bench (Zheng et al. 2023), 80 of eight kinds, of two turns each.

The task asks the first turns, and judges none of them: no response is right, what is read from them is likelihood,
repetition and speed. `second_turns` makes items of the second ones, which hold what was said before; `rate` has both
judged by a language model of the user's (lib/tasks/judge.py), with the row's own reference where it has one.
"""

import os
from collections.abc import Iterator
from functools import cache

from lib.errors import UserError
from lib.tasks import judge
from lib.tasks.base import Item, Score, Task
from lib.tasks.protocol import Detailed, Protocol
from lib.tasks.rows import load_rows
from lib.tasks.thinking import UNFINISHED, after_thought, answer_of

SECOND = "/2"  # the end of the id of a second turn
UNJUDGED = Score(0, None, "unjudged")


def _rows() -> list[dict]:
    return load_rows("philschmid/mt-bench", None, "train", "mt_bench.jsonl")


def stream(split: str) -> Iterator[Item]:
    """The 80 first turns in the file's order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"mt_bench has the split test only, not {split!r}")
    for row in _rows():
        yield Item(f"mt_bench/{row['question_id']}", row["turns"][0], target="")


@cache
def _by_id(folder: str | None) -> dict[str, dict]:
    """Rows by the ids of first turns. `folder`: DATA_DIR, for the cache alone."""
    return {f"mt_bench/{row['question_id']}": row for row in _rows()}


def row_of(item: Item) -> dict:
    """The row of a first or second turn: question_id, category, turns, and reference where it has one."""
    return _by_id(os.environ.get("DATA_DIR"))[item.id.removesuffix(SECOND)]


def second_turns(pairs: list[tuple[Item, str]]) -> list[Item]:
    """The second turns of (first turn, response): `history` in the reference is the (user, assistant) turn before.

    A thought is no part of it. A response that is a thought without an end gives no second turn.
    """
    found = []
    for item, text in pairs:
        turns, said = row_of(item)["turns"], answer_of(text)
        if len(turns) > 1 and said is not None:
            found.append(Item(f"{item.id}{SECOND}", turns[1], target="", reference={"history": [[turns[0], said]]}))
    return found


@after_thought
def score(item: Item, text: str) -> Score:
    """Not judged."""
    return UNJUDGED


def rate(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Ratings of (turn, response) by the user's judge: `answer` and the detail `rating` are from 1 to 10, and the
    status is `rated`; `error` where the judge gave none. Unjudged where no judge is set."""
    if not judge.wanted():
        return [score(item, text) for item, text in pairs]
    return [_rated(item, text) for item, text in pairs]


def _rated(item: Item, text: str) -> Score:
    said = answer_of(text)
    if said is None:
        return UNFINISHED
    history = [tuple(turn) for turn in item.reference.get("history", ())]
    good = (row_of(item).get("reference") or [])[len(history) : len(history) + 1]
    found = judge.rating([*history, (item.prompt, said)], good[0] if good else None)
    return Score(0, None, "error") if found is None else Detailed(0, f"{found:g}", "rated", {"rating": found})


TASK = Task(
    name="mt_bench",
    kind="chat",
    licence="Apache-2.0 (lm-sys/FastChat)",
    max_new_tokens=256,
    stream=stream,
    score=score,
)
PROTOCOLS = (
    Protocol(
        TASK,
        rows="philschmid/mt-bench, train",
        count=80,
        prompt="{turns[0]}, then {turns[1]} after the answer",
        judged="by a model at JUDGE_URL from 1 to 10, with the row's reference; unjudged without one",
        whose="Zheng et al.; MTAD does not name its judge; the judge's prompt is ours",
    ),
)
