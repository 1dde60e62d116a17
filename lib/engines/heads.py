"""AutoDeco's heads alone, for an engine that has the base in a form of its own."""

from pathlib import Path

from lib.autodeco.heads import Heads
from lib.autodeco.model import CURE, _heads_config, _read
from lib.errors import UserError
from lib.models.fetched import local_copy


def load_heads(folder: str | Path, hidden_size: int, base_type: str) -> Heads:
    """The heads of a folder or hub repository, frozen, in float32.

    Raises UserError for files that are damaged or that do not fit a base of this width and type, and for heads whose
    adapter would have to be merged into the base.
    """
    local = local_copy(folder)
    config, weights = _read(local)
    if (local / "adapter_config.json").exists():
        raise UserError(
            f"the heads in {folder} have an adapter, which vLLM does not merge: leave ENGINE unset for them"
        )
    found = config.get("base_model_type")
    if found and found != base_type:
        raise UserError(f"the heads in {folder} are of the family {found}, this base is {base_type}: take their base")
    heads = Heads(_heads_config(config, weights, folder))
    width = heads.config.hidden_size
    if width != hidden_size:
        raise UserError(f"the heads in {folder} are for a hidden size of {width}, not {hidden_size}: take their base")
    try:
        heads.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights in {folder} are not those of two heads: {CURE}") from error
    return heads.requires_grad_(False).eval()
