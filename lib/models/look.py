"""What a model is, found by looking at its files before its weights are read.

The kind is in the config, the end tokens in generation config, tokenizer and chat template, the chat template and
what begins a text in the tokenizer, [MASK] in the config, the next-token shift in what its type is known for.
"""

from dataclasses import fields
from typing import Any

from lib.decoding.family import Family
from lib.errors import UserError
from lib.models.families import FAMILIES
from lib.models.reading import Opened, fills_in

SAID = tuple(field.name for field in fields(Family) if field.name != "name")
NATIVE_FAMILIES = {"llada": "llada", "dream": "dream"}  # model types of lib.models.masked -> the registry's family
ANSWER = "ANSWER"  # what a chat template is given as an answer
WHICH = "shift=True where the logits of position i predict token i + 1, as in Dream, shift=False as in LLaDA and BERT"


class Notes(dict):
    """What was assumed, by name: the value and where it is from."""

    def take(self, name: str, value: Any, why: str) -> Any:
        self[name] = f"{value!r}, {why}"
        return value


def family_of(opened: Opened, tokenizer, said: dict, notes: Notes) -> Family:
    """What is said, else what is known of this type of model, else what its files say.

    Raises UserError for what is none of these and cannot be guessed.
    """
    raw, kind = opened.raw, str(opened.raw.get("model_type"))
    _check_kind(opened)
    native = FAMILIES.get(NATIVE_FAMILIES.get(kind.lower(), ""))
    given = {}
    if native:
        notes.take("family", native.name, f"by the model_type {kind} of config.json")
        given = {name: getattr(native, name) for name in SAID}
    given |= said
    if "mask_id" not in said:
        given["mask_id"] = _mask(raw, tokenizer, notes)
    if given["mask_id"] is None:
        given = said | {"mask_id": None}
    elif not native and "shift" not in said:
        if not fills_in(raw):
            raise UserError(
                f"{opened.entry.source} names a mask token, and how a diffusion model of its type ({kind}) predicts "
                f"is not known here: say {WHICH}; or mask_id=None where it is autoregressive"
            )
        given["shift"] = notes.take("shift", False, "as every class that is made to fill in masks")
    if "chat" not in said:
        has = bool(getattr(tokenizer, "chat_template", None))
        given["chat"] = notes.take("chat", has, f"the tokenizer has {'a' if has else 'no'} chat template")
    if "bos_id" not in said:
        given["bos_id"] = _begin(tokenizer, given["chat"], opened.entry.source, notes)
    if "eot_ids" not in said:
        given["eot_ids"] = _ends(opened, tokenizer, given["chat"], notes)
    return Family(native.name if native else kind, **given)


def _check_kind(opened: Opened) -> None:
    """UserError for a config that no causal or masked class of transformers is for."""
    from transformers.models.auto import modeling_auto as auto

    raw, source, kind = opened.raw, opened.entry.source, opened.raw.get("model_type")
    classes = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES if fills_in(raw) else auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if opened.kind or kind in classes and not raw.get("is_encoder_decoder"):
        return
    if raw.get("auto_map"):
        raise UserError(
            f"{source} brings code of its own ({kind}), which is not run here: load it yourself, and give "
            "Model(name, network, tokenizer, Family(...))"
        )
    raise UserError(f"{source} is of type {kind}, which is no causal or masked language model of transformers: take "
                    "another model")  # fmt: skip


def _mask(raw: dict, tokenizer, notes: Notes) -> int | None:
    """The [MASK] of a config that names one, or of a class that is made to fill it in; else None."""
    named, own = raw.get("mask_token_id"), getattr(tokenizer, "mask_token_id", None)
    if type(named) is int:
        return notes.take("mask_id", named, f"{_shown(tokenizer, named)}, which config.json names")
    if fills_in(raw) and own is not None:
        return notes.take("mask_id", own, f"{_shown(tokenizer, own)} of the tokenizer, as its class fills in masks")
    but = "" if own is None else f", though the tokenizer has one: mask_id={own} for a diffusion model"
    return notes.take("mask_id", None, f"autoregressive, for config.json names no mask token{but}")


def _begin(tokenizer, chat: bool, source: str, notes: Notes) -> int | None:
    """What the tokenizer itself puts before a text, where no chat template says how a text begins."""
    if chat:
        return notes.take("bos_id", None, "the chat template writes how a text begins")
    bare = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a", add_special_tokens=True)
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    if at > 1:
        names = ", ".join(_shown(tokenizer, token) for token in whole[:at])
        raise UserError(f"the tokenizer of {source} begins a text with {names}: say which, bos_id=ID or bos_id=None")
    if not at:
        return notes.take("bos_id", None, "the tokenizer puts nothing before a text")
    return notes.take("bos_id", whole[0], f"{_shown(tokenizer, whole[0])}, which the tokenizer puts before a text")


def _ends(opened: Opened, tokenizer, chat: bool, notes: Notes) -> tuple[int, ...]:
    """All that end a response, those of the generation config first. Raises UserError where there is none."""
    named: dict[int, list[str]] = {}
    for where, ids in (
        ("generation_config.json", _generation_ends(opened)),
        ("config.json", opened.raw.get("eos_token_id")),
        ("the tokenizer", tokenizer.eos_token_id),
        ("the chat template", end_of_turn(tokenizer) if chat else None),
    ):
        for token in ids if isinstance(ids, list | tuple) else (ids,):
            if type(token) is int and token >= 0:
                named.setdefault(token, []).append(where)
    if not named:
        raise UserError(f"{opened.entry.source} names no end of text anywhere: give eot_ids=(ID,)")
    why = "; ".join(f"{_shown(tokenizer, token)} of {' and '.join(where)}" for token, where in named.items())
    return notes.take("eot_ids", tuple(named), why)


def _generation_ends(opened: Opened) -> int | list[int] | None:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(opened.entry.source, revision=opened.at).eos_token_id
    except OSError:  # there is none
        return None


def end_of_turn(tokenizer) -> int | None:
    """The added token that the chat template writes right behind an answer, such as <|im_end|>; None for none."""
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]
    try:
        behind = tokenizer.apply_chat_template(chat, tokenize=False).rpartition(ANSWER)[2].lstrip()
    except Exception:  # of many kinds: a template for other chats
        return None
    tokens = {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}
    return next((tokens[text] for text in sorted(tokens, key=len, reverse=True) if behind.startswith(text)), None)


def _shown(tokenizer, token: int) -> str:
    return f"{tokenizer.convert_ids_to_tokens(token)} ({token})"
