"""The arguments of `generate` in a folder of custom_generate: a method's options, a family, random numbers, the rest.

`transformers` hands a folder's own `generate` all that `model.generate` was given. What is an option of the method
becomes one. The rest goes on to the ordinary `generate`, with the decoder of lib/decoding/generate.py in it, which
does it or refuses it by name.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from difflib import get_close_matches

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import GenerationMixin, StopStringCriteria

from lib.decoding.family import Family
from lib.decoding.generate import DEFAULT_LENGTH, custom_generate
from lib.decoding.networks import config_of
from lib.decoding.options import Options
from lib.decoding.registry import DECODERS
from lib.decoding.streaming import ended
from lib.errors import UserError
from lib.models.families import FAMILIES

LENGTHS = ("max_new_tokens", "max_length")
MASK = ("mask_id", "shift", "wide_mask")
PASSED = ("input_ids", "attention_mask", "position_ids", "past_key_values", "logits_processor", "stopping_criteria",
          "tokenizer")  # fmt: skip
REFUSED = {
    name: "leave it out"
    for name in ("prefix_allowed_tokens_fn", "synced_gpus", "negative_prompt_ids", "negative_prompt_attention_mask")
} | {
    "assistant_tokenizer": "a draft needs the model's own tokenizer; for two of them there is the assisted "
    "generation of transformers, generate without custom_generate"
}
# What `transformers` has read where it loaded the folder, and hands on all the same.
LOADING = ("revision", "code_revision", "token", "cache_dir", "force_download", "local_files_only", "proxies")
KNOWN = {name: FAMILIES[name] for name in ("llada", "dream")}  # what the config does not say, by its model type
SHIFT = ("give shift=True where the logits at a position predict the token behind it (Dream), or shift=False where "
         "they predict its own (LLaDA)")  # fmt: skip


def run(kind: type[Options], model, inputs: Tensor | None, given: dict, prepare: Callable | None = None):
    """What `model.generate(inputs, **given)` returns where the method with these options decodes.

    `prepare(model, ...)` gives the model to decode with; its keywords are arguments of `generate` too. Raises
    UserError for an argument that neither the method nor `generate` has, and for two that contradict each other.
    """
    with ended(given.get("streamer")):
        return _run(kind, model, inputs, given, prepare)


def _run(kind: type[Options], model, inputs: Tensor | None, given: dict, prepare: Callable | None):
    keywords = () if prepare is None else tuple(inspect.signature(prepare).parameters)[1:]
    names, drafts = tuple(field.name for field in fields(kind)), _drafts(kind)
    masked = "canvas" in names
    own = ("seed", "generator", *keywords, *(MASK if masked else ()))
    _check_names(kind, given, (*names, *own), drafts)
    given = {name: value for name, value in given.items() if value is not None and name not in LOADING}
    if prepare is not None:
        model = prepare(model, **{name: given.pop(name) for name in keywords if name in given})
    model = _generating(model)
    mine = {name: given.pop(name) for name in own if name in given}
    draft, streamer = given.pop("assistant_model", None), given.pop("streamer", None)
    if drafts and draft is None:
        raise UserError(f"{kind.__name__} decodes with a small model that drafts: give assistant_model")
    config, said = _said(given.pop("generation_config", None), names)
    said |= {name: given.pop(name) for name in (*names, "do_sample", *LENGTHS) if name in given}
    if not said.keys() & {"canvas", *LENGTHS}:
        said |= _own_length(model.generation_config, masked)
    options = _options(kind, names, said, _length(inputs, given))
    config.max_new_tokens = options.canvas if masked else options.max_new_tokens
    if getattr(options, "temperature", 1.0) > 0:
        config.do_sample = True
    given = config.update(**given)
    if config.stop_strings is not None and "tokenizer" in given:  # which `generate` keeps from a function
        stop = StopStringCriteria(given.pop("tokenizer"), config.stop_strings)
        given["stopping_criteria"] = [*given.get("stopping_criteria", ()), stop]
        config.stop_strings = None
    family = _family(model, config, {name: mine.get(name) for name in MASK}, masked)
    decoder = custom_generate(options, family, generator=_source(mine), draft=draft, streamer=streamer)
    return GenerationMixin.generate(model, inputs, config, custom_generate=decoder, **given)


def _drafts(kind: type[Options]) -> bool:
    return next(decoder.drafts for decoder in DECODERS.values() if decoder.options is kind)


def _check_names(kind: type[Options], given: dict, ours: tuple[str, ...], drafts: bool) -> None:
    """UserError for an argument that nobody reads, with the nearest one that somebody does."""
    more = ("assistant_model", "streamer", "generation_config")
    known = (*ours, *more, *PASSED, *GenerationConfig().to_dict())
    for name, value in given.items():
        idle = value is None or value is False
        if not idle and (name in REFUSED or name == "assistant_model" and not drafts):
            cure = REFUSED.get(name, "leave it out")
            raise UserError(f"{kind.__name__} does nothing with {name} of generate: {cure}")
        if name not in (*known, *REFUSED, *LOADING) or name.startswith("_"):
            near = get_close_matches(name, known, 1)
            raise UserError(
                f"{kind.__name__} has no argument {name!r}: "
                + (f"did you mean {near[0]}?" if near else f"it has {', '.join(ours)}, and those of generate")
            )


def _generating(model):
    """A model that has `generate`: such as it is, or a copy without weights of its own that is lent it."""
    if isinstance(model, GenerationMixin):
        return model
    lent = copy.copy(model)
    lent.__class__ = type(type(model).__name__, (type(model), GenerationMixin), {})
    if not isinstance(getattr(lent, "generation_config", None), GenerationConfig):
        lent.generation_config = GenerationConfig()
    lent.generation_config = copy.deepcopy(lent.generation_config)
    lent.generation_config.use_cache = False  # for its config may not be one that a cache can be made of
    return lent


def _said(config: GenerationConfig | None, names: tuple[str, ...]) -> tuple[GenerationConfig, dict]:
    """A copy of the config without what becomes an option, and that; how the model's own draws does not count."""
    if config is not None and not isinstance(config, GenerationConfig):
        raise UserError(f"generation_config must be a GenerationConfig, not {config!r:.60}")
    config, said = GenerationConfig() if config is None else copy.deepcopy(config), {}
    for name in (*names, "do_sample", *LENGTHS):
        value = getattr(config, name, None)
        if value is not None:
            said[name] = value
        if hasattr(config, name):
            setattr(config, name, None)
    return config, said


def _own_length(own: GenerationConfig, masked: bool) -> dict:
    """The length that the model's own config names, as `generate` reads it: a max_length of 20 is none.

    Nor is one a canvas: it is where a text must end, and a canvas is computed whole.
    """
    if own.max_new_tokens is not None:
        return {"max_new_tokens": own.max_new_tokens}
    return {} if masked or own.max_length in (None, DEFAULT_LENGTH) else {"max_length": own.max_length}


def _length(inputs, given: dict) -> int:
    """Tokens of the prompts."""
    ids = given.get("input_ids") if inputs is None else inputs
    return ids.shape[-1] if isinstance(ids, Tensor) else 1  # `generate` begins with one token where there is none


def _options(kind: type[Options], names: tuple[str, ...], said: dict, prompt: int) -> Options:
    """The options; a length of `generate` is that of the response, and do_sample=False is temperature 0."""
    sampled, longest = said.pop("do_sample", None), said.pop("max_length", None)
    if longest is not None:
        if "max_new_tokens" in said:
            raise UserError("max_length and max_new_tokens are two lengths: give one of them")
        if longest <= prompt:
            raise UserError(f"max_length={longest} leaves no room behind a prompt of {prompt} tokens: make it longer")
        said["max_new_tokens"] = longest - prompt
    if "max_new_tokens" not in names and "max_new_tokens" in said:
        length = said.pop("max_new_tokens")
        if said.setdefault("canvas", length) != length:
            raise UserError(f"canvas={said['canvas']} and {length} new tokens are two lengths: give one of them")
    if sampled is False:
        for name in names:
            if name.endswith("temperature"):
                if said.get(name) not in (None, 0, 1):  # 1 is what `generate` calls no temperature
                    raise UserError(
                        f"do_sample=False takes the likeliest, and {name}={said[name]} draws: leave one out"
                    )
                said[name] = 0.0
    options = kind.of(said)
    if sampled and not getattr(options, "temperature", 1.0):
        raise UserError("do_sample=True draws, and temperature=0 takes the likeliest: leave one out")
    return options


def _source(mine: dict):
    """Where random numbers come from; torch's own generator, as in `generate`, where nothing is said."""
    if len({"seed", "generator"} & mine.keys()) > 1:
        raise UserError("seed and generator are two sources of random numbers: give one of them")
    return mine.get("seed", mine.get("generator", torch.default_generator))


def _family(model, config: GenerationConfig, mask: dict, masked: bool) -> Family:
    """The family of a model, by what was said, its model type and its configs, in this order."""
    network, own = config_of(model), model.generation_config
    known = KNOWN.get(str(getattr(network, "model_type", "")).lower()) if masked else None
    ends = (config.eos_token_id, own.eos_token_id, getattr(network, "eos_token_id", None))
    end = next((_ids(end) for end in ends if end is not None), known and known.eot_ids)
    if end is None:
        raise UserError("the model names no end of text: give eos_token_id")
    if known and config.eos_token_id is None and set(end) <= set(known.eot_ids):
        end = known.eot_ids  # its config names one of them
    if not masked:
        return Family("model", eot_ids=end)
    if mask["mask_id"] is None:
        said = (getattr(place, "mask_token_id", None) for place in (network, own))
        mask["mask_id"] = next((token for token in said if token is not None), None)
    if mask["mask_id"] is None:
        raise UserError("the model's config has no mask_token_id: give mask_id, the id of its [MASK]")
    if mask["shift"] is None:
        mask["shift"] = known and known.shift
    if not isinstance(mask["shift"], bool):
        raise UserError(f"the model's config does not say what its logits predict: {SHIFT}")
    if mask["wide_mask"] is None:
        mask["wide_mask"] = "position_ids" in inspect.signature(type(model).forward).parameters
    return replace(known or Family("model", eot_ids=end), name="model", eot_ids=end, **mask)


def _ids(value) -> tuple[int, ...]:
    value = value.tolist() if isinstance(value, Tensor) else value
    return tuple(value) if isinstance(value, list | tuple) else (value,)
