"""Models of the hub from stand-ins in an offline cache: the published names, shapes and token ids at a tiny width."""

import copy
import gc
import json
import math
import weakref
from dataclasses import replace

import huggingface_hub
import pytest
import torch
import torch.nn.functional as F
from conftest import AR, SHIFTED, UNSHIFTED, heads, tiny
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lib.autodeco import AutoDecoForCausalLM
from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.bidirectional import canvas_logits
from lib.decoding.llama import Llama
from lib.errors import MachineError, UserError
from lib.models import hub, reading
from lib.models.masked import NATIVE, llada_config
from lib.models.registry import FAMILIES, MODELS, Entry, Model, describe, load
from lib.models.selftest import check_diffusion, stale_buffer
from lib.models.vocabulary import paired
from lib.mtad.loop import require_pair

WIDTH, HEADS, LAYERS = 16, 4, 2
LLADA = {
    "model_type": "llada",
    "architectures": ["LLaDAModelLM"],
    "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig", "AutoModel": "modeling_llada.LLaDAModelLM"},
    "d_model": WIDTH, "n_heads": HEADS, "n_kv_heads": HEADS, "n_layers": LAYERS, "mlp_hidden_size": 24,
    "mlp_ratio": 4, "vocab_size": 126464, "embedding_size": 126464, "max_sequence_length": 4096,
    "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "weight_tying": False, "mask_token_id": 126336,
    "eos_token_id": 126081, "pad_token_id": 126081, "block_type": "llama", "layer_norm_type": "rms",
    "activation_type": "silu", "rope": True, "alibi": False, "include_bias": False, "include_qkv_bias": False,
    "attention_layer_norm": False, "input_emb_norm": False, "scale_logits": False, "multi_query_attention": None,
}  # fmt: skip
DREAM = {
    "model_type": "Dream",
    "architectures": ["DreamModel"],
    "auto_map": {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
    "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": 2, "num_hidden_layers": LAYERS,
    "intermediate_size": 24, "vocab_size": 152064, "max_position_embeddings": 131072, "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "mask_token_id": 151666, "bos_token_id": 151643,
    "eos_token_id": 151643, "pad_token_id": 151643, "hidden_act": "silu", "rope_scaling": None,
    "sliding_window": None, "use_sliding_window": False,
}  # fmt: skip
SAMPLING = {"repetition_penalty": 1.3, "min_p": 0.1, "top_p": 0.5, "top_k": 7, "temperature": 0.3, "do_sample": True}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An offline cache of the hub; gives the folder of a model's files at a commit, `main` by default."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HUB_REVISION", raising=False)

    def folder(source, commit=COMMIT, branch="main"):
        place = tmp_path / f"models--{source.replace('/', '--')}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / branch).write_text(commit)
        files = place / "snapshots" / commit
        files.mkdir(parents=True)
        return files

    return folder


def stand_in(folder, raw, weights, words, name="tokenizer.json", **tokenizer):
    """The files of a model; its weights in two files, as large ones have them."""
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "generation_config.json").write_text(json.dumps(SAMPLING | {"eos_token_id": raw["eos_token_id"]}))
    kept = sorted(weights)
    index = {}
    for part, keys in enumerate((kept[::2], kept[1::2])):
        file = f"model-{part}.safetensors"
        save_file({key: weights[key] for key in keys}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(keys, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    write_tokenizer(folder, words, **tokenizer)


def write_tokenizer(folder, words, python_file=False, **special):
    """A tokenizer of these words by id: as one file, or (Dream) as Qwen2's two with a class that is Python code."""
    config = {"chat_template": "{{ messages[0]['content'] }}", **special}
    if python_file:
        (folder / "vocab.json").write_text(json.dumps({token: i for token, i in words.items()}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        config |= {"tokenizer_class": "DreamTokenizer", "added_tokens_decoder": {
            str(i): {"content": token, "special": True} for token, i in words.items() if token.startswith("<|")
        }, "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}}  # fmt: skip
    else:
        inner = Tokenizer(models.WordLevel(words, unk_token="a"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=inner).save_pretrained(folder)
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def llada_weights(seed=0):
    shapes = {"wte": (126464, WIDTH), "ln_f": (WIDTH,), "ff_out": (126464, WIDTH)}
    for i in range(LAYERS):
        shapes |= {f"blocks.{i}.{name}": (WIDTH, WIDTH) for name in ("q_proj", "k_proj", "v_proj", "attn_out")}
        shapes |= {f"blocks.{i}.{name}": (24, WIDTH) for name in ("ff_proj", "up_proj")}
        shapes |= {f"blocks.{i}.ff_out": (WIDTH, 24)} | {
            f"blocks.{i}.{n}": (WIDTH,) for n in ("attn_norm", "ff_norm")
        }
    return random_weights({f"model.transformer.{key}.weight": shape for key, shape in shapes.items()}, seed)


def dream_weights(seed=0):
    shapes = {"model.embed_tokens": (152064, WIDTH), "model.norm": (WIDTH,), "lm_head": (152064, WIDTH)}
    for i in range(LAYERS):
        layer, keys = f"model.layers.{i}", WIDTH * 2 // HEADS
        shapes |= {f"{layer}.self_attn.{name}": (WIDTH, WIDTH) for name in ("q_proj", "o_proj")}
        shapes |= {f"{layer}.self_attn.{name}": (keys, WIDTH) for name in ("k_proj", "v_proj")}
        shapes |= {f"{layer}.mlp.{name}": (24, WIDTH) for name in ("gate_proj", "up_proj")}
        shapes |= {f"{layer}.mlp.down_proj": (WIDTH, 24)}
        shapes |= {f"{layer}.{name}": (WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
    biased = {key: shape[:1] for key, shape in shapes.items() if key.endswith(("q_proj", "k_proj", "v_proj"))}
    named = {f"{key}.weight": shape for key, shape in shapes.items()}
    return random_weights(named | {f"{key}.bias": shape for key, shape in biased.items()}, seed)


def random_weights(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=generator) * (0.3 if len(shape) > 1 else 0.5) + (len(shape) == 1)
        for key, shape in shapes.items()
    }


LLADA_WORDS = {"a": 3, "b": 4, "<|startoftext|>": 126080, "<|endoftext|>": 126081, "<|mdm_mask|>": 126336,
               "<|eot_id|>": 126348}  # fmt: skip
DREAM_WORDS = {"a": 3, "b": 4, "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645,
               "<|beginoftext|>": 151665, "<|mask|>": 151666}  # fmt: skip


def put_llada(folder, raw=LLADA, weights=None, words=LLADA_WORDS, eos="<|endoftext|>"):
    weights = weights or llada_weights()
    stand_in(folder, raw, weights, words, eos_token=eos, bos_token="<|startoftext|>")
    return weights


def put_dream(folder, raw=DREAM, weights=None):
    weights = weights or dream_weights()
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "mask_token": "<|mask|>"}
    stand_in(folder, raw, weights, DREAM_WORDS, python_file=True, **special)
    return weights


PUT = {"llada-8b": put_llada, "dream-7b": put_dream}


def put(cache, name, *given, **more):
    entry = MODELS[name]
    return PUT[name](cache(entry.source, entry.revision), *given, **more)


# The published equations in plain operations on one row of ids, by the checkpoint's own names.


def rope(x, theta, neighbours=False):
    """x [heads, L, D]: pairs (i, i + D/2) turned by position / theta^(2i/D), or neighbours (2i, 2i + 1)."""
    length, size = x.shape[1:]
    angle = torch.arange(length)[:, None] / theta ** (torch.arange(0, size, 2) / size)
    cos, sin = angle.cos(), angle.sin()
    if neighbours:
        one, two = x[..., ::2], x[..., 1::2]
        return torch.stack([one * cos - two * sin, two * cos + one * sin], -1).flatten(-2)
    one, two = x[..., : size // 2], x[..., size // 2 :]
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


def norm(x, weight, eps):
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def by_hand(ids, w, names, key_heads, theta, eps, neighbours=False):
    """Logits [L, V] of a pre-norm decoder in which all positions see all."""

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    x = w[f"{names['wte']}.weight"][ids]
    for i in range(LAYERS):
        at = {key: f"{names['layer']}.{i}.{name}" for key, name in names["in"].items()}
        h = norm(x, w[f"{at['norm']}.weight"], eps)
        q, k, v = (linear(h, at[n]).view(len(ids), -1, WIDTH // HEADS).transpose(0, 1) for n in "qkv")
        q, k = rope(q, theta, neighbours), rope(k, theta, neighbours)
        k, v = (part.repeat_interleave(HEADS // key_heads, 0) for part in (k, v))
        seen = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH // HEADS), -1) @ v
        x = x + linear(seen.transpose(0, 1).flatten(1), at["out"])
        h = norm(x, w[f"{at['norm2']}.weight"], eps)
        x = x + linear(F.silu(linear(h, at["gate"])) * linear(h, at["up"]), at["down"])
    return norm(x, w[f"{names['ln_f']}.weight"], eps) @ w[f"{names['head']}.weight"].T


LLADA_AT = {
    "wte": "model.transformer.wte", "ln_f": "model.transformer.ln_f", "head": "model.transformer.ff_out",
    "layer": "model.transformer.blocks",
    "in": {"norm": "attn_norm", "q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "attn_out", "norm2": "ff_norm",
           "gate": "ff_proj", "up": "up_proj", "down": "ff_out"},
}  # fmt: skip
DREAM_AT = {
    "wte": "model.embed_tokens", "ln_f": "model.norm", "head": "lm_head", "layer": "model.layers",
    "in": {"norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
           "out": "self_attn.o_proj", "norm2": "post_attention_layernorm", "gate": "mlp.gate_proj",
           "up": "mlp.up_proj", "down": "mlp.down_proj"},
}  # fmt: skip
EQUATIONS = {
    "llada-8b": (LLADA_AT, HEADS, 500000.0, 1e-5),
    "dream-7b": (DREAM_AT, 2, 1000000.0, 1e-6),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_logits_are_those_of_the_published_equations(cache, name):
    """By the module's own forward, with and without a mask, and by the fast one that decoding takes."""
    weights = put(cache, name)
    model = load(name)
    rows = [torch.tensor([7, 99, 100000, 5, 1200, 31, 8]), torch.tensor([44, 9, 70000, 2])]
    wanted = [by_hand(row, weights, *EQUATIONS[name]) for row in rows]
    wrong = by_hand(rows[0], weights, *EQUATIONS[name], neighbours=True)
    with torch.inference_mode():
        found = model.network(input_ids=rows[0][None]).logits[0]
    assert torch.allclose(found, wanted[0], atol=1e-4) and not torch.allclose(found, wrong, atol=1e-2)
    ids = torch.stack([rows[0], torch.cat([torch.zeros(3).long(), rows[1]])])
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    needed, shift = torch.ones(2, 3, dtype=torch.bool), int(model.family.shift)
    expected = torch.cat([part[len(part) - 3 - shift : len(part) - shift] for part in wanted])
    with torch.inference_mode():
        assert Llama.of(model.network) is not None
        assert torch.allclose(canvas_logits(model.network, ids, mask, needed, model.family), expected, atol=1e-4)
    own = canvas_logits(model.network, ids, mask, needed, model.family)  # gradients on: the module's own forward
    assert own.requires_grad and torch.allclose(own, expected, atol=1e-4)


@pytest.mark.parametrize("name", EQUATIONS)
def test_tokenizers_need_no_code_of_the_hub(cache, name):
    put(cache, name)
    tokenizer = load(name).tokenizer
    family = FAMILIES[MODELS[name].family]
    assert "mask" in tokenizer.convert_ids_to_tokens(family.mask_id) and tokenizer.eos_token_id == family.eot_ids[0]
    assert tokenizer.encode("a", add_special_tokens=False) == [3]


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_diffusion_model_of_the_hub_decodes(cache, name, dtype):
    from lib.tolerator import Tolerator

    put(cache, name)
    model = load(name, dtype=dtype)
    ids, mask = model.encode(["a b a", "a"])
    given = {"generator": 0, "family": model.family}
    options = Tolerator(canvas=4, forwards=4)
    out = decode(model.network, ids, options, attention_mask=mask, **given)
    assert out.responses.shape == (2, 4) and (out.responses != model.family.mask_id).all()
    if dtype == torch.float32:
        alone = decode(model.network, ids[:1], options, attention_mask=mask[:1], **given)
        assert torch.equal(alone.responses, out.responses[:1])


def test_a_checkpoint_must_have_every_weight_and_no_other(cache):
    def load_with(change, number):
        weights = llada_weights()
        change(weights)
        put_llada(cache("x/llada", f"{number:040}", f"branch-{number}"), weights=weights)
        entry = Entry("x", "paper", "llada", "x/llada", "MIT", revision=f"branch-{number}")
        return hub.load_hub(entry, torch.float32, FAMILIES["llada"])

    q, up = "model.transformer.blocks.1.q_proj.weight", "model.transformer.blocks.0.up_proj.weight"
    for number, (change, words) in enumerate(
        [
            (lambda w: w.pop(q), r"has no model\.layers\.1\.self_attn\.q_proj\.weight: .*another revision"),
            (lambda w: w.update({up: w[up][:5].clone()}), r"mlp\.up_proj\.weight of shape \(5, 16\), not \(24, 16\)"),
            (
                lambda w: w.update({"model.transformer.wpe.weight": torch.ones(3)}),
                "wpe.weight, which the network has",
            ),
            (lambda w: [w.pop(key) for key in list(w) if ".1.ff" in key], r"post_attention.* \(and 2 more\)|mlp"),
        ]
    ):
        with pytest.raises(UserError, match=words) as error:
            load_with(change, number)
        assert "\n" not in str(error.value)
    network, _ = load_with(lambda w: None, 9)
    assert network.config._commit_hash == f"{9:040}"


@pytest.mark.parametrize(
    "change", [{"alibi": True}, {"block_type": "sequential"}, {"include_bias": True}, {"rms_norm_eps": 0.0},
               {"d_model": None}]
)  # fmt: skip
def test_a_variant_of_the_architecture_is_refused_by_its_field(change):
    with pytest.raises(UserError, match=f"{next(iter(change))}.*published model"):
        llada_config(LLADA | change, "config.json")


def test_a_tied_head_and_the_width_by_ratio():
    config = llada_config(LLADA | {"weight_tying": True, "mlp_hidden_size": None, "n_kv_heads": None}, "config.json")
    assert config.tie_word_embeddings and config.intermediate_size == 4 * WIDTH
    assert config.num_key_value_heads == HEADS


def test_special_tokens_must_be_those_of_the_family(cache):
    put(cache, "llada-8b", raw=LLADA | {"mask_token_id": 5})
    with pytest.raises(UserError, match="mask 5: .*published tokenizer"):
        load("llada-8b")


@pytest.mark.parametrize(
    ("words", "eos", "says"),
    [
        ({**LLADA_WORDS, "<|mdm_mask|>": 126337, "c": 126336}, "<|endoftext|>", "'c' at 126336"),
        ({**LLADA_WORDS, "<|eot_id|>": 126349}, "<|endoftext|>", "no token 126348"),
        (LLADA_WORDS, "b", "ends a text with 4"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(cache, words, eos, says):
    put(cache, "llada-8b", words=words, eos=eos)
    with pytest.raises(UserError, match=says):
        load("llada-8b")


# The self-test


def test_the_self_test_passes_what_is_right_and_draws_nothing():
    networks = [tiny(), tiny().bfloat16()]
    before = torch.random.get_rng_state()
    for network in networks:
        check_diffusion(network, SHIFTED)
        check_diffusion(network, UNSHIFTED)
    assert torch.equal(before, torch.random.get_rng_state())


class Blind(LlamaForCausalLM):
    """A network that takes the mask and does not read it, as the released LLaDA."""

    def forward(self, input_ids, attention_mask=None, **more):
        wide = torch.ones(len(input_ids), 1, *[input_ids.shape[1]] * 2, dtype=torch.bool)
        return super().forward(input_ids=input_ids, attention_mask=wide)


class Causal(LlamaForCausalLM):
    """A network that makes of a 4D mask its last row and of that a causal one."""

    def forward(self, input_ids, attention_mask=None, **more):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask[:, 0, -1].long())


def as_kind(kind):
    network = tiny()
    network.__class__ = kind
    return network


def test_the_self_test_finds_what_is_wrong():
    with pytest.raises(UserError, match="left-padded batch gives other logits.*equal length"):
        check_diffusion(as_kind(Blind), UNSHIFTED)
    with pytest.raises(UserError, match="does not see the tokens behind it: use an attention"):
        check_diffusion(as_kind(Causal), UNSHIFTED)
    broken = tiny()
    broken.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match="no finite numbers"):
        check_diffusion(broken, SHIFTED)
    stale = tiny()
    stale.model.rotary_emb.inv_freq.mul_(1.01)  # as uninitialised memory may look: finite, and wrong
    assert stale_buffer(stale) == "model.rotary_emb.inv_freq"
    with pytest.raises(UserError, match="rotary_emb.inv_freq of the loaded model is not what its config gives"):
        check_diffusion(stale, SHIFTED)


def test_the_self_test_runs_at_every_load(cache, monkeypatch):
    put(
        cache, "llada-8b", weights=llada_weights() | {"model.transformer.ln_f.weight": torch.full((WIDTH,), math.nan)}
    )
    with pytest.raises(UserError, match="no finite numbers"):
        load("llada-8b")


# Revisions


def test_a_name_is_what_was_asked_and_the_commit_is_with_the_network(cache, monkeypatch):
    name, source = "dream-7b", MODELS["dream-7b"].source
    pinned = f"{source}@{MODELS[name].revision}"
    assert describe(name)[1] == pinned and len(MODELS[name].revision) == 40
    put(cache, name)
    assert load(name).network.config._commit_hash == MODELS[name].revision
    assert describe(name)[1] == pinned
    put_dream(cache(source, COMMIT, "new"), weights=dream_weights(seed=1))
    monkeypatch.setenv("HUB_REVISION", f"llada-8b=main, {name}=new")
    before = describe(name)[1]
    model = load(name)
    assert before == describe(name)[1] == f"{source}@new" and model.network.config._commit_hash == COMMIT
    assert torch.equal(model.network.lm_head.weight, dream_weights(seed=1)["lm_head.weight"])
    monkeypatch.setenv("HUB_REVISION", f"new,{name}=main")
    assert describe(name)[1] == f"{source}@main" and describe("llada-8b")[1].endswith("@new")
    monkeypatch.setenv("HUB_REVISION", f"{name}=old")
    with pytest.raises(UserError, match=f"{source}@old cannot be loaded"):
        load(name)


@pytest.mark.parametrize(
    ("value", "says"), [("=abc", "write NAME=REVISION"), ("dream-7b=", "write NAME"), ("dram-7b=a", "dram-7b")]
)
def test_a_revision_that_names_nothing(monkeypatch, value, says):
    monkeypatch.setenv("HUB_REVISION", value)
    for call in (describe, load):
        with pytest.raises(UserError, match=says):
            call("dream-7b")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (errors.GatedRepoError, "is gated: ask for access"),
        (errors.RevisionNotFoundError, "has no revision 916b56a44061"),
        (errors.RepositoryNotFoundError, "the hub shows no deepseek-ai/.*hf auth login"),
        (errors.LocalEntryNotFoundError, "a connection are needed"),
        (MemoryError, "does not fit into memory: set MODEL_BITS"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, kind, says):
    import transformers

    def refuse(*given, **more):
        cause = kind.__new__(kind)
        Exception.__init__(cause, "out of memory" if kind is MemoryError else "401 Client Error\nRequest ID: x")
        raise OSError("You are trying to\naccess a repository") from cause

    monkeypatch.setattr(transformers.utils, "cached_file", refuse)
    with pytest.raises(UserError, match=says) as error:
        load("r1-qwen-7b")
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there(cache):
    with pytest.raises(UserError, match="hf auth login.*connection"):
        load("r1-qwen-7b")
    with pytest.raises(UserError, match="hf auth login.*connection"):
        hub.heads_folder(MODELS["r1-qwen-7b-authors"])


# Autoregressive models


def put_qwen(cache, name="r1-qwen-7b", size=48, words=None):
    entry = MODELS[name]
    folder = cache(entry.source, entry.revision)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = Qwen2ForCausalLM(Qwen2Config(vocab_size=size, num_key_value_heads=1, eos_token_id=2, **shape))
    network.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(SAMPLING | {"eos_token_id": 2, "top_h": 0.4}))
    write_tokenizer(folder, words or {"a": 3, "b": 4, "</s>": 2}, eos_token="</s>")
    return network


def test_a_checkpoints_generation_defaults_do_not_leak(cache):
    put_qwen(cache)
    network = load("r1-qwen-7b").network
    found = network.generation_config.to_diff_dict()
    assert found.pop("eos_token_id") == 2 and found.pop("pad_token_id") == 151643
    assert not {*SAMPLING, "top_h"} & found.keys()
    ids = torch.tensor([[3, 4, 3]])
    plain = network.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=47)
    wanted = ids
    for _ in range(8):
        wanted = torch.cat([wanted, network(input_ids=wanted).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(plain, wanted)


def test_a_missing_weight_of_any_model_is_found(cache):
    put_qwen(cache)
    folder = next(cache("x/y").parents[2].glob("models--deepseek*/snapshots/*"))
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"has no model\.layers\.0\.mlp\.up_proj\.weight"):
        load("r1-qwen-7b")


def test_a_text_begins_with_the_token_that_the_family_names():
    inner = Tokenizer(models.WordLevel({"<s>": 1, "</s>": 2, "a": 3, "b": 4}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    base = Model("base", tiny(), tokenizer, FAMILIES["llama-2"])
    ids, mask = base.encode(["a b", "a"])
    assert ids.tolist() == [[1, 3, 4], [2, 1, 3]] and mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    without = replace(base, family=replace(base.family, bos_id=None))
    assert without.encode(["a b"])[0].tolist() == [[3, 4]]
    assert [FAMILIES[name].bos_id for name in ("llama-3-base", "opt", "llama-3", "study-ar")] == [
        128000,
        2,
        None,
        None,
    ]
    with pytest.raises(UserError, match="begins a text with 1, not with 128000"):
        hub.check_tokens(tokenizer, {}, FAMILIES["llama-3-base"], "x")
    with pytest.raises(UserError, match="bos_id must be a token id"):
        replace(base.family, bos_id="<s>")


def test_a_pair_of_padded_vocabularies_is_cut_to_the_common_part():
    class Words:
        def get_vocab(self):
            return {f"w{i}": i for i in range(22)}

    class Tens:
        def get_vocab(self):
            return {"ten": 10}

    target, draft = tiny(vocabulary=40), tiny(vocabulary=24, seed=1)
    large, small = paired(target, draft, Words())
    assert small is draft and target.config.vocab_size == 40 == target.lm_head.weight.shape[0]
    assert large.config.vocab_size == 24
    ids = torch.randint(3, 22, (2, 6))
    with torch.no_grad():
        whole, cut = target(input_ids=ids).logits, large(input_ids=ids).logits
    assert torch.equal(cut, whole[..., :24])
    require_pair(large, small)
    family = replace(FAMILIES["llama-2"], eot_ids=(0,))
    out = decode(large, ids, Autoregressive(max_new_tokens=12), generator=0, family=family)
    assert int(out.responses.max()) < 24
    with pytest.raises(UserError, match="different vocabularies"):
        require_pair(target, draft)
    Words.get_vocab = lambda self: pytest.fail("13 to 117 ms inside of windows that are timed")
    assert paired(target, draft, Words())[0] is large and paired(target, target, Words()) == (target, target)
    short = paired(draft, target, Tens())[1]
    assert short.config.vocab_size == 24 and paired(draft, target, Words())[1] is short
    again = tiny(vocabulary=40)
    of, kept = weakref.ref(again), paired(again, draft, Tens())[0]
    again.lm_head.weight = torch.nn.Parameter(again.lm_head.weight.detach().clone())  # as a move to a device does
    assert paired(again, draft, Tens())[0] is not kept
    del again, kept
    gc.collect()
    assert of() is None, "a pair holds no model"
    target, draft = tiny(vocabulary=40), tiny(vocabulary=24, seed=1)
    Words.get_vocab = lambda self: {"w": 30}
    with pytest.raises(UserError, match="a token 30 that not all of them know"):
        paired(target, draft, Words())
    target.lm_head._hf_hook = object()
    Words.get_vocab = lambda self: {"w": 3}
    with pytest.raises(UserError, match="without MODEL_PLACE"):
        paired(target, draft, Words())


def test_published_heads_come_from_the_hub(cache):
    name = "r1-qwen-7b-authors"
    base = put_qwen(cache)
    folder = cache(MODELS[name].source)
    AutoDecoForCausalLM.from_base(base, heads()).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    theirs = {key: config[key] for key in ("model_type", "base_model_type", "use_enhanced_features")}
    (folder / "config.json").write_text(json.dumps(theirs | {"base_model_name_or_path": "/theirs/R1"}))
    model = load(name)
    assert type(model.network).__name__ == "AutoDecoQwen2ForCausalLM" and MODELS[name].tier == "heads"
    for key, value in heads().state_dict().items():
        assert torch.equal(model.network.heads.state_dict()[key], value), key
    assert describe(name)[1].startswith(f"{MODELS[name].source}@main+deepseek-ai/")


def test_heads_go_onto_their_base_in_fewer_bits(tmp_path):
    base = tiny()
    AutoDecoForCausalLM.from_base(base, heads()).save_pretrained(tmp_path)
    base.model.layers[0].mlp.up_proj.weight.data += 1
    with pytest.raises(UserError, match="of another base"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base)
    whole = torch.ones_like(base.model.layers[0].mlp.up_proj.weight, dtype=torch.int8)
    base.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(whole, requires_grad=False)
    assert AutoDecoForCausalLM.from_pretrained(tmp_path, base).heads is not None
    base.config.model_type = "other"
    with pytest.raises(UserError, match="of another family"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base)


# Places, bits, room


def test_a_place_by_device_map(cache, monkeypatch):
    put(cache, "llada-8b")
    plain = load("llada-8b")
    monkeypatch.setenv("MODEL_PLACE", "cpu")
    model = load("llada-8b")
    assert hub.placed(model.network) and not hub.placed(plain.network)
    ids = torch.tensor([[3, 4, 126336, 126336]])
    with torch.no_grad():
        assert torch.equal(model.network(input_ids=ids).logits, plain.network(input_ids=ids).logits)
    assert describe("llada-8b")[1] == f"GSAI-ML/LLaDA-8B-Instruct@{MODELS['llada-8b'].revision}"


def test_bits_are_a_part_of_the_name_and_need_a_gpu(cache, monkeypatch):
    put(cache, "llada-8b")
    monkeypatch.setenv("MODEL_BITS", "4")
    assert describe("llada-8b")[1].endswith("+4bit")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="MODEL_BITS=4 needs a GPU"):
        load("llada-8b")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    lacks = {"bitsandbytes", "accelerate"}
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None if name in lacks else object())
    with pytest.raises(UserError, match="pip install accelerate"):
        load("llada-8b")
    lacks.discard("accelerate")
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        load("llada-8b")
    monkeypatch.setenv("MODEL_BITS", "5")
    with pytest.raises(UserError, match="8 or 4, not '5'"):
        describe("llada-8b")


def test_no_gpu_and_too_little_memory_are_a_line(cache, monkeypatch):
    put(cache, "llada-8b")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU here: use device cpu"):
        load("llada-8b", "cuda")
    monkeypatch.setattr(reading, "free", lambda device: 1000)
    with pytest.raises(MachineError, match=r"takes 0\.0 GiB in torch.float32, 0\.0 are free and there is no GPU"):
        load("llada-8b")
    with (
        pytest.raises(MachineError, match="does not fit into the memory of cpu: set MODEL_BITS"),
        hub.on_device("x", "cpu"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_every_native_type_has_its_names_and_ids():
    assert NATIVE.keys() == {"llada", "dream"}
    for name in NATIVE:
        family = FAMILIES[name]
        assert family.wide_mask and not MODELS[{"llada": "llada-8b", "dream": "dream-7b"}[name]].remote_code
    assert GenerationConfig().repetition_penalty in (None, 1.0)
    assert isinstance(llada_config(LLADA, "x"), LlamaConfig)


THINKING = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}[bot] <think>\n"


def test_a_thought_that_the_template_opens_is_a_part_of_the_text():
    """DeepSeek-R1's template ends so: without it a thought that was cut off would look like an answer."""
    inner = Tokenizer(models.WordLevel({"</s>": 2, "a": 3, "b": 4}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", chat_template=THINKING)
    model = Model("r1", tiny(), tokenizer, FAMILIES["qwen-2"])
    assert model.text(torch.tensor([4, 3, 2]), 2) == "<think>\nb a"
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = THINKING.replace("<think>\n", "")
    assert replace(model, tokenizer=tokenizer).text(torch.tensor([4, 3, 2]), 2) == "b a"
    assert replace(model, family=AR).text(torch.tensor([4]), 1) == "b", "no template, no thought"


def test_prefixes_and_histories_go_where_a_chat_has_them():
    class Spelt:
        chat_template = THINKING

        def apply_chat_template(self, chat, **given):
            return " ".join(f"[{turn['role']}] {turn['content']}" for turn in chat) + " [bot] "

        def encode(self, text, add_special_tokens):
            self.seen = text
            return [3]

    tokenizer = Spelt()
    model = Model("x", tiny(), tokenizer, FAMILIES["qwen-2"])
    model.encode("now", "say: ", prefixes=["Here: "], histories=[[["then", "so"]]])
    assert tokenizer.seen == "[user] then [assistant] so [user] say: now [bot] Here: "
    model.encode("now", "say: ")
    assert tokenizer.seen == "[user] say: now [bot] "
    bare = replace(model, family=AR)
    bare.encode("now", prefixes=["Here: "], histories=[[["then", "so"]]])
    assert tokenizer.seen == "then\nso\n\nnowHere: "


def test_a_prefix_behind_an_opened_thought_is_refused():
    inner = Tokenizer(models.WordLevel({"</s>": 2, "a": 3, "b": 4}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", chat_template=THINKING)
    model = Model("r1", tiny(), tokenizer, FAMILIES["qwen-2"])
    with pytest.raises(UserError, match="template of r1 begins every answer with <think>.*take a task that does not"):
        model.encode("a", prefixes=["b"])
    assert torch.equal(model.encode("a", prefixes=[""])[0], model.encode("a")[0])
    assert replace(model, family=AR).encode("a", prefixes=["b"])[0].tolist() == [[3]], "no template, no thought"
