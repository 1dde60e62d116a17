"""What decides a result, as hashes: the same on every machine and Python version, found without loading a model.

Two of them. What decides *responses*: the options, the code of the method and of the model's tier, weights, rows,
dtype. What decides *scores*: the task's scorer; responses are stored, so that another scorer reads them again.
"""

import hashlib
import json
from dataclasses import fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lib.decoders import decoder_of
from lib.models.registry import describe, loaders
from lib.running.code import ROOT, hash_of, name_of
from lib.tasks import get_task
from lib.tasks.base import rows_hash

# What every response passes through, besides its method and its model.
SHARED = (("lib.running.one_batch", "responses"), ("lib.models.registry", "Model"))
SCORED = (("lib.running.one_batch", "scored"),)  # what every score passes through
# What a response passes through where vLLM decodes it; its plugin is found by name, and so is named here.
ENGINE = (("lib.engines.vllm", "answers"),
          *(("lib.engines.vllm_plugin", name) for name in ("with_heads", "recorder", "Worker")))  # fmt: skip
# In an identity, what must be equal for a stored response to be that of today; `code` may be certified by a replay.
DECIDES = ("weights", "draft", "family", "rows", "instruction", "dtype", "code", "engine", "engine_version")


@cache
def items_of(task: str, split: str, n: int):
    """The first `n` items of a split, made once a process."""
    return get_task(task).items(split, n)


@cache
def _rows(task: str, split: str, n: int) -> str:
    return rows_hash(items_of(task, split, n))


@cache
def response_code(method: str, model: str, draft: str = "", root: Path = ROOT) -> str:
    """The hash of the library's part in a response: the method with all that it uses, and the models' loaders.

    `root`: where the library lies that is read.
    """
    decoder = decoder_of(method)
    models = [name for name in (model, draft) if name]
    return hash_of(
        [name_of(decoder.decode), name_of(decoder.options), *SHARED]
        + [name_of(loader) for name in models for loader in loaders(name)],
        root=root,
    )


@cache
def engine_code(root: Path = ROOT) -> str:
    """The hash of the library's part in a response that vLLM decodes, besides that of the method."""
    return hash_of(ENGINE, root=root)


def _engine(name: str) -> dict:
    """The engine's code, and its version where it is installed."""
    found = {"engine": engine_code()}
    try:
        return found | {"engine_version": version(name)}
    except PackageNotFoundError:
        return found


@cache
def score_code(task: str, root: Path = ROOT) -> str:
    """The hash of the library's part in a score."""
    record = get_task(task)
    return hash_of([name_of(record.score_many or record.score), *SCORED], root=root)


def identity(run, device: str = "cpu") -> dict:
    """Everything that decides a run's responses, and `scores`, what decides how they are judged."""
    family, fingerprint, dtype = describe(run.model, device)
    instruction = get_task(run.task).instruction
    return {
        "run": setting(run),
        "weights": fingerprint,
        "family": set_fields(family),
        "rows": _rows(run.task, run.split, run.items),
        **({"instruction": digest_of(instruction)} if instruction else {}),
        "dtype": dtype,
        **({"draft": describe(run.draft, device)[1]} if run.draft else {}),
        "code": response_code(run.method, run.model, run.draft),
        **(_engine(run.engine) if run.engine else {}),
        "scores": score_code(run.task),
    }


def setting(run) -> dict:
    """What was asked for, as JSON holds it."""
    defaults = {field.name: field.default for field in fields(decoder_of(run.method).options)}
    # An option at its default is left out, so that a new one changes no identity; another default is other code.
    options = {name: value for name, value in run.options if value != defaults[name]}
    return json.loads(json.dumps({**set_fields(run), "options": options}))


def changes(then: dict, now: dict) -> list[str]:
    """What of a stored identity is no longer so, of what decides responses."""
    now = json.loads(json.dumps(now))
    if "engine_version" not in now:  # an engine that is not installed cannot be compared
        then = {key: value for key, value in then.items() if key != "engine_version"}
    return [k for k in DECIDES if then.get(k) != now.get(k)]


def set_fields(record) -> dict:
    """The fields of a dataclass that are not at their defaults, so that a new field changes no identity."""
    return {f.name: value for f in fields(record) if (value := getattr(record, f.name)) != f.default}


def run_id(run) -> str:
    """The name of a run in a new result: what was asked for, so that it outlives the code."""
    return digest_of(setting(run))


def file_id(run, device: str = "cpu") -> str:
    """The name of a run's file of responses: runs that differ in items or samples alone share it."""
    whole = identity(run, device)
    asked = {key: value for key, value in whole["run"].items() if key not in ("items", "samples")}
    return digest_of({key: value for key, value in whole.items() if key not in ("rows", "scores")} | {"run": asked})


@cache
def row_hashes(task: str, split: str, n: int) -> dict[str, str]:
    """The hash of each of the first `n` items by its id: a response counts only for the row that it answers."""
    return {item.id: rows_hash([item])[:8] for item in items_of(task, split, n)}


def digest_of(value) -> str:
    """A short name for what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
