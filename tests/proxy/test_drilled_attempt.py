"""An attempt that a drill strikes, in mitmproxy's HTTP layer without a network: H12 in the layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mitmproxy.connection import Server

from tests.support.layer import STREAM_HEAD, Core, chunk
from understudy.drill.behaviour import read_behaviour
from understudy.drill.drill import Drill
from understudy.drill.made_reply import MARK
from understudy.model import Key, Label, Scope
from understudy.model.pool import Budget
from understudy.proxy.drilled_attempt import parts_of

OUTPUT = b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n'
DONE = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
ANSWER = b'{"choices": [{"message": {"role": "assistant", "content": "yes"}}], "usage": {"completion_tokens": 3}}'
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
FIRST = Key(Scope.UPSTREAM, "u0")
forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
MADE_UP = ["dead", "429", "429:20", "quota", "model_unsupported", "401", "overloaded", "error-event", "empty"]


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(Budget(seconds=50, patience=3))
    yield made
    made.uninstall()


def begin(core: Core, written: str, seconds: float = 300.0, target: Key = FIRST) -> Drill:
    """Begin a drill."""
    drill = Drill(target, read_behaviour(written), seconds, core.engine.clock, core.engine.memory.sessions)
    core.engine.begin_drill(drill)
    return drill


def answer(core: Core, server: Server, *, stream: bool) -> None:
    """An upstream answers well."""
    if stream:
        core.receive(server, STREAM_HEAD + chunk(OUTPUT % b"yes") + chunk(DONE) + b"0\r\n\r\n")
    else:
        core.receive(server, PLAIN)


@forms
@pytest.mark.parametrize("written", MADE_UP)
def test_h12_the_first_fails_and_the_second_answers(core: Core, written: str, stream: bool) -> None:
    """H12: nothing is sent to the target; the tool gets the second's answer; in the end nothing is left of it."""
    drill = begin(core, written)
    core.ask(stream=stream)
    for _ in range(3):
        core.pass_time(0.3)  # a repeat of the same candidate
    assert "u0.test" not in core.sent
    assert [each.connection.address for each in core.opening] == [("u1.test", 80)]
    answer(core, core.opened(), stream=stream)
    assert core.to_client.startswith(b"HTTP/1.1 200")
    assert b"yes" in core.to_client
    assert b"drill" not in core.to_client
    summary = drill.summary()
    assert (summary.calls, summary.met, summary.rescued, summary.under_way) == (1, 1, 1, 0)
    assert summary.made_up == summary.attempts - 1 >= 1
    assert summary.extra == 0
    assert all(each.key.drill for each in core.engine.suspensions)
    core.engine.end_drill()
    assert core.engine.suspensions.known() == []
    assert list(core.engine.suspensions.ladders) == []
    assert len(core.engine.suspensions.learned) == 0


@forms
def test_h12_what_it_suspends_keeps_only_its_own_calls_out(core: Core, stream: bool) -> None:
    """H12: the next call of the drill skips the target at once; a call that is not of the drill is sent there."""
    drill = begin(core, "model_unsupported")
    core.ask(stream=stream)
    server = core.opened()
    answer(core, server, stream=stream)
    core.ask(stream=stream)
    answer(core, server, stream=stream)
    assert drill.summary().attempts == 3
    assert drill.summary().made_up == 1
    assert drill.summary().met == 2
    drill.share = 0.0
    core.to_client = b""
    core.ask(stream=stream)
    assert [each.connection.address for each in core.opening] == [("u0.test", 80)]


@forms
def test_h12_silent_until_the_drill_is_over(core: Core, stream: bool) -> None:
    """H12: another one is asked as well, as after a real silence; alone it waits, and is asked in truth at the end."""
    core.uninstall()
    alone = Core(Budget(seconds=50), credentials=1)
    drill = begin(alone, "silent", 20.0)
    alone.ask(stream=stream)
    for _ in range(19):
        alone.pass_time(1.0)
    assert alone.opening == []
    assert alone.to_client == b""
    alone.pass_time(2.0)
    alone.pass_time(1.0)
    answer(alone, alone.opened(), stream=stream)
    assert b"yes" in alone.to_client
    assert drill.summary().rescued == 1
    assert not list(alone.engine.suspensions)
    alone.uninstall()


def test_h12_silence_is_hedged(core: Core) -> None:
    """H12, A05: after `hedge_after` the second is asked as well; no latency of the target is learnt."""
    drill = begin(core, "silent")
    core.ask(stream=True)
    for _ in range(15):
        assert core.opening == []
        core.pass_time(1.0)
    answer(core, core.opened(), stream=True)
    assert b"yes" in core.to_client
    summary = drill.summary()
    assert (summary.hedged, summary.rescued, summary.made_up) == (1, 1, 1)
    assert summary.added is not None
    assert 14.9 < summary.added[2] < 16.1
    times = core.engine.suspensions.first_events._times
    assert [key.name for key, _ in times] == ["c1"]


@forms
def test_h12_no_connection_in_time(core: Core, stream: bool) -> None:
    """H12: after `pool_connect_timeout` the next one is asked."""
    begin(core, "timeout")
    core.ask(stream=stream)
    core.pass_time(9.9)
    assert core.opening == []
    core.pass_time(0.2)
    answer(core, core.opened(), stream=stream)
    assert b"yes" in core.to_client
    [suspension] = core.engine.suspensions
    assert (suspension.key, suspension.label) == (Key(Scope.UPSTREAM, "u0", drill=True), Label.OVERLOADED)


@forms
def test_h12_slow_asks_the_upstream_and_holds_its_answer_back(core: Core, stream: bool) -> None:
    """H12: the real reply comes late, whole, and no latency is learnt of it."""
    drill = begin(core, "slow:5")
    core.ask(stream=stream)
    server = core.opened()
    assert b"sk-secret-0" in core.sent["u0.test"]
    answer(core, server, stream=stream)
    core.pass_time(4.9)
    assert core.to_client == b""
    core.pass_time(0.2)
    assert b"yes" in core.to_client
    if stream:
        assert core.to_client.endswith(chunk(DONE) + b"0\r\n\r\n")
    summary = drill.summary()
    assert (summary.late, summary.rescued, summary.made_up, summary.attempts) == (1, 0, 0, 1)
    assert summary.added is not None
    assert summary.added[0] == pytest.approx(5.1)
    assert list(core.engine.suspensions.first_events._times) == []


def test_h12_slow_beyond_the_hedge(core: Core) -> None:
    """H12, A05: with `slow` the other one is asked after 15 s, and the late one is cancelled at its upstream."""
    begin(core, "slow:20")
    core.ask(stream=True)
    first = core.opened()
    core.receive(first, STREAM_HEAD + chunk(OUTPUT % b"late"))
    for _ in range(15):
        core.pass_time(1.0)
    answer(core, core.opened(), stream=True)
    assert b"yes" in core.to_client
    assert b"late" not in core.to_client
    assert core.closed == [first]


def test_h12_slow_lets_go_when_too_much_is_held_back(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10, H12: what is held back is bounded in bytes."""
    monkeypatch.setattr("understudy.proxy.drilled_attempt.MOST_HELD_BACK", 100)
    begin(core, "slow:5")
    core.ask(stream=True)
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(OUTPUT % (b"x" * 200)))
    assert b"xxx" in core.to_client


def test_h12_cut_after_the_first_output(core: Core) -> None:
    """H12, S04: the tool sees its stream break off, the upstream sees a cancelled request, and it counts as failed."""
    drill = begin(core, "cut")
    core.ask(stream=True)
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(OUTPUT % b"one" + OUTPUT % b"two" + DONE))
    assert b"one" in core.to_client
    assert b"two" not in core.to_client
    assert not core.to_client.endswith(b"0\r\n\r\n")
    assert core.closed == [server]
    summary = drill.summary()
    assert summary.failed == {"the reply broke off after its release (overloaded)": 1}
    assert [each.key.drill for each in core.engine.suspensions] == [True]


def test_h12_cut_in_a_plain_reply(core: Core) -> None:
    """H12: half of a body is no answer: the same once more, and then the second."""
    drill = begin(core, "cut")
    core.ask(stream=False)
    for _ in range(2):
        server = core.opened()
        assert server.address == ("u0.test", 80)
        core.receive(server, PLAIN)
    answer(core, core.opened(), stream=False)
    assert b"yes" in core.to_client
    summary = drill.summary()
    assert (summary.rescued, summary.made_up, summary.attempts, summary.extra) == (1, 0, 3, 2)


@forms
def test_h12_a_failure_of_the_upstream_itself_is_not_cut(core: Core, stream: bool) -> None:
    """H12: `cut` spoils good replies only."""
    begin(core, "cut")
    core.ask(stream=stream)
    server = core.opened()
    core.receive(server, b"HTTP/1.1 401 No\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nnope")
    answer(core, core.opened(), stream=stream)
    assert core.closed == []


def test_h12_only_candidate(core: Core) -> None:
    """H12, W06: with nobody else the tool gets what the drill made up, and can see that it is that."""
    core.uninstall()
    alone = Core(Budget(seconds=50), credentials=1)
    drill = begin(alone, "overloaded")
    alone.ask(stream=False)
    alone.pass_time(1.0)
    assert alone.to_client.startswith(b"HTTP/1.1 503")
    assert MARK.encode() in alone.to_client
    assert b"made up by a drill of understudy" in alone.to_client
    assert drill.summary().failed == {"the tool got HTTP 503: overloaded": 1}
    alone.uninstall()


def test_h12_the_tool_goes_away(core: Core) -> None:
    """H12, L12: a call whose tool hangs up while the target is silent is one that failed."""
    from mitmproxy.connection import ConnectionState
    from mitmproxy.proxy import events

    drill = begin(core, "silent")
    core.ask(stream=True)
    core.client.state = ConnectionState.CLOSED
    core.feed(events.ConnectionClosed(core.client))
    assert drill.summary().failed == {"the tool went away": 1}
    assert not list(core.engine.suspensions)


@pytest.mark.parametrize("data", [b"a\n\nb\n\n", b"a\r\n\r\nb", b"", b"abc"])
def test_parts_are_the_whole(data: bytes) -> None:
    """Nothing is lost or added by taking a piece apart."""
    assert b"".join(parts_of(data, is_stream=True)) == data
    [half] = parts_of(data, is_stream=False)
    assert data.startswith(half)
