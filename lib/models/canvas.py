"""One forward of a masked diffusion model over prompt and canvas, whatever its family."""

import torch
from torch import Tensor


def bidirectional_mask(attention_mask: Tensor) -> Tensor:
    """[B, L] mask of real tokens -> [B, 1, L, L] mask by which every position sees every real token."""
    length = attention_mask.shape[1]
    return attention_mask.bool()[:, None, None, :].expand(-1, 1, length, length)


def position_ids(attention_mask: Tensor) -> Tensor:
    """[B, L] positions that count real tokens only, so that left padding does not move a row."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def canvas_logits(model, input_ids: Tensor, attention_mask: Tensor, width: int, family) -> Tensor:
    """Logits [B, width, V] for the last `width` positions of `input_ids` [B, L].

    A family that keeps the next-token shift (Dream) predicts position i at i - 1. The others of its fields say
    what the network's forward takes. Raises ValueError where a shifted model has no prompt.
    """
    first = input_ids.shape[1] - width - int(family.shift)
    if first < 0:
        raise ValueError("a shifted model needs at least one prompt token before the canvas")
    keep = torch.arange(first, first + width, device=input_ids.device)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if family.wide_mask:
        inputs |= {
            "attention_mask": bidirectional_mask(attention_mask),
            "position_ids": position_ids(attention_mask),
            "use_cache": False,
        }
    if family.keeps_logits:
        return model(**inputs, logits_to_keep=keep).logits
    return model(**inputs).logits[:, keep]
