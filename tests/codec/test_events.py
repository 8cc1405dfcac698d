"""JSON from the wire: what is none, and what has too many values, is None."""

from __future__ import annotations

import pytest

from understudy.codec import events
from understudy.codec.events import read_json


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (b'{"a": [1, "\xc3\xa9"]}', {"a": [1, "é"]}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b" 5 ", 5),
        (b"", None),
        (b"{", None),
        (b'"\xff"', None),
        (b"[" * 100_000, None),
        (b"9" * 10_000, None),
    ],
)
def test_what_is_no_json_is_none(data: bytes, document: object) -> None:
    assert read_json(data) == document


def test_the_values_of_a_long_document_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: by what separates them. A short one is read whatever it holds."""
    monkeypatch.setattr(events, "LONGEST_COUNTED", 10)
    monkeypatch.setattr(events, "MOST_VALUES", 3)
    assert read_json(b"[1,2,3,4] ") == [1, 2, 3, 4]
    assert read_json(b"[1,2,3,4]  ") is None
    assert read_json(b"[1,2,3]" + b" " * 9) == [1, 2, 3]
    for data in (b"[[[1]]]", b'{"a":[{"b":1}]}', b'[{"a":1}]', b"[[1,1]]", b'{"a":1,"b":2,"c":3}'):
        assert read_json(data + b" " * 9) is not None
    for data in (b"[[[[1]]]]", b'[{"a":[{"b":1}]}]', b"[[1,1],1]", b'[{"a":1,"b":2,"c":3}]', b'{"a":"{[{["}'):
        assert read_json(data + b" " * 9) is None
