"""Who goes first among equals, by what is left of their limits (section 5e). It orders, and never leaves anybody out.

Within one tier a candidate that is nearly used up goes behind the others; with ``strategy: soonest_reset`` the one
whose unused share is lost first goes before them. Where all are nearly used up, and where there is only one, the order
is that of the route: an account that has little left is asked all the same.
"""

from __future__ import annotations

from collections.abc import Callable

from understudy.failover.selection import Lineup
from understudy.limits import NO_NEED, Limits, Need
from understudy.model import Candidate

MOST_LOOKED_AT = 256
"""Equals that are looked at for one pick; a longer tier is ordered as far as that."""


def no_need(_least: float) -> Need:
    """Of a request of which nothing is known."""
    return NO_NEED


def is_ordered_by_limits(lineup: Lineup, limits: Limits) -> bool:
    """Whether limits can make a difference to a pick: mostly not, and every call asks."""
    return bool(limits.watched) or lineup.is_by_reset


def pick(
    lineup: Lineup,
    excluded: int,
    limits: Limits,
    need: Callable[[float], Need] = no_need,
    *,
    advance: bool = True,
) -> Candidate | None:
    """As :meth:`Lineup.pick`, with those behind that are nearly used up. ``need``: see :meth:`Limits.is_low`."""
    first = lineup.pick(excluded, advance=False)
    if first is None:
        return None
    equals = lineup.equals(first)
    if lineup.is_by_reset:
        return _soonest(lineup, lineup.available() & equals & ~excluded, limits, need)
    low, each = 0, first
    for _ in range(MOST_LOOKED_AT):
        if not limits.is_low(each, lineup.route.reserve, need):
            return lineup.pick(excluded | low, advance=advance)
        low |= lineup.bit(each)
        following = lineup.pick(excluded | low, advance=False)
        if following is None or not lineup.bit(following) & equals:
            break
        each = following
    return lineup.pick(excluded, advance=advance)


def _soonest(lineup: Lineup, free: int, limits: Limits, need: Callable[[float], Need]) -> Candidate:
    members: list[Candidate] = []
    while free and len(members) < MOST_LOOKED_AT:
        lowest = free & -free
        members.append(lineup.members[lowest.bit_length() - 1])
        free ^= lowest
    # Of several with the same reset, or of which nothing is known, the first of the route.
    roomy = [each for each in members if not limits.is_low(each, lineup.route.reserve, need)]
    return min(roomy or members, key=limits.lost_at)
