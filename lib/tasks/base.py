"""What a task is: prompts, reference answers, a scorer and a licence, with stable item ids."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Item:
    """One question. `target` is the response a model is trained on, `reference` what the scorer needs."""

    id: str
    prompt: str
    target: str
    reference: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """`correct` in {0, 1}; `answer` is what was read from the response; `status` is ok, timeout or error."""

    correct: int
    answer: str | None = None
    status: str = "ok"


@dataclass(frozen=True)
class Task:
    """`stream(split)` yields items in a fixed order; `score(item, text)` judges one response.

    `max_new_tokens` is the canvas of a diffusion model and the length limit of an autoregressive one.
    `instruction` goes before the prompt of a chat model.
    `score_many`, where given, scores a list of (item, text) at once: code runs in one sandbox call.
    """

    name: str
    kind: str
    licence: str
    max_new_tokens: int
    stream: Callable[[str], Iterator[Item]]
    score: Callable[[Item, str], Score]
    instruction: str = ""
    score_many: Callable[[list[tuple[Item, str]]], list[Score]] | None = None

    def items(self, split: str, n: int | None = None) -> list[Item]:
        """The first `n` items of a split (all, for a task with finite rows)."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        return list(islice(self.stream(split), n))

    def score_all(self, pairs: list[tuple[Item, str]]) -> list[Score]:
        """Scores of many responses, in order."""
        if self.score_many is not None:
            return self.score_many(pairs)
        return [self.score(item, text) for item, text in pairs]


def rows_hash(items: list[Item]) -> str:
    """A hash of everything the model is shown and judged by."""
    rows = [[item.id, item.prompt, item.reference] for item in items]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def split_of(text: str) -> str:
    """The split a generated question belongs to, a function of its text alone.

    A question drawn twice is always in the same split, so that training never meets a test question:
    80 % train, 10 % validation, 10 % test.
    """
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 80 else "validation" if bucket < 90 else "test"


def generated(
    draw: Callable[[int], Item],
    split: str,
    key: Callable[[Item], str],
    unique: Callable[[Item], str] | None = None,
) -> Iterator[Item]:
    """Items `draw(0), draw(1), ...` of one split; outside training each question appears once.

    `key`: the text by which a split holds items out. `unique`: by which two are one question, if not by that.
    """
    seen = set()
    index = last = 0
    while index - last < 100_000:  # a finite set of questions is exhausted
        item = draw(index)
        index += 1
        if split_of(key(item)) != split:
            continue
        text = (unique or key)(item)
        if split != "train":
            if text in seen:
                continue
            seen.add(text)
        last = index
        yield item
