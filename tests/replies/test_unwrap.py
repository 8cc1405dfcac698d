"""Unwrapping: every way in which an error is packed, and what must not be taken for one."""

from __future__ import annotations

import json

import pytest

from understudy.replies import unwrap
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


# -- how far is looked -------------------------------------------------------------------------------------------


def nested(levels: int) -> object:
    found: object = {"message": "m"}
    for _ in range(levels):
        found = {"error": found}
    return found


def test_errors_are_looked_for_six_levels_deep() -> None:
    assert reply(nested(unwrap.MAX_DEPTH)).errors == (ErrorInfo(message="m"),)
    assert reply(nested(unwrap.MAX_DEPTH + 1)).errors == ()


@pytest.mark.parametrize(("param", "found"), [("two words", False), ("now three words", True), ("", False)])
def test_a_parameter_of_three_words_is_a_sentence(param: str, found: bool) -> None:
    infos = reply({"message": "m", "param": param}).errors
    assert (ErrorInfo(message=param) in infos) is found
    assert infos[0] == ErrorInfo(param=param, message="m")


def test_json_in_a_text_is_a_level_too() -> None:
    for times, found in ((3, (ErrorInfo(message="m"),)), (4, ())):
        body: object = {"message": "m"}
        for _ in range(times):
            body = [json.dumps(body)]
        assert reply(body).errors == found


def test_an_error_in_a_sentence_is_a_level_too() -> None:
    for times, innermost in ((unwrap.MAX_DEPTH, True), (unwrap.MAX_DEPTH + 1, False)):
        body: object = {"message": "m"}
        for _ in range(times):
            body = {"message": f"failed: {json.dumps(body)}"}
        assert (reply(body).errors[0] == ErrorInfo(message="m")) is innermost


def test_what_an_exception_was_made_of_is_a_level_too() -> None:
    for times, found in ((unwrap.MAX_DEPTH, True), (unwrap.MAX_DEPTH + 1, False)):
        body: object = {"message": "m"}
        for _ in range(times):
            body = {"args": body, "error_type": "x"}
        assert (ErrorInfo(message="m") in reply(body).errors) is found


@pytest.mark.parametrize("inner", [{"code": "c", "message": "m"}, {"type": "t", "message": "m"}])
def test_a_message_that_is_an_error_itself_comes_before_what_is_round_it(inner: dict[str, str]) -> None:
    first, second = reply({"error": {"message": json.dumps(inner), "code": 500}}).errors
    assert first == ErrorInfo(**inner)
    assert second == ErrorInfo("500", message="m")
    assert reply({"error": {"message": '{"message": "m"}', "code": 500}}).errors == (ErrorInfo("500", message="m"),)


def test_each_value_that_is_looked_into_is_a_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    for visits, found in ((2, ()), (3, (ErrorInfo(message="m"),))):
        monkeypatch.setattr(unwrap, "MAX_VISITS", visits)
        assert reply(nested(2)).errors == found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"message": " m "}, ErrorInfo(message="m")),
        ({"message": " ", "msg": "m"}, ErrorInfo(message="m")),
        ({"code": 2**63 - 1, "message": "m"}, ErrorInfo(code=str(2**63 - 1), message="m")),
        ({"code": -(2**63) + 1, "message": "m"}, ErrorInfo(code=str(-(2**63) + 1), message="m")),
        ({"code": 2**63, "message": "m"}, ErrorInfo(message="m")),
        ({"code": True, "message": "m"}, ErrorInfo(message="m")),
        ({"code": 1.5, "message": "m"}, ErrorInfo(message="m")),
        ({"code": "", "error_code": "c", "message": "m"}, ErrorInfo("c", message="m")),
        ({"code": " ", "reason": " c ", "message": "m"}, ErrorInfo("c", message="m")),
        ({"code": "c" * 300, "message": "m"}, ErrorInfo("c" * 200, message="m")),
        ({"type": 7, "message": "m"}, ErrorInfo(message="m")),
        ({"status": 500, "title": "t", "message": "m"}, ErrorInfo(type="t", message="m")),
        ({"__type": "com.amazon#Throttled", "message": "m"}, ErrorInfo(type="Throttled", message="m")),
        ({"type": "Error", "message": "m"}, ErrorInfo(message="m")),
        ({"type": "OBJECT", "message": "m"}, ErrorInfo(message="m")),
        ({"param": " p ", "message": "m"}, ErrorInfo(param="p", message="m")),
        ({"param": "", "field": "p", "message": "m"}, ErrorInfo(param="p", message="m")),
        ({"param": [], "loc": ["body"], "message": "m"}, ErrorInfo(message="m")),
        ({"param": "p" * 300, "message": "m"}, ErrorInfo(param="p" * 200, message="m")),
        ({"loc": ["query", 0, "a"], "message": "m"}, ErrorInfo(param="query.0.a", message="m")),
        ({"loc": ["body", {"x": 1}, "a", "body"], "message": "m"}, ErrorInfo(param="a.body", message="m")),
        ({"loc": ["a" * 90, *range(20)], "message": "m"}, ErrorInfo(param="a" * 80 + ".0.1.2.3.4.5.6", message="m")),
        ({"message": "m" * 9000}, ErrorInfo(message="m" * unwrap.MAX_MESSAGE)),
        ({"error": {"code": 0}}, None),
        ({"error": {"code": "0", "message": ""}}, None),
        ({"error": {"code": 7}}, ErrorInfo("7")),
        ({"error": {"type": "t"}}, ErrorInfo(type="t")),
        ({"type": "t"}, None),
        ({"error": "m", "message": "m"}, ErrorInfo("m", message="m")),
        ({"error": "a b", "message": "m"}, ErrorInfo(message="a b")),
        ({"error": "a b", "code": "c"}, ErrorInfo("c", message="a b")),
        ({"error": "e" * 300, "message": "m"}, ErrorInfo("e" * 200, message="m")),
        ({"error": "Bad Gateway", "message": "m", "code": 7}, ErrorInfo("7", message="m")),
        ({"message": "a_b"}, ErrorInfo("a_b", message="a_b")),
        ({"message": "a_b", "code": "c"}, ErrorInfo("c", message="a_b")),
        ({"message": "a b_c"}, ErrorInfo(message="a b_c")),
        ("x" * 3000, ErrorInfo(message="x" * unwrap.MAX_PLAIN)),
        ("[1", None),
        ("{words", None),
    ],
)
def test_what_an_object_says_of_itself(body: object, expected: ErrorInfo | None) -> None:
    """Its code, type, parameter and message, under whichever name; each bounded; "" where it says nothing."""
    assert reply(body).error == expected


@pytest.mark.parametrize(
    "message",
    [
        "{'message': 'm', 'code': 'c'} (request 5)",
        'Upstream said {"error": {"code": "c", "message": "m"}} and {"code": "d"}',
        '{a} {b} {c} {"code": "c", "message": "m"}',
        "failed: {'message': 'm', 'code': 'c'}",
        'failed: {{"code": "c", "message": "m"}}',
        "failed: {'error': 'm', 'code': 'c'}",
        "failed: {'detail': \"m\", 'code': 'c'}",
        "failed: {'code': 'c', 'message': 'm', 'code': 'd'}",
        "prompt" + "-" * 75 + '{"code": "c", "message": "m"}',
        'generate content: {"code": "c", "message": "m"}',
    ],
)
def test_an_error_inside_a_sentence_comes_first(message: str) -> None:
    """As JSON, or as a program prints it."""
    first, *_, last = reply({"error": {"message": message}}).errors
    assert first == ErrorInfo("c", message="m")
    assert last.message == message


@pytest.mark.parametrize(
    ("printed", "expected"), [("{'message': 'm'}", ErrorInfo(message="m")), ("{'code': 'c'}", ErrorInfo("c"))]
)
def test_half_an_error_inside_a_sentence_is_one(printed: str, expected: ErrorInfo) -> None:
    """As a program prints it: its message, or its code alone."""
    assert reply({"error": {"message": f"failed: {printed}"}}).errors[0] == expected


@pytest.mark.parametrize(
    "message",
    [
        '{a} {b} {c} {d} {"code": "c", "message": "m"}',
        "prompt" + "-" * 74 + '{"code": "c", "message": "m"}',
        'the prompt was {"code": "c", "message": "m"}',
        "the model {x} is gone",
        "failed: {'codes': 'c', 'messages': 'm'}",
        "failed: {'type': 't'}",
    ],
)
def test_what_a_sentence_quotes_otherwise_is_no_error(message: str) -> None:
    """A piece of the request, by the 80 characters before it, and what stands behind too many braces."""
    assert reply({"error": {"message": message}}).errors == (ErrorInfo(message=message),)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"status": 400, "message": "m"}, True),
        ({"status": 399, "message": "m"}, False),
        ({"status": 599, "message": "m"}, True),
        ({"status": 600, "message": "m"}, False),
        ({"status": "400", "message": "m"}, True),
        ({"status": "399", "message": "m"}, False),
        ({"status": "0500", "message": "m"}, False),
        ({"status": "failed", "message": "m"}, True),
        ({"status": "failure", "msg": "m"}, True),
        ({"status": "error", "msg": "m"}, True),
        ({"status": "failed", "message": ""}, False),
        ({"status": "failed", "message": {"a": "b"}}, False),
        ({"status": "fine", "message": "m"}, False),
        ({"success": False, "message": "m"}, True),
        ({"success": None, "message": "m"}, False),
        ({"success": False, "message": "m", "output": "x"}, False),
        ({"code": "c", "message": "m"}, True),
        ({"code": "ok", "message": "m"}, False),
        ({"code": "c"}, False),
        ({"errors": ["m"]}, True),
        ({"errors": [None, 0, {}, [], "m"]}, False),
        ({"errors": [None, 0, {}, "m"]}, True),
        ({"errors": {"a": 0, "b": ""}}, False),
        ({"error": {"code": 1}}, True),
        ({"errors": [{"message": "m"}], "data": [1]}, False),
        ({"error": " "}, False),
        ({"error": ["m"]}, True),
        ({"error": 5}, False),
        ({"error_code": "0"}, False),
        ({"error_code": 7}, True),
        ({"type": "response.failed", "response": {}}, True),
        ({"type": "x", "response": {"status": "failed"}}, True),
        ({"type": "x", "response": {"status": "completed", "error": {"message": "m"}}}, False),
        ({"type": "response.failed", "response": "x"}, False),
        ({"base_resp": {"status_code": 7}}, True),
        ({"base_resp": {"status_code": 0, "status_msg": "m"}}, False),
        ({"base_resp": "x"}, False),
        ({"header": {"code": 7}}, True),
        ({"header": {"code": 0, "message": "m"}}, False),
        ({"Response": {"Error": {}}}, False),
        ({"Response": {"Error": {"Code": "c"}}}, True),
        ({"Response": {"Choices": []}}, False),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, True),
        ({"promptFeedback": {"blockReason": ""}}, False),
        ({"promptFeedback": {"blockReason": 5}}, False),
        ({"promptFeedback": {}}, False),
        ({"delta": {"finish_reason": "ERROR"}}, True),
        ({"delta": {"finish_reason": "COMPLETE"}}, False),
        ({"delta": {"error": "m"}}, True),
        ({"delta": {"error": ""}}, False),
        ({"delta": "error"}, False),
        ({"choices": []}, False),
        ({"choices": ["error"]}, False),
        ({"choices": [{"finish_reason": "error"}]}, True),
        ({"choices": [{"finish_reason": "ERROR_X"}]}, True),
        ({"choices": [{"finish_reason": "no error"}]}, False),
        ({"choices": [{"finish_reason": None}]}, False),
        ([{"choices": []}, {"error": {"message": "m"}}], True),
        ([{"error": {"message": "m"}}, {"choices": []}], True),
        ([{"choices": []}, {"error": {"message": "m"}}, {"choices": []}], False),
        ([[{"error": {"message": "m"}}]], False),
        ([], False),
        ([{"choices": []}, "m"], False),
    ],
)
def test_f11_what_fails_by_its_structure(body: object, found: bool) -> None:
    """F11: and just beside it, what does not."""
    assert bool(reply(body, 200).errors) is found


@pytest.mark.parametrize(
    ("holder", "expected"),
    [
        ({"delta": {"content": '{"message": "m"}'}}, "m"),
        ({"message": {"content": '{"message": "m"}'}}, "m"),
        ({"message": {"content": "words"}}, ""),
        ({"message": {"content": '["m"]'}}, ""),
        ({"message": {"content": {"message": "m"}}}, ""),
        ({"message": "m"}, ""),
        ({}, ""),
    ],
)
def test_an_error_in_the_place_of_the_text_counts_as_an_object_only(holder: dict[str, object], expected: str) -> None:
    infos = reply({"choices": [{"finish_reason": "error", **holder}]}, 200).errors
    assert infos[-1] == ErrorInfo(type="finish_reason:error")
    assert [info.message for info in infos[:-1]] == ([expected] if expected else [])


def test_what_stands_beside_an_error_belongs_to_it_where_it_is_a_text() -> None:
    assert reply({"error": "m", "code": "c"}, 200).errors == (ErrorInfo("c", message="m"),)
    assert reply({"error": {"message": "m"}, "message": "other"}, 200).errors == (ErrorInfo(message="m"),)
    assert reply([{"error": {"message": "m"}}, {"error": {"message": "n"}}], 200).errors == (
        ErrorInfo(message="m"),
        ErrorInfo(message="n"),
    )


@pytest.mark.parametrize(("kind", "found"), [("error_type", True), ("errorType", True), ("error_types", False)])
def test_the_arguments_of_an_exception_are_no_tools(kind: str, found: bool) -> None:
    """They are known by its type, which stands beside them."""
    body = {"message": "m", "args": {"message": "inner"}, kind: "Invoke"}
    assert (ErrorInfo(message="inner") in reply(body).errors) is found


def test_what_an_upstream_blocked_is_told() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "w" * 9000}}
    assert reply(blocked, 200).error == ErrorInfo("SAFETY", "promptFeedback", "", "w" * unwrap.MAX_MESSAGE)
    assert reply({"promptFeedback": {"blockReason": "SAFETY"}}, 200).error == ErrorInfo("SAFETY", "promptFeedback")
    ended = {"delta": {"finish_reason": "ERROR", "error": "m"}}
    assert reply(ended, 200).error == ErrorInfo(type="message-end", message="m")
    assert reply({"delta": {"finish_reason": "ERROR"}}, 200).error == ErrorInfo(type="message-end")
    failed = {"type": "response.failed", "response": {"error": {"message": "m"}}}
    assert reply(failed, 200).errors == (ErrorInfo(message="m"), ErrorInfo(type="response.failed"))


@pytest.mark.parametrize("before", ["", "\n  "])
@pytest.mark.parametrize("page", ["<!DOCTYPE x>", "<HTML>", "<?xml?>", "<head>", "<body>", "<title>", "<center>"])
def test_a_page_is_no_message(page: str, before: str) -> None:
    assert reply(f"{before}{page} gone", 404).errors == ()
    assert reply({"errors": [f"{before}{page} gone"]}, 404).errors == ()
    assert reply(f"{before}<p> gone", 404).errors == (ErrorInfo(message="<p> gone"),)


@pytest.mark.parametrize("field", ["data: ", "event: x\ndata: ", ": x\ndata: ", "id: 1\ndata: ", "retry: 1\ndata: "])
def test_a_stream_is_read_as_one(field: str) -> None:
    """Whatever its first field; what an event that is an error says counts, and of others what their structure says."""
    text = f"\n{field}" + '{"error": {"message": "m"}}\n\n'
    assert reply(text, 200).errors == (ErrorInfo(message="m"),)
    assert reply(field + '{"message": "m"}\n\n', 200).errors == ()
    assert reply(field + '{"message": "m"}\n\n', 400).errors == (ErrorInfo(message="m"),)
    assert reply('event: error\ndata: {"message": "m"}\n\n', 200).errors == (ErrorInfo(message="m"),)


def test_the_event_that_ended_a_stream_is_an_error_by_its_name() -> None:
    """Its words count, as those of a refusal do."""
    assert reply({"message": "m"}, 200, event="error").errors == (ErrorInfo(message="m"),)
    assert reply({"message": "m"}, 200, event="message").errors == ()
    assert reply("m", 200, event="error").errors == (ErrorInfo(message="m"),)
