"""The values that pass between the exchange and the layer: what to do next, and what an attempt came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.pool import Candidate
from understudy.rules import Label, Verdict
from understudy.suspensions import Suspension

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
    """Send the request to this candidate. ``repeat``: it was tried before in this exchange."""

    number: int
    candidate: Candidate
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, then ask :meth:`Exchange.resume`."""

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
    """Answer ourselves: status 429, 503 or 400, one line per candidate, Retry-After in whole seconds or None."""

    status: int
    message: str
    retry_after: int | None = None


type Step = Attempt | Wait | Release | Refuse


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to."""

    attempt: Attempt
    verdict: Verdict
    status: int
    suspension: Suspension | None
    hope: int

    @property
    def releasable(self) -> bool:
        """Whether this is a real reply that would not lie to the tool about its own login (law 6)."""
        if self.status == 401:
            return False
        return self.status > 0 and (self.status != 403 or self.verdict.label in ABOUT_THE_REQUEST)


@dataclass(frozen=True, slots=True)
class Request:
    """What the exchange knows of the request.

    ``blocked``: upstreams that may not be used, by name, each with the reason. ``replay_after_sent``: whether a fault
    after the request was sent is replayed.
    """

    alias: str
    generating: bool
    streamed: bool
    blocked: Mapping[str, str]
    replay_after_sent: bool = True
