"""Random numbers that do not depend on the order in which they are drawn."""

import hashlib

import torch
from torch import Tensor


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
        return RowGenerator(self.keys[rows.to(self.keys.device)])

    def uniform(self, step: int, stream: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """[B, width] float64 draws in the open interval (0, 1)."""
        keys = self.keys.to(device)
        state = _mix(keys + _signed(_GOLDEN * (step * 16 + stream + 1)))
        counter = torch.arange(1, width + 1, device=device) * _GOLDEN
        bits = _shift(_mix(state[:, None] + counter), 12)
        return (bits.double() + 0.5) * 2.0**-52

    def streams(self, step: int, widths: dict[int, int], device: torch.device | str = "cpu") -> list[Tensor]:
        """`uniform(step, stream, width)` of streams 0, 1, ... with their widths, in one go."""
        stream = torch.arange(len(widths), device=device)
        state = _mix(self.keys.to(device)[:, None] + (step * 16 + stream + 1) * _GOLDEN)  # [B, streams]
        counter = torch.arange(1, max(widths.values()) + 1, device=device) * _GOLDEN
        bits = _shift(_mix(state[..., None] + counter), 12)
        found = (bits.double() + 0.5) * 2.0**-52
        return [found[:, stream, :width] for stream, width in sorted(widths.items())]

    def uniforms(self, first: int, steps: int, stream: int, device: torch.device | str = "cpu") -> Tensor:
        """[B, steps]: the first draw of each step from `first` on, `uniform(step, stream, 1)` in one go."""
        step = torch.arange(first, first + steps, device=device)
        state = _mix(self.keys.to(device)[:, None] + (step * 16 + stream + 1) * _GOLDEN)
        bits = _shift(_mix(state + _GOLDEN), 12)
        return (bits.double() + 0.5) * 2.0**-52
