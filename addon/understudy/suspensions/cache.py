"""The memory of what is out of rotation: suspensions of candidates, credentials and upstreams, each until a time.

Laws kept here: a suspension is keyed by the concrete upstream model, never by the alias, and is only ever lengthened
until it expires, is resumed by hand, or is disproved (law 3). What has expired is half-open: one probe at a time, until
a success disproves it or a failure suspends it anew. What is learnt from an attempt counts only against what is older
than it: every attempt draws a ticket, and every change has a number from the same counter, because clocks jump (F16).
Time comes from an injected clock, in seconds.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import replace
from typing import Protocol
from weakref import WeakKeyDictionary

from cachetools import TLRUCache

from understudy.limits import Limits
from understudy.model import Candidate, Key, Label, Scope, Suspension, keys_of
from understudy.suspensions.first_events import FirstEvents
from understudy.suspensions.ladder import Ladders
from understudy.suspensions.learned import Learned
from understudy.suspensions.refusal_width import Answers

LIMIT = 100_000
"""The most suspensions kept. At the limit a new one is dropped: evicting would revive a live one."""
CLOSED_WITHIN = 10.0
"""Seconds within which a second connection that breaks says that the upstream is out, and not a connection."""
EARLY_PROBE = 30.0
"""Seconds between two early probes of one candidate, where all candidates are suspended for model_unsupported."""
PROBED = (Label.MODEL_UNSUPPORTED, Label.RATE_LIMITED, Label.OVERLOADED)
"""What is in doubt with one of these labels is half-open when it is due; everything else in doubt is just free."""


class Listener(Protocol):
    """A listener that is told what comes and goes."""

    def changed(self, key: Key, blocked: bool) -> None:
        """A key was suspended or is being probed, or can be picked again."""


class Peers(Protocol):
    """Other processes with the same pool. None of these methods waits for them."""

    def suspended(self, suspension: Suspension) -> None:
        """This process has suspended something, or confirmed a suspension that was running."""

    def cleared(self, key: Key) -> None:
        """A success here has disproved what was held against a key, or a hand has resumed it."""

    def all_cleared(self) -> None:
        """A hand has resumed everything."""

    def grant(self, key: Key) -> bool:
        """Whether the probe of what has expired is this process's to send without asking the others."""

    def wants(self, key: Key) -> None:
        """A request could probe this, if the others allow it: see :meth:`Suspensions.permit`."""


def _until(_key: Key, suspension: Suspension, _now: float) -> float:
    return suspension.until


class Suspensions:
    """The TTL cache of suspensions, and what has come out of it without being proven yet.

    ``listeners`` are told of every key that is blocked or free again, for as long as something else keeps them alive: a
    request may still work on the lineups of a pool that was replaced since (law 11).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.listeners: WeakKeyDictionary[Listener, None] = WeakKeyDictionary()
        self.ladders: Ladders[Key] = Ladders()
        self.generations: Counter[str] = Counter()
        """How often each credential has changed."""
        self.peers: Peers | None = None
        """The processes that this one shares with. What :meth:`renew` and :meth:`retain` drop is not told: the others
        may still have the old secret, or the old pool."""
        self.withheld: set[Key] = set()
        """What is half-open and not ours to probe yet. It stays blocked until the peers permit it."""
        self.answers = Answers()
        """Which models answered on a credential of late."""
        self.learned = Learned(clock)
        """What comparing candidates has taught."""
        self.limits = Limits(clock)
        """What replies said of what is left. It orders candidates, and suspends nothing."""
        self.version = 0
        """Changes with every suspension that comes or goes."""
        self._blocked: set[Key] = set()
        """What the listeners know as blocked: suspended, or being probed."""
        # An infinite size: a finite one evicts live suspensions. LIMIT bounds it instead.
        self._cache: TLRUCache[Key, Suspension] = TLRUCache(maxsize=math.inf, ttu=_until, timer=clock)
        self._half_open: dict[Key, Suspension] = {}
        self._asked: dict[Key, tuple[Suspension, int]] = {}
        """What a hand made due before its time: the suspension as it ran, and when that was, as an order."""
        self._probes: dict[Key, int] = {}
        self._early: dict[Key, float] = {}
        self._closed: dict[str, tuple[float, str]] = {}
        """By upstream: when a connection broke last before an answer, and whose."""
        self.first_events: FirstEvents[tuple[Key, bool]] = FirstEvents()
        """By candidate, and whether the call was streamed."""
        self._orders = itertools.count(1)
        self._cleared: dict[Key, int] = {}
        """When a key was resumed by hand or proven, as an order."""
        self._renewed: dict[str, int] = {}
        """When a credential changed, as an order."""
        self._drilled_since = math.inf
        """When the drill began that runs now, as an order; infinite: none runs."""
        self._doubts: dict[int, tuple[Key, ...]] = {}
        """What is out because everybody refused one request alike, by the order of that doubt."""

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

    # -- questions -----------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Suspension | None:
        """The running suspension of a key, or None."""
        # All that the cache has is blocked, which is a matter of one look where the cache would read the clock.
        if key not in self._blocked:
            return None
        try:
            return self._cache[key]  # ``get`` would look twice
        except KeyError:
            return None  # it is being probed

    def half_open(self, key: Key) -> Suspension | None:
        """The suspension that has expired and that no success has disproved yet, or None."""
        return self._half_open.get(key)

    def known(self) -> list[Key]:
        """Everything that is suspended, half-open or being probed."""
        self.expire()
        return list(self._blocked | self._half_open.keys())

    def is_held(self, key: Key) -> bool:
        """Whether anything is held against the key: it is suspended, half-open or being probed."""
        return key in self._blocked or key in self._half_open

    def is_blocked(self, key: Key) -> bool:
        """Whether the key cannot be picked: suspended, or being probed."""
        return key in self._blocked

    def is_probed(self, key: Key, besides: int = 0) -> bool:
        """Whether a probe of this key is under way, by another attempt than the one with this ticket.

        What is withheld counts: another process may be probing it.
        """
        return self._probes.get(key, besides) != besides or key in self.withheld

    def is_stale(self, candidate: Candidate, key: Key, ticket: int) -> bool:
        """Whether something newer has cleared the key: a hand, a success, or another secret of its credential (F16).

        What an attempt of a drill has made up counts as long as that drill runs.
        """
        if key.drill and ticket < self._drilled_since:
            return True
        return ticket < self._cleared.get(key, 0) or ticket < self._renewed.get(candidate.credential.name, 0)

    def is_in_doubt(self, covering: Collection[Key]) -> bool:
        """Whether nothing keeps a candidate out but that everybody refused one request alike (J04).

        ``covering``: all keys that cover it.
        """
        if not self._doubts:
            return False
        held = [each for key in covering if (each := self._cache.get(key)) is not None]
        return bool(held) and all(each.doubt for each in held) and not any(map(self.is_probed, covering))

    @property
    def has_doubts(self) -> bool:
        """Whether anything may be in doubt."""
        return bool(self._doubts)

    def ticket(self) -> int:
        """The order of an attempt that begins now."""
        return next(self._orders)

    # -- changes -------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Let go of what is due: it is half-open from then on. Costs next to nothing while nothing is suspended."""
        if not self._blocked:
            return  # the common case, and every request asks several times: what the cache has is blocked
        for key, suspension in self._cache.expire():
            if not suspension.doubt or suspension.label in PROBED:
                self._fall_due(key, suspension)
            else:
                self._tell(key, False)

    def _fall_due(self, key: Key, suspension: Suspension) -> None:
        self._half_open[key] = suspension
        _bound(self._half_open)
        if self.peers is None or key.drill or self.peers.grant(key):
            self._tell(key, False)
        else:
            self.withheld.add(key)
            self._tell(key, True)

    def suspend(self, suspension: Suspension) -> Suspension | None:
        """Take something out of rotation; a running suspension that lasts longer keeps its end and its evidence.

        Returns the suspension that now holds, None when there is none: it is due already, or there is no room.
        """
        key = suspension.key
        # Time stands still meanwhile: the cache lets go of due entries by itself, and no listener would be told.
        with self._cache.timer as now:
            self.expire()
            running = self.get(key)
            kept = running if running is not None and running.until >= suspension.until else suspension
            if kept.doubt and kept is not suspension:
                kept = replace(kept, doubt=0)  # it fails for another reason as well, or again
            # The newer refusal counts for what a late success may still undo.
            suspension = kept.confirmed(next(self._orders))
            full = len(self._blocked) >= LIMIT and len(self._cache) >= LIMIT
            if suspension.until <= now or (running is None and full):
                return None
            self._cache[key] = suspension
            self._half_open.pop(key, None)
            self._asked.pop(key, None)
            self._probes.pop(key, None)
            self.withheld.discard(key)
            self._tell(key, True)
        if self.peers is not None and not key.drill:
            self.peers.suspended(suspension)
        return suspension

    def recall(self, suspension: Suspension) -> None:
        """Take over a suspension that has expired elsewhere and that no success has disproved: it is half-open."""
        key = suspension.key
        with self._cache.timer:
            self.expire()
            if key not in self._blocked and key not in self._half_open:
                self._fall_due(key, suspension.confirmed(next(self._orders)))

    def want(self, covered: Container[Key]) -> None:
        """A generating request begins that could probe some of what is withheld: ask the peers for it."""
        if self.withheld and self.peers is not None:
            for key in [key for key in self.withheld if key in covered]:
                self.peers.wants(key)

    def permit(self, key: Key) -> None:
        """The probe of a key is ours: the next request that gets there sends it."""
        if key in self.withheld:
            self.withheld.discard(key)
            self._tell(key, key in self._probes)

    def withhold(self, key: Key) -> None:
        """The probe of a key is not ours any more, if it is half-open and no probe of ours is under way."""
        if key in self._half_open and key not in self._probes:
            self.withheld.add(key)
            self._tell(key, True)

    def put_in_doubt(self, imposed: Iterable[Suspension]) -> None:
        """Everybody who was asked refused one request alike: the request is the suspect (J04).

        ``imposed``: what :meth:`suspend` returned for it. What has been confirmed by others since is in no doubt.
        """
        doubt = next(self._orders)
        with self._cache.timer:
            self.expire()
            keys = []
            for each in imposed:
                running = self._cache.get(each.key)
                if running is not None and running.order == each.order and not running.by_hand:
                    self._cache[each.key] = replace(running, doubt=doubt)
                    keys.append(each.key)
            if keys:
                self._doubts[doubt] = tuple(keys)
                _bound(self._doubts)
                self.version += 1
        if self.peers is not None:
            for key in [key for key in keys if not key.drill]:
                self.peers.cleared(key)  # what one process's request may have brought about is not held against theirs

    def begin_probe(self, candidate: Candidate, ticket: int, drill: bool = False) -> None:
        """An attempt begins: it takes the one probe of everything about the candidate that is half-open.

        ``drill``: its reply is made up, which probes nothing but what the drill itself has suspended.
        """
        if not self._half_open:
            return
        for key in keys_of(candidate, drill):
            if key in self._half_open and key not in self._probes:
                self._probes[key] = ticket
                self._tell(key, True)

    def end_probe(self, ticket: int) -> None:
        """The attempt has shown what it is worth, or was given up: its probes are free again either way (F14)."""
        if not self._probes:
            return
        for key in [key for key, holder in self._probes.items() if holder == ticket]:
            del self._probes[key]
            self._tell(key, key in self.withheld)

    def prove(self, candidate: Candidate, ticket: int, drill: bool = False) -> Suspension | None:
        """A generating attempt ended well: it resumes its own candidate, and what had expired is back for good.

        Nothing that is newer than the attempt is touched (laws 3 and 4). Returns the running suspension it lifted.
        ``drill``: as in :meth:`begin_probe`.
        """
        if not (self._blocked or self._half_open or self.ladders.rungs):
            return None  # the common case, and every success asks
        keys = [key for key in keys_of(candidate, drill) if key in self.ladders or self.is_held(key)]
        if not keys:
            return None
        lifted = None
        with self._cache.timer:
            self.expire()
            for key in keys:
                running = self._cache.get(key)
                last = running or self._half_open.get(key)
                if self.is_stale(candidate, key, ticket) or (last is not None and ticket < last.order):
                    continue
                if running is not None:
                    if key.scope is not Scope.CANDIDATE:
                        continue
                    lifted = running
                if last is not None:
                    self._clear(key)
                    if self.peers is not None:
                        self.peers.cleared(key)
                else:
                    self.ladders.forget(key)
            if self._doubts:
                self._end_doubts(candidate, ticket)
        return lifted

    def closed(self, upstream: str, credential: str, begun: float, now: float) -> str:
        """A connection broke before an answer; returns whose had broken shortly before this one began, "" for none."""
        at, before = self._closed.get(upstream, (-math.inf, ""))
        self._closed[upstream] = (now, credential)
        _bound(self._closed)
        return before if at <= begun and 0 <= now - at <= CLOSED_WITHIN else ""

    def has_served(self, upstream: str) -> None:
        """The upstream has answered: a connection that breaks after that is the first one again."""
        if self._closed:
            self._closed.pop(upstream, None)

    def begin_drill(self) -> None:
        """What attempts with made-up replies bring about counts from now on, under keys of its own (H12)."""
        self._drilled_since = next(self._orders)

    def end_drill(self) -> None:
        """Let go of everything that a drill has brought about; whatever is under way still changes nothing any more."""
        self._drilled_since = math.inf
        self.retain(lambda key: not key.drill)

    def _end_doubts(self, candidate: Candidate, ticket: int) -> None:
        """Another request succeeds at one that was in doubt: it was the request, so all of them are free (J04)."""
        for doubt, keys in list(self._doubts.items()):
            if not any((known := self._known(key)) is not None and known.doubt == doubt for key in keys):
                del self._doubts[doubt]  # over by itself
            elif doubt < ticket and not set(keys).isdisjoint(keys_of(candidate)):
                del self._doubts[doubt]
                for key in keys:
                    if (known := self._known(key)) is not None and known.doubt == doubt:
                        # Nothing else is voided: what is learnt of them for another reason still counts.
                        self._cache.pop(key, None)
                        self._half_open.pop(key, None)
                        self._asked.pop(key, None)
                        self._probes.pop(key, None)
                        self.withheld.discard(key)
                        self._tell(key, False)

    def _known(self, key: Key) -> Suspension | None:
        return self._cache.get(key) or self._half_open.get(key)

    def begin_early_probe(self, key: Key) -> bool:
        """Whether a candidate may be asked although it is suspended (F17); if so, the next time is 30 s from now."""
        now, last = self.clock(), self._early.get(key)
        if last is not None and abs(now - last) < EARLY_PROBE:
            return False
        self._early.pop(key, None)
        self._early[key] = now
        _bound(self._early)
        return True

    def resume(self, key: Key) -> Suspension | None:
        """Put something back into rotation by hand; returns what was lifted, None if nothing was.

        Attempts that began before change nothing about it any more.
        """
        with self._cache.timer:
            self.expire()
            lifted = self._cache.get(key) or self._half_open.get(key)
            if lifted is not None:
                self._clear(key)
                if self.peers is not None:
                    self.peers.cleared(key)
        return lifted

    def resume_all(self) -> None:
        """Put everything back into rotation by hand, also what only the peers know of."""
        peers, self.peers = self.peers, None
        try:
            for key in self.known():
                self.resume(key)
        finally:
            self.peers = peers
        if peers is not None:
            peers.all_cleared()

    def make_due(self, key: Key) -> Suspension | None:
        """End a running suspension early, by hand and unproven: the next request that gets there is its probe.

        Returns what is half-open from now on, None when nothing was running.
        """
        with self._cache.timer as now:
            self.expire()
            running = self._cache.pop(key, None)
            if running is None:
                return None
            due = replace(running, until=now)
            self._half_open[key] = due
            # Suspended again, it has failed twice: it is in no doubt any more.
            self._asked[key] = (replace(running, doubt=0), next(self._orders))
            _bound(self._half_open)
            _bound(self._asked)
            self._tell(key, False)  # a hand asked for it here: no peer has to agree
        return due

    def end_early(self, candidate: Candidate, ticket: int) -> None:
        """An attempt failed: what a hand had made due before it began is suspended again, until when it was before.

        The step of the ladder stays the same: the failure lies inside the window that was cut short.
        """
        if not self._asked:
            return
        for key in keys_of(candidate):
            known = self._asked.get(key)
            if known is not None and known[1] < ticket and not self.is_stale(candidate, key, ticket):
                self.suspend(known[0])

    def asked_early(self, key: Key) -> float | None:
        """Until when a key that a hand made due was suspended: a failed probe suspends it again until then."""
        known = self._asked.get(key)
        return known[0].until if known is not None and known[0].until > self.clock() else None

    def renew(self, credential: str, *, rejected_only: bool = False) -> None:
        """The credential has changed: what was learnt with the old one is void, and late results of it count no more.

        ``rejected_only``: it is another token of the same account: only what was said about the token itself is void.
        """
        self.generations[credential] += 1
        if not rejected_only:
            self.limits.forget(credential)
        with self._cache.timer:
            self.expire()
            for key, known in [*self._cache.items(), *self._half_open.items()]:
                about = key.scope is not Scope.UPSTREAM and key.name == credential
                if about and (not rejected_only or known.label is Label.CREDENTIAL_REJECTED):
                    self._clear(key)
            self._renewed[credential] = next(self._orders)

    def retain(self, wanted: Callable[[Key], bool]) -> None:
        """Forget what is not wanted any more: what a reload has removed (O03)."""
        with self._cache.timer:
            self.expire()
            # A ladder can be all that is known of a key, and must not make a candidate that comes back later pay more.
            for key in {*self._cache, *self._half_open, *(key for key, _, _ in self.ladders)}:
                if not wanted(key):
                    self._clear(key)

    def _clear(self, key: Key) -> None:
        """Nothing is held against the key any more, and nothing that is older than now will be."""
        self._cleared.pop(key, None)
        self._cleared[key] = next(self._orders)
        _bound(self._cleared)
        self._cache.pop(key, None)
        self.ladders.forget(key)
        self._half_open.pop(key, None)
        self._asked.pop(key, None)
        self._probes.pop(key, None)
        self.withheld.discard(key)
        self._early.pop(key, None)
        self._tell(key, False)

    def _tell(self, key: Key, blocked: bool) -> None:
        self.version += 1
        if blocked is (key in self._blocked):
            return
        (self._blocked.add if blocked else self._blocked.discard)(key)
        for each in self.listeners.keyrefs():  # a list, where to iterate takes a guard against who goes meanwhile
            if (listener := each()) is not None:
                listener.changed(key, blocked)


def _bound[K, V](table: dict[K, V]) -> None:
    """What any tool can name must not grow for ever: the oldest entry goes."""
    if len(table) > LIMIT:
        del table[next(iter(table))]
