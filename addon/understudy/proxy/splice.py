"""A released event stream from socket to socket: chunks that came whole go to the tool as they came.

Between an HTTP/1.1 upstream and an HTTP/1.1 tool a chunk of a released stream is otherwise taken apart by one layer,
handed on by a second and put together again by a third. Here what the upstream sent is looked at once. The chunks that
stand whole in it are sent on at once, and their content goes to the tail. All else takes the way through the layers:
the rest of a chunk that has begun, a part of the next one, the last chunk, anything unusual. So they see every end, and
none of them has to know of this. Back-pressure is mitmproxy's: it reads on when what was written has been taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from h11._readers import ChunkedReader
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server

from understudy.codec.masking import StreamMask
from understudy.replies import Tail

_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
_ATTRIBUTE = "_understudy_splice"
type Handle = Callable[[HttpLayer, events.Event], CommandGenerator[None]]


class Splice:
    """The two ends of one released stream below an ``HttpLayer``. ``stream_id``: the one towards the upstream."""

    def __init__(
        self, client: Http1Client, stream: HttpStream, stream_id: int, tail: Tail, mask: StreamMask | None
    ) -> None:
        self.client, self.stream, self.stream_id, self.tail, self.mask = client, stream, stream_id, tail, mask
        self.state = stream.server_state

    def is_of(self, layer: HttpLayer, event: events.DataReceived) -> bool:
        """Whether this comes from the upstream of the stream, while it is released and nothing waits."""
        return (
            event.connection is self.client.conn
            and layer.streams.get(self.stream_id) is self.stream
            and self.stream.server_state == self.state
            and self.stream._paused is None
            and self.client._paused is None
        )

    def missing(self) -> int:
        """Bytes until the next chunk begins, which are for the layers; -1: not known yet."""
        reader = self.client.body_reader
        if not isinstance(reader, ChunkedReader) or reader._reading_trailer or len(self.client.buf):
            return -1
        return reader._bytes_in_chunk + 2 if reader._bytes_in_chunk else len(reader._bytes_to_discard)


def whole_chunks(data: bytes, at: int = 0) -> tuple[Sequence[bytes], int]:
    """The contents of the chunks that stand whole from this place on, without the last chunk, and where they end."""
    found = []
    while size := _SIZE.match(data, at):
        begin = size.end()
        end = begin + int(size[1], 16)
        if end == begin or data[end : end + 2] != b"\r\n":
            break
        found.append(data[begin:end])
        at = end + 2
    return found, at


def begin(
    layer: HttpLayer,
    server: Connection | None,
    stream: HttpStream,
    stream_id: int,
    tail: Tail,
    mask: StreamMask | None = None,
) -> None:
    """From now on the chunks of this stream go straight to the tool, where both ends speak HTTP/1.1 in chunks.

    Those that ``mask`` has something to do with take the way through the layers, where the stream asks it.
    """
    above = layer.connections.get(layer.context.client)
    below = layer.connections.get(server) if server is not None else None
    way = below.context.layers[-1] if below is not None else None
    response = stream.flow.response
    if (
        isinstance(above, Http1Server)
        and above.stream_id == stream.stream_id  # not a call of a socket
        and isinstance(way, Http1Client)
        and response is not None
        and response.headers.get("transfer-encoding", "").strip().lower() == "chunked"
        and stream.flow.request.method != "HEAD"
    ):
        setattr(layer, _ATTRIBUTE, Splice(way, stream, stream_id, tail, mask))


def end(layer: HttpLayer) -> None:
    """The stream is over."""
    if hasattr(layer, _ATTRIBUTE):
        delattr(layer, _ATTRIBUTE)


def pass_on(layer: HttpLayer, event: events.Event, handle: Handle) -> CommandGenerator[None] | None:
    """What to do with an event that holds whole chunks; None for all others. ``handle``: the way through the layers."""
    splice: Splice | None = getattr(layer, _ATTRIBUTE, None)
    if splice is None or type(event) is not events.DataReceived or not splice.is_of(layer, event):
        return None
    begun = splice.missing()
    if begun < 0:
        return None
    found, end = whole_chunks(event.data, begun)
    if not found:
        return None
    return _pass_on(splice, layer, event, handle, found, begun, end)


def _pass_on(
    splice: Splice,
    layer: HttpLayer,
    event: events.DataReceived,
    handle: Handle,
    found: Sequence[bytes],
    begun: int,
    end: int,
) -> CommandGenerator[None]:
    """The rest of a chunk to the layers, whole chunks to the tool, and the beginning of the next one to the layers."""
    data = event.data
    if begun:
        yield from handle(layer, events.DataReceived(event.connection, data[:begun]))
        if not splice.is_of(layer, event) or splice.missing():
            yield from handle(layer, events.DataReceived(event.connection, data[begun:]))
            return
    if splice.mask is not None and not splice.mask.passes(found[0] if len(found) == 1 else b"".join(found)):
        yield from handle(layer, events.DataReceived(event.connection, data[begun:]) if begun else event)
        return
    for each in found:
        splice.tail.append(each)
    yield from _send(layer.context.client, data[begun:end] if begun or end < len(data) else data)
    if end < len(data):
        yield from handle(layer, events.DataReceived(event.connection, data[end:]))


def _send(client: Connection, data: bytes) -> CommandGenerator[None]:
    yield commands.SendData(client, data)
