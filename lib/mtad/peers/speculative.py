"""Lossless drafting: speculative decoding, its joint form block verification, and a tree with several rounds.

Whatever the draft says, the text has the target's distribution (after temperature, top-k and top-p).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft, branching, grow
from lib.mtad.loop import Drafting, Verdict, loop


@dataclass(frozen=True)
class Speculative(Drafting):
    """Speculative decoding (Leviathan et al. 2023; Chen et al. 2023), token by token.

    `block` verifies the whole draft by its joint instead (block verification, Sun et al. 2024): never shorter in
    expectation.
    """

    block: bool = False


@dataclass(frozen=True)
class TreeSpeculative(Drafting):
    """A tree of drawn drafts, verified by several rounds of rejection at each node (SpecInfer, Miao et al. 2024).

    branches: how many tokens are drawn, with replacement, below each token of a layer; 4, 2, 2 as MTAD's authors
    run it. gamma is their number.
    """

    branches: tuple[int, ...] = (4, 2, 2)
    gamma: int = 3

    def check(self) -> None:
        super().check()
        self.require("branches", bool(self.branches) and min(self.branches) >= 1, "numbers of 1 or more")
        self.require("gamma", self.gamma == len(self.branches), f"{len(self.branches)}, the number of branches")


@decoder("speculative", Speculative, drafts=True)
def decode(model, input_ids: Tensor, options: Speculative, *, draft=None, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of `loop`."""
    verify = verify_block if options.block else verify_tokens
    return chain(model, input_ids, options, verify, draft=draft, **given)


def chain(
    model, input_ids: Tensor, options: Drafting, verify, *, confident=0.0, greedy=False, length=0, family, **given
) -> Decoded:
    """Any rule that verifies one chain of `length` (gamma) tokens; `confident` and `greedy` as in `branching`."""
    length = length or options.gamma
    ends = torch.tensor(family.eot_ids, device=input_ids.device)

    def propose(session, pending: Tensor, real: Tensor, uniform: Tensor) -> Draft:
        expand = branching((1,) * length, uniform, confident, greedy)
        return grow(session, pending, real, options, length, expand, ends)

    given |= {"draws": length, "verified": length}
    return loop(model, input_ids, options, propose, verify, family=family, **given)


@decoder("tree_speculative", TreeSpeculative, drafts=True)
def decode_tree(model, input_ids: Tensor, options: TreeSpeculative, *, family, draft=None, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of `loop`."""
    ends = torch.tensor(family.eot_ids, device=input_ids.device)

    def propose(session, pending: Tensor, real: Tensor, uniform: Tensor) -> Draft:
        expand = branching(options.branches, uniform)
        return grow(session, pending, real, options, options.gamma, expand, ends)

    nodes, width = 0, 1
    for times in options.branches:
        width *= times
        nodes += width
    given |= {"draft": draft, "draws": nodes, "verified": nodes}
    return loop(model, input_ids, options, propose, verify_tree, family=family, **given)


def chain_path(accepted: Tensor, length: int) -> Tensor:
    """The path of a chain whose first `accepted` [b] tokens are taken: [b, length]."""
    places = torch.arange(length, device=accepted.device).expand(len(accepted), -1)
    return places.masked_fill(places >= accepted[:, None], -1)


def first_failure(passes: Tensor) -> Tensor:
    """[b, n] -> [b], how many pass before the first that does not."""
    return passes.long().cumprod(-1).sum(-1)


def ratios(draft: Draft, distribution: Distribution) -> Tensor:
    """p(x) / q(x) of each drafted token of a chain [b, N]."""
    p = distribution[:, :-1].at(draft.tokens[..., None]).squeeze(-1)
    q = draft.distributions.at(draft.tokens[..., None]).squeeze(-1)
    return p / q


def verify_tokens(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
    """Accept token i with probability min(1, p/q); the first rejected is replaced by one drawn from (p - q)+."""
    rows = torch.arange(len(uniform), device=uniform.device)
    length = draft.tokens.shape[1]
    accepted = first_failure((uniform < ratios(draft, distribution)) & draft.real)
    last = distribution[rows, accepted]
    drafted = accepted.clamp(max=length - 1)
    rejected = (accepted < length) & draft.real[rows, drafted]
    residual = last.minus(draft.distributions[rows, drafted]).or_else(last)
    probs = torch.where(rejected[:, None], residual.probs, last.probs)
    return Verdict(chain_path(accepted, length), Distribution(probs, last.tokens))


def verify_block(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
    """Block verification, Algorithm 2 of arXiv 2403.10444: the longest prefix whose own test passes.

    With r_i = min(1, r_{i-1} p_i/q_i), prefix i < gamma passes with probability
    s / (s + 1 - r_i), s = sum_x (r_i p(x | prefix) - q(x | prefix))+, and the whole draft with r_gamma. After
    prefix i < gamma the next token is drawn from (r_i p - q)+. Behind an end of text both are taken
    as certain of what follows: their ratio is 1, and nothing is left of them.
    """
    rows = torch.arange(len(uniform), device=uniform.device)
    length = draft.tokens.shape[1]
    steps = [torch.ones_like(uniform[:, 0])]
    so_far = ratios(draft, distribution).double().masked_fill(~draft.real, 1.0)
    for i in range(length):
        steps.append((steps[-1] * so_far[:, i]).clamp(max=1))
    kept = torch.stack(steps, 1)  # r_0 = 1, ..., r_gamma
    left = distribution[:, :-1].minus(draft.distributions, kept[:, :-1, None])  # after prefixes 0 to gamma - 1
    mass = left.probs.sum(-1).masked_fill(~draft.real, 0.0)
    chance = mass[:, 1:] / (mass[:, 1:] + 1 - kept[:, 1:-1]).clamp(min=1e-12)
    passes = uniform <= torch.cat([chance, kept[:, -1:]], 1)
    place = torch.arange(1, length + 1, device=uniform.device)
    drafted = draft.real.sum(-1)
    accepted = torch.minimum((passes * place).amax(-1), drafted)
    last = distribution[rows, accepted]
    residual = left[rows, accepted.clamp(max=length - 1)].or_else(distribution[rows, accepted.clamp(max=length - 1)])
    probs = torch.where((accepted < drafted)[:, None], residual.probs, last.probs)
    return Verdict(chain_path(accepted, length), Distribution(probs, last.tokens))


def verify_tree(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
    """At each node the drafted children are tried in turn: child x passes with min(1, r(x)/q(x)), r at first p, and
    each rejection leaves r = norm((r - q)+); a node whose children all fail gives its r to the bonus token.

    Layer by layer: of a row's children of the node that it has come to, one after the other.
    """
    rows = torch.arange(len(uniform), device=uniform.device)
    at = torch.full_like(rows, -1)  # the node that a row has come to
    left = distribution[rows, 0]
    sizes = draft.depth.bincount().tolist()
    arrived = torch.ones_like(rows, dtype=torch.bool)
    first, before, place = 0, 1, torch.zeros_like(rows)  # of the layer; nodes of the one above; of `at` in that one
    for size in sizes:
        times = size // before  # siblings stand together, behind those of the nodes before
        going, arrived = arrived, torch.zeros_like(arrived)
        q = draft.distributions[rows, at + 1]
        for child in range(times):
            node = first + place * times + child
            turn = going & ~arrived & draft.real[rows, node]
            token = draft.tokens[rows, node, None]
            passes = turn & (uniform[rows, node] < (left.at(token) / q.at(token)).squeeze(-1))
            rest = left.minus(q)
            mass = rest.probs.sum(-1, keepdim=True)
            rest = torch.where(mass > 0, rest.probs / mass.clamp(min=1e-30), left.probs)
            kept = torch.where((turn & ~passes)[:, None], rest, left.probs)
            after = distribution[rows, node + 1]
            tokens = None if left.tokens is None else torch.where(passes[:, None], after.tokens, left.tokens)
            left = Distribution(torch.where(passes[:, None], after.probs, kept), tokens)
            at, arrived = torch.where(passes, node, at), arrived | passes
        place = torch.where(arrived, at - first, 0)
        first, before = first + size, size
    return Verdict(draft.path(at), left)
