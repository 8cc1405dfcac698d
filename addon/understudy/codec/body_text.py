"""The text of a body -> its structure: JSON, JSON inside JSON, the events of a stream, also where it was cut.

Nothing here raises, and no more is parsed than a reply is worth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MAX_PARSED = 1 << 17  # characters of JSON that are parsed; of a longer object only its first members are
MAX_MEMBERS = 12  # of an object that is too long to be parsed
MAX_FRAMES = 64  # events of a stream that are looked at

ERROR_EVENTS = frozenset({"error", "response.failed", "response.error", "exception"})
"""Names of stream events that are an error by themselves."""


def parse(text: str) -> object | None:
    """JSON, or JSON inside a JSON string; None for anything else. Of a very long object only the first members."""
    value: object = text
    for _ in range(2):
        if not isinstance(value, str):
            break
        stripped = value.strip()
        if stripped[:1] not in ("{", "[", '"'):
            return value if value is not text else None
        if len(stripped) > MAX_PARSED:
            return _first_members(stripped[:MAX_PARSED])
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            partial = _first_members(stripped) if value is text else None
            return partial if value is text else value
    return value


_DECODER = json.JSONDecoder()
_NEXT_KEY = re.compile(r'[\s,]*"(\w{1,40})"\s*:\s*')


def _first_members(text: str) -> object | None:
    """The members of an object that are whole before it is cut: errors stand in front, echoes of requests behind."""
    fields: dict[str, object] = {}
    at = 1 if text[:1] == "{" else len(text)
    while len(fields) < MAX_MEMBERS and (key := _NEXT_KEY.match(text, at)):
        try:
            fields[key[1]], at = _DECODER.raw_decode(text, key.end())
        except (ValueError, RecursionError):
            break
    return fields or None


def follow(value: object, keys: tuple[str, ...]) -> object | None:
    """The value at a path: keys, numbers that index lists, `*` for all elements; None if absent."""
    for index, key in enumerate(keys):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key == "*":
            gathered = (follow(item, keys[index + 1 :]) for item in value[:MAX_FRAMES])
            flat = (leaf for item in gathered for leaf in (item if isinstance(item, list) else [item]))
            return [leaf for leaf in flat if leaf is not None] or None
        elif isinstance(value, list) and key.isdecimal() and len(key) < 6:
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def frames(text: str) -> Iterator[tuple[str, object]]:
    """Name and parsed data of the first events of a stream (WHATWG event stream, CRLF or LF)."""
    blocks = re.split(r"\r?\n\r?\n", text[:MAX_PARSED], maxsplit=MAX_FRAMES)
    for block in blocks[:MAX_FRAMES]:
        name, data = "", []
        for line in block.splitlines():
            key, _, value = line.partition(":")
            if key == "event":
                name = value.strip()
            elif key == "data":
                data.append(value.removeprefix(" "))
        parsed = parse("\n".join(data)) if data else None
        if parsed is not None:
            yield name, parsed
        elif name in ERROR_EVENTS and data:
            yield name, "\n".join(data)
