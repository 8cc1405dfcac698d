"""The values that pass between the exchange and the layer: what to do next, and what an attempt came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from understudy.codec.record import record
from understudy.failover.affinity import NOTHING_SPENT, Spent
from understudy.failover.generations import own_name
from understudy.failover.sealed import Sealed, counted_parts
from understudy.model import Candidate, Label, Suspension, Verdict, printable
from understudy.replies import Fault, FaultKind
from understudy.suspensions import Answers, Learned

HEDGED = "hedged"
"""What stands in the place of a label where an attempt was given up because another one was faster."""
ABOUT_THE_REQUEST = (
    Label.MODEL_UNSUPPORTED,
    Label.CAPABILITY_UNSUPPORTED,
    Label.CONTEXT_EXCEEDED,
    Label.CONTENT_FILTERED,
    Label.REQUEST_INVALID,
)
"""A 403 with one of these labels is about the model or the request, not about whose credential it was."""


@record
class Attempt:
    """Send the request to this candidate.

    ``repeat``: it was tried before in this exchange. ``refresh``: its secret was rejected, so that it has to be fetched
    anew first; where that yields no other one, say :meth:`Exchange.unsendable`. ``early``: it is suspended, and asked
    all the same because everybody is (F17). ``ticket``: its order among everything that happens to the suspensions.
    ``begun``: the reading of the clock when it was decided. ``opinion``: it is made for nothing but to settle whose
    fault another candidate's reply is (J01). ``drilled``: see :class:`Struck`. ``without``: the sealed
    parts that the candidate does not get, by name.
    """

    number: int
    candidate: Candidate
    repeat: bool = False
    refresh: bool = False
    early: bool = False
    ticket: int = field(default=0, compare=False)
    begun: float = field(default=0.0, compare=False)
    opinion: bool = False
    without: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    drilled: ClassVar[bool] = False
    """No field: every call makes an attempt, and none pays for a drill."""

    @property
    def left_out(self) -> int:
        """How many sealed parts the candidate does not get."""
        return counted_parts(self.without) if self.without else 0


@record
class Struck(Attempt):
    """An attempt that a drill answers in its candidate's place, or whose reply it spoils (H12)."""

    drilled: ClassVar[bool] = True


class Drilling(Protocol):
    """A drill, as far as an exchange has to do with it (H12). What its attempts bring about is kept apart."""

    kind: str
    """How the target behaves, as a person wrote it."""
    said: str
    """The whole of it in words, with the target."""
    asks: bool
    """Whether the real upstream is asked."""
    learned: Learned
    answers: Answers

    def strikes(self, candidate: Candidate, *, generating: bool) -> bool:
        """Whether an attempt that begins now is answered by the drill in its candidate's place."""

    def broke(self, request: Request, outcome: Outcome) -> None:
        """A released reply to one of its calls ended in an error."""

    def over(self, exchange: Any, status: int) -> None:
        """The call of this exchange has come to its end with this status for the tool, 0: with nothing.

        May be told twice.
        """


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, or until :meth:`Exchange.is_ready`, then ask :meth:`Exchange.resume`.

    ``held``: the call is held until a reset, which may be hours away, and its tool should know that it is still there.
    """

    seconds: float
    reason: str
    held: bool = False


@record
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
    there is to say, if it is at hand (F17). ``broken``: the connections to the upstreams break, or there is none.
    """

    status: int
    message: str
    retry_after: int | None = None
    refused: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Continue:
    """Nothing: the other attempt of this request goes on."""


type Step = Attempt | Wait | Release | Refuse | Continue


class Compared(StrEnum):
    """What became of an open verdict that would have ended the call (docs/architecture.md, section 5a)."""

    ASKED = "asked"  # another candidate is asked, or is going to be
    CANDIDATE = "candidate"  # the other one answered: it was this candidate's own fault
    REQUEST = "request"  # the other one refused too: it is the request's fault
    UNDECIDED = "undecided"  # the other one could not tell
    KNOWN_CANDIDATE = "known_candidate"  # an earlier comparison has shown that it is the candidate's
    KNOWN_REQUEST = "known_request"  # an earlier comparison has shown that it is the request's, or settled nothing
    ALIKE = "alike"  # everybody who was asked refuses this request with the same label: the request is the suspect


@record
class Outcome:
    """What an attempt came to. ``compared`` and ``signature`` (its id): see :class:`Compared`."""

    attempt: Attempt
    verdict: Verdict
    status: int
    suspension: Suspension | None
    hope: int
    fault: Fault | None = None
    compared: Compared | None = None
    signature: str = ""
    hedged: bool = False
    """Whether it was given up because another candidate that was asked as well was faster."""

    def suspending(self, suspension: Suspension | None) -> Outcome:
        """The same with another suspension. Written out, because ``replace`` takes several times as long."""
        return Outcome(
            self.attempt,
            self.verdict,
            self.status,
            suspension,
            self.hope,
            self.fault,
            self.compared,
            self.signature,
            self.hedged,
        )

    @property
    def word(self) -> str:
        """The label, or what stands in its place."""
        return HEDGED if self.hedged else self.verdict.label.value

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


@record
class Request:
    """What the exchange knows of the request.

    ``blocked``: upstreams that may not be used, by name, each with the reason; ``barred``: the same for credentials.
    ``replay_after_sent``: whether a fault after the request was sent is replayed. ``session``: what tells the tool's
    conversation from others, "" when nothing does. ``bound_to``: the only credential that knows what the request speaks
    of, "" when any may serve it (P04), and ``bound_by`` what that is, in words. ``sealed``: the parts of it that only
    some accounts can read, None without any; ``prefers``: the credential that they bind it to while it is free.
    ``spent``: what earlier rounds of the same request have used up. ``asked`` gives the decoded body, so that nothing
    of it gets into what is remembered; None: it is not known. ``ahead``: seconds by which the wall clock, in which
    vendors state dates, is ahead of the exchange's clock. ``user``: the user of the proxy that it is from, "" where no
    name was checked. ``tokens``: those of its prompt and of its output, see ``requests.size``; None: not estimated yet.
    """

    alias: str
    generating: bool
    streamed: bool
    blocked: Mapping[str, str]
    replay_after_sent: bool = True
    barred: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    bound_to: str = ""
    bound_by: str = ""
    prefers: str = ""
    sealed: Sealed | None = field(default=None, repr=False, compare=False)
    spent: Spent = NOTHING_SPENT
    ahead: float = 0.0
    user: str = ""
    asked: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    tokens: tuple[int, int] | None = None

    def moved_from(self, attempt: Attempt) -> str:
        """The credential that has the conversation, where an attempt takes it elsewhere without its parts; else ""."""
        if not attempt.without or not self.prefers or not attempt.left_out:
            return ""
        return self.prefers if own_name(self.prefers) != own_name(attempt.candidate.credential.name) else ""

    def why_not(self, candidate: Candidate) -> str:
        """Why this candidate may not be used for this request, "" when it may."""
        if self.bound_to and candidate.credential.name != self.bound_to:
            if self.bound_by:
                return f"not asked: {self.bound_by} belongs to {self.bound_to}"
            return f"not asked: only {self.bound_to} knows what this request refers to"
        credential = candidate.credential
        reason = self.blocked.get(candidate.upstream.name) or self.barred.get(credential.name, "")
        return reason or credential.out_of_use

    @property
    def not_theirs(self) -> str:
        """Why a candidate that is for other users is not asked."""
        whose = f"the user {printable(self.user)}" if self.user else "calls without a user's name"
        return f"not asked: its `who` in the pool file does not name {whose}"
