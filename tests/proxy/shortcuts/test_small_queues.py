"""Queues that take memory only while something is in them: as a ``deque`` for those who use one."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from asyncio import selector_events
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy import layer

from understudy.proxy.shortcuts import small_queues
from understudy.proxy.shortcuts.small_queues import PLACES, Queue

USED = {"append", "appendleft", "clear", "extend", "popleft", "remove"}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "appendleft"]), st.integers(0, 9)),
        st.tuples(st.just("extend"), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.sampled_from(["popleft", "clear"]), st.none()),
    ),
    max_size=30,
)


@pytest.fixture
def installed() -> Any:
    leave = small_queues.install()
    yield leave
    leave()


@given(STEPS)
def test_a_queue_does_what_a_deque_does(steps: list[tuple[str, Any]]) -> None:
    """In whatever order its methods are called."""
    ours, theirs = Queue(), deque[int]()
    for name, value in steps:
        told = [outcome(getattr(each, name), value) for each in (ours, theirs)]
        assert told[0] == told[1], name
        assert (list(ours), len(ours), bool(ours)) == (list(theirs), len(theirs), bool(theirs))
        assert list(islice(ours, 2)) == list(theirs)[:2]
    assert list(Queue(theirs)) == list(theirs)
    assert repr(Queue(theirs)) == f"Queue({list(theirs)})"


def outcome(method: Callable[..., Any], value: Any) -> Any:
    """What a method returns, or the type of its error."""
    try:
        return method(value) if value is not None else method()
    except IndexError:
        return IndexError


def test_an_empty_queue_is_small() -> None:
    """Also after it was used: an empty ``deque`` has room for 64 items."""
    queue = Queue()
    queue.append(1)
    assert queue.popleft() == 1
    assert queue._items is None and not hasattr(queue, "__dict__")
    assert sys.getsizeof(queue) * 10 < sys.getsizeof(deque())


def test_what_is_made_now_is_small_and_afterwards_large_again(installed: Callable[[], None]) -> None:
    """For the whole process; a second time changes nothing."""
    assert made() == (Queue, list)
    small_queues.install()()
    assert made() == (Queue, list)
    installed()
    assert made() == (deque, deque)


def made() -> tuple[type, type]:
    """What a layer makes for events that come while it waits, and what asyncio makes for who waits for an event."""
    return type(vars(layer)["collections"].deque()), type(vars(asyncio.Event())["_waiters"])


@pytest.mark.parametrize(("module", "kind"), PLACES, ids=lambda each: each.__name__)
def test_the_modules_use_nothing_else(module: Any, kind: type) -> None:
    """Of ``collections`` they use ``deque`` only, and of that what a queue and a list have."""
    source = inspect.getsource(module)
    assert set(re.findall(r"(?<!from )\bcollections\.(\w+)", source)) == {"deque"}
    for queue in set(re.findall(r"self\.(\w+)(?:: [\w.]+)? = collections\.deque\(\)", source)):
        # asyncio.streams has a buffer of bytes of this name too.
        methods = set(re.findall(rf"self\.{queue}\.(\w+)\(", source)) if queue != "_buffer" else set()
        assert methods <= USED & set(dir(kind)), queue


def test_a_connection_writes_what_it_could_not_write_at_once(installed: Callable[[], None]) -> None:
    """Several megabytes to a peer that reads late: in order and whole."""
    pieces = [bytes([number]) * 300_000 for number in range(20)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert type(writer.transport._buffer) is Queue  # type: ignore[attr-defined]
        writer.writelines(pieces[:5])
        for piece in pieces[5:]:
            writer.write(piece)
        assert len(writer.transport._buffer) > 1  # type: ignore[attr-defined]
        await reader.read(1)
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"!")
            found = await reader.read(-1)
            writer.close()
            return found

    assert asyncio.run(main()) == b"".join(pieces)


def test_what_asyncio_asks_of_a_buffer() -> None:
    """A method that a queue does not have would be called while a slow peer reads."""
    source = inspect.getsource(selector_events)
    assert set(re.findall(r"self\._buffer\.(\w+)\(", source)) | set(re.findall(r"\bbuffer\.(\w+)\(", source)) <= USED
