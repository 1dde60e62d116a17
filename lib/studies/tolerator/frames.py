"""A canvas step by step: as a strip, as text that scrolls, and as rows for a page on which a step is a choice."""

import json
from html import escape

import matplotlib.pyplot as plt
import numpy as np

from lib.models.registry import Model
from lib.reporting.inert import inert

COLOURS = {"masked": "0.75", "redrawn": "#fde0c5", "changed": "#f0746e", "kept": "white"}
WIDEST = 64  # positions of a row of the table: a longer cell would be cut


def frames_of(model: Model, events: list[dict], item: int) -> list[dict]:
    """One response step by step: label, `texts` and `states` of its positions.

    masked; redrawn: masked and drawn the same again; changed: another token than before; kept.
    """
    frames, before = [], None
    shown = {model.family.mask_id: ""} | dict.fromkeys(model.family.eot_ids, "\u25a0")
    for number, event in enumerate(events, 1):
        tokens, redrawn = event["tokens"][item], event["changed"][item]
        new = redrawn if before is None else tokens != before
        states = [
            "masked" if i == model.family.mask_id else "changed" if n else "redrawn" if r else "kept"
            for i, n, r in zip(tokens.tolist(), new.tolist(), redrawn.tolist(), strict=True)
        ]
        texts = [inert(shown.get(i, model.tokenizer.decode([i]))) for i in tokens.tolist()]
        frames.append({"label": f"{event['stage']} {number}", "texts": texts, "states": states})
        before = tokens
    return frames


def spread(frames: list[dict], rows: int) -> list[dict]:
    """At most so many of the frames, the first and the last among them; changed is what differs from the one before
    in this choice."""
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, rows).round().astype(int))]
    found = chosen[:1]
    for before, frame in zip(chosen, chosen[1:], strict=False):
        states = [
            state if state == "masked" else "changed" if new != old else "redrawn" if state != "kept" else "kept"
            for state, new, old in zip(frame["states"], frame["texts"], before["texts"], strict=True)
        ]
        found.append(frame | {"states": states})
    return found


def strip(frames: list[dict]):
    """A row each frame: masks grey, tokens redrawn pale, changed red."""
    width = len(frames[0]["texts"])
    figure, axis = plt.subplots(figsize=(0.3 * width + 1.5, 0.27 * len(frames) + 0.5))
    for y, frame in enumerate(frames):
        axis.text(-0.5, -y, frame["label"], fontsize=8, color="0.4", ha="right", va="center")
        for x, (text, state) in enumerate(zip(frame["texts"], frame["states"], strict=True)):
            place = (x, -y - 0.45)
            axis.add_patch(plt.Rectangle(place, 1, 0.9, color=COLOURS[state], ec="white", lw=0.5))
            size = min(7, 35 / max(len(text.strip()), 1))  # as wide as its cell at most
            at = {"fontsize": size, "ha": "center", "va": "center", "clip_on": True}
            axis.text(x + 0.5, -y, text, family="monospace", parse_math=False, **at)
    axis.set(xlim=(-6, width), ylim=(-len(frames) + 0.4, 0.6))
    axis.axis("off")
    return figure


def scrolled(frames: list[dict]) -> str:
    """HTML without a script: a line each frame in a box that scrolls; masks are `_`, what changed is bold."""
    lines = []
    for frame in frames:
        cells = zip(frame["texts"], frame["states"], strict=True)
        tokens = [_marked(escape(text.replace("\n", "\u21b5")) or "_", state) for text, state in cells]
        lines.append(f"<small>{escape(frame['label'])}</small>  {''.join(tokens)}")
    return f'<div style="max-height: 22rem; overflow-y: auto"><pre>{chr(10).join(lines)}</pre></div>'


def _marked(text: str, state: str) -> str:
    return f"<strong>{text}</strong>" if state == "changed" else text


def rows_of(frames: list[dict]) -> list[dict]:
    """`frame`, and `texts` and `states` as JSON lists: a row each WIDEST positions."""
    return [
        {"frame": frame["label"]}
        | {name: json.dumps(frame[name][start : start + WIDEST]) for name in ("texts", "states")}
        for frame in frames
        for start in range(0, len(frame["texts"]), WIDEST)
    ]
