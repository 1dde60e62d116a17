"""The model that `--model_args` name, with its heads and its draft."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from lib.decoders import decoder_of
from lib.errors import UserError
from lib.integrations.lm_eval.arguments import Arguments
from lib.models.registry import Model


@dataclass(frozen=True)
class Networks:
    """A model, and the network of its draft, None for a method that does not draft."""

    model: Model
    draft: Any = None


def networks_of(arguments: Arguments) -> Networks:
    """Everything loaded. Raises UserError for what cannot be had, and for a method that the model cannot run."""
    model = _model(arguments.pretrained, arguments)
    if arguments.heads:
        from lib.autodeco import AutoDecoForCausalLM

        model = replace(model, network=AutoDecoForCausalLM.from_pretrained(arguments.heads, model.network))
    has = getattr(model.network, "heads", None) is not None
    if has != (arguments.method == "autodeco"):
        said = "heads, which only autodeco uses" if has else "no heads: give heads=<folder or hub id>"
        raise UserError(f"{arguments.pretrained} has {said}; the method {arguments.method} cannot run on it")
    canvas = "canvas" in [field.name for field in fields(decoder_of(arguments.method).options)]
    if canvas != (model.family.mask_id is not None):
        said = "no [MASK] token, and needs one" if canvas else "a [MASK] token, and needs an autoregressive model"
        raise UserError(f"{arguments.pretrained} has {said} for {arguments.method}: take another model or method")
    if not arguments.draft:
        return Networks(model)
    model, small = Model.pair(model, _model(arguments.draft, arguments))
    return Networks(model, small.network)


def _model(name: str, arguments: Arguments) -> Model:
    """A model by its name in the registry, else by hub id or folder."""
    dtype = None if arguments.dtype == "auto" else getattr(torch, arguments.dtype)
    return Model.from_pretrained(name, device=arguments.place, dtype=dtype)


def prompt_ids(model: Model, text: str) -> list[int]:
    """Token ids of a prompt as lm-eval has written it, with a chat template or without.

    A text that begins with a special token has its own. Another gets the beginning of text that the family names,
    or that the tokenizer itself puts before a text.
    """
    tokenizer, family = model.tokenizer, model.family
    ids = tokenizer.encode(text, add_special_tokens=False)
    own = tokenizer.added_tokens_decoder.get(ids[0]) if ids else None
    if own is not None and own.special:
        return ids
    if family.bos_id is not None:
        return [family.bos_id, *ids]
    bos = tokenizer.bos_token_id if family.chat else None
    begins = bos is not None and tokenizer.encode(text or " ")[:1] == [bos]
    return [bos, *ids] if begins else ids


def chat_text(model: Model, history: list[dict], begins: bool) -> str:
    """A chat as the model's template writes it; where `begins` is false, its last message begins the answer.

    Raises UserError for a model without a template, for a role that the template does not take, and for a beginning
    where the template has begun a thought, which would hold it.
    """
    from jinja2 import TemplateError

    if getattr(model.tokenizer, "chat_template", None) is None:
        raise UserError(f"{model.name} has no chat template: leave --apply_chat_template out")
    said, prefix = (history, "") if begins else (history[:-1], history[-1]["content"])
    if prefix and model.opening:
        raise UserError(f"the chat template of {model.name} begins every answer with a thought, and the task begins "
                        "the answer itself (gen_prefix): take a task that does not, or another model")  # fmt: skip
    try:
        return model.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True) + prefix
    except TemplateError as error:
        raise UserError(f"the chat template of {model.name} does not take this chat ({error}): leave out "
                        "--system_instruction or the task's description")  from error  # fmt: skip
