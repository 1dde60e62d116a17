"""Mistakes at the command line: one line that names the cure, a non-zero exit, nothing in results/ touched."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FunctionType

import pytest
import torch
import yaml
from conftest import SHIFTED, tiny
from safetensors.torch import save_file

import lib.reporting.check  # noqa: F401  modules imported later would keep the test's paths
from lib.__main__ import chosen, main
from lib.decoders import DECODERS
from lib.errors import MachineError, exit_status
from lib.models.registry import MODELS, Model
from lib.models.study import build_tokenizer
from lib.paths import ROOT
from lib.running import identity, one_batch
from lib.running.run import Run
from lib.studies import HEADLINE_NOTEBOOKS, STUDIES, study_of
from lib.tasks import TASKS

TABLE = "20_tolerator_scores"
for name in STUDIES:
    study_of(name)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A repository in tmp_path as the library sees it: the real notebooks and profiles, other results."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    for path in ("results/headline.json", f"results/smoke/{TABLE}/{TABLE}.html"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"earlier\r\n")
    move_library(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")
    for cached in (one_batch.model_of, identity.items_of):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (one_batch.model_of, identity.items_of):
        cached.cache_clear()


def move_library(root: Path, monkeypatch):
    """Every path of the library under ROOT, as a constant or as a default argument, goes to `root`."""

    def moved(value):
        return root / value.relative_to(ROOT) if isinstance(value, Path) and value.is_relative_to(ROOT) else value

    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "lib"]:
        for name, value in list(vars(module).items()):
            if isinstance(value, Path):
                monkeypatch.setattr(module, name, moved(value))
            if isinstance(value, FunctionType) and value.__defaults__:
                monkeypatch.setattr(value, "__defaults__", tuple(map(moved, value.__defaults__)))


def settings(site, name=TABLE, **values):
    """Write the profile `mine` with these parameters of one notebook."""
    values = {"items": 2, "samples": 1} | values
    (site / "notebooks/params/mine.yaml").write_text(yaml.safe_dump({name: values}))


def tiny_model(monkeypatch):
    """A random model for every name, where the mistake lies behind the loading of one."""
    tokenizer = build_tokenizer(["a b"])
    model = Model("tiny", tiny(vocabulary=len(tokenizer)), tokenizer, SHIFTED)
    monkeypatch.setattr(one_batch, "model_of", lambda name, device: model)
    monkeypatch.setattr(identity, "describe", lambda name, device: (SHIFTED, "fingerprint", "torch.float32"))


def results(site):
    return {path: path.read_bytes() for path in (site / "results").rglob("*") if path.is_file()}


@pytest.fixture
def refused(site, capsys):
    """Run the command line; returns its one error line after the checks that every mistake shares."""

    def run(*arguments):
        before = results(site)
        assert before
        code = main(list(arguments))
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if " at profile " not in line or line.startswith("error")]
        assert code == 1, err
        assert len(lines) == 1 and lines[0].startswith("error: "), err
        assert "Traceback" not in out + err
        assert results(site) == before
        return lines[0]

    return run


def reproduce(profile="mine", notebook=TABLE):
    return ("reproduce", "--profile", profile, "--notebook", notebook)


def test_unknown_profile(refused):
    line = refused(*reproduce("smok"))
    assert "'smok'" in line and "gpu, laptop, night, paper, smoke" in line


def test_unknown_notebook(refused):
    line = refused(*reproduce("smoke", "20_tolerator"))
    assert "'20_tolerator'" in line and ", ".join(STUDIES) in line


@pytest.mark.parametrize("arguments", [["reproduce", "--profil3", "smoke"], ["reprodcue"], []])
def test_unknown_flag_and_command(site, capsys, arguments):
    before = results(site)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "usage: python -m lib" in capsys.readouterr().err
    assert results(site) == before


def test_unknown_parameter(site, refused):
    settings(site, itms=3)
    line = refused(*reproduce())
    assert "'itms'" in line and "it has: items, samples" in line


def test_unknown_section(site, refused):
    settings(site, "20_tolerator")
    line = refused(*reproduce())
    assert "'20_tolerator'" in line and ", ".join(STUDIES) in line


@pytest.mark.parametrize("text", ["{items: 3", "- items", f"{TABLE}: 3", f"{TABLE}:\n\titems: 3"])
def test_broken_profile(site, refused, text):
    path = site / "notebooks/params/mine.yaml"
    path.write_text(text)
    assert str(path) in refused(*reproduce())


@pytest.mark.parametrize("name, value", [("items", 0), ("samples", -1), ("items", "many"), ("items", 2.5)])
def test_sizes(site, refused, name, value):
    settings(site, **{name: value})
    line = refused(*reproduce())
    assert f"{name} must be" in line and str(value) in line


def test_cuda_without_a_gpu(site, refused):
    settings(site, device="cuda")
    line = refused(*reproduce())
    assert "'cuda'" in line and "set it to 'cpu'" in line


def test_unknown_device(site, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings(site, device="gpu")
    line = refused(*reproduce())
    assert "'gpu'" in line and "'cuda'" in line


def test_unknown_task(site, refused):
    settings(site, tasks=["math", "cooking"])
    line = refused(*reproduce())
    assert "'cooking'" in line and ", ".join(TASKS) in line


def test_one_task_without_brackets(site, refused):
    """Its letters are no tasks: a message about a task 'm' would help nobody."""
    settings(site, tasks="math")
    line = refused(*reproduce())
    assert "tasks must be" in line and "'math'" in line


@pytest.mark.parametrize("parameter", ["model", "reference"])
def test_unknown_model(site, refused, parameter):
    settings(site, **{parameter: "study-dml"})
    line = refused(*reproduce())
    assert "'study-dml'" in line and ", ".join(MODELS) in line


@pytest.mark.parametrize("parameter, value", [("tasks", ["mistake"]), ("model", "mistake")])
def test_no_notebook_is_started_where_a_later_one_has_a_mistake(site, refused, monkeypatch, parameter, value):
    assert list(STUDIES).index(TABLE) > 0
    settings(site, **{parameter: value})
    tiny_model(monkeypatch)
    monkeypatch.setattr("lib.studies.base.run_all", lambda *_, **__: pytest.fail("an earlier notebook was started"))
    assert "'mistake'" in refused(*reproduce(notebook="all"))


def test_missing_checkpoint(refused):
    line = refused(*reproduce("smoke"))
    assert "study-ar/model.safetensors" in line and "git checkout" in line and "make train" in line


@pytest.fixture
def checkpoints(site):
    """A whole checkpoint of a tiny network in the place of study-ar's, and the real tokenizer."""
    folder = site / "results/checkpoints"
    shutil.copytree(ROOT / "results/checkpoints/tokenizer", folder / "tokenizer")
    network = tiny()
    network.config.save_pretrained(folder / "study-ar")
    save_file(network.state_dict(), folder / "study-ar/model.safetensors")
    return folder


def test_a_whole_checkpoint_is_read(checkpoints, refused):
    """The ground of the next test: this one is fine, and the first complaint is about the next model."""
    assert "study-dlm/model.safetensors" in refused(*reproduce("smoke"))


WEIGHTS, CONFIG, TOKENIZER = "study-ar/model.safetensors", "study-ar/config.json", "tokenizer/tokenizer.json"


@pytest.mark.parametrize(
    "file, damage",
    [
        (WEIGHTS, lambda raw: raw[:-100]),
        (WEIGHTS, lambda raw: b""),
        (CONFIG, lambda raw: raw[:-10]),
        (CONFIG, lambda raw: json.dumps(json.loads(raw) | {"hidden_size": 64}).encode()),
        (CONFIG, lambda raw: json.dumps(json.loads(raw) | {"num_hidden_layers": 3}).encode()),
        (CONFIG, None),
        (TOKENIZER, lambda raw: raw[:-10]),
        (TOKENIZER, None),
    ],
    ids=["cut", "empty", "config-cut", "other-sizes", "a-layer-more", "no-config", "tokenizer-cut", "no-tokenizer"],
)
def test_corrupt_checkpoint(checkpoints, refused, monkeypatch, file, damage):
    shutil.copytree(checkpoints / "study-ar", checkpoints / "study-dlm")
    path = checkpoints / file
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    if (file, damage) == (CONFIG, None):  # the default network has seven billion parameters: this machine is gone
        monkeypatch.setattr("transformers.LlamaForCausalLM.__init__", lambda *_: pytest.fail("built without config"))
    line = refused(*reproduce("smoke"))
    assert str(path.parent) in line and "git checkout" in line and "make train" in line


def test_data_folder_without_the_file(site, refused, monkeypatch):
    settings(site, tasks=["gsm8k"])
    monkeypatch.setenv("DATA_DIR", str(site / "data"))
    tiny_model(monkeypatch)
    line = refused(*reproduce())
    assert str(site / "data/gsm8k_test.jsonl") in line and "unset DATA_DIR" in line


@pytest.mark.parametrize(
    "method, options, words",
    [
        ("tolerator", {"rho": 1.0}, "Tolerator.rho must be in (0, 1), not 1.0"),
        ("tolerator", {"rho": 0}, "Tolerator.rho must be in (0, 1), not 0"),
        ("tolerator", {"forwards": 1}, "Tolerator.forwards must be 2 or more"),
        ("tolerator", {"steps": 8}, "no option 'steps'; it has canvas, forwards, rho"),
        ("vanilla", {"steps": 33, "canvas": 32}, "Vanilla.steps must be from 1 to the canvas length, 32, not 33"),
        ("tolerater", {}, f"no method 'tolerater'; known: {', '.join(DECODERS)}"),
    ],
)
def test_options_out_of_range(site, refused, monkeypatch, method, options, words):
    """As from a study that asks for them: no profile sets a decoder's options."""
    monkeypatch.setattr(
        study_of(TABLE), "runs", lambda self: {0: Run.of("study-dlm", "country_facts", method, items=1, **options)}
    )
    assert words in refused(*reproduce("smoke"))


@pytest.mark.slow
def test_exit_status_of_the_process():
    """As `make` calls it: nothing but the one line is printed, and the shell sees the failure."""
    command = [sys.executable, "-W", "ignore", "-m", "lib", *reproduce("smok")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: unknown profile 'smok'; there are: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error, words",
    [
        (
            OSError(errno.ENOSPC, "full", "build/runs/a.jsonl"),
            "build/runs/a.jsonl: No space left on device: make room",
        ),
        (PermissionError(errno.EACCES, "no", "results"), "results: Permission denied: give this user the right"),
        (OSError(errno.EROFS, "no", "results"), "results: Read-only file system: give"),
        (OSError(errno.ENOMEM, "no"), "memory ran out"),
        (MemoryError("std::bad_alloc"), "memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory ran out"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory ran out"),
        (MachineError("a worker process died"), "a worker process died"),
    ],
)
def test_what_the_machine_lacks_is_one_line_and_status_2(capsys, error, words):
    def fails():
        raise error

    def caused():
        raise RuntimeError("could not go on") from error

    for command in (fails, caused) if not isinstance(error, MachineError) else (fails,):
        assert exit_status(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {words}") and said.count("\n") == 1


def test_an_error_of_the_code_keeps_its_traceback():
    for error in (ValueError("a bug"), FileNotFoundError(errno.ENOENT, "no", "a file")):
        with pytest.raises(type(error)):
            exit_status(lambda error=error: (_ for _ in ()).throw(error))


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_command_with_one_line(capsys, number, status):
    before, ended = signal.getsignal(number), []

    def command():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            ended.append(True)

    assert exit_status(command) == status and ended
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
    assert signal.getsignal(number) == before


def test_a_signal_that_the_user_turned_off_stays_off():
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert exit_status(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("shard", ["4", "4/4", "a/b", "0/0"])
def test_bad_shard(site, refused, monkeypatch, shard):
    settings(site)
    tiny_model(monkeypatch)
    monkeypatch.setenv("SHARD", shard)
    assert "SHARD must be like 0/4" in refused(*reproduce())


def test_which_notebooks_a_command_means(tmp_path):
    def names(*given):
        found = chosen("laptop", *given)
        assert all(name == notebook for name, notebook in found.items())
        return list(found)

    assert names("") == list(HEADLINE_NOTEBOOKS) and set(HEADLINE_NOTEBOOKS) < set(STUDIES)
    assert names("all") == names("all", "", tmp_path) == list(STUDIES)
    assert names("10_autodeco_scores", "", tmp_path) == ["10_autodeco_scores"]
    (tmp_path / "12_autodeco_sweep").mkdir()
    assert names("", "", tmp_path) == ["12_autodeco_sweep"], "what was rendered is rendered again"
