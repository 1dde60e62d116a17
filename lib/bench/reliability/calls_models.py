"""Calls with models of a user's own: those that cannot be decoded exactly are refused by name."""

from collections.abc import Callable, Iterator

SIZE = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def refused() -> Iterator[tuple[str, str, Callable]]:
    """(name, words of the line, call)."""
    import torch
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        GPTNeoConfig,
        GPTNeoForCausalLM,
        LlamaForSequenceClassification,
        MambaConfig,
        MambaForCausalLM,
        MptConfig,
        MptForCausalLM,
        RobertaConfig,
        RobertaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
    from lib.bench.reliability.calls import network, table, tokens
    from lib.mtad import Assisted, BeamSearch, Mtad, Speculative, TreeSpeculative

    ids = table([4, 5, 6])
    strange = {
        "Bloom": ("ALiBi", lambda: BloomForCausalLM(BloomConfig(vocab_size=24, hidden_size=16, n_layer=1, n_head=2))),
        "MPT": ("ALiBi", lambda: MptForCausalLM(MptConfig(vocab_size=24, d_model=16, n_layers=1, n_heads=2))),
        "Mamba": (
            "position_ids",
            lambda: MambaForCausalLM(MambaConfig(vocab_size=24, hidden_size=16, num_hidden_layers=1)),
        ),
        "RoBERTa": (
            "counts positions",
            lambda: RobertaForCausalLM(RobertaConfig(**SIZE, intermediate_size=24, is_decoder=True)),
        ),
        "T5": (
            "encoder",
            lambda: T5ForConditionalGeneration(T5Config(vocab_size=24, d_model=16, num_layers=1, num_heads=2)),
        ),
        "a classifier": ("AutoModelForCausalLM", lambda: LlamaForSequenceClassification(network().config)),
        "a model without a head": ("AutoModelForCausalLM", lambda: network().model),
    }
    for name, (words, make) in strange.items():
        yield name, words, lambda make=make: tokens(ids, model=make().eval())
    neo = GPTNeoConfig(
        vocab_size=24, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]
    )
    yield ("GPT-Neo's local layers, drafting", "local layers",
           lambda: tokens(ids, Speculative(4), model=GPTNeoForCausalLM(neo), draft=network()))  # fmt: skip
    yield "a name for a model", "load(...).network", lambda: tokens(ids, model="gpt2")
    yield "a loaded Model for its network", "load(...).network", lambda: tokens(ids, model=_model("x", None))
    yield ("a draft of another vocabulary", "the target's own family",
           lambda: tokens(ids, Speculative(4), draft=network(30)))  # fmt: skip
    yield ("a draft on another device", "draft.to('cpu')",
           lambda: tokens(ids, Speculative(4), draft=network().to("meta")))  # fmt: skip
    yield ("a draft with a shorter context", "in the 8 positions",
           lambda: tokens(ids, Speculative(20), draft=network(positions=8)))  # fmt: skip
    for options in (Speculative(4, temperature=0.0), Mtad(4, temperature=0.0), Mtad(4, temperature=0.0, tree=True),
                    TreeSpeculative(4, temperature=0.0), Assisted(4, temperature=0.0)):  # fmt: skip
        kind = f"{type(options).__name__}{' with a tree' if getattr(options, 'tree', False) else ''}"
        for part in ("target", "draft"):
            yield (f"NaN of the {part} at temperature 0, {kind}", "NaN",
                   lambda options=options, part=part: _with_nan(options, part))  # fmt: skip
    yield "NaN under beam search", "NaN", lambda: tokens(ids, BeamSearch(4), model=_sick())
    yield "NaN at temperature 0", "NaN", lambda: tokens(ids, model=_sick())
    yield "heads of another size", "hidden size", lambda: _from_base(network(), Heads(HeadsConfig(99)))
    yield "a name for a base", "load(...).network", lambda: _from_base("gpt2", Heads(HeadsConfig(16)))
    yield "a folder for heads", "load(...).network", lambda: AutoDecoForCausalLM.from_base(network(), "heads")
    for name, words, prompts in (
        ("encode no prompts", "at least one text", []),
        ("encode an empty text", "is empty", [""]),
        ("encode a number", "must be a text", ["a", 5]),
        ("encode None", "a list of texts", None),
        ("encode ids", "must be a text", torch.tensor([[4]]).tolist()),
        ("encode half a character", "surrogate", ["a\ud800"]),
    ):
        yield name, words, lambda prompts=prompts: _model().encode(prompts)
    yield "a chat without a template", "chat=False", lambda: _model(chat=True).encode(["a"])


def meant() -> Iterator[tuple[str, Callable, Callable]]:
    """(name, call, call that gives the same)."""
    import torch

    from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
    from lib.bench.reliability.calls import copied, network, table, tokens
    from lib.decoding.autoregressive import Autoregressive
    from lib.mtad import Speculative, TreeSpeculative

    def kept() -> tuple:
        heads = Heads(HeadsConfig(16))
        AutoDecoForCausalLM.from_base(network().bfloat16(), heads)
        return {p.dtype for p in heads.parameters()}, {p.requires_grad for p in heads.parameters()}

    yield "heads stay the caller's", kept, lambda: ({torch.float32}, {True})
    yield (
        "one text to encode",
        lambda: _model().encode("a b")[0].tolist(),
        lambda: _model().encode(["a b"])[0].tolist(),
    )
    ids = table([4, 5, 6])
    for name, make in _windowed().items():
        for options in (Speculative(8, gamma=3, temperature=0.0), TreeSpeculative(8, temperature=0.0)):
            yield (f"a window, {name}, {type(options).__name__}",
                   lambda make=make, options=options: tokens(ids, options, model=make(), draft=copied(make())),
                   lambda make=make: _by_hand(make(), ids, 8))  # fmt: skip
    for name, make in _learned().items():
        for options in (Speculative(14, gamma=4, temperature=0.0), TreeSpeculative(14, temperature=0.0)):
            yield (f"to the last position, {name}, {type(options).__name__}",
                   lambda make=make, options=options: tokens(ids, options, model=make(), draft=copied(make())),
                   lambda make=make: tokens(ids, Autoregressive(14), model=make()))  # fmt: skip


def _windowed() -> dict[str, Callable]:
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

    def make(kind, config):
        torch.manual_seed(0)
        model = kind(config).eval()
        model.get_output_embeddings().weight.data *= 20
        return model

    shape = SIZE | {"intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 2,
                    "num_hidden_layers": 2, "tie_word_embeddings": False, "eos_token_id": 0}  # fmt: skip
    return {
        "Mistral": lambda: make(MistralForCausalLM, MistralConfig(**shape)),
        "Gemma 2": lambda: make(Gemma2ForCausalLM, Gemma2Config(**shape)),
    }


def _learned() -> dict[str, Callable]:
    """Networks of 16 learned positions."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

    def make(kind, config):
        torch.manual_seed(3)
        model = kind(config).eval()
        model.lm_head.weight.data *= 20
        model.lm_head.weight.data[0] = 0  # no end of text
        return model

    size = {"vocab_size": 24, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0, "tie_word_embeddings": False}
    opt = OPTConfig(**SIZE | size, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=16)
    gpt2 = GPT2Config(**size, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    return {"OPT": lambda: make(OPTForCausalLM, opt), "GPT-2": lambda: make(GPT2LMHeadModel, gpt2)}


def _by_hand(model, ids, count: int) -> list:
    """Greedy tokens by a forward of the whole text each, without a cache."""
    import torch

    text, found = ids, []
    with torch.inference_mode():
        for _ in range(count):
            token = model(input_ids=text, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            found.append(int(token))
            if not found[-1]:
                break
            text = torch.cat([text, token], 1)
    return [found + [0] * (count - len(found))]


def _sick():
    from lib.bench.reliability.calls import network

    model = network()
    model.lm_head.weight.data[7] = float("nan")
    return model


def _with_nan(options, part: str) -> None:
    from lib.bench.reliability.calls import network, table, tokens

    model, draft = (_sick(), network()) if part == "target" else (network(), _sick())
    tokens(table([4, 5, 6]), options, model=model, draft=draft)


def _from_base(base, heads):
    from lib.autodeco import AutoDecoForCausalLM

    return AutoDecoForCausalLM.from_base(base, heads)


def _model(name: str = "mine", tokenizer=True, chat: bool = False):
    """A Model with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from lib.bench.reliability.calls import network
    from lib.decoding.family import Family
    from lib.models.registry import Model

    words = Tokenizer(models.WordLevel({"a": 3, "b": 4, "?": 5}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words) if tokenizer else None
    return Model(name, network(), fast, Family("mine", eot_ids=(0,), chat=chat))
