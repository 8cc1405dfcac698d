"""Event streams: latencies at a modest pace, and events per second at full speed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from benchmark import messages
from benchmark.effort import Effort, take_turns
from benchmark.figures import Bar, Row, Unit, at_least, at_most, compare
from benchmark.stage import Pair, Proxy, Stage

STREAMS = (1, 50, 200)
EVENT_RATE = at_least(1.5)
EVENT_CPU = at_most(0.6, "≤ 0.60")
FIRST_EVENT = at_most(1.0, "≤ 1")
PACED_RATE = 1000.0
"""Events per second over all paced streams, well below what a proxy can do: latency is then its own, not a queue's."""
FASTEST = 200.0
"""Events per second of one paced stream."""
STAGGER = 0.012
"""Seconds between the beginnings of paced streams, for the same reason."""
SINGLES = 20
"""A single stream is opened so many times a round, one after the other."""
SHORTEST = 100
"""Events of a stream at full speed, at least: tools' streams are rarely shorter, and its end has a cost of its own."""
FIGURES: tuple[tuple[str, str, Bar | None], ...] = (
    ("first50", "first event, p50", FIRST_EVENT),
    ("first99", "first event, p99", None),
    ("event50", "each event, p50", None),
    ("event99", "each event, p99", None),
)
_numbers = itertools.count()


def streams(stage: Stage, pair: Pair, effort: Effort) -> Iterator[Row]:
    """1, 50 and 200 streams at a time."""
    for proxy in pair:
        flood(stage, proxy, 20, 100)
    for count in STREAMS:
        name = f"SSE, {count} stream{'s' if count > 1 else ''}: "

        def measure_paced(proxy: Proxy, count: int = count) -> dict[str, float]:
            return paced(stage, proxy, count, effort.paced_seconds)

        def measure_flood(proxy: Proxy, count: int = count) -> dict[str, float]:
            events, before = max(SHORTEST, effort.events // count), proxy.cpu
            rate = flood(stage, proxy, count, events)
            return {"rate": rate, "cpu": (proxy.cpu - before) / (events * count)}

        bare, ours = take_turns(effort.stream_rounds, pair, measure_paced)
        for figure, label, bar in FIGURES:
            yield compare(name + label, Unit.MILLISECONDS, [r[figure] for r in bare], [r[figure] for r in ours], bar)
        bare, ours = take_turns(effort.stream_rounds, pair, measure_flood)
        for figure, label, unit, bar in (
            ("cpu", "CPU time of an event", Unit.MICROSECONDS, EVENT_CPU),
            ("rate", "events", Unit.PER_SECOND, EVENT_RATE),
        ):
            yield compare(name + label, unit, [r[figure] for r in bare], [r[figure] for r in ours], bar)


def paced(stage: Stage, proxy: Proxy, count: int, seconds: float) -> dict[str, float]:
    """Latencies in microseconds, see ``client.streams``."""
    rate = min(FASTEST, PACED_RATE / count)
    repeat, stagger = (SINGLES, 0.0) if count == 1 else (1, STAGGER)
    events = max(2, round(rate * seconds / repeat))
    body = messages.stream_body(events, rate)
    return stage.ask_client(
        do="streams", port=proxy.streams, body=body, streams=count, events=events, repeat=repeat, stagger=stagger
    )


def flood(stage: Stage, proxy: Proxy, count: int, events: int) -> float:
    """Events per second over all streams, from when all are open until all have ended."""
    body = messages.stream_body(events, 0, f"flood-{next(_numbers)}", count)
    return stage.ask_client(
        do="streams", port=proxy.streams, body=body, streams=count, events=events, repeat=1, stagger=0
    )["rate"]
