"""From text to structure: JSON, JSON in JSON, long and cut JSON, the events of a stream."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec.body_text import MAX_PARSED, follow, frames, parse
from understudy.replies.reply import Reply


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" [1]\n", [1]),
        (json.dumps('{"a": 1}'), {"a": 1}),
        ('"words"', "words"),
        ("words", None),
        ("", None),
        ('{"a": {"b": 1}, "c": "cut of', {"a": {"b": 1}}),
        ('{"a": [1, ', None),
        ("{" * 9999, None),
    ],
)
def test_parse(text: str, value: object) -> None:
    assert parse(text) == value


def test_of_a_long_object_the_first_members_count() -> None:
    """An error stands in front; the echoed request behind it is neither parsed nor taken for an error."""
    body = {"error": {"code": "c", "message": "m"}, "request": ["the model does not exist " * 40] * 1000}
    text = json.dumps(body)
    assert len(text) > 2 * MAX_PARSED
    assert parse(text) == {"error": body["error"]}
    assert [info.code for info in Reply(400, body=text.encode()).errors] == ["c"]
    turned = json.dumps(dict(reversed(body.items())))
    assert Reply(400, body=turned.encode()).errors == ()


def test_follow() -> None:
    value = {"a": [{"b": 1}, {"b": [2, 3]}, {"c": 4}]}
    assert follow(value, ("a", "*", "b")) == [1, 2, 3]
    assert follow(value, ("a", "2", "c")) == 4
    assert follow(value, ("a", "9")) is None
    assert follow(value, ("a", "*", "z")) is None


def test_frames() -> None:
    text = ': c\r\nevent: error\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: x\n\nevent: error\ndata: plain\n\n'
    assert list(frames(text)) == [("error", {"a": 1}), ("error", "plain")]


@given(st.text(alphabet='{}[]"\\\\:,ab1 \\n', max_size=60))
def test_nothing_raises(text: str) -> None:
    parse(text)
    list(frames(text))
    assert sys.getrecursionlimit() > 100
