"""Prompts in any plain form, as token ids and a mask; what cannot be decoded is refused in a line."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from lib.errors import UserError

FORMS = {
    "input_ids": "token ids [prompts, tokens], such as those of load(...).encode([text])",
    "attention_mask": "1 for each token and 0 for padding, [prompts, tokens], or leave it out",
}


def prompts_of(input_ids, attention_mask, pad: int, device) -> tuple[Tensor, Tensor | None]:
    """Ids [B, P] and mask [B, P] (None where all is text), int64 on `device`.

    Taken: a tensor, an array or lists of ids, one prompt or several; lists of several lengths, which are padded on
    the left with `pad`; a tokenizer's BatchEncoding, and the pair that `encode` gives. Raises UserError for all else,
    for a mask of another shape or with other numbers than 0 and 1, for padding on the right, and for an empty prompt.
    """
    if isinstance(input_ids, tuple) and len(input_ids) == 2 and all(_is_table(part) for part in input_ids):
        input_ids, attention_mask = input_ids[0], input_ids[1] if attention_mask is None else attention_mask
    if isinstance(input_ids, Mapping):
        if "input_ids" not in input_ids:
            raise UserError(f"input_ids: a mapping without input_ids, which has {', '.join(map(str, input_ids))}")
        own = input_ids.get("attention_mask")
        input_ids, attention_mask = input_ids["input_ids"], own if attention_mask is None else attention_mask
    ids, lengths = _table(input_ids, "input_ids", pad)
    if attention_mask is None:
        width = ids.shape[1]
        uneven = len(set(lengths)) > 1
        mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths]) if uneven else None
    else:
        mask, marks = _table(attention_mask, "attention_mask", 0)
        if marks != lengths:
            raise UserError(
                f"attention_mask is {_shape(marks)}, the ids are {_shape(lengths)}: give one mark for each id"
            )
    return ids.to(device), None if mask is None else check_padding(mask.to(device))


def _is_table(value) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim == 2


def _table(value, what: str, pad: int) -> tuple[Tensor, list[int]]:
    """Ids or marks as int64 [B, P], padded on the left, and the length that each row was given with."""
    if isinstance(value, str) or isinstance(value, list | tuple) and any(isinstance(row, str) for row in value):
        raise UserError(f"{what} is text: give {FORMS[what]}")
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim not in (1, 2):
            raise UserError(f"{what} has the shape {tuple(value.shape)}: give {FORMS[what]}")
        table = _whole(value if value.ndim == 2 else value[None], what)
        lengths = [table.shape[1]] * len(table)
    elif isinstance(value, list | tuple):
        rows = [value] if value and all(isinstance(part, Real) for part in value) else value
        rows = [_whole(row, what) for row in rows]
        for row in rows:
            if row.ndim != 1:
                raise UserError(f"{what} has rows of the shape {tuple(row.shape)}: give {FORMS[what]}")
        lengths = [len(row) for row in rows]
        width = max(lengths, default=0)
        padded = [torch.cat([row.new_full((width - len(row),), pad), row]) for row in rows]
        table = torch.stack(padded) if padded else torch.zeros(0, 0, dtype=torch.long)
    else:
        raise UserError(f"{what} is of type {type(value).__name__}: give {FORMS[what]}")
    if not lengths:
        raise UserError(f"{what} is empty: give at least one prompt")
    return table, lengths


def _whole(value, what: str) -> Tensor:
    """Numbers as int64. Raises UserError for others than whole ones, and for a mark besides 0 and 1."""
    try:
        value = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{what} holds what is no number: give {FORMS[what]}") from error
    if value.numel() and what == "input_ids" and (value.is_floating_point() or value.is_complex()
                                                  or value.dtype == torch.bool):  # fmt: skip
        raise UserError(f"{what} are of type {value.dtype}: give {FORMS[what]}, as whole numbers")
    if what == "attention_mask" and not bool(((value == 0) | (value == 1)).all()):
        raise UserError(f"attention_mask holds other numbers than 0 and 1: give {FORMS[what]}")
    return value.long()


def _shape(lengths: list[int]) -> str:
    return f"{len(lengths)} x {' or '.join(map(str, sorted(set(lengths))))}"


def check_padding(mask: Tensor) -> Tensor:
    """The mask [B, P]. Raises UserError for one that falls from 1 to 0, and for a prompt of nothing but padding."""
    falls = (mask[:, 1:] < mask[:, :-1]).any(-1)
    if bool(falls.any()):
        row = int(falls.nonzero()[0])
        raise UserError(
            f"the mask of prompt {row} falls from 1 to 0: pad on the left (tokenizer.padding_side = 'left'), where "
            "decoding goes on from the last token"
        )
    empty = ~mask.any(-1)
    if mask.shape[1] and bool(empty.any()):
        raise UserError(f"prompt {int(empty.nonzero()[0])} is empty, its mask is 0 everywhere: give it a token")
    return mask
