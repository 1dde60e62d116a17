"""What decides a result, as hashes: the same on every machine and Python version, found without loading a model."""

import ast
import hashlib
import json
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from lib.decoders import METHODS
from lib.models.registry import describe
from lib.paths import ROOT
from lib.tasks import get_task
from lib.tasks.base import rows_hash

LIB = ROOT / "lib"
# What decides a response besides options, weights and rows: these files (of some, one definition only), the
# method's folder, the task's file.
SHARED = (
    "sampling.py",
    "options.py",
    "trace.py",
    "models/canvas.py",
    "models/registry.py:Model",
    "tasks/base.py",
    "evaluation.py:decode_rows",
)
# The loop of a folder's methods, where it stands elsewhere.
LOOPS = {"autodeco": ("autoregressive.py",)}


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
    module = METHODS[method].__module__.split(".")[1]
    folder = LIB / module
    files = list(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    files += [LIB / name for name in (*SHARED, *LOOPS.get(module, ()))] + [LIB / "tasks" / f"{task}.py"]
    if get_task(task).kind == "code":
        files.append(LIB / "sandbox.py")
    return code_hash(files)


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
        "run": {**asdict(run), "options": dict(run.options)},
        "weights": fingerprint,
        "family": {f.name: value for f in fields(family) if (value := getattr(family, f.name)) != f.default},
        "rows": _rows(run.task, run.split, run.items),
        "code": _code(run.method, run.task),
        "dtype": dtype,
    }


def run_id(run, device: str = "cpu") -> str:
    """The name of a run in a result."""
    return _digest(identity(run, device))


def file_id(run, device: str = "cpu") -> str:
    """The name of a run's file of responses: runs that differ in items or samples alone share it."""
    whole = identity(run, device)
    setting = {key: value for key, value in whole["run"].items() if key not in ("items", "samples")}
    return _digest({**{key: value for key, value in whole.items() if key != "rows"}, "run": setting})


@cache
def row_hashes(task: str, split: str, n: int) -> dict[str, str]:
    """The hash of each of the first `n` items by its id: a response counts only for the row that it answers."""
    return {item.id: rows_hash([item])[:8] for item in items_of(task, split, n)}


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
