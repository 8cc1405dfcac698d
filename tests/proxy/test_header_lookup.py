"""A header is found as by mitmproxy, with the same errors, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.http import Headers

from understudy.proxy import header_lookup

NAMES = ("__contains__", "__getitem__", "get")
names = st.sampled_from(["a", "A", "set-cookie", "Set-Cookie", "x", "ä", "", "\udcff", "\ud800"])
fields = st.lists(st.tuples(names, st.binary(max_size=4) | st.just("ü".encode())), max_size=5)
asked = names | names.map(lambda name: name.encode("utf-8", "surrogatepass")) | st.sampled_from([None, 5, ("a",)])


def theirs(headers: Headers, name: Any, default: Any) -> list[object]:
    """What mitmproxy's own methods say."""
    return [
        outcome(lambda: Mapping.__contains__(headers, name)),
        outcome(lambda: MultiDict.__getitem__(headers, name)),
        outcome(lambda: Mapping.get(headers, name)),
        outcome(lambda: Mapping.get(headers, name, default)),
    ]


def ours(headers: Headers, name: Any, default: Any) -> list[object]:
    """What the quicker ones say."""
    return [
        outcome(lambda: header_lookup.contains(headers, name)),
        outcome(lambda: header_lookup.item(headers, name)),
        outcome(lambda: header_lookup.get(headers, name)),
        outcome(lambda: header_lookup.get(headers, name, default)),
    ]


def outcome(ask: Any) -> object:
    """A result, or the error in its place."""
    try:
        return ask()
    except Exception as error:
        return type(error), str(error)


@given(fields, asked, st.none() | st.text(max_size=2))
def test_a_header_is_found_as_by_mitmproxy(fields: list[tuple[str, bytes]], name: object, default: object) -> None:
    """Missing ones, repeated ones, names of any kind, and values that are no UTF-8."""
    headers = Headers([(each.encode("utf-8", "surrogatepass"), value) for each, value in fields])
    assert ours(headers, name, default) == theirs(headers, name, default)


@given(st.lists(fields, min_size=2, max_size=4), st.booleans())
def test_headers_that_were_asked_before_are_read_again_when_they_change(
    after: list[list[tuple[str, bytes]]], kept_in_list: bool
) -> None:
    """Other fields of the same headers, and fields that are no tuple and so change without being replaced."""
    headers = Headers()
    for each in after:
        made = [(name.encode("utf-8", "surrogatepass"), value) for name, value in each]
        if kept_in_list:
            headers.fields = headers.fields if isinstance(headers.fields, list) else []  # type: ignore[assignment]
            headers.fields[:] = made  # type: ignore[index]
        else:
            headers.fields = tuple(made)
        for name in ("a", "x", b"A"):
            assert ours(headers, name, None) == theirs(headers, name, None)


def test_of_all_that_was_asked_little_is_kept() -> None:
    """Field values may be secrets, and names are what a peer makes of them."""
    for number in range(2_000):
        headers = Headers([(f"x-{number}".encode(), b"1")])
        assert header_lookup.get(headers, f"x-{number}") == "1"
        assert header_lookup.get(headers, f"{number}-{'x' * 1_000}") is None
    assert len(header_lookup._INDICES) <= 16
    assert len(header_lookup._KNOWN) <= 500
    assert max(map(len, header_lookup._KNOWN)) <= 100


def test_headers_of_another_kind_are_left_to_mitmproxy() -> None:
    """A class of its own may convert names in its own way."""

    class Exact(Headers):
        @staticmethod
        def _kconv(key: Any) -> Any:
            return key

    headers = Exact([(b"A", b"1")])
    assert ours(headers, "a", "none") == theirs(headers, "a", "none") == [False, (KeyError, "'a'"), None, "none"]


@pytest.fixture
def installed() -> Iterator[Any]:
    """With the look-ups in place; gives what takes them away."""
    leave = header_lookup.install()
    yield leave
    leave()


def test_they_are_in_place_until_they_are_taken_away(installed: Any) -> None:
    """All three, once; afterwards mitmproxy's class is as it was."""
    headers = Headers([(b"A", b"1"), (b"a", b"2")])
    assert all(name in vars(Headers) for name in NAMES)
    assert (headers["a"], headers.get("b", "no"), "A" in headers) == ("1, 2", "no", True)
    header_lookup.install()()  # a second one changes nothing
    assert all(name in vars(Headers) for name in NAMES)
    installed()
    assert not header_lookup._INDICES
    assert not any(name in vars(Headers) for name in NAMES)
    assert (headers["a"], headers.get("b", "no"), "A" in headers) == ("1, 2", "no", True)


def test_what_another_program_has_put_there_stays(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, and in place of ours."""

    def get(headers: Headers, name: str, default: object = None) -> object:
        return "another's"

    monkeypatch.setattr(Headers, "get", get)
    installed()
    assert Headers().get("a") == "another's"
    header_lookup.install()
    assert "__contains__" not in vars(Headers)
