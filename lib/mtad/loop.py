"""The loop that all drafting methods share: draft, one pass of the target over it, keep a path, one token more."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import Distribution, distribution_of
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.session import Session
from lib.decoding.trace import Decoded, Trace
from lib.errors import UserError
from lib.mtad.draft import Draft

DRAFT, ACCEPT, BONUS = range(3)  # streams of randomness within a step


@dataclass(frozen=True)
class Drafting(Options):
    """What every drafting method has; `gamma` is the length of a draft.

    temperature, top_k and top_p warp draft and target alike, for drafting and for verification; the defaults are
    those of the released MTAD code.
    """

    max_new_tokens: int = 64
    gamma: int = 4
    temperature: float = 1.0
    top_k: int = 10
    top_p: float = 0.9

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("gamma", self.gamma >= 1, "1 or more")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_k", self.top_k >= 0, "0 (off) or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")

    def distribution(self, logits: Tensor) -> Distribution:
        return distribution_of(logits, self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True)
class Verdict:
    """path [b, D]: the places of the accepted tokens in the draft, -1 from the first that is not accepted.

    bonus [b, K]: the distribution of the token that the target adds behind them.
    """

    path: Tensor
    bonus: Distribution


class Text:
    """The sequences of rows that advance by different counts, left-aligned, and their responses."""

    def __init__(self, input_ids: Tensor, mask: Tensor, limit: int, ends: Tensor):
        rows, width = input_ids.shape
        self.ends, self.limit = ends, limit
        self.total = mask.sum(-1)
        self.tokens = torch.full((rows, width + limit), int(ends[0]), device=input_ids.device)
        for i, length in enumerate(self.total.tolist()):
            if not length:
                raise UserError("a prompt is empty: a model that drafts needs one token to go on from")
            self.tokens[i, :length] = input_ids[i, width - length :]
        self.responses = torch.full((rows, limit), int(ends[0]), device=input_ids.device)
        self.made = torch.zeros_like(self.total)
        self.rows = torch.arange(rows, device=input_ids.device)

    def unread(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """What lies behind the first `length` [b] tokens: [b, Q] left-padded, and where it is real."""
        missing = self.total - length
        width = int(missing.max())
        back = torch.arange(width, 0, -1, device=length.device)
        places = (self.total[:, None] - back).clamp(min=0)
        return self.tokens.gather(1, places), back <= missing[:, None]

    def add(self, tokens: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Put the first `count` [b] of tokens [b, W] behind the text, up to an end and to the limit.

        Returns how many were taken [b] (the end of text among them) and which rows go on [b].
        """
        place = torch.arange(tokens.shape[1], device=tokens.device)
        wanted = place < count[:, None]
        is_end = torch.isin(tokens, self.ends) & wanted
        after = (is_end.long().cumsum(-1) - is_end.long()) > 0
        taken = wanted & ~after & (self.made[:, None] + place < self.limit)
        row, column = taken.nonzero(as_tuple=True)
        value = tokens[row, column]
        self.tokens[row, self.total[row] + column] = value
        self.responses[self.rows[row], self.made[row] + column] = value
        added = taken.sum(-1)
        self.total, self.made = self.total + added, self.made + added
        return added, ~(is_end & taken).any(-1) & (self.made < self.limit)

    def select(self, rows: Tensor) -> None:
        self.tokens, self.total, self.made, self.rows = (
            part[rows] for part in (self.tokens, self.total, self.made, self.rows)
        )


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
    attention_mask=None,
    record=False,
) -> Decoded:
    """Decode prompts [B, P]; a row that has ended leaves the batch.

    `propose(session, pending, real, uniform [b, draws])` drafts from what the draft has not read yet;
    `verify(draft, distribution [b, 1 + N, K], uniform [b, N])` is given the target's distributions after the text and after each
    drafted token. Measures of the trace, a row: `blocks` (passes of the target that verified), `accepted` and
    `bonus` (tokens of the response, its EoT included, by where they come from), `drafted` (tokens that the target
    verified), `reached` (the sum of layers drafted for which the limit had room) and `accept_lengths` (how many
    passes took 0, 1, ... drafted tokens).
    """
    require_pair(model, draft)
    rows, device = len(input_ids), input_ids.device
    generator = RowGenerator.coerce(generator, rows)
    ends = torch.tensor(family.eot_ids, device=device)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    text = Text(input_ids, mask, options.max_new_tokens, ends)
    target, drafter = Session(model, rows), Session(draft, rows)
    counts = Counts(rows, options)
    trace = Trace.start(rows, record)
    step = 0
    while len(text.rows):
        random = generator.select(text.rows)
        drafted = propose(drafter, *text.unread(drafter.length), random.uniform(step, DRAFT, draws, device))
        distribution = options.distribution(read(target, text, drafted)).padded(1 + drafted.tokens.shape[1])
        verdict = verify(drafted, distribution, random.uniform(step, ACCEPT, drafted.tokens.shape[1], device))
        bonus = verdict.bonus.draw(random.uniform(step, BONUS, 1, device)[:, 0])
        accepted = (verdict.path >= 0).sum(-1)
        new = torch.cat([drafted.of(drafted.tokens, verdict.path), bonus[:, None]], 1)
        new = new.scatter(1, accepted[:, None], bonus[:, None])
        room = text.limit - text.made
        added, going = text.add(new, accepted + 1)
        counts.add(text.rows, drafted, accepted, added, room)
        if trace.events is not None:
            trace.events.append(_event(step, text.rows, drafted, verdict, accepted, bonus))
        settle(target, drafter, drafted, verdict.path)
        if not bool(going.all()):
            for part in (text, target, drafter):
                part.select(going)
        step += 1
    trace.target_forwards, trace.positions, trace.head_positions = target.counts(rows)
    trace.draft_forwards, trace.draft_positions, _ = drafter.counts(rows)
    trace.batch_forwards = len(target.took)
    trace.measures = counts.measures
    return Decoded.close(text.responses, family.eot_ids, trace)


def read(target: Session, text: Text, drafted: Draft) -> Tensor:
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


def settle(target: Session, drafter: Session, drafted: Draft, path: Tensor) -> None:
    """Both caches keep the text and the accepted path; the draft has not read the last layer."""
    target.keep(chosen(path, shown(drafted)))
    fed = torch.where(path >= 0, drafted.of(drafted.fed, path), -1)
    drafter.keep(chosen(fed, drafted.read))


def chosen(places: Tensor, count: int) -> Tensor:
    """places [b, D] as a mask [b, count]; -1 is none of them."""
    return (torch.arange(count, device=places.device)[:, None] == places[:, None, :]).any(-1)


class Counts:
    """What the loop measures a row, besides the counters of its sessions."""

    NAMES = ("blocks", "accepted", "bonus", "drafted", "reached")

    def __init__(self, rows: int, options: Drafting):
        self.measures = {name: torch.zeros(rows, dtype=torch.long) for name in self.NAMES}
        self.measures["accept_lengths"] = torch.zeros(rows, options.gamma + 1, dtype=torch.long)

    def add(self, rows: Tensor, drafted: Draft, accepted: Tensor, added: Tensor, room: Tensor) -> None:
        rows, taken = rows.cpu(), torch.minimum(accepted, added).cpu()
        depth = torch.minimum((drafted.real * (drafted.depth + 1)).amax(-1), room).cpu()
        found = (torch.ones_like(taken), taken, added.cpu() - taken, drafted.real.sum(-1).cpu(), depth)
        for name, value in zip(self.NAMES, found, strict=True):
            self.measures[name][rows] += value
        self.measures["accept_lengths"][rows, taken] += 1


def _event(step: int, rows: Tensor, drafted: Draft, verdict: Verdict, accepted: Tensor, bonus: Tensor) -> dict:
    shown = {"rows": rows, "drafted": drafted.tokens, "parents": drafted.parents, "joint": drafted.joint}
    shown |= {"path": verdict.path, "accepted": accepted, "bonus": bonus}
    return {"stage": "verify", "step": step, **{name: value.cpu() for name, value in shown.items()}}


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
