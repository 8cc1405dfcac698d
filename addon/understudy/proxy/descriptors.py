"""What happens when the process has no file descriptor left: new connections are refused, calmly, and it is said once.

asyncio then reports every connection that it cannot accept as an unhandled error, up to a hundred times in a row, and
mitmproxy writes a traceback for each, which keeps everything else from running. One descriptor is kept in reserve: with
it a waiting connection is accepted and closed at once, so that its tool hears of it and can try again. asyncio listens
again after a second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger("understudy")

USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that are about this process or machine, and about no peer."""
QUIET = 60.0
"""Seconds without a further line, however often it happens."""
SAID = (
    "understudy: there are no file descriptors left ({error}), so new connections are refused: "
    "raise the limit before the proxy starts (`ulimit -n 4096`)"
)

type Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


class Descriptors:
    """Handles the errors of one event loop from :meth:`open` to :meth:`close`. ``clock``: in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: Handler | None = None
        self._reserve: int | None = None
        self._said: float | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, hear of what this loop reports; everything else goes to whoever heard of it before."""
        self._loop, self._before = loop, loop.get_exception_handler()
        self._keep_one()
        loop.set_exception_handler(self._handle)

    def close(self) -> None:
        """Leave the loop as it was."""
        if self._loop is not None:
            self._loop.set_exception_handler(self._before)
            self._loop = None
        self._let_go()

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, listening = context.get("exception"), context.get("socket")
        if isinstance(error, OSError) and error.errno in USED_UP and listening is not None:
            self._say(error)
            self._refuse_one(getattr(listening, "_sock", None))
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)

    def _say(self, error: OSError) -> None:
        now = self._clock()
        if self._said is None or now - self._said >= QUIET:
            logger.error(SAID.format(error=error.strerror or error))
            self._said = now

    def _refuse_one(self, listening: socket.socket | None) -> None:
        """Accept the connection that waits longest, and close it."""
        self._let_go()
        if listening is not None:
            with suppress(OSError):
                connection, _ = listening.accept()
                connection.close()
        self._keep_one()

    def _keep_one(self) -> None:
        with suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def _let_go(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
