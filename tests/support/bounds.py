"""What hostile input may cost: a limit so far above the real cost that only a wrong order of growth reaches it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANG = 20.0
"""Seconds of CPU time after which something hangs. What the tests do here takes a thousandth of it."""


@contextmanager
def no_hang(seconds: float = HANG) -> Iterator[None]:
    """Fail instead of hanging. Expressions and Python code can be interrupted; so only for the main thread.

    ``seconds``: of CPU time of this process, since on a busy machine the clock says nothing of the cost.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds:g} seconds of CPU time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
