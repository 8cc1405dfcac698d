"""The lock of a connection lets tasks in one after the other, as asyncio's does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from understudy.proxy import event_lock

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
    assert play(event_lock.Lock, script, eager=eager) == play(asyncio.Lock, script, eager=eager)


@pytest.mark.parametrize("kind", [asyncio.Lock, event_lock.Lock])
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
            event_lock.put(handler)
            assert handler._server_event_lock is held
        event_lock.put(handler)
        assert type(handler._server_event_lock) is event_lock.Lock
        other = handler._server_event_lock = object()
        event_lock.put(handler)
        assert handler._server_event_lock is other

    asyncio.run(run())
