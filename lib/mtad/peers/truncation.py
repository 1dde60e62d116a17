"""The control of typical acceptance: the truncated sampling that it is taken for, done without loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft
from lib.mtad.loop import Drafting, Verdict
from lib.mtad.peers.lossy import typical_bar
from lib.mtad.peers.speculative import chain, verify_block, verify_tokens


@dataclass(frozen=True)
class Truncated(Drafting):
    """Sampling from the target's typical set, p(x) > min(epsilon, delta exp(-H(p))), by speculative decoding.

    A rule that accepts what lies in a set has the draft's weights within it, not the target's: it must be compared
    with this, not with sampling from the whole target (arXiv 2607.26627). epsilon, delta: as of `Typical`. `block`
    verifies the draft as one, as in `Speculative`.
    """

    epsilon: float = 0.09
    delta: float = 0.3
    block: bool = False

    def check(self) -> None:
        super().check()
        self.require("epsilon", 0 < self.epsilon < 1, "in (0, 1)")  # as of `Typical`
        self.require("delta", self.delta > 0, "above 0")


@decoder("truncated", Truncated, drafts=True)
def decode(model, input_ids: Tensor, options: Truncated, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""
    rule = verify_block if options.block else verify_tokens

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        return rule(draft, typical_set(distribution, options.epsilon, options.delta), uniform)

    return chain(model, input_ids, options, verify, **given)


def typical_set(distribution: Distribution, epsilon: float, delta: float) -> Distribution:
    """What passes the bar of typical acceptance, renormalised; the likeliest token where nothing does."""
    probs = distribution.probs
    inside = probs > typical_bar(distribution, epsilon, delta)[..., None]
    first = probs.argmax(-1, keepdim=True)
    inside = inside.scatter(-1, first, True)
    kept = torch.where(inside, probs, 0.0)
    return Distribution(kept / kept.sum(-1, keepdim=True), distribution.tokens)
