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


class Broken(Counter):
    """A counter that fails where it is told to, as those of a GPU do that is cut into slices."""

    def __init__(self, where: str):
        self.where, self.open = where, False

    def begin_window(self, name):
        if self.where == "begin":
            raise RuntimeError("not supported\non this device")
        if self.open:
            raise ValueError("window is open")
        self.open = True
        super().begin_window(name)

    def end_window(self, name):
        self.open = False
        if self.where == "end":
            raise RuntimeError("not supported\non this device")
        found = super().end_window(name)
        return SimpleNamespace(total_energy="none") if self.where == "value" else found


@pytest.mark.filterwarnings("ignore:no joules")
@pytest.mark.parametrize("where", ["begin", "end", "value", "found"])
def test_a_counter_that_fails_ends_no_run(monkeypatch, where):
    def counter(device):
        if where == "found":
            raise RuntimeError("not supported")
        return Broken(where)

    monkeypatch.setattr(power, "counters", counter)
    monkeypatch.setattr(power, "_gpu_counter", counter)
    found = power.window(piece, "cpu", seconds=0.01)
    assert found.work == 3 and found.joules is None and "Error" in found.reason
    with power.measured("cpu") as cost:
        piece()
    assert cost.seconds > 0.01 and cost.joules is None and "\n" not in cost.reason and "Error" in cost.reason
    assert power.idle_watts("cpu", seconds=0.01) is None
    with pytest.warns(UserWarning, match="no joules: the energy counter failed"):
        power.window(piece, "cpu", seconds=0.01)


def test_work_that_fails_leaves_no_window_open(monkeypatch):
    counter = Broken("nowhere")
    monkeypatch.setattr(power, "_gpu_counter", lambda device: counter)
    for error in (MemoryError, KeyError):
        with pytest.raises(error), power.measured("cpu"):
            raise error
    with power.measured("cpu") as cost:
        piece()
    assert cost.joules > 0 and cost.reason is None
