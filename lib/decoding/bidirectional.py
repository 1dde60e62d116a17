"""One forward of a masked diffusion model over prompt and canvas, whatever its family."""

import torch
from torch import Tensor

from lib.decoding.llama import Llama, grouped_attention
from lib.errors import UserError


def bidirectional_mask(attention_mask: Tensor) -> Tensor:
    """[B, L] mask of real tokens -> [B, 1, L, L] mask by which every position sees every real token."""
    length = attention_mask.shape[1]
    return attention_mask.bool()[:, None, None, :].expand(-1, 1, length, length)


def position_ids(attention_mask: Tensor) -> Tensor:
    """[B, L] positions that count real tokens only, so that left padding does not move a row."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


class PromptKeys:
    """Keys and values of prompts from a first forward, which later ones take as they were then.

    An approximation (Fast-dLLM, arXiv 2505.22618): where all see all, the prompt's keys change with the canvas. Of
    Llama-class networks alone. `layers` hold [B, heads, P, D] each, and nothing before the first forward.
    """

    def __init__(self, network):
        self.layers: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode():
            if Llama.of(network) is None:
                raise UserError(
                    f"prompt_cache needs a Llama-class network, not {type(network).__name__}: leave it off"
                )


def canvas_logits(
    model,
    input_ids: Tensor,
    attention_mask: Tensor,
    needed: Tensor,
    family,
    prompt: PromptKeys | None = None,
    rows: Tensor | None = None,
    seen: list[Tensor] | None = None,
) -> Tensor:
    """Logits [M, V] at the M positions of the canvas that `needed` [B, W] marks, row by row.

    The canvas is the last W positions of `input_ids` [B, L]. A family that keeps the next-token shift (Dream)
    predicts position i at i - 1. The language-model head is computed at those M positions alone where the network
    calls it as a module. `prompt`: keys that stand in for the prompt's, of which these are the `rows` (indices).
    `seen`: gets the hidden states [M, H] of these positions, which the head saw. Raises ValueError where a shifted
    model has no prompt, UserError where `seen` is asked of a network without such a head.
    """
    first = input_ids.shape[1] - needed.shape[1] - int(family.shift)
    if first < 0:
        raise ValueError("a shifted model needs at least one prompt token before the canvas")
    at = torch.zeros_like(input_ids, dtype=torch.bool)
    at[:, first : first + needed.shape[1]] = needed
    fast = Llama.of(model) if family.wide_mask else None
    if fast:
        return _fast(fast, input_ids, attention_mask, at, first, prompt, rows, seen)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if family.wide_mask:
        inputs |= {
            "attention_mask": bidirectional_mask(attention_mask),
            "position_ids": position_ids(attention_mask),
            "use_cache": False,
        }
    head = model.get_output_embeddings()
    if head is None and seen is not None:
        raise UserError(f"{type(model).__name__} has no language-model head to read its hidden states at")

    def chosen(_, states: tuple) -> tuple:
        found = states[0][at.to(states[0].device)]
        if seen is not None:
            seen.append(found)
        return (found,)

    handle = head.register_forward_pre_hook(chosen) if head is not None else None
    try:
        logits = getattr(model, "base_forward", model)(**inputs).logits
    finally:
        if handle is not None:
            handle.remove()
    return logits if logits.ndim == 2 else logits[at]


@torch.inference_mode()
def pair_logits(model, input_ids: Tensor, seen: Tensor, positions: Tensor, at: Tensor) -> Tensor:
    """Logits [M, V] at the M positions of `input_ids` [B, L] that `at` [B, L] marks, row by row.

    `seen` [B, 1, L, L]: which token sees which; `positions` [B, L]. For what is no plain text, such as one with
    tokens beside it that the text does not see.
    """
    fast = Llama.of(model)
    if fast is None:
        inputs = {"attention_mask": seen, "position_ids": positions, "use_cache": False}
        return model(input_ids=input_ids, **inputs).logits[at]
    cos, sin = (table[positions] for table in fast.angles(input_ids.shape[1]))
    states = fast.states(input_ids, cos, sin, lambda _, q, k, v: grouped_attention(q, k, v, seen))
    return fast.logits(fast.normed(states[at]))


def _fast(
    network: Llama,
    ids: Tensor,
    mask: Tensor,
    at: Tensor,
    first: int,
    prompt: PromptKeys | None,
    rows: Tensor | None,
    seen: list[Tensor] | None,
) -> Tensor:
    """The same by the few operations of a Llama-class network; the first `first` positions may be read once."""
    known = prompt.layers if prompt else []
    start = first if known else 0
    cos, sin = (table[position_ids(mask)[:, start:]] for table in network.angles(ids.shape[1]))
    real = mask.bool()[:, None, None]
    read: list[tuple[Tensor, Tensor]] = []

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if known:
            before = known[layer] if rows is None else tuple(x[rows] for x in known[layer])
            k, v = (torch.cat(pair, 2) for pair in zip(before, (k, v), strict=True))
        elif prompt:
            read.append((k[:, :, :first].clone(), v[:, :, :first].clone()))
        return grouped_attention(q, k, v, real)

    states = network.normed(network.states(ids[:, start:], cos, sin, attend)[at[:, start:]])
    if read:
        prompt.layers = read
    if seen is not None:
        seen.append(states)
    return network.logits(states)
