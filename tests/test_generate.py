"""The Hugging Face way in, and the architectures of the papers' models as tiny random ones."""

import pytest
import torch
from conftest import AR, SHIFTED
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from lib.decoders import custom_generate, decode
from lib.decoding.autoregressive import Autoregressive
from lib.errors import UserError
from lib.tolerator import Rcr, Remdm, Tolerator, Vanilla

SIZE = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GATED = {**SIZE, "intermediate_size": 48, "num_key_value_heads": 1, "tie_word_embeddings": False}
EXPERTS = {"num_experts_per_tok": 2, "head_dim": 16}
CLASSES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**GATED)),
    "opt": (OPTForCausalLM, OPTConfig(**SIZE, ffn_dim=48, word_embed_proj_dim=32, tie_word_embeddings=False)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**GATED)),
    "qwen3-moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig(**GATED, **EXPERTS, num_experts=4, moe_intermediate_size=24),
    ),
    "gpt-oss": (
        GptOssForCausalLM,
        GptOssConfig(**GATED, **EXPERTS, num_local_experts=4, sliding_window=4),
    ),
}


@pytest.fixture(scope="module", params=CLASSES)
def network(request):
    kind, config = CLASSES[request.param]
    torch.manual_seed(0)
    network = kind(config).eval()
    network.lm_head.weight.data *= 20
    return network


def test_every_architecture_decodes_as_transformers_does(network, prompts):
    ids, mask = prompts
    options = Autoregressive(max_new_tokens=10)
    ours = decode(network, ids, options, generator=0, family=AR, attention_mask=mask).responses
    theirs = network.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False)[:, ids.shape[1] :]
    assert torch.equal(ours[:, : theirs.shape[1]], theirs)
    uncached = Autoregressive(max_new_tokens=10, use_cache=False)
    assert torch.equal(decode(network, ids, uncached, generator=0, family=AR, attention_mask=mask).responses, ours)


@pytest.mark.parametrize(
    "options, family",
    [
        (Autoregressive(max_new_tokens=6, temperature=1.0), None),
        (Vanilla(canvas=8, steps=4), SHIFTED),
        (Remdm(canvas=8, steps=4), SHIFTED),
        (Rcr(canvas=8, steps=4), SHIFTED),
        (Tolerator(canvas=8, forwards=4), SHIFTED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_model_generate_runs_the_decoder(model, prompts, options, family):
    ids, mask = prompts
    out = model.generate(ids, attention_mask=mask, custom_generate=custom_generate(options, family, generator=3))
    own = decode(model, ids, options, generator=3, family=family or AR, attention_mask=mask)
    assert torch.equal(out, torch.cat([ids, own.responses], -1))


def test_a_model_without_an_end_needs_a_family(prompts):
    ids, mask = prompts
    model = LlamaForCausalLM(LlamaConfig(**GATED | {"eos_token_id": None})).eval()
    with pytest.raises(UserError, match="Family"):
        model.generate(ids, attention_mask=mask, custom_generate=custom_generate(Autoregressive()))
