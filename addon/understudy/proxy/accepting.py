"""Which of several workers accepts the next connection: one that has the fewest.

All workers accept from one listening socket, and every one is woken when a connection comes. Left to the kernel, the
same worker is mostly the first on a quiet machine, so that it gets all the connections, and keeps them when the load
comes. So each worker writes down how many connections it has, where the others can read it, and leaves the next one to
a worker with fewer; if none has taken it after a moment, because that worker is busy or hangs, the first to look does.
Nothing is handed over, so nothing is lost with a worker.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import select
import socket
import tempfile
from asyncio.trsock import TransportSocket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from understudy.proxy.descriptors import USED_UP

LOADS = "UNDERSTUDY_LOADS"
"""The environment variable with the descriptor of the file in which workers count their connections."""
PLACE = "UNDERSTUDY_LOADS_PLACE"
"""The environment variable with the worker's own place in it."""
PLACES = 1024
NOT_TAKING = 0xFFFFFFFF
"""What stands at the place of a worker that accepts nothing, or of none."""
LEFT_TO_OTHERS = 0.005
"""Seconds for which a connection is left to a worker with fewer."""
NEXT_TRY = 1.0
"""Seconds without accepting after the file descriptors were used up, as asyncio does it."""

type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LoadBoard:
    """How many connections each worker has: a small file in the memory of all of them. Each writes its own place only.

    A place is four bytes, and written at once, so that it needs no lock; one that is read too late costs no more than a
    connection at the second best worker.
    """

    def __init__(self, descriptor: int) -> None:
        """Look into the file behind a descriptor, which may be closed then. Raises OSError and ValueError."""
        self._map = mmap.mmap(descriptor, 4 * PLACES)
        self._loads = memoryview(self._map).cast("I")

    @classmethod
    def create(cls) -> tuple[int, LoadBoard]:
        """A new one in which no worker takes connections, and its descriptor."""
        with tempfile.TemporaryFile() as file:
            file.write(NOT_TAKING.to_bytes(4, "little") * PLACES)
            file.flush()
            descriptor = os.dup(file.fileno())
        return descriptor, cls(descriptor)

    def tell(self, place: int, load: int) -> None:
        """The worker at this place has so many connections, or NOT_TAKING."""
        self._loads[place] = load

    def is_least(self, load: int) -> bool:
        """Whether no worker that takes connections has fewer."""
        return load <= min(self._loads)

    def fewer(self, load: int) -> dict[int, int]:
        """The places of those that have fewer, with how many."""
        return {place: each for place, each in enumerate(self._loads) if each < load}

    def close(self) -> None:
        """Let go of the file."""
        self._loads.release()
        self._map.close()


class Turn:
    """One worker's place on the board; without a board the connection is always its own."""

    def __init__(self, board: LoadBoard | None = None, place: int = 0) -> None:
        self._board, self._place = board, place
        self.load = 0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Turn:
        """The place that this process was given. Raises ValueError when the variables name none."""
        if LOADS not in environ:
            return cls()
        place = int(environ[PLACE])
        if not 0 <= place < PLACES:
            raise ValueError(f"{PLACE}={place} is no place")
        try:
            return cls(LoadBoard(int(environ[LOADS])), place)
        except OSError as error:
            raise ValueError(f"{LOADS}={environ[LOADS]} is no file that can be read ({error.strerror})") from None

    @property
    def is_ours(self) -> bool:
        """Whether the next connection is for this worker."""
        return self._board is None or self._board.is_least(self.load)

    def others(self) -> dict[int, int]:
        """Whose the next connection is where it is not ours: places, with how many each has."""
        return self._board.fewer(self.load) if self._board is not None else {}

    def begin(self) -> None:
        """The worker takes connections from now on."""
        self._tell()

    def opened(self) -> None:
        """It has one more."""
        self.load += 1
        self._tell()

    def closed(self) -> None:
        """It has one fewer."""
        self.load -= 1
        self._tell()

    def end(self) -> None:
        """It takes no more."""
        if self._board is not None:
            self._board.tell(self._place, NOT_TAKING)
            self._board = None

    def _tell(self) -> None:
        if self._board is not None:
            self._board.tell(self._place, self.load)


class SharedListener:
    """Accepts connections from a listening socket that other processes accept from as well.

    It has what mitmproxy uses of an ``asyncio.Server``. ``serve(reader, writer)`` is run for each connection. The
    socket is closed with it, as far as this process goes.
    """

    def __init__(self, listening: socket.socket, serve: Serve, turn: Turn) -> None:
        self.sockets: tuple[socket.socket, ...] = (listening,)
        self._listening, self._serve, self._turn = listening, serve, turn
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._was_left = False
        """Whether what comes now had its time to be taken by another worker."""
        self._others: dict[int, int] = {}
        """To whom the connection was left that came last, with how many each had."""
        self._waiting = select.poll()
        self._waiting.register(listening, select.POLLIN)
        self._begun: set[asyncio.Task[Any]] = set()
        listening.setblocking(False)
        turn.begin()
        self._loop.add_reader(listening, self._ready)

    def close(self) -> None:
        """Accept no more; what was accepted goes on."""
        if self.sockets:
            self.sockets = ()
            if self._later is not None:
                self._later.cancel()
            self._loop.remove_reader(self._listening)
            self._turn.end()
            self._listening.close()

    def _ready(self) -> None:
        if not self._turn.is_ours and not self._was_left:
            if not self._waiting.poll(0):
                return  # another worker was faster
            self._others = self._turn.others()
            self._pause(LEFT_TO_OTHERS)
            return
        self._was_left = False
        try:
            # One at a time: the next one is for whoever has the fewest then.
            accepted, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was faster, or the client is gone
        except OSError as error:
            if error.errno not in USED_UP:
                raise
            said = {
                "message": "socket.accept() out of system resource",
                "exception": error,
                "socket": TransportSocket(self._listening),
            }
            self._loop.call_exception_handler(said)
            self._pause(NEXT_TRY)
            return
        accepted.setblocking(False)
        self._turn.opened()
        begun = self._loop.create_task(self._connected(accepted))
        self._begun.add(begun)
        begun.add_done_callback(self._begun.discard)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._later = self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        left, self._others = self._others, {}
        # One of them has done nothing meanwhile. Had it taken the connection, the next one would be for it again.
        self._later, self._was_left = None, not left.items().isdisjoint(self._turn.others().items())
        self._loop.add_reader(self._listening, self._ready)

    async def _connected(self, accepted: socket.socket) -> None:
        """Serve one connection, and count it until its end."""
        reader = asyncio.StreamReader(loop=self._loop)

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._serve(reader, writer)
            finally:
                self._turn.closed()

        protocol = asyncio.StreamReaderProtocol(reader, served, loop=self._loop)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            accepted.close()
            self._turn.closed()
