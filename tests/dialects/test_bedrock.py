"""Bedrock: endpoints, models in the path, stream events, errors, and Anthropic's messages on the way there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.relatives import CLAUDE, HELD_BACK, MESSAGE, MESSAGES, OWN, SECRET, pool_of, sent, upstream
from understudy.dialects import DIALECTS, Call, Endpoint, Kind, Progress, StreamEvent
from understudy.model import Usage
from understudy.requests.sites import Sites

BEDROCK = DIALECTS["bedrock"]
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
AT = upstream("bedrock", HOST)
TOOL = "https://bedrock-runtime.eu-west-1.amazonaws.com"
ARN = "arn:aws:bedrock:us-east-1:1:inference-profile/us.acme-1:0"
QUOTED = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.acme-1%3A0"
LIFECYCLE, OUTPUT, ERROR, DONE = Progress.LIFECYCLE, Progress.OUTPUT, Progress.ERROR, Progress.DONE
UNREADABLE = Progress.UNREADABLE


@pytest.mark.parametrize(
    ("tail", "name", "call"),
    [
        ("/model/acme.m-1%3A0/invoke", "invoke", Call("acme.m-1:0", False)),
        ("/model/acme.m-1:0/invoke-with-response-stream", "invoke", Call("acme.m-1:0", True)),
        ("/model/m/converse", "converse", Call("m", False)),
        ("/model/m/converse-stream", "converse", Call("m", True)),
        (f"/model/{QUOTED}/converse-stream", "converse", Call(ARN, True)),
    ],
)
def test_endpoints(tail: str, name: str, call: Call) -> None:
    assert BEDROCK.endpoint("POST", tail) == Endpoint(name, Kind.GENERATING)
    assert BEDROCK.endpoint("GET", tail) is None
    assert BEDROCK.read(tail, "", "", b"anything") == call
    moved, body = BEDROCK.write_model(tail, "", b"anything", ARN)
    assert (BEDROCK.read(moved, "", "", b""), body) == (Call(ARN, call.streamed), b"anything")


@pytest.mark.parametrize(
    "tail",
    [
        "/model/m/invoke-stream",
        "/model/m/converse-with-response-stream",
        "/model/m/count-tokens",
        "/model/m/invoke/",
        "/model//invoke",
        "/model/../invoke",
        "/model/a%2F..%2Fb/invoke",
        "/model/a%2F%2Fb/invoke",
        "/model/a%00b/invoke",
        "/model/%FF/invoke",
        "/model/a%3Fb/invoke",
        "/model/a/b/invoke",
        "/async-invoke",
        "/guardrail/g/version/1/apply",
    ],
)
def test_what_is_no_call(tail: str) -> None:
    """R10"""
    assert BEDROCK.endpoint("POST", tail) is None
    assert BEDROCK.read(tail, "", "", b"") is None
    with pytest.raises(ValueError):
        BEDROCK.write_model(tail, "", b"", "m")


@pytest.mark.parametrize(
    ("host", "pooled"),
    [
        (HOST, True),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", True),
        ("bedrock.us-east-1.amazonaws.com", False),
        ("sts.us-east-1.amazonaws.com", False),
        ("bedrock-runtime.a.b.amazonaws.com", False),
    ],
)
def test_which_hosts(host: str, pooled: bool) -> None:
    """R10: only the runtime, not the account's other services."""
    assert Sites(pool_of(AT)).pooled(host, 443) is pooled


def test_a_call_goes_to_another_account() -> None:
    """R01, R02, R03: signature, its headers and the session token leave; the bearer comes; the body stays."""
    signed = {
        "authorization": f"AWS4-HMAC-SHA256 Credential={OWN}/x, SignedHeaders=host, Signature=y",
        "x-amz-security-token": OWN,
        "x-amz-date": OWN,
        "x-amz-content-sha256": OWN,
    }
    got = sent(AT, f"{TOOL}/model/a%3A0/converse-stream", b'{"messages": [1.0]}', model="b:0", headers=signed)
    assert (got.path, got.body) == ("/model/b%3A0/converse-stream", b'{"messages": [1.0]}')
    assert got.headers["authorization"] == f"Bearer {SECRET}"
    assert not [name for name in got.headers if name.startswith("x-amz-")]


@pytest.mark.parametrize(("streamed", "action"), [(True, "invoke-with-response-stream"), (False, "invoke")])
def test_a_message_goes_to_bedrock(streamed: bool, action: str) -> None:
    """R02, R03: model and streaming move to the path, version and flags into the body; nothing else does."""
    body = MESSAGE if streamed else MESSAGE.replace(b"true", b"false")
    got = sent(AT, f"{MESSAGES}?beta=true", body, model="acme.claude:0", headers=HELD_BACK)
    assert got.path == f"/model/acme.claude%3A0/{action}"
    head = b'{"anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["a-1"], "max_tokens": 1, '
    assert got.body == head + b'"messages": [{"content": "claude-a"}]}'
    assert got.headers["accept"].endswith("eventstream") is streamed
    assert not {"anthropic-beta", "anthropic-version", "x-api-key"} & {*got.headers}
    plain = sent(AT, MESSAGES, body)
    assert b"anthropic_beta" not in plain.body and plain.headers["authorization"] == f"Bearer {SECRET}"


def test_what_bedrock_has_in_another_form() -> None:
    with pytest.raises(ValueError, match="bedrock takes no messages/count_tokens"):
        sent(AT, f"{MESSAGES}/count_tokens", MESSAGE)
    assert not AT.serves("gemini") and AT.serves("anthropic") and not CLAUDE.serves("bedrock")


@given(extra=st.dictionaries(st.text("abc_", min_size=1), st.integers() | st.text(), max_size=3), stream=st.booleans())
def test_nothing_of_a_message_is_lost(extra: dict[str, object], stream: bool) -> None:
    """R01"""
    body = json.dumps({**extra, "model": "m", "stream": stream}).encode()
    there = json.loads(sent(AT, MESSAGES, body).body)
    assert there == {**extra, "anthropic_version": "bedrock-2023-05-31"}


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("messageStart", '{"role":"assistant","p":"abc"}', LIFECYCLE),
        ("contentBlockStart", '{"contentBlockIndex":0,"start":{},"p":"a"}', LIFECYCLE),
        ("contentBlockStart", '{"start":{"toolUse":{"toolUseId":"t","name":"f"}}}', OUTPUT),
        ("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"text":""},"p":"a"}', LIFECYCLE),
        ("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"text":"Hi"}}', OUTPUT),
        ("contentBlockDelta", '{"delta":{"reasoningContent":{"text":"hm"}}}', OUTPUT),
        ("contentBlockStop", '{"contentBlockIndex":0,"p":"abc"}', LIFECYCLE),
        ("messageStop", '{"stopReason":"end_turn"}', DONE),
        ("metadata", '{"usage":{"inputTokens":1}}', LIFECYCLE),
        ("exception", '{"__type":"throttlingException"}', ERROR),
        ("exception", "", ERROR),
        ("chunk", '{"type":"message_start","message":{"content":[]}}', LIFECYCLE),
        ("chunk", '{"type":"content_block_delta","delta":{"text":"Hi"}}', OUTPUT),
        ("chunk", '{"type":"message_stop","amazon-bedrock-invocationMetrics":{}}', DONE),
        ("chunk", '{"outputText":"","index":0}', LIFECYCLE),
        ("chunk", '{"outputText":"Hi"}', OUTPUT),
        ("chunk", '{"generation":"","amazon-bedrock-invocationMetrics":{"a":1}}', DONE),
        ("chunk", '{"p":"abc"}', LIFECYCLE),
        ("chunk", "not JSON", UNREADABLE),
        ("chunk", "", LIFECYCLE),
    ],
)
def test_stream_events(name: str, data: str, expected: Progress) -> None:
    """S02"""
    assert BEDROCK.progress(StreamEvent(name, data.encode())) is expected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "ValidationException"),
        (429, "ThrottlingException"),
        (503, "ServiceUnavailableException"),
        (500, "InternalServerException"),
    ],
)
def test_errors_of_our_own(status: int, kind: str) -> None:
    """W03"""
    assert json.loads(BEDROCK.error_body(status, 'a "b"')) == {"__type": kind, "message": 'a "b"'}


@pytest.mark.parametrize(
    ("name", "data", "answered"),
    [
        ("messageStop", '{"stopReason":"max_tokens"}', True),
        ("messageStop", '{"stopReason":"end_turn"}', False),
        ("messageStop", '{"stopReason":""}', False),
        ("messageStop", "[]", False),
        ("contentBlockStop", '{"stopReason":"max_tokens"}', False),
        ("chunk", "{}", False),
    ],
)
def test_an_end_may_need_no_output(name: str, data: str, answered: bool) -> None:
    """A01: a limit of the request, or a filter."""
    assert BEDROCK.answered(StreamEvent(name, data.encode())) is answered


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": {"inputTokens": 5, "outputTokens": 0}}, Usage(5)),
        ({"usage": {"inputTokens": 0, "outputTokens": 2}}, Usage(0, 2)),
        ({"usage": {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 1}}, Usage(6, 2, 1)),
        ({"usage": {"inputTokens": 5, "cacheWriteInputTokens": 1}}, Usage(6, 0, 0, 1)),
        ({"amazon-bedrock-invocationMetrics": {"inputTokenCount": 5}}, Usage(5)),
        ({"usage": {"input_tokens": 5, "output_tokens": 1}}, Usage(5, 1)),
        ({"usage": {"inputTokens": 0}}, None),
        ([], None),
    ],
)
def test_tokens(document: object, usage: Usage | None) -> None:
    """Q03: what came from a cache or went into one is counted beside the rest of the input."""
    assert BEDROCK.usage(document) == usage


@pytest.mark.parametrize(
    ("value", "tokens"), [("5", 5), ("9" * 11, 99_999_999_999), ("9" * 12, 0), ("-1", 0), ("", 0), ("x", 0)]
)
def test_tokens_in_headers(value: str, tokens: int) -> None:
    """Q03: of a model whose body counts none."""
    found = BEDROCK.usage_in_headers({"x-amzn-bedrock-input-token-count": value})
    assert found == (Usage(tokens) if tokens else None)


@pytest.mark.parametrize(
    ("document", "lack"),
    [
        ({"output": {"message": {"content": [{}, {"text": "Hi"}]}}}, ""),
        ({"output": {"message": {"content": [{"text": ""}]}}, "stopReason": "max_tokens"}, ""),
        ({"output": {"message": {"content": []}}, "usage": {"outputTokens": 1}}, ""),
        ({"output": {"message": {"content": []}}, "stopReason": "end_turn"}, "ended by end_turn"),
        ({"output": {"message": "Hi"}}, "no `output.message` in it"),
        ({"output": []}, "no `output.message` in it"),
        ([], "no `output.message` in it"),
    ],
)
def test_what_a_reply_lacks_to_be_an_answer(document: object, lack: str) -> None:
    """A01"""
    found = BEDROCK.lack("converse", document)
    assert found.endswith(lack) and bool(found) is bool(lack)
