"""What earlier responses of a connection were made of, so that ``previous_response_id`` can be taken literally.

Over HTTP no candidate but the one that made a response knows it, and not even that one when nothing is stored. So the
conversation is kept here: what was asked and what was answered, as JSON items, byte for byte. It is in memory only, for
at most an hour, as long as the connection, and within a number of bytes for all connections together.

The same as the vendor, each lane keeps its latest response alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetools import TTLCache

from understudy.codec.events import read_json
from understudy.codec.json_edit import Raw, raw_items, set_json_members

BYTES = 256 * 1024 * 1024
"""Of all conversations on all connections."""
SECONDS = 3600.0
"""How long one is kept after its response; the vendor ends a connection after that time."""
_OVERHEAD = 512
"""Bytes that an entry counts beside its items."""


class Transcripts:
    """The items of the conversations of all connections. ``clock`` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float], most: int = BYTES) -> None:
        self._kept: TTLCache[tuple[int, str], bytes] = TTLCache(
            most, SECONDS, clock, lambda items: len(items) + _OVERHEAD
        )
        self._most = most

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, connection: int, response: str) -> bytes | None:
        """The items up to and with this response, joined by commas; None when they are not known (any more)."""
        return self._kept.get((connection, response))

    def put(self, connection: int, response: str, items: bytes) -> bool:
        """Keep them; False when there are too many bytes."""
        if len(items) + _OVERHEAD > self._most // 4:
            return False
        self._kept[connection, response] = items
        return True

    def drop(self, connection: int, response: str) -> None:
        """Forget a response."""
        self._kept.pop((connection, response), None)


def joined(*parts: bytes) -> bytes:
    """Items behind items."""
    return b", ".join(part for part in parts if part)


def items_of(given: Raw | None) -> bytes:
    """The items of the ``input`` of a request: those of an array, or the message that a text stands for.

    Raises ValueError for anything else.
    """
    if given is None or given == b"null":
        return b""
    if given[:1] == b"[":
        return bytes(given[1:-1]).strip()
    if given[:1] == b'"':
        return b'{"role": "user", "content": ' + given + b"}"
    raise ValueError("`input` is neither a text nor a list")


def sendable(output: Sequence[Raw]) -> bytes:
    """The output of a response as items of a further request.

    Reasoning without its encrypted content is only an id, which one account may know; what came with it in the same
    response then loses its id as well, for a vendor misses the reasoning that belongs to an id.
    """
    kept, lost = [], False
    for item in output:
        document = read_json(item)
        kind = document.get("type") if isinstance(document, dict) else None
        if isinstance(document, dict) and kind == "reasoning" and not document.get("encrypted_content"):
            lost = True
        elif isinstance(document, dict):
            kept.append(item)
    if lost:
        kept = [Raw(set_json_members(item, {"id": None})) for item in kept]
    return joined(*kept)


def output_of(response: Raw) -> list[Raw]:
    """The items of an array; [] for what is none."""
    try:
        return raw_items(response)
    except ValueError:
        return []
