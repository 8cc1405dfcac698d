"""Minimal byte edits: the model name changes, every other byte stays."""

from __future__ import annotations

import json
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec import abridged, json_edit
from understudy.codec.abridged import PIECE
from understudy.codec.json_edit import (
    JsonEdit,
    append_json_items,
    member_of,
    raw_items,
    raw_members,
    read_json_flag,
    read_json_member,
    read_json_model,
    replace_json_strings,
    set_json_members,
    write_json_model,
)

DEEP = b'{"model": "a", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
HUGE_INTEGER = b'{"model": "a", "x": ' + b"9" * 10_000 + b"}"

NOT_A_CALL = [
    b"",
    b"null",
    b'"model"',
    b'[{"model": "a"}]',
    b"{",
    b'{"model"}',
    b'{"model": }',
    b'{"model": "a"',
    b'{"model": "a",}',
    b'{"model": "a"} {}',
    b'{"model": "a" "x": 1}',
    b"{model: 1}",
    b'{"model": 5}',
    b'{"model": null}',
    b'{"model": {"model": "a"}}',
    b'{"messages": [{"model": "a"}]}',
    b'{"model": "a", "x": "\xff"}',
    '{"model": "a"}'.encode("utf-16"),
    b"--x\r\n\r\n",
    DEEP,
    HUGE_INTEGER,
]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"a"}', '{"model":"NEW"}'),
        (' {\n\t"model" \r\n:  "a" , "x":1 } \n', ' {\n\t"model" \r\n:  "NEW" , "x":1 } \n'),
        ('{"x":1.0e+2,"y":-0,"z":1E400,"model":"a"}', '{"x":1.0e+2,"y":-0,"z":1E400,"model":"NEW"}'),
        ('{"n":12345678901234567890123,"model":"a","m":0.10}', '{"n":12345678901234567890123,"model":"NEW","m":0.10}'),
        ('{"b":1,"a":2,"b":3,"model":"a","b":4}', '{"b":1,"a":2,"b":3,"model":"NEW","b":4}'),
        (
            '{"x":{"model":"a"},"model":"a","y":[{"model":"a"}]}',
            '{"x":{"model":"a"},"model":"NEW","y":[{"model":"a"}]}',
        ),
        (r'{"x":"\"model\":\"a\"","model":"a"}', r'{"x":"\"model\":\"a\"","model":"NEW"}'),
        (r'{"x":"\\","model":"a"}', r'{"x":"\\","model":"NEW"}'),
        (r'{"mod\u0065l":"a","x":{"model":"b"}}', r'{"mod\u0065l":"NEW","x":{"model":"b"}}'),
        (r'{"model":"a\"\u00e9\\","x":"\u00e9\/é😀\ud800"}', r'{"model":"NEW","x":"\u00e9\/é😀\ud800"}'),
        ('{"x":"é😀\u2028","model":"a","y":"ü"}', '{"x":"é😀\u2028","model":"NEW","y":"ü"}'),
        ('\ufeff{"x":"é","model":"a"}', '\ufeff{"x":"é","model":"NEW"}'),
        ('{"model":"first","stream":true,"model":"last"}', '{"model":"NEW","stream":true,"model":"NEW"}'),
        ('{"model":null,"é":"ö","model":"last"}', '{"model":"NEW","é":"ö","model":"NEW"}'),
        ('{"model":"","x":[]}', '{"model":"NEW","x":[]}'),
    ],
)
def test_only_the_model_changes(before: str, after: str) -> None:
    """R01: numbers, spacing, key order, duplicate keys, escapes, nested keys and a BOM survive."""
    assert write_json_model(before.encode(), "NEW") == after.encode()


_keys = st.sampled_from(["model", "mod", "stream", 'a"model"', "\\", "é", ""]) | st.text(max_size=4)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just('"model": "x"'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)


@given(
    members=st.lists(st.tuples(_keys.filter(lambda key: key != "model"), _values), max_size=5),
    alias=st.text(max_size=8),
    model=st.text(max_size=8),
    at=st.integers(0, 5),
    ascii_only=st.booleans(),
    space=st.sampled_from(["", " ", "\r\n\t"]),
)
def test_any_document_keeps_its_other_bytes(
    members: list[tuple[str, object]], alias: str, model: str, at: int, ascii_only: bool, space: str
) -> None:
    """R01: whatever stands around it, in whatever spelling, stays to the byte."""

    def body(name: str) -> bytes:
        rest = [json.dumps(key) + space + ":" + json.dumps(value, ensure_ascii=ascii_only) for key, value in members]
        rest.insert(at, f'"model":{space}{name}')
        return f"{space}{{{space}{f'{space},{space}'.join(rest)}{space}}}{space}".encode()

    before = body(json.dumps(alias, ensure_ascii=ascii_only))
    assert write_json_model(before, model) == body(json.dumps(model))
    assert read_json_model(before)[0] == alias


@given(document=st.dictionaries(_keys, _values, max_size=5), alias=st.text(max_size=8))
def test_writing_the_same_name_back_changes_nothing(document: dict[str, object], alias: str) -> None:
    """R01: the identity edit is the identity on bytes."""
    body = json.dumps({**document, "model": alias}).encode()
    assert write_json_model(body, alias) == body


@pytest.mark.parametrize("body", NOT_A_CALL, ids=lambda body: repr(body[:24]))
def test_what_is_no_call_reads_as_none_and_cannot_be_written(body: bytes) -> None:
    alias, _ = read_json_model(body)
    assert alias is None
    with pytest.raises(ValueError):
        write_json_model(body, "new")
    if body is DEEP or body is HUGE_INTEGER:
        with pytest.raises(ValueError):
            replace_json_strings(body, [("model",)], lambda value: "new")


@given(body=st.binary(max_size=40) | st.text(alphabet='{}[]":,\\model tru1', max_size=40).map(str.encode))
def test_hostile_bodies_never_raise_anything_else(body: bytes) -> None:
    alias, _ = read_json_model(body)
    try:
        write_json_model(body, "new")
    except ValueError:
        assert alias is None
    else:
        assert alias is not None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","stream":true}', ("a", True)),
        (b'{"model":"a","stream":false}', ("a", False)),
        (b'{"model":"a","stream":1}', ("a", False)),
        (b'{"model":"a","stream":"true"}', ("a", False)),
        (b'{"stream":true,"model":"a","stream":false}', ("a", False)),
        (b'{"model":"a","x":{"stream":true}}', ("a", False)),
        (b'{"model":"a","model":"b"}', ("b", False)),
        (b'{"stream":true}', (None, True)),
        (b"{}", (None, False)),
    ],
)
def test_alias_and_stream_flag(body: bytes, expected: tuple[str | None, bool]) -> None:
    assert read_json_model(body) == expected


def test_a_body_of_many_megabytes_is_edited() -> None:
    """R09: a large body is rewritten like a small one."""
    body = b'{"image":"' + b"A" * (8 << 20) + '","é":1,"model":"a"}'.encode()
    assert write_json_model(body, "b") == body[:-4] + b'"b"}'


def test_strings_at_nested_places() -> None:
    body = '{ "model":"a", "q":"é", "requests":[ {"model":"a"},{"x":{"model":"a"}} ,{"model":"b"}, 5], "model":"a"}'
    places = [("model",), ("requests", "*", "model"), ("missing", "model")]
    edited = replace_json_strings(body.encode(), places, {"a": "NEW"}.get)
    assert edited.decode() == (
        '{ "model":"NEW", "q":"é", "requests":[ {"model":"NEW"},{"x":{"model":"a"}} ,{"model":"b"}, 5], "model":"NEW"}'
    )


@pytest.mark.parametrize(
    ("body", "members", "expected"),
    [
        ('{"a": 1}', {"model": "m"}, '{"model": "m", "a": 1}'),
        ("{}", {"model": "m"}, '{"model": "m"}'),
        (" { } ", {"model": "m", "v": "1"}, ' {"model": "m", "v": "1" } '),
        ('{"model" : "a", "x":1.0}', {"model": "m"}, '{"model" : "m", "x":1.0}'),
        ('{"model": 5, "x": [1 , 2], "model": null}', {"model": "m"}, '{"model": "m", "x": [1 , 2], "model": "m"}'),
        ('{"model": "a", "x": 1}', {"model": None}, '{ "x": 1}'),
        ('{"x": 1, "model": "a"}', {"model": None}, '{"x": 1}'),
        ('{"x": 1,"model": "a" , "y":2}', {"model": None}, '{"x": 1 , "y":2}'),
        ('{"model": "a"}', {"model": None}, "{}"),
        ('{"model":"a" , "model":"b" , "x": "é"}', {"model": None}, '{ "x": "é"}'),
        ('{"model":"a","stream":true,"x":1}', {"model": None, "stream": None, "v": "2"}, '{"v": "2", "x":1}'),
        ('{"model":"a","stream":true}', {"model": None, "stream": None, "v": "2"}, '{"v": "2"}'),
        ('{"x": {"model": "a"}, "y": "a, b"}', {"model": None}, '{"x": {"model": "a"}, "y": "a, b"}'),
    ],
)
def test_members_are_set_and_removed(body: str, members: dict[str, object], expected: str) -> None:
    """R01: what is not named keeps every byte."""
    assert set_json_members(body.encode(), members) == expected.encode()
    assert set_json_members(b"\xef\xbb\xbf" + body.encode(), members) == b"\xef\xbb\xbf" + expected.encode()


NAMES = st.sampled_from(["model", "stream", "messages", "é", "v"])


@given(
    pairs=st.lists(
        st.tuples(NAMES, st.one_of(st.none(), st.integers(), st.text(max_size=4), st.lists(st.text(max_size=2))))
    ),
    members=st.dictionaries(NAMES, st.one_of(st.none(), st.text(max_size=4)), max_size=3),
    indent=st.sampled_from([None, 1]),
)
def test_members_mean_what_was_said(
    pairs: list[tuple[str, object]], members: dict[str, object], indent: int | None
) -> None:
    """Whatever the object, repeated members too: the named ones are as wanted, and all others as they were."""
    items = [f"{json.dumps(name)}: {json.dumps(value, indent=indent)}" for name, value in pairs]
    body = ("{" + " , ".join(items) + "}").encode()
    expected = {name: value for name, value in pairs if name not in members}
    expected |= {name: value for name, value in members.items() if value is not None}
    assert json.loads(set_json_members(body, members)) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a"}', b'{"a": 1} x', DEEP, b"\xff"])
def test_members_of_what_is_no_object(body: bytes) -> None:
    with pytest.raises(ValueError):
        set_json_members(body, {"model": "m"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"data":[ {"id":"é"} ], "x":1.0}', '{"data":[ {"id":"é"} , {"id": "n"}, 5], "x":1.0}'),
        ('{"data":[]}', '{"data":[{"id": "n"}, 5]}'),
        ('{"data":5,"data":[1]}', '{"data":5,"data":[1, {"id": "n"}, 5]}'),
    ],
)
def test_items_are_appended(body: str, expected: str) -> None:
    assert append_json_items(body.encode(), "data", [{"id": "n"}, 5]) == expected.encode()
    assert append_json_items(body.encode(), "data", []) == body.encode()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": [1}', DEEP])
def test_items_need_an_array(body: bytes) -> None:
    with pytest.raises(ValueError):
        append_json_items(body, "data", [1])


def test_a_member_counts_as_its_last_value() -> None:
    body = b'{"a": 1, "b": {"a": 2}, "a": [3]}'
    assert (read_json_member(body, "a"), read_json_member(body, "c"), read_json_member(b"[", "a")) == ([3], None, None)
    assert read_json_member(DEEP, "model") is None


def test_a_body_is_scanned_and_not_built() -> None:
    """H05: what is not asked for costs no objects. Parsed, these arrays would take thirty times the body."""
    body = b'{"x": [' + b"[]," * 900_000 + b'[1]], "y": "' + b'\\"' * 100_000 + b'", "model": "a"}'
    tracemalloc.start()
    try:
        assert read_json_model(body) == ("a", False)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        written = write_json_model(body, "b")
        _, rewriting = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == body[:-4] + b'"b"}'
    assert peak < 1.5 * len(body)
    assert rewriting < 2.5 * len(body)


@pytest.mark.parametrize(
    "rest",
    [
        b'"x": [' + b"[]," * json_edit.MOST_BRACKETS + b"1]",
        b'"x": [' + b'"",' * json_edit.MOST_STRINGS + b"1]",
        b'"x": [' + b"[[[[[[[[]]]]]]]]," * json_edit.MOST_STEPS + b"1]",
        b'"x":1,' * json_edit.MOST_STEPS + b'"x":1',
        b'"x": ' + b"[" * (json_edit.MOST_LEVELS + 10) + b"]" * (json_edit.MOST_LEVELS + 10),
    ],
    ids=["brackets", "strings", "steps", "members", "levels"],
)
def test_a_body_that_takes_too_much_work_is_no_call(rest: bytes) -> None:
    """H02: the work for a body is bounded, and not by its size alone."""
    body = b'{"model": "a", ' + rest + b"}"
    assert read_json_model(body) == (None, False)
    with pytest.raises(ValueError):
        write_json_model(body, "b")
    with pytest.raises(ValueError):
        set_json_members(body, {"model": "b"})


@pytest.mark.parametrize(
    "value",
    [
        b'"' + b"a" * (PIECE + 10) + b'"',
        b'["' + b"a" * (PIECE + 10) + b'", {"b": 1}]',
        b"[" * 12 + b'{"model": "no"}' + b"]" * 12,
        b'"a' + rb"\"\\" + b'"',
        b" " * (PIECE + 10) + b"-1.5e3",
        b'{"a": [{"b": [{"c": {}}]}]}',
        b"true" + b" " * (PIECE + 10),
    ],
    ids=["long string", "long array", "deep", "escapes", "space before", "nested", "space behind"],
)
@pytest.mark.parametrize("space", [b"", b" \r\n\t", b" " * (PIECE + 1)], ids=["tight", "spaced", "far apart"])
def test_a_member_of_any_size_and_form_is_read(value: bytes, space: bytes) -> None:
    """Most members are run through by one expression, the others step by step: the places are the same."""
    parts = [b"", b"{", b'"x"', b":", value, b",", b'"model"', b":", b'"a"', b"}", b""]
    body = space.join(parts)
    assert read_json_model(body) == ("a", False)
    assert raw_members(body, ["x"]) == {"x": value.strip()}
    for mark in (1, 3, 5, 7, 9):
        assert read_json_model(space.join(parts[:mark] + parts[mark + 1 :])) == (None, False)
    assert read_json_model(space.join([b"{", b"}"])) == (None, False)
    assert raw_members(space.join([b"{", b"}"]), ["x"]) == {}


def test_as_much_as_a_large_agent_sends_is_read() -> None:
    """The bounds are far from what real requests have: 2,000 tools with parameters, 3,000 messages."""
    properties = {name: {"type": "string", "enum": ["a", "b"]} for name in "abcdef"}
    parameters = {"type": "object", "properties": {"x": {"type": "object", "properties": properties}}}
    tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": parameters}} for n in range(2000)]
    messages = [{"role": "user", "content": [{"type": "text", "text": 'say "hi"'}]}] * 3000
    body = json.dumps({"tools": tools, "messages": messages, "stream": True, "model": "a"}).encode()
    assert read_json_model(body) == ("a", True)


def test_flags() -> None:
    assert read_json_flag(b'{"stream": false, "x": {"stream": true}}', "stream") is False
    assert read_json_flag(b'{"stream": false, "stream": true}', "stream") is True
    assert read_json_flag(b'{"stream": true, "stream": 1}', "stream") is None
    assert read_json_flag(b'{"x": true}', "stream") is None
    assert read_json_flag(DEEP, "x") is None


_documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(['"', "\\", '\\"', "]}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=30,
)


@given(document=st.dictionaries(_keys, _documents, max_size=4), indent=st.none() | st.just(1), ascii_only=st.booleans())
def test_the_scanner_sees_what_a_parser_sees(document: dict[str, object], indent: int | None, ascii_only: bool) -> None:
    """R01: whatever a parser takes, nested deeper than one expression reaches too, is found where it stands."""
    try:
        body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        body = json.dumps(document, indent=indent).encode()
    for _ in range(8):
        assert all(repr(read_json_member(body, key)) == repr(value) for key, value in json.loads(body).items())
        body = b'{"a": [' + body + b', 1], "model": "x"}'
        assert read_json_model(body) == ("x", False)


@given(document=_documents, at=st.integers(0, 40), piece=st.text(alphabet='{}[]":,\\ t1', max_size=3))
def test_whatever_the_scanner_refuses_a_parser_refuses_too(document: object, at: int, piece: str) -> None:
    text = json.dumps({"x": document, "model": "a"})
    text = text[:at] + piece + text[at + 1 :]
    try:
        expected = json.loads(text)
    except ValueError:
        return
    if isinstance(expected, dict) and isinstance(expected.get("model"), str):
        assert read_json_model(text.encode())[0] == expected["model"]


@pytest.mark.parametrize(
    ("which", "after"),
    [
        ([], "[ 1 , {} ,\n[2] , 4 ]"),
        ([0], "[ {} ,\n[2] , 4 ]"),
        ([1], "[ 1 ,\n[2] , 4 ]"),
        ([3], "[ 1 , {} ,\n[2] ]"),
        ([0, 1], "[ [2] , 4 ]"),
        ([1, 2], "[ 1 , 4 ]"),
        ([0, 2], "[ {} , 4 ]"),
        ([2, 3], "[ 1 , {} ]"),
        ([0, 1, 2], "[ 4 ]"),
        ([0, 1, 2, 3], "[  ]"),
    ],
)
def test_e06_items_and_members_go_with_one_comma(which: list[int], after: str) -> None:
    """E06: what is left is JSON, and every byte of it was there."""
    body = b'{"a": [ 1 , {} ,\n[2] , 4 ], "b" :1}'
    edit = JsonEdit(body)
    items = edit.items(member_of(edit.top, "a") or (0, 0))
    edit.take_out(items, which)
    assert edit.result() == f'{{"a": {after}, "b" :1}}'.encode()
    members = JsonEdit(b'{"k0" : 1 ,"k1":{},\n"k2": [2], "k3":4 }')
    members.take_members_out(members.top, which)
    assert list(json.loads(members.result())) == [f"k{at}" for at in range(4) if at not in which]


def test_an_edit_of_several_places() -> None:
    edit = JsonEdit(b'{"x": "a", "y": {"x": "b", "x": "c"}, "z": null}')
    inner = edit.members(member_of(edit.top, "y") or (0, 0))
    assert edit.text(member_of(inner, "x")) == "c"
    assert edit.text(member_of(inner, "none")) is None
    assert edit.members(member_of(edit.top, "z") or (0, 0)) == []
    assert edit.items(member_of(edit.top, "x") or (0, 0)) == []
    edit.replace(member_of(inner, "x") or (0, 0), ["new"])
    edit.take_members_out(edit.top, [0])
    assert edit.result() == b'{"y": {"x": "b", "x": ["new"]}, "z": null}'
    assert edit.holds(member_of(edit.top, "y") or (0, 0), b'"b"')
    assert not edit.holds(member_of(edit.top, "x") or (0, 0), b'"b"')


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'{"a": 1} {}', b'{"a" 1}', b"\xff", b'{"a": \xff}'])
def test_an_edit_takes_objects_only(body: bytes) -> None:
    with pytest.raises(ValueError):
        JsonEdit(body)


@given(
    document=st.dictionaries(_keys, _documents, min_size=1, max_size=4), indent=st.none() | st.just(1), data=st.data()
)
def test_e06_whatever_is_taken_out_the_rest_is_the_same(
    document: dict[str, object], indent: int | None, data: st.DataObject
) -> None:
    """E06: also where names repeat, which a parser would not show."""
    body = json.dumps(document, indent=indent).encode()
    edit = JsonEdit(body)
    which = data.draw(st.sets(st.integers(0, len(document) - 1)))
    edit.take_members_out(edit.top, which)
    left = [item for at, item in enumerate(document.items()) if at not in which]
    assert repr(json.loads(edit.result())) == repr(json.loads(json.dumps(dict(left))))


PIECEWISE = [
    r'{"messages": [{"role": "user", "content": "text with \" and \\ in it"}], "model": "gpt-5", "stream": true}',
    r'{"a": {"b": [[["x", {"y": "]}"}], 1], [2, "[{"]]}, "model": "m", "z": "\\\\\\\""}',
    '{"model": "m", "messages": ['
    + ", ".join('{"c": [{"d": [{"e": {"f": {"g": [{"h": "i"}]}}}]}]}' for _ in range(9))
    + "]}",
    '{"model": "m", "x": ["' + "\\\\\\\\" * 40 + '"]}',
    '{"model": "m", "x": {"y": "never ends}}',
    '{"model": "m", "x": {"y": ["z"}]}',
    '{"model": "m", "x": [1, 2',
    '{"model": "m", "x": [1, 2]',
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("document", PIECEWISE)
def test_h02_a_body_that_is_read_in_pieces_says_the_same(
    monkeypatch: pytest.MonkeyPatch, document: str, size: int
) -> None:
    """H02: wherever a piece ends, in a string, an escape or a bracket."""
    body = document.encode()
    whole = read_json_model(body)
    monkeypatch.setattr("understudy.codec.json_edit.PIECE", size)
    monkeypatch.setattr("understudy.codec.abridged.PIECE", size)
    assert read_json_model(body) == whole
    try:
        known = json.loads(document)
    except ValueError:
        assert whole == (None, False)
        with pytest.raises(ValueError, match=r"at byte|expected|does not end|model name"):
            write_json_model(body, "other")
    else:
        assert whole == (known["model"], known.get("stream", False))
        assert json.loads(write_json_model(body, "other")) == {**known, "model": "other"}


class Watched:
    """An expression that tells how many bytes it runs through in one go."""

    def __init__(self, expression: re.Pattern[bytes], steps: list[int]) -> None:
        self._expression, self._steps = expression, steps

    def match(self, text: bytes, at: int, end: int) -> re.Match[bytes] | None:
        """As that of the expression."""
        found = self._expression.match(text, at, end)
        self._steps.append((found.end() if found else at) - at)
        return found

    def search(self, text: bytes, at: int, end: int) -> re.Match[bytes] | None:
        """As that of the expression."""
        found = self._expression.search(text, at, end)
        self._steps.append((found.end() if found else min(end, len(text))) - at)
        return found


@pytest.mark.parametrize(
    ("before", "unit", "after", "expression"),
    [
        (b'"x": [', b"[],", b"1],", "_INSIDE"),
        (b'"x": [', b"1,", b"1],", "_SHORT_ONES"),
        (b"", b" ", b"", "_SPACE"),
        (b'"x": "', b'\\"', b'",', "_ENDING"),
        (b'"x": ["', b"\\\\", b'", "' + b"a" * 600 + b'\\n"],', "masked"),
    ],
)
def test_h02_no_step_runs_through_more_than_a_piece(
    monkeypatch: pytest.MonkeyPatch, before: bytes, unit: bytes, after: bytes, expression: str
) -> None:
    """H02: a thread that is in one keeps the loop waiting; all that is slower than a search for one byte is watched."""
    steps: dict[str, list[int]] = {}
    for module, name in (
        (json_edit, "_INSIDE"),
        (json_edit, "_SPACE"),
        (abridged, "_SHORT_ONES"),
        (abridged, "_ENDING"),
    ):
        steps[name] = []
        monkeypatch.setattr(module, name, Watched(getattr(module, name), steps[name]))
    real = abridged._without_escapes
    masked = steps["masked"] = []

    def masking(piece: bytes) -> bytes:
        masked.append(len(piece))
        return real(piece)

    monkeypatch.setattr(abridged, "_without_escapes", masking)
    body = b'{"a": "b", ' + before + unit * (3 * PIECE // len(unit)) + after + b' "model": "a"}'
    assert read_json_model(abridged.abridge(body, b'"model"').text) == ("a", False)
    assert write_json_model(body, "c") == body[:-4] + b'"c"}'
    assert max(max(each, default=0) for each in steps.values()) <= PIECE + 1
    assert max(steps[expression]) > PIECE // 2, "it is what runs through this body"


def test_strings_are_replaced_in_whole_documents_only() -> None:
    """What follows the object makes it no JSON, here as for the model."""
    body = b'{"model": "m", "tools": [{"name": "a"}]}'
    assert replace_json_strings(body, [("tools", "*", "name")], lambda text: f"{text}b") == body.replace(
        b'"a"', b'"ab"'
    )
    with pytest.raises(ValueError, match="something follows"):
        replace_json_strings(body + b" x", [("tools", "*", "name")], lambda text: f"{text}b")


@pytest.mark.parametrize("rest", [b"", b" \n", b" x", b"}", b",", b" {}"])
def test_what_follows_an_object_makes_it_none(rest: bytes) -> None:
    """Wherever a member is looked for: but for white space."""
    body = b' {"a": true, "b": [1]}' + rest
    if rest.strip():
        assert (read_json_flag(body, "a"), read_json_member(body, "a")) == (None, None)
        for look in (lambda: raw_members(body, ["a"]), lambda: append_json_items(body, "b", [2])):
            with pytest.raises(ValueError, match="something follows"):
                look()
    else:
        assert (read_json_flag(body, "a"), read_json_member(body, "a")) == (True, True)
        assert raw_members(body, ["a", "c"]) == {"a": b"true"}
        assert append_json_items(body, "b", [2]) == b' {"a": true, "b": [1, 2]}' + rest


def test_members_and_items_as_they_stand() -> None:
    """The last of a repeated one, and no byte of it is another."""
    body = '{"a" : 1, "b": { "x" :"é"} , "a":[ 2 ]}'.encode()
    assert raw_members(body, ["a", "b"]) == {"a": b"[ 2 ]", "b": '{ "x" :"é"}'.encode()}
    assert raw_members(body, []) == {}
    assert raw_items(b' [ 1 , {"a": [2]}, "x,y" ]') == [b"1", b'{"a": [2]}', b'"x,y"']
    assert raw_items(b"[]") == []
    for no_array in (b"{}", b"", b"1", b"[1"):
        with pytest.raises(ValueError):
            raw_items(no_array)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("é😀é".encode(), True),
        ("aé".encode()[:-1], False),
        ("😀".encode()[:-1] + b"x", False),
        ("aaaé".encode() + b"\xff", False),
        (b"\xed\xa0\x80", False),
    ],
)
def test_utf_8_is_checked_in_pieces(monkeypatch: pytest.MonkeyPatch, size: int, text: bytes, valid: bool) -> None:
    """Wherever a piece ends, in a character or behind it; and the last one has to end with a character."""
    monkeypatch.setattr(abridged, "_VALID_PIECE", size)
    body = b'{"a": true, "b": "' + text + b'"}'
    assert read_json_flag(body, "a") is (True if valid else None)
    if valid:
        assert JsonEdit(body).result() == body
    else:
        with pytest.raises(UnicodeDecodeError):
            JsonEdit(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a": ', "expected a value at byte 6"),
        (b'{"a": [1, ', "does not end, at byte 10"),
        (b'{"a": [1}', "a bracket that closes another one, or too many levels, at byte 8"),
        (b'{"a": "x', "a string that does not end, at byte 6"),
        (b'{"a": ["x', "a string that does not end, at byte 7"),
        (b'{"a": x}', "expected a value at byte 6"),
        (b'{"a": 1 "b"', "expected '}' at byte 8"),
        (b'{"a" 1}', "expected ':' at byte 5"),
        (b"{1: 2}", "expected a name at byte 1"),
        (b"[]", "expected '{' at byte 0"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        JsonEdit(body)


def test_strings_are_replaced_at_their_places_only() -> None:
    """Whatever else is a string, and however it is called."""
    body = b'{"a": "1", "b": ["2", {"a": "3"}, ["4"], 5], "c": {"a": "6", "d": {"a": "7"}}, "a": "8", "e": "9"}'
    places = [("a",), ("b", "*"), ("b", "*", "*"), ("c", "a"), ("e", "*"), ("c", "d")]
    edited = replace_json_strings(body, places, lambda text: text * 2)
    assert edited == (
        b'{"a": "11", "b": ["22", {"a": "3"}, ["44"], 5], "c": {"a": "66", "d": {"a": "7"}}, "a": "88", "e": "9"}'
    )
    assert replace_json_strings(body, [()], lambda text: text * 2) == body
    assert replace_json_strings(body, [], lambda text: text * 2) == body


def test_the_bounds_of_work_are_the_last_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """H02: steps, levels, brackets and strings."""

    def is_read(body: bytes) -> bool:
        try:
            return JsonEdit(body).result() == body
        except ValueError:
            return False

    monkeypatch.setattr(json_edit, "MOST_EDIT_STEPS", 4)
    assert is_read(b'{"a": 1, "b": 2}')
    assert not is_read(b'{"a": 1, "b": 2, "c": 3}')
    monkeypatch.setattr(json_edit, "MOST_EDIT_STEPS", 1000)
    for levels, well in ((json_edit.MOST_LEVELS, True), (json_edit.MOST_LEVELS + 1, False)):
        # What one expression runs through at once counts as one level.
        inside = b"[" * (levels - 1) + b"[[[[[[]]]]]]" + b"]" * (levels - 1)
        monkeypatch.setattr(json_edit, "MOST_EDIT_STEPS", 10_000)
        assert is_read(b'{"a": ' + b"[" + inside + b"]" + b"}") is well
    monkeypatch.setattr(json_edit, "MOST_BRACKETS", 3)
    monkeypatch.setattr(json_edit, "MOST_STRINGS", 2)
    assert is_read(b'{"a": [{}], "b": 1}')
    assert not is_read(b'{"a": [[{}]]}')
    assert is_read(b'{"a": "b"}')
    assert not is_read(b'{"a": "b", "c": 1}')
