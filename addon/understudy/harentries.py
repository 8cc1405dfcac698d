"""The entries of a HAR one by one, in bounded memory: a HAR is a single JSON document, and may be gigabytes long.

Only the way to ``log.entries`` is followed and only one entry is kept at a time; what an entry says is read by whoever
gets it (HAR 1.2, sections "log" and "entries").
"""

from __future__ import annotations

import re

LARGEST_ENTRY = 64 * 1024 * 1024
"""Bytes of one entry. A larger one ends the reading."""

_OUTSIDE = re.compile(rb'["{}\[\]:,]')
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LONGEST_KEY = 16
_IN_ROOT, _IN_LOG, _IN_ENTRIES = 1, 2, 3


class HarError(ValueError):
    """The bytes are no HAR, or not one that can be read to its end."""


class HarEntries:
    """Feed it bytes, split anywhere; it returns the entries that they complete, each as the bytes of a JSON object."""

    def __init__(self) -> None:
        self.found = False
        """Whether ``log.entries`` was reached."""
        self.closed = False
        """Whether its end was reached."""
        self._depth = 0
        self._reached = 0  # how deep the way to the entries has been followed: root, log, entries
        self._in_string = False
        self._escaped = False
        self._word = bytearray()  # the beginning of the last string on the way
        self._key = b""
        self._entry = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes. Raises HarError."""
        entries: list[bytes] = []
        at = start = 0  # start: of what belongs to the entry under way
        while at < len(data):
            if self._in_string:
                at = self._string(data, at)
                continue
            found = _OUTSIDE.search(data, at)
            if found is None:
                break
            at = found.end()
            match found[0]:
                case b'"':
                    self._in_string = True
                    self._word.clear()
                case b"{" | b"[":
                    if self._depth == self._reached == _IN_ENTRIES:
                        start = at - 1
                    self._open(found[0])
                case b"}" | b"]":
                    self._close()
                    if self._reached == self._depth == _IN_ENTRIES:
                        self._take(data[start:at])
                        entries.append(bytes(self._entry))
                        self._entry.clear()
                case b":":
                    self._key = bytes(self._word)
                case _:
                    self._key = b""
        if self._reached == _IN_ENTRIES and self._depth > _IN_ENTRIES:
            self._take(data[start:])
        return entries

    def _take(self, piece: bytes) -> None:
        self._entry += piece
        if len(self._entry) > LARGEST_ENTRY:
            raise HarError(f"one of its entries is larger than {LARGEST_ENTRY >> 20} MiB")

    def _string(self, data: bytes, at: int) -> int:
        """Run through a string; return where it or the data ends."""
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _STRING.match(data, at)
        end = found.end() if found else at
        if self._depth <= _IN_LOG:
            self._word += data[at : min(end, at + _LONGEST_KEY)]
        if end == len(data):
            return end
        self._in_string = data[end : end + 1] != b'"'
        self._escaped = self._in_string  # the data ends in the middle of an escape
        return end + 1

    def _open(self, mark: bytes) -> None:
        wanted = {0: (b"{", b""), _IN_ROOT: (b"{", b"log"), _IN_LOG: (b"[", b"entries")}.get(self._depth)
        if self._reached == self._depth and wanted == (mark, self._key) and not self.closed:
            self._reached += 1
            self.found = self._reached == _IN_ENTRIES
        elif self._depth == 0:
            raise HarError("it does not begin as a HAR does")
        self._depth += 1
        self._key = b""

    def _close(self) -> None:
        self._depth -= 1
        if self._depth < 0:
            raise HarError("it closes a bracket that it never opened")
        if self._reached > self._depth:
            self.closed = self.closed or self._reached == _IN_ENTRIES
            self._reached = self._depth
