"""A rendered notebook as a page that runs nothing and loads nothing: it can be opened, mailed and archived as it is.

What a model wrote may stand in any output. It passes three gates: characters that act are written out (inert.py),
HTML keeps what an allow-list of tags and attributes names (nh3), and the page's own policy forbids the browser
scripts, frames, forms and the network.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from html import escape

import nh3
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lib.errors import UserError, redacted
from lib.reporting.inert import inert, markdown

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "script-src 'none'"
)
TAGS = set(
    "a b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img li ol p pre s small span strong sub summary sup table tbody td tfoot th thead tr u ul".split()
)
ATTRIBUTES = {
    "*": {"class", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "div": {"style"},
    "td": {"colspan", "rowspan", "style"},
    "th": {"colspan", "rowspan", "scope", "style"},
    "tr": {"style"},
    "ol": {"start"},
    **{heading: {"id"} for heading in ("h1", "h2", "h3", "h4", "h5", "h6")},
}
PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
KINDS = ("text/plain", "text/html", "text/markdown", "image/png", "image/jpeg")  # no SVG, JavaScript or widget
SCROLLS = re.compile(r"<div(?= class=\"output_(html|text))")
ANYWHERE = 10**9  # no line of HTML is cut: it would lose the end of a tag
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #fff; --line: #d5d5d5; --link: #0b57d0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --ground: #161616; --line: #444; --link: #8ab4f8 } }
body { margin: 0; color: var(--ink); background: var(--ground); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere }
main > div, .output_html, .output_text { overflow-x: auto }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .5rem }
a { color: var(--link) } a.anchor-link { display: none }
table { border-collapse: collapse; font-size: .85rem; margin: .75rem 0 }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  overflow-wrap: normal; max-width: 24rem }
thead th { border-bottom: 2px solid var(--line) } tbody th { text-align: left; font-weight: 600 }
pre { font: .8rem/1.45 ui-monospace, monospace; white-space: pre-wrap }
img { max-width: 100%; height: auto; background: #fff }
"""
LINK = re.compile(r"https?:|mailto:|[^:]*$", re.IGNORECASE)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def prepared(notebook: NotebookNode, stem: str) -> NotebookNode:
    """A copy whose outputs are inert and hold no secret, and whose figures have a text in place of the picture.

    `stem`: the notebook's name; the text of a figure is the docstring of the method of its study that draws it.
    Preparing twice is the same as once.
    """
    node = deepcopy(notebook)
    heading = stem
    for cell in node.cells:
        if cell.cell_type != "code":
            found = re.findall(r"^#+ (.+)$", cell.source, flags=re.MULTILINE)
            heading = found[-1] if found else heading
            continue
        cell.outputs = list(_outputs(cell.outputs))
        pictures = [
            (output, kind) for output in cell.outputs for kind in output.get("data", {}) if kind.startswith("image/")
        ]
        said = _drawn_by(cell.source, stem) or f"Figure on {heading}"
        for number, (output, kind) in enumerate(pictures, 1):
            text = f"{said} ({number} of {len(pictures)})" if len(pictures) > 1 else said
            output.metadata.setdefault(kind, NotebookNode()).setdefault("alt", inert(text))
    return node


def page_of(notebook: NotebookNode, stem: str) -> str:
    """The page for readers: no code and no prompts, figures inside."""
    titles = (re.match(r"# (.+)", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    title = next((found[1] for found in titles if found), stem)
    return PAGE.format(policy=POLICY, title=escape(inert(title)), style=STYLE, body=body_of(notebook, stem))


def body_of(notebook: NotebookNode, stem: str) -> str:
    """What stands in that page, without a head."""
    node = prepared(notebook, stem)
    for cell in node.cells:
        cell.source = inert(cell.source)
    exporter = HTMLExporter(
        template_name="basic",  # the body alone
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    html = clean(exporter.from_notebook_node(node, resources={"metadata": {"name": stem}})[0])
    return SCROLLS.sub(r'\g<0> tabindex="0"', html)  # by keys as well, where it is wider than the page


def clean(html: str) -> str:
    """HTML that shows and does not act: what the lists above name, links of the web, pictures that are inside."""
    safe = nh3.clean(
        inert(html, ANYWHERE),
        tags=TAGS,
        clean_content_tags={"script", "style", "iframe", "object", "template", "svg", "math"},
        attributes=ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        filter_style_properties={"text-align", "max-height", "overflow-y"},
        link_rel="noopener noreferrer",
    )
    return inert(safe, ANYWHERE)  # again, for a character may have been written as an entity


def _attribute(tag: str, name: str, value: str) -> str | None:
    """The value as it is, or None for one that would reach outside of the page."""
    if name == "src" and not PICTURE.fullmatch(value):
        return None
    if name == "href" and not LINK.match(re.sub(r"[\x00-\x20]", "", value)):  # a browser leaves those out, too
        return None
    return value


def _outputs(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    for output in outputs:
        if output.output_type == "stream":
            output.text = inert(redacted(output.text))
        if output.output_type == "error":
            output.traceback = [inert(redacted(line)) for line in output.traceback]
            output.evalue = inert(redacted(output.evalue))
        if "data" not in output:
            yield output
            continue
        kept = {kind: value for kind, value in output.data.items() if kind in KINDS}
        for kind, value in kept.items():
            if kind in ("text/plain", "text/markdown"):
                kept[kind] = {"text/plain": inert, "text/markdown": markdown}[kind](redacted(value))
            if kind == "text/html":
                kept[kind] = clean(redacted(value))
        output.data = NotebookNode(kept)
        if kept:
            yield output


def _drawn_by(source: str, stem: str) -> str | None:
    """The first paragraph of the docstring of the figure that a cell draws; None where no study draws it."""
    from lib.studies import study_of  # the studies import this package

    found = re.search(r"\bstudy\.(figure\w*)\(", source)
    try:
        drawn = getattr(study_of(stem), found[1], None) if found else None
    except UserError:
        return None
    doc = (getattr(drawn, "__doc__", None) or "").strip().split("\n\n")[0]
    return " ".join(doc.split()) or None
