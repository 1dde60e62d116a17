"""Bad input: a file, a parameter, an environment variable, an argument; each must end in one line that names it."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from unittest.mock import patch

from lib.bench.reliability.bad_files import damaged
from lib.bench.reliability.bad_profiles import BROKEN, NOTEBOOK, OTHERS, WRONG
from lib.bench.reliability.bad_rows import BAD, FILES, GOOD, NULL
from lib.bench.reliability.case import Case
from lib.errors import UserError
from lib.paths import NOTEBOOKS

LONGEST = 2000  # characters of the line: where names are listed, all of them stand in it


def cases() -> Iterator[Case]:
    for name, raw, words in BROKEN + WRONG:
        yield Case(f"profile/{name}", partial(_profile, NOTEBOOK, raw, words))
    for name, notebook, raw, words in OTHERS:
        yield Case(f"profile/{name}", partial(_profile, notebook, raw, words))
    for name, task, change, words in BAD:
        yield Case(f"rows/{name}", partial(_row, task, change, words))
    for name, task, file in (("a-repeated-id", "humaneval", "task_id"), ("a-repeated-key", "ifeval", "key")):
        yield Case(f"rows/{name}", partial(_repeated, task, file))
    for name, call, words in damaged():
        yield Case(f"files/{name}", lambda folder, call=call, words=words: in_one_line(partial(call, folder), words))
    for name, values, words in ENVIRONMENT:
        yield Case(f"environment/{name}", partial(_environment, values, words))
    for name, arguments, words in ARGUMENTS:
        yield Case(f"arguments/{name}", partial(_arguments, arguments, words))
    for name, cell, words in CELLS:
        yield Case(f"papermill/{name}", partial(_cell, cell, words))


def in_one_line(call: Callable[[], object], words: tuple[str, ...]) -> None:
    """AssertionError unless `call` raises a UserError of one line that holds all of `words`."""
    try:
        call()
    except UserError as error:
        _require_line(str(error), words)
    else:
        raise AssertionError("taken without a word")


def _require_line(line: str, words: tuple[str, ...]) -> None:
    assert "\n" not in line and len(line) <= LONGEST, f"no line that can be read: {line[:200]!r}"
    for word in words:
        assert word in line, f"does not say {word!r}: {line[:200]}"


def _profile(notebook: str, raw: bytes, words: tuple[str, ...], folder: Path) -> None:
    """As `reproduce` reads a profile, up to the first run."""
    from lib.models.registry import entry_of
    from lib.reporting.render import parameters
    from lib.studies import study_of

    (folder / "mine.yaml").write_bytes(raw)

    def read():
        study = study_of(notebook).of(parameters(NOTEBOOKS / f"{notebook}.ipynb", "mine", folder))
        study.require_device()
        for run in study.runs().values():
            entry_of(run.model), entry_of(run.draft or run.model)

    in_one_line(read, words)


def _row(task: str, change: dict | bytes, words: tuple[str, ...], folder: Path) -> None:
    raw = change
    if isinstance(change, dict):
        row = {k: v for k, v in (GOOD[task] | change).items() if v is not None}
        raw = json.dumps(row, default=lambda value: None).encode() + b"\n"
    (folder / FILES[task]).write_bytes(raw)
    with _data(folder):
        in_one_line(partial(_items, task), (FILES[task], *words))


def _repeated(task: str, field: str, folder: Path) -> None:
    (folder / FILES[task]).write_text(f"{json.dumps(GOOD[task])}\n" * 2)
    with _data(folder):
        in_one_line(partial(_items, task), (FILES[task], "line 2", field, "line 1"))


def _items(task: str) -> None:
    from lib.tasks import get_task

    get_task(task).items("test")


@contextmanager
def _data(folder: Path) -> Iterator[None]:
    """The folder as DATA_DIR, beside Spider's own schemas."""
    from lib.tasks import spider

    assert NULL is not None  # what json.dumps writes as null
    spider.schemas.cache_clear()
    spider.schemas()
    with patch.dict("os.environ", DATA_DIR=str(folder)):
        yield


def _environment(values: dict[str, str], words: tuple[str, ...], folder: Path) -> None:
    import os

    import torch

    from lib.__main__ import _part
    from lib.decoding.compiled import wanted
    from lib.models import smollm2
    from lib.running.workers import results
    from lib.tasks.gsm8k import TASK
    from lib.tasks.sandbox import require_consent

    blocked = folder / "file"
    blocked.write_text("")
    values = {name: value.format(folder=folder, file=blocked) for name, value in values.items()}
    calls = {
        "SHARD": lambda: _part(os.environ["SHARD"]),
        "ENGINE": lambda: list(results(str, [1])),
        "DECODING_COMPILE": lambda: wanted(torch.device("cpu")),
        "DATA_DIR": lambda: TASK.items("test"),
        "ALLOW_CODE_EXECUTION": require_consent,
        "DECODING_STUDY_CACHE": lambda: smollm2.load_smollm2(torch.float32),
    }
    ((name, value),) = values.items()
    with patch.dict("os.environ", values), patch.object(smollm2, "CACHE", Path(value)):
        in_one_line(calls[name], words)


ENVIRONMENT = [
    ("a-shard-without-parts", {"SHARD": "4"}, ("SHARD must be like 0/4", "'4'")),
    ("a-shard-behind-the-last", {"SHARD": "4/4"}, ("SHARD must be like 0/4",)),
    ("a-negative-shard", {"SHARD": "-1/4"}, ("SHARD must be like 0/4",)),
    ("shards-of-none", {"SHARD": "0/0"}, ("SHARD must be like 0/4",)),
    ("a-shard-in-words", {"SHARD": "one of four"}, ("SHARD must be like 0/4",)),
    ("an-unknown-engine", {"ENGINE": "dask"}, ("ENGINE must be local or ray", "'dask'")),
    ("compile-yes", {"DECODING_COMPILE": "yes"}, ("DECODING_COMPILE must be", "'yes'")),
    ("no-data-folder", {"DATA_DIR": "{folder}/none"}, ("no file", "gsm8k_test.jsonl", "unset DATA_DIR")),
    ("a-data-folder-that-is-a-file", {"DATA_DIR": "{file}"}, ("no file", "gsm8k_test.jsonl", "unset DATA_DIR")),
    ("an-empty-data-folder", {"DATA_DIR": "{folder}"}, ("no file", "gsm8k_test.jsonl", "unset DATA_DIR")),
    ("no-consent", {"ALLOW_CODE_EXECUTION": "0"}, ("set ALLOW_CODE_EXECUTION=1",)),
    ("consent-in-words", {"ALLOW_CODE_EXECUTION": "yes"}, ("set ALLOW_CODE_EXECUTION=1",)),
    ("a-cache-that-is-a-file", {"DECODING_STUDY_CACHE": "{file}"}, ("DECODING_STUDY_CACHE", "cannot be written")),
]


def _arguments(arguments: list[str], words: tuple[str, ...], folder: Path) -> None:
    """As the shell sees it: a status that is not 0, and a last line on stderr that says why."""
    module, *rest = arguments
    main = {"lib": _main("lib.__main__")}.get(module) or _main(f"lib.training.{module}.__main__")
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            status = main(rest)
        except SystemExit as stop:  # argparse says how the command is used before its own line
            status = stop.code
    assert status, "status 0"
    last = said.getvalue().strip().splitlines()[-1]
    assert "error: " in last, f"no error line: {last[:200]}"
    _require_line(last, words)


def _main(module: str) -> Callable:
    from importlib import import_module

    return import_module(module).main


ARGUMENTS = [
    ("no-command", ["lib"], ("required: command",)),
    ("an-unknown-command", ["lib", "reprodcue"], ("'reprodcue'", "reproduce")),
    ("an-unknown-flag", ["lib", "reproduce", "--profil3", "smoke"], ("--profil3",)),
    ("a-flag-without-value", ["lib", "reproduce", "--profile"], ("--profile",)),
    ("an-unknown-profile", ["lib", "reproduce", "--profile", "smok", "--notebook", NOTEBOOK], ("'smok'", "smoke")),
    ("an-empty-profile", ["lib", "reproduce", "--profile", "", "--notebook", NOTEBOOK], ("profile ''", "smoke")),
    ("a-profile-with-a-path", ["lib", "render", "--profile", "../smoke", "--notebook", NOTEBOOK], ("'../smoke'",)),
    ("an-unknown-notebook", ["lib", "reproduce", "--notebook", "20"], ("'20'", NOTEBOOK)),
    ("a-notebook-with-its-ending", ["lib", "render", "--notebook", f"{NOTEBOOK}.ipynb"], (".ipynb'", NOTEBOOK)),
    ("replays-of-text", ["lib", "check", "--replay", "some"], ("--replay", "'some'")),
    ("half-a-replay", ["lib", "check", "--replay", "1.5"], ("--replay", "'1.5'")),
    ("a-seed-of-text", ["lib", "check", "--seed", "x"], ("--seed", "'x'")),
    ("rounds-of-text", ["lib", "bench", "--rounds", "x"], ("--rounds", "'x'")),
    ("an-unknown-recipe", ["study", "study-xl"], ("'study-xl'", "study-ar")),
    ("an-unknown-recipe-of-heads", ["autodeco", "heads"], ("'heads'", "study-ar-autodeco")),
    ("an-unknown-draft", ["mtad", "draft"], ("'draft'", "smollm2-draft")),
    ("an-unknown-flag-of-training", ["study", "--steps", "3"], ("--steps",)),
]


def _cell(cell: str, words: tuple[str, ...], folder: Path) -> None:
    """A notebook's names after papermill put in a cell."""
    from lib.studies import study_of

    names = {"items": 2, "tasks": ["qa"], "In": ["", "items = 2", f"# Parameters\n{cell}\n"]}
    exec(cell, names)  # noqa: S102  as the kernel does
    in_one_line(lambda: study_of(NOTEBOOK).of_cell(names), words)


CELLS = [
    ("a-misspelt-parameter", "itms = 3", ("'itms'", "it has")),
    ("a-list-as-text", 'tasks = "[math500]"', ("tasks must be a list", "[ ]")),
    ("a-number-as-text", 'items = "3"', ("items must be a whole number",)),
    ("a-truth-as-text", 'reuse = "False"', ("reuse must be true or false",)),
    ("an-empty-list", "tasks = []", ("tasks must name one at least",)),
    ("no-items", "items = 0", ("items must be 1 or more",)),
]
