"""How a secret is kept out of what people read: placeholders, masks, and a cut through what looks secret (law 8).

``mask`` puts the placeholder of a credential where a text repeats its secret; ``shown`` and ``veil`` quote what a
person wrote without giving away a secret that was pasted by mistake.
"""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator
from functools import lru_cache

SHORTEST_MASKED = 8
"""Shorter secrets are placeholders such as ``ollama`` or ``none``: masking them would ruin ordinary texts."""
_SHOWN_CHARACTERS = 60
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")  # RFC 3986, section 2.3
_PLACEHOLDER = re.compile(r"(?:<|%3c)understudy(?::|%3a)[a-z0-9._-]+(?:>|%3e)", re.IGNORECASE | re.ASCII)
_LOOKS_SECRET = re.compile(
    r"((?:\b(?:sk|pk|rk|gsk|hf|r8|key|api|xai|pplx|nvapi|gh[opusr]|github_pat)[-_]|\bAIza|\beyJ|\bBearer\s+)\S{12,})"
    r"|[A-Za-z0-9]{24,}"
)
_DIGIT = re.compile("[0-9]")


def shown(text: str) -> str:
    """Quote what a person wrote for an error text: on one line, bounded, and cut where it looks like a secret.

    People do paste a secret where its name belongs, and error texts end up in issues and chats.
    """
    text = veil(text)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "...")


def veil(text: str) -> str:
    """Cut whatever in a text looks like a secret down to its first three characters."""

    def cut(match: re.Match[str]) -> str:
        # A long run of letters alone is a word. To ask for the digit in the expression would cost quadratic time.
        return f"{match[0][:3]}..." if match[1] is not None or _DIGIT.search(match[0]) else match[0]

    return _LOOKS_SECRET.sub(cut, text)


def placeholder(name: str) -> str:
    """What stands for the secret of the credential ``name`` wherever people or files can see it."""
    return f"<understudy:{name}>"


def has_placeholder(text: str | bytes) -> bool:
    """Whether a placeholder of any credential occurs, also with its brackets percent-encoded as in a URL."""
    return _PLACEHOLDER.search(text if isinstance(text, str) else text.decode("latin-1")) is not None


def mask[T: (str, bytes)](text: T, secret: str, name: str) -> T:
    """Replace every occurrence of the secret by the placeholder of ``name``.

    Found are the secret itself and its percent-encoded, JSON-escaped and base64 spellings, base64 at any alignment so
    that ``user:secret`` of Basic authentication is found too. Secrets shorter than SHORTEST_MASKED are left alone.
    """
    if len(secret) < SHORTEST_MASKED:
        return text
    for_str, for_bytes = _patterns(secret)
    if isinstance(text, str):
        return for_str.sub(lambda _: placeholder(name), text)
    return for_bytes.sub(lambda _: placeholder(name).encode(), text)


@lru_cache(maxsize=64)
def _patterns(secret: str) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
    forms = list(dict.fromkeys([secret, *_base64_forms(secret)]))
    for_str = "|".join("".join(_spellings(char, {char}) for char in form) for form in forms)
    # The bytes pattern is written as latin-1 text, one character per byte; a body may be in either encoding.
    for_bytes = "|".join(
        "".join(_spellings(char, {data.decode("latin-1") for data in _encoded(char)}) for char in form)
        for form in forms
    )
    return re.compile(for_str), re.compile(for_bytes.encode("latin-1"))


def _encoded(text: str) -> set[bytes]:
    found = {text.encode("utf-8", "surrogateescape")}
    if all(ord(char) <= 0xFF for char in text):
        found.add(text.encode("latin-1"))
    return found


def _spellings(char: str, plain: set[str]) -> str:
    """One character of a secret as an expression for all the ways in which it may be written."""
    if char in _UNRESERVED:  # no encoder changes these, and a pattern of plain letters is searched for much faster
        return re.escape(char)
    coded = {"".join(f"%{byte:02x}" for byte in data) for data in _encoded(char)} | {rf"\u{ord(char):04x}"}
    coded |= {f"\\{char}"} if char in '"\\/' else {"+"} if char == " " else set()
    return f"(?:{_either(plain)}|(?i:{_either(coded)}))"


def _either(texts: set[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))  # one may begin with another


def _base64_forms(secret: str) -> Iterator[str]:
    """The base64 characters that depend on nothing but the secret, for each place it can have in a group of three."""
    for data in sorted(_encoded(secret)):
        for offset in range(3):
            before, bits = -(-offset * 8 // 6), (offset + len(data)) * 8
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(bytes(offset) + data).decode()[before : bits // 6]
