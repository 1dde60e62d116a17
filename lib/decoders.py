"""Every decoder by name, and the one call that runs any of them."""

from collections.abc import Callable

import torch

from lib import autoregressive
from lib.autodeco import decode as autodeco
from lib.autodeco.decode import AutoDeco, EntropyTemperature
from lib.autoregressive import Autoregressive
from lib.errors import UserError, require_known
from lib.models.registry import Family, Model
from lib.mtad import (
    Assisted,
    BeamSearch,
    Bild,
    Mtad,
    Mtjd,
    Speculative,
    Threshold,
    TreeSpeculative,
    Typical,
    assisted,
    lossy,
    mtad,
    mtjd,
    speculative,
)
from lib.options import Options
from lib.tolerator import (
    Rcr,
    Remdm,
    RemdmPort,
    Settle,
    Tolerator,
    Vanilla,
    fill,
    rcr,
    refine,
    remdm,
    remdm_port,
    settle,
)
from lib.trace import Decoded

DECODERS = {
    Autoregressive: autoregressive.decode,
    Vanilla: fill.decode,
    Remdm: remdm.decode,
    RemdmPort: remdm_port.decode,
    Rcr: rcr.decode,
    Tolerator: refine.decode,
    Settle: settle.decode,
    AutoDeco: autodeco.decode,
    EntropyTemperature: autodeco.decode_entropy,
    Speculative: speculative.decode,
    TreeSpeculative: speculative.decode_tree,
    Threshold: lossy.decode_threshold,
    Typical: lossy.decode_typical,
    Bild: lossy.decode_bild,
    Mtad: mtad.decode,
    Mtjd: mtjd.decode,
    Assisted: assisted.decode,
    BeamSearch: assisted.decode_beams,
}
DRAFTING = (Speculative, TreeSpeculative, Threshold, Typical, Bild, Mtad, Assisted)
METHODS = {
    "autoregressive": Autoregressive,
    "vanilla": Vanilla,
    "remdm": Remdm,
    "remdm_port": RemdmPort,
    "rcr": Rcr,
    "tolerator": Tolerator,
    "settle": Settle,
    "autodeco": AutoDeco,
    "entropy": EntropyTemperature,
    "speculative": Speculative,
    "tree_speculative": TreeSpeculative,
    "threshold": Threshold,
    "typical": Typical,
    "bild": Bild,
    "mtad": Mtad,
    "mtjd": Mtjd,
    "assisted": Assisted,
    "beam": BeamSearch,
}


def method_of(name: str) -> type[Options]:
    """The options class of a method. Raises UserError listing the names that there are."""
    require_known("method", [name], METHODS)
    return METHODS[name]


def options_of(method: str, values: dict) -> Options:
    """Options of a method by name; an unknown method or option is an error that lists the known ones."""
    return method_of(method).of(values)


def decode(model, input_ids, options: Options, *, generator, family, **given) -> Decoded:
    """Token ids in, token ids out: prompts [B, P], left-padded, by the method whose options these are.

    `generator`: a RowGenerator, a torch.Generator or a seed. `given`: attention_mask [B, P], record=True for the
    events of every step, and `draft`, the small model of a method that drafts. Raises UserError for a draft that is
    not taken, and for what is no network.
    """
    if "draft" in given and not isinstance(options, DRAFTING):
        raise UserError(f"{type(options).__name__} takes no draft: leave it out")
    for name, network in (("model", model), ("draft", given.get("draft"))):
        if isinstance(network, Model | str):
            raise UserError(f"{name} must be a network: give load(...).network")
    return DECODERS[type(options)](model, input_ids, options, generator=generator, family=family, **given)


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
