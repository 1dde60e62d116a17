"""Min-p: tokens at least a share of the likeliest one's probability."""

from dataclasses import dataclass

from torch import Tensor

from lib.autodeco.peers.truncation import Truncation, truncated
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded


@dataclass(frozen=True)
class MinP(Truncation):
    """Min-p sampling (Nguyen et al. 2024, arXiv 2407.01082): keep v where p(v) >= min_p * max p.

    min_p: the paper recommends 0.05 to 0.1, the latter at high temperatures.
    """

    min_p: float = 0.1

    def check(self) -> None:
        super().check()
        self.require("min_p", 0 <= self.min_p <= 1, "in [0, 1]")


def min_p_kept(probs: Tensor, min_p: float) -> Tensor:
    """Which of probs [..., V] stay, [..., V]; the likeliest and what is as likely always do."""
    return probs >= min_p * probs.amax(-1, keepdim=True)


@decoder("min_p", MinP)
def decode(model, input_ids: Tensor, options: MinP, **given) -> Decoded:
    """Decode prompts [B, P] of any causal model by min-p; `given`: the keywords of `loop`."""
    return truncated(model, input_ids, options, lambda probs: min_p_kept(probs, options.min_p), **given)
