"""How the end of a request is read on HTTP/2, so that a tool can take its call back at once.

A tool may send a call and its reset, or the end of its connection, in one packet. The HTTP/2 library reads all of it
before mitmproxy hears of the first frame. When mitmproxy then comes to the end of the request, the library has closed
the stream, mitmproxy forgets it, and no layer is told of what follows: the call would go on for nobody, and its flow
would never end. Here a stream is remembered until its reset or the end of its connection, as one is whose request came
in an earlier packet.

Only what a tool sends is read so. An upstream may end its reply and reset the stream in one packet (RFC 9113, section
8.1): that reply is whole, and the reset says nothing of it.
"""

from __future__ import annotations

from h2.events import Event, StreamEnded
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http._http2 import Http2Server

_handle_h2_event = Http2Server.handle_h2_event


def read_request_event(self: Http2Server, event: Event) -> CommandGenerator[bool]:
    """mitmproxy's ``Http2Server.handle_h2_event``, which forgets a stream that was reset in the packet of its end."""
    if isinstance(event, StreamEnded) and event.stream_id in self.streams:
        return _end_request(self, event)
    return _handle_h2_event(self, event)


def _end_request(server: Http2Server, event: StreamEnded) -> CommandGenerator[bool]:
    state = server.streams[event.stream_id]
    is_done = yield from _handle_h2_event(server, event)
    server.streams[event.stream_id] = state
    return is_done
