"""How HTTP/1 is read: what has no bounds is refused. How an HTTP/2 upstream ends its connection, and who has whose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamEnded, StreamReset
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http, options
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.test import tflow

from tests.support.http2 import Tool, Vendor, goodbye_frame
from tests.support.layer import Core
from understudy.model.pool import Budget
from understudy.proxy.upstream_connection import FIELD_LIMIT, HEAD_LIMIT, MOST_KEPT, as_http1, read_request_head

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"


class Reading(Http1Server):
    """A tool's connection, read as it is while the addon is installed."""

    read_headers = read_request_head


def read(*pieces: bytes) -> list[commands.Command]:
    """What is done when these pieces come in one after the other."""
    client = tflow.tclient_conn()
    server = Reading(Context(client, options.Options()))
    done: list[commands.Command] = []
    for event in (events.Start(), *(events.DataReceived(client, piece) for piece in pieces)):
        done += server.handle_event(event)
    return done


def is_refused(done: list[commands.Command]) -> bool:
    """Whether it was answered with 431, and the connection closed; else it was read as a request."""
    sent = b"".join(command.data for command in done if isinstance(command, commands.SendData))
    closed = any(isinstance(command, commands.CloseConnection) for command in done)
    received = any(isinstance(command, ReceiveHttp) for command in done)
    assert sent.startswith(b"HTTP/1.1 431 ") is closed
    assert not (closed and received)
    return closed


@pytest.mark.parametrize("piece", [1 << 20, 4096, 1000])
def test_h02_a_head_has_a_largest_number_of_fields(piece: int) -> None:
    """H02: that many are read, one more is not, however they come in; a body may have as many lines as it likes."""
    for fields, refused in ((FIELD_LIMIT - 2, False), (FIELD_LIMIT + 1, True)):
        whole = HEAD + b"x: 123456\r\n" * fields + b"content-length: 90000\r\n\r\n" + b"\n" * 9000
        done = read(*(whole[at : at + piece] for at in range(0, len(whole), piece)))
        assert is_refused(done) is refused, fields


def test_h02_a_head_has_a_largest_size() -> None:
    """H02: one that never ends is not collected for ever."""
    piece = b"x" * 65536
    before = HEAD_LIMIT // len(piece) - 1
    assert read(HEAD + b"x: ", *[piece] * before) == []
    assert is_refused(read(HEAD + b"x: ", *[piece] * (before + 1)))
    assert not is_refused(read(HEAD + b"x: " + piece * before + b"\r\ncontent-length: 900000\r\n\r\n" + piece * 9))


# -- GOAWAY --------------------------------------------------------------------------------------------------------

STREAMED = b'{"model": "gpt-x", "stream": true, "messages": []}'
EVENT = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
EVERY_STREAM = 2**31 - 1


@pytest.fixture
def core() -> Iterator[Core]:
    """A core with two candidates."""
    made = Core(Budget())
    yield made
    made.uninstall()


def told(tool: Tool) -> tuple[dict[int, bytes], list[int], list[int]]:
    """What the tool got: bodies by stream, the streams that ended, and those that were reset."""
    heard = tool.receive_data(tool.core.to_client)
    bodies: dict[int, bytes] = {}
    for each in heard:
        if isinstance(each, DataReceived):
            bodies[each.stream_id] = bodies.get(each.stream_id, b"") + (each.data or b"")
    ended = [each.stream_id for each in heard if isinstance(each, StreamEnded)]
    return bodies, ended, [each.stream_id for each in heard if isinstance(each, StreamReset)]


@pytest.mark.parametrize("last", [1, EVERY_STREAM], ids=["last", "every"])
@pytest.mark.parametrize("has_begun", [False, True], ids=["waiting", "streaming"])
@pytest.mark.parametrize("together", [False, True], ids=["packets", "one-packet"])
def test_s04_a_connection_that_is_ended_in_order_cuts_no_reply(
    core: Core, last: int, has_begun: bool, together: bool
) -> None:
    """RFC 9113, section 6.8: what an upstream still serves comes to its end, before the connection is closed."""
    tool = Tool(core)
    stream_id = tool.ask(STREAMED)
    tool.flush()
    vendor = Vendor(core)
    assert vendor.whole_requests() == [1]
    parts = []
    if has_begun:
        vendor.send_headers(1, [(":status", "200"), ("content-type", "text/event-stream")])
        vendor.send_data(1, EVENT)
    parts.append(vendor.data_to_send() + goodbye_frame(last))
    if last == EVERY_STREAM:
        parts.append(goodbye_frame(1))
    if not has_begun:
        vendor.send_headers(1, [(":status", "200"), ("content-type", "text/event-stream")])
        vendor.send_data(1, EVENT)
    parts.append(vendor.data_to_send())
    vendor.send_data(1, DONE, end_stream=True)
    parts.append(vendor.data_to_send())
    for part in [b"".join(parts)] if together else parts:
        assert core.closed == []
        core.receive(vendor.server, part)
    assert told(tool) == ({stream_id: EVENT + DONE}, [stream_id], [])
    assert core.journal.told == [1]
    assert core.closed == [vendor.server]
    assert not core.engine.suspensions
    assert not core.opening


def test_a_connection_that_is_ended_in_order_takes_no_more_requests(core: Core) -> None:
    """The next call is made on another one, while the first is still answered."""
    tool = Tool(core)
    first = tool.ask(STREAMED)
    tool.flush()
    vendor = Vendor(core)
    assert vendor.whole_requests() == [1]
    vendor.flush(goodbye_frame(1))
    second = tool.ask(STREAMED)
    tool.flush()
    another = Vendor(core)
    assert another.whole_requests() == [1]
    assert another.server.address == vendor.server.address
    another.answer(EVENT + DONE, stream=True)
    another.flush()
    assert core.closed == []
    vendor.answer(EVENT * 2 + DONE, stream=True)
    vendor.flush()
    assert told(tool) == ({first: EVENT * 2 + DONE, second: EVENT + DONE}, [second, first], [])
    assert core.closed == [vendor.server]


def answer_elsewhere(core: Core) -> None:
    """Every connection that is being made is there, and answers what comes on it, at once or after a pause."""
    others: list[Vendor] = []
    for _ in range(2):
        while core.opening:
            others.append(Vendor(core))
        for another in others:
            for stream_id in another.whole_requests():
                another.answer(EVENT + DONE, stream=True, stream_id=stream_id)
            another.flush()
        core.pass_time(1)


@pytest.mark.parametrize("error_code", [0, 11], ids=["in-order", "error"])
def test_what_is_not_served_any_more_is_sent_again(core: Core, error_code: int) -> None:
    """NO_ERROR keeps what it names, and that alone; another error gives everything up, as with mitmproxy."""
    tool = Tool(core)
    streams = [tool.ask(STREAMED), tool.ask(STREAMED)]
    tool.flush()
    vendor = Vendor(core)
    assert vendor.whole_requests() == [1, 3]
    vendor.flush(goodbye_frame(1, error_code))
    assert core.closed == ([vendor.server] if error_code else [])
    answer_elsewhere(core)
    bodies, ended, reset = told(tool)
    assert (sorted(ended), reset) == (streams if error_code else streams[1:], [])
    assert bodies == dict.fromkeys(ended, EVENT + DONE)
    assert len(core.engine.suspensions) == (1 if error_code else 0)


def test_a_request_of_which_the_rest_is_unsent_is_sent_again(core: Core) -> None:
    """mitmproxy has dropped that rest: without it, the upstream would wait for ever. What it says of it all the same,
    and the call beside it, are no concern of each other."""
    tool = Tool(core)
    first = tool.ask(STREAMED)
    tool.flush()
    vendor = Vendor(core)
    tool.receive_data(core.to_client)  # it may send as much as it likes
    core.to_client = b""
    second = tool.ask(b'{"model": "gpt-x", "stream": true, "messages": ["%s"]}' % (b"x" * 120_000))
    tool.flush()
    assert vendor.whole_requests() == [1]
    vendor.flush(goodbye_frame(3))
    vendor.send_headers(3, [(":status", "413")], end_stream=True)
    vendor.flush()
    assert core.closed == []
    vendor.answer(EVENT + DONE, stream=True)
    vendor.flush()
    assert core.closed == [vendor.server]
    another = Vendor(core)
    assert another.whole_requests() == []
    another.increment_flow_control_window(200_000)
    another.increment_flow_control_window(200_000, 1)
    another.flush()
    assert another.whole_requests() == [1]
    another.answer(EVENT + DONE, stream=True)
    another.flush()
    assert told(tool) == (dict.fromkeys((first, second), EVENT + DONE), [first, second], [])
    assert not core.engine.suspensions


@pytest.mark.parametrize("in_order", [True, False], ids=["in-order", "close"])
def test_requests_that_wait_for_room_are_sent_elsewhere(core: Core, in_order: bool) -> None:
    """Law 10: an upstream that takes one request at once ends the connection. mitmproxy forgets those that wait."""
    tool = Tool(core)
    streams = [tool.ask(STREAMED)]
    tool.flush()
    vendor = Vendor(core, limit=1)
    streams += [tool.ask(STREAMED), tool.ask(STREAMED)]
    tool.flush()
    assert vendor.whole_requests() == [1]
    if in_order:
        vendor.flush(goodbye_frame(1))
        vendor.answer(EVENT + DONE, stream=True)
        vendor.flush()
    else:
        core.cut(vendor.server)
    answer_elsewhere(core)
    bodies, ended, reset = told(tool)
    assert bodies == dict.fromkeys(streams, EVENT + DONE)
    assert (sorted(ended), reset) == (streams, [])
    assert not core.engine.suspensions


# -- REFUSED_STREAM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [(1,), (3,), (1, 3)], ids=str)
def test_s04_a_request_that_was_not_begun_with_is_sent_again(core: Core, refused: tuple[int, ...]) -> None:
    """RFC 9113, section 8.7: REFUSED_STREAM says so of single requests, and the connection goes on. Nobody pays."""
    tool = Tool(core)
    streams = [tool.ask(STREAMED), tool.ask(STREAMED)]
    tool.flush()
    vendor = Vendor(core)
    assert vendor.whole_requests() == [1, 3]
    for stream_id in (1, 3):
        if stream_id in refused:
            vendor.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            vendor.answer(EVENT + DONE, stream=True, stream_id=stream_id)
    vendor.flush()
    for stream_id in (again := vendor.whole_requests()):
        vendor.answer(EVENT + DONE, stream=True, stream_id=stream_id)
    vendor.flush()
    bodies, ended, reset = told(tool)
    assert (bodies, sorted(ended), reset) == (dict.fromkeys(streams, EVENT + DONE), streams, [])
    assert len(again) == len(refused)
    assert core.closed == core.opening == []
    assert not core.engine.suspensions


def test_a_reply_that_has_begun_cannot_be_refused(core: Core) -> None:
    """It is cut, whatever the upstream calls it."""
    tool = Tool(core)
    stream_id = tool.ask(STREAMED)
    tool.flush()
    vendor = Vendor(core)
    assert vendor.whole_requests() == [1]
    vendor.send_headers(1, [(":status", "200"), ("content-type", "text/event-stream")])
    vendor.send_data(1, EVENT)
    vendor.reset_stream(1, ErrorCodes.REFUSED_STREAM)
    vendor.flush()
    answer_elsewhere(core)
    assert told(tool) == ({stream_id: EVENT}, [], [stream_id])
    assert len(core.engine.suspensions) == 1


# -- HTTP/2 to HTTP/1 ----------------------------------------------------------------------------------------------

REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s"
ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'


def answer(core: Core, server: Server, more: bytes = b"") -> None:
    """A whole reply over HTTP/1."""
    core.receive(server, REPLY % (more, len(ANSWER), ANSWER))


def ask(tool: Tool) -> int:
    """A request in a packet of its own; returns its stream."""
    stream_id = tool.ask()
    tool.flush()
    return stream_id


def test_the_calls_of_an_http2_tool_share_an_http1_connection(core: Core) -> None:
    """One after the other: mitmproxy makes a connection for each, and keeps in mind all that it has made."""
    tool, server = Tool(core), None
    for _ in range(4):
        ask(tool)
        if server is None:
            server = core.opened()
        answer(core, server)
    assert not core.opening
    assert core.closed == []
    assert told(tool) == (dict.fromkeys((1, 3, 5, 7), ANSWER), [1, 3, 5, 7], [])
    requests = core.sent["u0.test"].split(b"POST ")[1:]
    assert requests == [requests[0]] * 4
    assert requests[0].startswith(b"/v1/chat/completions HTTP/1.1\r\nHost: u0.test\r\n")
    asked = [hook.flow.request for hook in core.hooks if isinstance(hook, HttpRequestHook)]
    assert [request.http_version for request in asked] == ["HTTP/2.0"] * 4


def test_an_http1_connection_has_room_for_one_call_of_an_http2_tool_at_a_time(core: Core) -> None:
    """Two at once have a connection each, and a third, made when the second has its reply, has that one's."""
    tool = Tool(core)
    ask(tool)
    ask(tool)
    one, two = core.opened(), core.opened()
    answer(core, two)
    ask(tool)
    answer(core, two)
    answer(core, one)
    assert not core.opening
    assert told(tool) == (dict.fromkeys((1, 3, 5), ANSWER), [3, 5, 1], [])


@pytest.mark.parametrize("how", ["it says so", "it closes"])
def test_an_http1_connection_that_ends_takes_no_other_call(core: Core, how: str) -> None:
    """The next call of an HTTP/2 tool has one of its own."""
    tool = Tool(core)
    ask(tool)
    one = core.opened()
    answer(core, one, b"connection: close\r\n" if how == "it says so" else b"")
    if how == "it closes":
        core.cut(one)
    ask(tool)
    two = core.opened()
    answer(core, two)
    assert one is not two
    assert told(tool)[0] == {1: ANSWER, 3: ANSWER}


def test_a_connection_that_was_closed_while_it_was_idle_is_followed_by_a_new_one(core: Core) -> None:
    """Law 2: another idle one may just as well have been closed."""
    tool = Tool(core)
    ask(tool)
    ask(tool)
    one, two = core.opened(), core.opened()
    answer(core, one)
    answer(core, two)
    ask(tool)
    assert not core.opening
    core.cut(one)
    core.pass_time(1)
    three = core.opened()
    assert three.address == one.address
    answer(core, three)
    assert told(tool)[0] == dict.fromkeys((1, 3, 5), ANSWER)
    assert not core.engine.suspensions


def test_no_more_than_some_http1_connections_are_kept_for_an_http2_tool(core: Core) -> None:
    """Those beyond are closed behind their reply, as mitmproxy does with all of them."""
    tool = Tool(core)
    for _ in range(MOST_KEPT + 3):
        ask(tool)
    servers = [core.opened() for _ in range(MOST_KEPT + 3)]
    for server in servers:
        answer(core, server)
    assert len(told(tool)[1]) == MOST_KEPT + 3
    assert core.closed == servers[MOST_KEPT:]


@given(
    st.lists(
        st.sampled_from(
            [(b"cookie", b"a=1"), (b"Cookie", b"b=2"), (b"host", b"other.test"), (b"x-a", b"1"), (b"x-a", b"2")]
        )
    ),
    st.sampled_from([b"u0.test", b"u0.test:8443", b""]),
    st.sampled_from([b"HTTP/2.0", b"HTTP/3"]),
)
def test_a_request_of_http2_is_written_as_mitmproxy_writes_it(
    fields: list[tuple[bytes, bytes]], authority: bytes, version: bytes
) -> None:
    """What mitmproxy's HTTP/1 client makes of it itself; the request stays as it is."""
    headers = http.Headers(tuple(fields))
    request = http.Request("u0.test", 80, b"POST", b"http", authority, b"/v1", version, headers, b"{}", None, 0.0, 0.0)
    before = request.copy()
    written = []
    for each in (request, as_http1(request)):
        made = Context(tflow.tclient_conn(), options.Options())
        made.server = Server(address=("u0.test", 80))
        client = Http1Client(made)
        (sent,) = client.send(RequestHeaders(1, each, end_stream=False))
        assert isinstance(sent, commands.SendData)
        written.append(sent.data)
    assert written[0] == written[1]
    assert request.get_state() == before.get_state()
