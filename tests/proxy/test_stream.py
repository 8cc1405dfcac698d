"""The layer as a script of events in and commands out: what real time or a real network cannot show."""

from __future__ import annotations

import gc
import gzip
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, override

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpResponseHeadersHook, HttpResponseHook
from mitmproxy.proxy.layers.http._http1 import Http1Client

from tests.support.layer import STREAM_HEAD, Core, chunk
from understudy.config.secrets.command import CommandSecret
from understudy.failover.steps import Attempt
from understudy.inspection.journal import FlowJournal
from understudy.model.pool import Budget, Choice, Mode, SecretSource
from understudy.model.secret import SecretError
from understudy.model.suspension import BY_HAND, Key, Suspension
from understudy.model.verdict import Label, Scope
from understudy.proxy.attempt import STALL_LIMIT
from understudy.proxy.attempt_flow import attempt_flow
from understudy.proxy.engine import CONNECT_LIMIT, LARGE, LARGE_ENCODED, is_large
from understudy.proxy.install import install
from understudy.proxy.listener import Aside, UnderstudyAsideHook, UnderstudyAttemptHook, UnderstudySecretHook
from understudy.proxy.stream import ReplayStream
from understudy.proxy.timeouts import Alarm
from understudy.requests import rewrite
from understudy.requests.sealed import parts_in


@pytest.fixture
def cores() -> Iterator[list[Core]]:
    """Cores that are taken apart after the test."""
    made: list[Core] = []
    yield made
    for core in made:
        core.uninstall()


def start(
    cores: list[Core],
    budget: Budget | None = None,
    credentials: int = 2,
    *,
    stream: bool = False,
    first: SecretSource | None = None,
) -> Core:
    """A core with the tool's request in it; ``first``: where the secret of the first candidate comes from."""
    core = Core(budget or Budget(), credentials, first)
    cores.append(core)
    core.ask(stream=stream)
    return core


DONE = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\ndata: [DONE]\n\n'
ANSWER = b'{"choices": [{"message": {"content": "hi"}}]}'
OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


def test_transparent_mode_goes_by_the_name(cores: list[Core]) -> None:
    """O06: in transparent mode the address is an IP, and the name of the call is its SNI."""
    core = start(cores)
    server = core.opened()
    assert server.address == ("u0.test", 80)
    assert b"authorization: Bearer sk-secret-0-0123456789" in core.sent["u0.test"].replace(
        b"Authorization", b"authorization"
    )
    assert b"Bearer tool" not in core.sent["u0.test"]
    assert b"host: u0.test\r\n" in core.sent["u0.test"].lower()
    core.receive(server, OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)
    assert core.names().count(HttpResponseHeadersHook) == core.names().count(HttpResponseHook) == 1
    assert UnderstudyAttemptHook not in core.names()


def test_an_upstream_that_drops_packets_is_given_up(cores: list[Core]) -> None:
    """L09: no connection within the limit: it is closed, and the next candidate is tried."""
    core = start(cores)
    first = core.opening[0].connection
    first.timestamp_start = core.now  # mitmproxy is dialling
    core.pass_time(CONNECT_LIMIT - 1)
    assert core.closed == []
    core.pass_time(1)
    assert core.closed == [first]
    core.opened("closed by command")
    assert "within 10 s" in str(core.hooks[-1].args()[0].outcome.verdict)
    server = core.opened()
    assert server.address == ("u1.test", 80)
    core.receive(server, OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)


def test_first_event_cuts_only_while_another_is_left(cores: list[Core]) -> None:
    """L10: a streamed request without any byte of a reply is cut at first_event; the last candidate never is."""
    core = start(cores, Budget(first_event=5, hedge_after=0, seconds=1000), stream=True)
    first = core.opened()
    core.pass_time(5)
    assert core.closed == [first]
    second = core.opened()
    for _ in range(20):
        core.pass_time(100)
    assert core.closed == [first]
    core.receive(second, STREAM_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"late"}}]}\n\n'))
    assert b"late" in core.to_client


SAID = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n'


def test_a_stream_with_headers_and_nobody_else_is_not_cut(cores: list[Core]) -> None:
    """L10: with a single candidate nothing is cut, and when nothing could be replayed any more it is released."""
    core = start(cores, Budget(first_event=5, seconds=55), credentials=1, stream=True)
    first = core.opened()
    core.receive(first, STREAM_HEAD)
    core.pass_time(5)
    core.pass_time(40)
    assert core.closed == []
    assert core.to_client == b""
    core.pass_time(11)
    assert core.to_client.startswith(b"HTTP/1.1 200 OK")
    assert core.closed == []


SILENCES = {"nothing": b"", "headers": STREAM_HEAD, "comment": STREAM_HEAD + chunk(b": thinking\n\n")}


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("winner", [0, 1])
def test_a05_a_silent_candidate_has_company(cores: list[Core], silence: str, winner: int) -> None:
    """A05: B is asked as well, the first to show output wins, the other is cancelled, and nobody is suspended."""
    core = start(cores, stream=True)
    servers = [core.opened()]
    if SILENCES[silence]:
        core.receive(servers[0], SILENCES[silence])
    core.pass_time(14.9)
    assert len(core.opening) == 0
    if silence == "comment":
        core.receive(servers[0], chunk(b": still thinking\n\n"))
    core.pass_time(0.1)
    servers.append(core.opened())
    assert [server.address for server in servers] == [("u0.test", 80), ("u1.test", 80)]
    assert core.closed == []
    # A first event that is no output says that somebody is at work, and decides nothing.
    head = b"" if winner == 0 and SILENCES[silence] else STREAM_HEAD
    core.receive(servers[winner], head + chunk(b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'))
    assert core.to_client == b""
    core.receive(servers[winner], chunk(SAID % b"winner"))
    assert b"winner" in core.to_client
    assert core.closed == [servers[1 - winner]]
    core.receive(servers[1 - winner], chunk(SAID % b"loser"))
    core.receive(servers[winner], chunk(b"data: [DONE]\n\n") + chunk(b""))
    assert b"loser" not in core.to_client
    assert core.to_client.endswith(b"0\r\n\r\n")
    assert len(core.engine.suspensions) == 0
    [abandoned] = [hook.args()[0] for hook in core.hooks if isinstance(hook, UnderstudyAttemptHook)]
    assert (abandoned.outcome.word, abandoned.outcome.attempt.candidate.credential.name) == ("hedged", f"c{1 - winner}")
    assert abandoned.record is not None
    assert len(core.layer.streams) == 0


def test_a05_two_at_a_time(cores: list[Core]) -> None:
    """A05: law 10: three candidates, two at a time: the oldest silent one makes room for the third."""
    core = start(cores, credentials=3, stream=True)
    first = core.opened()
    core.pass_time(15)
    second = core.opened()
    core.pass_time(15)
    third = core.opened()
    assert (core.closed, third.address) == ([first], ("u2.test", 80))
    core.receive(second, STREAM_HEAD + chunk(SAID % b"second"))
    assert core.closed == [first, third]
    assert b"second" in core.to_client


def test_a05_a_failure_beside_a_silent_candidate(cores: list[Core]) -> None:
    """A05: B fails at once; A goes on, and with B's real reply in hand A has `first_event`; then the tool gets it."""
    refused = b'{"error": {"code": "insufficient_quota"}}'
    head = b"HTTP/1.1 429 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(refused)
    core = start(cores, stream=True)
    first = core.opened()
    core.pass_time(15)
    second = core.opened()
    core.receive(second, head + refused)
    assert core.to_client == b""
    core.pass_time(29.9)
    assert core.to_client == b""
    core.pass_time(0.1)
    assert core.closed == [first]
    assert core.to_client.endswith(refused)


def test_a05_both_silent(cores: list[Core]) -> None:
    """A05: bounded by the budget, and never released as an empty success."""
    for silence in SILENCES.values():
        core = start(cores, stream=True)
        servers = [core.opened()]
        core.receive(servers[0], silence)
        core.pass_time(15)
        servers.append(core.opened())
        core.receive(servers[1], silence)
        for _ in range(79):
            core.pass_time(0.5)
        assert core.to_client == b""
        core.pass_time(0.5)
        assert core.to_client.startswith(b"HTTP/1.1 503")
        assert {server.id for server in core.closed} == {server.id for server in servers}
        assert len(core.layer.streams) == 0


def test_a05_a_candidate_that_comes_back_is_asked_as_well(cores: list[Core]) -> None:
    """A05: nobody is free when the time has come; a second later somebody is."""
    core = start(cores, stream=True)
    core.opened()
    key = Key(Scope.CANDIDATE, "c1", "gpt-x")
    core.engine.suspensions.suspend(Suspension(key, core.now, core.now + 16.5, Label.OVERLOADED, "test/overloaded"))
    core.pass_time(15)
    core.pass_time(1)
    assert core.opening == []
    core.pass_time(1)
    assert core.opened().address == ("u1.test", 80)


def test_l12_a_tool_that_leaves_two_attempts(cores: list[Core]) -> None:
    """L12: both are cancelled, nobody is suspended, nothing is left."""
    core = start(cores, stream=True)
    servers = [core.opened()]
    core.pass_time(15)
    servers.append(core.opened())
    core.client.state = ConnectionState.CAN_WRITE
    core.feed(events.ConnectionClosed(core.client))
    assert core.closed == servers
    assert len(core.engine.suspensions) == 0
    assert len(core.layer.streams) == 0


def test_plain_requests_wait_for_minutes(cores: list[Core]) -> None:
    """L10: a plain request that answers after three minutes is delivered, although another candidate is left."""
    core = start(cores)
    server = core.opened()
    core.pass_time(180)
    core.receive(server, OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)
    assert core.closed == []


def test_an_error_that_stalls_is_left(cores: list[Core]) -> None:
    """L10, law 10: an error reply whose body never comes is a fault while another candidate is left."""
    core = start(cores)
    first = core.opened()
    core.receive(first, b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nhalf")
    core.pass_time(STALL_LIMIT)
    assert core.closed == [first]
    second = core.opened()
    core.receive(second, OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)


def test_the_last_error_that_stalls_is_released(cores: list[Core]) -> None:
    """Law 10: with nobody else left the error is released as far as it came."""
    core = start(cores, credentials=1)
    only = core.opened()
    core.receive(only, b"HTTP/1.1 400 Bad\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nhalf")
    core.pass_time(STALL_LIMIT)
    assert core.closed == []
    core.receive(only, b"x" * 96)
    assert core.to_client.endswith(b"half" + b"x" * 96)


def test_a_kept_connection_that_was_closed_is_tried_again(cores: list[Core]) -> None:
    """A connection closed while idle says nothing about the upstream: one more try on a new one, nobody suspended."""
    core = start(cores)
    server = core.opened()
    server.timestamp_start = 1.0
    core.receive(server, OK_HEAD + ANSWER)
    core.ask(stream=False)
    assert core.opening == []  # reused
    server.state = ConnectionState.CAN_WRITE
    core.feed(events.ConnectionClosed(server))
    again = core.opened()
    assert again.address == ("u0.test", 80)
    core.receive(again, OK_HEAD + ANSWER)
    assert core.to_client.count(ANSWER) == 2
    assert len(core.engine.suspensions) == 0


def test_late_bytes_of_an_abandoned_attempt_are_nobodys(cores: list[Core]) -> None:
    """S10: what an abandoned upstream still sends does not leak into the next attempt."""
    core = start(cores, Budget(first_event=5, hedge_after=0), stream=True)
    first = core.opened()
    core.pass_time(5)
    second = core.opened()
    core.receive(first, STREAM_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"ghost"}}]}\n\n'))
    core.receive(second, STREAM_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"real"}}]}\n\n'))
    assert b"real" in core.to_client
    assert b"ghost" not in core.to_client


def test_the_client_leaves_while_connecting(cores: list[Core]) -> None:
    """L12: the tool goes away before the connection is there: nothing is sent, nobody is suspended."""
    core = start(cores)
    core.client.state = ConnectionState.CAN_WRITE
    core.feed(events.ConnectionClosed(core.client))
    core.opened()
    assert core.sent == {}
    assert core.opening == []
    assert len(core.engine.suspensions) == 0
    assert HttpErrorHook in core.names()


def test_the_client_leaves_during_a_pause(cores: list[Core]) -> None:
    """L12: the tool goes away while the same candidate waits to be tried once more: it is not tried."""
    core = start(cores)
    server = core.opened()
    error = b'{"error":{"message":"overloaded","code":"overloaded"}}'
    core.receive(
        server,
        b"HTTP/1.1 503 Busy\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(error) + error,
    )
    assert core.opening == []
    core.client.state = ConnectionState.CAN_WRITE
    core.feed(events.ConnectionClosed(core.client))
    before = dict(core.sent)
    core.pass_time(10)
    assert core.opening == []
    assert core.sent == before
    assert len(core.engine.suspensions) == 0


def test_w04_a_tool_that_gives_up_shares_its_budget_with_its_next_round(cores: list[Core]) -> None:
    """W04: it hangs up on a silent candidate and comes back on another connection: one attempt is left of two."""
    core = start(cores, Budget(attempts=2, wait=0), credentials=3)
    core.opened()
    core.client.state = ConnectionState.CAN_WRITE
    core.feed(events.ConnectionClosed(core.client))
    core.come_back()
    core.ask(stream=False)
    core.opened("refused")
    assert core.opening == []
    assert core.to_client.startswith(b"HTTP/1.1 503 ")


def test_w04_a_tool_that_stops_a_stream_was_answered(cores: list[Core]) -> None:
    """W04: the user pressed Escape and asks the same again: that is a new request, with a budget of its own."""
    core = start(cores, Budget(attempts=2, wait=0), credentials=3, stream=True)
    server = core.opened()
    output = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}}]}\n\n'
    core.receive(server, STREAM_HEAD + chunk(output))
    assert b"one" in core.to_client
    core.client.state = ConnectionState.CAN_WRITE
    core.feed(events.ConnectionClosed(core.client))
    core.come_back()
    core.ask(stream=True)
    core.opened("refused")
    assert len(core.opening) == 1


def test_nothing_outlives_its_request(cores: list[Core]) -> None:
    """After many requests neither streams nor time-outs are left, and one alarm at the most is pending."""
    core = start(cores, stream=True)
    server = core.opened()
    for _ in range(50):
        core.receive(server, STREAM_HEAD + chunk(DONE) + chunk(b""))
        core.ask(stream=True)
    assert len(core.layer.streams) == 2  # the request under way, under the tool's id and the upstream's
    assert len(core.alarms) <= 3
    assert not [each for each in core.layer.command_sources if not isinstance(each, Alarm)]


def test_a_released_stream_holds_nothing_that_only_deciding_needed(cores: list[Core]) -> None:
    """What an open stream keeps of its call: not the request as it was sent, nor the beginning of the reply."""
    core = start(cores, stream=True)
    server = core.opened()
    core.receive(server, STREAM_HEAD)
    (stream,) = (each for each in core.layer.streams.values() if isinstance(each, ReplayStream))
    (attempt,) = stream.attempts
    assert attempt.hold is not None and attempt.sent is not None and attempt.sent.data.content
    core.receive(server, chunk(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'))
    assert stream.delivery.released is attempt and stream.waiting is None
    assert attempt.sent is None and attempt.held == []
    assert attempt.hold.body == b"" and attempt.hold._reader is None
    below = [each.context.layers[-1] for each in core.layer.connections.values()]
    (upstream,) = (each for each in below if isinstance(each, Http1Client))
    assert upstream.request is not None
    assert upstream.request.data.content is None and upstream.request.headers.fields == ()
    parts = (attempt.timeout, stream.delivery.tail, stream.delivery.mask, stream.call)
    assert [each for each in parts if hasattr(each, "__dict__")] == []
    core.receive(server, chunk(DONE) + chunk(b""))
    assert b"Hi" in core.to_client and core.to_client.endswith(b"0\r\n\r\n")
    assert stream.attempts == []


def test_a_closed_connection_is_let_go(cores: list[Core]) -> None:
    """Nothing keeps the layer of a connection, and with it flows and secrets, once mitmproxy has dropped it."""
    core = start(cores, stream=True)
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(DONE) + chunk(b""))
    layer = weakref.ref(core.layer)
    for name in ("layer", "context", "hooks", "opening", "alarms", "closed"):
        delattr(core, name)
    gc.collect()
    assert layer() is None


class Printing(CommandSecret):
    """A command without a program: a test says what it has printed."""

    __slots__ = ("printed",)

    def __init__(self, printed: str = "") -> None:
        super().__init__(["helper"], Path("/"))
        self.printed = printed

    @override
    def at_hand(self, rejected: str = "") -> bool:
        return bool(self.printed) and self.printed != rejected

    @override
    def reveal(self) -> str:
        if not self.printed:
            raise SecretError(f"{self} failed")
        return self.printed


def printed(core: Core, source: Printing, secret: str) -> None:
    """The command that the layer waits for has printed this."""
    source.printed = secret
    core.feed(events.HookCompleted(core.held.pop(0), None))


REJECTED = b"HTTP/1.1 401 No\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def test_a_secret_that_is_at_hand_costs_no_hook(cores: list[Core]) -> None:
    """The hot path: nothing is waited for that is there already."""
    core = start(cores, first=Printing("sk-printed-0123456789"))
    core.receive(core.opened(), OK_HEAD + ANSWER)
    assert b"Bearer sk-printed-0123456789" in core.sent["u0.test"]
    assert UnderstudySecretHook not in core.names()


def test_nothing_is_sent_before_the_secret_is_there(cores: list[Core]) -> None:
    """L06: the layer waits for the addon, without a connection; then the request goes out with what was printed."""
    source = Printing()
    core = start(cores, first=source)
    assert (core.opening, core.sent) == ([], {})
    printed(core, source, "sk-printed-0123456789")
    core.receive(core.opened(), OK_HEAD + ANSWER)
    assert b"Bearer sk-printed-0123456789" in core.sent["u0.test"]
    assert core.to_client.endswith(ANSWER)


def test_a_401_asks_for_another_secret_once(cores: list[Core]) -> None:
    """L06: with another secret the same candidate is asked again; a second 401 is its last."""
    source = Printing("sk-first-0123456789")
    core = start(cores, first=source)
    server = core.opened()
    core.receive(server, REJECTED)
    (hook,) = core.held
    assert isinstance(hook, UnderstudySecretHook)
    assert (hook.fetch.source, hook.fetch.rejected) == (source, "sk-first-0123456789")
    assert "sk-first-0123456789" not in repr(hook)
    printed(core, source, "sk-second-0123456789")
    again = core.opened() if core.opening else server
    assert b"Bearer sk-second-0123456789" in core.sent["u0.test"]
    core.receive(again, REJECTED)
    assert core.held == []
    other = core.opened()
    assert other.address == ("u1.test", 80)
    core.receive(other, OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)


@pytest.mark.parametrize("then", ["sk-first-0123456789", ""])
def test_a_401_without_another_secret_goes_to_the_next(cores: list[Core], then: str) -> None:
    """L06: the same secret again, or a command that fails: it is not sent, and another credential is asked."""
    source = Printing("sk-first-0123456789")
    core = start(cores, first=source)
    core.receive(core.opened(), REJECTED)
    printed(core, source, then)
    assert core.opened().address == ("u1.test", 80)
    assert core.sent["u0.test"].count(b"POST ") == 1


def test_a_command_that_takes_all_the_time_begins_no_attempt(cores: list[Core]) -> None:
    """W08: no attempt begins after ``seconds``."""
    source = Printing()
    core = start(cores, Budget(seconds=55), first=source)
    core.now += 56
    printed(core, source, "sk-printed-0123456789")
    assert core.sent == {}
    assert b"did not end in time" in core.to_client


def test_a_tool_that_leaves_while_a_command_runs(cores: list[Core]) -> None:
    """L12: nothing is sent for it, and nothing of it is left."""
    source = Printing()
    core = start(cores, first=source)
    core.feed(events.ConnectionClosed(core.client))
    printed(core, source, "sk-printed-0123456789")
    assert (core.opening, core.sent, core.to_client) == ([], {}, b"")
    assert core.names().count(HttpErrorHook) == 1


def test_uninstall_leaves_mitmproxy_as_it_was() -> None:
    """The two methods are mitmproxy's own again, also after installing twice, and an old alarm does no harm."""
    before = HttpLayer.make_stream, HttpLayer._handle_event
    made: list[Core] = []
    core = start(made, Budget(first_event=5), stream=True)
    second = install(core.engine, core.journal)
    core.opened()
    second()
    core.uninstall()
    assert (HttpLayer.make_stream, HttpLayer._handle_event) == before
    assert ReplayStream.engine is None
    core.pass_time(100)


def test_without_an_engine_streams_are_plain(cores: list[Core]) -> None:
    """A request that no pool knows is passed exactly as mitmproxy passes it."""
    core = Core(Budget())
    cores.append(core)
    core.client.sni = "elsewhere.test"
    core.feed(
        events.DataReceived(
            core.client, b"GET /v1/models HTTP/1.1\r\nHost: elsewhere.test\r\nauthorization: Bearer tool\r\n\r\n"
        )
    )
    server = core.opened()
    assert server.address == ("192.0.2.1", 443)
    assert b"Bearer tool" in core.sent["192.0.2.1"]
    assert all(isinstance(stream, HttpStream) for stream in core.layer.streams.values())


def upgrade(core: Core, path: str, method: str = "GET", host: str = "api.openai.com") -> None:
    """The opening handshake of a WebSocket."""
    core.feed(
        events.DataReceived(
            core.client,
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer tool-own-secret\r\n"
            "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
            "User-Agent: codex_exec/0.171.0\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode(),
        )
    )


def test_o07_a_websocket_where_calls_are_made_is_answered_with_426(cores: list[Core]) -> None:
    """O07: answered at once and in the log, with nothing opened or sent; the same connection then takes the call."""
    core = Core(Budget())
    cores.append(core)
    upgrade(core, "/v1/responses")
    assert core.to_client.startswith(b"HTTP/1.1 426 ")
    head = core.to_client.lower().partition(b"\r\n\r\n")[0]
    assert b"\r\nupgrade: http/1.1" in head  # RFC 9110 section 15.5.22
    assert b"\r\nconnection: upgrade" in head
    assert (core.opening, core.sent, core.closed) == ([], {}, [])
    assert core.journal.told == [426]
    [flow] = {id(hook.args()[0]): hook.args()[0] for hook in core.hooks}.values()
    assert "tool-own-secret" not in str(flow.get_state())
    core.ask(stream=False)
    core.receive(core.opened(), OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/v1/realtime?model=gpt-realtime", "api.openai.com"),
        ("/v1/responses/input_tokens", "api.openai.com"),
        ("/v1/responses/more", "api.openai.com"),
        ("/v1/responses", "elsewhere.test"),
        ("/v1/messages", "api.anthropic.com"),  # no route of that dialect
    ],
)
def test_o07_every_other_websocket_passes_untouched(cores: list[Core], path: str, host: str) -> None:
    """O07: Realtime, other paths, other hosts and dialects without a route keep their upgrade and their credential."""
    core = Core(Budget())
    cores.append(core)
    core.client.sni = host
    upgrade(core, path, host=host)
    assert core.opened().address == ("192.0.2.1", 443)
    sent = core.sent["192.0.2.1"]
    assert sent.startswith(f"GET {path} HTTP/1.1\r\n".encode())
    assert b"Bearer tool-own-secret" in sent
    assert b"upgrade: websocket" in sent.lower()
    assert core.to_client == b""
    assert core.journal.told == []


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ADVISE])
def test_o07_where_routes_only_observe_a_websocket_passes_untouched(cores: list[Core], mode: Mode) -> None:
    """O07: observing means to touch nothing, and an upgrade does not say which route its calls would have."""
    core = Core(Budget())
    cores.append(core)
    routes = {name: replace(each, mode=mode) for name, each in core.pool.routes.items()}
    core.engine.use(replace(core.pool, routes=routes))
    upgrade(core, "/v1/responses")
    core.opened()
    assert b"Bearer tool-own-secret" in core.sent["192.0.2.1"]
    assert b"upgrade: websocket" in core.sent["192.0.2.1"].lower()
    assert (core.to_client, core.journal.told) == (b"", [])


def test_o07_only_a_get_opens_a_websocket(cores: list[Core]) -> None:
    """A call that offers an upgrade, as some HTTP libraries do, is a call."""
    core = Core(Budget())
    cores.append(core)
    body = b'{"model": "gpt-x", "input": "hi"}'
    core.feed(
        events.DataReceived(
            core.client,
            b"POST /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body,
        )
    )
    assert core.opened().address == ("u0.test", 80)


ODD_ALIASES = {
    "lone surrogate": "\ud800x",
    "low surrogate": "x\udcff",
    "controls": "a\x00b\r\nc\x1b[31m",
    "separators": "\u2028\u0085\ufeff",
    "folders": "../../x",
    "braces": "{model} %s {0}",
    "long": "x" * 16 * 1024,
}


@pytest.mark.parametrize("status", [500, 404, 401, 200])
@pytest.mark.parametrize("alias", ODD_ALIASES.values(), ids=ODD_ALIASES)
def test_h08_odd_aliases_end_in_a_clear_answer(cores: list[Core], alias: str, status: int) -> None:
    """H08: whatever a tool calls its model, it gets an upstream's reply or ours, and no internal error."""
    core = Core(Budget(wait=0))
    cores.append(core)
    ReplayStream.journal = FlowJournal(lambda: core.now)
    body = b'{"error":{"message":"Something failed","code":"x"}}' if status != 200 else ANSWER
    head = b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    for _ in range(2):  # the second round finds what the first one left in memory
        core.post("/v1/chat/completions", {"model": alias, "messages": []})
        for _ in range(10):
            if core.to_client:
                break
            if core.opening:
                server = core.opened()
                core.receive(server, head % (status, len(body)) + body)
                core.cut(server)
            else:
                core.pass_time(20)
        assert core.to_client.startswith((b"HTTP/1.1 %d" % status, b"HTTP/1.1 503", b"HTTP/1.1 400"))
        assert b"internal error" not in core.to_client
        core.come_back()


def test_h08_an_alias_of_a_megabyte_passes_untouched(cores: list[Core]) -> None:
    """H08, law 9: it is no name that anything could be kept under, so the tool's own vendor answers."""
    core = Core(Budget())
    cores.append(core)
    core.post("/v1/chat/completions", {"model": "x" * 1_000_000, "messages": []})
    assert core.opened().address == ("192.0.2.1", 443)
    assert b"Bearer tool" in core.sent["192.0.2.1"]


# -- a wait after a concluded attempt ------------------------------------------------------------------------------

BUSY = b'{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}'
LIMITED = (
    b"HTTP/1.1 429 Too Many\r\ncontent-type: application/json\r\nretry-after: 2\r\nx-number: %%d\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BUSY), BUSY)
)


def take_out(core: Core, *credentials: str) -> None:
    """A hand takes these credentials out of rotation for an hour."""
    for name in credentials:
        key = Key(Scope.CREDENTIAL, name, "")
        until = core.now + 3600
        core.engine.suspensions.suspend(Suspension(key, core.now, until, Label.UNKNOWN, BY_HAND, "asked for"))


@pytest.mark.parametrize("credentials", [1, 2])
def test_h01_a_suspension_during_a_wait_releases_the_real_reply(cores: list[Core], credentials: int) -> None:
    """H01: the attempt before the wait owns its reply, and the tool gets it although no other try follows."""
    core = start(cores, credentials=credentials)
    core.receive(core.opened(), LIMITED % 1)
    assert (core.opening, core.to_client) == ([], b"")
    take_out(core, *(f"c{number}" for number in range(credentials)))
    core.pass_time(2)
    assert core.opening == []
    assert core.to_client.startswith(b"HTTP/1.1 429 Too Many")
    assert b"x-number: 1\r\n" in core.to_client
    assert core.to_client.endswith(BUSY)
    assert core.journal.told == [1]


def test_h01_the_better_of_two_replies_is_released_after_a_wait(cores: list[Core]) -> None:
    """H01: with two concluded attempts and a wait behind them, the tool gets the reply that the exchange names."""
    core = start(cores, Budget(patience=0, wait=30))
    core.receive(core.opened(), LIMITED % 1)
    core.receive(core.opened(), LIMITED % 2)
    assert (core.opening, core.to_client) == ([], b"")
    take_out(core, "c0", "c1")
    core.pass_time(2)
    assert core.opening == []
    assert b"x-number: 1\r\n" in core.to_client
    assert core.to_client.endswith(BUSY)
    assert core.journal.told == [1]


# -- the flow of a failed attempt ------------------------------------------------------------------------------------


def records_made(monkeypatch: pytest.MonkeyPatch) -> list[http.HTTPFlow]:
    """Every flow of an attempt that is made from now on."""
    made: list[http.HTTPFlow] = []

    def note(*args: Any, **kwargs: Any) -> http.HTTPFlow:
        made.append(attempt_flow(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr("understudy.proxy.attempt.attempt_flow", note)
    return made


def test_o05_the_flow_of_a_failed_attempt_is_made_for_who_asks(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """O05: it costs nothing where nobody wants it, and who asks first or later gets the same one."""
    made = records_made(monkeypatch)
    core = Core(Budget(patience=0))
    cores.append(core)
    core.ask(stream=False)
    core.receive(core.opened(), LIMITED % 1)
    core.receive(core.opened(), OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)
    [abandoned] = [hook.args()[0] for hook in core.hooks if isinstance(hook, UnderstudyAttemptHook)]
    assert made == []
    first = abandoned.record
    assert first is not None
    assert abandoned.record is first
    assert [each.request.host for each in made] == ["u0.test"]


def test_the_next_attempt_is_sent_before_anything_is_told_of_the_one_that_failed(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover waits for no log line and no flow: the request is on the next connection when the hook begins."""
    core = Core(Budget(patience=0))
    cores.append(core)
    core.ask(stream=False)
    first = core.opened()
    core.receive(first, LIMITED % 1)
    core.receive(core.opened(), OK_HEAD + ANSWER)
    core.now += 60
    made, before = records_made(monkeypatch), core.sent["u1.test"].count(b"POST ")
    core.slow_hooks = (UnderstudyAttemptHook,)
    core.ask(stream=False)
    core.receive(first, LIMITED % 2)
    assert [type(each) for each in core.held] == [UnderstudyAttemptHook]
    assert core.opening == []
    assert core.sent["u1.test"].count(b"POST ") == before + 1
    assert made == []


def test_o05_a_flow_that_is_asked_for_late_shows_the_attempt_as_it_was(cores: list[Core]) -> None:
    """O05: also when its reply was released to the tool in the meantime."""
    core = Core(Budget(patience=0, wait=0))
    cores.append(core)
    core.ask(stream=False)
    first = core.opened()
    core.receive(first, LIMITED % 1)
    core.receive(core.opened(), LIMITED % 2)
    assert core.to_client.startswith(b"HTTP/1.1 429 ")
    assert b"x-number: 1\r\n" in core.to_client
    told = [hook.args()[0] for hook in core.hooks if isinstance(hook, UnderstudyAttemptHook)]
    record = told[0].record
    assert record.request.headers["authorization"] == "Bearer <understudy:c0>"
    assert json.loads(record.request.content)["model"] == "gpt-x"
    assert (record.request.host, record.server_conn) == ("u0.test", first)
    assert (record.response.content, record.response.headers["x-number"]) == (BUSY, "1")


# -- one attempt's state is not another's --------------------------------------------------------------------------


def test_a_tool_that_leaves_between_two_attempts_is_not_shown_the_first_as_the_second(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12, O05: the second attempt is on its way while the hook about the first one runs: each has its own flow."""
    core = Core(Budget(patience=0))
    cores.append(core)
    left: list[tuple[int, str, str]] = []

    def leave(flow: object, exchange: object, attempt: Attempt, record: http.HTTPFlow) -> None:
        assert (record.response, record.error and record.error.msg) == (None, "cut: cancelled, the tool went away")
        left.append((attempt.number, attempt.candidate.credential.name, record.request.host))

    monkeypatch.setattr(core.journal, "left", leave)
    core.slow_hooks = (UnderstudyAttemptHook,)
    core.ask(stream=False)
    core.receive(core.opened(), LIMITED % 1)
    [second] = core.opening
    assert second.connection.address == ("u1.test", 80)
    core.feed(events.ConnectionClosed(core.client))
    [hook] = [each for each in core.held if isinstance(each, UnderstudyAttemptHook)]
    first = hook.abandoned.record
    assert first is not None
    assert (hook.abandoned.outcome.attempt.number, first.request.host) == (1, "u0.test")
    core.held.remove(hook)
    core.feed(events.HookCompleted(hook, None))
    assert left == [(2, "c1", "u1.test")]
    core.feed(events.OpenConnectionCompleted(second, None))
    assert ("u1.test" in core.sent, core.to_client) == (False, b"")
    assert core.names().count(HttpErrorHook) == 1


def test_a_call_that_outlives_the_addon_is_answered_and_told_nobody(cores: list[Core]) -> None:
    """The addon has left and closed its journal: the call under way ends as it would have."""
    core = start(cores, stream=True)
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'))
    core.uninstall()
    core.receive(server, chunk(b"data: [DONE]\n\n") + chunk(b""))
    assert core.to_client.endswith(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    assert (core.journal.told, core.journal.over) == ([1], 0)


def test_first_output_counts_from_the_sending_once(cores: list[Core]) -> None:
    """`first_output: 5`, `seconds: 6`: headers at 3.5 s and output at 4 s are in time; else it ends at 5 s."""
    for output_at in (4.0, None):
        core = start(cores, Budget(seconds=6, first_output=5), stream=True)
        first = core.opened()
        core.pass_time(3.5)
        core.receive(first, STREAM_HEAD)
        core.pass_time(0.5)
        assert (core.opening, core.closed) == ([], [])
        if output_at:
            core.receive(first, chunk(b'data: {"choices":[{"delta":{"content":"in time"}}]}\n\n'))
            assert b"in time" in core.to_client
        core.pass_time(0.9)
        assert core.closed == []
        core.pass_time(0.1)
        assert core.closed == ([] if output_at else [first])
        core.uninstall()


def test_many_candidates_without_a_secret_are_passed_over_one_after_the_other(cores: list[Core]) -> None:
    """W03: what an attempt says at once is taken up by the step that began it, however many do so in a row."""
    core = Core(Budget(), credentials=300)
    cores.append(core)
    for name, each in core.pool.credentials.items():
        core.pool.credentials[name] = replace(each, secret=Absent())  # type: ignore[index]
    choices = tuple(Choice(each) for each in core.pool.credentials.values())
    route = replace(core.pool.routes["default"], choices=choices)
    core.engine.use(replace(core.pool, routes={"default": route}))
    core.ask(stream=False)
    assert core.to_client.startswith(b"HTTP/1.1 400 ")
    assert b"internal error" not in core.to_client
    assert core.opening == []
    assert len(core.layer.streams) == 0


class Absent:
    """A secret that is not there."""

    is_client = False
    refreshable = False

    def reveal(self) -> str:
        """Nothing to reveal."""
        raise SecretError("for this test: not set")


# -- H04, H05, and requests with trailers --------------------------------------------------------------------------


def test_h04_a_cut_after_the_release_is_nobodys_fault_once_the_tool_has_gone(cores: list[Core]) -> None:
    """H04, S03: a stream that is cut is a fault of its candidate, unless mitmproxy cut it behind a tool."""
    for is_there in (True, False):
        core = start(cores, stream=True)
        server = core.opened()
        core.receive(server, STREAM_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'))
        assert b"hi" in core.to_client
        if not is_there:
            core.client.state = ConnectionState.CLOSED
        core.cut(server)
        assert len(core.engine.suspensions) == int(is_there)


@pytest.mark.parametrize("pieces", [1, 1000])
def test_a_request_with_trailers_is_read(cores: list[Core], pieces: int) -> None:
    """A body in chunks may end in trailers (RFC 9112, section 7.1.2): mitmproxy raised, the tool waited."""
    core = Core(Budget())
    cores.append(core)
    body = b'{"model": "gpt-x", "messages": []}'
    asked = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nauthorization: Bearer tool\r\n"
        b"transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n" + chunk(body) + b"0\r\nx-sum: 1\r\n\r\n"
    )
    step = max(1, len(asked) // pieces)
    for at in range(0, len(asked), step):
        core.feed(events.DataReceived(core.client, asked[at : at + step]))
    server = core.opened()
    assert core.sent["u0.test"].partition(b"\r\n\r\n")[2] in (body, chunk(body) + b"0\r\n\r\n")
    core.receive(server, OK_HEAD + ANSWER)
    assert core.to_client.endswith(ANSWER)


def test_h05_a_foreign_page_is_refused_before_its_body_is_read(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H05, O10: 9.5 KB that stand for 96 MB are not decoded for whoever may not ask."""
    core = Core(Budget())
    cores.append(core)
    monkeypatch.setattr(core.engine, "is_remote", lambda client: True)

    def never(*_: object) -> bytes:
        raise AssertionError("not to be decoded")

    monkeypatch.setattr(rewrite, "decoded_body", never)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\ncontent-encoding: zstd\r\n"
    core.feed(events.DataReceived(core.client, head + b"content-length: 5\r\n\r\nzzzzz"))
    assert core.to_client.startswith(b"HTTP/1.1 400")
    assert b"pool_allow_remote" in core.to_client
    assert core.opening == []
    assert core.names().count(HttpResponseHook) == 1


@pytest.mark.parametrize("size", [10, 1 << 20], ids=["small", "large"])
def test_a_call_without_a_route_passes_whoever_sent_it_unless_reading_it_is_dear(cores: list[Core], size: int) -> None:
    """Law 9, law 10: what has no route keeps its own credential, also from a remote client."""
    core = Core(Budget())
    cores.append(core)
    core.engine.use(replace(core.pool, routes={"other": replace(core.pool.routes["default"], pattern="other")}))
    core.engine.is_remote = lambda client: True
    core.post("/v1/chat/completions", {"model": "gpt-x", "messages": ["x" * size]})
    assert (core.to_client == b"") is (size == 10)
    assert len(core.opening) == int(size == 10)


@pytest.mark.parametrize(("limit", "status"), [(3, 0), (2, 431)])
def test_h02_a_call_has_a_largest_number_of_header_fields(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch, limit: int, status: int
) -> None:
    """H02: also where the connection does not count them; three fields are sent here, and 431 goes to the tool."""
    monkeypatch.setattr("understudy.proxy.stream.FIELD_LIMIT", limit)
    core = start(cores)
    assert core.to_client.startswith(b"HTTP/1.1 431 " if status else b"")
    assert bool(core.to_client) is bool(core.opening == []) is bool(status)


# -- H02: large requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_h02_a_large_request_is_read_and_written_aside(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """H02: nothing of it is done in the layer; what is sent is the same as ever."""
    for owner, name in ((ReplayStream, "take_body"), (rewrite, "decoded_body"), (rewrite, "build")):
        real = getattr(owner, name)

        def watched(*args: object, real: Callable[..., object] = real, **kwargs: object) -> object:
            where.append(aside[-1:])
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)
    aside: list[str] = []
    where: list[list[str]] = []
    core = Core(Budget(), 2)
    cores.append(core)
    core.slow_hooks = (UnderstudyAsideHook,)
    noise = Random(1).randbytes(1 << 20).hex()
    body = json.dumps({"messages": [{"role": "user", "content": noise}], "model": "gpt-x"}).encode()
    sent = gzip.compress(body) if encoding else body
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\nauthorization: Bearer tool\r\n"
    head += f"content-encoding: {encoding}\r\n" if encoding else ""
    core.feed(events.DataReceived(core.client, f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent))
    for name in ("read", "write"):
        assert not core.opening
        [hook] = core.held
        core.held.clear()
        assert isinstance(hook, UnderstudyAsideHook)
        aside.append(name)
        hook.aside.do()
        aside.append("")
        assert "sk-secret" not in repr(hook), "law 8"
        core.feed(events.HookCompleted(hook, None))
    assert where == [["read"], ["read"], ["write"]], "joined and read, then written"
    core.opened()
    assert core.sent["u0.test"].endswith(sent)
    assert b"sk-secret-0" in core.sent["u0.test"]


@pytest.mark.parametrize(("size", "there"), [(10, [False]), (LARGE, [True])])
def test_h02_the_sealed_parts_of_a_large_request_are_looked_for_aside(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch, size: int, there: list[bool]
) -> None:
    """H02, E01: before any reply asks for them; of a small one when an upstream has refused them."""
    core = Core(Budget(), 2)
    cores.append(core)
    aside: list[bool] = []
    found: list[bool] = []

    def watched(*args: Any) -> tuple[str, ...]:
        found.append(bool(aside))
        return parts_in(*args)

    monkeypatch.setattr("understudy.proxy.engine.parts_in", watched)
    core.slow_hooks = (UnderstudyAsideHook,)
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk" * 20}
    asked = {"model": "gpt-x", "input": [sealed, {"type": "message", "role": "user", "content": "x" * size}]}
    sent = json.dumps(asked).encode()
    head = "POST /v1/responses HTTP/1.1\r\nhost: api.openai.com\r\nauthorization: Bearer tool\r\n"
    core.feed(events.DataReceived(core.client, f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent))
    while core.held:
        hook = core.held.pop()
        assert isinstance(hook, UnderstudyAsideHook)
        aside.append(True)
        hook.aside.do()
        aside.clear()
        core.feed(events.HookCompleted(hook, None))
    why = "The encrypted content could not be verified."
    refusal = json.dumps({"error": {"code": "invalid_encrypted_content", "message": why}}).encode()
    server, length = core.opened(), len(refusal)
    core.receive(server, b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length)
    core.receive(server, refusal)
    assert found == there


@pytest.mark.parametrize(
    ("size", "encoding", "large"),
    [(LARGE, "", False), (LARGE + 1, "", True), (LARGE_ENCODED, "gzip", False), (LARGE_ENCODED + 1, "gzip", True)],
)
def test_h02_small_requests_are_read_at_once(size: int, encoding: str, large: bool) -> None:
    """H02: a thread costs more than they do."""
    headers = http.Headers(content_encoding=encoding) if encoding else http.Headers()
    request = http.Request.make("POST", "http://x/", b"", headers)
    request.data.content = b"x" * size
    assert is_large(request) is large


def test_h02_of_a_compressed_request_a_bounded_part_is_decoded_for_a_comparison(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H02: that is done in the layer, when a reply leaves open whose fault it is, and looks at no more of it anyway."""
    core = Core(Budget(), 2)
    cores.append(core)
    limits: list[object] = []
    real = rewrite.decoded_body

    def watched(request: http.Request, *limit: int) -> bytes | None:
        limits.append(*limit)
        return real(request, *limit)

    sent = gzip.compress(json.dumps({"model": "gpt-x", "messages": []}).encode())
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\nauthorization: Bearer tool\r\n"
    head += f"content-encoding: gzip\r\ncontent-length: {len(sent)}\r\n\r\n"
    core.feed(events.DataReceived(core.client, head.encode() + sent))
    server = core.opened()
    monkeypatch.setattr(rewrite, "decoded_body", watched)
    body = b'{"error": {"message": "the frobnicator is out of sorts"}}'
    core.receive(server, b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
    core.receive(server, body)
    assert core.opened() is not server, "a second opinion"
    assert limits
    assert set(limits) == {LARGE}


def test_h02_what_fails_aside_fails_as_ever(cores: list[Core]) -> None:
    """H02, O08: an error is raised where the result is wanted; and where no one does the work, it is done there."""
    broken = Aside(lambda: int("x"))
    broken.do()
    assert broken.done
    with pytest.raises(ValueError, match="invalid literal"):
        broken.result()
    assert Aside(lambda: 5).result() == 5


# -- replies that are long, and flows that are killed ----------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_w07_a_long_rejection_never_reaches_the_tool(cores: list[Core], status: int) -> None:
    """W07: also one that is longer than what is held, of which the rest still comes."""
    core = start(cores, credentials=2)
    for _ in range(2):
        server = core.opened()
        head = f"HTTP/1.1 {status} No\r\ncontent-type: text/plain\r\ncontent-length: 3000000\r\n\r\n".encode()
        core.receive(server, head + b"your credential is rejected ")
        core.receive(server, b"x" * 1_200_000)
        if server.state is ConnectionState.OPEN:
            core.receive(server, b"x" * 1_000)
        if not core.opening:
            break
    assert core.to_client.startswith(b"HTTP/1.1 400 ")
    assert b"xxxx" not in core.to_client
    assert b"your credential is rejected" not in core.to_client.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_o08_a_flow_that_is_killed_at_its_replys_headers_is_let_go(cores: list[Core], stream: bool) -> None:
    """O08: another addon kills the flow: the tool gets nothing of the reply, the upstream is left, the call is over."""
    core = start(cores, stream=stream)
    core.slow_hooks = (HttpResponseHeadersHook,)
    server = core.opened()
    if stream:
        core.receive(server, STREAM_HEAD + chunk(b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'))
    else:
        kind = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        core.receive(server, kind + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
    [hook] = core.held
    [layer] = {each for each in core.layer.streams.values() if isinstance(each, ReplayStream)}
    flow = layer.flow
    flow.kill()
    core.feed(events.HookCompleted(hook, None))
    assert core.to_client == b""
    assert core.journal.over == 1
    assert flow.error is not None
    assert (server in core.closed) is stream, "a whole reply leaves its connection to the next one"
    assert all(attempt.is_over for attempt in layer.attempts)
    assert len(core.engine.suspensions) == 0
