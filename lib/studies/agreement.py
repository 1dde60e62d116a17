"""How often a draft's greedy token is its target's: what a drafted token is accepted by at temperature 0."""

import numpy as np
import torch

from lib.analysis.stats import Estimate, mean_interval
from lib.decoding.bidirectional import position_ids
from lib.models.registry import Model
from lib.reporting.tables import percent


def agreement(target: Model, draft: Model, pairs: list[tuple[str, str]]) -> Estimate:
    """Mean share of positions, in %, over (prompt, the target's own text) `pairs`, with its interval over them."""
    return percent(mean_interval(np.array([agreeing(target, draft, *pair) for pair in pairs])))


@torch.inference_mode()
def agreeing(target: Model, draft: Model, prompt: str, text: str) -> float:
    """Share of the positions of a text, EoT included, where both models' greedy tokens agree."""
    before = target.tokenizer.encode(prompt, add_special_tokens=False)
    response = target.tokenizer.encode(text, add_special_tokens=False)
    ids = torch.tensor([before + response], device=next(target.network.parameters()).device)
    mask = torch.ones_like(ids)
    choices = [
        m.network(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))
        .logits[0, len(before) - 1 :]
        .argmax(-1)
        for m in (target, draft)
    ]
    return (choices[0] == choices[1]).double().mean().item()
