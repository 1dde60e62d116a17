"""Where the time of drafting goes: single forwards of either model, and the expected speed-up that follows."""

import time
from collections.abc import Callable

import torch
from transformers import DynamicCache

PREFIX = 128  # tokens that are in the cache before the forward that is timed


@torch.inference_mode()
def one_forward(network, tokens: int, prefix: int = PREFIX, repeats: int = 4) -> Callable[[], int]:
    """A call that runs `repeats` forwards of `tokens` tokens behind a cached prefix, and returns how many."""
    device = next(network.parameters()).device
    ids = torch.arange(3, 3 + prefix + tokens, device=device)[None] % network.config.vocab_size
    cache = DynamicCache()
    network(input_ids=ids[:, :prefix], past_key_values=cache, use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def run() -> int:
        for _ in range(repeats):
            network(input_ids=ids[:, prefix:], past_key_values=cache, use_cache=True, logits_to_keep=tokens)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[:, :, :prefix], layer.values[:, :, :prefix]
        return repeats

    return run


def expected_speedup(block_efficiency: float, drafts: float, verify: float, single: float) -> float:
    """Tokens of a block over what it costs, beside one token a forward: E s / (d + v).

    drafts, verify, single: seconds of all drafting of a block, of a forward of the target over gamma + 1 tokens, and
    over one.
    """
    return block_efficiency * single / (drafts + verify)


class Clock:
    """Seconds that a network spends in its forwards while this is open, to their end on the device."""

    def __init__(self, network):
        self.seconds, self.network = 0.0, network
        self.device = next(network.parameters()).device

    def __enter__(self) -> "Clock":
        self.handles = [
            self.network.register_forward_pre_hook(self._start),
            self.network.register_forward_hook(self._stop),
        ]
        return self

    def __exit__(self, *_) -> None:
        for handle in self.handles:
            handle.remove()

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _start(self, *_) -> None:
        self.begun = self._now()

    def _stop(self, *_) -> None:
        self.seconds += self._now() - self.begun
