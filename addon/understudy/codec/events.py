"""One event of a stream as a value, whatever framed it, and JSON from the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream: the SSE event name ("" without one) and the data, lines joined by a newline."""

    name: str
    data: bytes


LONGEST_COUNTED = 512 * 1024
"""Bytes of JSON up to which any document is quick to parse and small in memory."""
MOST_VALUES = 300_000
"""Values of a longer document, over-estimated by what separates them, also inside strings."""


def read_json(data: bytes) -> object | None:
    """Parse JSON from the wire; None for whatever is not JSON in UTF-8, or has too many values. Never raises."""
    if len(data) > LONGEST_COUNTED and data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        return None
    try:
        document: object = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # ValueError: syntax, encoding and integers of too many digits
        return None
    return document
