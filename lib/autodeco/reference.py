"""AutoDeco (arXiv 2510.26697, section 2) as the paper has it: one row, no cache, plain numbers.

Read this beside the paper; `decode.py` is the loop to use. Out of scope: `shuffled`, and heads of which one is off.
"""

import math
from bisect import bisect
from itertools import accumulate

import torch
from torch import Tensor

from lib.autodeco.decode import AutoDeco
from lib.autodeco.heads import Heads
from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator


@torch.inference_mode()
def autodeco(model, prompt: list[int], options: AutoDeco, generator: RowGenerator, family: Family) -> list[int]:
    """The response [N] to a prompt [P], EoT excluded, of an AutoDecoForCausalLM; `generator` has one row."""
    text = [*prompt]
    for step in range(options.max_new_tokens):
        output = model(input_ids=torch.tensor([text], device=model.device), output_hidden_states=True)
        logits, hidden = output.logits[0, -1].float(), output.hidden_states[-1][0, -1]
        temperature, top_p = settings(model.heads, hidden, logits)
        if options.temperature == 0:  # the user's: greedy, whatever the heads say
            token = int(logits.argmax())
        else:
            p = torch.softmax(logits / (temperature * options.temperature), -1).tolist()  # equation 1
            below = list(accumulate(nucleus(p, top_p * options.top_p)))  # the distribution function, not normalised
            token = bisect(below, generator.uniform(step, 0, 1).item() * below[-1])
        if token in family.eot_ids:
            break
        text.append(token)
    return text[len(prompt) :]


def settings(heads: Heads, hidden: Tensor, logits: Tensor) -> tuple[float, float]:
    """Equation 4: T-hat = temp_head(h) and P-hat = top-p_head(h, T-hat), of hidden [H] and logits [V]."""
    temperature = heads.config.hottest * torch.sigmoid(heads.temp_head(hidden)).item()
    seen = [temperature]
    if heads.config.statistics:  # in the released code, not in the paper
        p = torch.softmax(logits / temperature, -1).tolist()
        top, mean = sorted(p, reverse=True)[:5], 1 / len(p)
        entropy = -sum(x * math.log(x) for x in p if x > 0)
        seen += [top[0], entropy, sum((x - mean) ** 2 for x in p) / (len(p) - 1), sum(top)]
    return temperature, torch.sigmoid(heads.top_p_head(torch.cat([hidden, hidden.new_tensor(seen)]))).item()


def nucleus(p: list[float], top_p: float) -> list[float]:
    """Hard top-p: the fewest of the likeliest tokens whose mass reaches top_p keep theirs; the others get 0."""
    kept, mass = [0.0] * len(p), 0.0
    for token in sorted(range(len(p)), key=lambda v: -p[v]):
        if mass < top_p:
            kept[token] = p[token]
            mass += p[token]
    return kept
