"""Models of the hub: at which revision, where their weights go and in how many bits, and what is checked of them.

The environment says what may differ from the registry; workers inherit it:
- `HUB_REVISION=llada-8b=main,r1-qwen-7b=<commit>`: a branch, tag or commit of the hub, by the registry's names; one
  without a name, such as `HUB_REVISION=main`, is that of all others.
- `MODEL_PLACE=auto`: the `device_map` of transformers (auto, balanced, sequential, or a device), for several GPUs and
  for what one does not hold. Without it a network goes whole to the device that `load` is told.
- `MODEL_BITS=8` or `4`: weights quantised by bitsandbytes as they are loaded, for which a GPU is needed.

What was asked for, source@revision and the bits, is what a run is called by; the commit that a branch had is in
`network.config._commit_hash` once it is loaded.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lib.errors import MachineError, UserError, require_known, says_out_of_memory, why
from lib.models.fetched import refusals
from lib.models.reading import Opened, network_of, opened, tokenizer_of

PLACES = "auto, balanced, balanced_low_0, sequential, or a device such as cuda:1"
ROOM = "set MODEL_BITS=8 or 4, MODEL_PLACE=auto with several GPUs, or take a smaller model"
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def revision_of(entry, names=()) -> str:
    """The hub's revision of an entry, HUB_REVISION before the registry's. Raises UserError for a pair that is none.

    `names`: all that there are, to tell a misspelt one.
    """
    asked = {}
    for pair in filter(None, os.environ.get("HUB_REVISION", "").split(",")):
        name, equals, revision = (part.strip() for part in pair.rpartition("="))
        if not revision or bool(equals) != bool(name):
            raise UserError(f"HUB_REVISION has {pair!r}: write NAME=REVISION, several with commas between them")
        asked[name] = revision
    if names:
        require_known("model (HUB_REVISION)", filter(None, asked), names)
    return asked.get(entry.name, asked.get("", entry.revision))


def bits() -> int | None:
    """Bits of a weight that MODEL_BITS asks for, None for those of the dtype."""
    value = os.environ.get("MODEL_BITS", "")
    if value not in ("", "4", "8"):
        raise UserError(f"MODEL_BITS must be 8 or 4, not {value!r}: leave it out for the weights as they are")
    return int(value) if value else None


def asked_for(entry, names=()) -> str:
    """What is asked of the hub in one word, known before anything is fetched."""
    width = bits()
    return f"{entry.source}@{revision_of(entry, names)}" + (f"+{width}bit" if width else "")


def placed(network) -> bool:
    """Whether a network lies where `device_map` has put it, so that it must not be moved."""
    return getattr(network, "placed", False)


@contextmanager
def on_device(name: str, device: str) -> Iterator[None]:
    """Errors of moving a model to a device, as one line with the cure."""
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UserError(f"{name} cannot be put on {device!r}, which is no device: use cpu or cuda") from error
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"{name} cannot be put on {device}, PyTorch finds no GPU here: use device cpu, or another machine"
        )
    try:
        yield
    except (RuntimeError, AssertionError) as error:  # an assertion of a PyTorch that was built without the device
        if not says_out_of_memory(str(error)):
            raise UserError(f"{name} cannot be put on {device} ({why(error)}): use cpu, or another device") from error
        raise MachineError(f"{name} does not fit into the memory of {device}: {ROOM}") from error


def usual_dtype(device: str) -> torch.dtype:
    """What a model is loaded as where nobody says: float32 on a CPU, bfloat16 on an accelerator."""
    return torch.float32 if device == "cpu" else torch.bfloat16


def dtype_of(dtype: torch.dtype | str) -> torch.dtype:
    """A floating dtype by itself or by its name. Raises UserError for what is none."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(f"dtype must be one of torch, such as torch.bfloat16 or 'float32', not {dtype!r}")
    return found


def load_hub(entry, dtype: torch.dtype, family):
    """Network and tokenizer of an entry. Raises UserError, in one line with the cure, for whatever cannot be had."""

    def look(found: Opened, tokenizer):
        check_tokens(tokenizer, found.raw, family, f"{entry.source}@{found.asked}")
        return family

    return load_looked(entry, revision_of(entry), dtype, look)[:2]


def load_looked(entry, asked: str, dtype: torch.dtype, look: Callable, tokenizer=None):
    """Network, tokenizer and family, which `look(Opened, tokenizer)` says before the weights are read.

    `tokenizer`: another one than the model's own, or its id or folder.
    """
    options = _placing(dtype)
    with _said(entry.source, asked):
        found = opened(entry, asked)
        if tokenizer is None or isinstance(tokenizer, str | Path):
            with _tokenizer_said(entry.source, tokenizer):
                tokenizer = tokenizer_of(found, tokenizer)
        if not hasattr(tokenizer, "get_vocab"):
            raise UserError(f"tokenizer must be a loaded one, a hub id or a folder, not {tokenizer!r:.60}")
        family = look(found, tokenizer)
        network = network_of(found, dtype, options)
    network.generation_config = plain_generation(network, family)
    return network, tokenizer, family


def check_tokens(tokenizer, config: dict, family, where: str) -> None:
    """UserError where special tokens are not those of the family: with other ids every text would be wrong."""
    cure = "the registry's Family has other ids; take the published tokenizer, or an entry with a family of its own"
    if family.bos_id is not None and tokenizer.bos_token_id not in (None, family.bos_id):
        raise UserError(f"{where} begins a text with {tokenizer.bos_token_id}, not with {family.bos_id}: {cure}")
    if family.mask_id is None:
        return
    said, mask = config.get("mask_token_id"), tokenizer.convert_ids_to_tokens(family.mask_id)
    if said not in (None, family.mask_id) or "mask" not in str(mask).lower():
        raise UserError(f"{where} has {mask!r} at {family.mask_id}, and its config says mask {said}: {cure}")
    for end in family.eot_ids:
        if tokenizer.convert_ids_to_tokens(end) is None:
            raise UserError(f"{where} has no token {end} to end a text: {cure}")
    if tokenizer.eos_token_id not in family.eot_ids:
        raise UserError(f"{where} ends a text with {tokenizer.eos_token_id}, not with {family.eot_ids}: {cure}")


def plain_generation(network, family):
    """Token ids alone: a checkpoint's own temperature, penalties and filters would leak into every method."""
    from transformers import GenerationConfig

    own = getattr(network, "generation_config", None)
    ids = {name: getattr(own, name, None) for name in IDS}
    ends = list(family.eot_ids)
    ids |= {"eos_token_id": ids["eos_token_id"] if ids["eos_token_id"] is not None else ends}
    return GenerationConfig(
        **ids | {"pad_token_id": ids["pad_token_id"] if ids["pad_token_id"] is not None else ends[0]}
    )


def heads_folder(entry) -> Path:
    """The local copy of heads that are published on the hub."""
    from huggingface_hub import snapshot_download

    asked = revision_of(entry)
    with _said(entry.source, asked):
        patterns = ["*.json", "*.safetensors"]
        return Path(snapshot_download(entry.source, revision=asked, allow_patterns=patterns))


def _placing(dtype: torch.dtype) -> dict:
    """`device_map` and `quantization_config` as the environment asks for them."""
    place, width = os.environ.get("MODEL_PLACE", ""), bits()
    if not place and not width:
        return {}
    if not importlib.util.find_spec("accelerate"):
        raise UserError("MODEL_PLACE and MODEL_BITS need the package accelerate: pip install accelerate")
    options: dict = {"device_map": place or "auto"}
    if width:
        if not torch.cuda.is_available():
            raise UserError(f"MODEL_BITS={width} needs a GPU, and PyTorch finds none here: leave it out")
        if not importlib.util.find_spec("bitsandbytes"):
            raise UserError(f"MODEL_BITS={width} needs the package bitsandbytes: pip install bitsandbytes")
        from transformers import BitsAndBytesConfig

        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        options["quantization_config"] = BitsAndBytesConfig(**({"load_in_8bit": True} if width == 8 else four))
    return options


@contextmanager
def _tokenizer_said(source: str, other: str | Path | None) -> Iterator[None]:
    """What a folder's tokenizer, or another one than the model's own, raises, as one line with the cure."""
    if other is None and not Path(source).is_dir():
        yield
        return
    try:
        yield
    except Exception as error:  # of many kinds, from two libraries
        if other is None:
            line, cure = f"{source} has no tokenizer", "save the tokenizer there too, or give tokenizer="
        else:
            line, cure = f"tokenizer={str(other)!r} cannot be loaded", "give a folder, a hub id or a loaded tokenizer"
        raise UserError(f"{line} ({why(error)}): {cure}") from error


@contextmanager
def _said(source: str, revision: str) -> Iterator[None]:
    """What the hub and `transformers` raise, as one line with the cure."""
    from safetensors import SafetensorError

    local = Path(source).is_dir()
    try:
        yield
    except UserError:
        raise
    except SafetensorError as error:
        if local:
            raise UserError(f"{source} is damaged ({why(error)}): copy it again, or save_pretrained there") from error
        raise UserError(
            f"{source} is damaged in the hub's cache ({error}): remove it there (`hf cache`) and load it again"
        ) from error
    except (OSError, ValueError, RuntimeError, ImportError, MemoryError) as error:
        causes = list(_causes(error))
        if any(says_out_of_memory(str(cause)) for cause in causes):
            raise MachineError(f"{source} does not fit into memory: {ROOM}") from error
        for kind, line in refusals(source, revision, "HUB_REVISION"):
            if any(isinstance(cause, kind) for cause in causes):
                raise UserError(line) from error
        cure = "`hf auth login` and a connection are needed, or the model in the hub's cache"
        if local:
            cure = "save_pretrained network and tokenizer there"
        if not isinstance(error, OSError):
            cure = "the installed transformers cannot read it; use the versions of uv.lock (`make env`)"
        raise UserError(f"{source}@{revision} cannot be loaded ({why(error)}): {cure}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of, once each."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
