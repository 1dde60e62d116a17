"""Which networks can be asked, and how far they reach: checked before a forward, with the cure in the line."""

import inspect

import torch
from torch import Tensor, nn

from lib.decoding.family import Family
from lib.errors import UserError

CONTEXT = ("max_position_embeddings", "max_sequence_length")  # what configurations call it; the second is LLaDA's
# Model types whose text does not begin at position 0 (RoBERTa's begins behind its padding), or is not all they read.
STRANGE = ("roberta", "roberta-prelayernorm", "camembert", "data2vec-text", "xlm-roberta", "xlm-roberta-xl", "xmod",
           "moshi")  # fmt: skip
ALIBI = "tells positions by ALiBi, which goes by the slot of a cache and not by the text"


def config_of(network):
    """The configuration of the language model, None where there is none."""
    config = getattr(network, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def by_alibi(config) -> bool:
    return getattr(config, "model_type", "") in ("mpt", "bloom") or bool(getattr(config, "alibi", False))


def context_of(*networks) -> int | None:
    """How many positions all of the networks have; None where none of them names a limit."""
    configs = [config_of(network) for network in networks]
    limits = [getattr(config, name, None) for config in configs for name in CONTEXT]
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def check_network(name: str, network, family: Family) -> None:
    """UserError for what is no causal or masked language model that these decoders can ask; `name`: its part."""
    if network is None or isinstance(network, str | type) or hasattr(network, "network") or not callable(network):
        raise UserError(f"{name} must be a network: give load(...).network")
    config, kind = config_of(network), type(network).__name__
    if config is None:
        raise UserError(f"{name} {kind} has no configuration: give a model of transformers")
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{kind} has an encoder: these decoders need a model that goes on from its prompt")
    if by_alibi(config):
        raise UserError(f"{kind} {ALIBI}: take a model with rotary or learned positions")
    if not isinstance(network, nn.Module):
        return
    if type(network).__module__.startswith("transformers.") and network.get_output_embeddings() is None:
        raise UserError(f"{kind} has no language-model head: load it with AutoModelForCausalLM")
    if family.mask_id is not None and not family.wide_mask:
        return  # it is given ids and a mask alone
    if getattr(config, "model_type", "") in STRANGE:
        raise UserError(f"{kind} counts positions in its own way, not from 0: take another model")
    causal = () if family.mask_id is not None else ("past_key_values",)
    for name in ("position_ids", *causal):
        if not any(_takes(base, name) for base in type(network).__mro__):
            raise UserError(f"{kind} takes no {name}, which padded prompts and a cache need: take another model")


def _takes(base: type, name: str) -> bool:
    forward = base.__dict__.get("forward")
    return forward is not None and name in inspect.signature(forward).parameters


def device_of(network) -> torch.device | None:
    """Where its ids go; None for what has no parameters."""
    return next((parameter.device for parameter in network.parameters()), None)


def check_draft(model, draft) -> None:
    """UserError where a draft lies on another device."""
    here, there = device_of(model), device_of(draft)
    if here != there:
        raise UserError(f"the draft is on {there} and the model on {here}: move one, draft.to('{here}')")


def in_vocabulary(ids: Tensor, mask: Tensor | None, family: Family, network) -> Tensor:
    """The ids [B, P], with what stands in the padding, which is looked up but seen by nobody, within the vocabulary.

    Raises UserError for an id, or a [MASK], that the network has no embedding for.
    """
    size = getattr(config_of(network), "vocab_size", None)
    if not isinstance(size, int):
        return ids
    if family.mask_id is not None and not 0 <= family.mask_id < size:
        raise UserError(f"the family's mask_id is {family.mask_id}, and the model knows 0 to {size - 1}")
    if mask is not None:
        ids = torch.where(mask == 0, ids.clamp(0, size - 1), ids)
    strange = (ids < 0) | (ids >= size)
    if bool(strange.any()):
        raise UserError(
            f"the ids hold {int(ids[strange][0])}, and the model knows 0 to {size - 1}: encode with its own tokenizer"
        )
    return ids


def check_length(longest: int, options, *networks) -> None:
    """UserError where a prompt of so many tokens and what is to be made do not fit into the positions.

    The last token of a text need not be read, so that a text may be one token longer than the context; a canvas is
    read whole.
    """
    context = context_of(*networks)
    if context is None:
        return
    name = "canvas" if hasattr(options, "canvas") else "max_new_tokens"
    room = context - longest + (name == "max_new_tokens")
    if longest > context or room < 1:
        raise UserError(f"the longest prompt has {longest} tokens, and the model has {context} positions: shorten it")
    if getattr(options, name) > room:
        raise UserError(
            f"behind a prompt of {longest} tokens there is room for {room} in the {context} positions of the model, "
            f"not for {name}={getattr(options, name)}: give {name}={room} at most, or shorten the prompt"
        )
