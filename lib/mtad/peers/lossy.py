"""Drafting that changes the distribution, the field's simple rules: what MTAD's joint rule must beat.

All stop at the first token that fails, and the next one is the target's own.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft
from lib.mtad.loop import Drafting, Verdict, require_heads
from lib.mtad.peers.speculative import chain, chain_path, first_failure, ratios


@dataclass(frozen=True)
class Threshold(Drafting):
    """The control that MTAD's reviewers asked for: token by token, accept while min(1, p/q) > tau."""

    tau: float = 0.5

    def check(self) -> None:
        super().check()
        self.require("tau", 0 <= self.tau <= 1, "in [0, 1]")


@dataclass(frozen=True)
class Typical(Drafting):
    """Typical acceptance (Medusa, Cai et al. 2024): accept while p(x) > min(epsilon, delta exp(-H(p))).

    p is the target after temperature, top-k and top-p, as everywhere here; Medusa has no top-k and no top-p.
    argmax: the token behind the accepted ones is the target's likeliest, as Medusa's default (`fast`) has it; else it
    is drawn.
    """

    epsilon: float = 0.09
    delta: float = 0.3
    argmax: bool = True

    def check(self) -> None:
        super().check()
        self.require("epsilon", 0 < self.epsilon < 1, "in (0, 1)")  # at 1 what is certain would not pass
        self.require("delta", self.delta > 0, "above 0")


@dataclass(frozen=True)
class Bild(Drafting):
    """Big Little Decoder (Kim et al. 2023): draft until the draft is unsure, roll back where the target disagrees.

    The draft stops before the first token whose distribution has no probability above `fallback`, at the latest
    after gamma tokens; the target takes back from the first token with -log p(x) > `rollback` on. fallback, rollback
    and gamma as MTAD's authors run it on CNN/DailyMail.
    At temperature 0, as BiLD itself is run, tokens are the likeliest, and both tests see the softmax as it is,
    without top-k, top-p and heads. What is the target's likeliest token too is not taken back; the released code then
    looks at no later token of the draft either.
    """

    gamma: int = 10
    fallback: float = 0.3
    rollback: float = 2.0

    def check(self) -> None:
        super().check()
        self.require("fallback", 0 <= self.fallback <= 1, "in [0, 1]")
        self.require("rollback", self.rollback > 0, "above 0")


@decoder("threshold", Threshold, drafts=True)
def decode_threshold(model, input_ids: Tensor, options: Threshold, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        return upto(ratios(draft, distribution) > options.tau, draft, distribution)

    return chain(model, input_ids, options, verify, lossy=True, **given)


@decoder("typical", Typical, drafts=True)
def decode_typical(model, input_ids: Tensor, options: Typical, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        p = distribution[:, :-1]
        passes = p.at(draft.tokens[..., None]).squeeze(-1) > typical_bar(p, options.epsilon, options.delta)
        return upto(passes, draft, distribution, options.argmax)

    return chain(model, input_ids, options, verify, lossy=True, **given)


def typical_bar(distribution: Distribution, epsilon: float, delta: float) -> Tensor:
    """min(epsilon, delta exp(-H)) of each distribution [...], H in nats."""
    entropy = -torch.special.xlogy(distribution.probs, distribution.probs).sum(-1)
    return (delta * torch.exp(-entropy)).clamp(max=epsilon)


@decoder("bild", Bild, drafts=True)
def decode_bild(model, input_ids: Tensor, options: Bild, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""
    require_heads(model, options)
    greedy = not options.temperature
    if greedy:
        options = replace(options, temperature=1.0, top_k=0, top_p=1.0, heads=False)

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        p = distribution[:, :-1]
        passes = -p.at(draft.tokens[..., None]).squeeze(-1).log() <= options.rollback
        if greedy:
            passes |= draft.tokens == p.likeliest().tokens[..., 0]
        return upto(passes, draft, distribution, greedy)

    return chain(model, input_ids, options, verify, confident=options.fallback, greedy=greedy, lossy=True, **given)


def upto(passes: Tensor, draft: Draft, distribution: Distribution, argmax: bool = False) -> Verdict:
    """Take what passes before the first failure; the next token from the target's distribution, or its likeliest."""
    accepted = first_failure(passes & draft.real)
    rows = torch.arange(len(accepted), device=accepted.device)
    last = distribution[rows, accepted]
    return Verdict(chain_path(accepted, draft.tokens.shape[1]), last.likeliest() if argmax else last)
