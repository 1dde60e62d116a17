"""Runs: one method on one task by one model, resumable, shared out over processes, one JSON line a response."""

import ast
import hashlib
import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from tqdm import tqdm

from lib.decoders import METHODS, decode, options_of
from lib.errors import UserError
from lib.models.registry import Model, load
from lib.paths import BUILD, ROOT
from lib.sampling import RowGenerator
from lib.tasks import get_task
from lib.tasks.base import rows_hash

LIB = ROOT / "lib"
RUNS = BUILD / "runs"
# What decides a response besides options, weights and rows: these files, the method's folder, the task's file.
SHARED = ("sampling.py", "options.py", "trace.py", "models/canvas.py", "tasks/base.py")
MEASURED = ("seconds", "joules")  # differ from run to run, so no part of what must be equal


@dataclass(frozen=True)
class Run:
    """What is run. `options` is a tuple of (name, value) pairs of the method; `samples` responses an item."""

    model: str
    task: str
    method: str
    options: tuple[tuple[str, object], ...]
    items: int
    samples: int = 1
    seed: int = 0
    split: str = "test"

    @classmethod
    def of(cls, model: str, task: str, method: str, items: int, samples: int = 1, seed: int = 0, **options) -> "Run":
        """A run with its options checked; the length limit is the task's where none is given."""
        key = "max_new_tokens" if method == "autoregressive" else "canvas"
        options.setdefault(key, get_task(task).max_new_tokens)
        resolved = options_of(method, options).to_dict()
        resolved.pop("method")
        return cls(model, task, method, tuple(sorted(resolved.items())), items, samples, seed)

    def resolved(self):
        return options_of(self.method, dict(self.options))


def code_hash(paths: list[Path]) -> str:
    """A hash of what Python files do: comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        digest.update(path.name.encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def files_of(run: Run) -> list[Path]:
    """The library files that a run's responses and scores depend on."""
    method = METHODS[run.method].__module__.split(".")[1]
    folder = LIB / method
    files = list(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    files += [LIB / name for name in SHARED] + [LIB / "tasks" / f"{run.task}.py"]
    if get_task(run.task).kind == "code":
        files.append(LIB / "sandbox.py")
    return files


@cache
def items_of(task: str, split: str, n: int):
    return get_task(task).items(split, n)


@cache
def model_of(name: str, device: str) -> Model:
    return load(name, device)


def identity(run: Run, device: str = "cpu") -> dict:
    """Everything that decides a run's responses; its hash names the run."""
    model = model_of(run.model, device)
    return {
        "run": {**asdict(run), "options": dict(run.options)},
        "weights": model.fingerprint,
        "family": asdict(model.family),
        "rows": rows_hash(items_of(run.task, run.split, run.items)),
        "code": code_hash(files_of(run)),
        "dtype": str(next(model.network.parameters()).dtype),
    }


def run_id(run: Run, device: str = "cpu") -> str:
    return hashlib.sha256(json.dumps(identity(run, device), sort_keys=True).encode()).hexdigest()[:16]


@torch.inference_mode()
def decode_rows(run: Run, rows: list[tuple[int, int]], device: str = "cpu") -> list[dict]:
    """Decode and score (item index, sample index) rows as one batch: a line each."""
    model, task = model_of(run.model, device), get_task(run.task)
    everything = items_of(run.task, run.split, run.items)
    items = [everything[index] for index, _ in rows]
    ids, mask = model.encode([item.prompt for item in items])
    generator = RowGenerator.of(run.seed, [item.id for item in items], [sample for _, sample in rows])
    start = time.perf_counter()
    out = decode(model.network, ids, run.resolved(), generator=generator, family=model.family, attention_mask=mask)
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / len(rows)
    texts = [model.text(out.responses[i], int(out.lengths[i])) for i in range(len(rows))]
    scores = task.score_all(list(zip(items, texts, strict=True)))
    return [
        {
            "item": item.id,
            "sample": sample,
            "correct": score.correct,
            "status": score.status,
            "answer": score.answer,
            "text": text,
            **out.trace.row(i),
            "seconds": round(seconds, 6),
            "joules": None,  # no counter was read
        }
        for i, (item, (_, sample), text, score) in enumerate(zip(items, rows, texts, scores, strict=True))
    ]


def read_lines(path: Path) -> list[dict]:
    """The whole lines of a run's file; what a kill left half-written is cut off, a repeated row is an error."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) != len(raw):
        path.write_bytes(whole)
    lines = [json.loads(line) for line in whole.splitlines()]
    keys = [(line["item"], line["sample"]) for line in lines]
    if len(set(keys)) != len(keys):
        raise UserError(f"{path} holds a row twice: remove it and run again")
    return lines


def pending(run: Run, path: Path, batch_size: int, shard: tuple[int, int] = (0, 1)) -> list[list[tuple[int, int]]]:
    """Batches of rows that `path` does not hold yet, of like length; `shard` (i, n) takes every n-th item."""
    done = {(line["item"], line["sample"]) for line in read_lines(path)}
    items = items_of(run.task, run.split, run.items)
    rows = [
        (index, sample)
        for index, item in enumerate(items)
        if index % shard[1] == shard[0]
        for sample in range(run.samples)
        if (item.id, sample) not in done
    ]
    rows.sort(key=lambda row: len(items[row[0]].prompt))
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]


def _work(unit: tuple[int, Run, list[tuple[int, int]], str]) -> tuple[int, list[dict]]:
    index, run, rows, device = unit
    return index, decode_rows(run, rows, device)


def _start_worker() -> None:
    torch.set_num_threads(1)  # two processes with two threads each fight for two cores


def _pool(workers: int):
    if os.environ.get("ENGINE", "local") == "ray":
        try:
            from ray.util.multiprocessing import Pool
        except ImportError as error:
            raise UserError("ENGINE=ray needs Ray: uv pip install 'ray[default]', or leave ENGINE unset") from error
        return Pool(initializer=_start_worker)
    return multiprocessing.get_context("spawn").Pool(workers, initializer=_start_worker)


def run_all(
    runs: list[Run],
    folder: Path = RUNS,
    *,
    device: str = "cpu",
    workers: int | None = None,
    batch_size: int = 64,
    shard: tuple[int, int] = (0, 1),
) -> dict[Run, list[dict]]:
    """Finish every run and return its lines, sorted by item and sample.

    `workers` processes decode batches (default: a core each on a CPU, none on an accelerator); this process
    alone writes, so a kill loses at most the batches under way. `shard` (i, n) computes a part on one of n
    machines, whose folders are then copied together: files are named by run and shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "" if shard == (0, 1) else f".{shard[0]}of{shard[1]}"
    paths = {run: folder / f"{run_id(run, device)}{name}.jsonl" for run in runs}
    units = [
        (i, run, rows, device) for i, run in enumerate(runs) for rows in pending(run, paths[run], batch_size, shard)
    ]
    workers = (os.cpu_count() or 1 if device == "cpu" else 0) if workers is None else workers
    total = sum(len(rows) for _, _, rows, _ in units)
    tokens = 0
    with tqdm(total=total, unit="response", desc="decode", disable=None if total else True) as bar:
        for index, lines in _results(units, workers):
            with open(paths[runs[index]], "a") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
            tokens += sum(line["tokens_kept"] for line in lines)
            bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):.0f} tokens/s")
            bar.update(len(lines))
    return {run: sorted_lines(read_lines(path)) for run, path in paths.items()}


def _results(units: list, workers: int):
    if workers <= 1 or len(units) <= 1:
        yield from map(_work, units)
        return
    with _pool(workers) as pool:
        yield from pool.imap_unordered(_work, units)


def merge(run: Run, folder: Path = RUNS, device: str = "cpu") -> list[dict]:
    """The lines of all shards of a run, each row once, in order; a missing row is an error."""
    lines = [line for path in sorted(folder.glob(f"{run_id(run, device)}*.jsonl")) for line in read_lines(path)]
    keys = {(line["item"], line["sample"]) for line in lines}
    if len(keys) != len(lines):
        raise UserError(f"the shards of run {run_id(run, device)} overlap: remove one of them")
    if len(lines) != run.items * run.samples:
        raise UserError(
            f"run {run_id(run, device)} has {len(lines)} of {run.items * run.samples} rows: finish it first"
        )
    return sorted_lines(lines)


def sorted_lines(lines: list[dict]) -> list[dict]:
    return sorted(lines, key=lambda line: (line["item"], line["sample"]))
