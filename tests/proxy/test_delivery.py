"""What the tool gets: a reply in, mitmproxy's commands out, with a stream of mitmproxy's own in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mitmproxy import http
from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpResponseHeadersHook, HttpResponseHook

from tests.support.layer import Core, pooled_call
from understudy.dialects import DIALECTS
from understudy.failover.steps import Attempt, Refuse, Release
from understudy.model.pool import Budget
from understudy.proxy.attempt import AttemptLayer
from understudy.proxy.delivery import Delivery
from understudy.replies.hold import Hold, Secret

TOOL = 7
SECRET = Secret("c0", "sk-secret-0-0123456789")
OUTPUT = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Desk:
    """A delivery, the stream that it serves, and an attempt whose reply is held."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.stream = HttpStream(core.layer.context.fork(), TOOL)
        self.call = pooled_call(core, stream=True)
        self.stream.flow = self.call.flow
        self.stream.client_state = self.stream.state_done
        self.delivery = Delivery(self.stream, self.call)
        step = self.call.exchange.begin(core.now)
        assert isinstance(step, Attempt)
        self.attempt = AttemptLayer(core.layer, TOOL, self.call, step)

    def hold(self, status: int, kind: str, *body: bytes, end: bool = False, encoding: str = "") -> None:
        """The attempt holds a reply."""
        headers = {"content-encoding": encoding} if encoding else {}
        attempt, plan = self.attempt, self.call.plan
        response = http.Response.make(status, b"", {"content-type": kind, **headers})
        response.headers.pop("content-length", None)
        attempt.hold = Hold(plan.recognised, plan.call, attempt.step.candidate, SECRET)
        attempt.hold.start(status, [("content-type", kind), *headers.items()])
        attempt.head = ResponseHeaders(attempt.stream_id, response)
        attempt.keep(attempt.head)
        for part in body:
            attempt.hold.data(part)
            attempt.keep(ResponseData(attempt.stream_id, part))
        if end:
            attempt.hold.end()
            attempt.keep(ResponseEndOfMessage(attempt.stream_id))

    def release(self, *, live: bool = False) -> list[commands.Command]:
        """Release it, after it was accepted."""
        self.call.exchange.accept()
        return run(self.delivery.release(self.attempt, Release(1), live=live))

    def receive(self, event: HttpEvent) -> list[commands.Command]:
        """The stream gets another event of the released reply."""
        return run(self.stream.server_state(event))


def run(wanted: CommandGenerator[object]) -> list[commands.Command]:
    """The commands, with every hook completed at once."""
    return list(wanted)


def names(found: list[commands.Command]) -> list[str]:
    """What the commands are, without log lines."""
    kept = [each for each in found if not isinstance(each, commands.Log)]
    return [type(each.event).__name__ if isinstance(each, SendHttp) else type(each).__name__ for each in kept]


@pytest.fixture
def desk() -> Iterator[Desk]:
    core = Core(Budget())
    yield Desk(core)
    core.uninstall()


def test_a_whole_reply_goes_out_after_its_hooks(desk: Desk) -> None:
    """W05: status and body as they came, under the tool's own stream id, each hook once."""
    desk.hold(200, "application/json", b'{"a":', b"1}", end=True)
    found = desk.release()
    assert names(found) == [
        "HttpResponseHeadersHook",
        "HttpResponseHook",
        "ResponseHeaders",
        "ResponseData",
        "DropStream",
        "ResponseEndOfMessage",
    ]
    sent = [each.event for each in found if isinstance(each, SendHttp)]
    assert {each.stream_id for each in sent} == {TOOL}
    assert [each.data for each in sent if isinstance(each, ResponseData)] == [b'{"a":1}']
    assert desk.core.journal.told == [1]
    assert desk.delivery.has_begun


def test_a_released_stream_costs_a_chunk_one_command_and_no_hook(desk: Desk) -> None:
    """Law 1: live from the release on; what was held goes out first, and no chunk passes mitmproxy's own state."""
    desk.hold(200, "text/event-stream", OUTPUT)
    assert not desk.delivery.has_begun
    assert names(desk.release()) == ["HttpResponseHeadersHook", "ResponseHeaders", "ResponseData"]
    assert desk.stream.server_state == desk.delivery.state_released
    for number in range(3):
        data = b"data: %d\n\n" % number
        [command] = desk.receive(ResponseData(TOOL, data))
        assert isinstance(command, SendHttp)
        assert isinstance(command.event, ResponseData)
        assert command.event.data == data
    assert desk.delivery.tail is not None
    assert desk.delivery.tail.content() == OUTPUT + b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert desk.core.layer.streams[desk.attempt.stream_id] is desk.stream
    desk.receive(ResponseData(TOOL, DONE))
    end = desk.receive(ResponseEndOfMessage(TOOL))
    assert [type(each) for each in end] == [HttpResponseHook, DropStream, SendHttp]


def test_a_kept_stream_is_in_the_flow_at_its_end(desk: Desk) -> None:
    """`pool_keep_streams`: up to the bound, and not in mitmproxy's own buffer."""
    desk.core.engine.keep_stream = len(OUTPUT) + 1
    desk.hold(200, "text/event-stream", OUTPUT)
    desk.release()
    for _ in range(3):
        desk.receive(ResponseData(TOOL, DONE))
    desk.receive(ResponseEndOfMessage(TOOL))
    assert desk.stream.flow.response is not None
    assert desk.stream.flow.response.raw_content == OUTPUT + DONE
    assert not desk.stream.response_body_buf


def test_a_cut_that_came_before_the_release_reaches_the_tool(desk: Desk) -> None:
    """S04: never as a clean end."""
    desk.hold(200, "text/event-stream", OUTPUT)
    desk.attempt.keep(ResponseProtocolError(desk.attempt.stream_id, "cut", ErrorCode.GENERIC_SERVER_ERROR))
    found = desk.release()
    assert names(found)[-3:] == ["HttpErrorHook", "ResponseProtocolError", "DropStream"]
    assert HttpErrorHook in [type(each) for each in found]


def test_a_reply_that_cannot_be_masked_is_not_touched(desk: Desk) -> None:
    """R06: nothing goes out, and the attempt keeps what it holds."""
    desk.hold(200, "application/json", b"\x1f\x8b rest", encoding="gzip")
    assert desk.attempt.hold is not None
    desk.attempt.hold.body += b'{"echo": "%s"' % SECRET.value.encode()
    assert names(desk.release()) == []
    assert (desk.delivery.released, len(desk.attempt.held)) == (None, 2)
    assert desk.core.journal.told == []
    assert not desk.delivery.has_begun


def test_an_answer_of_our_own_is_no_reply_of_an_attempt(desk: Desk) -> None:
    """W03, law 4: it has the hooks that any response has, and its end proves nothing of the candidate."""
    desk.hold(200, "application/json", b"{}", end=True)
    desk.delivery.released = desk.attempt
    found = run(desk.delivery.refuse(Refuse(503, "understudy: no", 5), DIALECTS["openai"]))
    assert names(found)[:3] == ["HttpResponseHeadersHook", "HttpResponseHook", "ResponseHeaders"]
    assert desk.stream.flow.response is not None
    assert (desk.stream.flow.response.status_code, desk.stream.flow.response.headers["retry-after"]) == (503, "5")
    assert desk.delivery.released is None
    assert desk.core.journal.told == [0]


def test_a_flow_that_is_killed_at_its_answer_gets_none(desk: Desk) -> None:
    """O08: another addon kills the flow when it sees the headers."""
    wanted = desk.delivery.respond(http.Response.make(400))
    hook = next(wanted)
    assert isinstance(hook, HttpResponseHeadersHook)
    desk.stream.flow.kill()
    assert "ResponseHeaders" not in names(list(wanted))
    assert desk.stream.server_state == desk.stream.state_errored


# -- pool_mask_streams -----------------------------------------------------------------------------------------------


ECHO = b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % SECRET.value.encode()


def passed(desk: Desk, *pieces: bytes) -> bytes:
    """What the tool gets of a stream: the first piece is held, the others come afterwards; without its end."""
    desk.hold(200, "text/event-stream", pieces[0])
    sent = desk.release(live=True)
    for piece in pieces[1:]:
        for event in desk.delivery.masked(ResponseData(desk.attempt.stream_id, piece)):
            sent += desk.receive(event)
    events = [each.event for each in sent if isinstance(each, SendHttp)]
    return b"".join(event.data for event in events if isinstance(event, ResponseData))


@pytest.mark.parametrize("kept", [0, 1000])
@pytest.mark.parametrize("wanted", [True, False])
def test_h03_live_streams_are_masked_for_the_tool_unless_the_owner_says_no(desk: Desk, wanted: bool, kept: int) -> None:
    """H03, `pool_mask_streams`: off, the tool gets the bytes of the upstream, but where a flow keeps them as well."""
    desk.call.engine.mask_streams, desk.call.engine.keep_stream = wanted, kept
    got = passed(desk, OUTPUT, ECHO)
    assert (got == OUTPUT + ECHO) is not (wanted or kept > 0)
    assert (SECRET.value.encode() in got) is not (wanted or kept > 0)


def test_h03_what_was_kept_back_is_not_lost_where_nothing_is_masked(desk: Desk) -> None:
    """`pool_mask_streams` off: the held beginning ends in what may become a secret, and goes on."""
    desk.call.engine.mask_streams = False
    at = ECHO.index(SECRET.value.encode()) + 8
    assert passed(desk, OUTPUT + ECHO[:at], ECHO[at:]) == OUTPUT + ECHO


@pytest.mark.parametrize("mended", [True, False])
def test_h03_a_stream_that_a_script_changes_is_masked(desk: Desk, mended: bool) -> None:
    """`pool_mask_streams` off: what another addon sees of a stream is masked all the same."""
    desk.call.engine.mask_streams = False
    if mended:
        desk.stream.context.options.update(store_streamed_bodies=True)
    got = passed(desk, OUTPUT, ECHO)
    assert (SECRET.value.encode() in got) is not mended
