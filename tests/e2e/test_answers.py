"""What is no answer is not released as one, and silence costs seconds; through a real mitmproxy process (A01-A08)."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import (
    Behaviour,
    Break,
    Channel,
    Gate,
    Seen,
    chunks,
    drop_after_headers,
    drop_before_headers,
    json_reply,
    raw,
    redirect,
    silent,
    silent_after,
    sse,
    verbatim,
)
from .client import End
from .proxy import Proxy
from .stage import (
    APIS,
    CHAT,
    ENVIRONMENT,
    GEMINI,
    MESSAGES,
    RESPONSES,
    Api,
    Stage,
    crashes,
    data,
    filled,
    pool_yaml,
    refusal,
    whole,
)
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
JSON = [("content-type", "application/json")]
SSE = [("content-type", "text/event-stream")]

ROUTES = """
  openai-*: {candidates: [a, x]}
  anthropic-*: {candidates: [claude-a, claude-b]}
  gemini-*: {candidates: [gemini-a, gemini-b]}
  solo-*: {candidates: [a]}
  only-*: {candidates: [x]}
  keys-*: {candidates: [a, b]}
  three-*: {candidates: [a, x, b]}
  whole-*: {candidates: [a, x], hold: complete, budget: {idle: 0.6}}
  hand-*: {candidates: [a, x], budget: {hedge_after: 0.3, first_event: 1}}
  hedge-*: {candidates: [a, x], budget: {hedge_after: 0.5, seconds: 3, silence: 0.5}}
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other, ROUTES)}
        with Proxy(tmp_path_factory.mktemp("answers"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


def second_of(api: Api) -> str:
    return "x" if api.dialect == "openai" else api.second


PAGE = raw(200, [("content-type", "text/html")], b"<!doctype html><title>Log in</title><form></form>")
NOTHING = raw(200, JSON)
NULL = raw(200, JSON, b"null")
OTHER = json_reply(200, {"status": "up", "version": "1.2"})
NO_ANSWERS: dict[str, dict[bool, Behaviour]] = {
    "page": {False: PAGE, True: PAGE},
    "nothing": {False: NOTHING, True: NOTHING},
    "null": {False: NULL, True: NULL},
    "other": {False: OTHER, True: OTHER},
    "page-as-stream": {True: raw(200, SSE, b"<html>Log in</html>")},
    "error-without-event": {True: raw(200, SSE, b'{"error": {"message": "no"}}')},
    "redirect": {False: redirect("https://elsewhere.example/"), True: redirect("https://elsewhere.example/", 302)},
}


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@pytest.mark.parametrize(
    ("kind", "stream"), [(kind, stream) for kind, replies in NO_ANSWERS.items() for stream in replies]
)
def test_a01_a03_what_is_no_answer_is_not_released(stage: Stage, api: Api, kind: str, stream: bool) -> None:
    """A01, A03: HTML, nothing, `null`, other JSON, a redirect: B answers, and nobody but B got another secret."""
    alias = stage.alias(api.dialect)
    stage.play(alias, {api.first: NO_ANSWERS[kind][stream], second_of(api): whole(api, stream=stream)})
    response = stage.call(api, alias, stream=stream)
    assert (response.status, response.end) == (200, End.CLEAN)
    assert b"Log in" not in response.body
    assert stage.order(alias) == [api.first, second_of(api)]


def chat(content: object, finish: str | None = "stop", tokens: int = 0) -> object:
    message = {"role": "assistant", "content": content, "tool_calls": None}
    choices = [{"index": 0, "finish_reason": finish, "message": message}]
    return {"object": "chat.completion", "choices": choices, "usage": {"completion_tokens": tokens}}


def deltas(*steps: object) -> Behaviour:
    """A stream of chat completions: each step is (delta, finish reason), or usage."""
    events = [
        data({"choices": [{"index": 0, "delta": step[0], "finish_reason": step[1]}]})
        if isinstance(step, tuple)
        else data({"choices": [], "usage": step})
        for step in steps
    ]
    return sse(*events, b"data: [DONE]\n\n")


ROLE = {"role": "assistant"}, None
GOOGLE = {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}], "usageMetadata": {}}
MALFORMED = {"candidates": [{"content": {}, "finishReason": "MALFORMED_FUNCTION_CALL"}]}
EMPTY = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": {"output_tokens": 0}}
EMPTY_ANSWERS = {
    "choices": (CHAT, json_reply(200, {"choices": []})),
    "content": (CHAT, json_reply(200, chat(None))),
    "error": (CHAT, json_reply(200, chat("", "error"))),
    "streamed": (CHAT, deltas(ROLE, ({}, "stop"), {"prompt_tokens": 9, "completion_tokens": 0})),
    "streamed-error": (CHAT, deltas(ROLE, ({}, "error"))),
    "responses": (RESPONSES, json_reply(200, {"object": "response", "status": "completed", "output": []})),
    "messages": (MESSAGES, json_reply(200, EMPTY)),
    "gemini": (GEMINI, json_reply(200, GOOGLE)),
    "gemini-call": (GEMINI, json_reply(200, MALFORMED)),
    "gemini-streamed": (GEMINI, sse(data(GOOGLE))),
    "gemini-call-streamed": (GEMINI, sse(data(MALFORMED))),
}
FULL_ANSWERS = {
    "tokens": (CHAT, json_reply(200, chat("", tokens=7))),
    "length": (CHAT, json_reply(200, chat("", "length"))),
    "filter": (CHAT, json_reply(200, chat(None, "content_filter"))),
    "streamed": (CHAT, deltas(ROLE, ({}, "stop"), {"completion_tokens": 7})),
    "refusal": (MESSAGES, json_reply(200, {**EMPTY, "stop_reason": "refusal"})),
    "gemini": (GEMINI, json_reply(200, {"candidates": [{"finishReason": "SAFETY"}]})),
}


@pytest.mark.parametrize("kind", EMPTY_ANSWERS)
def test_a01_an_empty_answer_is_asked_elsewhere(stage: Stage, kind: str) -> None:
    """A01, A02: an end without output, and without output tokens."""
    api, empty = EMPTY_ANSWERS[kind]
    stream, alias = "streamed" in kind, stage.alias(api.dialect)
    stage.play(alias, {api.first: empty, second_of(api): whole(api, stream=stream)})
    response = stage.call(api, alias, stream=stream)
    assert response.body == (b"".join((*api.lifecycle, *api.events)) if stream else json.dumps(api.answer).encode())
    # A failure that says so itself may be asked once more (law 2); what says nothing is not.
    assert stage.order(alias) in (
        [api.first, second_of(api)],
        [api.first, *[api.first] * ("error" in kind), second_of(api)],
    )


@pytest.mark.parametrize("kind", FULL_ANSWERS)
def test_a01_an_answer_that_may_be_empty_is_released(stage: Stage, kind: str) -> None:
    """A01: a stop with usage, a refusal, a filter, a limit."""
    api, answer = FULL_ANSWERS[kind]
    alias = stage.alias(api.dialect)
    stage.play(alias, {api.first: answer})
    assert stage.call(api, alias, stream=kind == "streamed").status == 200
    assert stage.order(alias) == [api.first]


BROKEN_EVENTS = {
    "text": [b"data: error: the engine is gone\n\n"],
    "field": [b"error: the engine is gone\n\n"],
    "two-objects": [data({"error": "x"})[:-1] + data({"error": "x"})],
    "cut": [b'data: {"choices": [{"del\n\n', CHAT.error_event],
}


@pytest.mark.parametrize("kind", BROKEN_EVENTS)
@both_versions
def test_a02_an_event_that_cannot_be_read(stage: Stage, kind: str, http2: bool) -> None:
    """A02: before output B answers; after output the tool gets it as it came."""
    alias, late = stage.alias("openai"), stage.alias("openai")
    stage.play(alias, {"a": sse(*CHAT.lifecycle, *BROKEN_EVENTS[kind]), "x": CHAT.streams()})
    response = stage.call(CHAT, alias, stream=True, http2=http2)
    assert response.body == b"".join((*CHAT.lifecycle, *CHAT.events))
    assert stage.order(alias) == ["a", "x"] or stage.order(alias) == ["a", "a", "x"]
    stage.play(late, {"a": sse(CHAT.events[0], *BROKEN_EVENTS[kind])})
    assert stage.call(CHAT, late, stream=True, http2=http2).body == b"".join([CHAT.events[0], *BROKEN_EVENTS[kind]])


def test_a01_every_candidate_says_nothing(stage: Stage) -> None:
    """A01, law 6: the tool gets the first reply, byte for byte, and nobody is suspended for long."""
    alias = stage.alias("openai")
    stage.play(alias, {"a": json_reply(200, chat(None)), "x": json_reply(200, chat(""))})
    response = stage.call(CHAT, alias)
    assert (response.status, response.json) == (200, chat(None))


# -- hold: complete ----------------------------------------------------------------------------------------------

BODY = json.dumps(chat("a whole answer", tokens=3)).encode()
STREAM = b"".join((*CHAT.lifecycle, *CHAT.events))
ZIPPED = [("content-encoding", "gzip")]
UNPROVEN = {
    "json": (False, raw(200, JSON, BODY[:-3])),
    "json-closed": (False, chunks(200, JSON, BODY[:20])),
    "gzip": (False, raw(200, [*JSON, *ZIPPED], gzip.compress(BODY)[:-9])),
    "corrupt": (True, chunks(200, [*SSE, *ZIPPED], gzip.compress(STREAM)[:12] + b"\xff" * 40)),
    "gzip-stream": (True, chunks(200, [*SSE, *ZIPPED], gzip.compress(STREAM)[:-12])),
    "no-end": (True, sse(*CHAT.lifecycle, CHAT.events[0])),
    "cut": (True, sse(*CHAT.lifecycle, CHAT.events[0], ending=Break.RESET)),
    "comments": (True, sse(CHAT.events[0], *[b": alive\n\n"] * 3, Gate())),
}


@pytest.mark.parametrize("kind", UNPROVEN)
@both_versions
def test_a04_what_is_not_proven_complete_is_replayed(stage: Stage, kind: str, http2: bool) -> None:
    """A04: JSON that does not parse, gzip that ends early or is corrupt, no terminal event, only comments: B's."""
    stream, broken = UNPROVEN[kind]
    alias = stage.alias("whole")
    stage.play(alias, {"a": broken, "x": whole(CHAT, stream=stream)})
    response = stage.call(CHAT, alias, stream=stream, http2=http2)
    assert response.body == (STREAM if stream else json.dumps(CHAT.answer).encode())
    assert stage.order(alias)[-1] == "x"


@both_versions
def test_a04_a_complete_stream_is_released_at_its_terminal_event(stage: Stage, http2: bool) -> None:
    """A04: not at the end of the connection, and an error event behind it changes nothing."""
    alias, gate, late = stage.alias("whole"), Gate(), stage.alias("whole")
    stage.play(alias, {"a": sse(*CHAT.lifecycle, *CHAT.events, gate)})
    with stage.connect(CHAT, http2=http2) as tool:
        sent = stage.send(tool, CHAT, alias, stream=True)
        assert sent.read_until(b"[DONE]\n\n") == STREAM
        gate.open()
        assert sent.finish().end is End.CLEAN
    stage.play(late, {"a": sse(*CHAT.lifecycle, *CHAT.events, CHAT.error_event)})
    assert stage.call(CHAT, late, stream=True, http2=http2).body == STREAM + CHAT.error_event
    assert (stage.order(alias), stage.order(late)) == (["a"], ["a"])


# -- silence -----------------------------------------------------------------------------------------------------

SILENCES = {
    "nothing": silent(),
    "headers": silent_after(200, SSE),
    "comments": sse(b": thinking\n\n", b": still thinking\n\n", Gate()),
}


@pytest.mark.parametrize("kind", SILENCES)
@both_versions
def test_a05_a_silent_candidate_has_company(stage: Stage, kind: str, http2: bool) -> None:
    """A05: B is asked as well, its stream is the tool's, A is cancelled at its upstream, nobody is suspended."""
    alias = stage.alias("hedge")
    stage.play(alias, {"a": SILENCES[kind], "x": CHAT.streams()})
    response = stage.call(CHAT, alias, stream=True, http2=http2)
    assert (response.status, response.body, response.end) == (200, STREAM, End.CLEAN)
    assert stage.order(alias) == ["a", "x"]
    stage.main.wait(lambda seen: all(one.cancelled for one in seen if one.json.get("model") == alias))
    log = stage.proxy.log_text()
    assert f"a {alias}: no event after" in log
    assert f"a {alias}: hedged: given up after" in log
    assert f"a {alias}: overloaded" not in log


def test_a05_the_slow_one_may_win(stage: Stage) -> None:
    """A05: A speaks after B was asked: B is cancelled, and what it says is in nobody's bytes."""
    alias, gate = stage.alias("hedge"), Gate()
    stage.play(alias, {"a": sse(gate, *CHAT.events), "x": silent()})
    with stage.connect(CHAT) as tool:
        sent = stage.send(tool, CHAT, alias, stream=True)
        stage.other.wait(lambda seen: any(one.json.get("model") == alias for one in seen))
        gate.open()
        assert sent.finish().body == b"".join(CHAT.events)
    stage.other.wait(lambda seen: all(one.cancelled for one in seen if one.json.get("model") == alias))


def test_a05_a_plain_call_with_a_limit_on_silence(stage: Stage) -> None:
    alias = stage.alias("hedge")
    stage.play(alias, {"a": silent(), "x": CHAT.answers()})
    assert stage.call(CHAT, alias).json == CHAT.answer
    assert stage.order(alias) == ["a", "x"]


@pytest.mark.parametrize("kind", SILENCES)
def test_a05_both_silent(stage: Stage, kind: str) -> None:
    """A05: bounded by the budget of 3 s: an answer of ours, or the real reply in hand, and never an empty success."""
    alias = stage.alias("hedge")
    stage.play(alias, {"a": SILENCES[kind], "x": SILENCES[kind]})
    response = stage.call(CHAT, alias, stream=True)
    assert (response.status, response.header("x-understudy")) == (503, "answer")


@pytest.mark.parametrize("kind", SILENCES)
def test_a05_the_real_reply_in_hand(stage: Stage, kind: str) -> None:
    """A05: B refuses at once and A stays silent: after `first_event` the tool gets what B has said."""
    alias = stage.alias("hand")
    stage.play(alias, {"a": SILENCES[kind], "x": refusal(CHAT, alias)})
    response = stage.call(CHAT, alias, stream=True)
    assert (response.status, response.json) == (400, filled(CHAT.refusal[1], alias))
    assert stage.order(alias) == ["a", "x"]


# -- truncation --------------------------------------------------------------------------------------------------

# Not a TCP reset: it can overtake what was sent before it.
PAIRS = {
    "h1-h1": ({}, Break.CLOSE),
    "h2-h2": ({"http2": True}, Break.STREAM),
    "h2-h2-close": ({"http2": True}, Break.CLOSE),
    "h1-h2": ({"h2_second": True}, Break.STREAM),
    "h1-h2-close": ({"h2_second": True}, Break.CLOSE),
}
FRAMINGS = {"chunked": [], "length": [("content-length", "4000")]}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("pair", PAIRS)
def test_a06_a_cut_never_looks_like_a_clean_end(stage: Stage, pair: str, framing: str) -> None:
    """A06: whatever the tool and the upstream speak: the tool sees an error where the upstream broke off."""
    how, ending = PAIRS[pair]
    alias = stage.alias("openai")
    stage.play(alias, {"a": drop_after_headers(200, [*SSE, *FRAMINGS[framing]], CHAT.events[0], ending)})
    with stage.connect(CHAT, **how) as tool:  # type: ignore[arg-type]
        response = stage.send(tool, CHAT, alias, stream=True).finish()
    [seen] = stage.seen(alias)
    assert seen.http_version == {"h1": "HTTP/1.1", "h2": "HTTP/2"}[pair.split("-")[1]]
    assert CHAT.events[0] in response.body
    assert response.end is End.CUT


@pytest.mark.parametrize("tool", ["h1", "h1-to-h2", "h2"])
@pytest.mark.parametrize("how", Break)
def test_a06_a_cut_in_the_middle_of_a_stream(stage: Stage, how: Break, tool: str) -> None:
    """A06: a TCP reset, a GOAWAY, a close, a reset of the stream, after the tool has had the first event."""
    alias, gate = stage.alias("openai"), Gate()
    stage.play(alias, {"a": sse(CHAT.events[0], gate, ending=how), "x": CHAT.streams()})
    with stage.connect(CHAT, http2=tool == "h2", h2_second=tool == "h1-to-h2") as connection:
        sent = stage.send(connection, CHAT, alias, stream=True)
        assert sent.read_until(CHAT.events[0]) == CHAT.events[0]
        gate.open()
        response = sent.finish()
    assert (response.body, response.end) == (CHAT.events[0], End.CUT)
    assert stage.order(alias) == ["a"]


@pytest.mark.parametrize("tool", ["h1-to-h2", "h2"])
def test_a06_a_stream_goes_on_when_its_upstream_ends_the_connection_in_order(stage: Stage, tool: str) -> None:
    """A06: a GOAWAY without an error cuts nothing that is still served; the next call has another connection."""
    alias, other, gate = stage.alias("openai"), stage.alias("openai"), Gate()

    async def leave(channel: Channel, seen: Seen) -> None:
        await channel.head(200, SSE)
        await channel.data(CHAT.events[0])
        await channel.goodbye()
        await gate.passed()
        for event in CHAT.events[1:]:
            await channel.data(event)
        await channel.end()

    stage.play(alias, {"a": leave})
    stage.play(other, {"a": CHAT.streams()})
    with stage.connect(CHAT, http2=tool == "h2", h2_second=tool == "h1-to-h2") as connection:
        sent = stage.send(connection, CHAT, alias, stream=True)
        assert sent.read_until(CHAT.events[0]) == CHAT.events[0]
        gate.wait_reached()
        if tool == "h2":
            assert stage.send(connection, CHAT, other, stream=True).finish().end is End.CLEAN
        gate.open()
        response = sent.finish()
        assert (response.body, response.end) == (b"".join(CHAT.events), End.CLEAN)
        if tool == "h1-to-h2":
            assert stage.send(connection, CHAT, other, stream=True).finish().end is End.CLEAN
    (first,), (second,) = stage.seen(alias), stage.seen(other)
    assert first.http_version == second.http_version == "HTTP/2"
    assert first.connection != second.connection
    assert first.finished


@both_versions
def test_a06_a_stream_that_only_the_connections_end_delimits(stage: Stage, http2: bool) -> None:
    """A06: HTTP/1.1 without a length. A tool on HTTP/2 has a clean end only of what had its terminal event."""
    alias = stage.alias("only")
    head = b"HTTP/1.1 200 Test\r\ncontent-type: text/event-stream\r\n\r\n"
    stage.play(alias, {"x": verbatim(head, *CHAT.lifecycle, *CHAT.events)})
    response = stage.call(CHAT, alias, stream=True, http2=http2)
    assert (response.status, response.body, response.end) == (200, STREAM, End.CLEAN)
    [seen] = stage.seen(alias)
    assert seen.http_version == "HTTP/1.1"
    cut = stage.alias("only")
    stage.play(cut, {"x": verbatim(head, *CHAT.lifecycle, CHAT.events[0])})
    response = stage.call(CHAT, cut, stream=True, http2=http2)
    assert response.body == b"".join((*CHAT.lifecycle, CHAT.events[0]))
    # On HTTP/1.1 the tool sees what the upstream said: no length, and a close.
    assert response.end is (End.CUT if http2 else End.CLEAN)
    assert bool(response.header("transfer-encoding")) is False


def test_a06_a_whole_stream_of_http2_ends_cleanly_on_http1(stage: Stage) -> None:
    """A06: the other side of it: what came to its end has a clean one, and the connection stays usable."""
    alias = stage.alias("openai")
    stage.play(alias, {"a": CHAT.streams()})
    with stage.connect(CHAT, h2_second=True) as tool:
        for _ in range(2):
            response = stage.send(tool, CHAT, alias, stream=True).finish()
            assert (response.body, response.end) == (STREAM, End.CLEAN)
            assert response.header("transfer-encoding") == "chunked"


# -- flaky candidates --------------------------------------------------------------------------------------------

FLAKY = {
    "drop": drop_before_headers(),
    "reset": drop_before_headers(Break.RESET),
    "headers": drop_after_headers(200, SSE),
    "in-stream": CHAT.fails_in_stream(),
    "busy": json_reply(503, {"error": {"message": "The server is overloaded"}}),
}


@pytest.mark.parametrize("second", FLAKY)
@pytest.mark.parametrize("first", FLAKY)
def test_a07_the_third_is_asked(stage: Stage, first: str, second: str) -> None:
    """A07: three candidates, the first two flaky: the third is asked within the default budget."""
    alias = stage.alias("three")
    stage.play(alias, {"a": FLAKY[first], "x": FLAKY[second], "b": CHAT.streams()})
    assert stage.call(CHAT, alias, stream=True, anew=True).body == STREAM
    assert stage.order(alias)[-1] == "b"


@both_forms
@both_versions
@pytest.mark.parametrize("how", [Break.CLOSE, Break.RESET])
def test_a08_one_drop_is_asked_once_more_at_once(stage: Stage, how: Break, http2: bool, stream: bool) -> None:
    """A08: the same candidate on a new connection; a single candidate too; the upstream is not out."""
    for prefix in ("solo", "keys"):
        alias = stage.alias(prefix)
        stage.play(alias, {"a": [drop_before_headers(how), whole(CHAT, stream=stream)], "b": CHAT.answers()})
        begun = time.monotonic()
        response = stage.call(CHAT, alias, stream=stream, http2=http2, anew=True)
        assert response.status == 200
        assert stage.order(alias) == ["a", "a"]
        one, two = stage.seen(alias)
        assert one.connection != two.connection
        assert time.monotonic() - begun < 20  # no step of a suspension is waited for: it would say so in the log
    assert "every candidate is suspended" not in stage.proxy.log_text()[-4000:]


@both_forms
def test_a08_the_other_credential_is_asked_and_the_upstream_is_not_out(stage: Stage, stream: bool) -> None:
    """A08: two credentials at one upstream, the first of which drops twice."""
    alias, other = stage.alias("keys"), stage.alias("keys")
    stage.play(alias, {"a": drop_before_headers(), "b": whole(CHAT, stream=stream)})
    assert stage.call(CHAT, alias, stream=stream, anew=True).status == 200
    assert stage.order(alias) == ["a", "a", "b"]
    stage.play(other, {"a": CHAT.answers(), "b": CHAT.answers()})
    assert stage.call(CHAT, other, anew=True).status == 200
    assert stage.order(other) == ["a"]
    log = stage.proxy.log_text()
    assert f"a {alias}: overloaded by builtin/closed" in log
    assert "the upstream closed or reset the connection" in log
