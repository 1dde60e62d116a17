"""TOLERATOR (arXiv 2510.05090, section 3) as the paper has it: one row, the whole text in every forward.

Read this beside the paper; `refine.py` is the loop to use. Out of scope, whatever the options say: blocks, top_p,
rules but `confidence`, rates but `cosine`, update_rate, locks, subsets but `random`, greedy_last.
"""

from bisect import bisect
from itertools import accumulate, takewhile
from math import cos, floor, log, pi

import torch

from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.tolerator.refine import Tolerator


@torch.inference_mode()
def tolerator(model, prompt: list[int], options: Tolerator, generator: RowGenerator, family: Family) -> list[int]:
    """The response to a prompt [P], cut before its first EoT; `generator` has one row."""
    T, G, mask = options.forwards, options.canvas, family.mask_id
    fill_steps = min(max(floor(options.rho * T + 0.5), 1), T - 1)  # round(rho T), half up
    canvas = [mask] * G
    for step in range(fill_steps):  # stage 1, fill-up (section 3.3)
        logits = predict(model, prompt, canvas, family, options.eot_form, options.eot_lambda)
        uniform = generator.uniform(step, stream=0, width=G)[0].tolist()
        drawn = {i: draw(logits[i], options.temperature, uniform[i]) for i in range(G) if canvas[i] == mask}
        sure = {i: torch.softmax(logits[i], -1)[token].item() for i, token in drawn.items()}  # untempered
        for i in sorted(drawn, key=sure.get, reverse=True)[: G // fill_steps + (step < G % fill_steps)]:
            canvas[i] = drawn[i]
    for k in range(K := T - fill_steps):  # stage 2, refinement: S is masked, and drawn again given all others
        cosine = cos(pi * k / (K - 1)) if K > 1 else -1.0  # from 1 to -1
        gamma = options.gamma_min + (options.gamma_max - options.gamma_min) * (1 + cosine) / 2
        score = generator.uniform(1000 + k, stream=1, width=G)[0].tolist()  # steps of this stage count from 1000
        S = sorted(range(G), key=score.__getitem__, reverse=True)[: G - floor(G * (1 - gamma) + 1e-9)]
        context = [mask if i in S else token for i, token in enumerate(canvas)]
        logits = predict(model, prompt, context, family, options.eot_form, options.refine_eot_lambda)
        uniform = generator.uniform(1000 + k, stream=0, width=G)[0].tolist()
        for i in S:
            canvas[i] = draw(logits[i], options.refine_temperature, uniform[i])
    return list(takewhile(lambda token: token not in family.eot_ids, canvas))


def predict(model, prompt, canvas: list[int], family: Family, eot_form: str, eot_lambda: float) -> torch.Tensor:
    """Logits [G, V] of the canvas, each position seeing all others; [MASK] at -inf, EoT penalised."""
    ids = torch.tensor([[*prompt, *canvas]], device=model.device)
    both_ways = {"attention_mask": ids.new_ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool)}
    logits = model(input_ids=ids, **(both_ways if family.wide_mask else {})).logits[0].float()
    logits = logits[len(prompt) - family.shift :][: len(canvas)]  # Dream predicts position i at i - 1
    logits[:, family.mask_id] = -torch.inf
    z = logits[:, family.eot_ids[0]].clone()  # the paper's formula is exp(z) / lambda, its prose and code z / lambda
    logits[:, family.eot_ids[0]] = {"off": z, "prob_div": z - log(eot_lambda), "logit_div": z / eot_lambda}[eot_form]
    return logits


def draw(logits: torch.Tensor, temperature: float, uniform: float) -> int:
    """A token from logits [V]; at temperature 0 the likeliest."""
    below = list(accumulate(torch.softmax(logits / (temperature or 1.0), -1).tolist()))
    return bisect(below, uniform * below[-1]) if temperature else int(logits.argmax())
