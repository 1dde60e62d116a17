"""QA: TriviaQA without context, asked without examples; the answers are in the model or nowhere.

Judged by inclusion, for instruction models answer in sentences: right where an alias stands, as whole words and
after TriviaQA's normalisation, in the first line of the response.
"""

import re
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
    return Score(int(any(_stands(alias, words) for alias in _counted(item, words))), lines[0])


def _stands(alias: str, words: str) -> bool:
    return f" {alias} " in words


def _counted(item: Item, words: str) -> list[str]:
    """The aliases that answer. One that stands in the question does not, for saying the question again says it too:
    unless it is one of the choices that the question offers, and the only one that `words` name."""
    question = f" {normalise(item.prompt)} "
    aliases = [alias for alias in item.reference["aliases"] if alias.strip()]
    choices = offered(item.prompt)
    named = [choice for choice in choices if _stands(choice, words)]

    def chosen(alias: str) -> bool:
        offers = [choice for choice in choices if f" {choice} ".endswith(f" {alias} ")]
        return bool(offers) and not set(named) - set(offers)

    new = [alias for alias in aliases if not _stands(alias, question) or chosen(alias)]
    return new or ([] if choices else aliases)


def offered(question: str) -> list[str]:
    """The choices at a question's end, normalised, as in: a Drink; Cheese; Wind; or Boat? Words may stand before the
    first."""
    found = re.search(r"([^?.!]*[\s;,]or\s[^?.!;,]+)\?\W*$", question)
    return [words for part in re.split(r"[;,]|\bor\b", found[1]) if (words := normalise(part))] if found else []


TASK = Task(
    name="triviaqa",
    kind="qa",
    licence="Apache-2.0 (mandarjoshi90/triviaqa)",
    max_new_tokens=32,
    instruction="Answer with a few words. ",
    stream=stream,
    score=score,
)
