"""Minimal byte edits: the model name changes, every other byte stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.edit import (
    header_parameter,
    read_json_model,
    read_multipart_model,
    replace_json_strings,
    write_json_model,
    write_multipart_model,
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


FORM = 'multipart/form-data; boundary="b-1"'


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form with these (Content-Disposition, content) parts."""
    lines = b"".join(
        b"--b-1\r\nContent-Disposition: " + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts
    )
    return lines + b"--b-1--\r\n"


NASTY = b'--b-1\n\x00\xff\r\n--b-12\r\n name="model"\r\n\r\nx\r\n --b-1\r\n'


def test_only_the_model_field_of_a_form_changes() -> None:
    """R02: a file that looks like the form itself and other fields stay, in any order."""
    head = ('form-data; name=file; filename="a; name=\\"model\\""\r\nContent-Type: audio/wav', NASTY)
    tail = ('form-data; name="prompt"', "model é".encode())
    body = form(head, ('form-data; name="model"', b"whisper-1"), tail)
    assert read_multipart_model(FORM, body) == ("whisper-1", False)
    expected = form(head, ('form-data; name="model"', b"other/model"), tail)
    assert write_multipart_model(FORM, body, "other/model") == expected


@given(content=st.binary(max_size=60), alias=st.text(alphabet="abc-é", max_size=5), model=st.text("xyzé", max_size=9))
def test_any_file_survives(content: bytes, alias: str, model: str) -> None:
    """R02: the bytes of a file part are never touched."""
    file = ('form-data; name="file"; filename="f"', content)
    body = form(file, ('form-data; name="model"', alias.encode()), file)
    expected = form(file, ('form-data; name="model"', model.encode()), file)
    assert read_multipart_model(FORM, body)[0] == alias
    assert write_multipart_model(FORM, body, model) == expected


def test_a_repeated_field_is_replaced_everywhere_and_read_last() -> None:
    body = form(('form-data; name="model"', b"a"), ("form-data; name=stream", b"true"), ("form-data; name=model", b"b"))
    assert read_multipart_model(FORM, body) == ("b", True)
    assert read_multipart_model(FORM, write_multipart_model(FORM, body, "c")) == ("c", True)
    assert write_multipart_model(FORM, body, "c").count(b"\r\nc\r\n") == 2


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", form(('form-data; name="model"', b"a"))),
        ("application/json", form(('form-data; name="model"', b"a"))),
        ("multipart/form-data", form(('form-data; name="model"', b"a"))),
        ("multipart/form-data; boundary=other", form(('form-data; name="model"', b"a"))),
        (FORM, b""),
        (FORM, b"--b-1"),
        (FORM, b"--b-1--"),
        (FORM, b'--b-1\r\nContent-Disposition: form-data; name="model"'),
        (FORM, b'--b-1\r\nContent-Disposition: form-data; name="model"\r\n\r\ncut'),
        (FORM, form(('form-data; name="model"; filename="m"', b"a"))),
        (FORM, form(("form-data; name=\"model\"; filename*=UTF-8''m", b"a"))),
        (FORM, form(('form-data; name="model"', b"\xff"))),
        (FORM, form(('form-data; name="models"', b"a"))),
    ],
)
def test_what_is_no_form_with_a_model(content_type: str, body: bytes) -> None:
    assert read_multipart_model(content_type, body)[0] is None
    with pytest.raises(ValueError):
        write_multipart_model(content_type, body, "new")


def test_a_model_name_cannot_break_the_form() -> None:
    with pytest.raises(ValueError, match="line breaks"):
        write_multipart_model(FORM, form(('form-data; name="model"', b"a")), "x\r\n--b-1--")


@given(body=st.binary(max_size=20).map(lambda middle: b"--b-1\r\nContent-Disposition: form-data; name=" + middle))
def test_hostile_forms_never_raise_anything_else(body: bytes) -> None:
    read_multipart_model(FORM, body)
    read_multipart_model(body.decode("latin-1"), body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ("multipart/form-data;charset=utf-8;Boundary=abc ", "abc"),
        ('multipart/form-data; boundary="a; b=\\"c"', 'a; b="c'),
        ("multipart/form-data; x-boundary=abc", None),
        ("multipart/form-data", None),
    ],
)
def test_header_parameter(value: str, expected: str | None) -> None:
    assert header_parameter(value, "boundary") == expected
