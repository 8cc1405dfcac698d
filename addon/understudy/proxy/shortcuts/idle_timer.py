"""The end of connections on which nothing happens: a timer of the event loop, where mitmproxy has a task that sleeps.

mitmproxy watches each connection of a tool, and closes it after ten minutes without any activity. Its watch is a task
with two coroutines, 1.1 KB for each connection. The one below does the same at the same time. A connection that was
there before keeps the watch that it has.
"""

from __future__ import annotations

import time
from asyncio import Task, TimerHandle, get_running_loop
from collections.abc import Callable, Coroutine
from typing import Any, override

from mitmproxy.proxy import server
from mitmproxy.utils import asyncio_utils


class IdleTimer(server.TimeoutWatchdog):
    """In the place of mitmproxy's watch of a connection: :meth:`watch` is not a task but what has to be started."""

    name = ""
    client: tuple[Any, ...] | None = None
    _pending: TimerHandle | Task[None] | None = None

    @override
    def watch(self) -> IdleTimer:  # type: ignore[override]  # what takes it is below
        return self

    def start(self, name: str, client: tuple[Any, ...] | None) -> None:
        """Begin to watch. ``name`` and ``client``: what a task of it is called."""
        self.name, self.client = name, client
        self._sleep()

    def cancel(self) -> None:
        """Watch no longer."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _sleep(self) -> None:
        left = self.timeout - (time.time() - self.last_activity)
        self._pending = get_running_loop().call_later(max(0.0, left), self._wake)

    def _wake(self) -> None:
        if self.last_activity + self.timeout < time.time():
            self._pending = self._task(self.callback())  # type: ignore[arg-type]  # it is a coroutine
        elif self.can_timeout.is_set():
            self._sleep()
        else:
            # A hook takes long: mitmproxy waits for its end.
            self._pending = self._task(super().watch())  # type: ignore[no-untyped-call]

    def _task(self, coroutine: Coroutine[Any, Any, None]) -> Task[None]:
        return asyncio_utils.create_task(coroutine, name=self.name, keep_ref=True, client=self.client)


class _Tasks:
    """mitmproxy's ``asyncio_utils`` for its server: the same, but that it knows how a timer is begun."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio_utils, name)

    @staticmethod
    def create_task(coro: Any, *, name: str, keep_ref: bool, client: tuple[Any, ...] | None = None) -> Any:
        """A task of mitmproxy's, or a timer that is begun: both can be cancelled."""
        if isinstance(coro, IdleTimer):
            coro.start(name, client)
            return coro
        return asyncio_utils.create_task(coro, name=name, keep_ref=keep_ref, client=client)


def install() -> Callable[[], None]:
    """Put it in place of mitmproxy's watch; returns what undoes it. Where it is another already, it stays."""
    core: Any = server
    watch, tasks = core.TimeoutWatchdog, _Tasks()
    if core.asyncio_utils is not asyncio_utils or watch is not IdleTimer.__base__:
        return lambda: None
    core.TimeoutWatchdog, core.asyncio_utils = IdleTimer, tasks

    def uninstall() -> None:
        # Whoever has a watch already goes on with it.
        if core.TimeoutWatchdog is IdleTimer and core.asyncio_utils is tasks:
            core.TimeoutWatchdog, core.asyncio_utils = watch, asyncio_utils

    return uninstall
