"""One reply while it is being held: when it is decided, and what there is to judge (docs/streams.md).

Not 2xx: the whole body. 2xx JSON: the whole body, judged by structure only. 2xx event stream: up to the first event
that proves real output or says that it failed. Anything else that is 2xx needs no decision. All of it is bounded; a
bound that is reached is a decision: release.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from understudy.codec.content_encoding import Decoder
from understudy.codec.event_stream import EventReader, StreamKind, is_one_piece, kind_of, last_events
from understudy.codec.masking import mask
from understudy.dialects import DIALECTS, Call, Dialect, Progress, StreamEvent
from understudy.model import Candidate, HoldUntil
from understudy.replies.reply import Fault, FaultKind, Reply
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
LAST_EVENTS = 4
"""Events that are read of it: the terminal one, and what vendors put around it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """The secret that an attempt carries, for as long as its reply may echo it."""

    name: str
    value: str = field(repr=False)
    more: tuple[str, ...] = field(default=(), repr=False)
    """What else must not be repeated: a tool may have sent several secrets of its own."""

    def mask[T: (str, bytes)](self, text: T) -> T:
        """Put the placeholder wherever the secret stands."""
        for value in (self.value, *self.more):
            text = mask(text, value, self.name)
        return text


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
        self.headers: tuple[tuple[str, str], ...] = ()
        self.live = False
        """Whether the reply is a stream of events."""
        self.framing = StreamKind.SSE
        """How its events are framed."""
        self.body = bytearray()
        """What came so far, decoded."""
        self.has_output = False
        """Whether a stream has shown real output."""
        self._is_done = False  # whether the terminal event has come
        self._decoder = Decoder("", BODY_LIMIT)
        self._encoding = ""
        self._received = 0
        self._events = 0
        self._reader: EventReader | None = None
        self._error: StreamEvent | None = None
        self._fault: Fault | None = None
        self._may_be_array = False
        self._is_opaque = False  # whether there is nothing to judge in it

    @property
    def encoded(self) -> bool:
        """Whether the bytes on the wire differ from the decoded ones."""
        return self._encoding not in ("", "identity")

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
    def is_held_whole(self) -> bool:
        """Whether this reply is released at its end only."""
        return self.until is HoldUntil.COMPLETE and self.success

    @property
    def has_begun(self) -> bool:
        """Whether there is anything of the reply itself: real output of a stream, a byte of another body."""
        return self.has_output or (not self.live and len(self.body) > 0)

    @property
    def success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> Held:
        """The status line and the headers have come; names of headers in any case."""
        self.status = status
        self.headers = tuple(headers)
        content_type = self._header("content-type").partition(";")[0].strip().lower()
        self._encoding = self._header("content-encoding").strip().lower()
        is_json = content_type == "application/json" or content_type.endswith("+json")
        framing = kind_of(content_type)
        self.live, self.framing = self.success and framing is not None, framing or StreamKind.SSE
        if self.success and not self.live and not is_json:
            if not self.is_held_whole:
                return Held.OUTPUT
            self._is_opaque = True
        self._decoder = Decoder(self._encoding, self._limit)
        self._may_be_array = self.success and is_json and self.call.streamed
        if self.live:
            self._reader = EventReader(content_type, self._limit)
        return Held.MORE

    def data(self, data: bytes) -> Held:
        """Some bytes of the body, as they were on the wire."""
        self._received += len(data)
        decoded = self._decoder.feed(data)
        self.body += decoded
        if self._may_be_array and (first := self.body.lstrip()[:1]):
            # Gemini without alt=sse sends its stream as one JSON array that grows.
            self._may_be_array = False
            if first == b"[":
                self.live, self.framing = True, StreamKind.JSON
                self._reader = EventReader("application/json", self._limit)
                decoded = bytes(self.body)
        if self._reader is None:
            return Held.BOUND if self.outgrown else Held.MORE
        if (decided := self._read(self._reader.feed(decoded))) is not Held.MORE:
            return decided
        full = (self._events >= EVENT_LIMIT and not self.is_held_whole) or self.outgrown
        unreadable = self._reader.overflow or self._reader.failed or self._decoder.failed
        return Held.BOUND if full or unreadable else Held.MORE

    def end(self) -> Held:
        """The reply is complete. A stream that ends here has said nothing: a fault."""
        if self._reader and (decided := self._read(self._reader.finish())) is not Held.MORE:
            return decided
        if self._is_opaque or (self.has_output and self._is_done):
            return Held.OUTPUT
        if self.has_output:
            self._fault = Fault(FaultKind.CUT, "the stream ended before its terminal event", sent=True)
        elif self.live or (self._may_be_array and not self._decoder.failed):
            self._fault = Fault(FaultKind.EMPTY, "the stream ended before any output", sent=True)
        return Held.REPLY

    def goes_on_as(self, dialect: Dialect) -> None:
        """From here on the stream goes to the tool as server-sent events of this dialect."""
        self.dialect, self.framing = dialect, StreamKind.SSE

    def _read(self, events: Sequence[StreamEvent]) -> Held:
        """What these events decide."""
        for event in events:
            self._events += 1
            match progress := self.dialect.progress(event):
                case Progress.OUTPUT | Progress.DONE:
                    self.has_output = True
                    if not self.is_held_whole:
                        return Held.OUTPUT
                    self._is_done = self._is_done or progress is Progress.DONE or self.dialect.finishes(event)
                case Progress.ERROR:
                    self._error = event
                    return Held.REPLY
                case Progress.LIFECYCLE:
                    pass
        return Held.MORE

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
        return Reply(
            status=0 if self._fault else self.status,
            dialect=self.dialect.name,
            endpoint=self.endpoint.name,
            kind=self.endpoint.kind.value,
            host=self.candidate.upstream.host,
            alias=self.call.alias,
            model=self.candidate.model,
            streamed=self.call.streamed,
            headers=self.headers,
            body=self.secret.mask(self._error.data if self._error else bytes(self.body)),
            event=(self._error.name or "error") if self._error else "",
            fault=self._fault,
            truncated=self.outgrown,
        )

    def _header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


class Tail:
    """The last bytes of a released stream: one append per chunk, read once at the end."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def append(self, chunk: bytes) -> None:
        """Keep a chunk, let go of what is no longer among the last bytes."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= TAIL_LIMIT:
            self._size -= len(self._chunks.popleft())

    def content(self) -> bytes:
        """The last bytes as they came."""
        return b"".join(self._chunks)[-TAIL_LIMIT:]

    def last(self, hold: Hold) -> tuple[Progress, StreamEvent | None]:
        """How the stream ended: DONE, ERROR with its event, or LIFECYCLE when the end says nothing.

        An event that is longer than what was kept is DONE: an error never is, and a picture comes last.
        """
        if hold.encoded:
            return Progress.LIFECYCLE, None
        content = self.content()
        if len(content) == TAIL_LIMIT and is_one_piece(hold.framing, content):
            return Progress.DONE, None
        found: tuple[Progress, StreamEvent | None] = (Progress.LIFECYCLE, None)
        for event in last_events(hold.framing, content, LAST_EVENTS):
            progress = hold.dialect.progress(event)
            if progress is Progress.ERROR:
                return progress, event
            if progress is Progress.DONE:
                found = (progress, event)
        return found
