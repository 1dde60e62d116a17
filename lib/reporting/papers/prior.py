"""What others found on the same questions, beside our verdicts; whether the two agree is computed."""

import csv
from pathlib import Path

from lib.reporting.claims import EQUIVALENT, HOLDS, OPEN, REFUTED, as_text, said

# How our row would come out if they were right here.
EXPECTED = {"gain": (HOLDS,), "none": (EQUIVALENT,), "loss": (REFUTED,), "no gain": (EQUIVALENT, REFUTED)}
AGREES, DIFFERS, UNTOLD, MISSING = "agrees", "differs", "cannot be told apart here", "not measured here"
ANOTHER, NEAREST = "another rule", "the nearest that we have; not the same rule"


def prior(claims: list[dict]) -> list[dict]:
    """A row each: paper, source, theirs, ours (words with interval), beside (AGREES and so on), from (notebook)."""
    with open(Path(__file__).with_name("prior.csv"), encoding="utf-8", newline="") as file:
        return [_beside(row, claims) for row in csv.DictReader(file)]


def _beside(row: dict, claims: list[dict]) -> dict:
    found = {key: row[key] for key in ("paper", "source", "theirs")}
    own = [c for c in claims if c["from"] == row["notebook"] and c["says"] == row["claim"]]
    if not own:
        return found | {"ours": row["claim"], "beside": MISSING, "from": "", "profile": ""}
    ours = own[0]
    words = f"{ours['says']}: {said(ours)}, {as_text(ours)}"
    return found | {
        "ours": words,
        "beside": _agreement(ours["verdict"], row["expects"]),
        "from": ours["from"],
        "profile": ours["profile"],
    }


def _agreement(verdict: str, expects: str) -> str:
    """Whether our verdict is what another's finding lets expect."""
    if verdict not in (HOLDS, REFUTED, EQUIVALENT, OPEN):
        return MISSING
    if expects == ANOTHER:
        return NEAREST
    if verdict == OPEN:
        return UNTOLD
    return AGREES if verdict in EXPECTED[expects] else DIFFERS
