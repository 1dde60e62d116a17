"""Dynamic temperature from the entropy of a step, without training: a peer of AutoDeco."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.autoregressive import Next, loop
from lib.decoding.distributions import categorical, warp
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded


@dataclass(frozen=True)
class EntropyTemperature(Options):
    """Dynamic temperature without training, EDT (Zhang et al. 2024, arXiv 2403.14541): T = T0 * N^(theta / H(p)).

    H is the entropy of the unscaled distribution, in nats: where it is small the token is all but greedy.
    highest: T0. base: N, 0.8 in the paper. theta: how much of it; 0 leaves the temperature at T0.
    """

    max_new_tokens: int = 64
    highest: float = 1.0
    base: float = 0.8
    theta: float = 0.1
    use_cache: bool = True

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("highest", self.highest > 0, "above 0")
        self.require("base", 0 < self.base < 1, "in (0, 1)")
        self.require("theta", self.theta >= 0, "0 or more")


def entropy_temperature(logits: Tensor, options: EntropyTemperature) -> Tensor:
    """Temperature [B] of logits [B, V]."""
    log_probs = torch.log_softmax(logits.float(), -1)
    entropy = -(log_probs.exp() * log_probs.nan_to_num(neginf=0)).sum(-1)
    return options.highest * options.base ** (options.theta / entropy.clamp(min=1e-6))


@decoder("entropy", EntropyTemperature)
def decode(model, input_ids: Tensor, options: EntropyTemperature, **given) -> Decoded:
    """Decode prompts [B, P] of any causal model by the entropy rule; `given`: the keywords of `loop`."""

    def choose(at: Next) -> tuple[Tensor, dict]:
        temperature = entropy_temperature(at.logits, options)
        return categorical(warp(at.logits, temperature), at.uniform), {"temperature": temperature}

    return loop(model, input_ids, choose, options.max_new_tokens, options.use_cache, **given)
