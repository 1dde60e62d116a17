"""Drawing tokens: order-free randomness, temperature, nucleus, and an exact categorical draw."""

import hashlib

import torch
from torch import Tensor

from lib.errors import UserError

COLDEST = 1e-4  # temperatures above 0 are raised to this: a logit of 1e30 divided by it is still finite
WIDTH = 256  # how many of the likeliest tokens the search for a nucleus begins with


def _signed(x: int) -> int:
    """A 64-bit pattern as the signed integer that a tensor can hold."""
    return (x + 2**63) % 2**64 - 2**63


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed 64-bit integers."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014): a bijection of 64-bit integers that avalanches."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


class RowGenerator:
    """Random numbers that depend on (row key, step, stream, position) and on nothing else.

    A row's key is made of seed, item id and sample index, so batch, order, shard, resume and device change
    no draw. `stream` keeps the draws of one step apart: which token, which position.
    """

    def __init__(self, keys: Tensor):
        self.keys = keys.long()

    @classmethod
    def of(cls, seed: int, ids: list[str], samples: list[int] | None = None) -> "RowGenerator":
        samples = samples or [0] * len(ids)
        digests = [
            hashlib.sha256(f"{seed}/{id_}/{sample}".encode()).digest()[:8]
            for id_, sample in zip(ids, samples, strict=True)
        ]
        return cls(torch.tensor([int.from_bytes(d, "big", signed=True) for d in digests]))

    @classmethod
    def coerce(cls, generator: "RowGenerator | torch.Generator | int", rows: int) -> "RowGenerator":
        """A seed or a torch generator becomes one key a row, so that callers need not know this class."""
        if isinstance(generator, cls):
            if len(generator.keys) != rows:
                raise ValueError(f"the generator has {len(generator.keys)} rows, the batch has {rows}")
            return generator
        if isinstance(generator, torch.Generator):
            low, high = -(2**63), 2**63 - 1
            keys = torch.randint(low, high, (rows,), generator=generator, device=generator.device)
            return cls(keys.cpu())
        return cls.of(int(generator), [str(row) for row in range(rows)])

    def select(self, rows: Tensor) -> "RowGenerator":
        return RowGenerator(self.keys[rows.cpu()])

    def uniform(self, step: int, stream: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """[B, width] float64 draws in the open interval (0, 1)."""
        keys = self.keys.to(device)
        state = _mix(keys + _signed(_GOLDEN * (step * 16 + stream + 1)))
        counter = torch.arange(1, width + 1, device=device) * _GOLDEN
        bits = _shift(_mix(state[:, None] + counter), 12)
        return (bits.double() + 0.5) * 2.0**-52


def warp(logits: Tensor, temperature: float | Tensor = 1.0, top_p: float | Tensor = 1.0, top_k: int = 0) -> Tensor:
    """Probabilities [..., V] after temperature, then top-k, then top-p (hard nucleus, crossing token kept).

    `temperature` and `top_p` may be one number or one a row, [...]. Temperature 0 puts all mass on the first
    largest logit. Computed in float32. Raises UserError for NaN logits.
    """
    logits = logits.float()
    temperature = _a_row(temperature, logits)
    greedy = temperature == 0
    probs = torch.softmax(logits / temperature.masked_fill(greedy, 1).clamp(min=COLDEST), -1)
    if torch.isnan(probs[..., 0]).any():  # the softmax of a row with one NaN is all NaN
        raise UserError("the model gave NaN logits: load it in float32, or check its weights")
    if top_k:
        kept = probs.topk(min(top_k, probs.shape[-1]), -1)
        probs = torch.zeros_like(probs).scatter(-1, kept.indices, kept.values)
        probs = probs / probs.sum(-1, keepdim=True)
    top_p = _a_row(top_p, logits)
    if (top_p < 1).any():
        probs = nucleus(probs, top_p)
    if greedy.any():
        first = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        probs = torch.where(greedy, first, probs)
    return probs


def _a_row(value: float | Tensor, logits: Tensor) -> Tensor:
    """A number, or one a row, as float32 [..., 1]."""
    value = torch.as_tensor(value, dtype=torch.float32, device=logits.device)
    return value[..., None] if value.ndim else value.expand(*logits.shape[:-1], 1)


def nucleus(probs: Tensor, top_p: Tensor) -> Tensor:
    """The smallest set of likeliest tokens whose mass reaches top_p [..., 1], renormalised: probs [..., V].

    As by a stable sort: of tokens with equal probability the first are kept. The vocabulary is not sorted: the
    WIDTH largest mostly hold the nucleus, and where they do not, more are looked at. Rows with top_p of 1 or
    more come back to the bit.
    """
    size = probs.shape[-1]
    flat, target = probs.reshape(-1, size), top_p.reshape(-1, 1).double()
    target = target.masked_fill(target >= 1, torch.inf)
    width = min(WIDTH, size)
    while True:
        values = flat.topk(width, -1).values
        reached = values.double().cumsum(-1)
        if width == size or bool(((reached[:, -1:] >= target) | (target == torch.inf)).all()):
            break
        width = min(8 * width, size)
    count = 1 + (reached[:, :-1] < target).sum(-1, keepdim=True)
    crossing = values.gather(-1, count - 1)
    ties = flat == crossing
    room = count - (flat > crossing).sum(-1, keepdim=True)
    kept = flat.masked_fill((flat < crossing) | (ties & (ties.cumsum(-1) > room)), 0)
    kept = torch.where(target == torch.inf, flat, kept / kept.sum(-1, keepdim=True))
    return kept.reshape(probs.shape)


def categorical(probs: Tensor, uniform: Tensor) -> Tensor:
    """Exact draw by inverting the distribution function: probs [..., V], uniform [...] -> token ids [...].

    One uniform a draw, so that randomness can be counted. The sum is taken in float64 and the draw is scaled
    by its total: a token of probability zero is never drawn.
    """
    cumulative = probs.double().cumsum(-1)
    threshold = uniform.double()[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=probs.shape[-1] - 1)


def gather(probs: Tensor, tokens: Tensor) -> Tensor:
    """probs [..., V] at tokens [...] -> [...]."""
    return probs.gather(-1, tokens[..., None]).squeeze(-1)
