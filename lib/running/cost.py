"""Seconds and joules of a piece of work, by a machine's counters: NVML of a GPU, RAPL of CPUs, through zeus."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

import torch


@dataclass
class Cost:
    """What a window took; joules is None where no counter was read, never zero, and `reason` says what failed."""

    seconds: float = 0.0
    joules: float | None = None
    reason: str | None = None


@contextmanager
def measured(device: str) -> Iterator[Cost]:
    """Measure the work inside, to its end on the device; joules are those of a GPU."""
    cost, meter = Cost(), Meter(lambda: _gpu_counter(device), "decode")
    _finish(device)
    meter.begin()
    start = time.perf_counter()
    try:
        yield cost
        _finish(device)
        cost.seconds = time.perf_counter() - start
    finally:  # a window that stays open would fail the next one
        cost.joules, cost.reason = meter.end(), meter.reason


class Meter:
    """One window of a zeus monitor. It ends no run: where the monitor fails, joules are None and `reason` says why.

    Drivers refuse counters in ways of their own, a GPU that is cut into slices among them.
    """

    def __init__(self, monitor: Callable[[], object], name: str):
        self.find, self.name, self.reason, self.monitor = monitor, name, None, None

    def begin(self) -> None:
        try:
            self.monitor = self.find()
            if self.monitor is not None:
                self.monitor.begin_window(self.name)
        except Exception as error:
            self._failed(error)

    def end(self) -> float | None:
        """Joules since `begin`; None without a counter."""
        if self.monitor is None:
            return None
        try:
            return float(self.monitor.end_window(self.name).total_energy)
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> None:
        said = (str(error).splitlines() or [""])[0]
        self.monitor, self.reason = None, f"{type(error).__name__}: {said}".rstrip(": ")
        warnings.warn(f"no joules: the energy counter failed ({self.reason})", stacklevel=3)


@dataclass(frozen=True)
class Window:
    """Work in units of its own, the seconds it took, the joules that the counters counted; None without a counter,
    and where it failed, `reason` says why."""

    work: int
    seconds: float
    joules: float | None
    reason: str | None = None


def window(work: Callable[[], int], device: str, seconds: float = 5.0) -> Window:
    """Run whole pieces of work until `seconds` have passed: counters are updated some times a second, and a shorter
    window would measure their steps."""
    meter = Meter(lambda: counters(device), "power")
    meter.begin()
    start, done = time.perf_counter(), 0
    try:
        while time.perf_counter() - start < seconds:
            done += work()
    finally:
        joules = meter.end()
    return Window(done, time.perf_counter() - start, joules, meter.reason)


def idle_watts(device: str, seconds: float = 5.0) -> float | None:
    """What the same counters see while nothing runs; it is part of every window. None without a counter."""

    def rest() -> int:
        time.sleep(0.5)
        return 0

    with suppress(Exception):  # `window` says what failed
        if counters(device) is None:
            return None
    found = window(rest, device, seconds)
    return None if found.joules is None else found.joules / found.seconds


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
