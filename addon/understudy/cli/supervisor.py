"""The process above the workers of ``understudy serve``: starts them, starts them again, and ends them in good order.

It holds the listening sockets, so a worker that dies takes no connection with it that was not its own, and one that is
replaced ends only when its successor serves. It never looks at a call.

SIGTERM or SIGINT: no new connections; what is under way gets its time; a second signal ends it at once. SIGHUP: the
workers are replaced one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from understudy.control.workers import Group
from understudy.proxy.accepting import LOADS, NOT_TAKING, PLACE, PLACES, LoadBoard

START = 60.0
"""Seconds that a worker has to begin to serve."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that has died is started again."""
STEADY = 60.0
"""Seconds after which a worker counts as one that works: the next pause is the first again."""
KILL = 10.0
"""Seconds from a request to end to the end."""


class State(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"
    WAITING = "waiting"  # it has died, and is started again in a moment
    ENDED = "ended"


@dataclass
class Worker:
    """One worker process."""

    number: int
    process: asyncio.subprocess.Process
    lifeline: socket.socket
    started: float
    place: int = 0
    """Its place on the board of loads."""
    state: State = State.STARTING
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Worker({self.number}, {self.process.pid}, {self.state})"


@dataclass
class Slot:
    """A worker's place: the one that is there now, and how often it had to be started again."""

    number: int
    listening: socket.socket
    current: Worker | None = None
    restarts: int = 0
    state: State = State.STARTING
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who puts another worker there."""


class Supervisor:
    """Keeps workers running. ``command`` starts one; ``environ`` is its environment, but for what tells it its place.

    ``listening``: the socket of each worker. ``grace``: seconds that calls under way have when all of it ends;
    ``drain``: the same for a worker that is replaced. ``say(text)``: a line for the log.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        listening: Sequence[socket.socket],
        *,
        grace: float,
        drain: float,
        say: Callable[[str], None],
    ) -> None:
        self.command = command
        self.environ = environ
        self.grace = grace
        self.drain = drain
        self.slots = [Slot(number, each) for number, each in enumerate(listening, 1)]
        self._say = say
        self._group: Group | None = None
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        self._rolling: asyncio.Task[None] | None = None
        self._old: dict[int, Worker] = {}
        """Those that end while their successor serves, by process id."""
        self._ever_ready = False
        self._board: tuple[int, LoadBoard] | None = None
        """Where workers on one socket count their connections, with its descriptor."""
        self._places = set(range(PLACES))
        """Those that no worker has."""

    def pids(self) -> list[int]:
        """The process ids of the workers."""
        current = [slot.current.process.pid for slot in self.slots if slot.current is not None]
        return [*current, *self._old]

    def is_healthy(self) -> bool:
        """Whether calls are served."""
        return not self._ending.is_set() and any(slot.state is State.SERVING for slot in self.slots)

    async def run(self) -> int:
        """Serve until a signal ends it; returns the exit status: 0, or 1 when no worker ever served."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_roll)
        self._group = Group(self.environ, os.getpid())
        if len({slot.listening.fileno() for slot in self.slots}) < len(self.slots):
            self._board = LoadBoard.create()
        try:
            await asyncio.gather(*(self._keep(slot) for slot in self.slots))
        finally:
            if self._rolling is not None:
                self._rolling.cancel()
                await asyncio.gather(self._rolling, return_exceptions=True)
            await asyncio.gather(*(self._end(worker, 0.0) for worker in list(self._old.values())))
            self._group.close()
            if self._board is not None:
                os.close(self._board[0])
                self._board[1].close()
                self._board = None
        return 0 if self._ever_ready else 1

    # -- what signals ask ------------------------------------------------------------------------------------------

    def _asked_to_end(self) -> None:
        if self._ending.is_set():
            self._at_once.set()
            return
        self._say(f"ending: calls under way have {self.grace:g} s; a second signal ends them at once")
        self._ending.set()

    def _asked_to_roll(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.get_running_loop().create_task(self._roll(), name="rolling restart")

    async def _roll(self) -> None:
        self._say("replacing the workers one after the other")
        for slot in self.slots:
            if self._ending.is_set() or not await self._replace(slot):
                self._say("the workers are not replaced any further")
                return
        self._say("all workers are replaced")

    async def _replace(self, slot: Slot) -> bool:
        """Start a successor, and let the worker end when that serves."""
        after = await self._start(slot)
        if not await self._is_ready(after):
            self._say(f"the new worker {slot.number} does not serve, and the old one stays")
            await self._end(after, 0.0)
            return False
        async with slot.turn:
            before, slot.current, slot.state = slot.current, after, State.SERVING
        if before is not None:
            self._old[before.process.pid] = before
            before.state = State.ENDING
            self._tell()
            await self._end(before, self.drain)
            self._old.pop(before.process.pid, None)
        self._tell()
        return True

    # -- one worker --------------------------------------------------------------------------------------------------

    async def _keep(self, slot: Slot) -> None:
        """Keep one place taken until everything ends."""
        pause = FIRST_PAUSE
        while not self._ending.is_set():
            async with slot.turn:
                worker = slot.current
                if worker is None or worker.process.returncode is not None:
                    slot.state = State.STARTING
                    worker = slot.current = await self._start(slot)
            self._tell()
            if await self._is_ready(worker):
                self._ever_ready = True
                slot.state = State.SERVING
                self._say(f"worker {slot.number} serves (process {worker.process.pid})")
            while (worker := slot.current) is not None:
                await self._first(worker.process.wait(), self._ending.wait())
                if self._ending.is_set():
                    break
                if slot.current is worker:
                    await self._gone(worker)
                    break
            if self._ending.is_set():
                break
            assert worker is not None
            if not self._ever_ready:
                return  # it cannot start at all, and has said why
            if time.monotonic() - worker.started > STEADY:
                pause = FIRST_PAUSE
            slot.restarts += 1
            slot.state = State.WAITING
            self._say(f"worker {slot.number} ended ({_status(worker)}), and starts again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            pause = min(LONGEST_PAUSE, pause * 2)
        if slot.current is not None:
            await self._end(slot.current, self.grace, hurry=True)
        slot.state = State.ENDED

    async def _start(self, slot: Slot) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fd, line = slot.listening.fileno(), theirs.fileno()
        place = {
            "UNDERSTUDY_WORKER": str(slot.number),
            "UNDERSTUDY_SOCKET": str(fd),
            "UNDERSTUDY_LIFELINE": str(line),
            "PYTHONUNBUFFERED": "1",
        }
        passed, number = [fd, line], 0
        if self._board is not None:
            number = min(self._places)
            self._places.discard(number)  # at once: others begin at the same time
            place |= {LOADS: str(self._board[0]), PLACE: str(number)}
            passed.append(self._board[0])
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**self.environ, **place},
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C in a terminal is for this process, which ends them in order
            )
        worker = Worker(slot.number, process, ours, time.monotonic(), number)
        loop = asyncio.get_running_loop()
        worker.tasks = [
            loop.create_task(self._forward(worker), name=f"log of worker {slot.number}"),
            loop.create_task(self._await_ready(worker), name=f"start of worker {slot.number}"),
        ]
        return worker

    async def _await_ready(self, worker: Worker) -> None:
        with contextlib.suppress(OSError):
            if await asyncio.get_running_loop().sock_recv(worker.lifeline, 64):
                worker.state = State.SERVING
                worker.ready.set()

    async def _is_ready(self, worker: Worker) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START):
                await self._first(worker.ready.wait(), worker.process.wait(), self._ending.wait())
        return worker.ready.is_set()

    async def _forward(self, worker: Worker) -> None:
        """Its output is ours, each line with its number."""
        assert worker.process.stdout is not None
        mark, rest = f"[{worker.number}] ".encode(), b""
        while data := await worker.process.stdout.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > 1 << 16:
                lines, rest = [*lines, rest], b""
            if lines:
                _write(b"".join(mark + line + b"\n" for line in lines))
        if rest:
            _write(mark + rest + b"\n")

    async def _end(self, worker: Worker, seconds: float, *, hurry: bool = False) -> None:
        """Have a worker end: politely, then firmly, then by force."""
        worker.state = State.ENDING
        if seconds > 0:
            _signal(worker, signal.SIGUSR2 if hurry else signal.SIGUSR1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._first(worker.process.wait(), self._at_once.wait())
                    if not hurry and worker.process.returncode is None:
                        await worker.process.wait()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if worker.process.returncode is None:
                _signal(worker, number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KILL):
                        await worker.process.wait()
        await self._gone(worker)

    async def _gone(self, worker: Worker) -> None:
        if worker.state is not State.ENDED and self._board is not None:
            self._board[1].tell(worker.place, NOT_TAKING)
            self._places.add(worker.place)
        worker.state = State.ENDED
        worker.tasks[1].cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL):
                await asyncio.gather(*worker.tasks, return_exceptions=True)
        worker.lifeline.close()

    async def _first(self, *waits: Coroutine[Any, Any, object]) -> None:
        """Until the first of these is over."""
        tasks = [asyncio.ensure_future(each) for each in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self) -> None:
        if self._group is not None:
            self._group.tell(self.pids())


def _signal(worker: Worker, number: signal.Signals) -> None:
    if worker.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(number)


def _status(worker: Worker) -> str:
    code = worker.process.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"status {code}"


def _write(data: bytes) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
