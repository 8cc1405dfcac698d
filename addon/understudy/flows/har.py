"""HARs in bounded memory: the entries one by one, and one entry as a saved flow (HAR 1.2, "entries" to "content").

A HAR is a single JSON document and may be gigabytes long. Browsers, tools and mitmproxy write it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from understudy.flows.saved_flow import SavedFlow, SavedReply, bounded, unix_time, without_encoding

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
            raise HarError("it has a closing bracket without an opening one")
        if self._reached > self._depth:
            self.closed = self.closed or self._reached == _IN_ENTRIES
            self._reached = self._depth


def parsed(text: bytes) -> Any:
    """The JSON of an entry. Raises HarError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = str(error).partition(":")[0]
        raise HarError(f"it is no JSON ({what})") from None


def entry_values(entry: Any, number: int) -> SavedFlow | None:
    """An entry as a saved flow; None when it is none."""
    match entry:
        case {"request": {"url": str(url)} as request, "response": {"status": int(status)} as response}:
            pass
        case _:
            return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return None
    began = _date(entry.get("startedDateTime"))
    took = entry.get("time")
    ended = began + took / 1000 if began and isinstance(took, int | float) and 0 <= took < math.inf else 0.0
    reply = None
    if 100 <= status <= 599:
        content = response.get("content")
        body, tail = _content(content) if isinstance(content, dict) else (None, b"")
        reply = SavedReply(status, without_encoding(_pairs(response.get("headers"))), body, tail, ended, ended)
    post, error = request.get("postData"), response.get("_error")
    return SavedFlow(
        number,
        f"entry-{number}",
        str(request.get("method")),
        host,
        port,
        f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/",
        without_encoding(_pairs(request.get("headers"))),
        str(post.get("text") or "").encode("utf-8", "replace") if isinstance(post, dict) else b"",
        began,
        reply,
        error if isinstance(error, str) else "",
    )


def _pairs(headers: object) -> list[tuple[str, str]]:
    found = [item for item in headers if isinstance(item, dict)] if isinstance(headers, list) else []
    return [(str(item.get("name")), str(item.get("value"))) for item in found]


def _content(content: Mapping[str, Any]) -> tuple[bytes | None, bytes]:
    text = content.get("text")
    if not isinstance(text, str) or not text:
        return None, b""  # browsers leave it out, mitmproxy writes "" for a body that it did not keep
    if content.get("encoding") == "base64":
        try:
            return bounded(base64.b64decode(text), "")
        except (binascii.Error, ValueError):
            return None, b""
    return bounded(text.encode("utf-8", "replace"), "")


def _date(value: object) -> float:
    try:
        return unix_time(datetime.fromisoformat(value[:40]).timestamp()) if isinstance(value, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0
