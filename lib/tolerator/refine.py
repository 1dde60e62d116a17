"""TOLERATOR: fill the canvas, then mask random subsets again and predict them from the rest.

Paper section 3. T forwards in all: round(rho T) fill up, the others refine. Rates, temperatures and the EoT
penalty default to the numbers of the released code. Differs from it in: one budget T with a split rho (there,
two step counts); batches; [MASK] is never drawn; locking is an option, off by default as in the paper.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lib.decoding.distributions import gather
from lib.decoding.family import RULES, Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import EOT_FORMS, POSITIONS, TOKENS, Canvas, draw_at, penalise_eot, spread, top_count
from lib.tolerator.fill import Vanilla, fill

RATES = ("cosine", "exponential", "constant")
REFINE = 1000  # refinement draws count their steps from here, apart from the fill-up's


@dataclass(frozen=True)
class Tolerator(Options):
    """Options of TOLERATOR.

    canvas: response length G.
    forwards: T, fill-up and refinement together, 2 or more. rho: share of the fill-up, in (0, 1).
    gamma_max, gamma_min: refinement rate at the first and last iteration; `rate` is the way between them
        (`constant` stays at gamma_max).
    temperature, refine_temperature: of the fill-up draws and of the refinement draws.
    eot_form, eot_lambda, refine_eot_lambda: the penalty on the end of text as in vanilla decoding, and its lambda in
        the fill-up and in the refinement; 1 is off.
    update_rate: share of the masked positions that take their new token; the rest, those whose old token the
        model finds likeliest, get it back. 1 replaces all.
    lock_after: lock a position whose last R draws agree, a token put back being no draw; 0 is off, as in the
        paper (the code's default is 10).
    block, rule, top_p, heads: of the fill-up, as in vanilla decoding.
    prompt_cache: the prompt's keys of the first forward in all, an approximation (Fast-dLLM).

    Not published, for controls:
    subset: which positions are masked. `random`: fresh in every iteration, as published; `folds`: the next ones of
        an order that is drawn once a response, so that all take turns; `confidence`: those whose token was the least
        probable when it was drawn (with rates from 0.3 to 0.1 this masks the few that were doubtful). See `SUBSETS`.
    greedy_last: the last iteration takes the likeliest tokens.
    """

    canvas: int = 32
    forwards: int = 32
    rho: float = 0.5
    gamma_max: float = 0.8
    gamma_min: float = 0.4
    rate: str = "cosine"
    temperature: float = 0.5
    refine_temperature: float = 0.3
    eot_form: str = "logit_div"
    eot_lambda: float = 1.2
    refine_eot_lambda: float = 1.0
    update_rate: float = 1.0
    lock_after: int = 0
    block: int = 0
    rule: str = ""
    top_p: float = 1.0
    subset: str = "random"
    greedy_last: bool = False
    prompt_cache: bool = False
    heads: bool = False

    def check(self) -> None:
        self.require("forwards", self.forwards >= 2, "2 or more (one to fill up, one to refine)")
        self.require("rho", 0 < self.rho < 1, "in (0, 1)")
        self.require("gamma_max", 0 < self.gamma_max <= 1, "in (0, 1]")
        self.require("gamma_min", 0 < self.gamma_min <= self.gamma_max, "in (0, gamma_max]")
        self.require("rate", self.rate in RATES, f"one of {', '.join(RATES)}")
        self.require("refine_temperature", self.refine_temperature >= 0, "0 or more")
        self.require("eot_form", self.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
        self.require("refine_eot_lambda", self.refine_eot_lambda > 0, "above 0")
        self.require("update_rate", 0 < self.update_rate <= 1, "in (0, 1]")
        self.require("lock_after", self.lock_after >= 0, "0 (off) or more")
        self.require("rule", self.rule in ("", *RULES), f"empty or one of {', '.join(RULES)}")
        self.require("subset", self.subset in SUBSETS, f"one of {', '.join(SUBSETS)}")
        for name in ("canvas", "forwards"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        self.require(
            "forwards", self.fill_steps <= self.canvas, f"such that round(rho T) is at most the canvas, {self.canvas}"
        )
        self.require("block", self.block >= 0 and (not self.block or self.canvas % self.block == 0),
                     "0 or a divisor of the canvas")  # fmt: skip
        self.require("forwards", not self.block or self.fill_steps >= self.canvas // self.block,
                     "such that round(rho T) is at least one a block")  # fmt: skip
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self.require("eot_lambda", self.eot_lambda > 0, "above 0")

    @property
    def fill_steps(self) -> int:
        """round(rho T), half up, at least 1 and at most T - 1."""
        return min(max(math.floor(self.rho * self.forwards + 0.5), 1), self.forwards - 1)

    @property
    def refine_steps(self) -> int:
        return self.forwards - self.fill_steps

    @property
    def fill_up(self) -> Vanilla:
        return Vanilla(
            canvas=self.canvas,
            steps=self.fill_steps,
            block=self.block,
            rule=self.rule,
            temperature=self.temperature,
            top_p=self.top_p,
            eot_form=self.eot_form,
            eot_lambda=self.eot_lambda,
            heads=self.heads,
        )


def refinement_rate(k: int, steps: int, options: Tolerator) -> float:
    """gamma_k for k = 0 ... steps - 1: from gamma_max down to gamma_min; a single step uses gamma_min."""
    high, low = options.gamma_max, options.gamma_min
    if options.rate == "constant":
        return high
    if steps <= 1:
        return low
    if options.rate == "cosine":
        return low + (high - low) * (1 + math.cos(math.pi * k / (steps - 1))) / 2
    return high * (low / high) ** (k / (steps - 1))


def masked_count(unlocked: Tensor, gamma: float) -> Tensor:
    """How many of A unlocked positions [B] are masked: A - floor(A (1 - gamma)), rounded up as in the code.

    The small term keeps 40 * (1 - 0.8) at 8 where floating point says 7.999... (there 33 of 40 are masked, not 32).
    """
    return unlocked - torch.floor(unlocked.double() * (1 - gamma) + 1e-9).long()


@dataclass
class Refinement:
    """State of the second stage, all [B, G].

    Of each position its token, last draw (-1: none) and its streak, whether it is locked, how often it was masked,
    and the untempered probability of its token when that was drawn.
    """

    tokens: Tensor
    last: Tensor
    streak: Tensor
    locked: Tensor
    visits: Tensor
    confidence: Tensor

    @classmethod
    def start(cls, tokens: Tensor, confidence: Tensor) -> "Refinement":
        zeros = torch.zeros_like(tokens)
        return cls(tokens, zeros - 1, zeros, zeros.bool(), zeros, confidence)

    def select(self, rows: Tensor) -> "Refinement":
        return Refinement(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: Tensor, other: "Refinement") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name).index_copy(0, rows, getattr(other, field.name)))


# Which positions are masked: those of the highest score [B, G], by (state, uniform [B, G]). `uniform` is fresh in
# every iteration, but for `folds` the same in all of them.
SUBSETS: dict[str, Callable[[Refinement, Tensor], Tensor]] = {
    "random": lambda state, uniform: uniform,
    "folds": lambda state, uniform: uniform - state.visits,
    "confidence": lambda state, uniform: -state.confidence,
}


def subset_of(state: Refinement, gamma: float, uniform: Tensor, subset: str = "random") -> Tensor:
    """S^(k), [B, G]: as many unlocked positions as gamma says, which ones by the rule of that name in `SUBSETS`."""
    unlocked = ~state.locked
    return top_count(SUBSETS[subset](state, uniform), unlocked, masked_count(unlocked.sum(-1), gamma))


def refine_step(
    state: Refinement, chosen: Tensor, logits: Tensor, options: Tolerator, eot_id: int, uniform: Tensor
) -> Refinement:
    """One refinement: y_i ~ p(. | canvas with S masked) for i in S, then streaks and locks.

    logits [M, V] of the M chosen positions come from the canvas with these masked; uniform [B, G].
    """
    logits = penalise_eot(logits, eot_id, options.eot_form, options.refine_eot_lambda)
    drawn, sure = draw_at(chosen, logits, uniform, options.refine_temperature)
    replaced = chosen
    if options.update_rate < 1:
        old = spread(gather(torch.softmax(logits, -1), state.tokens[chosen]), chosen)
        count = torch.floor(chosen.sum(-1).double() * options.update_rate + 1e-9).long().clamp(min=1)
        replaced = top_count(-old.double(), chosen, count)
    tokens = torch.where(replaced, drawn, state.tokens)
    streak = torch.where(replaced, torch.where(tokens == state.last, state.streak + 1, 1), state.streak)
    last = torch.where(replaced, tokens, state.last)
    locked = state.locked | (streak >= options.lock_after) if options.lock_after else state.locked
    confidence = torch.where(replaced, sure, state.confidence)
    return Refinement(tokens, last, streak, locked, state.visits + chosen, confidence)


@decoder("tolerator", Tolerator)
def decode(
    model, input_ids: Tensor, options: Tolerator, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """TOLERATOR on prompts [B, P], left-padded. A row whose positions are all locked leaves the batch.

    The trace measures, of every iteration [B, K], how many positions were `masked` and how many tokens `changed`.
    """
    given = (options.canvas, generator, record, options.prompt_cache, options.heads)
    canvas = Canvas(model, family, input_ids, attention_mask, *given)
    fill(canvas, options.fill_up)
    state = Refinement.start(canvas.tokens, canvas.confidence)
    counts = torch.zeros(2, len(input_ids), options.refine_steps, dtype=torch.long, device=input_ids.device)
    for k in range(options.refine_steps):
        rows = (~state.locked).any(-1).nonzero().squeeze(-1)
        if not len(rows):
            break
        part = state.select(rows)
        gamma = refinement_rate(k, options.refine_steps, options)
        order = REFINE + (0 if options.subset == "folds" else k)
        chosen = subset_of(part, gamma, canvas.uniform(order, POSITIONS, rows), options.subset)
        logits = canvas.logits(part.tokens.masked_fill(chosen, family.mask_id), chosen, rows)
        uniform = canvas.uniform(REFINE + k, TOKENS, rows)
        greedy = options.greedy_last and k + 1 == options.refine_steps
        how = replace(options, refine_temperature=0.0) if greedy else options
        after = refine_step(part, chosen, logits, how, family.eot_ids[0], uniform)
        state.put(rows, after)
        counts[:, rows, k] = torch.stack([chosen.sum(-1), (after.tokens != part.tokens).sum(-1)])
        canvas.record(stage="refine", step=k, rows=rows, changed=chosen, tokens=after.tokens, locked=after.locked)
    canvas.tokens = state.tokens
    canvas.trace.measures |= dict(zip(("masked", "changed"), counts.cpu(), strict=True))
    return canvas.close()
