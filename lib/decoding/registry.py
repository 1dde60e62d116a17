"""The registry of decoders, and the one call that runs any of them.

A decoder registers itself: `@decoder("name", OptionsClass)` above its `decode` function, in a module that
`lib/decoders.py` imports.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps

from lib.decoding.checked import checked
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
        fills = any(field.name == "canvas" for field in fields(options))
        entry = Decoder(name, options, function if fills else for_causal(function), drafts)
        DECODERS[name] = _BY_OPTIONS[options] = entry
        return function

    return register


def for_causal(function: Callable[..., Decoded]) -> Callable[..., Decoded]:
    """The same for autoregressive models alone. Raises UserError for a diffusion model, which would say nonsense.

    A canvas refuses the reverse. It is no part of `decode`, for what only refuses decides no response.
    """

    @wraps(function)
    def refusing(model, input_ids, options, *, family, **given) -> Decoded:
        if family.mask_id is not None:
            raise UserError(
                f"{family.name} is a diffusion model, with a mask token, and {type(options).__name__} goes on "
                "token by token: take a decoder with a canvas, such as Vanilla(canvas=64), or mask_id=None"
            )
        return function(model, input_ids, options, family=family, **given)

    return refusing


def decoder_of(name: str) -> Decoder:
    """The decoder of that name. Raises UserError listing the names that there are."""
    require_known("method", [name], DECODERS)
    return DECODERS[name]


def options_of(method: str, values: dict) -> Options:
    """Options of a method by name; an unknown method or option is an error that lists the known ones."""
    return decoder_of(method).options.of(values)


def decode(model, input_ids, options: Options, *, generator, family, **given) -> Decoded:
    """Token ids in, token ids out: prompts [B, P], left-padded, by the method whose options these are.

    `input_ids` may also be lists of ids, one prompt, or a tokenizer's BatchEncoding (lib/decoding/prompts.py).
    `generator`: a RowGenerator, a torch.Generator or a seed. `given`: attention_mask [B, P], record=True for the
    events of every step or a Listener (lib/decoding/listening.py) that is told of tokens as they come, and `draft`,
    the small model of a method that drafts. Raises UserError for what cannot be decoded, a text that would run past
    the model's last position among it, before anything is computed.
    """
    method = _BY_OPTIONS.get(type(options))
    if method is None:
        raise UserError(f"options must be those of a decoder, such as Autoregressive(64), not {options!r:.80}")
    ids, given = checked(model, input_ids, options, generator, family, method.drafts, given)
    return method.decode(model, ids, options, generator=generator, family=family, **given)
