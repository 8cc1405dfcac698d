"""The way in for the shell: a Unix domain socket of this process that only its user can reach, and its answers.

``answers`` turns a command, from the shell or from the pool page, into text for people and values for programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from understudy.control.client import is_served, place_of
from understudy.control.control import Control
from understudy.control.registry import runtime_folder
from understudy.control.result_text import as_lines
from understudy.control.target import ControlError

SECONDS = 5.0
"""How long a client may take to send its line, or to read ours."""
LONGEST_REQUEST = 64 * 1024
MOST_CLIENTS = 16

type Answer = Callable[[str, Sequence[str], str], Mapping[str, Any]]


class ControlServer:
    """The socket of this process. ``answer(command, words, who)`` gives the reply; it must not raise."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._path: Path | None = None
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()

    def open(self, environ: Mapping[str, str]) -> None:
        """Listen, inside a running event loop. Raises OSError with a reason that people can do something about."""
        if self._listening is not None:
            return
        path = place_of(runtime_folder(environ), os.getpid())
        if path.is_socket():
            # From another process that had our number, in another container maybe.
            if is_served(path):
                raise OSError(f"{path} is in use")
            path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen(MOST_CLIENTS)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
        self._path, self._listening = path, listening
        self._serving = asyncio.get_running_loop().create_task(self._accept(listening), name="understudy control")

    def close(self) -> None:
        """Stop listening, and take the socket away."""
        for task in (self._serving, *self._clients):
            if task is not None:
                task.cancel()
        if self._server is not None:
            self._server.close()  # and with it the socket, which it has to find open
        elif self._listening is not None:
            self._listening.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._serving = self._server = self._listening = self._path = None

    async def _accept(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_unix_server(self._connected, sock=listening, limit=LONGEST_REQUEST)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine, so that the tasks are ours to end."""
        who = _owner(writer.get_extra_info("socket"))
        if not who or len(self._clients) >= MOST_CLIENTS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, who), name="understudy control")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: str) -> None:
        try:
            # Whoever is too slow, or sends too much, is let go without a word.
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                async with asyncio.timeout(SECONDS):
                    line = await reader.readline()
                    if line.endswith(b"\n"):
                        writer.write(json.dumps(self._reply(line, who)).encode() + b"\n")
                        await writer.drain()
                        writer.close()
                        await writer.wait_closed()
        finally:
            writer.transport.abort()

    def _reply(self, line: bytes, who: str) -> Mapping[str, Any]:
        try:
            asked = json.loads(line)
            command, words = asked["command"], asked["words"]
            if not isinstance(command, str) or not all(isinstance(word, str) for word in words):
                raise TypeError("no text")
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"error": 'this is no command: send {"command": "status", "words": []} on one line'}
        return self._answer(command, words, who)


def _owner(connected: socket.socket) -> str:
    """Which user is at the other end, "" for another. Where the system does not say, having come in proves it."""
    import pwd  # not on every system

    user = os.getuid()
    if hasattr(socket, "SO_PEERCRED"):
        told = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        user = struct.unpack("3i", told)[1]
    if user not in (os.getuid(), 0):
        return ""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


logger = logging.getLogger("understudy")


def answers(control: Control, place: str = "in a shell") -> Answer:
    """How a control answers a command that comes from there."""

    def answer(command: str, words: Sequence[str], who: str) -> Mapping[str, Any]:
        try:
            result = control.run(command, words, f"{who} {place}")
        except ControlError as error:
            return {"error": str(error)}
        except Exception as error:
            # Whoever asks must hear of it, and the proxy goes on. Without the error's text: who knows what is in it.
            where = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}"
            logger.error(f"understudy: internal error in a command: {where}")
            return {"error": f"internal error, see the proxy's log: {type(error).__name__}"}
        return {"lines": as_lines(result, "understudy "), "result": asdict(result)}

    return answer
