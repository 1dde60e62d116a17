"""Runs: one method on one task by one model, resumable, shared out over processes, one JSON line a response."""

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from tqdm import tqdm

from lib.decoders import decoder_of, options_of
from lib.errors import UserError
from lib.models.registry import FAMILIES, Model, entry_of, load
from lib.paths import BUILD
from lib.running.cost import measured
from lib.running.identity import file_id, items_of, row_hashes
from lib.running.lines import MEASURED, cut, once, read_lines  # noqa: F401  MEASURED is read from here too
from lib.running.lock import locked
from lib.running.memory import batch_size as batch_size_of
from lib.running.respond import commanded, respond
from lib.running.workers import default_workers, results
from lib.tasks import get_task
from lib.tasks.base import Item
from lib.tasks.sandbox import require_consent

RUNS = BUILD / "runs"
FEW = 100  # responses that are decoded sooner than other processes have started


@dataclass(frozen=True)
class Run:
    """What is run. `options` is a tuple of (name, value) pairs of the method; `samples` responses an item.

    `command`: a sentence that is put behind every prompt. `draft`: the small model of a method that drafts.
    """

    model: str
    task: str
    method: str
    options: tuple[tuple[str, object], ...]
    items: int
    samples: int = 1
    seed: int = 0
    split: str = "test"
    command: str = ""
    draft: str = ""

    @classmethod
    def of(cls, model: str, task: str, method: str, items: int, samples: int = 1, **given) -> "Run":
        """A run with its options checked; the length limit is the task's where none is given.

        `given`: the other fields of a run, and the method's options.
        """
        own = {name: given.pop(name) for name in ("seed", "split", "command", "draft") if name in given}
        options = given
        names = [field.name for field in fields(decoder_of(method).options)]
        key = "canvas" if "canvas" in names else "max_new_tokens"
        options.setdefault(key, get_task(task).max_new_tokens)
        if (method == "autodeco") != (entry_of(model).tier == "heads"):
            has = "no heads, which autodeco needs" if method == "autodeco" else "heads, which only autodeco uses"
            raise UserError(f"{model} has {has}: the method {method} cannot run on it")
        if key == "canvas" and FAMILIES[entry_of(model).family].mask_id is None:
            raise UserError(f"{model} has no [MASK] token: {method} needs a diffusion model, such as study-dlm")
        return cls(model, task, method, _resolved(method, options), items, samples, **own)

    def resolved(self):
        return options_of(self.method, dict(self.options))


def _resolved(method: str, options: dict) -> tuple[tuple[str, object], ...]:
    """All options of a method, those that are not given at their defaults."""
    resolved = options_of(method, options).to_dict()
    resolved.pop("method")
    return tuple(sorted(resolved.items()))


def run_of(stored: dict) -> Run:
    """A run from what `identity.setting` stored of it."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["options"].items()}
    return Run(**{**stored, "options": _resolved(stored["method"], options)})


@cache
def model_of(name: str, device: str) -> Model:
    """The model of that name, loaded once a process."""
    return load(name, device)


def decode_rows(run: Run, rows: list[tuple[int, int]], device: str = "cpu") -> list[dict]:
    """Decode and score (item index, sample index) rows as one batch: a line each."""
    everything = items_of(run.task, run.split, run.items)
    items = [everything[index] for index, _ in rows]
    with measured(device) as cost:
        lines = responses(run, items, [sample for _, sample in rows], device)
    row_of = row_hashes(run.task, run.split, run.items)
    judged = scored(run.task, [(item, line["text"]) for item, line in zip(items, lines, strict=True)])
    return [
        {
            "item": item.id,
            "row": row_of[item.id],
            "sample": sample,
            **score,
            **line,
            "seconds": round(cost.seconds / len(rows), 6),
            "joules": None if cost.joules is None else round(cost.joules / len(rows), 6),
        }
        for item, (_, sample), line, score in zip(items, rows, lines, judged, strict=True)
    ]


def responses(run, items: list[Item], samples: list[int], device: str = "cpu") -> list[dict]:
    """Texts and counters of one batch of a run's responses, as a line has them.

    It is hashed (see identity.SHARED), so that Run is not named here: a run may get new fields.
    """
    model = model_of(run.model, device)
    draft = {"draft": model_of(run.draft, device).network} if run.draft else {}
    given = {"instruction": get_task(run.task).instruction, "command": run.command, "seed": run.seed}
    out = respond(model, items, run.resolved(), samples=samples, **given, **draft)
    return [
        {"text": model.text(out.responses[i], int(out.lengths[i])), **out.trace.row(i)} for i in range(len(items))
    ]


def scored(task: str, pairs: list[tuple[Item, str]]) -> list[dict]:
    """What a line keeps of the score of each (item, text)."""
    return [
        {"correct": score.correct, "status": score.status, "answer": score.answer}
        for score in get_task(task).score_all(pairs)
    ]


def scored_again(run: Run, lines: list[dict]) -> list[dict]:
    """Stored lines of a run with the scores that today's scorer gives their texts."""
    if get_task(run.task).kind == "code":
        require_consent()
    items = {item.id: item for item in items_of(run.task, run.split, run.items)}
    judged = scored(run.task, [(items[line["item"]], line["text"]) for line in lines])
    return [line | score for line, score in zip(lines, judged, strict=True)]


def lines_of(run: Run, folder: Path, device: str = "cpu") -> list[dict]:
    """The lines of a run that `folder` holds, of all its shards, sorted; a row in two shards counts once.

    A file may hold more items or samples than this run asks for, from a larger run of the same setting. Raises
    UserError where two responses to the same row differ.
    """
    name, rows = file_id(run, device), row_hashes(run.task, run.split, run.items)
    lines = [
        (line, str(path))
        for path in sorted(folder.glob(f"{name}*.jsonl"))
        for line in read_lines(path)
        if rows.get(line["item"]) == line["row"] and line["sample"] < run.samples
    ]
    return sorted(once(lines), key=lambda line: (line["item"], line["sample"]))


def _batches(run: Run, lines: list[dict], size: int | None, shard: tuple[int, int], device: str, workers: int | None):
    """The batches of `pending`, of `size` or of as many responses as memory holds."""
    if size:
        return pending(run, lines, size, shard)
    rows = pending(run, lines, 1, shard)
    if not rows:
        return []
    items, options = items_of(run.task, run.split, run.items), dict(run.options)
    model = model_of(run.model, device)
    longest = max((items[index].prompt for ((index, _),) in rows), key=len)
    prompt = model.encode([commanded(longest, run.command)], get_task(run.task).instruction)[0].shape[1]
    response = options.get("canvas") or options["max_new_tokens"]
    processes = workers or default_workers(device) or 1
    return pending(run, lines, batch_size_of(model, prompt, response, device, processes), shard)


def pending(run: Run, lines: list[dict], batch_size: int, shard: tuple[int, int] = (0, 1)):
    """Batches of (item index, sample) rows that are not among `lines`, of like length.

    `shard` (i, n) takes every n-th item, from the i-th on.
    """
    done = {(line["item"], line["sample"]) for line in lines}
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


def run_all(
    runs: list[Run],
    folder: Path = RUNS,
    *,
    device: str = "cpu",
    workers: int | None = None,
    batch_size: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> dict[Run, list[dict]]:
    """Finish every run and return its lines, sorted by item and sample.

    `workers` processes decode batches (default: a core each on a CPU, none on an accelerator and for FEW responses)
    of `batch_size` responses (default: as many as memory holds). This process alone writes, so a kill loses at most
    the batches under way; where another process has a run, this one waits and then takes what that one wrote.
    `shard` (i, n) computes one of n parts into files named by it; with the folders of all parts copied together, a
    run without `shard` finds everything. Raises UserError, and OSError where `folder` cannot be written.
    """
    runs = list(dict.fromkeys(runs))
    if any(get_task(run.task).kind == "code" for run in runs):
        require_consent()
    folder.mkdir(parents=True, exist_ok=True)
    name = "" if shard == (0, 1) else f".{shard[0]}of{shard[1]}"
    paths = {run: folder / f"{file_id(run, device)}{name}.jsonl" for run in runs}
    have = {run: lines_of(run, folder, device) for run in runs}
    asked = [run for run in runs if pending(run, have[run], 1, shard)]
    if not asked:
        return have
    with ExitStack() as locks:  # in one order, so that no two processes wait for each other
        for path in sorted({paths[run] for run in asked}):
            locks.enter_context(locked(path, f"the run {path.stem} in {folder}"))
            cut(path)
        _decode(asked, paths, folder, device, workers, batch_size, shard)
        return {run: lines_of(run, folder, device) for run in runs}


def _decode(runs: list[Run], paths: dict[Run, Path], folder: Path, device: str, workers, batch_size, shard) -> None:
    """Decode what `runs` lack and append it to their files, which this process has locked."""
    units, planned = [], set()  # runs that differ in items or samples alone share a file, and with it responses
    for i, run in enumerate(runs):
        for rows in _batches(run, lines_of(run, folder, device), batch_size, shard, device, workers):
            fresh = [row for row in rows if (paths[run], row) not in planned]
            planned.update((paths[run], row) for row in fresh)
            if fresh:
                units.append((i, run, fresh, device))
    for name, draft in {(run.model, run.draft) for _, run, _, _ in units}:  # a fault is found here, not in a worker
        model = model_of(name, device)
        if draft and model_of(draft, device).tokenizer.get_vocab() != model.tokenizer.get_vocab():
            raise UserError(f"{draft} and {name} have different tokenizers: take a draft of the target's own family")
    total = sum(len(rows) for _, _, rows, _ in units)
    if total < FEW and workers is None:
        workers = 0
    tokens = 0
    with (
        tqdm(total=total, unit="response", desc="decode", **({} if total else {"disable": True})) as bar,
        closing(results(_work, units, workers, device)) as decoded,
    ):
        for index, lines in decoded:
            with open(paths[runs[index]], "a") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
            tokens += sum(line["tokens_kept"] for line in lines)
            bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):.0f} tokens/s")
            bar.update(len(lines))


def _work(unit: tuple[int, Run, list[tuple[int, int]], str]) -> tuple[int, list[dict]]:
    index, run, rows, device = unit
    return index, decode_rows(run, rows, device)
