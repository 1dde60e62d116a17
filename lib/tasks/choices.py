"""Questions with lettered choices: how they are shown, and which letter a response takes."""

import re
from hashlib import sha256
from random import Random
from string import ascii_uppercase

from lib.tasks.base import Item, Score
from lib.tasks.boxed import last_box
from lib.tasks.thinking import after_thought


def listed(options: list[str]) -> str:
    """A line an option: (A) ..., (B) ..."""
    return "\n".join(f"({letter}) {option.strip()}" for letter, option in zip(ascii_uppercase, options, strict=False))


def shuffled(name: str, right: str, wrong: list[str]) -> tuple[list[str], str]:
    """The options of an item in an order by a seed of its name, and the letter of the right one: the same on every
    machine, in every process and for every sample."""
    order = [right, *wrong]
    places = list(range(len(order)))
    Random(int.from_bytes(sha256(name.encode()).digest()[:8], "big")).shuffle(places)
    return [order[place] for place in places], ascii_uppercase[places.index(0)]


def item(name: str, prompt: str, options: int, answer: str) -> Item:
    """An item with `options` choices, of which the letter `answer` is right."""
    return Item(name, prompt, target=f"\\boxed{{{answer}}}", reference={"answer": answer, "options": options})


def letter_of(text: str, options: int) -> str | None:
    """The letter that a response takes: in its last box, else after its last «answer is» or «answer:», else its last
    one in brackets, else all of its last line. None without any; a letter that is no option is none."""
    letters = ascii_uppercase[:options]
    box = last_box(text) or ""
    boxed = re.fullmatch(
        rf"(?:\\(?:text|textbf|mathrm|mathbf)\{{)?\s*\(?([{letters}])\)?\}}?(?:[.:)\s].*)?", box, re.S
    )
    if boxed:
        return boxed[1]
    plain = re.sub(r"[*_`$]", "", text)
    said = re.findall(rf"answer(?:\s+is)?\s*:?\s*\(?([{letters}])\b(?!\s+[a-z])", plain, re.I)
    said = [letter for letter in said if letter in letters]  # the words in any case, the letter as it is listed
    bracketed = re.findall(rf"\(([{letters}])\)", plain)
    alone = re.fullmatch(rf"\(?([{letters}])\)?[.:]?", (plain.strip().split("\n") or [""])[-1].strip())
    return said[-1] if said else bracketed[-1] if bracketed else alone[1] if alone else None


@after_thought
def score(item: Item, text: str) -> Score:
    """Right where the letter is the reference's."""
    letter = letter_of(text, item.reference["options"])
    return Score(int(letter == item.reference["answer"]), letter)


@after_thought
def score_last(item: Item, text: str) -> Score:
    """Right where the last letter in brackets is the reference's: the harness's «flexible extract»."""
    found = re.findall(rf"\(([{ascii_uppercase[: item.reference['options']]}])\)", text.upper())
    return Score(int(bool(found) and found[-1] == item.reference["answer"]), found[-1] if found else None)
