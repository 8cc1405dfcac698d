"""Ollama's own API: endpoints, streaming by default, its lines, its errors."""

from __future__ import annotations

import json

import pytest

from understudy.dialects import DIALECTS, Call, Endpoint, Kind, Progress, StreamEvent
from understudy.model import Usage

OLLAMA = DIALECTS["ollama"]
LIFECYCLE, OUTPUT, ERROR, DONE = Progress.LIFECYCLE, Progress.OUTPUT, Progress.ERROR, Progress.DONE
UNREADABLE = Progress.UNREADABLE


@pytest.mark.parametrize("name", ["chat", "generate", "embed", "embeddings"])
def test_endpoints(name: str) -> None:
    assert OLLAMA.endpoint("POST", f"/api/{name}") == Endpoint(name, Kind.GENERATING)
    assert OLLAMA.endpoint("GET", f"/api/{name}") is None


@pytest.mark.parametrize("tail", ["/api/pull", "/api/create", "/api/delete", "/api/show", "/api/chat/", "/v1/chat", ""])
def test_what_is_no_call(tail: str) -> None:
    """R10: what loads, makes and deletes models is not ours."""
    assert OLLAMA.endpoint("POST", tail) is None


@pytest.mark.parametrize(
    ("tail", "body", "expected"),
    [
        ("/api/chat", '{"model":"a:8b"}', Call("a:8b", True)),
        ("/api/generate", '{"model":"a","stream":null}', Call("a", True)),
        ("/api/chat", '{"model":"a","stream":false}', Call("a", False)),
        ("/api/chat", '{"stream":false,"model":"a","stream":true}', Call("a", True)),
        ("/api/embed", '{"model":"a"}', Call("a", False)),
        ("/api/chat", '{"name":"a"}', None),
        ("/api/chat", "[", None),
    ],
)
def test_a_reply_is_streamed_unless_it_shall_not_be(tail: str, body: str, expected: Call | None) -> None:
    """S01"""
    assert OLLAMA.read(tail, "", "", body.encode()) == expected


def test_the_model_and_the_key() -> None:
    """R01, R03"""
    assert OLLAMA.write_model("/api/chat", "", b'{ "model":"a" }', "b:7b") == ("/api/chat", b'{ "model":"b:7b" }')
    assert OLLAMA.credential_headers("key") == (("authorization", "Bearer key"),)


def line(**members: object) -> str:
    """A line of a stream."""
    return json.dumps({"model": "m", "created_at": "2026-01-01T00:00:00Z", **members})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (line(message={"role": "assistant", "content": ""}, done=False), LIFECYCLE),
        (line(message={"role": "assistant", "content": "Hi"}, done=False), OUTPUT),
        (line(message={"role": "assistant", "content": "", "thinking": "hm"}, done=False), OUTPUT),
        (line(message={"role": "assistant", "content": "", "tool_calls": [{}]}, done=False), OUTPUT),
        (line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop"), DONE),
        (line(response="", done=False), LIFECYCLE),
        (line(response="Hi", done=False), OUTPUT),
        (line(response="", done=True, context=[1, 2]), DONE),
        ('{"error":"an error was encountered while running the model"}', ERROR),
        ("not JSON", UNREADABLE),
        ("", LIFECYCLE),
    ],
)
def test_stream_events(data: str, expected: Progress) -> None:
    """S02"""
    assert OLLAMA.progress(StreamEvent("", data.encode())) is expected


def test_errors_of_our_own() -> None:
    """W03"""
    assert json.loads(OLLAMA.error_body(503, 'a "b"')) == {"error": 'a "b"'}


@pytest.mark.parametrize(
    ("document", "lack"),
    [
        (None, "no JSON object"),
        ({"model": "m"}, "no `message` in it"),
        ({"message": {"role": "assistant", "content": "Hi"}, "done": True}, ""),
        ({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "length"}, ""),
        ({"message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 3}, ""),
        ({"response": "Hi", "done": True}, ""),
        ({"message": {"role": "assistant", "content": ""}, "done_reason": "stop"}, "ended by stop"),
        ({"response": "", "done_reason": "stop", "eval_count": 0}, "ended by stop"),
    ],
)
def test_what_a_reply_lacks_to_be_an_answer(document: object, lack: str) -> None:
    """J01: output, output tokens, or an end that may come without any; of a stream its last line says so."""
    for endpoint in ("chat", "generate"):
        found = OLLAMA.lack(endpoint, document)
        assert found.endswith(lack) and bool(found) is bool(lack)
    assert OLLAMA.answered(StreamEvent("", json.dumps(document).encode())) is not bool(lack)


def test_what_embeddings_lack() -> None:
    """J01: each endpoint has a name of its own for them."""
    for endpoint, other in (("embed", "embeddings"), ("embeddings", "embedding")):
        assert OLLAMA.lack(endpoint, {other: [[0.1]]}) == ""
        documents: tuple[object, ...] = ({other: []}, {}, None, {other: "x"}, {"message": {"content": "Hi"}})
        for document in documents:
            assert OLLAMA.lack(endpoint, document) == f"no `{other}` in it"


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"prompt_eval_count": 7, "eval_count": 3}, Usage(7, 3)),
        ({"prompt_eval_count": 7}, Usage(7, 0)),
        ({"eval_count": 3}, Usage(0, 3)),
        ({"eval_count": 0}, None),
        ({"eval_count": "3"}, None),
        ([], None),
    ],
)
def test_tokens(document: object, usage: Usage | None) -> None:
    """Q03"""
    assert OLLAMA.usage(document) == usage
