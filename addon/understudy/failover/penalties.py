"""What a failure costs: a repeat of the same candidate (law 2: once), or a suspension.

A verdict, a hint and the ladder of its label make a suspension (``default_actions`` has the numbers of each label);
what is over in a moment is asked once more first.
While another credential can still be asked it is open whether the candidate or the request is at fault, so none
is out for longer than the short step: another candidate's answer makes it the full one. Where all of them refuse with
the same label and name no time of their own, it stays short and is in doubt (docs/architecture.md, section 5a).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from understudy.codec.record import record
from understudy.failover.default_actions import Default
from understudy.failover.steps import Attempt, Drilling, Outcome, Request
from understudy.model import Label, Scope, Suspension, Verdict, key_of
from understudy.replies import Fault, FaultKind, Hint
from understudy.suspensions import JITTER, Rung, Suspensions, seconds_of

SHORT_STEP = 30.0
"""Seconds for which a candidate is out at most while the request may be at fault."""


@record
class Failure:
    """An attempt that failed: what was said, what that means, the time that the reply itself named, and when it was.

    ``whole``: the reply spoke of the whole credential; the scope in ``default`` may be narrower (J05). ``unsealed``: it
    refused sealed parts, without which the candidate is asked once more (E03).
    """

    attempt: Attempt
    verdict: Verdict
    default: Default
    hint: Hint | None
    fault: Fault | None
    at: float
    whole: bool = False
    unsealed: bool = False

    @property
    def is_refusal(self) -> bool:
        """Whether the model was refused."""
        return self.verdict.label is Label.MODEL_UNSUPPORTED

    @property
    def is_unreachable(self) -> bool:
        """Whether the upstream was not reached, which may be this machine's own network."""
        return self.fault is not None and self.fault.kind in (FaultKind.CONNECT, FaultKind.TLS)


def impose(
    suspensions: Suspensions, failure: Failure, jitter: float, *, short: bool = False, at_most: float = math.inf
) -> Suspension | None:
    """Suspend what the failure speaks about; returns the suspension that holds now, None when nothing is suspended.

    ``jitter``: what is added to a step, as a share of it. ``short``: the first step only, and it is not counted.
    ``at_most``: seconds; a longer step is cut to it, and is not counted either.
    """
    verdict, default, attempt = failure.verdict, failure.default, failure.attempt
    if default.scope is None:
        return None
    key = key_of(attempt.candidate, default.scope, attempt.drilled)
    if not attempt.drilled:
        suspensions.end_early(attempt.candidate, attempt.ticket)
    if suspensions.is_stale(attempt.candidate, key, attempt.ticket):
        return None
    step, source = 0, ""
    if failure.hint is not None:
        seconds, source = min(failure.hint.seconds, default.hint_cap), failure.hint.source
    else:
        reached = suspensions.ladders.next_step(key, verdict.label, attempt.ticket, failure.at)
        early = attempt.early and failure.is_refusal
        running = suspensions.get(key) if reached is None or early else None
        # What this very failure was penalised with for a start is no older one.
        if reached is None or (running is not None and running.since != failure.at):
            # Nothing new; but a success of an older attempt does not undo it any more.
            return suspensions.suspend(running) if running is not None else None
        # An early probe does not climb (F17), also where the suspension has run out while it was under way.
        step = 0 if short else max(0, reached - 1) if early else reached
        seconds = spread(default.steps, step, jitter)
        if seconds > at_most:
            seconds, step, short = at_most, 0, True
    if seconds <= 0:
        return None
    name = attempt.candidate.credential.name
    suspension = suspensions.suspend(
        Suspension(
            key,
            failure.at,
            failure.at + seconds,
            verdict.label,
            verdict.rule,
            verdict.evidence,
            source,
            str(attempt.candidate),
            suspensions.generations[name],
            step,
        )
    )
    if suspension is not None and not source and not short:
        suspensions.ladders.climb(key, verdict.label, Rung(step, suspension.order, failure.at + seconds))
    return suspension


def spread(steps: Sequence[float], step: int, jitter: float) -> float:
    """The length of a step in seconds: longer by the share ``jitter``, but never beyond the last step."""
    exact = seconds_of(steps, step)
    longer = exact * (1 + jitter)
    return exact * (1 - jitter) if steps and longer > steps[-1] else longer


@record
class _Provisional:
    """A failure that was penalised for a start, and the suspension that this made.

    ``jitter``: the chance in its steps, drawn once, so that the same step has the same end when it is imposed in full.
    """

    failure: Failure
    suspension: Suspension
    jitter: float


type Changes = list[tuple[int, Suspension]]
"""By the number of an attempt, the suspension that holds for it now."""


class Penalties:
    """What one exchange has learnt about its candidates. ``several()``: whether two credentials or more may be asked.

    ``drill``: the one that the call belongs to, if any.
    """

    drill: Drilling | None = None

    def __init__(self, suspensions: Suspensions, request: Request, random: Random, several: Callable[[], bool]) -> None:
        self.suspensions = suspensions
        self.request = request
        self.random = random
        self.several = several
        self.provisional: list[_Provisional] = []
        """What may be the request's or the network's fault: another reply may say more of it, or their end."""

    def learn(self, failure: Failure, *, final: bool = False) -> Suspension | None:
        """Suspend what failed; returns the suspension that holds, None when nothing is suspended.

        Of one that is short because the request may be at fault, it returns what it will be if that is not so.
        ``final``: no other candidate will be asked about it.
        """
        # Law 4: from an endpoint that generates nothing only an explicit refusal that names the model counts.
        if not self.request.generating and not (failure.is_refusal and failure.verdict.names_model):
            return None
        candidate = failure.attempt.candidate
        if failure.whole:
            owner = candidate.credential.name, self.suspensions.generations[candidate.credential.name]
            answers = self.suspensions.answers
            if self.drill is not None and failure.attempt.drilled:
                answers = self.drill.answers
            answers.refused(owner, candidate.model, failure.at)
        short = failure.is_refusal or failure.is_unreachable
        # A reply that names a time of its own is about the candidate, a transport fault not about the request.
        suspect = not final and failure.fault is None and failure.hint is None and self.several()
        jitter = JITTER * self.random.random()
        at_most, full = (SHORT_STEP, self._full(failure, jitter)) if suspect else (math.inf, 0.0)
        suspension = impose(self.suspensions, failure, jitter, short=short, at_most=at_most)
        if suspension is None or not (suspect or short):
            return suspension
        self.provisional.append(_Provisional(failure, suspension, jitter))
        until = failure.at + full
        return suspension.lasting(until) if until > suspension.until else suspension

    def _full(self, failure: Failure, jitter: float) -> float:
        """Seconds for which a failure suspends, should it not be the request's."""
        attempt = failure.attempt
        key = key_of(attempt.candidate, failure.default.scope or Scope.CANDIDATE, attempt.drilled)
        reached = self.suspensions.ladders.next_step(key, failure.verdict.label, failure.attempt.ticket, failure.at)
        early = failure.attempt.early and failure.is_refusal
        if reached is None or (early and self.suspensions.get(key) is not None):
            return 0.0
        return spread(failure.default.steps, max(0, reached - 1) if early else reached, jitter)

    def is_cut(self, suspension: Suspension) -> bool:
        """Whether a suspension was made short by this exchange: its end is not when the candidate is back."""
        return any(
            each.suspension.key == suspension.key
            and each.suspension.order == suspension.order
            and suspension.until == each.failure.at + SHORT_STEP
            and each.failure.verdict.label is not Label.OVERLOADED  # that comes back in half a minute
            for each in self.provisional
        )

    def served(self, attempt: Attempt) -> None:
        """The upstream of an attempt has replied, unless a drill did."""
        if not attempt.drilled:
            self.suspensions.has_served(attempt.candidate.upstream.name)

    def hear(self, failure: Failure) -> Changes:
        """A reply came, good or bad: what it confirms of what was penalised for a start is so in full.

        An answer confirms everything, a reply that names a time of its own as well, and a reply with another label
        what words had made certain. Not what is said of the very candidate that speaks now: that proves nothing about
        others.
        """
        self.served(failure.attempt)
        if not self.provisional:
            return []
        confirmed = [each for each in self.provisional if self._is_confirmed(each.failure, failure)]
        self.provisional = [each for each in self.provisional if each not in confirmed]
        return self._impose(confirmed)

    def _impose(self, penalised: Iterable[_Provisional], *, short: bool = False) -> Changes:
        """Suspend in full; ``short``: but what refused the model with the first step only."""
        changes = []
        for each in penalised:
            held = impose(self.suspensions, each.failure, each.jitter, short=short and each.failure.is_refusal)
            if held is not None:
                changes.append((each.failure.attempt.number, held))
        return changes

    @staticmethod
    def _is_confirmed(said: Failure, heard: Failure) -> bool:
        before, now = said.attempt.candidate, heard.attempt.candidate
        if said.is_unreachable:
            return before.upstream != now.upstream
        if before == now:
            return False
        if heard.verdict.label is Label.OK or heard.hint is not None:
            return True
        return heard.verdict.label is not said.verdict.label and said.verdict.certain

    def settle(self, outcomes: Sequence[Outcome]) -> tuple[bool, Changes]:
        """No other candidate is asked. Returns whether the request is the suspect: all refused it alike (J04)."""
        left = [each for each in self.provisional if not each.failure.is_unreachable]
        self.provisional = [each for each in self.provisional if each not in left]
        if not left:
            return False, []
        told = [outcome for outcome in outcomes if outcome.status > 0]
        if len({outcome.attempt.candidate.credential.name for outcome in told}) < 2:
            # No other candidate was asked, so nothing speaks against it.
            return False, self._impose(left, short=True)
        if len({outcome.verdict.label for outcome in told}) == 1:
            suspects = [each for each in left if _may_be_the_request(each.failure.verdict)]
            self.suspensions.put_in_doubt(each.suspension for each in suspects)
            return bool(suspects), [(each.failure.attempt.number, each.suspension) for each in left]
        unsure = [(each.failure.attempt.number, each.suspension) for each in left if each.failure.verdict.is_open]
        return False, [*unsure, *self._impose(each for each in left if each.failure.verdict.certain)]


def _may_be_the_request(verdict: Verdict) -> bool:
    """Whether a refusal that all share casts doubt on the request.

    Not where words say that it is a limit or an overload: those are often shared, short, and not to be run against.
    """
    return verdict.is_open or verdict.label not in (Label.RATE_LIMITED, Label.OVERLOADED)


REPEAT_AFTER = (0.05, 0.25)
"""Seconds to wait before the same candidate is tried once more."""


class Reason(Enum):
    """What a repeat hopes for."""

    PATIENCE = auto()  # a limit ends in a moment: a switch would cost the prompt cache
    REFRESH = auto()  # the secret may be another one by now
    LUCK = auto()  # it may work a moment later
    UNSEALED = auto()  # the sealed parts that it refused are left out


@dataclass(frozen=True, slots=True)
class Repeat:
    """Ask the same candidate again after so many seconds."""

    seconds: float
    reason: Reason


def repeat_of(failure: Failure, patience: float, random: Random) -> Repeat | None:
    """The repeat that a failure is worth, None when it is worth none. ``patience``: that of the budget, in seconds."""
    verdict, hint = failure.verdict, failure.hint
    if failure.unsealed:
        return Repeat(0.0, Reason.UNSEALED)
    if verdict.label is Label.RATE_LIMITED and hint is not None and hint.seconds <= patience:
        return Repeat(hint.seconds, Reason.PATIENCE)
    if verdict.label is Label.CREDENTIAL_REJECTED and failure.attempt.candidate.credential.secret.refreshable:
        return Repeat(0.0, Reason.REFRESH)
    wanted = verdict.then.retry_same > 0 if verdict.then.retry_same is not None else failure.default.repeat
    if not wanted:
        return None
    # A connection that had served a request before was merely closed while idle: nothing to wait for.
    return Repeat(0.0 if failure.fault is not None else random.uniform(*REPEAT_AFTER), Reason.LUCK)
