"""What the way to an upstream can do to a call: refuse, drop, stay silent, never end; and tools that go away."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mitmproxy import http

from .authority import Authority
from .behaviours import (
    Break,
    Gate,
    Seen,
    answer_and_close,
    chunks,
    drop_before_headers,
    endless_body,
    endless_headers,
    json_reply,
    raw,
    silent,
    silent_after,
    sse,
)
from .client import Connection, End, Stream
from .conftest import Perform
from .open_count import __file__ as OPEN_COUNT
from .proxy import Proxy, StartProxy
from .stage import CHAT, ENVIRONMENT, Stage, crashes, faulty_pool, pool_yaml, whole
from .upstream import Upstream

pytestmark = pytest.mark.usefixtures("no_crash")

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
every_path = pytest.mark.parametrize(
    # mitmproxy speaks HTTP/1.1 to the upstream when the tool does.
    ("http2", "far"), [(False, False), (True, False), (True, True)], ids=["h1", "h2", "h2-to-h1"]
)  # fmt: skip

FAULTS = ("refused", "no-such-host", "wrong-name", "untrusted", "deaf", "unanswered", "closed", "reset")
LIMIT = 1.0
"""Seconds for a connection, in the proxies that are started here."""


@contextlib.contextmanager
def unanswered() -> Iterator[str]:
    """The URL of a port whose backlog is full, so that nothing answers an attempt to connect."""
    with contextlib.ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"https://localhost:{listening.getsockname()[1]}"


@dataclass
class Rig:
    """A proxy with an upstream of its own for each fault and test, as one that fails is suspended."""

    stage: Stage
    main: Upstream

    def call(self, alias: str, *, stream: bool, http2: bool) -> bytes:
        """A call that must succeed; returns its body."""
        response = self.stage.call(CHAT, alias, stream=stream, http2=http2)
        assert (response.status, response.end) == (200, End.CLEAN)
        return response.body


def named(fault: str, stream: bool, http2: bool) -> str:
    """The alias for one test, which is also the name of its credential and of its upstream."""
    return f"{fault}-{'streamed' if stream else 'plain'}-{'h2' if http2 else 'h1'}"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Rig]:
    """The rig: for each fault the candidate that has it, then one on an upstream that answers."""
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with (
        Upstream(authority) as main,
        Upstream(authority, alpn=["http/1.1"]) as other,
        Upstream(authority, names=["elsewhere.example"]) as misnamed,
        Upstream(stranger) as untrusted,
        unanswered() as unanswered_url,
    ):
        urls = {
            "refused": main.refused_url(),
            "no-such-host": "https://nowhere.invalid",
            "wrong-name": misnamed.tls_url,
            "untrusted": untrusted.tls_url,
            "deaf": main.deaf_url,
            "unanswered": unanswered_url,
            "closed": main.tls_url,
            "reset": main.tls_url,
        }
        cases = {
            named(fault, stream, http2): url
            for fault, url in urls.items()
            for stream in (False, True)
            for http2 in (False, True)
        }
        options = {
            "trusted": authority.path,
            "env": ENVIRONMENT,
            "pool_yaml": faulty_pool(cases, other),
            "settings": {"pool_connect_timeout": str(LIMIT)},
        }
        with Proxy(tmp_path_factory.mktemp("rig"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Rig(Stage(proxy, main, other), main)
            assert not crashes(proxy)


@pytest.mark.parametrize("fault", FAULTS)
@both_forms
@both_versions
def test_l09_transport_faults(rig: Rig, fault: str, stream: bool, http2: bool) -> None:
    """L09, A08: whatever keeps A from answering, B on another upstream does; A's upstream is then skipped.

    What broke is asked once more first, on a new connection.
    """
    alias = named(fault, stream, http2)
    broken = {"closed": Break.CLOSE, "reset": Break.RESET}.get(fault)
    rig.stage.play(alias, {"x": whole(CHAT, stream=stream)})
    if broken is not None:
        rig.stage.play(alias, {"a": drop_before_headers(broken)})
    for _ in range(2):
        rig.call(alias, stream=stream, http2=http2)
    assert rig.stage.order(alias) == (["a", "a", "x", "x"] if broken is not None else ["x", "x"])


@both_versions
def test_l09_an_upstream_that_recovers_is_used_again(perform: Perform, upstream: Upstream, http2: bool) -> None:
    """L09, L08: a refused connect is not remembered by the tool's kept-alive connection."""
    url = upstream.refused_url()
    stage = perform(routes="  default: [a]", main=url)
    alias = stage.alias()
    stage.play(alias, {"a": CHAT.answers()})
    with stage.connect(CHAT, http2=http2) as connection:
        refused = stage.send(connection, CHAT, alias).finish()
        assert (refused.status, 1 <= int(refused.header("retry-after")) <= 6) == (503, True)
        again = stage.send(connection, CHAT, alias).finish()
        assert (again.status, again.header("retry-after")) == (503, "")  # A10: a tool's own retry keeps its schedule
        upstream.mend(url)
        assert stage.send(connection, CHAT, alias).finish().json == CHAT.answer
        assert stage.send(connection, CHAT, alias, stream=False).finish().status == 200
    assert stage.order(alias) == ["a", "a"]


@both_forms
def test_l11_when_nobody_can_be_reached(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, stream: bool
) -> None:
    """L11: every upstream refuses the connection, and once more after a wait: that is this machine's network, which the
    answer says, and costs both the first step of 3 s only."""
    pool = pool_yaml(upstream, other_upstream, "  default: {candidates: [a, x], budget: {patience: 0}}")
    for each in (upstream, other_upstream):
        pool = pool.replace(each.tls_url, each.refused_url())
    stage = Stage(mitmdump(pool_yaml=pool, env=ENVIRONMENT), upstream, other_upstream)
    own = stage.call(CHAT, stage.alias(), stream=stream)
    assert own.status == 503
    assert 1 <= int(own.header("retry-after")) <= 6
    assert "none of their upstreams can be reached from here" in own.body.decode()
    log = stage.proxy.log_text()
    steps = re.findall(r"overloaded by builtin/no_connection \(open\), upstream suspended ([0-9a-z]+): connect", log)
    assert len(steps) >= 2 and set(steps) <= {"3s", "4s"}
    assert not crashes(stage.proxy)


@both_versions
@pytest.mark.parametrize("how", [Break.CLOSE, Break.RESET], ids=["closed", "reset"])
def test_l09_a_stale_connection(stage: Stage, http2: bool, how: Break) -> None:
    """L09: a kept-alive connection that the upstream gave up is no fault: the request goes out on a fresh one."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": [CHAT.answers(), drop_before_headers(how), CHAT.answers()]})
    with stage.connect(CHAT, http2=http2) as connection:
        for _ in range(3):
            assert stage.send(connection, CHAT, alias).finish().json == CHAT.answer
    assert stage.order(alias) == ["a", "a", "a", "a"]
    first, second, third, fourth = (seen.connection for seen in stage.seen(alias))
    assert first == second != third == fourth


@every_path
def test_l09_a_connection_closed_after_each_reply(stage: Stage, http2: bool, far: bool) -> None:
    """L09: a connection that is closed while idle, without a word, costs nobody anything."""
    alias, name = (stage.alias("h1"), "x") if far else (stage.alias("pair"), "a")
    stage.play(alias, {name: answer_and_close(200, CHAT.answer)})
    with stage.connect(CHAT, http2=http2) as connection:
        for _ in range(5):
            assert stage.send(connection, CHAT, alias).finish().json == CHAT.answer
    assert set(stage.order(alias)) == {name}


# -- silence -------------------------------------------------------------------------------------------------------

QUICK = """
  far-*: {candidates: [a, x], budget: {first_event: 0.5, hedge_after: 0}}
  near-*: {candidates: [x, a], budget: {first_event: 0.5, hedge_after: 0}}
  solo-*: {candidates: [a], budget: {first_event: 0.5, seconds: 0.5}}
  short-*: {candidates: [a, x], budget: {first_event: 0.5, seconds: 0.5, hedge_after: 0}}
  wait-*: {candidates: [a, b], budget: {patience: 0, attempts: 2}}
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage with little patience."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other, QUICK)}
        with Proxy(tmp_path_factory.mktemp("quick"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


def let_first_event_pass(quick: Stage) -> None:
    """Return when a request that began after this call has been given up for its silence."""
    alias = quick.alias("far")
    quick.play(alias, {"a": silent(), "x": CHAT.streams()})
    assert quick.call(CHAT, alias, stream=True).status == 200


@every_path
def test_l10_a_silent_stream_is_given_up(quick: Stage, http2: bool, far: bool) -> None:
    """L10: without any byte of a reply past first_event B answers, and the attempt is cancelled at the upstream."""
    first, second = ("x", "a") if far else ("a", "x")
    alias = quick.alias("near" if far else "far")
    quick.play(alias, {first: silent(), second: CHAT.streams()})
    for _ in range(2):
        response = quick.call(CHAT, alias, stream=True, http2=http2)
        assert (response.status, response.end) == (200, End.CLEAN)
        assert response.body == b"".join((*CHAT.lifecycle, *CHAT.events))
    upstream = quick.other if far else quick.main
    upstream.wait(lambda seen: any(one.cancelled for one in seen if _is_for(one, alias)))
    assert quick.order(alias) == [first, second, second]
    assert quick.seen(alias)[0].http_version == ("HTTP/2" if http2 and not far else "HTTP/1.1")


@every_path
@pytest.mark.parametrize("lifecycle", [False, True], ids=["headers", "lifecycle"])
def test_l10_a_stream_that_began_is_not_cut(quick: Stage, http2: bool, far: bool, lifecycle: bool) -> None:
    """L10: a lifecycle event shows that somebody is at work, and headers alone do not (section 5c)."""
    first, second = ("x", "a") if far else ("a", "x")
    alias, gate = quick.alias("near" if far else "far"), Gate()
    begin = CHAT.lifecycle if lifecycle else ()
    quick.play(alias, {first: sse(*begin, gate, *CHAT.events), second: CHAT.streams()})
    with quick.connect(CHAT, http2=http2) as connection:
        sent = quick.send(connection, CHAT, alias, stream=True)
        gate.wait_reached()
        let_first_event_pass(quick)
        gate.open()
        expected = (*begin, *CHAT.events) if lifecycle else (*CHAT.lifecycle, *CHAT.events)
        assert sent.finish().body == b"".join(expected)
    assert quick.order(alias) == ([first] if lifecycle else [first, second])


@both_versions
def test_l10_the_last_candidate_is_not_cut(quick: Stage, http2: bool) -> None:
    """L10: with no other candidate left, silence is waited out."""
    body, kind = b"".join(CHAT.events), [("content-type", "text/event-stream")]
    solo, pair, gate = quick.alias("solo"), quick.alias("far"), Gate()
    late = raw(200, kind, body, gate=gate)
    quick.play(solo, {"a": late})
    quick.play(pair, {"a": silent(), "x": late})
    with quick.connect(CHAT, http2=http2) as one, quick.connect(CHAT, http2=http2) as another:
        sent = [quick.send(one, CHAT, solo, stream=True), quick.send(another, CHAT, pair, stream=True)]
        quick.other.wait(lambda seen: any(_is_for(each, pair) for each in seen))
        let_first_event_pass(quick)
        gate.open()
        assert [each.finish().body for each in sent] == [body, body]
    assert quick.order(solo) == ["a"]
    assert quick.order(pair) == ["a", "x"]


@both_versions
@pytest.mark.parametrize("headers_first", [False, True], ids=["late", "late-body"])
def test_l10_a_plain_request_may_take_its_time(quick: Stage, http2: bool, headers_first: bool) -> None:
    """L10: a plain request that answers late is delivered, also past the budget's seconds."""
    alias, gate = quick.alias("short"), Gate()
    body, kind = json.dumps(CHAT.answer).encode(), [("content-type", "application/json")]
    late = chunks(200, kind, gate, body) if headers_first else raw(200, kind, body, gate=gate)
    quick.play(alias, {"a": late, "x": CHAT.answers()})
    with quick.connect(CHAT, http2=http2) as connection:
        sent = quick.send(connection, CHAT, alias)
        gate.wait_reached()
        for _ in range(2):
            let_first_event_pass(quick)
        gate.open()
        assert sent.finish().body == body
        assert sent.end is End.CLEAN
    assert quick.order(alias) == ["a"]


@every_path
def test_an_error_body_that_stalls(quick: Stage, http2: bool, far: bool) -> None:
    """Law 10: an error whose body does not come to its end is given up like any silence while B is left."""
    first, second = ("x", "a") if far else ("a", "x")
    alias = quick.alias("near" if far else "far")
    kind = [("content-type", "application/json")]
    quick.play(alias, {first: silent_after(500, kind, b'{"error": '), second: CHAT.answers()})
    assert quick.call(CHAT, alias, http2=http2).json == CHAT.answer
    upstream = quick.other if far else quick.main
    upstream.wait(lambda seen: any(one.cancelled for one in seen if _is_for(one, alias)))
    assert quick.order(alias) == [first, second]


@both_versions
@pytest.mark.parametrize("status", [200, 500])
@both_forms
def test_a_stall_of_the_last_candidate_is_released(quick: Stage, http2: bool, status: int, stream: bool) -> None:
    """Law 10: with nothing else to try, what came so far reaches the tool; understudy holds nothing for ever."""
    alias = quick.alias("solo")
    kind = "text/event-stream" if stream and status == 200 else "application/json"
    quick.play(alias, {"a": silent_after(status, [("content-type", kind)], b": so far\n")})
    with quick.connect(CHAT, http2=http2) as connection:
        sent = quick.send(connection, CHAT, alias, stream=stream)
        assert sent.response.status == status
        assert sent.read_until(b"so far")
    quick.main.wait(lambda seen: any(one.cancelled for one in seen if _is_for(one, alias)))


# -- floods --------------------------------------------------------------------------------------------------------


@both_versions
def test_endless_headers(perform: Perform, http2: bool) -> None:
    """Law 10: a head that never ends is cut off, and B on another upstream answers."""
    stage = perform(routes="  far-*: [a, x]", plain=True)
    alias = stage.alias("far")
    stage.play(alias, {"a": endless_headers(), "x": CHAT.answers()})
    assert stage.call(CHAT, alias, http2=http2).json == CHAT.answer
    stage.main.wait(lambda seen: seen[0].cancelled)


@both_versions
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_endless_body(stage: Stage, http2: bool, status: int, kind: str) -> None:
    """Law 10: a body that never ends is released at its bound and then streamed: nobody collects it."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": endless_body(status, [("content-type", kind)]), "b": CHAT.answers()})
    with stage.connect(CHAT, http2=http2) as connection:
        sent = stage.send(connection, CHAT, alias)
        received = 0
        while received < 3 << 20:
            chunk = sent.next_chunk()
            assert chunk is not None
            received += len(chunk)
        assert sent.response.status == status
    stage.main.wait(lambda seen: all(one.cancelled for one in seen if _is_for(one, alias)))
    assert stage.order(alias) == ["a"]


@both_versions
@pytest.mark.parametrize("framed", [False, True], ids=["chunked", "length"])
def test_a_large_error_arrives_whole(stage: Stage, http2: bool, framed: bool) -> None:
    """Law 10: an error longer than what is held is passed on, nothing lost."""
    alias = stage.alias("pair")
    body, kind = b'{"error": "' + b"long " * 600_000 + b'"}', [("content-type", "application/json")]
    stage.play(alias, {"a": raw(500, kind, body) if framed else chunks(500, kind, body)})
    response = stage.call(CHAT, alias, http2=http2)
    assert (response.status, response.end) == (500, End.CLEAN)
    assert response.body == body


# -- a hundred at once ---------------------------------------------------------------------------------------------


def test_l09_a_hundred_streams_to_a_deaf_upstream(perform: Perform, upstream: Upstream) -> None:
    """L09: streams that share one attempt to connect all fail over within its bound."""
    settings = {"pool_connect_timeout": str(LIMIT)}
    stage = perform(routes="  default: [a, x]", main=upstream.deaf_url, settings=settings)
    aliases = [stage.alias() for _ in range(100)]
    for alias in aliases:
        stage.play(alias, {"x": CHAT.streams()})
    with stage.connect(CHAT, http2=True) as connection:
        sent = [stage.send(connection, CHAT, alias, stream=True) for alias in aliases]
        responses = [each.finish() for each in sent]
    stage.proxy.wait_for_log(f"no connection within {LIMIT:g} s")
    assert {(each.status, each.end) for each in responses} == {(200, End.CLEAN)}
    assert [stage.order(alias) for alias in aliases] == [["x"]] * 100


# -- tools that go away --------------------------------------------------------------------------------------------


SSE = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json")]
MOMENTS = {
    "attempt": silent(),
    "held-headers": silent_after(200, SSE),
    "held-lifecycle": silent_after(200, SSE, b"".join(CHAT.lifecycle)),
    "held-error": silent_after(500, JSON, b'{"error": '),
    "held-answer": silent_after(200, JSON, b'{"id": '),
    "released": silent_after(200, SSE, CHAT.events[0]),
}
every_way_to_leave = pytest.mark.parametrize(
    ("http2", "whole"), [(False, True), (True, True), (True, False)], ids=["h1", "h2-connection", "h2-stream"]
)


def round_trip(stage: Stage) -> None:
    """Return when the proxy has read what was there to be read when this was called."""
    alias = stage.alias("solo")
    stage.play(alias, {"a": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200


def go_away(stage: Stage, connection: Connection, sent: Stream, *, whole: bool) -> None:
    """Give up the connection, or one of its streams: then the others go on."""
    if whole:
        connection.close()
        return
    connection.cancel(sent)
    alias = stage.alias("solo")
    stage.play(alias, {"a": CHAT.answers()})
    assert stage.send(connection, CHAT, alias).finish().status == 200


@pytest.mark.parametrize("moment", MOMENTS)
@every_way_to_leave
@pytest.mark.parametrize("far", [False, True], ids=["to-h2", "to-h1"])
def test_l12_the_tool_goes_away_during_an_attempt(
    stage: Stage, moment: str, http2: bool, whole: bool, far: bool
) -> None:
    """L12: during an attempt or a hold: the attempt is cancelled at the upstream, nothing is suspended."""
    alias, name, upstream = (stage.alias("h1"), "x", stage.other) if far else (stage.alias("pair"), "a", stage.main)
    stage.play(alias, {name: MOMENTS[moment]})
    with stage.connect(CHAT, http2=http2) as connection:
        sent = stage.send(connection, CHAT, alias, stream=moment != "held-answer")
        upstream.wait(lambda seen: any(_is_for(one, alias) for one in seen))
        round_trip(stage)
        go_away(stage, connection, sent, whole=whole)
        upstream.wait(lambda seen: any(one.cancelled for one in seen if _is_for(one, alias)))
    stage.play(alias, {name: CHAT.answers()})
    assert stage.call(CHAT, alias).json == CHAT.answer
    assert stage.order(alias) == [name, name]


@every_way_to_leave
def test_l12_the_tool_goes_away_while_a_limit_is_waited_out(stage: Stage, http2: bool, whole: bool) -> None:
    """L12: during a pause before the same candidate is tried again: it is not tried again."""
    limited = json_reply(429, {"error": {"message": "Rate limit reached"}}, [("retry-after-ms", "1000")])
    alias, later = stage.alias("pair"), stage.alias("pair")
    stage.play(alias, {"a": [limited, CHAT.answers()], "b": CHAT.answers()})
    stage.play(later, {"a": [limited, CHAT.answers()], "b": CHAT.answers()})
    with stage.connect(CHAT, http2=http2) as connection:
        sent = stage.send(connection, CHAT, alias)
        stage.main.wait(lambda seen: any(_is_for(one, alias) for one in seen))
        round_trip(stage)
        go_away(stage, connection, sent, whole=whole)
        # This pause begins later, so the other one would be over as well.
        assert stage.call(CHAT, later).status == 200
    assert stage.order(later) == ["a", "a"]
    assert stage.order(alias) == ["a"]
    assert stage.call(CHAT, alias).json == CHAT.answer
    assert stage.order(alias) == ["a", "a"]


@every_way_to_leave
def test_l12_the_tool_goes_away_while_all_are_suspended(quick: Stage, http2: bool, whole: bool) -> None:
    """L12: during the wait for the earliest candidate: nothing is sent for it, the next call gets its turn."""
    limited = json_reply(429, {"error": {"message": "Rate limit reached"}}, [("retry-after-ms", "1500")])
    alias = quick.alias("wait")
    quick.play(alias, {"a": [limited, CHAT.answers()], "b": [limited, CHAT.answers()]})
    assert quick.call(CHAT, alias).status == 429
    left, later = (json.dumps({**CHAT.ask(alias, False)[1], "user": user}).encode() for user in ("left", "later"))
    with quick.connect(CHAT, http2=http2) as connection:
        sent = quick.send(connection, CHAT, alias, body=left)
        round_trip(quick)
        go_away(quick, connection, sent, whole=whole)
        assert quick.call(CHAT, alias, body=later).json == CHAT.answer
    assert quick.order(alias) == ["a", "b", "a"]


@every_way_to_leave
def test_l12_the_tool_goes_away_during_a_connect(
    perform: Perform, upstream: Upstream, http2: bool, whole: bool
) -> None:
    """L12: while a connection is being made: nothing is suspended for it, and the proxy goes on."""
    settings = {"pool_connect_timeout": str(LIMIT)}
    routes = "  far-*: [a, x]\n  solo-*: [x]"
    stage = perform(routes=routes, main=upstream.deaf_url, settings=settings)
    gone, later, solo = stage.alias("far"), stage.alias("far"), stage.alias("solo")
    for alias in (gone, later, solo):
        stage.play(alias, {"x": CHAT.answers()})
    with stage.connect(CHAT, http2=http2) as connection:
        sent = stage.send(connection, CHAT, gone)
        assert stage.call(CHAT, solo).status == 200
        if whole:
            connection.close()
        else:
            connection.cancel(sent)
            assert stage.send(connection, CHAT, solo).finish().status == 200
        assert stage.call(CHAT, later).json == CHAT.answer
    assert stage.order(gone) == []
    told = [line for line in stage.proxy.log_text().splitlines() if gone in line]
    assert [line for line in told if not line.endswith("cancelled, the tool went away")] == []


def _is_for(seen: Seen, alias: str) -> bool:
    return f'"{alias}"'.encode() in seen.body  # others on this stage send bodies that are not JSON


def test_h04_a_tool_that_resets_its_stream_and_closes_suspends_nobody(perform: Perform, upstream: Upstream) -> None:
    """H04: twenty times call, RST_STREAM and close at once, while the connection to the upstream is being made."""
    stage = perform(routes="  gone-*: [a, b]\n  other-*: [a, b]")
    for round_ in range(20):
        alias = stage.alias("gone")
        stage.play(alias, {"a": silent(), "b": silent()})
        with stage.connect(CHAT, http2=True) as connection:
            sent = stage.send(connection, CHAT, alias, stream=round_ % 2 == 0)
            connection.cancel(sent)
    alias = stage.alias("other")
    stage.play(alias, {"a": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a"]
    assert "suspended" not in stage.proxy.log_text()


def reset_at_once(connection: Connection, call: Callable[[], Stream]) -> None:
    """A call and its reset in one packet."""
    with connection.in_one_packet():
        connection.cancel(call())


def reset_next(connection: Connection, call: Callable[[], Stream]) -> None:
    """A call and its reset, which may be read together or not."""
    connection.cancel(call())


def say_goodbye_at_once(connection: Connection, call: Callable[[], Stream]) -> None:
    """A call and the end of the connection in one packet."""
    with connection.in_one_packet():
        call()
        connection.say_goodbye()


def end_at_once(connection: Connection, call: Callable[[], Stream]) -> None:
    """A call, and the connection ends."""
    call()
    connection.finish_sending()


@pytest.mark.parametrize(
    ("take_back", "http2"),
    [
        *((each, True) for each in (reset_at_once, reset_next, say_goodbye_at_once, end_at_once)),
        (end_at_once, False),
    ],
    ids=["h2-reset", "h2-reset-next", "h2-goaway", "h2-end", "h1-end"],
)
def test_l12_h04_calls_that_are_taken_back_at_once_are_over(
    perform: Perform, take_back: Callable[[Connection, Callable[[], Stream]], None], http2: bool
) -> None:
    """L12, H04: forty calls, half of them on connections that end: each flow has its end and is stored, no upstream
    goes on with one, nobody is suspended."""
    settings = {"pool_attempt_flows": "false"}
    stage = perform(routes="  gone-*: [a, b]\n  other-*: [a, b]", settings=settings, extra_args=("-s", OPEN_COUNT))
    with contextlib.ExitStack() as kept:
        for number in range(40):
            alias = stage.alias("gone")
            stage.play(alias, {"a": silent(), "b": silent()})
            connection = kept.enter_context(stage.connect(CHAT, http2=http2))
            take_back(connection, functools.partial(stage.send, connection, CHAT, alias, stream=number % 2 == 0))
            if number % 4 < 2 and take_back is not end_at_once:
                connection.finish_sending()
        last = stage.alias("other")
        stage.play(last, {"a": CHAT.answers()})
        assert stage.call(CHAT, last).status == 200
        wait_until_all_have_ended(stage.proxy)
    stage.main.wait(lambda seen: all(each.cancelled for each in seen if not _is_for(each, last)))
    assert stage.order(last) == ["a"]
    assert "suspended" not in stage.proxy.log_text()
    flows = [flow for flow in stage.proxy.flows() if isinstance(flow, http.HTTPFlow)]
    assert sum(flow.error is not None for flow in flows) == 40
    assert sum(flow.response is not None for flow in flows) == 1


def wait_until_all_have_ended(proxy: Proxy) -> None:
    """Wait until no request is open that had begun before. Raises AssertionError when one stays."""
    file, now, deadline = proxy.directory / "open.json", time.time(), time.monotonic() + 20
    while file.stat().st_mtime < now or json.loads(file.read_text())["flows"]:
        assert time.monotonic() < deadline, file.read_text()
        threading.Event().wait(0.05)
