"""How long until the tool of ``understudy run`` begins where no proxy runs, and until ``understudy status`` has ended.

Both are processes of their own, as a shell starts them. Beside them stands what a Python takes to import mitmproxy: no
proxy starts without that. The two take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.figures import Row, Unit, alone, at_most, compare
from benchmark.processes import BenchmarkError, cpu_microseconds
from understudy.control import registry

IMPORT = (sys.executable, "-c", "import mitmproxy.tools.main")
UNDERSTUDY = (sys.executable, "-P", "-m", "understudy.cli")
TOOL = ("sh", "-c", "echo begun; read -r end")
"""It tells that it begins, and ends with its standard input."""
POOL = """\
upstreams: {main: {dialect: openai, url: "http://127.0.0.1:9/v1"}}
credentials: {one: {upstream: main, secret: {env: BENCHMARK_KEY}}}
routes: {default: [one]}
"""
BEYOND = at_most(1_000_000.0, "< 1 s")
STATUS = at_most(200_000.0, "< 0.2 s")
GONE_SECONDS = 20.0


@dataclass(slots=True)
class Taken:
    """Microseconds, round by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, wall: float, cpu: float) -> None:
        """One round more."""
        self.wall.append(wall)
        self.cpu.append(cpu)


def start(folder: Path, rounds: int) -> Iterator[Row]:
    """In a home of its own. The first round, with a CA to be made and files that are not in memory, does not count."""
    home = folder / "home"
    pool = home / ".config" / "understudy" / "pool.yaml"
    pool.parent.mkdir(parents=True)
    pool.touch(mode=0o600)
    pool.write_text(POOL, "utf-8")
    environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "BENCHMARK_KEY": "sk-none"}
    loading, running, loading_too, asking = Taken(), Taken(), Taken(), Taken()
    for number in range(rounds + 1):
        alone_, ours = _process(IMPORT, environ), _run(environ)
        if number:
            loading.add(*alone_)
            running.add(*ours)
    with _Tool(environ):
        for number in range(rounds + 1):
            alone_, ours = _process(IMPORT, environ), _process((*UNDERSTUDY, "status"), environ)
            if number:
                loading_too.add(*alone_)
                asking.add(*ours)
    name = "start: `understudy run` until its tool begins"
    yield compare(f"{name}, CPU time (bare: import mitmproxy)", Unit.MILLISECONDS, loading.cpu, running.cpu)
    yield compare(f"{name} (bare: import mitmproxy)", Unit.MILLISECONDS, loading.wall, running.wall)
    beyond = [max(0.0, ours - theirs) for ours, theirs in zip(running.cpu, loading.cpu, strict=True)]
    yield alone(f"{name}, beyond that import, CPU time", Unit.MILLISECONDS, beyond)
    beyond = [max(0.0, ours - theirs) for ours, theirs in zip(running.wall, loading.wall, strict=True)]
    yield alone(f"{name}, beyond that import", Unit.MILLISECONDS, beyond, BEYOND)
    name = "start: `understudy status`"
    yield compare(f"{name}, CPU time (bare: import mitmproxy)", Unit.MILLISECONDS, loading_too.cpu, asking.cpu)
    yield alone(name, Unit.MILLISECONDS, asking.wall, STATUS)


def _process(command: Sequence[str], environ: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU time of a process in microseconds. Raises BenchmarkError when it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    cpu = _ended(process)
    wall = (time.perf_counter() - begun) * 1e6
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command)} ends with status {process.returncode}")
    return wall, cpu


def _ended(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; the CPU time in microseconds that it and its children have taken."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return (used.ru_utime + used.ru_stime) * 1e6


class _Tool:
    """A tool of ``understudy run``, which has started a proxy for it. It has begun when this is entered."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.wall = self.cpu = 0.0

    def __enter__(self) -> _Tool:
        begun = time.perf_counter()
        command = (*UNDERSTUDY, "run", "--", *TOOL)
        self._process = subprocess.Popen(command, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.wall = (time.perf_counter() - begun) * 1e6
        if line != b"begun\n":
            self._process.kill()
            self._process.wait()
            raise BenchmarkError("`understudy run` did not start its tool")
        [proxy] = registry.running_proxies(self.environ)
        self.cpu = cpu_microseconds(proxy.pid)
        return self

    def __exit__(self, *_: object) -> None:
        """End the tool, and wait until its proxy is gone."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self.cpu += _ended(self._process)
        self._process.stdout.close()
        end = time.monotonic() + GONE_SECONDS
        while registry.running_proxies(self.environ):
            if time.monotonic() > end:
                raise BenchmarkError("the proxy of `understudy run` does not end with its tool")
            time.sleep(0.05)


def _run(environ: Mapping[str, str]) -> tuple[float, float]:
    """Until the tool begins: wall time, and the CPU time of everything that was started for it, in microseconds."""
    with _Tool(environ) as tool:
        pass
    return tool.wall, tool.cpu
