"""Tiny random networks of the papers' architectures: real vocabularies and field names, the hub's keys of weights."""

import json
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lib.dryrun.tokenizers import learned
from lib.dryrun.vocabularies import Vocabulary

WIDTH, LAYERS, INNER, HEADS = 16, 2, 32, 2
MXFP4 = 32  # numbers that share a scale in gpt-oss's weights
SHARDS = 2
# The logits of a stand-in, before its random part: it says learned tokens, and ends one response in twenty tokens.
COMMON, END, NEVER, CONSTANT = 8.0, 13.5, -20.0, 3.0


def shapes_of(config: dict) -> dict[str, tuple[int, ...]]:
    """The hub's keys of a network with such a config.json, and their shapes."""
    return dict(_SHAPES[config["model_type"]](config))


def weights_of(config: dict, vocabulary: Vocabulary, name: str) -> dict[str, Tensor]:
    """Random weights in bfloat16, by the hub's keys. One direction of the states is the same everywhere, and the head
    reads from it which tokens are common, so that responses are of ordinary words and come to an end.

    Embeddings and head are the same whatever the `name`, so that a draft likes what its target does.
    """
    found = {}
    for key, shape in shapes_of(config).items():
        own = key if key in EMBEDDINGS + READERS else f"{name} {key}"
        drawn = torch.Generator().manual_seed(crc32(own.encode()))
        if key.endswith("_scales"):
            found[key] = torch.full(shape, 121, dtype=torch.uint8)  # 2 ** (121 - 127)
        elif key.endswith("_blocks"):
            found[key] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn)
        else:
            found[key] = _drawn(key, shape, config, vocabulary, drawn).to(torch.bfloat16)
    return found


def _drawn(key: str, shape: tuple[int, ...], config: dict, vocabulary: Vocabulary, drawn: torch.Generator) -> Tensor:
    if "norm" in key or "ln_f" in key:
        return torch.zeros(shape) if key.endswith("bias") else torch.ones(shape)
    if key.endswith("bias") or key.endswith("sinks"):
        return 0.1 * torch.randn(shape, generator=drawn)
    weights = 0.4 * torch.randn(shape, generator=drawn)
    if key in EMBEDDINGS or key in READERS:
        tied = config.get("tie_word_embeddings", False)
        weights[:, 0] = _tastes(shape[0], vocabulary) / CONSTANT if key in READERS or tied else 4.0
    elif any(part in key for part in ("o_proj", "down_proj", "attn_out", "out_proj", "fc2", ".ff_out")):
        weights *= 0.25
        weights[..., 0, :] = 0.0  # nothing is written into the constant direction
    return weights


def _tastes(size: int, vocabulary: Vocabulary) -> Tensor:
    """How much each token is liked [size]; the last ones, that no tokenizer knows, not at all."""
    liked = torch.zeros(size)
    liked[list(learned(vocabulary))] = COMMON
    liked[list(vocabulary.special)] = NEVER
    liked[vocabulary.size :] = NEVER
    liked[[*vocabulary.ends, *vocabulary.often]] = END
    return liked


EMBEDDINGS = ("model.embed_tokens.weight", "model.decoder.embed_tokens.weight", "model.transformer.wte.weight")
READERS = ("lm_head.weight", "model.transformer.ff_out.weight")


def _attention(config: dict, at: str, biased: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = config["hidden_size"]
    size = config.get("head_dim", width // config["num_attention_heads"])
    own, shared = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    for name, out in (("q", own), ("k", shared), ("v", shared)):
        yield f"{at}.self_attn.{name}_proj.weight", (out, width)
        if name in biased:
            yield f"{at}.self_attn.{name}_proj.bias", (out,)
    yield f"{at}.self_attn.o_proj.weight", (width, own)
    if "o" in biased:
        yield f"{at}.self_attn.o_proj.bias", (width,)


def _decoder(config: dict, biased: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys of what Llama's, Qwen's, Dream's and gpt-oss's networks have in common."""
    width = config["hidden_size"]
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield from _attention(config, at, biased)
        yield f"{at}.input_layernorm.weight", (width,)
        yield f"{at}.post_attention_layernorm.weight", (width,)
        yield from _MIDDLES[config["model_type"]](config, at)
    yield "model.norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], width)


def _gated(config: dict, at: str, width: str = "intermediate_size") -> Iterator[tuple[str, tuple[int, ...]]]:
    inner, outer = config[width], config["hidden_size"]
    yield f"{at}.mlp.gate_proj.weight", (inner, outer)
    yield f"{at}.mlp.up_proj.weight", (inner, outer)
    yield f"{at}.mlp.down_proj.weight", (outer, inner)


def _qwen3_moe(config: dict, at: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config["hidden_size"], config["moe_intermediate_size"]
    yield f"{at}.self_attn.q_norm.weight", (config["head_dim"],)
    yield f"{at}.self_attn.k_norm.weight", (config["head_dim"],)
    yield f"{at}.mlp.gate.weight", (config["num_experts"], width)
    for expert in range(config["num_experts"]):
        yield f"{at}.mlp.experts.{expert}.gate_proj.weight", (inner, width)
        yield f"{at}.mlp.experts.{expert}.up_proj.weight", (inner, width)
        yield f"{at}.mlp.experts.{expert}.down_proj.weight", (width, inner)


def _gpt_oss(config: dict, at: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The experts as four-bit numbers, two a byte, in blocks with a scale each."""
    width, inner, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    yield f"{at}.self_attn.sinks", (config["num_attention_heads"],)
    yield f"{at}.mlp.router.weight", (experts, width)
    yield f"{at}.mlp.router.bias", (experts,)
    for name, out, into in (("gate_up_proj", 2 * inner, width), ("down_proj", width, inner)):
        yield f"{at}.mlp.experts.{name}_blocks", (experts, out, into // MXFP4, MXFP4 // 2)
        yield f"{at}.mlp.experts.{name}_scales", (experts, out, into // MXFP4)
        yield f"{at}.mlp.experts.{name}_bias", (experts, out)


_MIDDLES = {"llama": _gated, "qwen2": _gated, "Dream": _gated, "qwen3_moe": _qwen3_moe, "gpt_oss": _gpt_oss}


def _opt(config: dict) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config["hidden_size"], config["ffn_dim"]
    yield "model.decoder.embed_tokens.weight", (config["vocab_size"], config["word_embed_proj_dim"])
    yield "model.decoder.embed_positions.weight", (config["max_position_embeddings"] + 2, width)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.decoder.layers.{layer}"
        for name, out, into in (
            *((f"self_attn.{part}_proj", width, width) for part in ("q", "k", "v", "out")),
            ("fc1", inner, width),
            ("fc2", width, inner),
        ):
            yield f"{at}.{name}.weight", (out, into)
            yield f"{at}.{name}.bias", (out,)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            yield f"{at}.{name}.weight", (width,)
            yield f"{at}.{name}.bias", (width,)
    yield "model.decoder.final_layer_norm.weight", (width,)
    yield "model.decoder.final_layer_norm.bias", (width,)


def _llada(config: dict) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner, shared = config["d_model"], config["mlp_hidden_size"], config["n_kv_heads"]
    keys = width // config["n_heads"] * shared
    yield "model.transformer.wte.weight", (config["embedding_size"], width)
    for layer in range(config["n_layers"]):
        at = f"model.transformer.blocks.{layer}"
        for name, shape in (
            ("q_proj", (width, width)),
            ("k_proj", (keys, width)),
            ("v_proj", (keys, width)),
            ("attn_out", (width, width)),
            ("ff_proj", (inner, width)),
            ("up_proj", (inner, width)),
            ("ff_out", (width, inner)),
            ("attn_norm", (width,)),
            ("ff_norm", (width,)),
        ):
            yield f"{at}.{name}.weight", shape
    yield "model.transformer.ln_f.weight", (width,)
    yield "model.transformer.ff_out.weight", (config["embedding_size"], width)


_SHAPES = {
    "llama": _decoder,
    "qwen2": lambda config: _decoder(config, biased=("q", "k", "v")),
    "Dream": lambda config: _decoder(config, biased=("q", "k", "v")),
    "qwen3_moe": _decoder,
    "gpt_oss": lambda config: _decoder(config, biased=("q", "k", "v", "o")),
    "opt": _opt,
    "llada": _llada,
}


def write_weights(weights: dict[str, Tensor], folder: Path, form: str = "safetensors") -> None:
    """Weights as the hub has them: `safetensors` in two shards with an index, `single` file, or PyTorch's `bin`."""
    if form == "single":
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    if form == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
        return
    keys, place = list(weights), {}
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        part = {key: weights[key] for key in keys[shard::SHARDS]}
        save_file(part, folder / name, metadata={"format": "pt"})
        place |= dict.fromkeys(part, name)
    total = sum(value.numel() * value.element_size() for value in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
