"""Every process of a run: started here, ended here by its id, also after Ctrl-C."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 20.0
STOP_SECONDS = 5.0


class BenchmarkError(Exception):
    """A measurement cannot be made. Its text tells why."""


class Processes:
    """To be used in a ``with``: what was started is ended when it is left, the last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in list(self._running):
            self.stop(process)

    def start(
        self, command: Sequence[str], *, log: str, environment: Mapping[str, str] | None = None, talks: bool = False
    ) -> subprocess.Popen[str]:
        """Start a process; what it prints goes to the file ``log``, or if it ``talks``, its standard output to a pipe.

        Its standard input is a pipe in any case: our own programs end with it, however this process came to its end.
        It gets a session of its own, so that Ctrl-C reaches this process only, which then ends the others in order.
        """
        with (self.folder / log).open("ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else errors,
                stderr=errors,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), **(environment or {})},
                cwd=self.folder,
                start_new_session=True,
                text=True,
            )
        self._running.append(process)
        return process

    def start_module(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a module of this package as a program of its own."""
        environment = {"PYTHONPATH": str(ROOT / "scripts"), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", f"benchmark.{module}", *arguments]
        return self.start(command, log=f"{module}.log", environment=environment, talks=True)

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End a process, politely first. May be called again."""
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if process in self._running:
            self._running.remove(process)

    def wait_for_port(self, process: subprocess.Popen[str], port: int, log: str) -> None:
        """Wait until the process takes connections on this port. Raises BenchmarkError with what it printed."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise BenchmarkError(f"nothing listens on port {port}. {log}: {self.log_text(log)}")

    def log_text(self, log: str) -> str:
        """The end of what a process printed."""
        return (self.folder / log).read_text("utf-8", "replace")[-2000:].strip() or "nothing"


def free_ports(count: int) -> list[int]:
    """Ports on loopback without a listener."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def cpu_microseconds(pid: int) -> float:
    """User and system time of a process so far, all its threads together, from the operating system's clock of it.

    Raises BenchmarkError where there is none for other processes: not on Linux.
    """
    if sys.platform != "linux":
        raise BenchmarkError("the CPU time of another process is measured on Linux only")
    # What clock_getcpuclockid(3) makes of a process id: its complement, and 2 for the scheduler's clock.
    return time.clock_gettime_ns((~pid << 3) | 2) / 1000


def resident_kib(pid: int) -> float:
    """The resident memory of a process in KiB. Raises BenchmarkError where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError as error:
        raise BenchmarkError(f"the memory of a process is read from /proc: {error}") from None
    found = re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"process {pid} has no VmRSS")
    return float(found[1])
