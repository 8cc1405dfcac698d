"""What is out of rotation and why, as plain values: for people, and as JSON for programs. Bounded, and without secrets.

Times are Unix times, and seconds from now. Nothing here changes anything: no turn is taken, nothing is probed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from understudy.codec.steady_clock import ahead_of
from understudy.failover import DEFAULTS, Lineup, Pacing, Request, Selector, duration, foresight, own_name
from understudy.inspection import UNTRIED, Tallies, Tally
from understudy.limits import NO_NEED, Limits, LimitView, Whose, Window
from understudy.model import Candidate, Key, Scope, Strategy, Suspension, keys_of, printable
from understudy.suspensions import Suspensions

MOST_ENTRIES = 1000
"""How many suspensions are told; of more, their number."""
NEARLY_USED_UP = "asked after its equals: its limit is nearly used up"
MOST_CANDIDATES = 200
"""How many candidates of a route are told; of more, their number."""


class State(StrEnum):
    """Where a candidate, or something that covers it, stands."""

    FREE = "free"
    SUSPENDED = "suspended"
    HALF_OPEN = "half-open"  # due: the next request that gets there is the probe
    PROBING = "probing"  # that request is under way
    UNUSABLE = "unusable"  # it may not be used at all, see the note


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is suspended, or was and has not been disproved yet.

    ``seconds``: how long yet, 0 when it is due. ``step``: the step of the ladder, from 1, of ``steps``; 0 where the
    reply or a hand named the time. ``resume``: the arguments of the command that clears it. ``doubt``: every candidate
    refused one request alike, so that other requests are asked at once. ``again``: it is due because a person wants it
    probed, and a probe that fails suspends it again until then; 0 where its time has run out. ``drill``: for the calls
    of a drill only, by what the drill made up.
    """

    state: State
    scope: Scope
    name: str
    model: str
    label: str
    rule: str
    reason: str
    evidence: str
    since: float
    until: float
    seconds: float
    hint: str
    candidate: str
    step: int
    steps: int
    resume: tuple[str, ...]
    doubt: bool = False
    again: float = 0.0
    drill: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate of a route. ``place``: in the order in which they are asked, from 1.

    ``limits``: what its replies said is left of its limits, the shortest window first. ``under_way``, ``queued``: calls
    of its credential, and those that wait for it; counted while a ramp runs and where ``concurrency`` (0: any number)
    is set.
    """

    place: int
    credential: str
    model: str
    upstream: str
    url: str
    state: State
    because: tuple[Entry, ...]
    note: str = ""
    tally: Tally = UNTRIED
    priority: int = 1
    weight: int = 1
    limits: tuple[LimitView, ...] = ()
    under_way: int = 0
    queued: int = 0
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who can answer for an alias, in the order of asking. ``more``: how many are left out."""

    alias: str
    dialect: str
    route: str
    strategy: Strategy
    now: float
    candidates: tuple[Standing, ...]
    more: int = 0


def words_of(key: Key) -> tuple[str, ...]:
    """How a person names this in a command."""
    return (key.name, printable(key.model)) if key.scope is Scope.CANDIDATE else (key.scope.value, key.name)


def entry_of(suspensions: Suspensions, key: Key, now: float) -> Entry | None:
    """What is held against a key, None when there is nothing."""
    ahead = ahead_of(suspensions.clock)
    running = suspensions.get(key)
    if running is not None:
        return _entry(running, State.SUSPENDED, now, ahead)
    due = suspensions.half_open(key)
    if due is None:
        return None
    probing = suspensions.is_probed(key) and key not in suspensions.withheld
    again = suspensions.asked_early(key)
    state = State.PROBING if probing else State.HALF_OPEN
    return _entry(due, state, now, ahead, again + ahead if again is not None else 0.0)


def _entry(suspension: Suspension, state: State, now: float, ahead: float, again: float = 0.0) -> Entry:
    stated = bool(suspension.hint) or suspension.by_hand
    return Entry(
        state=state,
        scope=suspension.key.scope,
        name=suspension.key.name,
        model=printable(suspension.key.model),
        label=suspension.label.value,
        rule=suspension.rule,
        reason=suspension.reason,
        evidence=printable(suspension.evidence, 500),
        since=suspension.since + ahead,
        until=suspension.until + ahead,
        seconds=max(0.0, suspension.until - now),
        hint=suspension.hint,
        candidate=suspension.candidate,
        step=0 if stated else suspension.step + 1,
        steps=0 if stated else max(len(DEFAULTS[suspension.label].steps), suspension.step + 1),
        resume=words_of(suspension.key),
        doubt=suspension.doubt > 0,
        again=again,
        drill=suspension.key.drill,
    )


def held(suspensions: Suspensions) -> tuple[tuple[Entry, ...], int]:
    """Everything that is out of rotation, the earliest due first, and how many of it are left out."""
    now = suspensions.clock()
    found = [held for key in suspensions.known() if (held := suspensions.get(key) or suspensions.half_open(key))]
    found.sort(key=lambda item: item.until)
    entries = (entry_of(suspensions, each.key, now) for each in found[:MOST_ENTRIES])
    told = tuple(entry for entry in entries if entry is not None)
    return told, max(0, len(found) - MOST_ENTRIES)


def explain(
    request: Request, lineup: Lineup, selector: Selector, tallies: Tallies, pacing: Pacing | None = None
) -> Explanation:
    """Who can answer for an alias, who cannot, and why."""
    now = selector.suspensions.clock()
    selector.suspensions.expire()
    candidates = tuple(
        _standing(
            place, member, request, lineup, selector, tallies.of(member.credential.name, member.model), now, pacing
        )
        for place, member in enumerate(_in_order(lineup, selector.suspensions.limits), start=1)
    )
    left_out = len(lineup.members) - len(candidates)
    route, shown = lineup.route, now + ahead_of(selector.suspensions.clock)
    return Explanation(
        printable(lineup.alias), lineup.dialect, route.pattern, route.strategy, shown, candidates, left_out
    )


def _in_order(lineup: Lineup, limits: Limits) -> Sequence[Candidate]:
    if lineup.route.strategy is Strategy.ORDERED:
        return lineup.members[:MOST_CANDIDATES]
    return list(_by_turns(lineup, limits))[:MOST_CANDIDATES]


def _by_turns(lineup: Lineup, limits: Limits) -> Iterator[Candidate]:
    """Whoever can be picked, as the turns stand, then the others."""
    passed = 0
    for _ in range(MOST_CANDIDATES):
        picked = foresight.pick(lineup, passed, limits, advance=False)
        if picked is None:
            break
        passed |= lineup.bit(picked)
        yield picked
    yield from lineup.members_of(lineup.everyone & ~passed)


def _whose(lineup: Lineup, member: Candidate) -> str:
    """Which users of the proxy may use a candidate, "" where every call may; a route can name it more than once."""
    route, name = lineup.route, own_name(member.credential.name)
    lines = (each for each in route.choices if each.credential.name == name)
    said = [route.whose(each) for each in lines if (each.model or lineup.alias) == member.model]
    return "; ".join(said) if all(said) else ""


def _standing(
    place: int,
    member: Candidate,
    request: Request,
    lineup: Lineup,
    selector: Selector,
    tally: Tally,
    now: float,
    pacing: Pacing | None,
) -> Standing:
    suspensions = selector.suspensions
    held = (key for key in keys_of(member) if suspensions.is_held(key))  # mostly none, and there may be thousands
    entries = (entry_of(suspensions, key, now) for key in held)
    because = tuple(entry for entry in entries if entry is not None)
    states = {entry.state for entry in because}
    ranked = (State.SUSPENDED, State.PROBING, State.HALF_OPEN)
    state = next((each for each in ranked if each in states), State.FREE)
    note = request.why_not(member)
    if note:
        state = State.UNUSABLE
    elif lineup.is_single and because and selector.suspension_of(member, stated=True) is None:
        note = "asked all the same: the route has no other candidate"
    reserve = lineup.route.reserve
    limits = tuple(_limit(suspensions.limits, member, each, reserve, now) for each in suspensions.limits.of(member))
    if not note and state is State.FREE and any(each.low for each in limits):
        note = NEARLY_USED_UP
    counts = pacing.of(member.credential.name) if pacing is not None else (0, 0, member.credential.concurrency)
    whose = _whose(lineup, member)
    if whose:
        note = f"only for {whose}{'; ' if note else ''}{note}"
    return Standing(
        place,
        member.credential.name,
        printable(member.model),
        member.upstream.name,
        member.upstream.url,
        state,
        because,
        note,
        tally,
        lineup.choices[member].priority,
        lineup.choices[member].weight,
        limits,
        *counts,
    )


def _limit(limits: Limits, member: Candidate, window: Window, reserve: float, now: float) -> LimitView:
    ahead, known = ahead_of(limits.clock), window.reset < math.inf
    seconds = max(0.0, window.reset - now) if known else None
    empty_in, words = limits.empty_in(member, window), ""
    if empty_in is not None and seconds is not None:
        words = f"used up in about {duration(empty_in)}, resets in {duration(seconds)}"
    return LimitView(
        name=printable(window.name),
        of=window.of,
        whose=window.whose.value,
        family=printable(window.subject) if window.whose is Whose.FAMILY else "",
        used=None if window.left is None else round(1 - window.left, 6),
        left=window.left,
        limit=window.limit,
        remaining=window.remaining,
        reset=window.reset + ahead if known else None,
        seconds=seconds,
        read=window.read + ahead,
        low=window.is_low(reserve, NO_NEED),
        empty_in=empty_in,
        forecast=words,
    )
