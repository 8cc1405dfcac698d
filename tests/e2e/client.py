"""Raw clients for the tests: what a tool would send, byte for byte, and exactly what came back, a cut included.

Written on sockets, h11 and h2 instead of an HTTP library, which would retry, decode and hide how a reply ended.
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

Headers = Sequence[tuple[str, str]]

TIMEOUT = 60.0
CUT = (ConnectionError, ssl.SSLError, h11.RemoteProtocolError, h2.exceptions.ProtocolError)


class Via(Enum):
    """How the proxy is reached."""

    CONNECT = "connect"  # an HTTP proxy: CONNECT for https, absolute form for http
    SOCKS5 = "socks5"
    DIRECT = "direct"  # the proxy stands in the place of the server: reverse mode


class End(Enum):
    """How a reply ended."""

    CLEAN = "clean"  # as its framing promises
    CUT = "cut"  # closed or reset before that


class ProxyRefusedError(ConnectionError):
    """The proxy refused to connect; ``status`` is its answer to CONNECT, or the SOCKS reply code."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered {status}")
        self.status = status


@dataclass
class Response:
    """A reply. ``chunks`` are the parts of the body as they came in, ``body`` is all of it, still encoded."""

    status: int
    headers: list[tuple[str, str]]
    http_version: str
    chunks: list[bytes] = field(default_factory=list)
    end: End | None = None

    @property
    def body(self) -> bytes:
        """The body as far as it has been read."""
        return b"".join(self.chunks)

    @property
    def json(self) -> object:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """The first value of a header, "" without one."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Stream:
    """One request under way. Iterate for the parts of the body; ``response`` has the head as soon as it is there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._response: Response | None = None
        self._taken = 0
        self.end: End | None = None

    @property
    def response(self) -> Response:
        """The reply so far; waits for its head. Raises ConnectionError when the connection ends before that."""
        while self._response is None and self.end is None:
            self._connection.pump()
        if self._response is None:
            raise ConnectionError("cut before the head of a reply")
        return self._response

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self.next_chunk()) is not None:
            yield chunk

    def next_chunk(self) -> bytes | None:
        """The next part of the body as it came in; None at its end, which ``end`` then tells."""
        response = self.response
        while self._taken == len(response.chunks) and self.end is None:
            self._connection.pump()
        if self._taken == len(response.chunks):
            return None
        self._taken += 1
        return response.chunks[self._taken - 1]

    def read_until(self, text: bytes) -> bytes:
        """Read until the body contains ``text``; return the body so far. Raises ConnectionError when it ends first."""
        while text not in self.response.body:
            if self.end is not None:
                raise ConnectionError(f"the reply ended ({self.end.value}) with {self.response.body!r}")
            self._connection.pump()
        return self.response.body

    def finish(self) -> Response:
        """Read to the end, clean or cut."""
        for _ in self:
            pass
        return self.response

    # Called by the connection.

    def began(self, status: int, headers: Headers, http_version: str) -> None:
        """The head came in."""
        self._response = Response(status, list(headers), http_version)

    def got(self, data: bytes) -> None:
        """A part of the body came in."""
        assert self._response is not None
        if data:
            self._response.chunks.append(data)

    def ended(self, end: End) -> None:
        """The reply is over."""
        if self.end is None:
            self.end = end
            if self._response is not None:
                self._response.end = end


class Connection:
    """A connection to the server of ``url`` by way of the proxy at ``port`` on 127.0.0.1; None: without a proxy.

    ``ca``: what the server's certificate is verified against. ``http2``: offer h2 only. ``h2_second``: offer h2 behind
    HTTP/1.1, of which HTTP/1.1 has to be chosen. ``timeout``: seconds for each read. Close it, or use ``with``; that is
    how a tool goes away.
    """

    def __init__(
        self,
        port: int | None,
        url: str,
        *,
        ca: Path | None = None,
        http2: bool = False,
        h2_second: bool = False,
        via: Via = Via.CONNECT,
        proxy_headers: Headers = (),
        timeout: float = TIMEOUT,
    ) -> None:
        self._url = urlsplit(url)
        host, target_port = _address(self._url)
        address = ("127.0.0.1", port) if port is not None else (host, target_port)
        self._absolute_form = port is not None and via is Via.CONNECT and self._url.scheme == "http"
        self._socket: socket.socket = socket.create_connection(address, timeout)
        self._streams: dict[int, Stream] = {}
        self._is_gathering = False
        try:
            if port is not None and via is Via.CONNECT and not self._absolute_form:
                _connect(self._socket, f"{host}:{target_port}", proxy_headers)
            elif port is not None and via is Via.SOCKS5:
                _socks5(self._socket, host, target_port)
            if self._url.scheme == "https":
                context = _tls(ca, ("http/1.1", "h2") if h2_second else ("h2" if http2 else "http/1.1",))
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
            self._http1 = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
            self._http2: h2.connection.H2Connection | None = None
            if http2:
                config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
                self._http2 = h2.connection.H2Connection(config)
                self._http2.initiate_connection()
                self._flush()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self._socket.close()

    @property
    def is_reusable(self) -> bool:
        """Whether another request can be sent: every reply has come to its end, and nothing unasked has come since."""
        if any(stream.end is not End.CLEAN for stream in self._streams.values()):
            return False
        if self._http2 is None and self._http1.our_state is h11.DONE and self._http1.their_state is h11.DONE:
            return not select.select([self._socket], [], [], 0)[0]
        return self._http2 is not None and not select.select([self._socket], [], [], 0)[0]

    @property
    def certificate(self) -> dict[str, object]:
        """The certificate that was presented, as ``ssl.SSLSocket.getpeercert`` has it; empty without TLS."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return {}
        return dict(self._socket.getpeercert() or {})

    def send(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Stream:
        """Send a request and do not wait. HTTP/1.1: the reply before must have been read to its end."""
        stream = Stream(self)
        has_length = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers)
        length = [] if has_length or not (body or method in ("POST", "PUT", "PATCH")) else [str(len(body))]
        extra = [("content-length", value) for value in length]
        if self._http2 is not None:
            authority = next((value for name, value in headers if name.lower() == "host"), self._url.netloc)
            pseudo = [(":method", method), (":scheme", self._url.scheme), (":authority", authority), (":path", path)]
            rest = [(name.lower(), value) for name, value in [*headers, *extra] if name.lower() != "host"]
            stream_id = self._http2.get_next_available_stream_id()
            self._http2.send_headers(stream_id, [*pseudo, *rest], end_stream=not body)
            self._streams[stream_id] = stream
            self._send_body(stream_id, body)
            return stream
        if self._http1.our_state is h11.DONE:
            self._http1.start_next_cycle()
        host = [] if any(name.lower() == "host" for name, _ in headers) else [("host", self._url.netloc)]
        target = f"{self._url.scheme}://{self._url.netloc}{path}" if self._absolute_form else path
        self._streams = {0: stream}
        data = self._http1.send(h11.Request(method=method, target=target, headers=[*host, *headers, *extra])) or b""
        if body:
            data += self._http1.send(h11.Data(data=body)) or b""
        data += self._http1.send(h11.EndOfMessage()) or b""
        self._socket.sendall(data)
        return stream

    def send_raw(self, data: bytes) -> Stream:
        """HTTP/1.1 only: send these very bytes in the place of a request."""
        assert self._http2 is None
        stream = Stream(self)
        self._streams = {0: stream}
        if self._http1.our_state is h11.DONE:
            self._http1.start_next_cycle()
        # The parser has to think that it sent a request, to be ready for a reply.
        self._http1.send(h11.Request(method="POST", target="/", headers=[("host", "-")]))
        self._http1.send(h11.EndOfMessage())
        self._socket.sendall(data)
        return stream

    def send_rest(self, data: bytes) -> None:
        """HTTP/1.1 only: send more of what ``send_raw`` began."""
        self._socket.sendall(data)

    def receive_raw(self) -> bytes:
        """HTTP/1.1 only: what comes in next, as it is; b"" at the end of the connection."""
        return self._socket.recv(65536)

    def request(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Response:
        """Send a request and read its reply to the end."""
        return self.send(method, path, headers, body).finish()

    def cancel(self, stream: Stream) -> None:
        """Give one stream up: a reset on HTTP/2, a close on HTTP/1.1."""
        if self._http2 is None:
            self.close()
        else:
            stream_id = next(number for number, one in self._streams.items() if one is stream)
            self._http2.reset_stream(stream_id, 8)  # CANCEL
            self._flush()
        stream.ended(End.CUT)

    @contextlib.contextmanager
    def in_one_packet(self) -> Iterator[None]:
        """HTTP/2 only: what is sent in here leaves as one, at the end."""
        self._is_gathering = True
        try:
            yield
        finally:
            self._is_gathering = False
            self._flush()

    def say_goodbye(self) -> None:
        """HTTP/2 only: announce the end of the connection (GOAWAY)."""
        assert self._http2 is not None
        self._http2.close_connection()
        self._flush()

    def finish_sending(self) -> None:
        """End the connection, but leave what is on its way time to arrive, which a closed socket does not."""
        self._socket.shutdown(socket.SHUT_WR)

    def pump(self) -> None:
        """Read once from the socket and hand out what came. Raises TimeoutError."""
        try:
            if self._http2 is not None:
                self._pump_http2(self._http2)
            else:
                self._pump_http1()
        except CUT:
            self._cut_all()

    def _pump_http1(self) -> None:
        stream = self._streams[0]
        event = self._http1.next_event()
        while event is h11.NEED_DATA:
            self._http1.receive_data(self._socket.recv(65536))
            event = self._http1.next_event()
        match event:
            case h11.Response():
                headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers.raw_items()]
                stream.began(event.status_code, headers, "HTTP/" + event.http_version.decode())
            case h11.Data():
                stream.got(bytes(event.data))
            case h11.EndOfMessage():
                stream.ended(End.CLEAN)
            case h11.ConnectionClosed():
                stream.ended(End.CUT)

    def _pump_http2(self, protocol: h2.connection.H2Connection) -> None:
        data = self._socket.recv(65536)
        if not data:
            self._cut_all()
            return
        for event in protocol.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    headers = [(str(name), str(value)) for name, value in event.headers or []]
                    status = int(dict(headers)[":status"])
                    rest = [header for header in headers if not header[0].startswith(":")]
                    self._streams[event.stream_id].began(status, rest, "HTTP/2")
                case h2.events.DataReceived():
                    self._streams[event.stream_id].got(event.data or b"")
                    protocol.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                case h2.events.StreamEnded():
                    self._streams[event.stream_id].ended(End.CLEAN)
                case h2.events.StreamReset():
                    self._streams[event.stream_id].ended(End.CUT)
                case h2.events.ConnectionTerminated():
                    self._cut_all()
        self._flush()

    def _send_body(self, stream_id: int, body: bytes) -> None:
        protocol = self._http2
        assert protocol is not None
        while body:
            size = min(protocol.local_flow_control_window(stream_id), protocol.max_outbound_frame_size, len(body))
            if size <= 0:
                self._flush()
                self.pump()
                continue
            protocol.send_data(stream_id, body[:size], end_stream=size == len(body))
            body = body[size:]
        self._flush()

    def _flush(self) -> None:
        if self._http2 is not None and not self._is_gathering and (data := self._http2.data_to_send()):
            with contextlib.suppress(ConnectionError):
                self._socket.sendall(data)

    def _cut_all(self) -> None:
        for stream in self._streams.values():
            stream.ended(End.CUT)


def request(
    port: int | None,
    url: str,
    method: str = "POST",
    headers: Headers = (),
    body: bytes | dict[str, object] = b"",
    *,
    ca: Path | None = None,
    http2: bool = False,
    via: Via = Via.CONNECT,
) -> Response:
    """One request on a connection of its own; a dict as ``body`` is sent as JSON."""
    if isinstance(body, dict):
        body, headers = json.dumps(body).encode(), [("content-type", "application/json"), *headers]
    with Connection(port, url, ca=ca, http2=http2, via=via) as connection:
        return connection.request(method, path_of(url), headers, body)


def path_of(url: str) -> str:
    """Path and query of a URL."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@functools.cache
def _tls(ca: Path | None, protocols: tuple[str, ...]) -> ssl.SSLContext:
    # Kept, as reading the certificates costs more than a handshake. A session's CA files do not change.
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(list(protocols))
    return context


def _address(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "", url.port or {"https": 443, "http": 80}[url.scheme]


def _connect(sock: socket.socket, target: str, headers: Headers) -> None:
    lines = [f"CONNECT {target} HTTP/1.1\r\n", f"Host: {target}\r\n", *(f"{k}: {v}\r\n" for k, v in headers), "\r\n"]
    sock.sendall("".join(lines).encode("latin-1"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)  # not a byte further: what follows belongs to TLS
        if not byte:
            raise ConnectionError("the proxy closed the connection instead of answering CONNECT")
        head += byte
    status = int(head.split()[1])
    if status != 200:
        raise ProxyRefusedError(status)


def _socks5(sock: socket.socket, host: str, port: int) -> None:
    """RFC 1928, without authentication and with a domain name."""
    sock.sendall(b"\x05\x01\x00")
    if _exactly(sock, 2) != b"\x05\x00":
        raise ConnectionError("the proxy wants a SOCKS authentication")
    sock.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
    _, code, _, kind = _exactly(sock, 4)
    _exactly(sock, {1: 4, 4: 16}.get(kind, 0) or _exactly(sock, 1)[0])
    _exactly(sock, 2)
    if code != 0:
        raise ProxyRefusedError(code)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionError("closed in the middle of a SOCKS answer")
        data += part
    return data
