"""Lines of conditions: what they say of themselves, and that leaving expressions out never changes an answer."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.codec.patterns import MOST_SEARCHED
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
    assert str(read_line("code", ["x" * 61])) == f"code: {'x' * 57}..."
    assert str(read_line("code", ["x" * 60])) == f"code: {'x' * 60}"


@pytest.mark.parametrize("key", ["cod", "json.", "header", "code|like", "status|re", "json.a b"])
def test_a_line_that_means_nothing(key: str) -> None:
    with pytest.raises(ConditionError) as caught:
        read_line(key, ["404"])
    assert caught.value.write


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("code|" + "m" * 61, "a", f"the modifier `{'m' * 60}` is not known"),
        ("p" * 61, "a", f"the field `{'p' * 60}` is not known"),
        ("status", "4" * 61, f"`{'4' * 60}` is not a status"),
        ("message|says", "(" + "a" * 60, f"`({'a' * 59}`: "),
    ],
)
def test_what_means_nothing_is_repeated_in_part(key: str, value: str, what: str) -> None:
    with pytest.raises(ConditionError) as caught:
        read_line(key, [value])
    assert str(caught.value).startswith(what)


@pytest.mark.parametrize(
    ("values", "matching"),
    [
        (["404"], {404}),
        (["4xx"], set(range(400, 500))),
        (["5XX", "429"], {429, *range(500, 600)}),
        (["100", "999"], {100, 999}),
    ],
)
def test_a_status_is_a_number_or_a_class(values: list[str], matching: set[int]) -> None:
    test = read_line("status", values).test
    assert {status for status in range(1000) if test(Reply(status), INFO)} == matching


@pytest.mark.parametrize("value", ["6xx", "0xx", "4x", "099", "4040", "ok", ""])
def test_what_is_no_status(value: str) -> None:
    with pytest.raises(ConditionError, match="is not a status"):
        read_line("status", [value])


@pytest.mark.parametrize(
    ("cheaper", "dearer"),
    [
        ("status", "code"),
        ("param|re", "message"),
        ("type|contains", "message|contains"),
        ("message", "message|re"),
        ("message|contains", "message|re"),
        ("message|contains", "message|glob"),
        ("message|says", "message"),
        ("code-or-type|says", "message"),
        ("message|re", "text"),
        ("message|re", "text|contains"),
        ("message|re", "header.a|says"),
        ("text|says", "text|re"),
        ("text|says", "message|says-not"),
    ],
)
def test_what_costs_less_is_tried_first(cheaper: str, dearer: str) -> None:
    lines = [read_line(key, ["404" if key == "status" else "a"]) for key in (dearer, cheaper)]
    [ordered] = Condition.of([lines]).lines
    assert ordered == (lines[1], lines[0])


def test_law_10_an_expression_is_tried_on_as_much_as_one_text() -> None:
    """Law 10: of all values at a path together; a word is looked for in each."""
    for word in ("needle", "n"):
        for first, found in ((MOST_SEARCHED - len(word), True), (MOST_SEARCHED - len(word) + 1, False)):
            reply = Reply(400, body=json.dumps({"a": ["x" * first, word, "y"]}).encode())
            assert read_line("json.a|re", [word]).test(reply, INFO) is found
            assert read_line("json.a|contains", [word]).test(reply, INFO)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (True, "true"),
        (False, "false"),
        ("Text", "text"),
        (1.5, "1.5"),
        (2**63 - 1, str(2**63 - 1)),
        (2**63, ""),
        (None, ""),
        ({"b": 1}, ""),
        (["A", 1, None, ["b"], {"c": 1}], "a, 1"),
        (list(range(70)), ", ".join(map(str, range(64)))),
    ],
)
def test_the_values_at_a_path(value: object, read: str) -> None:
    """Scalars, also those of a list; of a list 64, and of numbers those that fit into 64 bits."""
    line = read_line("json.a", read.split(", ") if read else ["x"])
    reply = Reply(400, body=json.dumps({"a": value}).encode())
    assert line.read(reply, INFO) == read
    assert line.test(reply, INFO) is bool(read)


def test_the_cheapest_line_is_tried_first() -> None:
    lines = [
        read_line("json.a", ["1"]),
        read_line("message|re", ["a"]),
        read_line("code", ["b"]),
        read_line("status", ["400"]),
    ]
    assert [line.place for line in Condition.of([lines]).lines[0]] == ["status", "code", "message", "json.a"]


@pytest.mark.parametrize(
    ("key", "values", "holds"),
    [
        ("message|re", ["x", "^$"], True),
        ("message|re", ["x", "y"], False),
        ("message|glob", ["x", "*"], True),
        ("message|glob", ["x", "?*"], False),
        ("message|contains", ["x", ""], True),
        ("message", ["x", ""], True),
        ("message|says", ["x"], False),
        ("message|says-not", ["x"], True),
    ],
)
def test_nothing_may_be_meant(key: str, values: list[str], holds: bool) -> None:
    """One of several values that an absent message has is enough."""
    assert read_line(key, values).test(REPLY, ErrorInfo()) is holds


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
