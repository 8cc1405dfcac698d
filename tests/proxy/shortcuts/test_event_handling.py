"""mitmproxy waits for its connections wherever one has not taken what was written, or has an error to tell.

And the lock of a connection lets tasks in one after the other, as asyncio's does.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

from understudy.proxy.shortcuts import event_handling

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
        assert event_handling._has_taken_all(writer_of(loop, state)) == is_at_once(writer_of(loop, state))

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
        await event_handling.drain_writers(handler)

    async def own(handler: ConnectionHandler) -> None:
        asked.append(handler)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_handling, "_drain_writers", own)
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
        await event_handling.drain_writers(handler)
        writer.write(bytes(20_000_000))
        waiting = asyncio.ensure_future(event_handling.drain_writers(handler))
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
    leave = event_handling.install()
    event_handling.install()()
    assert ConnectionHandler.drain_writers is event_handling.drain_writers
    leave()
    assert ConnectionHandler.drain_writers is before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConnectionHandler, "drain_writers", another := lambda _: None)
        event_handling.install()()
        assert vars(ConnectionHandler)["drain_writers"] is another


steps = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "cancel", "pass"]), st.integers(0, 3)), min_size=1, max_size=14
)


def play(kind: type[asyncio.Lock], script: list[tuple[str, int]], *, eager: bool) -> list[object]:
    """Tasks that enter and leave, and are cancelled; returns who was in when."""
    seen: list[object] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory if eager else None)
        lock, leaving = kind(), [asyncio.Event() for _ in range(4)]
        tasks: list[asyncio.Task[None] | None] = [None] * 4

        async def hold(number: int) -> None:
            try:
                async with lock:
                    seen.append((number, "is in"))
                    await leaving[number].wait()
                    seen.append((number, "goes"))
            except asyncio.CancelledError:
                seen.append((number, "cancelled"))

        for what, number in script:
            task = tasks[number]
            if what == "enter" and (task is None or task.done()):
                leaving[number].clear()
                tasks[number] = loop.create_task(hold(number))
            elif what == "leave":
                leaving[number].set()
            elif what == "cancel" and task is not None:
                task.cancel()
            else:
                await asyncio.sleep(0)
            seen.append((what, number, lock.locked(), bool(lock._waiters)))
        for each in tasks:
            if each is not None:
                each.cancel()
        await asyncio.gather(*[each for each in tasks if each is not None], return_exceptions=True)
        seen.append(lock.locked())

    asyncio.run(run())
    return seen


@given(steps, st.booleans())
@example([("enter", 0), ("enter", 1), ("leave", 0), ("enter", 2), ("pass", 0), ("pass", 0)], True)
@example([("enter", 0), ("enter", 1), ("leave", 0), ("pass", 0), ("enter", 2), ("pass", 0)], False)
@example([("enter", 0), ("enter", 1), ("pass", 0), ("leave", 0), ("cancel", 1), ("enter", 2), ("pass", 0)], False)
def test_tasks_are_let_in_as_by_asyncio(script: list[tuple[str, int]], eager: bool) -> None:
    """Whoever waits, leaves or is cancelled: the same order, the same states."""
    assert play(event_handling.Lock, script, eager=eager) == play(asyncio.Lock, script, eager=eager)


@pytest.mark.parametrize("kind", [asyncio.Lock, event_handling.Lock])
def test_a_lock_that_is_given_back_twice_is_an_error(kind: type[asyncio.Lock]) -> None:
    async def run() -> None:
        async with (lock := kind()):
            lock.release()

    with pytest.raises(RuntimeError, match="not acquired"):
        asyncio.run(run())


def test_a_connection_gets_one_while_its_own_is_not_in_use() -> None:
    """One that is held, or of another kind, stays."""

    async def run() -> None:
        handler: Any = SimpleNamespace(_server_event_lock=asyncio.Lock())
        async with handler._server_event_lock as _:
            held = handler._server_event_lock
            event_handling.put_lock(handler)
            assert handler._server_event_lock is held
        event_handling.put_lock(handler)
        assert type(handler._server_event_lock) is event_handling.Lock
        other = handler._server_event_lock = object()
        event_handling.put_lock(handler)
        assert handler._server_event_lock is other

    asyncio.run(run())
