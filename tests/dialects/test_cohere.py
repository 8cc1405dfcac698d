"""Cohere's API, version 2: endpoints, stream events, errors."""

from __future__ import annotations

import json

import pytest

from understudy.dialects import DIALECTS, Call, Endpoint, Kind, Progress, StreamEvent
from understudy.model import Usage

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


@pytest.mark.parametrize("stated", ["", None, 5, [1]])
def test_a_type_that_is_no_word_leaves_the_name_of_the_event(stated: object) -> None:
    data = json.dumps({"type": stated, "delta": {"finish_reason": "COMPLETE"}}).encode()
    assert COHERE.progress(StreamEvent("message-end", data)) is DONE


def test_an_error_event_counts_by_its_name() -> None:
    assert COHERE.progress(StreamEvent("error", b"gone")) is ERROR


def test_errors_of_our_own() -> None:
    """W03"""
    assert json.loads(COHERE.error_body(503, 'a "b"')) == {"message": 'a "b"'}


@pytest.mark.parametrize(
    ("endpoint", "document", "lack"),
    [
        ("chat", None, "no `message` in it"),
        ("chat", {"message": "Hi"}, "no `message` in it"),
        ("chat", {"message": {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}}, ""),
        ("chat", {"message": {"role": "assistant", "tool_plan": "I will"}}, ""),
        ("chat", {"message": {"tool_plan": "", "content": [{"type": "text"}, {"type": "text", "text": "Hi"}]}}, ""),
        ("chat", {"message": {"role": "assistant", "tool_plan": "", "content": 5}}, "ended by None"),
        ("chat", {"message": {"role": "assistant", "content": [{"type": "text", "text": ""}]}}, "ended by None"),
        ("chat", {"message": {"role": "assistant", "content": []}, "finish_reason": "COMPLETE"}, "ended by COMPLETE"),
        ("chat", {"message": {"role": "assistant"}, "finish_reason": "MAX_TOKENS"}, ""),
        ("chat", {"message": {"role": "assistant"}, "usage": {"tokens": {"output_tokens": 2}}}, ""),
        ("embed", {"embeddings": {"float": [[0.1]]}}, ""),
        ("embed", {"embeddings": []}, "no `embeddings` in it"),
        ("embed", {"results": [1]}, "no `embeddings` in it"),
        ("rerank", {"results": [{"index": 0}]}, ""),
        ("rerank", {"results": []}, ""),
        ("rerank", {"embeddings": [1]}, "no `results` in it"),
    ],
)
def test_what_a_reply_lacks_to_be_an_answer(endpoint: str, document: object, lack: str) -> None:
    """J01: of a list of documents nothing may be relevant."""
    found = COHERE.lack(endpoint, document)
    assert found.endswith(lack) and bool(found) is bool(lack)


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": {"tokens": {"input_tokens": 7, "output_tokens": 3}}}, Usage(7, 3)),
        ({"delta": {"usage": {"tokens": {"input_tokens": 7, "output_tokens": 3}}}}, Usage(7, 3)),
        ({"usage": {"tokens": {"input_tokens": 7}, "cached_tokens": 5}}, Usage(7, 0, 5)),
        ({"usage": {"tokens": {"input_tokens": 7}, "cached_tokens": 9}}, Usage(7, 0, 7)),
        ({"meta": {"billed_units": {"input_tokens": 4}}}, Usage(4, 0)),
        ({"usage": {"billed_units": {"output_tokens": 4}}}, Usage(0, 4)),
        ({"usage": {"tokens": {}}}, None),
        (None, None),
    ],
)
def test_tokens(document: object, usage: Usage | None) -> None:
    """Q03: of a chat, of the last event of its stream, and of embed and rerank."""
    assert COHERE.usage(document) == usage
