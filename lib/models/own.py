"""A model of a user's own, which the registry does not have: `Model.from_pretrained` and `Model.pair` end here.

What nobody gave is looked for (lib/models/look.py). Each such thing is a logged line and an item of `model.assumed`.
"""

import logging
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import torch

from lib.decoding.family import Family
from lib.decoding.networks import check_network
from lib.errors import UserError
from lib.models.entries import PAPER, Entry
from lib.models.families import FAMILIES
from lib.models.hub import check_tokens, dtype_of, load_looked, on_device, placed, revision_of, usual_dtype
from lib.models.look import SAID, Notes, family_of
from lib.models.reading import Opened
from lib.models.selftest import check_diffusion
from lib.models.vocabulary import paired

logger = logging.getLogger(__name__)

LOADED = ("device", "dtype", "revision", "tokenizer")
FOREIGN = {  # files of a folder that is no model, and what it is
    "autodeco_heads.safetensors": "AutoDeco's heads: AutoDecoForCausalLM.from_pretrained(FOLDER, base.network)",
    "adapter_config.json": "an adapter: merge it into its base with peft (merge_and_unload) and save that",
}


def found(source, *, device: str = "cpu", dtype=None, revision: str = "", tokenizer=None, **said):
    """(name, network, tokenizer, family, assumed) of a model by hub id or folder.

    device, dtype: where it goes and as what, float32 on a CPU and bfloat16 elsewhere. revision: of the hub.
    tokenizer: another one, or its id or folder. said: `eot_ids`, `mask_id`, `chat`, `bos_id`, `shift`, `wide_mask`,
    `rule`, the fields of lib.decoding.family.Family, which are then not looked for; `mask_id=None` makes it
    autoregressive, `bos_id=None` begins a text with nothing. MODEL_PLACE and MODEL_BITS count here too.

    Raises UserError, naming the cure, for a keyword that there is not, for what cannot be loaded, for what is found
    nowhere (an end of text; the shift of a diffusion model of an unknown kind), for ids beyond the vocabulary, and
    for a diffusion model that fails its self-test.
    """
    source, device, notes = str(source), str(device), Notes()
    for name in said:
        if name not in SAID:
            near = get_close_matches(name, (*SAID, *LOADED), 1)
            raise UserError(
                f"from_pretrained takes no {name!r}: "
                + (f"did you mean {near[0]}?" if near else f"it takes {', '.join((*LOADED, *SAID))}")
            )
    _check_folder(source, revision)
    known = next((entry for entry in PAPER if entry.source == source), None)
    entry = known or Entry(source, "own", "", source, "")
    asked = revision or revision_of(entry)
    dtype = _dtype(dtype, device, notes)

    def look(opened: Opened, tokenizer) -> Family:
        if opened.commit and opened.commit != asked:
            notes.take("revision", asked, f"commit {opened.commit}")
        if known is None:
            return family_of(opened, tokenizer, said, notes)
        family = notes.take("family", FAMILIES[known.family].name, "the registry's for this id")
        family = replace(FAMILIES[family], **said)
        check_tokens(tokenizer, opened.raw, family, f"{source}@{asked}")
        return family

    try:
        network, tokenizer, family = load_looked(entry, asked, dtype, look, tokenizer)
    except UserError as error:
        raise type(error)(str(error).replace("in HUB_REVISION", "by revision=")) from error
    network.generation_config.eos_token_id = list(family.eot_ids)  # so that its own `generate` ends where decode does
    with on_device(source, device):
        network = network.eval() if placed(network) else network.to(device).eval()
    _check_ids(network, tokenizer, family, source)
    if family.mask_id is None:
        check_network("model", network, family)
    else:
        family = _self_tested(network, family, "wide_mask" in said or bool(known), notes)
    for name, words in notes.items():
        logger.warning("%s: %s=%s", source, name, words)
    return source, network, tokenizer, family, dict(notes)


def as_pair(target, draft) -> tuple:
    """Two Models whose networks speak of the same tokens; a padded vocabulary is cut, see lib.models.vocabulary.

    Raises UserError for a diffusion model, for two tokenizers, and for models on two devices.
    """
    for model in (target, draft):
        if model.family.mask_id is not None:
            raise UserError(
                f"{model.name} is a diffusion model: target and draft go on token by token, so take an "
                "autoregressive one, or mask_id=None where it is one after all"
            )
    texts = [{token: text for text, token in model.tokenizer.get_vocab().items()} for model in (target, draft)]
    other = next((token for token in sorted(texts[0].keys() & texts[1]) if texts[0][token] != texts[1][token]), None)
    if other is not None:
        raise UserError(
            f"{target.name} and {draft.name} have different tokenizers (token {other} is {texts[0][other]!r} and "
            f"{texts[1][other]!r}): take a draft of the target's own family, or universal assisted generation of "
            "transformers, generate(..., assistant_model=, tokenizer=, assistant_tokenizer=)"
        )
    networks = paired(target.network, draft.network, target.tokenizer)
    return tuple(replace(model, network=network) for model, network in zip((target, draft), networks, strict=True))


def _check_folder(source: str, revision: str) -> None:
    """UserError for what is neither a folder with a model nor can be an id of the hub."""
    folder = Path(source)
    if folder.is_dir():
        if revision:
            raise UserError(f"{source} is a folder, which has no revision {revision}: leave revision out")
        for file, what in FOREIGN.items():
            if (folder / file).exists():
                raise UserError(f"{source} holds {what.replace('FOLDER', repr(source))}")
        if not (folder / "config.json").exists():
            raise UserError(f"{source} has no config.json: save_pretrained network and tokenizer there")
    elif source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(
            f"{source} is no folder here, no id of the hub, which is like user/name, and no model of the registry "
            "that takes these keywords (device and dtype are all it takes)"
        )


def _dtype(dtype, device: str, notes: Notes) -> torch.dtype:
    if dtype is None:
        place = "CPU" if device == "cpu" else "accelerator"
        return notes.take("dtype", usual_dtype(device), f"as on every {place} here")
    return dtype_of(dtype)


def _check_ids(network, tokenizer, family: Family, source: str) -> None:
    """UserError for an id that the network has no embedding for."""
    size = network.get_input_embeddings().weight.shape[0]
    last = max(tokenizer.get_vocab().values())
    if last >= size:
        raise UserError(f"the tokenizer of {source} has a token {last}, and the model knows 0 to {size - 1}: give "
                        "tokenizer= its own")  # fmt: skip
    ids = {"eot_ids": family.eot_ids, "mask_id": (family.mask_id,), "bos_id": (family.bos_id,)}
    for name, values in ids.items():
        for token in values:
            if token is not None and not 0 <= token < size:
                raise UserError(f"{name} of {source} is {token}, and the model knows 0 to {size - 1}: give {name}=")


def _self_tested(network, family: Family, told: bool, notes: Notes) -> Family:
    """The family with the mask that its self-test passes with, a 4D mask and positions before the plain mask alone.

    Raises the first failure where neither passes.
    """
    failed = None
    for wide in (family.wide_mask,) if told else (True, False):
        tried = replace(family, wide_mask=wide)
        try:
            check_network("model", network, tried)
            check_diffusion(network, tried)
        except (UserError, TypeError, ValueError, RuntimeError, IndexError) as error:
            failed = failed or error
            continue
        if not told:
            notes.take("wide_mask", wide, "its self-test passes with it")
        return tried
    if isinstance(failed, UserError):
        raise UserError(f"{failed}; or mask_id=None where it is autoregressive") from failed
    raise UserError(f"the model takes no 4D mask ({failed}): give wide_mask=False") from failed
