"""Resident memory of fresh proxies: per open stream, and whether it grows with the number of requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmark import messages
from benchmark.effort import Effort
from benchmark.figures import Row, Unit, compare
from benchmark.stage import Proxy, Stage

OPEN_STREAMS = (200, 1000)
NOISE_KIB = 1024.0
"""By so much the growth of two runs of one program differs: an arena of Python's allocator is 1 MiB."""
PARTS = 4
CONNECTIONS = 50
CALLS_PER_CONNECTION = 10
"""Connections come and go as well: what is kept of a closed one would be a leak too."""
SETTLE = 0.3
"""Seconds until a proxy has let go of connections that were closed."""


def memory(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Needs Linux: resident memory is read from /proc."""
    if not Path("/proc/self/status").exists():
        yield Row("memory", "not measured", "not measured: there is no /proc")
        return
    idle: tuple[list[float], list[float]] = ([], [])
    for count in OPEN_STREAMS:
        per_stream: tuple[list[float], list[float]] = ([], [])
        for _ in range(effort.memory_rounds):
            pair = stage.start_pair()
            for proxy, at_rest, figures in zip(pair, idle, per_stream, strict=True):
                at_rest.append(proxy.resident)
                figures.append(_stream_kib(stage, proxy, effort, count))
            stage.stop_pair(pair)
        yield compare(f"memory per open stream, {count:,} open", Unit.KIB, *per_stream)
    yield compare("memory of an idle proxy", Unit.KIB, *idle)
    pair = stage.start_pair()
    bare, ours = (_growth(stage, proxy, effort) for proxy in pair)
    stage.stop_pair(pair)
    connections = effort.memory_requests // CALLS_PER_CONNECTION
    yield Row(
        f"memory growth over {effort.memory_requests:,} calls on {connections:,} connections, by quarters",
        _text(bare),
        _text(ours),
        bar="≤ bare + 1 MiB",
        reached=ours[-1] <= max(0.0, bare[-1]) + NOISE_KIB,
        rounds={"bare": bare, "understudy": ours},
    )


def _stream_kib(stage: Stage, proxy: Proxy, effort: Effort, count: int) -> float:
    """KiB per open stream of a proxy that has opened hardly any before."""
    make_calls(stage, proxy, effort.warm_up_requests // 4)
    body = messages.stream_body(1000, 1.0)
    stage.ask_client(do="open", port=proxy.streams, body=body, streams=5)
    before = proxy.resident
    stage.ask_client(do="open", port=proxy.streams, body=body, streams=count)
    after = proxy.resident
    stage.ask_client(do="close", port=proxy.streams)
    return (after - before) / count


def _growth(stage: Stage, proxy: Proxy, effort: Effort) -> list[float]:
    """KiB on top of what it was after a warm-up. In parts: a leak grows with each of them, an allocator settles."""
    make_calls(stage, proxy, effort.warm_up_requests)
    before = proxy.resident
    sizes = []
    for _ in range(PARTS):
        make_calls(stage, proxy, effort.memory_requests // PARTS)
        sizes.append(proxy.resident - before)
    return sizes


def make_calls(stage: Stage, proxy: Proxy, count: int) -> None:
    """So many calls, then a moment of rest."""
    body = messages.call_body(messages.JSON_ALIAS)
    batch = CONNECTIONS * CALLS_PER_CONNECTION
    for done in range(0, count, batch):
        now = min(batch, count - done)
        stage.ask_client(do="calls", port=proxy.calls, body=body, connections=CONNECTIONS, count=now, seconds=0)
    time.sleep(SETTLE)


def _text(growth: list[float]) -> str:
    return " ".join(f"{value:+,.0f}" for value in growth) + " KiB"
