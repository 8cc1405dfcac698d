"""A bar on a terminal that shows how far a large file has been read. It writes nothing anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

LARGE = 16 * 1024 * 1024
"""Bytes from which a bar is worth it."""
INTERVAL = 0.2
"""Seconds between two drawings."""
WIDTH = 30


class Progress:
    """``at(position)`` draws, ``clear()`` takes the bar away before something else is printed."""

    def __init__(self, stream: TextIO, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._total, self._clock = stream, total, clock
        self._shown = stream.isatty() and total >= LARGE
        self._due = 0.0
        self._drawn = False

    def at(self, position: int) -> None:
        """So many bytes are read."""
        if not self._shown or (now := self._clock()) < self._due:
            return
        self._due = now + INTERVAL
        part = min(1.0, position / self._total)
        bar = "#" * int(part * WIDTH)
        size = f"{position >> 20} of {self._total >> 20} MiB"
        self._stream.write(f"\r[{bar:{WIDTH}}] {part:4.0%} {size}")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False
