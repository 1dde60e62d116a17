"""Kills: an evaluation, a training or a publishing ended at any moment loses nothing, doubles nothing, leaves nothing
alive, and the same work goes on to the same result."""

import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psutil
import torch

from lib.bench.reliability import victims
from lib.bench.reliability.case import Case
from lib.errors import STOPPED
from lib.paths import result_files
from lib.reporting import publish as publishing
from lib.running.committed import file_hashes
from lib.running.evaluation import run_all
from lib.running.lines import MEASURED, read_lines
from lib.running.run import Run

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EVALUATIONS, TRAININGS, WAITING = 12, 6, 4  # of each signal, of each signal, of all
LONGEST = 180.0  # seconds that anything here may take, with other work on the machine


def cases() -> Iterator[Case]:
    for number in SIGNALS:
        for i in range(EVALUATIONS):
            name = f"evaluation/{number.name}/{i}"
            yield Case(name, partial(_evaluation, name, number, workers=0))
        for i in range(2):
            name = f"evaluation-workers/{number.name}/{i}"
            yield Case(name, partial(_evaluation, name, number, workers=2))
        for i in range(TRAININGS):
            name = f"training/{number.name}/{i}"
            yield Case(name, partial(_training, name, number))
    for i in range(WAITING):
        name = f"evaluation-waiting/{i}"
        yield Case(name, partial(_waiting, name))
    for way in ("exchange", "two-steps"):
        for earlier in (True, False):
            for point in _chosen_points(way == "exchange", earlier):
                name = f"publishing/{way}/{'again' if earlier else 'first'}/{point}"
                yield Case(name, partial(_publishing, point, way == "exchange", earlier))


def _evaluation(name: str, number: int, folder: Path, workers: int) -> None:
    run = victims.real_run() if workers else victims.tiny_run()
    wanted, took = _whole(run)
    chance = Random(name)
    process = _started(folder, victims.evaluate, folder / "runs", run, workers, chance.choice([1, 2, 5]))
    if workers and name.endswith("1"):  # the other one is ended while its workers start
        _until(lambda: any((folder / "runs").glob("*.jsonl")), "no response was written")
        took = 0.2
    time.sleep(chance.uniform(0, took if took > 0.2 or not workers else 1.0))
    _end(process, number, folder)
    before = [line for path in (folder / "runs").glob("*.jsonl") for line in read_lines(path)]
    with victims.tiny_world():
        found = run_all([run], folder / "runs", workers=0)[run]
    assert _decoded(found) == wanted, "the resumed evaluation gave other responses"
    assert all(line in found for line in before), "a response that was written before the kill is lost"
    _each_once(folder / "runs", len(wanted))


def _waiting(name: str, folder: Path) -> None:
    """Of two evaluations of one run the one at work is killed: the other takes what is there and ends it."""
    run = victims.tiny_run()
    wanted, took = _whole(run)
    first = _started(folder / "first", victims.evaluate, folder / "runs", run, 0, 1)
    time.sleep(Random(name).uniform(0, took / 2))
    second = _started(folder / "second", victims.evaluate, folder / "runs", run, 0, 1)
    time.sleep(Random(name).uniform(0, took / 2))
    _end(first, signal.SIGKILL, folder / "first")
    second.join(LONGEST)
    assert second.exitcode == 0, f"the second process ended with {second.exitcode}"
    with victims.tiny_world():
        assert _decoded(run_all([run], folder / "runs", workers=0)[run]) == wanted, "other responses"
    _each_once(folder / "runs", len(wanted))


def _training(name: str, number: int, folder: Path) -> None:
    weights, curve, took = _trained()
    process = _started(folder, victims.train, folder / "training")
    time.sleep(Random(name).uniform(0, took))
    _end(process, number, folder)
    with victims.tiny_world():
        victims.train(folder / "training")
    found = torch.load(folder / "training/state.pt", weights_only=True)["model"]
    assert all(torch.equal(found[key], weights[key]) for key in weights), "the resumed training gave other weights"
    assert (folder / "training/curve.jsonl").read_text() == curve, "the resumed training has another curve"


def _publishing(point: int, swaps: bool, earlier: bool, folder: Path) -> None:
    target = folder / "results/night/one"
    old, new = (_result(folder / word, word) for word in ("old", "new"))
    if earlier:
        publishing.publish(old, target)
    before = _contents(target)
    wanted = _contents(folder / "new")
    process = victims.start(victims.publish_until, point, new, target, swaps, words=folder / "words")
    process.join(LONGEST)
    assert process.exitcode == -signal.SIGKILL, f"not killed at line {point}: {process.exitcode}"
    if swaps or target.exists():
        assert _contents(target) in (before, wanted), "a result is neither the earlier nor the new one"
    read = result_files("manifest.json", folder / "results")
    assert len(read) <= 1, "a leftover is read as a result"
    publishing.recover(target)
    assert not earlier or _contents(target) in (before, wanted), "the earlier result is lost"
    publishing.publish(_result(folder / "new", "new"), target, again=True)
    assert _contents(target) == wanted, "publishing again gave another result"
    assert [path.name for path in target.parent.iterdir()] == ["one"], "a leftover stays"


def _started(folder: Path, work: Callable, *given) -> object:
    """A victim whose work has begun."""
    folder.mkdir(parents=True, exist_ok=True)
    process = victims.start(work, *given, words=folder / "words")
    _until((folder / victims.READY).exists, "the work did not begin")
    return process


def _end(process, number: int, folder: Path) -> None:
    """Send the signal; the process and all that it started must be gone soon, and a signal that can be answered is
    answered by one line."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    if process.exitcode is None:
        os.kill(process.pid, number)
    process.join(LONGEST)
    _, alive = psutil.wait_procs(started, timeout=10)
    for left in alive:
        left.kill()
    assert not alive, f"{len(alive)} processes outlived the one that started them"
    if number == signal.SIGKILL:
        assert process.exitcode in (-number, 0), f"ended with {process.exitcode}"
        return
    said = (folder / "words").read_text().replace("\r", "\n")
    assert "Traceback" not in said, "a traceback was shown"
    assert process.exitcode in (128 + number, 0), f"ended with {process.exitcode}"
    assert process.exitcode == 0 or said.endswith(f"{STOPPED}\n"), "nothing was said of how to go on"


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + LONGEST
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.002)


@cache
def _whole(run: Run) -> tuple[list[dict], float]:
    """The responses of an evaluation that nobody disturbs, and its seconds."""
    with TemporaryDirectory() as folder, victims.tiny_world():
        victims.tiny_model()
        started = time.monotonic()
        lines = run_all([run], Path(folder), workers=0, batch_size=1)[run]
        return _decoded(lines), time.monotonic() - started


@cache
def _trained() -> tuple[dict, str, float]:
    """Weights, curve and seconds of a training that nobody disturbs."""
    with TemporaryDirectory() as name, victims.tiny_world():
        folder, started = Path(name), time.monotonic()
        victims.train(folder)
        took = time.monotonic() - started
        weights = torch.load(folder / "state.pt", weights_only=True)["model"]
        return weights, (folder / "curve.jsonl").read_text(), took


@cache
def _chosen_points(swaps: bool, earlier: bool) -> list[int]:
    """Every third line of a publishing."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        target = folder / "results/night/one"
        old, new = (_result(folder / word, word) for word in ("old", "new"))
        if earlier:
            publishing.publish(old, target)
        return list(range(1, victims.points(new, target, swaps) + 1, 3))


def _result(folder: Path, words: str) -> list[Path]:
    """The files of a small result, the same whenever they are made of the same words."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(folder / "items.jsonl.gz", "wb", mtime=0) as file:
        file.write(json.dumps({"run": "a", "text": words}).encode() + b"\n")
    (folder / "one.html").write_text(f"<p>{words}</p>")
    (folder / "summary.csv").write_text(f"name\n{words}\n")
    manifest = {"runs": {}, "parameters": {}, "sources": words, "files": file_hashes(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return sorted(folder.iterdir())


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def _decoded(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def _each_once(folder: Path, count: int) -> None:
    (path,) = folder.glob("*.jsonl")
    rows = [(line["item"], line["sample"]) for line in map(json.loads, path.read_bytes().splitlines())]
    assert len(rows) == len(set(rows)) == count, f"{len(rows)} lines of {count} responses"
