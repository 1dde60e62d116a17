"""QA: TriviaQA without context, asked without examples; the answers are in the model or nowhere.

Judged by inclusion, for instruction models answer in sentences: right where an alias stands, as whole words and
after TriviaQA's normalisation, in the first line of the response. TOLERATOR judges by exact match: right where the
response up to its first line end, full stop or comma is an alias. Both are the detail of either task's score.
"""

import re
from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.country_facts import normalise
from lib.tasks.protocol import Detailed, Protocol, cut, fill
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thought

HUB, CONFIG = "mandarjoshi/trivia_qa", "rc.nocontext"
STOPS = ("\n", ".", ",")
QA = "Question: {question}?\nAnswer:"  # TOLERATOR's, from the harness: the mark stands twice


def stream(split: str) -> Iterator[Item]:
    """The hub's validation questions in their order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"triviaqa has a test split only here, not {split!r}")
    for row in load_rows(HUB, CONFIG, "validation", "triviaqa_nocontext_1k.jsonl"):
        yield _item("triviaqa", row, f"{row['question']}\n")


def stream_exact(split: str) -> Iterator[Item]:
    """All of the hub's validation questions, as TOLERATOR asks them. Raises UserError for any split but test."""
    if split != "test":
        raise UserError(f"triviaqa_tolerator has a test split only here, not {split!r}")
    for row in load_rows(HUB, CONFIG, "validation", "triviaqa_nocontext.jsonl"):
        yield _item("triviaqa_tolerator", row, fill(QA, question=row["question"]))


def _item(task: str, row: dict, prompt: str) -> Item:
    return Item(
        id=f"{task}/{row['question_id']}",
        prompt=prompt,
        target=row["answer"]["aliases"][0],
        reference={"aliases": sorted(set(row["answer"]["normalized_aliases"]))},
    )


@after_thought
def score(item: Item, text: str) -> Score:
    """By inclusion; `answer` is the first line."""
    detail = _detail(item, text)
    return Detailed(detail["inclusion"], first_line(text), detail=detail)


@after_thought
def score_exact(item: Item, text: str) -> Score:
    """By exact match; `answer` is the response up to its first stop."""
    detail = _detail(item, text)
    return Detailed(detail["exact"], cut(text.strip(), STOPS), detail=detail)


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def _detail(item: Item, text: str) -> dict[str, int]:
    """1 or 0 by inclusion and by exact match, both after TriviaQA's normalisation."""
    words = f" {normalise(first_line(text))} "
    said = normalise(cut(text.strip(), STOPS))
    return {
        "inclusion": int(any(_stands(alias, words) for alias in _counted(item, words))),
        "exact": int(bool(said) and said in item.reference["aliases"]),
    }


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
PROTOCOLS = (
    Protocol(
        TASK,
        rows="mandarjoshi/trivia_qa, unfiltered validation: 1,000 of FlashRAG's sample",
        count=1000,
        prompt="{question}\n",
        judged="an alias stands in the first line (inclusion); detail: exact match",
        whose="ours",
    ),
    Protocol(
        Task("triviaqa_tolerator", "qa", TASK.licence, 256, stream_exact, score_exact),
        rows=f"{HUB}, {CONFIG}, validation",
        count=17_944,
        prompt=QA,
        judged="the response up to the first stop is an alias (exact match); detail: inclusion",
        whose="TOLERATOR (its harness)",
        stops=STOPS,
    ),
)
