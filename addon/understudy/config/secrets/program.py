"""Runs a program for its output: bounded in time and in bytes, without a shell, and never in the event loop's way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import override

LARGEST_OUTPUT = 64 * 1024
"""Bytes; more is no secret."""
LINGER = 1.0
"""Seconds for the rest of the output of a program that has ended while a child of it keeps the pipe open."""


class ProgramError(Exception):
    """The program was of no use. The text goes on where its name ends, and holds nothing of what it printed."""


async def output_of(argv: Sequence[str], folder: Path, timeout: float, hidden: Collection[str] = frozenset()) -> bytes:
    """What a program prints when it is run in this folder, with no input and no terminal; its errors are thrown away.

    ``hidden``: the variables of this process that the program does not get to see. Raises ProgramError when it cannot
    be started, takes longer than ``timeout`` seconds, prints too much or ends with another status than 0. It is ended
    with all its children when it is late, or when the task is cancelled.
    """
    starting = asyncio.create_task(_start(argv, folder, hidden))
    try:
        # Cancelled half-way through a start, asyncio would not know what to end, and wait for the program's children.
        transport, run = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            _end((await starting)[0])
        raise
    except OSError as error:
        # Without the text of the error: it repeats what stands in the pool file.
        raise ProgramError(f"could not be started ({error.strerror})") from None
    try:
        async with asyncio.timeout(timeout):
            await run.ended
        status = transport.get_returncode()
        if status == 0:
            # A child that stays behind, such as an agent, may hold the pipe open for as long as it lives.
            await asyncio.wait({run.closed}, timeout=LINGER)
    except TimeoutError:
        raise ProgramError(f"took longer than {timeout:g} s and was ended") from None
    finally:
        _end(transport)
    if len(run.output) > LARGEST_OUTPUT:
        raise ProgramError(f"printed more than {LARGEST_OUTPUT} bytes")
    if status:
        how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise ProgramError(f"{how}: run it by hand to see what it says")
    return bytes(run.output)


class _Run(asyncio.SubprocessProtocol):
    """Collects the output. ``ended``: the program has, or has printed too much; ``closed``: no more output comes."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.output = bytearray()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if len(self.output) <= LARGEST_OUTPUT:
            self.output += data
        if len(self.output) > LARGEST_OUTPUT and not self.ended.done():
            self.ended.set_result(None)

    @override
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    @override
    def process_exited(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def _start(
    argv: Sequence[str], folder: Path, hidden: Collection[str]
) -> tuple[asyncio.SubprocessTransport, _Run]:
    seen = {name: value for name, value in os.environ.items() if name not in hidden}
    # A session of its own: it cannot ask on a terminal that mitmproxy draws on, and can be ended with its children.
    return await asyncio.get_running_loop().subprocess_exec(
        _Run, *argv, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd=folder, env=seen, start_new_session=True
    )


def _end(transport: asyncio.SubprocessTransport) -> None:
    """End the program and its children if it is still there, and let go of its pipe."""
    if transport.get_returncode() is None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just ended by itself
            os.killpg(transport.get_pid(), signal.SIGKILL)
    transport.close()
