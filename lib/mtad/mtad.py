"""MTAD and its tree form MMTAD: arXiv 2407.09722, multi-token joint decoding with an auxiliary model.

P is the target's joint probability of a drafted prefix, Q the draft's. One iteration, Algorithm 1:
(1) the draft samples beams of gamma tokens by their joint Q (`lib.mtad.draft.beams`);
(2) one pass of the target gives its distributions, the next-token probabilities after temperature, top-k and top-p,
behind each of them (`lib.mtad.loop.read`);
(3) the longest prefix whose ratio P/Q passes tau is accepted, though a shorter one may have failed (`verify_joint`);
(4) one token more is drawn from the target (`lib.mtad.loop.loop`).

The text is not the target's: an accepted prefix x of j tokens has -log P(x) < -log Q(x) + log(1/tau), Q being the
joint that it was held against: its own in the chain, in the tree the `reference`.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft, beams, grow
from lib.mtad.loop import Drafting, Verdict, loop

REFERENCES = ("kept", "best", "own")


@dataclass(frozen=True)
class Mtad(Drafting):
    """gamma, width, tau and replacement as in the released code; there the best of the last beams is verified.

    width: beams. tau: the threshold of the joint ratio, accepted where it is above: 0 accepts all that the target
    could have written, 1 nothing. replacement: beams are drawn with it, so that two may be the same. tree: MMTAD,
    all beams and their prefixes are verified, in the same pass.
    reference: with a tree, whose joint Q a candidate's P is held against: that of the beam with the largest weight
    (`kept`), the largest of the layer (`best`), or its own (`own`). Where the released tree code takes a slot's Q
    at every depth, though slots change hands, `kept` follows the beam's real ancestors.
    """

    width: int = 4
    tau: float = 0.5
    replacement: bool = True
    tree: bool = False
    reference: str = "kept"

    def check(self) -> None:
        super().check()
        self.require("width", self.width >= 1, "1 or more")
        self.require("tau", 0 <= self.tau <= 1, "in [0, 1]")
        self.require("reference", self.reference in REFERENCES, f"one of {', '.join(REFERENCES)}")


@decoder("mtad", Mtad, drafts=True)
def decode(model, input_ids: Tensor, options: Mtad, *, family, draft=None, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of `loop`."""
    ends = torch.tensor(family.eot_ids, device=input_ids.device)
    width = options.width if options.temperature else 1  # all beams are the same at temperature 0

    def propose(session, pending: Tensor, real: Tensor, uniform: Tensor) -> Draft:
        expand = beams(width, options.replacement, uniform, ends)
        found = grow(session, pending, real, options, options.gamma, expand, ends)
        return found if options.tree else alone(found)

    def verify(found: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        return verify_joint(found, distribution, options)

    draws = options.gamma * width
    given["verified"] = 1  # draws nothing to verify
    return loop(model, input_ids, options, propose, verify, family=family, draft=draft, draws=draws, **given)


def best_leaf(draft: Draft) -> Tensor:
    """[b] the place of the last layer's beam with the largest weight, the first of equals."""
    return draft.tokens.shape[1] - draft.weights.shape[1] + draft.weights.argmax(-1)


def alone(draft: Draft) -> Draft:
    """The kept beam as a chain: all that the target is shown of the draft."""
    path = draft.path(best_leaf(draft))
    length = path.shape[1]
    line = torch.arange(length, device=path.device)
    return Draft(
        tokens=draft.of(draft.tokens, path),
        parents=(line - 1).expand(len(path), -1),
        depth=line,
        real=draft.of(draft.real, path),
        sees=(line[:, None] >= line).expand(len(path), -1, -1),
        chance=draft.of(draft.chance, path),
        joint=draft.of(draft.joint, path),
        behind=draft.of(draft.behind, path),
        distributions=draft.distributions,
        fed=draft.of(draft.fed, path),
        read=draft.read,
        weights=draft.weights[:, :1],
    )


def verify_joint(draft: Draft, distribution: Distribution, options: Mtad) -> Verdict:
    """The deepest candidate whose log P - log Q passes log tau; of those at that depth the one with the largest P.

    Joints are products along a candidate's own ancestors. Behind an end of text both are what they were there: a beam
    that has ended counts as deep as the others are.
    """
    log_p = target_joint(draft, distribution)
    path = draft.path(best_leaf(draft))
    kept = draft.of(draft.joint, path)  # of the kept beam, by depth
    if options.reference == "own":
        against = draft.joint
    elif options.reference == "best":
        layers = [draft.joint[:, draft.depth == d].amax(-1) for d in range(draft.layers)]
        against = torch.stack(layers, 1)[:, draft.depth]
    else:
        against = kept[:, draft.depth]
    bar = log(options.tau) if options.tau else -torch.inf
    passes = (log_p - against).clamp(max=0) > bar  # min(1, P/Q) > tau
    passes &= (draft.real | draft.behind) & (log_p > -torch.inf)
    deepest = torch.where(passes, draft.depth, -1).amax(-1, keepdim=True)
    best = torch.where(passes & (draft.depth == deepest), log_p, -torch.inf).argmax(-1)
    leaf = torch.where(passes.any(-1), best, -1)
    rows = torch.arange(len(leaf), device=leaf.device)
    return Verdict(draft.path(leaf), distribution[rows, leaf + 1])


def target_joint(draft: Draft, distribution: Distribution) -> Tensor:
    """[b, N] log of the target's joint of each drafted token and its ancestors; 0 is added behind an end of text."""
    rows = torch.arange(len(draft.tokens), device=draft.tokens.device)
    before = distribution[rows[:, None], draft.parents + 1]
    step = before.at(draft.tokens[..., None]).squeeze(-1).log().masked_fill(draft.behind, 0.0)
    return torch.where(draft.sees, step[:, None], 0.0).sum(-1)
