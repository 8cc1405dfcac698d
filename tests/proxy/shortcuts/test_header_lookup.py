"""Headers are made, found and set as by mitmproxy, with the same errors, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.http import Headers

from understudy.proxy.shortcuts import header_lookup

NAMES = ("__contains__", "__getitem__", "__setitem__", "get")
INIT: Any = Headers.__init__
SET_ITEM: Any = MultiDict.__setitem__
MAKE: tuple[Any, ...] = header_lookup.make, INIT
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


given_values = st.text(max_size=2) | st.binary(max_size=2) | st.sampled_from(["\udcff", "\ud800", None, 5, ["a"]])


@given(fields, asked, given_values, st.booleans())
def test_a_header_is_set_as_by_mitmproxy(
    fields: list[tuple[str, bytes]], name: object, value: object, was_asked: bool
) -> None:
    """A new one, one that is there, one of several; names and values of any kind."""
    made = tuple((each.encode("utf-8", "surrogatepass"), value) for each, value in fields)
    said = []
    for set_item in (header_lookup.set_item, SET_ITEM):
        headers: Headers = Headers(made)
        if was_asked:
            header_lookup.contains(headers, "a")
        said.append((outcome(lambda: set_item(headers, name, value)), headers.fields, type(headers.fields)))  # noqa: B023
    assert said[0] == said[1]


parts = st.binary(max_size=2) | st.text(max_size=1) | st.integers(0, 3) | st.builds(bytearray)
anything = st.lists(
    st.lists(parts, max_size=3) | st.tuples(st.binary(), st.binary()) | st.binary(max_size=2), max_size=3
)


@given(anything | st.just(5) | st.builds(dict), st.dictionaries(st.sampled_from(["a_b", "A", "x"]), given_values))
def test_headers_are_made_as_by_mitmproxy(fields: Any, more: dict[str, Any]) -> None:
    """Of pairs of bytes and of whatever else is given, also once only."""
    given_as: tuple[Any, ...] = (lambda: fields), (lambda: iter(fields))
    for of in given_as:
        said = []
        for make in MAKE:
            headers = Headers.__new__(Headers)
            found = outcome(lambda: make(headers, of(), **more))  # noqa: B023
            said.append((found, vars(headers) if found is None else None))
        assert said[0] == said[1]


def test_the_usual_headers_never_come_to_mitmproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_lookup, "_init", lambda *_, **__: pytest.fail("asked mitmproxy"))
    monkeypatch.setattr(header_lookup, "_OWN", {})
    headers = Headers.__new__(Headers)
    header_lookup.make(headers, [(b"Host", b"a")])
    header_lookup.set_item(headers, "host", "b")
    header_lookup.set_item(headers, "New", "ü")
    assert headers.fields == ((b"Host", b"b"), (b"New", "ü".encode()))


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
    header_lookup.set_item(headers, "a", "2")
    assert headers.fields == ((b"A", b"1"), (b"a", b"2"))
    header_lookup.make(headers, [(b"A", b"1")])
    assert ours(headers, "a", "none") == theirs(headers, "a", "none") == [False, (KeyError, "'a'"), None, "none"]


@pytest.fixture
def installed() -> Iterator[Any]:
    """With the look-ups in place; gives what takes them away."""
    leave = header_lookup.install()
    yield leave
    leave()


def test_they_are_in_place_until_they_are_taken_away(installed: Any) -> None:
    """All of them, once; afterwards mitmproxy's class is as it was."""
    headers = Headers([(b"A", b"1"), (b"a", b"2")])
    assert all(name in vars(Headers) for name in NAMES)
    assert (headers["a"], headers.get("b", "no"), "A" in headers) == ("1, 2", "no", True)
    assert vars(Headers)["__init__"] is header_lookup.make
    header_lookup.install()()  # a second one changes nothing
    assert all(name in vars(Headers) for name in NAMES)
    installed()
    assert not header_lookup._INDICES
    assert not any(name in vars(Headers) for name in NAMES)
    assert Headers.__init__ is INIT
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
