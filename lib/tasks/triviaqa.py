"""QA: TriviaQA without context, asked without examples; the answers are in the model or nowhere.

Judged by inclusion, for instruction models answer in sentences: right where an alias stands, as whole words and
after TriviaQA's normalisation, in the first line of the response.
"""

from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.country_facts import normalise
from lib.tasks.rows import load_rows


def stream(split: str) -> Iterator[Item]:
    """The hub's validation questions in their order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"triviaqa has a test split only here, not {split!r}")
    rows = load_rows("mandarjoshi/trivia_qa", "rc.nocontext", "validation", "triviaqa_nocontext_1k.jsonl")
    for row in rows:
        yield Item(
            id=f"triviaqa/{row['question_id']}",
            prompt=f"{row['question']}\n",
            target=row["answer"]["aliases"][0],
            reference={"aliases": sorted(set(row["answer"]["normalized_aliases"]))},
        )


def score(item: Item, text: str) -> Score:
    """`answer` is the first line."""
    lines = text.strip().split("\n")
    words = f" {normalise(lines[0])} "
    return Score(int(any(f" {alias} " in words for alias in item.reference["aliases"] if alias.strip())), lines[0])


TASK = Task(
    name="triviaqa",
    kind="qa",
    licence="Apache-2.0 (mandarjoshi90/triviaqa)",
    max_new_tokens=32,
    instruction="Answer with a few words. ",
    stream=stream,
    score=score,
)
