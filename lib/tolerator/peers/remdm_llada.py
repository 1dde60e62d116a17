"""ReMDM as its authors run it on LLaDA (arXiv 2503.00307, table 3; guanghanwang/ReMDM-LLaDA, eval_llada.py).

Deterministic where `remdm.py` flips coins: a block is filled by vanilla decoding up to 7/8 of its steps; then, as
many steps again, the k tokens that were least probable when they were drawn are masked, all masks are drawn and the k
surest kept; then the rest is filled. The probability is untempered, the temperature 1.

Here T forwards in all, of which a share is spent on masking again; the authors' half makes 2 x steps of it. Differs
in: T need not divide; [MASK] is never drawn; 7/8 counts the block's filling steps (there its tokens, which is the
same at one token a step, the authors' setting). As there, decoding ends behind the first block with an EoT.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, TOKENS, Canvas, draw_at, penalise_eot, top_count
from lib.tolerator.fill import transfer_counts


@dataclass(frozen=True)
class RemdmLlada(Options):
    """Options of ReMDM for LLaDA.

    forwards: T, at most (a text that ends before its last block takes fewer). block: length of the blocks, 0 for one.
    remask_share: share of the forwards that mask again, in [0, 1). fill_share: share of the filling steps before.
    remasked: k, tokens masked at a time. temperature, top_p, eot_form, eot_lambda: as in vanilla decoding.
    """

    canvas: int = 32
    forwards: int = 32
    block: int = 0
    remask_share: float = 0.5
    fill_share: float = 0.875
    remasked: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("block", self.block >= 0 and (not self.block or self.canvas % self.block == 0),
                     "0 or a divisor of the canvas")  # fmt: skip
        self.require("forwards", self.forwards >= self.blocks, "at least one a block")
        self.require("remask_share", 0 <= self.remask_share < 1, "in [0, 1)")
        self.require("fill_share", 0 <= self.fill_share <= 1, "in [0, 1]")
        self.require("remasked", self.remasked >= 1, "1 or more")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self.require("eot_form", self.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
        self.require("eot_lambda", self.eot_lambda > 0, "above 0")
        self.require("forwards", max(fill for fill, _, _ in self.plan()) <= self.canvas // self.blocks,
                     "such that a block has no more filling steps than tokens")  # fmt: skip

    @property
    def blocks(self) -> int:
        return self.canvas // self.block if self.block else 1

    def plan(self) -> list[tuple[int, int, int]]:
        """(filling steps, remasking steps, filling steps before those) of each block."""
        found = []
        for forwards in transfer_counts(self.forwards, self.blocks):
            again = min(math.floor(self.remask_share * forwards + 1e-9), forwards - 1)
            before = max(
                math.floor(self.fill_share * (forwards - again) + 1e-9), 1
            )  # something must be there to mask
            found.append((forwards - again, again, before))
        return found


def remask(tokens: Tensor, confidence: Tensor, region: Tensor, count: int, mask_id: int) -> Tensor:
    """tokens [B, G] with the `count` least confident decoded ones of the region [G] masked."""
    return tokens.masked_fill(top_count(-confidence, (tokens != mask_id) & region, count), mask_id)


@decoder("remdm_llada", RemdmLlada)
def decode(
    model, input_ids: Tensor, options: RemdmLlada, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """ReMDM for LLaDA on prompts [B, P], left-padded; a row with an EoT leaves the batch behind its block."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    length, end = options.canvas // options.blocks, family.eot_ids[0]
    ends = torch.tensor(family.eot_ids, device=input_ids.device)
    columns = torch.arange(canvas.width, device=input_ids.device)
    rows, step = torch.arange(len(input_ids), device=input_ids.device), 0
    tokens, confidence = canvas.tokens, canvas.confidence
    for block, (fill, again, first) in enumerate(options.plan()):
        region = (columns >= block * length) & (columns < (block + 1) * length)
        counts = transfer_counts(length, fill)
        for count, masks in [(n, 0) for n in counts[:first]] + [(0, 1)] * again + [(n, 0) for n in counts[first:]]:
            part = tokens[rows]
            if masks:
                part = remask(part, confidence[rows], region, options.remasked, family.mask_id)
                count = options.remasked
            open_ = (part == family.mask_id) & region
            logits = penalise_eot(canvas.logits(part, open_, rows), end, options.eot_form, options.eot_lambda)
            uniform = canvas.uniform(step, TOKENS, rows)
            drawn, sure = draw_at(open_, logits, uniform, options.temperature, options.top_p)
            kept = top_count(sure, open_, count)
            after = torch.where(kept, drawn, part)
            tokens = tokens.index_copy(0, rows, after)
            confidence = confidence.index_copy(0, rows, torch.where(kept, sure, confidence[rows]))
            canvas.record(stage="remdm_llada", step=step, rows=rows, changed=after != part, tokens=after)
            step += 1
        rows = rows[~torch.isin(tokens[rows], ends).any(-1)]
        if not len(rows):
            break
    canvas.tokens = tokens.masked_fill(tokens == family.mask_id, end)  # behind an EoT, where it is cut
    return canvas.close()
