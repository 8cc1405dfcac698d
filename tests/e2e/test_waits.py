"""What a tool gets after a wait that follows a concluded attempt, through a real mitmproxy process (H01)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .behaviours import json_reply
from .client import Response
from .conftest import Perform
from .stage import CHAT, crashes
from .test_operation import REMOTE_CONTROL

CALLS = 60
BUSY = {"error": {"message": "The server is busy", "type": "server_error", "code": None}}
LIMITED = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@both_forms
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_h01_sixty_calls_at_once_on_two_failing_candidates(perform: Perform, *, stream: bool, http2: bool) -> None:
    """H01: each of the calls gets a reply of an upstream, or an answer that says why; none an internal error."""
    stage = perform(routes="  pair-*: {candidates: [a, b], budget: {seconds: 8, wait: 6}}")
    aliases = [stage.alias("pair") for _ in range(CALLS)]
    shared = stage.alias("pair")
    stage.play(shared, {name: json_reply(503, BUSY, [("x-from", name)]) for name in ("a", "b")})

    def call(_: str) -> Response:
        return stage.call(CHAT, shared, stream=stream, http2=http2)

    with ThreadPoolExecutor(CALLS) as pool:
        responses = list(pool.map(call, aliases))
    told = Counter((each.status, each.header("x-understudy"), each.header("x-from") != "") for each in responses)
    # With somebody asked the reply is an upstream's; a call that found both out of rotation is told that by us.
    assert set(told) <= {(503, "", True), (503, "answer", False)}, told
    assert told[503, "", True] > 0
    assert all(each.json == BUSY for each in responses if not each.header("x-understudy"))
    assert crashes(stage.proxy) == []


@both_forms
def test_h01_a_hand_suspends_the_credential_during_a_wait(perform: Perform, tmp_path: Path, *, stream: bool) -> None:
    """H01: one candidate, 429 with a time to wait, and `pool.suspend credential` meanwhile: the 429 as it came."""
    script = tmp_path / "control.py"
    script.write_text(REMOTE_CONTROL)
    stage = perform(routes="  solo-*: {candidates: [a], budget: {patience: 5}}", extra_args=["-s", str(script)])
    alias = stage.alias("solo")
    stage.play(alias, {"a": json_reply(429, LIMITED, [("retry-after", "5"), ("x-from", "a")])})
    with stage.connect(CHAT) as tool:
        sent = stage.send(tool, CHAT, alias, stream=stream)
        stage.proxy.wait_for_log(f"a {alias}: rate_limited, tried once more")
        (stage.proxy.directory / "commands").write_text("pool.suspend credential a\n")
        stage.proxy.wait_for_log("done 0: .*credential a")
        response = sent.finish()
    assert (response.status, response.header("x-from"), response.json) == (429, "a", LIMITED)
    assert stage.order(alias) == ["a"]
