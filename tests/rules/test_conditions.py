"""Lines of conditions: what they say of themselves, and that leaving expressions out never changes an answer."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.replies.reply import Reply
from understudy.replies.unwrap import ErrorInfo
from understudy.rules.conditions import Condition, ConditionError, read_line

REPLY = Reply(
    404, headers=(("X-Odd", "Yes"),), body=b'{"error": {"code": "Gone", "n": [1, null]}, "deep": {"x": true}}'
)
INFO = ErrorInfo(code="gone", message="it is gone")


@pytest.mark.parametrize(
    ("key", "values", "read"),
    [
        ("status", ["4xx"], "404"),
        ("code", ["gone", "lost"], "gone"),
        ("message|contains", ["is GONE"], "it is gone"),
        ("header.x-odd", ["yes"], "yes"),
        ("json.error.n.*", ["1"], "1"),
        ("json.deep.x", ["true"], "true"),
    ],
)
def test_a_line_knows_what_it_saw(key: str, values: list[str], read: str) -> None:
    line = read_line(key, values)
    assert line.test(REPLY, INFO)
    assert line.read(REPLY, INFO) == read


def test_a_line_can_be_shown() -> None:
    assert str(read_line("code", ["a", "b"])) == "code: a (or one of 1 more)"
    assert str(read_line("message|re", ["x" * 200])) == f"message|re: {'x' * 57}..."


@pytest.mark.parametrize("key", ["cod", "json.", "header", "code|like", "status|re", "json.a b"])
def test_a_line_that_means_nothing(key: str) -> None:
    with pytest.raises(ConditionError) as caught:
        read_line(key, ["404"])
    assert caught.value.write


def test_the_cheapest_line_is_tried_first() -> None:
    lines = [
        read_line("json.a", ["1"]),
        read_line("message|re", ["a"]),
        read_line("code", ["b"]),
        read_line("status", ["400"]),
    ]
    assert [line.place for line in Condition.of([lines]).lines[0]] == ["status", "code", "message", "json.a"]


EXPRESSIONS = [
    r"\bmodels? (?:is|was) not found\b",
    r"不存在|无效",
    r"^(?:a|bc)+$",
    r"(?:no|not any) (?:model|engine)s?\b",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["model", "s", " is", " was", " not found", "不", "存在", "a", "bc", "no ", "engine"])))
def test_an_expression_left_out_would_not_have_matched(words: list[str]) -> None:
    text = "".join(words)
    line = read_line("message|re", EXPRESSIONS)
    expected = any(re.search(expression, text) for expression in EXPRESSIONS)
    assert line.test(REPLY, ErrorInfo(message=text)) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8))
def test_any_value_at_a_path_can_be_tested(value: object) -> None:
    reply = Reply(400, body=json.dumps({"a": value}).encode("utf-8", "replace"))
    line = read_line("json.a|re", ["^x"])
    assert line.test(reply, INFO) in (True, False)
    assert isinstance(line.read(reply, INFO), str)
