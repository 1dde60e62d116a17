"""What every decoder returns: the sequences, and one trace of what they cost."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.decoding.listening import Listener


@dataclass
class Trace:
    """Counters a row, [B] each, filled by the loop. What a method does not have stays None, never zero.

    target_forwards: forwards of the model in which the row still took part (NFE). A row that has finished
        while others go on is not charged.
    positions: positions that those forwards computed for the row, padding excluded: prompt and canvas for a
        diffusion model, the uncached part for an autoregressive one.
    head_positions: positions at which the language-model head was needed, of those computed.
    tokens_kept: response tokens before the first EoT, EoT excluded.
    draft_forwards, draft_positions: the same two of a draft model.
    measures: what a method measures besides, [B, ...] by name, such as mean temperature or accept lengths.
    events: with `record=True`, a dict a step; its keys belong to the method.
    per_token: with `record` of any kind, what a method says of every token of a response, [B, G] by name. Of a
        diffusion decoder `step`: in which forward of its row, from 1, the position was a mask for the last time, and
        so was unmasked; 0 where it is one to the end. Of AutoDeco `temperature` and `top_p`, of a truncation how
        many tokens it `kept`, NaN behind the end.
    listener: whom the loop tells of tokens as they come.
    batch_forwards: calls of the model for the whole batch, what a wrapper around it would count.
    """

    target_forwards: Tensor
    positions: Tensor
    head_positions: Tensor
    tokens_kept: Tensor | None = None
    draft_forwards: Tensor | None = None
    draft_positions: Tensor | None = None
    measures: dict[str, Tensor] = field(default_factory=dict)
    events: list[dict] | None = None
    per_token: dict[str, Tensor] | None = None
    listener: Listener | None = None
    batch_forwards: int = 0

    @classmethod
    def start(cls, rows: int, record: bool | Listener = False) -> "Trace":
        zeros, listens = torch.zeros(rows, dtype=torch.long), isinstance(record, Listener)
        return cls(
            zeros.clone(),
            zeros.clone(),
            zeros.clone(),
            events=[] if record and not listens else None,
            per_token={} if record else None,
            listener=record if listens else None,
        )

    def row(self, index: int) -> dict:
        """The counters of one row, for its line in a result."""
        counters = (
            "target_forwards",
            "positions",
            "head_positions",
            "tokens_kept",
            "draft_forwards",
            "draft_positions",
        )
        found = {name: getattr(self, name) for name in counters} | self.measures
        return {name: None if value is None else value[index].tolist() for name, value in found.items()}


@dataclass
class Decoded:
    """`responses` [B, G] new token ids, everything from the first EoT on replaced by EoT; `lengths` [B] before it.

    `ends` [B]: which EoT of the family's stood there first; its first where there was none.
    """

    responses: Tensor
    lengths: Tensor
    trace: Trace = field(repr=False)
    ends: Tensor | None = field(default=None, repr=False)

    @classmethod
    def close(cls, responses: Tensor, eot_ids: tuple[int, ...], trace: Trace) -> "Decoded":
        """Cut at the first EoT of any kind, on token ids, before any text is made."""
        closed, lengths = cut(responses, eot_ids)
        padded = torch.nn.functional.pad(responses, (0, 1), value=eot_ids[0])
        drawn = padded.gather(-1, lengths[:, None])[:, 0]
        lengths = lengths.cpu()
        trace.tokens_kept = lengths
        return cls(closed, lengths, trace, drawn)


def cut(responses: Tensor, eot_ids: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Responses [..., G] with everything from the first EoT on replaced by EoT, and the lengths [...] before it."""
    is_end = torch.isin(responses, torch.tensor(eot_ids, device=responses.device))
    ended = is_end.long().cumsum(-1) > 0
    return responses.masked_fill(ended, eot_ids[0]), (~ended).sum(-1)
