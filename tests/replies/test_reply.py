"""A reply as it is judged: unwrapping, and what must not be taken for an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from understudy.model import Usage
from understudy.replies import unwrap
from understudy.replies.reply import MAX_TEXT, MOST_COMPARED, Fault, FaultKind, Reply
from understudy.replies.statement import NOTHING_STATED
from understudy.replies.unwrap import MAX_ERRORS, ErrorInfo


def reply(body: object, status: int = 400, **fields: object) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return Reply(status=status, body=text.encode(), **fields)  # type: ignore[arg-type]


def test_the_exception_name_of_aws_comes_from_its_header() -> None:
    headers = (("X-Amzn-ErrorType", "ThrottlingException:http://internal.amazon.com/coral/"),)
    assert reply({"message": "m"}, 429, headers=headers).error == ErrorInfo(type="ThrottlingException", message="m")
    assert reply("", 429, headers=headers).error == ErrorInfo(type="ThrottlingException")


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


def tree(levels: int) -> object:
    """An error inside every member in which errors are looked for, inside each of these again."""
    keys = ("error", "errors", "detail", "details", "Response", "response")
    return {key: tree(levels - 1) for key in keys} if levels else {"message": "x"}


def test_a_body_full_of_errors_costs_a_bounded_number_of_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    """H02: 128 KiB have room for a tree in which tens of thousands of errors can be found."""
    seen: list[object] = []
    own_error = unwrap._own_error

    def count(fields: dict[str, object], *rest: object) -> object:
        seen.append(fields)
        return own_error(fields, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(unwrap, "_own_error", count)
    assert reply(tree(5)).errors == (ErrorInfo(message="x"),)
    assert len(seen) <= unwrap.MAX_VISITS


@pytest.mark.parametrize("size", [1, 20_000])
def test_the_first_value_of_a_header_counts_and_thousands_cost_one_pass(size: int) -> None:
    headers = (("X-A", "1"), ("x-a", "2"), *((f"x-{n}", "y") for n in range(size)))
    found = Reply(429, headers=headers)
    with no_hang():
        assert all(found.header(name) == "1" for name in ["x-a", "X-A"] * 20_000)
    assert found.header("x-b") == ""


# -- how far is looked, and at what ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("不不".encode("gbk"), "不不"),
        ("x不".encode("gbk"), "x\ufffd\ufffd"),
        ("模型不在".encode("gbk") + "é".encode("gb18030"), None),
        ("模型不存在".encode("gbk") + "é".encode("gb18030"), "模型不存在é"),
        ("模型不存在".encode() + "é".encode(), "模型不存在é"),
        ("模型".encode("utf-16"), "模型"),
        ("模型 ok".encode("utf-16-be"), None),
        (b"\xff\xff\xff\xff\xff\xff", "\ufffd" * 6),
    ],
)
def test_gbk_is_told_by_its_letters(body: bytes, text: str | None) -> None:
    """More than four of five beyond ASCII are Chinese; what is cut at its end is UTF-8."""
    assert Reply(400, body=body).text == (body.decode("utf-8", "replace") if text is None else text)


def test_by_its_first_letters_a_text_is_told_to_be_chinese() -> None:
    """Law 10: eight thousand are looked at."""
    begin, rest = "模" * 8192, "é" * 8192
    assert Reply(400, body=(begin + rest).encode("gb18030")).text == begin + rest
    odd = ("é" + begin + rest[:8190]).encode("gb18030")
    assert Reply(400, body=odd).text == odd.decode("gb18030")
    assert Reply(400, body=("é" * 1639 + begin).encode("gb18030")).text.count("\ufffd") > 1000


def test_what_is_looked_at_of_a_body_is_bounded() -> None:
    """Law 10: a mebibyte of it; of its text folded, 64 Ki characters."""
    found = Reply(400, body=b"A" * (MAX_TEXT + 1))
    assert found.text == "A" * MAX_TEXT
    assert found.folded_text == "a" * (1 << 16)
    assert Reply(400, body=b" A\n\tB  ").folded_text == "a b"


def test_as_many_errors_as_are_kept() -> None:
    infos = [{"code": f"c{number}", "message": f"m{number}"} for number in range(MAX_ERRORS)]
    found = reply({"message": "m", "errors": infos, "detail": {"message": "d"}})
    assert len(found.errors) == MAX_ERRORS
    assert [info.code for info in found.errors] == [f"c{number}" for number in range(MAX_ERRORS)]


def test_what_decoding_brings_out_is_masked() -> None:
    """R06: in every part of an error, and in the text."""
    inner = {key: f"{key} sk-secret" for key in ("code", "type", "param", "message")}
    body = {"error": {"message": json.dumps(inner).replace("sk-", "\\u0073k-")}}
    found = Reply(400, body=json.dumps(body).encode(), mask=lambda text: text.replace("sk-secret", "<>"))
    assert found.error == ErrorInfo("code <>", "type <>", "param <>", "message <>")
    assert Reply(400, body=b"a sk-secret", mask=lambda text: text.replace("sk-secret", "<>")).text == "a <>"
    assert Reply(400, body=b"", mask=lambda text: "masked").text == ""


@pytest.mark.parametrize("beside", ["", "x" * MOST_COMPARED])
def test_what_putting_together_brings_out_is_masked(beside: str) -> None:
    """R06: the pieces of a path do not stand in the text as the path does."""
    body = {"detail": [{"loc": ["body", "sk", "secret"], "msg": "wrong"}], "beside": beside}
    found = Reply(422, body=json.dumps(body).encode(), mask=lambda text: text.replace("sk.secret", "<>"))
    assert found.error == ErrorInfo(param="<>", message="wrong")


NO_ANSWER = b'{"choices": []}'


def answered(status: int = 200, body: bytes = NO_ANSWER, content_type: str = "", **fields: Any) -> Reply:
    """A reply to a chat completion."""
    headers = (("Content-Type", content_type),) if content_type else ()
    named = {"dialect": "openai", "endpoint": "chat/completions", "headers": headers, **fields}
    return Reply(status, body=body, **named)


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        (answered(), True),
        (answered(400), False),
        (answered(299), True),
        (answered(300), False),
        (answered(199), False),
        (answered(event="error"), False),
        (answered(truncated=True), False),
        (answered(fault=Fault(FaultKind.CUT, "m", sent=True)), False),
        (answered(kind="auxiliary"), False),
        (answered(endpoint=""), False),
        (answered(dialect="no-such"), False),
        (answered(200, b"x", "Audio/mpeg; x"), False),
        (answered(200, b"", "audio/mpeg"), True),
        (answered(200, b"", "text/event-stream"), True),
        (answered(200, b" \n", "text/event-stream"), True),
        (answered(200, b": x\n\n", "text/event-stream"), False),
        (answered(200, b"<html>", "text/event-stream"), True),
        (answered(200, b"data: [DONE]\n\n"), True),
        (answered(200, b" " * 63 + b"data: [DONE]\n\n"), True),
        (answered(200, b'[{"choices": []}]', streamed=True), False),
        (answered(200, b'[{"choices": []}]'), True),
        (answered(200, b" " * 63 + b'[{"choices": []}]', streamed=True), False),
        (answered(200, b" " * 64 + b'[{"choices": []}]', streamed=True), True),
        (answered(200, b"[1]", streamed=True), True),
    ],
)
def test_a01_where_an_answer_is_looked_for(found: Reply, lacks: bool) -> None:
    """A01: in a whole 2xx of a call that generates, and of a dialect that is known."""
    assert bool(found.lack) is lacks


def counted(model: str = "x-2") -> dict[str, object]:
    return {
        "model": model,
        "usage": {"prompt_tokens": 5},
        "choices": [{"delta": {"content": "Hi"}, "message": {"content": "Hi"}}],
    }


@pytest.mark.parametrize("content_type", ["", "application/json", "text/event-stream"])
@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_q03_a_reply_states_the_same_however_it_came(content_type: str, looked: bool, streamed: bool) -> None:
    """Q03, Q04: also when it was judged before."""
    plain = json.dumps(counted()).encode()
    for body in (plain, b"data: " + plain + b"\n\n", *([b"[" + plain + b"]"] if streamed else [])):
        found = answered(200, body, content_type, model="x-1", streamed=streamed)
        if looked:
            assert found.lack == ""
        is_plain_stream = body is plain and content_type == "text/event-stream"
        assert found.statement.usage == (None if is_plain_stream else Usage(5))
        assert found.served_model == ("" if is_plain_stream else "x-2")


def test_q04_another_model_is_named_where_it_can_be_told() -> None:
    body = json.dumps(counted("x-1-2025-01-01")).encode()
    assert answered(200, body, model="x-1").served_model == ""
    body = json.dumps(counted()).encode()
    assert answered(200, body, model="x-1", dialect="azure-openai").served_model == ""
    assert Reply(200, body=body, model="x-1", dialect="no-such").served_model == ""
    assert answered(200, b"{broken").statement == NOTHING_STATED
    assert answered(200, b"[" * 99_999).statement == NOTHING_STATED


def test_how_codes_are_spelled_out() -> None:
    found = reply({"error": {"code": "ModelNotFound", "type": "some_error", "message": "m"}})
    assert found.spelled_out("modelnotfound") == "model not found"
    assert found.spelled_out("some_error") == "some error"
    assert found.spelled_out("other") == "other"


@pytest.mark.parametrize(
    ("param", "message", "names"),
    [
        ("x-1", "m", True),
        ("`X-1`", "m", True),
        ("x-2", "m", False),
        ("", "m", False),
        ("", "x-1 is gone", True),
        ("auto", "m", False),
    ],
)
def test_a_model_is_named_in_the_message_or_as_the_parameter(param: str, message: str, names: bool) -> None:
    assert reply({"error": {"param": param, "message": message}}, model="x-1").names_model() is names
    assert reply({"error": {"param": "auto", "message": "m"}}, model="auto").names_model()
    assert reply({"message": "m", "errors": [{"message": message, "param": param}]}, model="x-1").names_model() is names


def test_the_exception_of_a_header_is_no_error_of_a_success() -> None:
    headers = (("x-amzn-errortype", " Gone :x"),)
    assert reply("", 200, headers=headers).errors == ()
    assert reply("", 400, headers=headers).errors == (ErrorInfo(type="Gone"),)
    assert reply({"message": "m", "type": "t"}, 400, headers=headers).errors == (ErrorInfo(type="t", message="m"),)
    assert reply({"message": "m"}, 400, headers=(("x-amzn-errortype", " :x"),)).errors == (ErrorInfo(message="m"),)
    assert reply("", 400).errors == ()


def test_a_list_of_one_is_entered() -> None:
    assert reply([{"a": 1}]).path("a") == 1
    assert reply([{"a": 1}]).path("*.a") == [1]
    assert reply([{"a": 1}, {"a": 2}]).path("a") is None
    assert reply([{"a": 1}, {"a": 2}]).path("1.a") == 2
    assert reply([]).path("a") is None
