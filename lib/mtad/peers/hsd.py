"""Hierarchical Speculative Decoding (HSD, arXiv 2601.05724): lossless, by the joint ratio of a prefix, capped.

On one chain it is block verification in other words. Its capped ratio is the joint ratio over its running maximum,
r*_t = r_t / max(1, r_1, ..., r_t), which is what r*_t = min(1, r*_{t-1} p_t/q_t) comes to, and its two branch
divergences differ by 1 - r*_t: every test and every residual is the same. The gain over block verification that the
paper's Theorem 7 states for a draft of two tokens or more compares the divergences, which are weighed by q of the
prefix, with others that are not. What the authors' code does at the last token (`released`) does accept more, and
changes the distribution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.mtad.draft import Draft
from lib.mtad.loop import Drafting, Verdict
from lib.mtad.peers.speculative import chain, chain_path, ratios


@dataclass(frozen=True)
class Hsd(Drafting):
    """One draft, verified by Algorithm 2; the naive Algorithm 1, which asks the target again, is not here.

    released: the whole draft passes with min(1, r_gamma), the ratio uncapped, as in the authors' code
    (transformers/generation/utils.py of ZhouYuxuanYX/Hierarchical-Speculative-Decoding at b8575e2) and against
    equation 19: the text is not the target's then.
    """

    released: bool = False


@decoder("hsd", Hsd, drafts=True)
def decode(model, input_ids: Tensor, options: Hsd, **given) -> Decoded:
    """Decode prompts [B, P]; `given`: the keywords of the loop."""

    def verify(draft: Draft, distribution: Distribution, uniform: Tensor) -> Verdict:
        return verify_hsd(draft, distribution, uniform, options.released)

    return chain(model, input_ids, options, verify, lossy=options.released, **given)


def verify_hsd(draft: Draft, distribution: Distribution, uniform: Tensor, released: bool = False) -> Verdict:
    """The longest prefix whose test passes, tried from the whole draft back (Algorithm 2), and its residual.

    r_t: the joint ratio p/q of the first t tokens; r*_t = r_t / max(1, r_1, ..., r_{t-1}) (equation 16). Prefix t of
    fewer than gamma tokens passes with D(p, q) / D(q, p), the two divergences of its branch (equations 17 to 19), the
    whole draft with min(1, r*_gamma). Behind prefix t the next token is drawn from the positive part of the branch
    (equation 20). Divided by q of the prefix, which no quotient sees, the branch of prefix t compares c_t p with q,
    c_t = r_t / max(1, r_1, ..., r_t). Behind an end of text ratios are 1, and nothing branches.
    """
    rows = torch.arange(len(uniform), device=uniform.device)
    length = draft.tokens.shape[1]
    steps = ratios(draft, distribution).double().masked_fill(~draft.real, 1.0).log()
    joint = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(-1)], 1)  # log r_0 = 0, ..., log r_gamma
    highest = joint.cummax(-1).values  # log max(1, r_1, ..., r_t)
    scale = (joint - highest).exp()[:, :-1, None]  # c_0, ..., c_{gamma - 1}
    p, q = distribution[:, :-1], draft.distributions
    lacking = p.minus(q, scale)
    deficit = lacking.probs.sum(-1)
    surplus = (q.probs - scale * p.at(q.everywhere())).clamp(min=0).sum(-1)
    within = torch.where(surplus > 0, deficit / surplus, 1.0).masked_fill(~draft.real, 0.0)
    last = joint[:, -1:] - (0 if released else highest[:, -2:-1])
    passes = uniform <= torch.cat([within[:, 1:], last.exp().clamp(max=1)], 1)
    drafted = draft.real.sum(-1)
    accepted = torch.minimum((passes * torch.arange(1, length + 1, device=uniform.device)).amax(-1), drafted)
    after, branch = distribution[rows, accepted], accepted.clamp(max=length - 1)
    residual = lacking[rows, branch].or_else(distribution[rows, branch])
    probs = torch.where((accepted < drafted)[:, None], residual.probs, after.probs)
    return Verdict(chain_path(accepted, length), Distribution(probs, after.tokens))
