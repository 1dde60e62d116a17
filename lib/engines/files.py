"""A registered model as an engine loads it: a hub id, or a folder in the form of `transformers`."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lib.errors import UserError, why
from lib.models.hub import heads_folder, revision_of
from lib.models.registry import FAMILIES, MODELS, Entry, Model, describe, entry_of, load
from lib.paths import BUILD, CHECKPOINTS

FOLDER = BUILD / "engines"


@dataclass(frozen=True)
class Weightless:
    """A network's place in a Model whose tokenizer alone is asked: it has a configuration and lies on the CPU."""

    config: object

    def parameters(self) -> Iterator[torch.Tensor]:
        yield torch.empty(0)


@dataclass(frozen=True)
class Source:
    """Where an engine finds a model. `model`: its tokenizer and family, without weights. `heads`: AutoDeco's folder
    or hub id, "" where it has none."""

    name: str
    path: str
    revision: str | None
    architecture: str
    heads: str
    model: Model


def source_of(name: str) -> Source:
    """The source of a registered model. Raises UserError where its configuration or tokenizer cannot be had."""
    entry = entry_of(name)
    base = MODELS[entry.base] if entry.tier == "heads" else entry
    path, revision = _path(base)
    config, tokenizer = _config(base, path, revision)
    heads = ""
    if entry.tier == "heads":
        heads = str(heads_folder(entry) if entry.remote else CHECKPOINTS / entry.source)
    model = Model(name, Weightless(config), tokenizer, FAMILIES[entry.family])
    return Source(name, path, revision, (config.architectures or [""])[0], heads, model)


def _path(entry: Entry) -> tuple[str, str | None]:
    """A hub id with its revision, or the folder of a model that lies here in another form."""
    if entry.tier == "paper":
        return entry.source, revision_of(entry)
    fingerprint = describe(entry.name)[1].replace("+", "-")
    folder = FOLDER / f"{entry.name}-{fingerprint}"
    if not folder.exists():
        staging = folder.with_suffix(".tmp")
        shutil.rmtree(staging, ignore_errors=True)
        model = load(entry.name, "cpu", torch.float32)
        model.network.config.architectures = [type(model.network).__name__]
        model.network.save_pretrained(staging)
        model.tokenizer.save_pretrained(staging)
        staging.replace(folder)
    return str(folder), None


def _config(entry: Entry, path: str, revision: str | None):
    from transformers import AutoConfig, AutoTokenizer

    options = {"revision": revision} if revision and not Path(path).is_dir() else {}
    try:
        return AutoConfig.from_pretrained(path, **options), AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{entry.source} cannot be loaded ({why(error)}): "
            "`hf auth login` and a connection are needed, or the model in the hub's cache"
        ) from error
