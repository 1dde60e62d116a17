"""Drafting: chains, trees and sampled beams of the small model, all as one tree in one cache."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution, categorical
from lib.decoding.session import Session

TINY = 1e-30  # joint weights below it are as good as none


@dataclass
class Draft:
    """N drafted tokens of b rows, as a tree below the last token of the text.

    tokens, parents [b, N]: a token and the place of the one before it, -1 for the text. depth [N], from 0: the same
    in all rows, for a tree grows by whole layers. real [b, N]: False for what a row did not draft, behind an end of
    text above all; it is there so that all rows have the same shape and draws. sees [b, N, N]:
    the ancestors of each, itself included. chance [b, N]: its probability under the draft where it was drawn;
    joint [b, N]: the log of the product along its ancestors, itself included. behind [b, N]: an end of text is
    among its ancestors; its chance is 1. distributions [b, 1 + fed, K]: the draft's after the text and after each
    token but the last layer's. weights [b, width]: of the last layer's beams, None without beams. fed [b, N]: which
    of the `read` tokens that the draft has in its cache this one is, -1 for those of the last layer.
    """

    tokens: Tensor
    parents: Tensor
    depth: Tensor
    real: Tensor
    sees: Tensor
    chance: Tensor
    joint: Tensor
    behind: Tensor
    distributions: Distribution
    fed: Tensor
    read: int
    weights: Tensor | None = None

    @property
    def layers(self) -> int:
        return int(self.depth[-1]) + 1

    def path(self, leaf: Tensor) -> Tensor:
        """[b, layers] the places of a token and its ancestors from the text on, -1 below its own depth."""
        at = leaf.clamp(min=0)[:, None, None].expand(-1, 1, self.sees.shape[2])
        above = self.sees.gather(1, at).squeeze(1) & (leaf >= 0)[:, None]
        places = torch.arange(above.shape[1], device=leaf.device).masked_fill(~above, -1)
        found = torch.full((len(leaf), self.layers), -1, device=leaf.device)
        return found.scatter_reduce(1, self.depth.expand(len(leaf), -1), places, "amax")

    def of(self, values: Tensor, path: Tensor) -> Tensor:
        """values [b, N] along path [b, D] -> [b, D]; what stands at -1 is arbitrary."""
        return values.gather(1, path.clamp(min=0))


# What a layer's choice returns: parents in the layer before [b, n], tokens [b, n], their chance [b, n], real [b, n],
# and the weights of beams.
Layer = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]


def grow(
    session: Session,
    pending: Tensor,
    real: Tensor,
    options,
    layers: int,
    expand: Callable,
    ends: Tensor,
) -> Draft:
    """A tree of `layers` layers below the text.

    pending [b, Q]: what the draft has not read of the text, left-padded, real where it is text.
    `expand(distributions, layer, depth)` draws the next layer from those [b, n, K] of the last one and from what it
    chose there. Near its limit a row drafts as ever: a shorter draft would be another rule, and a text would depend
    on how long it may get.
    """
    rows, device = len(pending), pending.device
    width = pending.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    distribution = session.distribution(options, pending, real, causal & real[:, None], 1)
    distributions, kept, before = [distribution], [], torch.full((rows, 1), -1, device=device)
    sees = torch.zeros(rows, 0, 0, dtype=torch.bool, device=device)
    layer: Layer | None = None
    ended = torch.zeros(rows, 1, dtype=torch.bool, device=device)
    joint = torch.zeros(rows, 1, device=device)
    first = 0
    fed, read = [], 0
    for depth in range(layers):
        up, tokens, chance, there, weights = expand(distribution, layer, depth)
        behind = ended.gather(1, up)
        there = there & ~behind
        layer = up, tokens, chance, there, weights
        chance = chance.masked_fill(behind, 1.0)
        joint = joint.gather(1, up) + chance.log()
        ended = behind | torch.isin(tokens, ends)
        parents = before.gather(1, up)
        kept.append((tokens, parents, there, chance, joint, behind))
        n = tokens.shape[1]
        # A token sees what its parent sees, and itself.
        padded = torch.cat([torch.zeros(rows, 1, first, dtype=torch.bool, device=device), sees], 1)
        above = padded.gather(1, (parents + 1)[..., None].expand(-1, -1, first))
        own = torch.eye(n, dtype=torch.bool, device=device).expand(rows, -1, -1)
        new = torch.cat([above, own], -1)
        sees = torch.cat([torch.cat([sees, sees.new_zeros(rows, first, n)], -1), new], 1)
        before = first + torch.arange(n, device=device).expand(rows, -1)
        first += n
        if depth + 1 == layers or not bool(there.any()):  # what is left is not real: the draft is not asked
            fed.append(torch.full((n,), -1, device=device))
            distribution = distribution[:, :1].wide(n) if depth + 1 < layers else distribution
        else:
            fed.append(read + torch.arange(n, device=device))
            read += n
            among = torch.cat([real[:, None].expand(-1, n, -1), new], -1)
            distribution = session.distribution(options, tokens, there, among, n)
        if depth + 1 < layers:
            distributions.append(distribution)
    tokens, parents, there, chance, joints, behind = (torch.cat(parts, 1) for parts in zip(*kept, strict=True))
    sizes = torch.tensor([part[0].shape[1] for part in kept])
    numbers = torch.repeat_interleave(torch.arange(layers), sizes).to(device)
    places = torch.cat(fed).expand(rows, -1)
    return Draft(
        tokens,
        parents,
        numbers,
        there,
        sees,
        chance,
        joints,
        behind,
        Distribution.join(distributions),
        places,
        read,
        weights,
    )


def branching(branches: tuple[int, ...], uniform: Tensor, confident: float = 0.0, greedy: bool = False) -> Callable:
    """Every token of layer d gets `branches[d]` tokens below it, each drawn on its own; ones make a chain.

    uniform [b, N]. `confident`: a row stops before the first token whose distribution has no probability as high.
    `greedy` takes the likeliest token instead of drawing one.
    """
    used = 0

    def expand(distribution: Distribution, last: Layer | None, depth: int) -> Layer:
        nonlocal used
        rows, n = distribution.probs.shape[:2]
        times = branches[depth]
        up = torch.arange(n, device=distribution.probs.device).repeat_interleave(times).expand(rows, -1)
        wide = distribution.wide(times)
        tokens = wide.likeliest().tokens[..., 0] if greedy else wide.draw(uniform[:, used : used + n * times])
        used += n * times
        there = wide.probs.amax(-1) >= confident
        if last is not None:
            there = there & last[3].gather(1, up)
        return up, tokens, wide.at(tokens[..., None]).squeeze(-1), there, None

    return expand


def beams(width: int, replacement: bool, uniform: Tensor, ends: Tensor, softmax: bool = False) -> Callable:
    """Beam sampling (paper section on MTAD): `width` cells of the table weight_b * q(v | beam b) are drawn a layer.

    Weights are those of the drawn cells, normalised; the released chain code takes a `softmax` of probabilities,
    which flattens them. A beam that has ended stays as it is, with its whole weight. Without replacement the cells
    are distinct as long as there are as many with mass. uniform [b, layers * width].
    """

    def choose(table: Tensor, depth: int) -> Tensor:
        return _draw(table, width, uniform[:, depth * width : (depth + 1) * width], replacement)

    return _cells(choose, ends, lambda depth: softmax)


def likeliest_beams(width: int, ends: Tensor, softmax: bool = False) -> Callable:
    """Beam search, what beam sampling becomes at temperature 0: the `width` largest cells of the table a layer.

    With normalised weights these are the beams of the largest joint. The released tree code takes the `softmax` of
    their cells in all layers but the first. Fewer cells where the vocabulary has fewer tokens.
    """

    def choose(table: Tensor, depth: int) -> Tensor:
        return table.topk(min(width, table.shape[1]), -1).indices

    return _cells(choose, ends, lambda depth: softmax and depth > 0)


def _cells(choose: Callable, ends: Tensor, flat: Callable) -> Callable:
    """Layers of the cells [b, n] that `choose(table [b, C], depth)` takes, weighed by a softmax where `flat(depth)`.

    A beam that has ended stays as it is.
    """

    def expand(distribution: Distribution, last: Layer | None, depth: int) -> Layer:
        distribution = distribution if last is None else ends_first(distribution, last[1], ends)
        probs, size = distribution.probs, distribution.probs.shape[-1]
        weights = torch.ones_like(probs[..., 0]) if last is None else last[4]
        table = (weights[..., None] * probs).flatten(1)
        cells = choose(table, depth)
        up = cells // size
        tokens = distribution.everywhere().flatten(1).gather(1, cells)
        chance = probs.flatten(1).gather(1, cells)
        mass = table.gather(1, cells)
        there = mass > 0 if last is None else (mass > 0) & last[3].gather(1, up)
        weights = torch.softmax(mass, -1) if flat(depth) else mass / mass.sum(-1, keepdim=True)
        return up, tokens, chance, there, weights.clamp(min=TINY)

    return expand


def ends_first(distribution: Distribution, tokens: Tensor, ends: Tensor) -> Distribution:
    """The distribution after tokens [b, n], which after an end of text is that end again, for certain."""
    ended = torch.isin(tokens, ends)[..., None]
    if not bool(ended.any()):
        return distribution
    only = torch.zeros_like(distribution.probs).scatter(-1, _place(distribution, tokens), 1.0)
    names = None if distribution.tokens is None else torch.where(ended, tokens[..., None], distribution.tokens)
    return Distribution(torch.where(ended, only, distribution.probs), names)


def _place(distribution: Distribution, tokens: Tensor) -> Tensor:
    """Where in a distribution of its own an ended beam's token stands: [b, n, 1]."""
    return tokens[..., None] if distribution.tokens is None else torch.zeros_like(tokens[..., None])


def _draw(table: Tensor, width: int, uniform: Tensor, replacement: bool) -> Tensor:
    """`width` cells [b, width] of table [b, C], by one uniform a draw."""
    if replacement:
        return categorical(table[:, None].expand(-1, width, -1), uniform)
    drawn = []
    for i in range(width):
        cell = categorical(table, uniform[:, i])[:, None]
        rest = table.scatter(1, cell, 0.0)
        table = torch.where(rest.sum(-1, keepdim=True) > 0, rest, table)
        drawn.append(cell)
    return torch.cat(drawn, 1)
