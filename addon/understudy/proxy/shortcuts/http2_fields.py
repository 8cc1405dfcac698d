"""The header fields of HTTP/2, read and written without a step of Python for each of their characters.

The HTTP/2 library looks at each character of each name and value that it gets, and decodes and encodes the characters
of those that are new to a connection one by one. Some tools send their credential anew with each call. Here what is
fine is found by patterns, what was decoded lately is not decoded again, and what is encoded is put together by tables.
What is not fine goes the library's own way, with its own error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import h2.utilities
from h2.exceptions import ProtocolError
from hpack import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

_NAME = re.compile(rb":?[!-9;-@\[-~]*")
_VALUE = re.compile(rb"(?:[^\0\n\r\t ](?:[^\0\n\r]*[^\0\n\r\t ])?)?")
_DECODED = 64
"""Names and values that are kept decoded; each has 64 KiB at most."""
_reject: Callable[..., Iterator[Any]] | None = getattr(h2.utilities, "_reject_illegal_characters", None)
"""None in releases that look at no characters."""
_decode: Callable[[bytes], bytes] = vars(hpack)["decode_huffman"]
_encode = HuffmanEncoder.encode
_BITS = [f"{code:0{length}b}" for code, length in zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)][:256]
"""By character, its code."""


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it."""
    undo: list[Callable[[], None]] = []

    def put(place: Any, name: str, own: Any, ours: Any) -> None:
        if vars(place).get(name) is own:
            setattr(place, name, ours)
            undo.append(lambda: setattr(place, name, own) if vars(place).get(name) is ours else None)

    if _reject is not None and _is_known(_reject):
        put(h2.utilities, "_reject_illegal_characters", _reject, reject_illegal_characters)
    put(hpack, "decode_huffman", _decode, lru_cache(_DECODED)(_decode))
    put(HuffmanEncoder, "encode", _encode, encode)

    def uninstall() -> None:
        for each in undo:
            each()

    return uninstall


def reject_illegal_characters(headers: Iterable[Any], flags: Any) -> Iterator[Any]:
    """What the library's function of this name does. Raises ProtocolError as it does."""
    assert _reject is not None
    for header in headers:
        if _is_fine(header[0], header[1]):
            yield header
        else:
            yield from _reject((header,), flags)


def encode(coder: HuffmanEncoder, data: bytes | None) -> bytes:
    """What the library's method of this name does."""
    if not data or coder.huffman_code_list is not REQUEST_CODES:
        return _encode(coder, data)
    bits = "".join([_BITS[each] for each in data])
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _is_fine(name: bytes, value: bytes) -> bool:
    return _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def _is_known(reject: Callable[..., Iterator[Any]]) -> bool:
    """Whether this release refuses what the patterns do not match, and nothing else."""

    def fine(name: bytes, value: bytes) -> bool:
        try:
            return bool(list(reject([(name, value)], None)))
        except ProtocolError:
            return False

    characters = [bytes((each,)) for each in range(256)]
    names = [b"", *characters, *(b"a%bc" % each for each in characters)]
    fields = [(name, b"") for name in names] + [(b"a", value) for value in [*names, *(each + b"a" for each in names)]]
    return all(fine(*each) == _is_fine(*each) for each in fields)
