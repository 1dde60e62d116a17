"""Next-token distributions: temperature, top-k, nucleus, and an exact draw of a token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import UserError

COLDEST = 1e-4  # temperatures above 0 are raised to this: a logit of 1e30 divided by it is still finite
WIDTH = 256  # how many of the likeliest tokens the search for a nucleus begins with


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


@dataclass(frozen=True)
class Distribution:
    """probs [..., K] of tokens [..., K]; tokens is None where K is the whole vocabulary, in its order.

    With the published top_k of 10 all arithmetic of a step is on ten numbers, not on a vocabulary.
    """

    probs: Tensor
    tokens: Tensor | None = None

    def __getitem__(self, index) -> "Distribution":
        return Distribution(self.probs[index], None if self.tokens is None else self.tokens[index])

    def at(self, tokens: Tensor) -> Tensor:
        """The probability of `tokens` [..., M] -> [..., M]; 0 for one that is not among the K."""
        if self.tokens is None:
            return self.probs.gather(-1, tokens)
        same = self.tokens[..., None, :] == tokens[..., None]
        return (self.probs[..., None, :] * same).sum(-1)

    def everywhere(self) -> Tensor:
        """The K tokens of each distribution."""
        if self.tokens is not None:
            return self.tokens
        return torch.arange(self.probs.shape[-1], device=self.probs.device).expand(self.probs.shape)

    def draw(self, uniform: Tensor) -> Tensor:
        """One token of each distribution: uniform [...] -> [...]."""
        found = categorical(self.probs, uniform)
        return found if self.tokens is None else self.tokens.gather(-1, found[..., None]).squeeze(-1)

    def minus(self, other: "Distribution", scale: Tensor | float = 1.0) -> "Distribution":
        """scale * self - other where that is positive, not normalised: what is left after a rejection."""
        return Distribution((scale * self.probs - other.at(self.everywhere())).clamp(min=0), self.tokens)

    def or_else(self, other: "Distribution") -> "Distribution":
        """self, and `other` of the same tokens where self has no mass."""
        empty = self.probs.sum(-1, keepdim=True) <= 0
        return Distribution(torch.where(empty, other.probs, self.probs), self.tokens)

    def wide(self, times: int) -> "Distribution":
        """Laws [b, n, K], each `times` times: [b, n * times, K]."""
        tokens = None if self.tokens is None else self.tokens.repeat_interleave(times, 1)
        return Distribution(self.probs.repeat_interleave(times, 1), tokens)

    def padded(self, count: int) -> "Distribution":
        """Laws [b, n, K] up to `count` of them, by the last one again."""
        return (
            self
            if self.probs.shape[1] == count
            else Distribution.join([self, self[:, -1:].wide(count - self.probs.shape[1])])
        )

    def dense(self, size: int) -> Tensor:
        """[..., size] probabilities."""
        if self.tokens is None:
            return self.probs
        zeros = torch.zeros(*self.probs.shape[:-1], size, dtype=self.probs.dtype, device=self.probs.device)
        return zeros.scatter_add(-1, self.tokens, self.probs)

    @classmethod
    def join(cls, distributions: list["Distribution"]) -> "Distribution":
        """Laws [b, n, K] behind one another, [b, sum of n, K]."""
        tokens = (
            None
            if distributions[0].tokens is None
            else torch.cat([distribution.tokens for distribution in distributions], 1)
        )
        return cls(torch.cat([distribution.probs for distribution in distributions], 1), tokens)


def distribution_of(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Distribution:
    """The distribution of logits [..., V] after temperature, then top-k, then top-p, as `warp` has it."""
    if not temperature:
        first = logits.argmax(-1, keepdim=True)
        return Distribution(torch.ones_like(first, dtype=torch.float32), first)
    if not 0 < top_k < logits.shape[-1]:
        return Distribution(warp(logits, temperature, top_p, top_k))
    best = logits.topk(top_k, -1)
    # Among ten logits as among all: softmax after top-k is the renormalised softmax.
    probs = torch.softmax(best.values.float() / max(temperature, COLDEST), -1)
    if torch.isnan(probs[..., 0]).any():
        raise UserError("the model gave NaN logits: load it in float32, or check its weights")
    if top_p < 1:  # topk is sorted: the token that crosses top_p is the last one kept
        probs = probs * (probs.double().cumsum(-1) - probs < top_p)
        probs = probs / probs.sum(-1, keepdim=True)
    return Distribution(probs, best.indices)
