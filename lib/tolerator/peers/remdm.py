"""ReMDM (arXiv 2503.00307): a reverse step that may mask decoded tokens again.

The sampler of the ReMDM paper, in its four variants. The TOLERATOR repository's port is another thing: it
never masks a decoded token again, so that it is vanilla decoding with a random detour.

Details in which the authors' code (kuleshov-group/remdm, diffusion.py) goes beyond the paper's equations are options
with the code's value. Differs from it in: [MASK] is never drawn; draws have a temperature; `conf` remembers the
probability before top-p; a forward is computed even where the step before changed nothing; sigma never exceeds what
eq. 7 allows, which the code's `loop` does not check.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lib.decoding.distributions import categorical, gather, greedy, tempered
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, TOKENS, TRANSITIONS, Canvas, draw_at, penalise_eot, spread

VARIANTS = ("cap", "rescale", "conf", "loop")
EDGES = ("released", "continuous")
EARLIEST = 1e-5  # the time at which the code's transitions end, before its last forward


@dataclass(frozen=True)
class Remdm(Options):
    """Options of ReMDM.

    steps: forwards T. variant: how the remasking probability sigma is set. eta: its cap (`cap`), its share of
    the largest allowed (`rescale`), or its value within the window (`loop`).
    t_on, t_off, alpha_on: the window of `loop` in diffusion time (1 is all masks) and the share of
    tokens held decoded within it. temperature, eot_form, eot_lambda: as in vanilla decoding.
    edges: alpha_s of a step of `loop` that crosses an edge of the window. `released`: by the phase of t, as in the
        code; `continuous`: by the phase of s, which is what alpha is at that time.
    top_p, crossing: the nucleus, and whether the token that crosses top_p is in it; in the code it is not.
    last_argmax: the last of the T forwards takes the likeliest token at every mask that is left, and T - 1
        transitions go from time 1 to 1e-5, as in the code (T + 1 forwards there); else T transitions go to time 0.
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
    edges: str = "released"
    crossing: bool = False
    last_argmax: bool = True
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
        self.require("edges", self.edges in EDGES, f"one of {', '.join(EDGES)}")

    @property
    def times(self) -> list[float]:
        """The times between which the transitions go."""
        if not self.last_argmax:
            return [1 - step / self.steps for step in range(self.steps + 1)]
        moves = self.steps - 1
        return [1 - (1 - EARLIEST) * step / max(moves, 1) for step in range(moves + 1)]


def alpha(t: float, options: Remdm, phase: float | None = None) -> float:
    """Share of decoded tokens at time t: 1 - t, or the three phases of `loop`, of which `phase` (by default t) says
    the one to take."""
    at = t if phase is None else phase
    if options.variant != "loop":
        return 1 - t
    if at > options.t_on:
        return (1 - t) * options.alpha_on / (1 - options.t_on)
    if at > options.t_off:
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
    alpha_t = alpha(t, options)
    alpha_s = min(alpha(s, options, t if options.edges == "released" else None), 1.0)
    remask = sigma(t, alpha_t, alpha_s, options, masked, confidence)
    decode_probability = (alpha_s - (1 - remask) * alpha_t) / (1 - alpha_t)
    decoded = masked & (uniform[0] < decode_probability)
    remasked = ~masked & (uniform[0] < remask)
    drawn, sure = _draw(decoded, logits[decoded[masked]], uniform[1], options)
    confidence = torch.where(decoded, sure, confidence)
    return torch.where(decoded, drawn, tokens).masked_fill(remasked, family.mask_id), confidence


def _draw(where: Tensor, logits: Tensor, uniform: Tensor, options: Remdm) -> tuple[Tensor, Tensor]:
    """`draw_at`, without the token that crosses top_p unless `crossing`."""
    if options.crossing or options.top_p == 1 or not options.temperature:
        return draw_at(where, logits, uniform, options.temperature, options.top_p)
    drawn = categorical(below(tempered(logits, options.temperature), options.top_p), uniform[where])
    return spread(drawn, where), spread(gather(torch.softmax(logits, -1), drawn).double(), where)


def below(probs: Tensor, top_p: float) -> Tensor:
    """probs [M, V] of the likeliest tokens whose mass together is at most top_p, and of the first; not normalised."""
    ranked = probs.sort(dim=-1, descending=True, stable=True)
    kept = ranked.values.double().cumsum(-1) <= top_p
    kept[:, 0] = True
    return torch.zeros_like(probs).scatter(-1, ranked.indices, ranked.values * kept)


@decoder("remdm", Remdm)
def decode(
    model, input_ids: Tensor, options: Remdm, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """ReMDM on prompts [B, P], left-padded: T forwards; no mask is left."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    for step, (t, s) in enumerate(pairwise(options.times)):
        logits = canvas.logits(canvas.tokens, canvas.masked())
        uniform = torch.stack([canvas.uniform(step, TRANSITIONS), canvas.uniform(step, TOKENS)])
        before = canvas.tokens
        canvas.tokens, canvas.confidence = remdm_step(
            before, canvas.confidence, logits, t, s, options, family, uniform
        )
        canvas.record(stage="remdm", step=step, changed=canvas.tokens != before, tokens=canvas.tokens)
    if options.last_argmax:
        masked = canvas.masked()
        logits = canvas.logits(canvas.tokens, masked)
        logits = penalise_eot(logits, family.eot_ids[0], options.eot_form, options.eot_lambda)
        canvas.tokens = canvas.tokens.masked_scatter(masked, greedy(logits))
        canvas.record(stage="remdm", step=options.steps - 1, changed=masked, tokens=canvas.tokens)
    return canvas.close()
