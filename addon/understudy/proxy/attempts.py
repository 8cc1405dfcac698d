"""Attempts: send the request to a candidate, hold its reply, ask the exchange, and go on from its answer.

Nothing is released that is still undecided (law 1). A decision to replay takes effect after a blocking hook only: the
HTTP/1 client marks itself done just after the event that carries the end of a message.
"""

from __future__ import annotations

import time
from logging import WARNING

from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http._events import (
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)

from understudy.failover import Attempt, Refuse, Release, Step, Wait
from understudy.model import Label, SecretError
from understudy.proxy.delivery import Kept
from understudy.proxy.listener import Abandoned, UnderstudyAttemptHook
from understudy.proxy.secret_stream import SecretStream
from understudy.proxy.timeouts import SLACK
from understudy.replies import Fault, FaultKind, Held, Hold, Reply

LOOK_INTERVAL = 0.25
"""Seconds between two looks at whether a wait can end early: somebody resumed by hand, or another exchange's probe."""
STALL_LIMIT = 10.0
"""Seconds for the body of an error reply, while another candidate is left."""


class AttemptStream(SecretStream):
    """One request of a tool, as far as it concerns its attempts."""

    paused_until = 0.0
    sent_at = 0.0

    def go(self, step: Step | None) -> CommandGenerator[None]:
        """Take steps until one of them has to wait for something to happen."""
        while step is not None:
            match step:
                case Attempt():
                    step = yield from self.send(step)
                case Wait(seconds=seconds, reason=reason) if seconds > 0:
                    assert self.exchange is not None
                    if self.journal is not None:
                        self.journal.waited(self.flow, self.exchange, seconds, reason)
                    yield from self.pause(seconds)
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

    def pause(self, seconds: float) -> CommandGenerator[None]:
        """Do nothing for a while, and look now and then whether that can end early."""
        self.server_state = self.state_pause
        self.paused_until = self.now() + seconds
        yield from self.wake_in(min(seconds, LOOK_INTERVAL))

    def send(self, attempt: Attempt) -> CommandGenerator[Step | None]:
        """Send the request to a candidate; returns the next step when it never got there."""
        assert self.plan is not None and self.exchange is not None
        self.attempt, candidate, plan = attempt, attempt.candidate, self.plan
        self.held, self.reused, self.sent = [], False, None
        rejected = self.secret.value if attempt.refresh and self.secret is not None else ""
        if (yield from self.fetch(candidate, rejected)):
            return None
        try:
            request = self.request_for(candidate, rejected)
        except ValueError as problem:
            label, rule = Label.REQUEST_INVALID, "builtin/rewrite"
            if isinstance(problem, SecretError):
                label, rule = Label.CREDENTIAL_REJECTED, "builtin/secret"
            yield commands.Log(f"{candidate}: not sent: {problem}", WARNING)
            return self.exchange.unsendable(label, rule, str(problem), self.now())
        assert self.secret is not None
        self.sent = request
        request.timestamp_start = time.time()
        self.hold = Hold(plan.recognised, plan.call, candidate, self.secret, plan.route.hold)
        server, fault = yield from self.connect(candidate.upstream)
        if (yield from self.gone()):
            if server is not None:
                yield from self.leave(server)
            return None
        if server is None:
            return (yield from self.conclude(self.hold.fault(fault)))
        self.server_state = self.state_held_headers
        yield from self.transmit(request, server)
        request.timestamp_end = time.time()
        self.sent_at = self.now()
        yield from self.wake_in(self.exchange.first_byte_limit(self.sent_at))
        return None

    def conclude(self, reply: Reply) -> CommandGenerator[Step | None]:
        """Judge a reply. When it is not the one for the tool, keep it if it may be needed and leave the attempt."""
        exchange, attempt = self.exchange, self.attempt
        assert exchange is not None and attempt is not None and self.hold is not None
        self.calm()
        step = exchange.judge(reply, self.now())
        if isinstance(step, Release) and step.attempt == attempt.number:
            return step
        record = self.record(reply.fault)
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
        yield UnderstudyAttemptHook(Abandoned(self.flow, exchange, exchange.outcomes[-1], step, record))
        if (yield from self.gone()):
            return None
        return step

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
            yield from self.wake_in(self.patience_with(self.hold))
        yield from self.on_held(held)

    def patience_with(self, hold: Hold) -> float:
        """Seconds until somebody has to look at a hold that goes on without a word."""
        assert self.exchange is not None
        now, budget = self.now(), self.exchange.budget
        # After the deadline nothing can be replayed, so holding on would be for nothing.
        left = self.exchange.deadline - now
        if not hold.success:
            left = min(left, STALL_LIMIT, budget.first_event)  # an error that stalls is not worth that long
        elif hold.is_held_whole and hold.has_begun:
            left = min(left, budget.idle)
        elif hold.live:
            left = min(left, self.exchange.first_output_limit(now) - (now - self.sent_at))
        return max(0.0, left)

    def state_held_body(self, event: events.Event) -> CommandGenerator[None]:
        """Body of an attempt while it is undecided."""
        assert self.hold is not None
        self.held.append(event)
        if isinstance(event, ResponseData):
            yield from self.on_held(self.hold.data(event.data))
            if self.server_state == self.state_held_body and self.hold.is_held_whole and self.hold.has_begun:
                yield from self.wake_in(self.patience_with(self.hold))
        elif isinstance(event, ResponseEndOfMessage):
            yield from self.on_held(self.hold.end())

    def on_held(self, held: Held) -> CommandGenerator[None]:
        """Go on from where the hold stands."""
        assert self.exchange is not None and self.attempt is not None and self.hold is not None
        match held:
            case Held.MORE:
                pass
            case Held.BOUND if self.hold.status in (401, 403):
                # Judged as far as it came: it must not get through to the tool by being long (W07).
                number = self.attempt.number
                step = yield from self.conclude(self.hold.reply())
                if isinstance(step, Release) and step.attempt == number:
                    yield from self.release(step, live=True)
                else:
                    yield from self.go(step)
            case Held.OUTPUT | Held.BOUND:
                self.exchange.accept()
                # What has outgrown its bound would outgrow mitmproxy's buffer as well, or never end at all.
                yield from self.release(Release(self.attempt.number), live=held is Held.BOUND)
            case Held.REPLY:
                yield from self.go((yield from self.conclude(self.hold.reply())))

    def failed(self, kind: FaultKind, message: str, *, reused: bool = False) -> CommandGenerator[None]:
        """The transport of the current attempt failed after the request was sent: judge that instead of a reply."""
        assert self.hold is not None
        fault = Fault(kind, message, sent=True, reused=reused)
        yield from self.go((yield from self.conclude(self.hold.fault(fault))))

    def on_due(self) -> CommandGenerator[None]:
        """A time-out: the end of a pause, silence, or a hold that has lasted as long as anything could be replayed."""
        if self.exchange is None or self.now() + SLACK < self.due_at:
            return
        if self.server_state == self.state_pause:
            left = self.paused_until - self.now()
            if left > SLACK and not self.exchange.is_ready():
                yield from self.wake_in(min(left, LOOK_INTERVAL))
                return
            step = self.exchange.resume(self.now())
            if isinstance(step, Wait) and step.seconds <= SLACK:
                yield from self.wake_in(step.seconds)  # the alarm was early
                return
            yield from self.go(step)
        elif self.server_state == self.state_held_headers and self.exchange.has_another(self.now()):
            yield from self.failed(FaultKind.SILENCE, "no byte of a reply in time")
        elif self.server_state == self.state_held_body and self.hold is not None:
            if self.exchange.has_another(self.now()) and (reason := self.why_give_up(self.hold)):
                yield from self.failed(FaultKind.SILENCE, reason)
            else:
                yield from self.on_held(Held.BOUND)

    def why_give_up(self, hold: Hold) -> str:
        """What is wrong with a reply that has begun and does not go on, "" when nothing is."""
        assert self.exchange is not None
        if not hold.success:
            return "the reply stalled"
        if hold.is_held_whole and hold.has_begun:
            return "the reply paused in the middle"
        return "no output in time" if hold.live and self.exchange.budget.first_output else ""
