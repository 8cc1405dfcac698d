"""What a reply may need on its way to the tool, beyond passing as it is: both are rare, and both are minimal.

``restore_alias`` of a route puts the alias back where the reply names a model. And Amazon frames the events of a stream
in messages of its own, which a tool that speaks a relative cannot read: what is inside is passed on as server-sent
events, unchanged. An edit takes bytes as they come, split anywhere, and gives on what is whole. It holds no more than
``LIMIT`` bytes: an event that is larger passes as it is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import override

from mitmproxy import http

from understudy.codec.amazon_frames import MessageReader
from understudy.codec.body_text import contains_any
from understudy.codec.event_stream import StreamKind
from understudy.codec.events import StreamEvent
from understudy.codec.json_edit import Place, replace_json_strings
from understudy.codec.json_rows import LIMIT, JsonReader
from understudy.dialects import Dialect
from understudy.replies import Hold

type Change = Callable[[bytes], bytes]
"""What to make of the data of one event, or of a whole body."""

UNREADABLE = "understudy: the upstream's stream broke off, or its framing cannot be read"
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r(?!\Z))")
_DATA = re.compile(rb"data(?:: ?|(?=[\r\n]))")


class ReplyEdit(ABC):
    """Bytes in, bytes out."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what is whole, edited. Never raises."""

    @abstractmethod
    def finish(self) -> bytes:
        """The stream has ended: return what is left."""


def edit_for(hold: Hold, tool: Dialect, alias: str | None) -> ReplyEdit | None:
    """The edit that a reply needs on its way to a tool of this dialect; None when it passes as it is.

    ``alias``: what to put back into the model's places, None leaves them. A reply that is compressed against our wish
    passes as it is, and so does one that did not succeed.
    """
    if not hold.success or hold.encoded:
        return None
    change = restoring(tool.reply_models, alias) if alias and tool.reply_models else None
    if hold.live and hold.framing is StreamKind.AMAZON:
        return FramesToEvents(tool, change) if hold.dialect is not tool else None
    if change is None:
        return None
    if not hold.live:
        return WholeEdit(change)
    return SseEdit(change) if hold.framing is StreamKind.SSE else JsonEdit(change)


def fit_headers(edit: ReplyEdit, headers: http.Headers, *, live: bool, chunked: bool) -> None:
    """Say in the headers what the edit does to the body. ``chunked``: the tool's connection needs a framing."""
    if live and "content-length" in headers:
        del headers["content-length"]
        if chunked:
            headers["transfer-encoding"] = "chunked"
    if isinstance(edit, FramesToEvents):
        headers["content-type"] = "text/event-stream; charset=utf-8"


def restoring(places: Sequence[Place], alias: str) -> Change:
    """Put the alias wherever a JSON document names a model; whatever else it says keeps its bytes."""
    marks = {f'"{place[-1]}"'.encode() for place in places}

    def change(data: bytes) -> bytes:
        if not contains_any(data, marks):
            return data
        try:
            return replace_json_strings(data, places, lambda _: alias)
        except ValueError:
            return data

    return change


class WholeEdit(ReplyEdit):
    """A body that came whole."""

    def __init__(self, change: Change) -> None:
        self._change = change

    @override
    def feed(self, data: bytes) -> bytes:
        return self._change(data)

    @override
    def finish(self) -> bytes:
        return b""


class SseEdit(ReplyEdit):
    """Server-sent events: comments, names, ids and the ends of lines stay as they are."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._rest = bytearray()  # the beginning of an unfinished line
        self._lines: list[bytes] = []  # of an unfinished event, with their ends
        self._size = 0
        self._passing = False  # the event is too long to be held
        self._inside = False  # the beginning of this line has passed already

    @override
    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        if b"\n" in data or b"\r" in data or self._rest.endswith(b"\r"):
            data = bytes(self._rest) + data
            at = 0
            while match := _LINE.match(data, at):
                at = match.end()
                self._take(match[0], out)
            self._rest = bytearray(data[at:])
        else:
            self._rest += data  # to look at all of it again with each byte would take quadratic time
        if self._size + len(self._rest) > LIMIT:
            self._pass(out)
        if self._passing and self._rest:
            out.append(bytes(self._rest))
            self._inside = True
            self._rest.clear()
        return b"".join(out)

    @override
    def finish(self) -> bytes:
        if self._rest:
            self._lines.append(bytes(self._rest))
            self._rest.clear()
        return self._event()

    def _take(self, line: bytes, out: list[bytes]) -> None:
        ends = not line.strip(b"\r\n")
        if self._passing:
            self._passing, self._inside = not ends or self._inside, False
            out.append(line)
            return
        self._lines.append(line)
        self._size += len(line)
        if ends:
            out.append(self._event())
        elif self._size > LIMIT:
            self._pass(out)

    def _pass(self, out: list[bytes]) -> None:
        out += self._lines
        self._lines, self._size, self._passing = [], 0, True

    def _event(self) -> bytes:
        lines, self._lines, self._size = self._lines, [], 0
        places = [(at, match.end()) for at, line in enumerate(lines) if (match := _DATA.match(line))]
        ends = [len(lines[at].rstrip(b"\r\n")) for at, _ in places]
        data = b"\n".join(lines[at][start:end] for (at, start), end in zip(places, ends, strict=True))
        changed = self._change(data)
        if changed != data and changed.count(b"\n") == data.count(b"\n"):
            for (at, start), end, new in zip(places, ends, changed.split(b"\n"), strict=True):
                lines[at] = lines[at][:start] + new + lines[at][end:]
        return b"".join(lines)


class JsonEdit(ReplyEdit):
    """A row of JSON objects, or an array of them: what stands between them stays as it is."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._reader = JsonReader()

    @override
    def feed(self, data: bytes) -> bytes:
        return b"".join(self._change(piece) if whole else piece for whole, piece in self._reader.pieces(data))

    @override
    def finish(self) -> bytes:
        return self._reader.rest()


class FramesToEvents(ReplyEdit):
    """Amazon's messages as the server-sent events that the tool's dialect sends, each under the name of its type."""

    def __init__(self, tool: Dialect, change: Change | None) -> None:
        self._tool = tool
        self._change = change or (lambda data: data)
        self._messages = MessageReader()

    @override
    def feed(self, data: bytes) -> bytes:
        return b"".join(self._written(message.event) for message in self._messages.feed(data))

    @override
    def finish(self) -> bytes:
        if self._messages.whole:
            return b""
        # What could not be read was left out, so this must not look like a clean end.
        return b"event: error\ndata: " + self._tool.error_body(502, UNREADABLE) + b"\n\n"

    def _written(self, event: StreamEvent) -> bytes:
        name, data = self._tool.event_of(event)
        data = self._change(data.replace(b"\r", b"").replace(b"\n", b"")) if data else data
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n" if data else b""
