"""T2M, token-to-mask remasking (arXiv 2604.18738; 2605.26436): mask again what the model no longer believes.

A rule on top of LLaDA2.1's decoding (2602.08676). Blocks go from left to right. Each forward fills the masks whose
drawn token has probability above tau_m2t, and at least the surest; and of the tokens x_i that the block held before
the forward, with p(. | z) the prediction at i from the text z as it stands, x_i itself in it, it masks again

    low_prob:    those with p(x_i | z) < tau;
    t2t_remask:  those with p(x_new | z) > tau for another token x_new, the one drawn;
    logit_diff:  those with p_before(x_i | z_before) - p(x_i | z) > tau, against the forward before;
    edit:        none: x_i becomes x_new where t2t_remask would mask it. LLaDA2.1's own token-to-token rule.

At most floor(share E) (but one) of the block's E tokens, the most suspect first, and no position more than `most`
times. A block is done when a forward found it without masks and masks nothing again, or after `post` such forwards;
where an EoT stands in the text a block without masks is done at once, and no later block is decoded.

The rule reads predictions at visible tokens, which plain mask models are not trained for: it is made for models that
learn to mend wrong tokens. (A model with the next-token shift predicts a token at the one before it and cannot but
use the rest: the study's gives right tokens there what it gives them masked, correlation 0.98.) Values and details
are those of the authors' code (synsis/remasked_DLM). Differs in: a block sees the masks of the later ones (there it
sees no later block, for their model's attention is causal from block to block); a limit of forwards as an option, in
whose last forward nothing is masked again; the probabilities are untempered; logit_diff compares from a block's
second forward on, as the paper has it (there, from the third).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import gather
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import TOKENS, Canvas, draw_at, penalise_eot, spread, top_count
from lib.tolerator.peers.pace import Pace, check_paced, owed

STRATEGIES = ("low_prob", "t2t_remask", "logit_diff", "edit")


@dataclass(frozen=True)
class T2m(Options):
    """Options of T2M, with the values of the paper's main results.

    forwards: T, at most; 0 is no limit, as published. See `pace.py` for what a limit does.
    block: length of the blocks, 0 for one; the authors take 32.
    sure: tau_m2t. strategy, doubt (tau; the code's defaults are 0.9 for t2t_remask and 0.3 for logit_diff, LLaDA2.1's
    0.5 for edit), share, most, post: as above. early_stop: at an EoT, as above (eos_early_stop; False: every block).
    temperature, top_p, eot_form, eot_lambda: as in vanilla decoding.
    """

    canvas: int = 32
    forwards: int = 0
    block: int = 0
    sure: float = 0.7
    strategy: str = "low_prob"
    doubt: float = 0.3
    share: float = 0.25
    most: int = 1
    post: int = 16
    early_stop: bool = True
    temperature: float = 0.0
    top_p: float = 1.0
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        check_paced(self)
        self.require("sure", self.sure > 0, "above 0 (1: one token a forward)")
        self.require("strategy", self.strategy in STRATEGIES, f"one of {', '.join(STRATEGIES)}")
        self.require("share", 0 < self.share <= 1, "in (0, 1]")
        self.require("most", self.most >= 0, "0 (never) or more")
        self.require("post", self.post >= 0, "0 or more")


@dataclass
class Edited:
    """State, all [B, G]: tokens, the probability of each under the last forward, how often it was masked again."""

    tokens: Tensor
    before: Tensor
    times: Tensor


def suspects(held: Tensor, old: Tensor, state: Edited, drawn: Tensor, new: Tensor, options: T2m) -> tuple:
    """The tokens that the strategy would mask among those `held` [B, G], and how little each is believed, [B, G].

    `old` [B, G]: p(x_i | z) of the tokens; `drawn`, `new` [B, G]: the drawn token of each and its probability.
    """
    if options.strategy == "low_prob":
        return held & (old < options.doubt), old
    if options.strategy == "logit_diff":
        return held & (state.before - old > options.doubt), old - state.before
    return held & (drawn != state.tokens) & (new > options.doubt), 1 - new


def t2m_step(
    state: Edited, region: Tensor, logits: Tensor, left: Tensor, options: T2m, family: Family, uniform: Tensor
) -> tuple[Edited, Tensor, Tensor]:
    """One forward of T2M in the region [B, G]: the new state, and the filled and the masked or edited positions.

    logits [M, V] of all positions of the region; `left` [B]: forwards left to the block, this one included.
    """
    masked = state.tokens == family.mask_id
    open_, held = masked & region, ~masked & region
    logits = penalise_eot(logits, family.eot_ids[0], options.eot_form, options.eot_lambda)
    drawn, new = draw_at(region, logits, uniform, options.temperature, options.top_p)
    filled = (open_ & (new > options.sure)) | top_count(new, open_, owed(open_.sum(-1), left))
    old = gather(torch.softmax(logits, -1), state.tokens[region])
    old = spread(old.double(), region)
    marked, belief = suspects(held, old, state, drawn, new, options)
    if options.strategy == "edit":
        changed, times = marked, state.times
        tokens = torch.where(filled | marked, drawn, state.tokens)
    else:
        most = (held.sum(-1).double() * options.share + 1e-9).floor().long().clamp(min=1)
        changed = top_count(-belief, marked & (state.times < options.most), torch.where(left > 1, most, 0))
        tokens = torch.where(filled, drawn, state.tokens).masked_fill(changed, family.mask_id)
        times = state.times + changed
    now = torch.where(filled | (marked & (options.strategy == "edit")), new, old)
    return Edited(tokens, torch.where(region, now, state.before), times), filled, changed


@decoder("t2m", T2m)
def decode(
    model, input_ids: Tensor, options: T2m, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """T2M on prompts [B, P], left-padded. A row whose last block is done leaves the batch and pays no more.

    The trace measures how many tokens were masked again or edited, `remasked` [B].
    """
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    pace = Pace(options.canvas, options.block, options.forwards)
    tokens, zeros = canvas.tokens, torch.zeros_like(canvas.tokens)
    before, times = canvas.confidence, zeros
    ends = torch.tensor(family.eot_ids, device=tokens.device)
    current, checks, remasked = zeros[:, 0].clone(), zeros[:, 0].clone(), zeros[:, 0].clone()
    step = 0
    while len(rows := (current < pace.blocks).nonzero().squeeze(-1)):
        part, region, left = tokens[rows], pace.region(current[rows]), pace.left(step, current[rows])
        logits = canvas.logits(part, region, rows)
        after, filled, changed = t2m_step(
            Edited(part, before[rows], times[rows]), region, logits, left, options, family,
            canvas.uniform(step, TOKENS, rows),
        )  # fmt: skip
        tokens = tokens.index_copy(0, rows, after.tokens)
        before, times = before.index_copy(0, rows, after.before), times.index_copy(0, rows, after.times)
        canvas.record(stage="t2m", step=step, rows=rows, changed=filled, remasked=changed, tokens=after.tokens)
        remasked[rows] += changed.sum(-1)
        full = ~((part == family.mask_id) & region).any(-1)  # before this forward, which then was a check
        checks[rows] += full
        done = (full & ~changed.any(-1)) | (checks[rows] >= options.post) | (left == 1)
        ended = torch.isin(after.tokens, ends).any(-1) & options.early_stop
        done = (done | ended) & ~((after.tokens == family.mask_id) & region).any(-1)
        current[rows] = torch.where(done & ended, pace.blocks, current[rows] + done)
        checks[rows] *= ~done
        step += 1
    canvas.tokens = tokens.masked_fill(tokens == family.mask_id, ends[0])  # behind an EoT, where it is cut
    canvas.trace.measures["remasked"] = remasked.cpu()
    return canvas.close()
