"""CoRe, context-robust remasking (arXiv 2602.04096): now and then, test the least certain tokens against each other.

Vanilla decoding of N steps with a revision in every E-th step t (2 ... N) with s <= t / N < e. With z the text then:

    S     the m decoded tokens with the smallest margin p_(1) - p_(2) of the prediction at their place, given z;
    l_i   = -log p(x_i | z with S masked), i in S: the instability of a token (eq. 2), by one more forward;
    z_i   becomes the likeliest token given z with S masked, for the k most unstable i.

Then the step fills its masks, by the forward before the revision. T counts both kinds of forwards.

The paper's text could be had only in others' words; the numbers (m 32, E 8, k 1, the window 0.25 to 0.75, the order
within a step) are those in which public descriptions and a public re-implementation agree, and give the paper's 8
revisions in 128 steps. Not settled by them: whether a revised token is drawn at once, as here, or stays masked. As in
T2M, margins are of predictions at visible tokens, which plain mask models are not trained for.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import gather
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, TOKENS, Canvas, draw_at, penalise_eot, spread, top_count
from lib.tolerator.fill import Vanilla, fill_step, transfer_counts

REVISE = 1000  # revision draws count their steps from here, apart from the fill-up's


@dataclass(frozen=True)
class Core(Options):
    """Options of CoRe.

    forwards: T, steps and revisions together. every: E. start, end: the window s, e, as shares of the steps.
    candidates: m. revised: k. temperature, eot_form, eot_lambda: as in vanilla decoding, of both kinds of draws.
    """

    canvas: int = 32
    forwards: int = 32
    every: int = 8
    start: float = 0.25
    end: float = 0.75
    candidates: int = 32
    revised: int = 1
    temperature: float = 0.0
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        self.require("canvas", self.canvas >= 1, "1 or more")
        self.require("forwards", self.forwards >= 1, "1 or more")
        self.require("every", self.every >= 1, "1 or more")
        self.require("start", 0 <= self.start <= 1, "in [0, 1]")
        self.require("end", self.start <= self.end <= 1, "in [start, 1]")
        self.require("candidates", self.candidates >= 1, "1 or more")
        self.require("revised", self.revised >= 0, "0 or more")
        self.require("eot_form", self.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
        self.require("eot_lambda", self.eot_lambda > 0, "above 0")
        self.require("temperature", self.temperature >= 0, "0 or more")
        steps, revisions = self.plan
        self.require("forwards", steps <= self.canvas, f"such that its {steps} steps are at most the canvas")
        self.require("forwards", bool(revisions) or not self.revised,
                     "enough for a revision in the window (more, or a smaller every, or revised=0)")  # fmt: skip

    @property
    def plan(self) -> tuple[int, list[int]]:
        """The steps N, and in which of them (from 1) a revision comes, so that both together are T forwards.

        The fewest steps that reach T; where they overshoot by one, the last revision is left out. None comes in the
        first step, before which nothing is decoded.
        """
        for steps in range(1, self.forwards + 1):
            at = [t for t in range(2, steps + 1) if t % self.every == 0 and self.start <= t / steps < self.end]
            if steps + len(at) >= self.forwards:
                return steps, at[: self.forwards - steps]
        raise AssertionError("T steps reach T")

    @property
    def vanilla(self) -> Vanilla:
        return Vanilla(
            canvas=self.canvas,
            steps=self.plan[0],
            rule="confidence",
            schedule="even",
            temperature=self.temperature,
            eot_form=self.eot_form,
            eot_lambda=self.eot_lambda,
        )


def least_certain(tokens: Tensor, logits: Tensor, count: int, mask_id: int) -> Tensor:
    """S, [B, G]: the `count` decoded tokens with the smallest margin. logits [B * G, V] of all positions."""
    top = torch.softmax(logits, -1).topk(2, -1).values
    margin = (top[:, 0] - top[:, 1]).view(tokens.shape)
    return top_count(-margin, tokens != mask_id, count)


def revise(
    tokens: Tensor, chosen: Tensor, logits: Tensor, options: Core, eot_id: int, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """The k most unstable of the tokens `chosen` [B, G] drawn again: the new tokens and which those are.

    logits [M, V] of the M chosen positions come from the canvas with these masked; uniform [B, G].
    """
    logits = penalise_eot(logits, eot_id, options.eot_form, options.eot_lambda)
    drawn, _ = draw_at(chosen, logits, uniform, options.temperature)
    unstable = -gather(torch.log_softmax(logits, -1), tokens[chosen])
    again = top_count(spread(unstable.double(), chosen), chosen, options.revised)
    return torch.where(again, drawn, tokens), again


@decoder("core", Core)
def decode(
    model, input_ids: Tensor, options: Core, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """CoRe on prompts [B, P], left-padded; T forwards."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    everywhere = torch.ones_like(canvas.tokens, dtype=torch.bool)
    steps, revisions = options.plan
    for step, count in enumerate(transfer_counts(options.canvas, steps)):
        masked, revising = canvas.masked(), step + 1 in revisions
        logits = canvas.logits(canvas.tokens, everywhere if revising else masked)
        if revising:
            chosen = least_certain(canvas.tokens, logits, options.candidates, family.mask_id)
            drawn_in = canvas.trace.per_token and canvas.trace.per_token["step"].clone()
            tested = canvas.logits(canvas.tokens.masked_fill(chosen, family.mask_id), chosen)
            uniform = canvas.uniform(REVISE + step, TOKENS)
            revised, again = revise(canvas.tokens, chosen, tested, options, family.eot_ids[0], uniform)
            if drawn_in is not None:  # what is tested and stays, or is filled, was not drawn in this forward
                canvas.trace.per_token["step"] = torch.where(again, canvas.trace.per_token["step"], drawn_in)
            logits = logits[masked.flatten()]
        uniform = torch.stack([canvas.uniform(step, TOKENS), canvas.uniform(step, TOKENS + 1)])
        canvas.tokens, kept, _ = fill_step(canvas.tokens, logits, everywhere, count, options.vanilla, family, uniform)
        canvas.record(stage="fill", step=step, changed=kept, tokens=canvas.tokens)
        if revising:
            canvas.tokens = torch.where(again, revised, canvas.tokens)
            canvas.record(stage="revise", step=step, tested=chosen, changed=again, tokens=canvas.tokens)
    return canvas.close()
