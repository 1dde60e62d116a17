"""How fast the rules go that decide by a threshold: blocks from left to right, and at most so many forwards.

Their authors let a block take as many forwards as it needs. For a comparison at equal forwards a limit T is shared
out evenly over the blocks, what a block saves going to the next ones; within it a forward keeps at least
ceil(masks of the block / forwards left to it) tokens, so that no mask outlives the limit.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.decoding.options import Options
from lib.tolerator.canvas import EOT_FORMS
from lib.tolerator.fill import transfer_counts

UNLIMITED = 2**30


def check_paced(options: Options) -> None:
    """The options that all of these rules have: canvas, forwards, block, temperature, top_p and the EoT penalty."""
    blocks = options.canvas // options.block if options.block else 1
    options.require("canvas", options.canvas >= 1, "1 or more")
    options.require("block", options.block >= 0 and (not options.block or options.canvas % options.block == 0),
                    "0 or a divisor of the canvas")  # fmt: skip
    options.require("forwards", options.forwards == 0 or options.forwards >= blocks,
                    "0 (no limit) or at least one a block")  # fmt: skip
    options.require("temperature", options.temperature >= 0, "0 or more")
    options.require("top_p", 0 < options.top_p <= 1, "in (0, 1]")
    options.require("eot_form", options.eot_form in EOT_FORMS, f"one of {', '.join(EOT_FORMS)}")
    options.require("eot_lambda", options.eot_lambda > 0, "above 0")


@dataclass
class Pace:
    """A canvas of `width` positions in blocks of `block` (0: one block), and a limit of `forwards` (0: none)."""

    width: int
    block: int
    forwards: int
    later: Tensor = field(init=False)  # [blocks], forwards kept for the blocks behind each

    def __post_init__(self) -> None:
        self.block = self.block or self.width
        shares = torch.tensor(transfer_counts(self.forwards, self.blocks))
        self.later = shares.sum() - shares.cumsum(0)

    @property
    def blocks(self) -> int:
        return self.width // self.block

    def first_open(self, masked: Tensor) -> Tensor:
        """[B], the first block that holds one of the masks [B, G]; the last one where there is none."""
        any_ = masked.reshape(len(masked), self.blocks, self.block).any(-1).long()
        return torch.where(any_.any(-1), any_.argmax(-1), self.blocks - 1)

    def region(self, current: Tensor) -> Tensor:
        """[B, G], the positions of each row's current block [B]."""
        columns = torch.arange(self.width, device=current.device) // self.block
        return columns == current[:, None]

    def left(self, step: int, current: Tensor) -> Tensor:
        """[B], forwards that each row's current block may still take, the one of `step` (from 0) included."""
        if not self.forwards:
            return torch.full_like(current, UNLIMITED)
        return self.forwards - step - self.later.to(current.device)[current]


def owed(masks: Tensor, left: Tensor) -> Tensor:
    """[B], the fewest tokens that a forward keeps of [B] masks, [B] forwards being left: ceil(masks / left)."""
    return -(-masks // left)
