"""The ledger: every claim with its verdict, from all results, and those that only the papers' models can decide."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

from lib.paths import RESULTS
from lib.reporting.claims import (
    CLAIM,
    CONTROL,
    FLOOR,
    HOLDS,
    LESS,
    OPEN,
    OWN,
    REPEAT,
    UNMEASURED,
    VERDICTS,
    as_text,
    said,
)
from lib.reporting.inert import markdown_cell
from lib.reporting.tightest import tightest_first

NAMES = {
    "autodeco": "AutoDeco",
    "tolerator": "TOLERATOR",
    "mtad": "MTAD",
}  # in a notebook's name, and as it is written
OURS = "this study"  # whose the claims of the other notebooks are
HEADINGS = {OURS: "This study: checks of its own models, compositions, advice"}
UNJUDGED = Path(__file__).parent / "papers" / "unmeasured.csv"


def ledger(results: Path = RESULTS) -> list[dict]:
    """Every claim with its paper, profile and notebook, each notebook's from the tightest profile that has it; then
    the papers' claims that no notebook judges, and why."""
    found: dict[str, list[dict]] = {}
    for path in tightest_first(results, "claims.json"):
        profile, name = path.parts[-3:-1]
        place = {"paper": paper_of(name), "profile": profile, "from": name}
        rows = [row for row in json.loads(path.read_text()) if "kind" in row]  # of before there were kinds: it waits
        found.setdefault(name, [place | row for row in rows])
    return [row for _, own in sorted(found.items()) for row in own] + unjudged()


def paper_of(notebook: str) -> str:
    """Whose claims a notebook judges: the paper is the first word of its name."""
    return NAMES.get(re.sub(r"^\d+_", "", notebook).split("_")[0], OURS)


def unjudged() -> list[dict]:
    """Claims of the papers that nothing here decides, as records; `why` says what would."""
    with open(UNJUDGED, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    empty = dict.fromkeys(("value", "low", "high", "alone_low", "alone_high", "p", "margin", "power", "needed"))
    empty |= {"unit": "", "n": 0, "tests": 0, "kind": CLAIM, "verdict": UNMEASURED, "size": ""}
    return [empty | row | {"profile": "", "from": ""} for row in rows]


def counts(claims: list[dict]) -> dict[str, Counter]:
    """How many of a paper's claims have which verdict; neither controls nor repeats of a finding count."""
    found: dict[str, Counter] = {name: Counter() for name in NAMES.values()}
    for row in claims:
        if row["kind"] == CLAIM and row["paper"] in found:
            found[row["paper"]][row["verdict"]] += 1
    return found


def count_table(claims: list[dict]) -> list[str]:
    """`counts` as a Markdown table, a row a paper."""
    rows = [f"| | {' | '.join(VERDICTS)} |", "|---" * (1 + len(VERDICTS)) + "|"]
    for paper, count in counts(claims).items():
        rows.append(f"| {paper} | {' | '.join(str(count[verdict]) for verdict in VERDICTS)} |")
    return rows


def page(claims: list[dict]) -> str:
    """The ledger as a page for a forge: a paper at a time its claims, then what nobody can judge here, then ours."""
    lines = [
        "# Claims",
        "",
        "Written by `make report` from the results. *Printed* is theirs, on their models; *here* is ours, on models "
        "of 0.6 to 135 million parameters, with the interval that the verdict is from: 95 % over all tests of its "
        "table (Holm; of ratios, which have no test, Bonferroni); n counts questions, of speeds rounds. "
        f"**{HOLDS}**: the whole interval is on the side of the claim, of zero, of 1 for ratios, of 50 % for shares "
        "that follow a command, or of the bound that the claim names. **refuted**: on the other side. "
        "**equivalent**: a test of its own says that the two differ by less than the row's margin, mostly a point or "
        "5 %. "
        f"**{OPEN}**: none of these. *{LESS}*: the interval ends below the printed size. *needs*: the n at which "
        "the table's test would detect the printed size, or, where there is none or the interval excludes it, "
        "establish equivalence, in four of five repeats; empty for bounds, where as many were asked, and where more "
        f"would not help. **not testable here**: every method compared is right on less than {FLOOR:.0f} % of every "
        "task; or the printed effect is more than there is room for, and nothing else is decided; or nothing is "
        "there to judge by, as of commands without neutral sentences. **not measured**: the papers' models or data "
        "would be needed. The rule is in `lib/reporting/claims.py`; words: [glossary](../docs/glossary.md).",
        "",
        *count_table(claims),
    ]
    for paper in (*NAMES.values(), OURS):
        own = [row for row in claims if row["paper"] == paper]
        judged = [row for row in own if row["kind"] == CLAIM and row["from"]]
        controls = [row for row in own if row["kind"] in (CONTROL, REPEAT)]
        missing = [row for row in own if not row["from"]]
        if not own:
            continue
        lines += ["", f"## {HEADINGS.get(paper, paper)}", *(_table(judged) if judged else [])]
        if missing:
            lines += ["", f"### {paper}: not measured here", "", "| claim | where | printed | what would decide it |"]
            lines += ["|---|---|---|---|"]
            lines += [_line(row[key] for key in ("says", "where", "printed", "why")) for row in missing]
        if controls:
            lines += ["", f"### {paper}: our controls, and repeats of a claim", *_table(controls)]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict]) -> list[str]:
    lines = ["", "| verdict | claim | printed | here | needs | where | report |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        link = f"[{row['from']}]({row['profile']}/{row['from']}/{row['from']}.ipynb)"
        needs = f"{row['needed']:,}" if row["needed"] else ""
        where = "" if row["where"] == OWN else row["where"]
        where = f"repeat of {where}" if row["kind"] == REPEAT else where
        lines.append(_line([f"**{said(row)}**", row["says"], row["printed"], as_text(row), needs, where, link]))
    return lines


def _line(cells) -> str:
    return f"| {' | '.join(map(markdown_cell, cells))} |"
