"""Picking among many candidates, inside this process: no proxy, no I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmark.figures import Row, Unit, alone, at_most
from understudy.failover.selection import Selector
from understudy.model.pool import Choice, Credential, Route, Strategy, Upstream
from understudy.model.suspension import Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.suspensions.cache import Suspensions

COUNTS = (10, 1_000, 10_000)
WEIGHTS = 5
"""How many different weights there are."""
PICK = at_most(20.0, "< 20 us")
ALIAS, DIALECT = "model", "openai"


class NoSecret:
    """A secret source that is never asked."""

    is_client = False
    refreshable = False

    def reveal(self) -> str:
        """There is none."""
        return ""


def picking(rounds: int, picks: int = 2000) -> Iterator[Row]:
    """Microseconds per pick, all candidates available and the first half suspended."""
    for count in COUNTS:
        for strategy in Strategy:
            for suspended in (0, count // 2):
                selector, route = _selector(count, strategy, suspended)
                figures = [_time(selector, route, picks) for _ in range(rounds)]
                state = f", first {suspended:,} suspended" if suspended else ""
                yield alone(f"pick among {count:,}, {strategy}{state}", Unit.MICROSECONDS, figures, PICK)


def _selector(count: int, strategy: Strategy, suspended: int) -> tuple[Selector, Route]:
    upstream = Upstream("main", DIALECT, "https", "upstream.example", 443)
    weights = WEIGHTS if strategy is Strategy.WEIGHTED else 1
    choices = [
        Choice(Credential(f"credential-{number}", upstream, NoSecret()), weight=1 + number % weights)
        for number in range(count)
    ]
    route = Route(ALIAS, tuple(choices), strategy)
    suspensions = Suspensions(time.time)
    selector = Selector(suspensions)
    now = time.time()
    lineup = selector.lineup(route, ALIAS, DIALECT)
    for candidate in lineup.members[:suspended]:
        key = key_of(candidate, Scope.CANDIDATE)
        suspensions.suspend(Suspension(key, now, now + 3600, Label.RATE_LIMITED, "benchmark"))
    if lineup.available().bit_count() != count - suspended:
        raise AssertionError("what was suspended is still available")
    return selector, route


def _time(selector: Selector, route: Route, picks: int) -> float:
    begun = time.perf_counter_ns()
    for _ in range(picks):
        if selector.lineup(route, ALIAS, DIALECT).pick() is None:
            raise AssertionError("no candidate was picked")
    return (time.perf_counter_ns() - begun) / 1000 / picks
