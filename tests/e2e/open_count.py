"""A script for mitmproxy: what is open in it, in the file ``open.json`` in its folder, as it is now.

``tasks``: tasks of its event loop. ``flows``: requests that have neither been answered nor failed.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mitmproxy import http

FILE = Path("open.json")
EVERY = 0.2
"""Seconds between two counts."""


class OpenCount:
    """Counts without a task of its own."""

    def __init__(self) -> None:
        self.flows: set[str] = set()

    def running(self) -> None:
        """The event loop is there."""
        self._count()

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A request has begun."""
        self.flows.add(flow.id)

    def response(self, flow: http.HTTPFlow) -> None:
        """It is answered. A WebSocket goes on."""
        if flow.websocket is None:
            self.flows.discard(flow.id)

    def error(self, flow: http.HTTPFlow) -> None:
        """It has failed."""
        self.flows.discard(flow.id)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Its WebSocket is closed."""
        self.flows.discard(flow.id)

    def _count(self) -> None:
        loop = asyncio.get_running_loop()
        written = FILE.with_suffix(".new")
        written.write_text(json.dumps({"tasks": len(asyncio.all_tasks(loop)), "flows": len(self.flows)}))
        written.replace(FILE)
        loop.call_later(EVERY, self._count)


addons = [OpenCount()]
