"""A reply as it is judged: unwrapping, and what must not be taken for an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from understudy.replies import unwrap
from understudy.replies.reply import Reply
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
