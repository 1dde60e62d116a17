"""Workers: they end with the process that started them, however it ends, and with the work that is given up."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest

from lib.errors import MachineError
from lib.paths import ROOT
from lib.running import workers

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
