"""Bytecode instructions of a call that needs no replay, also over HTTP/2, and of an event of a released stream.

How much work that is, whatever else the machine is doing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmark import calls, messages
from benchmark.counter import BEGIN, END
from benchmark.figures import Row, Unit, at_most, compare
from benchmark.processes import BenchmarkError
from benchmark.stage import Proxy, Stage

MORE = 1.03
"""So many times what it was when this bar was set: against slow creep. Every machine has the same ratio."""
CALL = at_most(0.39 * MORE, f"≤ {0.39 * MORE:.2f}")
HTTP2_CALL = at_most(0.30 * MORE, f"≤ {0.30 * MORE:.2f}")
EVENT = at_most(0.85, "≤ 0.85")
"""Wider: 0.56 to 0.83 were counted in single rounds, as it depends on the moment how many events one read brings."""
CALLS = 40
WARM_UP = 200
CONNECTIONS = 2
HTTP2 = calls.Point("TLS, HTTP/2", 1_000, 1, tls=True, http2=True)
FEW, MANY = 20, 60
"""Calls over one connection of HTTP/2: what more of them take is the calls', without the handshake."""
SHORT, LONG = 50, 150
"""Events of two streams: what is more in the longer one is the events'."""
PACE = 50.0
"""Events per second: slow enough that a proxy which counts gets each of them alone."""
ANSWER_SECONDS = 10.0


def work(stage: Stage, rounds: int) -> Iterator[Row]:
    """Needs two proxies of its own: they count."""
    pair = stage.start_pair(counted=True)
    with_http2 = shutil.which("h2load") is not None
    for proxy in pair:
        make_calls(stage, proxy, WARM_UP)
        read_stream(stage, proxy, SHORT)
        if with_http2:
            calls.h2load(stage, proxy, HTTP2, WARM_UP)
    measured = [("JSON: instructions of a call", per_call, CALL), ("SSE: instructions of an event", per_event, EVENT)]
    if with_http2:
        measured.insert(1, ("JSON, TLS, HTTP/2: instructions of a call", per_http2_call, HTTP2_CALL))
    for name, measure, bar in measured:
        counts: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for proxy, found in zip(pair, counts, strict=True):
                found.append(measure(stage, proxy))
        yield compare(name, Unit.COUNT, *counts, bar)
    stage.stop_pair(pair)


def per_call(stage: Stage, proxy: Proxy) -> float:
    """The instructions of a call."""
    return counted(stage, proxy, lambda: make_calls(stage, proxy, CALLS)) / CALLS


def per_http2_call(stage: Stage, proxy: Proxy) -> float:
    """The instructions of a call over TLS and HTTP/2."""
    many, few = (counted(stage, proxy, partial(calls.h2load, stage, proxy, HTTP2, count)) for count in (MANY, FEW))
    return (many - few) / (MANY - FEW)


def per_event(stage: Stage, proxy: Proxy) -> float:
    """The instructions of an event in the middle of a stream."""
    long, short = (counted(stage, proxy, partial(read_stream, stage, proxy, events)) for events in (LONG, SHORT))
    return (long - short) / (LONG - SHORT)


def read_stream(stage: Stage, proxy: Proxy, events: int) -> None:
    """One stream of so many events."""
    body = messages.stream_body(events, PACE)
    stage.ask_client(do="streams", port=proxy.streams, body=body, streams=1, events=events, repeat=1, stagger=0)


def make_calls(stage: Stage, proxy: Proxy, count: int) -> None:
    """So many calls."""
    body = messages.call_body(messages.JSON_ALIAS)
    stage.ask_client(do="calls", port=proxy.calls, body=body, connections=CONNECTIONS, count=count, seconds=0)


def counted(stage: Stage, proxy: Proxy, do: Callable[[], object]) -> int:
    """The instructions that a proxy runs meanwhile; see ``counter.TIMED`` for what is left out."""
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
