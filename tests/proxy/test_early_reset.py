"""A tool on HTTP/2 that takes its call back at once, and an upstream that takes back the request it has answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

from tests.support.http2 import BODY, Tool, Vendor, reset_frame
from tests.support.layer import STREAM_HEAD, Core, chunk
from understudy.model.pool import Budget
from understudy.proxy.listener import UnderstudyAttemptHook

STREAMED = b'{"model": "gpt-x", "stream": true, "messages": []}'
ANSWER = b'{"choices": [{"message": {"content": "hi"}}]}'
OUTPUT = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'
LONG = json.dumps({"model": "gpt-x", "messages": ["x" * 200_000]}).encode()
"""More than the window of a stream: the upstream has to ask for the rest."""


@pytest.fixture
def core() -> Iterator[Core]:
    """A core with two candidates."""
    made = Core(Budget())
    made.slow_hooks = ()
    yield made
    made.uninstall()


def go_on(core: Core) -> None:
    """The hooks that were held up end."""
    while core.held:
        core.feed(events.HookCompleted(core.held.pop(0), None))


def ends(core: Core) -> list[int]:
    """How often each flow was answered or failed."""
    begun: list[http.HTTPFlow] = [each.flow for each in core.hooks if isinstance(each, HttpRequestHeadersHook)]
    ended = Counter(each.flow.id for each in core.hooks if isinstance(each, (HttpErrorHook, HttpResponseHook)))
    return [ended[flow.id] for flow in begun]


def is_at_rest(core: Core) -> bool:
    """Whether nothing is under way, nothing is held, and nobody pays."""
    return not core.layer.streams and not core.held and not core.engine.suspensions and set(ends(core)) == {1}


# -- the tool ------------------------------------------------------------------------------------------------------


def reset(tool: Tool) -> None:
    """A call and its reset."""
    tool.reset_stream(tool.ask(), ErrorCodes.CANCEL)


def reset_without_body(tool: Tool) -> None:
    """A request without a body and its reset."""
    tool.reset_stream(tool.ask(b""), ErrorCodes.CANCEL)


def reset_after_trailers(tool: Tool) -> None:
    """A call that ends in trailers, and its reset."""
    tool.reset_stream(tool.ask(trailers=True), ErrorCodes.CANCEL)


def reset_three(tool: Tool) -> None:
    """Three calls: the library has forgotten the streams of the first two when their resets are looked at."""
    for _ in range(3):
        tool.reset_stream(tool.ask(), ErrorCodes.CANCEL)


def reset_without_route(tool: Tool) -> None:
    """A request that the pool is not asked for."""
    tool.reset_stream(tool.ask(path="/v1/files"), ErrorCodes.NO_ERROR)


def say_goodbye(tool: Tool) -> None:
    """A call and the end of the connection, as HTTP/2 says it."""
    tool.ask()
    tool.close_connection()


def say_goodbye_to_three(tool: Tool) -> None:
    """The same for three calls."""
    for _ in range(3):
        tool.ask()
    tool.close_connection()


AT_ONCE = (
    *(reset, reset_without_body, reset_after_trailers, reset_three, reset_without_route),
    *(say_goodbye, say_goodbye_to_three),
)
at_once = pytest.mark.parametrize("take_back", AT_ONCE, ids=lambda each: each.__name__)


@at_once
def test_l12_a_call_that_is_taken_back_in_one_packet_is_over(core: Core, take_back: Callable[[Tool], None]) -> None:
    """L12, H04: mitmproxy alone never hears of it. Nothing is sent, the flow has its end, and nobody is suspended."""
    tool = Tool(core)
    take_back(tool)
    tool.flush()
    assert is_at_rest(core)
    assert core.opening == []
    tool.close()
    assert is_at_rest(core)


@at_once
@pytest.mark.parametrize("slow", [HttpRequestHeadersHook, HttpErrorHook], ids=lambda each: str(each.name))
def test_l12_a_call_is_taken_back_while_a_hook_waits(
    core: Core, take_back: Callable[[Tool], None], slow: type[commands.StartHook]
) -> None:
    """L12: what is heard meanwhile is kept until the hook has ended."""
    core.slow_hooks = (slow,)
    tool = Tool(core)
    take_back(tool)
    tool.flush()
    assert core.held
    go_on(core)
    assert is_at_rest(core)
    assert core.opening == []


def test_a_call_beside_one_that_is_taken_back_goes_on(core: Core) -> None:
    """The reset of one stream is that of no other, in the same packet or later."""
    tool = Tool(core)
    first = tool.ask()
    second = tool.ask()
    tool.reset_stream(second, ErrorCodes.CANCEL)
    tool.flush()
    assert sorted(ends(core)) == [0, 1]
    server = core.opened()
    tool.reset_stream(tool.ask(), ErrorCodes.CANCEL)
    tool.flush()
    core.receive(server, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
    assert is_at_rest(core)
    answered = tool.receive_data(core.to_client)
    assert [each.stream_id for each in answered if isinstance(each, (ResponseReceived, StreamEnded))] == [first] * 2
    assert b"".join(each.data or b"" for each in answered if isinstance(each, DataReceived)) == ANSWER


def leave_in_stream(core: Core) -> Callable[[], None]:
    """A tool on HTTP/2 with a call on its way, and how it takes that back."""
    tool = Tool(core)
    stream_id = tool.ask(STREAMED)
    tool.flush()

    def leave() -> None:
        tool.reset_stream(stream_id, ErrorCodes.CANCEL)
        tool.flush()

    return leave


def leave_with_goodbye(core: Core) -> Callable[[], None]:
    """The same with the end of the connection, as HTTP/2 says it."""
    tool = Tool(core)
    tool.ask(STREAMED)
    tool.flush()

    def leave() -> None:
        tool.close_connection()
        tool.flush()

    return leave


def leave_connection(core: Core) -> Callable[[], None]:
    """The same with the end of the connection."""
    tool = Tool(core)
    tool.ask(STREAMED)
    tool.flush()
    return tool.close


def leave_http1(core: Core) -> Callable[[], None]:
    """The same on HTTP/1.1."""
    core.ask(stream=True)

    def leave() -> None:
        core.client.state = ConnectionState.CAN_WRITE
        core.feed(events.ConnectionClosed(core.client))

    return leave


WAYS = (leave_in_stream, leave_with_goodbye, leave_connection, leave_http1)
HOOKS = (
    *(HttpRequestHeadersHook, HttpRequestHook, UnderstudyAttemptHook),
    *(HttpResponseHeadersHook, HttpResponseHook, HttpErrorHook),
)
REPLIES = {
    "none": b"",
    "refusal": b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}",
    "output": STREAM_HEAD + chunk(OUTPUT),
    "answer": STREAM_HEAD + chunk(OUTPUT + b"data: [DONE]\n\n") + b"0\r\n\r\n",
}


@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("slow", [None, *HOOKS], ids=lambda each: str(each and each.name))
def test_l12_a_tool_leaves_in_any_moment(
    core: Core, way: Callable[[Core], Callable[[], None]], reply: bytes, slow: type[commands.StartHook] | None
) -> None:
    """L12, H04: between packets, and while a hook of any step waits: one end, nothing under way, nobody suspended."""
    core.slow_hooks = (slow,) if slow else ()
    leave = way(core)
    if core.opening:
        server = core.opened()
        core.receive(server, reply)
    leave()
    go_on(core)
    for opening in core.opening:
        core.feed(events.OpenConnectionCompleted(opening, "client disconnected"))
    go_on(core)
    assert is_at_rest(core)


# -- the upstream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, LONG], ids=["all-sent", "rest-unsent"])
@pytest.mark.parametrize("together", [True, False], ids=["one-packet", "two-packets"])
@pytest.mark.parametrize(
    "slow", [None, HttpResponseHeadersHook, HttpResponseHook], ids=lambda each: str(each and each.name)
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_reply_is_whole_although_the_rest_of_its_request_is_refused(
    core: Core, body: bytes, together: bool, slow: type[commands.StartHook] | None, stream: bool
) -> None:
    """RFC 9113, section 8.1: an upstream may answer early, and reset the stream with NO_ERROR. That is no cut."""
    core.slow_hooks = (slow,) if slow else ()
    core.post("/v1/chat/completions", json.loads(body) | {"stream": stream})
    vendor = Vendor(core)
    assert vendor.whole_requests() == ([1] if body is BODY else [])
    reply = OUTPUT + b"data: [DONE]\n\n" if stream else ANSWER
    vendor.answer(reply, stream=stream)
    if not together:
        vendor.flush()
    vendor.flush(reset_frame(1))
    go_on(core)
    assert reply in core.to_client.replace(b"%x\r\n%s\r\n" % (len(reply), reply), reply)
    assert not stream or core.to_client.endswith(b"0\r\n\r\n")
    assert is_at_rest(core)
    assert core.journal.told == [1]
    core.ask(stream=False)  # the connection of the tool goes on
    assert len(ends(core)) == 2
