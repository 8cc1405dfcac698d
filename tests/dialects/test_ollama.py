"""Ollama's own API: endpoints, streaming by default, its lines, its errors."""

from __future__ import annotations

import json

import pytest

from understudy.dialects import DIALECTS, Call, Endpoint, Kind, Progress, StreamEvent

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
