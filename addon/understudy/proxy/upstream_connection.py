"""The border between one stream of mitmproxy's core and its upstreams: connections, attempts, time-outs.

Each attempt has a stream id of its own towards the upstream, so that late events of an abandoned attempt cannot leak
into the next one and HTTP/2 never reuses a closed stream. A connection that is to carry a secret is made to the very
scheme, host and port of its upstream, with a checked certificate, and within a bounded time (laws 8 and 10).

What is used of mitmproxy's internals is listed in ``tests/test_contract.py``.
"""

from __future__ import annotations

import itertools
import math
import time
from functools import cached_property
from typing import ClassVar, override

from mitmproxy import http
from mitmproxy.connection import Connection, Server
from mitmproxy.net.http import url
from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    HttpStream,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
)
from mitmproxy.proxy.mode_specs import RegularMode, ReverseMode, Socks5Mode, UpstreamMode
from mitmproxy.proxy.tunnel import TunnelLayer

from understudy.model import Upstream
from understudy.proxy import http1
from understudy.proxy.engine import CONNECT_LIMIT as CONNECT_LIMIT
from understudy.proxy.engine import Engine
from understudy.proxy.timeouts import watch_of
from understudy.replies import Fault, FaultKind


class PooledHttpConnection(GetHttpConnection):
    """Asks for a connection that may carry a secret: to this very name, checked, and not one that failed before."""

    upstream: Upstream
    unverified: set[str]

    @override
    def connection_spec_matches(self, connection: Connection) -> bool:
        return (
            super().connection_spec_matches(connection)
            and not connection.error
            and isinstance(connection, Server)
            and (not self.tls or self.upstream.host == connection.sni)
            and (not self.upstream.verify or connection.id not in self.unverified)
        )


class BorderStream(HttpStream):
    """One request of a tool, as far as it concerns the way to an upstream and back."""

    _ids: ClassVar[itertools.count[int]] = itertools.count(-2, -2)

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self.owner: Engine | None = None
        self.upstream_id: int | None = None
        self.connecting: PooledHttpConnection | None = None
        self.reused = False
        """Whether the connection of the current attempt had served a request before."""
        self.due_at = math.inf
        self.replayed = False
        """Whether this is mitmproxy's client replay, which takes the tool's connection along but not its target."""

    @cached_property
    def parent(self) -> HttpLayer:
        """The HTTP layer that this stream belongs to."""
        found = self.context.layers[self.context.layers.index(self) - 1]
        assert isinstance(found, HttpLayer)
        return found

    def destination(self, request: http.Request) -> tuple[str, int]:
        """The host a request is meant for, as the tool knows it: SNI, then Host or :authority, then the address."""
        address = self.context.server.address
        if self.mode is HTTPMode.transparent and address:
            if isinstance(self.context.client.proxy_mode, ReverseMode):
                return address[0], address[1]
            sni = None if self.replayed else self.context.client.sni
            return sni or host_of(request.host_header or request.authority)[0] or address[0], address[1]
        if request.host:
            return request.host, request.port
        host, port = host_of(request.host_header or "")
        return host, port or (443 if self.context.client.tls else 80)

    def own_login(self, request: http.Request) -> str:
        """The header in which ``proxyauth`` expects its password here; its addon takes it out. "" without one."""
        options, mode = self.context.options, self.context.client.proxy_mode
        if "proxyauth" not in options or not options.proxyauth or isinstance(mode, Socks5Mode):
            return ""
        name = "proxy-authorization" if isinstance(mode, (RegularMode, UpstreamMode)) else "authorization"
        return name if request.headers.get(name, "").lower().startswith("basic ") else ""

    # -- the way out ---------------------------------------------------------------------------------------------

    def connect(self, upstream: Upstream) -> CommandGenerator[tuple[Server | None, Fault]]:
        """Get a connection that may carry the secret of this upstream, within ``pool_connect_timeout``."""
        own = self.parent.context.server
        command = PooledHttpConnection(
            (upstream.host, upstream.port), upstream.scheme == "https", self.flow.server_conn.via, "tcp"
        )
        command.upstream, command.unverified = upstream, self.engine_now.unverified
        if own.address == command.address and not own.connected:
            # mitmproxy would take the client's SNI for an address that equals the client's own destination.
            own.sni = upstream.host
        self.connecting, asked = command, time.time()
        if not any(command.connection_spec_matches(known) and known.connected for known in self.parent.connections):
            yield from self.wake_in(self.engine_now.connect_limit)
        server, error = yield command
        timed_out, self.connecting = self.connecting is None, None
        self.calm()
        if error is not None or server is None:
            # Streams of one client connection share the attempt to connect, and so its end.
            timed_out = timed_out or error == "closed by command"
            text = f"no connection within {self.engine_now.connect_limit:g} s" if timed_out else str(error)
            reached = any(
                known.address == command.address and known.error and known.timestamp_tcp_setup
                for known in self.parent.connections
                if isinstance(known, Server)
            )
            return None, Fault(FaultKind.TLS if reached else FaultKind.CONNECT, text, sent=False)
        unchecked = upstream.verify and server.id in self.engine_now.unverified
        if server.tls != (upstream.scheme == "https") or (server.tls and (unchecked or server.sni != upstream.host)):
            return None, Fault(FaultKind.TLS, f"the connection is not one to {upstream.url}", sent=False)
        self.reused = bool(server.timestamp_start and server.timestamp_start < asked)
        http1.tame(self.parent.connections[server].context.layers[-1])
        return server, Fault(FaultKind.CONNECT, "", sent=False)

    def cut_connecting(self) -> CommandGenerator[bool]:
        """The time for a connection is up: close it, which makes mitmproxy report it as failed."""
        command, self.connecting = self.connecting, None
        if command is None:
            return False
        for server, waiting in self.parent.waiting_for_establishment.items():
            if not any(each is command for each in waiting):
                continue
            outer = self.parent.connections[server]
            way = outer.tunnel_connection if isinstance(outer, TunnelLayer) else server
            if in_hook(outer, way):
                waiting[:] = [each for each in waiting if each is not command]
                self.parent.command_sources.pop(command, None)
                late = GetHttpConnectionCompleted(command, (None, "an addon holds the connection up"))
                yield from self.parent.event_to_child(self, late)
            else:
                yield commands.CloseConnection(way)
            break
        return True

    def transmit(self, request: http.Request, server: Server) -> CommandGenerator[None]:
        """Put a request on the wire, secret included: the last moment (law 8)."""
        self.context.server = self.flow.server_conn = server
        self.forget_attempt()
        self.upstream_id = stream_id = next(BorderStream._ids)
        self.parent.streams[stream_id] = self
        content = request.data.content
        # mitmproxy's HTTP/1 client cannot send trailers, and would stop in the middle of the request.
        trailers = request.trailers if server.alpn == b"h2" else None
        yield SendHttp(RequestHeaders(stream_id, request, not (content or trailers)), server)
        if content:
            yield SendHttp(RequestData(stream_id, content), server)
        if trailers:
            yield SendHttp(RequestTrailers(stream_id, trailers), server)
        yield SendHttp(RequestEndOfMessage(stream_id), server)

    def cancel(self) -> CommandGenerator[None]:
        """Tell the upstream that this attempt is over: a reset on HTTP/2, a close on HTTP/1."""
        if self.upstream_id is not None:
            error = RequestProtocolError(self.upstream_id, "attempt abandoned", ErrorCode.CANCEL)
            yield SendHttp(error, self.context.server)

    def leave(self, server: Server) -> CommandGenerator[None]:
        """Let go of a connection that was not used: mitmproxy gives each HTTP/2 request an HTTP/1 one of its own."""
        if self.context.client.alpn == b"h2" and server.alpn != b"h2":
            yield SendHttp(RequestProtocolError(self.stream_id, "attempt abandoned", ErrorCode.CANCEL), server)

    def forget_attempt(self) -> None:
        """Whatever the upstream still sends for the last attempt is nobody's."""
        if self.upstream_id is not None:
            self.parent.streams.pop(self.upstream_id, None)
            self.upstream_id = None

    # -- time ----------------------------------------------------------------------------------------------------

    @property
    def engine_now(self) -> Engine:
        """The engine that this request began with."""
        assert self.owner is not None
        return self.owner

    def now(self) -> float:
        """The clock of the suspensions, in seconds."""
        return self.engine_now.clock()

    def calm(self) -> None:
        """Take back what :meth:`wake_in` asked for."""
        if self.due_at != math.inf:
            self.due_at = math.inf
            watch_of(self.parent, self.engine_now.clock).disarm(self)

    def wake_in(self, seconds: float) -> CommandGenerator[None]:
        """Ask for :meth:`on_due` after so many seconds; infinite: never."""
        if seconds == math.inf:
            return
        self.due_at = self.now() + seconds
        yield from watch_of(self.parent, self.engine_now.clock).arm(self, self.due_at)


def in_hook(layer: Layer, server: Connection) -> bool:
    """Whether the task that connects for this layer is inside a hook of an addon, before or after connecting.

    Ended there it would tell nobody, and the layer would wait for good: it has to be left alone.
    """
    paused = layer._paused
    opening = paused is not None and isinstance(paused.command, commands.OpenConnection)
    return opening and (server.timestamp_start is None or server.connected or server.error is not None)


def host_of(authority: str) -> tuple[str, int | None]:
    """Host and port of ``host:port``; "" when it is not one."""
    try:
        return url.parse_authority(authority, check=False)
    except ValueError:
        return "", None
