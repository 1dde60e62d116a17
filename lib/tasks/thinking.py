"""What a response says once it has thought, in one place for all tasks.

A thought stands between `<think>` and `</think>`, as DeepSeek-R1, Qwen3 and Nemotron write it, or in the channel
`analysis` of gpt-oss, whose answer is in the channel `final`. A thought that did not end before the length limit is
no answer: it has the status `unfinished`, and nothing in it is read, for a number or a letter in it was being tried.
"""

import re
from collections.abc import Callable
from functools import wraps

from lib.tasks.base import Item, Score

UNFINISHED = Score(0, None, "unfinished")
OPEN, CLOSE = "<think>", "</think>"
CHANNEL, FINAL = "<|channel|>", "<|channel|>final<|message|>"
# What is left of those channels where the tokenizer skips its special tokens: «analysisWe ...assistantfinalSo».
BARE, BARE_FINAL = re.compile(r"\s*analysis(?=[A-Z0-9\"'$*(\\])"), "assistantfinal"


def answer_of(text: str) -> str | None:
    """The text after the last thought, the whole text where there is none; None for a thought that did not end."""
    if CHANNEL in text:
        return re.split(r"<\|\w+\|>", text.rpartition(FINAL)[2])[0] if FINAL in text else None
    if BARE.match(text):
        return text.rpartition(BARE_FINAL)[2] if BARE_FINAL in text else None
    _, closed, said = text.rpartition(CLOSE)
    if OPEN in said:
        return None
    return said.lstrip("\n") if closed else text


def after_thought(score: Callable[[Item, str], Score]) -> Callable[[Item, str], Score]:
    """A scorer of answers as one of responses."""

    @wraps(score)
    def judged(item: Item, text: str) -> Score:
        said = answer_of(text)
        return UNFINISHED if said is None else score(item, said)

    return judged


def after_thoughts(score_many: Callable[[list], list[Score]]) -> Callable[[list], list[Score]]:
    """The same of a scorer of many (item, text)."""

    @wraps(score_many)
    def judged(pairs: list[tuple[Item, str]]) -> list[Score]:
        said = [answer_of(text) for _, text in pairs]
        found = iter(
            score_many([(item, text) for (item, _), text in zip(pairs, said, strict=True) if text is not None])
        )
        return [UNFINISHED if text is None else next(found) for text in said]

    return judged
