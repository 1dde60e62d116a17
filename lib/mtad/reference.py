"""MTAD and its tree form MMTAD (arXiv 2407.09722, Algorithm 1) as the paper has them: one row, no KV cache.

Read this beside the paper; `mtad.py` is the loop to use. p and q: next-token distributions of target and draft; P and
Q: their joints; x: a beam. Out of scope: beams drawn without `replacement`, softmaxed `weights`, a tree's `reference`
but `kept` and its beams at temperature 0, and heads.
"""

from bisect import bisect
from functools import cache, partial
from itertools import accumulate, takewhile
from math import prod

import torch

from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.mtad.mtad import Mtad


@torch.inference_mode()
def mtad(model, draft, prompt: list[int], options: Mtad, generator: RowGenerator, family: Family) -> list[int]:
    """The response to a prompt [P], EoT excluded; `generator` has one row."""
    p, q = (cache(partial(distribution, network, prompt, options, family)) for network in (model, draft))
    gamma, width, text, step = options.gamma, options.width, (), 0
    while len(text) < options.max_new_tokens and not set(text) & set(family.eot_ids):
        layers = [[((), 1.0)]]  # beams with their weights, by length
        for uniform in generator.uniform(step, stream=0, width=gamma * width).view(gamma, width).tolist():
            cells = [((*x, v), weight * chance) for x, weight in layers[-1] for v, chance in q(text + x).items()]
            drawn = [draw(cells, number) for number in uniform]  # (1) beam sampling
            layers.append([(x, mass / sum(mass for _, mass in drawn)) for x, mass in drawn])
        kept, accepted = max(layers[-1], key=lambda beam: beam[1])[0], ()
        for j in range(1, gamma + 1):  # (3) the longest prefix that passes, though a shorter one may have failed
            candidates = [x for x, _ in layers[j]] if options.tree else [kept[:j]]  # (2) all in one pass
            P, Q = ({x: prod(r(text + x[:i]).get(x[i], 0.0) for i in range(j)) for x in candidates} for r in (p, q))
            passing = [x for x in candidates if min(1.0, P[x] / Q[kept[:j]]) > options.tau]
            accepted = max(passing, key=P.get, default=accepted)
        bonus, _ = draw([*p(text + accepted).items()], generator.uniform(step, stream=2, width=1).item())  # (4)
        text, step = (text + accepted + (bonus,))[: options.max_new_tokens], step + 1
    return list(takewhile(lambda token: token not in family.eot_ids, text))


def distribution(network, prompt, options: Mtad, family: Family, text: tuple[int, ...]) -> dict[int, float]:
    """Of the token behind prompt and text, after temperature, top-k and top-p. An EoT is followed by itself."""
    if text and text[-1] in family.eot_ids:
        return {text[-1]: 1.0}
    logits = network(input_ids=torch.tensor([[*prompt, *text]], device=network.device)).logits[0, -1].float()
    best = logits.topk(min(options.top_k or len(logits), len(logits)) if options.temperature else 1)
    chances = torch.softmax(best.values / (options.temperature or 1.0), -1).tolist()
    below, kept = 0.0, {}
    for token, chance in zip(best.indices.tolist(), chances, strict=True):
        if below < options.top_p or options.top_p == 1:
            kept[token] = chance
            below += chance
    order = kept if 0 < options.top_k < len(logits) else sorted(kept)  # draws run through it as the loop's do
    return {token: kept[token] / below for token in order}


def draw(cells: list[tuple], uniform: float) -> tuple:
    """One of the cells (value, mass), by inverting their distribution function."""
    below = list(accumulate(mass for _, mass in cells))
    return cells[bisect(below, uniform * below[-1])]
