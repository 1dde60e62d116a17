"""Locally typical sampling: tokens that are about as surprising as the distribution's entropy."""

from dataclasses import dataclass

from torch import Tensor

from lib.autodeco.peers.truncation import Truncation, entropy_terms, truncated
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded


@dataclass(frozen=True)
class TypicalP(Truncation):
    """Locally typical sampling (Meister et al. 2022, arXiv 2202.00666).

    Keep the fewest v, in rising order of |-log p(v) - H(p)|, whose mass reaches `mass`, and those that are as typical
    as the last of them. The likeliest token may go.
    """

    mass: float = 0.9

    def check(self) -> None:
        super().check()
        self.require("mass", 0 < self.mass <= 1, "in (0, 1]")


def typical_kept(probs: Tensor, mass: float) -> Tensor:
    """Which of probs [..., V] stay, [..., V]; a token of probability 0 never does."""
    entropy = entropy_terms(probs).sum(-1, keepdim=True)
    distance = (-probs.log() - entropy).abs()
    order = distance.sort(dim=-1, stable=True)
    before = probs.double().gather(-1, order.indices).cumsum(-1)[..., :-1]
    last = (before < mass).sum(-1, keepdim=True)  # the place of the token that reaches the mass
    return (distance <= order.values.gather(-1, last)) & (probs > 0)


@decoder("typical_p", TypicalP)
def decode(model, input_ids: Tensor, options: TypicalP, **given) -> Decoded:
    """Decode prompts [B, P] of any causal model by typical sampling; `given`: the keywords of `loop`."""
    return truncated(model, input_ids, options, lambda probs: typical_kept(probs, options.mass), **given)
