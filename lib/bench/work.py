"""The work that the bench gives to ours and to its peers: prompts of code tasks, and texts that no token ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.models.registry import Model, load
from lib.tasks import get_task

NEW = 64  # tokens of a text
PROMPT = 48  # tokens of a prompt
# The shape of Llama-3.2-1B. Its weights are random here, which no time depends on.
ONE_BILLION = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}  # fmt: skip


def device() -> str:
    """Where the cases run."""
    return os.environ.get("DEVICE", "cpu")


@cache
def model(name: str) -> Model:
    """A model in float32 on a CPU, on a GPU in bfloat16; `llama-1b` is of random weights."""
    if name != "llama-1b":
        return load(name, device())
    with torch.device(device()):
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            network = LlamaForCausalLM(LlamaConfig(**ONE_BILLION))
        finally:
            torch.set_default_dtype(before)
    study = load("study-ar")
    return Model(name, network.eval(), study.tokenizer, study.family)


def endless(name: str):
    """The family of a model of which no token ends a text, so that all have the same length."""
    return replace(model(name).family, eot_ids=(-1,))


def prompts(name: str, batch: int) -> Tensor:
    """Code tasks one after another, cut to PROMPT tokens: [batch, PROMPT]."""
    text = "\n".join(item.prompt for item in get_task("graded_functions_1").items("test", 60))
    ids = model(name).tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor([ids[97 * i % (len(ids) - PROMPT) :][:PROMPT] for i in range(batch)], device=device())


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
