"""Tiny random models of the real architecture classes: every test runs on a CPU without a download."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import socket
from dataclasses import replace
from functools import partial

import pytest
import pytest_socket
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.decoding.family import Family
from lib.models.registry import Model
from lib.models.study import build_tokenizer
from lib.running import identity, one_batch, replay
from lib.running.evaluation import run_all
from lib.studies import base
from lib.studies.tolerator import cost as tolerator_cost
from lib.studies.tolerator import steps as tolerator_steps
from lib.tasks import get_task

torch.set_num_threads(1)

# pytest-socket refuses to connect elsewhere (pyproject.toml); asking for a name would reach the network as well.
RESOLVE, LOCAL = socket.getaddrinfo, (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname())


def _resolve_here(host, *given, **more):
    if host not in LOCAL:
        raise pytest_socket.SocketBlockedError(f"a test asked the network for {host!r}")
    return RESOLVE(host, *given, **more)


@pytest.fixture(autouse=True)
def no_names_from_the_network(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_here)


AR = Family("tiny-ar", eot_ids=(0,), chat=False)
SHIFTED = Family("tiny-dream", eot_ids=(0, 2), mask_id=1, shift=True, wide_mask=True, chat=False)
UNSHIFTED = Family("tiny-llada", eot_ids=(0,), mask_id=1, shift=False, wide_mask=True, chat=False)


def tiny(vocabulary: int = 24, seed: int = 0, scale: float = 20.0) -> LlamaForCausalLM:
    """A two-layer Llama whose logits are scaled up, so that its choices differ by position and context."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight.data *= scale
    return model


CONFIG = HeadsConfig(hidden_size=32, width=16)


def heads(seed=0, **changes):
    """Random heads whose settings differ by position."""
    torch.manual_seed(seed)
    out = Heads(HeadsConfig(**{"hidden_size": 32, "width": 16} | changes))
    with torch.no_grad():
        for head in (out.temp_head, out.top_p_head):
            head.mlp[-1].weight *= 8
    return out.requires_grad_(False)


@pytest.fixture
def decoder():
    return AutoDecoForCausalLM.from_base(tiny(), heads())


@pytest.fixture(scope="session")
def model():
    return tiny()


@pytest.fixture
def prompts():
    """Four prompts of different length, left-padded: ids and attention mask [4, 7]."""
    torch.manual_seed(1)
    ids = torch.randint(3, 24, (4, 7))
    lengths = [7, 3, 5, 1]
    mask = torch.tensor([[0] * (7 - n) + [1] * n for n in lengths])
    return ids * mask, mask


class Counter:
    """Wraps a model and counts its calls and the rows they computed."""

    def __init__(self, model):
        self.model, self.calls, self.rows = model, 0, 0
        self.config, self.heads = model.config, getattr(model, "heads", None)

    def get_output_embeddings(self):
        return self.model.get_output_embeddings()

    def parameters(self):
        return self.model.parameters()

    def __call__(self, **inputs):
        self.calls += 1
        self.rows += len(inputs["input_ids"])
        return self.model(**inputs)


@pytest.fixture
def random_models(tmp_path, monkeypatch):
    """The study models as one random network with a tokenizer of QA, and runs and results under tmp_path.

    Gives their made-up fingerprints by name, to be changed at will.
    """
    texts = [text for item in get_task("country_facts").items("test", 30) for text in (item.prompt, item.target)]
    tokenizer = build_tokenizer(texts)
    network = tiny(vocabulary=len(tokenizer), seed=4)
    families = {
        "study-dlm": replace(SHIFTED, name="tiny", eot_ids=(0,)),
        "study-ar": Family("tiny-ar", eot_ids=(0,), chat=False),
    }
    families["study-corrector"] = families["study-dlm"]
    weights = {"study-dlm": "one", "study-ar": "two", "study-corrector": "three"}

    def model_of(name, device):
        return Model(name, network, tokenizer, families[name])

    for module in (one_batch, replay, tolerator_cost, tolerator_steps):
        monkeypatch.setattr(module, "model_of", model_of)
    monkeypatch.setattr(identity, "describe", lambda name, device: (families[name], weights[name], "torch.float32"))
    monkeypatch.setattr(base, "run_all", partial(run_all, folder=tmp_path / "runs", workers=0))
    monkeypatch.setattr(base, "RESULTS", tmp_path / "results")
    return weights
