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

    `instruction` goes before every prompt, `command` behind it; an item may say how the answer begins (`prefix`) and
    what was said before (`history`); `given`: record, and `draft`, the network of a small model.
    """
    prompts = [commanded(item.prompt, command) for item in items]
    begun = {"prefixes": [item.reference.get("prefix", "") for item in items]}
    said = {"histories": [item.reference.get("history", []) for item in items]}
    ids, mask = model.encode(prompts, instruction, **begun, **said)
    generator = RowGenerator.of(seed, [item.id for item in items], samples)
    return decode(model.network, ids, options, generator=generator, family=model.family, attention_mask=mask, **given)


def commanded(prompt: str, command: str) -> str:
    """A prompt with a command behind it, before the newline that ends it."""
    if not command:
        return prompt
    return f"{prompt.rstrip()} {command}" + ("\n" if prompt.endswith("\n") else "")
