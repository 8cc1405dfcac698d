"""Whose fault an open verdict is: asked of another candidate, and remembered (docs/architecture.md, section 5a).

An open verdict that would end the call is put to one other candidate. What that one does decides: it answers, and the
first candidate was at fault; it refuses too, and the request is; it fails in a way that says nothing about the request,
and nothing is settled. What was settled is kept by the reply's signature, so that the same reply is not compared again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from understudy.failover.default_actions import Default, Next
from understudy.failover.penalties import SHORT_STEP, Failure
from understudy.failover.steps import Request
from understudy.model import Label, Route, Scope
from understudy.replies import Reply
from understudy.rules import NO_ANSWER
from understudy.suspensions import Cause, Learned, Signature

COMPARED_WITHIN = 10.0
"""Seconds that a call waits for another one that compares the same signature at this moment."""
ENDS = (Label.UNKNOWN, Label.REQUEST_INVALID)
"""Labels that end a call and may be compared. A filter never is: that would be a way round it."""
REFUSALS = (*ENDS, Label.CONTENT_FILTERED)
"""What the other candidate says when it refuses the request too."""
ANSWERED = "another candidate answered the same request"


@dataclass
class Comparison:
    """An open verdict of one exchange, until it is known whose fault the reply is.

    ``known``: an earlier comparison has shown that it is the candidate's own, so the call goes on as usual. ``waits``:
    another exchange compares the same signature; ``claimed``: this one does, and no other meanwhile.
    """

    failure: Failure
    signature: Signature
    known: bool = False
    waits: bool = False
    claimed: bool = False

    @property
    def number(self) -> int:
        """The number of the attempt whose reply this is about."""
        return self.failure.attempt.number

    @property
    def is_no_answer(self) -> bool:
        """Whether this is about a reply that claims a success and is none."""
        return self.failure.verdict.rule == NO_ANSWER

    def learn(self, learned: Learned, cause: Cause, witness: str) -> None:
        """Remember what came of it. ``witness``: the credential that was asked as well."""
        verdict, speaker = self.failure.verdict, self.failure.attempt.candidate.credential.name
        learned.learn(self.signature, cause, verdict.label, verdict.rule, speaker, witness)

    def blame(self, now: float) -> Failure:
        """The failure for which the candidate pays when another one has answered."""
        verdict = self.failure.verdict
        said = f"{ANSWERED}: {verdict.evidence}" if verdict.evidence else ANSWERED
        default = Default(Next.ANYONE, Scope.CANDIDATE, (SHORT_STEP,))
        verdict = replace(verdict, evidence=said if len(said) <= 200 else f"{said[:199]}…")
        return replace(self.failure, verdict=verdict, default=default, hint=None, at=now, whole=False)


def may_be_compared(failure: Failure, reply: Reply, request: Request, route: Route) -> bool:
    """Whether another candidate may be asked about a reply that would end the call (J03)."""
    verdict = failure.verdict
    return (
        verdict.is_open
        and verdict.label in ENDS
        and verdict.then.replay is None  # a route that says `replay: false` means it
        and reply.fault is None
        and request.generating
        and not request.bound_to
        and route.second_opinion
    )
