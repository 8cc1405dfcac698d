"""mitmproxy waits for its connections wherever one has not taken what was written, or has an error to tell."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

from understudy.proxy import draining

states = st.fixed_dictionaries({name: st.booleans() for name in ("paused", "lost", "failed", "closing", "unread")})


class Transport:
    """As much of a transport as a writer asks."""

    def __init__(self, *, closing: bool) -> None:
        self.closing = closing

    def is_closing(self) -> bool:
        """Whether it is being closed."""
        return self.closing

    def close(self) -> None:
        """A writer that is not referred to any more closes it."""
        self.closing = True


def writer_of(loop: asyncio.AbstractEventLoop, state: dict[str, bool]) -> asyncio.StreamWriter:
    """A writer of asyncio's own in this state."""
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport: Any = Transport(closing=state["closing"])
    if state["paused"]:
        protocol.pause_writing()
    if state["failed"]:
        reader.set_exception(OSError("reset"))
    if state["lost"]:
        protocol._connection_lost = True  # type: ignore[attr-defined]
    return asyncio.StreamWriter(transport, protocol, None if state["unread"] else reader, loop)


def is_at_once(writer: asyncio.StreamWriter) -> bool:
    """Whether waiting for it ends without an error and without a pause."""
    waiting = writer.drain()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    except OSError:
        return False
    waiting.close()
    return False


@given(states)
def test_a_writer_has_taken_all_where_waiting_for_it_ends_at_once(state: dict[str, bool]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert draining._has_taken_all(writer_of(loop, state)) == is_at_once(writer_of(loop, state))

    asyncio.run(run())


@given(st.lists(st.sampled_from(["taken", "paused", "other kind", "none"]), max_size=3), st.booleans())
def test_mitmproxy_is_asked_wherever_one_has_to_wait(kinds: list[str], locked: bool) -> None:
    """And where it waits already: who comes later then waits as well."""
    asked: list[object] = []

    async def run() -> None:
        loop, lock = asyncio.get_running_loop(), asyncio.Lock()
        usual = dict.fromkeys(("paused", "lost", "failed", "closing", "unread"), False)
        made: dict[str, Any] = {
            "taken": writer_of(loop, usual),
            "paused": writer_of(loop, usual | {"paused": True}),
            "other kind": object(),
            "none": None,
        }
        handler: Any = SimpleNamespace(
            _drain_lock=lock,
            transports={number: ConnectionIO(writer=made[kind]) for number, kind in enumerate(kinds)},
        )
        if locked:
            await lock.acquire()
        await draining.drain_writers(handler)

    async def own(handler: ConnectionHandler) -> None:
        asked.append(handler)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draining, "_drain_writers", own)
        asyncio.run(run())
    assert bool(asked) == (locked or bool({"paused", "other kind"} & set(kinds)))


def test_a_slow_reader_holds_up_the_next_read() -> None:
    """Over real sockets: what mitmproxy wrote and the other side does not take is waited for."""

    async def run() -> None:
        taken = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await taken.wait()
            while await reader.read(1_000_000):
                pass
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        handler: Any = SimpleNamespace(_drain_lock=asyncio.Lock(), transports={0: ConnectionIO(None, reader, writer)})
        await draining.drain_writers(handler)
        writer.write(bytes(20_000_000))
        waiting = asyncio.ensure_future(draining.drain_writers(handler))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        taken.set()
        await waiting
        writer.close()
        await writer.wait_closed()
        server.close()

    asyncio.run(run())


def test_it_is_taken_out_without_a_trace() -> None:
    """Also when it was put in twice; what another program has put in its place is left alone."""
    before = ConnectionHandler.drain_writers
    leave = draining.install()
    draining.install()()
    assert ConnectionHandler.drain_writers is draining.drain_writers
    leave()
    assert ConnectionHandler.drain_writers is before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConnectionHandler, "drain_writers", another := lambda _: None)
        draining.install()()
        assert vars(ConnectionHandler)["drain_writers"] is another
