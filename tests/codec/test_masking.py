"""What looks like a secret is cut in texts that people wrote, in linear time."""

from __future__ import annotations

import base64
import re
from html.entities import html5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from understudy.codec.masking import SHORTEST_MASKED, has_placeholder, mask, placeholder, shown, veil

REFERENCE = re.compile(
    r"(?:\b(?:sk|pk|rk|gsk|hf|r8|key|api|xai|pplx|nvapi|gh[opusr]|github_pat)[-_]|\bAIza|\beyJ|\bBearer\s+)\S{12,}"
    r"|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{24,}"
)
"""What is cut, said in one expression, which takes quadratic time."""

PIECES = ["sk-", "key_", "AIza", "eyJ", "Bearer ", "a" * 24, "a" * 12, "Z9" * 13, "7", "-", "_", " ", ".", "é", "\n"]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join))
def test_what_looks_like_a_secret_is_cut(text: str) -> None:
    assert veil(text) == REFERENCE.sub(lambda match: f"{match[0][:3]}...", text)


@pytest.mark.parametrize("piece", ["a", "sk", "Bearer ", "Bearer\n", "eyJ ", "a" * 23 + "-", "github_pat"])
def test_a_long_text_is_read_once(piece: str) -> None:
    """H02: 4 MB of letters took hours; what is quadratic here shows as a hang."""
    with no_hang():
        veil(piece * (4_000_000 // len(piece)))


def test_masking_a_text_of_near_misses_is_linear() -> None:
    """H02: an upstream knows the secret, and may send what almost is it as often as it likes."""
    secret = "sk-" + "ab" * 500 + "c"
    with no_hang():
        text = (secret[:-1] * 4000).encode()
        assert mask(text, secret, "main") == text


@pytest.mark.parametrize("written", ["utf-8", "latin-1"])
def test_a_secret_with_letters_beyond_ascii_is_masked_in_either_encoding(written: str) -> None:
    """R06: a body may be in either, and the last letter of Latin-1 is one of them."""
    secret = "geheim-\u00ff\u00e9-0123456789"
    assert mask(b"<" + secret.encode(written) + b">", secret, "main") == b"<<understudy:main>>"
    assert mask(f"<{secret}>", secret, "main") == "<<understudy:main>>"
    assert mask(b"%C3%BF".join(part.encode() for part in ["geheim-", "\u00e9-0123456789"]), secret, "main") == (
        b"<understudy:main>"
    )


def test_the_longest_spelling_of_a_secret_is_masked() -> None:
    """R06: base64 of a secret that is base64 itself: no end of it is left behind the placeholder."""
    secret = "c2stMDEyMzQ1Njc4OQ=="
    for text in (secret, secret.replace("=", "%3D"), secret.replace("=", "\\u003d")):
        assert mask(f"key {text}!", secret, "main") == "key <understudy:main>!"


def test_the_shortest_secret_that_is_masked() -> None:
    """R06: shorter ones are placeholders, and are left alone; of eight characters each spelling is found."""
    secret = "s3cr3t-%"[:SHORTEST_MASKED]
    assert len(secret) == SHORTEST_MASKED
    for codec in ("ascii", "utf-16-le", "utf-16-be"):
        assert mask(secret.encode(codec), secret, "main") == placeholder("main").encode(codec)
        assert mask(secret[:-1].encode(codec), secret[:-1], "main") == secret[:-1].encode(codec)
    assert mask(secret, secret, "main") == placeholder("main")
    assert mask(secret[:-1], secret[:-1], "main") == secret[:-1]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("before", [b"", b"x"])
def test_utf_16_is_read_at_either_place(codec: str, before: bytes) -> None:
    """H03: with nothing around it, so that no other reading of the same bytes finds it, too."""
    secret = "sk-0123456789abcdef"
    assert mask(before + secret.encode(codec), secret, "main") == before + placeholder("main").encode(codec)


@pytest.mark.parametrize(
    ("secret", "written"),
    [
        ("0123456/89", r"0123456\/89"),
        ('0123456"89', r"0123456\"89"),
        ("0123456\\89", r"0123456\\89"),
        ('01/23"45\\6789', r"01\/23\"45\\6789"),
        ("0123 4567 89", "0123+4567+89"),
        ("0123 4567 89", "0123%204567%2089"),
        ("0123-4567", r"0123\u002d4567"),
        ("0123-4567", r"0123\x2D4567"),
        ("0123-4567", "0123&#45;4567"),
        ("0123é4567", "0123&eacute;4567"),
        ("0123ÿ4567", r"0123\xff4567"),
        ("0123-4567&", "0123&#45;4567&amp;"),
        ("0123\u20ac4567", r"0123\u20ac4567"),
        ("0123\u20ac4567", "0123%E2%82%AC4567"),
    ],
)
def test_one_escaped_character_is_enough(secret: str, written: str) -> None:
    """H03: nothing else in the text says that something in it is escaped."""
    assert mask(f"<{written}>", secret, "main") == "<<understudy:main>>"
    assert mask(f"<{written}>".encode(), secret, "main") == b"<<understudy:main>>"
    assert mask(written, secret.replace("4", "5"), "main") == written
    signs = r"\u \x % & \ + "
    assert mask(f"{signs}<{written}>", secret, "main") == f"{signs}<<understudy:main>>"


@pytest.mark.parametrize("before", [b"", b"u", b"u:"])
@pytest.mark.parametrize("length", [8, 9, 10])
def test_of_base64_all_that_tells_of_the_secret_is_masked(before: bytes, length: int) -> None:
    """H03: at each place in a group of three; the digits that depend on what stands beside it as well may stay."""
    secret = "sk-0123456"[:length]
    around = before, b"end"
    encoded, other = (
        base64.b64encode(begin + secret.encode() + end).decode()
        for begin, end in (around, [bytes(255 - byte for byte in part) for part in around])
    )
    alone = [at for at, (one, two) in enumerate(zip(encoded, other, strict=True)) if one == two != "="]
    assert len(alone) >= length
    masked = mask(encoded, secret, "main")
    assert masked == f"{encoded[: alone[0]]}<understudy:main>{encoded[alone[-1] + 1 :]}"


def test_what_no_parser_reads_as_the_secret_is_left() -> None:
    """A plus is a space, and of two digits behind an x there are two."""
    assert mask("0123+4567", "0123-4567", "main") == "0123+4567"
    assert mask(r"0123\x1004567", "0123\u01004567", "main") == r"0123\x1004567"
    assert mask(b"0123\\x1004567", "0123\u01004567", "main") == b"0123\\x1004567"


@pytest.mark.parametrize("text", ["<understudy:a>", "x %3Cunderstudy%3Aa%3e y", "<UNDERSTUDY:a.b-c_9>"])
def test_a_placeholder_is_seen(text: str) -> None:
    assert has_placeholder(text)
    assert has_placeholder(text.encode())
    other = re.sub("(?i)understudy", "understood", text)
    assert not has_placeholder(other)
    assert not has_placeholder(other.encode())


def test_what_a_person_wrote_is_shown_on_one_bounded_line() -> None:
    """Up to 60 characters, the dots among them."""
    text = "ab cd " * 10
    assert shown(text) == repr(text)
    assert shown(text + "e") == repr(text[:57] + "...")
    assert shown("a\nb") == r"'a\nb'"


def test_a_secret_is_masked_with_every_name_that_html_has_for_a_character() -> None:
    """Of ASCII, whose names are written down here, and beyond, where they are looked up."""
    names = [(char, name) for name, char in html5.items() if len(char) == 1 and name.endswith(";")]
    ascii_names = [(char, name) for char, name in names if char.isascii()]
    assert len(ascii_names) > 40 and ("\u00e9", "eacute;") in names
    for char, name in [*ascii_names, ("\u00e9", "eacute;"), ("\u0416", "ZHcy;")]:
        written = f"sk-first&{name}second"
        assert mask(f"it is {written}.", f"sk-first{char}second", "work") == f"it is {placeholder('work')}.", name
