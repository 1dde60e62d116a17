"""Stored responses decoded again: what shows that code which was moved or made faster still decodes the same.

Draws depend on (seed, item, sample, step) alone, so that a few responses of a run can be had again by themselves.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tqdm import tqdm

from lib.running.committed import file_hashes, stored_lines
from lib.running.cost import device_name
from lib.running.evaluation import Run, model_of, responses, run_of
from lib.running.identity import changes, identity, items_of
from lib.running.workers import results

CERTIFIES = 16  # responses of a run, or all where it has fewer, that must be equal
TIE = 1e-4  # logits that differ by less than this are as good as equal: another processor rounds otherwise
TRIES = 12


@dataclass(frozen=True)
class Replay:
    """What came of a run: responses decoded again, how many of them were ties, and those that differ."""

    run: str
    responses: int
    ties: int
    differ: tuple[tuple[str, str, str], ...]  # item, stored text, text of today


@dataclass(frozen=True)
class Unit:
    """What is decoded again of one run: some of its `total` stored lines."""

    folder: Path
    name: str
    run: Run
    lines: tuple[dict, ...]
    total: int
    device: str


def replay(folders: list[Path], count: int, seed: int = 0) -> Iterator[tuple[Path, Replay]]:
    """Decode `count` responses of every run of some results again, chosen by `seed`; see `certify`.

    Passed over: a run whose model, rows or dtype are not those of today, one that was replayed so before, a result of
    another device, and a folder whose files were changed. The study models come first, for they are quick.
    """
    units = [unit for folder in folders for unit in _units(folder, count, seed)]
    units.sort(key=lambda unit: not unit.run.model.startswith("study"))
    for device in ("cpu", "cuda"):
        todo = [unit for unit in units if unit.device == device]
        found = results(_replayed, todo, device=device) if todo else ()
        for unit, outcome in tqdm(found, total=len(todo), desc="replay", unit="run", disable=not todo):
            certify(unit, outcome, seed)
            yield unit.folder, outcome


def _units(folder: Path, count: int, seed: int) -> Iterator[Unit]:
    """Every run of a result that is to be replayed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    device = "cpu" if manifest["device"] == "cpu" else "cuda"
    elsewhere = device != "cpu" and not (torch.cuda.is_available() and device_name(device) == manifest["device"])
    if elsewhere or manifest["files"] != file_hashes(folder):
        return
    stored = None
    for name, entry in manifest["runs"].items():
        run = run_of(entry["run"])
        changed, before = changes(entry, identity(run, device)), entry.get("replayed", {})
        done = not changed and before.get("seed") == seed and (before["responses"] >= count or "whole" in before)
        if set(changed) <= {"code"} and not done:
            stored = stored or stored_lines(folder)
            lines = stored[name]
            chosen = Random(f"{seed}/{name}").sample(lines, min(count, len(lines)))
            yield Unit(folder, name, run, tuple(chosen), len(lines), device)


def certify(unit: Unit, found: Replay, seed: int) -> None:
    """Note in the manifest that the run was replayed; enough responses certify code that changed."""
    path = unit.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = manifest["runs"][found.run]
    now = identity(unit.run, unit.device)
    changed = bool(changes(entry, now))
    if found.differ or changed and found.responses < min(CERTIFIES, unit.total):
        return
    entry["replayed"] = {"responses": found.responses, "ties": found.ties, "seed": seed}
    if found.responses == unit.total:
        entry["replayed"]["whole"] = True
    if changed:
        entry["replayed"]["code"] = entry["code"]  # what decoded them
        entry["code"] = now["code"]
    staging = path.with_suffix(".tmp")
    staging.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    os.replace(staging, path)


def _replayed(unit: Unit) -> tuple[Unit, Replay]:
    chosen = list(unit.lines)
    parts = [chosen] if len(chosen) < 8 else [chosen[:1], chosen[1:6], chosen[6:]]  # batches of several sizes
    ties, differ = 0, []
    for part in parts:
        for then, now in zip(part, _again(unit.run, part, unit.device), strict=True):
            if _same(then, now):
                continue
            if is_tie(unit.run, then, unit.device):
                ties += 1
            else:
                differ.append((then["item"], then["text"], now["text"]))
    return unit, Replay(unit.name, len(chosen), ties, tuple(differ))


def _again(run: Run, lines: list[dict], device: str) -> list[dict]:
    items = {item.id: item for item in items_of(run.task, run.split, run.items)}
    return responses(run, [items[line["item"]] for line in lines], [line["sample"] for line in lines], device)


def _same(then: dict, now: dict) -> bool:
    """Equal text and counters; a measure that is no count, such as a mean temperature, to its last digits."""
    return all(_near(value, then.get(key)) for key, value in json.loads(json.dumps(now)).items())


def _near(a, b) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 2e-4 * max(1.0, abs(a))
    return a == b


def is_tie(run: Run, line: dict, device: str = "cpu") -> bool:
    """Whether this code gives the stored response with logits moved by less than TIE: two of them, or the point
    where a draw falls and the border of a token, lay closer together than processors agree."""
    for attempt in range(TRIES):
        with moved_logits(model_of(run.model, device).network, attempt):
            (now,) = _again(run, [line], device)
        if _same(line, now):
            return True
    return False


@contextmanager
def moved_logits(network, seed: int) -> Iterator[None]:
    """Noise of at most TIE / 2 on every logit inside."""
    head = network.get_output_embeddings()
    noise = torch.Generator(next(head.parameters()).device).manual_seed(seed)

    def move(_, __, logits):
        shift = torch.empty_like(logits, dtype=torch.float32).uniform_(-TIE / 2, TIE / 2, generator=noise)
        return logits + shift.to(logits.dtype)

    handle = head.register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()
