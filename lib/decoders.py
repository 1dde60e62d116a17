"""Every decoder by name, and the one call that runs any of them."""

from lib import autoregressive
from lib.autoregressive import Autoregressive
from lib.errors import UserError
from lib.options import Options
from lib.tolerator import Rcr, Remdm, Tolerator, Vanilla, fill, rcr, refine, remdm
from lib.trace import Decoded

DECODERS = {
    Autoregressive: autoregressive.decode,
    Vanilla: fill.decode,
    Remdm: remdm.decode,
    Rcr: rcr.decode,
    Tolerator: refine.decode,
}
METHODS = {
    "autoregressive": Autoregressive,
    "vanilla": Vanilla,
    "remdm": Remdm,
    "rcr": Rcr,
    "tolerator": Tolerator,
}


def options_of(method: str, values: dict) -> Options:
    """Options of a method by name; an unknown method or option is an error that lists the known ones."""
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}; known: {', '.join(METHODS)}")
    return METHODS[method].of(values)


def decode(model, input_ids, options: Options, *, generator, family, attention_mask=None, record=False) -> Decoded:
    """Token ids in, token ids out: prompts [B, P], left-padded, by the method whose options these are.

    `generator`: a RowGenerator, a torch.Generator or a seed.
    """
    run = DECODERS[type(options)]
    return run(
        model,
        input_ids,
        options,
        generator=generator,
        family=family,
        attention_mask=attention_mask,
        record=record,
    )
