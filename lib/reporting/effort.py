"""What a run takes at most on one H100, from shapes and options alone: sizes of models, forwards, bytes, seconds."""

from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path

import pandas as pd

from lib.autodeco.heads import Heads, HeadsConfig
from lib.errors import UserError
from lib.models.registry import entry_of
from lib.models.trend import run_of
from lib.paths import ROOT
from lib.running.run import Run
from lib.studies.base import Timed
from lib.tasks import protocol_of

SIZES = Path(__file__).parent / "sizes.csv"
MEMORY, BANDWIDTH, FLOPS, WATTS = 80e9, 3.35e12, 989e12, 700  # of one H100 SXM: bytes, bytes a second, bfloat16
READ, COMPUTED, USABLE = 0.6, 0.4, 0.9  # shares of the three that a forward reaches
NUMBER, PROMPT, MOST = 2, 512, 256  # bytes a number, tokens a prompt, responses decoded at once


@dataclass(frozen=True)
class Size:
    """A model's shape: `parameters` in all, those `active` for a token, and what its cache is made of."""

    parameters: int
    active: int
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    gated: bool
    source: str

    @property
    def weights(self) -> int:
        """Bytes."""
        return NUMBER * self.parameters

    @property
    def cached(self) -> int:
        """Bytes of keys and values a token."""
        return 2 * NUMBER * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Work:
    """What a response takes at most. `wide`: positions of a forward; `rows`: how many of them each response has."""

    forwards: int
    wide: int
    tokens: int
    draft_forwards: int = 0
    rows: int = 1


def size_of(name: str) -> Size:
    """The shape of a model, or of the base of heads with these. Raises UserError for one that sizes.csv lacks."""
    entry = entry_of(name)
    if entry.tier == "heads":
        base = size_of(entry.base)
        extra = heads_in(base.hidden)
        return replace(base, parameters=base.parameters + extra, active=base.active + extra)
    name = run_of(name)  # of the same shape after any step
    if name not in _sizes():
        raise UserError(f"{SIZES.relative_to(ROOT)} has no size of {name}: add a row with its source")
    return _sizes()[name]


@cache
def _sizes() -> dict[str, Size]:
    rows = pd.read_csv(SIZES, dtype={"gated": str}, keep_default_na=False).to_dict("records")
    return {row.pop("model"): Size(**row | {"gated": row["gated"] == "yes"}) for row in rows}


@cache
def heads_in(hidden: int) -> int:
    """Parameters of AutoDeco's two heads on a base of that width."""
    return sum(p.numel() for p in Heads(HeadsConfig(hidden)).parameters())


def rows_of(run: Run) -> int:
    """Responses of a run: a benchmark may have fewer items than are asked for."""
    return min(run.items, _most(run.task) if run.split == "test" else run.items) * run.samples


@cache
def _most(task: str) -> int:
    """Items of a benchmark; of a task that is generated, or whose size its release decides, any number."""
    try:
        count = protocol_of(task).count
    except UserError:
        count = None
    return count or 10**9


def work_of(run: Run) -> Work:
    """What a response of a run takes at most, by the options of its method."""
    options = dict(run.options)
    if "canvas" in options:
        forwards = options["forwards"] if "forwards" in options else options["steps"]
        return Work(forwards, PROMPT + options["canvas"], options["canvas"])
    tokens, gamma = options["max_new_tokens"], options.get("gamma", 0)
    if run.draft:
        shown = options["width"] * gamma if options.get("tree") else _shown(options) or gamma
        return Work(tokens, shown + 1, tokens, draft_forwards=gamma * tokens)
    return Work(tokens, 1, tokens, rows=options.get("width", 1))


def _shown(options: dict) -> int:
    """Positions of a static tree of drafts, level by level."""
    found, level = 0, 1
    for branches in options.get("branches", ()):
        level *= branches
        found += level
    return found


def seconds_of(run: Run, rows: int) -> float:
    """Seconds of `rows` responses of a run on one H100, at most; see ASSUMED in plan.py."""
    work, size = work_of(run), size_of(run.model)
    at_once = responses_at_once(run)
    if "canvas" in dict(run.options):
        return ceil(rows / at_once) * work.forwards * _forward(size, at_once * work.rows * work.wide, 0)
    return _decoding(size, size_of(run.draft) if run.draft else None, work, PROMPT, rows, at_once)


def seconds_by_clock(one: Timed) -> float:
    """Seconds of what is decoded by the clock, as of a run whose batches are of a given size."""
    rows = one.decodings * one.batch
    draft = size_of(one.draft) if one.draft else None
    return _decoding(size_of(one.model), draft, work_by_clock(one), one.prompt or PROMPT, rows, one.batch)


def work_by_clock(one: Timed) -> Work:
    """What is decoded by the clock takes at most."""
    return Work(one.tokens, one.draft_steps + 1, one.tokens, draft_forwards=one.draft_steps * one.tokens)


def _decoding(size: Size, draft: Size | None, work: Work, prompt: int, rows: int, at_once: int) -> float:
    """Seconds of responses token by token, `at_once` a batch: their prompts, all forwards, and the draft's."""
    batches = ceil(rows / at_once)
    cache_read = size.cached * (prompt + work.tokens / 2) * work.rows * at_once
    found = batches * work.forwards * _forward(size, at_once * work.rows * work.wide, cache_read)
    found += rows * 2 * size.active * prompt / (COMPUTED * FLOPS)
    return found + (batches * work.draft_forwards * _forward(draft, at_once, 0) if draft else 0)


def _forward(size: Size, positions: int, cache_read: float) -> float:
    """Seconds of a forward: reading, or computing where that takes longer."""
    return max((size.weights + cache_read) / (READ * BANDWIDTH), 2 * size.active * positions / (COMPUTED * FLOPS))


def bytes_a_row(run: Run) -> float:
    """Bytes that one response needs besides the weights: its cache, or the canvas' logits."""
    work, size = work_of(run), size_of(run.model)
    if "canvas" in dict(run.options):
        return NUMBER * work.wide * (8 * size.hidden) + 3 * 4 * work.tokens * size.vocabulary
    cached = size.cached + (size_of(run.draft).cached if run.draft else 0)
    return work.rows * (cached * (PROMPT + work.tokens) + 3 * 4 * work.wide * size.vocabulary)


def weights_of(run: Run) -> int:
    """Bytes of the weights that a run holds."""
    return size_of(run.model).weights + (size_of(run.draft).weights if run.draft else 0)


def responses_at_once(run: Run) -> int:
    """Responses that memory holds beside the weights, 1 at least."""
    return max(1, min(MOST, int((USABLE * MEMORY - weights_of(run)) / bytes_a_row(run))))
