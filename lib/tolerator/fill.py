"""Vanilla masked-diffusion decoding: LLaDA's and Dream's rules, blocks, and the EoT penalty.

It is also TOLERATOR's first stage, the fill-up (paper section 3.3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import draw, gather, warp
from lib.decoding.family import RULES, SCHEDULES, Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, TOKENS, Canvas, penalise_eot, spread, top_count


@dataclass(frozen=True)
class Vanilla(Options):
    """Options of vanilla decoding.

    canvas: response length G. steps: forwards T, at most G.
    block: semi-autoregressive block length, 0 for one block; it must divide the canvas.
    rule: which drawn tokens are kept, by default that of the model's family. `confidence`: LLaDA, the untempered
        probability of the drawn token;
        `entropy`: Dream, minus the entropy of the tempered and filtered distribution; `margin`: the gap between
        its two largest probabilities (both untempered at temperature 0); `random`.
    schedule: by default that of the model's family. `even` keeps G/T tokens a step, the first G mod T steps one more
        (LLaDA); `dream` keeps floor(masked * (1 - s/t)) with times from 1 to 0.001, all in the last step.
    temperature, top_p, top_k: of the draws; 0 takes the likeliest, the filters come after the temperature. The token
        that crosses top_p is kept, as in Dream's code, whose scripts decode at 0.9; LLaDA's have none.
    eot_form, eot_lambda: the penalty on the end of text, see `penalise_eot`. `prob_div` divides its probability by
        lambda (the paper's formula), `logit_div` its logit (the released code), `off` neither.
    prompt_cache: the prompt's keys of the first forward in all, an approximation (Fast-dLLM).
    heads: AutoDeco's heads on the mask model choose temperature and top-p at every masked position, and those given
        multiply what they say: 1, 1 and a top_k of 0 are the heads' own. Not published: a composition of ours.
    """

    canvas: int = 32
    steps: int = 32
    block: int = 0
    rule: str = ""
    schedule: str = ""
    temperature: float = 0.3
    top_p: float = 1.0
    top_k: int = 0
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False
    heads: bool = False

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("steps", 1 <= self.steps <= self.canvas, f"from 1 to the canvas length, {self.canvas}")
        self.require(
            "block",
            self.block >= 0 and (not self.block or self.canvas % self.block == 0),
            "0 or a divisor of the canvas",
        )
        self.require("steps", not self.block or self.steps >= self.canvas // self.block, "at least one a block")
        self.require("rule", self.rule in ("", *RULES), f"empty or one of {', '.join(RULES)}")
        self.require("schedule", self.schedule in ("", *SCHEDULES), f"empty or one of {', '.join(SCHEDULES)}")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self.require("top_k", self.top_k >= 0, "0 (off) or more")
        self.require("eot_form", self.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
        self.require("eot_lambda", self.eot_lambda > 0, "above 0")


def transfer_counts(width: int, steps: int, schedule: str = "even") -> list[int]:
    """How many tokens each of `steps` forwards keeps; they sum to `width`."""
    if schedule == "even":
        return [width // steps + (i < width % steps) for i in range(steps)]
    times = torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64).tolist()
    counts, left = [], width
    for i in range(steps):
        kept = int(left * (1 - times[i + 1] / times[i])) if i + 1 < steps else left
        counts.append(kept)
        left -= kept
    return counts


def plan(options: Vanilla, schedule: str = "even") -> list[tuple[int, int, int]]:
    """(first, last, tokens to keep) of every forward: blocks from left to right, steps shared out evenly.

    `schedule`: that of the model's family, where the options name none.
    """
    blocks = options.canvas // options.block if options.block else 1
    length = options.canvas // blocks
    return [
        (b * length, (b + 1) * length, count)
        for b, steps in enumerate(transfer_counts(options.steps, blocks))
        for count in transfer_counts(length, steps, options.schedule or schedule)
    ]


def fill_step(
    tokens: Tensor,
    logits: Tensor,
    region: Tensor,
    count: int,
    options: Vanilla,
    family: Family,
    uniform: Tensor,
    settings: tuple[float | Tensor, float | Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One fill-up step: draw every masked position of the region, keep the `count` best.

    tokens [B, G], region [G] or [B, G] bool, logits [M, V] of the M masked positions in it, uniform [2, B, G]
    (tokens; random rule). settings: temperature and top-p, numbers or [M]; by default those of the options.
    Returns the new tokens, the kept positions and the untempered probability of each drawn token, all [B, G].
    """
    open_, rule = (tokens == family.mask_id) & region, options.rule or family.rule
    temperature, top_p = settings or (options.temperature, options.top_p)
    logits = penalise_eot(logits, family.eot_ids[0], options.eot_form, options.eot_lambda)
    drawn = draw(logits, uniform[0][open_], temperature, top_p, options.top_k)
    if rule in ("entropy", "margin"):
        # At temperature 0 all mass on one token would make every position equally sure; Dream does not temper there.
        cold = not options.temperature
        probs = warp(logits, 1.0 if cold else temperature, top_p, options.top_k)
    sure = gather(torch.softmax(logits, -1), drawn)
    if rule == "confidence":
        score = sure
    elif rule == "entropy":
        score = torch.special.xlogy(probs, probs).sum(-1)
    elif rule == "margin":
        top = probs.topk(2, -1).values
        score = top[..., 0] - top[..., 1]
    else:
        score = uniform[1][open_]
    kept = top_count(spread(score.double(), open_), open_, count)
    tokens = tokens.clone()
    tokens[kept] = drawn[kept[open_]]
    return tokens, kept, spread(sure.double(), open_)


def fill(canvas: Canvas, options: Vanilla) -> None:
    """Run the whole fill-up on a canvas; it holds no mask afterwards.

    With heads the trace measures the mean `temperature` and `top_p` [B] of the positions when their token was kept.
    """
    columns = torch.arange(canvas.width, device=canvas.tokens.device)
    said = canvas.tokens.new_zeros(2, *canvas.tokens.shape, dtype=torch.float32)
    for step, (first, last, count) in enumerate(plan(options, canvas.family.schedule)):
        region = (columns >= first) & (columns < last)
        open_ = canvas.masked() & region
        logits = canvas.logits(canvas.tokens, open_)
        settings = canvas.settings(logits, options.temperature, options.top_p)
        uniform = torch.stack([canvas.uniform(step, TOKENS), canvas.uniform(step, TOKENS + 1)])
        canvas.tokens, kept, sure = fill_step(
            canvas.tokens, logits, region, count, options, canvas.family, uniform, settings
        )
        canvas.confidence = torch.where(kept, sure, canvas.confidence)
        if canvas.heads is not None and options.temperature:
            said = torch.where(kept, torch.stack([spread(of, open_) for of in settings]), said)
        canvas.record(stage="fill", step=step, changed=kept, tokens=canvas.tokens)
    if canvas.heads is not None and options.temperature:
        means = said.mean(-1).double().round(decimals=4).cpu()
        canvas.trace.measures |= {"temperature": means[0], "top_p": means[1]}


@decoder("vanilla", Vanilla)
def decode(
    model, input_ids: Tensor, options: Vanilla, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """Vanilla decoding of prompts [B, P], left-padded. T forwards, each over prompt and canvas."""
    given = (options.canvas, generator, record, options.prompt_cache, options.heads)
    canvas = Canvas(model, family, input_ids, attention_mask, *given)
    fill(canvas, options)
    return canvas.close()
