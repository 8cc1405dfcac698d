"""What a secret may look like where an upstream repeats it, whole and in pieces (H03)."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec.masking import (
    SHORTEST_MASKED,
    StreamMask,
    byte_signs,
    mask,
    placeholder,
    signs_of,
    text_signs,
)

SECRET = "sk-proj-7f/Qa+9&x=Z"
SHOWN = placeholder("work")
SPELLINGS = {
    "plain": SECRET,
    "percent": quote(SECRET, safe=""),
    "every character in percent": "".join(f"%{ord(char):02X}" for char in SECRET),
    "percent twice": quote(quote(SECRET, safe=""), safe=""),
    "json": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    "json u": "".join(f"\\u{ord(char):04x}" for char in SECRET),
    "json, first character": f"\\u{ord(SECRET[0]):04X}{SECRET[1:]}",
    "json in json": json.dumps("".join(f"\\u{ord(char):04x}" for char in SECRET))[1:-1],
    "javascript": "".join(f"\\x{ord(char):02x}" for char in SECRET),
    "html": html.escape(SECRET),
    "html named": SECRET.replace("&", "&amp;").replace("/", "&sol;").replace("+", "&plus;").replace("=", "&equals;"),
    "html decimal": "".join(f"&#{ord(char)};" for char in SECRET),
    "html hex": "".join(f"&#X{ord(char):x};" for char in SECRET),
    "html in html": html.escape("".join(f"&#{ord(char)};" for char in SECRET)),
    "one character each": f"\\u0073%6B&#45;{SECRET[3:]}",
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "basic": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"ab{SECRET}cd".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_h03_every_spelling_is_masked_in_text_and_in_bytes(spelling: str) -> None:
    """H03: none of what a parser would make the secret of again is left."""
    text = f"you sent '{spelling}', which is wrong"
    masked = mask(text, SECRET, "work")
    assert SHOWN in masked
    assert spelling not in masked
    assert mask(text.encode(), SECRET, "work") == masked.encode()


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_h03_every_spelling_has_a_sign(spelling: str) -> None:
    """H03: what is not searched any further repeats no secret."""
    assert any(sign in spelling for sign in signs_of(SECRET))
    assert signs_of("short") == ()
    for secrets in ((SECRET,), ("another-0123456789", "short", SECRET), (SECRET, "another-0123456789")):
        assert any(sign in spelling for sign in text_signs(secrets))
        for codec in ("utf-8", "utf-16", "utf-16-le", "utf-16-be"):
            assert any(sign in spelling.encode(codec) for sign in byte_signs(secrets))
    assert not text_signs(("", "short"))
    assert not byte_signs(("", "short"))


@given(st.text(min_size=SHORTEST_MASKED, max_size=40).filter(lambda secret: secret.isprintable()))
def test_h03_what_has_no_sign_in_bytes_has_none_as_text(secret: str) -> None:
    """H03: any secret, also one beyond ASCII, in the encodings that a body may have."""
    for codec in ("utf-8", "latin-1"):
        try:
            data = secret.encode(codec)
        except UnicodeEncodeError:
            continue
        assert any(sign in data for sign in byte_signs((secret,)))
    assert any(sign in secret for sign in text_signs((secret,)))


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_h03_utf16_is_masked(spelling: str, codec: str) -> None:
    """H03: in UTF-16 as well, in either order, whatever the place at which it begins."""
    text = f"you sent '{spelling}', which is wrong"
    for before in (b"", b"x"):
        masked = mask(before + text.encode(codec), SECRET, "work")
        assert mask(text, SECRET, "work") in masked.removeprefix(before).decode(codec)


def test_ordinary_texts_are_left_as_they_are() -> None:
    """The very same object, so that nothing is copied."""
    text = json.dumps({"text": "é & ü % 100\\u0073k-", "n": [0] * 30}).encode() + bytes(40)
    assert mask(text, SECRET, "work") is text
    assert mask(text, "short", "work") is text


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_h03_a_stream_is_masked_wherever_it_is_split(spelling: str) -> None:
    """H03: the middle of a live stream; its length stays the same."""
    body = f'data: {{"delta": "a{spelling}b"}}\n\ndata: [DONE]\n\n'.encode()
    for at in range(len(body)):
        matcher = StreamMask([(SECRET, "work")])
        found = matcher.feed(body[:at]) + matcher.feed(body[at:]) + matcher.finish()
        assert spelling.encode() not in found
        assert mask(found, SECRET, "work") == found
        assert b"<understudy:work>" in found
        assert len(found) == len(body)
        assert found.startswith(b'data: {"delta": "a') and found.endswith(b'b"}\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize("spelling", [SPELLINGS["plain"], SPELLINGS["json u"], SPELLINGS["html hex"]])
def test_h03_a_stream_of_single_bytes_is_masked(spelling: str) -> None:
    """H03: an upstream that sends a byte at a time."""
    body = f"a{spelling}b{spelling}".encode()
    matcher = StreamMask([(SECRET, "work")])
    found = b"".join(matcher.feed(body[at : at + 1]) for at in range(len(body))) + matcher.finish()
    assert mask(found, SECRET, "work") == found
    assert found.count(b"<understudy:work>") == 2
    assert len(found) == len(body)


@given(st.lists(st.binary(max_size=40)), st.text("ab-", min_size=SHORTEST_MASKED, max_size=12))
def test_a_stream_without_the_secret_loses_nothing(pieces: list[bytes], secret: str) -> None:
    """Whatever is kept back comes with the next piece or at the end."""
    matcher = StreamMask([(secret, "work")])
    found = b"".join(map(matcher.feed, pieces)) + matcher.finish()
    body = b"".join(pieces)
    assert found == body or mask(body, secret, "work") != body


@given(
    around=st.tuples(st.text("ab-", max_size=9), st.text("ab-", max_size=9)),
    secret=st.text("ab-", min_size=SHORTEST_MASKED, max_size=12),
    at=st.integers(0, 30),
)
def test_h03_a_secret_that_begins_like_what_stands_before_it_is_masked(
    around: tuple[str, str], secret: str, at: int
) -> None:
    """H03: its beginning may be found at several places near the end of a piece."""
    body = secret.join(around).encode()
    matcher = StreamMask([(secret, "work"), ("another-secret", "home")])
    found = matcher.feed(body[:at]) + matcher.feed(body[at:]) + matcher.finish()
    assert secret.encode() not in found
    assert len(found) == len(body)


def test_a_piece_that_ends_in_a_line_break_goes_on_at_once_and_uncopied() -> None:
    """What an event stream is made of is never kept back."""
    piece = b'data: {"delta": "sk-"}\n\n'
    assert StreamMask([(SECRET, "work")]).feed(piece) is piece
    assert StreamMask([("short", "work")]).feed(b"shor") == b"shor"


def test_what_passes_need_not_be_fed() -> None:
    """Neither a secret, nor the beginning of one, nor anything while a beginning is kept back."""
    matcher = StreamMask([(SECRET, "work")])
    assert matcher.passes(b'data: {"delta": "sk-"}\n\n')
    assert matcher.passes(b"")
    assert matcher.passes(b"no line break")
    assert matcher.passes(b"100% & sk-x, \\no s, but more")
    assert not matcher.passes(f"a {SECRET}\n".encode())
    assert not matcher.passes(b"a sk-proj")
    assert matcher.feed(b"a sk-proj") == b"a "
    assert not matcher.passes(b"fine\n")
    assert matcher.feed(b"fine\n") == b"sk-projfine\n"
    assert matcher.passes(b"fine\n")
