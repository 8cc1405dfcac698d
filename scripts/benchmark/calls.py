"""JSON calls that need no replay: CPU time of the proxy for one, calls per second, and how long one takes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark import messages
from benchmark.effort import Effort, take_turns
from benchmark.figures import Row, Unit, at_least, at_most, compare
from benchmark.processes import BenchmarkError
from benchmark.stage import Pair, Proxy, Stage


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured: ``size`` bytes of prompt, ``seconds`` a round at most: opening many connections takes a part.

    ``tls``: the client speaks TLS with the proxy.
    """

    name: str
    size: int
    connections: int
    seconds: int = 1
    tls: bool = False


POINTS = (
    Point("1 KB, 1 connection", 1_000, 1),
    Point("1 KB, 8 connections", 1_000, 8),
    Point("1 KB, 64 connections", 1_000, 64, 3),
    Point("1 KB, 8 connections, TLS", 1_000, 8, 3, tls=True),
    Point("100 KB, 8 connections", 100_000, 8, 3),
    Point("5 MB, 8 connections", 5_000_000, 8, 4),
)
OWN_POINTS = tuple(point for point in POINTS if not point.tls)
"""Those that our own load generator can measure."""
BARRED = 1_000
"""The bars are for prompts up to this size: what a larger one costs is mostly the copying of its bytes."""
CPU = at_most(0.70, "≤ 0.70")
THROUGHPUT = at_least(1.35)
LATENCY = at_most(1.0, "≤ 1")
FIGURES = (
    ("cpu", "CPU time of a call", Unit.MILLISECONDS, CPU),
    ("rate", "calls", Unit.PER_SECOND, THROUGHPUT),
    ("p50", "p50", Unit.MILLISECONDS, LATENCY),
    ("p99", "p99", Unit.MILLISECONDS, None),
)
WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {secret}"
local file = io.open("{body}", "r")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('\\n{{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"errors":%d}}\\n', summary.requests,
        summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def generator() -> str:
    """Who makes the calls."""
    return "wrk" if shutil.which("wrk") else "our own asyncio client"


def calls(stage: Stage, pair: Pair, effort: Effort) -> Iterator[Row]:
    """Calls of all sizes, over few and many connections."""
    with_wrk = shutil.which("wrk") is not None
    load = wrk if with_wrk else own_load
    for proxy in pair:
        load(stage, proxy, Point("warm-up", 1_000, 16))
    for point in POINTS if with_wrk else OWN_POINTS:
        # Handshakes and many connections take a part of a round.
        brief = point.size <= BARRED and point.connections <= 16 and not point.tls
        seconds = min(point.seconds, effort.longest_call_round) if brief else point.seconds
        measured = Point(point.name, point.size, point.connections, seconds, point.tls)

        def measure(proxy: Proxy, point: Point = measured) -> dict[str, float]:
            before = proxy.cpu
            result = load(stage, proxy, point)
            return {**result, "cpu": (proxy.cpu - before) / result["count"]}

        bare, ours = take_turns(effort.call_rounds, pair, measure)
        for figure, label, unit, bar in FIGURES:
            name = f"JSON, {point.name}: {label}"
            figures = [each[figure] for each in bare], [each[figure] for each in ours]
            yield compare(name, unit, *figures, bar if point.size <= BARRED else None)


def own_load(stage: Stage, proxy: Proxy, point: Point) -> dict[str, float]:
    """A round by our own load generator: how many calls, calls per second, and microseconds."""
    body = messages.call_body(messages.JSON_ALIAS, point.size)
    seconds, connections = point.seconds, point.connections
    return stage.ask_client(do="calls", port=proxy.calls, body=body, connections=connections, count=0, seconds=seconds)


def wrk(stage: Stage, proxy: Proxy, point: Point) -> dict[str, float]:
    """A round by wrk: how many calls, calls per second, and microseconds."""
    script, body = stage.folder / "call.lua", stage.folder / "call.json"
    body.write_text(messages.call_body(messages.JSON_ALIAS, point.size), "utf-8")
    script.write_text(WRK_SCRIPT.format(path=messages.PATH, body=body, secret=messages.TOOL_SECRET), "utf-8")
    address = f"{'https' if point.tls else 'http'}://127.0.0.1:{proxy.calls}"
    settings = [f"-c{point.connections}", f"-d{point.seconds}s", "--timeout", "20s"]
    load = stage.processes.start(["wrk", "-t1", *settings, "-s", str(script), address], log="wrk.log", talks=True)
    try:
        output, _ = load.communicate(timeout=point.seconds + 40)
    except subprocess.TimeoutExpired:
        raise BenchmarkError("wrk did not end") from None
    finally:
        stage.processes.stop(load)
    if load.returncode != 0:
        raise BenchmarkError(f"wrk failed: {(stage.folder / 'wrk.log').read_text('utf-8')}")
    result = json.loads(output.splitlines()[-1])
    if result["errors"] or not result["requests"]:
        raise BenchmarkError(f"{result['errors']} of {result['requests']} calls of {proxy.name} failed:\n{output}")
    rate = result["requests"] / (result["duration"] / 1e6)
    return {"count": result["requests"], "rate": rate, "p50": result["p50"], "p99": result["p99"]}
