"""The garbage collector is set for a proxy, and as it was afterwards."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import weakref

import pytest

from understudy.proxy import garbage


@pytest.fixture(autouse=True)
def thresholds() -> object:
    """Whatever a test does to the collector is undone."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_was_loaded_is_not_walked_again() -> None:
    """It is frozen, the young are looked at less often; undone, the collector is as it was."""
    gc.set_threshold(700, 10, 10)
    frozen = gc.get_freeze_count()
    undo = garbage.settle()
    assert gc.get_freeze_count() > frozen + 1000
    assert gc.get_threshold() == (garbage.YOUNG, garbage.TURNS, garbage.TURNS)
    undo()
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (700, 10, 10)


def test_the_choice_of_others_stands() -> None:
    """A threshold that is not Python's own, set before or after, is left alone; so is a collector that is off."""
    gc.set_threshold(123, 4, 5)
    garbage.settle()()
    assert gc.get_threshold() == (123, 4, 5)
    gc.set_threshold(700, 10, 10)
    undo = garbage.settle()
    gc.set_threshold(5000, 6, 7)
    undo()
    assert gc.get_threshold() == (5000, 6, 7)
    gc.set_threshold(700, 10, 10)
    gc.disable()
    try:
        garbage.settle()
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.enable()


def test_the_collector_rests_while_a_proxy_loads() -> None:
    """At its waking it is as it was, and can be set for a proxy."""
    gc.set_threshold(700, 10, 10)
    garbage.rest()
    assert gc.isenabled()
    assert gc.get_threshold() == (garbage.LOADING, 10, 10)
    garbage.wake()
    assert gc.get_threshold() == (700, 10, 10)
    garbage.wake()
    assert gc.get_threshold() == (700, 10, 10)
    garbage.settle()
    assert gc.get_threshold() == (garbage.YOUNG, garbage.TURNS, garbage.TURNS)


def test_a_collector_that_others_have_set_does_not_rest() -> None:
    """Whether they set it before or meanwhile."""
    gc.set_threshold(123, 4, 5)
    garbage.rest()
    assert gc.get_threshold() == (123, 4, 5)
    garbage.wake()
    assert gc.get_threshold() == (123, 4, 5)
    gc.set_threshold(2_000, 10, 10)
    garbage.rest()
    gc.set_threshold(5000, 6, 7)
    garbage.wake()
    assert gc.get_threshold() == (5000, 6, 7)


class Connection:
    """Stands in a circle, as what a connection is made of does."""

    def __init__(self) -> None:
        self.layer = self


def test_h11_what_ended_after_a_long_life_is_taken_away() -> None:
    """H11: memory does not grow with the connections that have been: a look at everything comes soon enough."""
    gc.set_threshold(700, 10, 10)
    loaded = [[] for _ in range(500_000)]  # type: ignore[var-annotated]
    undo = garbage.settle()
    connection = Connection()
    gc.collect(1)  # it is old now
    gone: list[object] = []
    watched = weakref.ref(connection, gone.append)
    del connection
    others: list[object] = []
    while not gone and len(others) < 100_000:
        others.append([])
    undo()
    assert gone == [watched]
    assert loaded


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no GNU C library")
def test_memory_that_is_free_is_given_back() -> None:
    """Between what stays lies much that does not, and the process is smaller at once."""
    code = """
from pathlib import Path
from understudy.proxy import garbage
def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
pieces = [bytes(2_000) for _ in range(20_000)]
kept = pieces[::50]
most = resident()
pieces.clear()
before = resident()
garbage.give_back()
print(most, before, resident())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    most, before, after = map(int, done.stdout.split())
    assert before > most - 10_000
    assert after < before - 20_000
