"""mitmproxy's reading and writing of HTTP/1 messages, in fewer steps for those that nearly all are.

A head is read and written line by line, field by field and part by part, each by functions of its own, with checks of
what has just been made. A body of known length is taken from its reader in events of another library. At the end of a
request and its reply it is found out step by step that the connection stays open. Here the usual case is done at once:
a request for a path on the host, fields on a line each, a body with a Content-Length, a connection that goes on. What
is different goes mitmproxy's own way, with its own errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from h11._readers import ContentLengthReader
from mitmproxy.http import Headers, Request, RequestData, Response, ResponseData
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Connection, Http1Server

_VERSIONS = frozenset((b"HTTP/1.1", b"HTTP/1.0"))
_BYTES = {bytes}
_read_request_head, _read_response_head = http1.read_request_head, http1.read_response_head
_assemble_request_head: Callable[[Request], bytes] = http1.assemble_request_head
_read_body, _mark_done = Http1Connection.read_body, Http1Connection.mark_done
type Place = tuple[Any, str, Any]
"""Where something stands, under which name, and what stands there then."""


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it. What another program has put there stays."""
    put = [(*place, vars(place[0])[place[1]]) for place in PLACES if vars(place[0])[place[1]] is _OWN[place[:2]]]
    for owner, name, ours, _ in put:
        setattr(owner, name, ours)

    def uninstall() -> None:
        for owner, name, ours, own in put:
            if vars(owner)[name] is ours:
                setattr(owner, name, own)

    return uninstall


# -- heads ---------------------------------------------------------------------------------------------------------


def read_request_head(lines: list[bytes]) -> Request:
    """What mitmproxy's function of this name does. Raises ValueError as it does."""
    words = lines[0].split()
    if len(words) == 3 and words[1][:1] == b"/" and words[2] in _VERSIONS and (headers := _headers(lines)) is not None:
        method, path, version = words
        request = Request.__new__(Request)
        request.data = RequestData(version, headers, None, None, time.time(), None, "", 0, method, b"", b"", path)
        return request
    return _read_request_head(lines)


def read_response_head(lines: list[bytes]) -> Response:
    """What mitmproxy's function of this name does. Raises ValueError as it does."""
    words = lines[0].split(None, 2)
    if len(words) == 3 and words[0] in _VERSIONS and words[1].isdigit() and (headers := _headers(lines)) is not None:
        version, status, reason = words
        response = Response.__new__(Response)
        response.data = ResponseData(version, headers, None, None, time.time(), None, int(status), reason)
        return response
    return _read_response_head(lines)


def _headers(lines: Sequence[bytes]) -> Headers | None:
    """The fields behind the first line; None where one is none, or goes over several lines."""
    if set(map(type, lines)) != _BYTES:
        return None
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not name or not colon or name[0] in b" \t":
            return None
        fields.append((name, value.strip()))
    headers = Headers.__new__(Headers)
    headers.fields = tuple(fields)
    return headers


def assemble_request_head(request: Request) -> bytes:
    """What mitmproxy's function of this name does."""
    data = request.data
    if data.authority or data.method.upper() == b"CONNECT":
        return _assemble_request_head(request)
    return b"%s %s %s\r\n%s\r\n" % (data.method, data.path, data.http_version, _written(data.headers))


def assemble_response_head(response: Response) -> bytes:
    """What mitmproxy's function of this name does."""
    data = response.data
    return b"%s %d %s\r\n%s\r\n" % (data.http_version, data.status_code, data.reason, _written(data.headers))


def _written(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % field for field in headers.fields]) if type(headers) is Headers else bytes(headers)


# -- bodies and ends -----------------------------------------------------------------------------------------------


def read_body(connection: Http1Connection, event: events.Event) -> CommandGenerator[None]:
    """What mitmproxy's method of this name does."""
    reader = connection.body_reader
    if type(reader) is not ContentLengthReader or not isinstance(event, events.DataReceived):
        yield from _read_body(connection, event)
        return
    assert connection.stream_id is not None
    while reader._remaining:
        if (data := connection.buf.maybe_extract_at_most(reader._remaining)) is None:
            return
        reader._remaining -= len(data)
        yield ReceiveHttp(connection.ReceiveData(connection.stream_id, bytes(data)))
    assert connection.request
    if connection.request.data.method.upper() != b"CONNECT":
        yield ReceiveHttp(connection.ReceiveEndOfMessage(connection.stream_id))
    is_request = isinstance(connection, Http1Server)
    yield from connection.mark_done(request=is_request, response=not is_request)


def mark_done(
    connection: Http1Connection, *, request: bool = False, response: bool = False
) -> Iterable[commands.Command]:
    """What mitmproxy's methods of this name do, that of ``Http1Server`` and the other one."""
    connection.request_done = connection.request_done or request
    connection.response_done = connection.response_done or response
    is_server = isinstance(connection, Http1Server)
    if not (connection.request_done and connection.response_done):
        if connection.request_done and is_server:
            connection.state = connection.wait
        return ()
    assert connection.request and connection.response
    if connection.buf._data or not _goes_on(connection.request.data, connection.response.data):
        return _end(connection)
    connection.request_done = connection.response_done = False
    connection.request = connection.response = None
    connection.stream_id = connection.stream_id + 2 if is_server else None  # type: ignore[operator]
    connection.state = connection.read_headers
    return ()


def _goes_on(request: RequestData, response: ResponseData) -> bool:
    """Whether the connection is surely one for another request. False where mitmproxy has to be asked."""
    coding = response.headers.get("transfer-encoding")
    return (
        request.http_version == response.http_version == b"HTTP/1.1"
        and (coding == "chunked" or (not coding and bool(response.headers.get("content-length"))))
        and request.headers.get("connection", "keep-alive") == "keep-alive"
        and response.headers.get("connection", "keep-alive") == "keep-alive"
        and response.status_code != 101
        and request.method.upper() != b"CONNECT"
    )


def _end(connection: Http1Connection) -> CommandGenerator[None]:
    yield from _mark_done(connection)
    if isinstance(connection, Http1Server) and connection.request_done and not connection.response_done:
        connection.state = connection.wait


PLACES: tuple[Place, ...] = (
    (http1, "read_request_head", read_request_head),
    (http1, "read_response_head", read_response_head),
    (http1, "assemble_request_head", assemble_request_head),
    (http1, "assemble_response_head", assemble_response_head),
    (Http1Connection, "read_body", read_body),
    (Http1Connection, "mark_done", mark_done),
    (Http1Server, "mark_done", mark_done),
)
_OWN = {place[:2]: vars(place[0])[place[1]] for place in PLACES}
"""mitmproxy's."""
