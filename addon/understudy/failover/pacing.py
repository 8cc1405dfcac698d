"""How many calls begin on a credential, and when: steps after a switch, and never more than its ``concurrency``.

When an account ends, everything that was under way on it goes to the next one within a second, and may end that one as
well. So the calls of a candidate that others have switched to begin in steps: one, then one more each STEP seconds, for
RAMP seconds. Whoever cannot begin waits in the order of coming, in a queue that is bounded in number here and in time
by the exchange; a full queue is a reason to go on to the next candidate. A call that finds nothing under way and nobody
waiting begins at once, and so does one whose session the candidate serves already: neither is part of a storm.

A place counts for as long as somebody holds it: one that is dropped without a word is free again. Time is injected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from weakref import WeakSet, ref

from understudy.failover.generations import own_name
from understudy.failover.held_calls import HeldCalls

STEP = 0.25
"""Seconds between two beginnings after a switch."""
RAMP = 30.0
"""Seconds for which beginnings are spaced after a switch."""
MOST_WAITING = 100
"""Calls that wait for one credential; another one goes to the next candidate."""
LOOK = 0.05
"""Seconds between two looks of the first in a queue whether a place is free."""
MOST_LANES = 10_000


class Place:
    """One call on a credential: under way, or waiting for that."""

    __slots__ = ("__weakref__", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def leave(self) -> None:
        """The call is over, or does not wait any more."""
        self.lane.leave(self)


class Lane:
    """The calls of one credential while they are counted. ``limit``: how many at a time, 0: any number."""

    def __init__(self, clock: Callable[[], float], limit: int) -> None:
        self.clock = clock
        self.limit = limit
        self.ramp_until = 0.0
        self._next_at = 0.0
        self._under_way: WeakSet[Place] = WeakSet()
        self._waiting: deque[ref[Place]] = deque()

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        while self._waiting and self._waiting[0]() is None:
            self._waiting.popleft()
        return len(self._waiting)

    @property
    def is_ramping(self) -> bool:
        """Whether beginnings are spaced now."""
        return self.clock() < self.ramp_until

    @property
    def is_used(self) -> bool:
        """Whether it holds anything that counts."""
        return bool(self._under_way) or self.waiting > 0 or self.is_ramping

    @property
    def has_room(self) -> bool:
        """Whether fewer calls are under way than may be."""
        return not self.limit or len(self._under_way) < self.limit

    def begin(self, *, seated: bool = False, at_once: bool = False) -> Place | None:
        """A call begins now; None where it has to wait. ``seated``: the candidate serves its session already.

        ``at_once``: it goes ahead of those that wait, for it has no time to wait, but not past the limit.
        """
        if not self.has_room:
            return None
        if not (seated or at_once):
            if self.waiting:
                return None
            if self.is_ramping and self._under_way and self.clock() < self._next_at:
                return None
        return self._begun(Place(self))

    def wait(self, longest: float) -> Place | None:
        """A call waits for its turn; None where the queue is full, or no turn can come within ``longest`` seconds."""
        ahead = self.waiting
        steps = max(0.0, self._next_at - self.clock()) + STEP * ahead if self.is_ramping else 0.0
        if longest <= 0 or ahead >= MOST_WAITING or steps > longest:
            return None
        place = Place(self)
        self._waiting.append(ref(place))
        return place

    def is_turn(self, place: Place) -> bool:
        """Whether a call that waits may begin now."""
        first = self.waiting and self._waiting[0]() is place
        return bool(first) and self.has_room and not (self.is_ramping and self.clock() < self._next_at)

    def take_turn(self, place: Place) -> None:
        """A call that waited begins."""
        self._drop(place)
        self._begun(place)

    def look_in(self, place: Place) -> float:
        """Seconds after which it is worth asking for a turn again."""
        ahead = self.waiting and next((at for at, each in enumerate(self._waiting) if each() is place), 0)
        if not self.is_ramping or not self.has_room:
            return LOOK * (1 + ahead)
        return max(0.01, self._next_at - self.clock() + STEP * ahead)

    def leave(self, place: Place) -> None:
        """A call is over, or does not wait any more."""
        self._under_way.discard(place)
        self._drop(place)

    def _begun(self, place: Place) -> Place:
        self._next_at = self.clock() + STEP
        self._under_way.add(place)
        return place

    def _drop(self, place: Place) -> None:
        if any(each() is place for each in self._waiting):
            self._waiting = deque(each for each in self._waiting if each() not in (None, place))


class Pacing:
    """The lanes of all credentials that need one: those with a ``concurrency``, and those that others switched to."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.held = HeldCalls()
        """Those that wait for no turn, but for a reset."""
        self.ramp_seconds = RAMP
        self.is_idle = True
        """Whether no call anywhere is counted: mostly, and every call asks."""
        self._limits: Mapping[str, int] = {}
        self._lanes: dict[str, Lane] = {}

    def use(self, limits: Mapping[str, int], ramp_seconds: float = RAMP) -> None:
        """A pool is in use. ``limits``: the credentials with a ``concurrency``; ``ramp_seconds``: 0 for no ramps."""
        self._limits, self.ramp_seconds = limits, ramp_seconds
        for name, lane in self._lanes.items():
            lane.limit = self._limit(name)
        self._look()

    def _look(self) -> None:
        self.is_idle = not (self._lanes or self._limits)

    def _limit(self, credential: str) -> int:
        """Each tool's own credential is an account of its own, with the limit that the pool file states for all."""
        return self._limits.get(own_name(credential), 0)

    def _add(self, credential: str, limit: int) -> Lane:
        if len(self._lanes) >= MOST_LANES:
            del self._lanes[
                next((name for name, each in self._lanes.items() if not each.is_used), next(iter(self._lanes)))
            ]
        lane = self._lanes[credential] = Lane(self.clock, limit)
        self._look()
        return lane

    def lane(self, credential: str) -> Lane | None:
        """The lane of a credential, None where its calls just begin."""
        lane = self._lanes.get(credential)
        if lane is None and (limit := self._limit(credential)):
            lane = self._add(credential, limit)
        if lane is not None and not lane.limit and not lane.is_ramping and not lane.waiting:
            del self._lanes[credential]
            self._look()
            return None
        return lane

    def switched_to(self, credential: str) -> None:
        """Calls of another credential come to this one from now on: they begin in steps, unless that is so already."""
        if not self.ramp_seconds:
            return
        lane, now = self._lanes.get(credential) or self._add(credential, self._limit(credential)), self.clock()
        if lane.ramp_until <= now - self.ramp_seconds or not lane.ramp_until:
            lane.ramp_until = now + self.ramp_seconds

    def of(self, credential: str) -> tuple[int, int, int]:
        """Calls under way, waiting, and at most at a time (0: any number) of a credential; zeros without a lane."""
        lane = self.lane(credential)
        return (lane.under_way, lane.waiting, lane.limit) if lane is not None else (0, 0, 0)
