"""What one refinement does to a full answer: survival of right ones, repair of wrong ones.

A refinement at rate r masks a share r of the canvas and draws it again from the rest (TOLERATOR, arXiv 2510.05090,
section 3). Over the answers of a model,

    survival(r) = P(right after it | right before),    repair(r) = P(right after it | wrong before),

and a share a of right answers becomes a survival + (1 - a) repair: refinement gains where
(1 - a) repair > a (1 - survival), which says why it can lose on a good model and a strict answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.analysis.stats import Estimate, score_interval
from lib.decoding.bidirectional import canvas_logits
from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.models.registry import Model
from lib.tolerator.canvas import POSITIONS, TOKENS
from lib.tolerator.refine import Refinement, Tolerator, refine_step, subset_of


@dataclass(frozen=True)
class Outcome:
    """Shares of right answers after one refinement, of those right and of those wrong before; None without any."""

    rate: float
    survival: Estimate | None
    repair: Estimate | None

    def after(self, accuracy: float) -> float:
        """The share of right answers after a refinement of answers of which a share `accuracy` is right.

        Raises ValueError where that needs a share that was not measured.
        """
        parts = ((accuracy, self.survival), (1 - accuracy, self.repair))
        if any(share and measured is None for share, measured in parts):
            raise ValueError("survival needs answers that are right before, repair those that are wrong")
        return sum(share * measured.value for share, measured in parts if share)


def canvases_of(model: Model, answers: list[str], width: int, cut: bool = False) -> Tensor:
    """[N, G] token ids of answers, each followed by EoT as a diffusion model is trained to.

    `cut`: longer ones end where the canvas does, as what a model writes may. Else raises UserError for an answer that
    leaves no place for its EoT.
    """
    end, rows = model.family.eot_ids[0], model.tokenizer(answers, add_special_tokens=False)["input_ids"]
    if cut:
        rows = [row[:width] for row in rows]
    longest = max(map(len, rows))
    if longest >= width and not cut:
        raise UserError(f"an answer has {longest} tokens: a canvas of more than {longest} is needed, not {width}")
    ids = [row + [end] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=next(model.network.parameters()).device)


@torch.inference_mode()
def refined_once(
    network,
    family: Family,
    prompts: Tensor,
    mask: Tensor,
    canvases: Tensor,
    rate: float,
    options: Tolerator,
    generator: RowGenerator,
    step: int = 0,
    confidence: Tensor | None = None,
) -> Tensor:
    """Full canvases [N, G] behind prompts [N, P], left-padded (mask [N, P]), after one refinement at `rate`: [N, G].

    `options`: temperature, penalty, update_rate and subset of the refinement. `step` keeps repeated draws apart.
    `confidence` [N, G]: of the tokens, which the subset `confidence` goes by. Raises UserError for a rate outside of
    (0, 1] and where that is missing.
    """
    if not 0 < rate <= 1:
        raise UserError(f"the refinement rate must be in (0, 1], not {rate}")
    if options.subset == "confidence" and confidence is None:
        raise UserError("the subset `confidence` needs the tokens' confidence: give it, or take the subset `random`")
    nothing = torch.zeros(canvases.shape, dtype=torch.float64, device=canvases.device)
    state = Refinement.start(canvases, nothing if confidence is None else confidence)
    width, device = canvases.shape[1], canvases.device
    chosen = subset_of(state, rate, generator.uniform(step, POSITIONS, width, device), options.subset)
    ids = torch.cat([prompts, canvases.masked_fill(chosen, family.mask_id)], 1)
    logits = canvas_logits(network, ids, torch.cat([mask, torch.ones_like(canvases)], 1), chosen, family).float()
    logits[:, family.mask_id] = -torch.inf
    uniform = generator.uniform(step, TOKENS, width, device)
    return refine_step(state, chosen, logits, options, family.eot_ids[0], uniform).tokens


def survival_and_repair(
    network,
    family: Family,
    prompts: Tensor,
    mask: Tensor,
    canvases: Tensor,
    judge: Callable[[Tensor], list[bool]],
    rate: float,
    options: Tolerator | None = None,
    generator: RowGenerator | int = 0,
    samples: int = 1,
    confidence: Tensor | None = None,
    batch: int = 64,
) -> Outcome:
    """Survival and repair of full canvases [N, G] in one refinement at `rate`, each refined `samples` times.

    `judge`: which of the canvases [N, G] are right, row i that of item i. Shapes and errors as in `refined_once`.
    Intervals as in `score_interval`: Wilson with one sample, else a bootstrap over items.
    """
    generator = RowGenerator.coerce(generator, len(canvases))
    options = options or Tolerator(canvas=canvases.shape[1], forwards=2)
    before = np.array(judge(canvases), dtype=bool)
    after = np.zeros((len(canvases), samples), dtype=bool)
    for sample in range(samples):
        parts = [
            refined_once(
                network, family, prompts[rows], mask[rows], canvases[rows], rate, options, generator.select(rows),
                sample, None if confidence is None else confidence[rows],
            )
            for rows in torch.arange(len(canvases)).split(batch)
        ]  # fmt: skip
        after[:, sample] = judge(torch.cat(parts))
    shares = [score_interval(after[which]) if which.any() else None for which in (before, ~before)]
    return Outcome(rate, *shares)
