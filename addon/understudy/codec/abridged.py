"""A JSON body without the middle of its long strings: for what it says of itself, which stands in short ones.

Of a large request nearly all bytes stand in a few hundred strings: prompts, files, results of tools. To find where they
end takes a fraction of the time of a single search through all of their text, and every search after that runs through
what is left. A body of many short strings stays as it is, and so does what does not begin as an object or is no UTF-8.
"""

from __future__ import annotations

import codecs
import re
from io import BytesIO

from understudy.codec.in_pieces import contains_any, copy_to
from understudy.codec.record import record

SMALL = 16 * 1024
"""Bytes of a body that is searched as it is."""
KEPT = 160
"""Bytes that stay of a long string, at either end: more than any name that is looked for."""
LONG = 3 * KEPT
"""Bytes of a string that is abridged."""
CUT = b"\0"
"""Stands in place of what was left out. No string of a JSON document has such a byte, so none that was abridged can be
taken for a whole one."""
DENSE = 64
"""Fewer bytes from quote to quote than this, and the body stays as it is."""
_WORTH = 0.75
"""The part of a body that may be left: of more the copy costs memory, and saves nothing."""
_SAMPLE = 4096
_LOOK = 256
"""Strings that were looked at one by one, after which that is looked at again."""
_NAME = 32
"""Bytes in front of a string in which the name of its member is looked for."""
_NEAR = 64
_RUN = 256
"""Backslashes that are counted in one go."""
_RARE = 200
_BACKSLASH, _QUOTE = ord("\\"), ord('"')
_SHORT_ONES = re.compile(rb'(?:[^"]*+"[^"\\]{0,%d}+")*+[^"]*+' % LONG)
"""Everything up to the next string that is long, or has a backslash, or does not end."""
_ENDING = re.compile(rb'"(?:(?<!\\")|(?<=[^\\]\\\\")|(?<=\\\\\\\\"))')
"""A quote with no backslash in front of it, with two, or with four and more, which may be an odd number."""
_VALID_PIECE = 1 << 20
PIECE = 128 << 10
"""Bytes that are looked at in one go: a thread that reads a large body has to let others go on every few milliseconds.
The slowest expressions take 50 ns for a byte."""


@record
class Abridged:
    """``text``: what is left of a body; ``cuts``: where in it something was left out, and by how much it is shorter."""

    text: bytes
    cuts: tuple[tuple[int, int], ...] = ()

    def place(self, at: int) -> int:
        """The place in the body of a place in the text."""
        return at + sum(shorter for cut, shorter in self.cuts if cut < at)


def abridge(body: bytes, whole: bytes = b"") -> Abridged:
    """Leave out the middle of the long strings of a JSON object, but of those behind a name that has ``whole``.

    Short strings without a backslash are run through by one expression; the others are looked at one by one.
    """
    if len(body) <= SMALL or not body[:_NEAR].lstrip().startswith(b"{") or _is_dense(body):
        return Abridged(body)
    try:
        check_utf8(body)
    except ValueError:
        return Abridged(body)
    view, size, run = memoryview(body), len(body), _SHORT_ONES.match
    text = BytesIO()
    cuts: list[tuple[int, int]] = []
    done = left = at = strings = 0
    while (found := run(body, at, at + PIECE)) and (begin := found.end()) < size:
        at = begin
        if body[begin] != _QUOTE:  # the end of a piece
            continue
        end = _end_of_string(body, begin + 1)
        at, strings = end + 1, strings + 1
        if end < 0 or (strings % _LOOK == 0 and end < strings * DENSE):
            return Abridged(body)
        if end - begin > LONG and not (whole and _may_be_named(body, begin, whole)):
            first, last = begin + KEPT, end - KEPT
            if body[first - 1] == _BACKSLASH or body[first] >= 0x80:
                first = _border(body, first)
            if body[last - 1] == _BACKSLASH or body[last] >= 0x80:
                last = _border(body, last)
            if not begin < first < last < end:
                return Abridged(body)
            copy_to(text, view, done, first)
            text.write(CUT)
            left += first - done + 1
            cuts.append((left - 1, last - first - 1))
            done = last
    if left + size - done > size * _WORTH:
        return Abridged(body)
    copy_to(text, view, done, size)
    return Abridged(text.getvalue(), tuple(cuts))


def _may_be_named(body: bytes, begin: int, name: bytes) -> bool:
    """Whether this name stands in front of a value, or so much white space that it cannot be seen."""
    before = body[max(0, begin - _NAME) : begin].rstrip(b" \t\r\n:")
    return not before or before.endswith(name)


def _is_dense(body: bytes) -> bool:
    """Whether that is so at the beginning, in the middle and at the end."""
    middle = len(body) // 2
    samples = (body[:_SAMPLE], body[middle : middle + _SAMPLE], body[-_SAMPLE:])
    quotes = sum(without_escapes(each).count(b'"') for each in samples)
    return quotes * DENSE > len(samples) * _SAMPLE


def _end_of_string(body: bytes, at: int) -> int:
    """Where the quote stands that ends the string of which this is the inside; -1 without one."""
    end = body.find(b'"', at)
    if end < 0 or body[end - 1] != _BACKSLASH:
        return end
    while end < len(body):
        found = _ENDING.search(body, end, end + PIECE)
        if found is None:
            end += PIECE
            continue
        end = found.start()
        if _backslashes(body, at, end) % 2 == 0:
            return end
        end += 1
    return -1


def _backslashes(body: bytes, begin: int, end: int) -> int:
    """How many stand right in front of ``end``, none of them before ``begin``."""
    at = end
    while at > begin:
        piece = body[max(begin, at - _RUN) : at]
        left = len(piece.rstrip(b"\\"))
        at -= len(piece) - left
        if left:
            break
    return end - at


def _border(body: bytes, at: int) -> int:
    """A place here or a little before that cuts neither an escape nor a character in two; -1 when there is none."""
    for near in range(at, at - _NEAR, -1):
        if body[near - 1] != _BACKSLASH and not 0x80 <= body[near] < 0xC0:
            return near
    return -1


def without_escapes(body: bytes) -> bytes:
    """The same bytes with escaped quotes overwritten, so that a string ends at the next quote; in pieces, at whose
    borders no escape is cut in two."""
    if not contains_any(body, (b"\\",)):
        return body
    if len(body) <= PIECE:
        return _without_escapes(body)
    marks, at = BytesIO(), 0
    while at < len(body):
        end = at + PIECE
        end += _backslashes(body, at, end) % 2 if end < len(body) else 0
        marks.write(_without_escapes(body[at:end]))
        at = end
    return marks.getvalue()


def _without_escapes(piece: bytes) -> bytes:
    # Backslashes that are not in front of a quote may stay, and then one of several is rare in front of one.
    found, at = [], piece.find(b'\\\\"')
    while at >= 0:
        found.append(at + 2)
        if len(found) > _RARE:
            return piece.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        at = piece.find(b'\\\\"', at + 3)
    marks = piece.replace(b'\\"', b"__")
    if not found:
        return marks
    corrected = bytearray(marks)
    for quote in found:
        first = quote - 1
        while first and piece[first - 1] == _BACKSLASH:
            first -= 1
        if (quote - first) % 2 == 0:
            corrected[quote - 1 : quote + 1] = b'_"'
    return bytes(corrected)


def check_utf8(body: bytes) -> None:
    """Raise ValueError for what is no UTF-8, in pieces: a text of it all may take four times the memory."""
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    for at in range(0, len(body), _VALID_PIECE):
        decoder.decode(view[at : at + _VALID_PIECE], at + _VALID_PIECE >= len(body))
