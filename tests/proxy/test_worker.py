"""A worker of several: it listens on the socket that it was given, and ends without cutting a call."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ServerInstance
from mitmproxy.test import tflow

from understudy.proxy.worker import IDLE, LIFELINE, PAUSE, SOCKET, Drain, Lifeline, share_socket


@dataclass
class Handler:
    """A client connection, as mitmproxy lists it."""

    client: Any
    activity: float
    closed: bool = False
    transports: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.timeout_watchdog = SimpleNamespace(last_activity=self.activity)
        writer = SimpleNamespace(close=self.close, is_closing=lambda: self.closed)
        self.transports[self.client] = SimpleNamespace(writer=writer)

    def close(self) -> None:
        self.closed = True


def draining(now: list[float]) -> tuple[Drain, list[str]]:
    """A drain over no listener, under a clock by hand, and what it has told."""
    told: list[str] = []
    proxyserver = SimpleNamespace(connections={}, servers=[])
    return Drain(proxyserver, lambda: told.append("stopping"), lambda: told.append("over"), lambda: now[0]), told


async def turns(count: int = 40) -> None:
    """Let others run."""
    for _ in range(count):
        await asyncio.sleep(0.01)


def test_only_what_is_idle_is_closed_and_the_end_comes_with_the_last() -> None:
    """A call under way keeps its connection, however long nothing moves on it."""

    async def scene() -> None:
        now = [1000.0]
        drain, told = draining(now)
        busy, idle = tflow.tflow(), tflow.tflow()
        handlers = {each.client_conn.id: Handler(each.client_conn, now[0]) for each in (busy, idle)}
        drain.proxyserver.connections.update(handlers)
        for each in (busy, idle):
            drain.requestheaders(each)
        drain.response(idle)
        drain.begin(IDLE)
        await turns()
        assert told == ["stopping"]
        assert not any(each.closed for each in handlers.values())
        now[0] += IDLE + 1
        await turns()
        assert handlers[idle.client_conn.id].closed and not handlers[busy.client_conn.id].closed
        del drain.proxyserver.connections[idle.client_conn.id]
        drain.error(busy)
        await turns()
        assert handlers[busy.client_conn.id].closed
        assert "over" not in told
        drain.proxyserver.connections.clear()
        await turns()
        assert told == ["stopping", "over"]

    asyncio.run(scene())


def test_a_tool_is_told_not_to_use_the_connection_again() -> None:
    """Only while it ends, and not over HTTP/2, which has no such header."""

    async def scene() -> None:
        drain, _ = draining([0.0])
        flow = tflow.tflow(resp=True)
        assert flow.response is not None
        drain.responseheaders(flow)
        assert "connection" not in flow.response.headers
        drain.begin(PAUSE)
        drain.responseheaders(flow)
        assert flow.response.headers["connection"] == "close"
        other = tflow.tflow(resp=True)
        assert other.response is not None
        other.client_conn.alpn = b"h2"
        drain.responseheaders(other)
        assert "connection" not in other.response.headers
        drain.close()

    asyncio.run(scene())


def test_a_second_signal_shortens_the_wait_and_never_lengthens_it() -> None:
    async def scene() -> None:
        drain, told = draining([0.0])
        drain.begin(PAUSE)
        drain.begin(IDLE)
        assert drain._idle == PAUSE
        assert told == ["stopping"]
        drain.close()

    asyncio.run(scene())


def test_a_websocket_is_under_way_until_its_end() -> None:
    drain, _ = draining([100.0])
    flow = tflow.twebsocketflow()
    handler = Handler(flow.client_conn, 0.0)
    drain.requestheaders(flow)
    drain.response(flow)
    assert not drain.is_idle(handler)
    drain.websocket_end(flow)
    assert drain.is_idle(handler)


def test_nothing_is_kept_of_connections_that_are_gone() -> None:
    drain, _ = draining([0.0])
    flow = tflow.tflow()
    drain.requestheaders(flow)
    drain.client_disconnected(flow.client_conn)
    assert drain._under_way == {}


def test_mitmproxy_listens_on_the_given_socket() -> None:
    """On the same port only; and it is as before afterwards."""
    before = AsyncioServerInstance.listen
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        port = given.getsockname()[1]
        undo, told = share_socket({SOCKET: str(given.fileno())})
        try:
            assert told == port

            async def scene() -> None:
                mode = mode_specs.ProxyMode.parse("regular")
                instance: Any = ServerInstance.make(mode, SimpleNamespace(connections={}))
                [server] = await instance.listen("127.0.0.1", port)
                try:
                    assert server.sockets[0].getsockname()[1] == port
                    assert os.fstat(server.sockets[0].fileno()).st_ino == os.fstat(given.fileno()).st_ino
                finally:
                    server.close()

            asyncio.run(scene())
        finally:
            undo()
    assert AsyncioServerInstance.listen is before


def test_a_descriptor_that_is_no_socket_is_said() -> None:
    with pytest.raises(ValueError, match="no listening socket"):
        share_socket({SOCKET: "999"})
    assert share_socket({})[1] is None


def test_who_has_started_it_is_told_and_missed() -> None:
    """The worker says that it serves, and ends when nobody is there any more."""

    async def scene() -> None:
        ours, theirs = socket.socketpair()
        gone: list[bool] = []
        lifeline = Lifeline({LIFELINE: str(theirs.detach())})
        lifeline.ready(asyncio.get_running_loop(), lambda: gone.append(True))
        assert ours.recv(64) == b"ready\n"
        assert gone == []
        ours.close()
        await turns(5)
        assert gone == [True]

    asyncio.run(scene())
    Lifeline({}).ready(None, lambda: None)  # type: ignore[arg-type]
