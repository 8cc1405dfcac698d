"""How a recorded call ends with the current pool and rules, as a value, and the notes that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from understudy.codec.time_text import duration
from understudy.failover import LISTED, Attempt, Exchange, Outcome, Refuse, Release, Wait
from understudy.model import Label, Scope, Suspension
from understudy.proxy.engine import Snapshot
from understudy.whatif.recorder import RecordedAttempt, RecordedCall


class End(StrEnum):
    """How an exchange ends with the current pool and rules."""

    ANSWERED = "answered"  # the first attempt already
    RESCUED = "rescued"  # after attempts that failed, by a recorded reply
    OPEN = "open"  # a candidate is asked of whose reply nothing is recorded
    FAILED = "failed"  # a real error reaches the tool
    REFUSED = "refused"  # understudy answers itself
    UNROUTED = "unrouted"  # no route serves it: it passes as it is
    UNRECORDED = "unrecorded"  # nothing is recorded of any reply


@dataclass(frozen=True, slots=True)
class Skip:
    """A candidate that is not picked as things stand, and why."""

    candidate: str
    why: str


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt and what it comes to. ``stands_in``: the reply was recorded of another candidate."""

    outcome: Outcome
    recorded: RecordedAttempt
    stands_in: bool


@dataclass(frozen=True, slots=True)
class Played:
    """A call that was played to its end.

    ``asked``: the candidate of whose reply nothing is recorded, when the end is open; ``free``: who else could still
    be asked then; ``witness``, in words: who is recorded to have answered this call, or when the one asked answered
    another one.
    """

    call: RecordedCall
    end: End
    route: str = ""
    candidates: tuple[str, ...] = ()
    skipped: tuple[Skip, ...] = ()
    trail: tuple[Tried | Wait, ...] = ()
    answer: Outcome | None = None
    refusal: Refuse | None = None
    asked: Attempt | None = None
    free: tuple[str, ...] = ()
    witness: str = ""

    @property
    def tried(self) -> list[Tried]:
        """The attempts, in their order."""
        return [each for each in self.trail if isinstance(each, Tried)]

    @property
    def waits(self) -> list[Wait]:
        """The waits, in their order."""
        return [each for each in self.trail if isinstance(each, Wait)]


class Notes:
    """What is noted while an exchange is played."""

    def __init__(self, exchange: Exchange, snapshot: Snapshot, clock: Callable[[], float]) -> None:
        self.exchange, self.snapshot, self.clock = exchange, snapshot, clock
        self.skipped: dict[str, Skip] = {}
        self.trail: list[tuple[RecordedAttempt, bool] | Wait] = []
        self.notice()

    def notice(self) -> None:
        """Note who is out of rotation now, and why; those that were tried have said so themselves."""
        now = self.clock()
        asked = {outcome.attempt.candidate for outcome in self.exchange.outcomes}
        if self.exchange.attempt is not None:
            asked.add(self.exchange.attempt.candidate)
        for member in self.exchange.lineup.members[:LISTED]:
            if self.exchange.request.bound_to and (why := self.exchange.request.why_not(member)):
                self.skipped.setdefault(str(member), Skip(str(member), why))
                continue
            running = self.snapshot.selector.suspension_of(member)
            if running is not None and member not in asked:
                self.skipped.setdefault(str(member), Skip(str(member), why_suspended(running, now)))

    def released(self, call: RecordedCall, step: Release) -> Played:
        """The exchange ends in a real reply."""
        outcome = self.exchange.outcomes[step.attempt - 1]
        recorded = [each for each in self.trail if isinstance(each, tuple)][step.attempt - 1][0]
        if outcome.verdict.label is not Label.OK:
            return self.end(call, End.FAILED, answer=outcome)
        if recorded.complete:
            self.exchange.succeeded()
        if recorded.ended_badly is not None:
            self.exchange.failed_after_release(recorded.ended_badly, self.clock())
        return self.end(call, End.RESCUED if step.attempt > 1 else End.ANSWERED, answer=outcome)

    def end(
        self,
        call: RecordedCall,
        end: End,
        *,
        answer: Outcome | None = None,
        refusal: Refuse | None = None,
        asked: Attempt | None = None,
        witness: str = "",
    ) -> Played:
        """What there is to tell in the end."""
        self.notice()
        exchange = self.exchange
        members = exchange.lineup.members
        outcomes = {outcome.attempt.candidate for outcome in exchange.outcomes}
        selector = self.snapshot.selector
        spoke = {str(each) for each in outcomes} | ({str(asked.candidate)} if asked is not None else set())
        free = [
            str(member)
            for member in members[:LISTED]
            if asked is not None
            and member not in (*outcomes, asked.candidate)
            and selector.suspension_of(member) is None
        ]
        said, waited = iter(exchange.outcomes), isinstance(next(iter(self.trail), None), Wait)
        return Played(
            call,
            end,
            exchange.lineup.route.pattern,
            tuple(map(str, members[:LISTED])),
            # One that is asked after all, because no other is left, was not skipped; after a wait it was until then.
            tuple(skip for name, skip in self.skipped.items() if waited or name not in spoke),
            tuple(each if isinstance(each, Wait) else Tried(next(said), *each) for each in self.trail),
            answer,
            refusal,
            asked,
            tuple(free),
            witness,
        )


def why_suspended(suspension: Suspension, now: float) -> str:
    """``rate_limited by general/rate_limited, suspended for another 20s: HTTP 429: slow down``."""
    what = "" if suspension.key.scope is Scope.CANDIDATE else f"its {suspension.key.scope} "
    why = f": {suspension.evidence}" if suspension.evidence else ""
    due = duration(suspension.until - now)
    return f"{suspension.reason}, {what}suspended for another {due}{why}"
