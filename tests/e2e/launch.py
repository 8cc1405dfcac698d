"""Starts mitmproxy's programs by ``tool.py``, one of which serves the whole test session."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TOOL = Path(__file__).with_name("tool.py")
BARE = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
"""The environment that every program has: the tests' own must not decide anything."""

ANSWER_SECONDS = 120.0


class Process:
    """A running program: the part of ``subprocess.Popen`` that a proxy needs."""

    def __init__(self, server: socket.socket, start: Mapping[str, object]) -> None:
        stdin, stdin_ours = os.pipe()
        stdout_ours, stdout = os.pipe()
        self._teller, teller = socket.socketpair()
        self._said = b""
        self._code: int | None = None
        self._stdin = stdin_ours
        self.stdout = os.fdopen(stdout_ours, "rb")
        socket.send_fds(server, [json.dumps(start).encode() + b"\n"], [stdin, stdout, teller.fileno()])
        for descriptor in (stdin, stdout):
            os.close(descriptor)
        teller.close()
        self.pid = self._next_number(ANSWER_SECONDS)

    def _next_number(self, timeout: float) -> int:
        self._teller.settimeout(timeout)
        while b"\n" not in self._said:
            part = self._teller.recv(64)
            if not part:
                raise ChildProcessError("tool.py is gone, and what it started is left to end by itself")
            self._said += part
        number, _, self._said = self._said.partition(b"\n")
        return int(number)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        try:
            return self.wait(0)
        except (TimeoutError, BlockingIOError):
            return None

    def wait(self, timeout: float) -> int:
        """The exit code; that of a program which a signal ended is negative. Raises TimeoutError."""
        if self._code is None:
            self._code = self._next_number(timeout)
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has, and its exit code is on the way
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of its streams, which ends it if it still runs. May be called again."""
        if not self.stdout.closed:
            os.close(self._stdin)
            self.stdout.close()
            self._teller.close()


class Launcher:
    """The process that starts the others. It ends when this one does, in whatever way."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, str(TOOL)], stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=BARE
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._server.pid

    def start(self, program: str, arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> Process:
        """Start "mitmdump" or "mitmweb"."""
        start = {
            "program": program,
            "arguments": list(arguments),
            "environment": dict(environment),
            "directory": str(directory),
        }
        return Process(self._control, start)

    def stop(self) -> None:
        """End it. What it has started goes on."""
        self._control.close()
        self._server.wait(ANSWER_SECONDS)


@functools.cache
def launcher() -> Launcher:
    """The one of this test session."""
    started = Launcher()
    atexit.register(started.stop)
    return started
