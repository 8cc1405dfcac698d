"""What a failure costs: from a verdict, a hint and the ladder of its label to a suspension.

The reply's own hint goes before every step of ours, and gets no jitter. A refusal of the model, and an upstream that
cannot be reached, are penalised with their first step only until another candidate shows that it is not the request, or
the network of this machine (F12, L11): then :func:`impose` is asked once more, and lengthens.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from understudy.actions import Default
from understudy.hints import Hint
from understudy.keys import Suspension, key_of
from understudy.ladder import JITTER, Rung, seconds_of
from understudy.pool import Candidate
from understudy.reply import Fault, FaultKind
from understudy.steps import Attempt, Request
from understudy.suspensions import Suspensions
from understudy.verdict import Label, Verdict


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


def impose(suspensions: Suspensions, failure: Failure, random: Random, *, short: bool = False) -> Suspension | None:
    """Suspend what the failure speaks about; returns the suspension that holds now, None when nothing is suspended.

    ``short``: the first step only, and it is not counted.
    """
    verdict, default, attempt = failure.verdict, failure.default, failure.attempt
    if default.scope is None:
        return None
    key = key_of(attempt.candidate, default.scope)
    if suspensions.is_stale(attempt.candidate, key, attempt.ticket):
        return None
    running, step, source = suspensions.get(key), 0, ""
    if failure.hint is not None:
        seconds, source = min(failure.hint.seconds, default.hint_cap), failure.hint.source
    else:
        reached = suspensions.ladders.next_step(key, verdict.label, attempt.ticket, failure.at)
        if reached is None or (attempt.early and failure.is_refusal):
            # Nothing new; but a success of an older attempt does not undo it any more.
            return suspensions.suspend(running) if running is not None else None
        step = 0 if short else reached
        seconds = seconds_of(default.steps, step) * (1 + JITTER * random.random())
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
        self._provisional: list[Failure] = []
        """What may be the request's or the network's fault, and so was penalised with the first step only."""

    def learn(self, failure: Failure) -> Suspension | None:
        """Suspend what failed; returns the suspension that holds, None when nothing is suspended."""
        # Law 4: from an endpoint that generates nothing only an explicit refusal that names the model counts.
        if not self.request.generating and not (failure.is_refusal and failure.verdict.names_model):
            return None
        short = failure.is_refusal or failure.is_unreachable
        suspension = impose(self.suspensions, failure, self.random, short=short)
        if short and suspension is not None:
            self._provisional.append(failure)
        return suspension

    def confirm(self, candidate: Candidate, *, refusals: bool) -> None:
        """This candidate was reached, and maybe does not refuse: what was penalised for a start is so in full.

        Unless it is the very same that was penalised: that was asked again, and proves nothing about others.
        """
        for failure in [each for each in self._provisional if refusals or each.is_unreachable]:
            self._provisional.remove(failure)
            failed = failure.attempt.candidate
            same = failed.upstream == candidate.upstream if failure.is_unreachable else failed == candidate
            if not same:
                impose(self.suspensions, failure, self.random)
