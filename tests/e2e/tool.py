"""Runs mitmproxy's programs: imports what they import once, and forks a process for every start that is asked for.

Importing takes nearly all of a start, so ``launch.py`` keeps one of these for the test session. A forked process is
the program itself in every respect: arguments, environment, folder, standard streams, signals and exit code are its
own, the interpreter goes on to the program's entry point and ends with it. Of the addon the modules are there and the
shipped rules are read; the script is run, and everything else made, when mitmproxy loads it. Only the modules are not
taken apart in the end: that would copy the memory which all processes share, and takes as long as a start.

Standard input is a socket. It brings a line of JSON for each start, with three descriptors: the program's standard
input, its output, and a socket on which its process id and in the end its exit code are told. When the other end is
closed, this ends; so does each program when the other end of its standard input is closed. The kernel closes both,
however the test run ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NoReturn

ADDON = Path(__file__).resolve().parents[2] / "addon"
HARMLESS = frozenset({"HOME"})
"""Asked for by sysconfig, which finds out where packages of the user's own would be. An environment has none."""


class _Watched(type(os.environ)):  # type: ignore[misc] # a private class, as is its only object
    """Remembers which variables importing asks for: they cannot be chosen any more when a program starts."""

    asked: ClassVar[set[str]] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return str(super().__getitem__(name))


@dataclass(frozen=True, slots=True)
class Start:
    """A program to start. ``streams``: what becomes its standard input and output."""

    program: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    streams: tuple[int, int]

    def take_over(self) -> None:
        """Turn this process into the program's."""
        for target, source in ((0, self.streams[0]), (1, self.streams[1]), (2, self.streams[1])):
            os.dup2(source, target)
        for stream in self.streams:
            os.close(stream)
        self._check_environment()
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.directory)
        sys.argv[1:] = self.arguments
        threading.Thread(target=_end_with_parent, daemon=True).start()

    def _check_environment(self) -> None:
        for name in {*self.environment, *os.environ} - HARMLESS:
            fixed = name.startswith("PYTHON") or name in _Watched.asked
            if fixed and self.environment.get(name) != os.environ.get(name):
                sys.exit(f"tool.py: {name} is read when mitmproxy is imported, which was long ago")


def _end_with_parent() -> None:
    # Nothing is ever written: this returns when the other end is closed. Not by sys.stdin, whose lock the interpreter
    # wants at its end.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def run(program: Callable[[], object]) -> NoReturn:
    """Run a program in this process and end with it, as multiprocessing ends what it has forked."""
    try:
        program()
        code = 0
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    # What the interpreter does before it takes the modules apart.
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


@dataclass
class Server:
    """Starts programs until the control socket is closed, and reaps them. Without threads, which fork would lose."""

    control: socket.socket
    running: dict[int, socket.socket] = field(default_factory=dict)

    def run(self) -> Start | None:
        """Comes back in each program's process with what to start there, and here with None when all is over."""
        wake, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Ctrl-C in a terminal reaches every process. The programs end by it, and their exit codes are still to be told.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            readable, _, _ = select.select([self.control, wake], [], [])
            if wake in readable:
                wake.recv(4096)
                self._reap()
            if self.control not in readable:
                continue
            if (received := self._receive()) is None:
                return None
            start, teller = received
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for one in (self.control, wake, waker, teller, *self.running.values()):
                    one.close()
                return start
            for stream in start.streams:
                os.close(stream)
            self.running[pid] = teller
            self._tell(teller, pid)

    def _receive(self) -> tuple[Start, socket.socket] | None:
        line, descriptors, _, _ = socket.recv_fds(self.control, 65536, 3)
        while line and not line.endswith(b"\n"):
            line += self.control.recv(65536)
        if not line:
            return None
        stdin, stdout, teller = descriptors
        return Start(**json.loads(line), streams=(stdin, stdout)), socket.socket(fileno=teller)

    def _reap(self) -> None:
        for pid, teller in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._tell(teller, os.waitstatus_to_exitcode(status))
                teller.close()
                del self.running[pid]

    @staticmethod
    def _tell(teller: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):  # nobody waits for it any more
            teller.sendall(b"%d\n" % number)


if __name__ == "__main__":
    plain = os.environ.__class__
    os.environ.__class__ = _Watched
    from cryptography.hazmat.primitives import serialization

    # The latter two because the programs would import them first thing.
    from mitmproxy.tools import dump, main, web  # noqa: F401

    # Looking whether the numbers of the CA's key are primes takes as long as all the rest of a start, twice a start.
    serialization.load_pem_private_key = functools.partial(
        serialization.load_pem_private_key, unsafe_skip_rsa_key_validation=True
    )
    sys.path.insert(0, str(ADDON))
    from understudy import addon  # noqa: F401
    from understudy.rules import folders

    folders.RuleLibrary()
    sys.path.remove(str(ADDON))
    os.environ.__class__ = plain
    gc.collect()
    gc.freeze()  # what is shared with the programs stays shared: no collection writes to it
    if (start := Server(socket.socket(fileno=os.dup(0))).run()) is not None:
        start.take_over()
        run(getattr(main, start.program))
