"""A script for mitmproxy: how many tasks its event loop has, in the file ``tasks`` in its folder, as they are now."""

from __future__ import annotations

import asyncio
from pathlib import Path

FILE = Path("tasks")
EVERY = 0.2
"""Seconds between two counts."""


class TaskCount:
    """Counts without a task of its own."""

    def running(self) -> None:
        """The event loop is there."""
        self._count()

    def _count(self) -> None:
        loop = asyncio.get_running_loop()
        written = FILE.with_suffix(".new")
        written.write_text(str(len(asyncio.all_tasks(loop))))
        written.replace(FILE)
        loop.call_later(EVERY, self._count)


addons = [TaskCount()]
