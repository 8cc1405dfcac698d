"""Delivery: the reply of an attempt goes to the tool, or an answer of our own does.

Nothing can be replayed from here on. A released stream is passed on as it comes, at the cost of one append per chunk;
how it ended is read from its last bytes.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from logging import WARNING
from typing import Any, TypeVar, cast

from mitmproxy import http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook, HttpResponseHook

from understudy.codec.event_stream import StreamKind
from understudy.codec.masking import StreamMask
from understudy.dialects import Dialect, Progress, StreamEvent
from understudy.failover import Refuse, Release
from understudy.failover.memory import Refusal, marks_of, states_of
from understudy.model import Label
from understudy.proxy import reply_edit, splice, tool_reply
from understudy.proxy.attempt import AttemptLayer
from understudy.proxy.masking_gate import NOT_SHOWN, can_be_decoded, mask_body, mask_head, masked_fields, show_body
from understudy.proxy.pooled_call import PooledCall
from understudy.proxy.reply_edit import FramesToEvents, ReplyEdit
from understudy.proxy.upstream_connection import cause_of
from understudy.replies import Fault, FaultKind, Hold, Reply, Tail
from understudy.requests.sealed import Shape

COMMENT_EVERY = 15.0
"""Seconds between two comments to the tool of a call that is held."""
COMMENT = b": understudy holds this call until a limit begins anew\n\n"
T = TypeVar("T")


def _takes_comments(call: PooledCall) -> bool:
    """Whether the tool of a call gets events of a kind that has comments."""
    recognised, request = call.plan.recognised, call.flow.request
    if not call.plan.call.streamed or request.http_version == "HTTP/1.0":
        return False
    if recognised.dialect.name in ("gemini", "vertex"):
        return "alt=sse" in recognised.query  # else it is one array of JSON
    return recognised.dialect.name not in ("ollama", "bedrock")


class Delivery:
    """What one stream sends to its tool. ``call``: what is answered, None where the pool is not asked at all."""

    def __init__(self, stream: HttpStream, call: PooledCall | None = None) -> None:
        self.stream = stream
        self.call = call
        self.released: AttemptLayer | None = None
        """The attempt whose reply the tool gets; None before, and for an answer of our own."""
        self.tail: Tail | None = None
        self.edit: ReplyEdit | None = None
        self.mask: StreamMask | None = None
        """Masks what still comes of a released reply; None where nothing comes, or it is compressed."""
        self.is_to_mask = False
        """Whether what mitmproxy buffers of the released reply is still to be masked: it was not all held in clear."""
        self.untouched = True
        """Whether a released stream needs nothing of mitmproxy: no script changes it, no option stores it."""
        self.may_be_cut = False
        """Whether the end of a released stream may be a cut that only its events can tell."""
        self.is_open = False
        """Whether the tool has the head of a stream, because its call is held until a reset."""
        self.commented_at = -math.inf
        """When the tool of such a call last got a comment."""
        self.kept = bytearray()
        """What ``pool_keep_streams`` keeps of such a stream."""

    def let_go(self) -> None:
        """The stream is over: nothing is referred to in a circle any more."""
        if self.released is not None:
            if self.tail is not None:
                splice.end(self.released.parent)
            self.released.let_go()
        self.released = None
        del self.stream

    def keep_open(self, call: PooledCall) -> CommandGenerator[None]:
        """Send a comment to the tool of a call that is held, so that it does not give up; first the head of a stream.

        Where its dialect has comments, that is: an event stream of HTTP/1.1 or newer. Others just wait.
        """
        request, now = call.flow.request, call.engine.clock()
        if not _takes_comments(call) or now - self.commented_at < COMMENT_EVERY:
            return
        client, stream_id = self.stream.context.client, self.stream.stream_id
        if not self.is_open:
            head = tool_reply.held_head("" if client.alpn == b"h2" else request.http_version)
            yield SendHttp(ResponseHeaders(stream_id, head, False), client)
        self.is_open, self.commented_at = True, now
        yield SendHttp(ResponseData(stream_id, COMMENT), client)

    def without_head(self, wanted: CommandGenerator[T]) -> CommandGenerator[T]:
        """The same commands, but for the head of a stream that the tool has already."""
        answer: Any = None
        while self.is_open:
            try:
                command = wanted.send(answer)
            except StopIteration as end:
                return cast(T, end.value)
            if (
                isinstance(command, SendHttp)
                and isinstance(command.event, ResponseHeaders)
                and command.connection is self.stream.context.client
            ):
                answer = None
                continue
            answer = yield command
        return (yield from wanted)

    def fits_open(self, attempt: AttemptLayer) -> bool:
        """Whether a reply can go on in the stream that the tool has: one of events, in clear."""
        hold = attempt.hold
        return hold is not None and hold.live and hold.framing is StreamKind.SSE and not hold.encoded

    @property
    def has_begun(self) -> bool:
        """Whether the tool may have something of its reply already."""
        return self.is_open or self.stream.server_state in (
            self.state_released,
            self.state_edited,
            self.stream.state_stream_response_body,
            self.stream.state_done,
        )

    # -- the reply of an attempt -------------------------------------------------------------------------------------

    def release(self, attempt: AttemptLayer, step: Release, *, live: bool = False) -> CommandGenerator[bool]:
        """Hand the reply that an attempt holds to the tool; what still comes of it passes, ``live`` without a buffer.

        Returns False, and has done nothing, when it must not go out: the secret in it cannot be masked.
        """
        stream, call, head, hold = self.stream, self.call, attempt.head, attempt.hold
        assert call is not None and head is not None and hold is not None
        complete, body = attempt.is_complete, attempt.body
        edited = tool_reply.prepare(head.response, body, hold, step, complete=complete)
        if edited is None:
            return False
        if not complete and not hold.encoded:
            self.mask = StreamMask(hold.secret.named)
            edited = self.mask.feed(edited)
        edit = None
        if call.plan.route.restore_alias or hold.framing is StreamKind.AMAZON:
            edit = self.edit_of(hold, head.response, complete=complete)
        if edit is not None:
            edited = edit.feed(edited) + (edit.finish() if complete else b"")
            if complete and "content-length" in head.response.headers:
                head.response.headers["content-length"] = str(len(edited))
        self.released, self.is_to_mask = attempt, hold.encoded or not complete
        if attempt.server is not None:
            stream.context.server = stream.flow.server_conn = attempt.server
        held = attempt.hand_over(stream)
        if body != edited:
            others = [event for event in held[1:] if not isinstance(event, ResponseData)]
            # Never an empty one: as a chunk that would be the end of the reply.
            held = [head, *([ResponseData(stream.stream_id, edited)] if edited else []), *others]
        if (journal := call.journal_now()) is not None:
            journal.released(call.flow, call.exchange, step.attempt)
            if attempt.statement is not None:
                attempt.another = another = hold.another(attempt.statement.model)
            else:
                another = hold.another(hold.opening_model())
            if another:
                journal.served_by(call.flow, call.exchange, step.attempt, another)
        self.note(call, step, hold, head.response, edited)
        if not complete:
            hold.rest()
            self.frame(head.response)
        head.response.stream = live or hold.live
        stream.server_state = stream.state_wait_for_response_headers
        yield from HttpStream.state_wait_for_response_headers(stream, head)
        if stream.server_state == stream.state_stream_response_body and stream.flow.response:
            self.tail = Tail()
            self.untouched = stream.flow.response.stream is True and not stream.context.options.store_streamed_bodies
            stream.server_state = self.state_released
        if self.mask is not None and not call.engine.mask_streams:
            begun = 2 if len(held) > 1 and isinstance(held[1], ResponseData) else 1
            held = [*held[:begun], *self.unmasked_rest(edit), *held[begun:]]
        shown = (ResponseData, ResponseEndOfMessage) if complete else ResponseData
        rest = [each for event in held[1:] for each in ([event] if isinstance(event, shown) else self.masked(event))]
        for event in rest:
            if stream.server_state == stream.state_errored:
                break
            if isinstance(event, ResponseProtocolError):
                yield from stream.handle_protocol_error(event)
            else:
                yield from stream.server_state(event)
        if stream.server_state == self.state_released and self.tail is not None:
            if edit is not None:
                self.edit, stream.server_state = edit, self.state_edited
            elif self.untouched and not call.engine.keep_stream:
                splice.begin(attempt.parent, attempt.server, stream, attempt.stream_id, self.tail, self.mask)
        return True

    def unmasked_rest(self, edit: ReplyEdit | None) -> list[ResponseData]:
        """Mask no more, where the owner does not want that and only the tool sees the stream; what was kept back."""
        assert self.call is not None
        engine = self.call.engine
        if engine.keep_stream or edit is not None or self.mask is None:
            return []
        if self.stream.server_state != self.state_released or not self.untouched:
            return []
        kept, self.mask = self.mask.finish(), None
        return [ResponseData(self.stream.stream_id, kept)] if kept else []

    def note(self, call: PooledCall, step: Release, hold: Hold, response: http.Response, body: bytes) -> None:
        """What later requests should know of this reply; ``body``: what there is of it, fit for the tool."""
        outcome = call.exchange.outcomes[step.attempt - 1]
        label, memory = outcome.verdict.label, call.engine.memory
        memory.ended(call.exchange, call.plan, call.asked, label)
        if label is Label.OK:
            learnt = marks_of(call.plan.recognised, bytes(hold.body))
            if call.plan.recognised.shape is Shape.RESPONSES:
                learnt += states_of(response.headers.fields)
            if learnt:
                memory.learn(outcome.attempt.candidate, learnt)
            return

        def told(usual: str) -> Refusal:
            kind = response.headers.get("content-type", usual)
            return Refusal(response.status_code, kind, tool_reply.decoded(body, hold))

        if label is Label.MODEL_UNSUPPORTED:
            memory.remember_refusal(call.exchange, told("application/json"))
        if hold.live and hold.success:
            memory.remember_stream(call.plan, call.asked, told("text/event-stream"))

    def edit_of(self, hold: Hold, response: http.Response, *, complete: bool) -> ReplyEdit | None:
        """The edit that a reply needs on its way to the tool, with the headers fit for it; None where it needs none."""
        assert self.call is not None
        plan, flow = self.call.plan, self.call.flow
        tool, route = plan.recognised.dialect, plan.route
        if not (complete or hold.live):
            return None
        edit = reply_edit.edit_for(hold, tool, plan.call.alias if route.restore_alias else None)
        if edit is not None:
            chunked = flow.request.http_version == "HTTP/1.1" and self.stream.context.client.alpn != b"h2"
            reply_edit.fit_headers(edit, response.headers, live=hold.live, chunked=chunked)
        if isinstance(edit, FramesToEvents):
            hold.goes_on_as(tool)
        return edit

    def state_released(self, event: events.Event) -> CommandGenerator[None]:
        """The released stream: one append per chunk, and nothing else that mitmproxy would not do."""
        assert self.tail is not None and self.call is not None
        if isinstance(event, ResponseData):
            self.tail.append(event.data)
            if not self.untouched:
                yield from self.stream.state_stream_response_body(event)
                return
            if (keep := self.call.engine.keep_stream) and len(self.kept) < keep:
                self.kept += event.data
            yield SendHttp(event, self.stream.context.client)
            return
        if isinstance(event, ResponseEndOfMessage):
            if self.may_be_cut and not self.has_come_to_its_end(self.tail):
                # Only a close ended it, and on HTTP/2 the tool could not tell that from a clean end.
                error = "the upstream closed the connection before the end of its stream"
                yield from self.stream.handle_protocol_error(
                    ResponseProtocolError(self.stream.stream_id, error, ErrorCode.GENERIC_SERVER_ERROR)
                )
                return
            self.read_tail(self.tail)
            self.keep()
        yield from self.stream.state_stream_response_body(event)

    def state_edited(self, event: events.Event) -> CommandGenerator[None]:
        """As :meth:`state_released`, for a stream that has to be edited."""
        assert self.edit is not None
        if isinstance(event, ResponseData):
            event.data = self.edit.feed(event.data)
            if not event.data:
                return
        elif isinstance(event, ResponseEndOfMessage) and (rest := self.edit.finish()):
            yield from self.state_released(ResponseData(self.stream.stream_id, rest))
        yield from self.state_released(event)

    def keep(self) -> None:
        """Put what ``pool_keep_streams`` keeps into the flow, decoded and masked, or nothing of it."""
        if self.kept and self.stream.flow.response:
            self.stream.flow.response.data.content = bytes(self.kept)
            self.kept.clear()
        self.show_streamed()

    @property
    def is_complete(self) -> bool:
        """Whether the tool has the terminal event of its stream: only the end of the connection is to come."""
        hold = self.released.hold if self.released is not None else None
        live = self.stream.server_state in (self.state_released, self.state_edited)
        if not live or hold is None or not hold.live or self.tail is None:
            return False
        # Released at its terminal event, the tail has nothing of it.
        return (hold.is_held_whole and hold.is_done) or self.tail.last(hold)[0] is Progress.DONE

    def end_at_terminal_event(self) -> CommandGenerator[None]:
        """The tool hangs up once it has the terminal event, as some do: the call is complete, kept and a success."""
        assert self.tail is not None
        stream = self.stream
        self.read_tail(self.tail)
        self.keep()
        if stream.flow.response:
            stream.flow.response.timestamp_end = time.time()
            if not self.untouched and stream.context.options.store_streamed_bodies:
                stream.flow.response.data.content = bytes(stream.response_body_buf)
        yield HttpResponseHook(stream.flow)

    def frame(self, response: http.Response) -> None:
        """See to it that a cut of what still comes does not look like a clean end.

        A reply of HTTP/2 ends by its protocol, also without a length. Passed on to HTTP/1.1 as it is, it would end with
        the connection, whether that is closed at the end or in the middle. The other way round it is the reply of
        HTTP/1 that may have no end but the close.
        """
        to_http2 = self.stream.context.client.alpn == b"h2"
        unframed = not {"content-length", "transfer-encoding"} & {key.lower() for key in response.headers}
        self.may_be_cut = unframed and to_http2 and not response.is_http2
        if unframed and not to_http2 and response.is_http2 and self.stream.flow.request.http_version == "HTTP/1.1":
            response.headers["transfer-encoding"] = "chunked"

    def has_come_to_its_end(self, tail: Tail) -> bool:
        """Whether a released stream has shown its last event; of what is no stream of events it is unknown."""
        hold = self.released.hold if self.released is not None else None
        return hold is None or not hold.live or hold.is_done or hold.encoded or tail.is_done(hold)

    # -- what still comes --------------------------------------------------------------------------------------------

    def masked(self, event: events.Event) -> list[HttpEvent]:
        """What becomes of an event of the released reply, before it is shown: nothing, itself, or a piece first."""
        assert isinstance(event, HttpEvent)
        hold = self.released.hold if self.released is not None else None
        if hold is None:
            return [event]
        if isinstance(event, ResponseData):
            if self.mask is None:
                return [event]
            event.data = self.mask.feed(event.data)
            return [event] if event.data else []
        if isinstance(event, ResponseTrailers):
            fields = masked_fields(event.trailers.fields, hold.secret)
            if fields is not event.trailers.fields:
                event.trailers = http.Headers(fields)
        if self.mask is not None and (rest := self.mask.finish()):
            return [ResponseData(event.stream_id, rest), event]
        return [event]

    def mask_whole(self, send: CommandGenerator[None]) -> CommandGenerator[None]:
        """Mask a released reply that mitmproxy has buffered and is to ``send``: before a script or the flow has it.

        One that cannot be decoded goes to the tool, without a secret in clear, and is not stored.
        """
        hold, response = self.released.hold if self.released is not None else None, self.stream.flow.response
        if hold is None or response is None:
            yield from send  # an answer of our own
            return
        mask_head(response, hold.secret)
        mask_body(response, hold.secret)
        if can_be_decoded(response):
            yield from send
            return
        kept = response.copy().data
        show_body(response, hold.secret)
        shown = response.headers.fields
        answer: Any = None
        while True:
            try:
                command = send.send(answer)
            except StopIteration:
                return
            if isinstance(command, SendHttp):
                event = command.event
                if isinstance(event, ResponseHeaders) and event.response.headers.fields == shown:
                    event.response = http.Response.__new__(http.Response)
                    event.response.data = kept
                elif isinstance(event, ResponseData) and event.data == NOT_SHOWN:
                    event.data = kept.content or b""
            answer = yield command

    def show_streamed(self) -> None:
        """What the flow keeps of a stream that has been sent: decoded and masked, or nothing of it."""
        hold, response = self.released.hold if self.released is not None else None, self.stream.flow.response
        if hold is not None and response is not None and hold.encoded:
            show_body(response, hold.secret)

    # -- how it ended ------------------------------------------------------------------------------------------------

    def read_tail(self, tail: Tail) -> None:
        """How a released stream ended: its terminal event is a success, an error a fault of the candidate."""
        assert self.call is not None and self.released is not None and self.released.hold is not None
        self.proven()
        hold = self.released.hold
        progress, event = tail.last(hold) if hold.live else (Progress.LIFECYCLE, None)
        if progress is Progress.LIFECYCLE and hold.live and hold.is_held_whole and hold.is_done:
            self.call.exchange.succeeded()  # it was released at its terminal event, of which the tail has nothing
            self.call.engine.memory.answered(self.call.exchange, ())
        if progress is Progress.DONE:
            self.call.exchange.succeeded()
            self.call.engine.memory.answered(self.call.exchange, self.left_by(self.call, tail, event))
        elif progress is Progress.ERROR and event is not None:
            self.remember(hold.ending(event))

    @staticmethod
    def left_by(call: PooledCall, tail: Tail, event: StreamEvent | None) -> tuple[str, ...]:
        """What only the account of a stream will know later, as far as its end shows it."""
        if event is not None and call.plan.recognised.shape is Shape.RESPONSES:
            return marks_of(call.plan.recognised, event.data)  # it repeats the whole answer
        if call.plan.shape is None and call.plan.recognised.shape is Shape.CHAT:
            return ()  # few vendors seal anything there: what the next turn brings along is learnt from that
        return marks_of(call.plan.recognised, tail.content())

    def proven(self) -> None:
        """A reply that is no stream of events has come to its end: all of it was there (law 4)."""
        hold = self.released.hold if self.released is not None else None
        if self.call is not None and hold is not None and hold.success and not hold.live:
            self.call.exchange.succeeded()
            if self.call.exchange.request.sealed is not None:
                self.call.engine.memory.answered(self.call.exchange, ())

    def cut(self, message: str) -> None:
        """The released reply was cut by its upstream."""
        assert self.released is not None and self.released.hold is not None
        hold = self.released.hold
        whole = hold.is_held_whole and hold.is_done
        if self.tail is not None and hold.live and (whole or self.tail.last(hold)[0] is Progress.DONE):
            self.read_tail(self.tail)  # everything was there: how the connection ends is no fault
            return
        self.remember(hold.fault(Fault(FaultKind.CUT, cause_of(message), sent=True)))

    def remember(self, reply: Reply) -> None:
        """A released stream failed: nothing is replayed, but its candidate pays."""
        assert self.call is not None
        outcome = self.call.exchange.failed_after_release(reply, self.call.engine.clock())
        if outcome is not None and (journal := self.call.journal_now()) is not None:
            journal.ended_badly(self.call.flow, self.call.exchange, outcome)

    # -- an answer of our own ----------------------------------------------------------------------------------------

    def refuse(self, step: Refuse, dialect: Dialect) -> CommandGenerator[None]:
        """Answer ourselves, in the tool's own dialect."""
        answer, call = None, self.call
        self.released = None
        if call is not None:
            if (journal := call.journal_now()) is not None:
                journal.released(call.flow, call.exchange, 0)
            call.engine.memory.ended(call.exchange, call.plan, call.asked, None)
            answer = call.engine.memory.last_refusal(call.exchange) if step.refused else None
            request = call.exchange.request
            if request.streamed and request.spent.told and not call.exchange.outcomes:
                # As it reads: a status in place of an event would be another kind of error, and tools try those again
                # by another schedule.
                answer = answer or call.engine.memory.last_stream(call.plan, call.asked)
        if call is not None:
            step = replace(step, message=call.engine.gate.mask(step.message))
        yield commands.Log(step.message, WARNING)
        yield from self.respond(tool_reply.told_again(answer) if answer else tool_reply.own_answer(dialect, step))

    def respond(self, response: http.Response) -> CommandGenerator[None]:
        """Send a response that did not come from an upstream, with the hooks that such a response gets."""
        self.released = None
        if self.is_open:
            response = tool_reply.as_event(response)
        self.stream.flow.response = response
        response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.stream.flow)
        if not (yield from self.stream.check_killed(True)):
            yield from self.stream.send_response()
