"""The frame of every page of the site: head, way around, style. Nothing runs and nothing is fetched."""

from html import escape

from lib.reporting.html import PAGE, POLICY, STYLE

MORE = """
main { max-width: 48rem } p, li { max-width: 42rem }
nav.top { border-bottom: 1px solid var(--line); padding: .6rem 1rem; font-size: .9rem }
nav.top a { margin-right: 1rem; white-space: nowrap }
.answer { border-left: 4px solid var(--link); padding: .1rem 1rem; margin: 1.5rem 0 }
figure { margin: 1rem 0 } figcaption { font-size: .85rem }
.wide { overflow-x: auto } .wide table { min-width: 34rem }
table.ledger td, table.ledger th { text-align: left } table.ledger { font-size: .85rem; width: 100% }
td.verdict { font-weight: 600; white-space: nowrap } td.verdict small { font-weight: 400 }
fieldset { border: 0; padding: 0; margin: .4rem 0 } legend { float: left; margin-right: .8rem; font-weight: 600 }
fieldset label { margin-right: .8rem; white-space: nowrap }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .5rem; font-size: .85rem }
summary { cursor: pointer; font-weight: 600; padding: .5rem 0 }
@media (max-width: 30rem) { main { padding: 1rem .7rem 3rem } img { min-width: 24rem } .figure { overflow-x: auto } }
"""


def framed(title: str, body: str, links: dict[str, str], style: str = "") -> str:
    """A page with the links {words: address} above it; `body` is HTML and trusted."""
    shown = " ".join(f'<a href="{escape(to)}">{escape(words)}</a>' for words, to in links.items())
    page = PAGE.format(policy=POLICY, title=escape(title), style=STYLE + MORE + style, body=body)
    return page.replace("<main>", f'<nav class="top" aria-label="Site">{shown}</nav>\n<main>', 1)
