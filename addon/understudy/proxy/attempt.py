"""One attempt: the tool's request on its way to one candidate, and the reply as far as it is held.

An attempt is a layer of its own beside the tool's stream, under a stream id of its own towards the upstream: mitmproxy
hands it its events, and what it waits for holds up no other. So a stream can have several at a time, late events of
one that was given up go nowhere, and HTTP/2 never reuses a closed stream. An attempt owns its secret, its connection,
its time-outs and its reply. It decides nothing: it tells the stream that there is something to decide, in one of the
events below, and only once.

What it says takes effect after a blocking hook of the stream: the HTTP/1 client marks itself done just after the event
that carries the end of a message.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import ERROR
from typing import ClassVar, override
from weakref import ref

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from understudy.config.secrets import CommandSecret
from understudy.failover import Attempt, Outcome, Step
from understudy.model import Label, SecretError, SigningSource, Upstream
from understudy.proxy.attempt_flow import attempt_flow
from understudy.proxy.engine import is_large
from understudy.proxy.listener import Abandoned, Aside, Fetch, UnderstudyAsideHook, UnderstudySecretHook
from understudy.proxy.masking_gate import is_clean_head
from understudy.proxy.pooled_call import PooledCall
from understudy.proxy.timeouts import SLACK, Due, Timeout
from understudy.proxy.upstream_connection import (
    Connected,
    Connecting,
    NoDescriptor,
    NotServed,
    as_http1,
    cause_of,
    established,
)
from understudy.replies import Fault, FaultKind, Held, Hold, Secret, Statement
from understudy.requests import rewrite

PIECE = 16 * 1024
"""Bytes from which a piece of a held body stands for itself."""
STALL_LIMIT = 10.0
"""Seconds for the body of an error reply, while another candidate is left."""

logger = logging.getLogger("understudy")


@dataclass
class Begin(HttpEvent):
    """To an attempt: begin."""


@dataclass
class AttemptEvent(HttpEvent):
    """From an attempt, to the stream of the tool under its id."""

    attempt: AttemptLayer = field(repr=False)


@dataclass
class Decided(AttemptEvent):
    """The reply is held as far as it has to be: OUTPUT, REPLY or BOUND."""

    held: Held


@dataclass
class Failed(AttemptEvent):
    """The transport failed: that is what there is to judge."""

    fault: Fault


@dataclass
class NotSent(AttemptEvent):
    """The request could not even be built for the candidate."""

    label: Label
    rule: str
    reason: str = field(repr=False)


@dataclass
class Silent(AttemptEvent):
    """It has shown no event for as long as it may."""


@dataclass
class Halted(AttemptEvent):
    """The flow was killed while the attempt was on its way to a connection."""


@dataclass
class Crashed(AttemptEvent):
    """An exception of ours."""

    error: Exception = field(repr=False)


class AttemptLayer(Layer):
    """One sending of a tool's request. ``tool_stream``: the id of the stream that is told."""

    _ids: ClassVar[itertools.count[int]] = itertools.count(-2, -2)

    def __init__(self, parent: HttpLayer, tool_stream: int, call: PooledCall, step: Attempt) -> None:
        super().__init__(context_below(parent))
        self.parent = parent
        self.tool_stream = tool_stream
        self.call = call
        self.step = step
        self.stream_id = next(AttemptLayer._ids)
        self.secret: Secret | None = None
        self.sent: http.Request | None = None
        """The request as it goes to the candidate, secret included."""
        self.server: Server | None = None
        self.reused = False
        """Whether the connection had served a request before."""
        self.sent_at = 0.0
        self.spoke_at = 0.0
        """When the first event of its reply came, 0 before."""
        self.is_on_the_wire = False
        """Whether the upstream has the request and has not ended its reply."""
        self.is_over = False
        """Whether nothing more is wanted of it: concluded, given up, or handed over to the stream."""
        self.hold: Hold | None = None
        self.statement: Statement | None = None
        """What a plain reply said of itself when it was judged."""
        self.another: str | None = None
        """The other model that a plain reply names, "" where that is none; None before it is released."""
        self.head: ResponseHeaders | None = None
        """Status and headers of the reply; None without any."""
        self.is_complete = False
        """Whether the whole reply is held."""
        self._held: list[events.Event] = []
        self._pieces = bytearray()  # what came last of the body
        self._told: ref[Abandoned] | None = None  # whose record is made of what is held
        self.timeout = Timeout(parent, self, call.engine.clock)
        self.state: Callable[[events.Event], CommandGenerator[None]] = self.state_connect
        parent.streams[self.stream_id] = self  # type: ignore[assignment] # mitmproxy only hands events to it

    @property
    def held(self) -> list[events.Event]:
        """The reply as it came, until it is released; the pieces of its body joined to larger ones."""
        if self._pieces:
            self._join()
        return self._held

    def _join(self) -> None:
        self._held.append(ResponseData(self.stream_id, bytes(self._pieces)))
        self._pieces.clear()

    def keep(self, event: events.Event) -> None:
        """Hold an event of the reply. An upstream may send a byte at a time, and an object for each would be dear."""
        # The first piece stands for itself: mostly it is the whole body.
        if isinstance(event, ResponseData) and (self._pieces or (len(event.data) < PIECE and len(self._held) > 1)):
            self._pieces += event.data
            if len(self._pieces) >= PIECE:
                self._join()
            return
        if self._pieces:
            self._join()
        self._held.append(event)
        self.is_complete = isinstance(event, ResponseEndOfMessage)

    @property
    def body(self) -> bytes:
        """The body of the reply as far as it is held, as it came."""
        return b"".join([*[each.data for each in self._held if isinstance(each, ResponseData)], self._pieces])

    @override
    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.is_over:
            return
        try:
            if isinstance(event, (ResponseData, ResponseHeaders)):
                yield from self.state(event)
            elif isinstance(event, Begin):
                yield from self.begin()
            elif isinstance(event, Due) and event.error is not None:
                raise event.error
            elif isinstance(event, (Due, events.Wakeup)):
                yield from self.on_due()
            elif isinstance(event, ResponseProtocolError):
                yield from self.on_protocol_error(event)
            else:
                yield from self.state(event)
        except Exception as error:
            if self.is_over:
                yield commands.Log(f"understudy: internal error: {self.call.trace(error)}", ERROR)
            else:
                yield ReceiveHttp(Crashed(self.tool_stream, self, error))

    # -- the way out -------------------------------------------------------------------------------------------------

    def begin(self) -> CommandGenerator[None]:
        """Fetch the secret, build the request, connect, and send it."""
        call, candidate = self.call, self.step.candidate
        rejected = call.last_secret(candidate) if self.step.refresh else ""
        source = candidate.credential.secret
        if isinstance(source, CommandSecret) and not source.at_hand(rejected):
            yield UnderstudySecretHook(Fetch(source, rejected))
            if (yield from self.halted()):
                return
        try:
            self.secret = self.secret_for(rejected)
            call.engine.gate.learn(self.secret.name, self.secret.value, *self.secret.more)
            # Before it is used: an error may repeat it.
            call.secrets.append((candidate, self.secret))
            # Each part that is taken out costs some 50 us, and a small body may have thousands.
            if is_large(call.flow.request) or self.step.without:
                secret = self.secret
                aside = Aside(lambda: self.request_with(secret))
                yield UnderstudyAsideHook(aside)
                if (yield from self.halted()):
                    return
                request = aside.result()
            else:
                request = self.request_with(self.secret)
            self.sent = request
        except ValueError as problem:
            label, rule = Label.REQUEST_INVALID, "builtin/rewrite"
            if isinstance(problem, SecretError):
                label, rule = Label.CREDENTIAL_REJECTED, "builtin/secret"
            yield ReceiveHttp(NotSent(self.tool_stream, self, label, rule, str(problem)))
            return
        request.timestamp_start = time.time()
        self.hold = Hold(call.plan.recognised, call.plan.call, candidate, self.secret, call.plan.route.hold)
        yield from self.reach(request)

    def reach(self, request: http.Request) -> CommandGenerator[None]:
        """Connect, and send the request, secret included."""
        call, upstream = self.call, self.step.candidate.upstream
        via, outcomes, kept = call.flow.server_conn.via, call.exchange.outcomes, True
        # One of this call was closed while it was idle: so may be all others (law 2).
        anew = outcomes and any(each.fault is not None and each.fault.reused for each in outcomes)
        server = None if anew else established(self.parent, call.engine, upstream, via)
        self.reused = server is not None
        if server is None:
            connected = yield from self.connect(upstream, via)
            if connected is None:
                return
            server, self.reused, kept = connected.server, connected.reused, connected.kept
        elif (self.is_over or call.flow.error is not None) and (yield from self.halted()):
            yield from self.leave(server)
            return
        self.server = server
        self.state = self.state_wait_for_headers
        yield from self.transmit(request, server, kept=kept)
        request.timestamp_end = time.time()
        self.sent_at = call.engine.clock()
        yield from self.watch()

    def connect(self, upstream: Upstream, via: ServerSpec | None) -> CommandGenerator[Connected | None]:
        """Wait for a connection; None where none is to be used, and the stream has been told what there is to tell."""
        reached = yield from Connecting(self.parent, self, self.call.engine, upstream, via).run()
        if (yield from self.halted()):
            if isinstance(reached, Connected):
                yield from self.leave(reached.server)
            return None
        if isinstance(reached, NoDescriptor):
            yield ReceiveHttp(NotSent(self.tool_stream, self, Label.UNKNOWN, "builtin/descriptors", reached.reason))
            return None
        if isinstance(reached, Fault):
            yield ReceiveHttp(Failed(self.tool_stream, self, reached))
            return None
        return reached

    def halted(self) -> CommandGenerator[bool]:
        """Whether the attempt was given up, or the flow was killed, while it was waiting."""
        error = self.call.flow.error
        if not self.is_over and error is not None and error.msg == mflow.Error.KILLED_MESSAGE:
            yield ReceiveHttp(Halted(self.tool_stream, self))
            return True
        return self.is_over

    def secret_for(self, rejected: str) -> Secret:
        """The secret that the request goes out with.

        Raises SecretError when there is none to be had but the ``rejected`` one.
        """
        call, candidate = self.call, self.step.candidate
        source = candidate.credential.secret
        if source.is_client:
            return Secret("client", "", call.intake.stash.secrets)
        value = source.reveal()
        if rejected and value == rejected:
            raise SecretError(f"{source} printed the same secret again, which was rejected")
        if isinstance(source, CommandSecret) and call.engine.clock() >= call.exchange.deadline:
            raise SecretError(f"{source} did not end in time")
        if isinstance(source, CommandSecret) and call.engine.identities.saw(candidate.credential.name, value):
            call.exchange.renewed()
        others = source.others() if isinstance(source, SigningSource) else ()
        others += tuple([each.reveal() for _, each in candidate.credential.secret_headers])
        return Secret(candidate.credential.name, value, others)

    def request_with(self, secret: Secret) -> http.Request:
        """The request as the candidate gets it, with this secret in it. Raises ValueError when it cannot be built."""
        call, candidate = self.call, self.step.candidate
        own = call.intake.stash if candidate.credential.secret.is_client else None
        readable, recognised = call.plan.route.restore_alias, call.plan.recognised
        states, without = call.plan.conversation.states, self.step.without
        request = self.unsealed_request() if states or without else call.flow.request
        return rewrite.build(request, recognised, call.plan.call, candidate, secret.value, own, readable=readable)

    def unsealed_request(self) -> http.Request:
        """The tool's request without what the candidate cannot read, or may not get (E01, E04). Raises ValueError."""
        call, candidate, without = self.call, self.step.candidate, self.step.without
        request = call.flow.request
        if call.plan.conversation.states:
            owned = call.engine.memory.is_state_of
            leaving = [name for name in call.plan.conversation.states if not owned(name, candidate)]
            request = rewrite.without_states(request, leaving) if leaving else request
            without = without.union(leaving)
        if without and call.plan.shape is not None:
            request, _ = rewrite.unsealed(request, call.plan.shape, without.__contains__)
        return request

    def transmit(self, request: http.Request, server: Server, *, kept: bool) -> CommandGenerator[None]:
        """Put a request on the wire, secret included: the last moment (law 8). ``kept``: see :class:`Connected`."""
        self.call.flow.server_conn = server
        self.is_on_the_wire = True
        content, stream_id = request.data.content, self.stream_id
        # mitmproxy's HTTP/1 client cannot send trailers, and would stop in the middle of the request.
        trailers = request.trailers if server.alpn == b"h2" else None
        if kept and server.alpn != b"h2" and (request.is_http2 or request.is_http3):
            request = as_http1(request)
        yield SendHttp(RequestHeaders(stream_id, request, not (content or trailers)), server)
        if content:
            yield SendHttp(RequestData(stream_id, content), server)
        if trailers:
            yield SendHttp(RequestTrailers(stream_id, trailers), server)
        yield SendHttp(RequestEndOfMessage(stream_id), server)

    def leave(self, server: Server) -> CommandGenerator[None]:
        """Let go of an HTTP/1 connection that an HTTP/2 tool has not used: what is kept has served a request."""
        if self.parent.context.client.alpn == b"h2" and server.alpn != b"h2":
            yield SendHttp(RequestProtocolError(self.stream_id, "attempt abandoned", ErrorCode.CANCEL), server)

    # -- the way back ------------------------------------------------------------------------------------------------

    def state_connect(self, event: events.Event) -> CommandGenerator[None]:
        """Before the request is sent nothing of an upstream is expected."""
        yield from ()

    def state_wait_for_headers(self, event: events.Event) -> CommandGenerator[None]:
        """Status and headers."""
        assert isinstance(event, ResponseHeaders) and self.hold is not None
        self.head = event
        self.keep(event)
        self.state = self.state_hold_body
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
        self.hold.has_clean_head = is_clean_head(response, self.hold.secret)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.fields]
        if self.call.exchange.request.generating:
            call, mask = self.call, self.hold.secret.mask
            call.engine.suspensions.limits.hear(self.step.candidate, headers, call.exchange.request.ahead, mask)
        held = self.hold.start(response.status_code, headers)
        if held is Held.MORE:
            yield from self.watch()
        else:
            yield from self.decided(held)

    def state_hold_body(self, event: events.Event) -> CommandGenerator[None]:
        """Body, while it is undecided."""
        assert self.hold is not None
        self.keep(event)
        held = Held.MORE
        if isinstance(event, ResponseData):
            before = self.hold.steps
            held = self.hold.data(event.data)
            if before == 0 < self.hold.steps and self.hold.success:
                self.spoke_at = self.call.engine.clock()
                self.call.exchange.spoke(self.step.candidate, self.spoke_at - self.sent_at)
            # Comments, pings and white space say nothing: they do not keep the time from running.
            if held is Held.MORE and self.hold.steps > before and (self.hold.is_held_whole or before == 0):
                yield from self.watch()
        elif isinstance(event, ResponseEndOfMessage):
            self.is_on_the_wire = False
            held = self.hold.end()
        if held is not Held.MORE:
            yield from self.decided(held)

    def state_decided(self, event: events.Event) -> CommandGenerator[None]:
        """The stream has not come to it yet: what comes meanwhile belongs to the reply, until that has ended."""
        if self.is_complete:
            return  # an upstream that wants no more of the request, which says nothing of its reply
        self.keep(event)
        if isinstance(event, ResponseEndOfMessage):
            self.is_on_the_wire = False
        yield from ()

    def decided(self, held: Held) -> CommandGenerator[None]:
        """Tell the stream that the hold has come to something."""
        self.timeout.stop()
        self.state = self.state_decided
        yield ReceiveHttp(Decided(self.tool_stream, self, held))

    def failed(self, kind: FaultKind, message: str, *, reused: bool = False) -> CommandGenerator[None]:
        """Tell the stream that the transport failed after the request was sent."""
        self.timeout.stop()
        self.state = self.state_decided
        yield ReceiveHttp(Failed(self.tool_stream, self, Fault(kind, message, sent=True, reused=reused)))

    def on_protocol_error(self, event: ResponseProtocolError) -> CommandGenerator[None]:
        """The upstream has closed the connection or reset the stream, or what it sends cannot be read."""
        self.is_on_the_wire = False
        if not self.call.client_is_there:
            # mitmproxy closes all connections behind a tool that has gone, and says so as if an upstream had (H04).
            self.timeout.stop()
        elif self.state == self.state_wait_for_headers:
            stale = self.reused or isinstance(event, NotServed)
            yield from self.failed(FaultKind.CLOSED, cause_of(event.message), reused=stale)
        elif self.state == self.state_hold_body:
            yield from self.failed(FaultKind.CUT, cause_of(event.message))
        else:
            yield from self.state(event)

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come yet that shows that a model is at work: no event, or no byte of another body."""
        if self.state == self.state_wait_for_headers:
            return True
        return (
            self.state == self.state_hold_body and self.hold is not None and self.hold.success and not self.hold.steps
        )

    def watch(self, at_least: float = 0.0) -> CommandGenerator[None]:
        """Be told when the attempt has to be looked after, not before so many seconds."""
        self.timeout.stop()
        exchange, now = self.call.exchange, self.call.engine.clock()
        left = self.patience(now) if self.state == self.state_hold_body else math.inf
        # Most replies that are no streams may be silent for as long as they like.
        if (exchange.request.streamed or exchange.budget.silence) and self.is_quiet:
            candidate = self.step.candidate
            asked = max(exchange.ask_at(candidate, self.sent_at) - now, at_least)
            quiet = min(asked, exchange.end_at(candidate, self.sent_at, now) - now)
            left = min(left, max(0.0, quiet)) if quiet < math.inf else left
        if left < math.inf:
            yield from self.timeout.start(left)

    def patience(self, now: float) -> float:
        """Seconds until the hold has to be looked at, should it go on without a word; infinite: never."""
        assert self.hold is not None
        hold, exchange = self.hold, self.call.exchange
        # After the deadline nothing can be replayed, so holding on would be for nothing.
        left = exchange.deadline - now
        if not hold.success:
            # An error that stalls is not worth that long.
            left = min(left, STALL_LIMIT, exchange.budget.first_event)
        elif hold.is_held_whole and hold.has_begun:
            left = min(left, exchange.budget.idle)
        elif hold.live:
            left = min(left, exchange.first_output_limit(now, self.sent_at))
        return max(0.0, left)

    def on_due(self) -> CommandGenerator[None]:
        """Silence, or a hold that has lasted as long as anything could be replayed."""
        if not self.timeout.is_due or self.hold is None:
            return
        exchange, now = self.call.exchange, self.call.engine.clock()
        has_another = exchange.has_another(now)
        if self.is_quiet and self.quiet_until <= now + SLACK:
            yield ReceiveHttp(Silent(self.tool_stream, self))
        elif self.state == self.state_wait_for_headers:
            yield from self.watch()
        elif self.state == self.state_hold_body:
            if has_another and (reason := self.why_give_up(self.hold)):
                yield from self.failed(FaultKind.SILENCE, reason)
            else:
                yield from self.decided(Held.BOUND)

    @property
    def quiet_until(self) -> float:
        """When silence has lasted long enough to do something about it."""
        exchange, candidate, now = self.call.exchange, self.step.candidate, self.call.engine.clock()
        return min(exchange.ask_at(candidate, self.sent_at), exchange.end_at(candidate, self.sent_at, now))

    def why_give_up(self, hold: Hold) -> str:
        """What is wrong with a reply that has begun and does not go on, "" when nothing is."""
        if not hold.success:
            return "the reply stalled"
        if hold.is_held_whole and hold.has_begun:
            # With its last event there it is complete, although its connection or its encoding has not come to an end.
            return "" if hold.live and hold.is_done else "the reply paused in the middle"
        return "no output in time" if hold.live and self.call.exchange.budget.first_output else ""

    # -- its end -----------------------------------------------------------------------------------------------------

    def hand_over(self, stream: HttpStream) -> list[events.Event]:
        """The reply goes to the tool: return what is held of it, and let the stream have the rest as it comes."""
        if self._told is not None:
            self._settle_record()
        if self._pieces:
            self._join()
        held, self._held = self._held, []
        if self.sent is not None:
            # mitmproxy's HTTP/1 client keeps it until the reply ends, and wants to know how to leave the connection.
            headers = self.sent.data.headers
            headers.fields = tuple([each for each in headers.fields if each[0].lower() == b"connection"])
            self.sent.data.content = None
            self.sent = None
        if not self.is_over:
            self.is_over = True
            self.timeout.stop()
            self.parent.streams[self.stream_id] = stream
        for event in held:
            assert isinstance(event, HttpEvent)
            event.stream_id = stream.stream_id
        return held

    def end_here(self) -> None:
        """What is held of the reply is all that will be: it ends there, whatever length it announced."""
        if self.head is not None and not self.is_complete:
            self._settle_record()
            self.head.response.headers.pop("content-length", None)
            self.keep(ResponseEndOfMessage(self.stream_id))

    def cancel(self) -> CommandGenerator[None]:
        """Give the attempt up, and tell the upstream: a reset on HTTP/2, a close on HTTP/1."""
        on_the_wire, self.is_on_the_wire = self.is_on_the_wire, False
        if on_the_wire and self.server is not None:
            error = RequestProtocolError(self.stream_id, "attempt abandoned", ErrorCode.CANCEL)
            yield SendHttp(error, self.server)
        self.forget()

    def forget(self) -> None:
        """Whatever the upstream still sends goes nowhere, and no time-out rings. What is held stays.

        A connection that is being made is let go when it is there, or given up within its own limit.
        """
        self.is_over = True
        self.parent.streams.pop(self.stream_id, None)
        self.timeout.stop()

    def let_go(self) -> None:
        """The reply was delivered, or ended: nothing is referred to in a circle any more, see ``ReplayStream``."""
        self.state = over
        self.context.layers = []
        del self.timeout

    def abandoned(self, outcome: Outcome, step: Step, fault: Fault | None) -> Abandoned:
        """What is told of the attempt when its reply is not the one for the tool. Its flow is made if it is wanted."""
        made = Abandoned(self.call.flow, self.call.exchange, outcome, step)
        if self.call.engine.attempt_flows:
            # The flow has another connection as soon as the next attempt is sent.
            server, ended_at = self.server or self.call.flow.server_conn, time.time()
            made.make = lambda: self._record(fault, server, ended_at)
            self._told = ref(made)
        return made

    def record(self, fault: Fault | None) -> http.HTTPFlow | None:
        """The attempt as a flow of its own, without its secret; None when attempt flows are off."""
        if not self.call.engine.attempt_flows:
            return None
        return self._record(fault, self.server or self.call.flow.server_conn, time.time())

    def _settle_record(self) -> None:
        """What is held of the attempt is about to change: if anybody may still ask for its flow, make it before."""
        if self._told is not None and (told := self._told()) is not None:
            _ = told.record
        self._told = None

    def _record(self, fault: Fault | None, server: Server, ended_at: float) -> http.HTTPFlow | None:
        if self.sent is None or self.hold is None:
            return None
        head = self.head.response if self.head is not None else None
        try:
            return attempt_flow(
                self.call.flow,
                server,
                self.sent,
                self.hold,
                head,
                self.body,
                fault=fault,
                complete=self.is_complete,
                ended_at=ended_at,
            )
        except Exception as error:
            # To look at an attempt must never cost the call.
            logger.error(f"understudy: an attempt cannot be shown: {self.call.trace(error)}")
            return None


def over(event: events.Event) -> CommandGenerator[None]:
    """The state of a layer that nothing comes to any more."""
    yield from ()


def context_below(parent: HttpLayer) -> Context:
    """As ``parent.context.fork()``, which also makes a server connection that nothing here needs."""
    own, made = parent.context, Context.__new__(Context)
    made.client, made.options, made.server, made.layers = own.client, own.options, own.server, own.layers.copy()
    return made
