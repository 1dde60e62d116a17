"""Next-token distributions: temperature, top-k, nucleus, and an exact draw of a token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.errors import UserError

COLDEST = 1e-4  # temperatures above 0 are raised to this: a logit of 1e30 divided by it is still finite
WIDTH = 64  # how many of the likeliest tokens the search for a nucleus begins with
_NAN: list[Tensor] = []  # flags of an accelerator that were not read yet


def warp(logits: Tensor, temperature: float | Tensor = 1.0, top_p: float | Tensor = 1.0, top_k: int = 0) -> Tensor:
    """Probabilities [..., V] after temperature, then top-k, then top-p (hard nucleus, crossing token kept).

    `temperature` and `top_p` may be one number or one a row, [...]. Temperature 0 puts all mass on the first
    largest logit. Computed in float32. Raises UserError for NaN logits.
    """
    if isinstance(temperature, int | float) and not temperature:
        return _one_hot(logits)
    probs = tempered(logits, temperature)
    if top_k:
        kept = probs.topk(min(top_k, probs.shape[-1]), -1)
        probs = torch.zeros_like(probs).scatter(-1, kept.indices, kept.values)
        probs = probs / probs.sum(-1, keepdim=True)
    if isinstance(top_p, Tensor) or top_p < 1:
        probs = nucleus(probs, _a_row(top_p, logits))
    if isinstance(temperature, Tensor):
        probs = torch.where(_a_row(temperature, logits) == 0, _one_hot(logits), probs)
    return probs


def draw(
    logits: Tensor,
    uniform: Tensor,
    temperature: float | Tensor = 1.0,
    top_p: float | Tensor = 1.0,
    top_k: int = 0,
) -> Tensor:
    """A token [...] of `warp(...)` of logits [..., V] by uniform [...], the one that `categorical` draws from it.

    Greedy is the first largest logit; a nucleus and a top-k are drawn from among the likeliest tokens alone.
    """
    if isinstance(temperature, int | float) and not temperature:
        return greedy(logits)
    whole = not isinstance(top_p, Tensor) and top_p >= 1
    if isinstance(temperature, Tensor) or top_k or whole:
        return categorical(warp(logits, temperature, top_p, top_k), uniform)
    return draw_nucleus(tempered(logits, temperature), _a_row(top_p, logits), uniform)


def greedy(logits: Tensor) -> Tensor:
    """The first largest of logits [..., V] -> [...]. Raises UserError for NaN."""
    best = logits.max(-1)
    refuse_nan(best.values)  # the largest of a row with one NaN is NaN
    return best.indices


def tempered(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax(logits / temperature) [..., V] in float32, at least at COLDEST; rows of temperature 0 as of 1."""
    logits = logits.float()
    if isinstance(temperature, Tensor):
        rows = _a_row(temperature, logits)
        logits = logits / rows.masked_fill(rows == 0, 1).clamp(min=COLDEST)
    elif temperature != 1:
        logits = logits / torch.tensor(max(temperature, COLDEST), dtype=torch.float32)
    probs = torch.softmax(logits, -1)
    refuse_nan(probs[..., 0])  # the softmax of a row with one NaN is all NaN
    return probs


def refuse_nan(values: Tensor) -> None:
    """UserError where some value is NaN. An accelerator is not waited for: its flag is read by `check_nan`."""
    flag = torch.isnan(values).any()
    if flag.device.type == "cpu":
        _refuse(flag)
    else:
        _NAN.append(flag)


def check_nan() -> None:
    """Read the flags of an accelerator, once a decoding: raises UserError as `refuse_nan` does."""
    flags, _NAN[:] = list(_NAN), []
    if flags:
        _refuse(torch.stack(flags).any())


def _refuse(flag: Tensor) -> None:
    if flag:
        raise UserError("the model gave NaN logits: load it in float32, or check its weights")


def _one_hot(logits: Tensor) -> Tensor:
    return torch.zeros_like(logits, dtype=torch.float32).scatter_(-1, greedy(logits)[..., None], 1.0)


def _a_row(value: float | Tensor, logits: Tensor) -> Tensor:
    """A number, or one a row, as float32 [..., 1]."""
    value = torch.as_tensor(value, dtype=torch.float32, device=logits.device)
    return value[..., None] if value.ndim else value.expand(*logits.shape[:-1], 1)


def likeliest(probs: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nucleus of probs [N, V] at top_p [N, 1]: values and ids [N, K] in descending order, and which are in it.

    The smallest set of likeliest tokens whose mass reaches top_p, the crossing token in it; of tokens with equal
    probability the first, as by a stable sort. The vocabulary is not sorted: the WIDTH likeliest mostly hold the
    nucleus, and where they do not, more are looked at.
    """
    size, target = probs.shape[-1], top_p.double()
    width = min(WIDTH, size)
    while True:
        best = probs.topk(width, -1)
        reached = best.values.double().cumsum(-1)
        # A token as likely as the last one may have been left out: then the nucleus must end before those.
        inside = reached[:, -1:] - best.values[:, -1:] * (best.values == best.values[:, -1:]).sum(-1, keepdim=True)
        if width == size or bool((inside >= target).all()):
            break
        width = min(8 * width, size)
    order = best.indices.sort(-1)
    values, ids = best.values.gather(-1, order.indices), order.values
    order = values.sort(dim=-1, descending=True, stable=True)
    values, ids = order.values, ids.gather(-1, order.indices)
    kept = torch.ones_like(values, dtype=torch.bool)
    kept[:, 1:] = values.double().cumsum(-1)[:, :-1] < target  # the first is in any nucleus
    return values, ids, kept


def nucleus(probs: Tensor, top_p: Tensor) -> Tensor:
    """probs [..., V] with its nucleus alone, renormalised; see `likeliest`. Rows with top_p [..., 1] of 1 or more
    come back to the bit."""
    size = probs.shape[-1]
    flat, target = probs.reshape(-1, size), top_p.reshape(-1, 1)
    all_of_it = target >= 1
    values, ids, kept = likeliest(flat, target.masked_fill(all_of_it, 0))
    few = torch.zeros_like(flat).scatter(-1, ids, values * kept)
    few = few / few.sum(-1, keepdim=True)
    return torch.where(all_of_it, flat, few).reshape(probs.shape)


def draw_nucleus(probs: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """A token [...] of the nucleus of probs [..., V] at top_p [..., 1] by uniform [...]."""
    size = probs.shape[-1]
    flat, target = probs.reshape(-1, size), top_p.reshape(-1, 1)
    all_of_it = target >= 1
    values, ids, kept = likeliest(flat, target.masked_fill(all_of_it, 0))
    order = ids.sort(-1)  # the draw goes through a vocabulary in its order
    drawn = categorical((values * kept).gather(-1, order.indices), uniform.reshape(-1))
    found = order.values.gather(-1, drawn[:, None])
    if isinstance(top_p, Tensor) and bool(all_of_it.any()):
        found = torch.where(all_of_it, categorical(flat, uniform.reshape(-1))[:, None], found)
    return found.reshape(probs.shape[:-1])


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

    def likeliest(self) -> "Distribution":
        """Certain of the likeliest token of each distribution, the first of equals: [..., 1]."""
        first = self.everywhere().gather(-1, self.probs.argmax(-1, keepdim=True))
        return Distribution(torch.ones_like(first, dtype=self.probs.dtype), first)

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
        """Distributions [b, n, K], each `times` times: [b, n * times, K]."""
        tokens = None if self.tokens is None else self.tokens.repeat_interleave(times, 1)
        return Distribution(self.probs.repeat_interleave(times, 1), tokens)

    def padded(self, count: int) -> "Distribution":
        """Distributions [b, n, K] up to `count` of them, by the last one again."""
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
        """Distributions [b, n, K] behind one another, [b, sum of n, K]."""
        tokens = (
            None
            if distributions[0].tokens is None
            else torch.cat([distribution.tokens for distribution in distributions], 1)
        )
        return cls(torch.cat([distribution.probs for distribution in distributions], 1), tokens)


def distribution_of(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Distribution:
    """The distribution of logits [..., V] after temperature, then top-k, then top-p, as `warp` has it."""
    if not temperature:
        first = greedy(logits)[..., None]
        return Distribution(torch.ones_like(first, dtype=torch.float32), first)
    if not 0 < top_k < logits.shape[-1]:
        return Distribution(warp(logits, temperature, top_p, top_k))
    best = logits.topk(top_k, -1)
    # Among ten logits as among all: softmax after top-k is the renormalised softmax.
    probs = torch.softmax(best.values.float() / max(temperature, COLDEST), -1)
    refuse_nan(probs[..., 0])
    if top_p < 1:  # topk is sorted: the token that crosses top_p is the last one kept
        probs = probs * (probs.double().cumsum(-1) - probs < top_p)
        probs = probs / probs.sum(-1, keepdim=True)
    return Distribution(probs, best.indices)


def filtered(probs: Tensor, top_p: Tensor, top_k: int = 0) -> Distribution:
    """The distribution of probs [..., V] after top-k, then the nucleus at a top-p [...] of each; see `likeliest`."""
    if not 0 < top_k < probs.shape[-1]:
        return Distribution(nucleus(probs, top_p[..., None]))
    best = probs.topk(top_k, -1)
    kept = best.values / best.values.sum(-1, keepdim=True)
    below = kept.double().cumsum(-1) - kept
    below[..., 0] = -1  # the first is in any nucleus
    kept = kept * ((below < top_p[..., None]) | (top_p[..., None] >= 1))
    return Distribution(kept / kept.sum(-1, keepdim=True), best.indices)
