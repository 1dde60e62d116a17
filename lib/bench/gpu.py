"""The cases of `make bench DEVICE=cuda`: a network of a billion parameters, the study models, and joules a token."""

from collections.abc import Iterator

import numpy as np
import torch

from lib.analysis.interleaved import interleaved
from lib.bench import peers
from lib.bench.engine import against_generate, nucleus, tolerator
from lib.bench.rows import Row, share
from lib.bench.work import NEW, compiling, device, model, ours, prompts
from lib.decoding.autoregressive import Autoregressive
from lib.running.cost import window

WORDS = {
    "llama-1b-b1": "a billion parameters (random, bf16), greedy, batch 1",
    "llama-1b-b16": "the same, batch 16",
    "study-ar-b64": "study model, greedy, batch 64",
    "tolerator-b16": "TOLERATOR on the diffusion model, batch 16",
    "nucleus-152k": "a draw from a nucleus, 151,936 tokens",
    "bandwidth-share": "a token of a billion parameters beside reading them once",
    "joules-b1": "joules a token, a billion parameters, batch 1, beside `generate`",
    "joules-b16": "the same, batch 16",
}


def bandwidth(rounds: int) -> Row:
    """What share of a token's time reading the weights once would take, at batch 1."""
    network, ids = model("llama-1b").network, prompts("llama-1b", 1)
    weights = [p for p in network.parameters() if p.ndim == 2]
    size = sum(p.numel() * p.element_size() for p in weights) / 1e9

    @torch.inference_mode()
    def read() -> None:
        for p in weights:
            p.amax()

    first = Autoregressive(1)  # the prompt's time is no token's
    variants = {
        "decoded": compiling()(lambda: ours("llama-1b", ids)),
        "prompt": compiling()(lambda: ours("llama-1b", ids, first)),
        "read": read,
    }

    rows = interleaved({name: (lambda run=run: (run(), 1)[1]) for name, run in variants.items()}, rounds, device())
    wide = rows.pivot(index="round", columns="variant", values="seconds")
    token = (wide.decoded - wide.prompt) / (NEW - 1)
    shares = list(100 * wide.read / token)
    return share(
        "bandwidth-share", shares, size / token.median(), size / wide.read.median(), "GB/s", "reading the weights"
    )


def joules(case: str, batch: int, rounds: int, seconds: float = 1.5) -> Row:
    """Joules a token by NVML's counter, ours and `generate`'s in turns; above 1 ours takes less."""
    network, ids = model("llama-1b").network, prompts("llama-1b", batch)

    def counted(run):
        def once() -> int:
            run()
            torch.cuda.synchronize()
            return batch * NEW

        return once

    variants = {
        "ours": counted(compiling()(lambda: ours("llama-1b", ids))),
        "generate": counted(lambda: peers.generate(network, ids, NEW)),
    }
    found = {name: [] for name in variants}
    for number in range(rounds):
        for name in list(variants)[:: 1 if number % 2 else -1]:
            one = window(variants[name], device(), seconds)
            if one.joules is None:
                raise RuntimeError(f"{case}: no counter of joules here ({one.reason})")
            found[name].append(one.joules / one.work)
    own, other = (np.array(found[name]) for name in variants)
    return share(case, list(other / own), np.median(own), np.median(other), "J/token", "generate")


def cases(rounds: int) -> Iterator[Row]:
    """Every case that a GPU has, one after another."""
    yield against_generate("llama-1b-b1", "llama-1b", 1, rounds, least=0.0)  # flat laws part at rounding
    yield joules("joules-b1", 1, 4)
    yield bandwidth(rounds)
    yield joules("joules-b16", 16, 4)
    yield nucleus("nucleus-152k", 151_936, rounds)
    yield tolerator("tolerator-b16", 16, 3, least=0.5)
    yield against_generate("study-ar-b64", "study-ar", 64, rounds, least=0.5)
    yield against_generate("llama-1b-b16", "llama-1b", 16, rounds, least=0.0)
