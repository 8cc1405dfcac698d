"""The wait between two attempts: until a candidate comes back, by itself or by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

from mitmproxy.proxy.layer import CommandGenerator

from understudy.failover import Exchange, Step, Wait
from understudy.proxy.timeouts import SLACK, Timeout

LOOK_INTERVAL = 0.25
"""Seconds between two looks at whether a wait can end early: a resumption by hand, or another exchange's probe."""


class Waiting:
    """The waits of one exchange. ``timeout``: that of the layer which waits, and which has to call :meth:`on_due`."""

    def __init__(self, exchange: Exchange, timeout: Timeout, clock: Callable[[], float]) -> None:
        self._exchange, self._timeout, self._clock = exchange, timeout, clock
        self._until = -math.inf

    @property
    def goes_on(self) -> bool:
        """Whether a wait has begun and not ended."""
        return self._until > -math.inf

    def begin(self, seconds: float) -> CommandGenerator[None]:
        """Do nothing for a while, and look now and then whether that can end early."""
        self._until = self._clock() + seconds
        yield from self._timeout.start(self._next_look(seconds))

    def on_due(self) -> CommandGenerator[Step | None]:
        """The time-out has come: return the step that ends the wait, None while it goes on."""
        if not self.goes_on or not self._timeout.is_due:
            return None
        left = self._until - self._clock()
        if left > SLACK and not self._exchange.is_ready():
            yield from self._timeout.start(self._next_look(left))
            return None
        step = self._exchange.resume(self._clock())
        if isinstance(step, Wait) and step.seconds <= SLACK:
            yield from self._timeout.start(step.seconds)  # the alarm was early
            return None
        self.stop()
        return step

    def _next_look(self, left: float) -> float:
        """A turn is looked for when it can come; anything else now and then."""
        look = self._exchange.look_in()
        return min(left, LOOK_INTERVAL if look is None else look)

    def stop(self) -> None:
        """Nothing is waited for any longer."""
        self._until = -math.inf
        self._timeout.stop()
