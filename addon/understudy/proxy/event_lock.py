"""The lock that a client connection of mitmproxy takes for each event, in two steps and not in five.

Hardly anyone ever waits for it: what is done under it waits for nothing, and only a task that begins while it is held
finds it taken. Then it is asyncio's.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import override

from mitmproxy.proxy.server import ConnectionHandler


class Lock(asyncio.Lock):
    """A lock of asyncio, which is taken and given back at once where nobody waits for it."""

    @override
    async def __aenter__(self) -> None:
        if self._locked or self._waiters:  # type: ignore[has-type]
            await self.acquire()
        self._locked = True

    @override
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiters or not self._locked:
            self.release()
        self._locked = False


def put(handler: ConnectionHandler) -> None:
    """Give a connection such a lock, while its own is not in use; before its first event nobody has it."""
    own = handler._server_event_lock
    if type(own) is asyncio.Lock and not own.locked() and not own._waiters:
        handler._server_event_lock = Lock()
