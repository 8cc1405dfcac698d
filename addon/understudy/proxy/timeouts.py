"""Time-outs inside mitmproxy's core: one alarm per client connection, shared by all its requests.

mitmproxy can wake a layer up (``RequestWakeup``), but every wake-up is a task that lives until it rings. Arming one per
request would leave thousands of them asleep, so a connection keeps one pending alarm and looks at all its time-outs
when it rings. ``tests/test_contract.py`` says what is used of mitmproxy.
"""

from __future__ import annotations

import math
from asyncio import TimerHandle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http import HttpLayer

SLACK = 0.005
"""Seconds by which a time-out may come early, so that an alarm that rings on time finds it due."""


class Alarm(commands.RequestWakeup):
    """A wake-up that belongs to a watch. On its way down it passes the HTTP layers of outer tunnels."""

    watch: Watch
    timer: TimerHandle
    """What rings it, where no task of mitmproxy does."""


@dataclass
class Due(events.Event):
    """The time-out that a layer asked for has come. ``error``: it never will, because this happened."""

    error: Exception | None = None


class Watched(Protocol):
    """What a watch can hold a time for."""

    def ring(self, error: Exception | None) -> CommandGenerator[None]:
        """The time has come; runs in the ``HttpLayer``. ``error``: it never will, because this happened."""
        ...


class Watch:
    """The time-outs of one ``HttpLayer``. Times are readings of ``clock``, in seconds."""

    __slots__ = ("_pending", "clock", "due")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.due: dict[Watched, float] = {}
        self._pending: list[float] = []

    def arm(self, watched: Watched, at: float) -> CommandGenerator[None]:
        """Ask that it rings at this time. There is one time for each: the last one asked for."""
        self.due[watched] = at
        if (alarm := self._alarm(at)) is not None:
            yield alarm

    def disarm(self, watched: Watched) -> None:
        """Forget its time."""
        self.due.pop(watched, None)
        if not self.due:
            self.due.clear()  # which frees its table as well

    def ring(self) -> CommandGenerator[None]:
        """An alarm rings: tell everything whose time has come, and see to the others."""
        now = self.clock() + SLACK
        self._pending = [at for at in self._pending if at > now]
        for watched in [watched for watched, at in self.due.items() if at <= now]:
            if self.due.pop(watched, None) is not None:
                yield from watched.ring(None)
        if self.due and (alarm := self._alarm(min(self.due.values()))) is not None:
            yield alarm

    def ring_safely(self) -> CommandGenerator[None]:
        """As :meth:`ring`; when that fails, everything that waits for an alarm is told, so that nothing hangs."""
        waiting = list(self.due)
        try:
            yield from self.ring()
        except Exception as error:
            self.due.clear()
            for watched in waiting:
                with suppress(Exception):
                    yield from watched.ring(error)

    def _alarm(self, at: float) -> Alarm | None:
        """What rings at this time; None where something does already, or before."""
        if self._pending and min(self._pending) <= at:
            return None
        self._pending.append(at)
        alarm = Alarm(max(0.0, at - self.clock()))
        alarm.watch = self
        return alarm


class Timeout:
    """The time-out of one layer below an ``HttpLayer``: it gets a :class:`Due` when the time has come."""

    __slots__ = ("_clock", "_layer", "_parent", "_watch", "due_at")

    def __init__(self, parent: HttpLayer, layer: Layer, clock: Callable[[], float]) -> None:
        self._parent, self._layer, self._clock, self._watch = parent, layer, clock, watch_of(parent, clock)
        self.due_at = math.inf
        """When it is due, as a reading of the clock; infinite: not at all."""

    @property
    def is_due(self) -> bool:
        """Whether the time has come. One that was put off since may ring all the same."""
        return self._clock() + SLACK >= self.due_at

    def start(self, seconds: float) -> CommandGenerator[None]:
        """Be due in so many seconds, in the place of what was asked for before; infinite: that stays as it is."""
        if seconds == math.inf:
            return
        self.due_at = self._clock() + seconds
        yield from self._watch.arm(self, self.due_at)

    def stop(self) -> None:
        """Be never due."""
        if self.due_at != math.inf:
            self.due_at = math.inf
            self._watch.disarm(self)

    def ring(self, error: Exception | None) -> CommandGenerator[None]:
        """Tell the layer. A failed alarm is no news to one that does not wait for it any longer."""
        if error is None or self.due_at < math.inf:
            yield from self._parent.event_to_child(self._layer, Due(error))


_WATCH = "understudy_watch"
"""The attribute of a connection's layer that has its watch, which so lives exactly as long as the layer."""


def watch_of(layer: HttpLayer, clock: Callable[[], float]) -> Watch:
    """The watch of a connection's HTTP layer."""
    watch = getattr(layer, _WATCH, None)  # not by vars(), which makes a dictionary that stays
    if watch is None:
        watch = Watch(clock)
        setattr(layer, _WATCH, watch)
    assert isinstance(watch, Watch)
    return watch


def is_alarm_of(layer: HttpLayer, event: events.Event) -> bool:
    """Whether this event is the ringing of an alarm of this very layer."""
    return (
        type(event) is events.Wakeup
        and type(event.command) is Alarm
        and event.command.watch is getattr(layer, _WATCH, None)
    )
