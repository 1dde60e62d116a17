"""Open questions: the first turns of MT-Bench (Zheng et al. 2023), 80 of eight kinds.

There is no judge here, so that no response is right: what is read from them is likelihood, repetition and speed.
"""

from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.rows import load_rows


def stream(split: str) -> Iterator[Item]:
    """The 80 first turns in the file's order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"mt_bench has the split test only, not {split!r}")
    for row in load_rows("philschmid/mt-bench", None, "train", "mt_bench.jsonl"):
        yield Item(f"mt_bench/{row['question_id']}", row["turns"][0], target="")


def score(item: Item, text: str) -> Score:
    """Not judged."""
    return Score(0, None, "unjudged")


TASK = Task(
    name="mt_bench",
    kind="chat",
    licence="Apache-2.0 (lm-sys/FastChat)",
    max_new_tokens=256,
    stream=stream,
    score=score,
)
