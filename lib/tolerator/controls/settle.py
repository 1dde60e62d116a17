"""Settle, a rule of our own and no part of the paper: keep what is sure, check what is doubtful, stop when settled.

TOLERATOR's two stages with other rules for both. The fill-up keeps, besides its even share, every token that the
model is sure of (as Fast-dLLM does, arXiv 2505.22618), and so ends early. The refinement masks few positions at a
time, the most doubtful first, and changes a token only for a likelier one. A response is done when no doubt is left
that the model has not confirmed.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lib.decoding.distributions import gather
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import TOKENS, Canvas, draw_at, spread, top_count


@dataclass(frozen=True)
class Settle(Options):
    """Options of Settle.

    forwards: T, at most. rho: share of T that the fill-up may take, in (0, 1].
    sure: a token of this probability is kept at once in the fill-up.
    doubt: a token less probable than this, when it was drawn, is checked.
    share: of the doubtful positions, how many are masked at a time, in (0, 1].
    temperature: of all draws.
    """

    canvas: int = 32
    forwards: int = 32
    rho: float = 0.8
    sure: float = 0.95
    doubt: float = 0.98
    share: float = 0.25
    temperature: float = 0.0
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("forwards", self.forwards >= 1, "1 or more")
        self.require("rho", 0 < self.rho <= 1, "in (0, 1]")
        self.require("sure", 0 < self.sure, "above 0 (above 1: no token is sure)")
        self.require("doubt", 0 <= self.doubt, "0 (check nothing) or more")
        self.require("share", 0 < self.share <= 1, "in (0, 1]")
        self.require("temperature", self.temperature >= 0, "0 or more")

    @property
    def fill_steps(self) -> int:
        """round(rho T), half up, at least 1 and at most the canvas."""
        return min(max(math.floor(self.rho * self.forwards + 0.5), 1), self.canvas)


def keep_sure(masked: Tensor, probability: Tensor, left: int, sure: float) -> Tensor:
    """Which drawn tokens the fill-up keeps, [B, G]: an even share of the masks, and every sure one.

    `probability` [B, G] of each drawn token; `left` forwards, this one included, must fill the canvas.
    """
    count = -(-masked.sum(-1) // left)
    return top_count(probability, masked, count) | (masked & (probability >= sure))


@dataclass
class Canvases:
    """State of the responses, all [B, G].

    Of each position its token, the probability of it when it was last drawn or checked, how often it was checked,
    and whether the model confirmed it since the response last changed.
    """

    tokens: Tensor
    confidence: Tensor
    checks: Tensor
    confirmed: Tensor

    def select(self, rows: Tensor) -> "Canvases":
        return Canvases(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: Tensor, other: "Canvases") -> None:
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)


def most_doubtful(state: Canvases, options: Settle) -> Tensor:
    """Positions to check, [B, G]: a share of the doubtful, the least checked first, then the least probable."""
    doubtful = (state.confidence < options.doubt) & ~state.confirmed
    count = torch.ceil(doubtful.sum(-1).double() * options.share - 1e-9).long().clamp(min=1)
    return top_count(-state.confidence - 2.0 * state.checks, doubtful, count)


def settle_step(
    state: Canvases, asked: Tensor, logits: Tensor, left: int, options: Settle, mask_id: int, uniform: Tensor
) -> Canvases:
    """Draw at the positions `asked` [B, G]: the masks of a response, or what is checked of a full one.

    logits [M, V] of these come from the canvas with `asked` masked. Of masks those are kept that `keep_sure` says. A
    checked token gives way only to a likelier one; if it stays it is confirmed. A change reopens all positions of
    its response that were not confirmed in this very step.
    """
    masked = state.tokens == mask_id
    checked = asked & ~masked
    drawn, new = draw_at(asked, logits, uniform, options.temperature)
    old = gather(torch.softmax(logits[checked[asked]], -1), state.tokens[checked])
    old = spread(old.double(), checked)
    better = checked & (new > old)
    taken = better | keep_sure(masked, new, left, options.sure)
    kept = checked & ~better
    quiet = ~better.any(-1, keepdim=True)
    return Canvases(
        torch.where(taken, drawn, state.tokens),
        torch.where(taken, new, torch.where(kept, old, state.confidence)),
        state.checks + checked,
        kept | (state.confirmed & quiet),
    )


@decoder("settle", Settle)
def decode(
    model, input_ids: Tensor, options: Settle, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """Settle on prompts [B, P], left-padded. A row that has settled leaves the batch and pays no more."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    zeros = torch.zeros_like(canvas.tokens)
    state = Canvases(canvas.tokens, canvas.confidence, zeros, zeros.bool())
    for step in range(options.forwards):
        masked = state.tokens == family.mask_id
        asked = torch.where(masked.any(-1, keepdim=True), masked, most_doubtful(state, options))
        rows = asked.any(-1).nonzero().squeeze(-1)
        if not len(rows):
            break
        part, at = state.select(rows), asked[rows]
        logits = canvas.logits(part.tokens.masked_fill(at, family.mask_id), at, rows)
        left = max(options.fill_steps - step, 1)
        after = settle_step(part, at, logits, left, options, family.mask_id, canvas.uniform(step, TOKENS, rows))
        state.put(rows, after)
        canvas.record(stage="settle", step=step, rows=rows, changed=at, tokens=after.tokens)
    canvas.tokens = state.tokens
    return canvas.close()
