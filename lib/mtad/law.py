"""A next-token distribution that keeps only the tokens that temperature, top-k and top-p leave."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import UserError
from lib.sampling import COLDEST, categorical, warp


@dataclass(frozen=True)
class Law:
    """probs [..., K] of tokens [..., K]; tokens is None where K is the whole vocabulary, in its order.

    With the published top_k of 10 all arithmetic of a step is on ten numbers, not on a vocabulary.
    """

    probs: Tensor
    tokens: Tensor | None = None

    def __getitem__(self, index) -> "Law":
        return Law(self.probs[index], None if self.tokens is None else self.tokens[index])

    def at(self, tokens: Tensor) -> Tensor:
        """The probability of `tokens` [..., M] -> [..., M]; 0 for one that is not among the K."""
        if self.tokens is None:
            return self.probs.gather(-1, tokens)
        same = self.tokens[..., None, :] == tokens[..., None]
        return (self.probs[..., None, :] * same).sum(-1)

    def everywhere(self) -> Tensor:
        """The K tokens of each law."""
        if self.tokens is not None:
            return self.tokens
        return torch.arange(self.probs.shape[-1], device=self.probs.device).expand(self.probs.shape)

    def draw(self, uniform: Tensor) -> Tensor:
        """One token of each law: uniform [...] -> [...]."""
        found = categorical(self.probs, uniform)
        return found if self.tokens is None else self.tokens.gather(-1, found[..., None]).squeeze(-1)

    def minus(self, other: "Law", scale: Tensor | float = 1.0) -> "Law":
        """scale * self - other where that is positive, not normalised: what is left after a rejection."""
        return Law((scale * self.probs - other.at(self.everywhere())).clamp(min=0), self.tokens)

    def or_else(self, other: "Law") -> "Law":
        """self, and `other` of the same tokens where self has no mass."""
        empty = self.probs.sum(-1, keepdim=True) <= 0
        return Law(torch.where(empty, other.probs, self.probs), self.tokens)

    def wide(self, times: int) -> "Law":
        """Laws [b, n, K], each `times` times: [b, n * times, K]."""
        tokens = None if self.tokens is None else self.tokens.repeat_interleave(times, 1)
        return Law(self.probs.repeat_interleave(times, 1), tokens)

    def padded(self, count: int) -> "Law":
        """Laws [b, n, K] up to `count` of them, by the last one again."""
        return (
            self if self.probs.shape[1] == count else Law.join([self, self[:, -1:].wide(count - self.probs.shape[1])])
        )

    def dense(self, size: int) -> Tensor:
        """[..., size] probabilities."""
        if self.tokens is None:
            return self.probs
        zeros = torch.zeros(*self.probs.shape[:-1], size, dtype=self.probs.dtype, device=self.probs.device)
        return zeros.scatter_add(-1, self.tokens, self.probs)

    @classmethod
    def join(cls, laws: list["Law"]) -> "Law":
        """Laws [b, n, K] behind one another, [b, sum of n, K]."""
        tokens = None if laws[0].tokens is None else torch.cat([law.tokens for law in laws], 1)
        return cls(torch.cat([law.probs for law in laws], 1), tokens)


def law_of(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Law:
    """The law of logits [..., V] after temperature, then top-k, then top-p, as `lib.sampling.warp` has it."""
    if not temperature:
        first = logits.argmax(-1, keepdim=True)
        return Law(torch.ones_like(first, dtype=torch.float32), first)
    if not 0 < top_k < logits.shape[-1]:
        return Law(warp(logits, temperature, top_p, top_k))
    best = logits.topk(top_k, -1)
    # Among ten logits as among all: softmax after top-k is the renormalised softmax.
    probs = torch.softmax(best.values.float() / max(temperature, COLDEST), -1)
    if torch.isnan(probs[..., 0]).any():
        raise UserError("the model gave NaN logits: load it in float32, or check its weights")
    if top_p < 1:  # topk is sorted: the token that crosses top_p is the last one kept
        probs = probs * (probs.double().cumsum(-1) - probs < top_p)
        probs = probs / probs.sum(-1, keepdim=True)
    return Law(probs, best.indices)
