"""A rendered notebook as a page of the site: its question, its answer in words, one figure; then all the rest."""

import base64
import io
import re
from collections.abc import Iterator
from copy import deepcopy

from nbformat import NotebookNode
from PIL import Image

from lib.reporting.html import body_of

COLOURS = 48  # of a figure's palette: a third of the bytes, and the eye sees no difference
DATA = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


def parts(notebook: NotebookNode) -> dict[str, list[NotebookNode]]:
    """The cells by where they go: `title`, `answer` (the reading), `figure` (the first), `rest`, `folded` (settings
    and manifest). Every cell that has something to show is in one of them."""
    found: dict[str, list[NotebookNode]] = {name: [] for name in ("title", "answer", "figure", "rest", "folded")}
    section = ""
    for number, cell in enumerate(notebook.cells):
        heading = re.match(r"## (.+)", cell.source) if cell.cell_type == "markdown" else None
        section = heading[1] if heading else section
        if number == 0:
            found["title"].append(cell)
        elif section == "Reading":
            found["answer"] += [] if heading else [cell]
        elif section == "Manifest" or "parameters" in cell.metadata.get("tags", []):
            found["folded"] += [] if heading else [cell]
        elif not found["figure"] and _pictures(cell):
            found["figure"].append(cell)
        else:
            found["rest"].append(cell)
    return found


def body(notebook: NotebookNode, stem: str) -> str:
    """The page's HTML, cleaned as every page is."""
    html = {name: _html(notebook, cells, stem) for name, cells in parts(notebook).items()}
    return smaller(
        f"{html['title']}\n<section class='answer' aria-label='In short'>{html['answer']}</section>\n"
        f"<div class='figure'>{html['figure']}</div>\n{html['rest']}\n"
        f"<details><summary>Settings and manifest</summary>{html['folded']}</details>"
    )


def smaller(html: str) -> str:
    """The same with the pictures inside on a palette."""
    return DATA.sub(lambda found: f"data:image/png;base64,{_on_palette(found[1])}", html)


def _on_palette(encoded: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    out = io.BytesIO()
    ground.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    small = base64.b64encode(out.getvalue()).decode()
    return small if len(small) < len(encoded) else encoded


def _html(notebook: NotebookNode, cells: list[NotebookNode], stem: str) -> str:
    node = deepcopy(notebook)
    node.cells = deepcopy(cells)
    return body_of(node, stem) if cells else ""


def _pictures(cell: NotebookNode) -> list[str]:
    return [kind for output in cell.get("outputs", []) for kind in _kinds(output) if kind.startswith("image/")]


def _kinds(output: NotebookNode) -> Iterator[str]:
    yield from output.get("data", {})
