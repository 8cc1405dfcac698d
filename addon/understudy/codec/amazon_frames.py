"""Amazon's event stream framing (``application/vnd.amazon.eventstream``): bytes in, messages out.

Sources: Smithy, "Amazon Event Stream Specification"; Amazon Bedrock API reference, "InvokeModelWithResponseStream" and
"ConverseStream".

A message is: its length and that of its headers (4 bytes each), a CRC of those, headers, payload, a CRC of everything.
Both checksums are checked: what does not add up is no stream of this kind, and nothing after it is read.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from understudy.codec.events import StreamEvent, read_json

TYPE = "application/vnd.amazon.eventstream"
LARGEST = 256 * 1024
"""The longest message that is read, in bytes, unless the caller wants more."""
_PRELUDE = 12
_SHORTEST = 16
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; types 6 and 7 have their length in front."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Of the headers only those that are texts are kept, as no other says what it is."""

    headers: dict[str, str]
    payload: bytes

    @property
    def event(self) -> StreamEvent:
        """What the message means: an ``exception`` with its type, the inside of a chunk, or the event as it is."""
        name = self.headers.get(":event-type", "")
        failure = self.headers.get(":exception-type") or self.headers.get(":error-code")
        if failure or self.headers.get(":message-type") in ("exception", "error"):
            said = read_json(self.payload)
            stated = said if isinstance(said, dict) else {"message": self.headers.get(":error-message", "")}
            return StreamEvent("exception", json.dumps({"__type": failure or "exception", **stated}).encode())
        if name == "chunk":
            inner = read_json(self.payload)
            coded = inner.get("bytes") if isinstance(inner, dict) else None
            if isinstance(coded, str):
                try:
                    return StreamEvent(name, base64.b64decode(coded, validate=True))
                except (binascii.Error, ValueError):
                    pass
        return StreamEvent(name, self.payload)


class MessageReader:
    """Split anywhere, the messages are the same. ``overflow``: one was too long; ``failed``: it is no such stream."""

    def __init__(self, limit: int = LARGEST) -> None:
        self.limit = limit
        self.overflow = False
        self.failed = False
        self._buffer = bytearray()

    @property
    def whole(self) -> bool:
        """Whether all that came so far was messages, none of them cut."""
        return not (self.overflow or self.failed or self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete. Never raises."""
        if self.overflow or self.failed:
            return []
        self._buffer += data
        return list(self._complete())

    def _complete(self) -> Iterator[Message]:
        while len(self._buffer) >= _PRELUDE:
            total, size, check = struct.unpack_from(">III", self._buffer)
            sound = crc32(self._buffer[:8]) == check and _SHORTEST + size <= total
            self.failed, self.overflow = not sound, sound and total > self.limit
            if self.failed or self.overflow:
                return
            if len(self._buffer) < total:
                return
            message = bytes(self._buffer[:total])
            del self._buffer[:total]
            headers = _headers(message[_PRELUDE : _PRELUDE + size])
            if crc32(message[:-4]) != int.from_bytes(message[-4:]) or headers is None:
                self.failed = True
                return
            yield Message(headers, message[_PRELUDE + size : -4])


def last_messages(data: bytes) -> list[Message]:
    """The messages at the end of a stream, of which only the last bytes are left."""
    for at in range(len(data)):
        if crc32(data[at : at + 8]) == int.from_bytes(data[at + 8 : at + _PRELUDE]):
            reader = MessageReader()
            if messages := reader.feed(data[at:]):
                return messages
    return []


def _headers(data: bytes) -> dict[str, str] | None:
    """The headers that are texts; None when they cannot be read."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            length = data[at]
            name = data[at + 1 : at + 1 + length].decode()
            at += 1 + length
            kind = data[at]
            at += 1
            if kind in (6, 7):
                (size,) = struct.unpack_from(">H", data, at)
                at += 2
            else:
                size = _SIZES[kind]
            value = data[at : at + size]
            at += size
            if at > len(data):
                return None
            if kind == 7:
                found[name] = value.decode()
    except (IndexError, KeyError, UnicodeDecodeError, struct.error):
        return None
    return found
