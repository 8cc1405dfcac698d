"""One reply while it is being held: when it is decided, and what there is to judge (docs/streams.md).

Not 2xx: the whole body. 2xx JSON: the whole body, judged by structure only. 2xx event stream: up to the first event
that proves real output or says that it failed. Anything else that is 2xx needs no decision. All of it is bounded; a
bound that is reached is a decision: release.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field, replace
from enum import Enum, auto

from understudy.codec.content_encoding import Decoder
from understudy.codec.event_stream import (
    BOM,
    EventReader,
    StreamKind,
    begins_stream,
    is_one_piece,
    kind_of,
    last_events,
)
from understudy.codec.json_rows import JsonReader
from understudy.codec.masking import SHORTEST_MASKED, byte_signs, mask, text_signs
from understudy.codec.record import record
from understudy.dialects import DIALECTS, Call, Dialect, Kind, Progress, StreamEvent
from understudy.model import Candidate, HoldUntil
from understudy.replies.answer import BROKEN, Course, is_media
from understudy.replies.reply import MAX_TEXT, Fault, FaultKind, Reply
from understudy.replies.statement import NOTHING_STATED, Statement, is_another, of_events, of_fragment
from understudy.requests import Recognised

COMPLETE_LIMIT = 8 * 1024 * 1024
"""Bytes of a reply that is held until its end."""
BODY_LIMIT = 1024 * 1024
"""Bytes of a held body."""
STREAM_LIMIT = 256 * 1024
"""Bytes of a held stream."""
EVENT_LIMIT = 64
"""Events of a held stream."""
TAIL_LIMIT = 256 * 1024
"""Bytes kept of the end of a released stream: OpenAI's last event repeats instructions, tools and the whole output."""
ENOUGH = 6
"""Bytes by which the beginning of server-sent events is known."""
LAST_EVENTS = 4
"""Events that are read of it: the terminal one, and what vendors put around it."""


@record
class Secret:
    """The secret that an attempt carries, for as long as its reply may echo it."""

    name: str
    value: str = field(repr=False)
    more: tuple[str, ...] = field(default=(), repr=False)
    """What else must not be repeated: a tool may have sent several secrets of its own."""

    def mask[T: (str, bytes)](self, text: T) -> T:
        """Put the placeholder wherever the secret stands; the same object where it does not."""
        values, find = (self.value, *self.more), text.find
        for sign in text_signs(values) if isinstance(text, str) else byte_signs(values):
            if find(sign) >= 0:
                break
        else:
            return text  # as nearly everything
        for value in values:
            text = mask(text, value, self.name)
        return text

    @property
    def named(self) -> list[tuple[str, str]]:
        """Each value with the name that stands for it."""
        return [(value, self.name) for value in (self.value, *self.more)]

    def is_in_lower_case(self, name: bytes) -> bool:
        """Whether the name of a header holds one of the values, in any case."""
        lower = name.lower()
        for value in (self.value, *self.more):
            if len(value) >= SHORTEST_MASKED and value.lower().encode("utf-8", "surrogateescape") in lower:
                return True
        return False


class Held(Enum):
    """Where the hold stands."""

    MORE = auto()  # nothing is decided yet
    OUTPUT = auto()  # real output, or a reply that needs no decision: release
    REPLY = auto()  # there is something to judge: see Hold.reply
    BOUND = auto()  # a bound was reached: release


class Hold:
    """Reads a reply as it comes in. Feed it :meth:`start`, then :meth:`data`, then :meth:`end`.

    ``until``: COMPLETE holds a success to its very end, and takes it for a fault when it does not end as it should.
    """

    def __init__(
        self,
        recognised: Recognised,
        call: Call,
        candidate: Candidate,
        secret: Secret,
        until: HoldUntil = HoldUntil.OUTPUT,
    ) -> None:
        self.dialect: Dialect = DIALECTS[candidate.upstream.dialect]
        """The upstream's, which may be a relative of the tool's."""
        self.endpoint = recognised.endpoint
        self.call = call
        self.candidate = candidate
        self.secret = secret
        self.until = until
        self.status = 0
        self.success = False
        """Whether the status is 2xx."""
        self.is_held_whole = False
        """Whether this reply is released at its end only."""
        self.headers: tuple[tuple[str, str], ...] = ()
        self.encoded = False
        """Whether the bytes on the wire differ from the decoded ones."""
        self.has_clean_head = False
        """Whether the head was looked at, names included, and the secret does not stand in it."""
        self.clean_bytes = 0
        """So many of the first bytes of ``body`` were looked at together, and the secret does not stand in them."""
        self.live = False
        """Whether the reply is a stream of events."""
        self.framing = StreamKind.SSE
        """How its events are framed."""
        self.body = bytearray()
        """What came so far, decoded."""
        self._course: Course | None = None
        """Of the events; None where there are none."""
        self._decoder = NO_DECODER
        self._received = 0
        self._pieces = 0  # of a body that is no stream: how often more of it came than white space
        self._events = 0
        self._reader: EventReader | None = None
        self._rows: JsonReader | None = None
        self._is_terminated = False  # whether a stream has shown its terminal event, with an answer before it
        self.opening: StreamEvent | None = None
        """The first event of a stream that was more than a sign of life: it may name the model, and count the input."""
        self._error: StreamEvent | None = None
        self._fault: Fault | None = None
        self._is_unseen = True  # whether too little has come to know what it is
        self._begin = b""  # the first bytes that are no white space
        self._type = ""  # the Content-Type, in lower case and without parameters
        self._is_json = False  # whether that says that it is JSON
        self._is_opaque = False  # whether there is nothing to judge in it but that it is there

    @property
    def _may_be_bytes(self) -> bool:
        """Whether the type says nothing at all."""
        return self._type == "application/octet-stream"

    @property
    def outgrown(self) -> bool:
        """Whether a bound on bytes was reached."""
        return max(self._received, len(self.body)) >= self._limit

    @property
    def _limit(self) -> int:
        if self.is_held_whole:
            return COMPLETE_LIMIT
        return STREAM_LIMIT if self.live else BODY_LIMIT

    @property
    def has_output(self) -> bool:
        """Whether a stream has shown real output, or an end that needs none."""
        return self._course is not None and self._course.has_output

    @property
    def is_done(self) -> bool:
        """Whether a stream has shown its terminal event, or the last one that all servers send."""
        return self._course is not None and self._course.is_done

    @property
    def has_begun(self) -> bool:
        """Whether there is anything of the reply itself: real output of a stream, more than white space of a body."""
        return self.has_output if self.live else self._pieces > 0

    @property
    def steps(self) -> int:
        """How often the reply has gone on: events of a stream but for comments and pings, pieces of another body."""
        return self._course.steps if self.live and self._course is not None else self._pieces

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> Held:
        """The status line and the headers have come; names of headers in any case."""
        self.status, self.success = status, 200 <= status < 300
        self.is_held_whole = self.success and self.until is HoldUntil.COMPLETE
        self.headers = tuple(headers)
        first = {name.lower(): value for name, value in reversed(self.headers)}
        self._type = kind = first.get("content-type", "").partition(";")[0].strip().lower()
        self._is_json = kind == "application/json" or kind.endswith("+json")
        encoding = first.get("content-encoding", "").strip().lower()
        self.encoded = encoding not in ("", "identity")
        framing = kind_of(kind)
        self.live, self.framing = self.success and framing is not None, framing or StreamKind.SSE
        if self.success and not self.live and not self._is_json:
            generating = self.endpoint.kind is Kind.GENERATING
            if not generating and not self.is_held_whole:
                return Held.OUTPUT
            self._is_opaque = not generating or is_media(kind, self.endpoint.name)
        self._decoder = Decoder(encoding, self._limit)
        if self.live:
            self._read_as(kind)
        return Held.MORE

    def _read_as(self, kind: str) -> None:
        """What comes is a stream of events of this type."""
        self._reader = EventReader(kind, self._limit)
        self._course = self._course or Course(self.dialect)

    def data(self, data: bytes) -> Held:
        """Some bytes of the body, as they were on the wire."""
        self._received += len(data)
        decoded = self._decoder.feed(data)
        self.body += decoded
        self._pieces += not decoded.isspace() and bool(decoded or not self._decoder.is_known)
        if self._is_unseen and self.success and not self._is_opaque:
            decoded = self._look(decoded)
        if self._is_opaque and self._received and not self.is_held_whole:
            return Held.OUTPUT
        if self.is_held_whole and self._decoder.is_known and self._decoder.failed:
            return self._breaks("its content encoding is corrupt")
        if self._reader is None:
            if self._rows is not None:
                self._rows.feed(decoded)
            return Held.BOUND if self.outgrown else Held.MORE
        if (decided := self._read(self._reader.feed(decoded))) is not Held.MORE:
            return decided
        if self._reader.failed and self.framing is StreamKind.JSON and not self.has_output:
            # Not recognised as a stream: what it is instead is seen at its end.
            self.live, self._reader = False, None
            return Held.BOUND if self.outgrown else Held.MORE
        if self.is_held_whole and self._reader.failed:
            return self._breaks("what follows is no event")
        full = (self._events >= EVENT_LIMIT and not self.is_held_whole) or self.outgrown
        unreadable = self._reader.overflow or self._reader.failed or self._decoder.failed
        return Held.BOUND if full or unreadable else Held.MORE

    def end(self) -> Held:
        """The reply is complete. A stream that ends here has said nothing: a fault."""
        if self.is_held_whole and self._received and self._decoder.is_known and not self._decoder.complete:
            return self._breaks("its content encoding ends early")
        if self._reader and (decided := self._read(self._reader.finish())) is not Held.MORE:
            return decided
        if self.is_held_whole and self._received and (why := self._unproven()):
            return self._breaks(why)
        if self.live:
            if self.has_output:
                return Held.OUTPUT
            if self._course is None or not self._course.has_ended:
                self._fault = Fault(FaultKind.EMPTY, "the stream ended before any output", sent=True)
        elif self._is_opaque:
            return Held.OUTPUT if self._received else Held.REPLY
        elif not self._begin and self._is_json and self.success and self.call.streamed and self._decoder.is_known:
            self._fault = Fault(FaultKind.EMPTY, "the stream ended before any output", sent=True)
        return Held.REPLY

    def _look(self, decoded: bytes) -> bytes:
        """The first bytes of a success say more than its type; returns the bytes that a reader has not seen yet."""
        if self._is_json and not self._begin and decoded[:1] == b"{" and not self.is_held_whole:
            self._begin, self._is_unseen = decoded[:64], False
            return decoded  # one object, as nearly all
        self._begin += (decoded if self._begin else decoded.lstrip())[:64]
        begin = self._begin.removeprefix(BOM)
        if len(begin) < ENOUGH and begin[:1] not in (b"{", b"[", b"<") and not self._may_be_bytes:
            return decoded
        self._is_unseen = False
        mark, framing = begin[:1], None
        if self.live and self.framing is not StreamKind.SSE:
            return decoded
        if self.live and mark == b"<":
            self.live, self._reader = False, None
        elif self.live and mark in (b"{", b"["):
            framing = StreamKind.JSON  # mostly an error that was not put into an event
        elif not self.live and mark == b"[" and self.call.streamed:
            framing = StreamKind.JSON  # Gemini without alt=sse sends its stream as one array that grows
        elif not self.live and begins_stream(begin):
            framing = StreamKind.SSE
        elif self._may_be_bytes and mark not in (b"{", b"[", b"<"):
            self._is_opaque = True
        elif self.is_held_whole and mark in (b"{", b"["):
            self._rows = JsonReader(COMPLETE_LIMIT)
            return bytes(self.body)
        if framing is None:
            return decoded
        self.live, self.framing = True, framing
        kind = "text/event-stream" if framing is StreamKind.SSE else "application/json"
        self._read_as(kind)
        return bytes(self.body)

    def _unproven(self) -> str:
        """Why a success that is held whole is not proven complete; "" when it is."""
        if self.live:
            if self._reader is not None and self._reader.is_open:
                return "the array of its events has no end"
            return "the stream ended before its terminal event" if self.has_output and not self.is_done else ""
        if self._rows is None or self._is_opaque:
            return ""
        if len(self.body) > MAX_TEXT:
            # Reading this much at once would hold up everybody else; that it is whole its brackets say.
            return BROKEN if self._rows.is_open or self._rows.failed else ""
        try:
            json.loads(self.body.decode("utf-8-sig"))
        except UnicodeError:
            return ""  # another charset, which is not known to be wrong
        except (ValueError, RecursionError):
            return BROKEN
        return ""

    def _breaks(self, why: str) -> Held:
        """A reply that is held whole turns out not to be."""
        self._fault = Fault(FaultKind.CUT, why, sent=True)
        return Held.REPLY

    def rest(self) -> None:
        """The reply is released before its end: let go of what only holding it needs. Nothing more of it is fed.

        One that is held whole keeps what it holds, its last events being read from that.
        """
        if self.is_held_whole:
            return
        self.body, self._begin, self._reader, self._rows = bytearray(), b"", None, None
        if not self._decoder.failed:
            self._decoder = NO_DECODER

    def goes_on_as(self, dialect: Dialect) -> None:
        """From here on the stream goes to the tool as server-sent events of this dialect."""
        self.dialect, self.framing = dialect, StreamKind.SSE

    def _read(self, events: Sequence[StreamEvent]) -> Held:
        """What these events decide."""
        course = self._course
        assert course is not None
        for event in events if not self._is_terminated else ():
            self._events += 1
            progress = course.add(event)
            if self.opening is None and progress is not Progress.PING:
                self.opening = event
            if progress is Progress.UNREADABLE and self.is_held_whole and self.has_output:
                return self._breaks("an event in the middle of it is no JSON")
            if progress in (Progress.ERROR, Progress.UNREADABLE):
                self._error = event
                return Held.REPLY
            if self.has_output and not self.is_held_whole:
                return Held.OUTPUT
            if course.is_empty and progress is Progress.DONE:
                return Held.REPLY
            self._is_terminated = self._is_terminated or (progress is Progress.DONE and self.has_output)
            if self._is_terminated:
                break  # whatever else comes, and however long the connection stays, changes nothing
        return Held.OUTPUT if self._is_proven else Held.MORE

    @property
    def _is_proven(self) -> bool:
        """Whether a stream that is held whole is complete: its terminal event, its framing and its encoding."""
        framed = self._reader is None or not self._reader.is_open
        return self._is_terminated and framed and (self._decoder.identity or self._decoder.complete)

    def fault(self, fault: Fault) -> Reply:
        """The transport failed instead: that is what there is to judge."""
        self._fault = replace(fault, message=self.secret.mask(fault.message)[:500])
        return self.reply()

    def ending(self, event: StreamEvent) -> Reply:
        """The released stream ended in this event."""
        self._error = event
        return self.reply()

    def reply(self) -> Reply:
        """What there is to judge; a secret that the upstream echoes is masked in it (R06)."""
        came = self._error.data if self._error else bytes(self.body)
        body = self.secret.mask(came)
        if self._error is None and body is came:
            self.clean_bytes = len(came)
        return Reply(
            status=0 if self._fault else self.status,
            dialect=self.dialect.name,
            endpoint=self.endpoint.name,
            kind=self.endpoint.kind.value,
            host=self.candidate.upstream.host,
            alias=self.call.alias,
            model=self.candidate.model,
            streamed=self.call.streamed,
            headers=self.headers if self.has_clean_head else self._masked_headers(),
            body=body,
            event=(self._error.name or "error") if self._error else "",
            fault=self._fault,
            truncated=self.outgrown or self._decoder.failed,
            mask=self.secret.mask,
        )

    def statement(self, tail: Tail | None) -> Statement:
        """What the reply says of itself, once no more of it comes. ``tail``: the end of what was released live.

        A plain body says it as a ``Reply``; here is left what was too large for that.
        """
        if not self.success or self.endpoint.kind is not Kind.GENERATING:
            return NOTHING_STATED
        end = tail.content() if tail is not None and not self.encoded else b""
        if not self.live:
            return Statement(of_fragment(self.dialect, end))
        opening = [self.opening] if self.opening is not None else []
        if tail is not None and end:
            is_cut = len(end) == TAIL_LIMIT and is_one_piece(self.framing, end)
            found = of_events(self.dialect, [*opening, *tail.events(self)], end if is_cut else b"")
            if found.usage is not None or not self.is_held_whole:
                return found
        return of_events(self.dialect, [*opening, *self._last_held()])

    def another(self, named: str) -> str:
        """The model that a reply names, where that is another one than was sent (Q04); else ""."""
        return named if not self.dialect.names_deployments and is_another(self.candidate.model, named) else ""

    def opening_model(self) -> str:
        """The model that the first event of a stream names, "" where it names none, as some do."""
        return of_events(self.dialect, [self.opening]).model if self.opening is not None else ""

    def _last_held(self) -> list[StreamEvent]:
        """The last events that are held."""
        kind = self._reader.kind if self._reader is not None else self.framing
        return last_events(kind, bytes(self.body[-TAIL_LIMIT:]), LAST_EVENTS)

    def _masked_headers(self) -> tuple[tuple[str, str], ...]:
        values = "\n".join(value for _, value in self.headers)
        if self.secret.mask(values) is values:
            return self.headers
        return tuple((name, self.secret.mask(value)) for name, value in self.headers)


NO_DECODER = Decoder("", 0)
FEW = 64
"""Chunks of a tail that are moved each time when one goes."""


class Tail:
    """The last bytes of a released stream: one append per chunk, read once at the end."""

    __slots__ = ("_begin", "_chunks", "_read", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._begin = 0
        """How many of the chunks are no longer among the last bytes; they are empty."""
        self._size = 0
        self._read: list[StreamEvent] | None = None  # the last events, once they were asked for

    def append(self, chunk: bytes) -> None:
        """Keep a chunk, let go of what is no longer among the last bytes."""
        self._read = None
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[self._begin]) >= TAIL_LIMIT:
            self._size -= len(self._chunks[self._begin])
            self._chunks[self._begin] = b""
            self._begin += 1
            # A few are moved up at once; of many, not before half of them are empty.
            if len(self._chunks) < FEW or self._begin * 2 > len(self._chunks):
                del self._chunks[: self._begin]
                self._begin = 0

    def content(self) -> bytes:
        """The last bytes as they came."""
        self._chunks, self._begin = [b"".join(self._chunks)], 0  # it is asked for more than once
        return self._chunks[0][-TAIL_LIMIT:]

    def events(self, hold: Hold) -> list[StreamEvent]:
        """The last events. An ended stream is read once, whoever asks."""
        if self._read is None:
            self._read = last_events(hold.framing, self.content(), LAST_EVENTS)
        return self._read

    def is_done(self, hold: Hold) -> bool:
        """Whether the stream has shown its terminal event, or the last one that all servers send."""
        if self.last(hold)[0] is Progress.DONE:
            return True
        return any(hold.dialect.finishes(event) for event in self.events(hold))

    def last(self, hold: Hold) -> tuple[Progress, StreamEvent | None]:
        """How the stream ended: DONE, ERROR with its event, or LIFECYCLE when the end says nothing.

        An event that is longer than what was kept is DONE: an error never is, and a picture comes last.
        """
        if hold.encoded:
            return Progress.LIFECYCLE, None
        if self._size >= TAIL_LIMIT and is_one_piece(hold.framing, self.content()):
            return Progress.DONE, None
        found: tuple[Progress, StreamEvent | None] = (Progress.LIFECYCLE, None)
        for event in self.events(hold):
            progress = hold.dialect.progress(event)
            if progress is Progress.ERROR:
                return progress, event
            if progress is Progress.DONE:
                found = (progress, event)
        return found
