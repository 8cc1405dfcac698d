"""Serves the metrics at ``http://127.0.0.1:PORT/metrics``, for a proxy without a web page of its own (law 12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, override

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

LOOPBACK = "127.0.0.1"
HOSTS = r"(localhost|127\.0\.0\.1)"
"""The names it answers to. Any other name in ``Host`` is a web page elsewhere that had its name point here."""


class _Metrics(RequestHandler):
    def initialize(self, render: Callable[[], bytes], content_type: str) -> None:
        self._render_text, self._content_type = render, content_type

    @override
    def get(self) -> None:
        self.set_header("Content-Type", self._content_type)
        self.write(self._render_text())


def serve(port: int, render: Callable[[], bytes], content_type: str) -> Callable[[], None]:
    """Serve on loopback, in the running event loop; returns what ends it. Raises OSError when the port is taken."""
    application = Application()
    arguments: dict[str, Any] = {"render": render, "content_type": content_type}
    application.add_handlers(HOSTS, [(r"/metrics", _Metrics, arguments)])
    server = HTTPServer(application)
    server.listen(port, LOOPBACK)
    return server.stop
