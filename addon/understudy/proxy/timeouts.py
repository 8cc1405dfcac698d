"""Time-outs inside mitmproxy's core: one alarm per client connection, shared by all its requests.

mitmproxy can wake a layer up (``RequestWakeup``), but every wake-up is a task that lives until it rings. Arming one per
request would leave thousands of them asleep, so a connection keeps one pending alarm and looks at all its streams when
it rings. What is used of mitmproxy's internals is listed in ``tests/test_contract.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpLayer

SLACK = 0.005
"""Seconds by which a time-out may come early, so that an alarm that rings on time finds it due."""


class Alarm(commands.RequestWakeup):
    """A wake-up that belongs to a watch. On its way down it passes the HTTP layers of outer tunnels."""

    watch: Watch


@dataclass
class Due(events.Event):
    """The time-out that a stream asked for has come. ``error``: it never will, because this happened."""

    error: Exception | None = None


class Watched(Protocol):
    """A stream that can be watched."""

    def cut_connecting(self) -> CommandGenerator[bool]:
        """If the stream waits for a connection, give that connection up and return True."""
        ...


class Watch:
    """The time-outs of the streams of one ``HttpLayer``. Times are readings of ``clock``, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.due: dict[Watched, float] = {}
        self._pending: list[float] = []

    def arm(self, stream: Watched, at: float) -> CommandGenerator[None]:
        """Ask that the stream gets a :class:`Due` at this time. A stream has one time-out: the last one asked for."""
        self.due[stream] = at
        yield from self._ensure(at)

    def disarm(self, stream: Watched) -> None:
        """Forget the stream's time-out."""
        self.due.pop(stream, None)

    def ring(self, layer: HttpLayer) -> CommandGenerator[None]:
        """An alarm rings: tell every stream whose time has come, and see to the others."""
        now = self.clock() + SLACK
        self._pending = [at for at in self._pending if at > now]
        for stream in [stream for stream, at in self.due.items() if at <= now]:
            if self.due.pop(stream, None) is None or (yield from stream.cut_connecting()):
                continue
            yield from layer.event_to_child(stream, Due())  # type: ignore[arg-type]
        if self.due:
            yield from self._ensure(min(self.due.values()))

    def ring_safely(self, layer: HttpLayer) -> CommandGenerator[None]:
        """As :meth:`ring`; when that fails, every stream that waits for an alarm is told, so that none hangs."""
        try:
            yield from self.ring(layer)
        except Exception as error:
            self.due.clear()
            waiting = [each for each in layer.streams.values() if getattr(each, "due_at", math.inf) < math.inf]
            for stream in dict.fromkeys(waiting):
                yield from layer.event_to_child(stream, Due(error))

    def _ensure(self, at: float) -> CommandGenerator[None]:
        if not any(pending <= at for pending in self._pending):
            self._pending.append(at)
            alarm = Alarm(max(0.0, at - self.clock()))
            alarm.watch = self
            yield alarm


_WATCHES: WeakKeyDictionary[HttpLayer, Watch] = WeakKeyDictionary()


def watch_of(layer: HttpLayer, clock: Callable[[], float]) -> Watch:
    """The watch of a connection's HTTP layer."""
    watch = _WATCHES.get(layer)
    if watch is None:
        watch = _WATCHES[layer] = Watch(clock)
    return watch


def is_alarm_of(layer: HttpLayer, event: events.Event) -> bool:
    """Whether this event is the ringing of an alarm of this very layer."""
    return type(event) is events.Wakeup and type(event.command) is Alarm and event.command.watch is _WATCHES.get(layer)
