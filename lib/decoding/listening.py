"""Who is told of a response while it is made: `decode(..., record=Listener())`. Without one the loops tell nobody."""

import torch
from torch import Tensor

from lib.errors import UserError


class Listener:
    """Told by the loops that all decoders share; this one keeps all that it hears of and does nothing with it.

    looks: whether it reads the tokens of every step on the host, so that a loop may as well.
    stops: the name of what may end a text in `heard`, which a decoder that makes its text as a whole refuses.
    """

    looks: bool = False
    stops: str = ""

    def heard(self, rows: Tensor, tokens: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [b, n] were put behind the texts of `rows` [b] of the batch, where `taken` [b, n]: there they stay.

        Called once a step, no token beyond an end of text or the length limit being taken. Returns which of the
        taken ones are kept [b, n], the first of each row, and which rows end with them [b].
        """
        return taken, torch.zeros_like(taken[:, 0])

    def drafted(self, rows: Tensor | None, tokens: Tensor) -> None:
        """The canvases [b, G] of `rows` (None: all) after a step; every token of them may still change."""


def require_no_stops(record) -> None:
    """UserError where the listener would end a text, for a decoder that makes its text as a whole."""
    if isinstance(record, Listener) and record.stops:
        raise UserError(
            f"{record.stops}: this decoder stops at its length and at end tokens alone: give eos_token_id, or cut "
            "the text afterwards"
        )
