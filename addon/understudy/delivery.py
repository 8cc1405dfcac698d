"""Delivery: the held reply goes to the tool, or an answer of our own does; and every way in which a request ends.

Nothing can be replayed from here on. A released stream is passed on as it comes, at the cost of one append per chunk;
how it ended is read from its last bytes.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from logging import ERROR, WARNING
from typing import ClassVar, Protocol, override

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

from understudy import release, rewrite
from understudy.border import BorderStream
from understudy.dialects.base import Progress
from understudy.engine import Intake, Plan
from understudy.exchange import Exchange
from understudy.hold import Hold, Secret, Tail
from understudy.reply import Reply
from understudy.rules import Label
from understudy.steps import Attempt, Outcome, Refuse, Release


class Journal(Protocol):
    """Who is told what happened."""

    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        """The reply of this attempt goes to the tool; 0: an answer of our own does."""

    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error."""

    def sent_to_http(self, flow: http.HTTPFlow) -> None:
        """A WebSocket was refused, so that the tool makes its calls over plain HTTP."""


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
        self.untouched = True
        """Whether a released stream needs nothing of mitmproxy: no script changes it, no option stores it."""
        self.secret: Secret | None = None

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
            self.forget_attempt()
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
            self.untouched = self.flow.response.stream is True and not self.context.options.store_streamed_bodies
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
