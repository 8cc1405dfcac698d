"""What mitmproxy's server does around each event of a client connection, where nobody waits for anything.

It takes a lock, lets the layers handle the event, and then takes another lock and asks the writer of each connection,
in several steps, whether it has to wait until what was written is taken. Here the first lock is taken and given back at
once while no other task wants it, and one look at each writer tells that none has to wait or has an error to tell.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamWriter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, override

from mitmproxy.proxy.server import ConnectionHandler

_drain_writers: Callable[[ConnectionHandler], Awaitable[None]] = ConnectionHandler.drain_writers


class Lock(asyncio.Lock):
    """A lock of asyncio, in two steps and not in five where nobody waits for it."""

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


def put_lock(handler: ConnectionHandler) -> None:
    """Give a connection such a lock, while its own is not in use; before its first event nobody has it."""
    own = handler._server_event_lock
    if type(own) is asyncio.Lock and not own.locked() and not own._waiters:
        handler._server_event_lock = Lock()


def install() -> Callable[[], None]:
    """Put the look at writers in place; returns what undoes it. What another program has put there stays."""
    if ConnectionHandler.drain_writers is not _drain_writers:
        return lambda: None
    ConnectionHandler.drain_writers = drain_writers  # type: ignore[method-assign]

    def uninstall() -> None:
        if ConnectionHandler.drain_writers is drain_writers:
            ConnectionHandler.drain_writers = _drain_writers  # type: ignore[method-assign]

    return uninstall


async def drain_writers(handler: ConnectionHandler) -> None:
    """What mitmproxy's method of this name does."""
    if not handler._drain_lock._locked:  # type: ignore[attr-defined]
        for each in handler.transports.values():
            if (writer := each.writer) is not None and not (type(writer) is StreamWriter and _has_taken_all(writer)):
                break
        else:
            return
    await _drain_writers(handler)


def _has_taken_all(writer: Any) -> bool:
    """Whether ``writer.drain()`` would return at once."""
    protocol, transport, reader = writer._protocol, writer._transport, writer._reader
    return not (
        protocol._paused
        or protocol._connection_lost
        or (reader is not None and reader._exception is not None)
        or transport.is_closing()
    )
