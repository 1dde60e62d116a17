"""The registry of decoders, and the one call that runs any of them.

A decoder registers itself: `@decoder("name", OptionsClass)` above its `decode` function, in a module that
`lib/decoders.py` imports.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.trace import Decoded
from lib.errors import UserError, require_known


@dataclass(frozen=True)
class Decoder:
    """A way to decode: its name, the class of its options, `decode`, and whether it takes a draft model."""

    name: str
    options: type[Options]
    decode: Callable[..., Decoded]
    drafts: bool


DECODERS: dict[str, Decoder] = {}
_BY_OPTIONS: dict[type[Options], Decoder] = {}


def decoder(name: str, options: type[Options], drafts: bool = False) -> Callable:
    """Register the decorated `decode(model, input_ids, options, *, generator, family, ...)`."""

    def register(function: Callable[..., Decoded]) -> Callable[..., Decoded]:
        DECODERS[name] = _BY_OPTIONS[options] = Decoder(name, options, function, drafts)
        return function

    return register


def decoder_of(name: str) -> Decoder:
    """The decoder of that name. Raises UserError listing the names that there are."""
    require_known("method", [name], DECODERS)
    return DECODERS[name]


def options_of(method: str, values: dict) -> Options:
    """Options of a method by name; an unknown method or option is an error that lists the known ones."""
    return decoder_of(method).options.of(values)


def decode(model, input_ids, options: Options, *, generator, family, **given) -> Decoded:
    """Token ids in, token ids out: prompts [B, P], left-padded, by the method whose options these are.

    `generator`: a RowGenerator, a torch.Generator or a seed. `given`: attention_mask [B, P], record=True for the
    events of every step, and `draft`, the small model of a method that drafts. Raises UserError for a draft that is
    not taken, and for what is no network.
    """
    method = _BY_OPTIONS.get(type(options))
    if method is None:
        raise UserError(f"options must be those of a decoder, such as Autoregressive(64), not {options!r}")
    if "draft" in given and not method.drafts:
        raise UserError(f"{type(options).__name__} takes no draft: leave it out")
    for name, network in (("model", model), ("draft", given.get("draft"))):
        if isinstance(network, str) or hasattr(network, "network"):
            raise UserError(f"{name} must be a network: give load(...).network")
    return method.decode(model, input_ids, options, generator=generator, family=family, **given)


def custom_generate(options: Options, family: Family | None = None, generator=0, draft=None) -> Callable:
    """A decoder in the shape that `transformers` takes: `model.generate(ids, custom_generate=...)`.

    The result is prompt and response, [B, P + G], padded with EoT. Length, temperature and the like are those of
    `options`; what else `generate` is given is not read. `family` may be left out for an autoregressive model
    whose generation config names its end tokens; a diffusion model's names its [MASK]. `draft`: the small model of a
    method that drafts.
    """

    def run(model, input_ids, logits_processor=None, stopping_criteria=None, generation_config=None, **kwargs):
        kind = family or _family_of(generation_config)
        mask = kwargs.get("attention_mask")
        small = {} if draft is None else {"draft": draft}
        out = decode(model, input_ids, options, generator=generator, family=kind, attention_mask=mask, **small)
        return torch.cat([input_ids, out.responses], -1)

    return run


def _family_of(generation_config) -> Family:
    ends = generation_config.eos_token_id
    if ends is None:
        raise UserError("the model names no end of text: give custom_generate a Family with its eot_ids")
    return Family("model", eot_ids=tuple(ends) if isinstance(ends, list) else (ends,))
