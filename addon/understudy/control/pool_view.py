"""Every route with its candidates as they stand: what the pool page shows, and `status` tells as JSON. Bounded.

A plain alias has one lineup for each dialect. A glob, and ``default``, have one for each alias that was asked for
lately or that has a candidate out of rotation; before that, one with the candidates as written, their model open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from understudy.codec.steady_clock import ahead_of
from understudy.config import dialects as dialects_of
from understudy.config import spoken
from understudy.control.drills import Drills, DrillView
from understudy.control.learned import LearnedList, listed
from understudy.control.status import Entry, Explanation, HeldView, Standings, explain, held, held_calls
from understudy.failover import Lineup, Request
from understudy.inspection import Tallies, Told
from understudy.model import Pool, Route, Scope, Strategy, is_glob, printable
from understudy.proxy.engine import Engine, Snapshot
from understudy.shared import SharingState

MOST_ALIASES = 10
"""How many aliases of a glob are told, for each dialect."""
MOST_MEMBERS = 2000
"""After so many candidates no other route is told."""

type _Asked = Mapping[tuple[str, str], Sequence[str]]
"""(route, dialect) -> the aliases that are of interest."""


@dataclass(frozen=True, slots=True)
class RouteView:
    """A route. ``more``: how many aliases are left out."""

    pattern: str
    strategy: Strategy
    lineups: tuple[Explanation, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class OutOfUse:
    """A credential whose secret is missing. ``reason`` names where it was looked for."""

    credential: str
    upstream: str
    reason: str


def out_of_use(pool: Pool) -> tuple[OutOfUse, ...]:
    """The credentials of a pool whose secret is missing, in the order of the pool file."""
    return tuple(
        OutOfUse(each.name, each.upstream.name, each.missing) for each in pool.credentials.values() if each.missing
    )


@dataclass(frozen=True, slots=True)
class Overview:
    """The pool as it stands: what is out of rotation, the earliest due first; every route; the last exchanges.

    ``version`` differs when something has changed. ``more``, ``more_routes``: how many are left out. ``out_of_use``:
    the credentials whose secret is missing. ``learned``: what comparing candidates has taught. ``shared``: how the
    proxy stands with those that it shares with. ``intercept``: the further hosts that are looked into, in words.
    ``drill``: the one that runs. ``held``: the calls that are held until a reset, ``more_held``: how many of them are
    left out.
    """

    pool: str
    state_file: str
    now: float
    version: str
    entries: tuple[Entry, ...]
    more: int
    routes: tuple[RouteView, ...]
    more_routes: int
    exchanges: tuple[Told, ...]
    out_of_use: tuple[OutOfUse, ...]
    learned: LearnedList
    shared: SharingState | None = None
    intercept: tuple[str, ...] = ()
    drill: DrillView | None = None
    held: tuple[HeldView, ...] = ()
    more_held: int = 0


class PoolView:
    """The pool of one engine as it stands. ``closed(pool)``: see :class:`Control`."""

    def __init__(
        self,
        engine: Engine,
        tallies: Tallies,
        closed: Callable[[Pool], Mapping[str, str]],
        standing: Callable[[], SharingState | None] = lambda: None,
        drills: Drills | None = None,
    ) -> None:
        self.engine = engine
        self._drills = drills or Drills(engine)
        self._standing = standing
        self.tallies = tallies
        self._closed = closed
        self._pool = Pool()
        self._reloads = 0
        self._started = engine.clock()
        self.standings = Standings()
        """Of the last look: who looks every other second is told quickly what has not changed."""

    def version(self) -> str:
        """Differs from an earlier one when there is something new to see. Costs next to nothing."""
        suspensions, snapshot = self.engine.suspensions, self.engine.snapshot
        suspensions.expire()
        pool = snapshot.pool if snapshot else Pool()
        if snapshot and pool is not self._pool:
            self._pool, self._reloads = pool, self._reloads + 1
        closed = ",".join(sorted(self._closed(pool)))
        news, under_way = self.tallies.state()
        changes = f"{suspensions.version}-{suspensions.learned.version}-{suspensions.limits.version}"
        shared = self._standing()
        alone = f"-{shared.connected}-{shared.since:.0f}" if shared else ""
        held = self.engine.pacing.held.version
        own = f"{closed}{alone}{self._drills.version}"
        return f"{self._started:.3f}-{self._reloads}-{changes}-{news}-{under_way}-{held}-{own}"

    def overview(self) -> Overview:
        """All of it."""
        pool = self.engine.snapshot.pool if self.engine.snapshot else Pool()
        ahead = ahead_of(self.engine.clock)
        version, now = self.version(), self.engine.clock() + ahead
        entries, more = held(self.engine.suspensions)
        routes, more_routes = self.routes()
        told = self.tallies.exchanges()
        lost = out_of_use(pool)
        waiting, more_waiting = held_calls(self.engine.pacing.held, self.engine.clock(), ahead)
        known, standing = listed(self.engine.suspensions.learned), self._standing()
        return Overview(
            *(pool.path, pool.state, now, version, entries, more, routes, more_routes, told, lost, known),
            shared=replace(standing, since=standing.since + ahead) if standing is not None else None,
            intercept=tuple(map(str, pool.intercept)),
            drill=self._drills.running,
            held=waiting,
            more_held=more_waiting,
        )

    def routes(self) -> tuple[tuple[RouteView, ...], int]:
        """The routes in the order of the pool file, and the number of those that are left out."""
        snapshot = self.engine.snapshot
        if snapshot is None:
            return (), 0
        asked, blocked = self._asked(snapshot.pool), self._closed(snapshot.pool)
        self.standings.look(self.engine.suspensions)
        told: list[RouteView] = []
        members = 0
        for route in snapshot.pool.routes.values():
            if members >= MOST_MEMBERS:
                break
            view = self._route(snapshot, route, asked, blocked)
            members += sum(len(lineup.candidates) for lineup in view.lineups)
            told.append(view)
        return tuple(told), len(snapshot.pool.routes) - len(told)

    def _route(self, snapshot: Snapshot, route: Route, asked: _Asked, blocked: Mapping[str, str]) -> RouteView:
        lineups, more = [], 0
        for dialect in sorted(dialects_of(route)):
            called: Sequence[str] = asked.get((route.pattern, dialect), ())
            if dialect not in spoken(route) and not called:
                continue  # a relative could be served as well, and no call was made in it
            aliases = called if _is_open(route) else [route.pattern]
            for alias in aliases[:MOST_ALIASES]:
                lineup = snapshot.selector.lineup(route, alias, dialect)
                lineups.append(self._explain(snapshot, lineup, blocked))
            if not aliases:
                lineup = Lineup(route, "", dialect, route.members("", dialect))
                lineups.append(self._explain(snapshot, lineup, blocked))
            more += max(0, len(aliases) - MOST_ALIASES)
        return RouteView(route.pattern, route.strategy, tuple(lineups), more)

    def _explain(self, snapshot: Snapshot, lineup: Lineup, blocked: Mapping[str, str]) -> Explanation:
        request = Request(lineup.alias, generating=False, streamed=False, blocked=blocked)
        pacing = self.engine.pacing
        return explain(request, lineup, snapshot.selector, self.tallies, pacing, self.standings)

    def _asked(self, pool: Pool) -> _Asked:
        found: dict[tuple[str, str], dict[str, None]] = {}
        for route, dialect, alias in (*self._recent(), *self._held(pool)):
            found.setdefault((route, dialect), {})[alias] = None
        return {place: list(aliases) for place, aliases in found.items()}

    def _recent(self) -> Iterator[tuple[str, str, str]]:
        for told in self.tallies.exchanges():
            yield told.route, told.dialect, told.alias

    def _held(self, pool: Pool) -> Iterator[tuple[str, str, str]]:
        """Aliases of a glob for which a candidate is out of rotation: they go by the upstream model's own name."""
        for key in sorted(self.engine.suspensions.known()):
            credential = pool.credentials.get(key.name) if key.scope is Scope.CANDIDATE else None
            if credential is None or key.model != printable(key.model):
                continue
            for dialect in credential.upstream.dialects:
                route = pool.route(key.model, dialect)
                if route is not None and any(
                    each.credential.name == key.name and each.model is None for each in route.choices
                ):
                    yield route.pattern, dialect, key.model


def _is_open(route: Route) -> bool:
    """Whether a route takes aliases of other names than its own."""
    return route.is_default or is_glob(route.pattern)
