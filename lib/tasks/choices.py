"""Questions with lettered choices: how they are shown, and which letter a response takes."""

import re
from functools import cache
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


MARKS = r"[\s*_`$]*"  # what may stand around a letter: blanks, emphasis
WORD = rf"(?i:\b(?:option|choice|letter)\b){MARKS}"
CALLED = rf"(?i:\banswer|\b(?:correct|right|best)\s+(?:option|choice|letter))\b{MARKS}"
IS = rf"(?i:(?:is|would\s+be|should\s+be|must\s+be)\b)(?:{MARKS}:)?{MARKS}(?i:the\s+)?"
LATEX = re.compile(r"\\(?:text|math)\w*\s*\{([^{}]*)\}|\\(?:left|right)(?![a-z])|\\[ ,;!]|~")
# Behind a letter: not the rest of a word or of a symbol. A and I are words too: where another one comes next on the
# line they are letters of choices only if it gives a reason.
ENDS = r"(?!_?[A-Za-z0-9{'’])(?:(?<![AI])|(?![^\S\n]+(?!(?:because|since|as|which|is|due|so|but)\b)[a-z]))"


def letter_of(text: str, options: int) -> str | None:
    """The letter that a response takes: in its last box, else after its last «answer is», «answer:» or «the correct
    option is», else its last one in brackets or after «option» or «choice», else all of its last line. None without
    any, and where one of the first two has more than one: «A or B». A letter that is no option is none."""
    letters, text, box = ascii_uppercase[:options], _unwrapped(text), _unwrapped(last_box(text) or "")
    for found in (_boxed(box, letters), _said(text, letters)):
        if found:
            return found if len(found) == 1 else None
    plain = re.sub(r"[*_`$]", "", text).strip()
    named = re.findall(rf"\(([{letters}])\)|{WORD}([{letters}]){ENDS}", plain)
    alone = re.fullmatch(rf"\(?([{letters}])\)?[.:]?", plain.split("\n")[-1].strip())
    return "".join(named[-1]) if named else alone[1] if alone else None


def _boxed(box: str, letters: str) -> str:
    """The letter of a box, which may be in lower case and have its choice behind it: «(b)», «B. 12 cm». Two letters
    for more than one, none for words."""
    head = re.match(rf"{MARKS}(?:{WORD})?(\()?([{letters}{letters.lower()}])(\))?", box)
    if head is None:
        return _said(box, letters)
    if _joined(letters).match(box, head.end()):
        return head[2] * 2
    listed = head[1] and head[3] or re.match(rf"{MARKS}(?:$|[.:)])", box[head.end(2) :])
    return head[2].upper() if listed else _said(box, letters)


def _said(text: str, letters: str) -> str:
    """The letter behind the last words that announce one; two letters for more than one, none without."""
    letter = rf"(?:\(([{letters}{letters.lower()}])\)|\(?([{letters}]){ENDS})"
    found = [*re.finditer(rf"{CALLED}(?:(?:{IS}|:{MARKS})(?:{WORD})?)?{letter}", text)]
    if not found:
        return ""
    two = _joined(letters).match(text, found[-1].end())
    return (found[-1][1] or found[-1][2]).upper() * (2 if two else 1)


@cache
def _joined(letters: str) -> re.Pattern:
    """Another letter, joined to the one before: «or B», «/B», «and B.», «, B and»; not «and B is wrong»."""
    other = rf"{MARKS}(?:{WORD})?\(?[{letters}](?![A-Za-z0-9'’])"
    stops = rf"\)?{MARKS}(?:$|[,.;:]|(?i:and|or|are|both)\b)"
    return re.compile(rf"\)?{MARKS}(?:(?:,\s*)?or\b{other}|\\?[&/]{other}|(?:,\s*and\b|,|and\b){other}{stops})")


def _unwrapped(text: str) -> str:
    """A text without LaTeX's wrappers of words."""
    while text != (text := LATEX.sub(lambda found: found[1] or " ", text)):
        pass
    return text


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
