"""Cohere's API, version 2: endpoints, stream events, errors."""

from __future__ import annotations

import json

import pytest

from understudy.dialects import DIALECTS, Call, Endpoint, Kind, Progress, StreamEvent

COHERE = DIALECTS["cohere"]
LIFECYCLE, OUTPUT, ERROR, DONE = Progress.LIFECYCLE, Progress.OUTPUT, Progress.ERROR, Progress.DONE
UNREADABLE = Progress.UNREADABLE


@pytest.mark.parametrize("name", ["chat", "embed", "rerank"])
def test_endpoints(name: str) -> None:
    assert COHERE.endpoint("POST", f"/v2/{name}") == Endpoint(name, Kind.GENERATING)
    assert COHERE.endpoint("GET", f"/v2/{name}") is None


@pytest.mark.parametrize("tail", ["/v1/chat", "/v1/models", "/v2/embed-jobs", "/v1/check-api-key", "/v2/chat/", ""])
def test_what_is_no_call(tail: str) -> None:
    """R10"""
    assert COHERE.endpoint("POST", tail) is None


def test_the_model_and_the_key() -> None:
    """R01, R03"""
    assert COHERE.read("/v2/chat", "", "", b'{"model":"a","stream":true}') == Call("a", True)
    assert COHERE.read("/v2/chat", "", "", b"{}") is None
    assert COHERE.write_model("/v2/chat", "", b'{ "model":"a" }', "b") == ("/v2/chat", b'{ "model":"b" }')
    assert COHERE.credential_headers("key") == (("authorization", "Bearer key"),)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"id":"1","type":"message-start","delta":{"message":{"role":"assistant","content":[]}}}', LIFECYCLE),
        ('{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}', LIFECYCLE),
        ('{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":""}}}}', LIFECYCLE),
        ('{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hi"}}}}', OUTPUT),
        ('{"type":"content-delta","delta":{"message":{"content":{"thinking":"hm"}}}}', OUTPUT),
        ('{"type":"content-end","index":0}', LIFECYCLE),
        ('{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}', OUTPUT),
        ('{"type":"tool-call-start","delta":{"message":{"tool_calls":{"id":"t","function":{"name":"f"}}}}}', OUTPUT),
        ('{"type":"tool-call-end","index":0}', LIFECYCLE),
        ('{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{}}}', DONE),
        ('{"type":"message-end","delta":{"finish_reason":"ERROR"}}', ERROR),
        ('{"type":"message-end","delta":{"finish_reason":"COMPLETE","error":"out of capacity"}}', ERROR),
        ('{"id":"1","message":"internal server error"}', ERROR),
        ('{"type":"debug","prompt":"x"}', LIFECYCLE),
        ("{}", LIFECYCLE),
        ("[DONE]", DONE),
        ("not JSON", UNREADABLE),
        ("", LIFECYCLE),
    ],
)
def test_stream_events(data: str, expected: Progress) -> None:
    """S02: by the type inside as by the event's name."""
    assert COHERE.progress(StreamEvent("", data.encode())) is expected
    document = json.loads(data) if data.startswith("{") else {}
    if kind := document.pop("type", ""):
        assert COHERE.progress(StreamEvent(kind, json.dumps(document).encode())) is expected


def test_an_error_event_counts_by_its_name() -> None:
    assert COHERE.progress(StreamEvent("error", b"gone")) is ERROR


def test_errors_of_our_own() -> None:
    """W03"""
    assert json.loads(COHERE.error_body(503, 'a "b"')) == {"message": 'a "b"'}
