"""An attempt by itself: events in, commands out, and what it tells the tool's stream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseData, ResponseEndOfMessage, ResponseProtocolError

from tests.support.layer import STREAM_HEAD, Core, ToolStream, chunk, pooled_call
from understudy.failover.steps import Attempt, Continue, Outcome
from understudy.model.pool import Budget
from understudy.model.verdict import Label, Verdict
from understudy.proxy import upstream_connection
from understudy.proxy.attempt import (
    AttemptEvent,
    AttemptLayer,
    Begin,
    Crashed,
    Decided,
    Failed,
    Halted,
    NotSent,
    Silent,
)
from understudy.proxy.pooled_call import PooledCall
from understudy.replies.hold import Held, Secret
from understudy.replies.reply import FaultKind

TOOL = 7
LIMITED = b"HTTP/1.1 429 No\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n"
OUTPUT = b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n'


class Room:
    """An HTTP layer with a tool's stream in it, and attempts beside that."""

    def __init__(self, core: Core, *, stream: bool = False) -> None:
        self.core = core
        self.tool = ToolStream(core, TOOL)
        self.call: PooledCall = pooled_call(core, stream=stream)
        step = self.call.exchange.begin(core.now)
        assert isinstance(step, Attempt)
        self.step = step

    def begin(self, step: Attempt) -> AttemptLayer:
        """Begin an attempt."""
        attempt = AttemptLayer(self.core.layer, TOOL, self.call, step)
        self.core.carry_out(self.core.layer.event_to_child(attempt, Begin(attempt.stream_id)))
        return attempt

    def other(self) -> Attempt:
        """A second attempt, with the second candidate."""
        candidate = self.call.plan.route.candidates("gpt-x", "openai")[1]
        return Attempt(2, candidate, ticket=99)

    @property
    def told(self) -> list[tuple[type[events.Event], int]]:
        """What the tool's stream was told, and by which attempt."""
        return [(type(each), each.attempt.step.number) for each in self.tool.seen if isinstance(each, AttemptEvent)]


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(Budget(first_event=5, seconds=50))
    yield made
    made.uninstall()


def test_a_request_goes_out_and_its_reply_is_told_once(core: Core) -> None:
    """Law 1, law 8: the secret is on the wire; the whole error is held, and nothing of it goes to the tool."""
    room = Room(core)
    attempt = room.begin(room.step)
    assert core.sent == {}
    server = core.opened()
    assert b"Bearer sk-secret-0-0123456789" in core.sent["u0.test"]
    assert attempt.is_on_the_wire
    core.receive(server, LIMITED + b"no")
    assert room.told == []
    core.receive(server, b"no")
    assert room.told == [(Decided, 1)]
    assert isinstance(decided := room.tool.seen[-1], Decided)
    assert decided.held is Held.REPLY
    assert (attempt.body, attempt.is_complete, attempt.is_on_the_wire) == (b"nono", True, False)
    assert core.to_client == b""
    room.tool.act(attempt.cancel())
    assert core.closed == []  # its connection can serve another
    assert attempt.stream_id not in core.layer.streams


def test_two_attempts_at_once_hold_their_own_replies(core: Core) -> None:
    """S10: each upstream's events reach its own attempt, in any order, and the end of one leaves the other alone."""
    room = Room(core, stream=True)
    first = room.begin(room.step)
    one = core.opened()
    core.receive(one, STREAM_HEAD + chunk(b": a\n\n"))
    second = room.begin(room.other())
    core.receive(one, chunk(b": aa\n\n"))
    two = core.opened()
    core.receive(two, STREAM_HEAD + chunk(b": b\n\n"))
    core.receive(one, chunk(b": aaa\n\n"))
    core.receive(two, chunk(OUTPUT % b"two"))
    assert room.told == [(Decided, 2)]
    assert (first.server, second.server) == (one, two)
    assert b"sk-secret-0" in core.sent["u0.test"]
    assert b"sk-secret-1" in core.sent["u1.test"]
    assert (first.secret, second.secret) == (
        Secret("c0", "sk-secret-0-0123456789"),
        Secret("c1", "sk-secret-1-0123456789"),
    )
    assert (first.body, second.body) == (b": a\n\n: aa\n\n: aaa\n\n", b": b\n\n" + OUTPUT % b"two")
    room.tool.act(first.cancel())
    assert core.closed == [one]
    core.receive(one, chunk(OUTPUT % b"ghost"))
    core.receive(two, chunk(OUTPUT % b"more"))
    assert room.told == [(Decided, 2)]
    assert b"ghost" not in first.body + second.body
    assert second.body.endswith(OUTPUT % b"more")


def test_an_attempt_that_connects_holds_up_no_other(core: Core) -> None:
    """S01: the first shows output while the second waits for its connection, and that is told at once."""
    room = Room(core, stream=True)
    room.begin(room.step)
    one = core.opened()
    second = room.begin(room.other())
    assert core.opening
    core.receive(one, STREAM_HEAD + chunk(OUTPUT % b"one"))
    assert room.told == [(Decided, 1)]
    room.tool.act(second.cancel())
    core.opened()
    assert "u1.test" not in core.sent
    assert len(core.layer.streams) == 2  # the tool's, and the first attempt


@pytest.mark.parametrize("open_first", [True, False])
def test_two_attempts_at_one_http1_upstream_have_a_connection_each(core: Core, open_first: bool) -> None:
    """S10: HTTP/1 has room for one at a time: the second does not get into the first one's connection."""
    room = Room(core, stream=True)
    room.begin(room.step)
    one = core.opened() if open_first else None
    room.begin(Attempt(2, room.step.candidate, ticket=99))
    one = one or core.opened()
    two = core.opened()
    assert (one.address, two.address) == (("u0.test", 80), ("u0.test", 80))
    assert one is not two
    assert core.sent["u0.test"].count(b"POST ") == 2
    core.receive(two, STREAM_HEAD + chunk(OUTPUT % b"two"))
    assert room.told == [(Decided, 2)]


def test_o08_an_exception_while_a_connection_is_looked_for_ends_the_attempt(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O08: mitmproxy looks for it, and an exception there would leave the attempt waiting for good."""

    def fail(client: object) -> bool:
        raise RuntimeError("for this test")

    room = Room(core)
    room.begin(room.step)
    core.opened()
    with monkeypatch.context() as broken:
        broken.setattr(upstream_connection, "is_taken", fail)
        room.begin(Attempt(2, room.step.candidate, ticket=99))
    core.opened()
    assert room.told == [(Crashed, 2)]
    assert core.sent["u0.test"].count(b"POST ") == 1


def test_silence_is_told_while_another_is_left(core: Core) -> None:
    """L10: the time-out is the attempt's own."""
    room = Room(core, stream=True)
    room.begin(room.step)
    core.opened()
    core.pass_time(4.9)
    assert room.told == []
    core.pass_time(0.1)
    assert room.told == [(Silent, 1)]
    # Whoever is told decides; the attempt itself goes on, and says it again only when it is asked to watch again.
    core.pass_time(100)
    assert len(room.told) == 1


@pytest.mark.parametrize(
    ("received", "kind"),
    [
        (b"", FaultKind.CLOSED),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{", FaultKind.CUT),
    ],
)
def test_a_connection_that_is_closed_is_a_fault(core: Core, received: bytes, kind: FaultKind) -> None:
    """L09: before or after the headers."""
    room = Room(core)
    attempt = room.begin(room.step)
    server = core.opened()
    if received:
        core.receive(server, received)
    core.cut(server)
    assert room.told == [(Failed, 1)]
    assert isinstance(failed := room.tool.seen[-1], Failed)
    assert failed.fault.kind is kind
    assert not attempt.is_on_the_wire


def test_no_connection_is_a_fault_and_nothing_was_sent(core: Core) -> None:
    """L09: told with the reason."""
    room = Room(core)
    attempt = room.begin(room.step)
    core.opened("refused")
    assert isinstance(failed := room.tool.seen[-1], Failed)
    assert (failed.fault.kind, failed.fault.sent, failed.fault.message) == (FaultKind.CONNECT, False, "refused")
    assert (attempt.server, core.sent) == (None, {})


def test_a_secret_that_is_not_there_is_told(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """L06: nothing is opened or sent."""
    room = Room(core)

    def nothing(_: object, __: str) -> Secret:
        raise ValueError("for this test")

    monkeypatch.setattr(AttemptLayer, "secret_for", nothing)
    room.begin(room.step)
    assert isinstance(said := room.tool.seen[-1], NotSent)
    assert (said.label, said.reason) == (Label.REQUEST_INVALID, "for this test")
    assert (core.opening, core.sent) == ([], {})


def test_a_flow_that_was_killed_is_not_sent(core: Core) -> None:
    """Somebody killed the flow while the connection was made."""
    room = Room(core)
    room.begin(room.step)
    room.call.flow.kill()
    core.opened()
    assert room.told == [(Halted, 1)]
    assert core.sent == {}


def test_what_comes_after_the_decision_belongs_to_the_reply(core: Core) -> None:
    """The stream may be busy: what came meanwhile is handed over with the reply; the rest goes to the stream itself."""
    room = Room(core, stream=True)
    attempt = room.begin(room.step)
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(OUTPUT % b"one"))
    core.receive(server, chunk(OUTPUT % b"two"))
    assert room.told == [(Decided, 1)]
    held = attempt.hand_over(room.tool)  # type: ignore[arg-type] # a stream in its place
    assert b"".join(each.data for each in held if isinstance(each, ResponseData)) == OUTPUT % b"one" + OUTPUT % b"two"
    assert {getattr(each, "stream_id", None) for each in held} == {TOOL}
    assert (attempt.held, attempt.sent) == ([], None)
    core.receive(server, chunk(OUTPUT % b"three") + chunk(b""))
    rest = room.tool.seen[1:]
    assert [type(each) for each in rest] == [ResponseData, ResponseEndOfMessage]
    core.pass_time(100)
    assert len(room.tool.seen) == 3


def test_a_cut_after_the_decision_belongs_to_the_reply(core: Core) -> None:
    """S04: it is not lost while the stream is busy."""
    room = Room(core, stream=True)
    attempt = room.begin(room.step)
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(OUTPUT % b"one"))
    core.cut(server)
    assert room.told == [(Decided, 1)]
    assert isinstance(attempt.held[-1], ResponseProtocolError)


def test_a_reset_behind_a_whole_reply_is_no_part_of_it(core: Core) -> None:
    """RFC 9113, section 8.1: an upstream that has answered may refuse the rest of the request."""
    room = Room(core)
    attempt = room.begin(room.step)
    core.receive(core.opened(), LIMITED + b"nono")
    late = ResponseProtocolError(attempt.stream_id, "stream reset by client (NO_ERROR)", ErrorCode.GENERIC_SERVER_ERROR)
    core.carry_out(core.layer.event_to_child(attempt, late))
    assert room.told == [(Decided, 1)]
    assert attempt.is_complete


def test_a_reply_that_is_kept_ends_where_it_was_left(core: Core) -> None:
    """W05: whatever length it announced."""
    room = Room(core)
    attempt = room.begin(room.step)
    core.receive(core.opened(), LIMITED + b"no")
    room.tool.act(attempt.cancel())
    attempt.end_here()
    assert attempt.is_complete
    assert attempt.head is not None
    assert "content-length" not in attempt.head.response.headers
    assert attempt.body == b"no"


def test_no_representation_shows_a_secret(core: Core) -> None:
    """R07: mitmproxy writes events, commands and layers into its log with `proxy_debug`."""
    room = Room(core)
    attempt = room.begin(room.step)
    core.receive(core.opened(), LIMITED + b"no")
    said = NotSent(TOOL, attempt, Label.CREDENTIAL_REJECTED, "r", "sk-secret-0-0123456789")
    texts = [repr(attempt), repr(room.call), repr(Decided(TOOL, attempt, Held.REPLY)), repr(said), repr(Begin(3))]
    assert not [text for text in texts if "sk-secret" in text or "Bearer tool" in text]


def test_a_trace_masks_the_secrets_of_all_attempts(core: Core) -> None:
    """R07: an error that comes with the second attempt may repeat what the first one went out with."""
    room = Room(core)
    room.begin(room.step)
    room.begin(room.other())
    core.opened()
    core.opened()
    text = room.call.trace(RuntimeError("sk-secret-0-0123456789, sk-secret-1-0123456789 and Bearer tool"))
    assert "sk-secret" not in text
    assert "<understudy:c0>, <understudy:c1>" in text


def test_a_server_is_the_attempts_own(core: Core) -> None:
    """O05: a record names the connection that the attempt had, whichever the flow shows by then."""
    room = Room(core)
    attempt = room.begin(room.step)
    server = core.opened()
    core.receive(server, LIMITED + b"nono")
    room.call.flow.server_conn = Server(address=("elsewhere.test", 80))
    record = attempt.record(None)
    assert record is not None
    assert record.server_conn is server


def test_a_record_shows_no_end_that_the_upstream_did_not_send(core: Core) -> None:
    """O05: a reply that is ended here for the tool announced more, and its record says so, whenever it is asked for."""
    room = Room(core)
    attempt = room.begin(room.step)
    core.receive(core.opened(), LIMITED + b"no")
    told = attempt.abandoned(Outcome(room.step, Verdict(Label.UNKNOWN, "test"), 429, None, 0), Continue(), None)
    attempt.end_here()
    assert attempt.is_complete
    record = told.record
    assert record is not None
    assert record.response is not None
    assert (record.response.content, record.response.headers["content-length"]) == (b"no", "4")
    assert attempt.head is not None
    assert "content-length" not in attempt.head.response.headers


# -- H04: what ends behind a tool that has gone ----------------------------------------------------------------------


def test_h04_a_connect_that_ends_with_the_tool_is_no_fault(core: Core) -> None:
    """H04: mitmproxy ends it with "client disconnected", before the stream of an HTTP/2 tool hears of anything."""
    room = Room(core)
    room.begin(room.step)
    core.client.state = ConnectionState.CLOSED
    core.opened("client disconnected")
    assert room.told == []
    assert core.alarms == [] or all(at > core.now for at, _ in core.alarms)


@pytest.mark.parametrize("head", [b"", STREAM_HEAD, STREAM_HEAD + chunk(b": hello\n\n")], ids=["sent", "head", "hold"])
@pytest.mark.parametrize("is_there", [False, True], ids=["gone", "there"])
def test_h04_an_upstream_that_is_closed_behind_a_tool_is_no_fault(core: Core, head: bytes, is_there: bool) -> None:
    """H04: mitmproxy closes what a tool has left open; the same close is a fault while the tool is there."""
    room = Room(core, stream=True)
    room.begin(room.step)
    server = core.opened()
    if head:
        core.receive(server, head)
    if not is_there:
        core.client.state = ConnectionState.CLOSED
    core.cut(server)
    assert room.told == ([(Failed, 1)] if is_there else [])


# -- H05: one byte at a time -----------------------------------------------------------------------------------------


def test_h05_a_body_that_comes_by_the_byte_is_held_in_larger_pieces(core: Core) -> None:
    """H05: an object for each byte took 1.3 GiB for 8 MiB."""
    room = Room(core)
    attempt = room.begin(room.step)
    server = core.opened()
    body = bytes(range(256)) * 400
    core.receive(server, b"HTTP/1.1 500 No\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    for at in range(0, len(body), 1024):
        core.receive(server, b"".join(chunk(body[i : i + 1]) for i in range(at, min(at + 1024, len(body)))))
    assert attempt.body == body
    assert len(attempt.held) < 20
    core.receive(server, b"0\r\n\r\n")
    assert room.told == [(Decided, 1)]
    assert attempt.is_complete
    assert attempt.body == body


# -- connections that are not used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "upstream", "left"), [(b"h2", b"", True), (b"", b"", False), (b"h2", b"h2", False)])
def test_an_unused_http1_connection_of_an_http2_tool_is_let_go(
    core: Core, tool: bytes, upstream: bytes, left: bool
) -> None:
    """The attempt was given up while it connected: mitmproxy would give the connection to no other request."""
    room = Room(core)
    attempt = room.begin(room.step)
    core.client.alpn = tool
    core.carry_out(attempt.cancel())
    core.opening[0].connection.alpn = upstream
    server = core.opened()
    assert core.sent.get("u0.test", b"").count(b"POST") == 0
    assert (server in core.closed) is left
