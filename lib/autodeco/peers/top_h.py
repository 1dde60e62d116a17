"""Top-H: the likeliest tokens, as long as their entropy stays below a share of the whole distribution's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.autodeco.peers.truncation import Truncation, entropy_terms, truncated
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded

FORMS = ("paper", "code", "transformers")
LOOKED_AT = 100  # tokens of which the released codes take both entropies
ROUNDING = 1e-9  # relative, of sums in float64


@dataclass(frozen=True)
class TopH(Truncation):
    """Top-H decoding (Baghaei Potraghloo et al. 2025, arXiv 2509.02510), the greedy rule for their problem ECMM.

    Tokens are taken in falling order of p while H(q) <= alpha H(p), where q is p renormalised over those taken.
    alpha: 0.4 in the paper. form: `paper`; `code`, that of the authors' logit_processor.py, which compares the sum of
    -p log p over those taken, not renormalised, with alpha times that over the 100 likeliest; or `transformers`, the
    same with p renormalised over the 100 likeliest first.
    """

    alpha: float = 0.4
    form: str = "paper"

    def check(self) -> None:
        super().check()
        self.require("alpha", 0 < self.alpha <= 1, "in (0, 1]")
        self.require("form", self.form in FORMS, f"one of {', '.join(FORMS)}")


def top_h_kept(probs: Tensor, alpha: float, form: str = "paper") -> Tensor:
    """Which of probs [..., V] stay, [..., V]; of equals the first, as by a stable sort. The likeliest always stays.

    H(q) = log m + (sum of -p log p over those taken) / m, with m their mass; it grows with every token taken, because
    no later one is likelier.
    """
    order = probs.double().sort(dim=-1, descending=True, stable=True)
    ordered = order.values if form == "paper" else order.values[..., :LOOKED_AT]
    if form != "code":
        ordered = ordered / ordered.sum(-1, keepdim=True)
    taken = entropy_terms(ordered).cumsum(-1)
    limit = alpha * taken[..., -1:]  # of a whole distribution H(q) is the sum itself
    if form == "paper":
        mass = ordered.cumsum(-1)
        taken = mass.log() + taken / mass
    stays = taken <= limit * (1 + ROUNDING)
    stays[..., 0] = True
    kept = torch.zeros_like(probs, dtype=torch.bool)
    return kept.scatter(-1, order.indices[..., : ordered.shape[-1]], stays & (ordered > 0))


@decoder("top_h", TopH)
def decode(model, input_ids: Tensor, options: TopH, **given) -> Decoded:
    """Decode prompts [B, P] of any causal model by top-H; `given`: the keywords of `loop`."""
    return truncated(model, input_ids, options, lambda probs: top_h_kept(probs, options.alpha, options.form), **given)
