"""The study models' shapes and tokenizer: Llama-class networks that train in minutes on a GPU."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EOT, MASK = "<|eot|>", "<|mask|>"
VOCABULARY = 2048
LONGEST = 256

# By millions of parameters; a draft is to cost a tenth of its target.
SHAPES = {
    "draft": {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256, "num_attention_heads": 2},
    "2m": {"hidden_size": 160, "num_hidden_layers": 5, "intermediate_size": 448, "num_attention_heads": 4},
    "6m": {"hidden_size": 256, "num_hidden_layers": 8, "intermediate_size": 704, "num_attention_heads": 4},
    "20m": {"hidden_size": 448, "num_hidden_layers": 8, "intermediate_size": 1216, "num_attention_heads": 7},
}


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that never merges digits, so that arithmetic sees every one of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOT, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOT, pad_token=EOT, mask_token=MASK, padding_side="left"
    )


def build_model(shape: str) -> LlamaForCausalLM:
    """A freshly initialised study model of a shape in SHAPES; seed torch before calling for fixed weights."""
    config = LlamaConfig(
        **SHAPES[shape],
        num_key_value_heads=SHAPES[shape]["num_attention_heads"],
        vocab_size=VOCABULARY,
        max_position_embeddings=LONGEST,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)
