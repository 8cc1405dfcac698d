"""What looks like a secret is cut in texts that people wrote, in linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from understudy.codec.masking import mask, veil

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
