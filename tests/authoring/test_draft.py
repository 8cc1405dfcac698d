"""Drafts: whatever a reply holds, the file that is written loads, matches it and holds no credential."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.authoring.draft import DraftError, draft, quoted
from understudy.authoring.reply_file import Saved
from understudy.codec.yaml_nodes import RULE, Scalar, read
from understudy.model.verdict import Label
from understudy.replies.reply import Reply
from understudy.rules.yaml_rule import parse_rule

SECRET = "opaque+credential/value=="


def drafted(body: object, status: int = 400, **fields: object) -> str:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    reply = Reply(status, body=text.encode("utf-8", "replace"), **fields)  # type: ignore[arg-type]
    return draft(Saved(reply, secrets=(SECRET,)), "acme/x", Label.OVERLOADED)


@pytest.mark.parametrize(
    ("body", "when"),
    [
        ({"error": {"code": "seat_gone", "message": "m"}}, '  code: "seat_gone"'),
        ({"error": {"type": "SeatGone", "message": "m"}}, '  type: "seatgone"'),
        ({"error": {"code": "invalid_request_error", "message": "Seat is gone"}}, '  message|contains: "seat is gone"'),
        ({"error": {"message": "Seat 17 of acme-1 is gone for 3 s"}}, '  message|contains: "of {model} is gone for"'),
        ({"error": {"code": 4711, "message": "席位已经没有了"}}, '  code: "4711"'),
        ("<html><p>The seat is gone</p></html>", '  text|contains: "the seat is gone"'),
    ],
)
def test_what_a_draft_looks_for(body: object, when: str) -> None:
    assert when in drafted(body, model="acme-1").splitlines()


def test_an_example_is_short_and_masked() -> None:
    long = {
        "error": {"code": "seat_gone", "message": f"key {SECRET} and {json.dumps(SECRET)}", "list": ["x" * 999] * 99}
    }
    headers = (("set-cookie", "a=b"), ("x-amzn-errortype", "Gone"), ("authorization", SECRET))
    text = drafted(long, headers=headers)
    assert SECRET not in text
    assert "cookie" not in text
    assert "authorization" not in text
    assert 'headers: {"x-amzn-errortype": "Gone"}' in text
    assert len(text) < 6000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(f"x {SECRET} y"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just(SECRET), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON, st.text(), st.text(), st.sampled_from([200, 404, 500]))
def test_any_reply_makes_a_file_that_loads_or_none(value: object, message: str, model: str, status: int) -> None:
    try:
        text = drafted({"error": {"message": message, "details": value, "code": value}}, status, model=model)
    except DraftError:
        return
    assert SECRET not in text
    rule = parse_rule(text, "x.yaml", "acme/x")
    assert rule.matches_reply(rule.matches[0].reply)
    assert not rule.matches_reply(rule.near_misses[0].reply)


@given(st.text())
def test_quoted_texts_survive_yaml(text: str) -> None:
    value = read(quoted(text), "x", [], RULE)
    assert isinstance(value, Scalar)
    assert value.text == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\ufffd", "?") or (
        "\ufffd" in text
    )
