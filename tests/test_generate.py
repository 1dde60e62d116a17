"""The Hugging Face way in, and the architectures of the papers' models as tiny random ones."""

import pytest
import torch
from conftest import AR, SHIFTED, tiny
from listeners import Drafts, Streamer
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
from transformers.generation import GenerateDecoderOnlyOutput

from lib.decoders import custom_generate, decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.family import Family
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
    last = torch.arange(own.responses.shape[1]) == own.lengths[:, None]
    assert torch.equal(out, torch.cat([ids, torch.where(last, own.ends[:, None], own.responses)], -1))


def test_a_model_without_an_end_needs_a_family(prompts):
    ids, mask = prompts
    model = LlamaForCausalLM(LlamaConfig(**GATED | {"eos_token_id": None})).eval()
    with pytest.raises(UserError, match="Family"):
        model.generate(ids, attention_mask=mask, custom_generate=custom_generate(Autoregressive()))


def generate(model, prompts, options, family=None, generator=3, **given):
    ids, mask = prompts
    decoder = custom_generate(options, family, generator=generator)
    return model.generate(ids, attention_mask=mask, custom_generate=decoder, **given)


@pytest.mark.parametrize("given", [{"max_new_tokens": 11}, {"max_length": 18}], ids=str)
def test_lengths_of_generate_are_those_of_the_response(model, prompts, given):
    longer = decode(model, prompts[0], Autoregressive(11), generator=3, family=AR, attention_mask=prompts[1])
    out = generate(model, prompts, Autoregressive(6), **given)
    assert torch.equal(out[:, 7:], longer.responses)
    canvas = Vanilla(canvas=11, steps=4)
    assert generate(model, prompts, canvas, SHIFTED, **given).shape[1] == 18
    with pytest.raises(UserError, match="canvas=11"):
        generate(model, prompts, Vanilla(canvas=8, steps=4), SHIFTED, **given)


def test_ends_and_padding_of_generate_are_those_of_the_response(model, prompts):
    options = Autoregressive(12, temperature=1.0)
    family = Family("ends", eot_ids=(5, 9, 11), chat=False)
    own = decode(model, prompts[0], options, generator=3, family=family, attention_mask=prompts[1])
    for given in ({}, {"pad_token_id": 2}):
        out = generate(model, prompts, options, AR, eos_token_id=[5, 9, 11], **given)[:, 7:]
        for row, length, mine, end in zip(out, own.lengths, own.responses, own.ends, strict=True):
            assert torch.equal(row[:length], mine[:length]) and (row[length : length + 1] == end).all()
            assert (row[length + 1 :] == given.get("pad_token_id", 0)).all()
    assert len(own.lengths.unique()) > 1


@pytest.mark.parametrize("streamed", [False, True])
def test_the_end_that_was_drawn_is_the_last_token_as_in_transformers(model, prompts, streamed):
    """With every choice of two tokens as ends, the one that comes first in a text being named second."""
    ids, mask = prompts
    kinds = set()
    for row, real in zip(ids, mask, strict=True):
        prompt = row[real.bool()][None]
        free = model.generate(prompt, do_sample=False, max_new_tokens=12, eos_token_id=23)[0, prompt.shape[1] :]
        for end in set(free.tolist()):
            given = {"eos_token_id": [1, end], "pad_token_id": 2, "max_new_tokens": 12}
            wanted = model.generate(prompt, do_sample=False, **given)
            streamer = Streamer() if streamed else None
            decoder = custom_generate(Autoregressive(12), AR, streamer=streamer)
            out = model.generate(prompt, custom_generate=decoder, **given)
            assert torch.equal(out[:, : wanted.shape[1]], wanted) and (out[:, wanted.shape[1] :] == 2).all()
            assert not streamed or torch.equal(streamer.text, wanted[0])
            kinds.add(int(wanted[0, -1]))
    assert len(kinds) > 3


def test_the_end_of_a_canvas_is_the_one_that_was_drawn(prompts):
    for seed in range(8):
        ids, streamer = prompts[0][:1], Drafts()
        options = Vanilla(canvas=12, steps=6, temperature=1.5)
        own = decode(tiny(), ids, options, generator=seed, family=SHIFTED, record=True)
        raw = own.trace.events[-1]["tokens"][0]
        ends = [i for i in range(12) if raw[i] in SHIFTED.eot_ids]
        decoder = custom_generate(options, SHIFTED, generator=seed, streamer=streamer)
        out = tiny().generate(ids, custom_generate=decoder, eos_token_id=[0, 2], pad_token_id=0)[0, 7:]
        last = ends[0] + 1 if ends else 12
        assert torch.equal(out[:last], raw[:last]) and not out[last:].any()
        assert torch.equal(streamer.text[7:], out[:last]) and torch.equal(streamer.drafts[-1], out)


def test_several_sequences_are_rows_of_their_own(model, prompts):
    options = Autoregressive(6, temperature=2.0)
    out = generate(model, prompts, options, do_sample=True, num_return_sequences=3)
    assert out.shape == (12, 13) and len({tuple(row) for row in out.tolist()}) > 4
    ids, mask = (x.repeat_interleave(3, 0) for x in prompts)
    assert torch.equal(out[:, 7:], decode(model, ids, options, generator=3, family=AR, attention_mask=mask).responses)


def test_defaults_of_sampling_that_a_model_ships_do_not_count_and_its_penalties_do(prompts):
    model = tiny()
    plain = generate(model, prompts, Autoregressive(6))
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=20, min_p=0.1)
    assert torch.equal(generate(model, prompts, Autoregressive(6)), plain)
    with pytest.raises(UserError, match="temperature=0.7 of generate is not what the options say"):
        generate(model, prompts, Autoregressive(6, temperature=1.0), temperature=0.7)
    model.generation_config.update(repetition_penalty=1.1)
    with pytest.raises(UserError, match="pass repetition_penalty=1.0"):
        generate(model, prompts, Autoregressive(6))
    assert torch.equal(generate(model, prompts, Autoregressive(6), repetition_penalty=1.0), plain)


def test_an_output_is_that_of_transformers(model, prompts):
    out = generate(model, prompts, Autoregressive(6), return_dict_in_generate=True)
    assert isinstance(out, GenerateDecoderOnlyOutput) and out.scores is None
    assert torch.equal(out.sequences, generate(model, prompts, Autoregressive(6)))
