"""The files of a model, checked when they are read, before anything is built of them."""

import json
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lib.errors import UserError, why
from lib.running.schema import checked, parsed

Size = Annotated[int, Field(ge=1, le=1_000_000)]


class LlamaShape(BaseModel):
    """What decides a network, without the defaults of `transformers`, which are those of seven billion parameters."""

    model_type: Literal["llama"]
    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    max_position_embeddings: Size
    tie_word_embeddings: bool
    rms_norm_eps: Annotated[float, Field(gt=0, lt=1)]
    rope_parameters: dict


def json_of(path: Path, shape: type[BaseModel], cure: str) -> dict:
    """An object of a file in JSON. Raises UserError where it cannot be read or has not that shape."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {cure}") from error
    return checked(shape, parsed(raw, str(path), cure), str(path), cure)


def require_no_other(folder: Path, kind: str | None) -> None:
    """UserError where a folder has a config.json of another `model_type` than `kind`, which would be overwritten."""
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):  # there is none, or what nobody can load
        return
    found = found.get("model_type") if isinstance(found, dict) else None
    if found != kind:
        raise UserError(f"{folder} holds another model, of type {found}: save into a folder of its own")


def tensors_of(path: Path, cure: str, finite: bool = True) -> dict[str, Tensor]:
    """All tensors of a file. Raises UserError where it is damaged, or a weight is no finite number where all are."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is corrupt ({why(error)}): {cure}") from error
    for name, tensor in tensors.items():
        if finite and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{path} is corrupt ({name} holds what is no finite number): {cure}")
    return tensors


def llama_config(folder: Path, weights: dict[str, Tensor], cure: str):
    """The config of a Llama-class network that has these weights. Raises UserError, before anything of its size is
    built, where it has others."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = folder / "config.json"
    shape = json_of(path, LlamaShape, cure)
    layers = {key.split(".")[2] for key in weights if key.startswith("model.layers.")}
    fits = shape["num_hidden_layers"] == len(layers)  # first, for a billion layers take long even without weights
    try:
        config = LlamaConfig.from_pretrained(folder)
        if fits:
            with torch.device("meta"):
                wanted = {key: value.shape for key, value in LlamaForCausalLM(config).state_dict().items()}
            if config.tie_word_embeddings and "lm_head.weight" not in weights:
                wanted.pop("lm_head.weight")
            fits = wanted == {key: value.shape for key, value in weights.items()}
    except Exception as error:  # of many kinds: a value that no network can be made of
        raise UserError(f"{path} makes no network ({why(error)}): {cure}") from error
    if not fits:
        raise UserError(f"{folder / 'model.safetensors'} does not fit its config.json: {cure}")
    return config
