"""A reply as it is judged: unwrapping, and what must not be taken for an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.reply import MAX_ERRORS, ErrorInfo, Reply


def reply(body: object, status: int = 400, **fields: object) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return Reply(status=status, body=text.encode(), **fields)  # type: ignore[arg-type]


INNER = {"code": "c", "type": "t", "param": "p", "message": "m"}
INFO = ErrorInfo("c", "t", "p", "m")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": INNER}, INFO),
        (INNER, INFO),
        ([{"error": INNER}], INFO),
        ({"type": "error", "error": INNER}, INFO),
        ({"error": {"error": INNER}}, INFO),
        ({"errors": [INNER]}, INFO),
        ({"detail": INNER}, INFO),
        ({"detail": [INNER]}, INFO),
        ({"error": json.dumps(INNER)}, INFO),
        ({"error": {"message": json.dumps({"error": INNER}), "code": 500}}, INFO),
        (json.dumps(json.dumps({"error": INNER})), INFO),
        ({"type": "response.failed", "response": {"status": "failed", "error": INNER}}, INFO),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps({"error": INNER})}}}, INFO),
        ({"error": {"message": f"Error from provider(x: 503): {json.dumps({'error': INNER})} (request 1)"}}, INFO),
        ({"error": {"message": f"Error code: 404 - { ({'error': INNER})!r}"}}, INFO),
        ({"error": "m"}, ErrorInfo(message="m")),
        ({"detail": "m"}, ErrorInfo(message="m")),
        ({"error": "invalid_request", "error_description": "m"}, ErrorInfo(code="invalid_request", message="m")),
        ({"base_resp": {"status_code": 1004, "status_msg": "m"}}, ErrorInfo(code="1004", message="m")),
        ({"Response": {"Error": {"Code": "A.B", "Message": "m"}}}, ErrorInfo(code="A.B", message="m")),
        ({"error": {"code": 404, "message": "m", "status": "NOT_FOUND"}}, ErrorInfo("404", "NOT_FOUND", "", "m")),
        (
            {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "role"], "msg": "m", "input": {"x": "no"}}]},
            ErrorInfo(type="missing", param="messages.0.role", message="m"),
        ),
        ("plain words", ErrorInfo(message="plain words")),
        ('event: error\ndata: {"type":"error","error":{"code":"c","message":"m"}}\n\n', ErrorInfo("c", "", "", "m")),
        ('data: {"id":1}\r\n\r\ndata: {"error":{"code":"c","message":"m"}}\r\n\r\n', ErrorInfo("c", "", "", "m")),
    ],
)
def test_errors_are_unwrapped(body: object, expected: ErrorInfo) -> None:
    assert reply(body).error == expected


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "c", "message": "m"}, "choices": []},
        [{"error": {"code": "c", "message": "m"}}],
        {"type": "error", "error": {"code": "c", "message": "m"}},
        {"type": "error", "code": "c", "message": "m"},
        {"object": "error", "code": "c", "message": "m"},
        {"base_resp": {"status_code": "c", "status_msg": "m"}},
        {"Response": {"Error": {"Code": "c", "Message": "m"}}},
        {"error_code": "c", "error_msg": "m"},
        {"success": False, "code": "c", "msg": "m"},
        {"code": "c", "message": "m", "data": None},
        {"success": False, "errors": [{"code": "c", "message": "m"}], "result": None},
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "c", "message": "m"}}},
        {"choices": [{"delta": {"content": '{"code":"c","message":"m"}'}, "finish_reason": "error_finish"}]},
        'data: {"choices":[]}\n\ndata: {"error":{"code":"c","message":"m"}}\n\n',
    ],
)
def test_a_2xx_fails_by_its_structure(body: object) -> None:
    """F11: a top-level error object under a 200 is an error."""
    assert reply(body, 200).error == ErrorInfo("c", "", "", "m")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": '{"error": {"message": "model not found"}}'}, "finish_reason": "stop"}]},
        {"output": {"message": {"content": [{"text": "AccessDeniedException: no access to the model"}]}}},
        {"id": "r", "status": "completed", "error": None, "output": []},
        {"error": {"code": "", "message": ""}, "choices": [{}]},
        {"error": ""},
        {"error": {}},
        {"error": False},
        {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": []},
        {"error_code": 0, "result": "x"},
        {"code": 200, "message": "success", "data": {}},
        {"code": "x", "message": "done", "data": {"answer": 1}},
        {"model": "m", "message": {"role": "assistant", "content": "model 'm' not found"}, "done": False},
        {"choices": [{"delta": {"content": "model not found"}, "content_filter_results": {"error": {"code": ""}}}]},
        {"candidates": [{"content": {"parts": [{"text": '[{"error":{"code":404}}]'}]}}]},
        {"choices": [{"message": {"content": "I fail"}, "finish_reason": "stop"}], "error": None},
        "model not found",
        "<html>model not found</html>",
        'data: {"choices":[{"delta":{"content":"{\\"error\\":{\\"message\\":\\"x\\"}}"}}]}\n\n',
    ],
)
def test_words_in_a_2xx_are_no_error(body: object) -> None:
    """F08: what an assistant says is not what the vendor says."""
    assert reply(body, 200).errors == ()


def test_the_code_of_finish_reason_error_does_not_take_prose_for_an_error() -> None:
    choice = {"message": {"content": "The model does not exist"}, "finish_reason": "error"}
    assert reply({"choices": [choice]}, 200).errors == (ErrorInfo(type="finish_reason:error"),)


@pytest.mark.parametrize("page", ["<!DOCTYPE html><p>model not found</p>", "<html>x</html>", "", "   "])
def test_pages_and_nothing_carry_no_error(page: str) -> None:
    assert reply(page, 404).errors == ()


def test_the_request_that_a_vendor_echoes_is_not_read() -> None:
    body = {"error": {"message": "bad", "request": {"error": {"code": "model_not_found"}}}, "input": {"error": "x"}}
    assert reply(body).errors == (ErrorInfo(message="bad"),)


def test_arguments_of_a_tool_in_a_message_are_not_unwrapped() -> None:
    message = 'Failed to parse tool call arguments: {"error": {"code": "model_not_found", "message": "x"}}'
    assert [info.code for info in reply({"error": {"message": message}}).errors] == [""]
    assert "model_not_found" not in reply({"error": {"message": message}}).said[0].message


def test_longer_quoted_passages_are_left_out_of_what_rules_see() -> None:
    said = reply({"error": {"message": 'Invalid text: "the model does not exist" and `x y`'}}).said
    assert said[0].message == "invalid text: ... and `x y`"


def test_the_exception_name_of_aws_comes_from_its_header() -> None:
    headers = (("X-Amzn-ErrorType", "ThrottlingException:http://internal.amazon.com/coral/"),)
    assert reply({"message": "m"}, 429, headers=headers).error == ErrorInfo(type="ThrottlingException", message="m")
    assert reply("", 429, headers=headers).error == ErrorInfo(type="ThrottlingException")


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ("The model `gpt-4o` does not exist", "gpt-4o"),
        ("models/gemini-pro is not found", "gemini-pro"),
        ("gemini-pro is not found", "models/gemini-pro"),
        ("Publisher Model `projects/1/locations/x/publishers/openai/models/gpt-oss` was not found", "openai/gpt-oss"),
        ("acme/x-1.5 is not a valid model ID", "acme/x-1.5:free"),
        ("unknown model: GPT-4O.", "gpt-4o"),
        ("no access to gpt-5-2025-08-07", "gpt-5"),
        ("当前订阅套餐暂未开放GLM-5权限", "glm-5"),
        ('model "ollama" not found', "ollama"),
        ("Model auto not found", "auto"),
        ("model claude-x-20250514-v1:0 denied", "us.claude-x-20250514-v1:0"),
    ],
)
def test_the_model_is_recognised_as_vendors_write_it(message: str, model: str) -> None:
    found = reply({"error": {"message": message}}, model=model)
    assert found.names_model()
    assert "{model}" in found.said[0].message


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ("The model gpt-4o does not exist", "gpt-4"),
        ("gpt-4.1 does not exist", "gpt-4"),
        ("my-gpt-4 does not exist", "gpt-4"),
        ("please use auto mode", "auto"),
        ("The model does not exist", "gpt-4"),
        ("The model does not exist", ""),
        ("The model does not exist", "x"),
    ],
)
def test_another_model_is_not_taken_for_the_requested_one(message: str, model: str) -> None:
    found = reply({"error": {"message": message}}, model=model)
    assert not found.names_model()
    assert "{model}" not in found.said[0].message


def test_the_alias_counts_as_well() -> None:
    assert reply({"error": "fast-1 not found"}, model="gpt-5", alias="fast-1").names_model()


def test_path() -> None:
    body = {"a": [{"b": 1}, {"b": [2, 3]}, {"c": 4}], "d": {"e": None}}
    found = reply([body])
    assert found.path("a.0.b") == 1
    assert found.path("0.a.0.b") == 1
    assert found.path("a.*.b") == [1, 2, 3]
    assert found.path("a.9.b") is None
    assert found.path("d.e") is None
    assert found.path("d.e.f") is None
    assert reply("text").path("a") is None


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=gbk", "模型".encode("gbk"), "模型"),
        ("text/plain; charset=no-such", "模型".encode(), "模型"),
        ("text/plain; charset=hex", b"zz", "zz"),
        ("", b"\xef\xbb\xbfx\xff", "x\ufffd"),
    ],
)
def test_text(content_type: str, body: bytes, text: str) -> None:
    assert Reply(400, headers=(("Content-Type", content_type),), body=body).text == text


def test_errors_are_bounded() -> None:
    deep: object = {"message": "m"}
    for _ in range(200):
        deep = {"error": deep}
    assert reply(deep).errors == ()
    assert len(reply({"errors": [{"message": str(n)} for n in range(500)]}).errors) <= MAX_ERRORS
    assert len(reply({"error": "x" * 100_000}).said[0].message) < 2000
    assert reply("[" * 500_000).json is None


KEYS = st.sampled_from(
    [
        *("error", "errors", "detail", "message", "code", "type", "param", "loc", "base_resp", "Response", "choices"),
        *("data", "response", "status", "metadata", "raw", "finish_reason", "delta", "content", "promptFeedback"),
        "blockReason",
    ]
)
WORDS = st.text(max_size=30) | st.sampled_from(
    ["error", "response.failed", "failed", '{"error":', "{'error': 'x'}", '"', "model gpt-5 not found", "error_finish"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
BODIES = st.one_of(
    st.binary(max_size=300),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(json.dumps(value)).encode()),
    JSON.map(lambda value: b"event: error\ndata: " + json.dumps(value).encode() + b"\n\n"),
)


@settings(deadline=None)
@given(
    BODIES,
    st.sampled_from([0, 200, 204, 301, 400, 429, 500]),
    st.sampled_from(["", "error"]),
    st.text(max_size=12),
    WORDS,
)
def test_hostile_replies_never_raise(body: bytes, status: int, event: str, model: str, charset: str) -> None:
    headers = (("content-type", f"text/plain; charset={charset}"), ("x-amzn-errortype", charset))
    found = Reply(status, body=body, event=event, model=model, headers=headers)
    assert len(found.errors) == len(found.said) <= MAX_ERRORS
    assert all(
        isinstance(getattr(info, name), str) for info in found.errors for name in ("code", "type", "param", "message")
    )
    found.names_model()
    found.path("error.details.*.x.0")
