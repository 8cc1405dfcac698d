"""Limits of good replies, turns after a switch and calls held until a reset, through a real mitmproxy process."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .behaviours import Behaviour, Gate, json_reply, sse
from .client import Response
from .conftest import Perform
from .proxy import StartProxy
from .stage import CHAT, ENVIRONMENT, MESSAGES, SECRETS, Stage, crashes, pool_yaml
from .test_operation import REMOTE_CONTROL
from .upstream import Upstream

QUOTA = {
    "error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
}
AGENTS = 10

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def answers(headers: Sequence[tuple[str, str]], *, stream: bool, gate: Gate | None = None) -> Behaviour:
    if stream:
        first, *rest = CHAT.events
        return sse(first, *([gate] if gate is not None else []), *rest, headers=headers)
    return json_reply(200, CHAT.answer, headers, gate=gate)


def left(tokens: int) -> list[tuple[str, str]]:
    return [
        ("x-ratelimit-limit-tokens", "100000"),
        ("x-ratelimit-remaining-tokens", str(tokens)),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ]


@both_forms
@pytest.mark.usefixtures("no_crash")
def test_q01_a_candidate_nearly_used_up_goes_behind_its_equal(stage: Stage, *, stream: bool) -> None:
    """Q01: B answers the next call, and A is asked all the same where it is the only one."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": answers(left(500), stream=stream), "b": answers(left(90_000), stream=stream)})
    for _ in range(3):
        assert stage.call(CHAT, alias, stream=stream).status == 200
    assert stage.order(alias) == ["a", "b", "b"]
    alone = stage.alias("solo")
    stage.play(alone, {"a": answers(left(0), stream=stream)})
    for _ in range(2):
        assert stage.call(CHAT, alone, stream=stream).status == 200
    assert stage.order(alone) == ["a", "a"]


def plan(windows: dict[str, tuple[float, str]]) -> list[tuple[str, str]]:
    """The headers of a subscription: of each window the share that is used, and its reset."""
    headers = []
    for name, (used, reset) in windows.items():
        headers.append((f"anthropic-ratelimit-unified-{name}-utilization", str(used)))
        headers.append((f"anthropic-ratelimit-unified-{name}-reset", reset))
    return headers


def test_q01_windows_are_shown_kept_over_a_restart_and_hold_no_secret(perform: Perform, tmp_path: Path) -> None:
    """Q01, law 8: status tells each window with its reset; the next process orders by it; no secret is in the file."""
    script, state = tmp_path / "control.py", tmp_path / "state.json"
    script.write_text(REMOTE_CONTROL)
    routes = "  claude-*: [claude-a, claude-b]"
    options = {"routes": routes, "extra": f"state: {{file: {state}}}", "extra_args": ["-s", str(script)]}
    stage = perform(**options)
    alias = stage.alias("claude")
    odd = [("x-codex-odd-limit-name", SECRETS["claude-a"]), ("x-codex-odd-primary-used-percent", "1")]
    told = [*plan({"5h": (0.985, "2h"), "7d": (0.49, "6d")}), *odd]
    stage.play(alias, {"claude-a": json_reply(200, MESSAGES.answer, told), "claude-b": MESSAGES.answers()})
    assert [stage.call(MESSAGES, alias).status for _ in range(2)] == [200, 200]
    assert stage.order(alias) == ["claude-a", "claude-b"]
    (stage.proxy.directory / "commands").write_text(f"pool.explain {alias}\n")
    stage.proxy.wait_for_log(r"5h of the credential: 2% left, resets in (2h|1h\d+m)")
    stage.proxy.wait_for_log(r"7d of the credential: 51% left, resets in \d+h")
    assert "asked after its equals: its limit is nearly used up" in stage.proxy.log_text()
    assert stage.proxy.stop() == 0
    kept = state.read_text()
    assert {each["name"] for each in json.loads(kept)["limits"]} >= {"5h", "7d"}
    for secret in SECRETS.values():
        assert secret not in kept
    again = perform(**options)
    alias = again.alias("claude")
    again.play(alias, {name: MESSAGES.answers() for name in ("claude-a", "claude-b")})
    assert again.call(MESSAGES, alias).status == 200
    assert again.order(alias) == ["claude-b"]


def at_once(stage: Stage, alias: str, count: int, *, stream: bool) -> list[Response]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: stage.call(CHAT, alias, stream=stream, anew=True), range(count)))


@both_forms
def test_q02_agents_whose_account_ends_at_once_come_to_the_next_one_in_steps(perform: Perform, *, stream: bool) -> None:
    """Q02: while the calls on B are under way, each other one waits for its turn, in the order of coming."""
    stage = perform(routes="  pair-*: [a, b]")
    alias, ended, done = stage.alias("pair"), Gate(), Gate()
    stage.play(alias, {"a": json_reply(429, QUOTA, gate=ended), "b": answers((), stream=stream, gate=done)})
    with ThreadPoolExecutor(1) as pool:
        calls = pool.submit(at_once, stage, alias, AGENTS, stream=stream)
        stage.main.wait(lambda seen: sum(each.credential == SECRETS["a"] for each in seen) == AGENTS)
        ended.open()
        stage.main.wait(lambda seen: sum(each.credential == SECRETS["b"] for each in seen) == AGENTS)
        done.open()
        assert [response.status for response in calls.result()] == [200] * AGENTS
    ahead = [int(found) for found in re.findall(rf"b {alias}: (\d+) calls wait before", stage.proxy.log_text())]
    assert ahead, stage.proxy.log_text()
    assert ahead[0] == 0
    assert len(ahead) == AGENTS - 1  # but for the one that began at once
    assert crashes(stage.proxy) == []


@both_forms
def test_q02_concurrency_is_kept(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, *, stream: bool
) -> None:
    """Q02: two at a time; the third begins when one of them has ended, and not before."""
    pool = pool_yaml(upstream, other_upstream, "  solo-*: [a]").replace(
        "a: {upstream", "a: {concurrency: 2, upstream", 1
    )
    stage = Stage(mitmdump(env=ENVIRONMENT, pool_yaml=pool), upstream, other_upstream)
    alias, gates = stage.alias("solo"), [Gate() for _ in range(5)]
    stage.play(alias, {"a": [answers((), stream=stream, gate=gate) for gate in gates]})
    with ThreadPoolExecutor(1) as pool_of_one:
        calls = pool_of_one.submit(at_once, stage, alias, len(gates), stream=stream)
        for _ in range(3):
            stage.proxy.wait_for_log(rf"a {alias}: 2 calls wait before this one")
        for number, gate in enumerate(gates):
            gate.wait_reached()
            assert len(stage.seen(alias)) <= number + 2
            assert sum(not each.finished for each in stage.seen(alias)) <= 2
            gate.open()
        assert [response.status for response in calls.result()] == [200] * len(gates)
    assert len(stage.seen(alias)) == len(gates)
    assert crashes(stage.proxy) == []


LATER = {"error": {"message": "You have hit your limit.", "type": "rate_limit_exceeded", "code": "rate_limit_exceeded"}}
NOT_NOW = [("retry-after", "4")]


@both_forms
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_call_is_held_until_the_reset(perform: Perform, *, stream: bool, http2: bool) -> None:
    """``until_reset``: both accounts are used up; the tool of a stream gets comments, and then the whole answer."""
    stage = perform(routes="  pair-*: {candidates: [a, b], until_reset: 1, budget: {wait: 0, patience: 0}}")
    alias, plain = stage.alias("pair"), json_reply(429, LATER, NOT_NOW)
    good = answers((), stream=stream)
    stage.play(alias, {"a": [plain, good], "b": [plain, good]})
    with stage.connect(CHAT, http2=http2) as tool:
        sent = stage.send(tool, CHAT, alias, stream=stream)
        if stream:
            sent.read_until(b": understudy holds this call")
            assert stage.order(alias) == ["a", "b"]
        response = sent.finish()
    assert response.status == 200
    if stream:
        assert response.header("x-understudy") == "held"
        assert response.body.endswith(b"".join(CHAT.events))
        assert response.body.startswith(b": understudy holds this call until a limit begins anew\n\n")
        assert response.body.count(b"data: ") == len(CHAT.events)
    else:
        assert response.json == CHAT.answer
    assert len(stage.order(alias)) == 3
    assert "every candidate is out until a reset that is known" in stage.proxy.log_text()
    assert crashes(stage.proxy) == []


def test_what_fails_after_the_reset_is_told_in_the_stream(perform: Perform) -> None:
    """``until_reset``: the status is sent already, so the tool gets an event of an error, of its own dialect."""
    stage = perform(routes="  claude-*: {candidates: [claude-a], until_reset: 1, budget: {wait: 0, patience: 0}}")
    alias = stage.alias("claude")
    late = {"type": "error", "error": {"type": "rate_limit_error", "message": "This would exceed your limit."}}
    odd = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: too odd"}}
    stage.play(alias, {"claude-a": [json_reply(429, late, NOT_NOW), json_reply(400, odd)]})
    response = stage.call(MESSAGES, alias, stream=True)
    assert response.status == 200
    event = response.body.partition(b"event: error\ndata: ")[2]
    told = json.loads(event)
    assert told["type"] == "error"
    assert "claude-a" in told["error"]["message"] and "HTTP 400" in told["error"]["message"]
    assert stage.order(alias) == ["claude-a", "claude-a"]


def test_a_tool_that_goes_away_while_its_call_is_held_leaves_nothing(perform: Perform, tmp_path: Path) -> None:
    """L12, with ``until_reset`` from ``pool_wait``: `status` shows the call while it is held; law 8: and no secret."""
    script = tmp_path / "control.py"
    script.write_text(REMOTE_CONTROL)
    routes = "  pair-*: {candidates: [a, b], budget: {wait: 0, patience: 0}}"
    stage = perform(routes=routes, settings={"pool_wait": "1"}, extra_args=["-s", str(script)])
    alias = stage.alias("pair")
    stage.play(alias, {name: json_reply(429, LATER, [("retry-after", "600")]) for name in ("a", "b")})
    with stage.connect(CHAT) as tool:
        stage.send(tool, CHAT, alias, stream=True).read_until(b": understudy holds this call")
        lines = "pool.status\npool.json status\n"
        (stage.proxy.directory / "commands").write_text(lines)
        held = (
            rf"1 call for {alias} \(openai\) is held until a limit of a {alias} begins anew: for another (10m|9m\d+s)"
        )
        stage.proxy.wait_for_log(held)
        stage.proxy.wait_for_log(
            rf'"held": \[{{"route": "pair-\*", "alias": "{alias}", "dialect": "openai", "calls": 1, '
        )
    stage.proxy.wait_for_log("client disconnect|the tool went away|disconnected")
    (stage.proxy.directory / "commands").write_text(f"{lines}pool.json status\n")
    stage.proxy.wait_for_log(r'done 2: .*"held": \[\], "more_held": 0')
    for secret in SECRETS.values():
        assert secret not in stage.proxy.log_text()
    assert stage.order(alias) == ["a", "b"]
    assert crashes(stage.proxy) == []
