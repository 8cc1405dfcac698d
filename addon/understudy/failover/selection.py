"""Which candidate next: the first tier of priority that has one available, and in it the strategy of the route.

A skipped candidate costs nothing (law 5), not even time: who is available is kept as the bits of an integer, one per
candidate, so that picking among ten thousand is a handful of machine-wide operations and no loop.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import override
from weakref import WeakKeyDictionary

from understudy.model import Candidate, Choice, Key, Relatives, Route, Scope, Strategy, Suspension, keys_of
from understudy.suspensions import Suspensions

LINEUPS = 1024
"""How many lineups are remembered; an alias that was forgotten is laid out anew."""
CHANGES = 4096
"""How many changes are kept for the lineups that have not taken note of them yet; a lineup that missed one asks for all
that it has."""


class Changes:
    """Which keys were blocked or came free, in order: each lineup takes note when it is asked, so that a change costs
    the same whether there is one lineup or a thousand. ``is_blocked``: how a key is now."""

    def __init__(self, is_blocked: Callable[[Key], bool] = lambda key: False) -> None:
        self.is_blocked = is_blocked
        self.count = 0
        """How many there were so far."""
        self._latest: list[tuple[Key, bool]] = []

    def add(self, key: Key, blocked: bool) -> None:
        """A key was blocked, or came free."""
        self._latest.append((key, blocked))
        self.count += 1
        if len(self._latest) >= 2 * CHANGES:
            del self._latest[:-CHANGES]

    def since(self, count: int) -> list[tuple[Key, bool]] | None:
        """Those after so many; None when some of them are not kept any more."""
        missing = self.count - count
        return self._latest[len(self._latest) - missing :] if missing <= len(self._latest) else None


type Rank = tuple[int, bool]
"""A tier, see :func:`_rank`."""
FIRST: Rank = (0, False)


class Lineup:
    """The candidates of one alias, in the order of their priorities, and which of them cannot be picked right now."""

    def __init__(self, route: Route, alias: str, dialect: str, members: Mapping[Candidate, Choice]) -> None:
        self.route, self.alias, self.dialect = route, alias, dialect
        ranked = sorted(
            ((member, choice, _rank(route, dialect, member, choice)) for member, choice in members.items()),
            key=lambda member: member[2],
        )
        self.members = tuple(candidate for candidate, _, _ in ranked)
        others = replace(route, choices=route.closed).members(alias, dialect) if route.closed else {}
        self.closed = tuple(each for each in others if each not in members)
        """The candidates of the route that are not for the user whose calls it is for."""
        self.choices = members
        """The line of the route that each member comes from."""
        self.everyone = (1 << len(self.members)) - 1
        self.out_of_use = _bits([at for at, member in enumerate(self.members) if member.credential.missing])
        """The members whose secret is missing, as bits: they are never picked."""
        self.is_by_reset = route.strategy is Strategy.SOONEST_RESET
        """Whether its order is that of what is left of limits."""
        self.is_single = (self.everyone & ~self.out_of_use).bit_count() == 1
        """Whether there is one member only that can be sent at all."""
        self.has_several_credentials = (
            len({each.credential.name for each in self.members if not each.credential.missing}) > 1
        )
        self._cursors: dict[tuple[Rank, int], int] = {}
        """Where the round robin of a tier and weight goes on."""
        self._credit: dict[Rank, dict[int, int]] = {}
        """What each weight of a tier is owed, see :meth:`_weighted`."""
        self._parted: tuple[int, Rank, dict[int, int], dict[int, int]] = (0, FIRST, {}, {})
        """Who was free at the last pick, and what :meth:`_part` made of it: mostly the same are free again."""
        self._blocked: dict[Scope, int] = dict.fromkeys(Scope, 0)
        self._changes = Changes()
        self._noted = 0
        """How many of the changes are in ``_blocked``."""
        self._positions: dict[Key, list[int]] = {}
        self._tiers: dict[Rank, dict[int, int]] = {}
        """Rank -> weight -> the members that have both, as bits."""
        self._equals: dict[Rank, int] = {}
        """Rank -> its members, as bits."""
        self._ranks = [rank for _, _, rank in ranked]
        placed: dict[tuple[Rank, int], list[int]] = {}
        for position, (member, choice, rank) in enumerate(ranked):
            weight = choice.weight if route.strategy is Strategy.WEIGHTED else 1
            placed.setdefault((rank, weight), []).append(position)
            for key in self.keys_of(member):
                self._positions.setdefault(key, []).append(position)
        for (rank, weight), positions in placed.items():
            self._tiers.setdefault(rank, {})[weight] = _bits(positions)
            self._equals[rank] = self._equals.get(rank, 0) | self._tiers[rank][weight]

    def __repr__(self) -> str:
        free = self.available()
        return f"Lineup({self.route.pattern}: {', '.join(str(m) for m in self.members_of(free))})"

    @staticmethod
    def keys_of(member: Candidate) -> tuple[Key, ...]:
        """Everything whose suspension keeps a member out."""
        return keys_of(member)

    @property
    def keys(self) -> Collection[Key]:
        """Everything that can be suspended here."""
        return self._positions.keys()

    def mask(self, key: Key) -> int:
        """The members that a key covers, as bits; 0 when it covers none."""
        return _bits(self._positions.get(key, ()))

    def bit(self, candidate: Candidate) -> int:
        """The one member that is this candidate, as a bit; 0 when it is none."""
        positions = self._positions.get(Key(Scope.CANDIDATE, candidate.credential.name, candidate.model))
        return 1 << positions[0] if positions else 0

    def equals(self, candidate: Candidate) -> int:
        """The members of the same tier, this one included, as bits."""
        return self._equals[self._ranks[self.bit(candidate).bit_length() - 1]]

    def same_model(self, candidate: Candidate) -> int:
        """The members with the same upstream model at the same upstream, as bits."""
        wanted = (candidate.upstream.name, candidate.model)
        return _bits([at for at, member in enumerate(self.members) if (member.upstream.name, member.model) == wanted])

    def follow(self, changes: Changes) -> None:
        """Take note of what is blocked now, and from now on of every change."""
        self._changes, self._noted = changes, changes.count
        for key in self.keys:
            if changes.is_blocked(key):
                self.mark(key, True)

    def _take_note(self) -> None:
        """Take note of what has changed since the last time."""
        since = self._changes.since(self._noted)
        self._noted = self._changes.count
        for key, blocked in [(key, self._changes.is_blocked(key)) for key in self.keys] if since is None else since:
            if key in self._positions:
                self.mark(key, blocked)

    def mark(self, key: Key, blocked: bool) -> None:
        """Take note that a key cannot be picked, or can be again."""
        bits = self.mask(key)
        if blocked:
            self._blocked[key.scope] |= bits
        else:
            self._blocked[key.scope] &= ~bits

    def available(self) -> int:
        """The members that can be picked, as bits: not out of use, not suspended in any scope, not being probed."""
        if self._noted != self._changes.count:
            self._take_note()
        blocked = self._blocked
        held = blocked[Scope.CANDIDATE] | blocked[Scope.CREDENTIAL] | blocked[Scope.UPSTREAM]
        return self.everyone & ~(held | self.out_of_use)

    def members_of(self, bits: int) -> list[Candidate]:
        """The members behind these bits, in order."""
        return [member for position, member in enumerate(self.members) if bits >> position & 1]

    def take_turns_of(self, other: Lineup) -> None:
        """Go on where the lineup of the same members is."""
        self._cursors = dict(other._cursors)
        self._credit = {rank: dict(credit) for rank, credit in other._credit.items()}

    def pick(self, excluded: int = 0, *, advance: bool = True) -> Candidate | None:
        """The next available member, None when there is none.

        ``advance`` False leaves the turns as they are: a token count asks the candidate that the next generating call
        would use.
        """
        free = self.available() & ~excluded
        if not free:
            return None
        if self.route.strategy in (Strategy.ORDERED, Strategy.SOONEST_RESET):
            return self.members[_lowest(free)]
        if free != self._parted[0]:
            self._parted = (free, *self._part(free))
        _, rank, here, shares = self._parted
        weight = self._weighted(rank, shares, advance) if len(here) > 1 else next(iter(here))
        return self._turn((rank, weight), here[weight], advance)

    def _part(self, free: int) -> tuple[Rank, dict[int, int], dict[int, int]]:
        """The first tier with a free member, its free members by weight, and what each weight is owed in a turn."""
        for rank, weights in self._tiers.items():
            here = {weight: found for weight, bits in weights.items() if (found := bits & free)}
            if here:
                return rank, here, {weight: weight * bits.bit_count() for weight, bits in here.items()}
        raise AssertionError("a free member that is in no tier")

    def _weighted(self, rank: Rank, shares: Mapping[int, int], advance: bool) -> int:
        """Smooth weighted round robin among the weights of a tier: the one that is owed most.

        Each turn every weight is owed its share, weight times members, and the one that is taken pays for all. Over as
        many turns as the weights of all members add up to, each member has as many as its weight says, spread out.
        """
        credit = self._credit.setdefault(rank, {})
        chosen, most, total = 0, -math.inf, 0
        for weight, share in shares.items():  # a plain loop: every pick comes through here
            owed = credit.get(weight, 0) + share
            total += share
            if owed > most:  # of equals the first of the route
                chosen, most = weight, owed
            if advance:
                credit[weight] = owed
        if advance:
            credit[chosen] -= total
        return chosen

    def _turn(self, group: tuple[Rank, int], free: int, advance: bool) -> Candidate:
        """Round robin among members of the same tier and weight."""
        cursor = self._cursors.get(group, 0)
        ahead = free >> cursor
        position = cursor + _lowest(ahead) if ahead else _lowest(free)
        if advance:
            self._cursors[group] = (position + 1) % len(self.members)
        return self.members[position]


class DrilledLineup(Lineup):
    """A lineup for the calls of a drill: what the drill has suspended keeps its members out as well."""

    def __init__(self, route: Route, alias: str, dialect: str, members: Mapping[Candidate, Choice]) -> None:
        super().__init__(route, alias, dialect, members)
        self._made_up: dict[Scope, int] = dict.fromkeys(Scope, 0)

    @staticmethod
    @override
    def keys_of(member: Candidate) -> tuple[Key, ...]:
        return keys_of(member) + keys_of(member, drill=True)

    @override
    def mark(self, key: Key, blocked: bool) -> None:
        if not key.drill:
            super().mark(key, blocked)
        elif blocked:
            self._made_up[key.scope] |= self.mask(key)
        else:
            self._made_up[key.scope] &= ~self.mask(key)

    @override
    def available(self) -> int:
        made_up = self._made_up
        return super().available() & ~(made_up[Scope.CANDIDATE] | made_up[Scope.CREDENTIAL] | made_up[Scope.UPSTREAM])


class Selector:
    """Keeps the lineups and tells them what is suspended. One per pool snapshot, and one for the calls of a drill."""

    def __init__(self, suspensions: Suspensions, lineups: type[Lineup] = Lineup) -> None:
        self.suspensions = suspensions
        self._kind = lineups
        self._lineups: OrderedDict[tuple[str, str, str, str, str], Lineup] = OrderedDict()
        """Those that were asked for last, the latest at the end."""
        # Not a list of lineups to tell: one that was forgotten here may still be in use by an exchange.
        self._changes = Changes(suspensions.is_blocked)
        self._beside: WeakKeyDictionary[Lineup, Lineup] = WeakKeyDictionary()
        """By a lineup of another selector."""
        suspensions.listeners[self] = None

    def lineup(self, route: Route, alias: str, dialect: str, client: str = "") -> Lineup:
        """The lineup of an alias on a route, for one dialect; ``client``: see :meth:`Route.members`."""
        self.suspensions.expire()
        key = (route.pattern, route.variant, dialect, alias, client)
        known = self._lineups.get(key)
        if known is None or known.route is not route:
            known = self._laid_out(self._kind(route, alias, dialect, route.members(alias, dialect, client)))
            self._lineups[key] = known
            if len(self._lineups) > LINEUPS:
                self._lineups.popitem(last=False)
        self._lineups.move_to_end(key)
        return known

    def lineup_like(self, other: Lineup) -> Lineup:
        """The lineup of this selector that stands beside one of another selector."""
        self.suspensions.expire()
        known = self._beside.get(other)
        if known is None:
            known = self._beside[other] = self._laid_out(
                self._kind(other.route, other.alias, other.dialect, other.choices)
            )
        return known

    def _laid_out(self, lineup: Lineup) -> Lineup:
        """A new lineup, told of what is suspended now and from now on."""
        lineup.follow(self._changes)
        return lineup

    def changed(self, key: Key, blocked: bool) -> None:
        """Listener for the suspensions."""
        self._changes.add(key, blocked)

    def keys_of(self, candidate: Candidate) -> tuple[Key, ...]:
        """Everything whose suspension keeps a candidate out of the lineups here."""
        return self._kind.keys_of(candidate)

    @property
    def is_drilled(self) -> bool:
        """Whether its lineups are those of a drill."""
        return self._kind is DrilledLineup

    def suspension_of(self, candidate: Candidate, *, stated: bool = False) -> Suspension | None:
        """The longest running suspension that covers a candidate, None without one.

        ``stated``: of those only whose window the upstream itself named.
        """
        running = (item for item in self.suspensions_of(candidate) if item.stated or not stated)
        return max(running, key=lambda item: item.until, default=None)

    def suspensions_of(self, candidate: Candidate) -> list[Suspension]:
        """All running suspensions that cover a candidate."""
        return [item for key in self.keys_of(candidate) if (item := self.suspensions.get(key)) is not None]

    def is_probed(self, candidate: Candidate, besides: int = 0) -> bool:
        """Whether another attempt finds out right now whether this candidate is back."""
        return any(self.suspensions.is_probed(key, besides) for key in self.keys_of(candidate))


def _rank(route: Route, dialect: str, member: Candidate, choice: Choice) -> Rank:
    """The order of tiers: by priority, and in each those of the tool's own dialect before its relatives (A09)."""
    return choice.priority, member.upstream.dialect != dialect and route.relatives is not Relatives.MIXED


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
