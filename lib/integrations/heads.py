"""AutoDeco's heads on a model for one call of `generate`, which leaves the model as it was."""

import copy
from pathlib import Path

from torch import nn

from lib.autodeco.heads import Heads, HeadsConfig
from lib.autodeco.model import AutoDecoForCausalLM, _folder
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
    if isinstance(own, Heads):
        return model
    if own is None and heads is None:
        raise UserError("AutoDeco decodes by heads: give heads, a folder or a hub id, or a model that has them")
    local = _plain_folder(heads) if own is None else None
    first = next(model.parameters())
    key = (heads, check_base, *_stamps(local), first.device, first.dtype, *map(id, model.modules()))
    kept = vars(model).get(KEPT)
    if not kept or kept[0] != key:
        made = _loaded(model, local, check_base) if own is None else _ours(model, own)
        vars(made).pop(KEPT, None)
        kept = vars(model)[KEPT] = _Kept((key, made))
    return kept[1]


def _plain_folder(heads: str) -> Path:
    """The local folder of heads without an adapter."""
    local = _folder(heads)
    if (local / "adapter_config.json").exists():
        raise UserError(
            f"the heads in {heads} came with an adapter of their base, which stays in a model: load both once by "
            "AutoDecoForCausalLM.from_pretrained of decoding-study, and give that model"
        )
    return local


def _stamps(local: Path | None) -> list:
    return [] if local is None else sorted((path.name, path.stat().st_mtime_ns) for path in local.iterdir())


def _loaded(model, local: Path, check_base: bool):
    """The model with heads from a folder; `from_base`, which freezes what it is given, leaves no trace."""
    training = [(part, part.training) for part in model.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        return AutoDecoForCausalLM.from_pretrained(local, base=model, check_base=check_base)
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
