"""Minimal byte edits of forms: the model field changes, files and all else stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from understudy.codec import multipart
from understudy.codec.multipart import (
    header_parameter,
    read_multipart_model,
    set_multipart_model,
    write_multipart_model,
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
        (FORM, b'--b-1\r\nContent-Disposition: form-data; name="model"\r\n\r\n--b-1--\r\n'),
        (FORM, form(('form-data; name="stream"', b"true"), ('form-data; name="model"', b"\xff"))),
        (FORM, form(('form-data; name="model"', b"a"), ('form-data; name="stream"', b"\xff"))),
    ],
)
def test_what_is_no_form_with_a_model(content_type: str, body: bytes) -> None:
    assert read_multipart_model(content_type, body) == (None, False)
    with pytest.raises(ValueError):
        write_multipart_model(content_type, body, "new")


@pytest.mark.parametrize("name", ["x\r\n--b-1--", "x\r", "\ny"])
def test_a_model_name_cannot_break_the_form(name: str) -> None:
    with pytest.raises(ValueError, match="line breaks"):
        write_multipart_model(FORM, form(('form-data; name="model"', b"a")), name)
    with pytest.raises(ValueError, match="line breaks"):
        set_multipart_model(FORM, form(('form-data; name="prompt"', b"a")), name)


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


def test_a_form_without_a_model_gets_one() -> None:
    """R02: Azure's deployments need no model in the form; others do."""
    file = ('form-data; name="file"; filename="f"', NASTY)
    named = ('form-data; name="model"', b"m")
    assert set_multipart_model(FORM, form(file), "m") == form(named, file)
    assert set_multipart_model(FORM, form(file, named), "x") == form(file, ('form-data; name="model"', b"x"))
    assert read_multipart_model(FORM, set_multipart_model(FORM, form(file), "m")) == ("m", False)
    for content_type, body, model in [
        (FORM, b"", "m"),
        ("application/json", form(file), "m"),
        (FORM, form(file), "m\r\n"),
    ]:
        with pytest.raises(ValueError):
            set_multipart_model(content_type, body, model)


@pytest.mark.parametrize(
    "content",
    [b"--b-12", b"x--b-1", b"x\r\n--b-12", b"x --b-1\r\ny", b"--b-1 x", b"x\r\n--b-1" + b"y" * 300, b"--b-1" * 90],
    ids=repr,
)
def test_what_only_begins_like_the_boundary_is_content(content: bytes) -> None:
    """One boundary may be the beginning of another, and a line of its own is what makes it one."""
    body = form(('form-data; name="prompt"', b"p"), ('form-data; name="model"', content), ("form-data; name=x", b""))
    assert read_multipart_model(FORM, body) == (content.decode(), False)


@pytest.mark.parametrize("end", [b"--b-1--\r\n", b"--b-1--", b"--b-1-- \t", b"--b-1"])
def test_a_form_ends_with_its_last_boundary(end: bytes) -> None:
    """What follows is no part of it (RFC 2046, 5.1.1: an epilogue), however much it looks like one."""
    body = form(('form-data; name="model"', b"a")).removesuffix(b"--b-1--\r\n")
    assert read_multipart_model(FORM, body + end) == ("a", False)
    if b"\n" in end:
        more = form(('form-data; name="model"', b"b"))
        assert read_multipart_model(FORM, body + end + more) == ("a", False)


def test_as_many_parts_as_may_be_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """H02: the last one of them, too; with one more it is no form for us."""
    parts = [('form-data; name="x"', b"1")] * 5
    body = form(*parts, ('form-data; name="model"', b"a"))
    monkeypatch.setattr(multipart, "_MOST_MARKS", 7)
    assert read_multipart_model(FORM, body) == ("a", False)
    monkeypatch.setattr(multipart, "_MOST_MARKS", 6)
    assert read_multipart_model(FORM, body) == (None, False)


@pytest.mark.parametrize(
    "body",
    [
        b"--b-1" * (multipart._MOST_MARKS + 1),
        b"--b-1\r\n" + b"X: y\r\n" * multipart._LONGEST_HEAD + form(('form-data; name="model"', b"a"))[6:],
    ],
    ids=["marks", "headers"],
)
def test_a_form_that_takes_too_much_work_is_no_call(body: bytes) -> None:
    """H02: 64 MiB of nothing but boundaries cost half a minute."""
    with no_hang():
        assert read_multipart_model(FORM, body + form(('form-data; name="model"', b"a"))) == (None, False)
