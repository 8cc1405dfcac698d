"""Cut a growing JSON array, or a row of JSON objects, into its elements: split anywhere, they are the same."""

from __future__ import annotations

import re

from understudy.codec.events import StreamEvent

LIMIT = 256 * 1024
"""The most bytes that are kept of an unfinished event, unless the caller wants more."""

_BETWEEN = re.compile(rb"[ \t\r\n,\xef\xbb\xbf]*")  # white space, commas, and a byte order mark at the very start
_OUTSIDE_STRING = re.compile(rb'["{}\[\]]')
_INSIDE_STRING = re.compile(rb'["\\]')


class JsonReader:
    """A JSON array, or a row of JSON objects."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.overflow = False
        self.failed = False
        self._element = bytearray()  # the beginning of an unfinished element
        self._depth = 0  # inside the element; 0: between elements
        self._in_string = False
        self._escaped = False
        self._in_array = False
        self._begun = False

    @property
    def is_open(self) -> bool:
        """Whether an array, or an element, has begun and not ended."""
        return self._in_array or self._depth > 0

    def feed(self, data: bytes) -> list[StreamEvent]:
        return [StreamEvent("", piece) for whole, piece in self.pieces(data) if whole]

    def finish(self) -> list[StreamEvent]:
        return []

    def pieces(self, data: bytes) -> list[tuple[bool, bytes]]:
        """Cut the next bytes up: (True, an element that is whole) and (False, what is none); no byte is lost."""
        found: list[tuple[bool, bytes]] = []
        at = 0
        while at < len(data) and not self.failed and not self.overflow:
            if not self._depth:
                start, at = at, self._between(data, at)
                if gap := data[start : at - 1 if self._depth else at]:  # a brace belongs to the element
                    found.append((False, gap))
                continue
            end = self._skip(data, at)
            if len(self._element) + end - at > self.limit:
                self.overflow = True
                found.append((False, self.rest()))
                break
            self._element += data[at:end]
            at = end
            if not self._depth:
                found.append((True, self.rest()))
        if left := data[at:]:
            found.append((False, left))
        return found

    def rest(self) -> bytes:
        """The element that is not whole yet, which is let go of."""
        rest = bytes(self._element)
        self._element.clear()
        return rest

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
