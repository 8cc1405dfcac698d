"""How long candidates take to their first event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.suspensions import first_events as module
from understudy.suspensions.first_events import CALLS, ENOUGH, LEAST, FirstEvents, Pace


def told(*seconds: float) -> FirstEvents[str]:
    """What is known of candidate "a" after these times."""
    times: FirstEvents[str] = FirstEvents()
    for each in seconds:
        times.spoke("a", each)
    return times


def test_a_limit_of_its_own_needs_enough_calls() -> None:
    """A05: twice what nineteen of twenty calls kept, and never less than ten seconds."""
    assert told(*[20.0] * (ENOUGH - 1)).own_limit("a") is None
    assert told(*[20.0] * ENOUGH).own_limit("a") == 40.0
    assert told(*[1.0] * ENOUGH).own_limit("a") == LEAST
    assert told(*[20.0] * ENOUGH).own_limit("b") is None


def test_one_slow_call_in_twenty_is_no_measure() -> None:
    """A05: the nearest rank; of ten calls the slowest is the 95th percentile."""
    assert told(*[10.0] * 19, 90.0).own_limit("a") == 20.0
    assert told(*[10.0] * 9, 90.0).own_limit("a") == 180.0


def test_only_the_last_calls_count() -> None:
    assert told(*[90.0] * CALLS, *[10.0] * CALLS).own_limit("a") == 20.0


def test_whoever_is_given_up_counts_twice_its_wait() -> None:
    times = told(*[10.0] * ENOUGH)
    for _ in range(ENOUGH):
        times.given_up("a", 15.0)
    assert times.own_limit("a") == 60.0


def test_a_clock_that_was_set_back_makes_nobody_faster_than_at_once() -> None:
    assert told(-5.0).pace("a") == Pace(0.0, 0.0, 1)


def test_the_pace_is_that_of_the_last_calls() -> None:
    """It is worked out anew once the candidate has spoken again; who was never asked has none."""
    times = told(1.0, 3.0, 2.0004)
    assert times.pace("b") is None
    assert times.pace("a") == Pace(2.0, 3.0, 3)
    assert times.pace("a") == Pace(2.0, 3.0, 3)
    times.spoke("a", 9.0)
    assert times.pace("a") == Pace(2.0, 9.0, 4)
    times.spoke("b", 7.0)
    assert times.pace("a") == Pace(2.0, 9.0, 4)


def test_law_10_how_many_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: candidates, and what was worked out for who looks."""
    monkeypatch.setattr(module, "CANDIDATES", 2)
    times: FirstEvents[int] = FirstEvents()
    for number in range(9):
        times.spoke(number, 1.0)
        assert times.pace(number) is not None
        assert len(times._paces) <= 2
    assert [number for number in range(9) if times.own_limit(number) or number in times._times] == [7, 8]
    times.spoke(7, 2.0)
    times.spoke(9, 1.0)
    assert [number for number in range(10) if times.pace(number)] == [7, 9], "those that spoke last"


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=CALLS))
def test_a_pace_is_a_time_that_a_call_took(seconds: list[float]) -> None:
    """Of half and of nineteen in twenty, and no fewer calls have kept it."""
    pace = told(*seconds).pace("a")
    assert pace is not None and pace.calls == len(seconds)
    for kept, share in ((pace.median, 0.5), (pace.p95, 0.95)):
        rounded = [round(each, 3) for each in seconds]
        assert kept in rounded
        assert sum(each <= kept for each in rounded) >= share * len(seconds)
        assert sum(each < kept for each in rounded) < share * len(seconds)
