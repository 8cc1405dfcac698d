"""What a failure costs: a repeat of the same candidate (law 2: once), or a suspension.

A verdict, a hint and the ladder of its label make a suspension; what is over in a moment is asked once more first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from understudy.failover.actions import Default
from understudy.failover.steps import Attempt, Request
from understudy.model import Candidate, Label, Suspension, Verdict, key_of
from understudy.replies import Fault, FaultKind, Hint
from understudy.suspensions import JITTER, Rung, Suspensions, seconds_of


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed: what was said, what that means, the time that the reply itself named, and when it was."""

    attempt: Attempt
    verdict: Verdict
    default: Default
    hint: Hint | None
    fault: Fault | None
    at: float

    @property
    def is_refusal(self) -> bool:
        """Whether the model was refused."""
        return self.verdict.label is Label.MODEL_UNSUPPORTED

    @property
    def is_unreachable(self) -> bool:
        """Whether the upstream was not reached, which may be this machine's own network."""
        return self.fault is not None and self.fault.kind in (FaultKind.CONNECT, FaultKind.TLS)


def impose(suspensions: Suspensions, failure: Failure, jitter: float, *, short: bool = False) -> Suspension | None:
    """Suspend what the failure speaks about; returns the suspension that holds now, None when nothing is suspended.

    ``jitter``: what is added to a step, as a share of it. ``short``: the first step only, and it is not counted.
    """
    verdict, default, attempt = failure.verdict, failure.default, failure.attempt
    if default.scope is None:
        return None
    key = key_of(attempt.candidate, default.scope)
    suspensions.end_early(attempt.candidate, attempt.ticket)
    if suspensions.is_stale(attempt.candidate, key, attempt.ticket):
        return None
    running, step, source = suspensions.get(key), 0, ""
    if failure.hint is not None:
        seconds, source = min(failure.hint.seconds, default.hint_cap), failure.hint.source
    else:
        reached = suspensions.ladders.next_step(key, verdict.label, attempt.ticket, failure.at)
        early = attempt.early and failure.is_refusal
        if reached is None or (early and running is not None):
            # Nothing new; but a success of an older attempt does not undo it any more.
            return suspensions.suspend(running) if running is not None else None
        # An early probe does not climb (F17), also where the suspension has run out while it was under way.
        step = 0 if short else max(0, reached - 1) if early else reached
        seconds = seconds_of(default.steps, step) * (1 + jitter)
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


class Lessons:
    """What one exchange has learnt about its candidates."""

    def __init__(self, suspensions: Suspensions, request: Request, random: Random) -> None:
        self.suspensions = suspensions
        self.request = request
        self.random = random
        self._provisional: list[tuple[Failure, float]] = []
        """What may be the request's or the network's fault, and so was penalised with the first step only; each with
        its jitter, so that the same step has the same end when it is imposed in full."""

    def learn(self, failure: Failure) -> Suspension | None:
        """Suspend what failed; returns the suspension that holds, None when nothing is suspended."""
        # Law 4: from an endpoint that generates nothing only an explicit refusal that names the model counts.
        if not self.request.generating and not (failure.is_refusal and failure.verdict.names_model):
            return None
        short, jitter = failure.is_refusal or failure.is_unreachable, JITTER * self.random.random()
        suspension = impose(self.suspensions, failure, jitter, short=short)
        if short and suspension is not None:
            self._provisional.append((failure, jitter))
        return suspension

    def confirm(self, candidate: Candidate, *, refusals: bool) -> Iterator[tuple[int, Suspension]]:
        """This candidate was reached, and maybe does not refuse: what was penalised for a start is so in full.

        Unless it is the very same that was penalised: that was asked again, and proves nothing about others. Yields the
        number of each attempt that is concerned, with the suspension that holds now.
        """
        for failure, jitter in [each for each in self._provisional if refusals or each[0].is_unreachable]:
            self._provisional.remove((failure, jitter))
            failed = failure.attempt.candidate
            same = failed.upstream == candidate.upstream if failure.is_unreachable else failed == candidate
            if not same and (suspension := impose(self.suspensions, failure, jitter)) is not None:
                yield failure.attempt.number, suspension


REPEAT_AFTER = (0.05, 0.25)
"""Seconds to wait before the same candidate is tried once more."""


class Reason(Enum):
    """What a repeat hopes for."""

    PATIENCE = auto()  # a limit ends in a moment: a switch would cost the prompt cache
    REFRESH = auto()  # the secret may be another one by now
    LUCK = auto()  # it may work a moment later


@dataclass(frozen=True, slots=True)
class Repeat:
    """Ask the same candidate again after so many seconds."""

    seconds: float
    reason: Reason


def repeat_of(failure: Failure, patience: float, random: Random) -> Repeat | None:
    """The repeat that a failure is worth, None when it is worth none. ``patience``: that of the budget, in seconds."""
    verdict, hint = failure.verdict, failure.hint
    if verdict.label is Label.RATE_LIMITED and hint is not None and hint.seconds <= patience:
        return Repeat(hint.seconds, Reason.PATIENCE)
    if verdict.label is Label.CREDENTIAL_REJECTED and failure.attempt.candidate.credential.secret.refreshable:
        return Repeat(0.0, Reason.REFRESH)
    wanted = verdict.then.retry_same > 0 if verdict.then.retry_same is not None else failure.default.repeat
    if not wanted:
        return None
    # A connection that had served a request before was merely closed while idle: nothing to wait for.
    return Repeat(0.0 if failure.fault is not None else random.uniform(*REPEAT_AFTER), Reason.LUCK)
