"""HTTP/1 is read and written as by mitmproxy: the same messages, bytes, commands, errors and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import connection, http, options
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

from understudy.proxy.shortcuts import http1_messages

words = st.sampled_from(
    [b"GET", b"POST", b"CONNECT", b"/", b"/a?b", b"*", b"http://a.test/", b"a.test:80", b"a", b"//"]
)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.11", b"http/1.1", b"1"])
statuses = st.sampled_from([b"200", b"404", b"101", b"2x", b"-1", b"+5", b"2_0", b"0200", "²".encode()])
spaces = st.sampled_from([b" ", b"  ", b"\t", b" \x0b"])
lines = st.one_of(
    st.tuples(words, spaces, words, spaces, versions, st.sampled_from([b"", b" ", b" x"])).map(b"".join),
    st.tuples(versions, spaces, statuses, spaces, st.sampled_from([b"OK", b"", b"Not  there ", b"\xff"])).map(b"".join),
    st.binary(max_size=12),
)
others = st.one_of(
    st.sampled_from(
        [b"A: 1", b"a:1", b"B:  x y ", b" goes on", b"\tgoes on", b": none", b":", b"no colon", b"c : d:e"]
    ),
    st.binary(min_size=1, max_size=6),
)


def outcome(call: Callable[..., Any], *arguments: Any) -> object:
    """What came of it, an error included; of a message all its parts but the time."""
    try:
        found = call(*arguments)
    except Exception as error:
        return type(error), str(error), type(error.__cause__)
    if isinstance(found, http.Message):
        assert found.data.timestamp_start > 0
        parts = {each.name: getattr(found.data, each.name) for each in fields(found.data)}
        del parts["timestamp_start"]
        return type(found), vars(found).keys(), parts, found.headers.fields, type(found.headers.fields)
    return found


@given(lines, st.lists(others, max_size=4))
@example(b"GET / HTTP/1.1", [b"Host: a"])
@example(b"POST /a?b HTTP/1.0", [b"Host: a", b" goes on"])
@example(b"HTTP/1.1 200 OK", [b"A:  b "])
@example(b"HTTP/1.1 200 OK", [b"A: b", b" goes: on"])
@example(b"HTTP/1.1 200", [])
def test_a_head_is_read_as_by_mitmproxy(first: bytes, more: list[bytes]) -> None:
    """Of requests and responses, well-formed or not."""
    head = [first, *more]
    for ours, theirs in (
        (http1_messages.read_request_head, http1_messages._read_request_head),
        (http1_messages.read_response_head, http1_messages._read_response_head),
    ):
        assert outcome(ours, head) == outcome(theirs, head)


def test_the_usual_heads_never_come_to_mitmproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_read_request_head", "_read_response_head", "_assemble_request_head"):
        monkeypatch.setattr(http1_messages, name, lambda _: pytest.fail("asked mitmproxy"))
    request = http1_messages.read_request_head([b"POST /v1 HTTP/1.1", b"Host: a", b"content-length: 2"])
    response = http1_messages.read_response_head([b"HTTP/1.1 200 OK", b"content-length: 2"])
    assert http1_messages.assemble_request_head(request) == b"POST /v1 HTTP/1.1\r\nHost: a\r\ncontent-length: 2\r\n\r\n"
    assert http1_messages.assemble_response_head(response) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


parts = st.binary(max_size=4)
made = st.lists(st.tuples(parts, parts), max_size=4)


@given(st.lists(parts, min_size=5, max_size=5), st.sampled_from([b"CONNECT", b"connect", b"GET"]), made, st.integers())
def test_a_head_is_written_as_by_mitmproxy(
    some: list[bytes], method: bytes, fields_: list[tuple[bytes, bytes]], status: int
) -> None:
    """Whatever an addon has put into it; an authority, and a CONNECT."""
    scheme, authority, path, version, reason = some
    for each in (fields_, []):
        request = http.Request("", 0, method, scheme, authority, path, version, tuple(each), None, None, 0, None)
        response = http.Response(version, status, reason, tuple(each), None, None, 0, None)
        assert http1_messages.assemble_request_head(request) == http1_messages._assemble_request_head(request)
        own = http1_messages._OWN[http1, "assemble_response_head"]
        assert http1_messages.assemble_response_head(response) == own(response)


def test_headers_that_cannot_be_written_give_the_same_error() -> None:
    response = http.Response.make(200, b"")
    response.data.headers.fields = ((b"a", "1"),)  # type: ignore[assignment]
    for call in (http1_messages.assemble_response_head, http1_messages._OWN[http1, "assemble_response_head"]):
        with pytest.raises(TypeError):
            call(response)


@contextmanager
def in_place() -> Iterator[None]:
    """With the shorter ways."""
    leave = http1_messages.install()
    try:
        yield
    finally:
        leave()


OPTIONS = options.Options()


def context() -> Context:
    """A connection of a client."""
    client = connection.Client(
        peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0.0, state=connection.ConnectionState.OPEN
    )
    made = Context(client, OPTIONS)
    made.server.state = connection.ConnectionState.OPEN
    return made


type Seen = list[object]


def said(layer: Http1Connection, event: events.Event, into: Seen) -> list[object]:
    """Hand an event to a layer, write down what it says and how it stands afterwards; returns the HTTP events."""
    received: list[object] = []
    try:
        for command in layer.handle_event(event):
            if isinstance(command, ReceiveHttp):
                received.append(command.event)
                into.append(_shown(command.event))
            elif isinstance(command, commands.SendData):
                into.append((command.connection is layer.conn, command.data))
            else:
                into.append((type(command).__name__, getattr(command, "message", None)))
    except Exception as error:
        into.append((type(error), str(error)))
    into.append((layer.state.__name__, layer.stream_id, layer.request_done, layer.response_done, bytes(layer.buf)))
    into.append((layer.request is None, layer.response is None))
    return received


def _shown(event: Any) -> object:
    message = getattr(event, "request", None) or getattr(event, "response", None)
    parts = {name: value for name, value in vars(event).items() if name not in ("request", "response", "replay_flow")}
    return type(event).__name__, parts, message and outcome(lambda: message)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes as they come from a socket."""
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[one:other] for one, other in pairwise(at)]


framings = (
    b"content-length: 5\r\n", b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n", b"content-length: 5x\r\n",
    b"content-length: 5\r\ncontent-length: 5\r\n", b"", b"transfer-encoding: gzip\r\ncontent-length: 5\r\n",
    b"transfer-encoding: Chunked\r\n", b"content-length:\r\n",
)  # fmt: skip
keeping = (
    b"",
    b"connection: close\r\n",
    b"connection: keep-alive\r\n",
    b"Connection: x, close\r\n",
    b"connection: x\r\n",
)
bodies = b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"hel", b"hello, and more"
cuts = st.lists(st.integers(0, 200), max_size=4)
REQUEST_PARTS: Sequence[Sequence[bytes]] = (
    (b"POST", b"GET", b"HEAD", b"CONNECT", b"connect"), (b"/", b"a.test:80"), (b"HTTP/1.1", b"HTTP/1.0"), framings,
    keeping, bodies,
)  # fmt: skip
REPLY_PARTS: Sequence[Sequence[bytes]] = (
    (b"HTTP/1.1", b"HTTP/1.0"), (b"200", b"101", b"204", b"304", b"500"), framings, keeping, bodies
)  # fmt: skip
requests, replies = (st.tuples(*map(st.sampled_from, each)) for each in (REQUEST_PARTS, REPLY_PARTS))


def bytes_of(words: Sequence[bytes], framing: bytes, keep: bytes, body: bytes) -> bytes:
    """A message as it stands on the wire."""
    return b" ".join(words) + b"\r\n" + framing + keep + b"\r\n" + body


def head_of(words: Sequence[bytes], framing: bytes, keep: bytes) -> list[bytes]:
    """The lines of its head."""
    return bytes_of(words, framing, keep, b"").split(b"\r\n")[:-2]


def serve(request: tuple[bytes, ...], reply: tuple[bytes, ...], at: Sequence[int], *, twice: bool, ends: bool) -> Seen:
    """A tool's requests, each answered as soon as it is there, or ended in the middle."""
    seen: Seen = []
    layer = Http1Server(context())
    said(layer, events.Start(), seen)
    data = bytes_of(request[:3], *request[3:6]) * (2 if twice else 1)
    for piece in pieces(data, at):
        for event in said(layer, events.DataReceived(layer.conn, piece), seen):
            if isinstance(event, (RequestEndOfMessage, RequestProtocolError)):
                head = head_of((*reply[:2], b"OK"), *reply[2:4])
                response = http1_messages._OWN[http1, "read_response_head"](head)
                for each in (
                    ResponseHeaders(layer.stream_id, response),
                    ResponseData(layer.stream_id, reply[4]),
                    ResponseEndOfMessage(layer.stream_id),
                ):
                    said(layer, each, seen)
    if ends:
        said(layer, events.ConnectionClosed(layer.conn), seen)
    return seen


def ask(request: tuple[bytes, ...], reply: tuple[bytes, ...], at: Sequence[int], *, twice: bool, ends: bool) -> Seen:
    """An upstream's replies, each as soon as its request was sent, or before the end of that."""
    seen: Seen = []
    layer = Http1Client(context())
    said(layer, events.Start(), seen)
    head = head_of(request[:3], *request[3:5])
    for number in (1, 3) if twice else (1,):
        try:
            sent = http1_messages._OWN[http1, "read_request_head"](head)
        except ValueError:
            return seen
        asked = [RequestHeaders(number, sent, False), RequestData(number, request[5]), RequestEndOfMessage(number)]
        for event in asked[: 2 if ends else 3]:
            said(layer, event, seen)
        data = bytes_of((*reply[:2], b"OK"), *reply[2:5])
        for piece in pieces(data, at):
            said(layer, events.DataReceived(layer.conn, piece), seen)
        for event in asked[2 if ends else 3 :]:
            said(layer, event, seen)
    said(layer, events.ConnectionClosed(layer.conn), seen)
    return seen


PLAIN = (b"POST", b"/", b"HTTP/1.1", b"content-length: 5\r\n", b"", b"hello")
OK = (b"HTTP/1.1", b"200", b"content-length: 5\r\n", b"connection: keep-alive\r\n", b"hello")
CHANGES = [(place, value) for place, values in enumerate((*REQUEST_PARTS, *REPLY_PARTS)) for value in values]
"""What may be otherwise in a plain call, as a place in both together."""


@pytest.mark.parametrize("side", [serve, ask])
def test_a_connection_says_what_mitmproxys_says(side: Callable[..., Seen]) -> None:
    """Requests and replies of all kinds, however they are cut, and whoever ends first; all that differ in two parts."""

    def check(request: tuple[bytes, ...], reply: tuple[bytes, ...], at: list[int], twice: bool, ends: bool) -> None:
        theirs = side(request, reply, at, twice=twice, ends=ends)
        with in_place():
            ours = side(request, reply, at, twice=twice, ends=ends)
        assert ours == theirs

    given(requests, replies, cuts, st.booleans(), st.booleans())(check)()
    for changes in [(), *combinations(CHANGES, 1), *combinations(CHANGES, 2)]:
        call = [*PLAIN, *OK]
        for place, value in changes:
            call[place] = value
        for at, twice in (([], False), ([40, 60], True)):
            check(tuple(call[:6]), tuple(call[6:]), at, twice, ends=twice)


def test_a_plain_call_is_read_and_ended_without_mitmproxys_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls over one connection, on either side of the proxy."""
    for name in ("_read_body", "_mark_done"):
        monkeypatch.setattr(http1_messages, name, lambda *_: pytest.fail("asked mitmproxy"))
    with in_place():
        ours = [serve(PLAIN, OK, [], twice=False, ends=False), ask(PLAIN, OK, [], twice=True, ends=False)]
    assert all(
        seen[-2] == ("read_headers", number, False, False, b"") for seen, number in zip(ours, (3, None), strict=True)
    )


def test_it_is_taken_out_without_a_trace() -> None:
    """Also when it was put in twice; what another program has put in its place is left alone."""
    before = {place[:2]: vars(place[0])[place[1]] for place in http1_messages.PLACES}
    assert before == http1_messages._OWN
    leave = http1_messages.install()
    http1_messages.install()()
    assert all(vars(owner)[name] is ours for owner, name, ours in http1_messages.PLACES)
    leave()
    assert {place[:2]: vars(place[0])[place[1]] for place in http1_messages.PLACES} == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http1, "read_request_head", another := lambda _: None)
        leave = http1_messages.install()
        assert vars(http1)["read_request_head"] is another
        assert http1.read_response_head is http1_messages.read_response_head
        leave()
        assert vars(http1)["read_request_head"] is another
