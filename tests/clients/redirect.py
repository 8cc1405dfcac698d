"""For the matrix' other half: a script for mitmdump alone that leads the vendors' hosts to one on this machine."""

from __future__ import annotations

import os

from mitmproxy import http

VENDORS = {"api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"}


def request(flow: http.HTTPFlow) -> None:
    """Send it there, as it is."""
    if flow.request.pretty_host in VENDORS:
        flow.request.scheme, flow.request.host = "http", "127.0.0.1"
        flow.request.port = int(os.environ["VENDOR_PORT"])


def http_connect(flow: http.HTTPFlow) -> None:
    """Refuse everything else at once, as the way with understudy does where there is no internet."""
    if flow.request.host not in VENDORS:
        flow.response = http.Response.make(502)


def error(flow: http.HTTPFlow) -> None:
    """Drop what the vendor drops: without a proxy, a program sees that and not mitmproxy's 502."""
    flow.kill()
