"""From text to structure: JSON, JSON in JSON, long and cut JSON, the events of a stream."""

from __future__ import annotations

import codecs
import encodings.aliases
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from understudy.codec import body_text
from understudy.codec.body_text import MAX_MEMBERS, MAX_PARSED, follow, frames, names_utf_8, parse, text_of
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
        (json.dumps(json.dumps('{"a": 1}')), '{"a": 1}'),
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


def test_an_object_is_parsed_whole_up_to_a_length() -> None:
    """Beyond it a dozen members are: what is said of an error stands in front."""
    members = {f"k{number}": number for number in range(MAX_MEMBERS + 5)}
    text = json.dumps(members)
    whole = text[:-1] + " " * (MAX_PARSED - len(text)) + "}"
    assert parse(whole) == members
    assert parse(whole[:-1] + " }") == dict(list(members.items())[:MAX_MEMBERS])
    assert parse(text[:-1]) == dict(list(members.items())[:MAX_MEMBERS])


def test_follow() -> None:
    value = {"a": [{"b": 1}, {"b": [2, 3]}, {"c": 4}]}
    assert follow(value, ("a", "*", "b")) == [1, 2, 3]
    assert follow(value, ("a", "2", "c")) == 4
    assert follow(value, ("a", "9")) is None
    assert follow(value, ("a", "*", "z")) is None
    assert follow(value, ("a", "3")) is None
    assert follow(value, ("a", "c")) is None
    assert follow(value, ("a", "2", "c", "4")) is None
    assert follow({"a": "text"}, ("a", "0")) is None


def test_an_index_has_at_most_five_digits() -> None:
    """Of more the conversion could cost more than the look."""
    items = [0] * 100_000 + [1]
    assert follow(items, ("99999",)) == 0
    assert follow(items, ("100000",)) is None


def test_frames() -> None:
    text = ': c\r\nevent: error\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: x\n\nevent: error\ndata: plain\n\n'
    assert list(frames(text)) == [("error", {"a": 1}), ("error", "plain")]


@given(st.text(alphabet='{}[]"\\\\:,ab1 \\n', max_size=60))
def test_nothing_raises(text: str) -> None:
    parse(text)
    list(frames(text))
    assert sys.getrecursionlimit() > 100


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=GBK", "模型".encode("gbk"), "模型"),
        ("text/plain; charset=gb2312", "模型 deepseek-v3".encode("gbk"), "模型 deepseek-v3"),
        ("text/plain; charset='Shift_JIS'", "モデル".encode("shift_jis"), "モデル"),
        ('text/plain; charset="EUC-KR"', "모델".encode("euc_kr"), "모델"),
        ("text/plain; charset=windows-1251", "модель".encode("cp1251"), "модель"),
        ("text/plain;charset=koi8-r", "модель".encode("koi8-r"), "модель"),
        ("text/plain; charset=ISO-8859-1", "modèle".encode("latin-1"), "modèle"),
        ("text/plain; charset=utf-16", "модель".encode("utf-16"), "модель"),
        (
            "text/plain; charset=utf-16",
            "модель".encode("utf-16-be", "strict"),
            "модель".encode("utf-16-be").decode("utf-16-le"),
        ),
        ("text/plain", "модель".encode("utf-16"), "модель"),
        ("text/plain; charset=latin-1", b"\xef\xbb\xbfm\xc3\xb6del", "mödel"),
        ("text/plain; charset=big5", "模型".encode("big5") + b"\xa4", "模型"),
        ("text/plain; charset=big5", b"ab\xff\xffcd", "ab\ufffd\ufffdcd"),
        ("text/plain; charset=no-such", "模型".encode(), "模型"),
        ("", b"x\xff", "x\ufffd"),
    ],
)
def test_the_text_of_a_body(content_type: str, body: bytes, text: str) -> None:
    assert text_of(body, content_type) == text


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", True),
        ("text/plain", True),
        ("text/plain; charset=UTF-8", True),
        ("text/plain; charset=utf8", True),
        ("text/plain; charset=utf_8", True),
        ("text/plain; charset=gbk", False),
        ("text/plain; charset=latin-1", False),
    ],
)
def test_what_is_called_utf_8_or_nothing(content_type: str, expected: bool) -> None:
    assert names_utf_8(content_type) is expected


def test_only_charsets_of_texts_are_used() -> None:
    """H02: of all the codecs that Python has, a peer can choose those on our list and no other."""
    names = {
        *encodings.aliases.aliases,
        *encodings.aliases.aliases.values(),
        "idna",
        "unicode_escape",
        "../x",
        "x" * 500,
    }
    body = b"9" * 600 + b"=41\\u0041+AGE-~{VSVJ~} \xe6\xa8\xa1"
    used = {
        name.lower().replace("_", "-")
        for name in names
        if text_of(body, f"text/plain; charset={name}") != body.decode()
    }
    assert used <= set(body_text._CODECS)
    assert {"gbk", "koi8-r"} <= used
    codecs_used = {codecs.lookup(codec).name for codec in body_text._CODECS.values()}
    assert not codecs_used & {"punycode", "idna", "utf-7", "unicode_escape", "raw-unicode-escape", "hz", "utf-32"}


@pytest.mark.parametrize("charset", sorted(body_text._CODECS))
@pytest.mark.parametrize("piece", [b"\xff", b"\xd8\x00", b"\x81\x30", b"\x1b$B", b"9"])
def test_no_charset_is_slow(charset: str, piece: bytes) -> None:
    """H02: nothing but bytes that a charset has no character for; each costs a call where they are replaced."""
    with no_hang():
        text_of(piece * (1 << 19), f"text/plain; charset={charset}")


def test_punycode_is_no_charset() -> None:
    """H02: 512 KiB of `9` in it held the event loop for 50 seconds."""
    with no_hang():
        assert text_of(b"9" * (1 << 19), "application/json; charset=punycode") == "9" * (1 << 19)
