"""Fast-dLLM's parallel decoding (arXiv 2505.22618, section 3.3): how many tokens one forward keeps, by confidence.

With c_i the untempered probability of the token drawn at mask i of the current block, c_(1) >= c_(2) >= ...:

    threshold:  keep i where c_i >= tau, and always the most confident;
    factor:     keep the n most confident, n the largest with (n + 1) (1 - c_(n)) < f, and always the first.

A kept token is final. The paper proves that under its factor rule greedy parallel decoding equals greedy decoding of
one token at a time where the marginals tell the truth. Its caches are another thing: `prompt_cache` is that of the
prompt. Differs from the authors' code (NVlabs/Fast-dLLM, llada/generate.py) in: a limit of forwards as an option;
the factor rule there also keeps the last mask of a block where all others pass, and passes at equality.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.tolerator.canvas import TOKENS, Canvas, draw_at, penalise_eot, top_count
from lib.tolerator.peers.pace import Pace, check_paced, owed

RULES = ("threshold", "factor")


@dataclass(frozen=True)
class FastDllm(Options):
    """Options of Fast-dLLM's decoding rule, with the authors' values.

    forwards: T, at most; 0 is no limit, as published. See `pace.py` for what a limit does.
    block: length of the blocks, 0 for one; the authors take 32.
    rule, threshold (tau), factor (f): as above. temperature, top_p, eot_form, eot_lambda: as in vanilla decoding.
    """

    canvas: int = 32
    forwards: int = 0
    block: int = 0
    rule: str = "threshold"
    threshold: float = 0.9
    factor: float = 1.0
    temperature: float = 0.0
    top_p: float = 1.0
    eot_form: str = "off"
    eot_lambda: float = 1.2
    prompt_cache: bool = False  # the prompt's keys of the first forward in all: an approximation (Fast-dLLM)

    def check(self) -> None:
        check_paced(self)
        self.require("rule", self.rule in RULES, f"one of {', '.join(RULES)}")
        self.require("threshold", self.threshold > 0, "above 0 (above 1: one token a forward)")
        self.require("factor", self.factor > 0, "above 0")


def confident(probability: Tensor, open_: Tensor, options: FastDllm) -> Tensor:
    """Which of the drawn tokens the rule keeps, [B, G], of those at `open_`; `probability` [B, G] of each.

    May be none: that one is kept in any case is the caller's.
    """
    if options.rule == "threshold":
        return open_ & (probability >= options.threshold)
    ranked = probability.masked_fill(~open_, -torch.inf).sort(-1, descending=True).values
    n = torch.arange(1, ranked.shape[-1] + 1, device=ranked.device)
    passing = (n + 1) * (1 - ranked) < options.factor  # falls with n: the first that fails ends it
    return top_count(probability, open_, passing.long().cumprod(-1).sum(-1))


def fast_dllm_step(
    tokens: Tensor, open_: Tensor, logits: Tensor, least: Tensor, options: FastDllm, eot_id: int, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw at the masks `open_` [B, G] from logits [M, V]; keep what the rule says, and `least` [B] at the least.

    uniform [B, G]. Returns the new tokens and the kept positions.
    """
    logits = penalise_eot(logits, eot_id, options.eot_form, options.eot_lambda)
    drawn, sure = draw_at(open_, logits, uniform, options.temperature, options.top_p)
    kept = confident(sure, open_, options) | top_count(sure, open_, least)
    return torch.where(kept, drawn, tokens), kept


@decoder("fast_dllm", FastDllm)
def decode(
    model, input_ids: Tensor, options: FastDllm, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """Fast-dLLM on prompts [B, P], left-padded. A row that is full leaves the batch and pays no more."""
    canvas = Canvas(model, family, input_ids, attention_mask, options.canvas, generator, record, options.prompt_cache)
    pace = Pace(options.canvas, options.block, options.forwards)
    step = 0
    while len(rows := canvas.masked().any(-1).nonzero().squeeze(-1)):
        tokens, masked = canvas.tokens[rows], canvas.masked()[rows]
        current = pace.first_open(masked)
        open_ = masked & pace.region(current)
        least = owed(open_.sum(-1), pace.left(step, current))
        logits = canvas.logits(tokens, open_, rows)
        uniform = canvas.uniform(step, TOKENS, rows)
        after, kept = fast_dllm_step(tokens, open_, logits, least, options, family.eot_ids[0], uniform)
        canvas.tokens = canvas.tokens.index_copy(0, rows, after)
        canvas.record(stage="fast_dllm", step=step, rows=rows, changed=kept, tokens=after)
        step += 1
    return canvas.close()
