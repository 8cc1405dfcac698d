"""What is sent over TLS in a row is one record, in mitmproxy's order, and without a trace afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import override

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import options
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.tls import ServerTLSLayer, TLSLayer
from mitmproxy.test import tflow
from OpenSSL import SSL

from understudy.proxy.shortcuts import tls_records

MOST = tls_records.LARGEST


class Ended(Exception):
    """Of the layer behind TLS."""


class Behind(Layer):
    """Sends and does what a test wants."""

    wanted: Iterable[commands.Command | Exception] = ()

    @override
    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        for each in self.wanted:
            if isinstance(each, Exception):
                raise each
            yield each


class Plain:
    """In the place of OpenSSL: what is encrypted at once comes out at once."""

    def __init__(self) -> None:
        self._out: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        """Encrypt."""
        self._out.append(b"<" + data + b">")

    def bio_read(self, _size: int) -> bytes:
        """What has been encrypted. Raises WantReadError when there is no more."""
        if not self._out:
            raise SSL.WantReadError
        return self._out.pop(0)


class Room:
    """A connection over TLS that is open, and another one."""

    def __init__(self) -> None:
        context = Context(tflow.tclient_conn(), options.Options())
        self.conn, self.other = tflow.tserver_conn(), Server(address=("other.test", 80))
        self.layer = ServerTLSLayer(context, self.conn)
        self.layer.tls = Plain()  # type: ignore[assignment]
        self.layer.tunnel_state = tunnel.TunnelState.OPEN
        self.behind = self.layer.child_layer = Behind(context)

    def does(self, *wanted: commands.Command | Exception) -> list[commands.Command | Exception]:
        """What comes out when the layer behind wants this."""
        self.behind.wanted = wanted
        done: list[commands.Command | Exception] = []
        try:
            done.extend(self.layer.event_to_child(events.Wakeup(commands.RequestWakeup(0))))
        except Ended as error:
            done.append(error)
        return done

    def sends(self, data: bytes) -> commands.SendData:
        """Data over this connection."""
        return commands.SendData(self.conn, data)


@pytest.fixture(autouse=True)
def in_place() -> Iterator[None]:
    leave = tls_records.install()
    yield
    leave()


def written(done: list[commands.Command | Exception]) -> list[object]:
    """The data of what was sent, and everything else."""
    return [each.data if isinstance(each, commands.SendData) else each for each in done]


def test_a_head_and_its_body_are_one_record() -> None:
    """In one call, one after the other."""
    room = Room()
    assert written(room.does(room.sends(b"head"), room.sends(b"body"), room.sends(b"end"))) == [b"<headbodyend>"]


def test_nothing_overtakes_what_is_sent() -> None:
    """A log line, data over another connection, and an error come in their order."""
    room, log, error = Room(), commands.Log("between"), Ended()
    elsewhere = commands.SendData(room.other, b"elsewhere")
    wanted = (room.sends(b"a"), room.sends(b"b"), log, room.sends(b"c"), elsewhere, room.sends(b"d"), error)
    assert written(room.does(*wanted)) == [b"<ab>", log, b"<c>", b"elsewhere", b"<d>", error]


def test_what_is_sent_before_a_close_is_encrypted_before() -> None:
    """The close is the last."""
    room = Room()
    close = commands.CloseConnection(room.conn)
    assert written(room.does(room.sends(b"a"), room.sends(b"b"), close)) == [b"<ab>", close]


def test_no_more_than_a_record_is_joined() -> None:
    """A large body stands for itself."""
    room = Room()
    done = written(room.does(room.sends(b"h"), room.sends(b"x" * (MOST - 1)), room.sends(b"y" * MOST), room.sends(b"")))
    assert done == [b"<h" + b"x" * (MOST - 1) + b">", b"<" + b"y" * MOST + b">"]


@given(st.lists(st.one_of(st.binary(max_size=3), st.none(), st.just(b"z" * MOST), st.just("other"))))
def test_the_bytes_and_their_order_are_mitmproxys(parts: list[bytes | str | None]) -> None:
    """Whatever comes in between."""

    def outcome(room: Room) -> list[object]:
        log = commands.Log("x")
        wanted: list[commands.Command] = []
        for part in parts:
            if part is None:
                wanted.append(log)
            elif isinstance(part, str):
                wanted.append(commands.SendData(room.other, b"elsewhere"))
            else:
                wanted.append(room.sends(part))
        joined: list[object] = []
        for each in room.does(*wanted):
            if not isinstance(each, commands.SendData):
                joined.append("log")
            elif each.connection is room.other:
                joined.append("other")
            elif joined and isinstance(joined[-1], bytes):
                joined[-1] += each.data[1:-1]
            else:
                joined.append(each.data[1:-1])
        return [each for each in joined if each != b""]

    ours = outcome(Room())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TLSLayer, "event_to_child", tunnel.TunnelLayer.event_to_child)
        assert ours == outcome(Room())


def test_during_the_handshake_mitmproxy_does_it_itself() -> None:
    """What comes before its end waits for it."""
    room = Room()
    room.layer.tunnel_state = tunnel.TunnelState.ESTABLISHING
    assert room.does(room.sends(b"a")) == []
    assert len(room.layer._event_queue) == 1


def test_it_is_taken_out_without_a_trace() -> None:
    """Also when it was put in twice; what another has put in its place is left alone."""
    assert TLSLayer.event_to_child is tls_records.event_to_child
    tls_records.install()()
    assert TLSLayer.event_to_child is tls_records.event_to_child
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TLSLayer, "event_to_child", of_another := lambda *_: iter(()))
        tls_records.install()()
        assert vars(TLSLayer)["event_to_child"] is of_another
    del TLSLayer.event_to_child
    leave = tls_records.install()
    assert vars(TLSLayer)["event_to_child"] is tls_records.event_to_child
    leave()
    assert "event_to_child" not in vars(TLSLayer)
    assert TLSLayer.event_to_child is tunnel.TunnelLayer.event_to_child
