"""The layer: mitmproxy's HTTP stream that holds a reply, asks the exchange, and replays or releases.

Nothing is replayed after release, and nothing is released that is still undecided (law 1). Each attempt has a stream
id of its own towards the upstream, translated here at the border, so that late events of an abandoned attempt cannot
leak into the next one. A decision to replay takes effect after a blocking hook only: the HTTP/1 client marks itself
done just after the event that carries the end of a message.

This file, ``border.py``, ``watch.py`` and ``install.py`` are the only ones that know mitmproxy's internals;
``tests/test_contract.py`` says which.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from logging import ERROR, WARNING
from typing import ClassVar, Protocol, override

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp
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
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpRequestHook, HttpResponseHeadersHook
from mitmproxy.utils import human

from understudy import release, rewrite
from understudy.border import BorderStream
from understudy.dialects.base import Progress
from understudy.engine import NO_ROUTE, Engine, Intake, Plan
from understudy.exchange import Exchange
from understudy.hold import Held, Hold, Secret, Tail
from understudy.reply import Fault, FaultKind, Reply
from understudy.rules import Label
from understudy.secrets import SecretError
from understudy.steps import Attempt, Outcome, Refuse, Release, Step, Wait
from understudy.watch import SLACK, Due

STALL_LIMIT = 10.0
"""Seconds for the body of an error reply, while another candidate is left; ``first_event`` where that is less."""
RESPONSE_EVENTS = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


class Journal(Protocol):
    """Who is told what happened."""

    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        """The reply of this attempt goes to the tool; 0: an answer of our own does."""

    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error."""


@dataclass
class Abandoned:
    """An attempt whose reply is not the one that goes to the tool. ``step`` is what comes next."""

    flow: http.HTTPFlow
    exchange: Exchange
    outcome: Outcome
    step: Step


@dataclass
class UnderstudyAttemptHook(commands.StartHook):
    """An attempt was abandoned. Addons can implement ``understudy_attempt(abandoned)``."""

    abandoned: Abandoned


@dataclass
class Kept:
    """A reply that was not released but may have to be in the end."""

    number: int
    events: list[events.Event]
    hold: Hold
    server: Server


class ReplayStream(BorderStream):
    """One request of a tool. Without a route it behaves exactly as its parent class."""

    engine: ClassVar[Engine | None] = None
    journal: ClassVar[Journal | None] = None

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self.intake: Intake | None = None
        self.plan: Plan | None = None
        self.exchange: Exchange | None = None
        self.attempt: Attempt | None = None
        self.hold: Hold | None = None
        self.held: list[events.Event] = []
        self.kept: Kept | None = None
        self.tail: Tail | None = None
        self.secret: Secret | None = None

    # -- the border ----------------------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.intake is None and not isinstance(event, RequestHeaders):
            return super()._handle_event(event)  # type: ignore[no-any-return]
        return self._handle_guarded(event)

    def _handle_guarded(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, RESPONSE_EVENTS) and self.upstream_id is not None:
            if event.stream_id != self.upstream_id:
                return  # an attempt that was given up
            event.stream_id = self.stream_id
        try:
            if isinstance(event, Due) and event.error is not None:
                raise event.error
            if isinstance(event, (Due, events.Wakeup)):
                yield from self.on_due()
            elif self.exchange is None and self.intake is not None and self.intake.stash.query:
                yield from self.with_query(super()._handle_event(event))
            else:
                yield from super()._handle_event(event)
        except Exception as error:
            if self.intake is None:
                raise  # mitmproxy's own
            yield from self.crashed(error)

    def with_query(self, parent: CommandGenerator[None]) -> CommandGenerator[None]:
        """Pass an unrouted request on with the tool's own query, which the flow shows masked."""
        assert self.intake is not None
        reply = None
        while True:
            try:
                command = parent.send(reply)
            except StopIteration:
                return
            if isinstance(command, SendHttp) and isinstance(command.event, RequestHeaders) and self.plan is None:
                command.event.request = rewrite.reveal_query(command.event.request, self.intake.stash)
            reply = yield command

    # -- the request ---------------------------------------------------------------------------------------------

    @override
    def state_wait_for_request_headers(self, event: RequestHeaders) -> CommandGenerator[None]:
        engine = ReplayStream.engine
        if engine is not None and event.request.method != "CONNECT":
            self.owner = engine
            sent = event.request.headers.fields, event.request.data.path
            try:
                host, port = self.destination(event.request)
                self.intake = engine.take(event.request, host, port, self.own_login(event.request))
            except Exception as error:
                # The request goes out exactly as the tool sent it.
                event.request.headers.fields, event.request.data.path = sent
                yield commands.Log(f"understudy: cannot look at a request: {self.trace(error)}", ERROR)
        parent = super().state_wait_for_request_headers(event)
        yield from self.with_query(parent) if self.intake is not None and self.intake.stash.query else parent

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
        if not request or self.intake is None or not self.intake.is_call:
            return super().check_body_size(request)
        return self.check_call_size()

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
    def check_invalid(self, request: bool) -> CommandGenerator[bool]:
        if request or self.exchange is None:
            return super().check_invalid(request)
        return self.was_valid()

    def was_valid(self) -> CommandGenerator[bool]:
        """The headers of a held reply were validated before it was judged."""
        yield from ()
        return False

    @override
    def state_consume_request_body(self, event: events.Event) -> CommandGenerator[None]:
        intake, engine = self.intake, self.owner
        if intake is None or not intake.is_call or engine is None or not isinstance(event, RequestEndOfMessage):
            yield from super().state_consume_request_body(event)
            return
        request = self.flow.request
        request.data.content = bytes(self.request_body_buf)
        self.plan = engine.plan(intake, request)
        if self.plan is None and not intake.orphan:
            rewrite.unmask(request, intake.stash)
            yield from super().state_consume_request_body(event)
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
        if self.plan is not None and before != (request.data.content, request.data.path, request.data.host):
            self.plan = engine.plan(intake, request)
        yield from self.go(self.first_step(engine, intake))

    def first_step(self, engine: Engine, intake: Intake) -> Step:
        """Open the exchange, unless the pool may not be spent on this request."""
        if self.plan is None:
            return Refuse(400, NO_ROUTE)
        if reason := engine.why_not(self.context.client, self.flow.request):
            return Refuse(400, reason)
        insecure, via = self.context.options.ssl_insecure, self.flow.server_conn.via is not None
        blocked = engine.blocked(intake.snapshot.pool, via=via, insecure=insecure) if insecure or via else {}
        self.exchange = engine.exchange(intake, self.plan, blocked)
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

    # -- attempts ------------------------------------------------------------------------------------------------

    def go(self, step: Step | None) -> CommandGenerator[None]:
        """Take steps until one of them has to wait for something to happen."""
        while step is not None:
            match step:
                case Attempt():
                    step = yield from self.send(step)
                case Wait(seconds=seconds, reason=reason) if seconds > 0:
                    yield commands.Log(f"waiting {seconds:.1f}s: {reason}")
                    self.server_state = self.state_pause
                    yield from self.wake_in(seconds)
                    step = None
                case Wait():
                    assert self.exchange is not None
                    step = self.exchange.resume(self.now())
                case Release():
                    yield from self.release(step)
                    step = None
                case Refuse():
                    yield from self.refuse(step)
                    step = None

    def send(self, attempt: Attempt) -> CommandGenerator[Step | None]:
        """Send the request to a candidate; returns the next step when it never got there."""
        assert self.plan is not None and self.exchange is not None
        self.attempt, candidate, plan = attempt, attempt.candidate, self.plan
        self.held, self.reused = [], False
        try:
            self.secret = Secret(candidate.credential.name, candidate.credential.secret.reveal())
            request = rewrite.build(self.flow.request, plan.recognised, plan.call, candidate, self.secret.value)
        except ValueError as problem:
            label, rule = Label.REQUEST_INVALID, "builtin/rewrite"
            if isinstance(problem, SecretError):
                label, rule = Label.CREDENTIAL_REJECTED, "builtin/secret"
            yield commands.Log(f"{candidate}: not sent: {problem}", WARNING)
            return self.exchange.unsendable(label, rule, str(problem), self.now())
        self.hold = Hold(plan.recognised, plan.call, candidate, self.secret)
        server, fault = yield from self.connect(candidate.upstream)
        if (yield from self.gone()):
            return None
        if server is None:
            return (yield from self.conclude(self.hold.fault(fault)))
        self.server_state = self.state_held_headers
        yield from self.transmit(request, server)
        yield from self.wake_in(self.exchange.first_event_limit(self.now()))
        return None

    def conclude(self, reply: Reply) -> CommandGenerator[Step | None]:
        """Judge a reply. When it is not the one for the tool, keep it if it may be needed and leave the attempt."""
        exchange, attempt = self.exchange, self.attempt
        assert exchange is not None and attempt is not None and self.hold is not None
        self.calm()
        step = exchange.judge(reply, self.now())
        if isinstance(step, Release) and step.attempt == attempt.number:
            return step
        complete = bool(self.held) and isinstance(self.held[-1], ResponseEndOfMessage)
        if exchange.best == attempt.number:
            server = self.flow.server_conn
            if not complete and isinstance(head := self.held[0], ResponseHeaders):
                # It ends here, whatever length it announced.
                head.response.headers.pop("content-length", None)
                self.held.append(ResponseEndOfMessage(self.stream_id))
            self.kept = Kept(attempt.number, self.held, self.hold, server)
        self.held = []
        if not complete:
            yield from self.cancel()
        self.forget_attempt()
        self.server_state = self.state_pause
        yield UnderstudyAttemptHook(Abandoned(self.flow, exchange, exchange.outcomes[-1], step))
        if (yield from self.gone()):
            return None
        return step

    # -- the reply -----------------------------------------------------------------------------------------------

    def state_pause(self, event: events.Event) -> CommandGenerator[None]:
        """Between attempts nothing of the server is expected."""
        yield from ()

    def state_held_headers(self, event: events.Event) -> CommandGenerator[None]:
        """Status and headers of an attempt."""
        assert isinstance(event, ResponseHeaders) and self.hold is not None
        self.held.append(event)
        self.server_state = self.state_held_body
        self.calm()
        response = event.response
        if response.status_code < 200:
            yield from self.failed(FaultKind.CLOSED, f"status {response.status_code} is no reply to a call")
            return
        if self.context.options.validate_inbound_headers:
            try:
                validate_headers(response)
            except ValueError as error:
                yield from self.failed(FaultKind.CLOSED, f"invalid response headers: {error}")
                return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.fields]
        held = self.hold.start(response.status_code, headers)
        if held is Held.MORE:
            assert self.exchange is not None
            # After the deadline nothing can be replayed, so holding on would be for nothing. An error that stalls
            # is not worth that long.
            left = self.exchange.deadline - self.now()
            stall = min(STALL_LIMIT, self.exchange.budget.first_event)
            yield from self.wake_in(max(0.0, left if self.hold.success else min(left, stall)))
        yield from self.on_held(held)

    def state_held_body(self, event: events.Event) -> CommandGenerator[None]:
        """Body of an attempt while it is undecided."""
        assert self.hold is not None
        self.held.append(event)
        if isinstance(event, ResponseData):
            yield from self.on_held(self.hold.data(event.data))
        elif isinstance(event, ResponseEndOfMessage):
            yield from self.on_held(self.hold.end())

    def on_held(self, held: Held) -> CommandGenerator[None]:
        """Go on from where the hold stands."""
        assert self.exchange is not None and self.attempt is not None and self.hold is not None
        match held:
            case Held.MORE:
                pass
            case Held.OUTPUT | Held.BOUND:
                self.exchange.accept()
                # What has outgrown its bound would outgrow mitmproxy's buffer as well, or never end at all.
                yield from self.release(Release(self.attempt.number), live=held is Held.BOUND)
            case Held.REPLY:
                yield from self.go((yield from self.conclude(self.hold.reply())))

    def release(self, step: Release, *, live: bool = False) -> CommandGenerator[None]:
        """Hand a held reply to the tool; from here on events pass as they come, ``live`` without being buffered."""
        assert self.exchange is not None and self.attempt is not None and self.hold is not None
        self.calm()
        kept, self.kept = self.kept, None
        held, self.held, hold = self.held, [], self.hold
        if step.attempt != self.attempt.number:
            assert kept is not None and kept.number == step.attempt
            held, hold = kept.events, kept.hold
            self.context.server = self.flow.server_conn = kept.server
        head = held[0]
        assert isinstance(head, ResponseHeaders)
        complete = isinstance(held[-1], ResponseEndOfMessage)
        body = [event.data for event in held if isinstance(event, ResponseData)]
        edited = release.prepare(head.response, b"".join(body), hold, step, complete=complete)
        if edited is None:
            yield from self.cancel()
            yield from self.refuse(Refuse(400, release.ECHOED))
            return
        if body != [edited] and b"".join(body) != edited:
            rest = [event for event in held[1:] if not isinstance(event, ResponseData)]
            held = [head, ResponseData(self.stream_id, edited), *rest]
        if self.journal is not None:
            self.journal.released(self.flow, self.exchange, step.attempt)
        verdict = self.exchange.outcomes[step.attempt - 1].verdict
        if complete and hold.success and not hold.live and verdict.label is Label.OK:
            self.exchange.succeeded()
        self.hold = hold
        head.response.stream = live or hold.live
        self.server_state = self.state_wait_for_response_headers
        yield from HttpStream.state_wait_for_response_headers(self, head)
        if self.server_state == self.state_stream_response_body and self.flow.response:
            self.tail = Tail()
            if self.flow.response.stream is True and not self.context.options.store_streamed_bodies:
                self.server_state = self.state_released
        for event in held[1:]:
            if self.server_state == self.state_errored:
                break
            yield from self.server_state(event)
        if self.server_state == self.state_errored:
            # Another addon killed the flow when it saw the headers.
            yield from self.cancel()
            self.finish()

    def state_released(self, event: events.Event) -> CommandGenerator[None]:
        """The released stream: one append per chunk, and nothing else that mitmproxy would not do."""
        assert self.tail is not None
        if isinstance(event, ResponseData):
            self.tail.append(event.data)
            if (keep := self.engine_now.keep_stream) and len(self.response_body_buf) < keep:
                self.response_body_buf += event.data
            yield SendHttp(event, self.context.client)
            return
        if isinstance(event, ResponseEndOfMessage):
            yield from self.read_tail(self.tail)
            if self.response_body_buf and self.flow.response:
                self.flow.response.data.content = bytes(self.response_body_buf)
                self.response_body_buf.clear()
        yield from self.state_stream_response_body(event)

    def read_tail(self, tail: Tail) -> CommandGenerator[None]:
        """How a released stream ended: its terminal event is a success, an error a fault of the candidate."""
        assert self.hold is not None
        progress, event = tail.last(self.hold)
        if progress is Progress.DONE:
            assert self.exchange is not None
            self.exchange.succeeded()
        elif progress is Progress.ERROR and event is not None:
            self.remember(self.hold.ending(event))
        yield from ()

    def remember(self, reply: Reply) -> None:
        """A released stream failed: nothing is replayed, but its candidate pays."""
        assert self.exchange is not None
        outcome = self.exchange.failed_after_release(reply, self.now())
        if outcome is not None and self.journal is not None:
            self.journal.ended_badly(self.flow, self.exchange, outcome)

    # -- ends ----------------------------------------------------------------------------------------------------

    @override
    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        if self.exchange is None:
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

    def failed(self, kind: FaultKind, message: str, *, reused: bool = False) -> CommandGenerator[None]:
        """The transport of the current attempt failed after the request was sent: judge that instead of a reply."""
        assert self.hold is not None
        fault = Fault(kind, message, sent=True, reused=reused)
        yield from self.go((yield from self.conclude(self.hold.fault(fault))))

    def client_gone(self, event: RequestProtocolError) -> CommandGenerator[None]:
        """The tool went away: cancel the attempt, learn nothing."""
        assert self.exchange is not None
        done = self.server_state in (self.state_done, self.state_errored)
        if not done:
            yield from self.cancel()
            self.flow.error = mflow.Error(event.message)
            yield HttpErrorHook(self.flow)
        self.exchange.cancelled()
        self.finish()
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    def gone(self) -> CommandGenerator[bool]:
        """Whether the tool went away, or the flow was killed, while this layer was waiting."""
        if not (yield from self.check_killed(True)):
            return False
        yield from self.cancel()
        if self.exchange is not None:
            self.exchange.cancelled()
        self.finish()
        return True

    @override
    def flow_done(self) -> CommandGenerator[None]:
        try:
            self.finish()
        except Exception as error:
            # The tool has its whole reply, or is about to: that must not be spoilt now.
            yield commands.Log(f"understudy: internal error: {self.trace(error)}", ERROR)
        yield from super().flow_done()

    def finish(self) -> None:
        """Let go of everything that outlives the last attempt."""
        if self.exchange is not None:
            self.forget_attempt()
            self.calm()
            self.kept, self.held = None, []

    def refuse(self, step: Refuse) -> CommandGenerator[None]:
        """Answer ourselves, in the tool's own dialect."""
        assert self.intake is not None
        if self.journal is not None and self.exchange is not None:
            self.journal.released(self.flow, self.exchange, 0)
        yield commands.Log(step.message, WARNING)
        yield from self.respond(release.own_answer(self.intake.dialect, step))

    def respond(self, response: http.Response) -> CommandGenerator[None]:
        """Send a response that did not come from an upstream, with the hooks that such a response gets."""
        self.flow.response = response
        response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        yield from self.send_response()

    def crashed(self, error: Exception) -> CommandGenerator[None]:
        """An exception of ours: the request ends in a clear error, never in anything half done."""
        yield commands.Log(f"understudy: internal error: {self.trace(error)}", ERROR)
        started = self.server_state in (self.state_released, self.state_stream_response_body, self.state_done)
        # What failed once may fail again, so each step of the way out stands for itself.
        with suppress(Exception):
            yield from self.cancel()
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

    def trace(self, error: Exception) -> str:
        """Where it happened; with the text of the error only when all secrets that could stand in it are known."""
        where = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}"
        if self.intake is None or not self.intake.is_call:
            return where
        try:
            text = rewrite.mask_text(str(error), self.intake.stash)
            return f"{where}: {self.secret.mask(text) if self.secret else text}"
        except Exception:
            return where

    # -- time ----------------------------------------------------------------------------------------------------

    def on_due(self) -> CommandGenerator[None]:
        """A time-out: the end of a pause, silence, or a hold that has lasted as long as anything could be replayed."""
        if self.exchange is None or self.now() + SLACK < self.due_at:
            return
        if self.server_state == self.state_pause:
            yield from self.go(self.exchange.resume(self.now()))
        elif self.server_state == self.state_held_headers and self.exchange.has_another(self.now()):
            yield from self.failed(FaultKind.SILENCE, "no byte of a reply in time")
        elif self.server_state == self.state_held_body and self.hold is not None:
            if not self.hold.success and self.exchange.has_another(self.now()):
                yield from self.failed(FaultKind.SILENCE, "the reply stalled")
            else:
                yield from self.on_held(Held.BOUND)
