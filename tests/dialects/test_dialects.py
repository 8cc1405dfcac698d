"""The dialects: endpoints, alias, credential, stream events and errors, vendor by vendor."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.dialects import DIALECTS, Call, Dialect, Endpoint, Kind, Progress, StreamEvent, read_json
from understudy.dialects.base import nothing_said
from understudy.model import Usage

OPENAI, ANTHROPIC, GEMINI = DIALECTS["openai"], DIALECTS["anthropic"], DIALECTS["gemini"]
JSON = "application/json"
LIFECYCLE, OUTPUT, ERROR, DONE = Progress.LIFECYCLE, Progress.OUTPUT, Progress.ERROR, Progress.DONE
PING, STOP, UNREADABLE = Progress.PING, Progress.STOP, Progress.UNREADABLE


def test_every_dialect_is_listed_under_its_own_name() -> None:
    assert {name: dialect.name for name, dialect in DIALECTS.items()} == {name: name for name in DIALECTS}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: str(dialect.name))
def test_every_credential_header_is_removed(dialect: Dialect) -> None:
    """R03: whatever header a tool chose for its key, it leaves; and what we send is one of those headers."""
    assert dialect.auth_headers >= {"authorization", "x-api-key", "api-key", "x-goog-api-key"}
    assert {name for name, _ in dialect.credential_headers("secret")} <= dialect.auth_headers


@pytest.mark.parametrize(
    ("dialect", "tail", "expected"),
    [
        (OPENAI, "/chat/completions", Endpoint("chat/completions", Kind.GENERATING)),
        (OPENAI, "/responses", Endpoint("responses", Kind.GENERATING)),
        (OPENAI, "/completions", Endpoint("completions", Kind.GENERATING)),
        (OPENAI, "/embeddings", Endpoint("embeddings", Kind.GENERATING)),
        (OPENAI, "/moderations", Endpoint("moderations", Kind.GENERATING)),
        (OPENAI, "/images/generations", Endpoint("images/generations", Kind.GENERATING)),
        (OPENAI, "/images/edits", Endpoint("images/edits", Kind.GENERATING)),
        (OPENAI, "/images/variations", Endpoint("images/variations", Kind.GENERATING)),
        (OPENAI, "/audio/speech", Endpoint("audio/speech", Kind.GENERATING)),
        (OPENAI, "/audio/transcriptions", Endpoint("audio/transcriptions", Kind.GENERATING)),
        (OPENAI, "/audio/translations", Endpoint("audio/translations", Kind.GENERATING)),
        (OPENAI, "/responses/compact", Endpoint("responses/compact", Kind.AUXILIARY)),
        (OPENAI, "/responses/input_tokens", Endpoint("responses/input_tokens", Kind.AUXILIARY)),
        (ANTHROPIC, "/v1/messages", Endpoint("messages", Kind.GENERATING)),
        (ANTHROPIC, "/v1/messages/count_tokens", Endpoint("messages/count_tokens", Kind.AUXILIARY)),
        (GEMINI, "/v1beta/models/m:generateContent", Endpoint("generateContent", Kind.GENERATING)),
        (GEMINI, "/v1/models/m.5-x:streamGenerateContent", Endpoint("streamGenerateContent", Kind.GENERATING)),
        (GEMINI, "/v1alpha/models/m%3AembedContent", Endpoint("embedContent", Kind.GENERATING)),
        (GEMINI, "/v1beta/models/m:batchEmbedContents", Endpoint("batchEmbedContents", Kind.GENERATING)),
        (GEMINI, "/v1beta/models/m:countTokens", Endpoint("countTokens", Kind.AUXILIARY)),
    ],
)
def test_endpoints(dialect: Dialect, tail: str, expected: Endpoint) -> None:
    assert dialect.endpoint("POST", tail) == expected
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "post", ""):
        assert dialect.endpoint(method, tail) is None


@pytest.mark.parametrize(
    ("dialect", "tail"),
    [
        (OPENAI, ""),
        (OPENAI, "/"),
        (OPENAI, "/models"),
        (OPENAI, "/files"),
        (OPENAI, "/chat/completions/"),
        (OPENAI, "//chat/completions"),
        (OPENAI, "/x/../chat/completions"),
        (OPENAI, "/chat%2Fcompletions"),
        (OPENAI, "/Chat/Completions"),
        (OPENAI, "/chat/completions#x"),
        (OPENAI, "/responses/resp_1/cancel"),
        (ANTHROPIC, "/v1/models"),
        (ANTHROPIC, "/v1/messages/batches"),
        (ANTHROPIC, "/v1/oauth/token"),
        (ANTHROPIC, "/api/event_logging/v2/batch"),
        (GEMINI, "/v1beta/models"),
        (GEMINI, "/v1beta/models/m"),
        (GEMINI, "/v1beta/models/m:"),
        (GEMINI, "/v1beta/models/:generateContent"),
        (GEMINI, "/v1beta/models/m:predict"),
        (GEMINI, "/v1beta/models/m:generateContent/x"),
        (GEMINI, "/v1beta/models/a/b:generateContent"),
        (GEMINI, "/v1beta/models/a%2Fb:generateContent"),
        (GEMINI, "/v1beta/models/..%2F..%2Fx:generateContent"),
        (GEMINI, "/v1beta/models/a%252Fb:generateContent"),
        (GEMINI, "/v1beta/models/%2e%2e:generateContent"),
        (GEMINI, "/v1beta/models/a%0Ab:generateContent"),
        (GEMINI, "/v1beta/models/a%FF:generateContent"),
        (GEMINI, "/v1beta/models/a:b:generateContent"),
        (GEMINI, "/v1beta/models/a%3Ab:generateContent"),
        (GEMINI, "/v1beta/models/m:generateContent#x"),
        (GEMINI, "/v1beta/models/m:generateContent\n"),
        (GEMINI, "/v1beta/../models/m:generateContent"),
        (GEMINI, "/v2/models/m:generateContent"),
        (GEMINI, "/v1beta/tunedModels/m:generateContent"),
        (GEMINI, "/upload/v1beta/files"),
    ],
)
def test_what_is_no_model_call(dialect: Dialect, tail: str) -> None:
    """R10: other paths of the same host, and paths that a server may read differently from us, are not ours."""
    assert dialect.endpoint("POST", tail) is None


FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("dialect", "tail", "content_type", "body", "expected"),
    [
        (OPENAI, "/responses", JSON, b'{"model":"a","stream":true}', Call("a", True)),
        (OPENAI, "/responses", "", b'{"model":"a"}', Call("a", False)),
        (OPENAI, "/responses", JSON, b'{"prompt":{"id":"p"}}', None),
        (OPENAI, "/responses", JSON, b'{"model":""}', None),
        (OPENAI, "/responses", JSON, b"\xff", None),
        (
            OPENAI,
            "/audio/transcriptions",
            FORM,
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--',
            Call("a", False),
        ),
        (OPENAI, "/audio/transcriptions", FORM, b'{"model":"a"}', None),
        (ANTHROPIC, "/v1/messages", JSON, b'{"model":"a","stream":true}', Call("a", True)),
        (ANTHROPIC, "/v1/messages", JSON, b"[]", None),
        (GEMINI, "/v1beta/models/a%2Db:generateContent", JSON, b"{}", Call("a-b", False)),
        (GEMINI, "/v1/models/a:streamGenerateContent", JSON, b"not JSON", Call("a", True)),
        (GEMINI, "/v1/models/a%2Fb:streamGenerateContent", JSON, b"{}", None),
    ],
)
def test_reading_the_alias(dialect: Dialect, tail: str, content_type: str, body: bytes, expected: Call | None) -> None:
    assert dialect.read(tail, "alt=sse", content_type, body) == expected


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_the_model_in_a_json_body(dialect: Dialect) -> None:
    """R01"""
    body = b'{ "temperature": 1.0, "model" : "a", "messages": [{"content": "\\u00e9 model"}] }'
    expected = (f"/{dialect.name}", body.replace(b'"a"', b'"b/c"'))
    assert dialect.write_model(f"/{dialect.name}", JSON, body, "b/c") == expected
    with pytest.raises(ValueError):
        dialect.write_model("", JSON, b"{}", "b")


def test_the_model_in_a_form() -> None:
    """R02"""
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--\r\n'
    assert OPENAI.write_model("/images/edits", FORM, body, "new") == (
        "/images/edits",
        body.replace(b"\na\r", b"\nnew\r"),
    )
    with pytest.raises(ValueError):
        OPENAI.write_model("/images/edits", FORM, b'{"model":"a"}', "new")


@pytest.mark.parametrize(
    ("tail", "model", "expected"),
    [
        ("/v1beta/models/a:generateContent", "b-2.5", "/v1beta/models/b-2.5:generateContent"),
        ("/v1/models/a%3AcountTokens", "b", "/v1/models/b%3AcountTokens"),
        ("/v1/models/a%2Db:embedContent", "c", "/v1/models/c:embedContent"),
        ("/v1/models/a%2Db:embedContent", "a-b", "/v1/models/a%2Db:embedContent"),
        ("/v1/models/models:embedContent", "c", "/v1/models/c:embedContent"),
        ("/v1/models/a:embedContent", "models/c", "/v1/models/c:embedContent"),
        ("/v1/models/a:embedContent", "x/../?key=é", "/v1/models/x%2F..%2F%3Fkey%3D%C3%A9:embedContent"),
    ],
)
def test_the_model_in_the_path(tail: str, model: str, expected: str) -> None:
    """R02: only the segment changes, and a model name cannot become more than a segment."""
    assert GEMINI.write_model(tail, JSON, b'{"contents":[]}', model) == (expected, b'{"contents":[]}')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"model": "models/a", "content":{}}', '{"model": "models/b", "content":{}}'),
        ('{"model":"a"}', '{"model":"b"}'),
        (
            '{"requests":[{"model":"models/a","content":{"parts":[{"text":"\\"model\\""}]}},{"model":"models/other"}]}',
            '{"requests":[{"model":"models/b","content":{"parts":[{"text":"\\"model\\""}]}},{"model":"models/other"}]}',
        ),
        ('{"generateContentRequest":{"model":"models/a"}}', '{"generateContentRequest":{"model":"models/b"}}'),
        ('{"generate_content_request":{"model":"models/a"}}', '{"generate_content_request":{"model":"models/b"}}'),
        ('{"contents":[{"model":"a"}]}', '{"contents":[{"model":"a"}]}'),
        ('"model" is not JSON', '"model" is not JSON'),
    ],
)
def test_a_gemini_body_names_the_same_model_as_its_path(body: str, expected: str) -> None:
    """R02: the API refuses a body that contradicts its path."""
    tail, edited = GEMINI.write_model("/v1beta/models/a:batchEmbedContents", JSON, body.encode(), "b")
    assert tail == "/v1beta/models/b:batchEmbedContents"
    assert edited.decode() == expected


def test_a_gemini_path_without_a_model_cannot_be_written() -> None:
    with pytest.raises(ValueError):
        GEMINI.write_model("/v1beta/models/a%2Fb:generateContent", JSON, b"{}", "b")


def test_credentials() -> None:
    """R03: the header follows from the secret that goes out, not from the one that came in."""
    assert OPENAI.credential_headers("sk-1") == (("authorization", "Bearer sk-1"),)
    assert GEMINI.credential_headers("AIza") == (("x-goog-api-key", "AIza"),)
    assert ANTHROPIC.credential_headers("sk-ant-api03-x") == (("x-api-key", "sk-ant-api03-x"),)
    assert ANTHROPIC.credential_headers("sk-ant-oat01-x") == (("authorization", "Bearer sk-ant-oat01-x"),)


@pytest.mark.parametrize(
    ("secret", "old", "expected"),
    [
        ("sk-ant-api03-x", None, ()),
        ("sk-ant-api03-x", "a-1,b-2", ()),
        ("sk-ant-api03-x", "oauth-2025-04-20", (("anthropic-beta", ""),)),
        ("sk-ant-api03-x", "a-1, oauth-2025-04-20 ,b-2", (("anthropic-beta", "a-1,b-2"),)),
        ("sk-ant-oat01-x", None, (("anthropic-beta", "oauth-2025-04-20"),)),
        ("sk-ant-oat01-x", "a-1", (("anthropic-beta", "a-1,oauth-2025-04-20"),)),
        ("sk-ant-oat01-x", "a-1, oauth-2025-04-20", ()),
        ("", "oauth-2025-04-20", (("anthropic-beta", ""),)),
    ],
)
def test_the_oauth_flag_goes_with_the_kind_of_secret(
    secret: str, old: str | None, expected: tuple[tuple[str, str], ...]
) -> None:
    """R03: an API key must not have the flag, a login's token needs it; other flags stay."""
    headers = {} if old is None else {"anthropic-beta": old}
    assert ANTHROPIC.clean_headers(headers, secret) == expected
    assert OPENAI.clean_headers(headers, secret) == ()


def test_identity_headers_leave_with_the_credential() -> None:
    """R03"""
    assert OPENAI.identity_headers == {
        "openai-organization",
        "openai-project",
        "chatgpt-account-id",
        "x-openai-account-routing-override",
        "x-openai-fedramp",
        "x-oai-attestation",
        "copilot-integration-id",
    }
    assert GEMINI.identity_headers == {"x-goog-user-project"}
    assert GEMINI.auth_query >= {"key", "access_token"}


def chat(delta: object, **more: object) -> str:
    """A chat completion chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps({**chunk, "obfuscation": "xyz"})


def candidate(*parts: object, **more: object) -> str:
    """A Gemini chunk with one candidate."""
    content = {"content": {"parts": list(parts), "role": "model"}}
    return json.dumps({"candidates": [{**content, "index": 0, **more}], "usageMetadata": {"totalTokenCount": 3}})


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("", chat({"role": "assistant"}), LIFECYCLE),
        ("", chat({"role": "assistant", "content": "", "refusal": None}), LIFECYCLE),
        ("", chat({"role": "assistant", "content": None, "reasoning_content": "", "tool_calls": []}), LIFECYCLE),
        ("", chat({}), LIFECYCLE),
        ("", chat(None), LIFECYCLE),
        ("", chat({"content": "Hi"}), OUTPUT),
        ("", chat({"content": " "}), OUTPUT),
        ("", chat({"role": "assistant", "reasoning_content": "hm"}), OUTPUT),
        ("", chat({"refusal": "no"}), OUTPUT),
        ("", chat({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}), OUTPUT),
        ("", chat({"audio": {"id": "a"}}), OUTPUT),
        ("", chat({}, finish_reason="stop"), STOP),
        ("", chat({"content": "x"}, finish_reason="stop"), OUTPUT),
        ("", chat({}, finish_reason="tool_calls"), STOP),
        ("", chat({}, finish_reason="length"), OUTPUT),
        ("", chat({}, finish_reason="content_filter"), OUTPUT),
        ("", chat({}, finish_reason="error"), ERROR),
        ("", chat({}, finish_reason=""), LIFECYCLE),
        ("", chat({}, finish_reason=5), LIFECYCLE),
        ("", chat({"content": "x"}, finish_reason=5), OUTPUT),
        ("", '{"choices":[{"text":"x"}]}', OUTPUT),
        ("", '{"choices":[{"text":""}]}', LIFECYCLE),
        ("", '{"choices":[],"usage":{"total_tokens":3}}', LIFECYCLE),
        ("", '{"choices":[],"prompt_filter_results":[{"a":1}]}', LIFECYCLE),
        ("", '{"choices":[5,null]}', LIFECYCLE),
        ("", '{"error":{"message":"overloaded"}}', ERROR),
        ("", '{"error":"overloaded"}', ERROR),
        ("", '{"error":null,"choices":[]}', LIFECYCLE),
        ("", chat({"content": ""}, error={"code": 502}), ERROR),
        ("", '{"object":"error","message":"no such model"}', ERROR),
        ("error", '{"code":"InvalidParameter"}', ERROR),
        ("error", "Internal Server Error", ERROR),
        ("", "[DONE]", DONE),
        ("", " [DONE] ", DONE),
        ("response.created", '{"type":"response.created","response":{"error":null,"output":[]}}', LIFECYCLE),
        ("response.in_progress", '{"type":"response.in_progress","response":{"id":"r"}}', LIFECYCLE),
        ("response.queued", '{"type":"response.queued","response":{"id":"r"}}', LIFECYCLE),
        ("response.created", '{"response":{"id":"r"}}', LIFECYCLE),
        ("keepalive", '{"type":"keepalive","sequence_number":3}', PING),
        ("", '{"type":"response.output_item.added","item":{"type":"reasoning","summary":[]}}', OUTPUT),
        ("", '{"type":"response.output_text.delta","item_id":"i","delta":"Hi","logprobs":[]}', OUTPUT),
        ("", '{"type":"response.output_text.delta","item_id":"i","delta":"","obfuscation":"x"}', LIFECYCLE),
        ("", '{"type":"response.function_call_arguments.delta","delta":"{"}', OUTPUT),
        ("", '{"type":"response.reasoning_summary_text.delta","delta":"hm"}', OUTPUT),
        ("", '{"type":"speech.audio.delta","audio":"AAAA"}', OUTPUT),
        ("", '{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}', ERROR),
        ("response.failed", '{"response":{"error":{"code":"rate_limit_exceeded"}}}', ERROR),
        ("error", '{"type":"error","code":"server_error","message":"x"}', ERROR),
        ("", '{"type":"error","error":{"type":"x"}}', ERROR),
        ("", '{"type":"response.completed","response":{"error":null}}', DONE),
        ("", '{"type":"response.incomplete","response":{}}', DONE),
        ("", '{"type":"transcript.text.done","text":"x"}', DONE),
        ("", '{"type":"something.new","payload":"x"}', OUTPUT),
        ("", '{"type":"something.new","sequence_number":5}', LIFECYCLE),
        ("", "not JSON", UNREADABLE),
        ("", "[1]", UNREADABLE),
        ("", "", LIFECYCLE),
    ],
)
def test_openai_stream_events(name: str, data: str, expected: Progress) -> None:
    """S02"""
    assert OPENAI.progress(StreamEvent(name, data.encode())) is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"type":"ping"}', PING),
        ('{"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":1}}}', LIFECYCLE),
        ('{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}', LIFECYCLE),
        ('{"type":"content_block_start","content_block":{"type":"thinking","thinking":"","signature":""}}', LIFECYCLE),
        ('{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}', OUTPUT),
        ('{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}', OUTPUT),
        ('{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}', LIFECYCLE),
        ('{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}', OUTPUT),
        ('{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}', OUTPUT),
        ('{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"x"}}', OUTPUT),
        ('{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}', OUTPUT),
        ('{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":""}}', LIFECYCLE),
        ('{"type":"content_block_stop","index":0}', LIFECYCLE),
        ('{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":1}}', LIFECYCLE),
        ('{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":1}}', OUTPUT),
        ('{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}', OUTPUT),
        ('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}', STOP),
        ('{"type":"message_stop"}', DONE),
        ('{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', ERROR),
        ('{"error":{"message":"from a gateway"}}', ERROR),
        ('{"type":"new_event","delta":{"text":"x"}}', OUTPUT),
        ('{"type":"new_event","count":1}', LIFECYCLE),
        ('{"type":"message_start","message":5}', LIFECYCLE),
        ("not JSON", UNREADABLE),
        ("", LIFECYCLE),
    ],
)
def test_anthropic_stream_events(data: str, expected: Progress) -> None:
    """S02"""
    document = read_json(data.encode())
    stated = document.get("type", "") if isinstance(document, dict) else ""
    for name in {"", str(stated)}:
        assert ANTHROPIC.progress(StreamEvent(name, data.encode())) is expected


def test_an_anthropic_error_event_counts_by_its_name() -> None:
    """S02"""
    assert ANTHROPIC.progress(StreamEvent("error", b"upstream gone")) is ERROR
    assert ANTHROPIC.progress(StreamEvent("error", b"{}")) is ERROR


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (candidate({"text": "Hi"}), OUTPUT),
        (candidate({"text": "hm", "thought": True}), OUTPUT),
        (candidate({"functionCall": {"name": "f", "args": {}}}), OUTPUT),
        (candidate({"text": "", "thoughtSignature": "x"}), LIFECYCLE),
        (candidate({"text": ""}), LIFECYCLE),
        (candidate({"text": "", "thought": True}), LIFECYCLE),
        (candidate(), LIFECYCLE),
        (candidate(finishReason="FINISH_REASON_UNSPECIFIED"), LIFECYCLE),
        (candidate({"text": "!"}, finishReason="STOP"), DONE),
        (candidate(finishReason="MALFORMED_FUNCTION_CALL"), DONE),
        ('{"usageMetadata":{"promptTokenCount":1},"modelVersion":"m","responseId":"r"}', LIFECYCLE),
        ('{"promptFeedback":{"blockReason":"SAFETY"}}', OUTPUT),
        ('{"promptFeedback":{"safetyRatings":[]},"candidates":[]}', LIFECYCLE),
        ('{"error":{"code":503,"status":"UNAVAILABLE"}}', ERROR),
        ('[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]', ERROR),
        ('{"candidates":[null,{"content":5},{"content":{"parts":5}}]}', LIFECYCLE),
        ('{"embedding":{"values":[1]}}', OUTPUT),
        ("[]", LIFECYCLE),
        ("5", LIFECYCLE),
        ("not JSON", UNREADABLE),
        ("", LIFECYCLE),
    ],
)
def test_gemini_stream_events(data: str, expected: Progress) -> None:
    """S02"""
    assert GEMINI.progress(StreamEvent("", data.encode())) is expected


_MEMBERS = ["type", "error", "choices", "delta", "message", "content", "content_block", "parts", "candidates"]
_hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(_MEMBERS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(document=_hostile, name=st.sampled_from(["", "error", "message_start"]), raw=st.binary(max_size=10))
def test_progress_never_raises(document: object, name: str, raw: bytes) -> None:
    for dialect in DIALECTS.values():
        for data in (json.dumps(document).encode(), raw, b"[" * 100_000, b'{"a":' * 100_000):
            assert isinstance(dialect.progress(StreamEvent(name, data)), Progress)


@given(tail=st.text(max_size=30) | st.from_regex(r"/v1/models/[^/]{0,8}:[a-z]{0,5}"), body=st.binary(max_size=20))
def test_reading_never_raises(tail: str, body: bytes) -> None:
    for dialect in DIALECTS.values():
        dialect.endpoint("POST", tail)
        dialect.read(tail, "", JSON, body)
        dialect.read(tail, "", FORM, body)


@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_errors_of_our_own_have_the_vendors_shape(status: int) -> None:
    """W03: what the tool's SDK parses, with the message unharmed."""
    message = 'no candidate "left"\nwork gpt-5: é'
    openai = json.loads(OPENAI.error_body(status, message))["error"]
    assert set(openai) == {"message", "type", "param", "code"} and openai["message"] == message
    anthropic = json.loads(ANTHROPIC.error_body(status, message))
    assert anthropic["type"] == "error" and set(anthropic["error"]) == {"type", "message"}
    assert anthropic["error"]["message"] == message
    gemini = json.loads(GEMINI.error_body(status, message))["error"]
    assert gemini["code"] == status and gemini["message"] == message

    types = {
        400: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
        404: ("invalid_request_error", "not_found_error", "NOT_FOUND"),
        429: ("rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        503: ("server_error", "overloaded_error", "UNAVAILABLE"),
    }
    assert (openai["type"], anthropic["error"]["type"], gemini["status"]) == types[status]


def test_broken_connections_are_no_overload() -> None:
    """A10: of an `overloaded_error` Claude Code shows no message. The others have one body for both."""
    told = json.loads(ANTHROPIC.broken_body(503, "closed"))
    assert told == {"type": "error", "error": {"type": "api_error", "message": "closed"}}
    assert json.loads(ANTHROPIC.error_body(503, "full"))["error"]["type"] == "overloaded_error"
    assert all(each.broken_body(503, "x") == each.error_body(503, "x") for each in (OPENAI, GEMINI))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 200_000, b"9" * 5000, b"\xef\xbb"])
def test_read_json_is_tolerant(data: bytes) -> None:
    assert read_json(data) is None
    assert read_json(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


# -- several at once ---------------------------------------------------------------------------------------------

TEXT, BLANK = {"content": {"parts": [{"text": "Hi"}]}}, {"content": {"parts": [{"text": ""}]}}
ENDED, BROKEN, LIMIT = {"finishReason": "STOP"}, {"finishReason": "MALFORMED_FUNCTION_CALL"}, {"finishReason": "SAFETY"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"candidates": [BLANK, TEXT]}, OUTPUT),
        ({"candidates": [TEXT, BLANK]}, OUTPUT),
        ({"candidates": [TEXT, ENDED]}, DONE),
        ({"candidates": [BLANK], "promptFeedback": {"blockReason": "SAFETY"}}, OUTPUT),
        ([{"candidates": [BLANK]}, {"candidates": [TEXT]}], OUTPUT),
        ([{"candidates": [TEXT]}, {"candidates": [BLANK]}], OUTPUT),
        ([{"candidates": [TEXT]}, {"error": {"code": 503}}], ERROR),
    ],
)
def test_of_several_candidates_and_chunks_the_furthest_counts(document: object, expected: Progress) -> None:
    """S02: Gemini sends several candidates in a chunk, and without alt=sse several chunks in an array."""
    assert GEMINI.progress(StreamEvent("", json.dumps(document).encode())) is expected


@pytest.mark.parametrize(
    ("document", "lack"),
    [
        ({"candidates": [BLANK, TEXT]}, ""),
        ({"candidates": [TEXT, BROKEN]}, ""),
        ({"candidates": [ENDED, LIMIT]}, ""),
        ({"candidates": [ENDED], "usageMetadata": {"candidatesTokenCount": 1}}, ""),
        ({"candidates": [ENDED, BROKEN], "usageMetadata": {"candidatesTokenCount": 1}}, "ended by STOP"),
        ({"candidates": [ENDED, BROKEN]}, "ended by STOP"),
        ({"candidates": [BLANK], "promptFeedback": {"blockReason": "SAFETY"}}, ""),
        ([{"candidates": [BLANK]}, {"candidates": [TEXT]}, {"candidates": [ENDED]}], ""),
        ([{"candidates": [BLANK]}, {"candidates": [ENDED]}], "ended by STOP"),
        ([], "no JSON object"),
    ],
)
def test_one_candidate_or_chunk_with_an_answer_is_enough(document: object, lack: str) -> None:
    """A01"""
    found = GEMINI.lack("generateContent", document)
    assert found.endswith(lack) and bool(found) is bool(lack)
    assert GEMINI.answered(StreamEvent("", json.dumps(document).encode())) is not bool(lack)


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        ({"promptTokenCount": 5}, Usage(5)),
        ({"candidatesTokenCount": 2}, Usage(0, 2)),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 9}, Usage(5, 0, 5)),
        ({"promptTokenCount": 5, "toolUsePromptTokenCount": 1, "thoughtsTokenCount": 3}, Usage(6, 3, 0, 0, 3)),
        ({"promptTokenCount": 0}, None),
    ],
)
def test_tokens_of_gemini(counted: object, usage: Usage | None) -> None:
    """Q03: thoughts are output; what a tool was told is input."""
    assert GEMINI.usage({"usageMetadata": counted}) == usage
    assert GEMINI.usage([{"usageMetadata": counted}, {}]) == usage


# -- OpenAI's parts, one by one ----------------------------------------------------------------------------------

SPOKEN, SILENT = {"message": {"content": "Hi"}, "finish_reason": "stop"}, {"message": {}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("document", "lack"),
    [
        ({"choices": [SILENT, SPOKEN]}, ""),
        ({"choices": [SPOKEN, SILENT]}, ""),
        ({"choices": [SILENT, {"error": {"code": 502}}]}, ""),
        ({"choices": [SILENT], "usage": {"completion_tokens": 1}}, ""),
        ({"choices": [SILENT, SILENT]}, "ended by stop"),
        ({"choices": []}, "`choices` is empty"),
        ({"choices": [5]}, "`choices` is empty"),
        ({"choices": "x"}, "no `choices` in it"),
        ({}, "no `choices` in it"),
    ],
)
def test_one_choice_with_an_answer_is_enough(document: object, lack: str) -> None:
    """A01: one that failed is told by its error."""
    found = OPENAI.lack("chat/completions", document)
    assert found.endswith(lack) and bool(found) is bool(lack)


@pytest.mark.parametrize(
    ("choices", "expected", "finishes"),
    [
        ([{"delta": {}}, {"delta": {"content": "x"}}], OUTPUT, False),
        ([{"delta": {"content": "x"}}, {"delta": {}, "finish_reason": "stop"}], OUTPUT, True),
        ([{"delta": {}}, {"delta": {}, "finish_reason": "stop"}], STOP, True),
        ([{"delta": {"content": "x"}}, {"error": {"code": 502}}], ERROR, False),
        ([], LIFECYCLE, False),
    ],
)
def test_of_several_choices_the_furthest_counts(choices: object, expected: Progress, finishes: bool) -> None:
    """S02"""
    event = StreamEvent("", json.dumps({"choices": choices}).encode())
    assert (OPENAI.progress(event), OPENAI.finishes(event)) == (expected, finishes)


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        ({"prompt_tokens": 7}, Usage(7)),
        ({"completion_tokens": 3}, Usage(0, 3)),
        ({"input_tokens": 7, "output_tokens": 3}, Usage(7, 3)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": "7", "completion_tokens": 3}, None),
        ({"prompt_tokens": 7.0, "completion_tokens": 3}, None),
        ({"prompt_tokens": True, "completion_tokens": 3}, None),
        ({"prompt_tokens": -7, "completion_tokens": 3}, None),
        ({"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": -1}, None),
        ({"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": "1"}, None),
        ({"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 9}, Usage(7, 3, 7)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 2}, Usage(7, 3, 0, 0, 2)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 3}, Usage(7, 3, 0, 0, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 4}, Usage(7, 7, 0, 0, 4)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 2, "total_tokens": 10}, Usage(7, 3, 0, 0, 2)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 2, "total_tokens": 12}, Usage(7, 5, 0, 0, 2)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, Usage(7, 3)),
    ],
)
def test_tokens_of_openai_and_its_like(counted: object, usage: Usage | None) -> None:
    """Q03: reasoning that a vendor counts beside the completion is output as well; what is no number counts nothing."""
    assert OPENAI.usage({"usage": counted}) == usage


# -- Anthropic's parts, one by one -------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", ["", None, 5, [1]])
def test_a_type_that_is_no_word_leaves_the_name_of_the_event(stated: object) -> None:
    """S02"""
    data = json.dumps({"type": stated}).encode()
    assert ANTHROPIC.progress(StreamEvent("message_stop", data)) is DONE
    assert OPENAI.progress(StreamEvent("response.completed", data)) is DONE


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({"type": "message_delta", "usage": {"output_tokens": 3}}, 3),
        ({"type": "message_start", "usage": {"output_tokens": 3}}, 0),
        ([], 0),
        (None, 0),
    ],
)
def test_output_tokens_count_at_the_end(document: object, tokens: int) -> None:
    """A01: what the first event counts is the place of an output that may never come."""
    assert ANTHROPIC.output_tokens(StreamEvent("", json.dumps(document).encode())) == tokens


def test_amazons_events_as_anthropic_would_send_them() -> None:
    """The name of each is its type; an exception is an error event."""
    assert ANTHROPIC.event_of(StreamEvent("chunk", b'{"type":"ping"}')) == ("ping", b'{"type":"ping"}')
    assert ANTHROPIC.event_of(StreamEvent("chunk", b"[]")) == ("chunk", b"[]")
    assert ANTHROPIC.event_of(StreamEvent("chunk", b'{"type":""}')) == ("chunk", b'{"type":""}')
    name, data = ANTHROPIC.event_of(StreamEvent("exception", b'{"__type":"throttlingException","message":"slow"}'))
    assert name == "error"
    assert json.loads(data) == {"type": "error", "error": {"type": "throttlingException", "message": "slow"}}


@pytest.mark.parametrize(
    ("status", "anthropic", "openai", "gemini"),
    [
        (401, "authentication_error", "authentication_error", "UNAUTHENTICATED"),
        (403, "permission_error", "permission_error", "PERMISSION_DENIED"),
        (499, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
        (500, "api_error", "server_error", "INTERNAL"),
        (599, "api_error", "server_error", "INTERNAL"),
    ],
)
def test_a_status_without_a_name_of_its_own_is_the_tools_or_the_servers(
    status: int, anthropic: str, openai: str, gemini: str
) -> None:
    """W03"""
    assert json.loads(ANTHROPIC.error_body(status, "m"))["error"]["type"] == anthropic
    assert json.loads(OPENAI.error_body(status, "m"))["error"]["type"] == openai
    assert json.loads(GEMINI.error_body(status, "m"))["error"]["status"] == gemini


def test_a_name_that_is_more_than_a_segment_cannot_be_written() -> None:
    """R02"""
    vertex = DIALECTS["anthropic-vertex"]
    for tail in ("/publishers/anthropic/models/a%2Fb:rawPredict", "/publishers/anthropic/models/a"):
        with pytest.raises(ValueError, match="no model name"):
            vertex.write_model(tail, JSON, b"{}", "b")
        assert vertex.endpoint("POST", tail) is None


def test_why_a_reply_has_ended_is_told_in_short() -> None:
    """Law 10: an upstream chooses the word."""
    assert nothing_said("x" * 50).endswith(f", ended by {'x' * 40}")
