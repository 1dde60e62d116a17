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

from dataclasses import dataclass, replace
from math import log

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft, beams, grow, likeliest_beams
from lib.mtad.loop import Drafting, Verdict, loop

REFERENCES = ("kept", "best", "own", "slot")
WEIGHTS = ("normalised", "softmax")


@dataclass(frozen=True)
class Mtad(Drafting):
    """gamma, width, tau and replacement as in the released code; there the best of the last beams is verified.

    width: beams. tau: the threshold of the joint ratio, accepted where it is above: 0 accepts all that the target
    could have written, 1 nothing. replacement: beams are drawn with it, so that two may be the same. tree: MMTAD,
    all beams and their prefixes are verified, in the same pass.
    reference: with a tree, whose joint Q a candidate's P is held against: that of the beam with the largest weight
    (`kept`), the largest of the layer (`best`), or its own (`own`). `slot` is what the released tree code does: the
    place that the kept beam has in the last layer, at every depth, though places change hands; `kept` follows the
    beam's real ancestors.
    weights: of the drawn beams, by which the next ones are drawn and the best is kept: their cells' mass, normalised,
    or the softmax of it, as in the released chain code.
    At temperature 0 a tree is made of the likeliest cells, by the draft's softmax as it is, and accepted are the
    target's own likeliest tokens; a chain is the draft's likeliest tokens, where the released code keeps a beam.
    """

    width: int = 4
    tau: float = 0.5
    replacement: bool = True
    tree: bool = False
    reference: str = "kept"
    weights: str = "normalised"

    def check(self) -> None:
        super().check()
        self.require("width", self.width >= 1, "1 or more")
        self.require("tau", 0 <= self.tau <= 1, "in [0, 1]")
        self.require("reference", self.reference in REFERENCES, f"one of {', '.join(REFERENCES)}")
        self.require("weights", self.weights in WEIGHTS, f"one of {', '.join(WEIGHTS)}")


@decoder("mtad", Mtad, drafts=True)
def decode(model, input_ids: Tensor, options: Mtad, *, family, draft=None, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of `loop`."""
    ends = torch.tensor(family.eot_ids, device=input_ids.device)
    width = options.width if options.temperature else 1  # drawn beams are all the same at temperature 0
    softmax = options.weights == "softmax"
    raw = replace(options, temperature=1.0, top_k=0, top_p=1.0, heads=False)

    def propose(session, pending: Tensor, real: Tensor, uniform: Tensor) -> Draft:
        if options.tree and not options.temperature:
            expand = likeliest_beams(options.width, ends, softmax)
            return grow(session, pending, real, raw, options.gamma, expand, ends)
        expand = beams(width, options.replacement, uniform, ends, softmax)
        found = grow(session, pending, real, options, options.gamma, expand, ends)
        return found if options.tree else alone(found)

    def verify(found: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        return verify_joint(found, distribution, options)

    draws = options.gamma * width
    given |= {"verified": 1, "lossy": True}  # draws nothing to verify
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
    elif options.reference == "slot":
        slot = draft.weights.argmax(-1, keepdim=True)
        layers = [draft.joint[:, draft.depth == d] for d in range(draft.layers)]
        layers = [joint.gather(1, slot.clamp(max=joint.shape[1] - 1)) for joint in layers]
        against = torch.cat(layers, 1)[:, draft.depth]
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
