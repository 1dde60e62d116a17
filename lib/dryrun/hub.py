"""A cache as `huggingface_hub` keeps it, filled with stand-ins."""

import json
import os
import re
from hashlib import sha1
from pathlib import Path

import torch
from safetensors.torch import save_file

from lib.autodeco.heads import Heads, HeadsConfig
from lib.dryrun.networks import weights_of, write_weights
from lib.dryrun.stand_ins import STAND_INS, StandIn
from lib.dryrun.tokenizers import write_tokenizer
from lib.dryrun.vocabularies import VOCABULARIES
from lib.errors import UserError
from lib.models.registry import MODELS, Entry

COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_entries() -> list[Entry]:
    """The registry's entries whose files lie on the hub."""
    return [entry for entry in MODELS.values() if entry.remote]


def fill(cache: Path, names: set[str] | None = None) -> None:
    """Write the stand-in of every model that the registry has from the hub, or of those with these names.

    Raises UserError for one that has no stand-in.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [entry for entry in hub_entries() if names is None or entry.name in names]
    for entry in wanted:
        write(cache, entry.source, stand_in_of(entry), revision_of(entry))


def stand_in_of(entry: Entry) -> StandIn:
    """What stands for an entry: a network by its hub id, heads by their base. Raises UserError for neither."""
    if entry.source in STAND_INS:
        return STAND_INS[entry.source]
    if entry.base and MODELS[entry.base].source in STAND_INS:
        return StandIn(vocabulary="", base=MODELS[entry.base].source)
    raise UserError(f"{entry.source} has no stand-in: describe it in lib/dryrun/stand_ins.py")


def revision_of(entry: Entry) -> str:
    """The commit that the registry has pinned, else one made up of the name."""
    return entry.revision if COMMIT.fullmatch(entry.revision) else sha1(entry.source.encode()).hexdigest()


def write(cache: Path, source: str, stand_in: StandIn, commit: str) -> Path:
    """One repository at one commit, which is its newest: the folder of its snapshot."""
    repository = cache / f"models--{source.replace('/', '--')}"
    folder = repository / "snapshots" / commit
    if folder.exists():
        return folder
    staging = folder.with_name(f"{commit}.{os.getpid()}")
    staging.mkdir(parents=True)
    if stand_in.base:
        write_heads(staging, stand_in.base)
    else:
        _write_model(staging, stand_in, source)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    os.replace(staging, folder)
    return folder


def _write_model(folder: Path, stand_in: StandIn, source: str) -> None:
    vocabulary, config = VOCABULARIES[stand_in.vocabulary], stand_in.config
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    ids = {"bos_token_id": config.get("bos_token_id"), "eos_token_id": config["eos_token_id"]}
    defaults = {key: value for key, value in {**ids, **stand_in.generation}.items() if value is not None}
    (folder / "generation_config.json").write_text(json.dumps(defaults, indent=1))
    write_tokenizer(vocabulary, folder)
    write_weights(weights_of(config, vocabulary, source), folder, stand_in.form)


def write_heads(folder: Path, base: str) -> None:
    """Random heads for a stand-in of the hub, in the form that AutoDeco's authors publish."""
    config = STAND_INS[base].config
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(config["hidden_size"], width=16))
    weights = {key: value.to(torch.bfloat16).contiguous() for key, value in heads.state_dict().items()}
    save_file(weights, folder / "autodeco_heads.safetensors", metadata={"format": "pt"})
    published = {
        "architectures": ["AutoDecoModelForCausalLM"],
        "base_model_name_or_path": base,
        "base_model_type": config["model_type"],
        "enable_temperature_head": True,
        "enable_top_p_head": True,
        "hidden_size": config["hidden_size"],
        "model_type": "autodeco",
        "top_p_hidden_size": 16,
        "temperature_hidden_size": 16,
        "use_enhanced_features": True,
    }
    (folder / "config.json").write_text(json.dumps(published, indent=1))
