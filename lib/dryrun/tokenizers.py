"""Tokenizers of the stand-ins, in the files that the hub has; what they are is in vocabularies.py."""

import json
from collections.abc import Iterator
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
from lib.dryrun.vocabularies import Vocabulary

LEARNED = 1200  # tokens that are learned of the stand-in rows; all others stand for what no prompt holds
LETTERS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"


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
