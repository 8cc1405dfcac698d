"""The decision machine of one request: which candidate, what a reply means for it, and what the tool gets at the end.

No I/O, no mitmproxy, no clock of its own: every method takes ``now`` (a reading of the same clock as the suspensions,
in seconds) and returns the next step as a value. The laws it keeps are numbered as in the design: one repeat per
candidate (2), skipped candidates cost nothing (5), the most hopeful real reply at the end, or an answer of our own
where that would lie to the tool (6), and a fault of the request costs nobody anything (7).
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from understudy.actions import DEFAULTS, Default, Next, action
from understudy.hints import Hint, read_hint
from understudy.pool import Budget, Candidate
from understudy.refusal import RETRY_HORIZON, chances, earliest, refuse
from understudy.reply import Fault, Reply
from understudy.rules import Label, Ruleset, Scope, Verdict
from understudy.select import Lineup, Selector
from understudy.steps import Attempt, Outcome, Release, Request, Step, Wait
from understudy.suspensions import Suspension, key_of

JITTER = (0.05, 0.25)
"""Seconds to wait before the same candidate is tried once more."""


class Exchange:
    """One request of a tool with all its attempts."""

    def __init__(
        self, request: Request, lineup: Lineup, selector: Selector, ruleset: Ruleset, now: float, random: Random
    ) -> None:
        self.request = request
        self.lineup = lineup
        self.selector = selector
        self.ruleset = ruleset
        self.started = now
        self.random = random
        self.budget: Budget = lineup.route.budget
        self.outcomes: list[Outcome] = []
        self.attempt: Attempt | None = None
        self._began = now
        self._sent = 0
        self._repeated: set[Candidate] = set()
        self._repeat_next: Candidate | None = None
        self._begun = False
        self._waiting = False
        self._released = 0  # the number of the attempt whose reply the tool gets
        self._excluded = 0
        if request.blocked:
            for position, member in enumerate(lineup.members):
                if member.upstream.name in request.blocked:
                    self._excluded |= 1 << position

    def __repr__(self) -> str:
        tried = ", ".join(f"{outcome.attempt.candidate}: {outcome.verdict.label}" for outcome in self.outcomes)
        return f"Exchange({self.request.alias} over {self.lineup.route.pattern}: {tried or 'nothing tried'})"

    # -- questions -----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """After this reading of the clock no attempt and no wait begins."""
        return self.started + self.budget.seconds

    def may_begin(self, now: float) -> bool:
        """Whether the budget allows another attempt."""
        return self._sent < self.budget.attempts and now < self.deadline

    def has_another(self, now: float) -> bool:
        """Whether another candidate could be tried right now instead of the current one."""
        if self.attempt is None or not self.may_begin(now):
            return False
        self.selector.suspensions.expire()
        others = ~self.lineup.mask(key_of(self.attempt.candidate, Scope.CANDIDATE))
        return bool(self.lineup.available() & ~self._excluded & others)

    def first_event_limit(self, now: float) -> float:
        """How many seconds a streamed request may stay without any byte of a reply; infinite when it may not be cut."""
        if not self.request.streamed or not self.has_another(now):
            return math.inf
        return max(0.0, min(self.budget.first_event, self.deadline - now))

    @property
    def best(self) -> int:
        """The number of the attempt whose real reply is the most hopeful one so far; 0 without one."""
        hopeful = [outcome for outcome in self.outcomes if outcome.releasable]
        return max(hopeful, key=lambda outcome: outcome.hope).attempt.number if hopeful else 0

    # -- steps ---------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> Step:
        """The first step: an attempt, a wait for the earliest candidate, or an answer of our own.

        Raises RuntimeError when the exchange has begun before.
        """
        if self._begun:
            raise RuntimeError("begin() for the second time")
        self._begun = True
        return self._begin(now)

    def _begin(self, now: float) -> Step:
        self.selector.suspensions.expire()
        if len(self.lineup.members) == 1 and not self._excluded:
            only = self.lineup.members[0]
            if self.selector.suspension_of(only, stated=True) is None:
                return self._send(only, now)
        elif (picked := self.lineup.pick(self._excluded, advance=self.request.generating)) is not None:
            return self._send(picked, now)
        due = self._earliest()
        # Measured from the start, so that a candidate that is suspended anew meanwhile does not add another wait.
        if now < due <= self.started + self.budget.wait and due < self.deadline:
            return self._wait(due - now, "every candidate is suspended")
        return self._final(now)

    def resume(self, now: float) -> Step:
        """The step after a wait. Raises RuntimeError when there was none; nothing has changed then."""
        if not self._waiting:
            raise RuntimeError("resume() without a wait")
        self._waiting = False
        again, self._repeat_next = self._repeat_next, None
        if not self.may_begin(now):
            return self._final(now)
        if again is None:
            return self._begin(now)
        # Another exchange may have learnt meanwhile that this candidate cannot go on.
        self.selector.suspensions.expire()
        alone = len(self.lineup.members) == 1
        if self.selector.suspension_of(again, stated=alone) is None:
            return self._send(again, now, repeat=True)
        return self._next(now)

    def judge(self, reply: Reply, now: float) -> Step:
        """What the reply to the current attempt means: release it, try another candidate, or give up.

        Raises RuntimeError when no attempt is under way; nothing has changed then.
        """
        if self.attempt is None:
            raise RuntimeError("judge() without an attempt under way")
        attempt, self.attempt = self.attempt, None
        verdict = self.ruleset.judge(reply)
        default = action(verdict, reply.fault)
        hint = read_hint(reply, now) if default.hint_cap else None
        outcome = Outcome(attempt, verdict, reply.status, None, default.hope)
        self.outcomes.append(outcome)
        if not self._goes_on(verdict, default, reply.fault):
            if outcome.releasable:
                return self._release(attempt.number)
            self._excluded = self.lineup.everyone
            return self._final(now)
        pause = self._repeat_pause(attempt, verdict, default, hint, reply)
        if pause is not None and now + pause < self.deadline and self._sent < self.budget.attempts:
            self._repeated.add(attempt.candidate)
            self._repeat_next = attempt.candidate
            return self._wait(pause, f"{attempt.candidate}: {verdict.label}, tried once more")
        self.outcomes[-1] = replace(outcome, suspension=self._suspend(attempt, verdict, default, hint, reply, now))
        self._exclude(attempt.candidate, default)
        return self._next(now)

    def accept(self) -> None:
        """The current attempt has shown real output, or a reply that needs no decision: it is released as it is."""
        if self.attempt is None:
            raise RuntimeError("accept() without an attempt under way")
        attempt, self.attempt = self.attempt, None
        self.outcomes.append(Outcome(attempt, Verdict(Label.OK, "builtin/output"), 200, None, 0))
        self._released = attempt.number

    def unsendable(self, label: Label, rule: str, reason: str, now: float) -> Step:
        """The current attempt could not even be built for its candidate: on to the next, nobody is suspended.

        Nothing was sent, so it costs no budget (law 5).
        """
        if self.attempt is None:
            raise RuntimeError("unsendable() without an attempt under way")
        attempt, self.attempt = self.attempt, None
        self._sent -= 1
        self.outcomes.append(Outcome(attempt, Verdict(label, rule, reason), 0, None, 0))
        self._exclude(attempt.candidate, DEFAULTS[label])
        return self._next(now)

    def succeeded(self) -> None:
        """The released reply was proven complete: it resumes exactly its own candidate (law 4)."""
        if not self._released or not self.request.generating:
            return
        outcome = self.outcomes[self._released - 1]
        # A reply that was judged to be an error and is released for want of a better one ends as it should, too.
        if outcome.verdict.label is Label.OK:
            candidate = outcome.attempt.candidate
            self.selector.suspensions.resume(key_of(candidate, Scope.CANDIDATE), set_before=self._began)

    def failed_after_release(self, reply: Reply, now: float) -> Outcome | None:
        """The released stream ended in an error or was cut: nothing can be replayed, but the candidate pays for it.

        Returns the outcome, None when there is nothing to learn: the error suspends nothing, or was judged before.
        """
        if not self._released or self.outcomes[self._released - 1].verdict.label is not Label.OK:
            return None
        released = self.outcomes[self._released - 1].attempt
        verdict = self.ruleset.judge(reply)
        default = action(verdict, reply.fault)
        if default.scope is None:
            return None
        hint = read_hint(reply, now) if default.hint_cap else None
        suspension = self._suspend(released, verdict, default, hint, reply, now)
        return Outcome(released, verdict, reply.status, suspension, default.hope)

    def cancelled(self) -> None:
        """The tool went away: nothing is learnt and nobody is suspended."""
        self.attempt = None
        self._waiting = False
        self._repeat_next = None

    # -- parts ---------------------------------------------------------------------------------------------------

    def _send(self, candidate: Candidate, now: float, *, repeat: bool = False) -> Attempt:
        self._sent += 1
        self._began = now
        self.attempt = Attempt(len(self.outcomes) + 1, candidate, repeat)
        return self.attempt

    def _wait(self, seconds: float, reason: str) -> Wait:
        self._waiting = True
        return Wait(seconds, reason)

    def _release(self, number: int, *, final: bool = False, retry: bool = True) -> Release:
        self._released = number
        return Release(number, final, retry)

    def _goes_on(self, verdict: Verdict, default: Default, fault: Fault | None) -> bool:
        if fault is not None and fault.sent and not self.request.replay_after_sent:
            return False
        return verdict.then.replay if verdict.then.replay is not None else default.next is not Next.NOBODY

    def _repeat_pause(
        self, attempt: Attempt, verdict: Verdict, default: Default, hint: Hint | None, reply: Reply
    ) -> float | None:
        """Seconds until the same candidate is tried again, None when it is not (law 2: at most once)."""
        if attempt.candidate in self._repeated:
            return None
        if verdict.label is Label.RATE_LIMITED and hint is not None and hint.seconds <= self.budget.patience:
            return hint.seconds
        wanted = verdict.then.retry_same > 0 if verdict.then.retry_same is not None else default.repeat
        if not wanted:
            return None
        # A connection that had served a request before was merely closed while idle: nothing to wait for.
        return 0.0 if reply.fault is not None else self.random.uniform(*JITTER)

    def _suspend(
        self, attempt: Attempt, verdict: Verdict, default: Default, hint: Hint | None, reply: Reply, now: float
    ) -> Suspension | None:
        if default.scope is None:
            return None
        # Law 4: from an endpoint that generates nothing only an explicit refusal that names the model counts.
        if not self.request.generating and not (verdict.label is Label.MODEL_UNSUPPORTED and verdict.names_model):
            return None
        seconds = verdict.then.seconds if verdict.then.seconds is not None else default.seconds
        if hint is not None:
            seconds = min(hint.seconds, default.hint_cap)
        if seconds <= 0:
            return None
        key = key_of(attempt.candidate, default.scope)
        source = hint.source if hint else ""
        wanted = Suspension(key, now, now + seconds, verdict.label, verdict.rule, verdict.evidence, source)
        return self.selector.suspensions.suspend(wanted)

    def _exclude(self, candidate: Candidate, default: Default) -> None:
        """Leave out of the rest of this exchange whatever this verdict speaks about."""
        scope = default.scope or Scope.CANDIDATE
        self._excluded |= self.lineup.mask(key_of(candidate, scope))
        self._excluded |= self.lineup.mask(key_of(candidate, Scope.CANDIDATE))
        if default.next is Next.OTHER_MODEL:
            self._excluded |= self.lineup.same_model(candidate)

    def _next(self, now: float) -> Step:
        if self.may_begin(now):
            self.selector.suspensions.expire()
            picked = self.lineup.pick(self._excluded, advance=self.request.generating)
            if picked is not None:
                return self._send(picked, now)
        return self._final(now)

    def _final(self, now: float) -> Step:
        """Nothing is left to try: the most hopeful real reply, or an answer of our own."""
        if self.best:
            alone = len(self.lineup.members) == 1
            return self._release(self.best, final=not alone, retry=self._earliest() - now <= RETRY_HORIZON)
        return refuse(self.request, self.lineup, self.selector, self.outcomes, self._excluded, now)

    def _earliest(self) -> float:
        return earliest(chances(self.request, self.lineup, self.selector, self.outcomes, self._excluded))
