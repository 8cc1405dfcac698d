"""Single values of a pool file: what is taken, and what to write where one is not."""

from __future__ import annotations

import pytest

from understudy.codec.yaml_nodes import Kind, Listing, Scalar
from understudy.config import fields
from understudy.config.fields import Wrong


def text(written: str, kind: Kind = Kind.TEXT) -> Scalar:
    """A value as it stands in a file."""
    return Scalar(1, written, kind)


@pytest.mark.parametrize(
    ("word", "known", "write"),
    [
        ("opnai", ["openai", "anthropic"], "did you mean `openai`?"),
        ("x", ["openai", "anthropic"], "write one of anthropic, openai"),
        ("x", [], "define it first"),
        ("x", [f"name-{n:02}" for n in range(12)], f"write one of {', '.join(f'name-{n:02}' for n in range(12))}"),
        ("x", [f"name-{n:02}" for n in range(13)], f"write one of {', '.join(f'name-{n:02}' for n in range(12))}, ..."),
    ],
)
def test_an_unknown_word_is_told_the_known_ones(word: str, known: list[str], write: str) -> None:
    """The nearest, or a dozen of them."""
    assert fields.suggestion(word, known) == write


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (text("", Kind.NOTHING), "a host is missing"),
        (text("~", Kind.NOTHING), "a host is missing"),
        (text("  "), "a host is missing"),
        (Listing(1, ()), "a list in place of a host"),
        (text(" x"), "a host has unprintable characters or spaces around it"),
    ],
)
def test_a_text_that_is_none(value: Scalar | Listing, what: str) -> None:
    with pytest.raises(Wrong) as caught:
        fields.text(value, "a host")
    assert caught.value.what == what


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("LLM.corp", "llm.corp"),
        ("[::1]", "::1"),
        ("0:0::1", "::1"),
        ("[::1", None),
        ("::1]", None),
        ("fe80::1%eth0", None),
        ("llm.corp:80", None),
    ],
)
def test_a_host_is_a_name_or_an_address(written: str, host: str | None) -> None:
    """In lower case; an address of version 6 without its brackets."""
    if host is None:
        with pytest.raises(Wrong, match="not a host name"):
            fields.host(text(written))
    else:
        assert fields.host(text(written)) == host


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("https://x.example/v1/", ("https", "x.example", 443, "/v1")),
        ("http://x.example", ("http", "x.example", 80, "")),
        ("http://x.example:1", ("http", "x.example", 1, "")),
        ("https://[::1]:8443/", ("https", "::1", 8443, "")),
    ],
)
def test_a_url_without_a_port_has_that_of_its_scheme(written: str, place: tuple[str, str, int, str]) -> None:
    assert fields.url(text(written)) == place


@pytest.mark.parametrize(("port", "taken"), [("0", False), ("1", True), ("65535", True), ("65536", False)])
def test_the_port_of_a_server(port: str, taken: bool) -> None:
    if taken:
        assert fields.store_url(text(f"redis://h:{port}/0")) == f"redis://h:{port}/0"
    else:
        with pytest.raises(Wrong):
            fields.store_url(text(f"redis://h:{port}/0"))


@pytest.mark.parametrize(("value", "taken"), [("a", True), ("é", True), ("ÿ", True), ("Ā", False), ("aї", False)])
def test_a_header_has_characters_of_latin_1(value: str, taken: bool) -> None:
    """No other can be sent."""
    if taken:
        assert fields.header(text("X-Team"), text(value)) == ("x-team", value)
    else:
        with pytest.raises(Wrong, match="that no header can carry"):
            fields.header(text("X-Team"), text(value))
