"""The connections to pooled upstreams: how they are made, how many there may be, how they are read and closed.

A connection that is to carry a secret is made to the very scheme, host and port of its upstream, with a checked
certificate, and within a bounded time (laws 8 and 10). An HTTP/1 upstream is read with less trust than mitmproxy has:
heads that end, interim responses that are no replies, trailers that do no harm. An HTTP/2 upstream may end its
connection without losing what is under way. ``tests/test_contract.py`` says what is used of mitmproxy.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from logging import WARNING
from types import MappingProxyType
from typing import override

import h11
from h2.connection import ConnectionInputs, H2ConnectionStateMachine
from h2.connection import ConnectionState as H2State
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, StreamReset
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import connection, http, master
from mitmproxy.connection import Address, Connection, ConnectionState, Server
from mitmproxy.net.http import http1
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http import GetHttpConnection, GetHttpConnectionCompleted, HttpLayer
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Client, StreamState
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.proxy.tunnel import TunnelLayer
from mitmproxy.utils import human

from understudy.codec.record import record
from understudy.model import Upstream
from understudy.proxy.descriptors import USED_UP
from understudy.proxy.engine import Engine
from understudy.proxy.timeouts import watch_of
from understudy.replies import Fault, FaultKind
from understudy.requests import rewrite

HEAD_LIMIT = 256 * 1024
"""Bytes of the headers of a reply, or of a request."""
SMALL_HEAD = 8 * 1024
"""Bytes of a request's head that are read without a look at how many fields they are."""
FIELD_LIMIT = 2000
"""Header fields of a request; the field section of HTTP/2 is bounded at 64 KiB, which are no more."""
HEAD_TOO_LARGE = f"understudy: the request has more than {FIELD_LIMIT} header fields, or more than 256 KiB of them"
_read_headers = Http1Server.read_headers
NO_DESCRIPTOR = tuple(f"[Errno {number}]" for number in sorted(USED_UP))
"""How the errors begin that say so, as mitmproxy hands them on."""
MOST_KEPT = 8
"""HTTP/1 connections to one address that stay open for the next requests of an HTTP/2 tool."""
UNLIMITED = 1_000_000
"""Connections per address and client connection, where mitmproxy's limit is lifted."""
# An interim response (RFC 9110, section 15.2); a 101 is one too, but nothing that follows it is HTTP.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d\b[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")


# -- making one ----------------------------------------------------------------------------------------------------


class PooledHttpConnection(GetHttpConnection):
    """Asks for a connection that may carry a secret: to this very name, checked, and not one that failed before.

    Nor one that carries another attempt of the same request: HTTP/1 has room for one at a time.
    """

    upstream: Upstream
    unverified: set[str]
    known: Mapping[Connection, Layer] = MappingProxyType({})
    failed: Exception | None = None
    """What went wrong when mitmproxy looked for one: raised there, it would leave the layer that waits hanging."""

    @override
    def connection_spec_matches(self, connection: Connection) -> bool:
        try:
            return (
                isinstance(connection, Server)
                and may_carry(connection, self.upstream, self.via, self.unverified)
                and not is_taken(self.known.get(connection))
            )
        except Exception as error:
            self.failed = error
            return False


def may_carry(server: Server, upstream: Upstream, via: ServerSpec | None, unverified: set[str]) -> bool:
    """Whether this is a connection to the upstream on which its secret may go: to that very name, checked, unbroken."""
    return (
        server.address == (upstream.host, upstream.port)
        and server.tls == (upstream.scheme == "https")
        and server.via == via
        and server.transport_protocol == "tcp"
        and not server.error
        and (not server.tls or server.sni == upstream.host)
        and (not upstream.verify or server.id not in unverified)
    )


def is_taken(client: Layer | None) -> bool:
    """Whether the client of a connection speaks HTTP/1 and waits for a reply."""
    if client is None:
        return False
    innermost = client.context.layers[-1]
    return isinstance(innermost, Http1Client) and innermost.stream_id is not None


@record
class Connected:
    """A connection that may carry the secret.

    ``reused``: it had served a request before. ``kept``: one of HTTP/1 is to stay open behind the reply.
    """

    server: Server
    reused: bool
    kept: bool = True


@dataclass(frozen=True, slots=True)
class NoDescriptor:
    """No connection could be made, because this process may not open another one: that is no upstream's fault."""

    reason: str


def established(parent: HttpLayer, engine: Engine, upstream: Upstream, via: ServerSpec | None) -> Server | None:
    """A connection that is there and free, and has served a request; None where one has to be waited for.

    mitmproxy never gives a connection of HTTP/1 to a second request of an HTTP/2 tool.
    """
    waiting = parent.waiting_for_establishment
    for each, layer in parent.connections.items():
        if not isinstance(each, Server) or each.state is not ConnectionState.OPEN or (waiting and each in waiting):
            continue
        client = layer.context.layers[-1]
        is_busy = isinstance(client, Http1Client) and client.stream_id is not None
        if not is_busy and may_carry(each, upstream, via, engine.unverified):
            if type(client) is not PooledHttp1Client:
                tame(client)
            return each
    return None


class Connecting:
    """One layer's wait for a connection that may carry the secret of an upstream, within ``pool_connect_timeout``."""

    def __init__(
        self, parent: HttpLayer, layer: Layer, engine: Engine, upstream: Upstream, via: ServerSpec | None
    ) -> None:
        self._parent, self._layer, self._engine, self._upstream, self._via = parent, layer, engine, upstream, via
        self._command = self._question()
        self._given_up = False

    def _question(self) -> PooledHttpConnection:
        upstream = self._upstream
        asked = PooledHttpConnection((upstream.host, upstream.port), upstream.scheme == "https", self._via, "tcp")
        asked.upstream, asked.unverified, asked.known = upstream, self._engine.unverified, self._parent.connections
        return asked

    def run(self) -> CommandGenerator[Connected | Fault | NoDescriptor | None]:
        """Get the connection; to be yielded from by the layer that waits for it.

        None: there is none, because the tool has gone and mitmproxy ended the attempt to connect (H04).
        """
        own, command, upstream, engine = self._parent.context.server, self._command, self._upstream, self._engine
        if own.address == command.address and not own.connected:
            # mitmproxy would take the client's SNI for an address that equals the client's own destination.
            own.sni = upstream.host
        asked, known = time.time(), self._parent.connections
        yield from watch_of(self._parent, engine.clock).arm(self, engine.clock() + engine.connect_limit)
        server, error = yield command
        while server is not None and is_taken(known[server]):
            # Another attempt of this request waited for the same connection, and has it.
            self._command = self._question()
            server, error = yield self._command
        watch_of(self._parent, engine.clock).disarm(self)
        if self._command.failed is not None:
            raise self._command.failed
        if error is not None or server is None:
            if not self._parent.context.client.connected:
                return None
            if server is None and str(error).startswith(NO_DESCRIPTOR):
                return NoDescriptor(str(error))
            # Streams of one client connection share the attempt to connect, and so its end.
            timed_out = self._given_up or error == "closed by command"
            text = f"no connection within {engine.connect_limit:g} s" if timed_out else str(error)
            reached = any(
                each.address == command.address and each.error and each.timestamp_tcp_setup
                for each in known
                if isinstance(each, Server)
            )
            return Fault(FaultKind.TLS if reached else FaultKind.CONNECT, cause_of(text), sent=False)
        unchecked = upstream.verify and server.id in engine.unverified
        if server.tls != (upstream.scheme == "https") or (server.tls and (unchecked or server.sni != upstream.host)):
            return Fault(FaultKind.TLS, f"the connection is not one to {upstream.url}", sent=False)
        tame(known[server].context.layers[-1])
        alike = sum(each.connected and isinstance(each, Server) and each.address == server.address for each in known)
        return Connected(server, bool(server.timestamp_start and server.timestamp_start < asked), alike <= MOST_KEPT)

    def ring(self, error: Exception | None) -> CommandGenerator[None]:
        """The time is up, or nothing would tell: close the connection, which makes mitmproxy report it as failed."""
        if self._given_up:
            return
        self._given_up = True
        for server, waiting in self._parent.waiting_for_establishment.items():
            if not any(each is self._command for each in waiting):
                continue
            outer = self._parent.connections[server]
            way = outer.tunnel_connection if isinstance(outer, TunnelLayer) else server
            if in_hook(outer, way):
                waiting[:] = [each for each in waiting if each is not self._command]
                self._parent.command_sources.pop(self._command, None)
                late = GetHttpConnectionCompleted(self._command, (None, "an addon delays the connection"))
                yield from self._parent.event_to_child(self._layer, late)
            else:
                yield commands.CloseConnection(way)
            break


def in_hook(layer: Layer, server: Connection) -> bool:
    """Whether the task that connects for this layer is inside a hook of an addon, before or after connecting.

    Ended there it would raise no event, and the layer would wait for good: it has to be left alone.
    """
    paused = layer._paused
    opening = paused is not None and isinstance(paused.command, commands.OpenConnection)
    return opening and (server.timestamp_start is None or server.connected or server.error is not None)


_CAUSES = (
    (re.compile(r"^stream reset by client \((.*)\)$"), r"the upstream reset the stream (\1)"),
    (re.compile(r"^(?:server|peer) closed connection$"), "the upstream closed or reset the connection"),
    (
        re.compile(r"^HTTP/2 connection closed: <ConnectionTerminated error_code:(?:ErrorCodes\.)?(\w+).*$", re.DOTALL),
        r"the upstream ended the HTTP/2 connection (\1)",
    ),
    (re.compile(r"^(.*(?:Connect call failed|Connection refused).*)$", re.DOTALL), r"refused by the upstream: \1"),
    (
        re.compile(r"^(.*(?:Name or service not known|getaddrinfo failed|nodename nor servname).*)$"),
        r"no such host: \1",
    ),
)


def cause_of(message: str) -> str:
    """What happened on a connection to an upstream, in words; mitmproxy writes from the view of a server."""
    for pattern, words in _CAUSES:
        if found := pattern.match(message):
            return found.expand(words)
    return message


# -- how many, and their sockets -----------------------------------------------------------------------------------


def lift_connection_limit(owner: master.Master, client: connection.Client, address: Address | None) -> None:
    """Lift the limit for one address on one client connection. To be called before the connection is opened.

    mitmproxy opens at most five connections per address and client connection, each held for its whole life. One HTTP/2
    client with a hundred streams to an HTTP/1.1 upstream would wait there for ever, and time queued there is neither
    connect time nor a fault. Ending such a wait from outside would leave mitmproxy's layer paused for good, so the
    limit is lifted instead, for pooled upstreams only.
    """
    handler = _handler(owner, client)
    # A replayed flow has a handler of its own that mitmproxy lists nowhere; it makes one request.
    if handler is not None and address is not None and handler.max_conns[address]._value < UNLIMITED // 2:
        handler.max_conns[address] = asyncio.Semaphore(UNLIMITED)


def close_socket(owner: master.Master, client: connection.Client, server: connection.Server) -> None:
    """Close the socket of a connection that is over, if it is still open. To be called when it is disconnected.

    A connection that is closed while more of its data waits to be read, as that of an abandoned attempt is, can lose
    its handler to the cancellation before mitmproxy comes to close the socket: an upstream that never ends would then
    hang on to it for ever.
    """
    handler = _handler(owner, client)
    transport = handler.transports.pop(server, None) if handler is not None else None
    if transport is not None and transport.writer is not None:
        transport.writer.close()


def _handler(owner: master.Master, client: connection.Client) -> ConnectionHandler | None:
    proxyserver = owner.addons.get("proxyserver")
    return proxyserver.connections.get(client.id) if proxyserver else None


# -- reading HTTP/1 ------------------------------------------------------------------------------------------------


class PooledHttp1Client(Http1Client):
    """mitmproxy's HTTP/1 client, less trusting.

    mitmproxy reads a head without any bound, takes a 103 for the reply itself (the tool then waits for the real one for
    ever), and raises on a body with trailers. Tools must not depend on an upstream being polite.
    """

    @override
    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        while self.request and (interim := _INTERIM.match(self.buf._data)):
            self.buf.maybe_extract_at_most(interim.end())
        if len(self.buf._data) > HEAD_LIMIT:
            self.buf.maybe_extract_at_most(len(self.buf))
            self.buf += b"the response headers are longer than 256 KiB\r\n\r\n"
        return super().read_headers(event)

    @override
    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = BoundedChunkedReader()
        return super().read_body(event)


def as_http1(request: http.Request) -> http.Request:
    """A request of HTTP/2 or HTTP/3 as mitmproxy's HTTP/1 client writes it.

    Behind one that it has to write so itself, that client closes the connection.
    """
    headers = http.Headers(request.headers.fields)
    if request.data.authority and "host" not in headers:
        headers.insert(0, "Host", request.authority)
    if len(cookies := headers.get_all("cookie")) > 1:
        headers["Cookie"] = "; ".join(cookies)
    sent = rewrite.copy_of(request)
    sent.data.http_version, sent.data.authority, sent.data.headers = b"HTTP/1.1", b"", headers
    return sent


class BoundedChunkedReader(ChunkedReader):
    """A body in chunks, without the trailers behind it; what stands between chunks is bounded."""

    @override
    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        found = super().__call__(buf)
        if found is None and len(buf) > HEAD_LIMIT:
            raise h11.RemoteProtocolError("a chunk header or trailer is longer than 256 KiB")
        return h11.EndOfMessage() if isinstance(found, h11.EndOfMessage) else found


def read_request_head(self: Http1Server, event: events.ConnectionEvent) -> CommandGenerator[None]:
    """mitmproxy's ``Http1Server.read_headers``, which reads a head of any length, of any number of fields.

    One that is too large is answered with 431 (RFC 6585, section 5), and the connection is closed.
    """
    if len(self.buf._data) > SMALL_HEAD and isinstance(event, events.DataReceived):
        head = bytes(self.buf)
        end = head.find(b"\r\n\r\n")
        length = len(head) if end < 0 else end
        if length > HEAD_LIMIT or head.count(b"\n", 0, length) > FIELD_LIMIT:
            return _refuse_head(self)
    return _read_headers(self, event)


def _refuse_head(server: Http1Server) -> CommandGenerator[None]:
    server.buf.maybe_extract_at_most(len(server.buf))
    server.state = server.done
    yield commands.Log(f"{human.format_address(server.conn.peername)}: {HEAD_TOO_LARGE}", WARNING)
    headers = {"content-type": "text/plain; charset=utf-8", "connection": "close", "x-should-retry": "false"}
    answer = http.Response.make(431, HEAD_TOO_LARGE, headers)
    yield commands.SendData(server.conn, http1.assemble_response(answer))
    yield commands.CloseConnection(server.conn)


def read_request_body(self: Http1Connection, event: events.Event) -> CommandGenerator[None]:
    """mitmproxy's ``Http1Server.read_body``, which raises on a body with trailers and leaves the tool waiting.

    The trailers (RFC 9110, section 6.5: may be discarded) are left out, as mitmproxy could not pass them on either.
    """
    if type(self.body_reader) is ChunkedReader:
        self.body_reader = BoundedChunkedReader()
    return Http1Connection.read_body(self, event)


# -- reading HTTP/2 ------------------------------------------------------------------------------------------------


@dataclass
class NotServed(ResponseProtocolError):
    """The upstream says that it has not begun with this request, on a connection that takes no more, or at all."""


class PooledHttp2Client(Http2Client):
    """mitmproxy's HTTP/2 client, which waits for what an upstream still serves on a connection that it ends.

    An upstream that takes no more requests on a connection says so with GOAWAY and NO_ERROR, names the last one that it
    serves, and answers those before it closes (RFC 9113, section 6.8). mitmproxy gives all of them up, and forgets
    those that wait until the upstream takes more at once: they would wait for ever. A single request that it has not
    begun with it resets with REFUSED_STREAM (section 8.7), which mitmproxy does not tell from a broken one.
    """

    is_leaving = False

    @override
    def handle_h2_event(self, event: Event) -> CommandGenerator[bool]:
        if isinstance(event, StreamReset) and event.error_code == ErrorCodes.REFUSED_STREAM:
            return self._refuse(event)
        return self._handle(event)

    def _handle(self, event: Event) -> CommandGenerator[bool]:
        if self.is_leaving or _is_goodbye(event):
            return self._leave(event)
        return super().handle_h2_event(event)

    def _refuse(self, event: StreamReset) -> CommandGenerator[bool]:
        if self.streams.get(event.stream_id) is StreamState.EXPECTING_HEADERS:
            del self.streams[event.stream_id]
            yield ReceiveHttp(NotServed(event.stream_id, "stream reset by server (REFUSED_STREAM)", NotServed.code))
        return (yield from self._handle(event))

    def _leave(self, event: Event) -> CommandGenerator[bool]:
        if isinstance(event, ConnectionTerminated) and _is_goodbye(event):
            yield from self._keep_served(event)
        elif (yield from super().handle_h2_event(event)):
            return True
        if self.streams:
            return False
        yield from self.close_connection("peer closed connection")
        return True

    def _keep_served(self, event: ConnectionTerminated) -> CommandGenerator[None]:
        """Give up what is not served. That is also a request whose rest was unsent: mitmproxy has dropped that."""
        self.is_leaving = True
        self.conn.state &= ~ConnectionState.CAN_WRITE  # so that no other request takes this connection
        message = f"HTTP/2 connection closed: {event!r}"
        for stream_id in list(self.streams):
            if stream_id > (event.last_stream_id or 0) or self.is_open_for_us(stream_id):
                del self.streams[stream_id]
                if not self.is_closed(stream_id):
                    self.h2_conn.reset_stream(stream_id, ErrorCodes.CANCEL)  # a late reply to it is not unexpected
                yield ReceiveHttp(NotServed(stream_id, message, NotServed.code))
        yield from self._give_up_queued(message)

    @override
    def close_connection(self, msg: str) -> CommandGenerator[None]:
        yield from super().close_connection(msg)
        yield from self._give_up_queued(msg)

    def _give_up_queued(self, message: str) -> CommandGenerator[None]:
        for stream_id in list(self.stream_queue):
            del self.stream_queue[stream_id]
            self.their_stream_id[_NO_STREAM] = stream_id  # by which mitmproxy finds out whose it is
            yield ReceiveHttp(NotServed(_NO_STREAM, message, NotServed.code))


_NO_STREAM = 0
"""The id of the connection itself: a queued request has none yet."""
_STAYS_OPEN = {
    **H2ConnectionStateMachine._transitions,
    (H2State.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, H2State.CLIENT_OPEN),
}
"""As the HTTP/2 library has it, but for a connection that an upstream ends: it goes on to be read."""


def _is_goodbye(event: Event) -> bool:
    return isinstance(event, ConnectionTerminated) and event.error_code == ErrorCodes.NO_ERROR


def tame(client: Layer) -> None:
    """Make an HTTP/1 client that waits for a reply, or for a request, a :class:`PooledHttp1Client`.

    And an HTTP/2 client a :class:`PooledHttp2Client`.
    """
    if type(client) is Http1Client and client.state == client.read_headers:
        client.__class__ = PooledHttp1Client
        client.state = client.read_headers
    elif type(client) is Http2Client:
        client.__class__ = PooledHttp2Client
        client.h2_conn.state_machine._transitions = _STAYS_OPEN
