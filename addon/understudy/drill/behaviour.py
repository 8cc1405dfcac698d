"""How a target of a drill behaves: the kinds of failure, and how a person writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A way to fail. ``slow`` and ``cut`` ask the real upstream and spoil its reply; the others ask nobody."""

    DEAD = "dead"
    TIMEOUT = "timeout"
    SILENT = "silent"
    LIMITED = "429"
    QUOTA = "quota"
    UNSUPPORTED = "model_unsupported"
    REJECTED = "401"
    OVERLOADED = "overloaded"
    ERROR_EVENT = "error-event"
    CUT = "cut"
    SLOW = "slow"
    EMPTY = "empty"

    @property
    def meaning(self) -> str:
        """What happens, in a few words."""
        return _MEANINGS[self]

    @property
    def asks(self) -> bool:
        """Whether the real upstream is asked."""
        return self in (Kind.CUT, Kind.SLOW)

    @property
    def generates_only(self) -> bool:
        """Whether only calls that generate can fail like this: others have no stream, and no answer to be empty."""
        return self in (Kind.ERROR_EVENT, Kind.CUT, Kind.EMPTY)


_MEANINGS = {
    Kind.DEAD: "the connection is refused",
    Kind.TIMEOUT: "no connection comes about within pool_connect_timeout",
    Kind.SILENT: "the request is taken, and nothing comes back",
    Kind.LIMITED: "a rate limit; `429:20` says to come back in 20 s",
    Kind.QUOTA: "the quota of the account is used up",
    Kind.UNSUPPORTED: "the model is refused",
    Kind.REJECTED: "the credential is rejected",
    Kind.OVERLOADED: "the upstream is overloaded",
    Kind.ERROR_EVENT: "a stream begins and fails in its first event; a plain call: overloaded",
    Kind.CUT: "the upstream is asked, and its reply breaks off in the middle",
    Kind.SLOW: "the upstream is asked, and its first event is held back; `slow:5` for 5 s",
    Kind.EMPTY: "a success without an answer in it",
}
USUAL_DELAY = 20.0
"""Seconds by which ``slow`` holds back the first event: longer than ``hedge_after``, so that a hedge can be seen."""
LONGEST_SECONDS = 3600.0
"""The longest time that may stand behind a kind, in seconds."""
_WRITTEN = re.compile(r"([a-z0-9_-]+)(?::([0-9]{1,5}(?:\.[0-9]{1,3})?)s?)?")
_WITH_TIME = (Kind.LIMITED, Kind.SLOW)


class BehaviourError(ValueError):
    """What was written is no behaviour. Says what can be written instead."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A kind of failure. ``seconds``: the hint of ``429``, 0 for none, or the delay of ``slow``."""

    kind: Kind
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.seconds:g}" if self.kind in _WITH_TIME and self.seconds else self.kind.value


def read_behaviour(written: str) -> Behaviour:
    """Read a kind as a person writes it: ``dead``, ``429``, ``429:20``, ``slow:5``. Raises BehaviourError."""
    match = _WRITTEN.fullmatch(written)
    kinds = ", ".join(Kind)
    if match is None or match[1] not in tuple(Kind):
        raise BehaviourError(f"`{written[:60]}` is no way to fail: write one of {kinds}")
    kind = Kind(match[1])
    if match[2] is None:
        return Behaviour(kind, USUAL_DELAY if kind is Kind.SLOW else 0.0)
    seconds = float(match[2])
    if kind not in _WITH_TIME:
        raise BehaviourError(f"`{kind}` takes no time: write `{kind}`")
    if not 0 < seconds <= LONGEST_SECONDS:
        raise BehaviourError(f"`{written}` is not between a moment and an hour: write `{kind}:20`, in seconds")
    return Behaviour(kind, seconds)
