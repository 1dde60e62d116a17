"""The files of a model of the hub, or of a folder in that form: config, tokenizer and weights, checked as read."""

from dataclasses import dataclass
from pathlib import Path

import torch

from lib.errors import MachineError, UserError
from lib.models.entries import Entry
from lib.models.masked import NATIVE, Native
from lib.running.memory import free
from lib.running.schema import parsed

GIB = 2**30


@dataclass(frozen=True)
class Opened:
    """What is known of a model before its weights are read.

    asked: its revision; commit: what that is, None for a folder. raw: its config.json. kind: how it is read, where it
    is one of `lib.models.masked`.
    """

    entry: Entry
    asked: str
    commit: str | None
    raw: dict
    kind: Native | None

    @property
    def at(self) -> str:
        """What comes after the config is of the same commit, though a branch should move meanwhile."""
        return self.commit or self.asked


def opened(entry, asked: str) -> Opened:
    """An entry's config at a revision, and how it is read."""
    from transformers.utils import cached_file

    path = Path(cached_file(entry.source, "config.json", revision=asked))
    raw = parsed(path.read_bytes(), f"config.json of {entry.source}@{asked}", "fetch it again")
    commit = path.parent.name if path.parent.parent.name == "snapshots" else None
    kind = None if entry.remote_code else NATIVE.get(str(raw.get("model_type")).lower())
    return Opened(entry, asked, commit, raw, kind)


def tokenizer_of(found: Opened, other: str | Path | None = None):
    import transformers

    if other is not None:
        return transformers.AutoTokenizer.from_pretrained(other)
    if found.kind:
        kind = getattr(transformers, found.kind.tokenizer)
        return kind.from_pretrained(found.entry.source, revision=found.at)
    given = {"trust_remote_code": found.entry.remote_code}
    return transformers.AutoTokenizer.from_pretrained(found.entry.source, revision=found.at, **given)


def network_of(found: Opened, dtype: torch.dtype, options: dict):
    """The network with its weights, checked; `options`: `device_map` and `quantization_config`, where asked for."""
    import transformers

    entry, kind, raw = found.entry, found.kind, found.raw
    placed = "device_map" in options
    usual = {"revision": found.at, "dtype": dtype}
    options = usual | {"output_loading_info": True, "ignore_mismatched_sizes": True} | options
    own = raw.get("quantization_config") or {}
    if own.get("quant_method") == "mxfp4" and "quantization_config" not in options:
        # Its own four bits need kernels of one kind of GPU; without them it is an ordinary network.
        options["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
    if kind:
        config = kind.config(raw, f"config.json of {entry.source}")
        _require_room(entry.source, config, getattr(transformers, kind.network), dtype, options)
        options |= {"config": config, **({"key_mapping": kind.names} if kind.names else {})}
        network, loaded = getattr(transformers, kind.network).from_pretrained(entry.source, **options)
    else:
        auto = transformers.AutoModel if entry.remote_code else transformers.AutoModelForCausalLM
        if fills_in(raw) and not entry.remote_code:
            auto = transformers.AutoModelForMaskedLM
        if not entry.remote_code:
            config = transformers.AutoConfig.from_pretrained(entry.source, revision=found.at)
            _require_room(entry.source, config, auto, dtype, options)
        network, loaded = auto.from_pretrained(entry.source, trust_remote_code=entry.remote_code, **options)
    check_weights(loaded, entry.source, extra=bool(kind))
    network.config._commit_hash, network.placed = found.commit, placed
    return network


def fills_in(raw: dict) -> bool:
    """Whether a config.json is of a class that is made to fill in masks, as BERT is."""
    return any(str(name).endswith("ForMaskedLM") for name in raw.get("architectures") or ())


def check_weights(found: dict, source: str, extra: bool = True) -> None:
    """UserError for a weight that is missing, has another shape, or (`extra`) belongs to nothing in the network."""
    cure = "the checkpoint is not of this architecture; fetch it again, or name another revision in HUB_REVISION"
    faults = [
        *(f"no {key}" for key in sorted(found["missing_keys"])),
        *(f"{key} of shape {tuple(have)}, not {tuple(want)}" for key, have, want in sorted(found["mismatched_keys"])),
        *(f"{key}, which the network has not" for key in sorted(found["unexpected_keys"]) if extra),
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(f"{source} has {faults[0]}{more}: {cure}")


def _require_room(source: str, config, kind, dtype: torch.dtype, options: dict) -> None:
    """MachineError where a machine without a GPU has less memory than the weights take."""
    if torch.cuda.is_available() or "device_map" in options:
        return
    with torch.device("meta"):
        shell = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    need, have = sum(p.numel() for p in shell.parameters()) * dtype.itemsize, free("cpu")
    if need > have:
        raise MachineError(
            f"{source} takes {need / GIB:.1f} GiB in {dtype}, {have / GIB:.1f} are free and there is no GPU: free "
            "memory, or use a machine with a GPU"
        )
