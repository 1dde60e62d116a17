"""Build the site from results/, and look at what was built: links, pictures, requests."""

import base64
import json
import re
import shutil
from collections import Counter
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import mistune
import nbformat

from lib.paths import RESULTS, ROOT
from lib.reporting.claims import HOLDS, UNMEASURED, VERDICTS
from lib.reporting.findings import BEYOND, findings_of
from lib.reporting.ledger import count_table, counts
from lib.reporting.overview import CHAPTERS, closing, title_of, verdicts_of
from lib.reporting.papers.page import page as papers_page
from lib.reporting.site import claims as ledger_page
from lib.reporting.site import tokens
from lib.reporting.site.look import framed
from lib.reporting.site.page import body, smaller
from lib.reporting.tightest import tightest_pages
from lib.studies import STUDIES

SITE = ROOT / "site"
TOP = {
    "All results": "index.html",
    "Claims": "claims.html",
    "Token by token": "tokens.html",
    "Beside the papers": "papers.html",
    "Glossary": "glossary.html",
}
# The figure that shows a paper's verdict at a glance: notebook, figure, what is to be seen in it.
FIGURES = {
    "AutoDeco": ("10_autodeco_scores", "differences", "AutoDeco minus other ways to sample, points of accuracy"),
    "TOLERATOR": ("28_tolerator_rivals", "gains_middle", "Refinements and their rivals minus vanilla decoding"),
    "MTAD": ("38_mtad_lossless", "speed", "Speed and accuracy of drafting rules against speculative decoding"),
    BEYOND: (
        "26_tolerator_steps",
        "stages",
        "Right answers along the refinement, and what each one mends and breaks",
    ),
}


def build(results: Path = RESULTS, site: Path = SITE) -> tuple[int, int, list[str]]:
    """Write the site anew; (pages, requests that a browser would make, errors in words)."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "pages").mkdir(parents=True)
    claims = json.loads((results / "claims.json").read_text(encoding="utf-8"))
    entries = json.loads((results / "headline.json").read_text(encoding="utf-8"))
    found = tightest_pages(results)
    shown = tokens.body(found)
    top = {words: to for words, to in TOP.items() if shown or to != "tokens.html"}
    for number, path in enumerate(found):
        links = {words: f"../{to}" for words, to in top.items()}
        for words, other in (("Before", number - 1), ("Next", number + 1)):
            if 0 <= other < len(found):
                links[words] = f"{found[other].parent.name}.html"
        _write(site / "pages" / f"{path.parent.name}.html", _page(path, claims, links))
    _write(site / "index.html", framed("Decoding study", _index(results, found, claims, entries), top))
    choices, style = ledger_page.filters(claims)
    table = ledger_page.table(sorted(claims, key=lambda row: not row["from"]))  # what was judged first
    text = f"<h1>Every claim</h1>{_markdown(LEGEND)}{choices}{table}"
    _write(site / "claims.html", framed("Every claim, with its verdict", text, top, style))
    beside = f"<div class='wide' tabindex='0'>{_to_pages(_markdown(papers_page(claims)))}</div>"
    _write(site / "papers.html", framed("Beside the papers", beside, top))
    if shown:
        _write(site / "tokens.html", framed("Token by token", shown, top, tokens.STYLE))
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    _write(site / "glossary.html", framed("Glossary", _markdown(glossary), top))
    return inspected(site)


LEGEND = (
    "Ours is on small models, theirs on large ones. A verdict follows from the corrected interval alone: "
    "**holds** lies above zero (of a ratio: above 1), **refuted** below, **equivalent** within a point or 5 %, "
    "**undecided** none of these; *less than printed* ends below the printed size. *Needs* is how many items would "
    "decide it in four of five cases. Repeats of a claim and our own controls are not counted."
)


def _page(path: Path, claims: list[dict], links: dict[str, str]) -> str:
    stem, profile = path.parent.name, path.parts[-3]
    notebook = nbformat.read(path.with_name(f"{stem}.ipynb"), as_version=4)
    own = [row for row in claims if row["from"] == stem]
    module = STUDIES[stem].replace(".", "/")
    foot = (
        f"<footer><p>Profile {escape(profile)}. Again: <code>make reproduce PROFILE={profile} NB={stem}</code>. "
        f"Code: <code>lib/studies/{module}.py</code>. Responses and tables: "
        f'<a href="../../results/{profile}/{stem}/manifest.json">results/{profile}/{stem}</a>.</p></footer>'
    )
    table = f"<h2>Verdicts</h2><div class='wide' tabindex='0'>{ledger_page.table(own, '')}</div>" if own else ""
    return framed(title_of(path), body(notebook, stem) + table + foot, links)


def _index(results: Path, found: list[Path], claims: list[dict], entries: dict[str, dict]) -> str:
    links = (
        "[Every claim with its interval, n and what would decide it](claims.html); [what does not add up in the "
        "papers and what others found](papers.html)."
    )
    parts = [
        "<h1>Do three decoding claims hold?</h1>",
        "<p>AutoDeco, TOLERATOR and MTAD, on small models that anyone can run. How their claims come out:</p>",
        "<div class='wide' tabindex='0'>",
        _markdown("\n".join(count_table(claims))),
        "</div>",
        _markdown(links),
    ]
    for paper, words in findings_of(entries).items():
        short = "" if paper == BEYOND else f"<p><strong>{escape(in_short(counts(claims)[paper]))}</strong></p>"
        parts.append(f"<h2>{escape(paper)}</h2>{short}{_to_pages(_markdown(words))}{_figure(paper, found)}")
    parts.append(_to_pages(_markdown("\n".join(closing(results)))))
    parts.append("<h2>All pages</h2>")
    chapter = ""
    for path in found:
        stem = path.parent.name
        if CHAPTERS.get(stem[0], "") != chapter:
            chapter = CHAPTERS.get(stem[0], "")
            parts.append(f"<h3>{escape(chapter)}</h3>")
        verdicts = verdicts_of([row for row in claims if row["from"] == stem])
        link = f'<a href="pages/{stem}.html">{escape(title_of(path))}</a>'
        parts.append(f"<p>{link}<br><small>{escape(path.parts[-3])}: {escape(verdicts)}</small></p>")
    return "\n".join(parts)


def in_short(count: Counter) -> str:
    """A paper's verdicts in a sentence."""
    judged = {verdict: count[verdict] for verdict in VERDICTS if verdict != UNMEASURED and count[verdict]}
    if not judged:
        return "Nothing is judged yet."
    words = {HOLDS: "hold"}  # of several
    told = [
        f"{number} {words.get(verdict, verdict) if number > 1 else verdict}" for verdict, number in judged.items()
    ]
    return f"Of {sum(judged.values())} claims that could be judged here: {', '.join(told)}."


def _figure(paper: str, found: list[Path]) -> str:
    stem, name, words = FIGURES[paper]
    for path in found:
        picture = path.with_name(f"{name}.png")
        if path.parent.name == stem and picture.exists():
            data = base64.b64encode(picture.read_bytes()).decode()
            image = smaller(f'<img src="data:image/png;base64,{data}" alt="{escape(words)}">')
            caption = f'{escape(words)}: <a href="pages/{stem}.html">{escape(title_of(path))}</a>'
            return f"<figure class='figure'>{image}<figcaption>{caption}</figcaption></figure>"
    return ""


def _to_pages(html: str) -> str:
    """Links to notebooks in results/ as links to the pages of the site."""
    return re.sub(r'href="[a-z]+/(\w+)/\1\.ipynb"', r'href="pages/\1.html"', html)


def _markdown(text: str) -> str:
    return mistune.create_markdown(escape=True, plugins=["table"])(text)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class Links(HTMLParser):
    """What a page points at: addresses, what a browser would fetch, pictures without words."""

    def __init__(self, text: str):
        super().__init__()
        self.to: list[str] = []
        self.fetched: list[str] = []
        self.silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.to.append(given["href"])
        self.fetched += [given[key] for key in ("src", "srcset", "data") if given.get(key)]
        if tag == "link":
            self.fetched.append(given.get("href") or "")
        self.silent += tag == "img" and not given.get("alt")


def inspected(site: Path) -> tuple[int, int, list[str]]:
    """(pages, requests, errors) of the pages of a site, by reading them."""
    pages, requests, errors = sorted(site.rglob("*.html")), 0, []
    for path in pages:
        found, name = Links(path.read_text(encoding="utf-8")), path.relative_to(site)
        requests += sum(not address.startswith("data:") for address in found.fetched)
        for address in found.to:
            file = address.partition("#")[0]
            if file and not re.match(r"[a-z]+:", file) and not (path.parent / file).exists():
                errors.append(f"{name}: no {file}")
        if found.silent:
            errors.append(f"{name}: {found.silent} pictures without words")
    return len(pages), requests, errors
