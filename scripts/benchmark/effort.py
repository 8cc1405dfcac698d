"""How much is measured, and the order in which it is: bare, understudy, bare, understudy, ..."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmark.stage import Pair, Proxy


@dataclass(frozen=True, slots=True)
class Effort:
    """``paced_seconds`` and ``events`` are of one round of streams, the latter over all of them and at full speed."""

    call_rounds: int
    longest_call_round: int
    stream_rounds: int
    paced_seconds: float
    events: int
    failovers: int
    work_rounds: int
    pick_rounds: int
    memory_rounds: int
    memory_requests: int
    warm_up_requests: int
    starts: int


FULL = Effort(7, 2, 6, 0.8, 12_000, 40, 3, 5, 2, 10_000, 2_000, 7)
QUICK = Effort(2, 1, 1, 0.3, 4_000, 10, 3, 3, 1, 600, 300, 2)
SETTLE = 0.2
"""Seconds until a proxy has let go of the connections of a round, so that this is not charged to the other one."""


def take_turns[T](rounds: int, pair: Pair, measure: Callable[[Proxy], T]) -> tuple[list[T], list[T]]:
    """Measure both in turns; returns what came out for the bare one and for ours, round by round."""
    bare: list[T] = []
    ours: list[T] = []
    for _ in range(rounds):
        for proxy, results in ((pair.bare, bare), (pair.ours, ours)):
            results.append(measure(proxy))
            time.sleep(SETTLE)
    return bare, ours
