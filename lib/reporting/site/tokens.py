"""Token by token: settings that a token was drawn with, canvases step by step, what a pass took over from the draft.

Nothing runs: a token says its settings when it is pointed at, a choice colours by the one or the other, and the steps
of a film are choices, through which the arrow keys go. Made of tables of the pages, where those have them.
"""

import json
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

SHADES = 6
PARTS = {"taken": "draft", "own": "own", "refused": "refused"}  # of a pass, in this order -> how it looks
STATES = ("masked", "redrawn", "changed", "kept")
GROUNDS = ("#f4f4f4", "#fdeadd", "#fbd0b4", "#f7b085", "#f08d5a", "#e2703a")  # from cold to hot
STYLE = """
.tok { color: #1b1b1b; font: .85rem/1.9 ui-monospace, monospace; white-space: pre-wrap; padding: .1rem 0 }
.film { display: flex; flex-wrap: wrap; gap: .15rem; margin: .3rem 0 1rem } .film .frame { display: none; order: 1;
  width: 100%; line-height: 1.8 } .film input { margin: .1rem } .film input:checked + .frame { display: block }
.frame .tok { border: 1px solid #999; border-radius: 2px; padding: 0 .2rem; margin: 0 1px }
.masked { background: #bbb } .redrawn { background: #fde0c5 }
.changed { background: #f0907f } .kept { background: #fff }
.draft { background: #cfe3f3 } .own { background: #fff; border: 1px solid #0072b2; border-radius: 2px }
.refused { color: #8a1c1c; background: #fbeaea; text-decoration: line-through }
.pass { margin-right: .4rem; white-space: pre-wrap } .key span { padding: .1rem .4rem; margin-right: .5rem }
""" + "".join(
    f"body:has(#by-{name}:checked) .{name[0]}{i} {{ background: {ground} }}\n"
    for name in ("temperature", "top_p")
    for i, ground in enumerate(GROUNDS)
)  # fmt: skip


def body(found: list[Path]) -> str:
    """The page of the results whose manifests are `found`; empty where none of them has such a table."""
    parts = []
    for stem, name, section in SECTIONS:
        for path in found:
            table = path.with_name(f"{name}.csv")
            if path.parent.name == stem and table.exists():
                parts.append(section(pd.read_csv(table, keep_default_na=False)))
                parts.append(f'<p><small>From <a href="pages/{stem}.html">notebook {stem[:2]}</a>.</small></p>')
    return "<h1>Token by token</h1>" + "\n".join(parts) if parts else ""


def settings(rows: pd.DataFrame) -> str:
    """AutoDeco's responses, each token on a ground of its temperature or top-p."""
    shades = {}
    for name in ("temperature", "top_p"):
        ranks = rows[name].rank(method="max", pct=True)  # equal values have one shade, and the highest the darkest
        shades[name] = np.ceil(SHADES * ranks).astype(int) - 1
    rows = rows.assign(t=shades["temperature"], p=shades["top_p"])
    choices = "".join(
        f'<label><input type="radio" name="by" id="by-{name}"{" checked" if name == "temperature" else ""}> {words}'
        "</label> "
        for name, words in (("temperature", "temperature"), ("top_p", "top-p"))
    )
    parts = [
        "<h2>AutoDeco: what each token was drawn with</h2><p>The darker, the higher, among the tokens on this page. "
        "Point at a token for its numbers.</p>"
        f"<fieldset><legend>Colour by</legend>{choices}</fieldset>"
    ]
    for (task, item), own in rows.groupby(["task", "item"], sort=False):
        tokens = "".join(
            f'<span class="tok t{r.t} p{r.p}" title="T {r.temperature:.2f}, top-p {r.top_p:.2f}">'
            f"{_shown(r.text)}</span>"
            for r in own.itertuples()
        )
        parts.append(f"<p><small>{escape(task)}, {escape(item)}</small><br>{tokens}</p>")
    return "\n".join(parts)


def film(rows: pd.DataFrame) -> str:
    """A response of every task and method, a choice a step."""
    key = "".join(f'<span class="tok {state}">{state}</span>' for state in STATES)
    parts = [
        "<h2>TOLERATOR: a canvas step by step</h2><p>Take a step with the arrow keys. <em>redrawn</em>: masked and "
        f'drawn the same again; <em>changed</em>: another token.</p><p class="key">{key}</p>'
    ]
    for number, ((task, method), own) in enumerate(rows.groupby(["task", "method"], sort=False)):
        frames, steps = [], own.groupby("frame", sort=False)
        for at, (frame, rows_of_it) in enumerate(steps):
            lists = ([cell for part in rows_of_it[name] for cell in json.loads(part)] for name in ("texts", "states"))
            cells = zip(*lists, strict=True)
            tokens = "".join(
                f'<span class="tok {state if state in STATES else ""}">{_cell(text)}</span>' for text, state in cells
            )
            checked = " checked" if at == len(steps) - 1 else ""
            frames.append(
                f'<input type="radio" name="film{number}" aria-label="{escape(frame)}"{checked}>'
                f'<div class="frame"><small>{escape(frame)}</small><br>{tokens}</div>'
            )
        parts.append(f"<h3>{escape(task)}, {escape(method)}</h3><div class='film'>{''.join(frames)}</div>")
    return "\n".join(parts)


def passes(rows: pd.DataFrame) -> str:
    """Responses pass by pass of the target."""
    parts = [
        "<h2>Drafting: what each pass of the target took over</h2><p class='key'><span class='tok draft'>taken from "
        "the draft</span><span class='tok own'>the target's own</span><span class='tok refused'>refused</span></p>"
        "<p>A gap is a pass of the target. What a tree has on its other branches is not shown.</p>"
    ]
    for (task, item), own in rows.groupby(["task", "item"], sort=False):
        parts.append(f"<h3>{escape(task)}, {escape(item)}</h3>")
        for way, blocks in own.groupby("way", sort=False):
            texts = [[json.loads(block[kind]) for kind in PARTS] for block in blocks.to_dict("records")]
            count = sum(len(taken) + len(added) for taken, added, _ in texts)
            shown = "".join(_block(block) for block in texts)
            parts.append(f"<p><small>{escape(way)}: {count} tokens in {len(texts)} passes</small><br>{shown}</p>")
    return "\n".join(parts)


def _block(block: list[list[str]]) -> str:
    tokens = [
        f'<span class="tok {look}">{_cell(text)}</span>'
        for texts, look in zip(block, PARTS.values(), strict=True)
        for text in texts
    ]
    return f'<span class="pass">{"".join(tokens)}</span>'


def _cell(text: str) -> str:
    """A token that stays on its line."""
    return escape(text.replace("\n", "\u21b5")) or "_"


def _shown(text: str) -> str:
    """A token as it was stored, a JSON string; the end of text is a square."""
    return escape(json.loads(text).replace("\n", "\u21b5\n")) or "\u25a0"


SECTIONS: tuple[tuple[str, str, Callable[[pd.DataFrame], str]], ...] = (
    ("15_autodeco_tokens", "tokens", settings),
    ("26_tolerator_steps", "frames", film),
    ("30_mtad_scores", "passes", passes),
)
