"""Work shared out over processes: this machine's cores, or a Ray cluster with ENGINE=ray (lib/engines/ray.py).

Workers never outlive the process that started them, however that ends: they hold a gigabyte each.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

import torch

from lib.engines.choice import chosen
from lib.errors import MachineError

PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent ends


def results(work: Callable, units: list, workers: int | None = None, device: str = "cpu") -> Iterator:
    """`work(unit)` of every unit, in the order in which they are done.

    `workers`: processes; by default a core each on a CPU, none on an accelerator. They are gone when the iterator
    ends, and at once when it is left early, by an error or a signal. Raises MachineError where one of them died.
    With Ray they are actors, which stay, with the models that they loaded, until this process ends.
    """
    if by_ray():
        from lib.engines import ray

        yield from ray.results(work, units, _start, device)
        return
    if workers is None:
        workers = default_workers(device)
    if not workers or workers <= 1 or len(units) <= 1:
        yield from map(work, units)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(workers, len(units)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_local
    )
    try:
        with _held(signal.SIGINT):
            futures = [pool.submit(work, unit) for unit in units]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise MachineError("a worker process died, as when memory runs out: the same command goes on") from error
    except BaseException:  # nobody waits for what is under way: a batch may take minutes
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def by_ray() -> bool:
    """Whether ENGINE has work done by a Ray cluster. Raises UserError for an engine that there is not."""
    return chosen().runner == "ray"


def default_workers(device: str) -> int:
    """Processes: a core each on a CPU; 0, this one, on an accelerator."""
    return (os.cpu_count() or 1) if device == "cpu" else 0


@contextmanager
def _held(number: int) -> Iterator[None]:
    """Put a signal off till the end; processes started inside begin with it held, for one that came while they import
    would leave a traceback of each."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start() -> None:
    torch.set_num_threads(1)  # two processes with two threads each fight for two cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C, in one line
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _start_local() -> None:
    _start()
    end_with_parent()


def end_with_parent() -> None:
    """End this process when the one that started it ends, even by SIGKILL; called in a child of multiprocessing."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    if sys.platform == "linux":  # the system sees to it, even while a computation keeps the thread above from running
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent.pid:  # it ended before the line above
            os._exit(1)


def _watch(sentinel: int) -> None:
    """Wait for the parent's end, which closes its end of a pipe, and end with it."""
    wait([sentinel])
    os._exit(1)
