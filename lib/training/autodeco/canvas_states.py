"""What the heads of a mask model are trained on: its own right canvases with a part masked, and its states there."""

import torch
from torch import Tensor
from tqdm import tqdm

from lib.decoding.bidirectional import canvas_logits
from lib.models.registry import Model
from lib.training.autodeco.hidden_states import NO_STATES, States

MASKINGS = 4  # of each canvas, each with a share of its own


def shares(number: int, width: int, seed: int) -> Tensor:
    """[MASKINGS, width] bool: which positions of the canvas of that number are masked.

    The shares spread over (0, 1] as those of a fill-up do: a random start, then equal steps; one position at least.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    start = torch.rand(1, generator=generator)
    share = (start + torch.arange(MASKINGS) / MASKINGS) % 1
    order = torch.rand(MASKINGS, width, generator=generator).argsort(-1).argsort(-1)
    return order < (share[:, None] * width).ceil().clamp(min=1)


@torch.inference_mode()
def canvas_states(model: Model, rows: list[tuple[str, list[int]]], seed: int = 0, batch: int = 32) -> States:
    """Hidden states that predict the masked tokens of (prompt, canvas ids), and these tokens; float16 on the CPU.

    Canvases of one width are computed together.
    """
    hidden, tokens = [], []
    numbered = sorted(enumerate(rows), key=lambda row: len(row[1][1]))
    for start in tqdm(range(0, len(rows), batch), desc="hidden states", unit="batch"):
        part = numbered[start : start + batch]
        for width in sorted({len(canvas) for _, (_, canvas) in part}):
            own = [(number, row) for number, row in part if len(row[1]) == width]
            found, said = _states(model, own, width, seed)
            hidden.append(found.half().cpu())
            tokens.append(said.cpu())
    return States(torch.cat(hidden), torch.cat(tokens)) if rows else NO_STATES


def _states(model: Model, own: list, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """States [N, H] and tokens [N] of canvases of one width, masked MASKINGS times."""
    ids, mask = model.encode([prompt for _, (prompt, _) in own])
    canvases = torch.tensor([canvas for _, (_, canvas) in own], device=ids.device).repeat_interleave(MASKINGS, 0)
    chosen = torch.cat([shares(number, width, seed) for number, _ in own]).to(ids.device)
    shown = canvases.masked_fill(chosen, model.family.mask_id)
    ids, mask = (x.repeat_interleave(MASKINGS, 0) for x in (ids, mask))
    seen: list[Tensor] = []
    canvas_logits(
        model.network,
        torch.cat([ids, shown], 1),
        torch.cat([mask, torch.ones_like(shown)], 1),
        chosen,
        model.family,
        seen=seen,
    )
    return seen[0], canvases[chosen]
