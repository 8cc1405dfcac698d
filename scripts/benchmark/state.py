"""The state file with many suspensions, inside this process: how long it takes to load, and how long a write holds up
the event loop while its thread works."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmark.figures import Row, Unit, alone, at_most
from benchmark.picking import NoSecret
from understudy.model.pool import Credential, Pool, Upstream
from understudy.model.suspension import Key, Suspension
from understudy.model.verdict import Label, Scope
from understudy.suspensions.cache import Suspensions
from understudy.suspensions.ladder import Rung
from understudy.suspensions.persistence import StateKeeper

COUNT = 10_000
LOAD = at_most(1_000_000.0, "< 1 s")


def state(rounds: int) -> Iterator[Row]:
    """Microseconds of CPU to load the file, as other work on the machine says nothing about it; and the longest that
    the event loop had to wait during a write, which other work lengthens."""
    with tempfile.TemporaryDirectory(prefix="understudy-state-") as folder:
        figures = [_round(Path(folder) / f"{number}.json") for number in range(rounds)]
    yield alone(
        f"state file of {COUNT:,} suspensions: load, CPU time", Unit.MILLISECONDS, [load for load, _ in figures], LOAD
    )
    yield alone(f"state file of {COUNT:,} suspensions: longest hold-up by a write", Unit.MILLISECONDS,
                [gap for _, gap in figures])  # fmt: skip


def _round(path: Path) -> tuple[float, float]:
    upstream = Upstream("main", "openai", "https", "upstream.example", 443)
    credentials = {f"credential-{number}": Credential(f"credential-{number}", upstream, NoSecret())
                   for number in range(COUNT)}  # fmt: skip
    pool = replace(Pool({"main": upstream}, credentials), state=str(path))
    suspensions, now = Suspensions(time.time), time.time()
    evidence = "HTTP 429: rate_limit_exceeded: Rate limit reached for requests per minute. Please try again later."
    for name in credentials:
        key = Key(Scope.CANDIDATE, name, "model")
        suspensions.suspend(Suspension(key, now, now + 3600, Label.RATE_LIMITED, "general/rate_limited", evidence))
        suspensions.ladders.climb(key, Label.RATE_LIMITED, Rung(3, 1, now + 3600))
    keeper = StateKeeper(suspensions)
    keeper.use(pool)
    gap = asyncio.run(_longest_gap(keeper))
    keeper.close()
    again = StateKeeper(Suspensions(time.time))
    begun = time.process_time()
    again.use(pool)
    loaded = time.process_time() - begun
    if len(again.suspensions) != COUNT:
        raise AssertionError("not all suspensions came back")
    again.close()
    return loaded * 1e6, gap * 1e6


async def _longest_gap(keeper: StateKeeper) -> float:
    """Seconds between two turns of the loop, at most, while a write is under way."""
    writing = asyncio.create_task(keeper.write_changes())
    longest, last = 0.0, time.perf_counter()
    while not writing.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest
