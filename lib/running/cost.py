"""Seconds and joules of a piece of work, by a machine's counters: NVML of a GPU, RAPL of CPUs, through zeus."""

import time
from collections.abc import Callable, Iterator
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
    """Measure the work inside, to its end on the device; joules are those of a GPU."""
    cost, monitor = Cost(), _gpu_counter(device)
    _finish(device)
    if monitor is not None:
        monitor.begin_window("decode")
    start = time.perf_counter()
    yield cost
    _finish(device)
    cost.seconds = time.perf_counter() - start
    if monitor is not None:
        cost.joules = monitor.end_window("decode").total_energy


@dataclass(frozen=True)
class Window:
    """Work in units of its own, the seconds it took, the joules that the counters counted; None without a counter."""

    work: int
    seconds: float
    joules: float | None


def window(work: Callable[[], int], device: str, seconds: float = 5.0) -> Window:
    """Run whole pieces of work until `seconds` have passed: counters are updated some times a second, and a shorter
    window would measure their steps."""
    monitor = counters(device)
    if monitor is not None:
        monitor.begin_window("power")
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        done += work()
    joules = None if monitor is None else float(monitor.end_window("power").total_energy)
    return Window(done, time.perf_counter() - start, joules)


def idle_watts(device: str, seconds: float = 5.0) -> float | None:
    """What the same counters see while nothing runs; it is part of every window."""
    if counters(device) is None:
        return None

    def rest() -> int:
        time.sleep(0.5)
        return 0

    found = window(rest, device, seconds)
    return found.joules / found.seconds


@cache
def counters(device: str):
    """A zeus monitor of the GPU that works, and of the CPUs where RAPL can be read; None where there is neither."""
    from zeus.device.cpu import get_cpus
    from zeus.monitor import ZeusMonitor

    gpus = [] if device == "cpu" else [torch.device(device).index or 0]
    try:
        cpus = list(range(len(get_cpus())))
    except Exception:  # no RAPL, or no right to read it: zeus has a class for each
        cpus = []
    if not gpus and not cpus:
        return None
    return ZeusMonitor(gpu_indices=gpus, cpu_indices=cpus)


@cache
def _gpu_counter(device: str):
    """A zeus monitor of the GPU alone; None on a CPU."""
    if device == "cpu":
        return None
    from zeus.monitor import ZeusMonitor

    return ZeusMonitor(gpu_indices=[torch.device(device).index or 0], cpu_indices=[])


def device_name(device: str) -> str:
    return "cpu" if device == "cpu" else torch.cuda.get_device_name()


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
