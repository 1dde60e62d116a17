"""Work to be killed: evaluations and trainings of tiny random models, and a publishing, each in a process of its own.

The processes are forked from one that has everything imported, so that a case takes a fraction of a second.
"""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib.decoding.family import Family
from lib.errors import exit_status
from lib.models.registry import MODELS, Entry, Model
from lib.models.study import SHAPES, build_tokenizer
from lib.reporting import publish as publishing
from lib.running import identity, one_batch
from lib.running.evaluation import run_all
from lib.running.run import Run
from lib.tasks import get_task
from lib.training.study import data, loop
from lib.training.study.recipe import RECIPES, Recipe

TASK = "country_sentences"
ITEMS = 24
REGISTERED = {"tiny": Entry("tiny", "study", "study-dlm", "tiny", "MIT")}
READY = "ready"  # a file that a victim writes when its work begins


@cache
def tiny_model() -> Model:
    """A two-layer network with random weights and a tokenizer of the task's own words."""
    texts = [text for item in get_task(TASK).items("test", ITEMS) for text in (item.prompt, item.target)]
    tokenizer = build_tokenizer(texts)
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    family = Family("tiny", eot_ids=(0,), mask_id=1, shift=True, wide_mask=True, chat=False)
    return Model("tiny", LlamaForCausalLM(config).eval(), tokenizer, family)


@contextmanager
def tiny_world(shown: bool = False) -> Iterator[None]:
    """The registry with a model `tiny`, and trainings of few small steps, in this process; progress bars are not
    shown unless `shown`."""
    few = data.examples
    with ExitStack() as changed:
        enter = changed.enter_context
        if not shown:
            enter(redirect_stderr(StringIO()))
        enter(patch.dict(MODELS, REGISTERED))
        real, described = one_batch.model_of, identity.describe
        family = tiny_model().family
        enter(patch.object(one_batch, "model_of", lambda n, d: tiny_model() if n == "tiny" else real(n, d)))
        tiny = (family, "tiny", "torch.float32")
        enter(patch.object(identity, "describe", lambda n, d: tiny if n == "tiny" else described(n, d)))
        small = SHAPES["draft"] | {"num_hidden_layers": 1, "hidden_size": 32}
        enter(patch.dict(SHAPES, {"6m": small}))
        enter(patch.object(loop, "SAVE_SECONDS", 0))
        enter(patch.object(loop, "examples", lambda t, n, *more, **given: few(t, min(n, 64), *more, **given)))
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def tiny_run(seed: int = 0) -> Run:
    with patch.dict(MODELS, REGISTERED):
        return Run.of("tiny", TASK, "vanilla", items=ITEMS, samples=2, canvas=12, steps=12, seed=seed)


def real_run() -> Run:
    """Of a committed model, for workers load models by name."""
    return Run.of("study-draft", TASK, "autoregressive", items=ITEMS, samples=4, max_new_tokens=12, temperature=1.0)


def recipe() -> Recipe:
    return replace(RECIPES["study-ar"], steps=40, batch_size=8, warmup=4, sequences=64)


@cache
def training_tokenizer():
    return build_tokenizer(data.texts(30))


def evaluate(folder: Path, run: Run, workers: int, batch_size: int) -> None:
    run_all([run], folder, workers=workers, batch_size=batch_size)


def train(folder: Path) -> None:
    loop.train(recipe(), training_tokenizer(), folder, load=None)


def publish_until(point: int, files: list[Path], target: Path, swaps: bool) -> None:
    """Publish and be gone before the `point`-th line of it is run."""
    count = points(files, target, swaps, point)
    raise RuntimeError(f"a publishing has {count} lines, not {point}")


def points(files: list[Path], target: Path, swaps: bool, end: int = 0) -> int:
    """How many lines a publishing runs, its own and those that move and remove files; ends this process at `end`."""
    places, count = (publishing.__file__, shutil.__file__), 0

    def step(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in places:
            return None
        if event == "line":
            count += 1
            if count == end:
                os.kill(os.getpid(), signal.SIGKILL)
        return step

    real = publishing.exchange if swaps else (lambda *_: False)
    before = sys.gettrace()
    with patch.object(publishing, "exchange", real):
        sys.settrace(step)
        try:
            publishing.publish(files, target, again=True)
        finally:
            sys.settrace(before)
    return count


def start(work: Callable, *given, words: Path | None = None) -> multiprocessing.Process:
    """`work(*given)` under `exit_status` in a process of its own, in the tiny world; what it says goes to `words`.

    The file READY beside `words` appears when the work begins.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lib.bench.reliability.prepared"])
    process = context.Process(target=_victim, args=(work, given, words))
    process.start()
    return process


def _victim(work: Callable, given: tuple, words: Path | None) -> None:
    if words is not None:
        os.dup2(os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)

    def command():
        if words is not None:
            words.with_name(READY).touch()
        work(*given)

    with tiny_world(shown=True):
        status = exit_status(command)
    sys.stderr.flush()
    os._exit(status)
