"""The loop that all drafting methods share: draft, one pass of the target over it, keep a path, one token more."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution, check_nan, distribution_of
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.session import Session
from lib.decoding.trace import Decoded, Trace
from lib.errors import UserError
from lib.mtad.draft import Draft
from lib.mtad.sequences import Sequences

DRAFT, ACCEPT, BONUS = range(3)  # streams of randomness within a step


@dataclass(frozen=True)
class Drafting(Options):
    """What every drafting method has.

    max_new_tokens: length limit. gamma: length of a draft.
    temperature, top_k, top_p: warp draft and target alike, for drafting and for verification; the defaults are
    those of the released MTAD code.
    heads: the target's distribution is that of its AutoDeco heads, so is the draft's where it has heads of its own,
    and temperature and top_p multiply what they say: 1, 1 and a top_k of 0 (off) are the heads' own decoding.
    """

    max_new_tokens: int = 64
    gamma: int = 4
    temperature: float = 1.0
    top_k: int = 10
    top_p: float = 0.9
    heads: bool = False

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("gamma", self.gamma >= 1, "1 or more")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_k", self.top_k >= 0, "0 (off) or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")

    def distribution(self, logits: Tensor) -> Distribution:
        """Of logits [..., V] at one setting for all; with heads, ask `Session.law`."""
        return distribution_of(logits, self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True)
class Verdict:
    """path [b, D]: the places of the accepted tokens in the draft, -1 from the first that is not accepted.

    bonus [b, K]: the distribution of the token that the target adds behind them.
    """

    path: Tensor
    bonus: Distribution


@torch.inference_mode()
def loop(
    model,
    input_ids: Tensor,
    options: Drafting,
    propose: Callable[[Session, Tensor, Tensor, Tensor], Draft],
    verify: Callable[[Draft, Distribution, Tensor], Verdict],
    *,
    draft,
    generator,
    family: Family,
    draws: int,
    verified: int,
    attention_mask=None,
    record=False,
    lossy=False,
) -> Decoded:
    """Decode prompts [B, P]; a row that has ended leaves the batch.

    `propose(session, pending, real, uniform [b, draws])` drafts from what the draft has not read yet;
    `verify(draft, distributions [b, 1 + N, K], uniform [b, N])` is given the target's, after the text and after
    each drafted token. Measures of the trace, a row: `blocks` (passes of the target that verified), `accepted` and
    `bonus` (tokens of the response, its EoT included, by where they come from), `drafted` (tokens that the target
    verified), `reached` (the sum of layers drafted for which the limit had room) and `accept_lengths` (how many
    passes took 0, 1, ... drafted tokens). Of a rule that is `lossy` also `overshoot` and `beyond`, see `excess`.
    """
    require_pair(model, draft)
    require_heads(model, options)
    rows, device = len(input_ids), input_ids.device
    random = RowGenerator.coerce(generator, rows)
    ends = torch.tensor(family.eot_ids, device=device)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    trace = Trace.start(rows, record)
    text = Sequences(input_ids, mask, options.max_new_tokens, ends, options.gamma + 1, trace.listener)
    room = input_ids.shape[1] + options.max_new_tokens
    target, drafter = Session(model, rows, room), Session(draft, rows, room)
    counts = Counts()
    step = 0
    while len(text.rows):
        uniforms = random.streams(step, {DRAFT: draws, ACCEPT: verified, BONUS: 1}, device)
        drafted = propose(drafter, *text.unread(drafter.length), uniforms[DRAFT])
        found = target.law(options, read(target, text, drafted)).padded(1 + drafted.tokens.shape[1])
        verdict = verify(drafted, found, uniforms[ACCEPT])
        bonus = verdict.bonus.draw(uniforms[BONUS][:, 0])
        accepted = (verdict.path >= 0).sum(-1)
        new = torch.cat([drafted.of(drafted.tokens, verdict.path), bonus[:, None]], 1)
        new = new.scatter(1, accepted[:, None], bonus[:, None])
        room = text.limit - text.made
        added, going = text.add(new, accepted + 1)
        over = excess(drafted, found, verdict.path) if lossy else None
        counts.add(text.rows, drafted, accepted, added, room, over)
        if trace.events is not None:
            trace.events.append(_event(step, text.rows, drafted, verdict, accepted, bonus))
        commit(target, drafter, drafted, verdict.path)
        if not bool(going.all()):
            for part in (text, target, drafter):
                part.select(going)
            random = random.select(going)
        step += 1
    check_nan()
    trace.target_forwards, trace.positions, trace.head_positions = target.counts(rows)
    trace.draft_forwards, trace.draft_positions, _ = drafter.counts(rows)
    trace.batch_forwards = len(target.took)
    trace.measures = counts.measures(rows, options.gamma)
    return Decoded.close(text.responses(), family.eot_ids, trace)


def read(target: Session, text: Sequences, drafted: Draft) -> Tensor:
    """One pass of the target over what it has not read and over the draft: logits [b, 1 + n, V].

    n: up to the last token that is real in some row.
    """
    pending, real = text.unread(target.length)
    width, n = pending.shape[1], shown(drafted)
    causal = torch.ones(width, width, dtype=torch.bool, device=pending.device).tril() & real[:, None]
    above = torch.cat([causal, causal.new_zeros(len(real), width, n)], -1)
    below = torch.cat([real[:, None].expand(-1, n, -1), drafted.sees[:, :n, :n]], -1)
    tokens = torch.cat([pending, drafted.tokens[:, :n]], 1)
    return target.forward(tokens, torch.cat([real, drafted.real[:, :n]], 1), torch.cat([above, below], 1), n + 1)


def shown(drafted: Draft) -> int:
    """How many of the drafted tokens the target is shown."""
    real = drafted.real.any(0)
    return int((real * torch.arange(1, 1 + len(real), device=real.device)).max())


def commit(target: Session, drafter: Session, drafted: Draft, path: Tensor) -> None:
    """Both caches keep the text and the accepted path; the draft has not read the last layer."""
    target.keep(chosen(path, shown(drafted)))
    fed = torch.where(path >= 0, drafted.of(drafted.fed, path), -1)
    drafter.keep(chosen(fed, drafted.read))


def chosen(places: Tensor, count: int) -> Tensor:
    """places [b, D] as a mask [b, count]; -1 is none of them."""
    return (torch.arange(count, device=places.device)[:, None] == places[:, None, :]).any(-1)


class Counts:
    """What the loop measures a row, besides the counters of its sessions: kept as it comes, added up at the end."""

    NAMES = ("blocks", "accepted", "bonus", "drafted", "reached")

    def __init__(self):
        self.rounds: list[tuple[Tensor, ...]] = []
        self.over: list[tuple[Tensor, Tensor]] = []

    def add(self, rows, drafted: Draft, accepted: Tensor, added: Tensor, room: Tensor, over: Tensor | None) -> None:
        self.rounds.append((rows, drafted.real, drafted.depth, accepted, added, room))
        if over is not None:
            self.over.append((rows, over))

    def measures(self, rows: int, gamma: int) -> dict[str, Tensor]:
        found = {name: torch.zeros(rows, dtype=torch.long) for name in self.NAMES}
        found["accept_lengths"] = torch.zeros(rows, gamma + 1, dtype=torch.long)
        for at, real, depth, accepted, added, room in self.rounds:
            taken = torch.minimum(accepted, added)
            reached = torch.minimum((real * (depth + 1)).amax(-1), room)
            values = torch.stack([torch.ones_like(taken), taken, added - taken, real.sum(-1), reached]).cpu()
            at, taken = at.cpu(), taken.cpu()
            for name, value in zip(self.NAMES, values, strict=True):
                found[name][at] += value
            found["accept_lengths"][at, taken] += 1
        if self.over:
            sums = torch.zeros(rows, 2, dtype=torch.double)
            for at, over in self.over:
                sums[at.cpu()] += torch.stack([over, -torch.expm1(-over)], -1).cpu()
            found |= zip(("overshoot", "beyond"), sums.round(decimals=4).unbind(-1), strict=True)
        return found


def excess(drafted: Draft, distribution: Distribution, path: Tensor) -> Tensor:
    """How far an accepted path [b, D] goes beyond the target: [b], (log Q - log P)+ in nats.

    P and Q are its joints under target and draft, up to an end of text, whatever the limit cuts off; 0 where
    the target likes it as well. The measure `overshoot` sums over passes, each below log(1/tau) for MTAD's chain;
    `beyond` the sum of (1 - P/Q)+, the chance that a lossless test of the block would have refused what was accepted.
    arXiv 2607.26627: what a rule that accepts more loses in quality goes with the draft's probability above the
    target's.
    """
    before = torch.cat([torch.full_like(path[:, :1], -1), path[:, :-1]], 1)
    rows = torch.arange(len(path), device=path.device)[:, None]
    tokens = drafted.of(drafted.tokens, path)
    p = distribution[rows, before + 1].at(tokens[..., None]).squeeze(-1)
    steps = drafted.of(drafted.chance, path).double().log() - p.double().log()
    within = (path >= 0) & ~drafted.of(drafted.behind, path)
    return torch.where(within, steps, 0.0).sum(-1).clamp(min=0)


def _event(step: int, rows: Tensor, drafted: Draft, verdict: Verdict, accepted: Tensor, bonus: Tensor) -> dict:
    shown = {"rows": rows, "drafted": drafted.tokens, "parents": drafted.parents, "joint": drafted.joint}
    shown |= {"path": verdict.path, "accepted": accepted, "bonus": bonus}
    return {"stage": "verify", "step": step, **{name: value.cpu() for name, value in shown.items()}}


def require_heads(model, options: Drafting) -> None:
    """Raise UserError where heads are asked for and the target has none; a draft may go without."""
    if options.heads and not hasattr(getattr(model, "heads", None), "settings"):
        raise UserError(
            f"{type(options).__name__}.heads asks for a target with AutoDeco's heads: give "
            "AutoDecoForCausalLM.from_base(model, heads), or leave it out"
        )


def require_pair(model, draft) -> None:
    """Raise UserError where there is no draft, or one that speaks of other tokens."""
    if draft is None:
        raise UserError("this method needs a draft: give decode(..., draft=small_model)")
    sizes = [m.config.get_text_config().vocab_size for m in (model, draft)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"draft and target have different vocabularies ({sizes[1]} and {sizes[0]} tokens): their probabilities "
            "are of different tokens; take a draft of the target's own family"
        )
