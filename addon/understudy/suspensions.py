"""The memory of what is out of rotation: suspensions of candidates, credentials and upstreams, each until a time.

Laws kept here: a suspension is keyed by the concrete upstream model, never by the alias, and is only ever lengthened
until it expires or is resumed (law 3); a success resumes the very candidate it proves, and only what was set before
the successful attempt began (laws 3 and 4). Time comes from an injected clock, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol
from weakref import WeakSet

from cachetools import TLRUCache

from understudy.pool import Candidate, printable
from understudy.rules import Label, Scope

LIMIT = 100_000
"""The most suspensions kept. At the limit a new one is dropped: evicting would revive a live one."""


class Key(NamedTuple):
    """What is suspended. ``model`` is empty unless the scope is a candidate."""

    scope: Scope
    name: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.scope} {self.name} {printable(self.model)}".rstrip()


def key_of(candidate: Candidate, scope: Scope) -> Key:
    """The key under which this candidate, its credential or its upstream is suspended."""
    match scope:
        case Scope.CANDIDATE:
            return Key(scope, candidate.credential.name, candidate.model)
        case Scope.CREDENTIAL:
            return Key(scope, candidate.credential.name)
        case Scope.UPSTREAM:
            return Key(scope, candidate.upstream.name)


@dataclass(frozen=True, slots=True)
class Suspension:
    """Out of rotation until ``until``, with the evidence. ``since`` and ``until`` are readings of the clock.

    ``stated`` tells that the upstream itself named the time (``hint`` says where), so that even a route with a
    single candidate keeps to it.
    """

    key: Key
    since: float
    until: float
    label: Label
    rule: str
    evidence: str = ""
    hint: str = ""

    @property
    def stated(self) -> bool:
        """Whether the reply itself stated the window."""
        return bool(self.hint) and self.label in (Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED)


class Listener(Protocol):
    """Somebody who wants to know what comes and goes."""

    def changed(self, key: Key, suspended: bool) -> None:
        """A key was suspended, or is back in rotation."""


def _until(_key: Key, suspension: Suspension, _now: float) -> float:
    return suspension.until


class Suspensions:
    """The TTL cache of suspensions.

    ``listeners`` are told of every entry that comes or goes, for as long as somebody else keeps them alive: a request
    may still work on the lineups of a pool that was replaced since (law 11).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.listeners: WeakSet[Listener] = WeakSet()
        self._told: set[Key] = set()
        """What the listeners know as suspended."""
        # An infinite size: a finite one evicts live suspensions. LIMIT bounds it instead.
        self._cache: TLRUCache[Key, Suspension] = TLRUCache(maxsize=math.inf, ttu=_until, timer=clock)

    def __len__(self) -> int:
        with self._cache.timer:
            self.expire()
            return len(self._cache)

    def __iter__(self) -> Iterator[Suspension]:
        """The running suspensions, the earliest due first."""
        with self._cache.timer:
            self.expire()
            running = [self._cache[key] for key in self._cache]
        yield from sorted(running, key=lambda item: item.until)

    def get(self, key: Key) -> Suspension | None:
        """The running suspension of a key, or None."""
        return self._cache.get(key)

    def expire(self) -> None:
        """Let go of what is due. Costs next to nothing while nothing is."""
        for key, _ in self._cache.expire():
            self._tell(key, False)

    def suspend(self, suspension: Suspension) -> Suspension | None:
        """Take something out of rotation; a running suspension that lasts longer keeps its end and its evidence.

        Returns the suspension that now holds, None when there is none: it is due already, or there is no room.
        """
        key = suspension.key
        # Time stands still meanwhile: the cache lets go of due entries by itself, and nobody would be told.
        with self._cache.timer as now:
            self.expire()
            running = self._cache.get(key)
            if running is not None and running.until >= suspension.until:
                # The newer refusal counts for what a late success may still undo.
                suspension = replace(running, since=max(running.since, suspension.since))
            if suspension.until <= now or (running is None and len(self._cache) >= LIMIT):
                return None
            self._cache[key] = suspension
            if running is None:
                self._tell(key, True)
        return suspension

    def resume(self, key: Key, *, set_before: float = math.inf) -> Suspension | None:
        """Put something back into rotation; returns what was lifted, None if nothing was.

        ``set_before``: only a suspension set earlier than this reading of the clock is lifted, so that a late
        success does not undo a newer refusal.
        """
        if key not in self._told:
            return None  # the common case, and every success asks
        with self._cache.timer:
            self.expire()
            running = self._cache.get(key)
            if running is None or running.since >= set_before:
                return None
            del self._cache[key]
            self._tell(key, False)
        return running

    def _tell(self, key: Key, suspended: bool) -> None:
        (self._told.add if suspended else self._told.discard)(key)
        for listener in self.listeners:
            listener.changed(key, suspended)
