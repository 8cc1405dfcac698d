"""The clock by which durations are measured: it never jumps, whatever is done to the wall clock (law 10).

It counts seconds like Unix time, from what the wall clock said when it was made, so its readings can be stored and
compared as before. It goes on while a computer sleeps, so that a suspension of an hour is over after a night. What
people and files are told, and what vendors say as a date, is in wall time: :func:`ahead_of` converts at these edges.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _monotonic() -> Callable[[], float]:
    # Linux: CLOCK_MONOTONIC stands still in sleep. macOS: time.monotonic() does, and CLOCK_MONOTONIC does not.
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        if (which := getattr(time, name, None)) is not None:
            return partial(time.clock_gettime, which)
    return time.monotonic


class SteadyClock:
    """Call it for a reading in seconds. ``wall`` and ``monotonic`` are the clocks of the system."""

    __slots__ = ("_begin", "_monotonic", "wall")

    def __init__(self, wall: Callable[[], float] | None = None, monotonic: Callable[[], float] | None = None) -> None:
        self.wall = wall
        """The clock of the system that was given; None: ``time.time``, as it is when it is asked."""
        self._monotonic = monotonic or _monotonic()
        self._begin = (wall or time.time)() - self._monotonic()

    def __call__(self) -> float:
        return self._begin + self._monotonic()


_NOTHING = 0.5
"""Seconds by which the two clocks differ although neither was set: drift, and the time between two readings."""

STEADY = SteadyClock()
"""The clock of this process: parts that compare their readings have to use the same one."""


def ahead_of(clock: Callable[[], float]) -> float:
    """Seconds to add to a reading of a clock to get wall time, once that was set; 0 for a clock that is one."""
    if not isinstance(clock, SteadyClock):
        return 0.0
    ahead = (clock.wall or time.time)() - clock()
    return ahead if abs(ahead) > _NOTHING else 0.0
