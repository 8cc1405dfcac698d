"""A released event stream from socket to socket: chunks that came whole go to the tool as they came.

Between an HTTP/1.1 upstream and an HTTP/1.1 tool a chunk of a released stream is otherwise taken apart by one layer,
handed on by a second and put together again by a third. Here what the upstream sent is looked at once. When it is made
of whole chunks, and the layers have nothing left of what came before, it is sent on at once, and its content goes to
the tail. All else takes the way through the layers: a part of a chunk, the last chunk, anything unusual. So they see
every end, and none of them has to know of this. Back-pressure is mitmproxy's: it reads on when what was written has
been taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from h11._readers import ChunkedReader
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server

from understudy.replies import Tail

_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
_ATTRIBUTE = "_understudy_splice"


class Splice:
    """The two ends of one released stream below an ``HttpLayer``. ``stream_id``: the one towards the upstream."""

    def __init__(self, client: Http1Client, stream: HttpStream, stream_id: int, tail: Tail) -> None:
        self.client, self.stream, self.stream_id, self.tail = client, stream, stream_id, tail
        self.state = stream.server_state

    def chunks(self, layer: HttpLayer, event: events.DataReceived) -> Sequence[bytes]:
        """The contents of the chunks that came; none when the layers have to look at them."""
        client, stream = self.client, self.stream
        reader = client.body_reader
        if (
            event.connection is not client.conn
            or layer.streams.get(self.stream_id) is not stream
            or stream.server_state != self.state
            or stream._paused is not None
            or client._paused is not None
            or not isinstance(reader, ChunkedReader)
            or reader._bytes_in_chunk
            or reader._bytes_to_discard
            or reader._reading_trailer
            or len(client.buf)
        ):
            return ()
        return whole_chunks(event.data)


def whole_chunks(data: bytes) -> Sequence[bytes]:
    """The contents of the chunks that this is made of; none when it is anything else, or has the last chunk."""
    found, at, length = [], 0, len(data)
    while at < length:
        size = _SIZE.match(data, at)
        if size is None:
            return ()
        begin = size.end()
        end = begin + int(size[1], 16)
        if end == begin or data[end : end + 2] != b"\r\n":
            return ()
        found.append(data[begin:end])
        at = end + 2
    return found


def begin(layer: HttpLayer, server: Connection | None, stream: HttpStream, stream_id: int, tail: Tail) -> None:
    """From now on the chunks of this stream go straight to the tool, where both ends speak HTTP/1.1 in chunks."""
    above = layer.connections.get(layer.context.client)
    below = layer.connections.get(server) if server is not None else None
    way = below.context.layers[-1] if below is not None else None
    response = stream.flow.response
    if (
        isinstance(above, Http1Server)
        and isinstance(way, Http1Client)
        and response is not None
        and response.headers.get("transfer-encoding", "").strip().lower() == "chunked"
        and stream.flow.request.method != "HEAD"
    ):
        setattr(layer, _ATTRIBUTE, Splice(way, stream, stream_id, tail))


def end(layer: HttpLayer) -> None:
    """The stream is over."""
    vars(layer).pop(_ATTRIBUTE, None)


def pass_on(layer: HttpLayer, event: events.Event) -> CommandGenerator[None] | None:
    """What to do with an event that needs nothing but to be passed on; None for all others."""
    splice: Splice | None = vars(layer).get(_ATTRIBUTE)
    if splice is None or type(event) is not events.DataReceived or not (found := splice.chunks(layer, event)):
        return None
    for each in found:
        splice.tail.append(each)
    return _send(layer.context.client, event.data)


def _send(client: Connection, data: bytes) -> CommandGenerator[None]:
    yield commands.SendData(client, data)
