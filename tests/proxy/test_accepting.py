"""Which of several workers accepts the next connection: one that has the fewest."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from understudy.proxy import accepting
from understudy.proxy.accepting import LOADS, NOT_TAKING, PLACE, LoadBoard, SharedListener, Turn


@pytest.fixture
def board() -> Iterator[LoadBoard]:
    descriptor, made = LoadBoard.create()
    os.close(descriptor)
    yield made
    made.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(64)
        yield made


class Worker:
    """A listener in this very process, which keeps what it accepts."""

    def __init__(self, listening: socket.socket, turn: Turn) -> None:
        self.turn = turn
        self.served: list[asyncio.StreamWriter] = []
        self.listener = SharedListener(socket.socket(fileno=os.dup(listening.fileno())), self.serve, turn)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet, and stay until the client goes."""
        self.served.append(writer)
        writer.write(b"hello")
        while not writer.is_closing() and await reader.read(1):
            pass
        writer.close()

    async def close(self) -> None:
        self.listener.close()
        await until(lambda: self.turn.load == 0)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def connect(listening: socket.socket) -> asyncio.StreamWriter:
    """A client's connection, once it was greeted."""
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    assert await reader.readexactly(5) == b"hello"
    return writer


@pytest.mark.parametrize("pause", [accepting.LEFT_TO_OTHERS, 0.0])
def test_connections_go_to_the_worker_with_the_fewest(
    board: LoadBoard, listening: socket.socket, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """One after the other, however long a worker looks away; and one that lost some gets the next ones."""
    monkeypatch.setattr(accepting, "LEFT_TO_OTHERS", pause)

    async def scene() -> None:
        one, two = Worker(listening, Turn(board, 0)), Worker(listening, Turn(board, 1))
        clients = [await connect(listening) for _ in range(8)]
        assert (one.turn.load, two.turn.load) == (4, 4)
        for writer in two.served[:3]:
            writer.close()
        await until(lambda: two.turn.load == 1)
        clients += [await connect(listening) for _ in range(3)]
        assert (one.turn.load, two.turn.load) == (4, 4)
        for client in clients:
            client.close()
        await one.close()
        await two.close()

    asyncio.run(scene())


def test_one_that_should_take_it_and_does_not_is_not_waited_for_long(
    board: LoadBoard, listening: socket.socket
) -> None:
    """A worker that hangs has the fewest: another takes the connection."""

    async def scene() -> None:
        board.tell(7, 0)  # it listens, and does nothing
        worker = Worker(listening, Turn(board, 0))
        clients = [await connect(listening) for _ in range(3)]
        assert worker.turn.load == 3
        for client in clients:
            client.close()
        await worker.close()

    asyncio.run(scene())


def test_one_that_ends_is_left_out(board: LoadBoard, listening: socket.socket) -> None:
    """Its connections go on, and the next ones are for the others at once."""

    async def scene() -> None:
        one, two = Worker(listening, Turn(board, 0)), Worker(listening, Turn(board, 1))
        clients = [await connect(listening) for _ in range(2)]
        two.listener.close()
        two.listener.close()  # twice is once
        assert two.listener.sockets == ()
        assert board.is_least(one.turn.load)
        assert not board.is_least(NOT_TAKING - 1)
        clients += [await connect(listening) for _ in range(3)]
        assert (one.turn.load, two.turn.load) == (4, 1)
        for client in clients:
            client.close()
        await one.close()
        await two.close()
        assert board.is_least(NOT_TAKING), "nobody takes connections"

    asyncio.run(scene())


def test_a_worker_without_others_takes_everything(listening: socket.socket) -> None:
    async def scene() -> None:
        worker = Worker(listening, Turn.of({}))
        client = await connect(listening)
        assert worker.turn.load == 1
        client.close()
        await worker.close()

    asyncio.run(scene())


def test_h10_descriptors_used_up(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """H10: the loop's handler is told as asyncio would tell it, and the listener goes on."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        told: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        monkeypatch.setattr("understudy.proxy.accepting.NEXT_TRY", 0.001)
        worker = Worker(listening, Turn())
        accept, failed = socket.socket.accept, False

        def once(self: socket.socket) -> Any:
            nonlocal failed
            if self is worker.listener._listening and not failed:
                failed = True
                raise OSError(errno.EMFILE, "Too many open files")
            return accept(self)

        monkeypatch.setattr(socket.socket, "accept", once)
        client = await connect(listening)
        (context,) = told
        assert context["exception"].errno == errno.EMFILE
        assert context["socket"]._sock is worker.listener._listening, "what `Descriptors` refuses a connection with"
        client.close()
        await worker.close()

    asyncio.run(scene())


def test_the_place_comes_from_the_environment(board: LoadBoard) -> None:
    descriptor, made = LoadBoard.create()
    try:
        turn = Turn.of({LOADS: str(descriptor), PLACE: "3"})
        turn.begin()
        turn.opened()
        assert made.is_least(1)
        assert not made.is_least(2)
        turn.end()
        assert made.is_least(NOT_TAKING)
    finally:
        os.close(descriptor)
        made.close()
    with pytest.raises(ValueError, match="is no place"):
        Turn.of({LOADS: "1", PLACE: "4096"})
    with pytest.raises(ValueError, match="is no file that can be read"):
        Turn.of({LOADS: "999", PLACE: "1"})
