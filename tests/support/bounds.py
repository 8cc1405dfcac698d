"""What hostile input may cost: a limit so far above the real cost that only a wrong order of growth reaches it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANG = 20.0
"""Seconds after which something hangs. What the tests do here takes a thousandth of it."""


@contextmanager
def no_hang(seconds: float = HANG) -> Iterator[None]:
    """Fail instead of hanging. Expressions and Python code can be interrupted; so only for the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
