"""What it costs to share suspensions through a real Valkey or Redis server, and how soon others know.

scripts/bench --shared [--quick]

One run, in turns: how long from a suspension in one process to the same in another; how long a process needs for 10,000
suspensions when it begins; calls with the server, without one, and while it is frozen; one worker against two.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.calls import Point, own_load, wrk
from benchmark.figures import percentile
from benchmark.processes import BenchmarkError, Processes, free_ports
from benchmark.stage import ADDON, SECRETS, Proxy, Stage, temporary_parent
from understudy.model import Choice, Credential, Key, Label, Pool, Route, Scope, Store, Suspension, Upstream
from understudy.model.secret import Source
from understudy.shared.sharing import Sharing
from understudy.suspensions import Suspensions

MANY = 10_000


class _Secret(Source):
    """One for the benchmark."""

    __slots__ = ()

    def reveal(self) -> str:
        """Return the secret."""
        return SECRETS["BENCHMARK_SECRET_1"]


@dataclass(frozen=True)
class Server:
    """A server on a Unix socket of its own."""

    process: subprocess.Popen[str]
    url: str


def start_server(processes: Processes) -> Server:
    """Start one. Raises BenchmarkError."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise BenchmarkError("neither valkey-server nor redis-server is installed")
    place = processes.folder / "store.sock"
    command = [program, "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(processes.folder)]
    process = processes.start([*command, "--maxmemory", "256mb"], log="store.log")
    end = time.monotonic() + 20
    while not place.exists():
        if time.monotonic() > end or process.poll() is not None:
            raise BenchmarkError(f"the server did not begin: {processes.log_text('store.log')}")
        time.sleep(0.02)
    return Server(process, f"unix://{place}")


# -- in one process ------------------------------------------------------------------------------------------------


def pool(url: str) -> Pool:
    """One route over one credential, for any model."""
    upstream = Upstream("openai", "openai", "https", "openai.example", 443, "/v1")
    credential = Credential("work", upstream, _Secret())
    route = Route("default", (Choice(credential),))
    return Pool({"openai": upstream}, {"work": credential}, {"default": route}, store=Store(url, "bench"))


def suspension(model: str) -> Suspension:
    """One of this model, for an hour."""
    now = time.time()
    key = Key(Scope.CANDIDATE, "work", model)
    evidence = "HTTP 429: rate_limit_exceeded: Rate limit reached for requests"
    return Suspension(key, now, now + 3600, Label.RATE_LIMITED, "openai/rate_limited", evidence, "", f"work/{model}")


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def member(url: str) -> Sharing:
    """A process of the pool."""
    sharing = Sharing(Suspensions(time.time))
    sharing.use(pool(url))
    return sharing


def connected(sharing: Sharing) -> bool:
    """Whether it shares."""
    return sharing.state is not None and sharing.state.connected


async def seen(url: str, count: int) -> list[float]:
    """Milliseconds from a suspension here to the same there, for each of so many."""
    one, two = member(url), member(url)
    taken = []
    for each in (one, two):
        each.open()
    await _until(lambda: connected(one) and connected(two))
    for number in range(count):
        found = suspension(f"seen-{number}")
        begun = time.perf_counter()
        one.suspensions.suspend(found)
        while two.suspensions.get(found.key) is None:
            await asyncio.sleep(0)
        taken.append((time.perf_counter() - begun) * 1000)
    for each in (one, two):
        each.close()
    return taken


async def begin(url: str) -> tuple[float, float, float]:
    """Seconds to read what is stored, the same of CPU, and the longest stretch without a turn for others.

    The last is milliseconds of CPU: what other programs take from this one is not the event loop's.
    """
    sharing = member(url)
    longest, last = 0.0, time.thread_time()
    begun, used = time.perf_counter(), last
    sharing.open()
    while not connected(sharing):
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    took, used = time.perf_counter() - begun, time.thread_time() - used
    if len(sharing.suspensions) < MANY:
        raise BenchmarkError(f"only {len(sharing.suspensions)} of {MANY} suspensions were read")
    sharing.close()
    return took, used, longest * 1000


async def fill(url: str) -> None:
    """Store many."""
    sharing = member(url)
    sharing.open()
    await _until(lambda: connected(sharing))
    for number in range(MANY):
        sharing.suspensions.suspend(suspension(f"many-{number}"))
    await _until(lambda: not sharing._changes and not sharing._under_way)
    sharing.close()


# -- whole proxies -------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """What a process has used so far. Raises BenchmarkError where there is no /proc with it."""
    try:
        threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(each.read_text("ascii").split()[0]) for each in threads) / 1e9
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"the CPU time of a process is read from /proc: {error}") from None


def busy_seconds() -> float:
    """What all processes of the machine have used so far: whatever else runs is in it. Raises BenchmarkError."""
    try:
        user, nice, system, _, _, interrupts, soft, *_ = map(
            int, Path("/proc/stat").read_text("ascii").partition("\n")[0].split()[1:]
        )
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"the CPU time of the machine is read from /proc: {error}") from None
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process has started. Raises BenchmarkError."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"the workers of a process are read from /proc: {error}") from None


def load(stage: Stage, proxy: Proxy, connections: int, seconds: int) -> dict[str, float]:
    """A round of calls, with the proxy's CPU time in microseconds a call."""
    before = cpu_seconds(proxy.process.pid)
    found = (wrk if shutil.which("wrk") else own_load)(stage, proxy, Point("", 1_000, connections, seconds))
    used = cpu_seconds(proxy.process.pid) - before
    return {**found, "cpu": used * 1e6 / max(1.0, found["rate"] * seconds)}


def with_and_without(stage: Stage, server: Server, rounds: int) -> Iterator[str]:
    """Calls without a server, with it, and while it is frozen: in turns, as ratios of the same round."""
    text = (stage.folder / "pool.yaml").read_text("utf-8")
    shared = stage.folder / "shared.yaml"
    shared.touch(mode=0o600)
    shared.write_text(f"{text}\nstate: {{url: '{server.url}', prefix: calls}}\n", "utf-8")
    start = stage._start_proxy
    without = start("without", "-s", str(ADDON), "--set", f"pool_file={stage.folder / 'pool.yaml'}", counted=False)
    with_it = start("with", "-s", str(ADDON), "--set", f"pool_file={shared}", counted=False)
    for each in (without, with_it):
        load(stage, each, 8, 3)
    found: dict[str, list[tuple[float, float, float]]] = {"with": [], "frozen": []}
    for _ in range(rounds):
        bare = load(stage, without, 8, 3)
        for name, measured in found.items():
            if name == "frozen":
                server.process.send_signal(signal.SIGSTOP)
            try:
                ours = load(stage, with_it, 8, 3)
            finally:
                server.process.send_signal(signal.SIGCONT)
            difference = (ours["p99"] - bare["p99"]) / 1000
            measured.append((ours["cpu"] / bare["cpu"], difference, ours["p99"] / bare["p99"]))
    for name, measured in found.items():
        cpu, p99, ratio = (statistics.median(each) for each in zip(*measured, strict=True))
        label = "calls with the server / without" if name == "with" else "the same while it is frozen"
        yield f"| {label}: CPU a call | {cpu:.3f} | ≤ 1.03 |"
        yield f"| {label}: p99, difference | {p99:+.2f} ms, ratio {ratio:.2f} | ≤ 5 ms |"
    for each in (without, with_it):
        stage.processes.stop(each.process)


def workers(stage: Stage, server: Server, rounds: int) -> Iterator[str]:
    """Calls a second over one worker and over two, in turns, and where the CPU time goes.

    On two cores the load and the upstream take their share of what two workers could use. With ``own`` seconds of a
    worker's CPU and ``other`` of theirs for a call, one worker serves ``1 / own`` calls a second at most and two serve
    ``2 / (own + other)``: the most that this machine allows is the quotient of the two.
    """
    text = (stage.folder / "pool.yaml").read_text("utf-8")
    path = stage.folder / "workers.yaml"
    path.touch(mode=0o600)
    path.write_text(f"{text}\nstate: {{url: '{server.url}', prefix: workers}}\n", "utf-8")
    proxies = []
    for count, port in zip((1, 2), free_ports(2), strict=True):
        command = [sys.executable, "-m", "understudy.cli", "serve", "--workers", str(count), "--port", str(port)]
        command += [
            "--pool",
            str(path),
            "--grace",
            "1",
            "--",
            "--mode",
            f"reverse:http://127.0.0.1:{stage.ports.calls}",
        ]
        command += ["--set", f"confdir={stage.folder / 'confdir'}", "--set", "termlog_verbosity=error"]
        log = f"workers-{count}.log"
        process = stage.processes.start(command, log=log, environment=SECRETS)
        end = time.monotonic() + 60
        while (stage.folder / log).read_text("utf-8").count(" serves ") < count:
            if time.monotonic() > end or process.poll() is not None:
                raise BenchmarkError(f"the workers did not begin: {stage.processes.log_text(log)}")
            time.sleep(0.05)
        proxies.append(Proxy(f"{count} workers", process, port, port))
    run = wrk if shutil.which("wrk") else own_load
    for each in proxies:
        run(stage, each, Point("", 1_000, 16, 1))
    ratios, costs, allowed, shares = [], [], [], []
    for _ in range(rounds):
        rates, own, other = [], [], []
        for each in proxies:
            busy, before = busy_seconds(), {pid: cpu_seconds(pid) for pid in children(each.process.pid)}
            rates.append(run(stage, each, Point("", 1_000, 16, 4))["rate"])
            used = {pid: cpu_seconds(pid) - seconds for pid, seconds in before.items()}
            own.append(sum(used.values()) / (rates[-1] * 4))
            other.append((busy_seconds() - busy) / (rates[-1] * 4) - own[-1])
        ratios.append(rates[1] / rates[0])
        costs.append(own[1] / own[0])
        allowed.append(2 * own[1] / (own[1] + max(0.0, other[1])))
        shares.append(min(used.values()) / max(used.values()))
    cores = os.cpu_count()
    yield f"| two workers / one: calls a second | {statistics.median(ratios):.2f} | ≥ 1.8 |"
    most = statistics.median(allowed)
    yield f"| the most that {cores} cores allow, with the load and the upstream on them | {most:.2f} | |"
    yield f"| CPU a call in the workers, two / one | {statistics.median(costs):.2f} | ≤ 1.05 |"
    yield f"| CPU of the less busy worker of two / the other | {statistics.median(shares):.2f} | ≥ 0.8 |"
    for each in proxies:
        stage.processes.stop(each.process)


def main() -> int:
    """Returns 0 when everything was measured, 2 when something could not be."""
    parser = argparse.ArgumentParser(prog="scripts/bench --shared")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    signal.alarm(600)
    rounds = 3 if options.quick else 9
    with tempfile.TemporaryDirectory(prefix="understudy-bench-", dir=temporary_parent()) as folder:
        try:
            with Processes(Path(folder)) as processes:
                server = start_server(processes)
                print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning.\n")
                print("| what | measured | goal |\n|---|---|---|")
                taken = asyncio.run(seen(server.url, 200 if options.quick else 1000))
                print(f"| written in one, seen in another: p50 | {percentile(taken, 50):.2f} ms | ≤ 5 ms |")
                print(f"| the same: p99 | {percentile(taken, 99):.2f} ms | ≤ 50 ms |", flush=True)
                asyncio.run(fill(server.url))
                begins = [asyncio.run(begin(server.url)) for _ in range(3)]
                took, used, longest = (statistics.median(each) for each in zip(*begins, strict=True))
                print(f"| {MANY} suspensions at start | {took:.2f} s, {used:.2f} s of CPU | ≤ 1 s |")
                print(f"| the longest turn of the event loop meanwhile, CPU | {longest:.0f} ms | ≤ 50 ms |", flush=True)
                stage = Stage(processes)
                for line in with_and_without(stage, server, rounds):
                    print(line, flush=True)
                for line in workers(stage, server, rounds):
                    print(line, flush=True)
        except BenchmarkError as error:
            print(f"scripts/bench: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
