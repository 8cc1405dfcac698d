"""WebSockets on which calls are made: refused, so that the tool goes on over HTTP, or served over HTTP here.

A served socket is accepted by us; no upstream is ever asked for one. Each ``response.create`` becomes a request of its
own, with a stream of its own below the same ``HttpLayer``, as if the tool had sent it over HTTP: it is replayed, held,
hedged, suspended, written down and masked like every other call, and has a flow of its own. What that stream would send
to the tool comes here instead, and goes out as messages (``understudy.sockets``). ``tests/test_contract.py`` says what
is used of mitmproxy.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from logging import ERROR
from typing import Any, ClassVar, TypeVar, override

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpLayer, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketStartHook

from understudy.codec.events import read_json
from understudy.codec.json_edit import raw_members
from understudy.failover import Refuse
from understudy.model import WebSocket
from understudy.proxy.attempt import context_below
from understudy.proxy.engine import Engine, Intake
from understudy.proxy.listener import SERVED, Aside, UnderstudyAsideHook
from understudy.proxy.stream import ReplayStream
from understudy.proxy.upstream_connection import is_taken
from understudy.sockets import (
    Action,
    Ask,
    Closed,
    Frames,
    HangUp,
    NotAHandshake,
    Received,
    Reply,
    Say,
    Session,
    Turn,
    handshake,
    read_message,
)

FALLS_BACK = ("codex",)
"""How the names of tools begin that were seen to go on over HTTP at once after a 426."""
_BETA = "responses_websockets="
"""What a tool writes into ``OpenAI-Beta`` for the socket's sake."""
_OF_THE_SOCKET = frozenset({b"connection", b"upgrade", b"accept-encoding", b"content-length", b"transfer-encoding"})
_HEADER_IN_BODY = "ws_request_header_"
"""How members of ``client_metadata`` begin with which Codex tells the headers of a request on a socket."""
_TELLABLE = ("x-openai-internal-codex-", "traceparent", "tracestate")
_TOLD_TWICE = "x-codex-"
"""Headers that Codex also tells for each request, in ``client_metadata``: there they are the newer ones."""
LONGEST_HEADER = 8 * 1024
LONGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes of a message; while it becomes a call there are some copies of it."""
LARGE = 256 * 1024
"""Bytes of a message that is read in a thread of its own, and of a call that is written there."""
T = TypeVar("T")


# -- which ones ----------------------------------------------------------------------------------------------------


def serves(how: WebSocket, intake: Intake, opening: http.Request) -> bool:
    """Whether the socket that this request asks for is served, or else refused with 426."""
    if how is WebSocket.REFUSE or intake.recognised is None or intake.recognised.endpoint.name != "responses":
        return False
    return how is WebSocket.SERVE or not goes_on_over_http(opening)


def goes_on_over_http(opening: http.Request) -> bool:
    """Whether this tool is known to go on over HTTP at once after a 426; docs/websockets.md has the measurements."""
    names = (opening.headers.get("originator", ""), opening.headers.get("user-agent", ""))
    return any(name.strip().lower().startswith(FALLS_BACK) for name in names)


# -- one call of a socket ------------------------------------------------------------------------------------------


@dataclass
class Open(HttpEvent):
    """To a call: begin, with this request."""

    request: http.Request = field(repr=False)


@dataclass
class Came(HttpEvent):
    """From a call, to the stream of its socket: what would have gone to the tool."""

    call: SocketCall = field(repr=False)
    event: HttpEvent = field(repr=False)


class FreeConnection(GetHttpConnection):
    """Asks for a connection that no other call of the socket is using: HTTP/1 has room for one at a time."""

    parent: HttpLayer

    @override
    def connection_spec_matches(self, connection: Connection) -> bool:
        known = self.parent.connections.get(connection)
        return (
            super().connection_spec_matches(connection)
            and connection not in self.parent.waiting_for_establishment
            and not is_taken(known)
        )


class SocketCall(ReplayStream):
    """The call of one turn. ``socket``: the id of the stream that is told. Its own id is never that of a connection."""

    _ids: ClassVar[itertools.count[int]] = itertools.count(-1, -2)

    def __init__(self, context: Context, socket: int) -> None:
        super().__init__(context, next(SocketCall._ids))
        self.socket = socket

    @override
    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        return self._led(self._begin(event) if isinstance(event, Open) else super()._handle_event(event))

    def _begin(self, event: Open) -> CommandGenerator[None]:
        own, request = self.stream_id, event.request
        yield from super()._handle_event(RequestHeaders(own, request, end_stream=False))
        if self.client_state != self.state_errored:
            yield from super()._handle_event(RequestData(own, request.data.content or b""))
            yield from super()._handle_event(RequestEndOfMessage(own))

    def _led(self, commanded: CommandGenerator[None]) -> CommandGenerator[None]:
        """What goes to the tool goes to the socket instead."""
        reply: Any = None
        while True:
            try:
                command = commanded.send(reply)
            except StopIteration:
                return
            if isinstance(command, SendHttp) and command.connection == self.context.client:
                command = ReceiveHttp(Came(self.socket, self, command.event))
            elif type(command) is GetHttpConnection:
                asked = FreeConnection(command.address, command.tls, command.via, command.transport_protocol)
                asked.parent, command = self.parent, asked
            reply = yield command


# -- the socket ----------------------------------------------------------------------------------------------------


class ToolStream(ReplayStream):
    """A request of a tool's connection: as :class:`ReplayStream`, and it may become a socket."""

    socket: ServedSocket | None = None

    @override
    def upgrade(self, engine: Engine, intake: Intake) -> CommandGenerator[None]:
        opening, how = self.flow.request.copy(), intake.snapshot.pool.websocket
        if self.opened_with is not None:
            opening.headers.fields, opening.data.path = self.opened_with
        above = self.parent.connections.get(self.context.client)
        able = isinstance(above, Http1Server) and self.context.options.websocket and not self.replayed
        able = able and self.opened_with is not None
        if not able or not serves(how, intake, opening):
            yield from super().upgrade(engine, intake)
            return
        if reason := engine.why_not(self.context.client, self.flow.request, replayed=self.replayed):
            yield from self.refuse(Refuse(400, reason))
            return
        headers = opening.headers
        wanted = (headers.get(f"sec-websocket-{name}", "") for name in ("version", "key", "extensions"))
        try:
            accepting, compressed = handshake(opening.method, *wanted)
        except NotAHandshake as problem:
            yield from self.refuse(Refuse(400, f"understudy: {problem}"))
            return
        self.socket = ServedSocket(self, engine, opening, compressed=compressed)
        if self.journal is not None:
            self.journal.served(self.flow)
        self.flow.metadata[SERVED] = True
        yield from self.respond(http.Response.make(101, b"", accepting))

    @override
    def flow_done(self) -> CommandGenerator[None]:
        if self.socket is None or self.flow.response is None or self.flow.response.status_code != 101:
            return super().flow_done()
        return self.become(self.socket)

    def become(self, socket: ServedSocket) -> CommandGenerator[None]:
        """From now on what comes is the socket's."""
        self.child_layer, self._handle_event = socket, self.passthrough  # type: ignore[method-assign]
        yield from socket.handle_event(events.Start())
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)


class ServedSocket(Layer):
    """A socket after its handshake. ``opening``: the request that opened it, as the tool sent it."""

    def __init__(self, stream: ToolStream, engine: Engine, opening: http.Request, *, compressed: bool) -> None:
        super().__init__(stream.context)
        stream.context.layers.remove(self)  # it is no layer of its own to those who count them
        self.stream = stream
        self.opening = opening
        self.frames = Frames(min(LONGEST_MESSAGE, engine.request_limit), compressed=compressed)
        self.session = Session(engine.transcripts, engine.request_limit)
        self.calls: dict[Turn, SocketCall] = {}
        self.turns: dict[SocketCall, Turn] = {}
        self.is_over = False

    @override
    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.is_over:
            return
        try:
            match event:
                case events.Start():
                    yield WebsocketStartHook(self.stream.flow)
                case Came():
                    yield from self.came(event)
                case events.DataReceived():
                    yield from self.received(event.data)
                case events.ConnectionClosed():
                    yield from self.ended(1006, "", by_client=True)
                case _:
                    pass  # a message that a person wants to put in: nothing here would know what it belongs to
        except Exception as error:
            yield commands.Log(f"understudy: internal error: {self.stream.trace(error)}", ERROR)
            self.is_over = True
            yield from self.ended(
                1011, "internal error", by_client=False, data=self.frames.close(1011, "internal error")
            )

    def received(self, data: bytes) -> CommandGenerator[None]:
        """Bytes of the tool."""
        for event in self.frames.receive(data):
            match event:
                case Received(text=text):
                    message = (yield from self.aside(partial(read_message, text))) if len(text) > LARGE else None
                    yield from self.act(self.session.receive(text, message))
                case Reply(data=answer):
                    yield commands.SendData(self.context.client, answer)
                case Closed(code=code, reason=reason, by_client=by_client, data=answer):
                    yield from self.ended(code, reason, by_client=by_client, data=answer)

    def came(self, event: Came) -> CommandGenerator[None]:
        """Something of a call's reply."""
        turn = self.turns.get(event.call)
        if turn is None:
            return
        match event.event:
            case ResponseHeaders(response=response):
                fields = response.headers.fields
                turn.head(response.status_code, [(k.decode("latin-1"), v.decode("latin-1")) for k, v in fields])
            case ResponseData(data=data):
                large = turn.unread + len(data) > LARGE
                messages = (yield from self.aside(partial(turn.data, data))) if large else None
                yield from self.act(self.session.data(turn, data, messages))
            case ResponseEndOfMessage():
                self.forget(turn)
                yield from self.over(turn)
            case ResponseProtocolError(message=message):
                self.forget(turn)
                yield from self.over(turn, cut=message)

    def over(self, turn: Turn, cut: str = "") -> CommandGenerator[None]:
        """The reply of a call is over."""
        messages = (yield from self.aside(partial(turn.end, cut))) if turn.unread > LARGE else None
        yield from self.act(self.session.end(turn, cut, messages))

    def act(self, actions: Iterable[Action]) -> CommandGenerator[None]:
        """Do what the session wants."""
        for action in actions:
            match action:
                case Say(text=text):
                    written = partial(self.frames.text, text)
                    data = (yield from self.aside(written)) if len(text) > LARGE else written()
                    yield commands.SendData(self.context.client, data)
                case Ask(turn=turn):
                    yield from self.ask(turn)
                case HangUp(turn=turn):
                    yield from self.hang_up(turn)

    def ask(self, turn: Turn) -> CommandGenerator[None]:
        """Make the call of a turn."""
        made = partial(request_of, self.opening, turn)
        request = (yield from self.aside(made)) if turn.size > LARGE else made()
        parent = self.stream.parent
        call = SocketCall(context_below(parent), self.stream.stream_id)
        parent.streams[call.stream_id] = call
        self.calls[turn], self.turns[call] = call, turn
        yield from call.handle_event(events.Start())
        yield ReceiveHttp(Open(call.stream_id, request))

    def aside(self, work: Callable[[], T]) -> CommandGenerator[T]:
        """Do what takes long while other connections go on; what comes on this one waits (H02)."""
        aside = Aside(work)
        yield UnderstudyAsideHook(aside)
        return aside.result()

    def hang_up(self, turn: Turn) -> CommandGenerator[None]:
        """End the call of a turn, as a tool does that goes away."""
        if (call := self.forget(turn)) is not None:
            gone = RequestProtocolError(call.stream_id, "the tool wants no more of it", ErrorCode.CLIENT_DISCONNECTED)
            yield ReceiveHttp(gone)

    def forget(self, turn: Turn) -> SocketCall | None:
        """Nothing more is expected of a call."""
        call = self.calls.pop(turn, None)
        if call is not None:
            self.turns.pop(call, None)
        return call

    def ended(self, code: int, reason: str, *, by_client: bool, data: bytes = b"") -> CommandGenerator[None]:
        """The socket is over: nothing goes on for it."""
        self.is_over = True
        if data:
            yield commands.SendData(self.context.client, data)
        for action in list(self.session.close()):
            yield from self.hang_up(action.turn)
        yield commands.CloseConnection(self.context.client)
        flow = self.stream.flow
        if flow.websocket is not None:
            flow.websocket.timestamp_end = time.time()
            flow.websocket.closed_by_client = by_client
            flow.websocket.close_code, flow.websocket.close_reason = code, reason
            yield WebsocketEndHook(flow)
        flow.live = False


def request_of(opening: http.Request, turn: Turn) -> http.Request:
    """The HTTP request of a turn: what the tool would have sent, with the headers that it opened the socket with."""
    request, body = opening.copy(), turn.body()
    fields = [
        field_
        for field_ in opening.headers.fields
        if (name := field_[0].lower()) not in _OF_THE_SOCKET and not name.startswith(b"sec-websocket-")
    ]
    request.headers = http.Headers(fields)
    if beta := request.headers.get("openai-beta"):
        kept = [each for part in beta.split(",") if (each := part.strip()) and not each.startswith(_BETA)]
        request.headers["openai-beta"] = ", ".join(kept)
        if not kept:
            del request.headers["openai-beta"]
    for told, value in told_headers(body, opening.headers):
        request.headers[told] = value
    request.headers["accept"] = "text/event-stream"
    request.headers["accept-encoding"] = "identity"
    request.headers["content-type"] = "application/json"
    request.headers["content-length"] = str(len(body))
    request.method, request.data.content = "POST", body
    request.timestamp_start = time.time()
    request.timestamp_end = None
    return request


def told_headers(body: bytes, opened_with: http.Headers) -> Iterator[tuple[str, str]]:
    """The headers that a request tells in its body, because there are none for a message on a socket."""
    metadata = read_json(raw_members(body, ("client_metadata",)).get("client_metadata", b"null"))
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        if not isinstance(value, str) or not value.isprintable() or not value.isascii() or len(value) > LONGEST_HEADER:
            continue
        told = key.removeprefix(_HEADER_IN_BODY).replace("_", "-") if key.startswith(_HEADER_IN_BODY) else ""
        if told.startswith(_TELLABLE) or (key.startswith(_TOLD_TWICE) and key in opened_with):
            yield told or key, value
