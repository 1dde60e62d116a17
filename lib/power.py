"""Joules of a long piece of work, by the counters that a machine has: NVML of a GPU, RAPL of CPUs, through zeus."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch


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
