"""What decoders without training share that cut the tail of every step's distribution by a rule of their own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.autoregressive import Next, loop
from lib.decoding.distributions import categorical, warp
from lib.decoding.options import Options
from lib.decoding.trace import Decoded


@dataclass(frozen=True)
class Truncation(Options):
    """What all of them have. temperature comes before the truncation, as in `transformers` and vLLM; 0 is greedy."""

    max_new_tokens: int = 64
    temperature: float = 1.0
    use_cache: bool = True

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("temperature", self.temperature >= 0, "0 or more")


def truncated(model, input_ids: Tensor, options: Truncation, kept: Callable[[Tensor], Tensor], **given) -> Decoded:
    """Decode prompts [B, P]: probs [b, V] after the temperature, of which those stay that `kept(probs)` [b, V] marks,
    renormalised. Recorded events hold how many stayed, [b]. `given`: the keywords of `loop`."""

    def choose(at: Next) -> tuple[Tensor, dict]:
        probs = warp(at.logits, options.temperature)
        stays = kept(probs)
        return categorical(probs * stays, at.uniform), {"kept": stays.sum(-1)}

    return loop(model, input_ids, choose, options.max_new_tokens, options.use_cache, **given)


def entropy_terms(probs: Tensor) -> Tensor:
    """-p log p in nats of probs [..., V] -> [..., V]; 0 where p is 0."""
    return -torch.xlogy(probs, probs)
