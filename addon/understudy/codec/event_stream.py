"""Read the events of a streamed reply as its bytes come in, to see where real output begins.

Four forms exist: server-sent events (WHATWG HTML, section 9.2), a row of JSON objects such as Ollama's lines, Gemini's
JSON array, one element per event, when the tool did not ask for ``alt=sse``, and Amazon's binary messages. The reader
only looks; what goes to the tool are the upstream's own bytes. It holds no more than its limit: an event that is larger
ends the reading, and with it the hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from understudy.codec import amazon_frames
from understudy.codec.events import StreamEvent
from understudy.codec.json_rows import LIMIT, JsonReader

_LINE_END = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, which may stand before the first field."""
_LAST_MESSAGES = 8 * 1024
"""Bytes in which Amazon's last messages are: they are short, and looking for them is slow."""


class StreamKind(StrEnum):
    """How the events are framed."""

    SSE = "sse"
    JSON = "json"
    AMAZON = "amazon"


_KINDS = {
    "text/event-stream": StreamKind.SSE,
    "application/x-ndjson": StreamKind.JSON,
    "application/ndjson": StreamKind.JSON,
    "application/jsonl": StreamKind.JSON,
    amazon_frames.TYPE: StreamKind.AMAZON,
}


def kind_of(content_type: str) -> StreamKind | None:
    """How a stream of this Content-Type is framed; None for one that names no stream."""
    return _KINDS.get(content_type.partition(";")[0].strip().lower())


def is_event_stream(content_type: str) -> bool:
    """Whether a Content-Type names a stream of events."""
    return kind_of(content_type) is not None


_FIELDS = (b"data:", b"event:", b"error:", b"id:", b"retry:", b":")


def begins_stream(data: bytes) -> bool:
    """Whether these first bytes are those of server-sent events, whatever the type that came with them."""
    return data[:64].removeprefix(BOM).lstrip().startswith(_FIELDS)


class EventReader:
    """Bytes in, events out: split anywhere, the events are the same.

    A type that names no stream is read as a JSON array or a row of JSON objects.
    ``limit``: the most bytes of one event. ``overflow``: one was larger. ``failed``: the bytes are no stream of this
    kind. After either nothing more is read.
    """

    def __init__(self, content_type: str, limit: int = LIMIT) -> None:
        self.kind = kind_of(content_type) or StreamKind.JSON
        self._reader: _SseReader | JsonReader | _AmazonReader = _READERS[self.kind](limit)

    @property
    def overflow(self) -> bool:
        """Whether an event was larger than the limit."""
        return self._reader.overflow

    @property
    def failed(self) -> bool:
        """Whether the bytes turned out to be no stream of this kind."""
        return self._reader.failed

    @property
    def is_open(self) -> bool:
        """Whether the framing itself still needs an end: an array without its last bracket."""
        return isinstance(self._reader, JsonReader) and self._reader.is_open

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes; return the events that they complete. Never raises."""
        return self._reader.feed(data)

    def finish(self) -> list[StreamEvent]:
        """The stream has ended: return the last event if only its empty line is missing, as some servers leave it."""
        return self._reader.finish()


class _SseReader:
    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.overflow = False
        self.failed = False
        self._line = bytearray()  # the beginning of an unfinished line
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._first_line = True
        self._after_return = False  # a line ended in CR: an LF that follows belongs to it

    def feed(self, data: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        at = 0
        if self._after_return and data:
            at = int(data.startswith(b"\n"))
            self._after_return = False
        for match in _LINE_END.finditer(data, at):
            line = data[at : match.start()]
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            at = match.end()
            self._after_return = match[0] == b"\r" and at == len(data)
            if self._too_much(len(line)):
                return events
            self._take(line, events)
        if self._too_much(len(self._line) + len(data) - at):
            return events
        self._line += data[at:]
        return events

    def finish(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if self._line:
            self._take(bytes(self._line), events)
            self._line.clear()
        self._take(b"", events)
        return events

    def _too_much(self, more: int) -> bool:
        if self._size + more > self.limit:
            self.overflow = True
            self._line.clear()
            self._data.clear()
        return self.overflow

    def _take(self, line: bytes, events: list[StreamEvent]) -> None:
        if self._first_line:
            line = line.removeprefix(BOM)
            self._first_line = False
        if not line:
            if self._data:
                events.append(StreamEvent(self._name, b"\n".join(self._data)))
            self._data, self._name, self._size = [], "", 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            # An empty line costs as much as it takes to remember it.
            self._size += len(value) + 1
            self._data.append(value)
        elif field == b"error" and not self._data:
            # No field of the standard: servers that fail in the middle of a stream were seen to write it.
            self._size += len(value) + 1
            self._data.append(value)
            self._name = "error"
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


class _AmazonReader:
    def __init__(self, limit: int) -> None:
        self._messages = amazon_frames.MessageReader(limit)

    @property
    def overflow(self) -> bool:
        return self._messages.overflow

    @property
    def failed(self) -> bool:
        return self._messages.failed

    def feed(self, data: bytes) -> list[StreamEvent]:
        return [message.event for message in self._messages.feed(data)]

    def finish(self) -> list[StreamEvent]:
        return []


_READERS: Mapping[StreamKind, Callable[[int], _SseReader | JsonReader | _AmazonReader]] = {
    StreamKind.SSE: _SseReader,
    StreamKind.JSON: JsonReader,
    StreamKind.AMAZON: _AmazonReader,
}


def last_events(kind: StreamKind, data: bytes, most: int) -> list[StreamEvent]:
    """The last few events of a stream, of which only the last bytes are left."""
    if kind is StreamKind.AMAZON:
        return [message.event for message in amazon_frames.last_messages(data[-_LAST_MESSAGES:])][-most:]
    data = data.rstrip()
    if kind is StreamKind.JSON:
        if data.endswith(b"]"):
            return _last_of_array(data)
        return [StreamEvent("", line) for line in data.rsplit(b"\n", most)[-most:]]
    # Reading all of the blocks would cost more than passing them on did.
    data, blocks = _with_line_feeds(data), list[bytes]()
    while len(blocks) < most and (at := _last_blank_line(data)) != -1:
        blocks.insert(0, data[at:].lstrip(b"\r\n"))
        data = data[:at]
    if len(blocks) < most:
        blocks.insert(0, data)
    return _SseReader().feed(b"\n\n".join([*blocks, b""]))


def is_one_piece(kind: StreamKind, data: bytes) -> bool:
    """Whether the last bytes of a stream belong to a single event, whose beginning is not among them."""
    data = data.rstrip()
    match kind:
        case StreamKind.SSE:
            return _last_blank_line(_with_line_feeds(data)) == -1
        case StreamKind.JSON:
            return not data.endswith(b"]") and b"\n" not in data
        case StreamKind.AMAZON:
            return False


def _with_line_feeds(data: bytes) -> bytes:
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _last_blank_line(data: bytes) -> int:
    """Where the line before the last empty one ends, -1 without any. Lines are long: from one end to the one before."""
    at = data.rfind(b"\n")
    while at != -1:
        before = data.rfind(b"\n", 0, at)
        if data[before + 1 : at] in (b"", b"\r"):
            return before
        at = before
    return -1


def _last_of_array(data: bytes) -> list[StreamEvent]:
    """The last element of an array that has come to its end, if each begins on a line of its own, as Gemini's do."""
    body = data[:-1].rstrip()
    at = max(body.rfind(b"\n{"), body.rfind(b"[{"))
    return [StreamEvent("", body[at + 1 :])] if at >= 0 else []
