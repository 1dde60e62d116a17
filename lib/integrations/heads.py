"""AutoDeco's heads on a model for one call of `generate`, which leaves the model as it was."""

import copy
from contextlib import suppress
from pathlib import Path

from torch import nn
from transformers.utils import has_file

from lib.autodeco.heads import Heads, HeadsConfig
from lib.autodeco.model import AutoDecoForCausalLM
from lib.errors import UserError

KEPT = "_with_heads"  # where a model keeps what was made of it: a compiled step belongs to one network


class _Kept(tuple):
    """A key and a model with heads, which do not go along where their base is copied or written."""

    def __reduce_ex__(self, _):
        return tuple, ()


def with_heads(model, heads: str | None = None, check_base: bool = True):
    """`model` with the heads of a folder or hub repository, or with those that it has already.

    heads: a folder or hub id, in the authors' form or in that of `save_pretrained`.
    check_base: False takes heads that were trained on a base with another fingerprint.

    Raises UserError where there are none or two, and for heads with an adapter, which would be merged into the model.
    """
    own = getattr(model, "heads", None)
    if own is not None and heads is not None:
        raise UserError("the model has heads already: leave heads out")
    if heads is not None and not isinstance(heads, str | Path):
        raise UserError(f"heads must be a folder or a hub id, not {heads!r:.60}")
    if isinstance(own, Heads):
        return model
    if own is None and heads is None:
        raise UserError("AutoDeco decodes by heads: give heads, a folder or a hub id, or a model that has them")
    first = next(model.parameters())
    key = (heads, check_base, *_stamps(heads), first.device, first.dtype, *map(id, model.modules()))
    kept = vars(model).get(KEPT)
    if not kept or kept[0] != key:
        made = _loaded(model, heads, check_base) if own is None else _ours(model, own)
        vars(made).pop(KEPT, None)
        kept = vars(model)[KEPT] = _Kept((key, made))
    return kept[1]


def _stamps(heads: str | None) -> list:
    """What tells whether the files of a folder are still the same; those of the hub are taken once."""
    files = Path(heads).iterdir() if heads is not None and Path(heads).is_dir() else ()
    return sorted((path.name, path.stat().st_mtime_ns) for path in files)


def _loaded(model, heads: str, check_base: bool):
    """The model with heads from a folder or the hub; `from_base`, which freezes what it is given, leaves no trace."""
    with suppress(OSError, ValueError):  # of what cannot be had `from_pretrained` says why
        if has_file(heads, "adapter_config.json"):
            raise UserError(
                f"the heads in {heads} came with an adapter of their base, which stays in a model: load both once by "
                "AutoDecoForCausalLM.from_pretrained of decoding-study, and give that model"
            )
    training = [(part, part.training) for part in model.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        return AutoDecoForCausalLM.from_pretrained(heads, base=model, check_base=check_base)
    finally:
        for part, was in training:
            part.training = was
        for parameter, was in learning:
            parameter.requires_grad_(was)


def _ours(model, heads: nn.Module):
    """The model with the same heads as this package's class: each copy of a package has one of its own."""
    try:
        mine = Heads(HeadsConfig(**vars(heads.config)))
        mine.temp_head, mine.top_p_head = heads.temp_head, heads.top_p_head
    except (AttributeError, TypeError, UserError) as error:
        raise UserError("the model's heads are not AutoDeco's: give heads, a folder or a hub id") from error
    model = copy.copy(model)
    model._modules = model._modules.copy()  # a copied module shares this dict
    model.heads = mine
    return model
