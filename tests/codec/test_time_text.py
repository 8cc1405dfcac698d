"""Times and time spans as people read them."""

from __future__ import annotations

from datetime import datetime

import pytest

from understudy.codec.time_text import clock_time, duration

NOON = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-3, "0s"), (0.2, "1s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3900, "1h5m"), (86400, "24h")],
)
def test_a_duration_reads_as_people_write_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_time_of_another_day_has_its_date() -> None:
    """Whatever the zone of this machine is."""
    assert len(clock_time(NOON, NOON).split()) == 1
    assert clock_time(NOON + 86400, NOON).split() == [clock_time(NOON + 86400, NOON)[:10], clock_time(NOON, NOON)]


@pytest.mark.parametrize("at", [float("inf"), float("nan"), 1e300])
def test_a_time_that_no_calendar_has_is_said_so(at: float) -> None:
    assert clock_time(at, NOON) == "a time too far away to show"


def test_a_time_of_day_has_its_date_unless_it_is_today() -> None:
    """A line in a table is short; another day is said."""
    now = datetime(2026, 5, 17, 12, 0, 0).timestamp()
    assert clock_time(now + 3661, now) == "13:01:01"
    assert clock_time(now + 86400, now) == "2026-05-18 12:00:00"


@pytest.mark.parametrize(
    ("seconds", "text"), [(59, "59s"), (59.5, "1m"), (3661, "1h1m"), (3659.5, "1h1m"), (7199, "1h59m")]
)
def test_a_duration_is_rounded_up_and_has_two_units_at_most(seconds: float, text: str) -> None:
    """Seconds say nothing beside hours."""
    assert duration(seconds) == text
