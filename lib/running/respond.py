"""Items in, responses out: how any part of the study asks a model."""

import torch

from lib.decoders import decode
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.trace import Decoded
from lib.models.registry import Model
from lib.tasks.base import Item


@torch.inference_mode()
def respond(
    model: Model,
    items: list[Item],
    options: Options,
    *,
    instruction: str = "",
    command: str = "",
    seed: int = 0,
    samples: list[int] | None = None,
    **given,
) -> Decoded:
    """Decode the prompts of `items` as one batch; row i draws by (seed, item id, samples[i]), 0 by default.

    `instruction` goes before every prompt, `command` behind it; `given`: record, and `draft`, the network of a small
    model.
    """
    ids, mask = encoded(model, items, instruction, command)
    generator = RowGenerator.of(seed, [item.id for item in items], samples)
    return decode(model.network, ids, options, generator=generator, family=model.family, attention_mask=mask, **given)


def encoded(
    model: Model, items: list[Item], instruction: str = "", command: str = ""
) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids and mask [B, L] of what is asked, by whichever engine.

    An item may say how the answer begins (`prefix`) and what was said before (`history`).
    """
    prompts = [commanded(item.prompt, command) for item in items]
    begun = {"prefixes": [item.reference.get("prefix", "") for item in items]}
    said = {"histories": [item.reference.get("history", []) for item in items]}
    return model.encode(prompts, instruction, **begun, **said)


def letters(item: Item) -> int:
    """How long what is asked is, roughly: letters of the prompt, of what was said before and of the prefix."""
    before = sum(len(text) for pair in item.reference.get("history", []) for text in pair)
    return before + len(item.prompt) + len(item.reference.get("prefix", ""))


def commanded(prompt: str, command: str) -> str:
    """A prompt with a command behind it, before the newline that ends it."""
    if not command:
        return prompt
    return f"{prompt.rstrip()} {command}" + ("\n" if prompt.endswith("\n") else "")
