"""Queues that take memory only while something is in them.

Python's ``deque`` takes 760 bytes when it is empty. mitmproxy makes one for each layer, seven or eight of a stream, for
events that come while a layer waits; asyncio makes one for each connection, for what cannot be written at once, and
more for those who wait for a connection or a lock. Nearly all of them are empty all the time. The names by which these
modules make theirs lead to the classes below; what was made before stays as it is.
"""

from __future__ import annotations

import collections
from asyncio import locks, selector_events, streams
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from mitmproxy.proxy import layer


class Queue:
    """What mitmproxy's layers and asyncio's connections use of a ``deque``, which is there only while it has items."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items: deque[Any] | None = deque(items) or None

    def __bool__(self) -> bool:
        return self._items is not None

    def __len__(self) -> int:
        return len(self._items) if self._items is not None else 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items or ())

    def __repr__(self) -> str:
        return f"Queue({list(self)})"

    def append(self, item: Any) -> None:
        """Add an item behind all others."""
        self.extend((item,))

    def appendleft(self, item: Any) -> None:
        """Add an item before all others."""
        if self._items is None:
            self._items = deque((item,))
        else:
            self._items.appendleft(item)

    def extend(self, items: Iterable[Any]) -> None:
        """Add items behind all others."""
        if self._items is None:
            self._items = deque(items) or None
        else:
            self._items.extend(items)

    def popleft(self) -> Any:
        """Take the first item. Raises IndexError when there is none."""
        if self._items is None:
            raise IndexError("pop from an empty queue")
        item = self._items.popleft()
        self._items = self._items or None
        return item

    def clear(self) -> None:
        """Take all items out."""
        self._items = None


PLACES: tuple[tuple[Any, type], ...] = (
    (layer, Queue),
    (selector_events, Queue),
    # Who waits is added at the end, and looked for to be removed: a list does it as well.
    (streams, list),
    (locks, list),
)
"""The modules that make a ``collections.deque``, and what they make in its place."""


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it. Where it is another module already, it stays."""
    put: list[tuple[ModuleType, SimpleNamespace]] = []
    for module, kind in PLACES:
        if vars(module).get("collections") is collections:
            module.collections = small = SimpleNamespace(deque=kind)
            put.append((module, small))

    def uninstall() -> None:
        for module, small in put:
            if vars(module).get("collections") is small:
                module.collections = collections  # type: ignore[attr-defined]

    return uninstall
