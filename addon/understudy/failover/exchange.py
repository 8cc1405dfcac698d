"""The decision machine of one request: which candidate, what a reply means for it, and what the tool gets at the end.

No I/O, no mitmproxy, no clock of its own: every method takes ``now`` (a reading of the same clock as the suspensions,
in seconds) and returns the next step as a value. The laws it keeps are those of docs/architecture.md: one
repeat per candidate (2), skipped candidates cost nothing (5), the most hopeful real reply at the end, or an answer of
our own where that would mislead the tool (6), and a fault of the request costs no candidate anything (7). Where no
words explain a reply, another candidate is asked whose fault it is (``comparison``).
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from understudy.failover.affinity import NOTHING_SPENT, Sessions, Spent
from understudy.failover.candidates import Chooser
from understudy.failover.comparison import COMPARED_WITHIN, ENDS, REFUSALS, Comparison, may_be_compared
from understudy.failover.default_actions import DEFAULTS, Default, Next, action
from understudy.failover.held_calls import HeldCall
from understudy.failover.pacing import RAMP, Pacing, Place
from understudy.failover.penalties import Changes, Failure, Penalties, Reason, Repeat, repeat_of
from understudy.failover.refusal import RETRY_HORIZON, chances, earliest, refuse
from understudy.failover.selection import Lineup, Selector
from understudy.failover.signatures import identity_of, reads_like_policy, signature_of
from understudy.failover.steps import Attempt, Compared, Continue, Drilling, Outcome, Release, Request, Step, Wait
from understudy.model import AS_USUAL, Budget, Candidate, HoldUntil, Key, Label, Scope, Verdict, key_of
from understudy.replies import Fault, FaultKind, Reply, read_hint
from understudy.rules import Ruleset
from understudy.suspensions import Cause, Learned

NOTHING: frozenset[str] = frozenset()
OUTPUT = Verdict(Label.OK, "builtin/output")
"""The verdict on a stream that has shown output, and on what needs no decision."""
A_POLICY = "builtin/policy"
"""The rule id of an open verdict on words that read like a filter's."""
HELD = "every candidate is out until a reset that is known, and the route holds its calls until then"
NO_FILTER = (401, 402, 408, 429, *range(501, 600))
"""Statuses with which no filter refuses: words such as `policy` say something else there. Some filters send a 500."""


class Exchange:
    """One request of a tool with all its attempts."""

    drill: Drilling | None = None
    """The drill that the call belongs to, see ``drilled_exchange``."""

    def __init__(
        self,
        request: Request,
        lineup: Lineup,
        selector: Selector,
        ruleset: Ruleset,
        now: float,
        random: Random,
        sessions: Sessions | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        self.request = request
        self.lineup = lineup
        self.selector = selector
        self.suspensions = selector.suspensions
        self.ruleset = ruleset
        self.started = now
        self.random = random
        budget = lineup.route.budget
        self.budget: Budget = budget if request.spent is NOTHING_SPENT else request.spent.left_of(budget)
        self.outcomes: list[Outcome] = []
        self.attempt: Attempt | None = None
        """The attempt under way; of two the newer one."""
        self._beside: Attempt | None = None
        self._was_hedged = False
        self._hold: HeldCall | None = None
        """What is told of it while the wait is for a reset, see Route.until_reset."""
        self._heard: tuple[Candidate, ...] = ()
        """Who has shown a first event."""
        self.waited = 0.0
        """Seconds that were spent waiting for a candidate to come back."""
        self._sent = 0
        self._begun = False
        self._wait: tuple[float, float, str] | None = None  # since when, until when, why
        self._again: Attempt | None = None
        """The candidate that the wait is for, with the ticket to go on with; None: for any."""
        self._ticket = 0  # that of the latest attempt
        self._released = 0  # the number of the attempt whose reply the tool gets
        self._chooser = Chooser(request, lineup, selector, sessions)
        self._pacing = pacing
        self._places: dict[Candidate, Place] = {}
        """Of the attempts that are counted, see ``pacing``."""
        self._queued: tuple[Candidate, Place] | None = None
        """Whom the wait is for, where it is for a turn."""
        self._patient_until = 0.0
        """Until when a limit of its own is waited for rather than another candidate asked."""
        self.held = 0.0
        """Seconds for which the call was held until a reset; they are not counted against its budget."""
        self._penalties = Penalties(self.suspensions, request, random, self._chooser.has_several_credentials)
        self._comparison: Comparison | None = None
        """The open verdict that another candidate's reply may explain."""

    @property
    def _learned(self) -> Learned:
        """What comparing has taught; in a drill that is kept apart."""
        return self.suspensions.learned if self.drill is None else self.drill.learned

    def __repr__(self) -> str:
        tried = ", ".join(f"{outcome.attempt.candidate}: {outcome.verdict.label}" for outcome in self.outcomes)
        return f"Exchange({self.request.alias} over {self.lineup.route.pattern}: {tried or 'nothing tried'})"

    # -- questions -----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """After this reading of the clock no attempt and no wait begins."""
        return self.started + self.budget.seconds + self.held

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt or a wait goes on; neither does once there is an answer, or the tool went away."""
        return self.attempt is not None or self._wait is not None

    @property
    def best(self) -> int:
        """The number of the attempt whose real reply the tool gets if nothing better comes; 0 without one.

        That is the most hopeful one, but for a second opinion: then it is the reply that this is about (J02).
        """
        if self._released:
            return self._released
        compared = self._comparison
        if compared is not None and not compared.known and self.outcomes[compared.number - 1].releasable:
            return compared.number
        best = None
        for outcome in self.outcomes:
            if outcome.releasable and (best is None or outcome.hope > best.hope):
                best = outcome
        return best.attempt.number if best is not None else 0

    @property
    def spent(self) -> Spent:
        """What this request has used up, earlier rounds included."""
        before = self.request.spent
        return Spent(before.attempts + self._sent, before.waited + self.waited, before.told)

    def spent_at(self, now: float) -> Spent:
        """The same in the middle of it: a wait for any candidate counts for as long as it has lasted."""
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

    def first_choice(self) -> Candidate | None:
        """Who would be asked now, as things stand; takes no turn. None when nobody can be."""
        seat = self._chooser.seat()
        if seat is not None and self.lineup.bit(seat) & self.lineup.available() & ~self._chooser.out:
            return seat
        return self.lineup.pick(self._chooser.out, advance=False)

    def may_begin(self, now: float) -> bool:
        """Whether the budget allows another attempt."""
        return self._sent < self.budget.attempts and now < self.deadline

    def has_another(self, now: float) -> bool:
        """Whether there is something else to go on with than the current attempt.

        That is another candidate that could be tried right now, or the reply that it is a second opinion on.
        """
        if self.attempt is not None and self.attempt.opinion:
            return True
        if self.attempt is None or not self.may_begin(now):
            return False
        self.suspensions.expire()
        return self._chooser.has_other_than(self.attempt.candidate)

    @property
    def under_way(self) -> tuple[Attempt, ...]:
        """The attempts that go on, the older one first: two at most."""
        return tuple([each for each in (self._beside, self.attempt) if each is not None])

    def ask_at(self, of: Candidate, sent_at: float) -> float:
        """When another candidate is to be asked as well, if an attempt shows no event until then (section 5c).

        ``sent_at``: when it was sent. Infinite: never.
        """
        budget, streamed = self.budget, self.request.streamed
        first = min(budget.hedge_after, budget.first_event) if streamed else budget.silence
        if not (budget.hedge_after and first and self.request.generating) or self._chooser.only is not None:
            return math.inf
        if self.request.bound_to or len(self.lineup.members) < 2 or self._sent >= budget.attempts:
            return math.inf
        if any(each.opinion for each in self.under_way):
            return math.inf  # there is a reply in hand, and one extra attempt is enough
        own = self.suspensions.first_events.own_limit(self._times_of(of))
        return sent_at + (first if own is None else own)

    def end_at(self, of: Candidate, sent_at: float, now: float) -> float:
        """When an attempt that shows no event is given up; infinite: it may take as long as it takes.

        With hedging off that is for another candidate, else when a real reply is in hand, or when another candidate was
        asked as well: then the budget bounds all of it, unless the candidate is known to be slow.
        """
        limit = self.budget.first_event if self.request.streamed else self.budget.silence or math.inf
        if limit == math.inf:
            return math.inf
        if self.best:
            return sent_at + limit
        if self.ask_at(of, sent_at) == math.inf and self.has_another(now):
            return min(sent_at + limit, self.deadline)
        if not self._was_hedged:
            return math.inf
        own = self.suspensions.first_events.own_limit(self._times_of(of))
        return max(self.deadline, sent_at + own if own is not None else 0.0)

    def _times_of(self, of: Candidate) -> tuple[Key, bool]:
        return key_of(of, Scope.CANDIDATE), self.request.streamed

    def first_output_limit(self, now: float, sent_at: float) -> float:
        """The same for a stream that has begun, without any real output; it counts from the sending."""
        limit = self.budget.first_output or math.inf
        if limit == math.inf or not self.has_another(now):
            return math.inf
        return max(0.0, min(sent_at + limit, self.deadline) - now)

    def look_in(self) -> float | None:
        """Seconds until a wait may end early for a turn that comes; None where nothing is known of it."""
        return self._queued[1].lane.look_in(self._queued[1]) if self._queued is not None else None

    def is_ready(self) -> bool:
        """Whether a wait can end early: a candidate was resumed or is proven to be back, or a comparison ended.

        Or its turn has come, where it is one for a turn; or the candidate that was to be asked then is out meanwhile.
        """
        self.suspensions.expire()
        if self._queued is not None:
            candidate, place = self._queued
            return place.lane.is_turn(place) or not self._chooser.has_come_back(candidate)
        if self._comparison is not None and self._comparison.waits:
            return not self._learned.is_compared(self._comparison.signature.id)
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
        request, suspensions = self.request, self.suspensions
        suspensions.expire()
        if request.generating and suspensions.withheld:
            suspensions.want(self.lineup.keys)
        belongs = request.session or request.prefers
        if belongs and (waiting := self._chooser.seat_back_in(now, self.budget.patience)) is not None:
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
        if self._comparison is not None and self._comparison.waits:
            self.waited += max(0.0, now - since)
            return self._reconsider(self._comparison, now)
        if self._queued is not None:
            self.waited += max(0.0, now - since)
            return self._take_turn(*self._queued, now)
        if self._hold is not None:
            self._end_hold(self._hold)
            self.held += max(0.0, now - since)
            self._chooser.start_anew()
            return self._next(now, anew=True)
        again, self._again = self._again, None
        if again is None:
            self.waited += max(0.0, now - since)
            return self._next(now, anew=True)
        # Another exchange may have learnt meanwhile that this candidate cannot go on, or be finding out.
        self.suspensions.expire()
        if self.may_begin(now) and self._chooser.is_free(again.candidate, again.ticket):
            return self._send(again.candidate, now, refresh=again.refresh, ticket=again.ticket)
        if now < self._patient_until and self.may_begin(now) and self._chooser.suspension_of(again.candidate) is None:
            # Another call of those that wait for the same limit finds out whether it is over: the rest do not go and
            # use up the next candidate's meanwhile.
            self._again = replace(again, ticket=0)
            return self._pause(
                now, self._patient_until - now, f"another call finds out whether {again.candidate} is back"
            )
        self.suspensions.end_probe(again.ticket)
        self._leave(again.candidate)
        return self._next(now)

    def hedge(self, of: Candidate, now: float) -> Attempt | None:
        """An attempt is silent: ask another candidate as well; None when there is none to ask right now.

        Two at a time: with two under way the older one is given up for it.
        """
        if self.attempt is None or self.attempt.opinion or not self.may_begin(now):
            return None
        self.suspensions.expire()
        if not self._chooser.untried_besides(of) or (picked := self._chooser.choose()) is None:
            return None
        if not self._begins(picked):
            return None  # it has calls enough
        if self._beside is not None:
            self._lose(self._beside, f"{picked} is asked in its place", now)
            self.attempt = replace(self.attempt, number=len(self.outcomes) + 1)
        self._beside, self._was_hedged = self.attempt, True
        return self._send(picked, now)

    def spoke(self, of: Candidate, seconds: float) -> None:
        """An attempt has shown its first event, so many seconds after it was sent."""
        if self.request.generating:
            if of not in self._heard:
                self._heard += (of,)
            self.suspensions.first_events.spoke(self._times_of(of), seconds)

    def judge(self, reply: Reply, now: float, of: Candidate | None = None) -> Step:
        """What the reply to an attempt means: release it, try another candidate, or give up.

        ``of``: whose it is, where two are under way; what fails then leaves the other one to go on.
        Raises RuntimeError when no attempt is under way; nothing has changed then.
        """
        if self._beside is None:
            return self._judge(reply, now)
        attempt = self._beside if of == self._beside.candidate else self.attempt
        assert attempt is not None
        failure = self._widened(self._failure(attempt, self._judged(reply), reply, now))
        verdict, default = failure.verdict, failure.default
        if verdict.label is Label.OK or (verdict.certain and not self._goes_on(verdict, default, reply.fault)):
            self._win(attempt, now)
            return self._judge(reply, now)
        attempt = self._take_attempt("judge", of)
        outcome = Outcome(attempt, verdict, reply.status, None, default.hope, reply.fault)
        self.outcomes.append(outcome)
        if reply.fault is None:
            self._held(self._penalties.hear(replace(failure, attempt=attempt)))
        self.outcomes[-1] = outcome.suspending(self._penalties.learn(replace(failure, attempt=attempt)))
        self.suspensions.end_probe(attempt.ticket)
        if failure.unsealed and self.request.sealed is not None:
            self.request.sealed.refused(attempt.candidate)
        self._leave(attempt.candidate)
        self._chooser.exclude(attempt.candidate, default, self.outcomes)
        return Continue()

    def _judge(self, reply: Reply, now: float) -> Step:
        """The same for the only attempt under way."""
        attempt, verdict = self._take_attempt("judge"), self._judged(reply)
        if reply.succeeded and verdict.label is Label.OK and verdict.then is AS_USUAL:
            self._answer(attempt, verdict, reply.status, now)
            return self._release(attempt.number)
        failure = self._widened(self._failure(attempt, verdict, reply, now))
        default = failure.default
        outcome = Outcome(attempt, verdict, reply.status, None, default.hope, reply.fault)
        self.outcomes.append(outcome)
        if reply.fault is None:
            self._held(self._penalties.hear(failure))
        if attempt.opinion and verdict.label is not Label.OK:
            return self._second_opinion(failure)
        if not self._goes_on(verdict, default, reply.fault):
            if verdict.label is Label.OK:
                self._answered(attempt, now)
            elif (step := self._compare(failure, reply)) is not None:
                return step
            outcome = self.outcomes[-1]
            stale = reply.fault is not None and reply.fault.reused  # closed while idle, which says nothing
            if verdict.label is not Label.OK and default.scope is not None and not stale:
                # That it is not replayed is no reason to ask the same candidate next time.
                self.outcomes[-1] = outcome = outcome.suspending(self._penalties.learn(failure))
            self.suspensions.end_probe(attempt.ticket)
            if outcome.releasable:
                return self._release(attempt.number)
            self._chooser.exclude_all()
            return self._final(now)
        if failure.unsealed and self.request.sealed is not None:
            self.request.sealed.refused(attempt.candidate)
        repeat = repeat_of(failure, self.budget.patience, self.random)
        if repeat is not None and self._may_repeat(attempt.candidate, now + repeat.seconds):
            return self._repeat(failure, repeat)
        self._leave(attempt.candidate)
        self.outcomes[-1] = outcome.suspending(self._penalties.learn(failure))
        self.suspensions.end_probe(attempt.ticket)
        self._chooser.exclude(attempt.candidate, default, self.outcomes)
        return self._next(now)

    def accept(self, of: Candidate | None = None) -> int:
        """An attempt has shown real output, or a reply that needs no decision: it is released as it is.

        ``of``: whose it is, where two are under way. Returns its number.
        """
        if self._beside is not None and self.attempt is not None:
            self._win(self._beside if of == self._beside.candidate else self.attempt, self.suspensions.clock())
        attempt = self._take_attempt("accept")
        self._answer(attempt, OUTPUT, 200, self.suspensions.clock())
        self._released = attempt.number
        return attempt.number

    def unsendable(self, label: Label, rule: str, reason: str, now: float) -> Step:
        """The current attempt could not even be built for its candidate: on to the next; no candidate is suspended.

        Nothing was sent, so it costs no budget (law 5). Only a secret that was rejected, and for which there is no
        other, is out of rotation from now on.
        """
        attempt = self._take_attempt("unsendable")
        self._leave(attempt.candidate)
        self._sent -= 1
        suspension, default = None, DEFAULTS[label]
        self.suspensions.end_probe(attempt.ticket)
        if attempt.refresh and (last := self.outcomes[-1]).verdict.label is Label.CREDENTIAL_REJECTED:
            rejected = Failure(last.attempt, last.verdict, action(last.verdict), None, None, now)
            suspension = self._penalties.learn(rejected)
        self.outcomes.append(Outcome(attempt, Verdict(label, rule, reason), 0, suspension, 0))
        self._chooser.exclude(attempt.candidate, default, self.outcomes)
        if self.attempt is not None:
            return self.hedge(self.attempt.candidate, now) or Continue()
        if attempt.opinion and self._comparison is not None:
            self._learned.asked -= 1
            return self._ask(self._comparison, now)
        return self._next(now)

    def renewed(self) -> None:
        """The current attempt goes out with another secret than those before it: what it finds out is newer."""
        attempt = self._take_attempt("renewed")
        self.suspensions.end_probe(attempt.ticket)
        self._ticket = self.suspensions.ticket()
        self.attempt = replace(attempt, ticket=self._ticket)
        if self.request.generating:
            self.suspensions.begin_probe(attempt.candidate, self._ticket, attempt.drilled)

    def withdraw(self, number: int) -> None:
        """The reply of this attempt is cancelled in the middle of its output: it is no longer one to be released."""
        self.outcomes[number - 1] = replace(self.outcomes[number - 1], status=0)

    def succeeded(self) -> None:
        """The released reply was proven complete: it resumes exactly its own candidate (law 4)."""
        if not self._released or not self.request.generating:
            return
        outcome = self.outcomes[self._released - 1]
        # A reply that was judged to be an error and is released for want of a better one ends as it should, too.
        if outcome.verdict.label is Label.OK:
            attempt = outcome.attempt
            self.suspensions.prove(attempt.candidate, attempt.ticket, attempt.drilled)

    def failed_after_release(self, reply: Reply, now: float) -> Outcome | None:
        """The released stream ended in an error or was cut: nothing can be replayed, but the candidate pays for it.

        Returns the outcome, None when there is nothing to learn: the error suspends nothing, or was judged before.
        """
        if not self._released or self.outcomes[self._released - 1].verdict.label is not Label.OK:
            return None
        released = self.outcomes[self._released - 1].attempt
        failure = self._failure(released, self._judged(reply), reply, now)
        if failure.default.scope is None:
            return None
        suspension = self._penalties.learn(failure, final=True)
        outcome = Outcome(released, failure.verdict, reply.status, suspension, failure.default.hope, reply.fault)
        if self.drill is not None:
            self.drill.broke(self.request, outcome)
        return outcome

    def finished(self) -> None:
        """Nothing of it is under way any more. May be told twice."""
        if self._places:
            for candidate in list(self._places):
                self._leave(candidate)
        if self._queued is not None:
            self._queued[1].leave()
            self._queued = None
        if self._hold is not None:
            self._end_hold(self._hold)

    def cancelled(self) -> None:
        """The tool went away: nothing is learnt, no candidate is suspended, and no probe is held any longer."""
        # Not that of the attempt under way: there may be none, if an exception came in between.
        for ticket in (self._ticket, *(each.ticket for each in self.under_way)):
            self.suspensions.end_probe(ticket)
        self._end_comparison()
        self.finished()
        self.attempt = self._beside = self._again = self._wait = None

    # -- parts ---------------------------------------------------------------------------------------------------

    def _next(self, now: float, *, anew: bool = False) -> Step:
        """Send to whoever can be picked, wait for whoever comes back soon, or end. ``anew``: a wait has ended."""
        if self.may_begin(now):
            self.suspensions.expire()
            while (picked := self._chooser.choose(anew=anew)) is not None:
                if (step := self._admitted(picked, now)) is not None:
                    return step
                self._chooser.is_full(picked)
            for crowded in self._chooser.full_ones():
                # Nobody else is left: only a limit that the owner has set is kept all the same.
                if self._begins(crowded, at_once=True):
                    return self._send(crowded, now)
            if (doubtful := self._chooser.in_doubt()) is not None and self._begins(doubtful, at_once=True):
                return self._send(doubtful, now, early=True)
            # Measured from the start, so that a candidate that is suspended anew meanwhile does not add another wait;
            # and from now, should the clock have been set back.
            limit = min(self.started, now) + self.budget.wait
            limit = min(limit, math.nextafter(self.deadline, now))
            # A tool that tries again what it had an answer to has a schedule of its own, to which waits of ours would
            # add up (A10). And where all refuse the model, calls are told at once (F17).
            waits = not self.request.spent.told and not (self.suspensions.has_doubts and self._chooser.all_refuse())
            if waits and (due := self._chooser.due(now, limit, self._penalties.is_cut)) is not None:
                self._chooser.begin_wait()
                return self._pause(now, due - now, "every candidate is suspended")
            if (hold := self._held_until(now)) is not None:
                self._hold = hold
                if self._pacing is not None:
                    self._pacing.held.begin(hold)
                return self._pause(now, hold.until - now, HELD, held=True)
            if (withheld := self._chooser.withheld()) is not None and self._begins(withheld, at_once=True):
                return self._send(withheld, now)
            if (early := self._chooser.early_probe()) is not None and self._begins(early, at_once=True):
                return self._send(early, now, early=True)
        return self._final(now)

    # -- turns -------------------------------------------------------------------------------------------------------

    def _admitted(self, picked: Candidate, now: float) -> Step | None:
        """Send to a candidate, or wait for its turn; None: its queue is full, so another one is asked."""
        pacing = self._pacing
        if pacing is None:
            return self._send(picked, now)
        if self.outcomes:
            self._note_switch(pacing, picked, now)
        if pacing.is_idle or self._begins(picked):
            return self._send(picked, now)
        lane = pacing.lane(picked.credential.name)
        assert lane is not None
        longest = min(self.budget.wait, math.nextafter(self.deadline, now) - now)
        if (place := lane.wait(longest)) is None:
            return None
        self._queued = picked, place
        return self._pause(now, longest, f"{picked}: {lane.waiting - 1} calls wait before this one")

    def _note_switch(self, pacing: Pacing, picked: Candidate, now: float) -> None:
        """Calls leave a candidate that was just suspended: the one that they come to is not to be overrun.

        It is not when it has the load already, and the other one was only tried again; nor by the calls for a model
        that the other one has never served.
        """
        last, to = self.outcomes[-1], picked.credential.name
        left, model = last.attempt.candidate.credential.name, last.attempt.candidate.model
        if last.suspension is None or left == to:
            return
        answers, generations = self.suspensions.answers, self.suspensions.generations
        if last.verdict.label is Label.MODEL_UNSUPPORTED and not answers.answered_since(
            (left, generations[left]), now - 2 * RAMP, model
        ):
            return
        if answers.answered_since((to, generations[to]), now - RAMP) and not answers.answered_since(
            (left, generations[left]), now - 2 * RAMP
        ):
            return
        pacing.switched_to(to)

    def _begins(self, candidate: Candidate, *, at_once: bool = False) -> bool:
        """Whether a call may begin on a candidate now; it has its place then. Mostly nobody counts."""
        if self._pacing is None or self._pacing.is_idle or not self.request.generating:
            return True
        if candidate in self._places or (lane := self._pacing.lane(candidate.credential.name)) is None:
            return True
        seated = lane.is_ramping and self._chooser.serves_session(candidate)
        if (place := lane.begin(seated=seated, at_once=at_once)) is None:
            return False
        self._places[candidate] = place
        return True

    def _take_turn(self, candidate: Candidate, place: Place, now: float) -> Step:
        """The wait for a turn is over: it has come, or lasted too long, or the candidate is out meanwhile."""
        self._queued = None
        self.suspensions.expire()
        if self.may_begin(now) and self._chooser.has_come_back(candidate):
            if place.lane.is_turn(place):
                place.lane.take_turn(place)
                self._places[candidate] = place
                return self._send(candidate, now)
            self._chooser.is_full(candidate)
        place.leave()
        return self._next(now)

    def _leave(self, candidate: Candidate) -> None:
        """An attempt is over, and its place free."""
        if self._places and (place := self._places.pop(candidate, None)) is not None:
            place.leave()

    def _end_hold(self, hold: HeldCall) -> None:
        self._hold = None
        if self._pacing is not None:
            self._pacing.held.end(hold)

    def _held_until(self, now: float) -> HeldCall | None:
        """How the call is held because every candidate is out until a reset that is known; None: it is not."""
        lineup, route = self.lineup, self.lineup.route
        if not route.until_reset or not self.request.generating:
            return None
        if (known := self._chooser.known_reset()) is None:
            return None
        reset, candidate = known
        if not now < reset <= self.started + route.until_reset:
            return None
        return HeldCall(route.pattern, lineup.alias, lineup.dialect, now, reset, candidate)

    def _send(
        self,
        candidate: Candidate,
        now: float,
        *,
        refresh: bool = False,
        early: bool = False,
        ticket: int = 0,
        opinion: bool = False,
        kind: type[Attempt] = Attempt,
    ) -> Attempt:
        repeat = self._chooser.send(candidate)
        self._sent += 1
        self._ticket = ticket = ticket or self.suspensions.ticket()
        if self.request.generating:
            self.suspensions.begin_probe(candidate, ticket, kind.drilled)
        number = len(self.outcomes) + (1 if self._beside is None else 2)
        without = self.request.sealed.without(candidate) if self.request.sealed is not None else NOTHING
        self.attempt = kind(number, candidate, repeat, refresh, early, ticket, now, opinion, without)
        return self.attempt

    def _failure(self, attempt: Attempt, verdict: Verdict, reply: Reply, now: float) -> Failure:
        """What a reply with this verdict means for its attempt, should that have failed."""
        default = action(verdict, reply.fault)
        if (
            reply.fault is not None
            and reply.fault.kind is FaultKind.CUT
            and self.lineup.route.hold is HoldUntil.COMPLETE
        ):
            default = replace(default, repeat=False)  # most of an answer was paid for: not again to the same
        hint = read_hint(reply, now + self.request.ahead) if default.hint_cap else None
        whole = default.scope is Scope.CREDENTIAL
        if whole and not self._is_whole(attempt, now):
            default = replace(default, scope=Scope.CANDIDATE)
        unsealed = verdict.then.without_sealed and self._refuses_sealed(attempt)
        if unsealed:
            # Nothing is wrong with the candidate, and the request can do without (E03).
            default = replace(default, next=Next.ANYONE)
        return Failure(attempt, verdict, default, hint, reply.fault, now, whole, unsealed)

    def _refuses_sealed(self, attempt: Attempt) -> bool:
        """Whether a candidate refuses sealed parts that it was sent, and that the request can go without."""
        sealed = self.request.sealed
        return sealed is not None and bool(set(sealed.parts) - attempt.without)

    def _is_whole(self, attempt: Attempt, now: float) -> bool:
        """Whether a reply that speaks of the whole credential is to be believed (J05)."""
        candidate = attempt.candidate
        owner = candidate.credential.name, self.suspensions.generations[candidate.credential.name]
        made_up = self.drill.answers if self.drill is not None and attempt.drilled else None
        return self.suspensions.answers.is_whole(owner, candidate.model, now, made_up)

    def _widened(self, failure: Failure) -> Failure:
        """A reset is not an outage: the upstream is out only when it repeats itself on another connection.

        That is a connection that began after the one before had failed, within ten seconds: of another credential, or
        of the same one where no other is left there to be asked first.
        """
        fault, attempt = failure.fault, failure.attempt
        if fault is None or fault.kind is not FaultKind.CLOSED or fault.reused or attempt.drilled:
            return failure
        name = attempt.candidate.upstream.name
        before = self.suspensions.closed(name, attempt.candidate.credential.name, attempt.begun, failure.at)
        if not before or (
            before == attempt.candidate.credential.name and self._chooser.has_other_credential(attempt.candidate)
        ):
            return failure
        return replace(failure, default=replace(failure.default, scope=Scope.UPSTREAM, repeat=False))

    def _may_repeat(self, candidate: Candidate, at: float) -> bool:
        """Whether a candidate may be asked once more then.

        Once only, and where that leaves an attempt for each candidate that is free and was not tried (law 2).
        """
        if self._chooser.was_repeated(candidate) or not self.may_begin(at):
            return False
        return self.budget.attempts - self._sent > self._chooser.untried_besides(candidate)

    def _judged(self, reply: Reply) -> Verdict:
        """The verdict, with what the route says about its label on top of what its rule does."""
        verdict = self.ruleset.judge(reply)
        if verdict.is_open and self._may_be_policy(verdict, reply):
            verdict = replace(verdict, label=Label.CONTENT_FILTERED, rule=A_POLICY, then=AS_USUAL)
        wanted = dict(self.lineup.route.actions).get(verdict.label) if self.lineup.route.actions else None
        if wanted is None:
            return verdict
        stated = {
            name: value for name in ("replay", "retry_same", "seconds") if (value := getattr(wanted, name)) is not None
        }
        return replace(verdict, then=replace(verdict.then, **stated))

    @staticmethod
    def _may_be_policy(verdict: Verdict, reply: Reply) -> bool:
        """Whether an open verdict may be about a filter, which is never routed around (J03)."""
        if reply.fault is not None or verdict.label in (Label.OK, Label.CONTENT_FILTERED):
            return False
        if verdict.then.replay is not None:
            return False  # a rule says what to do about it
        if verdict.label in ENDS:
            return reads_like_policy(reply)
        # What goes on anyway: only an error that says so itself, and no limit or login is meant.
        return bool(reply.errors) and reply.status not in NO_FILTER and reads_like_policy(reply)

    def _take_attempt(self, what: str, of: Candidate | None = None) -> Attempt:
        """An attempt is over. Numbers are in the order of the ends, so that each finds its outcome by its own."""
        if self.attempt is None:
            raise RuntimeError(f"{what}() without an attempt under way")
        taken, other, self._beside = self.attempt, self._beside, None
        if other is not None and of == other.candidate:
            taken, other = other, taken
        number = len(self.outcomes) + 1
        self.attempt = replace(other, number=number + 1) if other is not None else None
        return taken if taken.number == number else replace(taken, number=number)

    def _win(self, winner: Attempt, now: float) -> None:
        """Of two attempts this one is the answer."""
        for other in self.under_way:
            if other is not winner:
                self._lose(other, f"{winner.candidate} was faster", now)
        self._beside, self.attempt = None, winner

    def _lose(self, loser: Attempt, why: str, now: float) -> None:
        """An attempt is given up for another one: that is no fault, and suspends nothing; but it was slow."""
        waited = max(0.0, now - loser.begun)
        said = f"given up after {waited:.1f} s: {why}"
        verdict = Verdict(Label.UNKNOWN, "builtin/hedged", said, certain=False)
        number = len(self.outcomes) + 1
        self.outcomes.append(Outcome(replace(loser, number=number), verdict, 0, None, 0, hedged=True))
        self.suspensions.end_probe(loser.ticket)
        if loser.candidate not in self._heard and not loser.drilled:
            self.suspensions.first_events.given_up(self._times_of(loser.candidate), waited)

    def _goes_on(self, verdict: Verdict, default: Default, fault: Fault | None) -> bool:
        if fault is not None and fault.sent and not self.request.replay_after_sent:
            return False
        return verdict.then.replay if verdict.then.replay is not None else default.next is not Next.NOBODY

    def _repeat(self, failure: Failure, repeat: Repeat) -> Wait:
        """Wait, and then send to the same candidate once more."""
        attempt, held = failure.attempt, failure.attempt.ticket
        if repeat.reason is Reason.PATIENCE:
            # The others go elsewhere meanwhile.
            self._patient_until = failure.at + repeat.seconds + self.budget.patience
            self.outcomes[-1] = self.outcomes[-1].suspending(self._penalties.learn(failure))
        if repeat.reason is not Reason.LUCK:
            # What the next try finds out, it finds out with a ticket of its own.
            self.suspensions.end_probe(held)
            held = 0
        self._again = replace(attempt, refresh=repeat.reason is Reason.REFRESH, ticket=held)
        return self._pause(failure.at, repeat.seconds, f"{attempt.candidate}: {failure.verdict.label}, tried once more")

    def _pause(self, now: float, seconds: float, reason: str, *, held: bool = False) -> Wait:
        self._wait = (now, now + seconds, reason)
        return Wait(seconds, reason, held)

    def _answer(self, attempt: Attempt, verdict: Verdict, status: int, now: float) -> None:
        """The reply is an answer, and so what the tool gets."""
        self.outcomes.append(Outcome(attempt, verdict, status, None, 0))
        if self._penalties.provisional:
            self._held(self._penalties.hear(Failure(attempt, verdict, DEFAULTS[Label.OK], None, None, now)))
        else:
            self._penalties.served(attempt)
        self._answered(attempt, now)
        # Proven it is at its end only; but it is worth asking again.
        self.suspensions.end_probe(attempt.ticket)

    def _answered(self, attempt: Attempt, now: float) -> None:
        """A candidate has answered: that says something about it, and about the reply that it may explain."""
        candidate = attempt.candidate
        self._chooser.take_seat(candidate)
        if self.request.generating and not attempt.drilled:
            owner = candidate.credential.name, self.suspensions.generations.get(candidate.credential.name, 0)
            self.suspensions.answers.answered(owner, candidate.model, now)
        if self._comparison is not None:
            self._end_comparison_with(self._comparison, attempt, now)

    def _end_comparison_with(self, compared: Comparison, attempt: Attempt, now: float) -> None:
        """Another candidate has answered: the reply that was compared may have been its own candidate's fault."""
        candidate = attempt.candidate
        if compared.failure.attempt.candidate != candidate:
            # Without its sealed parts it is not quite the same request: that proves nothing about the first one.
            blamed = attempt.without == compared.failure.attempt.without
            suspension = self._penalties.learn(compared.blame(now), final=True) if blamed else None
            if not compared.known and blamed:
                compared.learn(self._learned, Cause.CANDIDATE, candidate.credential.name)
                self._note(compared, Compared.CANDIDATE)
            at = compared.number - 1
            self.outcomes[at] = self.outcomes[at].suspending(suspension)
        self._end_comparison()

    # -- comparison ----------------------------------------------------------------------------------------------

    def _compare(self, failure: Failure, reply: Reply) -> Step | None:
        """What to do about a reply that would end the call, None: that it does (J01, J03)."""
        attempt, learned, now = failure.attempt, self._learned, failure.at
        if (before := self._comparison) is not None:
            if failure.fault is None and failure.verdict.label in REFUSALS:
                # It was taken for the candidate's own, and now another one refuses as well.
                before.learn(learned, Cause.REQUEST, attempt.candidate.credential.name)
                self._note(before, Compared.REQUEST)
                if self.best == before.number:
                    self.suspensions.end_probe(attempt.ticket)
                    return self._first_reply(before, now)
            self._end_comparison()
            return None
        if not may_be_compared(failure, reply, self.request, self.lineup.route) or not self.may_begin(now):
            return None
        self.suspensions.expire()
        self.suspensions.end_probe(attempt.ticket)
        if self._chooser.witness(attempt.candidate) is None:
            return None
        upstream = attempt.candidate.upstream.name
        lesson = learned.get(identity_of(reply, upstream))
        signature = lesson.signature if lesson is not None else signature_of(reply, upstream, self.request.asked)
        compared = Comparison(failure, signature)
        if lesson is None:
            self._comparison = compared
            self._note(compared, Compared.ASKED)
            return self._ask(compared, now)
        learned.saw(signature.id)
        if lesson.cause is not Cause.CANDIDATE:
            self._note(compared, Compared.KNOWN_REQUEST)
            return None
        self._comparison = compared
        return self._go_past(compared, now)

    def _ask(self, compared: Comparison, now: float) -> Step:
        """Ask another candidate, or wait for the exchange that does so at this moment."""
        learned, identity = self._learned, compared.signature.id
        witness = self._chooser.witness(compared.failure.attempt.candidate) if self.may_begin(now) else None
        if witness is None or not self._begins(witness):
            return self._first_reply(compared, now)
        if not compared.claimed and not compared.waits and learned.is_compared(identity):
            seconds = min(COMPARED_WITHIN, self.budget.wait, math.nextafter(self.deadline, now) - now)
            if seconds > 0:
                compared.waits = True
                return self._pause(now, seconds, "another call finds out whose fault this reply is")
        compared.waits = False
        compared.claimed = compared.claimed or learned.claim(identity)
        learned.asked += 1
        return self._send(witness, now, opinion=True)

    def _reconsider(self, compared: Comparison, now: float) -> Step:
        """Another exchange has compared, or given up, or takes too long."""
        lesson = self._learned.get(compared.signature.id)
        self.suspensions.expire()
        if lesson is None:
            return self._ask(compared, now)
        compared.waits = False
        self._learned.saw(compared.signature.id)
        if lesson.cause is Cause.CANDIDATE and self.may_begin(now):
            return self._go_past(compared, now)
        self._note(compared, Compared.KNOWN_REQUEST)
        return self._first_reply(compared, now)

    def _go_past(self, compared: Comparison, now: float) -> Step:
        """The reply is known to be its candidate's own fault: go on, and let it pay when another one answers."""
        compared.known = True
        self._note(compared, Compared.KNOWN_CANDIDATE)
        return self._next(now)

    def _second_opinion(self, failure: Failure) -> Step:
        """The other candidate did not answer either (J02)."""
        attempt, compared = failure.attempt, self._comparison
        assert compared is not None
        refuses = failure.fault is None and failure.verdict.label in REFUSALS
        # It is not asked once more, as it would be otherwise: what that might cure says nothing against it.
        repeat = repeat_of(failure, 0.0, self.random)
        stale = (failure.fault is not None and failure.fault.reused) or (repeat and repeat.reason is Reason.REFRESH)
        if not refuses and not stale:
            self.outcomes[-1] = self.outcomes[-1].suspending(self._penalties.learn(failure))
        self.suspensions.end_probe(attempt.ticket)
        self._chooser.exclude(attempt.candidate, failure.default, self.outcomes)
        if (
            not refuses
            and compared.is_no_answer
            and self._chooser.witness(compared.failure.attempt.candidate) is not None
        ):
            # What is no answer is not given to the tool as one because the second one happens to be out of order.
            return self._ask(compared, failure.at)
        cause = Cause.REQUEST if refuses else Cause.UNDECIDED
        compared.learn(self._learned, cause, attempt.candidate.credential.name)
        self._note(compared, Compared(cause.value))
        return self._first_reply(compared, failure.at)

    def _first_reply(self, compared: Comparison, now: float) -> Step:
        """The tool gets the reply that was compared, as it came; or what may be said in its place (W07)."""
        outcome = self.outcomes[compared.number - 1]
        self._end_comparison()
        if outcome.releasable:
            return self._release(outcome.attempt.number)
        self._chooser.exclude_all()
        return self._final(now)

    def _end_comparison(self) -> None:
        if self._comparison is not None and self._comparison.claimed:
            self._learned.give_up(self._comparison.signature.id)
        self._comparison = None

    def _note(self, compared: Comparison, what: Compared) -> None:
        at = compared.number - 1
        self.outcomes[at] = replace(self.outcomes[at], compared=what, signature=compared.signature.id)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """No other candidate is asked: what the replies say together (J04)."""
        alike, changes = self._penalties.settle(self.outcomes)
        self._held(changes)
        if alike:
            for at, outcome in enumerate(self.outcomes):
                if outcome.status > 0:
                    self.outcomes[at] = replace(outcome, compared=Compared.ALIKE)

    def _held(self, changes: Changes) -> None:
        """The suspensions of earlier attempts have changed."""
        for number, suspension in changes:
            self.outcomes[number - 1] = self.outcomes[number - 1].suspending(suspension)

    def _release(self, number: int, *, final: bool = False, retry: bool = True) -> Release:
        if self._penalties.provisional:
            self._settle()
        self._released = number
        return Release(number, final, retry)

    def _final(self, now: float) -> Step:
        """Nothing is left to try: the most hopeful real reply, or an answer of our own."""
        self._settle()
        self._end_comparison()
        excluded, full = self._chooser.excluded, self._chooser.full
        found = chances(self.request, self.lineup, self.selector, self.outcomes, excluded)
        if self.best:
            retry = earliest(found) - now <= RETRY_HORIZON
            return self._release(self.best, final=self._chooser.only is None, retry=retry)
        step = refuse(self.request, self.lineup, self.selector, self.outcomes, excluded, now, full)
        return replace(step, refused=not self._sent and self._chooser.all_refuse())
