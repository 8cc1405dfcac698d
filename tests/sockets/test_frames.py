"""The frames of a WebSocket: what is accepted, how messages come in, and where they are bounded."""

from __future__ import annotations

import json
import zlib

import pytest
import wsproto.events as ws
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import Extension, PerMessageDeflate

from understudy.sockets.frames import Closed, Frames, NotAHandshake, Received, Reply, handshake

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LIMIT = 4 * 1024 * 1024


class Client:
    """The other end. ``taken``: the answer to its offer of compression."""

    def __init__(self, taken: str = "") -> None:
        extensions: list[Extension] = []
        if taken:
            deflate = PerMessageDeflate()
            deflate.finalize(taken)
            extensions.append(deflate)
        self.connection = Connection(ConnectionType.CLIENT, extensions)

    def text(self, text: str, *, finished: bool = True) -> bytes:
        """The frame of a message, or of a part of one."""
        return self.connection.send(ws.TextMessage(text, message_finished=finished))

    def read(self, data: bytes) -> list[ws.Event]:
        """What arrives."""
        self.connection.receive_data(data)
        return list(self.connection.events())


def pair(offer: str = "permessage-deflate; client_max_window_bits", limit: int = LIMIT) -> tuple[Client, Frames]:
    """A client and its server after the handshake."""
    headers, compressed = handshake("GET", "13", KEY, offer)
    return Client(headers.get("sec-websocket-extensions", "")), Frames(limit, compressed=compressed)


def test_the_handshake_is_answered_as_in_the_rfc() -> None:
    """RFC 6455, section 1.3 has this key and its answer."""
    headers, compressed = handshake("GET", "13", KEY, "")
    assert headers == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }
    assert not compressed


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("x-webkit-deflate-frame, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; unknown=1", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("bbf-usp-protocol", None),
    ],
)
def test_compression_is_taken_where_its_promises_can_be_kept(offer: str, answer: str | None) -> None:
    headers, compressed = handshake("GET", "13", KEY, offer)
    assert headers.get("sec-websocket-extensions") == answer
    assert compressed is (answer is not None)


@pytest.mark.parametrize(
    ("method", "version", "key"),
    [("POST", "13", KEY), ("GET", "8", KEY), ("GET", "13", ""), ("GET", "13", "c2hvcnQ="), ("GET", "13", "\xff" * 24)],
)
def test_what_is_no_handshake_is_not_accepted(method: str, version: str, key: str) -> None:
    with pytest.raises(NotAHandshake):
        handshake(method, version, key, "")


@pytest.mark.parametrize("offer", ["", "permessage-deflate"])
def test_messages_come_in_whole_and_go_out_plain(offer: str) -> None:
    """In one frame or in several, compressed or not; ours are never compressed."""
    client, frames = pair(offer)
    long = json.dumps({"input": "grün " * 10_000})
    data = client.text("one") + client.text(long[:100], finished=False) + client.text(long[100:])
    assert list(frames.receive(data)) == [Received(b"one"), Received(long.encode())]
    sent = frames.text(b'{"type": "response.created"}')
    assert b'{"type": "response.created"}' in sent
    [message] = client.read(sent)
    assert isinstance(message, ws.TextMessage)
    assert message.data == '{"type": "response.created"}'


@given(st.lists(st.text(max_size=200), min_size=1, max_size=8), st.data(), st.sampled_from(["", "permessage-deflate"]))
def test_frames_may_be_split_anywhere(texts: list[str], data: st.DataObject, offer: str) -> None:
    client, frames = pair(offer)
    sent = b"".join(client.text(text) for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    found = [event for piece in pieces for event in frames.receive(piece)]
    assert found == [Received(text.encode()) for text in texts]


def test_a_ping_is_answered_also_in_the_middle_of_a_message() -> None:
    client, frames = pair()
    data = client.text("on", finished=False) + client.connection.send(ws.Ping(b"there?")) + client.text("e")
    answer, message = frames.receive(data)
    assert message == Received(b"one")
    assert isinstance(answer, Reply)
    [pong] = client.read(answer.data)
    assert isinstance(pong, ws.Pong)
    assert pong.payload == b"there?"


def test_a_close_is_answered_with_its_code() -> None:
    client, frames = pair()
    [closed] = frames.receive(client.connection.send(ws.CloseConnection(1000, "done")))
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason, closed.by_client) == (1000, "done", True)
    [echo] = client.read(closed.data)
    assert isinstance(echo, ws.CloseConnection)
    assert echo.code == 1000
    assert not frames.is_open
    assert frames.text(b"late") == frames.close(1000, "") == b""
    assert list(frames.receive(b"\x81\x00")) == []


def ended(frames: Frames, data: bytes) -> Closed:
    """How a connection ends on these bytes."""
    *_, closed = frames.receive(data)
    assert isinstance(closed, Closed)
    assert not closed.by_client
    assert closed.data
    return closed


def test_e07_a_message_that_is_too_large_ends_the_connection() -> None:
    """E07: refused at the bound, in one frame or spread over many; law 10."""
    client, frames = pair("", limit=1000)
    assert ended(frames, client.text("x" * 1001)).code == 1009
    client, frames = pair("", limit=1000)
    data = b"".join(client.text("x" * 100, finished=False) for _ in range(11))
    assert ended(frames, data).code == 1009
    client, frames = pair("", limit=1000)
    assert list(frames.receive(client.text("x" * 1000))) == [Received(b"x" * 1000)]


def test_e07_a_compressed_message_cannot_grow_without_bounds() -> None:
    """E07: neither beyond the limit of a message nor beyond a hundred times what came in; law 10."""
    client, frames = pair(limit=100_000)
    assert ended(frames, client.text("x" * 200_000)).code == 1009
    client, frames = pair(limit=1 << 30)
    bomb = client.text("x" * (64 << 20))
    assert len(bomb) < 100_000
    assert ended(frames, bomb).code == 1009


def test_a_compressed_message_may_end_its_stream() -> None:
    """RFC 7692, section 7.2.3.4: a last block is allowed, and the next message begins anew."""
    _, frames = pair()
    for text in (b"one", b"two"):
        compressor = zlib.compressobj(wbits=-15)
        payload = compressor.compress(text) + compressor.flush() + b"\0"
        assert list(frames.receive(bytes([0xC1, 0x80 | len(payload), 0, 0, 0, 0]) + payload)) == [Received(text)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x81\0\0\0\0x", 1003),  # binary
        (b"\x81\x01x", 1002),  # not masked
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that does not exist
        (b"\xf1\x81\0\0\0\0x", 1002),  # a reserved bit
        (b"\xc9\x80\0\0\0\0", 1002),  # a compressed ping
        (b"\xc1\x81\0\0\0\0\xff", 1007),  # nothing that was compressed
        (b"\xc1\x94\0\0\0\0" + b"\x03\0" * 10, 1007),  # one end of the stream after another
        (b"\x81\x81\0\0\0\0\xff", 1007),  # no UTF-8
        (b"\x88\x81\0\0\0\0x", 1002),  # a close with half a code
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(data: bytes, code: int) -> None:
    _, frames = pair()
    assert ended(frames, data).code == code


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    """H02: whatever a client sends is read or ends the connection."""
    _, frames = pair(limit=100)
    for _ in range(3):
        list(frames.receive(data))
