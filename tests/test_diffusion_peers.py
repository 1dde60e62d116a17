"""WINO, Fast-dLLM, T2M, CoRe and ReMDM for LLaDA against plain references, one row and one position at a time."""

from dataclasses import replace
from math import floor, log

import pytest
import torch
from conftest import SHIFTED, UNSHIFTED, tiny
from test_reference import varied

from lib.decoders import decode
from lib.decoding.randomness import RowGenerator
from lib.tolerator import Core, FastDllm, RemdmLlada, T2m, Wino
from lib.tolerator.fill import transfer_counts
from lib.tolerator.peers.core import REVISE
from lib.tolerator.reference import draw, predict

PENALTY = {"eot_form": "prob_div", "eot_lambda": 4.0}
ENDS = (0, 5, 9)


class Row:
    """One canvas in plain lists: what the references share."""

    def __init__(self, model, prompt, options, generator, family):
        self.model, self.prompt, self.options, self.generator, self.family = model, prompt, options, generator, family
        self.G, self.mask = options.canvas, family.mask_id
        self.canvas, self.step, self.also = [self.mask] * self.G, 0, 0
        size = getattr(options, "block", 0) or self.G
        self.blocks = [range(i, i + size) for i in range(0, self.G, size)]

    def logits(self, canvas=None):
        o = self.options
        given = (canvas or self.canvas, self.family, o.eot_form, o.eot_lambda)
        return predict(self.model, self.prompt, *given)

    def draw(self, logits, where, step=None):
        """(token, untempered probability) of each position."""
        u = self.generator.uniform(self.step if step is None else step, stream=0, width=self.G)[0].tolist()
        found = {i: draw(logits[i], self.options.temperature, u[i]) for i in where}
        return {i: (token, torch.softmax(logits[i], -1)[token].item()) for i, token in found.items()}

    def masks(self, block):
        return [i for i in block if self.canvas[i] == self.mask]

    @property
    def forwards(self):
        return self.step + self.also

    def left(self, b):
        """Forwards that block b may still take: what is over is passed on."""
        if not self.options.forwards:
            return 10**9
        shares = transfer_counts(self.options.forwards, len(self.blocks))
        return self.options.forwards - self.step - sum(shares[b + 1 :])


def best(values: dict, count: int) -> list:
    return sorted(values, key=values.get, reverse=True)[:count]


def fast_dllm(*given):
    row, options = Row(*given), given[2]
    for b, block in enumerate(row.blocks):
        while masks := row.masks(block):
            drawn = row.draw(row.logits(), masks)
            c = {i: p for i, (_, p) in drawn.items()}
            order = best(c, len(c))
            if options.rule == "threshold":
                n = sum(c[i] >= options.threshold for i in order)
            else:
                n = max(
                    [n for n in range(1, len(order) + 1) if (n + 1) * (1 - c[order[n - 1]]) < options.factor] or [0]
                )
            for i in order[: max(n, -(-len(masks) // row.left(b)))]:
                row.canvas[i] = drawn[i][0]
            row.step += 1
    return row


def wino(*given):
    row, options = Row(*given), given[2]
    for b, block in enumerate(row.blocks):
        accepted_before = 30
        while masks := row.masks(block):
            logits, held = row.logits(), [i for i in block if row.canvas[i] != row.mask]
            drawn = row.draw(logits, masks)
            p = {i: x[1] for i, x in drawn.items()}
            most, least = min(max(int(len(masks) * 0.7), 5), 20), -(-len(masks) // row.left(b))
            accepted = best({i: x for i, x in p.items() if x > options.draft}, most)
            accepted = [i for i in masks if i in accepted or i in best(p, least)]
            again = []
            if len(accepted) > 1 and row.left(b) > 1:
                q = shadows(row, block)
                doubted = [i for i in held if q[i] < options.verify]
                again = sorted(doubted, key=q.get)[: accepted_before - 1]
            for i in accepted:
                row.canvas[i] = drawn[i][0]
            for i in again:
                row.canvas[i] = row.mask
            accepted_before, row.step = len(accepted), row.step + 1
    return row


def shadows(row, block) -> dict:
    """What the shadow of each token of the block gives it: the mask of who sees whom pair by pair."""
    text, shift, P = [*row.prompt, *row.canvas], int(row.family.shift), len(row.prompt)
    stands = [P + i for i in block]  # index in the text of the token that each shadow stands for
    ids = text + [text[j - 1] if shift else row.mask for j in stands]
    seen = torch.zeros(1, 1, len(ids), len(ids), dtype=torch.bool)
    for a in range(len(ids)):
        for c in range(len(ids)) if a >= len(text) else ():
            seen[0, 0, a, c] = c != stands[a - len(text)] if c < len(text) else a == c or not shift
    seen[0, 0, : len(text), : len(text)] = True
    places = torch.tensor([[*range(len(text)), *(j - shift for j in stands)]])
    z = row.model(input_ids=torch.tensor([ids]), attention_mask=seen, position_ids=places).logits[0].float()
    z[:, row.mask] = -torch.inf
    if row.options.eot_form == "prob_div":
        z[:, row.family.eot_ids[0]] -= log(row.options.eot_lambda)
    q = torch.softmax(z[len(text) :], -1)
    return {i: q[k, row.canvas[i]].item() for k, i in enumerate(block)}


def t2m(*given):
    row, options = Row(*given), given[2]
    for b, block in enumerate(row.blocks):
        times, before, checks = dict.fromkeys(block, 0), dict.fromkeys(block, 0.0), 0
        while True:
            left, masks, held = row.left(b), row.masks(block), [i for i in block if row.canvas[i] != row.mask]
            logits = row.logits()
            drawn = row.draw(logits, block)
            old = {i: torch.softmax(logits[i], -1)[row.canvas[i]].item() for i in block}
            fill = [i for i in masks if drawn[i][1] > options.sure]
            fill += best({i: drawn[i][1] for i in masks}, -(-len(masks) // left))
            new = [i for i in held if drawn[i][0] != row.canvas[i] and drawn[i][1] > options.doubt]
            marked, belief = {
                "low_prob": ([i for i in held if old[i] < options.doubt], old),
                "t2t_remask": (new, {i: 1 - drawn[i][1] for i in block}),
                "logit_diff": (
                    [i for i in held if before[i] - old[i] > options.doubt], {i: old[i] - before[i] for i in held},
                ),
                "edit": (new, old),
            }[options.strategy]  # fmt: skip
            if options.strategy != "edit":
                marked = sorted([i for i in marked if times[i] < options.most], key=belief.get)
                marked = marked[: max(1, floor(len(held) * options.share + 1e-9)) if left > 1 else 0]
            before = dict(old)
            for i in set(fill) | (set(marked) if options.strategy == "edit" else set()):
                row.canvas[i], before[i] = drawn[i]
            if options.strategy != "edit":
                for i in marked:
                    row.canvas[i], times[i] = row.mask, times[i] + 1
            row.step, checks = row.step + 1, checks + (not masks)
            ended = options.early_stop and any(token in row.family.eot_ids for token in row.canvas)
            if not row.masks(block) and (ended or (not masks and not marked) or checks >= options.post or left == 1):
                break
        if ended:
            break
    return row


def core(*given):
    row, options = Row(*given), given[2]
    steps, revisions = options.plan
    row.also = len(revisions)
    for t in range(1, steps + 1):
        logits = row.logits()
        masks = row.masks(range(row.G))
        drawn = row.draw(logits, masks)
        if t in revisions:
            plain = predict(row.model, row.prompt, row.canvas, row.family, "off", 1.0)
            top = torch.softmax(plain, -1).topk(2, -1).values
            margin = {i: (top[i, 1] - top[i, 0]).item() for i in range(row.G) if i not in masks}
            S = best(margin, options.candidates)
            tested = row.logits([row.mask if i in S else x for i, x in enumerate(row.canvas)])
            unstable = {i: -torch.log_softmax(tested[i], -1)[row.canvas[i]].item() for i in S}
            for i, (token, _) in row.draw(tested, best(unstable, options.revised), REVISE + t - 1).items():
                row.canvas[i] = token
        for i in best({i: p for i, (_, p) in drawn.items()}, transfer_counts(row.G, steps)[t - 1]):
            row.canvas[i] = drawn[i][0]
        row.step += 1
    return row


def remdm_llada(*given):
    """The authors' loop: `i` counts a block's forwards, masking again in those from `first` on, `again` of them."""
    row, options = Row(*given), given[2]
    for b, block in enumerate(row.blocks):
        T = transfer_counts(options.forwards, len(row.blocks))[b]
        again = floor(T * options.remask_share)
        steps = T - again
        first, kept = max(floor(7 / 8 * steps), 1), {}
        counts = iter(transfer_counts(len(block), steps))
        for i in range(T):
            window = first <= i < first + again
            if window:
                for j in best({j: -p for j, p in kept.items()}, options.remasked):
                    row.canvas[j] = row.mask
                    del kept[j]
            drawn = row.draw(row.logits(), row.masks(block))
            p = {j: x[1] for j, x in drawn.items()}
            for j in best(p, options.remasked if window else next(counts)):
                row.canvas[j], kept[j] = drawn[j]
            row.step += 1
        if any(token in row.family.eot_ids for token in row.canvas):
            break
    return row


FAST = varied(FastDllm(canvas=12, threshold=0.5), rule=["factor"], block=[4], forwards=[3], temperature=[0.7],
              more=[{"rule": "factor", "block": 4, "forwards": 5, "factor": 1.6} | PENALTY])  # fmt: skip
WINO = varied(Wino(canvas=16, draft=0.1), block=[8], forwards=[4], temperature=[0.7], draft=[0.5], verify=[0.5],
              more=[{"block": 8, "forwards": 7, "temperature": 1.0} | PENALTY])  # fmt: skip
T2M = varied(T2m(canvas=12, sure=0.5), block=[4], forwards=[6], temperature=[0.7], most=[3], share=[1.0], post=[0],
             strategy=["t2t_remask", "logit_diff", "edit"], early_stop=[False],
             more=[{"block": 6, "forwards": 9} | PENALTY, {"block": 6, "early_stop": False}])  # fmt: skip
CORE = varied(Core(canvas=12, forwards=12, every=2, candidates=3), temperature=[0.7], revised=[2], forwards=[5, 13],
              more=[PENALTY])  # fmt: skip
LLADA = varied(RemdmLlada(canvas=12, forwards=16), block=[4], forwards=[4, 7], temperature=[0.0], remasked=[3],
               remask_share=[0.25], more=[PENALTY])  # fmt: skip
EVERY = {
    f"{reference.__name__}-{name}": (reference, options)
    for reference, many in ((fast_dllm, FAST), (wino, WINO), (t2m, T2M), (core, CORE), (remdm_llada, LLADA))
    for name, options in many.items()
}


@pytest.mark.parametrize("case", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("family", [SHIFTED, UNSHIFTED], ids=lambda family: family.name)
@torch.inference_mode()
def test_the_loop_gives_what_the_plain_reference_gives(case, family, prompts):
    """Token by token, what stands behind an EoT included, and forward by forward."""
    reference, options = case
    model, family, (ids, mask) = tiny(scale=20.0), replace(family, eot_ids=ENDS), prompts
    for seed in (0, 1) if options.temperature == 1 else (0,):
        generator = RowGenerator.of(seed, list("abcd"))
        out = decode(model, ids, options, generator=generator, family=family, attention_mask=mask, record=True)
        found = torch.full((4, options.canvas), family.mask_id)
        for event in out.trace.events:
            found[event.get("rows", slice(None))] = event["tokens"]
        for row in range(3):
            own = generator.select(torch.tensor([row]))
            plain = reference(model, ids[row, mask[row].bool()].tolist(), options, own, family)
            assert found[row].tolist() == plain.canvas, f"seed {seed}, row {row}"
            assert int(out.trace.target_forwards[row]) == plain.forwards


def test_the_cases_take_tokens_back(prompts):
    """Else the references would agree on nothing."""
    ids, mask = prompts
    for name in ("wino-base", "wino-block=8", "t2m-base", "t2m-strategy=logit_diff", "t2m-strategy=edit"):
        out = decode(tiny(scale=20.0), ids, EVERY[name][1], generator=0, family=SHIFTED, attention_mask=mask)
        assert out.trace.measures["remasked"].sum() > 0, name
