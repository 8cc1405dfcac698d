"""Elements of a growing array, or of a row of objects: no byte is lost, and what is kept is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec.json_rows import LIMIT, JsonReader


def elements(data: bytes) -> list[bytes]:
    """What is whole in it."""
    return [event.data for event in JsonReader().feed(data)]


@given(
    pieces=st.lists(st.binary(max_size=8) | st.text('[]{}",\\ a\n', max_size=12).map(str.encode), max_size=8),
    limit=st.integers(0, 12),
)
def test_no_byte_is_lost(pieces: list[bytes], limit: int) -> None:
    """Whoever edits the elements puts the rest through as it came: also garbage, and an element that is too long."""
    reader = JsonReader(limit)
    found = [piece for data in pieces for _, piece in reader.pieces(data)]
    assert b"".join([*found, reader.rest()]) == b"".join(pieces)
    assert reader.rest() == b""


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (rb'{"a": "\"}"}', [rb'{"a": "\"}"}']),
        (rb'{"a": "\\"}{"b": "\\\""}', [rb'{"a": "\\"}', rb'{"b": "\\\""}']),
        (b'{"a": [{}, [1, {"b": "]"}]]},{}', [b'{"a": [{}, [1, {"b": "]"}]]}', b"{}"]),
        (b'{"a": "{"}', [b'{"a": "{"}']),
        (b'{"a": "', []),
        (b"{}x{}", [b"{}"]),
    ],
)
def test_brackets_in_strings_are_text(data: bytes, found: list[bytes]) -> None:
    assert elements(data) == found
    reader = JsonReader()
    assert [event.data for at in range(len(data)) for event in reader.feed(data[at : at + 1])] == found


@pytest.mark.parametrize(
    ("data", "is_open"),
    [(b"", False), (b"{}", False), (b"{", True), (b'{"a', True), (b"[", True), (b"[{}", True), (b"[{}]", False)],
)
def test_what_has_begun_has_to_end(data: bytes, is_open: bool) -> None:
    reader = JsonReader()
    reader.feed(data)
    assert reader.is_open is is_open
    assert not reader.failed


@pytest.mark.parametrize(
    "data", [b"[[", b"[]]", b"[{}]]", b"[][", b"{}[", b"{}]", b"]", b"1", b'"a"', b"[1]", b"[]{}x"]
)
def test_brackets_stand_where_they_may(data: bytes) -> None:
    """One array, opened before everything else and closed once; in it, and in a row, objects only."""
    reader = JsonReader()
    reader.feed(data)
    assert reader.failed
    assert reader.feed(b"{}") == []


def test_the_limit_is_the_longest_element() -> None:
    """S07: one of just this length is read, however it comes; of a longer one no more than it is kept."""
    element = b'{"a": "' + b"x" * 90 + b'"}'
    for size in (1, 7, len(element)):
        chunks = [element[at : at + size] for at in range(0, len(element), size)]
        reader = JsonReader(len(element))
        assert [event.data for chunk in chunks for event in reader.feed(chunk)] == [element]
        assert not reader.overflow
        reader = JsonReader(len(element) - 1)
        assert [event.data for chunk in chunks for event in reader.feed(chunk)] == []
        assert reader.overflow and not reader.failed
        assert reader.feed(element) == []
    assert len(elements(b"{" + b" " * (LIMIT - 2) + b"}")) == 1
