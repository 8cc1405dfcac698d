"""The measurements: each takes the stage and an effort, and returns rows of the table."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmark import messages
from benchmark.figures import Row, Unit, alone, at_least, at_most, compare
from benchmark.processes import BenchmarkError
from benchmark.stage import Pair, Proxy, Stage

CONNECTIONS = (1, 16, 64)
STREAMS = (1, 50, 200)
THROUGHPUT = at_least(0.85)
ADDED_LATENCY = at_most(1.15, "≤ 1.15")
EVENT_RATE = at_least(0.95)
FAILOVER = at_most(5000, "< 5 ms")
PACED_RATE = 1000.0
"""Events per second over all paced streams, well below what a proxy can do: latency is then its own, not a queue's."""
STAGGER = 0.005
"""Seconds between the beginnings of paced streams."""
NOISE_KIB = 1024.0
"""Two runs of the same program differ by this much after 10,000 requests: one page of an allocator's arena."""
WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {secret}"
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('\\n{{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"errors":%d}}\\n', summary.requests,
        summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of everything. ``seconds``: of a round of calls. ``events``: of a round of streams at full speed."""

    rounds: int
    seconds: float
    events: int
    paced_seconds: float
    failovers: int
    memory_rounds: int
    memory_requests: int
    warm_up: int


FULL = Effort(5, 1.5, 6000, 1.0, 40, 3, 10_000, 3000)
QUICK = Effort(3, 0.5, 2000, 0.4, 20, 1, 2_000, 500)


def take_turns[T](rounds: int, pair: Pair, measure: Callable[[Proxy], T]) -> tuple[list[T], list[T]]:
    """Measure bare, understudy, bare, understudy, ...; the first round of each warms up and is thrown away."""
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(measure(pair.bare))
        ours.append(measure(pair.ours))
    return bare, ours


# -- calls ---------------------------------------------------------------------------------------------------------


def calls(stage: Stage, pair: Pair, effort: Effort) -> Iterator[Row]:
    """Small JSON calls that need no replay."""
    load = _wrk if shutil.which("wrk") else _own_load
    for proxy in pair:
        load(stage, proxy, 16, 1.0)
    for connections in CONNECTIONS:
        bare, ours = take_turns(
            effort.rounds, pair, lambda proxy, count=connections: load(stage, proxy, count, effort.seconds)
        )
        name = f"JSON calls, {connections} connection{'s' if connections > 1 else ''}: "
        for figure, unit, bar in (
            ("rate", Unit.PER_SECOND, THROUGHPUT),
            ("p50", Unit.MILLISECONDS, ADDED_LATENCY),
            ("p99", Unit.MILLISECONDS, None),
        ):
            label = "requests" if figure == "rate" else figure
            yield compare(name + label, unit, [r[figure] for r in bare], [r[figure] for r in ours], bar)


def _own_load(stage: Stage, proxy: Proxy, connections: int, seconds: float) -> dict[str, float]:
    body = messages.call_body(messages.JSON_ALIAS)
    return stage.ask_client(do="calls", port=proxy.calls, body=body, connections=connections, count=0, seconds=seconds)


def _wrk(stage: Stage, proxy: Proxy, connections: int, seconds: float) -> dict[str, float]:
    script = stage.folder / "call.lua"
    body = messages.call_body(messages.JSON_ALIAS)
    script.write_text(WRK_SCRIPT.format(path=messages.PATH, body=body, secret=messages.TOOL_SECRET), "utf-8")
    # wrk takes whole seconds only, so a round may be a little longer than asked for.
    whole = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "-s", str(script), f"http://127.0.0.1:{proxy.calls}"]
    load = stage.processes.start(command, log="wrk.log")
    try:
        output, _ = load.communicate(timeout=whole + 20)
    except subprocess.TimeoutExpired:
        raise BenchmarkError("wrk did not end") from None
    finally:
        stage.processes.stop(load)
    result = json.loads(output.splitlines()[-1])
    if result["errors"]:
        raise BenchmarkError(f"{result['errors']} of wrk's calls failed:\n{output}")
    return {"rate": result["requests"] / (result["duration"] / 1e6), "p50": result["p50"], "p99": result["p99"]}


# -- streams -------------------------------------------------------------------------------------------------------


def streams(stage: Stage, pair: Pair, effort: Effort) -> Iterator[Row]:
    """Event streams: latencies at a modest pace, then events per second at full speed."""
    numbers = itertools.count()
    for count in STREAMS:
        name = f"SSE, {count} stream{'s' if count > 1 else ''}: "
        rate = min(200.0, PACED_RATE / count)
        seconds = effort.paced_seconds / 20 if count == 1 else effort.paced_seconds
        events = max(2, round(rate * seconds))

        def paced(proxy: Proxy, count: int = count, rate: float = rate, events: int = events) -> dict[str, float]:
            return stage.ask_client(
                do="streams",
                port=proxy.streams,
                body=messages.stream_body(events, rate),
                streams=count,
                events=events,
                repeat=20 if count == 1 else 1,
                stagger=STAGGER if count > 1 else 0,
            )

        def flood(proxy: Proxy, count: int = count) -> float:
            events = max(10, effort.events // count)
            return stage.ask_client(
                do="streams",
                port=proxy.streams,
                body=messages.stream_body(events, 0, f"flood-{next(numbers)}", count),
                streams=count,
                events=events,
                repeat=1,
                stagger=0,
            )["rate"]

        bare, ours = take_turns(effort.rounds, pair, paced)
        for figure, label in (
            ("first50", "first event, p50"),
            ("first99", "first event, p99"),
            ("event50", "added per event, p50"),
            ("event99", "added per event, p99"),
        ):
            yield compare(name + label, Unit.MILLISECONDS, [r[figure] for r in bare], [r[figure] for r in ours])
        floods = take_turns(effort.rounds, pair, flood)
        yield compare(name + "events", Unit.PER_SECOND, *floods, EVENT_RATE)


# -- failover ------------------------------------------------------------------------------------------------------


def failover(stage: Stage, pair: Pair, effort: Effort) -> Iterator[Row]:
    """One failover: a refusing candidate before the working one, less the working one alone, less the refusal itself."""
    numbers = itertools.count()
    rounds: dict[str, list[float]] = {"pair": [], "solo": [], "direct": [], "own": []}
    with Caller(pair.ours.streams) as proxy, Caller(stage.ports.refusing) as refusing:
        for _ in range(effort.rounds):
            took: dict[str, list[float]] = {"pair": [], "solo": [], "direct": []}
            for _ in range(effort.failovers):
                number = next(numbers)
                # A fresh alias each time: the one before is suspended, as it should be.
                took["pair"].append(proxy.call(f"{messages.PAIR_PREFIX}{number}", b"200"))
                took["solo"].append(proxy.call(f"{messages.SOLO_PREFIX}{number}", b"200"))
                took["direct"].append(refusing.call(f"{messages.PAIR_PREFIX}{number}", b"404"))
            medians = {name: statistics.median(values) for name, values in took.items()}
            medians["own"] = medians["pair"] - medians["solo"] - medians["direct"]
            for name, value in medians.items():
                rounds[name].append(value)
    yield alone("call over the working candidate alone", Unit.MILLISECONDS, rounds["solo"])
    yield alone("call over a refusing candidate, then the working one", Unit.MILLISECONDS, rounds["pair"])
    yield alone("the refused call, straight to its upstream", Unit.MILLISECONDS, rounds["direct"])
    yield alone("one failover beyond the upstream's own time", Unit.MILLISECONDS, rounds["own"], FAILOVER)


class Caller:
    """A blocking connection: it adds the least to what it measures."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), 20.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def call(self, alias: str, status: bytes) -> float:
        """Make one call; returns its microseconds. Raises BenchmarkError for another status."""
        request = messages.request(self.port, messages.call_body(alias))
        begun = time.perf_counter_ns()
        self._socket.sendall(request)
        reply = b""
        while not self._complete(reply):
            data = self._socket.recv(65536)
            if not data:
                raise BenchmarkError(f"a call of {alias} was cut after {reply[:500]!r}")
            reply += data
        took = (time.perf_counter_ns() - begun) / 1000
        if not reply.startswith(b"HTTP/1.1 " + status):
            raise BenchmarkError(f"a call of {alias} was answered {reply[:500]!r}")
        return took

    @staticmethod
    def _complete(reply: bytes) -> bool:
        head, end, body = reply.partition(b"\r\n\r\n")
        _, named, rest = head.lower().partition(b"\r\ncontent-length:")
        return bool(end and named) and len(body) >= int(rest.split(b"\r\n")[0])


# -- memory --------------------------------------------------------------------------------------------------------


def memory(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Resident memory of fresh proxies: per open stream, and its growth over many requests."""
    if not os.path.exists("/proc/self/status"):
        yield Row("memory", "not measured", "not measured: there is no /proc here")
        return
    count = STREAMS[-1]
    bare: list[float] = []
    ours: list[float] = []
    for number in range(effort.memory_rounds):
        pair = stage.start_pair()
        for proxy, figures in zip(pair, (bare, ours), strict=True):
            _make_calls(stage, proxy, effort.warm_up // 3)
            _open_streams(stage, proxy, 5)
            before = proxy.resident
            _open_streams(
                stage, proxy, count, close=lambda p=proxy, b=before, f=figures: f.append((p.resident - b) / count)
            )
        if number < effort.memory_rounds - 1:
            stage.stop_pair(pair)
    yield compare(f"memory per open stream, {count} open", Unit.KIB, bare, ours)
    growth: dict[str, list[float]] = {}
    for proxy in pair:
        _make_calls(stage, proxy, effort.warm_up)
        # In four parts: a leak grows with each of them, an allocator settles.
        sizes = [proxy.resident]
        for _ in range(4):
            _make_calls(stage, proxy, effort.memory_requests // 4)
            sizes.append(proxy.resident)
        growth[proxy.name] = [size - sizes[0] for size in sizes[1:]]
    stage.stop_pair(pair)
    texts = {name: " ".join(f"{value:+,.0f}" for value in values) + " KiB" for name, values in growth.items()}
    reached = growth["understudy"][-1] <= max(0.0, growth["bare"][-1]) + NOISE_KIB
    name = f"memory after each quarter of {effort.memory_requests:,} requests"
    yield Row(name, texts["bare"], texts["understudy"], "–", "≤ bare + 1 MiB", reached, growth)


def _make_calls(stage: Stage, proxy: Proxy, count: int) -> None:
    body = messages.call_body(messages.JSON_ALIAS)
    stage.ask_client(do="calls", port=proxy.calls, body=body, connections=16, count=count, seconds=0)


def _open_streams(stage: Stage, proxy: Proxy, count: int, close: Callable[[], None] = lambda: None) -> None:
    stage.ask_client(do="open", port=proxy.streams, body=messages.stream_body(1000, 1.0), streams=count)
    close()
    stage.ask_client(do="close", port=proxy.streams)
    time.sleep(0.3)
