"""mitmproxy's wait for its connections to take what was written, only where one has not taken it yet.

After all that it reads mitmproxy takes a lock and asks the writer of each connection, in several steps, whether it has
to wait. Here one look at each tells that none has to, and that none has an error to tell.
"""

from __future__ import annotations

from asyncio import StreamWriter
from collections.abc import Awaitable, Callable
from typing import Any

from mitmproxy.proxy.server import ConnectionHandler

_drain_writers: Callable[[ConnectionHandler], Awaitable[None]] = ConnectionHandler.drain_writers


def install() -> Callable[[], None]:
    """Put it in place, for the whole process; returns what undoes it. What another program has put there stays."""
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
