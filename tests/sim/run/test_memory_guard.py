"""A run that takes more memory than there is ends with a message, and bounds nothing afterwards."""

import sys

import numpy as np
import pytest

from sim.run import memory_guard, simulate
from sim.run.memory_guard import available_bytes, bounded_memory, share_memory
from sim.scenario.load import load_scenario

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such bound")
MB = 10**6


def take(num_bytes: int) -> None:
    """Ask for memory and let it go."""
    np.empty(num_bytes, dtype=np.uint8)


def test_memory_beyond_the_bound_is_refused_until_the_run_has_ended(monkeypatch):
    """Of 300 MB that are left 600 are too many; two processes have 150 each."""
    monkeypatch.setattr(memory_guard, "available_bytes", lambda: 300 * MB)
    with bounded_memory():
        take(200 * MB)
        with pytest.raises(MemoryError):
            take(600 * MB)
    take(600 * MB)
    share_memory(2)
    with bounded_memory(), pytest.raises(MemoryError):
        take(200 * MB)
    share_memory(1)


def test_a_system_that_does_not_say_what_is_left_bounds_nothing(monkeypatch):
    """As elsewhere than on Linux."""
    monkeypatch.setattr(memory_guard, "available_bytes", lambda: None)
    with bounded_memory():
        take(600 * MB)


def test_what_is_left_is_less_than_what_is_built_in():
    """Something runs here."""
    left = available_bytes()
    assert left is not None
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        assert 0 < left < int(file.readline().split()[1]) * 1024


def test_building_a_scenario_is_bounded_too(monkeypatch):
    """A cluster that is wired link by link takes memory before the run begins."""
    monkeypatch.setattr(memory_guard, "available_bytes", lambda: 300 * MB)
    monkeypatch.setitem(simulate._RUNS, "forward", lambda scenario: take(600 * MB))
    with pytest.raises(MemoryError):
        simulate.build_run(load_scenario("ep16_tp16_pp4"))
