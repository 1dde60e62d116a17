"""Tokenizers with the special tokens of the papers' models at their real ids, in the files that the hub has."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from lib.dryrun.rows import words_of_rows
from lib.dryrun.templates import TEMPLATES

LEARNED = 1200  # tokens that are learned of the stand-in rows; all others stand for what no prompt holds
LETTERS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"


@dataclass(frozen=True)
class Vocabulary:
    """size: tokens that the tokenizer knows. special: id -> text. ends: the special tokens that end a response.

    first: the id of the first ordinary token. begins: the tokenizer itself puts `bos` before a text. files: `json`
    (tokenizer.json), `merges` (vocab.json and merges.txt). kind: the class that tokenizer_config.json names. marked:
    spaces are the letter of SentencePiece, with a token for each byte that no other holds. plain: added tokens that
    decoding does not skip. often: special tokens that a stand-in says among others.
    """

    size: int
    special: dict[int, str]
    eos: int
    ends: tuple[int, ...]
    bos: int | None = None
    pad: int | None = None
    mask: int | None = None
    unknown: int | None = None
    first: int = 0
    begins: bool = False
    files: str = "json"
    kind: str = "PreTrainedTokenizerFast"
    template: str | None = None
    marked: bool = False
    plain: tuple[int, ...] = ()
    often: tuple[int, ...] = ()
    more: dict = field(default_factory=dict)  # of tokenizer_config.json

    def text_of(self, token: int | None) -> str | None:
        return None if token is None else self.special[token]

    def names(self) -> dict[str, str]:
        """The special tokens by their part, as tokenizer_config.json has them."""
        parts = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "mask": self.mask, "unk": self.unknown}
        return {f"{part}_token": self.special[token] for part, token in parts.items() if token is not None}


def _reserved(known: dict[int, str], first: int, size: int, form: str) -> dict[int, str]:
    """The ids from `first` on that have no name of their own, numbered."""
    free = [token for token in range(first, size) if token not in known]
    return known | {token: form.format(number) for number, token in enumerate(free)}


_LLAMA_3 = _reserved(
    {
        128000: "<|begin_of_text|>",
        128001: "<|end_of_text|>",
        128004: "<|finetune_right_pad_id|>",
        128006: "<|start_header_id|>",
        128007: "<|end_header_id|>",
        128008: "<|eom_id|>",
        128009: "<|eot_id|>",
        128010: "<|python_tag|>",
    },
    128000,
    128256,
    "<|reserved_special_token_{}|>",
)
_QWEN = _reserved(
    {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"}, 151643, 151665, "<|special_{}|>"
)
_R1 = _reserved(
    {
        151643: "<｜end▁of▁sentence｜>",
        151644: "<｜User｜>",
        151645: "<｜Assistant｜>",
        151646: "<｜begin▁of▁sentence｜>",
        151647: "<|EOT|>",
        151648: "<think>",
        151649: "</think>",
    },
    151643,
    151665,
    "<|special_{}|>",
)
_GPT_OSS = _reserved(
    {
        199998: "<|startoftext|>",
        199999: "<|endoftext|>",
        200002: "<|return|>",
        200003: "<|constrain|>",
        200005: "<|channel|>",
        200006: "<|start|>",
        200007: "<|end|>",
        200008: "<|message|>",
        200012: "<|call|>",
        200018: "<|endofprompt|>",
    },
    199998,
    200019,
    "<|reserved_{}|>",
)
_LLADA = _reserved(
    {
        126080: "<|startoftext|>",
        126081: "<|endoftext|>",
        126336: "<|mdm_mask|>",
        126346: "<|start_header_id|>",
        126347: "<|end_header_id|>",
        126348: "<|eot_id|>",
    },
    126080,
    126349,
    "<|reserved_token_{}|>",
)

VOCABULARIES = {
    "llama-3": Vocabulary(
        128256, _LLAMA_3, eos=128009, ends=(128001, 128008, 128009), bos=128000, begins=True, template="llama-3"
    ),
    "llama-3-base": Vocabulary(128256, _LLAMA_3, eos=128001, ends=(128001,), bos=128000, begins=True),
    "qwen-2": Vocabulary(
        151665, _QWEN, eos=151645, ends=(151645, 151643), pad=151643, kind="Qwen2Tokenizer", template="qwen-2"
    ),
    "qwen-3": Vocabulary(
        151669,
        _QWEN | {151665: "<tool_response>", 151666: "</tool_response>", 151667: "<think>", 151668: "</think>"},
        eos=151645,
        ends=(151645, 151643),
        pad=151643,
        kind="Qwen2Tokenizer",
        template="qwen-3",
        plain=(151665, 151666, 151667, 151668),
    ),
    "r1": Vocabulary(
        151665,
        _R1,
        eos=151643,
        ends=(151643,),
        bos=151646,
        pad=151643,
        begins=True,
        kind="LlamaTokenizerFast",  # what the hub's file says, though it is no such tokenizer
        template="r1",
        plain=(151648, 151649),
        often=(151649,),
        more={"legacy": True, "add_bos_token": True, "add_eos_token": False, "use_default_system_prompt": False},
    ),
    "gpt-oss": Vocabulary(
        200019,
        _GPT_OSS,
        eos=200002,
        ends=(200002, 199999, 200012),
        bos=199998,
        pad=199999,
        template="gpt-oss",
        often=(200005, 200006, 200007, 200008),
    ),
    "llada": Vocabulary(
        126349, _LLADA, eos=126081, ends=(126081, 126348), bos=126080, pad=126081, begins=True, template="llada"
    ),
    "dream": Vocabulary(
        151667,
        _QWEN | {151665: "<|beginoftext|>", 151666: "<|mask|>"},
        eos=151643,
        ends=(151643, 151645),
        bos=151665,
        pad=151643,
        mask=151666,
        files="merges",
        kind="DreamTokenizer",
        template="qwen-2",
        more={"auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}},
    ),
    "llama-2": Vocabulary(
        32000,
        {0: "<unk>", 1: "<s>", 2: "</s>"},
        eos=2,
        ends=(2,),
        bos=1,
        unknown=0,
        first=3,
        begins=True,
        kind="LlamaTokenizer",
        marked=True,
        more={"add_bos_token": True, "add_eos_token": False, "legacy": False},
    ),
    "opt": Vocabulary(
        50265,
        {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>"},
        eos=2,
        ends=(2,),
        bos=2,
        pad=1,
        unknown=3,
        first=4,
        begins=True,
        files="merges",
        kind="GPT2Tokenizer",
        more={"add_bos_token": True},
    ),
}


def write_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """The files of a tokenizer, as the hub has them."""
    tokens, merges = _tokens(vocabulary)
    if vocabulary.files == "json":
        _tokenizer(vocabulary, tokens, merges).save(str(folder / "tokenizer.json"))
    else:
        _write_merges(vocabulary, tokens, merges, folder)
    added = {
        str(token): {"content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": token not in vocabulary.plain}
        for token, text in sorted(vocabulary.special.items())
    }  # fmt: skip
    config = {
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
        "tokenizer_class": vocabulary.kind,
        **vocabulary.names(),
        **vocabulary.more,
    }
    if vocabulary.template:
        config["chat_template"] = TEMPLATES[vocabulary.template]
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "special_tokens_map.json", vocabulary.names())


def _write(path: Path, value) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_merges(
    vocabulary: Vocabulary, tokens: dict[str, int], merges: list[tuple[str, str]], folder: Path
) -> None:
    """vocab.json, which holds the special tokens where they stand first, merges.txt and added_tokens.json."""
    inside = {text: token for token, text in vocabulary.special.items()} if vocabulary.first else {}
    _write(folder / "vocab.json", inside | tokens)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    if not vocabulary.first:
        _write(folder / "added_tokens.json", {text: token for token, text in vocabulary.special.items()})


def _tokenizer(vocabulary: Vocabulary, tokens: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    inside = {text: token for token, text in vocabulary.special.items()} if vocabulary.first else {}
    if vocabulary.marked:
        model = models.BPE(inside | tokens, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        tokenizer = Tokenizer(models.BPE(inside | tokens, merges))
        tokenizer.pre_tokenizer = _bytes()
        tokenizer.decoder = decoders.ByteLevel()
    # In the order of their ids: those behind the ordinary tokens get the next one each.
    for token in sorted(vocabulary.special):
        special = token not in vocabulary.plain
        added = AddedToken(vocabulary.special[token], normalized=False, special=special)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([added])
    if vocabulary.begins:
        bos = vocabulary.text_of(vocabulary.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary.bos)]
        )
    return tokenizer


def _bytes():
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _tokens(vocabulary: Vocabulary) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ordinary tokens by text, and the merges: those that are learned, then made-up words up to the special ones."""
    learned, merges = _marked() if vocabulary.marked else _learned()
    room = sum(token not in vocabulary.special for token in range(vocabulary.size))
    texts = list(learned)
    if vocabulary.marked:
        texts = [f"<0x{byte:02X}>" for byte in range(256)] + texts
    known, space = set(texts), "▁" if vocabulary.marked else "Ġ"
    made_up = (f"{space}{word}" for word in _words())
    while len(texts) < room:
        word = next(made_up)
        if word not in known:
            texts.append(word)
    return {text: vocabulary.first + place for place, text in enumerate(texts)}, merges


def learned(vocabulary: Vocabulary) -> list[int]:
    """The ids of the tokens that the stand-in rows are made of: visible letters, digits, and what they make up."""
    letters = () if vocabulary.marked else range(ord("~") - ord("!") + 1)
    return [vocabulary.first + place for place in (*letters, *range(256, 256 * vocabulary.marked + LEARNED))]


def _words() -> Iterator[str]:
    """Words that can be said, each once."""
    syllables = [a + b for a in LETTERS for b in VOWELS]
    yield from (a + b + c for a in syllables for b in syllables for c in ("", *syllables))


@cache
def _learned() -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _bytes()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizer, alphabet)


@cache
def _marked() -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    return _trained(tokenizer, ["▁"])


def _trained(tokenizer: Tokenizer, alphabet: list[str]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNED, initial_alphabet=sorted(alphabet), show_progress=False, special_tokens=[]
    )
    tokenizer.train_from_iterator(words_of_rows(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    texts = sorted(model["vocab"], key=model["vocab"].get)
    return tuple(texts), [tuple(pair) for pair in model["merges"]]
