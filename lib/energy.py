"""Seconds and joules of a piece of work: NVML's total-energy counter, through zeus where that is installed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch


@dataclass
class Cost:
    """What a window took; joules is None where no counter was read, never zero."""

    seconds: float = 0.0
    joules: float | None = None


@contextmanager
def measured(device: str) -> Iterator[Cost]:
    """Measure the work inside, to its end on the device."""
    cost, monitor = Cost(), _monitor(device)
    _finish(device)
    if monitor is not None:
        monitor.begin_window("decode")
    start = time.perf_counter()
    yield cost
    _finish(device)
    cost.seconds = time.perf_counter() - start
    if monitor is not None:
        cost.joules = monitor.end_window("decode").total_energy


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


@cache
def _monitor(device: str):
    """A zeus monitor of the GPU, None on a CPU and where zeus is not installed."""
    if device == "cpu":
        return None
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError:
        return None
    return ZeusMonitor(gpu_indices=[torch.device(device).index or 0], cpu_indices=[])
