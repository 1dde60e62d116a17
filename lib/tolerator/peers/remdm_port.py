"""ReMDM as the TOLERATOR repository runs it on LLaDA: vanilla decoding with a detour in the middle.

It takes its name from ReMDM, and never masks a decoded token again. Within a window of steps masked positions may
draw [MASK] instead of a token, untempered, and are then not decoded; before and after it all is vanilla. Here to
show what was compared; `remdm.py` has the method itself. Differs from that port in: a drawn [MASK] ranks below
every drawn token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import TOKENS, TRANSITIONS, Canvas, draw_at, top_count
from lib.tolerator.fill import Vanilla, fill_step, transfer_counts


@dataclass(frozen=True)
class RemdmPort(Options):
    """Options, with the port's values: see `Remdm`, whose own values differ.

    steps: forwards T, each keeps its even share of the canvas. temperature: outside the window.
    """

    canvas: int = 32
    steps: int = 32
    eta: float = 0.02
    t_on: float = 0.6
    t_off: float = 0.4
    alpha_on: float = 0.95
    temperature: float = 0.3

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("steps", 1 <= self.steps <= self.canvas, f"from 1 to the canvas length, {self.canvas}")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("eta", 0 <= self.eta <= 1, "in [0, 1]")
        self.require("t_on", 0 < self.t_on < 1, "in (0, 1)")
        self.require("t_off", 0 <= self.t_off < self.t_on, "in [0, t_on)")
        self.require("alpha_on", 0 < self.alpha_on < 1, "in (0, 1)")
        self.require("eta", self.share <= 1, "at most (1 - alpha_on) / alpha_on")

    @property
    def vanilla(self) -> Vanilla:
        return Vanilla(canvas=self.canvas, steps=self.steps, temperature=self.temperature)

    @property
    def share(self) -> float:
        """Probability of a token, rather than [MASK], within the window: alpha sigma / (1 - alpha)."""
        return self.alpha_on * self.eta / (1 - self.alpha_on)

    def within(self, step: int) -> bool:
        return self.t_off < 1 - (step + 1) / self.steps <= self.t_on


def window_step(
    tokens: Tensor, logits: Tensor, count: int, share: float, mask_id: int, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """A step within the window: each mask draws a token with probability `share`; the `count` surest are kept.

    tokens [B, G], uniform [2, B, G] (token or [MASK], which token). Returns the new tokens and the kept positions;
    where fewer than `count` tokens were drawn, a [MASK] uses up the place.
    """
    masked = tokens == mask_id
    drawn, sure = draw_at(masked, logits, uniform[1], 1.0)
    token = masked & (uniform[0] < share)
    kept = top_count(sure.masked_fill(~token, 0), masked, count) & token
    return torch.where(kept, drawn, tokens), kept


@decoder("remdm_port", RemdmPort)
def decode(
    model, input_ids: Tensor, options: RemdmPort, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """The port on prompts [B, P], left-padded: T forwards. At few steps a response may end with masks in it."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record)
    everywhere = torch.ones(options.canvas, dtype=torch.bool, device=input_ids.device)
    for step, count in enumerate(transfer_counts(options.canvas, options.steps)):
        logits = canvas.logits(canvas.tokens, canvas.masked())
        if options.within(step):
            uniform = torch.stack([canvas.uniform(step, TRANSITIONS), canvas.uniform(step, TOKENS)])
            canvas.tokens, kept = window_step(canvas.tokens, logits, count, options.share, family.mask_id, uniform)
        else:
            uniform = torch.stack([canvas.uniform(step, TOKENS), canvas.uniform(step, TOKENS + 1)])
            canvas.tokens, kept, _ = fill_step(
                canvas.tokens, logits, everywhere, count, options.vanilla, family, uniform
            )
        canvas.record(stage="remdm_port", step=step, changed=kept, tokens=canvas.tokens)
    return canvas.close()
