"""The server's end of a WebSocket: the handshake's answer, messages in, frames out (RFC 6455, RFC 7692).

What a peer sends is bounded: the bytes of a message, before and after decompression, and how far a compressed one may
grow. Our own frames are never compressed, which RFC 7692 allows message by message.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from typing import override

import wsproto.events as ws
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

VERSION = "13"
DEFLATE = "permessage-deflate"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FREE_GROWTH = 1024 * 1024
"""Bytes that a compressed message may become whatever it was."""
MOST_GROWTH = 100
"""Above that, the most bytes that one byte may become: JSON is told in a tenth of its length, not in a hundredth."""
MOST_ENDS = 8
"""Last blocks in one piece of a message: what follows each is copied."""
_TAIL = b"\x00\x00\xff\xff"


class NotAHandshake(ValueError):
    """The request is no opening handshake that could be accepted."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message of text."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes that the protocol itself wants sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """It is over: ``data`` is to be sent, then the connection is closed."""

    code: int
    reason: str
    by_client: bool
    data: bytes = b""


type FrameEvent = Received | Reply | Closed


def handshake(method: str, version: str, key: str, extensions: str) -> tuple[dict[str, str], bool]:
    """The headers that accept an opening handshake, and whether its messages may be compressed.

    ``key`` and ``extensions`` are its headers ``Sec-WebSocket-Key`` and ``Sec-WebSocket-Extensions``. Raises
    NotAHandshake.
    """
    if method != "GET" or version.strip() != VERSION:
        raise NotAHandshake("the request is no opening handshake of version 13")
    try:
        nonce = b64decode(key.strip().encode("latin-1", "replace"), validate=True)
    except NotBase64:
        nonce = b""
    if len(nonce) != 16:
        raise NotAHandshake("Sec-WebSocket-Key is not 16 bytes in Base64")
    accept = b64encode(sha1(key.strip().encode() + _GUID).digest()).decode()
    headers = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept}
    taken = _taken(extensions)
    if taken:
        headers["sec-websocket-extensions"] = taken
    return headers, bool(taken)


def _taken(extensions: str) -> str:
    """The answer to an offer of compression; "" where none is taken."""
    for offer in extensions.split(",")[:16]:
        name, *parameters = (part.strip().lower() for part in offer.split(";"))
        names = [parameter.partition("=")[0].strip() for parameter in parameters]
        known = {"client_max_window_bits", "server_no_context_takeover", "client_no_context_takeover"}
        # A server that compresses nothing keeps any promise, but one that is asked for has to be made.
        if name != DEFLATE or not set(names) <= known or len(set(names)) < len(names):
            continue
        return "; ".join([DEFLATE, *(each for each in names if each != "client_max_window_bits")])
    return ""


class Inbound(Extension):
    """permessage-deflate of what comes in, within bounds; what goes out stays as it is."""

    name = DEFLATE

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decompressor = zlib.decompressobj(-15)  # a larger window than was used does no harm
        self._compressed: bool | None = None  # of the message that is coming in; None between two
        self._is_data = False  # whether the current frame is a part of it
        self._taken = self._given = 0

    @override
    def enabled(self) -> bool:
        return True

    @override
    def offer(self) -> bool | str:
        return False

    @override
    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._is_data = not opcode.iscontrol()
        if rsv.rsv1 and (not self._is_data or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if self._is_data and self._compressed is None:
            self._compressed, self._taken, self._given = rsv.rsv1, 0, 0
        return RsvBits(True, False, False)

    @override
    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        return self._decoded(data) if self._is_data and self._compressed else data

    @override
    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        if not fin or not self._is_data:
            return None
        compressed, self._compressed = self._compressed, None
        return self._decoded(_TAIL) if compressed else None

    @override
    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        return rsv, data

    def _decoded(self, data: bytes) -> bytes | CloseReason:
        self._taken += len(data)
        room = min(self._limit, FREE_GROWTH + MOST_GROWTH * self._taken) - self._given
        decoded = b""
        for _ in range(MOST_ENDS):
            try:
                decoded += self._decompressor.decompress(data, room + 1 - len(decoded))
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if len(decoded) > room or self._decompressor.unconsumed_tail:
                return CloseReason.MESSAGE_TOO_BIG
            data = self._decompressor.unused_data
            if self._decompressor.eof:  # a last block is allowed (RFC 7692, section 7.2.3.4): what follows begins anew
                self._decompressor = zlib.decompressobj(-15)
            if not data:
                break
        else:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._given += len(decoded)
        return decoded


class Frames:
    """One connection after its handshake. ``limit``: the most bytes of a message; ``compressed``: see `handshake`."""

    def __init__(self, limit: int, *, compressed: bool) -> None:
        self._limit = limit
        self._connection = Connection(ConnectionType.SERVER, [Inbound(limit)] if compressed else [])
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self._connection.state is ConnectionState.OPEN

    def receive(self, data: bytes) -> Iterator[FrameEvent]:
        """Take the next bytes of the client; nothing comes after a :class:`Closed`. Never raises."""
        if not self.is_open:
            return
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case ws.TextMessage():
                    piece = event.data.encode("utf-8", "surrogatepass")
                    self._size += len(piece)
                    if self._size > self._limit:
                        yield self._ended(CloseReason.MESSAGE_TOO_BIG, f"a message is larger than {self._limit} bytes")
                        return
                    self._pieces.append(piece)
                    if event.message_finished:
                        text = b"".join(self._pieces)
                        self._pieces, self._size = [], 0
                        yield Received(text)
                case ws.Ping():
                    yield Reply(self._connection.send(event.response()))
                case ws.CloseConnection():
                    # The client's own, or what its frames have done wrong: wsproto tells the two alike.
                    by_client = self._connection.state is ConnectionState.REMOTE_CLOSING
                    if by_client:
                        yield Closed(event.code, event.reason or "", True, self._connection.send(event.response()))
                    else:
                        yield self._ended(CloseReason(event.code), event.reason or "")
                    return
                case ws.BytesMessage():
                    yield self._ended(CloseReason.UNSUPPORTED_DATA, "messages are JSON text")
                    return
                case _:
                    pass
            if not self.is_open:
                return

    def text(self, text: bytes) -> bytes:
        """The frame of a message of text; b"" once no message can be sent any more."""
        return self._connection.send(ws.TextMessage(text.decode("utf-8", "replace"))) if self.is_open else b""

    def close(self, code: int, reason: str) -> bytes:
        """The frame that ends the connection; b"" where one was sent already."""
        if not self.is_open:
            return b""
        return self._connection.send(ws.CloseConnection(code, reason))

    def _ended(self, code: CloseReason, reason: str) -> Closed:
        return Closed(code, reason, False, self.close(code, reason))
