"""The layer: mitmproxy's HTTP stream that takes a tool's call, and gives it to the pool when a route serves it.

The stream is built in six steps, one file each: ``upstream_connection.py`` (connections, time-outs), ``delivery.py``
(what the tool gets), ``secret_stream.py`` (fetching secrets), ``attempts.py`` (sending, holding, judging),
``passthrough.py`` (what is passed on as it came), and this one: the request, and whatever goes wrong. What they, and
``timeouts.py``, ``http1.py`` and ``install.py``, use of mitmproxy's internals is listed in ``tests/test_contract.py``.
"""

from __future__ import annotations

import time
from contextlib import suppress
from logging import ERROR, WARNING
from typing import ClassVar, override

from mitmproxy import flow as mflow
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import DropStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpRequestHook
from mitmproxy.utils import human

from understudy.failover import Refuse, Step
from understudy.model import Mode
from understudy.proxy import release
from understudy.proxy.engine import NO_ROUTE, ONLY_OBSERVED, Engine, Intake
from understudy.proxy.passthrough import PassingStream
from understudy.proxy.timeouts import Due
from understudy.replies import Fault, FaultKind
from understudy.requests import model_list, rewrite
from understudy.requests.model_list import Listing

RESPONSE_EVENTS = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


class ReplayStream(PassingStream):
    """One request of a tool. Without a route it behaves exactly as mitmproxy's own stream."""

    engine: ClassVar[Engine | None] = None
    listing: Listing | None = None
    """What belongs into the list of models that this request asks for."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.intake is None and not isinstance(event, RequestHeaders):
            return super()._handle_event(event)  # type: ignore[no-any-return]
        return self._handle_guarded(event)

    def _handle_guarded(self, event: events.Event) -> CommandGenerator[None]:
        # The tool's own id is on what mitmproxy hands out a second time, when it begins to stream a large body.
        if isinstance(event, RESPONSE_EVENTS) and self.exchange is not None and event.stream_id != self.stream_id:
            if event.stream_id != self.upstream_id:
                return  # an attempt that was given up
            event.stream_id = self.stream_id
        try:
            if isinstance(event, Due) and event.error is not None:
                raise event.error
            if isinstance(event, (Due, events.Wakeup)):
                yield from self.on_due()
            elif self.reveals:
                if self.observation is not None:
                    yield from self.look(event)
                yield from self.on_the_wire(super()._handle_event(event))
            else:
                yield from super()._handle_event(event)
        except Exception as error:
            if self.intake is None:
                raise  # mitmproxy's own
            yield from self.crashed(error)

    @override
    def state_wait_for_request_headers(self, event: RequestHeaders) -> CommandGenerator[None]:
        engine = ReplayStream.engine
        if engine is not None and event.request.method != "CONNECT":
            self.owner, self.replayed = engine, event.replay_flow is not None
            sent = event.request.headers.fields, event.request.data.path
            try:
                host, port = self.destination(event.request)
                self.listing = engine.listing(event.request, host, port)
                self.intake = engine.take(event.request, host, port, self.own_login(event.request))
            except Exception as error:
                # The request goes out exactly as the tool sent it.
                event.request.headers.fields, event.request.data.path = sent
                yield commands.Log(f"understudy: cannot look at a request: {self.trace(error)}", ERROR)
        parent = super().state_wait_for_request_headers(event)
        yield from self.on_the_wire(parent) if self.reveals else parent

    @override
    def start_request_stream(self) -> CommandGenerator[None]:
        if self.intake is not None and self.intake.is_call:
            # A body that may have to be sent twice is buffered whatever stream_large_bodies says.
            self.flow.request.stream = False
            self.client_state = self.state_consume_request_body
            return
        yield from super().start_request_stream()

    @override
    def check_body_size(self, request: bool) -> CommandGenerator[bool]:
        if not request and self.exchange is not None:
            return self.check_reply_size()
        if not request or self.intake is None or not self.intake.is_call:
            return super().check_body_size(request)
        return self.check_call_size()

    def check_reply_size(self) -> CommandGenerator[bool]:
        """As ``check_body_size``, which knows nothing of the attempt's own stream id."""
        too_large = yield from super().check_body_size(False)
        if too_large:
            yield from self.cancel()
            self.finish()
        return too_large

    def check_call_size(self) -> CommandGenerator[bool]:
        """As ``check_body_size``, but a body that may have to be sent twice is never streamed."""
        options = self.context.options
        if options.stream_large_bodies:
            limit = human.parse_size(options.body_size_limit)
            size = expected_http_body_size(self.flow.request) or 0
            if limit is None or max(size, len(self.request_body_buf)) <= limit:
                return False
        return (yield from super().check_body_size(True))

    @override
    def state_consume_request_body(self, event: events.Event) -> CommandGenerator[None]:
        intake, engine = self.intake, self.owner
        if intake is None or not intake.is_call or engine is None or not isinstance(event, RequestEndOfMessage):
            yield from super().state_consume_request_body(event)
            return
        request = self.flow.request
        request.data.content = bytes(self.request_body_buf)
        self.plan = None if intake.upgrade else engine.plan(intake, request)
        if self.plan is None and not intake.orphan and not intake.upgrade:
            rewrite.unmask(request, intake.stash)
            yield from super().state_consume_request_body(event)
            return
        if self.plan is not None and self.plan.route.mode is not Mode.ENFORCE and not intake.orphan:
            yield from self.observe(engine, intake, self.plan)
            yield from self.on_the_wire(super().state_consume_request_body(event))
            return
        self.request_body_buf.clear()
        request.timestamp_end = time.time()
        self.client_state = self.state_done
        before = (request.data.content, request.data.path, request.data.host)
        yield HttpRequestHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        if self.flow.response:
            yield from self.respond(self.flow.response)
            return
        if intake.upgrade:
            if self.journal is not None:
                self.journal.sent_to_http(self.flow)
            yield from self.respond(release.no_websocket(intake.dialect))
            return
        if self.plan is not None and before != (request.data.content, request.data.path, request.data.host):
            self.plan = engine.plan(intake, request)
        yield from self.go(self.first_step(engine, intake))

    def first_step(self, engine: Engine, intake: Intake) -> Step:
        """Open the exchange, unless the pool may not be spent on this request."""
        if self.plan is None:
            return Refuse(400, NO_ROUTE)
        if self.plan.route.mode is not Mode.ENFORCE:
            return Refuse(400, ONLY_OBSERVED.format(route=self.plan.route.pattern))
        if reason := engine.why_not(self.context.client, self.flow.request):
            return Refuse(400, reason)
        insecure, via = self.context.options.ssl_insecure, self.flow.server_conn.via is not None
        blocked = engine.blocked(intake.snapshot.pool, via=via, insecure=insecure) if insecure or via else {}
        self.exchange = engine.exchange(intake, self.plan, self.flow.request, blocked)
        if self.journal is not None:
            self.journal.began(self.flow, self.exchange, self.plan)
        return self.exchange.begin(engine.clock())

    @override
    def state_wait_for_response_headers(self, event: ResponseHeaders) -> CommandGenerator[None]:
        if event.response.status_code == 401 and self.owner is not None:
            # Not routed: what is released goes to the parent class at once.
            with suppress(Exception):
                request = self.flow.request
                if advice := self.owner.advice(request, *self.destination(request)):
                    yield commands.Log(advice, WARNING)
        yield from super().state_wait_for_response_headers(event)

    @override
    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:
        if self.listing is not None and not already_streamed and self.flow.response:
            try:
                model_list.unite(self.flow.response, self.listing)
            except Exception as error:
                yield commands.Log(f"understudy: cannot add to a list of models: {self.trace(error)}", ERROR)
        yield from super().send_response(already_streamed)

    @override
    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        if self.exchange is None:
            yield from self.look(event)
            yield from super().handle_protocol_error(event)
        elif isinstance(event, RequestProtocolError):
            yield from self.client_gone(event)
        elif self.server_state in (self.state_held_headers, self.state_held_body):
            kind = FaultKind.CLOSED if self.server_state == self.state_held_headers else FaultKind.CUT
            self.forget_attempt()
            yield from self.failed(kind, event.message, reused=self.reused and kind is FaultKind.CLOSED)
        else:
            assert self.hold is not None
            self.remember(self.hold.fault(Fault(FaultKind.CUT, event.message, sent=True)))
            self.finish()
            yield from super().handle_protocol_error(event)

    def client_gone(self, event: RequestProtocolError) -> CommandGenerator[None]:
        """The tool went away: cancel the attempt, learn nothing."""
        assert self.exchange is not None
        done = self.server_state in (self.state_done, self.state_errored)
        if not done:
            yield from self.cancel()
            self.flow.error = mflow.Error(event.message)
            self.abandon()
            self.finish()
            yield HttpErrorHook(self.flow)
        else:
            self.exchange.cancelled()
            self.finish()
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    def crashed(self, error: Exception) -> CommandGenerator[None]:
        """An exception of ours: the request ends in a clear error, never in anything half done."""
        yield commands.Log(f"understudy: internal error: {self.trace(error)}", ERROR)
        started = self.server_state in (
            self.state_released,
            self.state_edited,
            self.state_stream_response_body,
            self.state_done,
        )
        # What failed once may fail again, so each step of the way out stands for itself.
        with suppress(Exception):
            yield from self.cancel()
        with suppress(Exception):
            if self.exchange is not None:
                self.exchange.cancelled()
        with suppress(Exception):
            self.finish()
        if not started and self.intake is not None and self.intake.is_call:
            self.server_state = self.state_pause
            self.client_state = self.state_done
            with suppress(Exception):
                yield from self.respond(release.own_answer(self.intake.dialect, Refuse(400, release.INTERNAL)))
                return
        self.client_state = self.server_state = self.state_errored
        if not self.flow.error:
            self.flow.error = mflow.Error("internal error")
            yield HttpErrorHook(self.flow)
        self.flow.live = False
        code = ErrorCode.GENERIC_SERVER_ERROR
        yield SendHttp(ResponseProtocolError(self.stream_id, "internal error", code), self.context.client)
        yield DropStream(self.stream_id)
