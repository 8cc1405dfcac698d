"""Read the events of a streamed reply as its bytes come in, to see where real output begins.

Two forms exist: server-sent events (WHATWG HTML, section 9.2) and Gemini's JSON array, one element per event, when the
tool did not ask for ``alt=sse``. The reader only looks; what goes to the tool are the upstream's own bytes. It holds
no more than ``LIMIT`` bytes: an event that is larger ends the reading, and with it the hold.
"""

from __future__ import annotations

import re
from enum import StrEnum

from .dialects.base import StreamEvent

LIMIT = 256 * 1024
"""The most bytes that are kept of an unfinished event."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BETWEEN = re.compile(rb"[ \t\r\n,\xef\xbb\xbf]*")  # white space, commas, and a byte order mark at the very start
_OUTSIDE_STRING = re.compile(rb'["{}\[\]]')
_INSIDE_STRING = re.compile(rb'["\\]')
_BOM = b"\xef\xbb\xbf"


class StreamKind(StrEnum):
    """How the events are framed."""

    SSE = "sse"
    JSON = "json"


def is_event_stream(content_type: str) -> bool:
    """Whether a Content-Type names server-sent events."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


class EventReader:
    """Bytes in, events out: split anywhere, the events are the same.

    ``text/event-stream`` is read as server-sent events, any other type as a JSON array or a row of JSON objects.
    ``overflow``: an event was larger than ``LIMIT``. ``failed``: the bytes are no stream of this kind. After either
    nothing more is read.
    """

    def __init__(self, content_type: str) -> None:
        self.kind = StreamKind.SSE if is_event_stream(content_type) else StreamKind.JSON
        self._reader: _SseReader | _JsonReader = _SseReader() if self.kind is StreamKind.SSE else _JsonReader()

    @property
    def overflow(self) -> bool:
        """Whether an event was larger than ``LIMIT``."""
        return self._reader.overflow

    @property
    def failed(self) -> bool:
        """Whether the bytes turned out to be no stream of this kind."""
        return self._reader.failed

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes; return the events that they complete. Never raises."""
        return [] if self.overflow or self.failed else self._reader.feed(data)

    def finish(self) -> list[StreamEvent]:
        """The stream has ended: return the last event if only its empty line is missing, as some servers leave it."""
        return [] if self.overflow or self.failed else self._reader.finish()


class _SseReader:
    def __init__(self) -> None:
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
        if self._size + more > LIMIT:
            self.overflow = True
            self._line.clear()
            self._data.clear()
        return self.overflow

    def _take(self, line: bytes, events: list[StreamEvent]) -> None:
        if self._first_line:
            line = line.removeprefix(_BOM)
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
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


class _JsonReader:
    def __init__(self) -> None:
        self.overflow = False
        self.failed = False
        self._element = bytearray()  # the beginning of an unfinished element
        self._depth = 0  # inside the element; 0: between elements
        self._in_string = False
        self._escaped = False
        self._in_array = False
        self._begun = False

    def feed(self, data: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        at = 0
        while at < len(data) and not self.failed and not self.overflow:
            if self._depth:
                end = self._skip(data, at)
                if len(self._element) + end - at > LIMIT:
                    self.overflow = True
                    self._element.clear()
                    break
                self._element += data[at:end]
                at = end
                if not self._depth:
                    events.append(StreamEvent("", bytes(self._element)))
                    self._element.clear()
            else:
                at = self._between(data, at)
        return events

    def finish(self) -> list[StreamEvent]:
        return []

    def _between(self, data: bytes, at: int) -> int:
        """Go on to the next element; return where it begins, its first brace already counted."""
        match = _BETWEEN.match(data, at)
        at = match.end() if match else at
        mark = data[at : at + 1]
        if mark == b"{":
            self._depth = 1
            self._element += mark
        elif mark == b"[" and not self._begun:
            self._in_array = True
        elif mark == b"]" and self._in_array:
            self._in_array = False
        elif mark:
            self.failed = True
        self._begun = self._begun or bool(mark)
        return at + len(mark)

    def _skip(self, data: bytes, at: int) -> int:
        """Run through the element; return where it or the data ends."""
        while at < len(data):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            match = (_INSIDE_STRING if self._in_string else _OUTSIDE_STRING).search(data, at)
            if match is None:
                return len(data)
            at = match.end()
            match match[0]:
                case b'"':
                    self._in_string = not self._in_string
                case b"\\":
                    self._escaped = True
                case b"{" | b"[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if not self._depth:
                        return at
        return at
