"""Connections on which nothing happens end when mitmproxy would end them, by a timer and without a task."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, override

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy import server
from mitmproxy.utils import asyncio_utils

from understudy.proxy.shortcuts import idle_timer
from understudy.proxy.shortcuts.idle_timer import IdleTimer

TIMEOUT = 100
CORE: Any = server


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once: it goes on to whatever is due next."""

    def __init__(self) -> None:
        super().__init__(_Waiting(self))
        self.now = 1000.0

    @override
    def time(self) -> float:
        return self.now


class _Waiting(selectors.DefaultSelector):
    def __init__(self, loop: Clockwork) -> None:
        super().__init__()
        self._loop = loop

    @override
    def select(self, timeout: float | None = None) -> Any:
        self._loop.now += 0.001 + (timeout or 0)  # some time always passes, as it does on a real clock
        return super().select(0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["activity", "disarm", "arm", "nothing"]), st.integers(1, 130)), min_size=1, max_size=12
)


def ended_at(kind: type[server.TimeoutWatchdog], steps: list[tuple[str, int]], cancel_at: int) -> list[float]:
    """When the watch of a connection calls back, on which this happens, each after so many seconds."""
    loop = Clockwork()
    found: list[float] = []

    async def end() -> None:
        found.append(round(loop.time() - 1000.0))

    async def play() -> None:
        watchdog = kind(TIMEOUT, end)
        watch = CORE.asyncio_utils.create_task(watchdog.watch(), name="watch", keep_ref=False, client=("::1", 1))
        loop.call_later(cancel_at, watch.cancel)
        await asyncio.sleep(0)
        with ExitStack() as waits:
            for what, seconds in steps:
                await asyncio.sleep(seconds)
                if what == "activity":
                    watchdog.register_activity()
                elif what == "disarm":
                    waits.enter_context(watchdog.disarm())
                elif what == "arm":
                    waits.close()
        await asyncio.sleep(3 * TIMEOUT)
        watch.cancel()
        await asyncio.sleep(TIMEOUT)

    before = time.time
    try:
        time.time = loop.time
        loop.run_until_complete(play())
    finally:
        time.time = before
        loop.close()
    return found


@given(STEPS, st.one_of(st.just(10_000), st.integers(1, 400)))
def test_a_connection_ends_when_mitmproxy_would_end_it(steps: list[tuple[str, int]], cancel_at: int) -> None:
    """Whatever happens on it, also while hooks take long, and unless it is over before."""
    theirs = ended_at(server.TimeoutWatchdog, steps, cancel_at)
    leave = idle_timer.install()
    try:
        assert CORE.TimeoutWatchdog is IdleTimer
        assert ended_at(IdleTimer, steps, cancel_at) == theirs
    finally:
        leave()


def test_an_idle_connection_ends_once() -> None:
    """And one that a hook holds, when the hook is over and nothing has come for as long again."""
    leave = idle_timer.install()
    try:
        assert ended_at(IdleTimer, [("nothing", 1)], 10_000) == [TIMEOUT]
        assert ended_at(IdleTimer, [("activity", 60), ("nothing", 1)], 10_000) == [60 + TIMEOUT]
        held = [("disarm", 60), ("activity", 30), ("arm", 120), ("nothing", 1)]
        assert ended_at(IdleTimer, held, 10_000) == ended_at(server.TimeoutWatchdog, held, 10_000) == [210 + TIMEOUT]
        assert ended_at(IdleTimer, [("nothing", 1)], TIMEOUT - 1) == []
    finally:
        leave()


@pytest.fixture
def installed() -> Iterator[Any]:
    leave = idle_timer.install()
    yield leave
    leave()


def test_it_takes_no_task(installed: Any) -> None:
    """Of what is none of its business mitmproxy makes its tasks as before."""

    async def run() -> tuple[int, bool]:
        timer = IdleTimer(TIMEOUT, asyncio.sleep)  # type: ignore[arg-type]
        watch = CORE.asyncio_utils.create_task(timer.watch(), name="watch", keep_ref=False)
        tasks = len(asyncio.all_tasks())
        watch.cancel()
        other = CORE.asyncio_utils.create_task(asyncio.sleep(0), name="other", keep_ref=False)
        await other
        return tasks, other.get_name().startswith("other")

    assert asyncio.run(run()) == (1, True)
    assert CORE.asyncio_utils.task_repr is asyncio_utils.task_repr


def test_what_was_put_in_place_goes_again() -> None:
    """Also after another has put something of its own in place, which stays."""
    watchdog, tasks = CORE.TimeoutWatchdog, CORE.asyncio_utils
    leave = idle_timer.install()
    again = idle_timer.install()
    again()
    assert CORE.TimeoutWatchdog is IdleTimer
    leave()
    assert (CORE.TimeoutWatchdog, CORE.asyncio_utils) == (watchdog, tasks)
    leave = idle_timer.install()
    mine = type("Mine", (IdleTimer,), {})
    ours, CORE.TimeoutWatchdog = CORE.asyncio_utils, mine
    try:
        leave()
        assert CORE.TimeoutWatchdog is mine and CORE.asyncio_utils is ours
    finally:
        CORE.TimeoutWatchdog, CORE.asyncio_utils = watchdog, tasks
