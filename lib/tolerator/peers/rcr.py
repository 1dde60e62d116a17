"""Running confidence remasking (RCR, from MDPO, arXiv 2508.13148): fill everything, keep what was surest.

Differs from the MDPO code in: a confidence of exactly 0 stays 0 (there it counts as 1); from the TOLERATOR
repository's port in: the confidence is the untempered probability; from both in: what is owed follows the even
schedule of vanilla decoding (there round(k G / T)). As in the port, a step masks again within its block.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import TOKENS, Canvas, draw_at, penalise_eot, top_count
from lib.tolerator.fill import Vanilla, plan


@dataclass(frozen=True)
class Rcr(Options):
    """Options of RCR: steps T over a canvas of G, blocks, temperatures and EoT penalty as in vanilla decoding."""

    canvas: int = 32
    steps: int = 32
    block: int = 0
    temperature: float = 0.3
    top_p: float = 0.9
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        self.require("steps", 1 <= self.steps <= self.canvas, f"from 1 to the canvas length, {self.canvas}")
        self.schedule  # noqa: B018  its own check

    @property
    def schedule(self) -> Vanilla:
        return Vanilla(**asdict(self))


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
    tokens = torch.where(filled, drawn, tokens)
    confidence = torch.where(filled, sure, confidence)
    remasked = top_count(-confidence, region.expand_as(filled), owed)
    return tokens.masked_fill(remasked, family.mask_id), confidence


@decoder("rcr", Rcr)
def decode(
    model, input_ids: Tensor, options: Rcr, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """RCR on prompts [B, P], left-padded; T forwards on the even schedule."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    columns = torch.arange(canvas.width, device=canvas.tokens.device)
    owed = {}
    for step, (first, last, count) in enumerate(plan(options.schedule)):
        owed[first] = owed.get(first, last - first) - count
        region = (columns >= first) & (columns < last)
        logits = canvas.logits(canvas.tokens, canvas.masked() & region)
        before = canvas.tokens
        canvas.tokens, canvas.confidence = rcr_step(
            before, canvas.confidence, logits, region, owed[first], options, family, canvas.uniform(step, TOKENS)
        )
        canvas.record(stage="rcr", step=step, changed=canvas.tokens != before, tokens=canvas.tokens)
    return canvas.close()
