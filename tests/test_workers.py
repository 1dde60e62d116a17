"""Workers: they end with the process that started them, however it ends, and with the work that is given up; a batch
that does not fit goes in halves; Ray's actors may die."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from importlib.util import find_spec
from types import SimpleNamespace

import psutil
import pytest
import torch

from lib.engines import ray as by_ray
from lib.errors import MachineError, UserError
from lib.models.registry import CHECKPOINTS
from lib.paths import ROOT
from lib.running import evaluation, memory, one_batch, workers
from lib.running.evaluation import run_all
from lib.running.lines import MEASURED
from lib.running.run import Run

PARENT = """
import time
from lib.errors import exit_status
from lib.running.workers import results

def command():
    for _ in results(time.sleep, [0, 600, 600, 600], workers=2):
        print("one done", flush=True)

if __name__ == "__main__":
    raise SystemExit(exit_status(command))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, number):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script], env=environment, start_new_session=True, **pipes)
    assert parent.stdout.readline() == "one done\n", parent.stderr.read()
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len([child for child in children if "spawn_main" in " ".join(child.cmdline())]) == 2
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as Ctrl-C does: to the workers too
    else:
        os.kill(parent.pid, number)
    status = parent.wait(20)
    _, alive = psutil.wait_procs(children, timeout=10)
    for process in alive:
        process.kill()
    assert not alive, "workers outlived their parent"
    said = parent.stderr.read()
    if number != signal.SIGKILL:
        assert (status, said) == (128 + number, "stopped; the same command goes on from here\n")


def test_work_that_is_given_up_ends_its_workers_at_once():
    before = set(multiprocessing.active_children())
    started = time.monotonic()
    with closing(workers.results(time.sleep, [0, 600, 600], workers=2)) as found:
        next(found)
    assert set(multiprocessing.active_children()) == before and time.monotonic() - started < 60


def test_a_worker_that_dies_is_the_machines_error():
    with pytest.raises(MachineError, match="a worker process died"):
        list(workers.results(os._exit, [1, 1], workers=2))


def test_a_process_that_watches_ends_when_the_other_end_closes():
    """What ends a worker where there is no prctl."""
    heard, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        workers._watch(heard)
    os.close(heard)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.close(held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def _pid(seconds):
    time.sleep(seconds)
    return os.getpid()


def _fail(words):
    raise UserError(words)


RUN = ("study-ar", "country_facts", "autoregressive")
needs_study = pytest.mark.skipif(
    not (CHECKPOINTS / "study-ar" / "model.safetensors").exists(), reason="no committed checkpoint"
)
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra `ray`")


def decoded(lines):
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


@pytest.fixture
def full(monkeypatch):
    """Makes the memory of a GPU end at so many rows; gives the sizes that were tried."""
    tried, real = [], one_batch.responses
    monkeypatch.setattr(memory, "_FITTED", {})

    def at(most):
        def responses(run, items, samples, device="cpu"):
            tried.append(len(items))
            if len(items) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return real(run, items, samples, device)

        monkeypatch.setattr(one_batch, "responses", responses)
        return tried

    return at


@pytest.mark.slow
@needs_study
def test_a_batch_that_does_not_fit_is_halved_and_the_answers_are_the_same(tmp_path, full):
    run = Run.of(*RUN, items=12, samples=2, temperature=1.0, max_new_tokens=6)
    whole = run_all([run], tmp_path / "whole", workers=0, batch_size=12)[run]
    tried = full(3)
    halved = run_all([run], tmp_path / "halved", workers=0, batch_size=12)[run]
    assert decoded(halved) == decoded(whole) and len(halved) == 24
    assert tried == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3], "what was learnt holds for the next batch"


@needs_study
def test_one_response_that_does_not_fit_is_the_machines_error_and_what_was_written_stays(tmp_path, full):
    run = Run.of(*RUN, items=4, max_new_tokens=6)
    run_all([run], tmp_path, workers=0, shard=(0, 2))
    full(0)
    with pytest.raises(MachineError, match="one response alone does not fit.*MODEL_BITS=8"):
        run_all([run], tmp_path, workers=0)
    assert sum(len(path.read_text().splitlines()) for path in tmp_path.glob("*.jsonl")) == 2


class Memory:
    """The counters of an accelerator of 1,000 bytes, 200 of them in use, on which a row takes 50."""

    def __init__(self, monkeypatch):
        self.peak = 200
        for name, value in {
            "reset_peak_memory_stats": lambda device: None,
            "memory_allocated": lambda device: 200,
            "memory_reserved": lambda device: 300,
            "max_memory_allocated": lambda device: self.peak,
            "mem_get_info": lambda device: (600, 1000),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


def test_rows_that_fit_are_those_that_were_measured(monkeypatch):
    cuda = Memory(monkeypatch)
    with memory.measured(2, ["cuda"]) as room:
        cuda.peak = 300
    assert room.fits == int(0.8 * (600 + 100) / 50)
    with memory.measured(2, ["cpu"]) as room:
        cuda.peak = 300
    assert room.fits is None


def test_a_batch_that_went_in_halves_measures_nothing(monkeypatch):
    cuda = Memory(monkeypatch)
    monkeypatch.setattr(memory, "_FITTED", {"what": 2})
    for rows, fits in ((4, None), (2, int(0.8 * 700 / 100))):
        cuda.peak = 200
        with memory.measured(rows, ["cuda"], "what") as room:
            cuda.peak = 400
        assert room.fits == fits, rows


def test_the_tightest_of_several_gpus_says_what_fits(monkeypatch):
    cuda = Memory(monkeypatch)
    shared = SimpleNamespace(hf_device_map={"model.embed": 0, "model.layers.1": 1, "lm_head": "cpu"})
    assert memory.devices_of(shared, "cuda") == ["cuda:0", "cuda:1"]
    assert memory.devices_of(SimpleNamespace(), "cuda") == ["cuda"]
    assert memory.devices_of(SimpleNamespace(hf_device_map={"": "cpu"}), "cpu") == ["cpu"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ({"cuda:0": 600, "cuda:1": 100}[device], 1000))
    with memory.measured(2, ["cuda:0", "cuda:1"]) as room:
        cuda.peak = 300
    assert room.fits == int(0.8 * (100 + 100) / 50)
    config = SimpleNamespace(hidden_size=1, num_attention_heads=1, num_hidden_layers=1, vocab_size=1)
    config.get_text_config = lambda: config
    family = SimpleNamespace(mask_id=None)

    def size(place):
        network = SimpleNamespace(config=config, hf_device_map={"": place})
        return memory.batch_size(SimpleNamespace(network=network, family=family), 1, 1, "cuda")

    a_row = memory.bytes_a_row(config, False, 1, 1)
    monkeypatch.setattr(memory, "free", lambda device: {"cuda:0": 100, "cuda:1": 20}[device] * a_row)
    assert (size(0), size(1)) == (40, 8)


def test_memory_that_ends_inside_cublas_is_halved_too(monkeypatch):
    monkeypatch.setattr(memory, "_FITTED", {})

    def work(words):
        def decode(rows):
            if len(rows) > 2:
                raise RuntimeError(words)
            return rows

        return memory.in_halves(decode, [1, 2, 3, 4, 5], words)

    assert work("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`") == [1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError, match="illegal memory access"):
        work("CUDA error: an illegal memory access was encountered")


@needs_study
def test_a_model_is_loaded_before_a_batch_is_measured(monkeypatch):
    seen = []

    @contextmanager
    def measured(rows, devices, what):
        seen.append("measured")
        yield memory.Measured()

    real = one_batch.model_of
    monkeypatch.setattr(one_batch, "model_of", lambda name, device: seen.append(name) or real(name, device))
    monkeypatch.setattr(evaluation, "room_measured", measured)
    run = Run.of("study-ar", "country_facts", "speculative", items=1, draft="study-draft", max_new_tokens=2)
    evaluation._work((run, [(0, 0)], "cpu"))
    assert seen[:3] == ["study-ar", "study-draft", "measured"]


@needs_study
def test_the_first_batch_of_a_run_measures_for_the_others(tmp_path, monkeypatch):
    """With the sizes of an accelerator, on a CPU."""
    sizes = []

    def work(unit):
        run, rows, device = unit
        sizes.append(len(rows))
        return run, one_batch.decode_rows(run, rows), 7

    run = Run.of(*RUN, items=20, max_new_tokens=6)
    monkeypatch.setattr(evaluation, "_work", work)
    todo = [(run, [(i, 0) for i in range(20)])]
    found = [lines for _, lines in evaluation._decoded(todo, {run: 3}, "cuda", 0, None)]
    assert sizes == [3, 7, 7, 3] and sum(map(len, found)) == 20
    assert len({line["item"] for lines in found for line in lines}) == 20


def test_ray_that_is_missing_names_its_cure(monkeypatch):
    monkeypatch.setenv("ENGINE", "ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(by_ray, "_POOLS", {})
    with pytest.raises(UserError, match="ENGINE=ray needs Ray: .*make env ENGINE=ray"):
        list(workers.results(abs, [1]))
    monkeypatch.setattr(sys, "prefix", "/here/.venv-vllm")
    with pytest.raises(UserError, match="`make env-vllm` puts it into /here/.venv-vllm"):
        list(workers.results(abs, [1]))


def test_ray_gives_out_gpus_itself(monkeypatch):
    monkeypatch.setenv("ENGINE", "ray")
    with pytest.raises(UserError, match="set device to 'cuda', not 'cuda:1'"):
        list(workers.results(abs, [1], device="cuda:1"))
    monkeypatch.setenv("MODEL_PLACE", "auto")
    with pytest.raises(UserError, match="MODEL_PLACE is for several GPUs.*leave one of them out"):
        list(workers.results(abs, [1], device="cuda"))


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, with two cores; it is ended when the tests are done."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE", "ray")
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))
        yield by_ray
        by_ray.close()


def actors() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.name().startswith("ray::Worker")]


@needs_ray
@needs_study
def test_two_actors_give_the_bytes_of_one_process_though_one_is_killed(tmp_path, cluster, monkeypatch):
    run = Run.of(*RUN, items=40, samples=2, temperature=1.0, max_new_tokens=8)
    with monkeypatch.context() as serial:
        serial.delenv("ENGINE")
        torch.set_num_threads(1)
        alone = run_all([run], tmp_path / "alone", workers=0, batch_size=4)[run]
    folder, killed = tmp_path / "ray", []

    def kill():
        """One of two actors, once some lines are there."""
        until = time.monotonic() + 120
        while time.monotonic() < until and not killed:
            lines = sum(path.read_text().count("\n") for path in folder.glob("*.jsonl"))
            found = actors()
            if lines >= 8 and len(found) > 1:
                found[0].kill()
                killed.append(found[0].pid)
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    shared = run_all([run], folder, batch_size=4)[run]
    thread.join()
    assert killed and decoded(shared) == decoded(alone)
    path = next(folder.glob("*.jsonl"))
    assert len(path.read_text().splitlines()) == 80, "each row once, by one writer"


@needs_ray
def test_actors_stay_for_later_work_and_say_what_the_work_raised(cluster):
    first = {pid for pid in workers.results(_pid, [0.2, 0.2])}
    assert set(workers.results(_pid, [0.0] * 4)) <= {process.pid for process in actors()}
    assert first <= {process.pid for process in actors()}
    with pytest.raises(UserError, match="^of the work$"):
        list(workers.results(_fail, ["of the work"]))


@needs_ray
def test_a_unit_that_kills_its_actors_is_the_machines_error(cluster):
    with pytest.raises(MachineError, match="ended 3 Ray actors"):
        list(workers.results(os._exit, [1]))
    assert list(workers.results(abs, [-1])) == [1], "the next work finds actors"


def _said(name):
    return os.environ.get(name)


@needs_ray
def test_an_actor_has_the_settings_of_today(cluster, monkeypatch):
    for value in ("llada-8b=main", "llada-8b=other", None):
        monkeypatch.delenv("HUB_REVISION", raising=False)
        if value:
            monkeypatch.setenv("HUB_REVISION", value)
        assert list(workers.results(_said, ["HUB_REVISION"])) == [value]


def _ends():
    raise OSError("no such folder here")


@needs_ray
def test_actors_that_cannot_start_are_the_machines_error(cluster):
    with pytest.raises(MachineError, match="3 Ray actors ended while they started .*no such folder here"):
        list(cluster.results(abs, [1], _ends))


@needs_ray
def test_an_idle_actor_that_died_is_no_try_of_a_unit(cluster, monkeypatch):
    monkeypatch.setattr(by_ray, "TRIES", 1)
    for _ in range(2):
        assert list(workers.results(abs, [-1])) == [1]
        for process in actors():
            process.kill()
