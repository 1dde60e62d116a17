"""A soak: one tiny model evaluated again and again in one process, which must not grow."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from lib.bench.reliability import victims
from lib.running.evaluation import run_all

WARM = 60.0  # seconds in which caches fill and the allocator finds its size
EVERY = 1.0  # seconds between two looks


def growth(minutes: float, warm: float = WARM, every: float = EVERY) -> float:
    """Evaluate for `minutes`, each time with another seed into a folder of its own; how much the memory of this
    process grew after the first minute, in percent: the median of the last tenth against that of the first tenth.

    Raises ValueError where `minutes` are no more than the first one.
    """
    seconds = 60 * minutes
    if seconds <= warm:
        raise ValueError(f"a soak takes more than {warm / 60:g} minutes, not {minutes:g}")
    looks, seed, process, started = [], 0, psutil.Process(), time.monotonic()
    with victims.tiny_world():
        while (now := time.monotonic() - started) < seconds:
            with TemporaryDirectory() as folder:
                run = victims.tiny_run(seed)
                lines = run_all([run], Path(folder), workers=0)[run]
            assert len(lines) == run.items * run.samples
            seed += 1
            if now >= warm and (not looks or now - looks[-1][0] >= every):
                looks.append((now, process.memory_info().rss))
    sizes = [size for _, size in looks]
    part = max(1, len(sizes) // 10)
    return 100 * (median(sizes[-part:]) / median(sizes[:part]) - 1)
