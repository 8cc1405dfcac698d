"""How HTTP/1 is read: what has no bounds is refused."""

from __future__ import annotations

import pytest
from mitmproxy import options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.test import tflow

from understudy.proxy.upstream_connection import FIELD_LIMIT, HEAD_LIMIT, read_request_head

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"


class Reading(Http1Server):
    """A tool's connection, read as it is while the addon is installed."""

    read_headers = read_request_head


def read(*pieces: bytes) -> list[commands.Command]:
    """What is done when these pieces come in one after the other."""
    client = tflow.tclient_conn()
    server = Reading(Context(client, options.Options()))
    done: list[commands.Command] = []
    for event in (events.Start(), *(events.DataReceived(client, piece) for piece in pieces)):
        done += server.handle_event(event)
    return done


def is_refused(done: list[commands.Command]) -> bool:
    """Whether it was answered with 431, and the connection closed; else it was read as a request."""
    sent = b"".join(command.data for command in done if isinstance(command, commands.SendData))
    closed = any(isinstance(command, commands.CloseConnection) for command in done)
    received = any(isinstance(command, ReceiveHttp) for command in done)
    assert sent.startswith(b"HTTP/1.1 431 ") is closed
    assert not (closed and received)
    return closed


@pytest.mark.parametrize("piece", [1 << 20, 4096, 1000])
def test_h02_a_head_has_a_largest_number_of_fields(piece: int) -> None:
    """H02: that many are read, one more is not, however they come in; a body may have as many lines as it likes."""
    for fields, refused in ((FIELD_LIMIT - 2, False), (FIELD_LIMIT + 1, True)):
        whole = HEAD + b"x: 123456\r\n" * fields + b"content-length: 90000\r\n\r\n" + b"\n" * 9000
        done = read(*(whole[at : at + piece] for at in range(0, len(whole), piece)))
        assert is_refused(done) is refused, fields


def test_h02_a_head_has_a_largest_size() -> None:
    """H02: one that never ends is not collected for ever."""
    piece = b"x" * 65536
    before = HEAD_LIMIT // len(piece) - 1
    assert read(HEAD + b"x: ", *[piece] * before) == []
    assert is_refused(read(HEAD + b"x: ", *[piece] * (before + 1)))
    assert not is_refused(read(HEAD + b"x: " + piece * before + b"\r\ncontent-length: 900000\r\n\r\n" + piece * 9))
