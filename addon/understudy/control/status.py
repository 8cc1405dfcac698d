"""What is out of rotation and why, as plain values: for people, and as JSON for programs. Bounded, and without secrets.

Times are Unix times, and seconds from now. Nothing here changes anything: no turn is taken, nothing is probed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from understudy.codec.steady_clock import ahead_of
from understudy.codec.time_text import duration
from understudy.control.usage import spent_of
from understudy.control.usage_report import Spent
from understudy.failover import DEFAULTS, HeldCall, HeldCalls, Lineup, Pacing, Request, Selector, foresight, own_name
from understudy.inspection import STEP, UNTRIED, Tallies, Tally
from understudy.inspection.usage import Place, Row
from understudy.limits import NO_NEED, Limits, LimitView, Whose, Window
from understudy.model import Candidate, Key, Scope, Strategy, Suspension, key_of, keys_of, printable
from understudy.suspensions import Pace, Suspensions

MOST_ENTRIES = 1000
"""How many suspensions are told; of more, their number."""
MOST_KEPT = 4000
"""How many candidates are kept as they were told last."""
FORECAST = 10.0
"""Seconds for which a forecast is told as it was."""
NEARLY_USED_UP = "asked after its equals: its limit is nearly used up"
MOST_HELD = 100
"""How many lines of held calls are told; of more, the number of the calls."""
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

    ``pace``: its times to the first event of streams, or of plain replies where it had no stream; None: not known.
    ``speed``: tokens of output per second. ``hour``: [number, answered, failed] for each step of five minutes of the
    last hour in which anything was, ``failed_hour`` the failures together. ``today``: the tokens of today. ``served``:
    the model that its replies named last, where that was another one than was sent.
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
    pace: Pace | None = None
    speed: float | None = None
    hour: Sequence[Sequence[int]] = ()
    failed_hour: int = 0
    today: Spent | None = None
    served: str = ""
    limits: tuple[LimitView, ...] = ()
    under_way: int = 0
    queued: int = 0
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class HeldView:
    """Calls for one alias that are held until the reset of one candidate (``until_reset``).

    ``calls``: how many. ``since``: when the first of them began to wait. ``until``: when the candidate is asked again,
    ``seconds`` from now.
    """

    route: str
    alias: str
    dialect: str
    calls: int
    since: float
    until: float
    seconds: float
    credential: str
    model: str


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


def held_calls(calls: HeldCalls, now: float, ahead: float) -> tuple[tuple[HeldView, ...], int]:
    """The calls that are held until a reset, the earliest reset first, and how many calls are left out.

    ``now``: a reading of the clock; ``ahead``: the seconds by which the wall clock is ahead of it.
    """
    found: dict[tuple[object, ...], list[HeldCall]] = {}
    for call in calls.now():
        found.setdefault((call.route, call.dialect, call.alias, call.candidate), []).append(call)
    ranked = sorted(found.values(), key=lambda group: min(call.until for call in group))
    told = tuple(_held_view(group, now, ahead) for group in ranked[:MOST_HELD])
    return told, sum(len(group) for group in ranked[MOST_HELD:])


def _held_view(group: Sequence[HeldCall], now: float, ahead: float) -> HeldView:
    first, until = group[0], min(call.until for call in group)
    return HeldView(
        route=first.route,
        alias=printable(first.alias),
        dialect=first.dialect,
        calls=len(group),
        since=first.since + ahead,
        until=until + ahead,
        seconds=max(0.0, until - now),
        credential=first.candidate.credential.name,
        model=printable(first.candidate.model),
    )


class Standings:
    """Candidates as they were told last, and as JSON: of thousands only a few have changed since a look before.

    Kept are those of whom nothing runs out: nothing is held against them. ``write(standing)`` makes the text.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str, str, str], tuple[Candidate, tuple[object, ...], Standing]] = {}
        self._texts: dict[int, str] = {}
        self._held: dict[Scope, set[tuple[str, str]]] = {scope: set() for scope in Scope}

    def look(self, suspensions: Suspensions) -> None:
        """A look begins: note what is held, so that not every candidate has to be looked up three times."""
        self._held = {scope: set() for scope in Scope}
        for key in suspensions.known():
            self._held[key.scope].add((key.name, key.model))

    def _is_held(self, member: Candidate) -> bool:
        name, held = member.credential.name, self._held
        return (
            (name, member.model) in held[Scope.CANDIDATE]
            or (name, "") in held[Scope.CREDENTIAL]
            or (member.upstream.name, "") in held[Scope.UPSTREAM]
        )

    def of(
        self, lineup: Lineup, member: Candidate, state: tuple[object, ...], make: Callable[[], Standing]
    ) -> Standing:
        """The standing of a member, made anew unless ``state`` is as it was."""
        key = lineup.route.pattern, lineup.alias, lineup.dialect, member.credential.name, member.model
        known, is_held = self._kept.get(key), self._is_held(member)
        if known is not None:
            if known[0] is member and known[1] == state and not is_held:
                return known[2]
            self._texts.pop(id(known[2]), None)
            del self._kept[key]
        made = make()
        if not made.because:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
                self._texts.clear()
            self._kept[key] = member, state, made
            self._texts[id(made)] = ""
        return made

    def text(self, standing: Standing, write: Callable[[Standing], str]) -> str:
        """The standing as JSON. What is kept is known by its place in memory, which is not given away meanwhile."""
        known = self._texts.get(id(standing))
        if known is None:
            return write(standing)
        if not known:
            known = self._texts[id(standing)] = write(standing)
        return known


def explain(
    request: Request,
    lineup: Lineup,
    selector: Selector,
    tallies: Tallies,
    pacing: Pacing | None = None,
    standings: Standings | None = None,
) -> Explanation:
    """Who can answer for an alias, who cannot, and why. ``standings``: those of an earlier look."""
    suspensions = selector.suspensions
    now = suspensions.clock()
    suspensions.expire()
    wall = now + ahead_of(suspensions.clock)
    step, today = int(wall // STEP), tallies.usage.today()
    candidates: list[Standing] = []
    told: tuple[object, ...]
    state = (step, tallies.usage.day(wall), *request.blocked.items())
    for place, member in enumerate(_in_order(lineup, suspensions.limits), start=1):
        make = partial(_standing, place, member, request, lineup, selector, tallies, now, pacing, step, today)
        if standings is None:
            candidates.append(make())
            continue
        name = member.credential.name
        told = (place, tallies.lately(name, member.model).changes, pacing.of(name) if pacing is not None else None)
        if windows := suspensions.limits.of(member):
            # Forecasts, and the seconds until a reset, go on by themselves.
            told = (*told, now // FORECAST, *windows)
        candidates.append(standings.of(lineup, member, (*told, *state), make))
    left_out = len(lineup.members) - len(candidates)
    route = lineup.route
    return Explanation(
        printable(lineup.alias), lineup.dialect, route.pattern, route.strategy, wall, tuple(candidates), left_out
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
    tallies: Tallies,
    now: float,
    pacing: Pacing | None,
    step: int,
    today: Mapping[Place, Row],
) -> Standing:
    suspensions = selector.suspensions
    name, model = member.credential.name, printable(member.model)
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
    lately = tallies.lately(name, member.model)
    hour = lately.since(step) if lately.steps else ()
    counted = today.get(Place(own_name(name), model, member.upstream.name)) if today else None
    times, key = suspensions.first_events, key_of(member, Scope.CANDIDATE)
    return Standing(
        place,
        name,
        model,
        member.upstream.name,
        member.upstream.url,
        state,
        because,
        note,
        tallies.of(name, member.model),
        lineup.choices[member].priority,
        lineup.choices[member].weight,
        times.pace((key, True)) or times.pace((key, False)),
        lately.speed,
        hour,
        sum(failed for _, _, failed in hour),
        spent_of(counted, member.upstream.price(model)) if counted is not None else None,
        lately.served,
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
