"""Unwrapping: every way in which an error is packed, and what must not be taken for one."""

from __future__ import annotations

import json

import pytest

from understudy.replies.reply import Reply
from understudy.replies.unwrap import ErrorInfo


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


@pytest.mark.parametrize(
    ("param", "said"),
    [
        (
            "audio.voice is not supported for this model",
            ["Param Incorrect", "audio.voice is not supported for this model"],
        ),
        ("text is not set", ["Param Incorrect", "text is not set"]),
        ("tool calling", ["Param Incorrect"]),
        ("messages[0].content", ["Param Incorrect"]),
        (["body", "messages", 0], ["Param Incorrect"]),
    ],
)
def test_a_parameter_that_is_a_sentence_is_read_as_one(param: object, said: list[str]) -> None:
    """Xiaomi says what is wrong where others name the parameter."""
    body = {"error": {"code": "400", "message": "Param Incorrect", "param": param}}
    assert [error.message for error in reply(body).errors] == said


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


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        # a gateway's exception around its provider's words
        (
            {"message": json.dumps({"args": {"description": json.dumps({"error": INNER})}, "error_type": "Invoke"})},
            400,
            INFO,
        ),
        # JSON that was quoted once more inside a sentence
        ({"message": "Upstream said: " + json.dumps(json.dumps({"error": INNER}))[1:-1]}, 400, INFO),
        # a message that is nothing but a code
        ({"error": {"message": "context_length_exceeded"}}, 400, ErrorInfo("context_length_exceeded", "", "",
                                                                           "context_length_exceeded")),
        # an event that is no JSON and says that it is an error
        ("data: error: engine is shut down\n\n", 200, ErrorInfo(message="error: engine is shut down")),
        (": hello\nevent: x\ndata: Exception: no worker\n\n", 200, ErrorInfo(message="Exception: no worker")),
        ({"header": {"code": 11200, "message": "m", "status": 2}}, 200, ErrorInfo("11200", "", "", "m")),
        # a framework names the status beside the message
        ({"statusCode": 404, "message": "m", "error": "Not Found"}, 404, ErrorInfo("Not Found", "", "", "m")),
        # a success in which a field says that there was none
        ({"status": "435", "msg": "m", "body": None}, 200, ErrorInfo("", "435", "", "m")),
        ({"status": 500, "message": "m"}, 200, ErrorInfo("", "", "", "m")),
    ],
)  # fmt: skip
def test_what_gateways_wrap(body: object, status: int, expected: ErrorInfo) -> None:
    """A02 and the misreadings by kind: the error inside is found however it was packed."""
    assert reply(body, status).errors[0] == expected


def test_two_sentences_of_one_error() -> None:
    """A general one, and beside it what really happened; the same one twice counts once."""
    body = {"type": "NotFoundError", "message": "The resource was not found", "detail": "Custom model not found"}
    first, second = reply(body, 404).errors
    assert (first.type, first.message) == ("NotFoundError", "The resource was not found")
    assert second == ErrorInfo(message="Custom model not found")
    assert len(reply({"message": "m", "details": "m", "detail": "m"}, 404).errors) == 1


@pytest.mark.parametrize(
    "body",
    [
        "data: an error: in an answer\n\n",
        'data: {"choices": [{"delta": {"content": "data: error: x"}}]}\n\n',
        {"header": {"code": 0, "message": "Success"}, "payload": {"choices": {}}},
        {"header": {"code": 17, "message": "m"}, "payload": {"choices": {}}},
        {"choices": [{"message": {"content": "x"}}], "args": {"message": "m"}, "error_type": None},
        {"status": "435", "message": "m", "data": [1]},
        {"status": "200", "msg": "m"},
        {"status": True, "msg": "m"},
        {"status": 4350, "msg": "m"},
    ],
)
def test_what_is_no_error_in_a_success(body: object) -> None:
    """F08: an answer's own words stay an answer."""
    assert reply(body, 200).errors == ()
