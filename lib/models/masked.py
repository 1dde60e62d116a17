"""LLaDA and Dream as classes of `transformers` itself: their weights are read by name, no code of the hub is run.

Both are ordinary pre-norm decoders in which every position sees every other. LLaDA (arXiv 2502.09992) is Llama under
key names of its own; its rotary embedding turns half against half, as Llama's does, not neighbour against neighbour.
Dream (arXiv 2508.15487) is Qwen2 with Qwen2's names. `lib.decoding.bidirectional` hands them a 4D mask; they look
both ways without one too.

Differs from the released LLaDA in the rotary embedding of bfloat16, which is applied in bfloat16 as in Llama, there
in float32; in float32 the logits are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from lib.models.files import Size
from lib.running.schema import checked

CURE = "take the published model, or an entry with remote_code for another architecture"
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class LLaDAShape(BaseModel):
    """What is read of LLaDA's config.json; a variant that no published checkpoint has is refused by its field."""

    d_model: Size
    n_heads: Size
    n_layers: Size
    vocab_size: Size
    max_sequence_length: Size
    n_kv_heads: Size | None = None
    mlp_hidden_size: Size | None = None
    mlp_ratio: Size = 4
    embedding_size: Size | None = None
    rope_theta: Positive = 10000.0
    rms_norm_eps: Share = 1e-5
    weight_tying: bool = False
    mask_token_id: int | None = None
    block_type: Literal["llama"] = "llama"
    block_group_size: Literal[1] = 1
    layer_norm_type: Literal["rms"] = "rms"
    activation_type: Literal["silu"] = "silu"
    rope: Literal[True] = True
    alibi: Literal[False] = False
    attention_layer_norm: Literal[False] = False
    input_emb_norm: Literal[False] = False
    scale_logits: Literal[False] = False
    include_bias: Literal[False] = False
    include_qkv_bias: Literal[False, None] = None
    bias_for_layer_norm: Literal[False, None] = None
    multi_query_attention: Literal[False, None] = None
    clip_qkv: None = None


class DreamShape(BaseModel):
    """What is read of Dream's config.json."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    vocab_size: Size
    max_position_embeddings: Size
    rope_theta: Positive = 10000.0
    rms_norm_eps: Share = 1e-6
    tie_word_embeddings: bool = False
    mask_token_id: int | None = None
    hidden_act: Literal["silu"] = "silu"
    rope_scaling: None = None
    use_sliding_window: Literal[False] = False


# Patterns of LLaDA's names and what Llama calls the same weights.
BLOCK = r"^model\.transformer\.blocks\.(\d+)\."
LLADA_NAMES = {
    r"^model\.transformer\.wte\.": "model.embed_tokens.",
    r"^model\.transformer\.ln_f\.": "model.norm.",
    r"^model\.transformer\.ff_out\.": "lm_head.",
} | {
    rf"{BLOCK}{theirs}\.": rf"model.layers.\1.{ours}."
    for theirs, ours in {
        "attn_norm": "input_layernorm",
        "q_proj": "self_attn.q_proj",
        "k_proj": "self_attn.k_proj",
        "v_proj": "self_attn.v_proj",
        "attn_out": "self_attn.o_proj",
        "ff_norm": "post_attention_layernorm",
        "ff_proj": "mlp.gate_proj",
        "up_proj": "mlp.up_proj",
        "ff_out": "mlp.down_proj",
    }.items()
}


@dataclass(frozen=True)
class Native:
    """How a model type of the hub is read: classes of `transformers` by name, its config, and its weights' names."""

    network: str
    tokenizer: str
    config: Callable
    names: dict[str, str] | None = None


def llada_config(raw: dict, where: str):
    """Llama's config for LLaDA's. Raises UserError, naming `where`, for a variant that is another architecture."""
    from transformers import LlamaConfig

    shape = LLaDAShape(**checked(LLaDAShape, raw, where, CURE))
    return LlamaConfig(
        hidden_size=shape.d_model,
        intermediate_size=shape.mlp_hidden_size or shape.mlp_ratio * shape.d_model,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads or shape.n_heads,
        vocab_size=shape.embedding_size or shape.vocab_size,
        max_position_embeddings=shape.max_sequence_length,
        rms_norm_eps=shape.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.weight_tying,
        **_both_ways(raw),
    )


def dream_config(raw: dict, where: str):
    """Qwen2's config for Dream's. Raises UserError, naming `where`, for a variant that is another architecture."""
    from transformers import Qwen2Config

    shape = DreamShape(**checked(DreamShape, raw, where, CURE))
    kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")  # fmt: skip
    return Qwen2Config(
        **{name: getattr(shape, name) for name in kept},
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        use_sliding_window=False,
        **_both_ways(raw),
    )


def _both_ways(raw: dict) -> dict:
    """What both have: special tokens, and no causal mask where none is given."""
    ids = {name: raw.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return ids | {"is_causal": False, "use_cache": False, "attn_implementation": "sdpa"}


# By the `model_type` of config.json, in small letters.
NATIVE = {
    "llada": Native("LlamaForCausalLM", "PreTrainedTokenizerFast", llada_config, LLADA_NAMES),
    "dream": Native("Qwen2ForCausalLM", "Qwen2Tokenizer", dream_config),
}
