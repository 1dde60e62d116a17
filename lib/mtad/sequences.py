"""The texts of rows that advance by different counts."""

import torch
from torch import Tensor

from lib.decoding.listening import Listener
from lib.errors import UserError


class Sequences:
    """Prompts and what is made behind them, left-aligned, of the rows that are still decoding.

    tokens [b, W], total [b] of which are text, made [b] of these by decoding; rows [b] of the batch.
    """

    def __init__(
        self, input_ids: Tensor, mask: Tensor, limit: int, ends: Tensor, ahead: int, listener: Listener | None = None
    ):
        """`ahead`: the most tokens that one `add` is given. `listener`: is told of what is added."""
        rows, width = input_ids.shape
        if not bool(mask.any(-1).all()):
            raise UserError("a prompt is empty: a model that drafts needs one token to go on from")
        self.ends, self.limit, self.listener = ends, limit, listener
        self.total = mask.sum(-1)
        self.prompt = self.total.clone()
        # A stable sort by the mask moves the padding behind the text.
        order = mask.long().sort(dim=1, descending=True, stable=True).indices
        tail = torch.full((rows, limit + ahead), int(ends[0]), device=input_ids.device)
        self.tokens = torch.cat([input_ids.gather(1, order), tail], 1)
        self.made = torch.zeros_like(self.total)
        self.rows = torch.arange(rows, device=input_ids.device)
        self._out = torch.full((rows, limit), int(ends[0]), device=input_ids.device)

    def unread(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """What lies behind the first `length` [b] tokens: [b, Q] left-padded, and where it is real."""
        missing = self.total - length
        back = torch.arange(int(missing.max()), 0, -1, device=length.device)
        places = (self.total[:, None] - back).clamp(min=0)
        return self.tokens.gather(1, places), back <= missing[:, None]

    def add(self, tokens: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Put the first `count` [b] of tokens [b, W] behind the text, up to an end, the limit and a listener's word.

        Returns how many were taken [b] (the end of text among them) and which rows go on [b].
        """
        place = torch.arange(tokens.shape[1], device=tokens.device)
        room = torch.minimum(count, self.limit - self.made)
        is_end = torch.isin(tokens, self.ends)
        before = is_end.cumsum(-1) - is_end.long()  # ends before each
        taken = (place < room[:, None]) & (before == 0)
        going = ~(is_end & taken).any(-1)
        if self.listener is not None:
            taken, stopped = self.listener.heard(self.rows, tokens, taken)
            going = going & ~stopped
        at = self.total[:, None] + place
        self.tokens.scatter_(1, at, torch.where(taken, tokens, int(self.ends[0])))
        added = taken.sum(-1)
        self.total, self.made = self.total + added, self.made + added
        return added, going & (self.made < self.limit)

    def select(self, rows: Tensor) -> None:
        """Go on with some of the rows: bool [b]."""
        self._store(~rows)
        for name in ("tokens", "total", "prompt", "made", "rows"):
            setattr(self, name, getattr(self, name)[rows])

    def responses(self) -> Tensor:
        """[B, limit] of the whole batch, filled up with the end of text."""
        self._store(torch.ones_like(self.total, dtype=torch.bool))
        return self._out

    def _store(self, rows: Tensor) -> None:
        """Keep what these rows have made; nothing but ends stands behind it."""
        at = self.prompt[rows, None] + torch.arange(self.limit, device=rows.device)
        made = self.tokens[rows].gather(1, at)
        there = torch.arange(self.limit, device=rows.device) < self.made[rows, None]
        self._out[self.rows[rows]] = torch.where(there, made, int(self.ends[0]))
