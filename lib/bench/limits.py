"""What the machine allows: reading the weights, multiplying by them, and the memory that must be held."""

import subprocess
import sys
from pathlib import Path

import torch

from lib.analysis.interleaved import interleaved
from lib.bench.rows import Row, share
from lib.bench.work import NEW, PROMPT, compiling, model, ours, prompts
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.llama import linear


def bandwidth(rounds: int) -> list[Row]:
    """What share of the machine's limits a token of SmolLM2 at batch 1 reaches: reading its weights once, and
    multiplying each of them by a vector, in the same rounds."""
    network, ids = model("smollm2-135m").network, prompts("smollm2-135m", 1)
    weights = [p for p in network.parameters() if p.ndim == 2]
    vectors = [torch.randn(1, p.shape[1]) for p in weights]
    size = sum(p.numel() * p.element_size() for p in weights)

    @torch.inference_mode()
    def read() -> None:
        for p in weights:
            p.sum()

    @torch.inference_mode()
    def multiply() -> None:
        for p, x in zip(weights, vectors, strict=True):
            linear(x, p)

    first = Autoregressive(1)  # the prompt's time is no token's
    variants = {
        "decoded": (compiling()(lambda: ours("smollm2-135m", ids)), NEW),
        "prompt": (compiling()(lambda: ours("smollm2-135m", ids, first)), 1),
        "read": (read, 1),
        "multiplied": (multiply, 1),
    }
    rows = interleaved({name: (lambda run=run, n=n: (run(), n)[1]) for name, (run, n) in variants.items()}, rounds)
    wide = rows.pivot(index="round", columns="variant", values="seconds")
    token = (wide.decoded - wide.prompt) / (NEW - 1)
    gigabytes = size / 1e9
    return [
        share(
            case,
            list(100 * wide[limit] / token),
            gigabytes / token.median(),
            gigabytes / wide[limit].median(),
            "GB/s",
            against,
        )  # fmt: skip
        for case, limit, against in (
            ("bandwidth-share", "read", "reading the weights"),
            ("product-share", "multiplied", "matrix-vector products of the weights"),
        )
    ]


def memory() -> Row:
    """Peak memory of a decoding above weights, cache and one buffer of logits, in a process of its own."""
    code = "from lib.bench.limits import peak; peak()"
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    needed, taken = map(float, out.stdout.split())
    return share("memory-over", [100 * (taken / needed - 1)], taken / 1e6, needed / 1e6, "MB", "what it must hold")


def peak(batch: int = 16) -> None:
    """Print the bytes that a decoding must hold, weights among them, and these with what the process grew by."""
    network, ids = model("smollm2-135m").network, prompts("smollm2-135m", batch)
    ours("smollm2-135m", ids[:1], Autoregressive(2))  # libraries make their buffers
    config = network.config
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * batch * (PROMPT + NEW) * 4
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    Path("/proc/self/clear_refs").write_text("5")  # the peak of loading is forgotten
    before = _status("VmRSS")
    ours("smollm2-135m", ids)
    print(weights + cache + batch * config.vocab_size * 4, weights + _status("VmHWM") - before)


def _status(name: str) -> int:
    """A number of bytes that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))
