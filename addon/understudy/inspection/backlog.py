"""What happened and is not counted yet.

A count that only people and files read need not be made within the call: code that runs once a call is cold each time,
and sixty counts in a row cost a fraction of sixty alone. Whoever reads a count calls :meth:`Backlog.settle` first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

MOST = 64
"""Counts that wait at most."""

logger = logging.getLogger("understudy")


class Backlog:
    """Counts in the order in which they are to be made."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def add[*Args](self, count: Callable[[*Args], object], *args: *Args) -> None:
        """Call ``count`` with ``args``, now or later; so the time, and what else may change, is in ``args``."""
        self._waiting.append((count, args))
        if len(self._waiting) >= MOST:
            self.settle()

    def settle(self) -> None:
        """Make all counts that wait. One that fails is logged: to count must never cost a call."""
        waiting, self._waiting = self._waiting, []
        for count, args in waiting:
            try:
                count(*args)
            except Exception as error:
                logger.error(f"understudy: an exchange cannot be counted: {type(error).__name__}")
