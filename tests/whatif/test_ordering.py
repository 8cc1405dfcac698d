"""Calls in the order in which they began, with their attempts on whichever side these stand."""

from __future__ import annotations

import json

import pytest
from mitmproxy import http

from tests.support.decisions import NOW, candidate, route
from tests.support.saved_flows import LIMITED, attempt, flow, noted, pool_of, recorder, values
from understudy.whatif import ordering
from understudy.whatif.ordering import Arrangement, Counts
from understudy.whatif.recorder import RecordedCall

POOL = pool_of(route(candidate("work"), candidate("home")))


def arranged(*saved: http.HTTPFlow) -> tuple[list[RecordedCall], Counts]:
    counts = Counts()
    return list(Arrangement(recorder(POOL), counts).calls(values(*saved))), counts


def test_calls_come_in_the_order_in_which_they_began() -> None:
    """A dump has them as they ended: a long stream stands behind what began later."""
    calls, counts = arranged(flow(at=NOW + 5), flow(at=NOW + 1, took=60), flow(path="/v1/models"), flow(at=NOW + 3))
    assert [call.flow for call in calls] == [2, 4, 1]
    assert (counts.flows, counts.calls, counts.attempts, counts.strays) == (4, 3, 0, 0)


FIRST = attempt(1, "work", "rate_limited", 429, LIMITED, at=NOW, took=1)
SECOND = attempt(2, "work", "rate_limited", 429, LIMITED, at=NOW + 2, took=3)
TOOL = flow(at=NOW, took=9, facts=noted(("work", "rate_limited"), ("work", "rate_limited"), ("home", "ok")))


@pytest.mark.parametrize("order", [(FIRST, SECOND, TOOL), (TOOL, SECOND, FIRST), (SECOND, TOOL, FIRST)])
def test_attempts_come_to_their_call_in_their_order(order: tuple[http.HTTPFlow, ...]) -> None:
    """O05: streamed dumps have them before the tool's flow, mitmweb's saved ones behind it."""
    (call,), counts = arranged(*order)
    assert [(each.number, each.credential) for each in call.attempts] == [(1, "work"), (2, "work"), (3, "home")]
    assert [each.seconds for each in call.attempts] == [1, 3, 5]  # 9 in all: the tool's flow began with the first
    assert (counts.calls, counts.attempts, counts.strays) == (1, 2, 0)


def test_attempts_without_their_call_are_counted() -> None:
    calls, counts = arranged(attempt(1, "work", "rate_limited", 429, LIMITED, exchange="gone"), flow())
    assert len(calls) == 1
    assert counts.strays == 1


def test_a_call_without_a_time_stays_where_it_is() -> None:
    timeless = flow()
    timeless.request.timestamp_start = 0
    calls, _ = arranged(flow(at=NOW + 2), timeless, flow(at=NOW + 1))
    assert [call.flow for call in calls] == [3, 1, 2]


def test_the_window_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: in calls, and in bytes of what they keep, on both sides of the window."""
    monkeypatch.setattr(ordering, "WINDOW", 3)
    flows = iter(values(*(flow(at=NOW - number) for number in range(9))))
    calls = Arrangement(recorder(POOL)).calls(flows)
    assert next(calls).flow == 4, "the fourth fills the window"
    assert next(flows).number == 5
    monkeypatch.setattr(ordering, "WINDOW_BYTES", 50_000)
    big = {"error": {"message": "x" * 30_000}}
    flows = iter(values(*(flow(400, big, at=NOW) for _ in range(9))))
    next(Arrangement(recorder(POOL)).calls(flows))
    assert next(flows).number == 3
    early = [attempt(1, "work", "unknown", 400, big, exchange=json.dumps(number)) for number in range(9)]
    counts = Counts()
    arrangement = Arrangement(recorder(POOL), counts)
    assert list(arrangement.calls(values(*early))) == []
    assert counts.strays == 9
    assert arrangement._early_size <= 50_000
