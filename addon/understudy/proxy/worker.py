"""One of several processes that serve one port: a listening socket that it was given, and an end that cuts no call.

``understudy serve`` makes the socket, and every worker accepts from it. So what is not accepted yet is lost with no
worker, and a new one can begin before an old one ends. A worker that shall end stops to accept, closes each connection
after its next answer (``Connection: close``) or when it has been idle for longer than tools keep one, and is gone with
the last one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from mitmproxy import flow, http
from mitmproxy.proxy.mode_servers import AsyncioServerInstance

from understudy.proxy.accepting import SharedListener, Turn
from understudy.proxy.listener import SERVED

logger = logging.getLogger("understudy")

SOCKET = "UNDERSTUDY_SOCKET"
"""The environment variable with the descriptor of the listening socket."""
NUMBER = "UNDERSTUDY_WORKER"
"""The environment variable with the number of the worker."""
LIFELINE = "UNDERSTUDY_LIFELINE"
"""The environment variable with the descriptor of a socket to who has started the worker."""
DRAIN, HURRY = (getattr(signal, name, signal.SIGTERM) for name in ("SIGUSR1", "SIGUSR2"))  # not on every system
"""End when the last connection is over; the same, and wait for no idle one."""
IDLE = 10.0
"""Seconds after which a tool is not expected to use a connection again: clients keep them for 4 to 5 s."""
PAUSE = 0.5
"""The same where the whole proxy ends: what was just answered has to reach the tool."""
BACKLOG = 1024
LOOK = 0.1
"""Seconds between two looks at who is left."""


def share_socket(environ: Mapping[str, str]) -> tuple[Callable[[], None], int | None]:
    """Make mitmproxy listen on the socket that this process was given; returns what undoes it, and its port.

    None: it was given none. Only where it would listen on the very same port. Raises ValueError when the variable names
    no socket.
    """
    if SOCKET not in environ:
        return (lambda: None), None
    descriptor = int(environ[SOCKET])
    try:
        with socket.socket(fileno=os.dup(descriptor)) as given:
            port = given.getsockname()[1]
    except OSError as error:
        raise ValueError(f"{SOCKET}={descriptor} is no listening socket ({error.strerror})") from None
    listen, turn = AsyncioServerInstance.listen, Turn.of(environ)

    async def listen_on_given(self: AsyncioServerInstance[Any], host: str, asked: int) -> list[Any]:
        if asked != port or self.mode.transport_protocol != "tcp":
            return await listen(self, host, asked)
        shared = socket.socket(fileno=os.dup(descriptor))
        shared.listen(BACKLOG)
        return [SharedListener(shared, self.handle_stream, turn)]

    AsyncioServerInstance.listen = listen_on_given  # type: ignore[method-assign,assignment]

    def undo() -> None:
        AsyncioServerInstance.listen = listen  # type: ignore[method-assign]

    return undo, int(port)


class Lifeline:
    """The socket to who has started this worker: it is told that the worker serves, and its end ends the worker."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._socket = socket.socket(fileno=int(environ[LIFELINE])) if LIFELINE in environ else None

    def ready(self, loop: asyncio.AbstractEventLoop, gone: Callable[[], None]) -> None:
        """The worker serves. ``gone()`` is called when that process has ended."""
        if self._socket is None:
            return
        own = self._socket
        own.setblocking(False)

        def look() -> None:
            try:
                over = not own.recv(64)
            except BlockingIOError:
                return
            except OSError:
                over = True
            if over:
                loop.remove_reader(own)
                gone()

        try:
            own.send(b"ready\n")
        except OSError:
            gone()
        else:
            loop.add_reader(own, look)


class Drain:
    """A mitmproxy addon that ends the process without cutting a call. ``proxyserver``: mitmproxy's own addon.

    ``stopping()`` is called before it stops to listen, ``shutdown()`` when the last connection is over.
    """

    name = "understudy-drain"

    def __init__(
        self,
        proxyserver: Any,
        stopping: Callable[[], None],
        shutdown: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.proxyserver = proxyserver
        self.clock = clock
        self._stopping = stopping
        self._shutdown = shutdown
        self._idle = IDLE
        self._draining: asyncio.Task[None] | None = None
        self._under_way: dict[str, set[str]] = {}
        """The flows that are under way, by client connection."""

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the signals from now on."""
        loop.add_signal_handler(DRAIN, self.begin, IDLE)
        loop.add_signal_handler(HURRY, self.begin, PAUSE)

    def begin(self, idle: float) -> None:
        """End as soon as nothing is under way. ``idle``: seconds after which an unused connection is closed."""
        self._idle = min(self._idle, idle)
        if self._draining is None:
            logger.info("understudy: this worker takes no more connections and ends with the last one")
            self._stopping()
            self._draining = asyncio.get_running_loop().create_task(self._drain(), name="understudy drain")

    def close(self) -> None:
        """It ends anyway."""
        if self._draining is not None:
            self._draining.cancel()

    async def _drain(self) -> None:
        for server in list(self.proxyserver.servers):
            if server.is_running:
                await server.stop()
        while True:
            # One that was accepted a moment ago is listed a moment later.
            await asyncio.sleep(LOOK)
            left = list(self.proxyserver.connections.values())
            if not left:
                break
            for handler in left:
                if self.is_idle(handler):
                    _close(handler)
        self._shutdown()

    def is_idle(self, handler: Any) -> bool:
        """Whether nothing is under way on a client connection, and has not been for a while."""
        quiet = self.clock() - handler.timeout_watchdog.last_activity
        return not self._under_way.get(handler.client.id) and quiet > self._idle

    # -- hooks ---------------------------------------------------------------------------------------------------

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A call begins."""
        self._under_way.setdefault(flow.client_conn.id, set()).add(flow.id)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The tool is told not to use this connection again. HTTP/2 has no such header."""
        if self._draining is not None and flow.response is not None and flow.client_conn.alpn != b"h2":
            flow.response.headers["connection"] = "close"

    def response(self, flow: http.HTTPFlow) -> None:
        """A call is over; also one that was answered without an upstream."""
        self.responseheaders(flow)
        if flow.websocket is None or SERVED in flow.metadata:  # the calls of a served socket are flows of their own
            self._over(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """A call is over."""
        self._over(flow)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """A call is over."""
        self._over(flow)

    def client_disconnected(self, client: Any) -> None:
        """Nothing of it is under way any more."""
        self._under_way.pop(client.id, None)

    def _over(self, ended: flow.Flow) -> None:
        flows = self._under_way.get(ended.client_conn.id)
        if flows is not None:
            flows.discard(ended.id)
            if not flows:
                del self._under_way[ended.client_conn.id]


def _close(handler: Any) -> None:
    transport = handler.transports.get(handler.client)
    if transport is not None and transport.writer is not None and not transport.writer.is_closing():
        transport.writer.close()
