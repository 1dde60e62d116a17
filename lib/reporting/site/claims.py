"""The ledger as a table that a reader can sift by paper, verdict and kind, without a script."""

import re
from html import escape

from lib.reporting.claims import CLAIM, CONTROL, REPEAT, VERDICTS, as_text, said

KINDS = {CLAIM: "claims of the papers", CONTROL: "our controls", REPEAT: "repeats of a claim"}


def slug(words: str) -> str:
    """Words as a name in a style sheet."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def filters(claims: list[dict]) -> tuple[str, str]:
    """The choices above the table, and the style by which a choice hides the other rows."""
    papers = list(dict.fromkeys(row["paper"] for row in claims))
    choices = {
        "paper": ("Paper", {slug(paper): paper for paper in papers}, "all"),
        "verdict": ("Verdict", {slug(verdict): verdict for verdict in VERDICTS}, "all"),
        "kind": ("Kind", {slug(kind): words for kind, words in KINDS.items()}, slug(CLAIM)),
    }
    parts, style = [], []
    for name, (title, values, first) in choices.items():
        options = []
        for value, words in ({"all": "all"} | values).items():
            mark = " checked" if value == first else ""
            key = f"{name}-{value}"
            options.append(f'<label><input type="radio" name="{name}" id="{key}"{mark}> {escape(words)}</label>')
            if value != "all":
                style.append(
                    f"body:has(#{key}:checked) tr[data-{name}]:not([data-{name}={value}]) {{ display: none }}"
                )
        parts.append(f"<fieldset><legend>{title}</legend>{' '.join(options)}</fieldset>")
    return "\n".join(parts), "\n".join(style)


def table(claims: list[dict], pages: str = "pages/") -> str:
    """A row a claim: the verdict first, so that it is in sight on a narrow screen."""
    rows = []
    for row in claims:
        data = " ".join(f'data-{name}="{slug(row[name])}"' for name in ("paper", "verdict", "kind"))
        what, where = escape(row["says"]), escape(row["where"])
        where = f'<a href="{pages}{row["from"]}.html">{row["from"][:2]}</a> {where}' if row["from"] else where
        here = as_text(row) if row["from"] else row["why"]
        needs = f"<br>needs {row['needed']:,}" if row["needed"] else ""
        rows.append(
            f'<tr {data}><td class="verdict">{escape(said(row))}<small>{needs}</small></td>'
            f"<td>{escape(row['paper'])}: {what}<br><small>{escape(here)}"
            f"{'; printed: ' + escape(row['printed']) if row['printed'] else ''}</small></td><td>{where}</td></tr>"
        )
    titles = ("verdict", "claim, ours [corrected interval], printed", "page, place")
    head = "".join(f"<th scope='col'>{title}</th>" for title in titles)
    return f"<table class='ledger'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
