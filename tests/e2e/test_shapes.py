"""Requests as real programs sent them (recorded by `scripts/test --clients --record`, cut to what matters), each
through a failover: what a program sends in its headers and its body's members must neither stop a replay nor be lost.

Texts are replaced by their length, identities by zeros; keys are made up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.catalogue import CONVERSATIONS, PROGRAMS
from tests.clients.vendors import FAILURES, SECOND, fails, speaks

from .client import End
from .stage import CHAT, GEMINI, MESSAGES, SECRETS, Api, Stage

SHAPES = {
    path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).parent.joinpath("shapes").iterdir())
}
CALLS = [name for name, shape in SHAPES.items() if shape["method"] == "POST"]
OF_THE_MODEL = ["404 model", "400 unsupported", "429, retry-after 5", "error first"]
"""Failures that suspend no more than the candidate, so that the proxy can be shared."""
HOSTS = {"api.openai.com": CHAT, "api.anthropic.com": MESSAGES, "generativelanguage.googleapis.com": GEMINI}
KEYS = ("authorization", "x-api-key", "x-goog-api-key")
OURS = frozenset({*KEYS, "host", "content-length", "accept-encoding", "openai-organization"})
"""Headers that differ for a candidate; the last belongs to one of the stage's credentials."""


@dataclass(frozen=True)
class Request:
    """A recorded request for a model of the test's own."""

    api: Api
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    http2: bool

    @property
    def key(self) -> str:
        """The program's own key."""
        return next(value for name, value in self.headers if name.lower() in KEYS).removeprefix("Bearer ")


def request(name: str, alias: str) -> Request:
    """The recorded request with another model in it, in the place where the program has it."""
    shape = SHAPES[name]
    path, body = shape["path"], dict(shape["body"])
    if "model" in body:
        body["model"] = alias
    else:
        before, _, action = path.partition(":")
        path = f"{before.rpartition('/')[0]}/{alias}:{action}"
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Request(HOSTS[shape["host"]], path, list(shape["headers"].items()), content, shape["http2"])


@pytest.mark.parametrize("failure", OF_THE_MODEL)
@pytest.mark.parametrize("name", CALLS)
def test_a_recorded_request_is_answered_by_the_second(stage: Stage, name: str, failure: str) -> None:
    """F01, S02, L01: whatever the program, its call ends with the second candidate's answer, body and headers whole."""
    alias = stage.alias()
    asked = request(name, alias)
    stage.play(alias, {asked.api.first: fails(FAILURES[failure]), asked.api.second: speaks(SECOND)})
    with stage.connect(asked.api, http2=asked.http2) as tool:
        response = tool.request("POST", asked.path, asked.headers, asked.body)
    assert (response.status, response.end) == (200, End.CLEAN)
    streamed = b'"stream":true' in asked.body or "alt=sse" in asked.path
    assert streamed == response.header("content-type").startswith("text/event-stream")
    assert SECOND in response.body.decode()
    seen = stage.seen(alias)
    assert seen[-1].credential == SECRETS[asked.api.second]
    assert {one.credential for one in seen} == {SECRETS[asked.api.first], SECRETS[asked.api.second]}
    for one in seen:
        assert one.body == asked.body
        assert asked.key not in str(one.headers) + one.path
        assert one.path.partition("?") == asked.path.partition("?")
        kept = {name.lower(): value for name, value in one.headers if not name.startswith(":")}
        sent = {name.lower(): value for name, value in asked.headers}
        assert {k: v for k, v in kept.items() if k not in OURS} == {k: v for k, v in sent.items() if k not in OURS}


def test_o07_the_recorded_handshake_of_codex(stage: Stage) -> None:
    """O07: the WebSocket that Codex really opens is answered with the one status that makes it go on at once."""
    shape = SHAPES["codex-websocket"]
    with stage.connect(CHAT) as tool:
        assert tool.request("GET", shape["path"], list(shape["headers"].items())).status == 426


def test_the_programs_of_the_matrix_are_here() -> None:
    """A program that is added to the matrix is recorded too; no record holds what could tell a person."""
    matrix = (*PROGRAMS, *CONVERSATIONS)
    recorded = {program.name for program in matrix if program.login and not program.pool}
    assert {shape["program"] for shape in SHAPES.values()} == recorded
    for name, shape in SHAPES.items():
        text = json.dumps(shape)
        assert len(text) < 5000, name
        assert "/home/" not in text.replace("/home/me", ""), name
