"""What `generate` promises of a response while it is made: a streamer is given its tokens, criteria may end it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from transformers.generation import StoppingCriteriaList

from lib.decoding.listening import Listener
from lib.decoding.trace import Decoded, cut
from lib.errors import UserError

_ENDING: ContextVar[tuple] = ContextVar("streamers that are ended further out", default=())


@contextmanager
def ended(streamer) -> Iterator[None]:
    """A streamer, if there is one, is ended whatever happens, by the outermost of these: another thread may wait."""
    outer = _ENDING.get()
    if streamer is None or any(streamer is other for other in outer):
        yield
        return
    mark = _ENDING.set((*outer, streamer))
    try:
        yield
    finally:
        _ENDING.reset(mark)
        streamer.end()


def with_ends(out: Decoded) -> Tensor:
    """Responses [B, G] with the end of text that was drawn, where Decoded has the family's first for all."""
    places = torch.arange(out.responses.shape[1], device=out.responses.device)
    at = places == out.lengths.to(places.device)[:, None]
    return torch.where(at, out.ends[:, None], out.responses)


def _as_drawn(tokens: Tensor, ends: tuple[int, ...]) -> Tensor:
    """Tokens [..., G] as `cut` leaves them, but for the first end of text, which stays the one that was drawn."""
    closed, lengths = cut(tokens, ends)
    return torch.where(torch.arange(tokens.shape[-1], device=tokens.device) == lengths[..., None], tokens, closed)


class Response(Listener):
    """The responses behind `prompts` [B, P], filled up with `pad`, of up to `limit` tokens each.

    `streamer`: of `transformers`, for one row. It is given the prompt, tokens as soon as they can no longer change,
    and, where it has `put_draft` as DiffusionGemma's streamers have, the canvas [1, G] after every step, as the
    response would be if it were done. `criteria` see what they see in `generate`: at each length P + 1, P + 2, ...
    the prompts of the batch and so much behind them, where a row that has ended is padded. Rows that get several
    tokens a step need not be at one length; what such a call says of the rows that are elsewhere does not count.
    """

    def __init__(self, prompts: Tensor, limit: int, pad: int, ends: tuple[int, ...], streamer=None, criteria=()):
        if streamer is not None and len(prompts) != 1:
            raise UserError(f"a streamer is given one text, and the batch has {len(prompts)}: leave it out")
        self.prompt, self.pad, self.ends, self.streamer = prompts.shape[1], pad, ends, streamer
        self.criteria = StoppingCriteriaList(criteria)
        self.looks = streamer is not None or bool(self.criteria)
        self.stops = type(self.criteria[0]).__name__ if self.criteria else ""
        self.text = torch.cat([prompts, prompts.new_full((len(prompts), limit), pad)], 1)
        self.made = [0] * len(prompts)  # tokens of each row that criteria have seen
        self.sent = 0  # tokens that the streamer was given
        if streamer is not None:
            streamer.put(prompts.cpu())

    def heard(self, rows: Tensor, tokens: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        stopped = torch.zeros_like(taken[:, 0])
        if self.criteria:
            taken, stopped = self._held(rows.tolist(), tokens, taken)
        if self.streamer is not None:
            self._put(tokens[0, taken[0]])
        return taken, stopped

    def drafted(self, rows: Tensor | None, tokens: Tensor) -> None:
        if hasattr(self.streamer, "put_draft"):
            self.streamer.put_draft(_as_drawn(tokens, self.ends).cpu())

    def finish(self, out: Decoded) -> Tensor:
        """Put what was not put on the way; [B] the tokens of each response, the end of text among them."""
        length = out.responses.shape[1]
        made = torch.tensor(self.made) if self.criteria else (out.lengths + 1).clamp(max=length)
        if self.streamer is not None:
            self._put(with_ends(out)[0, self.sent : int(made[0])])
        return made

    def _put(self, tokens: Tensor) -> None:
        if len(tokens):
            self.streamer.put(_as_drawn(tokens, self.ends).cpu())
            self.sent += len(tokens)

    def _held(self, rows: list[int], tokens: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the taken tokens stay, up to the first length at which a criterion holds, and which rows stop."""
        counts, before = taken.sum(-1).tolist(), [self.made[row] for row in rows]
        stopped = [False] * len(rows)
        for i, row in enumerate(rows):
            start = self.prompt + before[i]
            self.text[row, start : start + counts[i]] = tokens[i, : counts[i]]
        after = [start + count for start, count in zip(before, counts, strict=True)]
        for length in range(min(before) + 1, max(after) + 1):
            here = [i for i in range(len(rows)) if not stopped[i] and before[i] < length <= after[i]]
            if not here:
                continue
            holds = self.criteria(self.text[:, : self.prompt + length], None).tolist()
            for i in here:
                if holds[rows[i]]:
                    stopped[i], after[i] = True, length
                    self.text[rows[i], self.prompt + length :] = self.pad
        for i, row in enumerate(rows):
            self.made[row] = after[i]
        kept = torch.tensor([end - start for start, end in zip(before, after, strict=True)], device=tokens.device)
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return taken & (place < kept[:, None]), torch.tensor(stopped, device=tokens.device)
