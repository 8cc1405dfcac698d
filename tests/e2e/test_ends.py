"""How a call ends when not everybody can answer: limits and their hints, waits, budgets, and what the tool is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from mitmproxy.http import HTTPFlow

from .authority import Authority
from .behaviours import Behaviour, Gate, Seen, chunks, drop_before_headers, json_reply, raw, sse
from .client import End, Response
from .conftest import Perform
from .proxy import Proxy, StartProxy
from .stage import (
    APIS,
    CHAT,
    ENVIRONMENT,
    GEMINI,
    MESSAGES,
    SECRETS,
    TOOL,
    Api,
    Stage,
    crashes,
    pool_yaml,
    refusal,
    whole,
)
from .upstream import Upstream

pytestmark = pytest.mark.usefixtures("no_crash")

every_api = pytest.mark.parametrize("api", APIS.values(), ids=APIS)
both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
JSON = [("content-type", "application/json")]

ROUTES = """
  openai-*: {candidates: [a, b, c], budget: {wait: 0, patience: 0}}
  anthropic-*: {candidates: [claude-a, claude-b], budget: {wait: 0, patience: 0}}
  gemini-*: {candidates: [gemini-a, gemini-b], budget: {wait: 0, patience: 0}}
  pair-*: {candidates: [a, b], budget: {wait: 0, patience: 0}}
  solo-*: {candidates: [a], budget: {wait: 0}}
  wait-*: {candidates: [a, b], budget: {wait: 5, patience: 0}}
  brief-*: {candidates: [a, b], budget: {wait: 5, patience: 0, seconds: 0.8}}
  patient-*: {candidates: [a, b], budget: {wait: 0, patience: 3}}
  two-*: {candidates: [a, b, c], budget: {wait: 0, attempts: 2}}
"""


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage with tight budgets."""
    with Upstream(authority) as main, Upstream(authority) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other, ROUTES)}
        with Proxy(tmp_path_factory.mktemp("tight"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


def limited(seconds: float, message: str = "Rate limit reached, slow down") -> Behaviour:
    """A rate limit that says for how long."""
    error = {"error": {"message": message, "type": "rate_limit_error"}}
    return json_reply(429, error, [("retry-after-ms", f"{seconds * 1000:.0f}"), ("x-request-id", f"r-{seconds:g}")])


def overloaded(message: str = "The server is overloaded") -> Behaviour:
    """A fault of the moment."""
    return json_reply(503, {"error": {"message": message, "type": "server_error"}}, [("x-request-id", "r-503")])


def rejected(status: int = 401) -> Behaviour:
    """The credential is wrong."""
    error = {"message": "Incorrect API key provided.", "type": "invalid_request_error", "code": "invalid_api_key"}
    return json_reply(status, {"error": error})


def spend(stage: Stage, seconds: float) -> None:
    """Let this much time pass, measured by the proxy itself: a limit is waited out."""
    alias = stage.alias("patient")
    stage.play(alias, {"a": [limited(seconds), CHAT.answers()]})
    begun = time.monotonic()
    assert stage.call(CHAT, alias).status == 200
    assert time.monotonic() - begun >= seconds


def own_lines(api: Api, response: Response) -> list[str]:
    """The lines of an answer of our own, which has the shape of the tool's dialect."""
    assert response.header("x-understudy") == "answer"
    assert response.header("content-type") == "application/json"
    assert response.end is End.CLEAN
    document = response.json
    assert isinstance(document, dict)
    error = document["error"]
    match api.dialect:
        case "anthropic":
            assert document["type"] == "error"
            assert error.keys() >= {"type", "message"}
        case "gemini":
            assert error.keys() >= {"code", "message", "status"}
            assert error["code"] == response.status
        case _:
            assert error.keys() == {"message", "type", "param", "code"}
    return str(error["message"]).split("\n")


# -- limits --------------------------------------------------------------------------------------------------------


def _limit(headers: dict[str, str] | None = None, **error: object) -> Behaviour:
    body = {"error": {"message": "Too many requests", "type": "rate_limit_error", **error}}
    return json_reply(429, body, list((headers or {}).items()))


def _gated_limit(gate: Gate, seconds: str = "") -> Behaviour:
    error = {"error": {"message": "Too many requests", "type": "rate_limit_error"}}
    return json_reply(429, error, [("retry-after", seconds)] if seconds else [], gate=gate)


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "40s"}
HINTS: dict[str, tuple[Api, Callable[[], Behaviour]]] = {
    "seconds": (CHAT, lambda: _limit({"retry-after": "40"})),
    "date": (CHAT, lambda: _limit({"retry-after": format_datetime(_in(40), usegmt=True)})),
    "milliseconds": (CHAT, lambda: _limit({"retry-after-ms": "40000", "retry-after": "1"})),
    "resets-in": (CHAT, lambda: _limit(code="rate_limit_exceeded", resets_in_seconds=40)),
    "sentence": (CHAT, lambda: _limit(message="Rate limit reached. Please try again in 40s.")),
    "unified": (MESSAGES, lambda: _limit({"anthropic-ratelimit-unified-reset": f"{_in(40).timestamp():.0f}"})),
    "retry-info": (GEMINI, lambda: _limit(code=429, status="RESOURCE_EXHAUSTED", details=[RETRY_INFO])),
}


@pytest.mark.parametrize(("api", "first_limit"), HINTS.values(), ids=HINTS)
@both_versions
@both_forms
def test_l01_w03_limits_and_hints(
    tight: Stage, api: Api, first_limit: Callable[[], Behaviour], http2: bool, stream: bool
) -> None:
    """L01, W03: B answers at once; the suspension lasts as long as the reply says, and when nobody is left the tool
    is told when the first candidate comes back."""
    alias = tight.alias(api.dialect)
    names = [api.first, api.second]
    tight.play(alias, {api.first: first_limit(), api.second: whole(api, stream=stream)})
    if api is CHAT:
        tight.play(alias, {"c": limited(200)})
        names.append("c")
    assert tight.call(api, alias, stream=stream, http2=http2).status == 200

    tight.play(alias, {api.second: limited(100)})
    real = tight.call(api, alias, stream=stream, http2=http2)
    assert (real.status, real.header("x-request-id")) == (429, "r-100")
    assert (real.header("retry-after-ms"), real.header("x-should-retry")) == ("60000", "")
    order = [api.first, api.second, *names[1:]]
    assert tight.order(alias) == order

    own = tight.call(api, alias, stream=stream, http2=http2)
    assert tight.order(alias) == order
    assert own.status == 429
    assert 35 <= int(own.header("retry-after")) <= 41
    assert own.header("x-should-retry") == ""
    _, *lines = own_lines(api, own)
    assert [line.split()[1] for line in lines] == names
    assert all(f" {alias}: rate_limited by " in line for line in lines)
    assert ["suspended for another 3" in lines[0] or "another 4" in lines[0], "another 1m" in lines[1]] == [True, True]


@both_versions
def test_l02_a_limit_without_a_hint(tight: Stage, http2: bool) -> None:
    """L02: B answers at once, and A is back after a second."""
    alias = tight.alias("pair")
    tight.play(alias, {"a": [_limit(), CHAT.answers()], "b": CHAT.answers()})
    for _ in range(2):
        assert tight.call(CHAT, alias, http2=http2).status == 200
    spend(tight, 1.2)  # a step of ours is up to a tenth longer
    assert tight.call(CHAT, alias, http2=http2).status == 200
    assert tight.order(alias) == ["a", "b", "b", "a"]


@both_forms
def test_f15_a_shorter_hint_shortens_nothing(tight: Stage, stream: bool) -> None:
    """F15: two calls meet A's limit, the later one with a shorter time: A stays out as long as the first one said."""
    alias = tight.alias("pair")
    long, short = Gate(), Gate()
    good = whole(CHAT, stream=stream)
    tight.play(alias, {"a": [_gated_limit(long, "1500"), _gated_limit(short, "20")], "b": [good, good, limited(1200)]})
    with tight.connect(CHAT) as one, tight.connect(CHAT) as two:
        first = tight.send(one, CHAT, alias, stream=stream)
        long.wait_reached()
        second = tight.send(two, CHAT, alias, stream=stream)
        short.wait_reached()
        for gate, sent in ((long, first), (short, second)):
            gate.open()
            assert sent.finish().status == 200
    assert tight.call(CHAT, alias, stream=stream).status == 429
    _, line, _ = own_lines(CHAT, tight.call(CHAT, alias, stream=stream))
    assert line.startswith(f"- a {alias}: rate_limited by ")
    assert "suspended for another 25m" in line or "another 24m" in line
    assert tight.order(alias) == ["a", "a", "b", "b", "b"]


@both_forms
def test_f15_two_limits_in_one_window_count_once(tight: Stage, stream: bool) -> None:
    """F15: two calls meet the same limit, which names no time: A is back after the first step, not the second."""
    alias, gate = tight.alias("pair"), Gate()
    good = whole(CHAT, stream=stream)
    tight.play(alias, {"a": [_gated_limit(gate), _gated_limit(gate), good], "b": good})
    with tight.connect(CHAT) as one, tight.connect(CHAT) as two:
        sent = [tight.send(tool, CHAT, alias, stream=stream) for tool in (one, two)]
        tight.main.wait(lambda seen: sum(each.json.get("model") == alias for each in seen) == 2)
        gate.open()
        assert [each.finish().status for each in sent] == [200, 200]
    spend(tight, 1.2)  # a step of ours is up to a tenth longer; the second one is 2 s
    assert tight.call(CHAT, alias, stream=stream).status == 200
    assert tight.order(alias) == ["a", "a", "b", "b", "a"]


@both_versions
@both_forms
def test_l13_a_short_limit_is_waited_out(tight: Stage, http2: bool, stream: bool) -> None:
    """L13: a hint within patience: the same candidate answers, once; beyond it, or the second time: B at once."""
    once, twice, long = (tight.alias("patient") for _ in range(3))
    good = whole(CHAT, stream=stream)
    tight.play(once, {"a": [limited(0.2), good], "b": good})
    tight.play(twice, {"a": limited(0.2), "b": good})
    tight.play(long, {"a": limited(5), "b": good})
    for alias, order in ((once, ["a", "a"]), (twice, ["a", "a", "b"]), (long, ["a", "b"])):
        begun = time.monotonic()
        assert tight.call(CHAT, alias, stream=stream, http2=http2).status == 200
        assert tight.order(alias) == order
        waited = 0.0 if alias == long else 0.2
        assert time.monotonic() - begun >= waited - 0.05


# -- waits and budgets ---------------------------------------------------------------------------------------------


@both_versions
@both_forms
def test_w01_one_wait_and_success(tight: Stage, http2: bool, stream: bool) -> None:
    """W01: all are cooling, the earliest for a moment: the call waits for it once and succeeds."""
    alias = tight.alias("wait")
    good = whole(CHAT, stream=stream)
    tight.play(alias, {"a": [limited(30), good], "b": [limited(1.5), good]})
    begun = time.monotonic()
    assert tight.call(CHAT, alias, stream=stream, http2=http2).status == 200
    assert time.monotonic() - begun > 1.4
    assert tight.order(alias) == ["a", "b", "b"]


@both_versions
@pytest.mark.parametrize("prefix", ["wait", "brief"], ids=["beyond-wait", "beyond-seconds"])
def test_w02_no_wait_that_is_too_long(tight: Stage, http2: bool, prefix: str) -> None:
    """W02, W08: the earliest comes back beyond `wait`, or beyond `seconds`: answered at once."""
    alias = tight.alias(prefix)
    tight.play(alias, {"a": limited(30), "b": limited(20 if prefix == "wait" else 4)})
    assert tight.call(CHAT, alias, http2=http2).status == 429
    own = tight.call(CHAT, alias, http2=http2)
    assert own.status == 429
    assert own_lines(CHAT, own)
    assert tight.order(alias) == ["a", "b"]


@both_versions
def test_w04_the_budget_of_attempts(tight: Stage, http2: bool) -> None:
    """W04: attempts are counted over candidates and repeats together; what is skipped costs none."""
    refused, repeated, skipped = (tight.alias("two") for _ in range(3))
    tight.play(refused, {"a": refusal(CHAT, refused), "b": refusal(CHAT, refused), "c": CHAT.answers()})
    assert tight.call(CHAT, refused, http2=http2).status == 400
    assert tight.order(refused) == ["a", "b"]
    # A repeat would take the place of a candidate that was not asked (A07, law 2).
    tight.play(repeated, {"a": overloaded(), "b": overloaded(), "c": CHAT.answers()})
    assert tight.call(CHAT, repeated, http2=http2).status == 503
    assert tight.order(repeated) == ["a", "b"]
    tight.play(skipped, {"a": limited(50), "b": limited(50), "c": CHAT.answers()})
    assert tight.call(CHAT, skipped, http2=http2).status == 429
    assert tight.call(CHAT, skipped, http2=http2).status == 200
    assert tight.order(skipped) == ["a", "b", "c"]


@both_forms
def test_w04_a_tool_that_hangs_up_shares_its_budget(tight: Stage, stream: bool) -> None:
    """W04: it gives a silent candidate up and asks the same again: one attempt is left of two, and B has no turn."""
    alias = tight.alias("two")
    tight.play(alias, {"a": [json_reply(200, CHAT.answer, gate=Gate()), refusal(CHAT, alias)], "b": CHAT.answers()})
    with tight.connect(CHAT) as tool:
        tight.send(tool, CHAT, alias, stream=stream)
        tight.main.wait(lambda seen: any(one.json.get("model") == alias for one in seen))
    tight.main.wait(lambda seen: all(one.cancelled for one in seen if one.json.get("model") == alias))
    assert tight.call(CHAT, alias, stream=stream).status == 400
    assert tight.order(alias) == ["a", "a"]


def test_w04_a_tool_that_stops_a_stream_was_answered(tight: Stage) -> None:
    """W04: whoever has seen output, stops it and asks the same again has a budget of its own."""
    alias = tight.alias("two")
    running = sse(*CHAT.lifecycle, CHAT.events[0], Gate())
    tight.play(alias, {"a": [running, refusal(CHAT, alias)], "b": CHAT.streams()})
    with tight.connect(CHAT) as tool:
        assert tight.send(tool, CHAT, alias, stream=True).next_chunk()
    tight.main.wait(lambda seen: all(one.cancelled for one in seen if one.json.get("model") == alias))
    assert tight.call(CHAT, alias, stream=True).status == 200
    assert tight.order(alias) == ["a", "a", "b"]


@both_versions
@both_forms
def test_w08_nothing_begins_after_the_deadline(tight: Stage, http2: bool, stream: bool) -> None:
    """W04, W08: after `seconds` no attempt begins, but a reply that is under way is never cut by it."""
    good, bad = tight.alias("brief"), tight.alias("brief")
    gates = {good: Gate(), bad: Gate()}
    error = json.dumps({"error": {"message": f"no model {bad}", "code": "model_not_found"}}).encode()
    # A streamed request that has had no byte of a reply may be given up for its silence (L10), so here it has.
    if stream:
        body = b"".join((*CHAT.lifecycle, *CHAT.events))
        parts = {good: sse(*CHAT.lifecycle, gates[good], *CHAT.events), bad: chunks(404, JSON, gates[bad], error)}
    else:
        body = json.dumps(CHAT.answer).encode()
        parts = {good: raw(200, JSON, body, gate=gates[good]), bad: raw(404, JSON, error, gate=gates[bad])}
    for alias, expected in ((good, (200, body)), (bad, (404, error))):
        tight.play(alias, {"a": parts[alias], "b": whole(CHAT, stream=stream)})
        with tight.connect(CHAT, http2=http2) as connection:
            sent = tight.send(connection, CHAT, alias, stream=stream)
            gates[alias].wait_reached()
            spend(tight, 0.85)
            gates[alias].open()
            response = sent.finish()
        assert (response.status, response.body, response.end) == (*expected, End.CLEAN)
        assert tight.order(alias) == ["a"]


@both_versions
def test_w08_a_plain_call_that_breaks_after_the_deadline(tight: Stage, http2: bool) -> None:
    """W08: with `silence` off nothing cuts the call; when it breaks past `seconds`, neither A nor B is asked again."""
    alias, gate = tight.alias("brief"), Gate()
    tight.play(alias, {"a": drop_before_headers(gate=gate), "b": CHAT.answers()})
    with tight.connect(CHAT, http2=http2) as connection:
        sent = tight.send(connection, CHAT, alias)
        gate.wait_reached()
        spend(tight, 0.85)
        assert tight.order(alias) == ["a"]
        gate.open()
        response = sent.finish()
    assert response.status in (400, 503)
    assert response.header("x-understudy") == "answer"
    assert tight.order(alias) == ["a"]


# -- the most hopeful reply ----------------------------------------------------------------------------------------


@both_versions
@both_forms
@pytest.mark.parametrize("curable_first", [True, False], ids=["kept", "last"])
def test_w05_the_most_hopeful_reply(tight: Stage, http2: bool, stream: bool, curable_first: bool) -> None:
    """W05: of what was said, the tool gets what a later retry can cure, byte for byte, with its own headers."""
    alias = tight.alias("pair")
    names = ("a", "b") if curable_first else ("b", "a")
    body = b'{"error" : {"message":"Rate limit reached\\u0021", "type":"rate_limit_error"}}\n'
    headers = [*JSON, ("retry-after", "45"), ("x-request-id", "r-1"), ("x-ratelimit-limit-requests", "7")]
    tight.play(alias, {names[0]: raw(429, headers, body), names[1]: refusal(CHAT, alias)})
    response = tight.call(CHAT, alias, stream=stream, http2=http2)
    assert (response.status, response.body, response.end) == (429, body, End.CLEAN)
    assert [header for header in response.headers if header[0] != "content-length"] == headers
    assert response.header("content-length") == str(len(body))
    assert tight.order(alias) == ["a", "b"]


@both_versions
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_w05_an_error_inside_a_stream(tight: Stage, http2: bool, framing: str) -> None:
    """W05: an error event that was held back is released up to where it came, and ends cleanly."""
    alias, credential = tight.alias("two"), SECRETS["a"]
    said = b"".join((*CHAT.lifecycle, CHAT.error_event))
    headers = [("content-length", str(len(said) + 100))] if framing == "length" else []
    failing = sse(*CHAT.lifecycle, CHAT.error_event, Gate(), headers=headers)
    tight.play(alias, {"a": failing, "b": refusal(CHAT, alias)})
    response = tight.call(CHAT, alias, stream=True, http2=http2)
    assert (response.status, response.body, response.end) == (200, said, End.CLEAN)
    assert tight.order(alias) == ["a", "b"]

    def left(one: Seen) -> bool:
        return one.cancelled or one.json.get("model") != alias or one.credential != credential

    tight.main.wait(lambda seen: all(map(left, seen)))


@both_versions
def test_w05_a_long_retry_after_is_capped(tight: Stage, http2: bool) -> None:
    """Law 6, W09: a Retry-After of hours becomes a minute, and the tool is told that another round cannot help; the
    true times are in our own answer, which is a 400."""
    alias = tight.alias("pair")
    tight.play(alias, {"a": _limit({"retry-after": "1500"}), "b": _limit({"retry-after": "1200"})})
    real = tight.call(CHAT, alias, http2=http2)
    assert (real.status, real.header("retry-after"), real.header("x-should-retry")) == (429, "60", "false")
    own = tight.call(CHAT, alias, http2=http2)
    assert (own.status, own.header("retry-after"), own.header("x-should-retry")) == (400, "", "false")
    _, first, second = own_lines(CHAT, own)
    assert "suspended for another 25m" in first or "another 24m" in first
    assert "suspended for another 20m" in second or "another 19m" in second
    assert tight.order(alias) == ["a", "b"]


@every_api
@both_forms
@both_versions
def test_w03_a_fault_of_the_moment(tight: Stage, api: Api, stream: bool, http2: bool) -> None:
    """W03, W09: nothing can be sent because all were overloaded a moment ago: 503, and when to come back.

    A10: the tool's own retry of the first call goes by the tool's own schedule.
    """
    alias = tight.alias(api.dialect)
    names = [api.first, api.second]
    names += ["c"] * (api.dialect == "openai")
    tight.play(alias, {name: overloaded() for name in names})
    real = tight.call(api, alias, stream=stream, http2=http2)
    assert (real.status, real.header("x-request-id"), real.header("x-should-retry")) == (503, "r-503", "")
    sent = tight.order(alias)
    assert sent == [each for name in names for each in (name, name)]
    another = json.dumps(api.ask(alias, stream)[1]).encode() + b"\n"
    own = tight.call(api, alias, stream=stream, http2=http2, body=another)
    assert tight.order(alias) == sent
    assert own.status == 503
    assert 1 <= int(own.header("retry-after")) <= 4  # 3 s with up to 10 % on top, rounded up
    retried = tight.call(api, alias, stream=stream, http2=http2)
    assert (retried.status, retried.header("retry-after"), retried.header("x-should-retry")) == (503, "", "")
    headline, *lines = own_lines(api, own)
    assert alias in headline
    assert [line.split()[1] for line in lines] == names


# -- one candidate -------------------------------------------------------------------------------------------------

OWN_ERRORS = {
    "refusal": (404, {"error": {"message": "The model `{m}` does not exist", "code": "model_not_found"}}),
    "invalid": (400, {"error": {"message": "malformed payload", "type": "invalid_request_error"}}),
    "forbidden-model": (403, {"error": {"message": "Your key is not authorized to access the model {m}"}}),
    "overloaded": (503, {"error": {"message": "The server is overloaded"}}),
    "internal": (500, {"error": {"message": "internal"}}),
}


@pytest.mark.parametrize(("status", "error"), OWN_ERRORS.values(), ids=OWN_ERRORS)
@both_forms
@both_versions
def test_w06_the_only_candidate(tight: Stage, status: int, error: object, stream: bool, http2: bool) -> None:
    """W06: its own error passes through unchanged, every time, and its suspension keeps nobody from asking."""
    alias = tight.alias("solo")
    body = json.dumps(error).replace("{m}", alias).encode() + b"\n"
    tight.play(alias, {"a": raw(status, [*JSON, ("x-request-id", "r-9")], body)})
    for _ in range(2):
        response = tight.call(CHAT, alias, stream=stream, http2=http2)
        assert (response.status, response.body, response.end) == (status, body, End.CLEAN)
        assert response.header("x-request-id") == "r-9"
        assert (response.header("x-should-retry"), response.header("x-understudy")) == ("", "")
    tight.play(alias, {"a": CHAT.answers()})
    assert tight.call(CHAT, alias).status == 200


@both_versions
def test_w06_a_stated_window_of_the_only_candidate(tight: Stage, http2: bool) -> None:
    """W06, law 6: inside a window that the upstream stated, the only candidate is not asked."""
    alias = tight.alias("solo")
    tight.play(alias, {"a": _limit({"retry-after": "30"})})
    real = tight.call(CHAT, alias, http2=http2)
    assert (real.status, real.header("retry-after"), real.header("x-understudy")) == (429, "30", "")
    own = tight.call(CHAT, alias, http2=http2)
    assert own.status == 429
    assert 25 <= int(own.header("retry-after")) <= 30
    assert len(own_lines(CHAT, own)) == 2
    assert tight.order(alias) == ["a"]


# -- credentials ---------------------------------------------------------------------------------------------------


@both_versions
@both_forms
@pytest.mark.parametrize("status", [401, 403])
def test_w07_a_rejected_credential_is_not_the_tools_own(
    perform: Perform, http2: bool, stream: bool, status: int
) -> None:
    """W07, L06, L07: B answers; when all are rejected the tool gets a 400 with the reasons, never the 401 or 403."""
    stage = perform(routes="  default: [a, b]")
    stage.main.on("sk-test-a-0123456789abcdef", rejected(status))
    alias = stage.alias()
    stage.play(alias, {"b": whole(CHAT, stream=stream)})
    for _ in range(2):
        assert stage.call(CHAT, alias, stream=stream, http2=http2).status == 200
    assert stage.order(alias) == ["a", "b", "b"]
    stage.play(alias, {"b": rejected(status)})
    for _ in range(2):
        own = stage.call(CHAT, alias, stream=stream, http2=http2)
        assert (own.status, own.header("retry-after"), own.header("x-should-retry")) == (400, "", "false")
        _, first, second = own_lines(CHAT, own)
        assert first.startswith(f"- a {alias}: credential_rejected")
        assert second.startswith(f"- b {alias}: credential_rejected")
        assert "sk-" not in own.body.decode()
    assert stage.order(alias) == ["a", "b", "b", "b"]


@both_versions
def test_w07_the_only_credential(perform: Perform, http2: bool) -> None:
    """W07 goes before W06: also the only candidate's 401 is no answer to the tool's own login; it is asked again."""
    stage = perform(routes="  default: [a]")
    alias = stage.alias()
    stage.play(alias, {"a": [rejected(), rejected(), CHAT.answers()]})
    for _ in range(2):
        own = stage.call(CHAT, alias, http2=http2)
        assert own.status == 400
        assert "credential_rejected" in own_lines(CHAT, own)[1]
    assert stage.call(CHAT, alias, http2=http2).status == 200
    assert stage.order(alias) == ["a", "a", "a"]


@both_versions
def test_w07_a_real_reply_goes_before_our_own(perform: Perform, http2: bool) -> None:
    """W05, W07: one is rejected, the other says something that may be said: that is what the tool gets."""
    stage = perform(routes="  default: {candidates: [a, b], budget: {wait: 0, patience: 0}}")
    alias, other = stage.alias(), stage.alias()
    stage.play(alias, {"a": rejected(), "b": limited(40)})
    real = stage.call(CHAT, alias, http2=http2)
    assert (real.status, real.header("x-request-id")) == (429, "r-40")
    stage.play(other, {"b": refusal(CHAT, other, 404)})
    refused = stage.call(CHAT, other, http2=http2)
    assert (refused.status, refused.header("x-should-retry")) == (404, "false")
    assert stage.order(other) == ["b"]


def test_own_answers_leave_the_connection_open(tight: Stage) -> None:
    """W03: after an answer of our own the same connection serves the next call."""
    alias, later = tight.alias("pair"), tight.alias("pair")
    tight.play(alias, {"a": limited(50), "b": limited(50)})
    tight.play(later, {"a": CHAT.answers()})
    for http2 in (False, True):
        with tight.connect(CHAT, http2=http2) as connection:
            for _ in range(3):
                assert tight.send(connection, CHAT, alias, stream=True).finish().status == 429
            assert tight.send(connection, CHAT, later).finish().json == CHAT.answer
    assert tight.order(alias) == ["a", "b"]


def test_s03_a_tool_that_hangs_up_at_the_terminal_event_has_its_answer(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream
) -> None:
    """F14: the openai SDK closes at `[DONE]` while the upstream still holds the connection: kept, without an error."""
    proxy = mitmdump(
        env=ENVIRONMENT, pool_yaml=pool_yaml(upstream, other_upstream), settings={"pool_keep_streams": "65536"}
    )
    stage, gate = Stage(proxy, upstream, other_upstream), Gate()
    alias = stage.alias("pair")
    stage.play(alias, {"a": sse(*CHAT.events, gate), "b": CHAT.answers()})
    with stage.connect(CHAT) as tool:
        path, body = CHAT.ask(alias, True)
        tool.send("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode()).read_until(b"[DONE]")
    proxy.wait_for_log(r"client disconnect")
    gate.open()
    [flow] = [each for each in proxy.flows() if isinstance(each, HTTPFlow)]
    assert flow.error is None
    assert flow.response is not None and flow.response.content is not None
    assert flow.response.content.endswith(b"data: [DONE]\n\n")
    assert flow.comment == "1/2 a " + alias + ": answered"
