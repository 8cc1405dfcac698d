"""A saved flow as plain values, whoever recorded it. It may hold real credentials, and nothing here hides them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from understudy.codec.content_encoding import Decoder
from understudy.replies import MAX_TEXT

TAIL = 8 * 1024
"""Bytes kept of the end of a longer body: how a stream ended."""

type Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SavedReply:
    """What came back. ``body``: decoded, its first ``MAX_TEXT`` bytes; None when the file does not have it.

    ``tail``: the end of a longer body. ``began`` and ``ended`` are Unix times, 0 when unknown.
    """

    status: int
    headers: Pairs = field(repr=False)
    body: bytes | None = field(repr=False)
    tail: bytes = field(default=b"", repr=False)
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class SavedFlow:
    """One HTTP flow of a file. ``number`` counts the flows of the file from 1, those that are not HTTP included.

    ``body`` is decoded, b"" also where it cannot be. ``began``: Unix time of the request, 0 when unknown. ``error``:
    what the recorder noted about the transport; ``connected``: whether the upstream was ever reached, as far as known;
    ``broke``: when that was. ``facts``: what understudy noted when it recorded the flow.
    """

    number: int
    id: str
    method: str
    host: str
    port: int
    path: str = field(repr=False)
    headers: Pairs = field(repr=False)
    body: bytes = field(repr=False)
    began: float = 0.0
    reply: SavedReply | None = None
    error: str = field(default="", repr=False)
    connected: bool = True
    broke: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    comment: str = field(default="", repr=False)

    def header(self, name: str) -> str:
        """The first value of a header of the request, named in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def is_called(self, wanted: str) -> bool:
        """Whether these words name the flow: its number, its id or the beginning of its id."""
        return self.number == int(wanted) if wanted.isdecimal() and len(wanted) < 8 else self.id.startswith(wanted)


def bounded(raw: bytes, encoding: str) -> tuple[bytes, bytes]:
    """The body without its content encoding, and the end of it where it was cut."""
    decoder = Decoder(encoding, MAX_TEXT)
    body = decoder.feed(raw)
    if decoder.failed:  # decoded already, by whoever saved it
        body = raw[:MAX_TEXT]
    cut = len(raw) > MAX_TEXT and (decoder.identity or decoder.failed)
    return body, raw[-TAIL:] if cut else b""


def without_encoding(headers: Iterable[tuple[str, str]]) -> Pairs:
    """Bodies are decoded here, and what is told of them must say the same."""
    return tuple((name, value) for name, value in headers if name.lower() != "content-encoding")


def unix_time(value: object) -> float:
    """A time from a file; 0 where it is none."""
    return float(value) if isinstance(value, int | float) and 0 < value < 1e11 else 0.0
