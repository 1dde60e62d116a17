"""Running confidence remasking (RCR, from MDPO, arXiv 2508.13148): fill everything, keep what was surest.

Three details are options with MDPO's values. Differs from its code in: [MASK] is never drawn; a confidence of exactly
0 stays 0 (there it counts as 1); T need not divide over the blocks.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lib.decoding.distributions import gather, warp
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, TOKENS, Canvas, draw_at, penalise_eot, spread, top_count
from lib.tolerator.fill import transfer_counts

ROUNDINGS = ("ceil", "round", "even")


@dataclass(frozen=True)
class Rcr(Options):
    """Options of RCR: steps T over a canvas of G, blocks, temperatures and EoT penalty as in vanilla decoding.

    rounding: of how many tokens stand after step k of a block, k G / T: `ceil` (MDPO), `round` (the TOLERATOR
        repository's port), or `even`, vanilla decoding's schedule.
    tempered: the confidence of a token is its probability after temperature and top-p (MDPO and the port), or the
        untempered one, as in vanilla decoding.
    reopen: tokens of earlier blocks may be masked again, too (MDPO); else the current block's alone (the port).
    """

    canvas: int = 32
    steps: int = 32
    block: int = 0
    temperature: float = 0.3
    top_p: float = 0.9
    eot_form: str = "off"
    eot_lambda: float = 1.2
    rounding: str = "ceil"
    tempered: bool = True
    reopen: bool = True
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("steps", 1 <= self.steps <= self.canvas, f"from 1 to the canvas length, {self.canvas}")
        self.require("rounding", self.rounding in ROUNDINGS, f"one of {', '.join(ROUNDINGS)}")
        blocks = self.canvas // self.block if self.block else 1
        self.require("block", self.block >= 0 and (not self.block or self.canvas % self.block == 0),
                     "0 or a divisor of the canvas")  # fmt: skip
        self.require("steps", self.steps >= blocks, "at least one a block")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self.require("eot_form", self.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
        self.require("eot_lambda", self.eot_lambda > 0, "above 0")

    @property
    def schedule(self) -> list[tuple[int, int, int]]:
        """(first, last, masks still owed after it) of every forward, of each block from `first` to `last`."""
        blocks = self.canvas // self.block if self.block else 1
        length, found = self.canvas // blocks, []
        for b, steps in enumerate(transfer_counts(self.steps, blocks)):
            for owed in owed_masks(length, steps, self.rounding):
                found.append((b * length, (b + 1) * length, owed))
        return found


def owed_masks(width: int, steps: int, rounding: str) -> list[int]:
    """How many of `width` positions are masks after each of `steps` forwards."""
    if rounding == "even":
        return [width - n for n in accumulate(transfer_counts(width, steps))]
    if rounding == "ceil":
        return [width - -(-k * width // steps) for k in range(1, steps + 1)]
    return [width - round(k * width / steps) for k in range(1, steps + 1)]


def rcr_step(
    tokens: Tensor,
    confidence: Tensor,
    logits: Tensor,
    region: Tensor,
    owed: int,
    options: Rcr,
    family: Family,
    uniform: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fill every mask of the region [G], then mask again the `owed` positions of it with the lowest confidence.

    The confidence [B, G] of a position is the probability its token had when it was last filled, so a token
    decoded early can be revised later. uniform [B, G].
    """
    filled = (tokens == family.mask_id) & region
    logits = penalise_eot(logits, family.eot_ids[0], options.eot_form, options.eot_lambda)
    drawn, sure = draw_at(filled, logits, uniform, options.temperature, options.top_p)
    if options.tempered:
        # At temperature 0 MDPO does not temper.
        sure = gather(warp(logits, options.temperature or 1.0, options.top_p), drawn[filled])
        sure = spread(sure.double(), filled)
    tokens = torch.where(filled, drawn, tokens)
    confidence = torch.where(filled, sure, confidence)
    remasked = top_count(-confidence, region.expand_as(filled), owed)
    return tokens.masked_fill(remasked, family.mask_id), confidence


@decoder("rcr", Rcr)
def decode(
    model, input_ids: Tensor, options: Rcr, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """RCR on prompts [B, P], left-padded; T forwards."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    columns = torch.arange(canvas.width, device=canvas.tokens.device)
    for step, (first, last, owed) in enumerate(options.schedule):
        region = (columns >= (0 if options.reopen else first)) & (columns < last)
        logits = canvas.logits(canvas.tokens, canvas.masked() & region)
        before = canvas.tokens
        canvas.tokens, canvas.confidence = rcr_step(
            before, canvas.confidence, logits, region, owed, options, family, canvas.uniform(step, TOKENS)
        )
        canvas.record(stage="rcr", step=step, changed=canvas.tokens != before, tokens=canvas.tokens)
    return canvas.close()
