"""Bytecode instructions of a call that needs no replay: how much work it is, whatever else the machine is doing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from benchmark import messages
from benchmark.counter import BEGIN, END
from benchmark.figures import Row, Unit, compare
from benchmark.processes import BenchmarkError
from benchmark.stage import Proxy, Stage

CALLS = 40
WARM_UP = 200
CONNECTIONS = 2
ANSWER_SECONDS = 10.0


def work(stage: Stage, rounds: int) -> Iterator[Row]:
    """Needs two proxies of its own: they count."""
    pair = stage.start_pair(counted=True)
    for proxy in pair:
        make_calls(stage, proxy, WARM_UP)
    counts: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for proxy, found in zip(pair, counts, strict=True):
            found.append(per_call(stage, proxy))
    stage.stop_pair(pair)
    yield compare("JSON: bytecode instructions of a call", Unit.COUNT, *counts)


def per_call(stage: Stage, proxy: Proxy) -> float:
    """The instructions of a call, without those that timers run in the same time."""
    begun = time.monotonic()
    busy = counted(stage, proxy, lambda: make_calls(stage, proxy, CALLS))
    took = time.monotonic() - begun
    idle = counted(stage, proxy, lambda: time.sleep(took))
    return (busy - idle) / CALLS


def make_calls(stage: Stage, proxy: Proxy, count: int) -> None:
    """So many calls."""
    body = messages.call_body(messages.JSON_ALIAS)
    stage.ask_client(do="calls", port=proxy.calls, body=body, connections=CONNECTIONS, count=count, seconds=0)


def counted(stage: Stage, proxy: Proxy, do: Callable[[], None]) -> int:
    """The instructions that a proxy runs meanwhile."""
    file = stage.count_file(proxy.name)
    file.unlink(missing_ok=True)
    os.kill(proxy.process.pid, BEGIN)
    do()
    os.kill(proxy.process.pid, END)
    deadline = time.monotonic() + ANSWER_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{proxy.name} does not say what it counted")
        time.sleep(0.02)
    return int(file.read_text("utf-8"))
