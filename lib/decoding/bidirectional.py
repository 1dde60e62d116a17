"""One forward of a masked diffusion model over prompt and canvas, whatever its family."""

import torch
from torch import Tensor

from lib.decoding.llama import Llama, grouped_attention


def bidirectional_mask(attention_mask: Tensor) -> Tensor:
    """[B, L] mask of real tokens -> [B, 1, L, L] mask by which every position sees every real token."""
    length = attention_mask.shape[1]
    return attention_mask.bool()[:, None, None, :].expand(-1, 1, length, length)


def position_ids(attention_mask: Tensor) -> Tensor:
    """[B, L] positions that count real tokens only, so that left padding does not move a row."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def canvas_logits(model, input_ids: Tensor, attention_mask: Tensor, needed: Tensor, family) -> Tensor:
    """Logits [M, V] at the M positions of the canvas that `needed` [B, W] marks, row by row.

    The canvas is the last W positions of `input_ids` [B, L]. A family that keeps the next-token shift (Dream)
    predicts position i at i - 1. The language-model head is computed at those M positions alone where the network
    calls it as a module. Raises ValueError where a shifted model has no prompt.
    """
    first = input_ids.shape[1] - needed.shape[1] - int(family.shift)
    if first < 0:
        raise ValueError("a shifted model needs at least one prompt token before the canvas")
    at = torch.zeros_like(input_ids, dtype=torch.bool)
    at[:, first : first + needed.shape[1]] = needed
    fast = Llama.of(model) if family.wide_mask else None
    if fast:
        return _fast(fast, input_ids, attention_mask, at)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if family.wide_mask:
        inputs |= {
            "attention_mask": bidirectional_mask(attention_mask),
            "position_ids": position_ids(attention_mask),
            "use_cache": False,
        }
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, states: (states[0][at],)) if head is not None else None
    try:
        logits = model(**inputs).logits
    finally:
        if handle is not None:
            handle.remove()
    return logits if logits.ndim == 2 else logits[at]


def _fast(network: Llama, ids: Tensor, mask: Tensor, at: Tensor) -> Tensor:
    """The same by the few operations of a Llama-class network."""
    cos, sin = (table[position_ids(mask)] for table in network.angles(ids.shape[1]))
    seen = mask.bool()[:, None, None]

    def attend(_, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return grouped_attention(q, k, v, seen)

    return network.logits(network.normed(network.states(ids, cos, sin, attend)[at]))
