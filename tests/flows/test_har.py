"""A HAR entry by entry: whatever its size, its spelling and the places where its bytes are split."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.flows import har
from understudy.flows.har import HarEntries, HarError

DECOY = {"entries": [{"decoy": 1}], "log": {"entries": [{"decoy": 2}]}, "text": '"entries": [{"decoy": 3}]'}
LEAF = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(['"', "\\", '\\"', "{[", "]}"])
)
VALUES = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def document(entries: list[Any]) -> dict[str, Any]:
    return {"log": {"version": "1.2", "pages": [DECOY], "entries": entries, "comment": "entries"}, "entries": [DECOY]}


@given(
    entries=st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=4),
    size=st.integers(1, 60),
    indent=st.sampled_from([None, 2]),
    plain=st.booleans(),
)
def test_the_entries_are_those_of_the_document_wherever_it_is_split(
    entries: list[Any], size: int, indent: int | None, plain: bool
) -> None:
    data = json.dumps(document(entries), indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    reader = HarEntries()
    found = [each for at in range(0, len(data), size) for each in reader.feed(data[at : at + size])]
    assert [json.loads(each.decode("utf-8", "surrogatepass")) for each in found] == entries
    assert reader.found
    assert reader.closed


def test_one_that_ends_in_the_middle_is_not_closed() -> None:
    data = json.dumps(document([{"a": 1}, {"b": [2]}])).encode()
    reader = HarEntries()
    assert reader.feed(data[: data.index(b"[2]") + 1]) == [b'{"a": 1}']
    assert reader.found
    assert not reader.closed


@pytest.mark.parametrize(
    "data", [b'{"log": {"entriess": [{}]}}', b'{"log": [{"entries": [{}]}]}', b'{"entries": [{}]}']
)
def test_entries_elsewhere_are_none(data: bytes) -> None:
    reader = HarEntries()
    assert reader.feed(data) == []
    assert not reader.found


@pytest.mark.parametrize("data", [b"[]", b"}", b'{"log": {}}}'])
def test_what_is_no_har_is_an_error(data: bytes) -> None:
    with pytest.raises(HarError):
        HarEntries().feed(data)


def test_an_entry_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: also one whose end never comes."""
    monkeypatch.setattr(har, "LARGEST_ENTRY", 1 << 20)
    reader = HarEntries()
    reader.feed(b'{"log": {"entries": [{"a": "')
    for _ in range(10):
        reader.feed(b"x" * 100_000)
    with pytest.raises(HarError, match="larger than 1 MiB"):
        reader.feed(b"x" * 100_000)


@given(data=st.binary(max_size=60) | st.text('{}[]",:\\log', max_size=60).map(str.encode))
def test_whatever_comes_there_are_entries_or_an_error(data: bytes) -> None:
    with contextlib.suppress(HarError):
        HarEntries().feed(b'{"log": {"entries": [' + data)
