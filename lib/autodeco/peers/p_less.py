"""p-less: tokens at least as likely as two draws are to agree; nothing to tune."""

from dataclasses import dataclass

from torch import Tensor

from lib.autodeco.peers.truncation import Truncation, truncated
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded

ROUNDING = 1e-6  # relative, of probabilities in float32


@dataclass(frozen=True)
class PLess(Truncation):
    """p-less sampling (Tan et al. 2025, arXiv 2509.23234): keep v where p(v) >= L, with L = sum of p(u)^2 over u.

    L is the chance that a draw of the model is right if the truth is another draw of it, and never above max p.
    norm: p-less-norm, L = (V sum p^2 - 1) / (V - 1), which is lower and 0 for the uniform distribution.
    """

    norm: bool = False


def p_less_kept(probs: Tensor, norm: bool = False) -> Tensor:
    """Which of probs [..., V] stay, [..., V].

    Differs from the released code where p equals L but for rounding: it stays, so that all of a uniform distribution
    does; there rounding can leave no token.
    """
    exact = probs.double()
    threshold, size = exact.square().sum(-1, keepdim=True), probs.shape[-1]
    if norm:
        threshold = (size * threshold - 1) / max(size - 1, 1)
    return exact >= threshold * (1 - ROUNDING)


@decoder("p_less", PLess)
def decode(model, input_ids: Tensor, options: PLess, **given) -> Decoded:
    """Decode prompts [B, P] of any causal model by p-less; `given`: the keywords of `loop`."""
    return truncated(model, input_ids, options, lambda probs: p_less_kept(probs, options.norm), **given)
