"""Minimal byte edits: where the model name stands in a body, and how to change it and nothing else.

Signatures, prompt caches and plain trust depend on the rest of a body staying what the tool sent, so nothing here
serialises a body again. JSON is walked with the standard library's own parser, one member at a time: it runs in C,
knows every escape, and tells where each value begins and ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_BOM = b"\xef\xbb\xbf"

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))', re.DOTALL)
_LONGEST_PADDING = 256  # blanks allowed between a boundary and its line break; a bound on what hostile forms cost
_TRUE_FIELDS = frozenset({"true", "1"})

type Place = Sequence[str]
"""Where a string stands in a JSON document: member names from the top, ``*`` for every item of an array."""


def read_json_model(body: bytes) -> tuple[str | None, bool]:
    """Return (alias, stream) from the top level of a JSON body; (None, False) for whatever is not an object.

    A member that occurs several times counts as its last value, as in the parsers that vendors use.
    """
    alias: object = None
    stream: object = None
    try:
        text = _text(body)
        for key, _, _, value in _members(text, _begin(text), whole=True):
            if key == "model":
                alias = value
            elif key == "stream":
                stream = value
    except (ValueError, RecursionError):
        return None, False
    return alias if isinstance(alias, str) else None, stream is True


def write_json_model(body: bytes, model: str) -> bytes:
    """Replace the top-level ``model`` of a JSON body, each of them if it is repeated; all other bytes stay.

    Raises ValueError where ``read_json_model`` finds no alias.
    """
    try:
        text = _text(body)
        found = [
            (start, end, value) for key, start, end, value in _members(text, _begin(text), whole=True) if key == "model"
        ]
    except RecursionError as error:
        raise ValueError("body is nested too deeply") from error
    if not found or not isinstance(found[-1][2], str):
        raise ValueError("no model name at the top level of the body")
    return _splice(body, text, [(start, end, model) for start, end, _ in found])


def replace_json_strings(body: bytes, places: Sequence[Place], swap: Callable[[str], str | None]) -> bytes:
    """Replace the strings at ``places`` by what ``swap`` makes of them (None: stays); all other bytes stay.

    Places that do not exist are passed over. Raises ValueError for a body that is not a JSON object.
    """
    try:
        text = _text(body)
        edits: dict[int, tuple[int, int, str]] = {}
        for start, end, value in _find(text, _begin(text), places, whole=True):
            new = swap(value)
            if new is not None and new != value:
                edits[start] = (start, end, new)
    except RecursionError as error:
        raise ValueError("body is nested too deeply") from error
    return _splice(body, text, [edits[start] for start in sorted(edits)])


def read_multipart_model(content_type: str, body: bytes) -> tuple[str | None, bool]:
    """Return (alias, stream) from the fields of a multipart/form-data body; (None, False) if it is not one."""
    alias: str | None = None
    stream = False
    for name, start, end in _fields(content_type, body):
        try:
            if name == "model":
                alias = body[start:end].decode("utf-8")
            elif name == "stream":
                stream = body[start:end].decode("utf-8").strip().lower() in _TRUE_FIELDS
        except UnicodeDecodeError:
            return None, False
    return alias, stream


def write_multipart_model(content_type: str, body: bytes, model: str) -> bytes:
    """Replace the ``model`` field of a multipart/form-data body, each of them if it is repeated (RFC 7578).

    Raises ValueError where ``read_multipart_model`` finds no alias, and for a model name that would break the framing.
    """
    if read_multipart_model(content_type, body)[0] is None:
        raise ValueError("no model field in the form")
    if "\r" in model or "\n" in model:
        raise ValueError("a model name in a form cannot contain line breaks")
    pieces: list[bytes] = []
    done = 0
    for name, start, end in _fields(content_type, body):
        if name == "model":
            pieces += (body[done:start], model.encode())
            done = end
    pieces.append(body[done:])
    return b"".join(pieces)


def header_parameter(value: str, name: str) -> str | None:
    """A parameter of a header such as Content-Type: ``boundary`` of ``multipart/form-data; boundary="x"``."""
    for match in _PARAMETER.finditer(value):
        if match[1].lower() == name:
            if match[2] is not None:
                return re.sub(r"\\(.)", r"\1", match[2], flags=re.DOTALL)
            return match[3].strip()
    return None


def _text(body: bytes) -> str:
    # Strict: a position in text is turned back into one in bytes by encoding what stands before it.
    return body.decode("utf-8-sig")


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _begin(text: str) -> int:
    return _space(text, 0)


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise ValueError(f"expected {mark!r} at character {at}")
    return at + 1


def _members(text: str, at: int, *, whole: bool = False) -> Iterator[tuple[str, int, int, object]]:
    """Yield (key, start of value, end of value, value) of the object at ``at``; ``whole``: nothing may follow it."""
    at = _space(text, _expect(text, at, "{"))
    if text[at : at + 1] != "}":
        while True:
            _expect(text, at, '"')
            key, at = _DECODER.raw_decode(text, at)
            start = _space(text, _expect(text, _space(text, at), ":"))
            value, end = _DECODER.raw_decode(text, start)
            yield key, start, end, value
            at = _space(text, end)
            if text[at : at + 1] != ",":
                break
            at = _space(text, at + 1)
    at = _expect(text, at, "}")
    if whole and _space(text, at) != len(text):
        raise ValueError("something follows the object")


def _items(text: str, at: int) -> Iterator[tuple[int, int, object]]:
    """Yield (start, end, value) of the items of the array at ``at``."""
    at = _space(text, _expect(text, at, "["))
    while text[at : at + 1] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield at, end, value
        at = _space(text, end)
        if text[at : at + 1] == ",":
            at = _space(text, at + 1)


def _find(text: str, at: int, places: Sequence[Place], *, whole: bool = False) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, value) of every string that stands at one of the places below the object at ``at``."""
    for key, start, end, value in _members(text, at, whole=whole):
        below = [place[1:] for place in places if place and place[0] == key]
        yield from _find_in(text, start, end, value, below)


def _find_in(text: str, start: int, end: int, value: object, places: Sequence[Place]) -> Iterator[tuple[int, int, str]]:
    if isinstance(value, str):
        if any(not place for place in places):
            yield start, end, value
    elif isinstance(value, dict):
        deeper = [place for place in places if place]
        if deeper:
            yield from _find(text, start, deeper)
    elif isinstance(value, list):
        below = [place[1:] for place in places if place and place[0] == "*"]
        if below:
            for item_start, item_end, item in _items(text, start):
                yield from _find_in(text, item_start, item_end, item, below)


def _splice(body: bytes, text: str, edits: Sequence[tuple[int, int, str]]) -> bytes:
    """Put JSON strings at character ranges of ``text``, which ``body`` was decoded to. Ranges are in order."""
    pieces: list[bytes] = []
    done_bytes = len(_BOM) if body.startswith(_BOM) else 0
    done = 0
    ascii_only = text.isascii()
    pieces.append(body[:done_bytes])
    for start, end, value in edits:
        before, old = start - done, end - start
        if not ascii_only:
            before, old = len(text[done:start].encode()), len(text[start:end].encode())
        pieces += (body[done_bytes : done_bytes + before], json.dumps(value).encode())
        done_bytes += before + old
        done = end
    pieces.append(body[done_bytes:])
    return b"".join(pieces)


def _fields(content_type: str, body: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, start, end of content) of the plain fields of a form; files are passed over."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return
    boundary = header_parameter(content_type, "boundary")
    if not boundary:
        return
    mark = b"--" + boundary.encode("utf-8", "replace")
    content_start: int | None = None
    name = ""
    at = 0
    while (at := body.find(mark, at)) >= 0:
        after = at + len(mark)
        line_end = body.find(b"\r\n", after, after + _LONGEST_PADDING)
        rest = (body[after : after + _LONGEST_PADDING] if line_end < 0 else body[after:line_end]).strip(b" \t")
        # The mark counts only as a line of its own: one boundary may be the beginning of another.
        if (at and body[at - 2 : at] != b"\r\n") or rest not in (b"", b"--"):
            at = after
            continue
        # An empty part's line break is the one that ends its headers, not a content of -2 bytes.
        if name and content_start is not None and at - 2 >= content_start:
            yield name, content_start, at - 2
        if rest == b"--" or line_end < 0:
            return
        name, content_start = "", None
        head_end = body.find(b"\r\n\r\n", line_end)
        if head_end < 0:
            return
        name, content_start = _field_name(body[line_end:head_end]), head_end + 4
        at = content_start
    # No closing mark: the form is cut, and nothing after the last mark is a field.


def _field_name(head: bytes) -> str:
    """The name of a plain field from its part's headers; "" for a file or anything else."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition" and header_parameter(value, "filename") is None:
            if header_parameter(value, "filename*") is None:
                return header_parameter(value, "name") or ""
            return ""
    return ""
