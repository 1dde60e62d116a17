"""Work shared out over processes: this machine's cores, or a Ray cluster with ENGINE=ray."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from lib.errors import UserError


def results(work: Callable, units: list, workers: int | None = None, device: str = "cpu") -> Iterator:
    """`work(unit)` of every unit, in the order in which they are done.

    `workers`: processes; by default a core each on a CPU, none on an accelerator.
    """
    engine = os.environ.get("ENGINE", "local")
    if engine not in ("local", "ray"):
        raise UserError(f"ENGINE must be local or ray, not {engine!r}")
    if engine == "ray":
        yield from _ray(work, units)
        return
    if workers is None:
        workers = default_workers(device)
    if not workers or workers <= 1 or len(units) <= 1:
        yield from map(work, units)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(units)), mp_context=context, initializer=_start) as pool:
        futures = [pool.submit(work, unit) for unit in units]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError("a worker process died, as when memory runs out: the same command goes on") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def default_workers(device: str) -> int:
    """Processes: a core each on a CPU; 0, this one, on an accelerator."""
    return (os.cpu_count() or 1) if device == "cpu" else 0


def _start() -> None:
    torch.set_num_threads(1)  # two processes with two threads each fight for two cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C, in one line


def _ray(work: Callable, units: list) -> Iterator:
    try:
        from ray.util.multiprocessing import Pool
    except ImportError as error:
        raise UserError("ENGINE=ray needs Ray: uv pip install 'ray[default]', or leave ENGINE unset") from error
    with Pool(initializer=_start) as pool:
        yield from pool.imap_unordered(work, units)
