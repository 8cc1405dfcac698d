"""Searches through a large body and copies of it, in pieces.

A large body is read in a thread beside the event loop. While one call of C code runs, no other thread goes on, so that
a search through 64 MiB, which takes up to 60 ms, would hold up all other calls for as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from io import BytesIO

COPIED = 1 << 20
"""Bytes that are copied in one go."""
SEARCHED = 4 << 20
"""Bytes that are searched for words in one go."""


def copy_to(made: BytesIO, view: memoryview, begin: int, end: int) -> None:
    """Write the bytes between two places."""
    while begin < end:
        made.write(view[begin : min(end, begin + COPIED)])
        begin += COPIED


def find_first(body: bytes, words: bytes, begin: int = 0) -> int:
    """As ``body.find(words, begin)``."""
    while True:
        end = begin + SEARCHED
        at = body.find(words, begin, end)
        if at >= 0 or end >= len(body):
            return at
        begin = end - len(words) + 1


def find_last(body: bytes, words: bytes, end: int) -> int:
    """As ``body.rfind(words, 0, end)``."""
    while end >= len(words):
        begin = max(0, end - SEARCHED)
        at = body.rfind(words, begin, end)
        if at >= 0 or begin == 0:
            return at
        end = begin + len(words) - 1
    return -1


def contains_any(body: bytes, parts: Iterable[bytes]) -> bool:
    """Whether one of these parts at least stands in the body.

    By ``find``: for bytes ``in`` first makes an error that they are no number, which takes longer than to look.
    """
    find = body.find if len(body) <= SEARCHED else partial(find_first, body)
    for part in parts:  # noqa: SIM110 (a plain loop: every call comes through here)
        if find(part) >= 0:
            return True
    return False
