"""Delivery: the held reply goes to the tool, or an answer of our own does; and every way in which a request ends.

Nothing can be replayed from here on. A released stream is passed on as it comes, at the cost of one append per chunk;
how it ended is read from its last bytes.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass
from logging import ERROR, WARNING
from typing import ClassVar, override

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook

from understudy.codec.event_stream import StreamKind
from understudy.dialects import Progress
from understudy.failover import Attempt, Exchange, Refuse, Release
from understudy.failover.memory import Plan, Refusal, marks_of
from understudy.model import Label
from understudy.proxy import release, reply_edit
from understudy.proxy.attempt_flow import attempt_flow
from understudy.proxy.engine import Intake
from understudy.proxy.listener import Abandoned, Journal, UnderstudyAttemptHook
from understudy.proxy.reply_edit import FramesToEvents, ReplyEdit
from understudy.proxy.upstream_connection import BorderStream
from understudy.replies import Fault, FaultKind, Hold, Reply, Secret, Tail

logger = logging.getLogger("understudy")


@dataclass
class Kept:
    """A reply that was not released but may have to be in the end."""

    number: int
    events: list[events.Event]
    hold: Hold
    server: Server


class DeliveryStream(BorderStream):
    """One request of a tool, as far as it concerns the way back to the tool."""

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
        self.edit: ReplyEdit | None = None
        self.untouched = True
        """Whether a released stream needs nothing of mitmproxy: no script changes it, no option stores it."""
        self.secret: Secret | None = None
        self.sent: http.Request | None = None
        """The request of the current attempt, secret included."""

    def record(self, fault: Fault | None) -> http.HTTPFlow | None:
        """The current attempt as a flow of its own, without its secret; None when nobody wants to see it."""
        if self.sent is None or self.hold is None or not self.engine_now.attempt_flows:
            return None
        head = self.held[0].response if self.held and isinstance(self.held[0], ResponseHeaders) else None
        body = b"".join(event.data for event in self.held if isinstance(event, ResponseData))
        complete = bool(self.held) and isinstance(self.held[-1], ResponseEndOfMessage)
        try:
            return attempt_flow(self.flow, self.sent, self.hold, head, body, fault=fault, complete=complete)
        except Exception as error:
            # To look at an attempt must never cost the call.
            logger.error(f"understudy: an attempt cannot be shown: {self.trace(error)}")
            return None

    def abandon(self) -> None:
        """The tool went away: nothing is learnt of an attempt that is under way, but it is shown."""
        assert self.exchange is not None and self.plan is not None
        attempt = self.exchange.attempt
        self.engine_now.memory.left(self.exchange, self.plan, self.asked)
        self.exchange.cancelled()
        if attempt is not None and self.journal is not None:
            fault = Fault(FaultKind.CUT, "cancelled, the tool went away", sent=self.upstream_id is not None)
            self.journal.left(self.flow, self.exchange, attempt, self.record(fault))

    @property
    def asked(self) -> bytes:
        """The body of the tool's request."""
        return self.flow.request.data.content or b""

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
            yield from self.withhold(held, step)
            return
        edit = self.edit_of(hold, head.response, complete=complete)
        if edit is not None:
            edited = edit.feed(edited) + (edit.finish() if complete else b"")
            if complete and "content-length" in head.response.headers:
                head.response.headers["content-length"] = str(len(edited))
        if body != [edited] and b"".join(body) != edited:
            rest = [event for event in held[1:] if not isinstance(event, ResponseData)]
            # Never an empty one: as a chunk that would be the end of the reply.
            held = [head, *([ResponseData(self.stream_id, edited)] if edited else []), *rest]
        self.sent = None
        if self.journal is not None:
            self.journal.released(self.flow, self.exchange, step.attempt)
        self.hold = hold
        self.note(step, head.response, edited)
        head.response.stream = live or hold.live
        self.server_state = self.state_wait_for_response_headers
        yield from HttpStream.state_wait_for_response_headers(self, head)
        if self.server_state == self.state_stream_response_body and self.flow.response:
            self.tail = Tail()
            self.untouched = self.flow.response.stream is True and not self.context.options.store_streamed_bodies
            self.server_state = self.state_released
        for event in held[1:]:
            if self.server_state == self.state_errored:
                break
            yield from self.server_state(event)
        if edit is not None and self.server_state == self.state_released:
            self.edit, self.server_state = edit, self.state_edited
        if self.server_state == self.state_errored:
            # Another addon killed the flow when it saw the headers.
            yield from self.cancel()
            self.finish()

    def note(self, step: Release, response: http.Response, body: bytes) -> None:
        """What later requests should know of this reply; ``body``: what there is of it, fit for the tool."""
        assert self.exchange is not None and self.plan is not None and self.hold is not None
        outcome = self.exchange.outcomes[step.attempt - 1]
        label, memory = outcome.verdict.label, self.engine_now.memory
        if label is Label.OK:
            memory.learn(outcome.attempt.candidate, marks_of(self.plan.recognised, bytes(self.hold.body)))
        memory.ended(self.exchange, self.plan, self.asked, label)
        if label is Label.MODEL_UNSUPPORTED:
            kind = response.headers.get("content-type", "application/json")
            refusal = Refusal(response.status_code, kind, release.decoded(body, self.hold))
            memory.remember_refusal(self.exchange, refusal)

    def withhold(self, held: list[events.Event], step: Release) -> CommandGenerator[None]:
        """A reply that must not go out, because the secret in it cannot be masked."""
        assert self.exchange is not None and self.attempt is not None
        yield from self.cancel()
        self.forget_attempt()
        refuse = Refuse(400, release.ECHOED)
        if step.attempt == self.attempt.number:
            self.held = held
            outcome, record = self.exchange.outcomes[step.attempt - 1], self.record(None)
            yield UnderstudyAttemptHook(Abandoned(self.flow, self.exchange, outcome, refuse, record))
        yield from self.refuse(refuse)

    def state_released(self, event: events.Event) -> CommandGenerator[None]:
        """The released stream: one append per chunk, and nothing else that mitmproxy would not do."""
        assert self.tail is not None
        if isinstance(event, ResponseData):
            self.tail.append(event.data)
            if not self.untouched:
                yield from self.state_stream_response_body(event)
                return
            if (keep := self.engine_now.keep_stream) and len(self.response_body_buf) < keep:
                self.response_body_buf += event.data
            yield SendHttp(event, self.context.client)
            return
        if isinstance(event, ResponseEndOfMessage):
            yield from self.read_tail(self.tail)
            if self.untouched and self.response_body_buf and self.flow.response:
                self.flow.response.data.content = bytes(self.response_body_buf)
                self.response_body_buf.clear()
        yield from self.state_stream_response_body(event)

    def edit_of(self, hold: Hold, response: http.Response, *, complete: bool) -> ReplyEdit | None:
        """The edit that a reply needs on its way to the tool, with the headers fit for it; None for nearly all."""
        assert self.plan is not None
        tool, route = self.plan.recognised.dialect, self.plan.route
        if not (route.restore_alias or hold.framing is StreamKind.AMAZON) or not (complete or hold.live):
            return None
        edit = reply_edit.edit_for(hold, tool, self.plan.call.alias if route.restore_alias else None)
        if edit is not None:
            chunked = self.flow.request.http_version == "HTTP/1.1" and self.context.client.alpn != b"h2"
            reply_edit.fit_headers(edit, response.headers, live=hold.live, chunked=chunked)
        if isinstance(edit, FramesToEvents):
            hold.goes_on_as(tool)
        return edit

    def state_edited(self, event: events.Event) -> CommandGenerator[None]:
        """As :meth:`state_released`, for a stream that has to be edited."""
        assert self.edit is not None
        if isinstance(event, ResponseData):
            event.data = self.edit.feed(event.data)
            if not event.data:
                return
        elif isinstance(event, ResponseEndOfMessage) and (rest := self.edit.finish()):
            yield from self.state_released(ResponseData(self.stream_id, rest))
        yield from self.state_released(event)

    def read_tail(self, tail: Tail) -> CommandGenerator[None]:
        """How a released stream ended: its terminal event is a success, an error a fault of the candidate."""
        assert self.hold is not None
        assert self.exchange is not None and self.plan is not None
        self.proven()
        progress, event = tail.last(self.hold) if self.hold.live else (Progress.LIFECYCLE, None)
        if progress is Progress.DONE:
            self.exchange.succeeded()
            said = event.data if event is not None else tail.content()
            self.engine_now.memory.learn(self.hold.candidate, marks_of(self.plan.recognised, said))
        elif progress is Progress.ERROR and event is not None:
            self.remember(self.hold.ending(event))
        yield from ()

    def proven(self) -> None:
        """A reply that is no stream of events has come to its end: all of it was there (law 4)."""
        hold = self.hold
        if self.exchange is not None and hold is not None and hold.success and not hold.live:
            self.exchange.succeeded()

    def remember(self, reply: Reply) -> None:
        """A released stream failed: nothing is replayed, but its candidate pays."""
        assert self.exchange is not None
        outcome = self.exchange.failed_after_release(reply, self.now())
        if outcome is not None and self.journal is not None:
            self.journal.ended_badly(self.flow, self.exchange, outcome)

    @override
    def check_invalid(self, request: bool) -> CommandGenerator[bool]:
        if request or self.exchange is None:
            return super().check_invalid(request)
        return self.was_valid()

    def was_valid(self) -> CommandGenerator[bool]:
        """The headers of a held reply were validated before it was judged."""
        yield from ()
        return False

    def refuse(self, step: Refuse) -> CommandGenerator[None]:
        """Answer ourselves, in the tool's own dialect."""
        assert self.intake is not None
        answer = None
        if self.exchange is not None:
            assert self.plan is not None
            if self.journal is not None:
                self.journal.released(self.flow, self.exchange, 0)
            self.engine_now.memory.ended(self.exchange, self.plan, self.asked, None)
            answer = self.engine_now.memory.last_refusal(self.exchange) if step.refused else None
        yield commands.Log(step.message, WARNING)
        yield from self.respond(
            release.last_refusal(answer) if answer else release.own_answer(self.intake.dialect, step)
        )

    def respond(self, response: http.Response) -> CommandGenerator[None]:
        """Send a response that did not come from an upstream, with the hooks that such a response gets."""
        self.flow.response = response
        response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            self.finish()
            return
        yield from self.send_response()

    @override
    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:
        if not already_streamed:
            self.proven()
        yield from super().send_response(already_streamed)
        if self.server_state == self.state_errored:
            # Another addon killed the flow when it saw the whole response.
            self.finish()

    def gone(self) -> CommandGenerator[bool]:
        """Whether the tool went away, or the flow was killed, while this layer was waiting."""
        if not (yield from self.check_killed(True)):
            return False
        yield from self.cancel()
        if self.exchange is not None:
            self.abandon()
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
            self.kept, self.held, self.sent = None, [], None
            if self.journal is not None:
                self.journal.finished(self.flow, self.exchange)

    def trace(self, error: Exception) -> str:
        """Where it happened; with the text of the error only when all secrets that could stand in it are known."""
        where = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}"
        if self.intake is None or not self.intake.is_call:
            return where
        try:
            text = Secret("client", "", self.intake.stash.secrets).mask(str(error))
            return f"{where}: {self.secret.mask(text) if self.secret else text}"
        except Exception:
            return where
