"""Saved flows, one by one and in bounded memory: dumps of mitmproxy and HARs, as plain values.

A dump is a row of flows, a HAR one JSON document of entries; of either only one flow is in memory at a time. Nothing
here judges anything, and nothing here knows what may be shown: a saved flow may hold real credentials.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from understudy.encoding import Decoder, decode_request
from understudy.harentries import HarEntries, HarError
from understudy.reply import MAX_TEXT

LARGEST_FLOW = 512 * 1024 * 1024
"""Bytes of one flow of a dump. A larger one ends the reading."""
TAIL = 8 * 1024
"""Bytes kept of the end of a longer body: how a stream ended."""
CHUNK = 1024 * 1024
DUMP = re.compile(rb"\d{1,12}:")

type Pairs = tuple[tuple[str, str], ...]


class FlowFileError(ValueError):
    """A file that is no dump and no HAR, or is broken from some flow on."""


@dataclass(frozen=True, slots=True)
class SavedReply:
    """What came back. ``body``: decoded, its first ``MAX_TEXT`` bytes; None when the file does not have it.

    ``tail``: the end of a longer body. ``began`` and ``ended`` are Unix times, 0 when unknown.
    """

    status: int
    headers: Pairs = field(repr=False)
    body: bytes | None = field(repr=False)
    tail: bytes = field(default=b"", repr=False)
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class SavedFlow:
    """One HTTP flow of a file. ``number`` counts the flows of the file from 1, those that are not HTTP included.

    ``body`` is decoded, b"" also where it cannot be. ``began``: Unix time of the request, 0 when unknown. ``error``:
    what the recorder noted about the transport; ``connected``: whether the upstream was ever reached, as far as known.
    ``facts``: what understudy noted when it recorded the flow.
    """

    number: int
    id: str
    method: str
    host: str
    port: int
    path: str = field(repr=False)
    headers: Pairs = field(repr=False)
    body: bytes = field(repr=False)
    began: float = 0.0
    reply: SavedReply | None = None
    error: str = field(default="", repr=False)
    connected: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    comment: str = field(default="", repr=False)

    def header(self, name: str) -> str:
        """The first value of a header of the request, named in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def is_called(self, wanted: str) -> bool:
        """Whether somebody who writes this means the flow: its number, its id or the beginning of its id."""
        return self.number == int(wanted) if wanted.isdecimal() and len(wanted) < 8 else self.id.startswith(wanted)


def is_flow_file(head: bytes) -> bool:
    """Whether a file that begins like this is a dump or may be a HAR."""
    return DUMP.match(head) is not None or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def read_flows(file: BinaryIO, tell: Callable[[int], None] = lambda position: None) -> Iterator[SavedFlow]:
    """The HTTP flows of an open file. ``tell`` hears how many bytes were read so far, now and then.

    Raises FlowFileError, also in the middle: what came before was good.
    """
    counted = _Counted(file, tell)
    head = counted.peek(64)
    if DUMP.match(head):
        yield from _dump(counted)
    elif is_flow_file(head):
        yield from _har(counted)
    else:
        raise FlowFileError("this is neither a flow dump of mitmproxy nor a HAR")


class _Counted:
    """A file for mitmproxy's reader that says how far it was read and never asks for more than one flow may have."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None]) -> None:
        self._file, self._tell = file, tell
        self._position = 0
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        if len(self._ahead) < size:
            self._ahead += self._file.read(size - len(self._ahead))
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        if size > LARGEST_FLOW:
            from mitmproxy.exceptions import FlowReadException

            raise FlowReadException(f"a flow of more than {LARGEST_FLOW >> 20} MiB")
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            data = data if len(data) == size else data + self._file.read(size - len(data))
        else:
            data = self._file.read(size)
        self._position += len(data)
        if size > 1:  # the reader takes the length of a flow byte by byte
            self._tell(self._position)
        return data


def _dump(file: _Counted) -> Iterator[SavedFlow]:
    from mitmproxy import exceptions, http  # here: mitmproxy takes a second to load
    from mitmproxy import io as flows

    number = 0
    try:
        for number, flow in enumerate(flows.FlowReader(file).stream(), 1):  # type: ignore[arg-type]
            if isinstance(flow, http.HTTPFlow):
                yield flow_values(flow, number)
    except exceptions.FlowReadException as error:
        raise FlowFileError(f"this flow dump cannot be read from flow {number + 1} on: {error}") from None


def flow_values(flow: Any, number: int) -> SavedFlow:
    """A flow of mitmproxy as plain values."""
    request, response = flow.request, flow.response
    facts = flow.metadata.get("understudy")
    reply = None
    if response is not None:
        raw = response.raw_content
        body, tail = (None, b"") if raw is None else _bounded(raw, response.headers.get("content-encoding", ""))
        ended = _time(response.timestamp_end)
        headers = _without_encoding(response.headers.items(multi=True))
        reply = SavedReply(response.status_code, headers, body, tail, _time(response.timestamp_start), ended)
    return SavedFlow(
        number,
        flow.id,
        request.method,
        request.pretty_host,
        request.port,
        request.path,
        _without_encoding(request.headers.items(multi=True)),
        decode_request(request.raw_content or b"", request.headers.get("content-encoding", "")) or b"",
        _time(request.timestamp_start),
        reply,
        flow.error.msg if flow.error else "",
        bool(flow.server_conn.timestamp_tcp_setup),
        facts if isinstance(facts, dict) else {},
        flow.comment,
    )


def _har(file: _Counted) -> Iterator[SavedFlow]:
    entries, number = HarEntries(), 0
    try:
        while data := file.read(CHUNK):
            for text in entries.feed(data):
                number += 1
                if (saved := _entry(_json(text), number)) is not None:
                    yield saved
        if not entries.found:
            raise HarError("there is no log.entries in it")
        if not entries.closed:
            raise HarError("it ends in the middle")
    except HarError as error:
        raise FlowFileError(f"this HAR cannot be read from entry {number + 1} on: {error}") from None


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = str(error).partition(":")[0]
        raise HarError(f"it is no JSON ({what})") from None


def _entry(entry: Any, number: int) -> SavedFlow | None:
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
        reply = SavedReply(status, _without_encoding(_pairs(response.get("headers"))), body, tail, ended, ended)
    post, error = request.get("postData"), response.get("_error")
    return SavedFlow(
        number,
        f"entry-{number}",
        str(request.get("method")),
        host,
        port,
        f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/",
        _without_encoding(_pairs(request.get("headers"))),
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
            return _bounded(base64.b64decode(text), "")
        except (binascii.Error, ValueError):
            return None, b""
    return _bounded(text.encode("utf-8", "replace"), "")


def _bounded(raw: bytes, encoding: str) -> tuple[bytes, bytes]:
    """The body without its content encoding, and the end of it where it was cut."""
    decoder = Decoder(encoding, MAX_TEXT)
    body = decoder.feed(raw)
    if decoder.failed:  # decoded already, by whoever saved it
        body = raw[:MAX_TEXT]
    cut = len(raw) > MAX_TEXT and (decoder.identity or decoder.failed)
    return body, raw[-TAIL:] if cut else b""


def _without_encoding(headers: Any) -> Pairs:
    """Bodies are decoded here, and what is told of them must say the same."""
    return tuple((name, value) for name, value in headers if name.lower() != "content-encoding")


def _time(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e11 else 0.0


def _date(value: object) -> float:
    try:
        return _time(datetime.fromisoformat(value[:40]).timestamp()) if isinstance(value, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0
