"""How strictly the tokens of an answer decide one another, as a mask model sees it.

For a right answer x_1 ... x_n to a prompt c, with H of the model's distribution at a position,

    strictness = 1 - sum_i H(x_i | x without x_i, c) / sum_i H(x_i | c),

the share of the tokens' entropy, given the prompt, that the rest of the answer removes. The first kind is measured
with x_i masked alone, the second with the whole canvas masked; both as means over right answers. 1: the rest
determines every token, so that any error can be found and mended (a Sudoku, a copy); 0: tokens tell nothing of each
other. Below 0 for a model that the rest makes less sure.

`surprisal`, -log p(x_i | ...), in place of H gives the cross-entropy, which also counts where the model is sure and
wrong. Only tokens up to the first EoT count, that one included: what stands behind it is no choice.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lib.analysis.bootstrap import drawn_weights, ratio_interval, tail_of
from lib.analysis.stats import Estimate
from lib.decoding.bidirectional import canvas_logits
from lib.decoding.distributions import gather
from lib.decoding.family import Family
from lib.errors import require_known

MEASURES = ("entropy", "surprisal")


@torch.inference_mode()
def uncertainties(
    network,
    family: Family,
    prompts: Tensor,
    mask: Tensor,
    canvases: Tensor,
    measure: str = "entropy",
    batch: int = 64,
) -> tuple[Tensor, Tensor, Tensor]:
    """H(x_i | c) and H(x_i | rest, c) in nats, and which positions count, all [N, G]; 0 where they do not.

    Of right canvases [N, G] behind prompts [N, P], left-padded (mask [N, P]). Takes one row of a forward an item for
    the first, and one a counted token for the second. Raises UserError for another measure.
    """
    require_known("measure", [measure], MEASURES)
    counted = counted_tokens(canvases, family)
    alone, given = (torch.zeros(canvases.shape, dtype=torch.float64) for _ in range(2))
    everything = torch.ones_like(counted)
    for rows in torch.arange(len(canvases)).split(batch):
        part = counted[rows]
        found = _uncertainty(network, family, prompts, mask, canvases, rows, everything[rows], part, measure)
        alone[rows[:, None].expand_as(part)[part.cpu()], part.nonzero()[:, 1].cpu()] = found
    items, places = counted.nonzero().cpu().unbind(1)
    for at in torch.arange(len(items)).split(batch):
        single = torch.zeros(len(at), canvases.shape[1], dtype=torch.bool, device=canvases.device)
        single[torch.arange(len(at)), places[at]] = True
        given[items[at], places[at]] = _uncertainty(
            network, family, prompts, mask, canvases, items[at], single, single, measure
        )
    return alone, given, counted.cpu()


def counted_tokens(canvases: Tensor, family: Family) -> Tensor:
    """[N, G], the tokens up to the first EoT, that one included."""
    ends = torch.isin(canvases, torch.tensor(family.eot_ids, device=canvases.device)).long()
    return ends.cumsum(-1) - ends == 0


def _uncertainty(network, family, prompts, mask, canvases, rows, masked, needed, measure: str) -> Tensor:
    """[M] at the `needed` positions [b, G] of some rows [b], whose positions `masked` [b, G] are masked."""
    tokens = canvases[rows]
    ids = torch.cat([prompts[rows], tokens.masked_fill(masked, family.mask_id)], 1)
    logits = canvas_logits(network, ids, torch.cat([mask[rows], torch.ones_like(tokens)], 1), needed, family).double()
    logits[:, family.mask_id] = -torch.inf
    if measure == "surprisal":
        return -gather(torch.log_softmax(logits, -1), tokens[needed]).cpu()
    probs = torch.softmax(logits, -1)
    return -torch.special.xlogy(probs, probs).sum(-1).cpu()


def strictness(alone: Tensor, given: Tensor, level: float = 0.95) -> Estimate:
    """1 - sum of `given` / sum of `alone`, both [N, G] as `uncertainties` gives them; bootstrap over items.

    NaN where the prompt alone leaves no uncertainty.
    """
    a, g = (np.asarray(x, dtype=float).sum(1) for x in (alone, given))
    if not a.any():
        return Estimate(math.nan, math.nan, math.nan, len(a))
    weights = drawn_weights(len(a))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = 1 - (weights @ g) / (weights @ a)
    return Estimate(float(1 - g.sum() / a.sum()), *ratio_interval(drawn, tail_of(level)), len(a))
