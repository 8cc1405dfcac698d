"""What saved flows may not give away, in whatever spelling it comes back."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from tests.support.saved_flows import SECRET, flow, values
from understudy.flows.masks import REMEMBERED, Masks, credentials_in


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ((("Authorization", f"Bearer {SECRET}"),), "/"),
        ((("x-api-key", SECRET),), "/"),
        ((("Cookie", f"a=1; session={SECRET}"),), "/"),
        ((("Set-Cookie", f"session={SECRET}; Path=/"),), "/"),
        ((), f"/x?a=1&key={quote(SECRET, safe='')}"),
        ((), f"/x?%6Bey={quote(SECRET, safe='')}"),
    ],
)
def test_credentials_are_found_where_tools_send_them(headers: tuple[tuple[str, str], ...], path: str) -> None:
    """R04, R07: a dump of another recorder holds the real ones."""
    assert SECRET in credentials_in(headers, path)


def test_placeholders_and_short_words_are_none() -> None:
    assert (
        list(credentials_in((("authorization", "Bearer <understudy:client>"), ("x-api-key", "ollama")), "/?key=x"))
        == []
    )


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        SECRET.replace("/", "\\/"),
    ],
)
def test_every_spelling_is_masked_in_text_and_bytes(spelling: str) -> None:
    """R07: plain, URL-encoded, base64 and escaped."""
    masks = Masks()
    masks.learn_flow(values(flow())[0])
    for text in (masks.mask(f"said {spelling} back"), masks.mask(f"said {spelling} back".encode()).decode()):
        assert "<understudy:client>" in text
        assert SECRET[8:20] not in text
        assert spelling not in text
    assert SECRET not in repr(masks)


def test_a_secret_of_one_flow_is_masked_in_what_is_said_about_another() -> None:
    masks = Masks()
    masks.learn((("x-api-key", "secret-of-the-first-flow"),))
    masks.learn((("x-api-key", "secret-of-the-first-flow-and-more"),))
    told = masks.clean_all({"a": ["secret-of-the-first-flow-and-more", 1, None, {"secret-of-the-first-flow": True}]})
    assert told == {"a": ["<understudy:client>", 1, None, {"<understudy:client>": True}]}


def test_what_looks_like_a_secret_is_cut() -> None:
    assert Masks().clean("key sk-never-seen-0123456789") == "key sk-..."


def test_what_is_remembered_is_bounded() -> None:
    masks = Masks()
    for number in range(3 * REMEMBERED):
        masks.learn((("x-api-key", f"secret-number-{number}"),))
    assert len(masks.known) == REMEMBERED
    assert masks.mask(f"secret-number-{3 * REMEMBERED - 1}") == "<understudy:client>"
