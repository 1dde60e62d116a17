"""Windows of whole pieces of work; no counter is None, never zero."""

import time
from types import SimpleNamespace

import pytest

from lib.running import cost as power


class Counter:
    """Counts 10 joules a second, as a zeus monitor would tell."""

    def begin_window(self, _):
        self.start = time.perf_counter()

    def end_window(self, _):
        return SimpleNamespace(total_energy=10 * (time.perf_counter() - self.start))


def piece() -> int:
    time.sleep(0.02)
    return 3


def test_a_window_holds_whole_pieces_and_lasts_long_enough(monkeypatch):
    monkeypatch.setattr(power, "counters", lambda device: Counter())
    found = power.window(piece, "cpu", seconds=0.1)
    assert found.seconds >= 0.1 and found.work % 3 == 0 and found.work >= 3
    assert found.joules == pytest.approx(10 * found.seconds, rel=0.2)


def test_without_a_counter_joules_are_none(monkeypatch):
    monkeypatch.setattr(power, "counters", lambda device: None)
    assert power.window(piece, "cpu", seconds=0.01).joules is None
    assert power.idle_watts("cpu") is None


def test_idle_watts_are_joules_a_second(monkeypatch):
    monkeypatch.setattr(power, "counters", lambda device: Counter())
    assert power.idle_watts("cpu", seconds=0.05) == pytest.approx(10, rel=0.2)


def test_this_machine_has_a_counter_or_none():
    monitor = power.counters("cpu")
    assert monitor is None or monitor.cpu_indices
