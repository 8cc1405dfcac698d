"""Which candidate next: ordered or round robin over the candidates that are not suspended.

A skipped candidate costs nothing (law 5), not even time: who is available is kept as the bits of an integer, one per
candidate, so that picking among ten thousand is a handful of machine-wide operations and no loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakSet

from cachetools import LRUCache

from understudy.pool import Candidate, Route, Strategy
from understudy.rules import Scope
from understudy.suspensions import Key, Suspension, Suspensions, key_of

LINEUPS = 1024
"""How many lineups are remembered; an alias that was forgotten is laid out anew."""


class Lineup:
    """The candidates of one alias in order, and which of them are suspended right now."""

    def __init__(self, route: Route, members: Sequence[Candidate]) -> None:
        self.route = route
        self.members = tuple(members)
        self.everyone = (1 << len(self.members)) - 1
        self.cursor = 0
        self._suspended: dict[Scope, int] = dict.fromkeys(Scope, 0)
        self._positions: dict[Key, list[int]] = {}
        for position, member in enumerate(self.members):
            for scope in Scope:
                self._positions.setdefault(key_of(member, scope), []).append(position)

    def __repr__(self) -> str:
        free = self.available()
        return f"Lineup({self.route.pattern}: {', '.join(str(m) for m in self.members_of(free))})"

    @property
    def keys(self) -> Iterable[Key]:
        """Everything that can be suspended here."""
        return self._positions.keys()

    def mask(self, key: Key) -> int:
        """The members that a key covers, as bits; 0 when it covers none."""
        return _bits(self._positions.get(key, ()))

    def same_model(self, candidate: Candidate) -> int:
        """The members with the same upstream model at the same upstream, as bits."""
        wanted = (candidate.upstream.name, candidate.model)
        return _bits([at for at, member in enumerate(self.members) if (member.upstream.name, member.model) == wanted])

    def mark(self, key: Key, suspended: bool) -> None:
        """Take note that a key was suspended or came back."""
        bits = self.mask(key)
        if suspended:
            self._suspended[key.scope] |= bits
        else:
            self._suspended[key.scope] &= ~bits

    def available(self) -> int:
        """The members that are not suspended in any scope, as bits."""
        blocked = self._suspended
        return self.everyone & ~(blocked[Scope.CANDIDATE] | blocked[Scope.CREDENTIAL] | blocked[Scope.UPSTREAM])

    def members_of(self, bits: int) -> list[Candidate]:
        """The members behind these bits, in order."""
        return [member for position, member in enumerate(self.members) if bits >> position & 1]

    def pick(self, excluded: int = 0, *, advance: bool = True) -> Candidate | None:
        """The next available member, None when there is none.

        ``advance`` False leaves a round robin where it is: a token count asks the candidate that the next generating
        call would use.
        """
        free = self.available() & ~excluded
        if not free:
            return None
        if self.route.strategy is Strategy.ORDERED:
            return self.members[_lowest(free)]
        ahead = free >> self.cursor
        position = self.cursor + _lowest(ahead) if ahead else _lowest(free)
        if advance:
            self.cursor = (position + 1) % len(self.members)
        return self.members[position]


class Selector:
    """Keeps the lineups and tells them what is suspended. One per pool snapshot."""

    def __init__(self, suspensions: Suspensions) -> None:
        self.suspensions = suspensions
        self._lineups: LRUCache[tuple[str, str, str], Lineup] = LRUCache(maxsize=LINEUPS)
        # A lineup that was forgotten here may still be in use by an exchange, which must not miss a change.
        self._in_use: WeakSet[Lineup] = WeakSet()
        suspensions.listeners.add(self)

    def lineup(self, route: Route, alias: str, dialect: str) -> Lineup:
        """The lineup of an alias on a route, for one dialect."""
        self.suspensions.expire()
        key = (route.pattern, dialect, alias)
        known = self._lineups.get(key)
        if known is None or known.route is not route:
            known = Lineup(route, route.candidates(alias, dialect))
            for each in known.keys:
                if self.suspensions.get(each) is not None:
                    known.mark(each, True)
            self._lineups[key] = known
            self._in_use.add(known)
        return known

    def changed(self, key: Key, suspended: bool) -> None:
        """Listener for the suspensions."""
        for lineup in self._in_use:
            lineup.mark(key, suspended)

    def suspension_of(self, candidate: Candidate, *, stated: bool = False) -> Suspension | None:
        """The longest running suspension that covers a candidate, None when it is available.

        ``stated``: of those only whose window the upstream itself named.
        """
        found = (self.suspensions.get(key_of(candidate, scope)) for scope in Scope)
        running = (item for item in found if item is not None and (item.stated or not stated))
        return max(running, key=lambda item: item.until, default=None)


def _bits(positions: Sequence[int]) -> int:
    """The integer with exactly these bits set. ``positions`` ascend."""
    if len(positions) < 2:
        return 1 << positions[0] if positions else 0
    row = bytearray(positions[-1] // 8 + 1)
    for position in positions:
        row[position // 8] |= 1 << position % 8
    return int.from_bytes(row, "little")


def _lowest(bits: int) -> int:
    """The position of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1
