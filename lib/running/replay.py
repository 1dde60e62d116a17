"""Stored responses decoded again: what shows that code which was moved or made faster still decodes the same.

Draws depend on (seed, item, sample, step) alone, so that a few responses of a run can be had again by themselves.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from tqdm import tqdm

from lib.errors import UserError
from lib.paths import write_whole
from lib.running import index
from lib.running.committed import file_hashes, stored_lines
from lib.running.cost import device_name
from lib.running.identity import changes, identity, items_of
from lib.running.one_batch import model_of, responses
from lib.running.run import Run, run_of
from lib.running.workers import results

CERTIFIES = 16  # responses of a run, or all where it has fewer, that must be equal where its code changed
TOGETHER = 48  # or so many of all runs with the same change of code, at least FEW of each
FEW = 3
TIE = 1e-4  # logits that differ by less than this are as good as equal: another processor rounds otherwise
TRIES = 12
ADDED = {"overshoot", "beyond"}  # measures that came when some results had been decoded


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
    change: tuple[str, str] | None  # the code then and now, where it changed
    before: dict  # what the manifest says of an earlier replay

    @property
    def kind(self) -> tuple:
        """Runs of one kind certify one another."""
        return self.device, self.change


def replay(folders: list[Path], count: int, seed: int = 0) -> Iterator[tuple[Path, Replay]]:
    """Decode `count` responses of every run of some results again, chosen by `seed`; see `certify`.

    Of code that changed, at least so many as can certify it. Passed over: a run whose model, rows or dtype are not
    those of today, one that was replayed so before, a result of another device, and a folder whose files were
    changed. The study models come first, for they are quick.
    """
    if os.environ.get("DECODING_COMPILE", "auto") != "auto":
        raise UserError("a replay decodes as results are decoded: leave DECODING_COMPILE out")
    found = [_units(folder) for folder in folders]
    alike = defaultdict(list)
    for unit in (unit for units in found for unit in units):
        alike[unit.kind].append(unit.run.items * unit.run.samples)
    shares = {kind: share(sizes) for kind, sizes in alike.items()}
    units = [unit for units in found for unit in _chosen(units, count, shares, seed)]
    units.sort(key=lambda unit: (not unit.run.model.startswith("study"), unit.change or ()))
    for device in ("cpu", "cuda"):
        todo = [unit for unit in units if unit.device == device]
        found = results(_replayed, todo, device=device) if todo else ()
        left, done = Counter(unit.change for unit in todo), defaultdict(list)
        for unit, outcome in tqdm(found, total=len(todo), desc="replay", unit="run", disable=not todo):
            certify([(unit, outcome)], seed)  # at once, where its own responses are enough
            if unit.change:
                done[unit.change].append((unit, outcome))
                if len(done[unit.change]) == left[unit.change]:
                    certify(done.pop(unit.change), seed)
            yield unit.folder, outcome


def _units(folder: Path) -> list[Unit]:
    """Every run of a result that can be replayed, without its lines."""
    manifest = json.loads((folder / "manifest.json").read_text())
    device = "cpu" if manifest["device"] == "cpu" else "cuda"
    elsewhere = device != "cpu" and not (torch.cuda.is_available() and device_name(device) == manifest["device"])
    if elsewhere or manifest["files"] != file_hashes(folder):
        return []
    units = []
    for name, entry in manifest["runs"].items():
        run = run_of(entry["run"])
        if run.engine:  # another engine's draws are its own
            continue
        now = identity(run, device)
        changed = changes(entry, now)
        if set(changed) <= {"code"}:
            change = (entry["code"], now["code"]) if changed else None
            units.append(Unit(folder, name, run, (), 0, device, change, entry.get("replayed", {})))
    return units


def share(sizes: list[int]) -> int:
    """How many responses each of some runs gives at least, or all that it has, so that they certify one another."""
    return next((n for n in range(FEW, CERTIFIES) if sum(min(n, size) for size in sizes) >= TOGETHER), CERTIFIES)


def _chosen(units: list[Unit], count: int, shares: dict[tuple, int], seed: int) -> Iterator[Unit]:
    """The units of a folder with those of their lines that are decoded again; without what was done before."""
    stored = None
    for unit in units:
        if unit.change:
            wanted = max(count, shares[unit.kind])
        else:
            wanted, before = count, unit.before
            if before.get("seed") == seed and (before["responses"] >= count or "whole" in before):
                continue
        stored = stored or stored_lines(unit.folder)
        lines = stored[unit.name]
        chosen = Random(f"{seed}/{unit.name}").sample(lines, min(wanted, len(lines)))
        yield replace(unit, lines=tuple(chosen), total=len(lines))


def certify(found: list[tuple[Unit, Replay]], seed: int) -> None:
    """Note in the manifests that these runs, whose code is the same, were replayed without a difference.

    Code that changed is certified for a run by enough responses of its own, and for all by enough of them together.
    """
    together = sum(outcome.responses for _, outcome in found)
    enough = together >= TOGETHER and not any(outcome.differ for _, outcome in found)
    for unit, outcome in found:
        alone = outcome.responses >= min(CERTIFIES, unit.total)
        if not outcome.differ and (not unit.change or alone or enough):
            _note(unit, outcome, seed, {} if alone or not unit.change else {"together": together})


def _note(unit: Unit, found: Replay, seed: int, more: dict) -> None:
    path = unit.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = manifest["runs"].get(found.run)
    if entry is None or unit.change and entry["code"] != unit.change[0]:
        return  # noted before, or another result was published meanwhile
    entry["replayed"] = {"responses": found.responses, "ties": found.ties, "seed": seed} | more
    if found.responses == unit.total:
        entry["replayed"]["whole"] = True
    if unit.change:
        entry["code"] = unit.change[1]
    first = unit.before.get("code") or (unit.change and unit.change[0])
    if first:
        entry["replayed"]["code"] = first  # what decoded them
    write_whole(path, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    index.note(path)


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
    """Equal text and counters; a measure that is no count, such as a mean temperature, to its last digits. What was
    not measured then, and is now, says nothing of the response."""
    new = ADDED - then.keys()
    return all(_near(value, then.get(key)) for key, value in json.loads(json.dumps(now)).items() if key not in new)


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
