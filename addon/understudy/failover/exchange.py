"""The decision machine of one request: which candidate, what a reply means for it, and what the tool gets at the end.

No I/O, no mitmproxy, no clock of its own: every method takes ``now`` (a reading of the same clock as the suspensions,
in seconds) and returns the next step as a value. The laws it keeps are those of docs/architecture.md: one
repeat per candidate (2), skipped candidates cost nothing (5), the most hopeful real reply at the end, or an answer of
our own where that would mislead the tool (6), and a fault of the request costs no candidate anything (7).
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from understudy.failover.actions import DEFAULTS, Default, Next, action
from understudy.failover.affinity import Sessions, Spent
from understudy.failover.candidates import Chooser
from understudy.failover.penalties import Failure, Lessons, Reason, Repeat, repeat_of
from understudy.failover.refusal import RETRY_HORIZON, chances, earliest, refuse
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Attempt, Outcome, Release, Request, Step, Wait
from understudy.model import Budget, Candidate, Label, Verdict
from understudy.replies import Fault, Reply, read_hint
from understudy.rules import Ruleset


class Exchange:
    """One request of a tool with all its attempts."""

    def __init__(
        self,
        request: Request,
        lineup: Lineup,
        selector: Selector,
        ruleset: Ruleset,
        now: float,
        random: Random,
        sessions: Sessions | None = None,
    ) -> None:
        self.request = request
        self.lineup = lineup
        self.selector = selector
        self.suspensions = selector.suspensions
        self.ruleset = ruleset
        self.started = now
        self.random = random
        self.budget: Budget = request.spent.left_of(lineup.route.budget)
        self.outcomes: list[Outcome] = []
        self.attempt: Attempt | None = None
        self.waited = 0.0
        """Seconds that were spent waiting for a candidate to come back."""
        self._sent = 0
        self._begun = False
        self._wait: tuple[float, float, str] | None = None  # since when, until when, why
        self._again: Attempt | None = None
        """Whom the wait is for, with the ticket to go on with; None: for anybody."""
        self._ticket = 0  # that of the latest attempt
        self._released = 0  # the number of the attempt whose reply the tool gets
        self._chooser = Chooser(request, lineup, selector, sessions)
        self._lessons = Lessons(self.suspensions, request, random)

    def __repr__(self) -> str:
        tried = ", ".join(f"{outcome.attempt.candidate}: {outcome.verdict.label}" for outcome in self.outcomes)
        return f"Exchange({self.request.alias} over {self.lineup.route.pattern}: {tried or 'nothing tried'})"

    # -- questions -----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """After this reading of the clock no attempt and no wait begins."""
        return self.started + self.budget.seconds

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt or a wait goes on; neither does once there is an answer, or the tool went away."""
        return self.attempt is not None or self._wait is not None

    @property
    def best(self) -> int:
        """The number of the attempt whose real reply is the most hopeful one so far; 0 without one."""
        hopeful = [outcome for outcome in self.outcomes if outcome.releasable]
        return max(hopeful, key=lambda outcome: outcome.hope).attempt.number if hopeful else 0

    @property
    def spent(self) -> Spent:
        """What this request has used up, earlier rounds included."""
        before = self.request.spent
        return Spent(before.attempts + self._sent, before.waited + self.waited)

    def spent_at(self, now: float) -> Spent:
        """The same in the middle of it: a wait for anybody counts for as long as it has lasted."""
        spent = self.spent
        if self._wait is None or self._again is not None:
            return spent
        return replace(spent, waited=spent.waited + max(0.0, now - self._wait[0]))

    @property
    def ticket(self) -> int:
        """The order of the latest attempt, 0 before the first."""
        return self._ticket

    @property
    def is_released(self) -> bool:
        """Whether a reply was found for the tool."""
        return self._released > 0

    def may_begin(self, now: float) -> bool:
        """Whether the budget allows another attempt."""
        return self._sent < self.budget.attempts and now < self.deadline

    def has_another(self, now: float) -> bool:
        """Whether another candidate could be tried right now instead of the current one."""
        if self.attempt is None or not self.may_begin(now):
            return False
        self.suspensions.expire()
        return self._chooser.has_other_than(self.attempt.candidate)

    def first_byte_limit(self, now: float) -> float:
        """How many seconds the current attempt may stay without any byte of a reply; infinite: it may not be cut."""
        limit = self.budget.first_event if self.request.streamed else self.budget.silence or math.inf
        if limit == math.inf or not self.has_another(now):
            return math.inf
        return max(0.0, min(limit, self.deadline - now))

    def first_output_limit(self, now: float, sent_at: float) -> float:
        """The same for a stream that has begun, without any real output; it counts from the sending."""
        limit = self.budget.first_output or math.inf
        if limit == math.inf or not self.has_another(now):
            return math.inf
        return max(0.0, min(sent_at + limit, self.deadline) - now)

    def is_ready(self) -> bool:
        """Whether a wait can end early: somebody was resumed by hand, or has proven to be back."""
        self.suspensions.expire()
        if self._again is None:
            return self._chooser.has_come_back(None)
        return not self._again.ticket and not self._again.refresh and self._chooser.has_come_back(self._again.candidate)

    # -- steps ---------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> Step:
        """The first step: an attempt, a wait for the earliest candidate, or an answer of our own.

        Raises RuntimeError when the exchange has begun before.
        """
        if self._begun:
            raise RuntimeError("begin() for the second time")
        self._begun = True
        self.suspensions.expire()
        if (waiting := self._chooser.seat_back_in(now, self.budget.patience)) is not None:
            seat, seconds = waiting
            self._again = Attempt(0, seat)
            return self._pause(
                now, seconds, f"{seat} is back in a moment, and the session stays on it to keep its prompt cache"
            )
        return self._next(now)

    def resume(self, now: float) -> Step:
        """The step after a wait, or the rest of it. Raises RuntimeError, and changes nothing, when there was none."""
        if self._wait is None:
            raise RuntimeError("resume() without a wait")
        since, until, reason = self._wait
        if now < until and not self.is_ready():
            return Wait(until - now, reason)
        self._wait = None
        again, self._again = self._again, None
        if again is None:
            self.waited += max(0.0, now - since)
            return self._next(now, anew=True)
        # Another exchange may have learnt meanwhile that this candidate cannot go on, or be finding out.
        self.suspensions.expire()
        if self.may_begin(now) and self._chooser.is_free(again.candidate, again.ticket):
            return self._send(again.candidate, now, refresh=again.refresh, ticket=again.ticket)
        self.suspensions.end_probe(again.ticket)
        return self._next(now)

    def judge(self, reply: Reply, now: float) -> Step:
        """What the reply to the current attempt means: release it, try another candidate, or give up.

        Raises RuntimeError when no attempt is under way; nothing has changed then.
        """
        attempt = self._take_attempt("judge")
        failure = self._failure(attempt, reply, now)
        verdict, default = failure.verdict, failure.default
        outcome = Outcome(attempt, verdict, reply.status, None, default.hope, reply.fault)
        self.outcomes.append(outcome)
        if reply.fault is None:
            self._confirm(attempt.candidate, refusals=verdict.label is not Label.MODEL_UNSUPPORTED)
        if not self._goes_on(verdict, default, reply.fault):
            stale = reply.fault is not None and reply.fault.reused  # closed while idle, which says nothing
            if verdict.label is not Label.OK and default.scope is not None and not stale:
                # That it is not replayed is no reason to ask the same candidate next time.
                self.outcomes[-1] = outcome = replace(outcome, suspension=self._lessons.learn(failure))
            self.suspensions.end_probe(attempt.ticket)
            if verdict.label is Label.OK:
                self._chooser.take_seat(attempt.candidate)
            if outcome.releasable:
                return self._release(attempt.number)
            self._chooser.exclude_all()
            return self._final(now)
        once = not self._chooser.was_repeated(attempt.candidate)
        repeat = repeat_of(failure, self.budget.patience, self.random) if once else None
        if repeat is not None and self.may_begin(now + repeat.seconds):
            return self._repeat(failure, repeat)
        self.outcomes[-1] = replace(outcome, suspension=self._lessons.learn(failure))
        self.suspensions.end_probe(attempt.ticket)
        self._chooser.exclude(attempt.candidate, default, self.outcomes)
        return self._next(now)

    def accept(self) -> None:
        """The current attempt has shown real output, or a reply that needs no decision: it is released as it is."""
        attempt = self._take_attempt("accept")
        self.outcomes.append(Outcome(attempt, Verdict(Label.OK, "builtin/output"), 200, None, 0))
        self._confirm(attempt.candidate, refusals=True)
        # Proven it is at its terminal event only; but it is worth asking again.
        self.suspensions.end_probe(attempt.ticket)
        self._chooser.take_seat(attempt.candidate)
        self._released = attempt.number

    def unsendable(self, label: Label, rule: str, reason: str, now: float) -> Step:
        """The current attempt could not even be built for its candidate: on to the next, nobody is suspended.

        Nothing was sent, so it costs no budget (law 5). Only a secret that was rejected, and for which there is no
        other, is out of rotation from now on.
        """
        attempt = self._take_attempt("unsendable")
        self._sent -= 1
        suspension, default = None, DEFAULTS[label]
        self.suspensions.end_probe(attempt.ticket)
        if attempt.refresh and (last := self.outcomes[-1]).verdict.label is Label.CREDENTIAL_REJECTED:
            rejected = Failure(last.attempt, last.verdict, action(last.verdict), None, None, now)
            suspension = self._lessons.learn(rejected)
        self.outcomes.append(Outcome(attempt, Verdict(label, rule, reason), 0, suspension, 0))
        self._chooser.exclude(attempt.candidate, default, self.outcomes)
        return self._next(now)

    def renewed(self) -> None:
        """The current attempt goes out with another secret than those before it: what it finds out is newer."""
        attempt = self._take_attempt("renewed")
        self.suspensions.end_probe(attempt.ticket)
        self._ticket = self.suspensions.ticket()
        self.attempt = replace(attempt, ticket=self._ticket)
        if self.request.generating:
            self.suspensions.begin_probe(attempt.candidate, self._ticket)

    def succeeded(self) -> None:
        """The released reply was proven complete: it resumes exactly its own candidate (law 4)."""
        if not self._released or not self.request.generating:
            return
        outcome = self.outcomes[self._released - 1]
        # A reply that was judged to be an error and is released for want of a better one ends as it should, too.
        if outcome.verdict.label is Label.OK:
            self.suspensions.prove(outcome.attempt.candidate, outcome.attempt.ticket)

    def failed_after_release(self, reply: Reply, now: float) -> Outcome | None:
        """The released stream ended in an error or was cut: nothing can be replayed, but the candidate pays for it.

        Returns the outcome, None when there is nothing to learn: the error suspends nothing, or was judged before.
        """
        if not self._released or self.outcomes[self._released - 1].verdict.label is not Label.OK:
            return None
        released = self.outcomes[self._released - 1].attempt
        failure = self._failure(released, reply, now)
        if failure.default.scope is None:
            return None
        suspension = self._lessons.learn(failure)
        return Outcome(released, failure.verdict, reply.status, suspension, failure.default.hope, reply.fault)

    def cancelled(self) -> None:
        """The tool went away: nothing is learnt, nobody is suspended, and nobody's probe is held any longer."""
        # Not that of the attempt under way: there may be none, if an exception came in between.
        self.suspensions.end_probe(self._ticket)
        self.attempt = self._again = self._wait = None

    # -- parts ---------------------------------------------------------------------------------------------------

    def _next(self, now: float, *, anew: bool = False) -> Step:
        """Send to whoever can be picked, wait for whoever comes back soon, or end. ``anew``: a wait has ended."""
        if self.may_begin(now):
            self.suspensions.expire()
            if (picked := self._chooser.choose(anew=anew)) is not None:
                return self._send(picked, now)
            # Measured from the start, so that a candidate that is suspended anew meanwhile does not add another wait;
            # and from now, should the clock have been set back.
            limit = min(self.started, now) + self.budget.wait
            limit = min(limit, math.nextafter(self.deadline, now))
            if (due := self._chooser.due(now, limit)) is not None:
                self._chooser.begin_wait()
                return self._pause(now, due - now, "every candidate is suspended")
            if (early := self._chooser.early_probe()) is not None:
                return self._send(early, now, early=True)
        return self._final(now)

    def _send(
        self, candidate: Candidate, now: float, *, refresh: bool = False, early: bool = False, ticket: int = 0
    ) -> Attempt:
        repeat = self._chooser.send(candidate)
        self._sent += 1
        self._ticket = ticket = ticket or self.suspensions.ticket()
        if self.request.generating:
            self.suspensions.begin_probe(candidate, ticket)
        self.attempt = Attempt(len(self.outcomes) + 1, candidate, repeat, refresh, early, ticket, now)
        return self.attempt

    def _failure(self, attempt: Attempt, reply: Reply, now: float) -> Failure:
        """What a reply means for its attempt, should that have failed."""
        verdict = self._judged(reply)
        default = action(verdict, reply.fault)
        hint = read_hint(reply, now) if default.hint_cap else None
        return Failure(attempt, verdict, default, hint, reply.fault, now)

    def _judged(self, reply: Reply) -> Verdict:
        """The verdict, with what the route says about its label on top of what its rule does."""
        verdict = self.ruleset.judge(reply)
        wanted = dict(self.lineup.route.actions).get(verdict.label) if self.lineup.route.actions else None
        if wanted is None:
            return verdict
        stated = {
            name: value for name in ("replay", "retry_same", "seconds") if (value := getattr(wanted, name)) is not None
        }
        return replace(verdict, then=replace(verdict.then, **stated))

    def _confirm(self, candidate: Candidate, *, refusals: bool) -> None:
        """A candidate has answered: earlier outcomes get the suspension that holds from now on."""
        for number, suspension in self._lessons.confirm(candidate, refusals=refusals):
            self.outcomes[number - 1] = replace(self.outcomes[number - 1], suspension=suspension)

    def _take_attempt(self, what: str) -> Attempt:
        if self.attempt is None:
            raise RuntimeError(f"{what}() without an attempt under way")
        attempt, self.attempt = self.attempt, None
        return attempt

    def _goes_on(self, verdict: Verdict, default: Default, fault: Fault | None) -> bool:
        if fault is not None and fault.sent and not self.request.replay_after_sent:
            return False
        return verdict.then.replay if verdict.then.replay is not None else default.next is not Next.NOBODY

    def _repeat(self, failure: Failure, repeat: Repeat) -> Wait:
        """Wait, and then send to the same candidate once more."""
        attempt, held = failure.attempt, failure.attempt.ticket
        if repeat.reason is Reason.PATIENCE:
            # The others go elsewhere meanwhile.
            self.outcomes[-1] = replace(self.outcomes[-1], suspension=self._lessons.learn(failure))
        if repeat.reason is not Reason.LUCK:
            # What the next try finds out, it finds out with a ticket of its own.
            self.suspensions.end_probe(held)
            held = 0
        self._again = replace(attempt, refresh=repeat.reason is Reason.REFRESH, ticket=held)
        return self._pause(failure.at, repeat.seconds, f"{attempt.candidate}: {failure.verdict.label}, tried once more")

    def _pause(self, now: float, seconds: float, reason: str) -> Wait:
        self._wait = (now, now + seconds, reason)
        return Wait(seconds, reason)

    def _release(self, number: int, *, final: bool = False, retry: bool = True) -> Release:
        self._released = number
        return Release(number, final, retry)

    def _final(self, now: float) -> Step:
        """Nothing is left to try: the most hopeful real reply, or an answer of our own."""
        excluded = self._chooser.used
        found = chances(self.request, self.lineup, self.selector, self.outcomes, excluded)
        if self.best:
            retry = earliest(found) - now <= RETRY_HORIZON
            return self._release(self.best, final=self._chooser.only is None, retry=retry)
        step = refuse(self.request, self.lineup, self.selector, self.outcomes, excluded, now)
        return replace(step, refused=not self._sent and self._chooser.all_refuse())
