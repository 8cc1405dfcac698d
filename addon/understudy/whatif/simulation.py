"""What would have happened: recorded calls through the real exchange, with the current pool and rules, and no network.

Nothing is imitated: candidates are picked, replies judged, suspensions kept and waits taken by the very code that does
it on the wire. Only the clock is the flows' own, and a reply is not fetched but looked up among those recorded:

- what a candidate was recorded to say in this exchange is what it says;
- where it is not recorded who spoke, or none of them is a candidate any more, the first recorded reply stands for the
  candidate that is asked first;
- of every other candidate it is unknown what it would have said, and the exchange ends there, open;
- what a drill strikes says what the drill makes up, as on the wire (H12).
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import override

from understudy.codec.time_text import duration
from understudy.drill import USUAL, Behaviour, Call, Drill
from understudy.failover import Attempt, Continue, Exchange, Refuse, Release, Step, Wait, own_name
from understudy.failover.memory import Plan
from understudy.flows.traits import text_of
from understudy.model import Candidate, Key, Label, Pool, printable
from understudy.proxy.engine import Engine, Intake
from understudy.requests.rewrite import Stash
from understudy.rules import Ruleset
from understudy.whatif.drilled_reply import drilled_reply, silence
from understudy.whatif.recorder import RecordedAttempt, RecordedCall
from understudy.whatif.result import End, Notes, Played

MOST_AT_ONCE = 10_000
"""Exchanges that are under way at the same moment, and those that wait for an earlier one to end; a file with more has
no usable times."""
MOST_BYTES = 64 * 1024 * 1024
"""What they may keep in memory, roughly."""
REMEMBERED_ANSWERS = 200
"""Times of answers that are remembered for each candidate."""


class Clock:
    """The time of the flows: it goes on when it is told to, and never back."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def reach(self, moment: float) -> None:
        """Go on to this moment."""
        self.now = max(self.now, moment)


class _Steady(Random):
    """Chance that always says the least."""

    @override
    def random(self) -> float:
        return 0.0


@dataclass
class WhatIf:
    """Plays recorded calls one among the other, as they overlapped. Suspensions have no jitter, so that they read
    the same each time."""

    pool: Pool
    ruleset: Ruleset
    clock: Clock = field(default_factory=Clock)
    failing: tuple[Key, Behaviour] | None = None
    """What fails on purpose all the while, and how (H12)."""

    def __post_init__(self) -> None:
        self.engine = Engine(self.ruleset, clock=self.clock, random=_Steady(), paced=False)
        self.engine.use(self.pool)
        self.drill: Drill | None = None
        """The drill that the calls are played in."""
        if self.failing is not None:
            target, behaviour = self.failing
            self.drill = Drill(target, behaviour, math.inf, self.clock, self.engine.memory.sessions)
            self.engine.begin_drill(self.drill)
        self._agenda: list[tuple[float, int, Generator[float, None, Played]]] = []
        self._begun = self._told = self._held = 0
        self._over: list[tuple[int, Played]] = []
        self._answers: dict[tuple[str, str], list[float]] = {}

    def witness(self, calls: Iterable[RecordedCall]) -> Iterator[RecordedCall]:
        """Pass calls on and note which candidates are recorded to have answered, for what is played before them."""
        for call in calls:
            for attempt in call.attempts:
                if attempt.credential and attempt.answered:
                    times = self._answers.setdefault((attempt.credential, attempt.model), [])
                    insort(times, call.began)
                    if len(times) > REMEMBERED_ANSWERS:
                        del times[0]
                    if len(self._answers) > MOST_AT_ONCE:
                        del self._answers[next(iter(self._answers))]
            yield call

    def play(self, calls: Iterable[RecordedCall]) -> Iterator[Played]:
        """Play calls that come in the order in which they began, and hand them out in that order, if they are not
        too many for it.
        """
        for call in calls:
            self._until(call.began)
            self._held += call.size
            while self._agenda and self._is_full():
                self._until(self._agenda[0][0])
            heapq.heappush(self._agenda, (self.clock.now, self._begun, self._exchange(call)))
            self._begun += 1
            self._until(self.clock.now)
            yield from self._ended()
        self._until(math.inf)
        yield from self._ended()

    def _is_full(self) -> bool:
        return len(self._agenda) + len(self._over) >= MOST_AT_ONCE or self._held > MOST_BYTES

    def _until(self, moment: float) -> None:
        while self._agenda and self._agenda[0][0] <= moment:
            due, number, running = heapq.heappop(self._agenda)
            self.clock.reach(due)
            try:
                heapq.heappush(self._agenda, (next(running), number, running))
            except StopIteration as end:
                heapq.heappush(self._over, (number, end.value))
        if moment < math.inf:
            self.clock.reach(moment)

    def _ended(self) -> Iterator[Played]:
        while self._over and (self._over[0][0] <= self._told or self._is_full()):
            number, played = heapq.heappop(self._over)
            self._told = max(self._told, number + 1)
            self._held -= played.call.size
            yield played

    def _exchange(self, call: RecordedCall) -> Generator[float, None, Played]:
        """One call, from its first step to its last; yields the times at which it wants to go on."""
        exchange, played = yield from self._played(call)
        if exchange is not None and isinstance(exchange.drill, Call):
            got = played.answer or played.refusal
            exchange.drill.over(
                exchange, got.status if got is not None else 0, is_open=played.end in (End.OPEN, End.UNRECORDED)
            )
        return played

    def _played(self, call: RecordedCall) -> Generator[float, None, tuple[Exchange | None, Played]]:
        snapshot = self.engine.snapshot
        assert snapshot is not None
        intake = Intake(snapshot, call.recognised, Stash())
        plan = self.engine.plan(intake, call.request, text_of(call.facts, "user"))
        if plan is None:
            return None, Played(call, End.UNROUTED)
        plan = self._bound_as_noted(plan, call)
        exchange = self.engine.drilled(self.engine.exchange(intake, plan, call.request, {}))
        notes = Notes(exchange, snapshot, self.clock)
        if not call.attempts:
            return exchange, notes.end(call, End.UNRECORDED)
        left = list(call.attempts)
        step: Step = exchange.begin(self.clock())
        while True:
            match step:
                case Attempt() if step.drilled:
                    spoilt = yield from self._struck(step, call, plan, left, exchange, notes)
                    if spoilt is None:
                        exchange.cancelled()
                        return exchange, notes.end(call, End.OPEN, asked=step)
                    step = spoilt
                case Attempt():
                    first = not exchange.outcomes
                    found, stands_in = _reply_of(step.candidate, left, exchange.lineup.members, first=first)
                    if found is None:
                        exchange.cancelled()
                        witness = self._witness(step.candidate, left)
                        return exchange, notes.end(call, End.OPEN, asked=step, witness=witness)
                    left.remove(found)
                    yield self.clock.now + found.seconds
                    notes.notice()
                    attempt = step
                    if found.reply is None:
                        exchange.accept()
                        step = Release(attempt.number)
                    else:
                        step = exchange.judge(found.reply, self.clock())
                    notes.trail.append((found, stands_in))
                case Wait():
                    notes.trail.append(step)
                    yield self.clock.now + step.seconds
                    step = exchange.resume(self.clock())
                case Release():
                    return exchange, self._remembered(exchange, plan, notes.released(call, step))
                case Refuse():
                    return exchange, self._remembered(exchange, plan, notes.end(call, End.REFUSED, refusal=step))
                case Continue():
                    raise AssertionError("an attempt goes on that nobody has begun")

    def _struck(
        self,
        step: Attempt,
        call: RecordedCall,
        plan: Plan,
        left: list[RecordedAttempt],
        exchange: Exchange,
        notes: Notes,
    ) -> Generator[float, None, Step | None]:
        """An attempt that a drill strikes; returns the step that follows, None where only a real reply could tell.

        One that is silent for so long that another candidate is asked as well is taken to have lost to that.
        """
        assert self.drill is not None and isinstance(exchange.drill, Call)
        recorded, stands_in = None, False
        if self.drill.behaviour.kind.asks:
            first = not exchange.outcomes
            recorded, stands_in = _reply_of(step.candidate, left, exchange.lineup.members, first=first)
        query, limit = call.request.path.partition("?")[2], self.engine.connect_limit
        late = drilled_reply(
            self.drill.behaviour, step.candidate, plan, recorded, self.ruleset, query=query, connect_limit=limit
        )
        if late is None:
            return None
        if recorded is not None:
            left.remove(recorded)
        sent = self.clock.now
        quiet = min(exchange.ask_at(step.candidate, sent), exchange.end_at(step.candidate, sent, sent))
        said, at = late.said, sent + late.seconds
        if quiet < at or at == math.inf:
            said, at = silence(said, plan, step.candidate), quiet if quiet < math.inf else sent + USUAL
        else:
            exchange.drill.held_back += late.held_back
        yield at
        notes.notice()
        if said.reply is None:
            exchange.accept()
            following: Step = Release(step.number)
        else:
            following = exchange.judge(said.reply, self.clock())
        notes.trail.append((said, stands_in))
        return following

    def _bound_as_noted(self, plan: Plan, call: RecordedCall) -> Plan:
        """What a call is bound by is known from the replies before it; or understudy has noted it then."""
        bound = call.facts.get("bound")
        to, bond = (text_of(bound, "to"), text_of(bound, "by")) if isinstance(bound, dict) else ("", "")
        if plan.owner or not to or own_name(to) not in self.pool.credentials:
            return plan
        return replace(plan, owner=to, bond=printable(bond))

    def _remembered(self, exchange: Exchange, plan: Plan, played: Played) -> Played:
        """Take note of what later calls should know of this one, as on the wire."""
        memory, answer, label = self.engine.memory, played.answer, None
        if answer is not None:
            label = answer.verdict.label
            if label is Label.OK:
                memory.answered(exchange, played.tried[answer.attempt.number - 1].recorded.marks)
        if played.call.request.data.content:  # without it, one request cannot be told from another
            memory.ended(exchange, plan, played.call.request.data.content or b"", label)
        return played

    def _witness(self, candidate: Candidate, left: list[RecordedAttempt]) -> str:
        good = [f"{each.credential} {printable(each.model)}" for each in left if each.answered and each.credential]
        if good:
            return f"{good[0]} is recorded to have answered this very call"
        times = self._answers.get((candidate.credential.name, candidate.model), ())
        nearest = min(times, key=lambda time: abs(time - self.clock.now), default=None)
        if nearest is None:
            return ""
        apart = nearest - self.clock.now
        return f"it answered another call {duration(abs(apart))} {'later' if apart > 0 else 'earlier'}"


def _reply_of(
    candidate: Candidate, left: list[RecordedAttempt], members: tuple[Candidate, ...], *, first: bool
) -> tuple[RecordedAttempt | None, bool]:
    """What this candidate says, and whether it was recorded of another candidate."""
    for attempt in left:
        if _spoke(candidate, attempt):
            return attempt, False
    known = any(_spoke(member, attempt) for attempt in left for member in members)
    if first and not known and left[0].number == 1:
        return left[0], bool(left[0].credential)
    return None, False


def _spoke(candidate: Candidate, attempt: RecordedAttempt) -> bool:
    return (attempt.credential, attempt.model) == (candidate.credential.name, candidate.model)
