"""A body without the middle of its long strings says of itself what the whole body says."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec import abridged
from understudy.codec.abridged import CUT, KEPT, LONG, SMALL, abridge, without_escapes
from understudy.codec.json_edit import read_json_model, set_json_members, write_json_model

ALPHABET = ["a", "Z", " ", "\\", '"', "\n", "é", "日", "🙂", "{", "]", ":", ","]


def text(seed: int, size: int) -> str:
    """A text with all that has to be written in another way."""
    random = Random(seed)
    return "".join(random.choices(ALPHABET, [30, 30, 20, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1], k=size))


STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


documents = st.dictionaries(
    st.sampled_from(["model", "stream", "messages", "tools", "x"]),
    st.recursive(
        st.booleans()
        | st.builds(text, st.integers(0, 99), st.sampled_from([0, 1, 30, LONG - 2, LONG, 5 * LONG, 9000])),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
)


@given(documents, st.booleans(), st.sampled_from([7, 64, 1000, abridged.PIECE]))
def test_what_is_left_is_the_body_but_for_the_middle_of_long_strings(
    document: dict[str, object], ascii_only: bool, piece: int
) -> None:
    document = {"padding": "plain text " * (SMALL // 8), **document}
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(abridged, "PIECE", piece)
        short = abridge(body)
    whole, last = b"", 0
    for cut, shorter in short.cuts:
        assert short.text[cut : cut + 1] == CUT
        whole += short.text[last:cut]
        whole += body[len(whole) : len(whole) + shorter + 1]
        last = cut + 1
    assert whole + short.text[last:] == body
    assert all(body[short.place(at)] == short.text[at] for at in range(len(short.text)) if short.text[at] != 0)
    # What is left is the same document, in which long strings are shorter, each with the mark of a cut.
    assert STRING.sub(b"", short.text) == STRING.sub(b"", body)
    for now, before in zip(STRING.findall(short.text), STRING.findall(body), strict=True):
        if now != before:
            begin, end = now.split(CUT)
            assert before.startswith(begin) and before.endswith(end)
            assert min(len(begin), len(end)) > KEPT / 2 and len(before) > LONG
            assert (begin + end).decode()
    assert len(short.text) < len(body)


@pytest.mark.parametrize("char", ["Ā", "é", "日", "🙂", "\n", "a\\"])
def test_no_character_and_no_escape_is_cut_in_two(char: str) -> None:
    for shift in range(4):
        body = json.dumps({"x": "a" * shift + char * SMALL + "a" * shift}, ensure_ascii=False).encode()
        begin, end = abridge(body).text.split(CUT)
        assert json.loads(begin + b'"}') and json.loads(b'{"x": "' + end)


@given(documents)
def test_a_body_is_read_and_edited_as_a_whole(document: dict[str, object]) -> None:
    document = {"padding": "plain text " * (SMALL // 8), **document}
    body = json.dumps(document).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(abridged, "SMALL", 10**9)
        known = read_json_model(body)
        edited = set_json_members(body, {"model": "another", "messages": None, "new": 1})
        named = write_json_model(body, "another") if known[0] is not None else None
    assert set_json_members(body, {"model": "another", "messages": None, "new": 1}) == edited
    if named is not None:
        assert write_json_model(body, "another") == named
        assert read_json_model(abridge(body, b'"model"').text) == known


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "x": "' + b"a" * SMALL,  # a string that does not end
        b'{"model": "m", "x": "' + b"a" * SMALL + b'\\"}',
        b'{"model": "m", "x": "' + b"a" * SMALL + b'\xff"}',
        b'[{"model": "m"}, "' + b"a" * SMALL + b'"]',
        b'--boundary\r\n\r\n{"model": "' + b"a" * SMALL + b'"}',
        b'{"model": "m", "x": "' + b"\\\\" * SMALL + b'"}',
        b'{"model": "m", "x": [' + b'"a", ' * SMALL + b'"' + b"a" * SMALL + b'"]}',
        b'{"model": "m", "x": "short"}',
    ],
)
def test_what_stays_as_it_is(body: bytes) -> None:
    """No object, no UTF-8, nothing that ends, or nothing to gain."""
    assert abridge(body).text is body


def test_a_string_of_a_name_that_is_asked_for_stays() -> None:
    """An alias has to be known whole, however long; one that was cut is none."""
    body = json.dumps({"model": "m" * SMALL, "x": "y" * SMALL}).encode()
    assert read_json_model(abridge(body, b'"model"').text) == ("m" * SMALL, False)
    assert read_json_model(abridge(body).text) == (None, False)
    assert len(abridge(body, b'"model"').text) < len(body) - SMALL + LONG + KEPT


@given(
    st.lists(st.sampled_from(["\\\\", '\\"', "\\n", "a"]), max_size=40).map("".join),
    st.lists(st.sampled_from(["\\\\", '\\"', "a"]), max_size=12).map("".join),
    st.sampled_from([1, 2, 3, 5, 8, abridged.PIECE]),
)
def test_a_long_string_ends_where_its_quote_is_not_escaped(inside: str, end: str, piece: int) -> None:
    """However many backslashes stand in front of the quotes in it and of its last one, and wherever a piece ends."""
    body = f'{{"x": "{"a" * SMALL}{inside * 60}{"a" * LONG}{end}", "y": "{inside}", "model": "m"}}'.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(abridged, "PIECE", piece)
        short = abridge(body)
    assert len(short.text) < 0.75 * len(body)
    assert read_json_model(short.text) == ("m", False)
    assert write_json_model(body, "other") == body[:-4] + b'"other"}'


def test_a_long_string_next_to_the_alias_is_no_alias() -> None:
    """The name that a string belongs to stands right in front of it; white space may be between."""
    for space, stays in (("", False), (" \n", False), (" " * 40, True)):
        body = f'{{"model":"m","input"{space}:{space}"{"a" * SMALL}"}}'.encode()
        assert (abridge(body, b'"model"').text is body) is stays
        body = f'{{"model"{space}:{space}"{"a" * SMALL}"}}'.encode()
        assert abridge(body, b'"model"').text is body


def test_what_would_leave_nearly_all_of_it_is_not_done() -> None:
    """A copy of most of a body costs memory, and saves nothing."""
    numbers, text = b"1, " * (SMALL // 3), b'"' + b"a" * SMALL + b'"'
    for times in (2, 4):
        body = b'{"x": [' + numbers * times + text + b"]}"
        assert (abridge(body).text is body) is (times == 4)


@given(
    st.lists(st.sampled_from(["\\", "\\\\", '"', '\\"', "a", "_"]), max_size=40), st.integers(0, 3), st.integers(1, 9)
)
def test_a_string_ends_where_its_quote_is_not_escaped(parts: list[str], rare: int, size: int) -> None:
    """However many backslashes stand in front of quotes, and wherever a piece ends."""
    body = "".join(parts).encode()
    known = [at for at, each in enumerate(body.replace(b"\\\\", b"__").replace(b'\\"', b"__")) if each == ord('"')]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(abridged, "_RARE", rare)
        patch.setattr(abridged, "PIECE", size)
        marks = without_escapes(body)
    assert [at for at, each in enumerate(marks) if each == ord('"')] == known
