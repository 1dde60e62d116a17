"""Runs decoded to the end: resumable, shared out over processes, one JSON line a response."""

import gc
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from tqdm import tqdm

from lib.errors import UserError
from lib.paths import BUILD
from lib.running import one_batch
from lib.running.cost import measured
from lib.running.identity import file_id, items_of, row_hashes
from lib.running.lines import cut, once, read_lines
from lib.running.lock import locked
from lib.running.memory import batch_size as batch_size_of
from lib.running.memory import devices_of
from lib.running.memory import measured as room_measured
from lib.running.respond import encoded, letters
from lib.running.run import Run
from lib.running.workers import by_ray, default_workers, results
from lib.tasks import get_task
from lib.tasks.sandbox import require_consent

RUNS = BUILD / "runs"
FEW = 100  # responses that are decoded sooner than other processes have started
FIRST = 8  # batches of a run by which actors measure their memory, one in this process


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
    rows.sort(key=lambda row: letters(items[row[0]]))
    return batches_of(rows, batch_size)


def batches_of(rows: list, size: int) -> list[list]:
    """Rows in their order, so many at a time."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]


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
    todo, planned = [], set()  # runs that differ in items or samples alone share a file, and with it responses
    for run in runs:
        rows = [row for (row,) in pending(run, lines_of(run, folder, device), 1, shard)]
        rows = [row for row in rows if (paths[run], row) not in planned]
        planned.update((paths[run], row) for row in rows)
        if rows:
            todo.append((run, rows))
    total = sum(len(rows) for _, rows in todo)
    if total < FEW and workers is None:
        workers = 0
    # A fault of a model is found before any work; with Ray this process may have no GPU to look at it.
    asked = [(run, rows, device, workers, batch_size) for run, rows in todo if not run.engine]
    sizes = dict(results(_size, asked, workers, device) if by_ray() else map(_size, asked))
    tokens = 0
    with (
        tqdm(total=total, unit="response", desc="decode", **({} if total else {"disable": True})) as bar,
        closing(_decoded(todo, sizes, device, workers, batch_size)) as decoded,
    ):
        for run, lines in decoded:
            with open(paths[run], "a") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
            tokens += sum(line["tokens_kept"] for line in lines)
            bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):.0f} tokens/s")
            bar.update(len(lines))


def _decoded(
    todo: list[tuple[Run, list]], sizes: dict[Run, int], device: str, workers, batch_size
) -> Iterator[tuple[Run, list[dict]]]:
    """The lines of the rows of every run, in groups of at most `sizes`, as they are done.

    On an accelerator the first batches follow an estimate, and the others what those took.
    """
    here = [(run, rows) for run, rows in todo if not run.engine]
    left = {run: batches_of(rows, sizes[run]) for run, rows in here}
    if device != "cpu" and not batch_size:
        count, room = FIRST if by_ray() else 1, {run: [] for run in left}
        ends = {run: rows[-count * sizes[run] :] for run, rows in here}  # the longest prompts, in whole batches
        first = [(run, batch, device) for run, end in ends.items() for batch in batches_of(end, sizes[run])]
        for run, lines, fits in _closing(results(_work, first, workers, device)):
            yield run, lines
            room[run].append(fits or sizes[run])
        left = {run: batches_of(rows[: -len(ends[run])], min(room[run])) for run, rows in here}
    units = [(run, batch, device) for run, batches in left.items() for batch in batches]
    for run, lines, _ in _closing(results(_work, units, workers, device)):
        yield run, lines
    others = sorted(((run, rows) for run, rows in todo if run.engine), key=lambda pair: pair[0].model)
    if others:
        yield from _by_engines(others, device)


def _closing(found: Iterator) -> Iterator:
    """What there is in `found`, which ends with whoever asks for it."""
    with closing(found):
        yield from found


def _size(unit: tuple) -> tuple[Run, int]:
    """How many responses of a run are decoded at once, by an estimate. Raises UserError for models that do not do."""
    run, rows, device, workers, size = unit
    model = one_batch.model_of(run.model, device)
    if run.draft and one_batch.model_of(run.draft, device).tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise UserError(
            f"{run.draft} and {run.model} have different tokenizers: take a draft of the target's own family"
        )
    items, options = items_of(run.task, run.split, run.items), dict(run.options)
    longest = max((items[index] for index, _ in rows), key=letters)
    prompt = encoded(model, [longest], get_task(run.task).instruction, run.command)[0].shape[1]
    if size:
        return run, size
    response = options.get("canvas") or options["max_new_tokens"]
    return run, batch_size_of(model, prompt, response, device, workers or default_workers(device) or 1)


def _work(unit: tuple[Run, list[tuple[int, int]], str]) -> tuple[Run, list[dict], int | None]:
    """A batch's lines, and how many such rows fit at once where that was measured."""
    run, rows, device = unit
    networks = [
        one_batch.model_of(name, device).network for name in (run.model, run.draft) if name
    ]  # no part of what rows take
    devices = sorted({place for network in networks for place in devices_of(network, device)})
    with room_measured(len(rows), devices, one_batch.kind_of(run, device)) as room:
        lines = one_batch.decode_rows(run, rows, device)
    return run, lines, room.fits


def _by_engines(todo: list[tuple[Run, list]], device: str) -> Iterator[tuple[Run, list[dict]]]:
    """The lines of runs that an engine decodes. It has the accelerator to itself, and gives it back."""
    from lib.engines import ray, vllm

    if device != "cpu":
        ray.release()
        one_batch.model_of.cache_clear()
        gc.collect()
        torch.cuda.empty_cache()
    try:
        for run, rows in todo:
            for lines in _by_engine(run, rows, device):
                yield run, lines
    finally:
        vllm.release()


def _by_engine(run: Run, rows: list[tuple[int, int]], device: str) -> Iterator[list[dict]]:
    """The lines of rows that an engine decodes, in groups, as they are done."""
    from lib.engines import vllm

    items = items_of(run.task, run.split, run.items)
    found = vllm.answers(
        run.model,
        [items[index] for index, _ in rows],
        run.resolved(),
        samples=[sample for _, sample in rows],
        instruction=get_task(run.task).instruction,
        command=run.command,
        seed=run.seed,
        device=device,
    )
    with closing(found) as answers:
        while True:
            with measured(device) as cost:
                group = next(answers, None)
            if group is None:
                return
            lines = [{"text": answer.text, **answer.counters} for answer in group]
            yield one_batch.lines_at(run, [rows[answer.place] for answer in group], lines, cost)
