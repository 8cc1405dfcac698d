"""Saved flows, one by one and in bounded memory: dumps of mitmproxy and HARs, as plain values.

A dump is a row of flows, a HAR one JSON document of entries; of either only one flow is in memory at a time. Nothing
here judges anything, and nothing here knows what may be shown: a saved flow may hold real credentials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, BinaryIO

from understudy.codec.content_encoding import decode_request
from understudy.flows.har import HarEntries, HarError, entry_values, parsed
from understudy.flows.saved_flow import SavedFlow, SavedReply, bounded, unix_time, without_encoding

LARGEST_FLOW = 512 * 1024 * 1024
"""Bytes of one flow of a dump. A larger one ends the reading."""
CHUNK = 1024 * 1024
DUMP = re.compile(rb"\d{1,12}:")


class FlowFileError(ValueError):
    """A file that is no dump and no HAR, or is broken from some flow on."""


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

    stream = iter(flows.FlowReader(file).stream())  # type: ignore[arg-type]
    for number in count(1):
        try:
            flow = next(stream, None)
            saved = _checked(flow_values(flow, number)) if isinstance(flow, http.HTTPFlow) else None
        except Exception as error:
            # In a damaged flow members are missing or of another type, and mitmproxy's reader then fails in any way.
            why = str(error) if isinstance(error, exceptions.FlowReadException) else "it is damaged"
            raise FlowFileError(f"this flow dump cannot be read from flow {number} on: {why}") from None
        if flow is None:
            return
        if saved is not None:
            yield saved


def _checked(saved: SavedFlow) -> SavedFlow:
    """Raise TypeError for a flow whose members are not what they should be: mitmproxy takes them as they are."""
    texts = (saved.id, saved.method, saved.host, saved.path, saved.error, saved.comment)
    reply = saved.reply
    status = reply.status if reply else 200
    if not all(isinstance(text, str) for text in texts) or type(saved.port) is not int or type(status) is not int:
        raise TypeError("a member is of another type")
    return saved


def flow_values(flow: Any, number: int) -> SavedFlow:
    """A flow of mitmproxy as plain values."""
    request, response = flow.request, flow.response
    facts = flow.metadata.get("understudy")
    reply = None
    if response is not None:
        raw = response.raw_content
        body, tail = (None, b"") if raw is None else bounded(raw, response.headers.get("content-encoding", ""))
        ended = unix_time(response.timestamp_end)
        headers = without_encoding(response.headers.items(multi=True))
        reply = SavedReply(response.status_code, headers, body, tail, unix_time(response.timestamp_start), ended)
    return SavedFlow(
        number,
        flow.id,
        request.method,
        request.pretty_host,
        request.port,
        request.path,
        without_encoding(request.headers.items(multi=True)),
        decode_request(request.raw_content or b"", request.headers.get("content-encoding", "")) or b"",
        unix_time(request.timestamp_start),
        reply,
        flow.error.msg if flow.error else "",
        bool(flow.server_conn.timestamp_tcp_setup),
        unix_time(flow.error.timestamp) if flow.error else 0.0,
        facts if isinstance(facts, dict) else {},
        flow.comment,
    )


def _har(file: _Counted) -> Iterator[SavedFlow]:
    entries, number = HarEntries(), 0
    try:
        while data := file.read(CHUNK):
            for text in entries.feed(data):
                number += 1
                if (saved := entry_values(parsed(text), number)) is not None:
                    yield saved
        if not entries.found:
            raise HarError("there is no log.entries in it")
        if not entries.closed:
            raise HarError("it ends in the middle")
    except HarError as error:
        raise FlowFileError(f"this HAR cannot be read from entry {number + 1} on: {error}") from None
