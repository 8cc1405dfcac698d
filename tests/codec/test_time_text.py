"""Times and time spans as people read them."""

from __future__ import annotations

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
