"""Whether the same candidate is asked once more before the next one is, after what pause, and why (law 2: once)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from understudy.penalties import Failure
from understudy.verdict import Label

JITTER = (0.05, 0.25)
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
    return Repeat(0.0 if failure.fault is not None else random.uniform(*JITTER), Reason.LUCK)
