"""Drafting that changes the distribution, the field's simple rules: what MTAD's joint rule must beat.

All stop at the first token that fails, and draw the next one from the target itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft
from lib.mtad.loop import Drafting, Verdict
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
    """

    epsilon: float = 0.09
    delta: float = 0.3

    def check(self) -> None:
        super().check()
        self.require("epsilon", 0 < self.epsilon <= 1, "in (0, 1]")
        self.require("delta", self.delta > 0, "above 0")


@dataclass(frozen=True)
class Bild(Drafting):
    """Big Little Decoder (Kim et al. 2023): draft until the draft is unsure, roll back where the target disagrees.

    The draft stops before the first token whose distribution has no probability above `fallback`, at the latest
    after gamma tokens; the target takes back from the first token with -log p(x) > `rollback` on. fallback, rollback
    and gamma as MTAD's authors run it on CNN/DailyMail.
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

    return chain(model, input_ids, options, verify, **given)


@decoder("typical", Typical, drafts=True)
def decode_typical(model, input_ids: Tensor, options: Typical, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        p = distribution[:, :-1]
        entropy = -torch.special.xlogy(p.probs, p.probs).sum(-1)
        bar = (options.delta * torch.exp(-entropy)).clamp(max=options.epsilon)
        return upto(p.at(draft.tokens[..., None]).squeeze(-1) > bar, draft, distribution)

    return chain(model, input_ids, options, verify, **given)


@decoder("bild", Bild, drafts=True)
def decode_bild(model, input_ids: Tensor, options: Bild, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        surprise = -distribution[:, :-1].at(draft.tokens[..., None]).squeeze(-1).log()
        return upto(surprise <= options.rollback, draft, distribution)

    return chain(model, input_ids, options, verify, confident=options.fallback, **given)


def upto(passes: Tensor, draft: Draft, distribution: Distribution) -> Verdict:
    """Take what passes before the first failure; the next token from the target's distribution."""
    accepted = first_failure(passes & draft.real)
    rows = torch.arange(len(accepted), device=accepted.device)
    return Verdict(chain_path(accepted, draft.tokens.shape[1]), distribution[rows, accepted])
