"""Which tiny network, tokenizer and files stand for each model of the hub."""

from dataclasses import dataclass, field

from lib.dryrun.networks import HEADS, INNER, LAYERS, WIDTH

# What a checkpoint's authors advise, which no method or baseline may take over.
LEAKING = {
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 20,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "no_repeat_ngram_size": 3,
}


@dataclass(frozen=True)
class StandIn:
    """A repository of the hub. vocabulary: of VOCABULARIES. config: of config.json, with the fields that the hub has.
    form: of its weights, see networks.write_weights. base: heads for AutoDeco lie in it, for this repository."""

    vocabulary: str
    config: dict = field(default_factory=dict)
    form: str = "safetensors"
    generation: dict = field(default_factory=lambda: LEAKING)
    base: str = ""


def _common(kind: str, size: int, ends: int | list[int], **more) -> dict:
    return {
        "model_type": kind,
        "attention_dropout": 0.0,
        "eos_token_id": ends,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.2",
        "use_cache": True,
        "vocab_size": size,
        **more,
    }


def _llama_3(ends: int | list[int], tied: bool = False, factor: float = 8.0) -> dict:
    scaling = {"factor": factor, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
               "original_max_position_embeddings": 8192, "rope_type": "llama3"}  # fmt: skip
    return _common(
        "llama", 128256, ends, architectures=["LlamaForCausalLM"], attention_bias=False, mlp_bias=False,
        bos_token_id=128000, max_position_embeddings=131072, pretraining_tp=1, rms_norm_eps=1e-5,
        rope_scaling=scaling, rope_theta=500000.0, tie_word_embeddings=tied,
    )  # fmt: skip


def _llama_2(bos: int, pad: int | None, length: int = 4096) -> dict:
    return _common(
        "llama", 32000, 2, architectures=["LlamaForCausalLM"], bos_token_id=bos, pad_token_id=pad,
        max_position_embeddings=length, pretraining_tp=1, rope_scaling=None, rope_theta=10000.0,
        torch_dtype="float16",
    )  # fmt: skip


def _qwen_2(size: int, tied: bool = False, ends: int = 151645, bos: int = 151643, **more) -> dict:
    return _common(
        "qwen2", size, ends, architectures=["Qwen2ForCausalLM"], bos_token_id=bos, max_position_embeddings=32768,
        max_window_layers=LAYERS, sliding_window=None, use_sliding_window=False, tie_word_embeddings=tied, **more,
    )  # fmt: skip


def _qwen3_moe() -> dict:
    return _common(
        "qwen3_moe", 151936, 151645, architectures=["Qwen3MoeForCausalLM"], attention_bias=False,
        bos_token_id=151643, decoder_sparse_step=1, head_dim=WIDTH // HEADS, max_position_embeddings=262144,
        max_window_layers=LAYERS, mlp_only_layers=[], moe_intermediate_size=WIDTH, norm_topk_prob=True, num_experts=4,
        num_experts_per_tok=2, output_router_logits=False, rope_scaling=None, rope_theta=10000000,
        router_aux_loss_coef=0.001, sliding_window=None, use_sliding_window=False,
    )  # fmt: skip


def _gpt_oss() -> dict:
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    scaling = {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
               "rope_type": "yarn", "truncate": False}  # fmt: skip
    config = _common(
        "gpt_oss", 201088, 200002, architectures=["GptOssForCausalLM"], attention_bias=True,
        experts_per_token=2, head_dim=16, hidden_size=32, initial_context_length=4096, intermediate_size=32,
        layer_types=["sliding_attention", "full_attention"], max_position_embeddings=131072, num_experts_per_tok=2,
        num_local_experts=4, output_router_logits=False, pad_token_id=199999, rms_norm_eps=1e-5, rope_scaling=scaling,
        rope_theta=150000, router_aux_loss_coef=0.9, sliding_window=128, swiglu_limit=7.0,
        quantization_config={"modules_to_not_convert": kept, "quant_method": "mxfp4"},
    )  # fmt: skip
    config.pop("torch_dtype")  # the hub's file has none
    return config


def _opt(positions: int = 2048) -> dict:
    return {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "_remove_final_layer_norm": False,
        "activation_dropout": 0.0, "activation_function": "relu", "attention_dropout": 0.0, "bos_token_id": 2,
        "do_layer_norm_before": True, "dropout": 0.1, "eos_token_id": 2, "ffn_dim": INNER, "hidden_size": WIDTH,
        "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": positions, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "pad_token_id": 1, "prefix": "</s>", "torch_dtype": "float16",
        "transformers_version": "4.21.0.dev0", "use_cache": True, "vocab_size": 50272, "word_embed_proj_dim": WIDTH,
        "tie_word_embeddings": True,
    }  # fmt: skip


def _llada() -> dict:
    """As the hub's file: no `use_cache` of its own is read, no length under the name that others have."""
    return {
        "activation_type": "silu", "alibi": False, "alibi_bias_max": 8.0, "architectures": ["LLaDAModelLM"],
        "attention_dropout": 0.0, "attention_layer_norm": False, "attention_layer_norm_with_affine": True,
        "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig", "AutoModel": "modeling_llada.LLaDAModelLM",
                     "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM"},
        "bias_for_layer_norm": False, "block_group_size": 1, "block_type": "llama", "d_model": WIDTH,
        "embedding_dropout": 0.0, "embedding_size": 126464, "eos_token_id": 126081, "flash_attention": False,
        "include_bias": False, "include_qkv_bias": False, "init_cutoff_factor": None, "init_device": "meta",
        "init_fn": "mitchell", "init_std": 0.02, "input_emb_norm": False, "layer_norm_type": "rms",
        "layer_norm_with_affine": True, "mask_token_id": 126336, "max_sequence_length": 4096,
        "mlp_hidden_size": INNER, "mlp_ratio": 4, "model_type": "llada", "multi_query_attention": None,
        "n_heads": HEADS, "n_kv_heads": HEADS, "n_layers": LAYERS, "pad_token_id": 126081, "precision": "amp_bf16",
        "residual_dropout": 0.0, "rms_norm_eps": 1e-5, "rope": True, "rope_full_precision": True,
        "rope_theta": 500000.0, "scale_logits": False, "transformers_version": "4.46.3", "use_cache": False,
        "vocab_size": 126464, "weight_tying": False,
    }  # fmt: skip


def _dream() -> dict:
    return _common(
        "Dream", 152064, 151643, architectures=["DreamModel"],
        auto_map={"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
        bos_token_id=151643, mask_token_id=151666, max_position_embeddings=131072, max_window_layers=LAYERS,
        pad_token_id=151643, rope_scaling=None, sliding_window=None, use_sliding_window=False,
    )  # fmt: skip


_DIFFUSION = {"temperature": 0.2, "top_p": 0.95, "alg": "entropy", "steps": 512}

STAND_INS = {
    "GSAI-ML/LLaDA-8B-Instruct": StandIn(
        "llada", _llada(), generation={"bos_token_id": 126080, "eos_token_id": 126081}
    ),
    "Dream-org/Dream-v0-Instruct-7B": StandIn("dream", _dream(), generation=_DIFFUSION),
    "nvidia/Llama-3.1-Nemotron-Nano-8B-v1": StandIn("llama-3", _llama_3([128001, 128008, 128009])),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": StandIn("r1", _qwen_2(152064, ends=151643, use_mrope=False)),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": StandIn("qwen-3", _qwen3_moe()),
    "openai/gpt-oss-20b": StandIn("gpt-oss", _gpt_oss()),
    "meta-llama/Llama-3.1-8B-Instruct": StandIn("llama-3", _llama_3([128001, 128008, 128009])),
    "meta-llama/Llama-3.2-1B-Instruct": StandIn("llama-3", _llama_3([128001, 128008, 128009], True, 32.0), "single"),
    "meta-llama/Llama-3.1-8B": StandIn("llama-3-base", _llama_3(128001)),
    "meta-llama/Llama-3.2-1B": StandIn("llama-3-base", _llama_3(128001, True, 32.0), "single"),
    "meta-llama/Llama-2-7b-hf": StandIn("llama-2", _llama_2(1, None)),
    "meta-llama/Llama-2-13b-hf": StandIn("llama-2", _llama_2(1, None)),
    "meta-llama/Llama-2-70b-hf": StandIn("llama-2", _llama_2(1, None)),
    "JackFram/llama-68m": StandIn("llama-2", _llama_2(0, 1, 2048), "bin"),
    "facebook/opt-13b": StandIn("opt", _opt(), "bin"),
    "facebook/opt-30b": StandIn("opt", _opt(), "bin"),
    "facebook/opt-66b": StandIn("opt", _opt(), "bin"),
    "facebook/opt-125m": StandIn("opt", _opt(), "bin"),
    # A pair with one tokenizer and vocabularies that are padded differently.
    "Qwen/Qwen2.5-7B-Instruct": StandIn("qwen-2", _qwen_2(152064)),
    "Qwen/Qwen2.5-0.5B-Instruct": StandIn("qwen-2", _qwen_2(151936, True), "single"),
}
