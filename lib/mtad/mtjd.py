"""MTJD, multi-token joint decoding: blocks of gamma tokens chosen by the target's own joint (arXiv 2407.09722).

Blocks drawn from the joint as it is are, by the chain rule, the same text as token by token: a gain needs a joint
that is sharpened, and the paper's public text does not say how. Here `joint_temperature` does it: 0 takes the
likeliest block, which is what the first version of the paper described, above 0 a block is drawn by P^(1/T).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution, categorical, check_nan
from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.decoding.registry import decoder
from lib.decoding.session import Session
from lib.decoding.trace import Decoded, Trace
from lib.mtad.draft import Layer, ends_first, grow
from lib.mtad.loop import Drafting, chosen, require_heads
from lib.mtad.sequences import Sequences


@dataclass(frozen=True)
class Mtjd(Drafting):
    """gamma: tokens a block. width: how many blocks are kept while one grows; exact where it is the number of them.

    joint_temperature sharpens the joint of a block (see above); temperature, top_k and top_p warp each token's
    distribution before. At gamma 1 and joint_temperature 0 this is greedy decoding.
    """

    width: int = 16
    joint_temperature: float = 0.0

    def check(self) -> None:
        super().check()
        self.require("width", self.width >= 1, "1 or more")
        self.require("joint_temperature", self.joint_temperature >= 0, "0 (the likeliest block) or more")


@decoder("mtjd", Mtjd)
@torch.inference_mode()
def decode(
    model, input_ids: Tensor, options: Mtjd, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """Decode prompts [B, P], a block a step; `blocks` of the trace counts them, `joint` is the sum of their log P."""
    require_heads(model, options)
    rows, device = len(input_ids), input_ids.device
    generator = RowGenerator.coerce(generator, rows)
    ends = torch.tensor(family.eot_ids, device=device)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    trace = Trace.start(rows, record)
    text = Sequences(input_ids, mask, options.max_new_tokens, ends, options.gamma, trace.listener)
    session = Session(model, rows, input_ids.shape[1] + options.max_new_tokens)
    measures = {"blocks": torch.zeros(rows, dtype=torch.long), "joint": torch.zeros(rows)}
    step = 0
    while len(text.rows):
        expand = best(options.width, ends)
        found = grow(session, *text.unread(session.length), options, options.gamma, expand, ends)
        last = found.weights  # log P of whole blocks; -inf for what follows an end of text and is not that end
        uniform = generator.select(text.rows).uniform(step, 0, 1, device)[:, 0]
        leaf = found.tokens.shape[1] - last.shape[1] + choose_block(last, options.joint_temperature, uniform)
        path = found.path(leaf)
        measures["blocks"][text.rows.cpu()] += 1
        measures["joint"][text.rows.cpu()] += found.of(found.joint, leaf[:, None])[:, 0].cpu()
        if trace.events is not None:
            shown = {"rows": text.rows, "tokens": found.of(found.tokens, path), "joint": last}
            trace.events.append({"stage": "block", "step": step, **{k: v.cpu() for k, v in shown.items()}})
        _, going = text.add(found.of(found.tokens, path), torch.full_like(leaf, path.shape[1]))
        session.keep(chosen(found.of(found.fed, path), found.read))
        if not bool(going.all()):
            text.select(going)
            session.select(going)
        step += 1
    check_nan()
    trace.target_forwards, trace.positions, trace.head_positions = session.counts(rows)
    trace.batch_forwards, trace.measures = len(session.took), measures
    return Decoded.close(text.responses(), family.eot_ids, trace)


def choose_block(joint: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """One block of each row: log P [b, n], uniform [b] -> [b]."""
    if not temperature:
        return joint.argmax(-1)
    return categorical(torch.softmax(joint.double() / temperature, -1), uniform)


def best(width: int, ends: Tensor):
    """The `width` blocks of the largest joint, a layer at a time; one that has ended stays as it is."""

    def expand(distribution: Distribution, last: Layer | None, depth: int) -> Layer:
        distribution = distribution if last is None else ends_first(distribution, last[1], ends)
        joint = torch.zeros_like(distribution.probs[..., 0]) if last is None else last[4]
        table = (joint[..., None] + distribution.probs.log()).flatten(1)
        found = table.topk(min(width, table.shape[1]), -1)
        size = distribution.probs.shape[-1]
        up = found.indices // size
        tokens = distribution.everywhere().flatten(1).gather(1, found.indices)
        chance = distribution.probs.flatten(1).gather(1, found.indices)
        return up, tokens, chance, found.values > -torch.inf, found.values

    return expand
