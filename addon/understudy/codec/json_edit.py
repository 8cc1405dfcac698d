"""Minimal byte edits of JSON: where the model name stands in a body, and how to change it and nothing else.

Signatures, prompt caches and plain trust depend on the rest of a body staying what the tool sent, so nothing here
serialises a body again. JSON is walked with the standard library's own parser, one member at a time: it runs in C,
knows every escape, and tells where each value begins and ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_BOM = b"\xef\xbb\xbf"

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


def read_json_member(body: bytes, name: str) -> object:
    """A member at the top level of a JSON body, the last where it is repeated; None without one. Never raises."""
    try:
        text = _text(body)
        return {key: value for key, _, _, value in _members(text, _begin(text), whole=True)}.get(name)
    except (ValueError, RecursionError):
        return None


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
    return _splice(body, text, [(start, end, json.dumps(model)) for start, end, _ in found])


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
                edits[start] = (start, end, json.dumps(new))
    except RecursionError as error:
        raise ValueError("body is nested too deeply") from error
    return _splice(body, text, [edits[start] for start in sorted(edits)])


def set_json_members(body: bytes, members: Mapping[str, object]) -> bytes:
    """Set top-level members of a JSON object: None removes, what is there is replaced (each of them if it is repeated),
    what is missing goes in front; all other bytes stay.

    Raises ValueError for a body that is not a JSON object.
    """
    try:
        text = _text(body)
        begin = _expect(text, _begin(text), "{")
        found = list(_members(text, begin - 1, whole=True))
    except RecursionError as error:
        raise ValueError("body is nested too deeply") from error
    edits: list[tuple[int, int, str]] = []
    missing = {name: value for name, value in members.items() if value is not None}
    stays, last = False, begin  # whether a member before this one stays; where the one before it ends
    for key, start, end, _ in found:
        if key in members and members[key] is None:
            edits.append((last, end, ""))  # with the comma before it
        else:
            if not stays and last != begin:
                edits.append((last, text.index(",", last) + 1, ""))
            if key in members:
                edits.append((start, end, json.dumps(members[key])))
                missing.pop(key, None)
            stays = True
        last = end
    if missing:
        added = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in missing.items())
        edits.insert(0, (begin, begin, added + (", " if stays else "")))
    return _splice(body, text, edits)


def append_json_items(body: bytes, name: str, items: Sequence[object]) -> bytes:
    """Put items behind those of the array that is the member ``name`` of a JSON object; all other bytes stay.

    Of a repeated member the last one counts. Raises ValueError when there is no such array.
    """
    try:
        text = _text(body)
        found = [each for each in _members(text, _begin(text), whole=True) if each[0] == name]
    except RecursionError as error:
        raise ValueError("body is nested too deeply") from error
    if not found or not isinstance(value := found[-1][3], list):
        raise ValueError(f"no array called {name}")
    end = found[-1][2] - 1
    added = ", ".join(map(json.dumps, items))
    return _splice(body, text, [(end, end, f", {added}" if value and items else added)])


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
    """Put texts at character ranges of ``text``, which ``body`` was decoded to. Ranges are in order."""
    pieces: list[bytes] = []
    done_bytes = len(_BOM) if body.startswith(_BOM) else 0
    done = 0
    ascii_only = text.isascii()
    pieces.append(body[:done_bytes])
    for start, end, value in edits:
        before, old = start - done, end - start
        if not ascii_only:
            before, old = len(text[done:start].encode()), len(text[start:end].encode())
        pieces += (body[done_bytes : done_bytes + before], value.encode())
        done_bytes += before + old
        done = end
    pieces.append(body[done_bytes:])
    return b"".join(pieces)
