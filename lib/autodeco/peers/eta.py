"""Eta sampling: tokens above a threshold that falls where the distribution is flat."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.autodeco.peers.truncation import Truncation, entropy_terms, truncated
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded


@dataclass(frozen=True)
class Eta(Truncation):
    """Eta sampling (Hewitt et al. 2022, arXiv 2210.15191): keep v where p(v) >= min(epsilon, sqrt(epsilon) e^-H(p)).

    epsilon: the paper finds 3e-4 to 4e-3 best, by the size of the model. The likeliest token always stays.
    """

    epsilon: float = 2e-3

    def check(self) -> None:
        super().check()
        self.require("epsilon", 0 < self.epsilon < 1, "in (0, 1)")


def eta_kept(probs: Tensor, epsilon: float) -> Tensor:
    """Which of probs [..., V] stay, [..., V]."""
    entropy = entropy_terms(probs).sum(-1, keepdim=True)
    threshold = (epsilon**0.5 * torch.exp(-entropy)).clamp(max=epsilon)
    return (probs >= threshold) | (probs == probs.amax(-1, keepdim=True))


@decoder("eta", Eta)
def decode(model, input_ids: Tensor, options: Eta, **given) -> Decoded:
    """Decode prompts [B, P] of any causal model by eta sampling; `given`: the keywords of `loop`."""
    return truncated(model, input_ids, options, lambda probs: eta_kept(probs, options.epsilon), **given)
