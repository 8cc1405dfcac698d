"""The layer: mitmproxy's HTTP stream that takes a tool's call, and gives it to the pool when a route serves it.

The stream translates: mitmproxy's events into questions to the exchange, and the steps of the exchange into what its
parts do. Those are ``attempt.py`` (one sending to one candidate, with its reply; a stream can have several at a time),
``waiting.py`` (the time between two of them), ``delivery.py`` (what the tool gets) and ``passthrough.py`` (calls that
go out as they came). Nothing is released that is still undecided (law 1). ``tests/test_contract.py`` says what is used
of mitmproxy.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from logging import ERROR, INFO, WARNING
from typing import ClassVar, override

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.net.http import url
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import DropStream, HttpLayer, HTTPMode, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._base import ReceiveHttp
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
from mitmproxy.proxy.mode_specs import RegularMode, ReverseMode, Socks5Mode, UpstreamMode
from mitmproxy.utils import human

from understudy.failover import Attempt, Continue, Refuse, Release, Step, Wait
from understudy.failover.memory import Plan
from understudy.model import Label, Mode
from understudy.proxy import tool_reply
from understudy.proxy.attempt import (
    AttemptEvent,
    AttemptLayer,
    Begin,
    Crashed,
    Decided,
    Failed,
    Halted,
    NotSent,
    Silent,
    over,
)
from understudy.proxy.delivery import Delivery
from understudy.proxy.drilled_attempt import DrilledAttempt
from understudy.proxy.engine import LOGIN, NO_ROUTE, ONLY_OBSERVED, Engine, Intake, Reading, is_large
from understudy.proxy.listener import Abandoned, Aside, Journal, Measured, UnderstudyAsideHook, UnderstudyAttemptHook
from understudy.proxy.passthrough import Passthrough
from understudy.proxy.pooled_call import PooledCall, trace
from understudy.proxy.timeouts import SLACK, Due, Timeout
from understudy.proxy.upstream_connection import FIELD_LIMIT, HEAD_TOO_LARGE
from understudy.proxy.waiting import Waiting
from understudy.replies import Fault, FaultKind, Held, Hold, Reply
from understudy.requests import model_list, rewrite
from understudy.requests.model_list import Listing

logger = logging.getLogger("understudy")

LOOK_AGAIN = 1.0
"""Seconds until the next look for a candidate that can be asked as well, while none is free."""
RESPONSE_EVENTS = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


class ReplayStream(HttpStream):
    """One request of a tool. Without a route it behaves exactly as mitmproxy's own stream."""

    engine: ClassVar[Engine | None] = None
    journal: ClassVar[Journal | None] = None

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self.owner: Engine | None = None
        """The engine that this request began with."""
        self.replayed = False
        """Whether this is mitmproxy's client replay, which takes the tool's connection along but not its target."""
        self.listing: Listing | None = None
        """What belongs into the list of models that this request asks for."""
        self.intake: Intake | None = None
        self.opened_with: tuple[tuple[tuple[bytes, bytes], ...], bytes] | None = None
        """Headers and path of the opening handshake of a WebSocket as the tool sent them, its credential included."""
        self.call: PooledCall | None = None
        """The call, once its exchange has begun."""
        self.passthrough_of: Passthrough | None = None
        """Of a request that goes out as it came, although its flow hides something."""
        self.delivery = Delivery(self)
        self.attempts: list[AttemptLayer] = []
        """Those under way, the one with the best reply so far, and the one that is released."""
        self.waiting: Waiting | None = None
        self._held = False  # whether it waits for a reset
        self.user = ""
        """The user of the proxy that the request is from, "" where no name was checked."""
        above = context.layers[-2:-1]
        if above and isinstance(above[0], HttpLayer):
            self.parent = above[0]
            """The HTTP layer that this stream belongs to."""
            self.mode = self.parent.mode
        self._done = False  # whether mitmproxy has said that the request is over
        self._beginning = False  # whether an attempt is being started just now
        self._said: AttemptEvent | None = None  # what it had to say at once
        self._untold: tuple[AttemptLayer, Abandoned] | None = None
        """The attempt that failed, and what is told of it: once the next one is on its way, if there is one."""

    # -- events ------------------------------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.intake is None and not isinstance(event, RequestHeaders):
            return super()._handle_event(event)  # type: ignore[no-any-return]
        return self._handle_guarded(event)

    def _handle_guarded(self, event: events.Event) -> CommandGenerator[None]:
        # The tool's own id is on what mitmproxy hands out a second time, when it begins to stream a large body.
        if isinstance(event, RESPONSE_EVENTS) and self.call is not None and event.stream_id != self.stream_id:
            released = self.delivery.released
            if released is None or event.stream_id != released.stream_id:
                return  # an attempt that was given up
            came = self.delivery.masked(event)
            for each in came:
                each.stream_id = self.stream_id
            if came != [event]:
                for each in came:
                    yield from self._handle_guarded(each)
                return
        try:
            if isinstance(event, AttemptEvent):
                yield from self.on_attempt(event)
            elif isinstance(event, Due) and event.error is not None:
                raise event.error
            elif isinstance(event, (Due, events.Wakeup)):
                yield from self.on_due()
            elif self.passthrough_of is not None and self.call is None:
                if self.passthrough_of.observation is not None:
                    yield from self.passthrough_of.look(event)
                yield from self.passthrough_of.on_the_wire(super()._handle_event(event))
            else:
                yield from super()._handle_event(event)
        except Exception as error:
            if self.intake is None:
                raise  # mitmproxy's own
            yield from self.crashed(error)
        if self._done and self.call is not None and self.stream_id not in self.parent.streams:
            self.let_go()

    def let_go(self) -> None:
        """Nothing comes any more, so nothing is referred to in a circle: what is here is freed at once, and leaves no
        work to the garbage collector."""
        self.client_state = self.server_state = over
        self.context.layers = []
        self.call = self.delivery.call = self.waiting = None
        self.delivery.let_go()

    def on_attempt(self, event: AttemptEvent) -> CommandGenerator[None]:
        """An attempt says that there is something to decide."""
        if event.attempt.is_over or event.attempt not in self.attempts:
            return
        if self._beginning:
            self._said = event
        else:
            yield from self.go((yield from self.step_after(event)))

    def on_due(self) -> CommandGenerator[None]:
        """The time-out of the wait has come."""
        if self.waiting is not None:
            if self._held and self.call is not None:
                yield from self.delivery.keep_open(self.call)
            yield from self.go((yield from self.waiting.on_due()))

    @override
    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        if self._done:
            return  # the tool has its whole reply: an upstream that wants no more of the request says nothing of it
        if self.owner is not None:
            # mitmproxy quotes what it could not read.
            event.message = self.owner.gate.mask(event.message)
        if self.call is None:
            if self.passthrough_of is not None:
                yield from self.passthrough_of.look(event)
            yield from super().handle_protocol_error(event)
        elif isinstance(event, RequestProtocolError):
            yield from self.client_gone(event)
        else:
            if self.call.client_is_there:
                self.delivery.cut(event.message)
            self.finish()
            yield from super().handle_protocol_error(event)

    # -- the request -------------------------------------------------------------------------------------------------

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
            if self.intake is not None and self.intake.upgrade:
                self.opened_with = sent
            if self.intake is not None and self.intake.stash.query:
                self.passthrough_of = Passthrough(self, engine, self.intake, lambda: self.journal)
        parent = super().state_wait_for_request_headers(event)
        yield from self.passthrough_of.on_the_wire(parent) if self.passthrough_of is not None else parent
        if engine is not None and LOGIN in self.flow.metadata:
            self.user = engine.user_of(self.flow)

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
        if not getattr(options, "proxyauth", None) or isinstance(mode, Socks5Mode):
            return ""
        name = "proxy-authorization" if isinstance(mode, (RegularMode, UpstreamMode)) else "authorization"
        return name if request.headers.get(name, "").lower().startswith("basic ") else ""

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
        options = self.context.options
        if not (options.stream_large_bodies or options.body_size_limit):
            return nothing_wrong()
        if not request and self.call is not None:
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
        request, size = self.flow.request, len(self.request_body_buf)
        refused, status = engine.refuses_unread(self.context.client, intake, request, size, replayed=self.replayed), 400
        if len(request.headers.fields) > FIELD_LIMIT:  # over HTTP/3; of the others the connection sees it
            refused, status = HEAD_TOO_LARGE, 431
        if refused:
            self.request_body_buf.clear()
            self.client_state = self.state_done
            yield from self.refuse(Refuse(status, refused))
            return
        reading, recognised = None, intake.recognised
        if is_large(request, size) and recognised is not None and not intake.upgrade:
            marks, estimated = bool(engine.memory.ledger), bool(engine.suspensions.limits.watched)

            def read() -> Reading:
                self.take_body()
                return engine.read(recognised, request, marks=marks, estimated=estimated, parts=not marks)

            aside = Aside(read)
            yield UnderstudyAsideHook(aside)
            reading = aside.result()
        else:
            self.take_body()
        plan = None if intake.upgrade else engine.plan(intake, request, self.user, reading)
        if plan is None and not intake.orphan and not intake.upgrade:
            rewrite.unmask(request, intake.stash)
            yield from super().state_consume_request_body(event)
            return
        if plan is not None and plan.route.mode is not Mode.ENFORCE and not intake.orphan:
            self.passthrough_of = passthrough = Passthrough(self, engine, intake, lambda: self.journal)
            yield from passthrough.observe(plan, replayed=self.replayed)
            yield from passthrough.on_the_wire(super().state_consume_request_body(event))
            return
        self.passthrough_of = None
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
            yield from self.upgrade(engine, intake)
            return
        if plan is not None and before != (request.data.content, request.data.path, request.data.host):
            plan = engine.plan(intake, request, self.user)
        yield from self.go(self.first_step(engine, intake, plan))

    def take_body(self) -> None:
        """Join what has come of the body. It stays in one piece, which is not copied when the call passes."""
        self.flow.request.data.content = body = bytes(self.request_body_buf)
        self.request_body_buf.clear()
        self.request_body_buf += body

    def upgrade(self, engine: Engine, intake: Intake) -> CommandGenerator[None]:
        """Answer the opening handshake of a WebSocket on which calls would be made (O07)."""
        if self.journal is not None:
            self.journal.sent_to_http(self.flow)
        yield from self.respond(tool_reply.no_websocket(intake.dialect))

    def first_step(self, engine: Engine, intake: Intake, plan: Plan | None) -> Step:
        """Open the exchange, unless the pool may not be spent on this request."""
        if plan is None:
            # A tool tries a side call (settings, quota) again after a 400, and does without it after a 404.
            host, port = self.destination(self.flow.request)
            is_side_call = intake.recognised is None and intake.snapshot.sites.pooled(host, port)
            return Refuse(404 if is_side_call else 400, NO_ROUTE)
        if plan.route.mode is not Mode.ENFORCE:
            return Refuse(400, ONLY_OBSERVED.format(route=plan.route.pattern))
        if reason := engine.why_not(self.context.client, self.flow.request, replayed=self.replayed):
            return Refuse(400, reason)
        insecure, via = self.context.options.ssl_insecure, self.flow.server_conn.via is not None
        blocked = engine.blocked(intake.snapshot.pool, via=via, insecure=insecure) if insecure or via else {}
        exchange = engine.exchange(intake, plan, self.flow.request, blocked)
        if engine.drill is not None:
            own = self.replayed or not engine.is_another_user(self.context.client)
            exchange = engine.drilled(exchange, own=own)
        self.call = self.delivery.call = PooledCall(self.flow, engine, intake, plan, exchange, lambda: self.journal)
        self.server_state = self.state_undecided
        if self.journal is not None:
            self.journal.began(self.flow, exchange, plan)
        return exchange.begin(engine.clock())

    # -- attempts and waits ------------------------------------------------------------------------------------------

    def state_undecided(self, event: events.Event) -> CommandGenerator[None]:
        """Until a reply is released nothing of a server comes here: each attempt gets its own."""
        yield from ()

    def go(self, step: Step | None) -> CommandGenerator[None]:
        """Take steps until one of them has to wait for something to happen."""
        while step is not None:
            match step:
                case Attempt():
                    step = yield from self.send(step)
                case Wait():
                    step = yield from self.wait(step)
                case Release():
                    yield from self.release(step)
                    step = None
                case Refuse():
                    yield from self.refuse(step)
                    step = None
                case Continue():
                    step = None

    def send(self, step: Attempt) -> CommandGenerator[Step | None]:
        """Begin an attempt beside those that are under way; returns the next step when that is known at once."""
        assert self.call is not None
        self._held = False
        made = DrilledAttempt if step.drilled else AttemptLayer
        attempt = made(self.parent, self.stream_id, self.call, step)
        self.attempts.append(attempt)
        # It begins in the HTTP layer, so that what it waits for does not hold up this stream.
        self._beginning = True
        yield ReceiveHttp(Begin(attempt.stream_id))
        self._beginning, said, self._said = False, self._said, None
        if self._untold is not None:
            yield from self.tell()
            if (yield from self.gone()):
                return None
        return (yield from self.step_after(said)) if said is not None else None

    def wait(self, step: Wait) -> CommandGenerator[Step | None]:
        """Wait; returns the next step when there is nothing to wait for."""
        call = self.call
        assert call is not None
        if step.seconds <= 0:
            return call.exchange.resume(call.engine.clock())
        if self.journal is not None:
            self.journal.waited(self.flow, call.exchange, step.seconds, step.reason)
        if step.held:
            yield from self.delivery.keep_open(call)
            self._held = True
        if self.waiting is None:
            clock = call.engine.clock
            self.waiting = Waiting(call.exchange, Timeout(self.parent, self, clock), clock)
        yield from self.waiting.begin(step.seconds)
        return None

    def step_after(self, event: AttemptEvent) -> CommandGenerator[Step | None]:
        """What follows from what an attempt says; None when that is done already."""
        attempt, call = event.attempt, self.call
        assert call is not None
        match event:
            case Decided(held=Held.REPLY):
                assert attempt.hold is not None
                return (yield from self.conclude(attempt, attempt.hold.reply()))
            case Crashed(error=error):
                raise error
            case Halted():
                yield from self.gone()
            case NotSent(label=label, rule=rule, reason=reason):
                if label is not Label.UNKNOWN:
                    yield commands.Log(f"{attempt.step.candidate}: not sent: {reason}", WARNING)
                self.attempts.remove(attempt)
                attempt.forget()
                if call.drilled is not None and attempt.step.drilled:
                    call.drilled.unsent()
                following = call.exchange.unsendable(label, rule, reason, call.engine.clock())
                self.renumber()
                return following
            case Silent():
                return (yield from self.after_silence(attempt))
            case Failed(fault=fault):
                return (yield from self.conclude(attempt, hold_of(attempt).fault(fault)))
            case Decided(held=Held.BOUND) if hold_of(attempt).status in (401, 403):
                # Judged as far as it came: it must not get through to the tool by being long (W07).
                step = yield from self.conclude(attempt, hold_of(attempt).reply())
                if not (isinstance(step, Release) and step.attempt == attempt.step.number and not attempt.is_over):
                    return step
                yield from self.release(step, live=True)
            case Decided(held=Held.OUTPUT) if (reply := self.doubtful(attempt)) is not None:
                return (yield from self.conclude(attempt, reply))
            case Decided(held=held):
                call.exchange.accept(attempt.step.candidate)
                self.renumber()
                # What has outgrown its bound would outgrow mitmproxy's buffer as well, or never end at all.
                yield from self.release(Release(attempt.step.number), live=held is Held.BOUND)
        return None

    def doubtful(self, attempt: AttemptLayer) -> Reply | None:
        """The reply of a stream with output that a rule may speak about all the same: it names another model."""
        call, hold = self.call, hold_of(attempt)
        assert call is not None
        if not (call.exchange.ruleset.asks_served_model and hold.success and hold.live):
            return None
        reply = hold.reply()
        return reply if reply.served_model else None

    def conclude(self, attempt: AttemptLayer, reply: Reply) -> CommandGenerator[Step | None]:
        """Judge a reply. When it is not the one for the tool, keep it if it may be needed and leave the attempt."""
        call = self.call
        assert call is not None
        exchange = call.exchange
        step = exchange.judge(reply, call.engine.clock(), attempt.step.candidate)
        self.renumber()
        if attempt.hold is not None and attempt.hold.success and not attempt.hold.live:
            attempt.statement = reply.statement
        if isinstance(step, Release) and step.attempt == attempt.step.number:
            return step
        if attempt.hold is not None and attempt.hold.live and attempt.hold.has_output and not attempt.is_complete:
            exchange.withdraw(attempt.step.number)
        self._untold = attempt, attempt.abandoned(exchange.outcomes[attempt.step.number - 1], step, reply.fault)
        yield from attempt.cancel()
        # Of those that are over only the most hopeful one can still be released: the others need not be held.
        kept = [each for each in self.attempts if not each.is_over or each.step.number == exchange.best]
        for each in self.attempts:
            if each not in kept:
                self.measure(each, lost=True)
        self.attempts = kept
        if not isinstance(step, Attempt) or step.drilled or attempt.server is None:
            yield from self.tell()
            if (yield from self.gone()):
                return None
        for other in self.attempts:
            if not other.is_over:
                yield from other.watch()  # what it may take depends on what else there is
        return step

    def tell(self) -> CommandGenerator[None]:
        """Tell of the attempt that failed, if one was: its flow, its line in the log. The next one need not wait."""
        if self._untold is None:
            return
        (attempt, abandoned), self._untold = self._untold, None
        yield UnderstudyAttemptHook(abandoned)
        if abandoned.exchange.best == attempt.step.number:
            attempt.end_here()

    def renumber(self) -> None:
        """Attempts have the numbers that the exchange gives them: those of two are in the order of their ends."""
        assert self.call is not None
        exchange = self.call.exchange
        going = [attempt for attempt in self.attempts if not attempt.is_over]
        if len(going) == 1 and exchange.outcomes:
            latest, known = exchange.outcomes[-1].attempt, going[0].step
            if latest.number == known.number and latest.candidate is known.candidate:
                going[0].step = latest  # it has just ended, as nearly always
                return
        for attempt in going:
            candidate = attempt.step.candidate
            for step in (*exchange.under_way, *[each.attempt for each in reversed(exchange.outcomes)]):
                if step.candidate == candidate:
                    attempt.step = step
                    break

    def after_silence(self, attempt: AttemptLayer) -> CommandGenerator[Step | None]:
        """An attempt is silent: ask another candidate as well, or give it up, or look again in a while."""
        call = self.call
        assert call is not None
        exchange, now, candidate = call.exchange, call.engine.clock(), attempt.step.candidate
        hedge = exchange.hedge(candidate, now) if exchange.ask_at(candidate, attempt.sent_at) <= now + SLACK else None
        if hedge is not None:
            seconds = now - attempt.sent_at
            yield commands.Log(f"{candidate}: no event after {seconds:.1f}s, {hedge.candidate} is asked as well", INFO)
            self.renumber()
            for other in [each for each in self.attempts if not each.is_over]:
                if all(other.step.candidate != each.candidate for each in exchange.under_way):
                    yield from self.lost(other, hedge)
            if not attempt.is_over:
                yield from attempt.watch(LOOK_AGAIN)
            return hedge
        if exchange.end_at(candidate, attempt.sent_at, now) <= now + SLACK:
            fault = Fault(FaultKind.SILENCE, f"no event of a reply within {now - attempt.sent_at:.0f} s", sent=True)
            return (yield from self.conclude(attempt, hold_of(attempt).fault(fault)))
        yield from attempt.watch(LOOK_AGAIN)
        return None

    def lost(self, attempt: AttemptLayer, step: Step) -> CommandGenerator[None]:
        """Another candidate was faster: cancel the attempt at its upstream, and show what it was."""
        call = self.call
        assert call is not None
        [outcome] = [each for each in call.exchange.outcomes if each.hedged and each.attempt == attempt.step]
        fault = Fault(FaultKind.SILENCE, outcome.verdict.evidence, sent=True)
        abandoned = attempt.abandoned(outcome, step, fault)
        yield from attempt.cancel()
        self.measure(attempt, lost=True)
        self.attempts = [each for each in self.attempts if each is not attempt]
        yield UnderstudyAttemptHook(abandoned)

    def measure(self, attempt: AttemptLayer, *, lost: bool) -> None:
        """Tell what an attempt took, if it was answered. To count must never cost a call."""
        call, hold = self.call, attempt.hold
        if (
            call is None
            or self.journal is None
            or hold is None
            or not hold.success
            or not call.exchange.request.generating
        ):
            return
        is_released = attempt is self.delivery.released
        try:
            stated = attempt.statement or hold.statement(self.delivery.tail if is_released else None)
            if lost and stated.usage is None and (not hold.has_output if hold.live else not stated.model):
                return  # nothing says that it took anything
            seconds = None
            if is_released and hold.live and attempt.spoke_at:
                seconds = max(0.0, call.engine.clock() - attempt.spoke_at)
            another = attempt.another if attempt.another is not None else hold.another(stated.model)
            measured = Measured(attempt.step, stated.usage, another, seconds, lost)
            self.journal.measured(self.flow, call.exchange, measured)
        except Exception as error:
            logger.error(f"understudy: a reply cannot be measured: {self.trace(error)}")

    def cancel(self) -> CommandGenerator[None]:
        """Give up every attempt that is under way."""
        for attempt in self.attempts:
            yield from attempt.cancel()

    # -- the answer --------------------------------------------------------------------------------------------------

    def release(self, step: Release, *, live: bool = False) -> CommandGenerator[None]:
        """Hand the reply of this attempt to the tool; from here on its events pass as they come."""
        [attempt] = [each for each in self.attempts if each.step.number == step.attempt]
        if self.delivery.is_open and not self.delivery.fits_open(attempt):
            yield from self.say_in_stream(attempt)
            return
        for other in [each for each in self.attempts if each is not attempt]:
            if other.is_over:
                yield from other.cancel()
                self.measure(other, lost=True)
            else:
                yield from self.lost(other, step)
        if (self._paused_event_queue or self.flow.error is not None) and (yield from self.gone()):
            return
        self.attempts = [attempt]
        if self.waiting is not None:
            self.waiting.stop()
        releasing = self.delivery.release(attempt, step, live=live)
        if self.delivery.is_open:
            releasing = self.delivery.without_head(releasing)
        if not (yield from releasing):
            yield from self.withhold(attempt)
        if self.server_state == self.state_errored:
            # Another addon killed the flow when it saw the headers.
            yield from self.cancel()
            self.finish()

    def say_in_stream(self, attempt: AttemptLayer) -> CommandGenerator[None]:
        """A reply that cannot go on in the stream that its tool has since the call was held: say what it was."""
        assert self.call is not None
        status, candidate = hold_of(attempt).status, attempt.step.candidate
        outcomes = self.call.exchange.outcomes
        verdict = outcomes[attempt.step.number - 1].verdict if len(outcomes) >= attempt.step.number else None
        said = f", {verdict.label}: {verdict.evidence}" if verdict is not None else ""
        yield from self.cancel()
        yield from self.refuse(Refuse(400, f"understudy: after the reset {candidate} answered HTTP {status}{said}"))

    def withhold(self, attempt: AttemptLayer) -> CommandGenerator[None]:
        """A reply that must not go out, because the secret in it cannot be masked."""
        call, was_shown = self.call, attempt.is_over
        assert call is not None
        yield from attempt.cancel()
        refuse = Refuse(400, tool_reply.ECHOED)
        if not was_shown:
            outcome = call.exchange.outcomes[attempt.step.number - 1]
            yield UnderstudyAttemptHook(attempt.abandoned(outcome, refuse, None))
        yield from self.refuse(refuse)

    def refuse(self, step: Refuse) -> CommandGenerator[None]:
        """Answer ourselves."""
        assert self.intake is not None
        yield from self.delivery.without_head(self.delivery.refuse(step, self.intake.dialect))
        if self.server_state == self.state_errored:
            self.finish()

    def respond(self, response: http.Response) -> CommandGenerator[None]:
        """Send a response that did not come from an upstream."""
        yield from self.delivery.without_head(self.delivery.respond(response))
        if self.server_state == self.state_errored:
            self.finish()

    @override
    def check_invalid(self, request: bool) -> CommandGenerator[bool]:
        if request or self.call is None:
            return super().check_invalid(request)
        return nothing_wrong()  # the headers of a held reply were validated before it was judged

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
        if not already_streamed:
            self.delivery.proven()
            sending = super().send_response()
            yield from self.delivery.mask_whole(sending) if self.delivery.is_to_mask else sending
        else:
            yield from super().send_response(already_streamed)
        if self.server_state == self.state_errored:
            # Another addon killed the flow when it saw the whole response.
            self.finish()

    @override
    def flow_done(self) -> CommandGenerator[None]:
        try:
            self.finish()
        except Exception as error:
            # The tool has its whole reply, or is about to: that must not be spoilt now.
            yield commands.Log(f"understudy: internal error: {self.trace(error)}", ERROR)
        yield from super().flow_done()
        self._done = True

    # -- every other end ---------------------------------------------------------------------------------------------

    def gone(self) -> CommandGenerator[bool]:
        """Whether the tool went away, or the flow was killed, while this layer was waiting."""
        if not (yield from self.check_killed(True)):
            return False
        yield from self.cancel()
        if self.call is not None:
            self.abandon(self.call)
        self.finish()
        return True

    def client_gone(self, event: RequestProtocolError) -> CommandGenerator[None]:
        """The tool went away: cancel what is under way, learn nothing."""
        assert self.call is not None
        done = self.server_state in (self.state_done, self.state_errored)
        if not done and self.delivery.is_complete:
            yield from self.delivery.end_at_terminal_event()
            yield from self.cancel()
            self.finish()
        elif not done:
            yield from self.cancel()
            self.flow.error = mflow.Error(event.message)
            self.abandon(self.call)
            self.finish()
            yield HttpErrorHook(self.flow)
        else:
            self.call.exchange.cancelled()
            self.finish()
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    def abandon(self, call: PooledCall) -> None:
        """The tool went away: nothing is learnt of an attempt that is under way, but it is shown."""
        steps = call.exchange.under_way
        call.engine.memory.left(call.exchange, call.plan, call.asked)
        call.exchange.cancelled()
        for step in steps if self.journal is not None else ():
            record = None
            for attempt in self.attempts:
                if attempt.step.number == step.number:
                    fault = Fault(FaultKind.CUT, "cancelled, the tool went away", sent=attempt.server is not None)
                    record = attempt.record(fault)
            assert self.journal is not None
            self.journal.left(self.flow, call.exchange, step, record)

    def finish(self) -> None:
        """Let go of everything that outlives the last attempt."""
        if self.call is None:
            return
        self.call.exchange.finished()
        attempts, self.attempts = self.attempts, []
        for attempt in attempts:
            attempt.forget()
            self.measure(attempt, lost=self.delivery.released not in (None, attempt))
        if self.waiting is not None:
            self.waiting.stop()
        if (drill := self.call.exchange.drill) is not None:
            drill.over(self.call.exchange, self.flow.response.status_code if self.flow.response else 0)
        if self.journal is not None:
            self.journal.finished(self.flow, self.call.exchange)

    def crashed(self, error: Exception) -> CommandGenerator[None]:
        """An exception of ours: the request ends in a clear error, never in anything half done."""
        yield commands.Log(f"understudy: internal error: {self.trace(error)}", ERROR)
        with suppress(Exception):
            yield from self.tell()
        started = self.delivery.has_begun
        # What failed once may fail again, so each step of the way out stands for itself.
        for attempt in self.attempts:
            with suppress(Exception):
                yield from attempt.cancel()
        with suppress(Exception):
            if self.call is not None:
                self.call.exchange.cancelled()
        with suppress(Exception):
            self.finish()
        if not started and self.intake is not None and self.intake.is_call:
            self.server_state = self.state_undecided
            self.client_state = self.state_done
            with suppress(Exception):
                yield from self.respond(tool_reply.own_answer(self.intake.dialect, Refuse(400, tool_reply.INTERNAL)))
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
        return self.call.trace(error) if self.call is not None else trace(error, self.intake)


def nothing_wrong() -> CommandGenerator[bool]:
    """The answer of a check that finds nothing."""
    yield from ()
    return False


def hold_of(attempt: AttemptLayer) -> Hold:
    """The hold of an attempt that was sent."""
    assert attempt.hold is not None
    return attempt.hold


def host_of(authority: str) -> tuple[str, int | None]:
    """Host and port of ``host:port``; "" when it is not one."""
    try:
        return url.parse_authority(authority, check=False)
    except ValueError:
        return "", None
