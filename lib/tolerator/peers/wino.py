"""WINO, «wide in, narrow out» (arXiv 2507.18578): draft tokens above a low threshold, take back under a high one.

One forward does both. Behind the text stands a shadow of the current block, [MASK]s at the block's positions, that
see the text and one another but not the token that each stands for; the text does not see them. Of the masks i of
the block, whose drawn token x_i has probability p_i, and of its tokens j, which their shadow gives probability q_j:

    draft:   accept i where p_i > tau_1, at most min(max(floor(0.7 masks), 5), 20) of them and at least the best;
    verify:  mask j again where q_j < tau_2, the least probable first, fewer than the forward before accepted,
             and none where this forward accepted but one.

So the masks fall in the mean by one a forward or more, and a block ends. All values are those of the authors' code
(Feng-Hong/WINO-DLLM, LLaDA/decoding.py). As there, what the last forward of a block accepts nobody verifies, and a
shadow learns of its token through others that saw it: q_j is not the probability of j with j masked.
Differs in: batches; [MASK] is never drawn; a limit of forwards as an option, in whose last forward nothing is masked
again. Models with the next-token shift, of which the paper has none, predict a token at the one before it: there a
shadow is a copy of that one, and sees no other shadow, for the next one is a copy of its own token. On right answers
of the study's shifted model such shadows give what masking gives (correlation 0.99, where [MASK]s give 0.2 to 0.4).
Shadows with the same predecessor tie often there, and rounding may then decide which is masked again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.bidirectional import pair_logits, position_ids
from lib.decoding.distributions import gather
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.errors import UserError
from lib.tolerator.canvas import TOKENS, Canvas, draw_at, penalise_eot, spread, top_count
from lib.tolerator.peers.pace import Pace, check_paced, owed

SHARE, FEWEST, MOST = 0.7, 5, 20  # of a block's masks, how many a forward accepts at most


@dataclass(frozen=True)
class Wino(Options):
    """Options of WINO.

    forwards: T, at most; 0 is no limit, as published. See `pace.py` for what a limit does.
    block: length of the blocks, 0 for one; the authors take 128.
    draft: tau_1 (the authors take 0.6 or 0.7 by task). verify: tau_2.
    temperature, top_p, eot_form, eot_lambda: as in vanilla decoding; the penalty also counts in q_j.
    """

    canvas: int = 32
    forwards: int = 0
    block: int = 0
    draft: float = 0.6
    verify: float = 0.9
    temperature: float = 0.0
    top_p: float = 1.0
    eot_form: str = "off"
    eot_lambda: float = 1.2

    def check(self) -> None:
        check_paced(self)
        self.require("draft", self.draft >= 0, "0 or more (1: one token a forward)")
        self.require("verify", self.verify >= 0, "0 (take nothing back) or more")


def shadow_text(
    text: Tensor, mask: Tensor, start: Tensor, block: int, mask_id: int, shift: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """A text [B, L] with the shadow of `block` tokens of it behind it: ids [B, L + block], who sees whom
    [B, 1, L + block, L + block] and positions [B, L + block].

    mask [B, L] of real tokens; start [B]: the first token of each row's block, as an index of its text.
    """
    rows, length = text.shape
    at = start[:, None] + torch.arange(block, device=text.device)  # [B, block] tokens that the shadows stand for
    ids = torch.cat([text, text.gather(1, at - 1) if shift else torch.full_like(at, mask_id)], 1)
    places = position_ids(mask)
    places = torch.cat([places, places.gather(1, at) - int(shift)], 1)
    seen = torch.zeros(rows, length + block, length + block, dtype=torch.bool, device=text.device)
    seen[:, :, :length] = mask.bool()[:, None]
    own = torch.zeros(rows, block, length, dtype=torch.bool, device=text.device).scatter_(2, at[..., None], True)
    seen[:, length:, :length] &= ~own
    seen[:, length:, length:] = torch.eye(block, dtype=torch.bool, device=text.device) if shift else True
    return ids, seen[:, None], places


class Shadowed(Canvas):
    """A canvas whose forwards also compute a shadow of a block; its positions are charged as the others are."""

    def __init__(self, *given):
        super().__init__(*given)
        self.shadows: list[tuple[Tensor, int]] = []

    @torch.inference_mode()
    def look(self, tokens: Tensor, open_: Tensor, checked: Tensor, start: Tensor, block: int, rows: Tensor):
        """One forward: float32 logits [M, V] at the masks `open_` [B, G], and [N, V] of the shadows of the tokens
        `checked` [B, G], all in the block that begins at `start` [B]; [MASK] at minus infinity."""
        self.count(tokens, open_.sum(-1) + checked.sum(-1), rows)
        self.shadows.append((rows, block))
        text, mask = torch.cat([self.prompt[rows], tokens], 1), self.attention_mask[rows]
        first, shift = text.shape[1] - self.width, int(self.family.shift)
        ids, seen, places = shadow_text(text, mask, first + start, block, self.family.mask_id, self.family.shift)
        at = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        at[:, first - shift : first - shift + self.width] = open_
        columns = start[:, None] + torch.arange(block, device=ids.device)
        at[:, text.shape[1] :] = checked.gather(1, columns)
        found = pair_logits(self.model, ids, seen, places, at).float()
        found[:, self.family.mask_id] = -torch.inf
        of_shadow = (torch.arange(ids.shape[1], device=ids.device) >= text.shape[1]).expand_as(at)[at]
        return found[~of_shadow], found[of_shadow]

    def close(self) -> Decoded:
        decoded = super().close()
        for rows, block in self.shadows:
            decoded.trace.positions[rows.cpu()] += block
        return decoded


def wino_step(
    tokens: Tensor,
    open_: Tensor,
    logits: Tensor,
    checked: Tensor,
    shadow: Tensor,
    before: Tensor,
    left: Tensor,
    options: Wino,
    family: Family,
    uniform: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward of WINO: the new tokens, the accepted positions and those masked again, all [B, G].

    logits [M, V] of the masks `open_` [B, G], shadow [N, V] of the tokens `checked` [B, G]; `before` [B]: how many
    tokens the forward before accepted; `left` [B]: forwards left to the block, this one included; uniform [B, G].
    """
    end = family.eot_ids[0], options.eot_form, options.eot_lambda
    drawn, sure = draw_at(open_, penalise_eot(logits, *end), uniform, options.temperature, options.top_p)
    proof = gather(torch.softmax(penalise_eot(shadow, *end), -1), tokens[checked])
    proof = spread(proof.double(), checked)
    masks = open_.sum(-1)
    most = (masks.double() * SHARE).floor().long().clamp(FEWEST, MOST)
    accepted = top_count(sure, open_ & (sure > options.draft), most) | top_count(sure, open_, owed(masks, left))
    bound = torch.where((accepted.sum(-1) > 1) & (left > 1), before - 1, 0)
    again = top_count(-proof, checked & (proof < options.verify), bound)
    return torch.where(accepted, drawn, tokens).masked_fill(again, family.mask_id), accepted, again


@decoder("wino", Wino)
def decode(
    model, input_ids: Tensor, options: Wino, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """WINO on prompts [B, P], left-padded. A row that is full leaves the batch and pays no more.

    The trace measures how many tokens were masked again, `remasked` [B]. Raises UserError for a family whose network
    takes no mask of every pair.
    """
    if not family.wide_mask and family.mask_id is not None:
        raise UserError(
            f"WINO needs a network that takes a mask of every pair: Family({family.name!r}, wide_mask=True)"
        )
    canvas = Shadowed(model, family, input_ids, attention_mask, options.canvas, generator, record)
    pace = Pace(options.canvas, options.block, options.forwards)
    before = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
    remasked, step = before.clone(), 0
    while len(rows := canvas.masked().any(-1).nonzero().squeeze(-1)):
        tokens, masked = canvas.tokens[rows], canvas.masked()[rows]
        current = pace.first_open(masked)
        region = pace.region(current)
        open_, checked = masked & region, ~masked & region
        logits, shadow = canvas.look(tokens, open_, checked, current * pace.block, pace.block, rows)
        left, uniform = pace.left(step, current), canvas.uniform(step, TOKENS, rows)
        after, accepted, again = wino_step(
            tokens, open_, logits, checked, shadow, before[rows], left, options, family, uniform
        )
        before[rows], remasked[rows] = accepted.sum(-1), remasked[rows] + again.sum(-1)
        canvas.tokens = canvas.tokens.index_copy(0, rows, after)
        canvas.record(stage="wino", step=step, rows=rows, changed=accepted, remasked=again, tokens=after)
        step += 1
    canvas.trace.measures["remasked"] = remasked.cpu()
    return canvas.close()
