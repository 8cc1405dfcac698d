"""What a reply proves at its end, what a crash leaves behind, and `hold: complete`: the layer as a script of events."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from mitmproxy.connection import Server

from tests.support.layer import STREAM_HEAD, Core, chunk
from understudy.failover.exchange import Exchange
from understudy.model.pool import Budget, HoldUntil
from understudy.model.suspension import Key, Suspension
from understudy.model.verdict import Label, Scope
from understudy.replies.hold import BODY_LIMIT, Hold
from understudy.requests.sealed import Shape, parts_in
from understudy.rules.ruleset import Ruleset
from understudy.suspensions.ladder import Rung

FIRST = Key(Scope.CANDIDATE, "c0", "gpt-x")
SEALED = "gAAAA" + "B" * 1200
LIMITED = b"HTTP/1.1 429 Too Many\r\ncontent-type: application/json\r\ncontent-length: 2\r\nretry-after: 9\r\n\r\n{}"


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(Budget(idle=5))
    yield made
    made.uninstall()


def half_open(core: Core) -> None:
    """The first candidate was overloaded for the third time, a while ago."""
    suspensions = core.engine.suspensions
    suspensions.suspend(Suspension(FIRST, core.now, core.now + 5, Label.OVERLOADED, "test/overloaded"))
    suspensions.ladders.climb(FIRST, Label.OVERLOADED, Rung(2, 1, core.now + 5))
    core.now += 6


def is_trusted(core: Core) -> bool:
    return core.engine.suspensions.half_open(FIRST) is None and FIRST not in core.engine.suspensions.ladders


def responses_stream(core: Core, *, padding: int) -> None:
    """The first candidate answers with a stream as Codex gets it, which ends as it should."""
    core.post("/v1/responses", {"model": "gpt-x", "stream": True, "store": False, "input": "hi"})
    server = core.opened()
    core.receive(server, STREAM_HEAD)
    reasoning = {"type": "reasoning", "id": "rs_0123456789", "encrypted_content": SEALED}
    response = {"id": "resp_0123456789abcdef", "output": [reasoning], "tools": [{"description": "d" * padding}]}
    for said in (
        {"type": "response.created", "response": {"id": response["id"]}},
        {"type": "response.output_text.delta", "delta": "hello"},
        {"type": "response.output_item.done", "item": reasoning},
        {"type": "response.completed", "response": response},
    ):
        core.receive(server, chunked(said))
    core.receive(server, b"0\r\n\r\n")


def chunked(said: Mapping[str, object]) -> bytes:
    """An event of the Responses API, as a chunk."""
    event = f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()
    return chunk(event)


@pytest.mark.parametrize("padding", [500, 20_000, 200_000])
def test_a_long_last_event_proves_the_candidate(core: Core, padding: int) -> None:
    """F14, law 4: OpenAI's terminal event repeats the tools and the instructions."""
    half_open(core)
    responses_stream(core, padding=padding)
    assert core.to_client.endswith(b"0\r\n\r\n")
    assert is_trusted(core)


@pytest.mark.parametrize("padding", [500, 20_000, 200_000])
def test_encrypted_reasoning_is_known_to_its_account(core: Core, padding: int) -> None:
    """P04: with `store: false` it is all that binds the next turn, and it comes long after the release."""
    responses_stream(core, padding=padding)
    request = json.dumps({"input": [{"type": "reasoning", "encrypted_content": SEALED}]}).encode()
    marks = parts_in(Shape.RESPONSES, request)
    assert marks
    assert core.engine.memory.ledger.owner(marks) == "c0"


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/audio/speech", b"audio/mpeg", b"x" * 2000),
        ("/v1/embeddings", b"application/json", b'{"data": [%s]}' % (b"0.123456, " * 200_000)),
        ("/v1/embeddings", b"application/json", b'{"data": [{"embedding": []}]}'),
    ],
    ids=["speech", "large JSON", "JSON"],
)
def test_whatever_comes_to_its_end_proves_the_candidate(core: Core, path: str, kind: bytes, body: bytes) -> None:
    """F14: a reply that is no stream is whole when its last byte is there, however long it is; not before."""
    half_open(core)
    core.post(path, {"model": "gpt-x", "input": "hi"})
    server = core.opened()
    core.receive(server, b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)))
    core.receive(server, body[:-1])
    assert not is_trusted(core)
    core.receive(server, body[-1:])
    assert core.to_client.endswith(body)
    assert is_trusted(core)


def test_a_long_error_proves_nothing(core: Core) -> None:
    """Law 4: an error beyond the bound is released as it is, and no success."""
    half_open(core)
    core.post("/v1/embeddings", {"model": "gpt-x", "input": "hi"})
    body = b"x" * (2 << 20)
    server = core.opened()
    core.receive(server, b"HTTP/1.1 400 Bad\r\ncontent-length: %d\r\n\r\n" % len(body))
    core.receive(server, body)
    assert core.to_client.endswith(body)
    assert not is_trusted(core)


def test_a_reply_that_is_withheld_proves_nothing(core: Core) -> None:
    """Law 4, R06: the tool gets an answer of ours, whose end says nothing of the candidate."""
    half_open(core)
    core.post("/v1/embeddings", {"model": "gpt-x", "input": "hi"})
    noise = random.Random(1).randbytes(BODY_LIMIT).hex().encode()
    body = gzip.compress(b'{"echo": "sk-secret-0-0123456789", "data": "' + noise, 1)
    server = core.opened()
    core.receive(
        server,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
        b"content-length: %d\r\n\r\n" % (len(body) + 1),
    )
    core.receive(server, body)
    assert core.to_client.startswith(b"HTTP/1.1 400 ")
    assert b"repeats the credential" in core.to_client
    assert b"sk-secret-0" not in core.to_client
    assert not is_trusted(core)
    assert core.closed == [server]


@pytest.mark.parametrize("broken", [(Hold, "start"), (Hold, "data"), (Ruleset, "judge"), (Exchange, "judge")])
def test_a_crash_leaves_no_probe_behind(core: Core, broken: tuple[type, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """F14, O08: the slot of a half-open candidate is free again, whatever raised while its probe was judged."""

    def crash(*_: object) -> None:
        raise RuntimeError("for this test")

    half_open(core)
    core.ask(stream=False)
    server = core.opened()
    assert core.engine.suspensions.is_probed(FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(*broken, crash)
        core.receive(server, LIMITED)
    assert b"internal error" in core.to_client
    assert not core.engine.suspensions.is_probed(FIRST)
    assert not core.engine.suspensions.is_blocked(FIRST)


# -- hold: complete ----------------------------------------------------------------------------------------------


@pytest.fixture
def whole(core: Core) -> Core:
    """The same with a route that holds replies to their end."""
    route = replace(core.pool.routes["default"], hold=HoldUntil.COMPLETE)
    core.engine.use(replace(core.pool, routes={"default": route}))
    return core


def begun(core: Core, path: str, asked: dict[str, object], head: bytes) -> Server:
    """The first candidate has begun to answer."""
    core.post(path, asked)
    server = core.opened()
    core.receive(server, b"HTTP/1.1 200 OK\r\n" + head)
    return server


def test_a_large_event_is_held_as_well(whole: Core) -> None:
    """S12: a picture of 300 KB, then a cut: nothing of it gets out, and the next candidate is asked."""
    head = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    server = begun(whole, "/v1/responses", {"model": "gpt-x", "stream": True, "input": "hi"}, head)
    whole.receive(server, chunked({"type": "response.output_text.delta", "delta": "hello"}))
    picture = {"type": "image_generation_call", "result": "A" * 300_000}
    whole.receive(server, chunked({"type": "response.output_item.done", "item": picture}))
    assert whole.to_client == b""
    whole.cut(server)
    assert whole.to_client == b""
    assert whole.opening


def test_a_plain_reply_that_pauses_in_the_middle(whole: Core) -> None:
    """S12: `idle` holds for a body that is no stream, once there is something of it."""
    head = b"content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    server = begun(whole, "/v1/chat/completions", {"model": "gpt-x", "messages": []}, head)
    whole.pass_time(8)
    assert not whole.opening, "a long generation sends its headers first"
    whole.receive(server, b'{"choices":')
    whole.pass_time(4)
    whole.receive(server, b" [")
    whole.pass_time(4)
    assert not whole.opening
    whole.pass_time(2)
    assert whole.opening
    assert whole.to_client == b""
