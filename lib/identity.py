"""What decides a result, as hashes: the same on every machine and Python version, found without loading a model."""

import ast
import hashlib
import json
from dataclasses import fields
from functools import cache
from pathlib import Path

from lib.decoders import METHODS
from lib.models.registry import describe
from lib.paths import ROOT
from lib.tasks import get_task
from lib.tasks.base import rows_hash

LIB = ROOT / "lib"
# What decides a response besides options, weights and rows: the method's file and the task's with all that they
# import of this library, and these definitions.
SHARED = (
    "evaluation.py:decode_rows",
    "evaluation.py:commanded",
    "models/registry.py:Model",
)
# Large tables of which a run uses little: what it uses is named above or in its identity.
APART = ("lib.models.registry", "lib.errors")


def code_hash(names: list[str | Path]) -> str:
    """A hash of what files do, of `path:name` one definition. Comments, docstrings and layout of Python do not count.

    Of a notebook the sources of its cells count, of any other file the bytes.
    """
    digest = hashlib.sha256()
    for name in sorted(map(str, names)):
        path, _, part = name.partition(":")
        path = Path(path)
        digest.update(f"{path.name}:{part}".encode())
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text())["cells"]
            digest.update(json.dumps(["".join(cell["source"]) for cell in cells]).encode())
        elif path.suffix == ".py":
            tree = ast.parse(path.read_text())
            nodes = [node for node in tree.body if getattr(node, "name", None) == part] if part else [tree]
            if not nodes:
                raise ValueError(f"{path} has no {part}")
            digest.update(_shape(nodes[0]).encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _shape(node) -> str:
    """A syntax tree as text. Empty fields are left out, for Python versions differ in which of them there are."""
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    body = getattr(node, "body", None)
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        node.body = body[1:]
    parts = [f"{key}={_shape(value)}" for key, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({','.join(parts)})"


@cache
def _code(method: str, task: str) -> str:
    """The hash of the library's part in a run's responses and scores."""
    module = METHODS[method].__module__
    files = imported([_file(module), _file(f"lib.tasks.{task}")])
    return code_hash([*files, *(LIB / name for name in SHARED)])


def imported(files: list[Path], of: tuple[str, ...] = ("lib",)) -> set[Path]:
    """`files` and every file of the packages `of` that they import, directly or not, but for those of APART."""
    found: set[Path] = set()
    todo = list(files)
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module not in APART:
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
                todo += [
                    _file(name)
                    for name in names
                    if any(f"{name}.".startswith(f"{package}.") for package in of) and _file(name).exists()
                ]
    return found


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def items_of(task: str, split: str, n: int):
    """The first `n` items of a split, made once a process."""
    return get_task(task).items(split, n)


@cache
def _rows(task: str, split: str, n: int) -> str:
    return rows_hash(items_of(task, split, n))


def identity(run, device: str = "cpu") -> dict:
    """Everything that decides a run's responses; its hash names the run."""
    family, fingerprint, dtype = describe(run.model, device)
    return {
        "run": {**_set_fields(run), "options": dict(run.options)},
        "weights": fingerprint,
        "family": _set_fields(family),
        "rows": _rows(run.task, run.split, run.items),
        "code": _code(run.method, run.task),
        "dtype": dtype,
        **({"draft": describe(run.draft, device)[1]} if run.draft else {}),
    }


def _set_fields(record) -> dict:
    """The fields of a dataclass that are not at their defaults, so that a new field changes no identity."""
    return {f.name: value for f in fields(record) if (value := getattr(record, f.name)) != f.default}


def run_id(run, device: str = "cpu") -> str:
    """The name of a run in a result."""
    return digest_of(identity(run, device))


def file_id(run, device: str = "cpu") -> str:
    """The name of a run's file of responses: runs that differ in items or samples alone share it."""
    whole = identity(run, device)
    setting = {key: value for key, value in whole["run"].items() if key not in ("items", "samples")}
    return digest_of({**{key: value for key, value in whole.items() if key != "rows"}, "run": setting})


@cache
def row_hashes(task: str, split: str, n: int) -> dict[str, str]:
    """The hash of each of the first `n` items by its id: a response counts only for the row that it answers."""
    return {item.id: rows_hash([item])[:8] for item in items_of(task, split, n)}


def digest_of(value: dict) -> str:
    """A short name for what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
