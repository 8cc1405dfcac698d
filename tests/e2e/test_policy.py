"""Suspension, selection and budgets through a real mitmdump: probes, sessions, bindings, holds and limits on silence.

Times are short here because the routes say so; no test sleeps: time passes inside the proxy, which waits a limit out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import Behaviour, Break, Gate, encoded, json_reply, sse
from .client import End
from .conftest import Perform
from .proxy import Proxy, StartProxy
from .stage import (
    CHAT,
    ENVIRONMENT,
    GEMINI,
    MESSAGES,
    RESPONSES,
    SECRETS,
    TOOL,
    Api,
    Stage,
    crashes,
    data,
    filled,
    pool_yaml,
    refusal,
    whole,
)
from .test_ends import limited, overloaded, spend
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])

WINDOW = 0.5
SOON = f"{{model_unsupported: {{seconds: {WINDOW}}}, overloaded: {{seconds: {WINDOW}, retry_same: 0}}}}"
ROUTES = f"""
  patient-*: {{candidates: [a, b], budget: {{wait: 0, patience: 3}}}}
  soon-*: {{candidates: [a, b], budget: {{wait: 0}}, actions: {SOON}}}
  session-*: {{candidates: [a, b], budget: {{wait: 0, patience: 0}}, actions: {SOON}}}
  claude-session-*: {{candidates: [claude-a, claude-b], budget: {{wait: 0}}, actions: {SOON}}}
  bound-*: {{candidates: [a, b], budget: {{wait: 0}}, actions: {{overloaded: {{retry_same: 0}}}}}}
  pair-*: {{candidates: [a, b], budget: {{wait: 0}}}}
  skew-*: {{candidates: [a, b], budget: {{wait: 0}}, actions: {{model_unsupported: {{retry_same: 1}}}}}}
  whole-*: {{candidates: [a, x], hold: complete, budget: {{wait: 0, idle: 0.4}}, actions: {SOON}}}
  last-*: {{candidates: [a], hold: complete, budget: {{idle: 0.4}}}}
  quiet-*: {{candidates: [a, b], budget: {{wait: 0, silence: 0.4, first_output: 0.4, first_event: 30}}}}
  weighted-*: {{candidates: [{{credential: a, weight: 3}}, b], strategy: weighted}}
  tiers-*:
    candidates: [{{credential: a, priority: 2}}, {{credential: b}}, {{credential: c}}]
    strategy: round_robin
    budget: {{wait: 0}}
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage on which suspensions end soon."""
    with Upstream(authority) as main, Upstream(authority) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other, ROUTES)}
        with Proxy(tmp_path_factory.mktemp("short"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


def held(gate: Gate, api: Api = CHAT) -> Behaviour:
    """An answer that waits for its gate before its first byte."""
    return json_reply(200, api.answer, gate=gate)


# -- F13: roll-out skew ------------------------------------------------------------------------------------------


@both_forms
def test_f13_a_refusal_that_is_gone_a_moment_later(short: Stage, stream: bool) -> None:
    """F13: with `retry_same: 1` A is asked once more and answers; nothing is suspended, so it is asked first again."""
    alias = short.alias("skew")
    good = whole(CHAT, stream=stream)
    short.play(alias, {"a": [refusal(CHAT, alias), good], "b": good})
    for _ in range(2):
        response = short.call(CHAT, alias, stream=stream)
        assert (response.status, response.end) == (200, End.CLEAN)
    assert short.order(alias) == ["a", "a", "a"]


@both_forms
def test_f13_a_refusal_that_stays(short: Stage, stream: bool) -> None:
    """F13, law 2: once more and no more: then B answers, and A is suspended."""
    alias = short.alias("skew")
    short.play(alias, {"a": refusal(CHAT, alias), "b": whole(CHAT, stream=stream)})
    for _ in range(2):
        assert short.call(CHAT, alias, stream=stream).status == 200
    assert short.order(alias) == ["a", "a", "b", "b"]


# -- F14: half-open ----------------------------------------------------------------------------------------------


@both_versions
def test_f14_one_of_many_probes(short: Stage, http2: bool) -> None:
    """F14: the time is over: exactly one of several requests probes A while the others use B; then A is back."""
    alias, gate = short.alias("soon"), Gate()
    short.play(alias, {"a": [refusal(CHAT, alias), held(gate), CHAT.answers()], "b": CHAT.answers()})
    assert short.call(CHAT, alias, http2=http2).status == 200
    spend(short, WINDOW * 1.2)
    with short.connect(CHAT, http2=http2) as connection:
        probe = short.send(connection, CHAT, alias)
        gate.wait_reached()
        for _ in range(4):
            assert short.call(CHAT, alias, http2=http2).status == 200
        gate.open()
        assert probe.finish().status == 200
    assert short.call(CHAT, alias, http2=http2).status == 200
    assert sorted(short.order(alias)) == ["a", "a", "a", *["b"] * 5]
    assert short.order(alias)[-1] == "a"


@both_versions
def test_f14_a_cancelled_probe_frees_the_slot(short: Stage, http2: bool) -> None:
    """F14: the tool that probes goes away; the next one may."""
    alias, gate = short.alias("soon"), Gate()
    short.play(alias, {"a": [refusal(CHAT, alias), held(gate), CHAT.answers()], "b": CHAT.answers()})
    assert short.call(CHAT, alias, http2=http2).status == 200
    spend(short, WINDOW * 1.2)
    with short.connect(CHAT, http2=http2) as connection:
        short.send(connection, CHAT, alias)
        gate.wait_reached()
    short.main.wait(lambda seen: any(one.cancelled for one in seen if one.json.get("model") == alias))
    assert short.call(CHAT, alias, http2=http2).status == 200
    assert short.order(alias) == ["a", "b", "a", "a"]


@both_versions
def test_f14_a_stream_that_has_begun_lets_the_next_one_in(short: Stage, http2: bool) -> None:
    """F14, law 4: output is enough to be asked again, the terminal event to be trusted."""
    alias, gate = short.alias("soon"), Gate()
    streaming = sse(*CHAT.lifecycle, CHAT.events[0], gate, *CHAT.events[1:])
    short.play(alias, {"a": [refusal(CHAT, alias), streaming], "b": CHAT.streams()})
    assert short.call(CHAT, alias, stream=True, http2=http2).status == 200
    spend(short, WINDOW * 1.2)
    with short.connect(CHAT, http2=http2) as one, short.connect(CHAT, http2=http2) as two:
        first = short.send(one, CHAT, alias, stream=True)
        gate.wait_reached()
        second = short.send(two, CHAT, alias, stream=True)
        gate.open()
        assert {first.finish().status, second.finish().status} == {200}
    assert short.order(alias) == ["a", "b", "a", "a"]


# -- F12, F17: everybody refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("api", [CHAT, MESSAGES, GEMINI], ids=["chat", "messages", "gemini"])
@both_forms
def test_f17_the_last_refusal_is_told_to_the_others(stage: Stage, api: Api, stream: bool) -> None:
    """F12, F17: all refuse: the first refusal; asked again: one early probe each; then the same refusal, unasked."""
    prefix = {"openai": "pair", "anthropic": "model", "gemini": "model"}[api.dialect]
    alias = stage.alias(prefix)
    stage.play(alias, {api.first: refusal(api, alias), api.second: refusal(api, alias)})
    first = stage.call(api, alias, stream=stream)
    sent = stage.order(alias)
    assert (first.status, first.header("x-should-retry")) == (api.refusal[0], "false")
    assert stage.call(api, alias, stream=stream).body == first.body
    assert stage.order(alias) == sent * 2
    for _ in range(2):
        again = stage.call(api, alias, stream=stream)
        assert (again.status, again.body) == (first.status, first.body)
        assert (again.header("x-understudy"), again.header("x-should-retry")) == ("answer", "false")
    assert stage.order(alias) == sent * 2


@pytest.mark.parametrize("echo", [False, True], ids=["silent", "echo"])
@both_forms
def test_f17_a_compressed_refusal_is_told_to_the_others(stage: Stage, echo: bool, stream: bool) -> None:
    """F17, R06: the others get it as it reads, without an encoding and without an echoed secret."""
    alias = stage.alias("pair")
    status, said = CHAT.refusal[0], filled(CHAT.refusal[1], alias)
    assert isinstance(said, dict)
    for name in ("a", "b"):
        stage.play(alias, {name: encoded(status, {**said, "key": SECRETS[name] if echo else "yours"}, "gzip")})
    for _ in range(2):
        assert stage.call(CHAT, alias, stream=stream).status == status
    assert stage.order(alias) == ["a", "b"] * 2
    again = stage.call(CHAT, alias, stream=stream)
    assert (again.status, again.header("content-encoding")) == (status, "")
    assert again.json == {**said, "key": "<understudy:a>" if echo else "yours"}
    assert again.header("x-understudy") == "answer"
    assert stage.order(alias) == ["a", "b"] * 2


# -- S12: held to the end ----------------------------------------------------------------------------------------


def broken_off(how: Break | Gate) -> Behaviour:
    """A stream that has shown output and then breaks off, or says nothing any more."""
    if isinstance(how, Gate):
        return sse(*CHAT.lifecycle, CHAT.events[0], how)
    return sse(*CHAT.lifecycle, CHAT.events[0], ending=how)


@both_versions
@pytest.mark.parametrize("how", [Break.CLOSE, Break.RESET, Gate()], ids=["cut", "reset", "silent"])
def test_s12_what_breaks_off_in_the_middle_is_replayed(short: Stage, http2: bool, how: Break | Gate) -> None:
    """S12: cut or silent after output: B's whole answer, nothing of A's.

    B is at another upstream: what a reset connection does to others that share it is not this test's business.
    """
    alias = short.alias("whole")
    short.play(alias, {"a": broken_off(how), "x": CHAT.streams()})
    response = short.call(CHAT, alias, stream=True, http2=http2)
    assert (response.status, response.end) == (200, End.CLEAN)
    assert response.body == b"".join((*CHAT.lifecycle, *CHAT.events))
    assert short.order(alias) == ["a", "x"]
    short.main.wait(lambda seen: all(one.cancelled or one.finished for one in seen if one.json.get("model") == alias))


def test_s12_an_end_without_its_terminal_event_is_no_end(short: Stage) -> None:
    """S12: proven complete, or not released: the transport ended cleanly, the stream did not."""
    alias = short.alias("whole")
    short.play(alias, {"a": sse(*CHAT.lifecycle, CHAT.events[0]), "x": CHAT.streams()})
    response = short.call(CHAT, alias, stream=True)
    assert response.body == b"".join((*CHAT.lifecycle, *CHAT.events))
    assert short.order(alias) == ["a", "x"]


def test_s12_an_error_after_output_is_replayed(short: Stage) -> None:
    """S12, S03: what could only be passed on live can be replayed here."""
    alias = short.alias("whole")
    short.play(alias, {"a": sse(*CHAT.lifecycle, CHAT.events[0], CHAT.error_event), "x": CHAT.streams()})
    assert short.call(CHAT, alias, stream=True).body == b"".join((*CHAT.lifecycle, *CHAT.events))
    assert short.order(alias) == ["a", "x"]


def test_s12_some_servers_end_without_done(short: Stage) -> None:
    """S12: a finish reason is an end as well."""
    alias = short.alias("whole")
    short.play(alias, {"a": sse(*CHAT.lifecycle, *CHAT.events[:-1])})
    assert short.call(CHAT, alias, stream=True).body == b"".join((*CHAT.lifecycle, *CHAT.events[:-1]))
    assert short.order(alias) == ["a"]


@both_versions
def test_s12_over_the_bound_it_is_live(short: Stage, http2: bool) -> None:
    """S12: beyond 8 MiB the reply is released from there, whole and in order, and never mixed with another."""
    alias, gate = short.alias("whole"), Gate()
    long = data({"choices": [{"index": 0, "delta": {"content": "x" * 1_000_000}}]})
    short.play(alias, {"a": sse(*[long] * 9, gate, *CHAT.events), "x": CHAT.streams()})
    received = b""
    with short.connect(CHAT, http2=http2) as connection:
        sent = short.send(connection, CHAT, alias, stream=True)
        while len(received) < 9 * len(long):  # it arrives while the rest is still to come
            received += sent.next_chunk() or b""
        gate.open()
        received += b"".join(sent)
    assert received == long * 9 + b"".join(CHAT.events)
    assert short.order(alias) == ["a"]


def test_s12_the_last_candidate_is_not_cut_for_a_pause(short: Stage) -> None:
    """S12, law 10: silence replays while another candidate is left, and releases otherwise."""
    alias, gate = short.alias("last"), Gate()
    short.play(alias, {"a": sse(*CHAT.lifecycle, CHAT.events[0], gate, *CHAT.events[1:])})
    with short.connect(CHAT) as connection:
        sent = short.send(connection, CHAT, alias, stream=True)
        first = sent.next_chunk()
        assert first
        gate.open()
        assert first + b"".join(sent) == b"".join((*CHAT.lifecycle, *CHAT.events))
    assert short.order(alias) == ["a"]


# -- L10: silence ------------------------------------------------------------------------------------------------


@both_versions
def test_l10_a_plain_request_has_a_limit_of_its_own_when_asked_for(short: Stage, http2: bool) -> None:
    """L10: `silence`: A says nothing, B answers, and A's attempt is cancelled at the upstream."""
    alias = short.alias("quiet")
    short.play(alias, {"a": held(Gate()), "b": CHAT.answers()})
    assert short.call(CHAT, alias, http2=http2).json == CHAT.answer
    assert short.order(alias) == ["a", "b"]
    short.main.wait(
        lambda seen: all(one.cancelled for one in seen if one.json.get("model") == alias and one is seen[0])
    )


@both_versions
def test_l10_a_stream_that_never_comes_to_output_can_be_limited(short: Stage, http2: bool) -> None:
    """L10: `first_output`: lifecycle events alone are not enough for ever, where the owner says so."""
    alias = short.alias("quiet")
    short.play(alias, {"a": sse(*CHAT.lifecycle, Gate(), *CHAT.events), "b": CHAT.streams()})
    response = short.call(CHAT, alias, stream=True, http2=http2)
    assert response.body == b"".join((*CHAT.lifecycle, *CHAT.events))
    assert short.order(alias) == ["a", "b"]


# -- P01, P02, P04 -----------------------------------------------------------------------------------------------


def test_p01_weights_and_tiers(short: Stage) -> None:
    """P01: three to one, spread out; a tier of priority is used only while the one before it has nobody."""
    weighted, tiers = short.alias("weighted"), short.alias("tiers")
    short.play(weighted, {"a": CHAT.answers(), "b": CHAT.answers()})
    for _ in range(8):
        short.call(CHAT, weighted)
    assert short.order(weighted) == ["a", "a", "b", "a"] * 2
    short.play(tiers, {"a": CHAT.answers(), "b": [CHAT.answers(), limited(30)], "c": [CHAT.answers(), limited(30)]})
    for _ in range(3):
        assert short.call(CHAT, tiers).status == 200
    assert short.order(tiers) == ["b", "c", "b", "c", "a"]


@pytest.fixture(scope="module")
def globs(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage with routes that overlap, and no default for the messages of Anthropic."""
    routes = """
  default: [c]
  glob-*: [a]
  glob-long-*: [b]
  glob-long-exact: [x]
  glob-claude-*: [claude-a]
"""
    with Upstream(authority) as main, Upstream(authority) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other, routes)}
        with Proxy(tmp_path_factory.mktemp("globs"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


@both_forms
def test_p03_the_most_specific_glob_wins(globs: Stage, stream: bool) -> None:
    """P03: a plain name, then the longest glob, then the shorter one, then `default`, if it speaks the dialect."""
    claude = globs.alias("glob-claude")
    expected = [
        *[("glob-long-exact", CHAT, "x"), (globs.alias("glob-long"), CHAT, "b"), (globs.alias("glob"), CHAT, "a")],
        *[(globs.alias(), CHAT, "c"), (claude, MESSAGES, "claude-a"), (claude, CHAT, "a")],
    ]
    for alias, api, name in expected:
        before = len(globs.order(alias))
        globs.play(alias, dict.fromkeys(("a", "b", "c", "x", "claude-a"), whole(api, stream=stream)))
        assert globs.call(api, alias, stream=stream).status == 200
        assert globs.order(alias)[before:] == [name]


@both_forms
def test_p03_an_alias_without_a_route_passes_untouched(globs: Stage, stream: bool) -> None:
    """P03, law 9: neither glob nor default: it goes where the tool meant it to, with the tool's own key, and so does
    what comes back."""
    alias = globs.alias()
    path, asked = MESSAGES.ask(alias, stream)
    body = json.dumps(asked, indent=3).encode()
    refused = refusal(MESSAGES, alias)
    globs.main.on(lambda seen: seen.credential == TOOL and alias.encode() in seen.body, refused)
    with globs.connect(MESSAGES, url=globs.main.tls_url) as tool:
        response = globs.send(tool, MESSAGES, alias, stream=stream, path=path, body=body).finish()
    assert (response.status, response.json) == (MESSAGES.refusal[0], filled(MESSAGES.refusal[1], alias))
    assert (response.header("x-understudy"), response.header("x-should-retry")) == ("", "")
    (seen,) = globs.seen(alias)
    assert (seen.path, seen.body, seen.credential) == (path, body, TOOL)


@pytest.mark.parametrize(
    ("api", "prefix", "headers", "members"),
    [
        (MESSAGES, "claude-session", [("x-claude-code-session-id", "s-{n}")], {}),
        (MESSAGES, "claude-session", [], {"metadata": {"user_id": '{"device_id":"d","session_id":"s-{n}"}'}}),
        (RESPONSES, "session", [("session-id", "s-{n}")], {}),
        (RESPONSES, "session", [], {"prompt_cache_key": "s-{n}"}),
        (CHAT, "session", [("x-session-id", "s-{n}")], {}),
    ],
    ids=["claude-code", "claude-code-body", "codex", "codex-body", "other"],
)
@both_forms
def test_p02_a_session_moves_once(
    short: Stage,
    api: Api,
    prefix: str,
    headers: list[tuple[str, str]],
    members: dict[str, object],
    stream: bool,
) -> None:
    """P02: it stays with A, moves to B when A is overloaded, and stays there although A is back; others go to A."""
    alias = short.alias(prefix)
    good = whole(api, stream=stream)
    short.play(alias, {api.first: [good, overloaded(), good], api.second: good})
    path, asked = api.ask(alias, stream)
    body = json.dumps({**asked, **members}).replace("{n}", alias).encode()
    mine = [(name, value.replace("{n}", alias)) for name, value in headers]

    def call() -> None:
        assert short.call(api, alias, stream=stream, headers=mine, body=body, path=path).status == 200

    call()
    call()
    spend(short, WINDOW * 1.2)
    call()
    assert short.call(api, alias, stream=stream).status == 200  # somebody else
    call()
    first, second = api.first, api.second
    assert short.order(alias) == [first, first, second, second, first, second]


@both_versions
@both_forms
def test_p04_a_continued_response_stays_with_its_account(short: Stage, http2: bool, stream: bool) -> None:
    """P04: it gets that account's own error and is not sent elsewhere; what is not bound is."""
    alias = short.alias("bound")
    known = f"resp_{alias.replace('-', '')}0123456789abcdef"
    answer = {**dict(RESPONSES.answer), "id": known}  # type: ignore[call-overload]
    created = data({"type": "response.created", "response": {"id": known}}, "response.created")
    good = sse(created, *RESPONSES.events) if stream else json_reply(200, answer)
    short.play(alias, {"a": [good, overloaded(), good], "b": whole(RESPONSES, stream=stream)})
    assert short.call(RESPONSES, alias, stream=stream, http2=http2).status == 200
    path, asked = RESPONSES.ask(alias, stream)
    body = json.dumps({**asked, "previous_response_id": known}).encode()
    bound = short.call(RESPONSES, alias, stream=stream, http2=http2, path=path, body=body)
    assert (bound.status, bound.header("x-request-id")) == (503, "r-503")
    assert short.order(alias) == ["a", "a"]
    assert short.call(RESPONSES, alias, stream=stream, http2=http2).status == 200
    assert short.order(alias) == ["a", "a", "b"]
    assert short.call(RESPONSES, alias, stream=stream, http2=http2, path=path, body=body).status == 200
    assert short.order(alias) == ["a", "a", "b", "a"]


# -- a stampede --------------------------------------------------------------------------------------------------


SECONDS = 1.0


def test_a_stampede_ends_with_what_is_under_way(perform: Perform) -> None:
    """500 requests while A starts refusing: A sees those that were under way, then one probe per window; none fails."""
    routes = f"  default: {{candidates: [a, b], actions: {{model_unsupported: {{seconds: {SECONDS}}}}}}}"
    stage = perform(routes=routes)
    alias, gate = stage.alias(), Gate()
    refusing = json_reply(404, {"error": {"message": f"The model `{alias}` does not exist"}}, gate=gate)
    stage.play(alias, {"a": refusing, "b": CHAT.answers()})
    half = 250
    with contextlib.ExitStack() as stack:
        # 100 streams are what one HTTP/2 connection may have at a time.
        sides = [stack.enter_context(stage.connect(CHAT, http2=True, timeout=120)) for _ in range(5)]
        sent = [stage.send(sides[number % 5], CHAT, alias) for number in range(half)]
        stage.main.wait(lambda seen: sum(one.json.get("model") == alias for one in seen) == half)
        gate.open()
        sent += [stage.send(sides[number % 5], CHAT, alias) for number in range(half)]
        responses = [each.finish() for each in sent]
    assert {(each.status, each.end) for each in responses} == {(200, End.CLEAN)}
    asked = [one for one in stage.seen(alias) if one.credential == SECRETS["a"]]
    order = stage.order(alias)
    assert order.count("b") == 2 * half
    # Nobody joins once the first refusal is known; and a probe is sent when a window has ended, one at a time.
    known = next(one.time for one in stage.seen(alias) if one.credential == SECRETS["b"])
    late = [one.time for one in asked if one.time > known + SECONDS / 2]
    assert len(late) <= (stage.seen(alias)[-1].time - known) / SECONDS + 1
    assert all(after - before >= SECONDS / 2 for before, after in itertools.pairwise(late))
    assert half <= len(asked) - len(late) <= 2 * half


# -- H06: the wall clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-3600, 3600], ids=["back", "forward"])
def test_h06_the_wall_clock_is_set_in_a_wait(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, step: int
) -> None:
    """H06: a wait lasts as long as it was to, whatever ``time.time`` says meanwhile; set back, it hung."""
    script = Path(__file__).with_name("wall_clock.py")
    pool = pool_yaml(upstream, other_upstream, "  wait-*: {candidates: [a, b], budget: {wait: 30, patience: 0}}")
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool, extra_args=("-s", str(script)))
    stage = Stage(proxy, upstream, other_upstream)
    alias = stage.alias("wait")
    stage.play(alias, {"a": [limited(1.5), CHAT.answers()], "b": limited(60)})
    with stage.connect(CHAT) as tool:
        asked = stage.send(tool, CHAT, alias)
        proxy.wait_for_log("waiting 1")
        (proxy.directory / "wall-clock").write_text(str(step))
        assert asked.finish().status == 200
    assert (proxy.directory / "wall-clock-read").exists(), "the clock was never set: this test says nothing"
    assert stage.order(alias) == ["a", "b", "a"]
