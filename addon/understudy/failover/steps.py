"""The values that pass between the exchange and the layer: what to do next, and what an attempt came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.failover.affinity import NOTHING_SPENT, Spent
from understudy.model import Candidate, Label, Suspension, Verdict
from understudy.replies import Fault, FaultKind

ABOUT_THE_REQUEST = (
    Label.MODEL_UNSUPPORTED,
    Label.CAPABILITY_UNSUPPORTED,
    Label.CONTEXT_EXCEEDED,
    Label.CONTENT_FILTERED,
    Label.REQUEST_INVALID,
)
"""A 403 with one of these labels is about the model or the request, not about whose credential it was."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send the request to this candidate.

    ``repeat``: it was tried before in this exchange. ``refresh``: its secret was rejected, so that it has to be fetched
    anew first; where that yields no other one, say :meth:`Exchange.unsendable`. ``early``: it is suspended, and asked
    all the same because everybody is (F17). ``ticket``: its order among everything that happens to the suspensions.
    ``begun``: the reading of the clock when it was decided.
    """

    number: int
    candidate: Candidate
    repeat: bool = False
    refresh: bool = False
    early: bool = False
    ticket: int = field(default=0, compare=False)
    begun: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, or until :meth:`Exchange.is_ready`, then ask :meth:`Exchange.resume`."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Hand the reply of this attempt to the tool.

    ``final`` tells that nothing was left to try; ``retry`` then tells whether another round within a minute can help.
    """

    attempt: int
    final: bool = False
    retry: bool = True


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer ourselves: status 429, 503 or 400, one line per candidate, Retry-After in whole seconds or None.

    ``refused``: every candidate is suspended because it refused the model, so that the last refusal says best what
    there is to say, if it is at hand (F17).
    """

    status: int
    message: str
    retry_after: int | None = None
    refused: bool = False


type Step = Attempt | Wait | Release | Refuse


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to."""

    attempt: Attempt
    verdict: Verdict
    status: int
    suspension: Suspension | None
    hope: int
    fault: Fault | None = None

    @property
    def is_unreachable(self) -> bool:
        """Whether the upstream was not even reached, which may be this machine's own network."""
        return self.fault is not None and self.fault.kind in (FaultKind.CONNECT, FaultKind.TLS)

    @property
    def releasable(self) -> bool:
        """Whether this is a real reply that would not lie to the tool about its own login (law 6, W07)."""
        if self.attempt.candidate.credential.secret.is_client:
            return self.status > 0
        if self.status == 401:
            return False
        return self.status > 0 and (self.status != 403 or self.verdict.label in ABOUT_THE_REQUEST)


@dataclass(frozen=True, slots=True)
class Request:
    """What the exchange knows of the request.

    ``blocked``: upstreams that may not be used, by name, each with the reason; ``barred``: the same for credentials.
    ``replay_after_sent``: whether a fault after the request was sent is replayed. ``session``: what tells the tool's
    conversation from others, "" when nothing does. ``bound_to``: the only credential that knows what the request speaks
    of, "" when any may serve it (P04). ``spent``: what earlier rounds of the same request have used up.
    """

    alias: str
    generating: bool
    streamed: bool
    blocked: Mapping[str, str]
    replay_after_sent: bool = True
    barred: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    bound_to: str = ""
    spent: Spent = NOTHING_SPENT

    def why_not(self, candidate: Candidate) -> str:
        """Why this candidate may not be used for this request, "" when it may."""
        if self.bound_to and candidate.credential.name != self.bound_to:
            return f"not asked: only {self.bound_to} knows what this request refers to"
        credential = candidate.credential
        reason = self.blocked.get(candidate.upstream.name) or self.barred.get(credential.name, "")
        return reason or credential.out_of_use
