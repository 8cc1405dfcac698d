"""Both ends of HTTP/2 for a :class:`Core`: a tool and an upstream, whose packets a test puts together."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events

from tests.support.layer import Core

BODY = b'{"model": "gpt-x", "messages": []}'


class Tool(H2Connection):
    """A tool on HTTP/2; what it sends is collected until ``flush``."""

    def __init__(self, core: Core) -> None:
        super().__init__(H2Configuration(client_side=True))
        self.core = core
        core.client.alpn = b"h2"
        core.come_in()
        self.initiate_connection()
        self.flush()

    def ask(self, body: bytes = BODY, path: str = "/v1/chat/completions", *, trailers: bool = False) -> int:
        """Send a request; returns its stream."""
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", "api.openai.com"), (":path", path)]
        stream_id = self.get_next_available_stream_id()
        self.send_headers(stream_id, [*pseudo, ("authorization", "Bearer tool")], end_stream=not body)
        if body:
            self.send_data(stream_id, body, end_stream=not trailers)
        if trailers:
            self.send_headers(stream_id, [("x-sum", "1")], end_stream=True)
        return stream_id

    def flush(self) -> None:
        """Everything so far, in one packet."""
        self.core.feed(events.DataReceived(self.core.client, self.data_to_send()))

    def close(self) -> None:
        """The connection ends."""
        self.core.client.state = ConnectionState.CAN_WRITE
        self.core.feed(events.ConnectionClosed(self.core.client))


class Vendor(H2Connection):
    """An upstream on HTTP/2 whose connection is opened. ``limit``: how many requests it takes at once."""

    def __init__(self, core: Core, limit: int | None = None) -> None:
        super().__init__(H2Configuration(client_side=False))
        self.core, opening = core, core.opening.pop(0)
        assert isinstance(opening.connection, Server)
        assert opening.connection.address is not None
        self.server, self._host = opening.connection, opening.connection.address[0]
        self._heard = len(core.sent.get(self._host, b""))
        self.server.state, self.server.alpn = ConnectionState.OPEN, b"h2"
        core.feed(events.OpenConnectionCompleted(opening, None))
        self.initiate_connection()
        if limit is not None:
            self.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
        self.flush()

    def whole_requests(self) -> list[int]:
        """The streams whose requests have come to their end since this was asked last."""
        sent = self.core.sent.get(self._host, b"")
        data, self._heard = sent[self._heard :], len(sent)
        return [each.stream_id for each in self.receive_data(data) if isinstance(each, StreamEnded)]

    def flush(self, more: bytes = b"") -> None:
        """Everything so far, in one packet."""
        self.core.receive(self.server, self.data_to_send() + more)

    def answer(self, body: bytes, *, stream: bool, stream_id: int = 1) -> None:
        """A whole reply."""
        said = ("content-type", "text/event-stream") if stream else ("content-length", str(len(body)))
        self.send_headers(stream_id, [(":status", "200"), said])
        self.send_data(stream_id, body, end_stream=True)


def reset_frame(stream_id: int) -> bytes:
    """RST_STREAM with NO_ERROR. The library sends none for a stream that both sides have ended."""
    return RstStreamFrame(stream_id, error_code=ErrorCodes.NO_ERROR).serialize()


def goodbye_frame(last_stream_id: int, error_code: int = ErrorCodes.NO_ERROR) -> bytes:
    """GOAWAY. The library sends nothing more behind one of its own."""
    return GoAwayFrame(0, last_stream_id=last_stream_id, error_code=error_code).serialize()
