"""results/README.md: the index of all results for a forge, wholly written from them."""

from collections import Counter
from pathlib import Path

import nbformat

from lib.reporting.claims import CLAIM, CONTROL, REPEAT, VERDICTS
from lib.reporting.findings import findings
from lib.reporting.inert import markdown_cell
from lib.reporting.ledger import count_table
from lib.reporting.tightest import tightest_pages

CHAPTERS = {"0": "The models", "1": "AutoDeco", "2": "TOLERATOR", "3": "MTAD", "4": "Compositions", "5": "Advice"}

ADVICE = "50_advice"


def overview(results: Path, entries: dict[str, dict], claims: list[dict], descriptions: dict[str, str]) -> str:
    """What was found, every page with its question and verdicts, and the headlines."""
    lines = [
        "# Results",
        "",
        "Written by `make report`, never by hand. A page opens as a notebook on a forge and as HTML in a browser; "
        "[every claim with its verdict](claims.md), [what does not add up in the papers and what others "
        "found](papers.md), and the same for programs in `claims.json` and `headline.json`. "
        "Models and tasks are small: what holds here is a reason to look, not a proof for eight billion parameters.",
        "",
        "## Verdicts",
        "How the claims of the papers come out ([what the words mean](claims.md)); our own controls and repeats of a "
        "claim are not counted.",
        "",
        *count_table(claims),
        "",
        *findings(entries),
        *closing(results),
        "",
        "## Pages",
        "The tightest profile that there is of each. *Verdicts* are of the page's claims, controls among them.",
    ]
    chapter = ""
    for path in tightest_pages(results):
        stem = path.parent.name
        if CHAPTERS.get(stem[0], "") != chapter:
            chapter = CHAPTERS.get(stem[0], "")
            lines += ["", f"### {chapter}", "", "| page | profile | verdicts |", "|---|---|---|"]
        place = f"{path.parts[-3]}/{stem}/{stem}"
        title = markdown_cell(title_of(path))
        verdicts = verdicts_of([row for row in claims if row["from"] == stem])
        lines.append(f"| [{title}]({place}.ipynb) ([HTML]({place}.html)) | {path.parts[-3]} | {verdicts} |")
    lines += [
        "",
        "## Headlines",
        "Differences are paired on the same items, in points of accuracy; `n` is questions, or rounds of a clock. "
        "The interval is for one comparison alone.",
        "",
        "| name | what | value, 95 % interval | n | page |",
        "|---|---|---|---|---|",
    ]
    for name, e in sorted(entries.items()):
        interval = "" if e["low"] is None else f" [{e['low']:g}, {e['high']:g}]"
        link = f"[{e['from'][:2]}]({e['profile']}/{e['from']}/{e['from']}.ipynb)"
        value = "not measured" if e["value"] is None else markdown_cell(f"{e['value']:g}{interval} {e['unit']}")
        lines.append(f"| `{name}` | {descriptions.get(name, '')} | {value} | {e['n']} | {link} |")
    return "\n".join(lines) + "\n"


def closing(results: Path, prefix: str = "") -> list[str]:
    """What stands below the findings: how their intervals are meant, and where it says what to take."""
    lines = [
        "",
        "*Intervals here are for one comparison alone, 95 %, paired; verdicts are corrected for their table.*",
    ]
    for path in tightest_pages(results):
        if path.parent.name == ADVICE:
            place = f"{prefix}{path.parts[-3]}/{ADVICE}/{ADVICE}.ipynb"
            lines += ["", f"What to use, and when not to bother: [advice]({place})."]
    return lines


def title_of(manifest: Path) -> str:
    """The first heading of the notebook of a result; its name where there is none."""
    notebook = manifest.with_name(f"{manifest.parent.name}.ipynb")
    if notebook.exists():
        for line in nbformat.read(notebook, as_version=4).cells[0].source.splitlines():
            if line.startswith("# "):
                return line[2:]
    return notebook.stem


def verdicts_of(rows: list[dict]) -> str:
    """`2 holds, 1 refuted`: of a paper's claims, of repeats and of our controls, apart."""
    parts = []
    for words, kind in (("", CLAIM), ("repeats ", REPEAT), ("controls ", CONTROL)):
        own = [row for row in rows if row["kind"] == kind]
        count = Counter(row["verdict"] for row in own)
        if own:
            parts.append(words + ", ".join(f"{count[v]} {v}" for v in VERDICTS if count[v]))
    return "; ".join(parts)
