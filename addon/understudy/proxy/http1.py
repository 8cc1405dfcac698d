"""How an HTTP/1 upstream is read: heads that end, interim responses that are no replies, trailers that harm nobody.

mitmproxy reads a head without any bound, takes a 103 for the reply itself (the tool then waits for the real one for
ever), and raises on a body with trailers. Tools must not depend on an upstream being polite, so pooled upstreams get a
client of ours. The files of this package that know mitmproxy's internals are listed in ``tests/test_contract.py``.
"""

from __future__ import annotations

import re
from typing import override

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import events
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http._http1 import Http1Client

HEAD_LIMIT = 256 * 1024
"""Bytes of response headers."""
# An interim response (RFC 9110, section 15.2); a 101 is one too, but nothing that follows it is HTTP.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d\b[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")


class PooledHttp1Client(Http1Client):
    """mitmproxy's HTTP/1 client, less trusting."""

    @override
    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        while self.request and (interim := _INTERIM.match(bytes(self.buf))):
            self.buf.maybe_extract_at_most(interim.end())
        if len(self.buf) > HEAD_LIMIT:
            self.buf.maybe_extract_at_most(len(self.buf))
            self.buf += b"the response headers are longer than 256 KiB\r\n\r\n"
        return super().read_headers(event)

    @override
    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = BoundedChunkedReader()
        return super().read_body(event)


class BoundedChunkedReader(ChunkedReader):
    """A body in chunks, without the trailers behind it; what stands between chunks is bounded."""

    @override
    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        found = super().__call__(buf)
        if found is None and len(buf) > HEAD_LIMIT:
            raise h11.RemoteProtocolError("a chunk header or trailer is longer than 256 KiB")
        return h11.EndOfMessage() if isinstance(found, h11.EndOfMessage) else found


def tame(client: Layer) -> None:
    """Make an HTTP/1 client that waits for a reply, or for a request, a :class:`PooledHttp1Client`."""
    if type(client) is Http1Client and client.state == client.read_headers:
        client.__class__ = PooledHttp1Client
        client.state = client.read_headers
