"""Small JSON calls that need no replay: requests per second, and how long one takes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

from benchmark import messages
from benchmark.effort import Effort, take_turns
from benchmark.figures import Row, Unit, at_least, at_most, compare
from benchmark.processes import BenchmarkError
from benchmark.stage import Pair, Proxy, Stage

CONNECTIONS = {1: 1, 16: 1, 64: 2}
"""Connections, and the seconds of a round: opening many takes a part of it."""
THROUGHPUT = at_least(0.85)
ADDED_LATENCY = at_most(1.15, "≤ 1.15")
FIGURES = (
    ("rate", "calls", Unit.PER_SECOND, THROUGHPUT),
    ("p50", "p50", Unit.MILLISECONDS, ADDED_LATENCY),
    ("p99", "p99", Unit.MILLISECONDS, None),
)
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


def generator() -> str:
    """Who makes the calls."""
    return "wrk" if shutil.which("wrk") else "our own asyncio client"


def calls(stage: Stage, pair: Pair, effort: Effort) -> Iterator[Row]:
    """Calls over 1, 16 and 64 connections."""
    load = wrk if shutil.which("wrk") else own_load
    for proxy in pair:
        load(stage, proxy, 16, 1)
    for connections, seconds in CONNECTIONS.items():

        def measure(proxy: Proxy, connections: int = connections, seconds: int = seconds) -> dict[str, float]:
            return load(stage, proxy, connections, min(seconds, effort.longest_call_round))

        bare, ours = take_turns(effort.call_rounds, pair, measure)
        for figure, label, unit, bar in FIGURES:
            name = f"JSON, {connections} connection{'s' if connections > 1 else ''}: {label}"
            yield compare(name, unit, [each[figure] for each in bare], [each[figure] for each in ours], bar)


def own_load(stage: Stage, proxy: Proxy, connections: int, seconds: int) -> dict[str, float]:
    """A round by our own load generator: calls per second, and microseconds."""
    body = messages.call_body(messages.JSON_ALIAS)
    return stage.ask_client(do="calls", port=proxy.calls, body=body, connections=connections, count=0, seconds=seconds)


def wrk(stage: Stage, proxy: Proxy, connections: int, seconds: int) -> dict[str, float]:
    """A round by wrk: calls per second, and microseconds."""
    script = stage.folder / "call.lua"
    body = messages.call_body(messages.JSON_ALIAS)
    script.write_text(WRK_SCRIPT.format(path=messages.PATH, body=body, secret=messages.TOOL_SECRET), "utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{proxy.calls}"]
    load = stage.processes.start(command, log="wrk.log", talks=True)
    try:
        output, _ = load.communicate(timeout=seconds + 20)
    except subprocess.TimeoutExpired:
        raise BenchmarkError("wrk did not end") from None
    finally:
        stage.processes.stop(load)
    if load.returncode != 0:
        raise BenchmarkError(f"wrk failed: {(stage.folder / 'wrk.log').read_text('utf-8')}")
    result = json.loads(output.splitlines()[-1])
    if result["errors"]:
        raise BenchmarkError(f"{result['errors']} of wrk's calls of {proxy.name} failed:\n{output}")
    return {"rate": result["requests"] / (result["duration"] / 1e6), "p50": result["p50"], "p99": result["p99"]}
