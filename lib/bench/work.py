"""The work that the bench gives to ours and to its peers: word problems, and texts that no token ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.models.registry import Model, load
from lib.tasks import get_task

NEW = 64  # tokens of a text
PROMPT = 48  # tokens of a prompt


@cache
def model(name: str) -> Model:
    return load(name)


def endless(name: str):
    """The family of a model of which no token ends a text, so that all have the same length."""
    return replace(model(name).family, eot_ids=(-1,))


def prompts(name: str, batch: int) -> Tensor:
    """Word problems one after another, cut to PROMPT tokens: [batch, PROMPT]."""
    text = "\n".join(item.prompt for item in get_task("gsm_symbolic").items("test", 40))
    ids = model(name).tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor([ids[97 * i % (len(ids) - PROMPT) :][:PROMPT] for i in range(batch)])


def ours(name: str, ids: Tensor, options=None, network=None, **given) -> Tensor:
    options = options or Autoregressive(NEW)
    out = decode(network or model(name).network, ids, options, generator=0, family=endless(name), **given)
    return out.responses


@contextmanager
def compiling(word: str = "on") -> Iterator[None]:
    """Inside, or in a function under it, the switch of lib/decoding/compiled.py is `word`."""
    before = os.environ.get("DECODING_COMPILE")
    os.environ["DECODING_COMPILE"] = word
    try:
        yield
    finally:
        os.environ.pop("DECODING_COMPILE")
        if before is not None:
            os.environ["DECODING_COMPILE"] = before
