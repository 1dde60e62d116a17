"""ReMDM (arXiv 2503.00307): a reverse step that may mask decoded tokens again.

The sampler of the ReMDM paper, in its four variants. The TOLERATOR repository's port is another thing: it
never masks a decoded token again, so that it is vanilla decoding with a random detour.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, TOKENS, TRANSITIONS, Canvas, draw_at, penalise_eot

VARIANTS = ("cap", "rescale", "conf", "loop")


@dataclass(frozen=True)
class Remdm(Options):
    """Options of ReMDM.

    steps: forwards T. variant: how the remasking probability sigma is set. eta: its cap (`cap`), its share of
    the largest allowed (`rescale`), or its value within the window (`loop`).
    t_on, t_off, alpha_on: the window of `loop` in diffusion time (1 is all masks) and the share of
    tokens held decoded within it. temperature, top_p, eot_form, eot_lambda: as in vanilla decoding.
    """

    canvas: int = 32
    steps: int = 32
    variant: str = "loop"
    eta: float = 0.02
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9
    temperature: float = 0.3
    top_p: float = 0.9
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("steps", self.steps >= 1, "1 or more")
        self.require("variant", self.variant in VARIANTS, f"one of {', '.join(VARIANTS)}")
        self.require("eta", 0 <= self.eta <= 1, "in [0, 1]")
        self.require("t_on", 0 < self.t_on < 1, "in (0, 1)")
        self.require("t_off", 0 < self.t_off < self.t_on, "in (0, t_on)")
        self.require("alpha_on", 0 < self.alpha_on < 1, "in (0, 1)")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self.require("eot_form", self.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
        self.require("eot_lambda", self.eot_lambda > 0, "above 0")


def alpha(t: float, options: Remdm) -> float:
    """Share of decoded tokens at time t: 1 - t, or the three phases of `loop`."""
    if options.variant != "loop":
        return 1 - t
    if t > options.t_on:
        return (1 - t) * options.alpha_on / (1 - options.t_on)
    if t > options.t_off:
        return options.alpha_on
    return 1 - t * (1 - options.alpha_on) / options.t_off


def sigma(t: float, alpha_t: float, alpha_s: float, options: Remdm, masked: Tensor, confidence: Tensor) -> Tensor:
    """Remasking probability a position, [B, G]; never above sigma_max = min(1, (1 - alpha_s) / alpha_t)."""
    highest = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t > 0 else 1.0
    if options.variant == "cap":
        value = min(options.eta, highest)
    elif options.variant == "rescale":
        value = options.eta * highest
    elif options.variant == "loop":
        value = min(options.eta, highest) if options.t_off < t <= options.t_on else 0.0
    else:
        # The less probable a token was when it was decoded, the likelier it is masked again.
        weights = torch.softmax((-confidence).masked_fill(masked, -torch.inf), -1)
        return torch.nan_to_num(weights).masked_fill(masked, 0) * highest
    return torch.full_like(confidence, value)


def remdm_step(
    tokens: Tensor,
    confidence: Tensor,
    logits: Tensor,
    t: float,
    s: float,
    options: Remdm,
    family: Family,
    uniform: Tensor,
) -> tuple[Tensor, Tensor]:
    """The reverse transition from time t to s < t (ReMDM eq. 7), for every position at once.

    A decoded token is masked with probability sigma. A masked one is decoded with probability
    (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t). logits [M, V] of the masked
    positions; uniform [2, B, G] (transition, token); `confidence`
    [B, G] is the probability of a token when it was decoded.
    """
    masked = tokens == family.mask_id
    logits = penalise_eot(logits, family.eot_ids[0], options.eot_form, options.eot_lambda)
    alpha_t, alpha_s = alpha(t, options), alpha(s, options)
    remask = sigma(t, alpha_t, alpha_s, options, masked, confidence)
    decode_probability = (alpha_s - (1 - remask) * alpha_t) / (1 - alpha_t)
    decoded = masked & (uniform[0] < decode_probability)
    remasked = ~masked & (uniform[0] < remask)
    drawn, sure = draw_at(decoded, logits[decoded[masked]], uniform[1], options.temperature, options.top_p)
    confidence = torch.where(decoded, sure, confidence)
    return torch.where(decoded, drawn, tokens).masked_fill(remasked, family.mask_id), confidence


@decoder("remdm", Remdm)
def decode(
    model, input_ids: Tensor, options: Remdm, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """ReMDM on prompts [B, P], left-padded: T forwards at times 1, 1 - 1/T, ..., 1/T; no mask is left at 0."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    for step in range(options.steps):
        t, s = 1 - step / options.steps, 1 - (step + 1) / options.steps
        logits = canvas.logits(canvas.tokens, canvas.masked())
        uniform = torch.stack([canvas.uniform(step, TRANSITIONS), canvas.uniform(step, TOKENS)])
        before = canvas.tokens
        canvas.tokens, canvas.confidence = remdm_step(
            before, canvas.confidence, logits, t, s, options, family, uniform
        )
        canvas.record(stage="remdm", step=step, changed=canvas.tokens != before, tokens=canvas.tokens)
    return canvas.close()
