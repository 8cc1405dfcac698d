"""An attempt of a drill: it answers in its candidate's place, or spoils what that says (H12).

Everything else is the attempt's own: the request is built with the secret in it, the reply is held, and the stream is
told, so that what follows is what would follow. A reply that is made up comes without any connection; ``slow`` and
``cut`` ask the real upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from logging import INFO
from typing import override

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpLayer, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)

from understudy.drill import Call, Kind, made_reply
from understudy.failover import Attempt
from understudy.proxy.attempt import AttemptLayer, Failed
from understudy.proxy.pooled_call import PooledCall
from understudy.proxy.timeouts import SLACK
from understudy.replies import Fault, FaultKind

SAID = "(made up by a drill of understudy)"
LOOK_AGAIN = 1.0
"""Seconds until a silent attempt looks again whether its drill is over."""
MOST_HELD_BACK = 8 * 1024 * 1024
"""Bytes of a reply that ``slow`` holds back; with more it lets go before the time."""
_BETWEEN = (b"\n\n", b"\r\n\r\n")
"""What stands between two events of a stream."""
COMES_BACK = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


class DrilledAttempt(AttemptLayer):
    """One sending of a tool's request that a drill strikes."""

    def __init__(self, parent: HttpLayer, tool_stream: int, call: PooledCall, step: Attempt) -> None:
        super().__init__(parent, tool_stream, call, step)
        assert call.drilled is not None
        self.of: Call = call.drilled
        self.behaviour = self.of.drill.behaviour
        self.kind = self.behaviour.kind
        self._late_until = 0.0
        self._held_back: list[HttpEvent] = []
        self._size = 0
        self._is_cut = False

    @override
    def begin(self) -> CommandGenerator[None]:
        yield commands.Log(f"{self.step.candidate}: a drill strikes: {self.behaviour}", INFO)
        yield from super().begin()

    @override
    def reach(self, request: http.Request) -> CommandGenerator[None]:
        if self.kind.asks:
            yield from super().reach(request)
            return
        upstream = self.step.candidate.upstream
        self.call.flow.server_conn = Server(address=(upstream.host, upstream.port))
        request.timestamp_end = request.timestamp_start
        self.sent_at = self.call.engine.clock()
        match self.kind:
            case Kind.DEAD:
                fault = Fault(FaultKind.CONNECT, f"refused by the upstream {SAID}", sent=False)
                yield ReceiveHttp(Failed(self.tool_stream, self, fault))
            case Kind.TIMEOUT:
                yield from self.timeout.start(self.call.engine.connect_limit)
            case Kind.SILENT:
                self.state = self.state_wait_for_headers
                yield from self.watch()
            case _:
                yield from self.answer(request)

    def answer(self, request: http.Request) -> CommandGenerator[None]:
        """The reply of an upstream that fails, as if it had come over the wire."""
        plan, candidate = self.call.plan, self.step.candidate
        made = made_reply(
            self.behaviour,
            candidate.upstream.dialect,
            candidate.model,
            endpoint=plan.recognised.endpoint.name,
            streamed=plan.call.streamed,
            query=request.path.partition("?")[2],
        )
        response = http.Response.make(made.status, b"", dict(made.headers))
        response.data.content = None
        self.state = self.state_wait_for_headers
        came: list[HttpEvent] = [ResponseHeaders(self.stream_id, response)]
        came += [ResponseData(self.stream_id, made.body)] if made.body else []
        for event in (*came, ResponseEndOfMessage(self.stream_id)):
            yield from self.pass_on(event)

    def pass_on(self, event: HttpEvent) -> CommandGenerator[None]:
        """To whom the reply belongs by now: this attempt, or the stream that has released it; nobody may want it."""
        if self.stream_id in self.parent.streams:
            yield ReceiveHttp(event)

    # -- time --------------------------------------------------------------------------------------------------------

    @override
    def watch(self, at_least: float = 0.0) -> CommandGenerator[None]:
        yield from super().watch(at_least)
        now = self.call.engine.clock()
        if self.kind is Kind.SLOW and self.server is not None and not self._late_until:
            self._late_until = self.sent_at + self.behaviour.seconds
        if self.is_late and self.timeout.due_at > self._late_until:
            yield from self.timeout.start(max(0.0, self._late_until - now))
        elif self.kind is Kind.SILENT and self.timeout.due_at > now + LOOK_AGAIN:
            yield from self.timeout.start(LOOK_AGAIN)

    @property
    def is_late(self) -> bool:
        """Whether what the upstream says is held back still."""
        return self._late_until > 0 and self._late_until < float("inf")

    @override
    def on_due(self) -> CommandGenerator[None]:
        if not self.timeout.is_due:
            return
        if self.kind is Kind.TIMEOUT:
            text = f"no connection within {self.call.engine.connect_limit:g} s {SAID}"
            yield ReceiveHttp(Failed(self.tool_stream, self, Fault(FaultKind.CONNECT, text, sent=False)))
        elif self.kind is Kind.SILENT and not self.of.drill.is_running:
            # Another attempt at the same candidate, which is not struck any more, finds out what is true.
            yield from self.failed(FaultKind.CLOSED, f"the drill is over {SAID}")
        elif self.is_late and (self.call.engine.clock() + SLACK >= self._late_until or not self.of.drill.is_running):
            yield from self.let_through()
        else:
            yield from super().on_due()

    def let_through(self) -> CommandGenerator[None]:
        """The time is over: what came meanwhile comes now."""
        self.of.held_back += max(0.0, self.call.engine.clock() - self.sent_at)
        self._late_until = float("inf")
        came, self._held_back = self._held_back, []
        yield from self.watch()
        for event in came:
            yield from self.pass_on(event)

    # -- what the upstream says --------------------------------------------------------------------------------------

    @override
    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.is_over or not isinstance(event, COMES_BACK):
            yield from super()._handle_event(event)
        elif self.is_late:
            self._held_back.append(event)
            self._size += len(event.data) if isinstance(event, ResponseData) else 0
            if isinstance(event, (ResponseEndOfMessage, ResponseProtocolError)):
                self.is_on_the_wire = False
            if self._size > MOST_HELD_BACK:
                yield from self.let_through()
        elif self.kind is Kind.CUT and isinstance(event, ResponseData) and not self._is_cut:
            self._is_cut = True  # unless it is not, and the next piece is
            yield from self.spoil(event)
        else:
            yield from super()._handle_event(event)

    def spoil(self, event: ResponseData) -> CommandGenerator[None]:
        """Pass a part of a reply on, and break it off there, unless it is an error anyway or shows nothing yet."""
        hold = self.hold
        assert hold is not None
        if not hold.success:
            yield from super()._handle_event(event)
            return
        for part in parts_of(event.data, is_stream=hold.live):
            yield from self.pass_on(ResponseData(self.stream_id, part))
            if not hold.live or hold.has_output:
                break
        else:
            self._is_cut = False
            return
        on_the_wire, self.is_on_the_wire = self.is_on_the_wire, False
        if on_the_wire and self.server is not None:
            yield SendHttp(RequestProtocolError(self.stream_id, "cut by a drill", ErrorCode.CANCEL), self.server)
        said = f"peer closed connection {SAID}"
        yield from self.pass_on(ResponseProtocolError(self.stream_id, said, ErrorCode.GENERIC_SERVER_ERROR))


def parts_of(data: bytes, *, is_stream: bool) -> Iterator[bytes]:
    """A piece of a reply in smaller ones: event by event, or half of a body that is no stream."""
    if not is_stream:
        yield data[: max(1, len(data) // 2)]
        return
    at = 0
    while at < len(data):
        end = min((found + len(mark) for mark in _BETWEEN if (found := data.find(mark, at)) >= 0), default=-1)
        end = len(data) if end < 0 else end
        yield data[at:end]
        at = end
