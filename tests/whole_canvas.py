"""The steps of the diffusion decoders on logits of a whole canvas [B, G, V], as a table of five tokens gives them.

The steps themselves take the logits of the positions that they ask for. The mask token is 1.
"""

from lib.tolerator import fill, refine
from lib.tolerator.controls import settle
from lib.tolerator.peers import rcr, remdm, remdm_port

MASK = 1


def fill_step(tokens, logits, region, *rest):
    return fill.fill_step(tokens, logits[(tokens == MASK) & region], region, *rest)


def refine_step(state, chosen, logits, *rest):
    return refine.refine_step(state, chosen, logits[chosen], *rest)


def rcr_step(tokens, confidence, logits, region, *rest):
    return rcr.rcr_step(tokens, confidence, logits[(tokens == MASK) & region], region, *rest)


def remdm_step(tokens, confidence, logits, *rest):
    return remdm.remdm_step(tokens, confidence, logits[tokens == MASK], *rest)


def window_step(tokens, logits, *rest):
    return remdm_port.window_step(tokens, logits[tokens == MASK], *rest)


def settle_step(state, asked, logits, *rest):
    return settle.settle_step(state, asked, logits[asked], *rest)
