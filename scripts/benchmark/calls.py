"""JSON calls that need no replay: CPU time of the proxy for one, calls per second, and how long one takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark import messages
from benchmark.effort import Effort, take_turns
from benchmark.figures import Row, Unit, at_least, at_most, compare
from benchmark.processes import BenchmarkError
from benchmark.stage import Pair, Proxy, Stage


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured: ``size`` bytes of prompt, ``seconds`` a round at most: opening many connections takes a part.

    ``tls``: the client speaks TLS with the proxy. ``http2``: and HTTP/2, one call at a time on each connection.
    """

    name: str
    size: int
    connections: int
    seconds: int = 1
    tls: bool = False
    http2: bool = False


POINTS = (
    Point("1 KB, 1 connection", 1_000, 1),
    Point("1 KB, 8 connections", 1_000, 8),
    Point("1 KB, 64 connections", 1_000, 64, 3),
    Point("1 KB, 8 connections, TLS", 1_000, 8, 3, tls=True),
    Point("1 KB, 8 connections, TLS, HTTP/2", 1_000, 8, 3, tls=True, http2=True),
    Point("10 KB, 8 connections", 10_000, 8, 3),
    Point("100 KB, 8 connections", 100_000, 8, 3),
    Point("1 MB, 8 connections", 1_000_000, 8, 3),
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
{headers}
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
    for point in points(with_wrk=with_wrk):
        # Handshakes and many connections take a part of a round.
        brief = point.size <= BARRED and point.connections <= 16 and not point.tls
        seconds = min(point.seconds, effort.longest_call_round) if brief else point.seconds
        measured = replace(point, seconds=seconds)

        def measure(proxy: Proxy, point: Point = measured) -> dict[str, float]:
            before = proxy.cpu
            result = load(stage, proxy, point)
            return {**result, "cpu": (proxy.cpu - before) / result["count"]}

        bare, ours = take_turns(effort.call_rounds, pair, measure)
        for figure, what, unit, bar in FIGURES:
            # h2load tells the mean and the slowest call.
            label = {"p50": "mean", "p99": "slowest"}.get(what, what) if point.http2 else what
            name = f"JSON, {point.name}: {label}"
            figures = [each[figure] for each in bare], [each[figure] for each in ours]
            yield compare(name, unit, *figures, bar if point.size <= BARRED else None)


def points(*, with_wrk: bool) -> Sequence[Point]:
    """Those that the load generators of this machine can measure: HTTP/2 needs h2load."""
    if not with_wrk:
        return OWN_POINTS
    return tuple(point for point in POINTS if not point.http2 or shutil.which("h2load"))


def own_load(stage: Stage, proxy: Proxy, point: Point) -> dict[str, float]:
    """A round by our own load generator: how many calls, calls per second, and microseconds."""
    body = messages.call_body(messages.JSON_ALIAS, point.size)
    seconds, connections = point.seconds, point.connections
    return stage.ask_client(do="calls", port=proxy.calls, body=body, connections=connections, count=0, seconds=seconds)


def wrk(stage: Stage, proxy: Proxy, point: Point, headers: Mapping[str, str] | None = None) -> dict[str, float]:
    """A round by wrk: how many calls, calls per second, and microseconds. ``headers``: further ones of each call."""
    if point.http2:
        return h2load(stage, proxy, point)
    script, body = stage.folder / "call.lua", stage.folder / "call.json"
    body.write_text(messages.call_body(messages.JSON_ALIAS, point.size), "utf-8")
    more = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or {}).items())
    text = WRK_SCRIPT.format(path=messages.PATH, body=body, secret=messages.TOOL_SECRET, headers=more)
    script.write_text(text, "utf-8")
    address = f"{'https' if point.tls else 'http'}://127.0.0.1:{proxy.calls}"
    settings = [f"-c{point.connections}", f"-d{point.seconds}s", "--timeout", "20s"]
    output = _output(stage, ["wrk", "-t1", *settings, "-s", str(script), address], point)
    result = json.loads(output.splitlines()[-1])
    if result["errors"] or not result["requests"]:
        raise BenchmarkError(f"{result['errors']} of {result['requests']} calls of {proxy.name} failed:\n{output}")
    rate = result["requests"] / (result["duration"] / 1e6)
    return {"count": result["requests"], "rate": rate, "p50": result["p50"], "p99": result["p99"]}


def h2load(stage: Stage, proxy: Proxy, point: Point, count: int = 0) -> dict[str, float]:
    """A round by h2load: how many calls, calls per second, and microseconds (it tells no percentiles but the mean).

    ``count``: so many calls, however long they take.
    """
    body = stage.folder / "call.json"
    body.write_text(messages.call_body(messages.JSON_ALIAS, point.size), "utf-8")
    address = f"https://127.0.0.1:{proxy.calls}{messages.PATH}"
    headers = ("content-type: application/json", f"authorization: Bearer {messages.TOOL_SECRET}")
    length = f"-n{count}" if count else f"-D{point.seconds}"
    settings = [f"-c{point.connections}", "-m1", "-t1", length, "-d", str(body)]
    command = ["h2load", *settings, *(word for header in headers for word in ("-H", header)), address]
    output = _output(stage, command, point)
    rate = re.search(r"^finished in .*, ([0-9.]+) req/s", output, re.MULTILINE)
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    took = re.search(r"^time for request: +\S+ +(\S+) +(\S+)", output, re.MULTILINE)
    if rate is None or done is None or took is None:
        raise BenchmarkError(f"h2load failed: {output[-2000:]}")
    if int(done[1]) == 0 or any(int(done[number]) for number in (2, 3, 4)):
        raise BenchmarkError(f"calls of {proxy.name} failed over HTTP/2:\n{output[-2000:]}")
    mean, slowest = _microseconds(took[2]), _microseconds(took[1])
    return {"count": int(done[1]), "rate": float(rate[1]), "p50": mean, "p99": slowest}


def _output(stage: Stage, command: Sequence[str], point: Point) -> str:
    """What a load generator prints. Raises BenchmarkError when it fails or does not end."""
    name = command[0]
    load = stage.processes.start(command, log=f"{name}.log", talks=True)
    try:
        output, _ = load.communicate(timeout=point.seconds + 40)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{name} did not end") from None
    finally:
        stage.processes.stop(load)
    if load.returncode != 0:
        raise BenchmarkError(f"{name} failed: {stage.processes.log_text(f'{name}.log')}\n{output[-2000:]}")
    return output


def _microseconds(text: str) -> float:
    """What h2load writes as ``850us``, ``12.30ms`` or ``1.20s``."""
    for unit, factor in (("us", 1), ("ms", 1_000), ("s", 1_000_000)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise BenchmarkError(f"h2load tells the time {text!r}")
